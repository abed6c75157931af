//! The file that makes a prune possible on a full disk: given up to write a plan, and made again afterwards.

use crate::repo::{Repo, RepoError, names};
use crate::storage::{Storage, StorageError};

/// Enough for the lists of a plan and its verdict in a repository of 100 GB.
const RESERVE_BYTES_MIN: u64 = 256 << 10;
/// What the two lists take for a pack, and something for index objects.
const RESERVE_BYTES_PER_PACK: u64 = 96;

/// Makes the file of a new repository.
pub(super) fn make(storage: &dyn Storage) -> Result<(), StorageError> {
    make_of_len(storage, RESERVE_BYTES_MIN)
}

/// Zeros would do on no file system that compresses, so it is filled with what does not.
fn make_of_len(storage: &dyn Storage, len: u64) -> Result<(), StorageError> {
    let mut bytes = vec![0; len as usize];
    blake3::Hasher::new().update(b"kluis reserve").finalize_xof().fill(&mut bytes);
    // One that is there already, perhaps of an init that was never finished, is as good.
    storage.create(&names::reserve(), &bytes).map(drop)
}

impl Repo {
    /// Does `write`, and once more without the file if there is no room: for what has to be written to make some.
    pub(crate) fn with_reserve<T>(&self, write: impl Fn() -> Result<T, RepoError>) -> Result<T, RepoError> {
        match write() {
            Err(error) if error.is_full() && self.give_up_reserve()? => write(),
            outcome => outcome,
        }
    }

    /// Whether there was one.
    fn give_up_reserve(&self) -> Result<bool, RepoError> {
        let name = names::reserve();
        match self.storage().len(&name) {
            Ok(_) => {
                self.storage().delete(&name)?;
                Ok(true)
            }
            Err(StorageError::Missing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the file again where it is missing, or too small for so many packs, and there should be one: on local disks.
    pub(crate) fn restore_reserve(&self, pack_count: usize) -> Result<(), RepoError> {
        if !self.config.copies {
            return Ok(());
        }
        let wanted = RESERVE_BYTES_MIN.max(pack_count as u64 * RESERVE_BYTES_PER_PACK);
        match self.storage().len(&names::reserve()) {
            Ok(len) if len >= wanted => return Ok(()),
            Ok(_) => self.storage().delete(&names::reserve())?,
            Err(StorageError::Missing { .. }) => {}
            Err(_) => return Ok(()),
        }
        let made = make_of_len(&**self.storage(), wanted).map_err(RepoError::from);
        // On a disk that is still full the next prune makes it.
        made.or_else(|error| if error.is_full() { Ok(()) } else { Err(error) })
    }
}
