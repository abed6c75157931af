//! Where a restore writes: a folder of this computer, or an archive.
//!
//! A snapshot may claim anything, and somebody may change the target while it is written. So nothing here follows
//! a link below the root: a [`TargetRoot`] holds the root open, [`FolderCache`] opens folders beneath it without
//! ever leaving it, and a [`Folder`] acts on single names inside itself. A path is never handed to the system as
//! text that could be resolved twice.
//!
//! Whoever moves a folder out of the target while a restore has it open moves the files that are being written
//! with it; what is opened later stays inside.

pub mod archive;
mod beneath;
mod compare;
mod file;
mod folder;
mod metadata;
mod owners;
mod path;
mod remove;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use rustix::fs::{CWD, Mode, OFlags};

pub use beneath::FolderCache;
pub use compare::MetadataChanges;
pub use file::TargetFile;
pub use folder::{Existing, Folder};
pub use metadata::{Applied, Current, Wanted};
pub use owners::OwnerMap;
pub use path::TargetPath;

/// What was being done in the target when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Looking at what is there.
    Look,
    /// Making a folder.
    MakeFolder,
    /// Making a file.
    MakeFile,
    /// Opening a file that is there.
    OpenFile,
    /// Making a symbolic link.
    MakeSymlink,
    /// Making a hard link.
    MakeLink,
    /// Making a device, named pipe or socket.
    MakeSpecial,
    /// Reading back.
    Read,
    /// Writing.
    Write,
    /// Removing.
    Remove,
    /// Setting owner and group.
    SetOwner,
    /// Setting the permissions.
    SetMode,
    /// Setting an extended attribute.
    SetXattr,
    /// Setting the time of the last change.
    SetTime,
    /// Setting inode flags.
    SetFlags,
    /// Making everything durable.
    Sync,
}

impl std::fmt::Display for Action {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Look => "look at it",
            Self::MakeFolder => "make the folder",
            Self::MakeFile => "make the file",
            Self::OpenFile => "open the file",
            Self::MakeSymlink => "make the symbolic link",
            Self::MakeLink => "make the hard link",
            Self::MakeSpecial => "make the special file",
            Self::Read => "read it back",
            Self::Write => "write",
            Self::Remove => "remove what is there",
            Self::SetOwner => "set owner and group",
            Self::SetMode => "set the permissions",
            Self::SetXattr => "set an extended attribute",
            Self::SetTime => "set the time",
            Self::SetFlags => "set the inode flags",
            Self::Sync => "make it durable",
        })
    }
}

/// Why something did not work in the target. The caller knows the path and says it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The root cannot be used.
    #[error("cannot open the target {place}")]
    Open {
        /// Its path.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A name that may not stand in a folder.
    #[error("{name:?} cannot be the name of a file")]
    BadName {
        /// The name, as far as it is text.
        name: String,
    },
    /// A folder on the way is missing, is no folder, or leads out of the target.
    #[error("the folder is not one inside the target")]
    NoFolder {
        /// What the system said.
        source: io::Error,
    },
    /// Something is mounted in the middle of what should be removed.
    #[error("another file system is mounted there")]
    MountPoint,
    /// Something else is there than a moment ago.
    #[error("it was replaced while it was restored")]
    Replaced,
    /// Metadata that does not parse.
    #[error("its stored metadata does not parse")]
    Metadata {
        /// Why.
        source: crate::wire::WireError,
    },
    /// The system refused.
    #[error("could not {action}")]
    Failed {
        /// What it was doing.
        action: Action,
        /// Why.
        source: io::Error,
    },
}

impl TargetError {
    fn failed(action: Action) -> impl Fn(rustix::io::Errno) -> Self {
        move |errno| Self::Failed { action, source: errno.into() }
    }

    fn failed_io(action: Action) -> impl Fn(io::Error) -> Self {
        move |source| Self::Failed { action, source }
    }

    /// Whether nothing more can be written at all: no space, quota used up, or a read-only file system.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Failed { source, .. } | Self::Open { source, .. } | Self::NoFolder { source } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
            ),
            Self::BadName { .. } | Self::MountPoint | Self::Replaced | Self::Metadata { .. } => false,
        }
    }
}

/// The folder that a restore writes into, held open. May be used from any thread.
#[derive(Debug)]
pub struct TargetRoot {
    fd: OwnedFd,
    /// Cleared once the system turns out not to know `openat2`.
    has_openat2: AtomicBool,
    /// Permission bits that the process takes from new files, where that can be found out.
    umask: Option<u16>,
}

impl TargetRoot {
    /// Opens the folder at `path`, and with `create` makes it and its parents if they are missing.
    ///
    /// Links on the way to the root are followed: the person who named it may have meant them.
    pub fn open(path: &Path, create: bool) -> Result<Self, TargetError> {
        let error = |source| TargetError::Open { place: path.display().to_string(), source };
        if create {
            std::fs::create_dir_all(path).map_err(error)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| error(errno.into()))?;
        Ok(Self { fd, has_openat2: AtomicBool::new(true), umask: read_umask() })
    }

    /// Bytes that this user can still store in the file system of the root.
    pub fn space_left(&self) -> Result<u64, TargetError> {
        let stat = rustix::fs::fstatvfs(&self.fd).map_err(TargetError::failed(Action::Look))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes everything durable that was written to the file system of the root.
    pub fn sync(&self) -> Result<(), TargetError> {
        rustix::fs::syncfs(&self.fd).map_err(TargetError::failed(Action::Sync))
    }
}

/// Asking the system for the umask means changing it for a moment, which other threads would see; so it is read
/// where the kernel shows it.
fn read_umask() -> Option<u16> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u16::from_str_radix(line.trim(), 8).ok()
}
