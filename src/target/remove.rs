//! Removing what is in the way, whole trees among it.
//!
//! A tree may be deeper than a process may hold folders open, and a path into it could be redirected while it is
//! walked. So a tree is not walked but flattened: each folder found in the doomed one has its own folders moved up
//! beside it before it is removed. At any time two folders are open, and nothing is named by more than a name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Action, TargetError};

pub(super) fn remove(folder: &OwnedFd, name: &[u8]) -> Result<u64, TargetError> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => return Ok(1),
        Err(Errno::NOENT) => return Ok(0),
        // POSIX says EPERM for a folder, Linux EISDIR.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(failed(errno)),
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(1),
        Err(Errno::NOENT) => return Ok(0),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::BUSY) => return Err(TargetError::MountPoint),
        Err(errno) => return Err(failed(errno)),
    }
    let top = open_folder(folder.as_fd(), name)?;
    let removed = Flattener::new(&top)?.run()?;
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR).map_err(failed)?;
    Ok(removed + 1)
}

fn failed(errno: Errno) -> TargetError {
    TargetError::failed(Action::Remove)(errno)
}

fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, TargetError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    let fd = match open() {
        Err(Errno::ACCESS) => {
            unlock(parent, name);
            open()
        }
        other => other,
    }
    .map_err(failed)?;
    // A folder must be writable to be emptied, and to be moved. Where it cannot be made so, removing says why.
    let stat = rustix::fs::fstat(&fd).map_err(failed)?;
    if stat.st_mode & 0o700 != 0o700 {
        let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
    }
    Ok(fd)
}

/// Makes a folder of this user readable; failing shows when it is opened again.
fn unlock(parent: BorrowedFd<'_>, name: &[u8]) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(fd) = rustix::fs::openat(parent, name, flags, Mode::empty()) {
        let _ = super::folder::set_mode_through(&super::folder::handle_path(&fd), 0o700);
    }
}

struct Flattener<'f> {
    top: &'f OwnedFd,
    device: u64,
    /// Numbers the names that folders get when they are moved up.
    moved: u64,
    removed: u64,
}

impl<'f> Flattener<'f> {
    fn new(top: &'f OwnedFd) -> Result<Self, TargetError> {
        let device = rustix::fs::fstat(top).map_err(failed)?.st_dev;
        Ok(Self { top, device, moved: 0, removed: 0 })
    }

    /// Empties the top folder; returns how many entries were in it, at all levels.
    fn run(mut self) -> Result<u64, TargetError> {
        loop {
            // Some file systems skip names when a folder changes while it is listed: list until nothing is left.
            let folders = self.remove_files(self.top.as_fd())?;
            if folders.is_empty() {
                return Ok(self.removed);
            }
            for name in folders {
                self.remove_folder(&name)?;
            }
        }
    }

    /// Removes all that is no folder, and returns the names of the folders.
    fn remove_files(&mut self, folder: BorrowedFd<'_>) -> Result<Vec<Box<[u8]>>, TargetError> {
        let mut folders = Vec::new();
        for entry in Dir::read_from(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                folders.push(name.to_bytes().into());
                continue;
            }
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) => self.removed += 1,
                Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => folders.push(name.to_bytes().into()),
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(folders)
    }

    fn remove_folder(&mut self, name: &[u8]) -> Result<(), TargetError> {
        let folder = open_folder(self.top.as_fd(), name)?;
        if rustix::fs::fstat(&folder).map_err(failed)?.st_dev != self.device {
            return Err(TargetError::MountPoint);
        }
        loop {
            for inner in self.remove_files(folder.as_fd())? {
                self.move_up(&folder, &inner)?;
            }
            match rustix::fs::unlinkat(self.top, name, AtFlags::REMOVEDIR) {
                Ok(()) => {
                    self.removed += 1;
                    return Ok(());
                }
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Moves a folder beside the others at the top. An empty folder has no children to move and goes at once.
    fn move_up(&mut self, folder: &OwnedFd, name: &[u8]) -> Result<(), TargetError> {
        if rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR).is_ok() {
            self.removed += 1;
            return Ok(());
        }
        loop {
            self.moved += 1;
            let free = format!(".restore-removes-{}", self.moved);
            let mut moved = rustix::fs::renameat(folder, name, self.top, free.as_str());
            if matches!(moved, Err(Errno::ACCESS)) {
                unlock(folder.as_fd(), name);
                moved = rustix::fs::renameat(folder, name, self.top, free.as_str());
            }
            match moved {
                Ok(()) => return Ok(()),
                // The doomed tree happens to hold this name: the next number will do.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(Errno::XDEV | Errno::BUSY) => return Err(TargetError::MountPoint),
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
}
