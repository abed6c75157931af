//! How many names a file has, in the part of a snapshot that is shown.
//!
//! An entry says which group of hard links it belongs to, not how large that is. So the first such entry that is met
//! has all folders read once.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use crate::format::node::Node;
use crate::format::tree::{Content, Entry, EntryKind, tag};
use crate::id::NodeId;
use crate::mount::origin::Origin;

/// The device, as it is stored, and the inode number that the names of a file share.
pub(super) type Group = (Box<[u8]>, u64);

/// See the module.
#[derive(Default)]
pub(super) struct Links {
    counts: OnceLock<HashMap<Group, u32>>,
    numbers: Mutex<HashMap<Group, u64>>,
}

/// The group of an entry, if it has one.
pub(super) fn group_of(entry: &Entry) -> Option<Group> {
    let device = entry.extension(tag::HARD_LINK).filter(|_| entry.kind != EntryKind::Directory)?;
    Some((device.into(), entry.inode))
}

impl Links {
    /// How many names below `root` a group has. What cannot be read is not counted.
    pub(super) fn count(&self, origin: &Origin, root: NodeId, group: &Group) -> u32 {
        let counts = self.counts.get_or_init(|| count(origin, root));
        counts.get(group).copied().unwrap_or(1)
    }

    /// The inode number of a group: that of whichever of its names was met first.
    pub(super) fn number(&self, group: Group, number: u64) -> u64 {
        *self.numbers.lock().expect("no holder of this lock panics").entry(group).or_insert(number)
    }
}

fn count(origin: &Origin, root: NodeId) -> HashMap<Group, u32> {
    let mut counts = HashMap::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        match origin.read(|reader| reader.read_directory_node(id)) {
            Ok(Node::DirectoryBranch(branch)) => open.extend(branch.children.iter().map(|part| part.id)),
            Ok(Node::DirectoryLeaf(leaf)) => {
                for entry in &leaf.entries {
                    if let Some(group) = group_of(entry) {
                        *counts.entry(group).or_insert(0) += 1;
                    }
                    if let Content::Directory(id) = entry.content {
                        open.push(id);
                    }
                }
            }
            Ok(Node::ListLeaf(_) | Node::ListBranch(_)) | Err(_) => {}
        }
    }
    counts
}
