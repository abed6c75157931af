//! Reads the repository, anew where what it holds has changed.

use std::sync::{Arc, Mutex, RwLock};

use crate::format::node::Node;
use crate::id::{ChunkId, ContentId, ListId, NodeId};
use crate::index::IndexError;
use crate::mount::nodes::NodeCache;
use crate::repo::{DamageReason, Located, Repo, RepoError, TreeReader};
use crate::storage::StorageError;

/// The repository is looked at again for new snapshots and moved packs at most once in so many seconds.
pub(super) const REFRESH_SECONDS: i64 = 3;
/// Chunks that were compared with their ids a moment ago. Large ones are read piece by piece, and comparing all of one for
/// each piece would take most of the time.
const IN_HAND_COUNT_MAX: usize = 2;
/// A smaller chunk is read in one go.
const IN_HAND_BYTES_MIN: usize = 128 << 10;

/// See the module. Its methods may be called from several threads.
pub(super) struct Origin {
    repo: Arc<Repo>,
    cache_bytes: usize,
    current: RwLock<Current>,
    nodes: Mutex<NodeCache>,
    in_hand: Mutex<Vec<(ChunkId, Arc<Located>)>>,
}

#[derive(Clone)]
struct Current {
    reader: Arc<TreeReader>,
    number: u64,
    opened_at: i64,
}

impl Origin {
    /// Reads what the repository holds now; keeps so many plain bytes of opened frames.
    pub(super) fn new(repo: Arc<Repo>, cache_bytes: usize) -> Result<Self, RepoError> {
        let current = open(&repo, cache_bytes, 0)?;
        Ok(Self {
            repo,
            cache_bytes,
            current: RwLock::new(current),
            nodes: Mutex::default(),
            in_hand: Mutex::default(),
        })
    }

    /// The repository.
    pub(super) fn repo(&self) -> &Repo {
        &self.repo
    }

    fn current(&self) -> Current {
        self.current.read().expect("no holder of this lock panics").clone()
    }

    /// Brings the index up to date, so that what new snapshots name is found.
    pub(super) fn reopen(&self) -> Result<(), RepoError> {
        let next = open(&self.repo, self.cache_bytes, self.current().number + 1)?;
        *self.current.write().expect("no holder of this lock panics") = next;
        Ok(())
    }

    /// Reads; once more with a new view of the repository if that may help.
    pub(super) fn read<T>(&self, work: impl Fn(&TreeReader) -> Result<T, RepoError>) -> Result<T, RepoError> {
        let before = self.current();
        let outcome = work(&before.reader);
        match &outcome {
            Err(error) if may_have_moved(error) => {}
            _ => return outcome,
        }
        if self.current().number == before.number {
            let age = self.repo.clock().now().seconds.saturating_sub(before.opened_at);
            if (0..REFRESH_SECONDS).contains(&age) {
                return outcome;
            }
            if before.reader.chunk_reader().index_doubt().is_raised() {
                self.repo.rebuild_index()?;
            }
            self.reopen()?;
        }
        drop(outcome);
        work(&self.current().reader)
    }

    /// A node of a folder.
    pub(super) fn directory_node(&self, id: NodeId) -> Result<Arc<Node>, RepoError> {
        self.node(id.content(), |reader| reader.read_directory_node(id))
    }

    /// A node of a chunk list.
    pub(super) fn list_node(&self, id: ListId) -> Result<Arc<Node>, RepoError> {
        self.node(id.content(), |reader| reader.read_list_node(id))
    }

    fn node(
        &self,
        id: ContentId,
        read: impl Fn(&TreeReader) -> Result<Node, RepoError>,
    ) -> Result<Arc<Node>, RepoError> {
        let nodes = || self.nodes.lock().expect("no holder of this lock panics");
        if let Some(found) = nodes().get(&id) {
            return Ok(found);
        }
        let node = Arc::new(self.read(read)?);
        nodes().insert(id, Arc::clone(&node));
        Ok(node)
    }

    /// A chunk, compared with its id.
    pub(super) fn chunk(&self, id: &ChunkId) -> Result<Arc<Located>, RepoError> {
        let in_hand = || self.in_hand.lock().expect("no holder of this lock panics");
        if let Some((_, found)) = in_hand().iter().find(|(held, _)| held == id) {
            return Ok(Arc::clone(found));
        }
        let chunk = Arc::new(self.read(|reader| reader.chunk_reader().read_chunk(id))?);
        if chunk.as_ref().as_ref().len() >= IN_HAND_BYTES_MIN {
            let mut held = in_hand();
            held.truncate(IN_HAND_COUNT_MAX - 1);
            held.insert(0, (*id, Arc::clone(&chunk)));
        }
        Ok(chunk)
    }

    /// Opens the frame of a chunk, so that it is there when it is asked for. What goes wrong is told then.
    pub(super) fn fetch(&self, id: &ChunkId) {
        let _ = self.current().reader.chunk_reader().read_content(&id.content());
    }
}

fn open(repo: &Arc<Repo>, cache_bytes: usize, number: u64) -> Result<Current, RepoError> {
    let reader = repo.chunk_reader()?.with_little_memory(cache_bytes);
    let reader = Arc::new(TreeReader::new(Arc::new(reader)));
    Ok(Current { reader, number, opened_at: repo.clock().now().seconds })
}

/// Whether a prune may have put elsewhere what was not found, or the index may be to blame.
fn may_have_moved(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::MissingContent { .. }
            | RepoError::Storage(StorageError::Missing { .. } | StorageError::Short { .. })
            | RepoError::Index(IndexError::Damaged { .. } | IndexError::Failed { .. } | IndexError::Stale)
            | RepoError::DamagedFrame { source: DamageReason::Short | DamageReason::MissingBase(_), .. }
    )
}
