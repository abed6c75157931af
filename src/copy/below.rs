//! Everything that a snapshot of the source refers to.

use std::collections::HashSet;

use crate::copy::{CopyError, Sides};
use crate::format::tree::ChunkRef;
use crate::id::{ContentId, NodeId};
use crate::repo::{NodeRef, TreeReader, references};

/// Is handed a node and the chunks that it refers to.
pub type NodeVisitor<'a> = &'a mut dyn FnMut(ContentId, &[ChunkRef]) -> Result<(), CopyError>;

/// Visits every node below a folder of the source once, itself included.
///
/// Memory: 16 bytes for each node.
pub fn visit(
    reader: &TreeReader,
    root: NodeId,
    sides: Sides<'_>,
    met: NodeVisitor<'_>,
) -> Result<(), CopyError> {
    let mut visited = HashSet::new();
    let mut pending = vec![NodeRef::Directory(root)];
    while let Some(node) = pending.pop() {
        let content = node.content();
        if !visited.insert(content.prefix()) {
            continue;
        }
        sides.check_interrupted()?;
        let place = reader.chunk_reader().place_of(&content);
        let node = place.and_then(|place| reader.examine_node(node, place)).map_err(CopyError::Source)?;
        let found = references(node);
        met(content, &found.chunks)?;
        // Backwards, so that the stack gives them in the order in which they lie in packs.
        pending.extend(found.nodes.into_iter().rev());
    }
    Ok(())
}
