//! A bounded cache of decoded nodes, least recently used out first.

use std::collections::{BTreeMap, HashMap};
use std::mem::size_of;
use std::sync::Arc;

use crate::format::node::Node;
use crate::format::tree::{ChunkRef, Content, Entry};
use crate::id::ContentId;

/// Memory of all nodes together, roughly.
const BYTES_MAX: usize = 8 << 20;

/// See the module.
#[derive(Default)]
pub(super) struct NodeCache {
    bytes: usize,
    tick: u64,
    nodes: HashMap<ContentId, (u64, usize, Arc<Node>)>,
    by_use: BTreeMap<u64, ContentId>,
}

impl NodeCache {
    /// A node, if it is there; it is now the most recently used one.
    pub(super) fn get(&mut self, id: &ContentId) -> Option<Arc<Node>> {
        let (used, _, node) = self.nodes.get_mut(id)?;
        self.tick += 1;
        self.by_use.remove(used);
        *used = self.tick;
        self.by_use.insert(self.tick, *id);
        Some(Arc::clone(node))
    }

    /// Adds a node and lets the least recently used ones go. The newest stays, however large it is.
    pub(super) fn insert(&mut self, id: ContentId, node: Arc<Node>) {
        if self.nodes.contains_key(&id) {
            return;
        }
        let bytes = memory_of(&node);
        self.tick += 1;
        self.bytes += bytes;
        self.by_use.insert(self.tick, id);
        self.nodes.insert(id, (self.tick, bytes, node));
        while self.bytes > BYTES_MAX && self.nodes.len() > 1 {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((_, bytes, _)) = self.nodes.remove(&oldest) {
                self.bytes -= bytes;
            }
        }
    }
}

fn memory_of(node: &Node) -> usize {
    match node {
        Node::DirectoryLeaf(leaf) => leaf.entries.iter().map(memory_of_entry).sum(),
        Node::DirectoryBranch(branch) => branch.children.len() * 128,
        Node::ListLeaf(leaf) => leaf.chunks.len() * size_of::<ChunkRef>(),
        Node::ListBranch(branch) => branch.children.len() * 48,
    }
}

fn memory_of_entry(entry: &Entry) -> usize {
    let content = match &entry.content {
        Content::Chunks(chunks) => chunks.len() * size_of::<ChunkRef>(),
        Content::LinkTarget(target) => target.as_slice().len(),
        Content::None | Content::List(_) | Content::Directory(_) | Content::Device(..) => 0,
    };
    let extensions = entry.extensions.iter().map(|extension| 32 + extension.value.as_slice().len());
    // Each thing on the heap costs some bytes more than it has.
    size_of::<Entry>() + entry.name.as_slice().len() + content + extensions.sum::<usize>() + 48
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::node::ListLeaf;
    use crate::id::{ChunkId, ListId};

    #[test]
    fn what_was_used_last_stays_and_memory_is_bounded() {
        let mut cache = NodeCache::default();
        let id = |number: u8| ListId::new([number; 32]).content();
        let chunk = ChunkRef { id: ChunkId::new([0; 32]), len: 1 };
        let third = BYTES_MAX / 3 / size_of::<ChunkRef>();
        let node = || Arc::new(Node::ListLeaf(ListLeaf { chunks: vec![chunk; third] }));
        for number in 0..3 {
            cache.insert(id(number), node());
        }
        assert!(cache.get(&id(0)).is_some());
        cache.insert(id(3), node());
        assert!(cache.get(&id(0)).is_some());
        assert!(cache.get(&id(1)).is_none());
        assert!(cache.bytes <= BYTES_MAX);
    }
}
