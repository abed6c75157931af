//! One folder of the target, held open, and what can be done with the names in it.

use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::metadata::{self, Applied, Current, Wanted};
use super::path::check_name;
use super::{Action, TargetError, TargetFile, remove};
use crate::clock::Timestamp;
use crate::format::tree::{EntryKind, tag};

/// What stands in the target under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits: 12 bits.
    pub mode: u16,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Names that it has.
    pub link_count: u32,
    /// With `inode`, which file it is.
    pub device: (u32, u32),
    /// With `device`, which file it is.
    pub inode: u64,
    /// Major and minor number, of a device.
    pub special: (u32, u32),
}

/// A folder, held open. Every call takes a name inside it and refuses anything that is more than a name; none
/// follows a link that stands under the name.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    umask: Option<u16>,
    /// Owner and group that new files get here. The system decides that by rules of the folder, of the mount and
    /// of the server, so the first file that is made is asked.
    fresh_owner: Cell<Option<(u32, u32)>>,
    has_default_acl: OnceCell<bool>,
}

const LOOK: StatxFlags = StatxFlags::BASIC_STATS;
const TAKEN: &[Errno] = &[Errno::EXIST, Errno::NOTDIR, Errno::ISDIR];

impl Folder {
    pub(super) fn new(fd: OwnedFd, umask: Option<u16>) -> Self {
        Self { fd, umask, fresh_owner: Cell::new(None), has_default_acl: OnceCell::new() }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What stands under `name`, without following it if it is a link.
    pub fn look(&self, name: &[u8]) -> Result<Option<Existing>, TargetError> {
        check_name(name)?;
        match rustix::fs::statx(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW, LOOK) {
            Ok(stat) => Ok(Some(existing(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(TargetError::failed(Action::Look)(errno)),
        }
    }

    /// What the folder itself is.
    pub fn look_at_self(&self) -> Result<Existing, TargetError> {
        existing_of(&self.fd)
    }

    /// Makes a folder that only this user may enter until its metadata is set.
    pub fn make_folder(&self, name: &[u8]) -> Result<(), TargetError> {
        check_name(name)?;
        rustix::fs::mkdirat(&self.fd, name, Mode::RWXU).map_err(TargetError::failed(Action::MakeFolder))
    }

    /// Lets this user list and change the folder `name`, as far as the system allows it. Its permissions are set
    /// again with the rest of its metadata.
    pub fn unlock_folder(&self, name: &[u8], existing: &Existing) -> Result<(), TargetError> {
        const NEEDED: u16 = 0o700;
        if existing.mode & NEEDED == NEEDED {
            return Ok(());
        }
        let fd = self.open_path(name, EntryKind::Directory, Action::SetMode)?;
        metadata::set_mode_of_path(&fd, existing.mode | NEEDED)
    }

    /// Makes a new file. Fails if anything stands under the name.
    ///
    /// With `in_one_go` the file will be written and finished through this very handle, so that it may get its
    /// final permissions at once if they are the same for everybody who could look meanwhile.
    pub fn create_file(
        &self,
        name: &[u8],
        wanted: &Wanted<'_>,
        in_one_go: bool,
    ) -> Result<(TargetFile, Current), TargetError> {
        check_name(name)?;
        let mode_at_once = self.mode_at_once(wanted).filter(|_| in_one_go);
        let mode = mode_at_once.unwrap_or(0o600);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode.into()))
            .map_err(TargetError::failed(Action::MakeFile))?;
        let owner = match self.fresh_owner.get() {
            Some(owner) => owner,
            None => {
                let stat = rustix::fs::fstat(&fd).map_err(TargetError::failed(Action::Look))?;
                self.fresh_owner.set(Some((stat.st_uid, stat.st_gid)));
                (stat.st_uid, stat.st_gid)
            }
        };
        let file = TargetFile::new(File::from(fd));
        file.prepare(wanted);
        let has_inherited = self.has_default_acl();
        Ok((file, Current { owner: Some(owner), mode: mode_at_once, may_have_xattrs: has_inherited }))
    }

    /// The mode to make the file with, if that is its final one and giving it early tells nobody anything.
    fn mode_at_once(&self, wanted: &Wanted<'_>) -> Option<u16> {
        let mode = wanted.entry.mode;
        let umask = self.umask?;
        let fresh_owner = self.fresh_owner.get()?;
        let keeps_owner = wanted.owner.is_none_or(|owner| owner == fresh_owner);
        // Whoever may not write a file may not set its attributes either.
        let takes_xattrs = mode & 0o200 != 0 || wanted.entry.extension(tag::XATTRS).is_none();
        let is_plain = mode & !0o777 == 0 && mode & umask == 0;
        (keeps_owner && takes_xattrs && is_plain && !self.has_default_acl()).then_some(mode)
    }

    fn has_default_acl(&self) -> bool {
        *self.has_default_acl.get_or_init(|| metadata::has_default_acl(&self.fd))
    }

    /// Opens the file under `name` to be read and changed. [`TargetError::Replaced`] if it is no regular file.
    pub fn open_file(&self, name: &[u8]) -> Result<TargetFile, TargetError> {
        check_name(name)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Err(TargetError::Replaced),
            Err(Errno::ACCESS) => {
                let path = self.open_path(name, EntryKind::File, Action::OpenFile)?;
                metadata::set_mode_of_path(&path, 0o600)?;
                rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            }
            other => other,
        }
        .map_err(TargetError::failed(Action::OpenFile))?;
        self.regular(fd)
    }

    /// Opens the file under `name` to be read. [`TargetError::Replaced`] if it is no regular file.
    pub fn read_file(&self, name: &[u8]) -> Result<TargetFile, TargetError> {
        check_name(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => self.regular(fd),
            Err(Errno::LOOP | Errno::NXIO) => Err(TargetError::Replaced),
            Err(errno) => Err(TargetError::failed(Action::OpenFile)(errno)),
        }
    }

    fn regular(&self, fd: OwnedFd) -> Result<TargetFile, TargetError> {
        let stat = rustix::fs::fstat(&fd).map_err(TargetError::failed(Action::Look))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(TargetFile::new(File::from(fd))),
            _ => Err(TargetError::Replaced),
        }
    }

