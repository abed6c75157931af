//! Setting owner, permissions, extended attributes, times and inode flags.
//!
//! The order matters. Changing the owner clears set-user-id bits and capabilities, so it comes first. An attribute
//! can be set only while the file may be written, and an ACL touches the permission bits, so the mode comes after
//! them. Then the time, and last the flags, because an immutable file takes nothing more.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, IFlags, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::folder::{handle_path, set_mode_through};
use super::{Action, TargetError};
use crate::format::tree::{Entry, Xattr, XattrSet, tag};
use crate::limits;
use crate::wire;

/// The metadata that something in the target shall have.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'e> {
    /// As the snapshot has it.
    pub entry: &'e Entry,
    /// User and group on this computer, if they are to be set.
    pub owner: Option<(u32, u32)>,
    /// Whether the time of the last change is to be set. A file that is not what it should be keeps the present, so
    /// that nobody takes it for the stored one.
    pub with_time: bool,
}

/// What is known of something before its metadata is set; what is right already is not set again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// User and group, if known.
    pub owner: Option<(u32, u32)>,
    /// Permission bits, if known.
    pub mode: Option<u16>,
    /// Whether there may be attributes that the snapshot does not have.
    pub may_have_xattrs: bool,
}

impl Current {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { owner: None, mode: None, may_have_xattrs: true };
    /// A new entry of which nothing was asked.
    pub const FRESH: Self = Self { owner: None, mode: None, may_have_xattrs: false };
}

/// What came of setting metadata. What this user or this file system cannot do at all is kept apart from
/// problems: it would be the same for every file.
#[derive(Debug, Default)]
pub struct Applied {
    /// This user may not give files away.
    pub owner_refused: bool,
    /// Some attributes are not for this user or this file system.
    pub xattrs_refused: bool,
    /// The file system does not know these inode flags, or this user may not set them.
    pub flags_refused: bool,
    /// What should have worked.
    pub problems: Vec<TargetError>,
}

impl Applied {
    fn problem(&mut self, action: Action, errno: Errno) {
        self.problems.push(TargetError::failed(action)(errno));
    }
}

/// Flags that a person can set. The others describe how the file system keeps the file.
pub(super) const FLAGS_SETTABLE: IFlags = IFlags::APPEND
    .union(IFlags::COMPRESSED)
    .union(IFlags::DIRSYNC)
    .union(IFlags::IMMUTABLE)
    .union(IFlags::JOURNALING)
    .union(IFlags::NOATIME)
    .union(IFlags::NOCOW)
    .union(IFlags::NODUMP)
    .union(IFlags::NOTAIL)
    .union(IFlags::PROJECT_INHERIT)
    .union(IFlags::SECURE_REMOVAL)
    .union(IFlags::SYNC)
    .union(IFlags::TOPDIR)
    .union(IFlags::UNRM);
/// Flags that must be set before anything is written.
const FLAGS_EARLY: IFlags = IFlags::NOCOW.union(IFlags::COMPRESSED);

/// Extended attributes that a restore takes away where the snapshot does not have them. The rest, such as
/// `security.selinux`, belongs to this computer.
pub(super) const XATTRS_REMOVED: [&[u8]; 4] =
    [b"user.", b"system.posix_acl_", b"security.capability", b"trusted."];
const XATTR_LIST_BYTES_MAX: usize = 64 << 10;
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Sets everything on an open file or folder.
pub(super) fn apply_to_open(fd: impl AsFd, wanted: &Wanted<'_>, current: Current, applied: &mut Applied) {
    let fd = fd.as_fd();
    let mut mode = current.mode;
    if let Some((user, group)) = wanted.owner.filter(|owner| current.owner != Some(*owner)) {
        let changed = rustix::fs::fchown(fd, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        note_owner(changed, &mut mode, applied);
    }
    if apply_xattrs(&XattrPlace::Open(fd), wanted.entry, current, applied) {
        mode = None;
    }
    if mode != Some(wanted.entry.mode) {
        let set = rustix::fs::fchmod(fd, Mode::from_raw_mode(wanted.entry.mode.into()));
        set.unwrap_or_else(|errno| applied.problem(Action::SetMode, errno));
    }
    if wanted.with_time {
        let set = rustix::fs::futimens(fd, &times(wanted.entry));
        set.unwrap_or_else(|errno| applied.problem(Action::SetTime, errno));
    }
    apply_flags(fd, wanted.entry, applied);
}

/// Sets what a symbolic link can have: owner, attributes, time.
pub(super) fn apply_to_symlink(
    folder: &OwnedFd,
    name: &[u8],
    wanted: &Wanted<'_>,
    current: Current,
    applied: &mut Applied,
) {
    let mut mode = None;
    apply_owner_to_name(folder, name, wanted, current, &mut mode, applied);
    apply_xattrs(&XattrPlace::named(folder, name), wanted.entry, current, applied);
    apply_time_to_name(folder, name, wanted, applied);
}

/// Sets everything on a device, named pipe or socket; `fd` only names it.
pub(super) fn apply_to_special(
    folder: &OwnedFd,
    name: &[u8],
    fd: &OwnedFd,
    wanted: &Wanted<'_>,
    current: Current,
    applied: &mut Applied,
) {
    let mut mode = current.mode;
    apply_owner_to_name(folder, name, wanted, current, &mut mode, applied);
    if apply_xattrs(&XattrPlace::named(folder, name), wanted.entry, current, applied) {
        mode = None;
    }
    if mode != Some(wanted.entry.mode)
        && let Err(error) = set_mode_of_path(fd, wanted.entry.mode)
    {
        applied.problems.push(error);
    }
    apply_time_to_name(folder, name, wanted, applied);
}

/// Sets the permissions of what a path-only handle names. It must not be a symbolic link.
pub(super) fn set_mode_of_path(fd: &OwnedFd, mode: u16) -> Result<(), TargetError> {
    set_mode_through(&handle_path(fd), mode).map_err(TargetError::failed(Action::SetMode))
}

fn apply_owner_to_name(
    folder: &OwnedFd,
    name: &[u8],
    wanted: &Wanted<'_>,
    current: Current,
    mode: &mut Option<u16>,
    applied: &mut Applied,
) {
    if let Some((user, group)) = wanted.owner.filter(|owner| current.owner != Some(*owner)) {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        let changed = rustix::fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW);
        note_owner(changed, mode, applied);
    }
}

