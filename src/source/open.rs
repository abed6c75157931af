//! Opening by relative path, of any length, without following links.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// The kernel takes paths of at most 4095 bytes; longer ones are opened piece by piece.
const PIECE_BYTES_MAX: usize = 4000;

/// A folder that is only passed through.
const PASSAGE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Set once the kernel, or a filter in front of it, does not know `openat2`.
static OPENAT2_IS_MISSING: AtomicBool = AtomicBool::new(false);

/// Opens `relative`, whose parts are joined by `/`, below `top`; empty is `top` itself.
///
/// No part may be a symbolic link, the last one included. `flags` may hold `NOATIME`, which is dropped where it is
/// not allowed.
pub(super) fn open_below(top: BorrowedFd<'_>, relative: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut passed = None;
    let mut rest = relative;
    loop {
        let (piece, behind) = split_piece(rest);
        let from = passed.as_ref().map_or(top, OwnedFd::as_fd);
        if behind.is_empty() {
            return without_atime(flags, |flags| open_piece(from, piece, flags)).map_err(io::Error::from);
        }
        passed = Some(open_piece(from, piece, PASSAGE | OFlags::NOFOLLOW)?);
        rest = behind;
    }
}

/// Opens an absolute path of any length. Links are followed, but for the last part when `flags` say so.
pub(super) fn open_absolute(path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let mut passed: Option<OwnedFd> = None;
    let mut rest = path;
    loop {
        let (piece, behind) = split_piece(rest);
        let from = passed.as_ref().map_or(rustix::fs::CWD, OwnedFd::as_fd);
        if behind.is_empty() {
            return Ok(rustix::fs::openat(from, piece, flags | OFlags::CLOEXEC, Mode::empty())?);
        }
        passed = Some(rustix::fs::openat(from, piece, PASSAGE, Mode::empty())?);
        rest = behind;
    }
}

/// Opens the entry `name` of `folder`; it is not followed if it is a link.
pub(super) fn open_entry(folder: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    without_atime(flags, |flags| retried(|| rustix::fs::openat(folder, name, flags, Mode::empty())))
}

/// Looks at the entry `name` of `folder` without following it and without mounting anything.
pub(super) fn look_at(folder: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS)
}

/// Looks at what is open.
pub(super) fn look_at_open(file: BorrowedFd<'_>) -> rustix::io::Result<Statx> {
    rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// Calls again what a signal interrupted.
pub(super) fn retried<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

/// `NOATIME` is allowed to the owner of a file and to root; for others it is left out.
fn without_atime<T>(
    flags: OFlags,
    mut open: impl FnMut(OFlags) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match open(flags) {
        Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => open(flags - OFlags::NOATIME),
        outcome => outcome,
    }
}

/// Splits off as many parts as the kernel takes at once.
fn split_piece(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= PIECE_BYTES_MAX {
        return (path, &[]);
    }
    let (head, _) = path.split_at_checked(PIECE_BYTES_MAX).unwrap_or((path, &[]));
    // Never at a leading slash: the empty piece before it would name the current folder.
    let cut = match head.iter().rposition(|&byte| byte == b'/') {
        Some(at) if at > 0 => Some(at),
        Some(_) | None => path.iter().skip(1).position(|&byte| byte == b'/').map(|at| at + 1),
    };
    let parts = cut.and_then(|at| Some((path.get(..at)?, path.get(at + 1..)?)));
    parts.unwrap_or((path, &[]))
}

fn open_piece(from: BorrowedFd<'_>, piece: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    if !OPENAT2_IS_MISSING.load(Ordering::Relaxed) {
        let path = if piece.is_empty() { &b"."[..] } else { piece };
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        match retried(|| rustix::fs::openat2(from, path, flags, Mode::empty(), resolve)) {
            Err(Errno::NOSYS) => OPENAT2_IS_MISSING.store(true, Ordering::Relaxed),
            // Old container filters refuse calls that they do not know in this way.
            Err(Errno::PERM) if !flags.contains(OFlags::NOATIME) => {}
            outcome => return outcome,
        }
    }
    open_part_by_part(from, piece, flags)
}

/// What `openat2` does in one call, for systems without it.
fn open_part_by_part(from: BorrowedFd<'_>, piece: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut passed: Option<OwnedFd> = None;
    let mut parts = piece.split(|&byte| byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let from = passed.as_ref().map_or(from, OwnedFd::as_fd);
        let part = if part.is_empty() { &b"."[..] } else { part };
        let is_last = parts.peek().is_none();
        let flags = if is_last { flags } else { PASSAGE | OFlags::NOFOLLOW };
        let opened = retried(|| rustix::fs::openat(from, part, flags, Mode::empty()))?;
        if is_last {
            return Ok(opened);
        }
        passed = Some(opened);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_cut_between_parts_and_loses_nothing() {
        for part_len in [1, 7, 255, 3999, 4000, 4001, 9000] {
            let part = vec![b'x'; part_len];
            let path = vec![part; 20_000 / part_len + 2].join(&b'/');
            for path in [path.clone(), [b"/".to_vec(), path].concat()] {
                let mut pieces = Vec::new();
                let mut rest = path.as_slice();
                while !rest.is_empty() {
                    let (piece, behind) = split_piece(rest);
                    assert!(!piece.is_empty());
                    assert!(piece.len() <= PIECE_BYTES_MAX.max(part_len + 1));
                    pieces.push(piece);
                    rest = behind;
                }
                assert_eq!(pieces.join(&b'/'), path);
            }
        }
    }

    #[test]
    fn without_openat2_links_are_not_followed_either() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", place.path().join("link")).unwrap();
        let top = std::fs::File::open(place.path()).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for open in [open_piece, open_part_by_part] {
            assert!(open(top.as_fd(), b"a/b", flags).is_ok());
            assert!(open(top.as_fd(), b"", flags).is_ok());
            assert!(open(top.as_fd(), b"link", flags).is_err());
            assert!(open(top.as_fd(), b"link/b", flags).is_err());
        }
    }
}
