//! What can go wrong with a repository, as outcomes that a caller can act on.

use crate::crypto::{KdfError, OpenError, RandomError};
use crate::format::FormatError;
use crate::id::{ContentId, PackId, RepositoryId, SnapshotId};
use crate::index::{CacheFolderError, IndexError};
use crate::storage::StorageError;

/// Why the repository could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The local index failed.
    #[error("the local index does not work")]
    Index(#[from] IndexError),
    /// The cache folder cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheFolderError),
    /// No randomness.
    #[error("the operating system gives no random bytes")]
    Random(#[from] RandomError),
    /// Nothing there.
    #[error("there is no repository at {place}")]
    NoRepository {
        /// Where it was looked for.
        place: String,
    },
    /// A repository is there already.
    #[error("there is a repository at {place} already")]
    Exists {
        /// Where.
        place: String,
    },
    /// The passphrase or key opens no slot.
    #[error("no slot of the repository opens with this {what}")]
    WrongKey {
        /// `passphrase` or `key file`.
        what: &'static str,
    },
    /// A passphrase could not be stretched.
    #[error("the passphrase cannot be turned into a key")]
    Stretch(#[from] KdfError),
    /// Not the repository that was here before, or an older state of it.
    #[error("this is not the repository that this computer knows")]
    Replaced(#[source] crate::index::WitnessError),
    /// A stored object is damaged.
    #[error("{name} is damaged")]
    Damaged {
        /// Name of the object.
        name: String,
        /// What is wrong with it.
        source: DamageReason,
    },
    /// A frame of a pack is damaged.
    #[error("frame {frame} of pack {pack} is damaged")]
    DamagedFrame {
        /// Which pack.
        pack: PackId,
        /// Which frame of it.
        frame: u32,
        /// What is wrong with it.
        source: DamageReason,
    },
    /// Nothing that is present holds this chunk or node.
    #[error("{id} is in no pack")]
    MissingContent {
        /// Which.
        id: ContentId,
    },
    /// What was just made does not open again: memory or processor are faulty.
    #[error("a finished pack did not open again before it was stored: memory or processor are faulty")]
    NotVerified(#[source] DamageReason),
    /// A value breaks a limit of the format.
    #[error("this cannot be stored")]
    Unstorable(#[source] FormatError),
    /// The commit was made impossible by a prune that waited too long for this writer.
    #[error("the backup was fenced by a prune")]
    Fenced,
    /// A prune has begun whose plan cannot be read. Nobody can know then what to keep away from.
    #[error(
        "prune {number} is under way, and its plan cannot be read: it was begun by a newer version of this program, or is damaged"
    )]
    PruneUnderWay {
        /// Number of its plan.
        number: u64,
    },
    /// A prune has begun that was asleep for so long that others have removed its lists: it deletes nothing, and any prune
    /// closes it.
    #[error("prune {number} is under way, and what it plans is gone")]
    PlanWithoutLists {
        /// Number of its plan.
        number: u64,
    },
    /// A selector names no snapshot.
    #[error("there is no snapshot {selector:?}")]
    NoSnapshot {
        /// What was asked for.
        selector: String,
    },
    /// A selector names several snapshots.
    #[error("{selector:?} names {} snapshots: {}", .candidates.len(), .candidates.iter().map(SnapshotId::short).collect::<Vec<_>>().join(", "))]
    AmbiguousSnapshot {
        /// What was asked for.
        selector: String,
        /// What it could mean.
        candidates: Vec<SnapshotId>,
    },
    /// The snapshot that was asked for is dead.
    #[error("snapshot {} was forgotten", .id.short())]
    Forgotten {
        /// Which.
        id: SnapshotId,
        /// Whether it is still stored.
        is_there: bool,
    },
    /// A path is not in a snapshot.
    #[error("the snapshot holds no {path}")]
    NoPath {
        /// Which, for people.
        path: String,
    },
    /// The last slot cannot be removed.
    #[error("the repository would have no slot left to unlock it with")]
    LastSlot,
    /// No such slot.
    #[error("there is no slot {selector:?}")]
    NoSlot {
        /// What was asked for.
        selector: String,
    },
    /// Another thread met the error that ended the operation.
    #[error("the operation was ended by an earlier error")]
    Ended,
}

/// What is wrong with stored bytes.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DamageReason {
    /// They do not parse.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The commitment in the header is another.
    #[error("its header is altered, or it belongs to another key")]
    Commitment,
    /// A sealed message does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A frame does not expand to what its directory says.
    #[error("it does not expand to the stated length")]
    Expand,
    /// The bytes are not those that the id was made of.
    #[error("its content does not have its id")]
    Id,
    /// The object belongs elsewhere.
    #[error("it belongs to repository {0}")]
    OtherRepository(RepositoryId),
    /// The keyring has no such generation.
    #[error("it is sealed under generation {0}, which the keyring does not have")]
    Generation(u32),
    /// An object of another kind.
    #[error("it is an object of another kind")]
    Kind,
    /// Its tag is not that of a holder who may write it.
    #[error("its tag does not match")]
    Tag,
    /// It ends early.
    #[error("it is shorter than its header says")]
    Short,
    /// The parity behind it is not what was written.
    #[error("its parity is damaged")]
    Parity,
    /// The shard hashes in its parity are not those of its content.
    #[error("its content is not what its parity was made of")]
    ParityDiffers,
    /// The parity that should be behind it is not there.
    #[error("its parity is missing")]
    NoParity,
    /// It says the same as the object should, in other bytes.
    #[error("its encoding is not the only one of what it says")]
    Encoding,
    /// The storage could not read it.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// It goes on where it should end.
    #[error("other bytes follow it")]
    Surplus,
    /// The frame needs a base that nothing holds.
    #[error("its base {0} is in no pack")]
    MissingBase(ContentId),
    /// The frame rests on more frames than the format allows.
    #[error("its bases lie too deep")]
    TooDeep,
}

impl DamageReason {
    /// The storage could not read them, as it says.
    pub fn unreadable(error: &StorageError) -> Self {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        Self::Unreadable(cause.unwrap_or_else(|| error.to_string()))
    }
}

impl RepoError {
    /// Whether stored bytes are at fault, so that another copy or a repair may help.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::DamagedFrame { .. }
                | Self::MissingContent { .. }
                | Self::Storage(StorageError::Missing { .. } | StorageError::Short { .. })
        )
    }

    /// Whether the storage has no room left.
    pub fn is_full(&self) -> bool {
        let full = |source: &std::io::Error| {
            matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        };
        matches!(self, Self::Storage(StorageError::Failed { source, .. }) if full(source))
    }
}
