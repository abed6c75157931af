//! How many names a file has, in the part of a snapshot that is shown.
//!
//! An entry says which group of hard links it belongs to, not how large that is. So the first such entry that is met
//! has all folders read once.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use crate::id::NodeId;
use crate::mount::origin::Origin;
use crate::repo::{LinkGroup, link_counts};

/// See the module.
#[derive(Default)]
pub(super) struct Links {
    counts: OnceLock<HashMap<LinkGroup, u32>>,
    numbers: Mutex<HashMap<LinkGroup, u64>>,
}

impl Links {
    /// How many names below `root` a group has. What cannot be read is not counted.
    pub(super) fn count(&self, origin: &Origin, root: NodeId, group: &LinkGroup) -> u32 {
        let counts = self
            .counts
            .get_or_init(|| link_counts(root, |id| origin.read(|reader| reader.read_directory_node(id))));
        counts.get(group).copied().unwrap_or(1)
    }

    /// The inode number of a group: that of whichever of its names was met first.
    pub(super) fn number(&self, group: LinkGroup, number: u64) -> u64 {
        *self.numbers.lock().expect("no holder of this lock panics").entry(group).or_insert(number)
    }
}