    /// Makes a symbolic link that says `target`. The link is never followed, so it may say anything.
    pub fn make_symlink(&self, name: &[u8], target: &[u8]) -> Result<(), TargetError> {
        check_name(name)?;
        rustix::fs::symlinkat(target, &self.fd, name).map_err(TargetError::failed(Action::MakeSymlink))
    }

    /// Makes a device, named pipe or socket that only this user may use until its metadata is set.
    pub fn make_special(&self, name: &[u8], kind: EntryKind, device: (u32, u32)) -> Result<(), TargetError> {
        check_name(name)?;
        let file_type = match kind {
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::Socket => FileType::Socket,
            EntryKind::Directory | EntryKind::File | EntryKind::Symlink => return Err(TargetError::Replaced),
        };
        let device = match kind {
            EntryKind::BlockDevice | EntryKind::CharDevice => rustix::fs::makedev(device.0, device.1),
            EntryKind::Directory
            | EntryKind::File
            | EntryKind::Symlink
            | EntryKind::Fifo
            | EntryKind::Socket => 0,
        };
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(&self.fd, name, file_type, mode, device)
            .map_err(TargetError::failed(Action::MakeSpecial))
    }

    /// Gives the file `from_name` in `from` the further name `name`. A link there is not followed.
    pub fn make_link(&self, name: &[u8], from: &Folder, from_name: &[u8]) -> Result<(), TargetError> {
        check_name(name)?;
        check_name(from_name)?;
        rustix::fs::linkat(&from.fd, from_name, &self.fd, name, AtFlags::empty())
            .map_err(TargetError::failed(Action::MakeLink))
    }