fn apply_time_to_name(folder: &OwnedFd, name: &[u8], wanted: &Wanted<'_>, applied: &mut Applied) {
    if wanted.with_time {
        let set = rustix::fs::utimensat(folder, name, &times(wanted.entry), AtFlags::SYMLINK_NOFOLLOW);
        set.unwrap_or_else(|errno| applied.problem(Action::SetTime, errno));
    }
}

fn note_owner(changed: Result<(), Errno>, mode: &mut Option<u16>, applied: &mut Applied) {
    match changed {
        // A new owner may have cost the set-user-id bits.
        Ok(()) => *mode = mode.filter(|mode| mode & 0o7000 == 0),
        // INVAL: a number that this user namespace does not know.
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => applied.owner_refused = true,
        Err(errno) => applied.problem(Action::SetOwner, errno),
    }
}

fn times(entry: &Entry) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let mtime = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
    Timestamps { last_access: omit, last_modification: mtime }
}

/// Flags that only work on an empty file are set at once. Failing shows when all flags are set.
pub(super) fn prepare_flags(fd: impl AsFd, wanted: &Wanted<'_>) {
    let Ok(Some(flags)) = stored_flags(wanted.entry) else { return };
    let early = flags & FLAGS_EARLY;
    if !early.is_empty()
        && let Ok(now) = rustix::fs::ioctl_getflags(&fd)
    {
        let _ = rustix::fs::ioctl_setflags(&fd, now | early);
    }
}

pub(super) fn stored_flags(entry: &Entry) -> Result<Option<IFlags>, TargetError> {
    let Some(bytes) = entry.extension(tag::INODE_FLAGS) else { return Ok(None) };
    let flags = wire::decode::<FlagBits>(bytes, limits::EXTENSIONS_BYTES_MAX);
    let FlagBits(bits) = flags.map_err(|source| TargetError::Metadata { source })?;
    let flags = IFlags::from_bits_retain(bits) & FLAGS_SETTABLE;
    Ok((!flags.is_empty()).then_some(flags))
}

#[derive(serde::Deserialize)]
struct FlagBits(u32);

impl wire::Validate for FlagBits {
    fn validate(&self) -> Result<(), wire::WireError> {
        Ok(())
    }
}

fn apply_flags(fd: impl AsFd, entry: &Entry, applied: &mut Applied) {
    let flags = match stored_flags(entry) {
        Ok(Some(flags)) => flags,
        Ok(None) => return,
        Err(error) => return applied.problems.push(error),
    };
    let set = rustix::fs::ioctl_getflags(&fd).and_then(|now| {
        let all = (now - FLAGS_SETTABLE) | flags;
        if all == now { Ok(()) } else { rustix::fs::ioctl_setflags(&fd, all) }
    });
    match set {
        Ok(()) => {}
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => applied.flags_refused = true,
        Err(errno) => applied.problem(Action::SetFlags, errno),
    }
}

/// Where extended attributes are set.
pub(super) enum XattrPlace<'f> {
    /// An open file or folder.
    Open(std::os::fd::BorrowedFd<'f>),
    /// A name in an open folder, as a path through the handle. Its last name is not followed.
    Named(Vec<u8>),
}

