//! The folders of a repository on disk: opened below one root, made when first needed, and made durable.
//!
//! A file survives a power cut only if its name does, and the name only if the names of all folders above it do. A
//! folder that is simply there proves nothing: another process may have made it a moment ago and not synced it yet.
//! So this process syncs the parents of every folder once before it relies on it, and remembers that.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::storage::name::parent_of;

/// The root of a repository, and which folders below it are known to be durable.
pub(super) struct Folders {
    root: OwnedFd,
    settled: Mutex<HashSet<String>>,
}

impl Folders {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, settled: Mutex::default() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a folder by its name in the repository; no name is the root.
    pub(super) fn open(&self, folder: &str) -> Result<OwnedFd, Errno> {
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A top folder may be a link to another disk. Further down a listing does not follow links, so nothing may
        // be stored behind one either.
        if folder.contains('/') {
            flags |= OFlags::NOFOLLOW;
        }
        let path = if folder.is_empty() { "." } else { folder };
        retry_on_intr(|| rustix::fs::openat(&self.root, path, flags, Mode::empty()))
    }

    /// Opens a folder and makes it first where it is missing, with the folders above it.
    pub(super) fn open_or_make(&self, folder: &str) -> Result<OwnedFd, Errno> {
        match self.open(folder) {
            Err(Errno::NOENT) => {
                self.make(folder)?;
                self.open(folder)
            }
            opened => opened,
        }
    }

    /// Makes a folder and the folders above it. They are not durable before [`settle`](Self::settle).
    pub(super) fn make(&self, folder: &str) -> Result<(), Errno> {
        let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
        for level in ends.filter_map(|end| folder.get(..end)).filter(|level| !level.is_empty()) {
            match retry_on_intr(|| rustix::fs::mkdirat(&self.root, level, Mode::RWXU)) {
                Ok(()) => self.unsettle(level),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Makes the names of an existing folder and of all folders above it durable, parents last.
    ///
    /// One sync of a parent covers all folders that it held before, so a process pays for each parent once, and then
    /// only for folders that it makes itself.
    pub(super) fn settle(&self, folder: &str) -> io::Result<()> {
        let mut level = folder;
        while !level.is_empty() {
            let parent = parent_of(level);
            if !self.is_settled(level) {
                let opened = self.open(parent)?;
                let mut durable = folders_in(&opened, parent)?;
                sync_folder(&opened)?;
                durable.push(level.to_owned());
                self.settled().extend(durable);
            }
            level = parent;
        }
        Ok(())
    }

    /// Whether the name of this folder is known to survive a power cut.
    pub(super) fn is_settled(&self, folder: &str) -> bool {
        self.settled().contains(folder)
    }

    fn unsettle(&self, made: &str) {
        self.settled().retain(|known| match known.strip_prefix(made) {
            Some(rest) => !(rest.is_empty() || rest.starts_with('/')),
            None => true,
        });
    }

    fn settled(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set of names is whole at every moment, also if a thread ended while it had the lock.
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the names in a folder durable, as far as its file system can.
pub(super) fn sync_folder(folder: impl AsFd) -> io::Result<()> {
    match retry_on_intr(|| rustix::fs::fsync(&folder)) {
        // Some network file systems know no sync of a folder, and a file system that is mounted for reading only
        // has nothing to sync. Failing here would make repositories on them unusable and nothing safer.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::ROFS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn folders_in(opened: &OwnedFd, name: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(opened)? {
        let entry = entry?;
        if entry.file_type() != FileType::Directory {
            continue;
        }
        match entry.file_name().to_str() {
            Ok("." | "..") | Err(_) => {}
            Ok(leaf) if name.is_empty() => found.push(leaf.to_owned()),
            Ok(leaf) => found.push(format!("{name}/{leaf}")),
        }
    }
    Ok(found)
}
