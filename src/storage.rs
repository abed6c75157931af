//! Where objects are kept: names and opaque bytes, nothing else.
//!
//! [`Storage`] is the contract (docs/design.md, "Storage"). Everything that decides something rests on it:
//!
//! - **S1** `create` is exclusive: of all creates of a name at most one is [`Created::Created`], and its bytes stay.
//! - **S2** What a finished create wrote is returned by every later `get` and `list`.
//! - **S3** `list` returns every name that existed before it began and was not deleted before it ended.
//! - **S4** After a finished `delete`, later `get` and `list` do not return the name.
//! - **S5** After `Created` the bytes survive power loss.
//! - **S6** An error from `list` voids everything that it visited before.
//! - **S7** What `list` returned for a control prefix survives power loss, unless it is deleted.

mod cached;
mod faulty;
mod local;
mod mapped;
mod memory;
mod name;
mod s3;

use std::any::Any;
use std::io;
use std::path::PathBuf;

pub use cached::CachedStorage;
pub use faulty::{Afterwards, Calls, Fault, FaultPlan, FaultyStorage};
pub use local::{FileSystem, Leftovers, LocalStorage, LocalStorageOptions};
pub use mapped::MappedObject;
pub use memory::MemoryStorage;
pub use name::{NameError, ObjectName};
pub use s3::{Patience, S3Credentials, S3Error, S3Options, S3Storage};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::units::ByteRange;

/// Outcome of [`Storage::create`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object did not exist and now holds the bytes.
    Created,
    /// The name was taken; nothing was changed.
    Exists,
}

/// What [`Storage::list`] says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Stored bytes.
    pub len: u64,
    /// When it was stored, by the clock of the storage.
    pub stored_at: Timestamp,
}

/// Whether the owner of an object keeps it held, as far as this host can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldState {
    /// A living process on this host holds it.
    Held,
    /// Nobody on this host holds it.
    Free,
    /// This storage cannot tell.
    Unknown,
}

/// Keeps an object marked as held for as long as it lives, or until the process ends, however it ends.
pub struct Hold(#[expect(dead_code, reason = "kept only to be dropped")] Box<dyn Any + Send + Sync>);

impl Hold {
    /// A hold that ends when `guard` is dropped.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

/// What a storage was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Opening or preparing the place.
    Open,
    /// [`Storage::create`].
    Create,
    /// [`Storage::get`] and its relatives.
    Read,
    /// [`Storage::list`].
    List,
    /// [`Storage::delete`].
    Delete,
    /// [`Storage::replace`].
    Replace,
}

impl std::fmt::Display for Action {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Replace => "replace",
        })
    }
}

/// Why a storage call did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No such object.
    #[error("object {name} does not exist")]
    Missing {
        /// Which.
        name: ObjectName,
    },
    /// The range reaches beyond the end of the object.
    #[error("object {name} ends before byte {end}")]
    Short {
        /// Which.
        name: ObjectName,
        /// First byte after the range that was asked for.
        end: u64,
    },
    /// There is nothing where the repository should be.
    #[error("{} does not exist", place.display())]
    NoPlace {
        /// Where.
        place: PathBuf,
    },
    /// What stands at the place is not a folder.
    #[error("{} is not a folder", place.display())]
    NotAFolder {
        /// Where.
        place: PathBuf,
    },
    /// A new repository needs a folder of its own.
    #[error("the folder {} is not empty", place.display())]
    NotEmpty {
        /// Where.
        place: PathBuf,
    },
    /// There is no such bucket.
    #[error("there is no bucket {bucket} at {host}")]
    NoBucket {
        /// Its name.
        bucket: String,
        /// Where it was looked for.
        host: String,
    },
    /// The storage refused or failed. After a failed create the caller does not know whether the object exists.
    #[error("the storage could not {action} {what}")]
    Failed {
        /// What it was doing.
        action: Action,
        /// The object or folder.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// What calls have cost: requests of each kind, those that were repeated among them, and bytes of bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Objects stored.
    pub puts: u64,
    /// Objects, or parts of them, read.
    pub gets: u64,
    /// Questions about the length of an object.
    pub heads: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Requests that were made because one before had failed.
    pub repeated: u64,
    /// Bytes that left.
    pub bytes_sent: u64,
    /// Bytes that arrived.
    pub bytes_received: u64,
}

impl RequestCounts {
    /// All requests.
    pub fn all(&self) -> u64 {
        self.puts + self.gets + self.heads + self.lists + self.deletes
    }
}

impl StorageError {
    /// Whether whoever asked may not do this here.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A place that keeps objects. See the module for what every implementation promises.
///
/// Calls may come from any thread, many at a time. Names are relative to the repository.
pub trait Storage: Send + Sync {
    /// Stores `bytes` under `name`, completely or not at all.
    ///
    /// Returns once the object is durable. A name that exists is [`Created::Exists`], even if it holds the same
    /// bytes.
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError>;

    /// All bytes of the object.
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError>;

    /// Appends exactly the bytes of `range` to `into`; on an error `into` may hold some of them.
    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError>;

    /// Length of the object.
    fn len(&self, name: &ObjectName) -> Result<u64, StorageError>;

    /// Visits every object whose name begins with the folder `prefix` (such as `data`), in no order.
    ///
    /// Nothing that was visited may be used if this ends in an error.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError>;

    /// Removes the object. Removing what does not exist succeeds.
    fn delete(&self, name: &ObjectName) -> Result<(), StorageError>;

    /// Returns when power loss changes nothing any more about whether these objects are there.
    ///
    /// What `create` returned from is durable already. This is for what others have created, perhaps without coming to
    /// the end of it, and for packs that were deleted.
    fn make_durable(&self, _names: &[ObjectName]) -> Result<(), StorageError> {
        Ok(())
    }

    /// Puts `bytes` in the place of an object, atomically: readers see the old bytes or the new ones. Only for repair.
    ///
    /// [`StorageError::Missing`] if there is no such object. A name that somebody deletes at the same time must not
    /// come back by this: whoever deletes it may do so again, and relies on nobody using it in between.
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError>;

    /// Marks the object as held by this process, where the storage can.
    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError>;

    /// Whether somebody on this host holds the object.
    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError>;

    /// Maps the object into memory, where the storage can. Only for objects that never change.
    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError>;

    /// Bytes that can still be stored, where the storage can tell.
    fn space_left(&self) -> Result<Option<u64>, StorageError>;

    /// Whether a folder listing may lag behind what another host stored (network file systems).
    fn listing_lags(&self) -> bool;

    /// Whether calls travel over a network and are paid for, so that few large ones are better than many small ones, and
    /// several at a time better than one after the other.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether the storage itself refuses to create a name twice, as far as it is known by now. Where it does not, **S1**
    /// holds only while a single process writes.
    fn creates_exclusively(&self) -> bool {
        true
    }

    /// What calls have cost since the storage was opened, where that is counted.
    fn requests(&self) -> Option<RequestCounts> {
        None
    }

    /// The place in words, for messages: a path or an address.
    fn place(&self) -> String;
}
