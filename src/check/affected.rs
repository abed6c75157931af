//! Which snapshots and paths each finding touches.
//!
//! Snapshots are followed again, this time with paths. A folder below which nothing is lost is followed once and
//! passed over afterwards, so that this costs little more than the damaged parts of each snapshot.

use std::collections::HashSet;

use super::standing::Loss;
use super::trees::place_key;
use super::{CheckError, Look};
use crate::format::node::Node;
use crate::format::tree::{ChunkRef, Content, Entry};
use crate::id::SnapshotId;
use crate::repo::{NodeRef, RepoError, TreeReader};

/// A node whose children are being followed.
struct Level {
    key: Option<u64>,
    children: std::vec::IntoIter<(NodeRef, Vec<u8>)>,
    has_losses: bool,
}

/// Attributes what is lost to snapshots and paths.
pub fn find(look: &mut Look<'_>) -> Result<(), CheckError> {
    if !look.standing.has_losses() {
        return Ok(());
    }
    look.observer.phase("finding out what is affected");
    let reader = TreeReader::new(std::sync::Arc::clone(&look.reader));
    let roots: Vec<_> = look.snapshots.iter().map(|snapshot| (snapshot.id, snapshot.root)).collect();
    let mut clean = HashSet::new();
    for (snapshot, root) in roots {
        let start = vec![(NodeRef::Directory(root), Vec::new())].into_iter();
        let mut levels = vec![Level { key: None, children: start, has_losses: false }];
        while let Some(level) = levels.last_mut() {
            let Some((node, path)) = level.children.next() else {
                let Some(done) = levels.pop() else { break };
                if !done.has_losses {
                    clean.extend(done.key);
                } else if let Some(above) = levels.last_mut() {
                    above.has_losses = true;
                }
                continue;
            };
            look.stop_if_interrupted()?;
            let place = match look.standing.find(&node.content())? {
                Ok(place) => place,
                Err(loss) => {
                    level.has_losses = true;
                    touch(look, loss, snapshot, &path);
                    continue;
                }
            };
            let key = place_key(place);
            if key.is_some_and(|key| clean.contains(&key)) {
                continue;
            }
            // What cannot be read here although it has a place was not found before, or is of no more use now.
            let Ok(read) = reader.examine_node(node, place) else {
                level.has_losses = true;
                continue;
            };
            levels.push(enter(look, key, read, &path, snapshot)?);
        }
    }
    Ok(())
}

fn enter(
    look: &mut Look<'_>,
    key: Option<u64>,
    node: Node,
    path: &[u8],
    snapshot: SnapshotId,
) -> Result<Level, RepoError> {
    let mut children = Vec::new();
    let mut has_losses = false;
    match node {
        Node::DirectoryLeaf(leaf) => {
            for Entry { name, content, .. } in leaf.entries {
                let below = || [path, b"/", name.as_slice()].concat();
                match content {
                    Content::Chunks(chunks) => has_losses |= follow(look, &chunks, snapshot, below)?,
                    Content::List(id) => children.push((NodeRef::List(id), below())),
                    Content::Directory(id) => children.push((NodeRef::Directory(id), below())),
                    Content::None | Content::LinkTarget(_) | Content::Device(..) => {}
                }
            }
        }
        Node::DirectoryBranch(branch) => {
            children.extend(branch.children.iter().map(|part| (NodeRef::Directory(part.id), path.to_vec())));
        }
        Node::ListLeaf(leaf) => has_losses |= follow(look, &leaf.chunks, snapshot, || path.to_vec())?,
        Node::ListBranch(branch) => {
            children.extend(branch.children.iter().map(|part| (NodeRef::List(part.id), path.to_vec())));
        }
    }
    Ok(Level { key, children: children.into_iter(), has_losses })
}

/// Whether any of the chunks of a file is lost.
fn follow(
    look: &mut Look<'_>,
    chunks: &[ChunkRef],
    snapshot: SnapshotId,
    path: impl Fn() -> Vec<u8>,
) -> Result<bool, RepoError> {
    let mut has_losses = false;
    for chunk in chunks {
        if let Err(loss) = look.standing.find(&chunk.id.content())? {
            has_losses = true;
            touch(look, loss, snapshot, &path());
        }
    }
    Ok(has_losses)
}

fn touch(look: &mut Look<'_>, loss: Loss, snapshot: SnapshotId, path: &[u8]) {
    if let Loss::Found(finding) = loss {
        let path = if path.is_empty() { b"/" } else { path };
        look.findings.affects(finding, snapshot, path);
    }
}