impl XattrPlace<'_> {
    pub(super) fn named(folder: impl AsFd, name: &[u8]) -> Self {
        let mut path = handle_path(folder).into_bytes();
        path.push(b'/');
        path.extend_from_slice(name);
        Self::Named(path)
    }

    /// Attributes can be changed only by who may write. An owner who may not gives himself the right; true if he
    /// had to, so that the mode is set again.
    fn change(&self, change: impl Fn() -> Result<(), Errno>, applied: &mut Applied) -> bool {
        match (change(), self) {
            (Err(Errno::ACCESS), Self::Open(fd)) if rustix::fs::fchmod(fd, Mode::RWXU).is_ok() => {
                note_xattr(change(), applied);
                true
            }
            (changed, _) => {
                note_xattr(changed, applied);
                false
            }
        }
    }

    fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Named(path) => rustix::fs::lsetxattr(path.as_slice(), name, value, XattrFlags::empty()),
        }
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Named(path) => rustix::fs::lremovexattr(path.as_slice(), name),
        }
    }

    /// Names of all attributes; none where the file system has no attributes.
    pub(super) fn list(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut buffer = vec![0u8; 1024];
        loop {
            let listed = match self {
                Self::Open(fd) => rustix::fs::flistxattr(fd, buffer.as_mut_slice()),
                Self::Named(path) => rustix::fs::llistxattr(path.as_slice(), buffer.as_mut_slice()),
            };
            match listed {
                Ok(len) => {
                    let names = buffer.get(..len).unwrap_or_default().split(|byte| *byte == 0);
                    return Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect());
                }
                Err(Errno::RANGE) if buffer.len() < XATTR_LIST_BYTES_MAX => {
                    buffer.resize(XATTR_LIST_BYTES_MAX, 0)
                }
                Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
                Err(errno) => return Err(errno),
            }
        }
    }

    pub(super) fn has(&self, xattr: &Xattr) -> bool {
        // One byte more than expected, so that a longer value is not taken for equal.
        let mut value = vec![0u8; xattr.value.as_slice().len() + 1];
        let name = xattr.name.as_slice();
        let got = match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, value.as_mut_slice()),
            Self::Named(path) => rustix::fs::lgetxattr(path.as_slice(), name, value.as_mut_slice()),
        };
        got.is_ok_and(|len| value.get(..len) == Some(xattr.value.as_slice()))
    }
}

/// Sets and removes attributes until they are those of the snapshot. Returns whether that
/// touched the permissions, as an ACL does.
fn apply_xattrs(place: &XattrPlace<'_>, entry: &Entry, current: Current, applied: &mut Applied) -> bool {
    let set = match entry.extension(tag::XATTRS) {
        Some(bytes) => match wire::decode::<XattrSet>(bytes, limits::EXTENSIONS_BYTES_MAX) {
            Ok(set) => set,
            Err(source) => {
                applied.problems.push(TargetError::Metadata { source });
                return false;
            }
        },
        None if !current.may_have_xattrs => return false,
        None => XattrSet::default(),
    };
    let mut touched_mode = false;
    if current.may_have_xattrs {
        touched_mode |= remove_other_xattrs(place, &set, applied);
    }
    for xattr in &set.xattrs {
        if current.may_have_xattrs && place.has(xattr) {
            continue;
        }
        touched_mode |= is_acl(xattr.name.as_slice());
        let set = || place.set(xattr.name.as_slice(), xattr.value.as_slice());
        touched_mode |= place.change(set, applied);
    }
    touched_mode
}

fn remove_other_xattrs(place: &XattrPlace<'_>, set: &XattrSet, applied: &mut Applied) -> bool {
    let names = match place.list() {
        Ok(names) => names,
        Err(errno) => {
            applied.problem(Action::SetXattr, errno);
            return false;
        }
    };
    let mut touched_mode = false;
    for name in names {
        let is_wanted = set.xattrs.iter().any(|xattr| xattr.name.as_slice() == name);
        if !is_wanted && XATTRS_REMOVED.iter().any(|prefix| name.starts_with(prefix)) {
            touched_mode |= is_acl(&name);
            touched_mode |= place.change(|| place.remove(&name), applied);
        }
    }
    touched_mode
}

fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

fn note_xattr(done: Result<(), Errno>, applied: &mut Applied) {
    match done {
        Ok(()) | Err(Errno::NODATA) => {}
        Err(Errno::OPNOTSUPP | Errno::PERM) => applied.xattrs_refused = true,
        Err(errno) => applied.problem(Action::SetXattr, errno),
    }
}

/// Whether new entries of the folder inherit an ACL.
pub(super) fn has_default_acl(fd: &OwnedFd) -> bool {
    let mut empty: [u8; 0] = [];
    match rustix::fs::fgetxattr(fd, DEFAULT_ACL, &mut empty) {
        Ok(len) => len > 0,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
        Err(Errno::RANGE) => true,
        // A handle that only names the folder cannot be asked (BADF), but through its path it can.
        Err(_) => match rustix::fs::getxattr(handle_path(fd), DEFAULT_ACL, &mut empty) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
            Ok(_) | Err(_) => true,
        },
    }
}

const _: () = assert!(FLAGS_SETTABLE.contains(FLAGS_EARLY));
