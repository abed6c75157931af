//! How many names a file has in a snapshot.
//!
//! An entry says which group of hard links it belongs to, not how large that is. So all folders are read once.

use std::collections::HashMap;

use crate::format::node::Node;
use crate::format::tree::{Entry, EntryKind, tag};
use crate::id::NodeId;

/// The device, as it is stored, and the inode number that the names of a file share.
pub type LinkGroup = (Box<[u8]>, u64);

/// The group of an entry, if it has one.
pub fn link_group(entry: &Entry) -> Option<LinkGroup> {
    let device = entry.extension(tag::HARD_LINK).filter(|_| entry.kind != EntryKind::Directory)?;
    Some((device.into(), entry.inode))
}

/// How many names below `root` each group has. What cannot be read is not counted.
pub fn link_counts<E>(root: NodeId, read: impl Fn(NodeId) -> Result<Node, E>) -> HashMap<LinkGroup, u32> {
    let mut counts = HashMap::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        match read(id) {
            Ok(Node::DirectoryBranch(branch)) => open.extend(branch.children.iter().map(|part| part.id)),
            Ok(Node::DirectoryLeaf(leaf)) => {
                for entry in &leaf.entries {
                    if let Some(group) = link_group(entry) {
                        *counts.entry(group).or_insert(0) += 1;
                    }
                    open.extend(entry.folder());
                }
            }
            Ok(Node::ListLeaf(_) | Node::ListBranch(_)) | Err(_) => {}
        }
    }
    counts
}
