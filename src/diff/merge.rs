//! Two folders side by side, name by name, without the parts that both have.

use std::collections::HashSet;

use crate::format::tree::Entry;
use crate::id::NodeId;
use crate::repo::{FolderNode, FolderNodes, RepoError};

/// What two folders have under a name.
pub(super) enum Pair {
    Before(Entry),
    After(Entry),
    Both(Entry, Entry),
}

impl Pair {
    pub(super) fn name(&self) -> &[u8] {
        match self {
            Self::Before(entry) | Self::After(entry) | Self::Both(entry, _) => entry.name.as_slice(),
        }
    }
}

pub(super) struct Merge<'m> {
    before: Entries<'m>,
    after: Entries<'m>,
}

impl<'m> Merge<'m> {
    /// A folder that is `None` has no entries.
    pub(super) fn new(
        nodes: &'m dyn FolderNodes,
        before: Option<NodeId>,
        after: Option<NodeId>,
    ) -> Result<Self, RepoError> {
        let mut merge = Self { before: Entries::new(nodes, before)?, after: Entries::new(nodes, after)? };
        // The same part holds the same entries, so without it the folders differ no less.
        let parts: HashSet<NodeId> = merge.before.parts.iter().copied().collect();
        let common: HashSet<NodeId> =
            merge.after.parts.iter().copied().filter(|id| parts.contains(id)).collect();
        merge.before.parts.retain(|id| !common.contains(id));
        merge.after.parts.retain(|id| !common.contains(id));
        Ok(merge)
    }

    /// The next name.
    pub(super) fn next(&mut self) -> Result<Option<Pair>, RepoError> {
        self.before.fill()?;
        self.after.fill()?;
        let order = match (self.before.peek(), self.after.peek()) {
            (Some(before), Some(after)) => before.name.as_slice().cmp(after.name.as_slice()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return Ok(None),
        };
        let (before, after) = match order {
            std::cmp::Ordering::Less => (self.before.leaf.next(), None),
            std::cmp::Ordering::Equal => (self.before.leaf.next(), self.after.leaf.next()),
            std::cmp::Ordering::Greater => (None, self.after.leaf.next()),
        };
        Ok(match (before, after) {
            (Some(before), Some(after)) => Some(Pair::Both(before, after)),
            (Some(before), None) => Some(Pair::Before(before)),
            (None, after) => after.map(Pair::After),
        })
    }
}

/// The entries of a folder, part by part.
struct Entries<'m> {
    nodes: &'m dyn FolderNodes,
    /// Parts to come, the last one first.
    parts: Vec<NodeId>,
    leaf: std::vec::IntoIter<Entry>,
}

impl<'m> Entries<'m> {
    fn new(nodes: &'m dyn FolderNodes, id: Option<NodeId>) -> Result<Self, RepoError> {
        let mut entries = Self { nodes, parts: Vec::new(), leaf: Vec::new().into_iter() };
        if let Some(id) = id {
            entries.open(id)?;
        }
        Ok(entries)
    }

    fn open(&mut self, id: NodeId) -> Result<(), RepoError> {
        match self.nodes.folder_node(id)? {
            FolderNode::Leaf(entries) => self.leaf = entries.into_iter(),
            FolderNode::Branch(parts) => self.parts.extend(parts.into_iter().rev()),
        }
        Ok(())
    }

    /// Sees to it that the next entry is there, if there is one.
    fn fill(&mut self) -> Result<(), RepoError> {
        while self.leaf.len() == 0
            && let Some(id) = self.parts.pop()
        {
            self.open(id)?;
        }
        Ok(())
    }

    fn peek(&self) -> Option<&Entry> {
        self.leaf.as_slice().first()
    }
}
