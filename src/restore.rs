//! Repository into target.
//!
//! A restore walks the tree of the snapshot once, folder by folder, and works in windows: so many files, or so many
//! bytes. For each window it decides what is right already, compares what may be mended, looks up where the other
//! chunks lie, and sorts them by pack and frame. Threads then take runs of neighbouring frames: each frame is read
//! and opened once for a window, and every file in need of it is written from it. A file whose chunks all lie in
//! one frame is made, written and finished in one go, without ever being opened again.
//!
//! Memory is bounded by the window, not by the tree: the walk keeps one piece of each folder on the way down, the
//! window its files and chunks, each thread the frames that it holds. Two windows are under way at a time, so that
//! nobody waits while the next one is planned.
//!
//! Folders get their metadata when a window that ends them is done, in the order of the walk: leaves first. Windows
//! end in order, so everything inside was written by then. Hard links are made at the same moment, before folders.
//!
//! What a restore would change is found out by [`preview`], which decides in the same way and only ever reads.
//!
//! Damage costs the file that holds it and no other. Such a file keeps what could be read, zeros for the rest, and
//! the time of its restore instead of its own, so that nobody, a later restore included, takes it for the stored
//! one.

mod change;
mod decide;
mod filter;
mod job;
mod layout;
mod origin;
mod plan;
mod planner;
mod preview;
mod report;
mod run;
mod seen;
mod shared;
mod verify;
mod walk;
mod window;
mod work;

#[cfg(test)]
mod tests;

use std::io;

pub use change::{Change, ChangeVisitor, What};
pub use filter::FilterError;
pub use origin::{FrameVisitor, Origin, OriginError, Place, Stored};
pub use preview::preview;
pub use report::RestoreReport;
pub use run::run;

use crate::format::tree::Entry;
use crate::id::NodeId;
use crate::target::{OwnerMap, TargetError};

/// What to do with what is in the target already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Leave files of the same length and time alone, mend the others in place.
    #[default]
    IfChanged,
    /// Compare the content of every file, and mend what differs.
    Always,
    /// Mend only what is older than in the snapshot.
    IfNewer,
    /// Leave everything alone that exists.
    Never,
}

/// How to restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// What to do with what exists.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have, inside the folders that are restored.
    pub delete: bool,
    /// Read everything back at the end and compare it.
    pub verify: bool,
    /// Set owners and groups.
    pub owner: bool,
    /// Leave zeros out as holes, also where the snapshot knows of none.
    pub sparse: bool,
    /// Wait until everything is durable.
    pub sync: bool,
    /// Restore only what these globs (as in gitignore) name; everything if empty.
    pub include: Vec<String>,
    /// Leave out what these globs name.
    pub exclude: Vec<String>,
    /// Threads that read and write; 0 for one more than there are processors.
    pub thread_count: usize,
}

/// What of a snapshot to restore.
#[derive(Debug, Clone)]
pub enum RestoreRequest {
    /// The contents of a folder, straight into the target. The target itself keeps its metadata.
    Folder(NodeId),
    /// One file, link or device, under its name.
    Single(Box<Entry>),
}

/// Why a restore did not come to its end. Problems with single files are in the report instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The target cannot be written at all, or no more.
    #[error("cannot restore into the target")]
    Target {
        /// Why.
        source: TargetError,
    },
    /// The file system of the target is too small. Nothing was written.
    #[error("the target has {left} free, but {needed} are needed")]
    NoSpace {
        /// Bytes that would be written.
        needed: crate::units::ByteCount,
        /// Bytes that can be.
        left: crate::units::ByteCount,
    },
    /// A glob does not parse.
    #[error("a pattern is not understood")]
    Filter {
        /// Which and why.
        source: FilterError,
    },
    /// The folder to restore cannot be read.
    #[error("cannot read the folder to restore")]
    Root {
        /// Why.
        source: OriginError,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread {
        /// Why.
        source: io::Error,
    },
    /// Somebody asked to stop. Files that were finished are whole; the others have a time of their own.
    #[error("interrupted")]
    Interrupted,
}

impl From<TargetError> for RestoreError {
    fn from(source: TargetError) -> Self {
        Self::Target { source }
    }
}

/// What a restore is given beside the request.
pub struct RestoreContext<'c> {
    /// Where trees and chunks come from.
    pub origin: &'c dyn Origin,
    /// Who the stored owners are on this computer.
    pub owners: &'c OwnerMap,
    /// Who watches.
    pub observer: &'c dyn crate::event::Observer,
}
