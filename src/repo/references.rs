//! What a node refers to: the edges by which a snapshot is followed down to its chunks.

use crate::format::node::Node;
use crate::format::tree::{ChunkRef, Content};
use crate::repo::examine::NodeRef;

/// What a node refers to.
pub struct References {
    /// Nodes, in order.
    pub nodes: Vec<NodeRef>,
    /// Chunks, in order.
    pub chunks: Vec<ChunkRef>,
}

/// Everything that a node refers to.
pub fn references(node: Node) -> References {
    let mut found = References { nodes: Vec::new(), chunks: Vec::new() };
    match node {
        Node::DirectoryLeaf(leaf) => {
            for entry in leaf.entries {
                match entry.content {
                    Content::Chunks(mut chunks) => found.chunks.append(&mut chunks),
                    Content::List(id) => found.nodes.push(NodeRef::List(id)),
                    Content::Directory(id) => found.nodes.push(NodeRef::Directory(id)),
                    Content::None | Content::LinkTarget(_) | Content::Device(..) => {}
                }
            }
        }
        Node::DirectoryBranch(branch) => {
            found.nodes.extend(branch.children.iter().map(|part| NodeRef::Directory(part.id)));
        }
        Node::ListLeaf(leaf) => found.chunks = leaf.chunks,
        Node::ListBranch(branch) => {
            found.nodes.extend(branch.children.iter().map(|part| NodeRef::List(part.id)));
        }
    }
    found
}
