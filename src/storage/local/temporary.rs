//! Unfinished files in `tmp/`: written and synced there, and then given their final name in one step.
//!
//! A temporary file is locked for as long as its writer lives, so that a later process can tell a leftover from work
//! in progress. Between making the file and locking it there is a moment in which somebody else may take it for a
//! leftover and remove it. The writer then finds its file gone when it wants to give it a name, and writes a new one.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{Advice, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use super::folders::Folders;
use crate::clock::{Clock, SystemClock};
use crate::storage::Created;

/// The folder of unfinished files. It lies in the repository, so that a link to the final name is possible.
pub(super) const FOLDER: &str = "tmp";

/// From here on the pages of a written file leave the cache: packs are not read again soon, and would push out what
/// is.
const CACHE_DROP_LEN_MIN: usize = 1 << 20;

const ATTEMPT_COUNT_MAX: usize = 16;

/// A lock on a network file system may not reach other hosts. There only files so old are taken for leftovers.
const FOREIGN_AGE_MIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Hexadecimal digits before the dot of a name.
const PREFIX_DIGIT_COUNT: usize = 16;

/// Draws names that no other process uses.
pub(super) struct TemporaryNames {
    prefix: u64,
    next: AtomicU64,
}

impl TemporaryNames {
    pub(super) fn new() -> io::Result<Self> {
        let mut prefix = [0; 8];
        getrandom::fill(&mut prefix)?;
        Ok(Self { prefix: u64::from_le_bytes(prefix), next: AtomicU64::new(0) })
    }

