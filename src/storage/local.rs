//! A repository in a folder of this computer.
//!
//! **Creating** an object takes these steps, in this order:
//!
//! 1. write a new file in `tmp/`, locked, and sync it;
//! 2. link it to its final name, which fails if the name is taken;
//! 3. sync the folder of that name, and the folders above it where that was not done yet, parents last;
//! 4. remove the temporary name.
//!
//! So a name appears only when its bytes are complete and durable, and is reported only when it is durable too. A
//! crash leaves at most a file in `tmp/`, which the next process removes because nobody locks it. Where links are
//! missing, step 2 is a rename that replaces nothing.
//!
//! A name that is taken is reported only after its folder was synced: the caller may act on it, and a power cut must
//! not take it back. If the sync of a folder fails, the caller gets an error and does not know whether the object
//! exists, as the contract says. The name is not removed again: somebody else may have acted on it.

mod file_system;
mod folders;
mod listing;
mod temporary;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

pub use file_system::FileSystem;

use crate::storage::local::folders::{Folders, sync_folder};
use crate::storage::local::temporary::{Temporary, TemporaryNames};
use crate::storage::name::is_control;
use crate::storage::{
    Action, Created, HeldState, Hold, Listed, MappedObject, ObjectName, Storage, StorageError,
};
use crate::units::ByteRange;

/// A temporary file can be taken for a leftover once in a while, hardly ever twice.
const CREATE_ATTEMPT_COUNT_MAX: usize = 4;

/// What to do on opening with files that a crash left in `tmp/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leftovers {
    /// Remove those that no process works on. What cannot be removed stays, without an error.
    #[default]
    Remove,
    /// Change nothing.
    Keep,
}

/// How a folder is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalStorageOptions {
    /// What happens to unfinished files of processes that are gone.
    pub leftovers: Leftovers,
}

/// Keeps objects as files below one folder. Files are made with mode 0600, folders with 0700.
pub struct LocalStorage {
    folders: Folders,
    place: PathBuf,
    temporary_names: TemporaryNames,
    listing_lags: bool,
}

impl LocalStorage {
    /// Makes the folder of a new repository, and the folders above it. An empty folder is taken as it is.
    ///
    /// # Errors
    /// [`StorageError::NotAFolder`] and [`StorageError::NotEmpty`] if something else is there. A file system of its
    /// own counts as empty although it has a `lost+found`, and so does an attempt that ended before it stored
    /// anything.
    pub fn create_place(path: &Path) -> Result<(), StorageError> {
        let failed = |error| failed(Action::Open, path.display(), error);
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(StorageError::NotAFolder { place: path.to_owned() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_place(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let place = path.ancestors().find(|above| above.exists()).unwrap_or(path).to_owned();
                return Err(StorageError::NotAFolder { place });
            }
            Err(error) => return Err(failed(error)),
        }
        if is_unused(path).map_err(failed)? {
            Ok(())
        } else {
            Err(StorageError::NotEmpty { place: path.to_owned() })
        }
    }

    /// Opens a folder. Whether a repository is in it is for others to find out.
    ///
    /// # Errors
    /// [`StorageError::NoPlace`] and [`StorageError::NotAFolder`].
    pub fn open(path: &Path, options: LocalStorageOptions) -> Result<Self, StorageError> {
        let failed = |error| failed(Action::Open, path.display(), error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())) {
            Ok(root) => root,
            Err(Errno::NOENT) => return Err(StorageError::NoPlace { place: path.to_owned() }),
            Err(Errno::NOTDIR) => return Err(StorageError::NotAFolder { place: path.to_owned() }),
            Err(errno) => return Err(failed(errno.into())),
        };
        let file_system = rustix::fs::fstatfs(&root).map_err(|errno| failed(errno.into()))?;
        let storage = Self {
            folders: Folders::new(root),
            // An absolute path stays true when the process changes its folder.
            place: std::path::absolute(path).map_err(failed)?,
            temporary_names: TemporaryNames::new().map_err(failed)?,
            listing_lags: FileSystem::from_magic(file_system.f_type as u64).is_shared,
        };
        match options.leftovers {
            // Leftovers cost space only. A reader without the right to remove them must still be able to read.
            Leftovers::Remove => drop(temporary::remove_leftovers(&storage.folders, !storage.listing_lags)),
            Leftovers::Keep => {}
        }
        Ok(storage)
    }

