//! The file that makes a prune possible on a full disk: given up to write a plan, and made again afterwards.

use crate::repo::{Repo, RepoError, names};
use crate::storage::{Storage, StorageError};

/// Enough for the lists of a plan and its verdict, and for new index objects, of a usual repository.
const RESERVE_BYTES: usize = 1 << 20;

/// Makes the file. Zeros would do on no file system that compresses, so it is filled with what does not.
pub(super) fn make(storage: &dyn Storage) -> Result<(), StorageError> {
    let mut bytes = vec![0; RESERVE_BYTES];
    blake3::Hasher::new().update(b"kluis reserve").finalize_xof().fill(&mut bytes);
    // One that is there already, perhaps of an init that was never finished, is as good.
    storage.create(&names::reserve(), &bytes).map(drop)
}

impl Repo {
    /// Gives up the file. Whether there was one.
    pub(crate) fn give_up_reserve(&self) -> Result<bool, RepoError> {
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

    /// Makes the file again where it is missing and there should be one: on local disks.
    pub(crate) fn restore_reserve(&self) -> Result<(), RepoError> {
        match self.storage().len(&names::reserve()) {
            Err(StorageError::Missing { .. }) if self.config.copies => Ok(make(&**self.storage())?),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