    /// Removes what stands under `name`: a file, a link as such, or a folder with everything in it. Returns how
    /// many entries that were; 0 if nothing was there. Does not go into other file systems.
    pub fn remove(&self, name: &[u8]) -> Result<u64, TargetError> {
        check_name(name)?;
        remove::remove(&self.fd, name)
    }

    /// All names in the folder, sorted.
    pub fn names(&self) -> Result<Vec<Box<[u8]>>, TargetError> {
        let error = TargetError::failed(Action::Look);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(&error)? {
            let entry = entry.map_err(&error)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.into());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Sets the metadata of the link or special file under `name`, without following it.
    pub fn apply_to_name(&self, name: &[u8], wanted: &Wanted<'_>, current: Current) -> Applied {
        let mut applied = Applied::default();
        if let Err(error) = check_name(name) {
            applied.problems.push(error);
        } else if wanted.entry.kind == EntryKind::Symlink {
            metadata::apply_to_symlink(&self.fd, name, wanted, current, &mut applied);
        } else {
            match self.open_path(name, wanted.entry.kind, Action::Look) {
                Ok(fd) => metadata::apply_to_special(&self.fd, name, &fd, wanted, current, &mut applied),
                Err(error) => applied.problems.push(error),
            }
        }
        applied
    }

    /// Sets the metadata of the folder itself.
    pub fn apply_to_self(&self, wanted: &Wanted<'_>) -> Applied {
        let mut applied = Applied::default();
        match self.look_at_self() {
            Ok(existing) => metadata::apply_to_open(&self.fd, wanted, existing.current(), &mut applied),
            Err(error) => applied.problems.push(error),
        }
        applied
    }

    /// A handle that only names the thing, so that it cannot be exchanged for another between two calls.
    fn open_path(&self, name: &[u8], kind: EntryKind, action: Action) -> Result<OwnedFd, TargetError> {
        check_name(name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(&self.fd, name, flags, Mode::empty()).map_err(TargetError::failed(action))?;
        let stat = rustix::fs::fstat(&fd).map_err(TargetError::failed(action))?;
        if entry_kind(FileType::from_raw_mode(stat.st_mode)) == kind {
            Ok(fd)
        } else {
            Err(TargetError::Replaced)
        }
    }
}

impl Existing {
    /// What is known of it before its metadata is set.
    pub fn current(&self) -> Current {
        Current { owner: Some((self.uid, self.gid)), mode: Some(self.mode), may_have_xattrs: true }
    }

    /// Whether both are names of one file.
    pub fn is_same_file(&self, other: &Existing) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl TargetError {
    /// Whether the name was taken by something else.
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Failed { source, .. } => {
                TAKEN.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error()))
            }
            Self::Open { .. }
            | Self::BadName { .. }
            | Self::NoFolder { .. }
            | Self::MountPoint
            | Self::Replaced
            | Self::Metadata { .. } => false,
        }
    }

    /// Whether it failed because nothing is there.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Failed { source, .. } | Self::NoFolder { source } => {
                source.kind() == io::ErrorKind::NotFound
            }
            Self::Open { .. }
            | Self::BadName { .. }
            | Self::MountPoint
            | Self::Replaced
            | Self::Metadata { .. } => false,
        }
    }
}

/// The path under which the system shows an open handle of this process.
pub(super) fn handle_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

pub(super) fn set_mode_through(path: &str, mode: u16) -> Result<(), Errno> {
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode.into()), AtFlags::empty())
}

pub(super) fn existing_of(fd: impl AsFd) -> Result<Existing, TargetError> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, LOOK);
    Ok(existing(&stat.map_err(TargetError::failed(Action::Look))?))
}

fn existing(stat: &Statx) -> Existing {
    let mode = u32::from(stat.stx_mode);
    Existing {
        kind: entry_kind(FileType::from_raw_mode(mode)),
        mode: stat.stx_mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        mtime: Timestamp { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
        link_count: stat.stx_nlink,
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        special: (stat.stx_rdev_major, stat.stx_rdev_minor),
    }
}

fn entry_kind(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::RegularFile | FileType::Unknown => EntryKind::File,
    }
}
