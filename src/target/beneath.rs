//! Opening folders beneath the root, without ever following a link.
//!
//! The kernel does it in one call where it knows `openat2` (Linux 5.6); otherwise each name is opened by itself
//! with `O_NOFOLLOW`. A path longer than the system takes is opened in pieces, each relative to the one before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::path::TargetPath;
use super::{Folder, TargetError, TargetRoot};

/// Bytes of a path handed to the system at once; it takes 4,095 and the terminating NUL.
const PIECE_BYTES_MAX: usize = 4000;
/// A rename elsewhere makes `openat2` ask for another try; after so many the names are opened one by one.
const OPEN_TRIES_MAX: u32 = 16;

/// The folder that a thread used last, kept open. Each thread has its own.
///
/// Folders are visited in the order of the walk, so that the next one is often the same or lies below.
#[derive(Debug, Default)]
pub struct FolderCache {
    last: Option<(TargetPath, Folder)>,
}

impl FolderCache {
    /// A cache that holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the folder at `path`, which must exist, without following links below `root`.
    ///
    /// All calls on one cache must name the same root.
    pub fn folder(&mut self, root: &TargetRoot, path: &TargetPath) -> Result<&Folder, TargetError> {
        let is_same = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !is_same {
            let folder = match &self.last {
                Some((last, folder)) if let Some(below) = path.below(last) => {
                    root.open_below(folder.fd(), below)?
                }
                _ => root.open_below(root.fd.as_fd(), path.as_bytes())?,
            };
            self.last = Some((path.clone(), folder));
        }
        let (_, folder) = self.last.as_ref().expect("it was kept or set just now");
        Ok(folder)
    }

    /// Lets go of the folder, so that what is known of it is asked again.
    pub fn clear(&mut self) {
        self.last = None;
    }
}

impl TargetRoot {
    fn open_below(&self, start: BorrowedFd<'_>, path: &[u8]) -> Result<Folder, TargetError> {
        let error = |errno: Errno| TargetError::NoFolder { source: errno.into() };
        let mut held: Option<OwnedFd> = None;
        let mut rest = path;
        while let Some((piece, after)) = first_piece(rest) {
            let from = held.as_ref().map_or(start, AsFd::as_fd);
            // Only the last folder is read or changed; those on the way need no right but to pass through.
            let flags = if after.is_empty() { OFlags::RDONLY } else { OFlags::PATH };
            let next = match self.open_piece(from, piece, flags) {
                Err(Errno::ACCESS) if after.is_empty() => self.open_piece(from, piece, OFlags::PATH),
                other => other,
            };
            held = Some(next.map_err(error)?);
            rest = after;
        }
        let fd = match held {
            Some(fd) => fd,
            None => rustix::io::fcntl_dupfd_cloexec(start, 0).map_err(error)?,
        };
        Ok(Folder::new(fd, self.umask))
    }

    fn open_piece(&self, from: BorrowedFd<'_>, piece: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if self.has_openat2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            for _ in 0..OPEN_TRIES_MAX {
                match rustix::fs::openat2(from, piece, flags, Mode::empty(), resolve) {
                    Err(Errno::AGAIN) => {}
                    // Some sandboxes answer "not permitted" to calls that they do not know.
                    Err(Errno::NOSYS | Errno::PERM) => {
                        self.has_openat2.store(false, Ordering::Relaxed);
                        break;
                    }
                    other => return other,
                }
            }
        }
        open_name_by_name(from, piece, flags)
    }
}

fn open_name_by_name(from: BorrowedFd<'_>, piece: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let on_the_way = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut held: Option<OwnedFd> = None;
    let mut names = piece.split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::XDEV);
        }
        let flags = if names.peek().is_none() { flags } else { on_the_way };
        let next = rustix::fs::openat(held.as_ref().map_or(from, AsFd::as_fd), name, flags, Mode::empty())?;
        held = Some(next);
    }
    held.ok_or(Errno::NOENT)
}

/// Splits off as many names as the system takes at once, at least one.
fn first_piece(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    if path.len() <= PIECE_BYTES_MAX {
        return Some((path, &[]));
    }
    let is_slash = |byte: &u8| *byte == b'/';
    let head = path.get(..PIECE_BYTES_MAX)?;
    let cut = head.iter().rposition(is_slash).or_else(|| path.iter().position(is_slash));
    match cut {
        Some(cut) => Some((path.get(..cut)?, path.get(cut + 1..)?)),
        None => Some((path, &[])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_cut_between_names() {
        let path = vec![b"a".repeat(255); 40].join(&b'/');
        let mut rest = path.as_slice();
        let mut joined = Vec::new();
        while let Some((piece, after)) = first_piece(rest) {
            assert!(piece.len() <= PIECE_BYTES_MAX && !piece.is_empty());
            assert!(!piece.starts_with(b"/") && !piece.ends_with(b"/"));
            joined.push(piece.to_vec());
            rest = after;
        }
        assert!(joined.len() > 2);
        assert_eq!(joined.join(&b'/'), path);
        assert_eq!(first_piece(b""), None);
        let one_name = b"b".repeat(5000);
        assert_eq!(first_piece(&one_name), Some((&one_name[..], &[][..])));
    }
}
