//! Is everything below a root still stored? Every node is read and every id is claimed, so that what is found stays.

use std::collections::HashSet;
use std::sync::Arc;

use crate::event::{Observer, Progress};
use crate::forget::ForgetError;
use crate::format::snapshot::Snapshot;
use crate::id::ContentId;
use crate::index::Place;
use crate::repo::{ChunkReader, NodeRef, Repo, RepoError, TreeReader, View, references};

/// Claims everything that the snapshot needs. An error if anything is not there.
///
/// Nodes are followed from a stack of their own, each once. Memory grows with the number of nodes, 16 bytes each.
pub fn claim_all(
    repo: &Arc<Repo>,
    view: Arc<View>,
    snapshot: &Snapshot,
    observer: &dyn Observer,
) -> Result<(), ForgetError> {
    let claim = |content: ContentId| -> Result<Place, ForgetError> {
        let place = view.claim(&content.prefix())?;
        place.ok_or(ForgetError::Incomplete { id: snapshot.id, content })
    };
    let reader = TreeReader::new(Arc::new(ChunkReader::new(Arc::clone(repo), Arc::clone(&view))));
    let mut visited = HashSet::new();
    let mut pending = vec![NodeRef::Directory(snapshot.root)];
    while let Some(node) = pending.pop() {
        if !visited.insert(node.content().prefix()) {
            continue;
        }
        if observer.is_interrupted() {
            return Err(ForgetError::Interrupted);
        }
        let place = claim(node.content())?;
        let found = match reader.examine_node(node, place) {
            Ok(found) => references(found),
            // Removed since the listing: a prune that was not there when this writer registered.
            Err(error) if is_gone(&error) => {
                return Err(ForgetError::Incomplete { id: snapshot.id, content: node.content() });
            }
            Err(error) => return Err(error.into()),
        };
        for chunk in &found.chunks {
            claim(chunk.id.content())?;
        }
        // Backwards, so that the stack gives them in the order in which they lie in packs.
        pending.extend(found.nodes.into_iter().rev());
        Progress::add(&observer.progress().files_done, 1);
    }
    Ok(())
}

fn is_gone(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::MissingContent { .. } | RepoError::Storage(crate::storage::StorageError::Missing { .. })
    )
}
