//! Reads the repository, anew where what it holds has changed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::format::node::Node;
use crate::format::tree::ChunkRef;
use crate::id::{ChunkId, ContentId, ListId, NodeId};
use crate::index::IndexError;
use crate::mount::nodes::NodeCache;
use crate::repo::{DamageReason, Located, PieceCache, Repo, RepoError, TreeReader};
use crate::storage::StorageError;

/// The repository is looked at again for new snapshots at most once in so many seconds, and for moved packs for so long no
/// more after that was in vain.
pub(super) const REFRESH_SECONDS: i64 = 3;
/// Chunks that were compared with their ids a moment ago. Large ones are read piece by piece, and comparing all of one for
/// each piece would take most of the time.
const IN_HAND_COUNT_MAX: usize = 4;
/// A smaller chunk is read in one go.
const IN_HAND_BYTES_MIN: usize = 128 << 10;

/// See the module. Its methods may be called from several threads.
pub(super) struct Origin {
    repo: Arc<Repo>,
    /// What was opened, whichever reader did it.
    pieces: Arc<PieceCache>,
    current: RwLock<Current>,
    /// When it was last looked at again and what was wanted was still not found.
    in_vain_at: AtomicI64,
    nodes: Mutex<NodeCache>,
    in_hand: Mutex<Vec<(ChunkId, InHand)>>,
}

/// A chunk that somebody reads, or has read.
type InHand = Arc<Mutex<Option<Arc<Located>>>>;

#[derive(Clone)]
struct Current {
    reader: Arc<TreeReader>,
    number: u64,
}

impl Origin {
    /// Reads what the repository holds now; keeps what was opened in `pieces`.
    pub(super) fn new(repo: Arc<Repo>, pieces: PieceCache) -> Result<Self, RepoError> {
        let pieces = Arc::new(pieces);
        let current = open(&repo, &pieces, 0)?;
        Ok(Self {
            repo,
            pieces,
            current: RwLock::new(current),
            in_vain_at: AtomicI64::new(i64::MIN),
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
        let next = open(&self.repo, &self.pieces, self.current().number + 1)?;
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
            let now = self.repo.clock().now().seconds;
            let age = now.saturating_sub(self.in_vain_at.load(Ordering::Relaxed));
            if (0..REFRESH_SECONDS).contains(&age) {
                return outcome;
            }
            if before.reader.chunk_reader().index_doubt().is_raised() {
                self.repo.rebuild_index()?;
            }
            self.reopen()?;
        }
        drop(outcome);
        let outcome = work(&self.current().reader);
        if outcome.as_ref().is_err_and(may_have_moved) {
            // Whoever reads much of what is gone is not to look for each piece of it anew.
            self.in_vain_at.store(self.repo.clock().now().seconds, Ordering::Relaxed);
        }
        outcome
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

    /// A chunk, compared with its id. Whoever comes for a large one that another thread reads waits for that.
    pub(super) fn chunk(&self, chunk: &ChunkRef) -> Result<Arc<Located>, RepoError> {
        let read = || Ok(Arc::new(self.read(|reader| reader.chunk_reader().read_chunk(&chunk.id))?));
        if (chunk.len as usize) < IN_HAND_BYTES_MIN {
            return read();
        }
        let place = {
            let mut held = self.in_hand.lock().expect("no holder of this lock panics");
            let known = held.iter().position(|(id, _)| *id == chunk.id);
            let known = known.map_or_else(|| (chunk.id, InHand::default()), |at| held.remove(at));
            held.truncate(IN_HAND_COUNT_MAX - 1);
            let place = Arc::clone(&known.1);
            held.insert(0, known);
            place
        };
        let mut place = place.lock().expect("no holder of this lock panics");
        if let Some(found) = &*place {
            return Ok(Arc::clone(found));
        }
        let found = read()?;
        *place = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Opens the frame of a chunk, so that it is there when it is asked for. What goes wrong is told then.
    pub(super) fn fetch(&self, id: &ChunkId) {
        let _ = self.current().reader.chunk_reader().fetch(&id.content());
    }
}

fn open(repo: &Arc<Repo>, pieces: &Arc<PieceCache>, number: u64) -> Result<Current, RepoError> {
    let reader = repo.chunk_reader()?.with_pieces(Arc::clone(pieces));
    let reader = Arc::new(TreeReader::new(Arc::new(reader)));
    Ok(Current { reader, number })
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