    fn open_object(&self, name: &ObjectName) -> Result<File, StorageError> {
        // The disk is not trusted: a link must not lead out of the repository, nor a pipe make us wait for ever.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        retry_on_intr(|| rustix::fs::openat(self.folders.root(), name.as_str(), flags, Mode::empty()))
            .map(File::from)
            .map_err(|errno| read_error(name, errno.into()))
    }

    /// Writes the bytes and calls `publish`, which gives them their name. What it says is durable on return.
    fn store<T>(
        &self,
        name: &ObjectName,
        bytes: &[u8],
        publish: impl Fn(&Temporary<'_>, &OwnedFd) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let mut attempts = 1;
        loop {
            let folder = self.folders.open_or_make(name.folder())?;
            let temporary = Temporary::write(&self.folders, &self.temporary_names, bytes, &File::sync_all)?;
            match publish(&temporary, &folder) {
                // Removed by somebody who took it, or the folder, for a leftover.
                Err(Errno::NOENT) if attempts < CREATE_ATTEMPT_COUNT_MAX => attempts += 1,
                published => {
                    let published = published?;
                    sync_folder(&folder)?;
                    self.folders.settle(name.folder())?;
                    return Ok(published);
                }
            }
        }
    }

    fn delete_object(&self, name: &ObjectName) -> io::Result<()> {
        let folder = match self.folders.open(name.folder()) {
            Err(Errno::NOENT) => return Ok(()),
            folder => folder?,
        };
        match retry_on_intr(|| rustix::fs::unlinkat(&folder, name.leaf(), AtFlags::empty())) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        // A pack that a power cut brings back is garbage like any other. A lease that comes back would make others
        // wait for a writer that is gone.
        if is_control(name.folder()) { sync_folder(&folder) } else { Ok(()) }
    }
}

impl Storage for LocalStorage {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        self.store(name, bytes, |temporary, folder| temporary.publish(folder, name.leaf()))
            .map_err(|error| failed(Action::Create, name, error))
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        let file = self.open_object(name)?;
        let len = file.metadata().map_err(|error| read_error(name, error))?.len();
        let mut bytes = Vec::new();
        read_range(name, &file, ByteRange { start: 0, len }, &mut bytes)?;
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        let file = self.open_object(name)?;
        let len = file.metadata().map_err(|error| read_error(name, error))?.len();
        match range.end() {
            // Looked at before any memory is reserved: the range may come from a damaged index.
            Some(end) if end <= len => read_range(name, &file, range, into),
            _ => Err(short(name, range)),
        }
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        let root = self.folders.root();
        let stat = rustix::fs::statat(root, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| read_error(name, errno.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
            _ => Err(read_error(name, io::Error::new(io::ErrorKind::InvalidData, "it is not a file"))),
        }
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        let failed =
            |error| failed(Action::List, if prefix.is_empty() { "everything" } else { prefix }, error);
        if !prefix.is_empty() {
            ObjectName::new(prefix)
                .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        }
        listing::list(&self.folders, prefix, visit).map_err(failed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.delete_object(name).map_err(|error| failed(Action::Delete, name, error))
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<(), StorageError> {
        let folders: BTreeSet<_> = names.iter().map(ObjectName::folder).collect();
        for folder in folders {
            let synced = match self.folders.open(folder) {
                // Nothing was ever there.
                Err(Errno::NOENT) => continue,
                Err(errno) => Err(errno.into()),
                Ok(opened) => sync_folder(&opened).and_then(|()| self.folders.settle(folder)),
            };
            synced.map_err(|error| failed(Action::Create, folder, error))?;
        }
        Ok(())
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        match self.store(name, bytes, |temporary, folder| temporary.publish_over(folder, name.leaf())) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StorageError::Missing { name: name.clone() }),
            Err(error) => Err(failed(Action::Replace, name, error)),
        }
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        let file = self.open_object(name)?;
        // Shared, so that nobody is refused; it waits only for the moment in which somebody asks `held`.
        match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockShared)) {
            Ok(()) => Ok(Some(Hold::new(Locked(file)))),
            Err(errno) if is_lock_missing(errno) => Ok(None),
            Err(errno) => Err(read_error(name, errno.into())),
        }
    }

    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        // A lock belongs to the opened file, so that a process also sees what it holds itself.
        let file = Locked(self.open_object(name)?);
        match retry_on_intr(|| rustix::fs::flock(&file.0, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(HeldState::Free),
            Err(Errno::WOULDBLOCK) => Ok(HeldState::Held),
            Err(errno) if is_lock_missing(errno) => Ok(HeldState::Unknown),
            Err(errno) => Err(read_error(name, errno.into())),
        }
    }

    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        let file = self.open_object(name)?;
        MappedObject::from_file(&file).map(Some).map_err(|error| read_error(name, error))
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        let space = rustix::fs::fstatvfs(self.folders.root())
            .map_err(|errno| failed(Action::Read, self.place.display(), errno.into()))?;
        Ok(Some(space.f_bavail.saturating_mul(space.f_frsize)))
    }

    fn listing_lags(&self) -> bool {
        self.listing_lags
    }

    fn place(&self) -> String {
        self.place.display().to_string()
    }
}

