//! Which inode number means what. A number, once told, means the same until the end.
//!
//! The entries of a leaf have numbers that follow from the number of the leaf, so that only folders that were opened
//! take memory: about a hundred bytes each, whatever is in them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::id::NodeId;
use crate::mount::look::Tree;

/// The topmost folder.
pub(super) const ROOT: u64 = 1;
/// Bits for the place of an entry in its leaf: [`crate::limits::NODE_ENTRY_COUNT_MAX`] fit.
const PLACE_BITS: u32 = 13;
/// The first number of an entry. Below are folders at the top, the roots of snapshots among them.
const ENTRIES: u64 = 1 << 40;

const _: () = assert!(crate::limits::NODE_ENTRY_COUNT_MAX <= 1 << PLACE_BITS);

/// What a number means.
#[derive(Clone)]
pub(super) enum Meaning {
    /// A folder at the top, by its path.
    Top(Arc<[u8]>),
    /// The root of a snapshot.
    Root(Arc<Tree>),
    /// An entry of a leaf.
    Entry(Leaf, usize),
}

/// A leaf of a folder that was opened.
#[derive(Clone)]
pub(super) struct Leaf {
    /// Its node.
    pub(super) node: NodeId,
    /// The number of the folder.
    pub(super) folder: u64,
    /// The snapshot it belongs to.
    pub(super) tree: Arc<Tree>,
}

/// A folder that was opened: its leaves, in order, have numbers from `first` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened {
    first: usize,
    count: usize,
}

/// See the module.
pub(super) struct Numbers {
    top: Vec<Meaning>,
    top_numbers: HashMap<Vec<u8>, u64>,
    leaves: Vec<(NodeId, u64, u32)>,
    trees: Vec<Arc<Tree>>,
    tree_numbers: HashMap<u64, u32>,
    opened: HashMap<u64, Opened>,
}

impl Numbers {
    /// Only the topmost folder has a number.
    pub(super) fn new(root: Meaning) -> Self {
        let mut numbers = Self {
            top: Vec::new(),
            top_numbers: HashMap::new(),
            leaves: Vec::new(),
            trees: Vec::new(),
            tree_numbers: HashMap::new(),
            opened: HashMap::new(),
        };
        numbers.add_top(Vec::new(), || root);
        numbers
    }

    /// The number of something at the top; `key` is what it is known by.
    pub(super) fn add_top(&mut self, key: Vec<u8>, meaning: impl FnOnce() -> Meaning) -> u64 {
        if let Some(known) = self.top_numbers.get(&key) {
            return *known;
        }
        let number = ROOT + self.top.len() as u64;
        let meaning = meaning();
        if let Meaning::Root(tree) = &meaning {
            self.tree_numbers.insert(number, self.trees.len() as u32);
            self.trees.push(Arc::clone(tree));
        }
        self.top.push(meaning);
        self.top_numbers.insert(key, number);
        number
    }

    /// What a number means.
    pub(super) fn meaning(&self, number: u64) -> Option<Meaning> {
        let Some(at) = number.checked_sub(ENTRIES) else {
            return self.top.get(usize::try_from(number.checked_sub(ROOT)?).ok()?).cloned();
        };
        let leaf = self.leaf(usize::try_from(at >> PLACE_BITS).ok()?)?;
        Some(Meaning::Entry(leaf, (at & ((1 << PLACE_BITS) - 1)) as usize))
    }

    fn leaf(&self, at: usize) -> Option<Leaf> {
        let (node, folder, tree) = self.leaves.get(at)?;
        let tree = Arc::clone(self.trees.get(*tree as usize)?);
        Some(Leaf { node: *node, folder: *folder, tree })
    }

    /// The leaves of a folder, if it was opened.
    pub(super) fn opened(&self, folder: u64) -> Option<Opened> {
        self.opened.get(&folder).copied()
    }

    /// Opens a folder of the snapshot that `within` is in. Twice is the same as once.
    pub(super) fn open(&mut self, folder: u64, nodes: &[NodeId]) -> Option<Opened> {
        if let Some(opened) = self.opened(folder) {
            return Some(opened);
        }
        let tree = match folder.checked_sub(ENTRIES) {
            None => *self.tree_numbers.get(&folder)?,
            Some(at) => self.leaves.get(usize::try_from(at >> PLACE_BITS).ok()?)?.2,
        };
        let opened = Opened { first: self.leaves.len(), count: nodes.len() };
        self.leaves.extend(nodes.iter().map(|node| (*node, folder, tree)));
        self.opened.insert(folder, opened);
        Some(opened)
    }

    /// The leaf at a place among those of a folder.
    pub(super) fn leaf_of(&self, opened: Opened, at: usize) -> Option<Leaf> {
        if at >= opened.count { None } else { self.leaf(opened.first + at) }
    }
}

impl Opened {
    /// How many leaves there are.
    pub(super) fn leaf_count(self) -> usize {
        self.count
    }

    /// The number of an entry, by the place of its leaf and its own in that.
    pub(super) fn number(self, leaf: usize, place: usize) -> u64 {
        ENTRIES + (((self.first + leaf) as u64) << PLACE_BITS) + place as u64
    }
}

/// Where reading a folder goes on after an entry.
pub(super) fn offset_after(leaf: usize, place: usize) -> u64 {
    ((leaf as u64) << PLACE_BITS) + place as u64 + 3
}

/// The place of the leaf, and of the entry in it, that an offset beyond `.` and `..` names.
pub(super) fn place_of(offset: u64) -> (usize, usize) {
    let at = offset.saturating_sub(2);
    ((at >> PLACE_BITS) as usize, (at & ((1 << PLACE_BITS) - 1)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_name_the_entry_that_comes_next() {
        assert_eq!(place_of(2), (0, 0));
        assert_eq!(place_of(offset_after(0, 0)), (0, 1));
        assert_eq!(place_of(offset_after(7, 41)), (7, 42));
        // After the last entry that a leaf can have comes the next leaf.
        assert_eq!(place_of(offset_after(0, (1 << PLACE_BITS) - 1)), (1, 0));
    }
}