    fn next(&self) -> String {
        let digits = PREFIX_DIGIT_COUNT;
        format!("{FOLDER}/{:0digits$x}.{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// An unfinished file. It is removed when this is dropped, whatever happened; a name that it was given stays.
pub(super) struct Temporary<'a> {
    folders: &'a Folders,
    path: String,
    file: File,
}

impl<'a> Temporary<'a> {
    /// Writes `bytes` to a new file and calls `sync`, which makes it durable.
    pub(super) fn write(
        folders: &'a Folders,
        names: &TemporaryNames,
        bytes: &[u8],
        sync: &dyn Fn(&File) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut temporary = Self::new(folders, names)?;
        temporary.file.write_all(bytes)?;
        if sync(&temporary.file).is_err() {
            // The kernel may have marked the pages clean although they never reached the disk. A second sync of the
            // same file would then succeed and prove nothing, so the file goes and the bytes are written again.
            drop(temporary);
            temporary = Self::new(folders, names)?;
            temporary.file.write_all(bytes)?;
            sync(&temporary.file)?;
        }
        if bytes.len() >= CACHE_DROP_LEN_MIN {
            // Only advice: a file system that cannot do it keeps its cache.
            let _ = rustix::fs::fadvise(&temporary.file, 0, None, Advice::DontNeed);
        }
        Ok(temporary)
    }

    fn new(folders: &'a Folders, names: &TemporaryNames) -> io::Result<Self> {
        for _ in 0..ATTEMPT_COUNT_MAX {
            let path = names.next();
            let file = match open_new(folders, &path) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) => continue,
                Err(Errno::NOENT) => {
                    folders.make(FOLDER)?;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            let temporary = Self { folders, path, file };
            match rustix::fs::flock(&temporary.file, FlockOperation::NonBlockingLockExclusive) {
                // Somebody took it for a leftover and is about to remove it.
                Err(Errno::WOULDBLOCK) => {}
                // Without locks nobody can take it for a leftover either.
                Ok(()) | Err(_) => return Ok(temporary),
            }
        }
        Err(io::Error::other("no temporary file could be made"))
    }

    /// Gives the file a name, unless the name is taken. The name is not durable before its folder is synced.
    pub(super) fn publish(&self, folder: &OwnedFd, leaf: &str) -> Result<Created, Errno> {
        let root = self.folders.root();
        match retry_on_intr(|| rustix::fs::linkat(root, &self.path, folder, leaf, AtFlags::empty())) {
            Ok(()) => Ok(Created::Created),
            Err(Errno::EXIST) => Ok(Created::Exists),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => self.publish_by_rename(folder, leaf),
            Err(errno) => Err(errno),
        }
    }

    /// As [`publish`](Self::publish), for file systems that know no links.
    pub(super) fn publish_by_rename(&self, folder: &OwnedFd, leaf: &str) -> Result<Created, Errno> {
        let root = self.folders.root();
        let flags = RenameFlags::NOREPLACE;
        match retry_on_intr(|| rustix::fs::renameat_with(root, &self.path, folder, leaf, flags)) {
            Ok(()) => Ok(Created::Created),
            Err(Errno::EXIST) => Ok(Created::Exists),
            Err(errno) => Err(errno),
        }
    }

    /// Puts the file in the place of the one that has the name. `false` if there is none.
    ///
    /// Both change places, which fails where there is nothing to change places with; what had the name before is then
    /// the unfinished file, and is removed with it.
    pub(super) fn publish_over(&self, folder: &OwnedFd, leaf: &str) -> Result<bool, Errno> {
        if !is_file(folder, leaf)? {
            return Ok(false);
        }
        let (root, flags) = (self.folders.root(), RenameFlags::EXCHANGE);
        match retry_on_intr(|| rustix::fs::renameat_with(root, &self.path, folder, leaf, flags)) {
            Ok(()) => Ok(true),
            // One of the two is gone.
            Err(Errno::NOENT) if !is_file(folder, leaf)? => Ok(false),
            // Here files cannot change places, and what is between looking and renaming is a risk.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                retry_on_intr(|| rustix::fs::renameat(root, &self.path, folder, leaf)).map(|()| true)
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Whether a file has this name. What is no file must not change places with one.
fn is_file(folder: &OwnedFd, leaf: &str) -> Result<bool, Errno> {
    match rustix::fs::statat(folder, leaf, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(true),
        Ok(_) => Err(Errno::ISDIR),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // A failure leaves a leftover, which the next process removes; after a rename the name is gone already.
        let _ = rustix::fs::unlinkat(self.folders.root(), &self.path, AtFlags::empty());
        // The lock lies on the file, not on its name, and a child process that was just started shares it until it
        // runs its own program. Without this the finished object could look held for that long.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn open_new(folders: &Folders, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    retry_on_intr(|| rustix::fs::openat(folders.root(), path, flags, Mode::RUSR | Mode::WUSR))
}

/// Whether [`TemporaryNames`] could have drawn this name. `tmp/` of a folder that is no repository may hold anything.
fn is_drawn(leaf: &[u8]) -> bool {
    let mut parts = leaf.splitn(2, |byte| *byte == b'.');
    let prefix = parts.next().unwrap_or_default();
    let number = parts.next().unwrap_or_default();
    prefix.len() == PREFIX_DIGIT_COUNT
        && prefix.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && !number.is_empty()
        && number.iter().all(u8::is_ascii_digit)
}

/// Removes what processes that are gone left in `tmp/`. Files that have no name of ours are left alone.
pub(super) fn remove_leftovers(folders: &Folders, locks_reach_all_hosts: bool) -> io::Result<()> {
    let folder = match folders.open(FOLDER) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        if !is_drawn(entry.file_name().to_bytes()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        // What cannot be opened or locked may be somebody's work. It costs space, no more.
        let Ok(file) = rustix::fs::openat(&folder, entry.file_name(), flags, Mode::empty()) else { continue };
        let file = File::from(file);
        let metadata = file.metadata()?;
        let is_left = metadata.is_file()
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && (locks_reach_all_hosts || is_old(&metadata));
        if is_left {
            let _ = rustix::fs::unlinkat(&folder, entry.file_name(), AtFlags::empty());
        }
    }
    Ok(())
}

fn is_old(metadata: &Metadata) -> bool {
    // A wrong clock costs the writer a second attempt, nothing else.
    let age_seconds = SystemClock.now().seconds.saturating_sub(metadata.mtime());
    u64::try_from(age_seconds).is_ok_and(|age| age >= FOREIGN_AGE_MIN.as_secs())
}
