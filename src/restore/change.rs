//! What a restore would change in the target.

use std::ops::ControlFlow;

use crate::format::tree::EntryKind;
use crate::target::{MetadataChanges, TargetPath};

/// Something in the target that would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, below the target.
    pub path: TargetPath,
    /// What it will be; of what goes, what it was.
    pub kind: EntryKind,
    /// Bytes of a file, as it will be; of what goes, as it was. 0 of everything else.
    pub size: u64,
    /// What would happen to it.
    pub what: What,
}

/// What would happen to something in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Nothing is there, and it would be made.
    Added,
    /// It would go: the snapshot does not have it, or something else takes the place of a folder above it.
    Removed,
    /// It would get other contents, or make way for something else.
    Contents {
        /// What is there now.
        kind_before: EntryKind,
        /// Its bytes, of a file.
        size_before: u64,
        /// Which of its metadata would change besides.
        metadata: MetadataChanges,
    },
    /// Its contents are right, and its metadata would change.
    Metadata(MetadataChanges),
}

/// Is told of every change, in the order of the walk: a folder before what is in it. Breaking ends the preview.
pub type ChangeVisitor<'v> = dyn FnMut(&Change) -> ControlFlow<()> + 'v;
