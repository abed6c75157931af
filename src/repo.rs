//! A repository: the one door between plaintext and storage.
//!
//! Operations above see chunks, nodes and snapshots and never a sealed byte; the storage below sees names and
//! sealed bytes and never a plain one. Everything is written in one order: packs, then the index objects that
//! describe them, then the snapshot. Whoever can see a snapshot can reach everything it names.

mod chunk_reader;
mod chunk_writer;
mod claims;
mod counted;
mod counting;
mod decisions;
mod earlier;
mod error;
mod examine;
#[cfg(test)]
pub(crate) mod fixture;
mod forgets;
mod frame_cache;
mod frame_copy;
mod index_sync;
mod keys;
mod lease;
mod leases;
mod link_counts;
pub mod names;
mod opening;
mod overflow;
mod pack_sealing;
mod pack_store;
mod piece_cache;
mod probe;
mod references;
mod resemblance;
mod reserve;
mod resume;
mod sealing;
mod series;
mod settings;
mod slots;
mod snapshots;
mod tags;
mod tree_reader;
mod tree_writer;
mod turns;
mod view;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub use chunk_reader::{ChunkReader, IndexDoubt, Located};
pub use chunk_writer::{
    ChunkWriter, FRAME_BYTES_TARGET_DATA, FrameWriter, StoredFrame, WriteTotals, WriterOptions,
};
pub use counting::{CountingInput, CountingReport};
pub use decisions::{Decided, DecisionState, StuckPrune};
pub use earlier::{Drift, Earlier, EarlierChunk};
pub use error::{DamageReason, RepoError};
pub use examine::{
    ControlVerdict, CopyState, Mend, MendHow, NodeRef, PackVerdict, PackVerifier, index_agrees,
};
pub use forgets::{Dead, Forgotten};
pub use frame_copy::{BasePrices, FrameCopy, PackToCopy, Wanted};
pub use index_sync::{PackListing, UnreadIndexObject, name_of, stand_in};
pub use lease::{Lease, retry_when_fenced};
pub use leases::ListedLease;
pub use link_counts::{LinkGroup, link_counts, link_group};
pub use pack_sealing::OpenedFrame;
pub use piece_cache::PieceCache;
pub use probe::{delete_if_allowed, refuses_second_create, run as probe_storage};
pub use references::{References, references};
pub use series::series_of;
pub use settings::{Identities, InitOptions, README as README_TEXT};
pub use slots::{SlotSummary, UnlockSecret};
pub use snapshots::{SnapshotFilter, SnapshotList, SnapshotSelector, UNKNOWN_SERIES};
pub use tree_reader::{ChunkList, DirectoryEntries, FolderNode, FolderNodes, TreeReader};
pub use tree_writer::{DirectoryWriter, ListWriter, TreeWriter, WrittenDirectory};
pub use view::{PackProbe, PackSet, Presence, View};

use crate::clock::Clock;
use crate::crypto::Randomness;
use crate::format::container::ObjectKind;
use crate::format::parity;
use crate::format::repository_config::RepositoryConfig;
use crate::id::{RepositoryId, SnapshotId};
use crate::index::{CacheFolder, Index};
use crate::repo::keys::Keys;
use crate::repo::pack_sealing::FrameOpener;
use crate::shelf::Shelf;
use crate::storage::{Created, ObjectName, Storage, StorageError};

/// Who uses a repository: written into leases and snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the computer.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Number of the process.
    pub process: u32,
    /// Identifies the run of the operating system.
    pub boot: String,
}

/// What is around a repository.
#[derive(Clone)]
pub struct Surroundings {
    /// Where its objects are.
    pub storage: Arc<dyn Storage>,
    /// Where the local index may lie; it is made when missing.
    pub cache: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who uses it.
    pub identity: Identity,
}

/// An unlocked repository. Its methods may be called from several threads.
pub struct Repo {
    around: Surroundings,
    id: RepositoryId,
    config: RepositoryConfig,
    keys: Arc<Keys>,
    unlock_key: crate::crypto::Secret<32>,
    cache: CacheFolder,
    index: Mutex<Option<Arc<Index>>>,
    uses_own_index: AtomicBool,
    unread_index_object: Mutex<Option<index_sync::UnreadIndexObject>>,
    /// For those who verify packs.
    openers: Shelf<FrameOpener>,
}

impl Repo {
    /// Creates a repository in an empty place.
    ///
    /// The settings are written last: a place without them is no repository.
    pub fn init(
        around: Surroundings,
        options: &InitOptions,
        secret: &UnlockSecret,
    ) -> Result<Self, RepoError> {
        settings::init(around, options, secret)
    }

    /// Opens and unlocks a repository. Reads nothing but settings, slots and the keyring.
    pub fn open(around: Surroundings, secret: &UnlockSecret) -> Result<Self, RepoError> {
        settings::open(around, secret)
    }