/// A file that gives up its lock when it is dropped, also if a child process still shares it.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Appends a range that the file is known to have, without filling memory with zeros first where that is possible.
fn read_range(
    name: &ObjectName,
    file: &File,
    range: ByteRange,
    into: &mut Vec<u8>,
) -> Result<(), StorageError> {
    let too_large = || read_error(name, io::ErrorKind::OutOfMemory.into());
    let wanted = usize::try_from(range.len).map_err(|_| too_large())?;
    into.try_reserve_exact(wanted).map_err(|_| too_large())?;
    if into.capacity() - into.len() > wanted {
        // A read into spare capacity fills all of it, which would be too much here.
        let kept = into.len();
        into.resize(kept + wanted, 0);
        let (_, tail) = into.split_at_mut(kept);
        return file.read_exact_at(tail, range.start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => short(name, range),
            _ => read_error(name, error),
        });
    }
    let mut position = range.start;
    while into.len() < into.capacity() {
        match retry_on_intr(|| rustix::io::pread(file, spare_capacity(into), position)) {
            Ok(0) => return Err(short(name, range)),
            Ok(count) => position += count as u64,
            Err(errno) => return Err(read_error(name, errno.into())),
        }
    }
    Ok(())
}

fn short(name: &ObjectName, range: ByteRange) -> StorageError {
    StorageError::Short { name: name.clone(), end: range.end().unwrap_or(u64::MAX) }
}

fn read_error(name: &ObjectName, error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::NotFound => StorageError::Missing { name: name.clone() },
        _ => failed(Action::Read, name, error),
    }
}

fn failed(action: Action, what: impl ToString, source: io::Error) -> StorageError {
    StorageError::Failed { action, what: what.to_string(), source }
}

fn is_lock_missing(errno: Errno) -> bool {
    [Errno::OPNOTSUPP, Errno::NOSYS, Errno::NOLCK, Errno::BADF, Errno::INVAL].contains(&errno)
}

/// Makes a folder and those above it, each durable before the call returns.
fn make_place(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    for folder in missing.iter().rev() {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for folder in missing {
        if let Some(parent) = folder.parent() {
            sync_folder(File::open(parent)?)?;
        }
    }
    Ok(())
}

fn is_unused(path: &Path) -> io::Result<bool> {
    for entry in path.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let is_harmless = name == "lost+found"
            || (name == temporary::FOLDER
                && entry.file_type()?.is_dir()
                && entry.path().read_dir()?.next().is_none());
        if !is_harmless {
            return Ok(false);
        }
    }
    Ok(true)
}