    /// The repository with another source of ids and salts, for tests that replay a history. To be told right after
    /// opening.
    pub fn with_randomness(mut self, randomness: Randomness) -> Self {
        let keys =
            Arc::get_mut(&mut self.keys).expect("a repository just opened shares its keys with nobody");
        keys.randomness = randomness;
        self
    }

    /// From now on uses an index of its own, which goes away with it. The shared one stays free for others: for whoever
    /// reads for days. To be told right after opening.
    pub fn use_own_index(&self) {
        self.uses_own_index.store(true, Ordering::Relaxed);
    }

    /// Random bytes that are no secret.
    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], RepoError> {
        Ok(self.keys.randomness.draw()?)
    }

    /// Whether there is a repository at all.
    pub fn exists(storage: &dyn Storage) -> Result<bool, RepoError> {
        settings::newest_number(storage, names::CONFIG).map(|number| number.is_some())
    }

    /// Its id.
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// Its settings.
    pub fn config(&self) -> &RepositoryConfig {
        &self.config
    }

    /// Where its objects are.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.around.storage
    }

    /// Where they are, for people.
    pub fn place(&self) -> String {
        self.around.storage.place()
    }

    /// Who uses it.
    pub fn identity(&self) -> &Identity {
        &self.around.identity
    }

    /// The time.
    pub fn clock(&self) -> &dyn Clock {
        &*self.around.clock
    }

    /// Whether the same content has the same ids in both, and is cut the same way: one was made like the other.
    pub fn shares_identities_with(&self, other: &Self) -> bool {
        self.keys.fingerprint == other.keys.fingerprint && self.config.chunker == other.config.chunker
    }

    /// Makes the gear table of its chunker.
    pub fn chunker_key(&self) -> &crate::crypto::Secret<32> {
        &self.keys.chunker
    }

    /// The id of a chunk with these bytes.
    pub fn chunk_id(&self, bytes: &[u8]) -> crate::id::ChunkId {
        self.keys.ids.chunk(bytes)
    }

    /// Seals and stores an object that holds one message, with its parity and, for small control objects, its copy.
    pub(crate) fn create_sealed(
        &self,
        kind: ObjectKind,
        name: &ObjectName,
        lease: SnapshotId,
        plain: &[u8],
    ) -> Result<Created, RepoError> {
        let sealed = sealing::seal_object(&self.keys, self.id, kind, Some(name.as_str()), lease, plain)?;
        self.create_with_parity(name, sealed)
    }

    fn create_with_parity(&self, name: &ObjectName, mut payload: Vec<u8>) -> Result<Created, RepoError> {
        if self.config.parity {
            parity::append(&mut payload);
        }
        create_resolved(&*self.around.storage, name, &payload)
    }

    /// Stores the second copy of a small control object whose first copy is already there.
    pub(crate) fn create_copy(&self, name: &ObjectName) -> Result<(), RepoError> {
        if self.config.copies {
            let bytes = self.around.storage.get(name)?;
            create_resolved(&*self.around.storage, &names::copy(name), &bytes)?;
        }
        Ok(())
    }

    /// Reads a control object through `open`; a damaged first copy gives way to the second.
    pub(crate) fn read_control<T>(
        &self,
        name: &ObjectName,
        open: impl Fn(&[u8]) -> Result<T, DamageReason>,
    ) -> Result<T, RepoError> {
        read_control(&*self.around.storage, name, open)
    }
}

/// See [`Repo::read_control`]; also for what is read before a repository is unlocked.
fn read_control<T>(
    storage: &dyn Storage,
    name: &ObjectName,
    open: impl Fn(&[u8]) -> Result<T, DamageReason>,
) -> Result<T, RepoError> {
    // The copy can only stand in for an object that is present, so it can never decide anything.
    let error = match storage.get(name) {
        Ok(bytes) => match open(&bytes) {
            Ok(value) => return Ok(value),
            Err(source) => RepoError::Damaged { name: name.to_string(), source },
        },
        Err(error @ StorageError::Failed { .. }) => error.into(),
        Err(error) => return Err(error.into()),
    };
    let copy = storage.get(&names::copy(name)).ok().and_then(|bytes| open(&bytes).ok());
    copy.ok_or(error)
}

/// Creates an object and finds out what a failed create did: the name is read back and compared.
fn create_resolved(storage: &dyn Storage, name: &ObjectName, bytes: &[u8]) -> Result<Created, RepoError> {
    match storage.create(name, bytes) {
        Ok(Created::Created) => Ok(Created::Created),
        Ok(Created::Exists) => match storage.get(name)? == bytes {
            true => Ok(Created::Created),
            false => Ok(Created::Exists),
        },
        Err(error) => match storage.get(name) {
            // It is there; what failed may have been to make it durable.
            Ok(stored) if stored == bytes => {
                storage.make_durable(std::slice::from_ref(name))?;
                Ok(Created::Created)
            }
            Ok(_) | Err(_) => Err(error.into()),
        },
    }
}
