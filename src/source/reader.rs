//! Reading files: their bytes, and what only an open file tells.

use std::ffi::CString;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Advice, FileType, OFlags, Statx};
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags};

use super::extras::{ExtrasError, Holder, add_inode_flags, add_xattrs, note};
use super::folder::FolderPath;
use super::listing::timestamp;
use super::open::{look_at_open, open_entry, retried};
use super::sparse;
use crate::clock::Timestamp;
use crate::format::tree::{Entry, EntryKind, SparseMap};

/// From this size upwards a file is not left behind in the page cache.
const LARGE_FILE_BYTES_MIN: u64 = 1 << 20;
/// From this size upwards it is looked into at several places to learn whether it is in the page cache.
const PROBED_FILE_BYTES_MIN: u64 = 16 << 20;
/// How much is read at once. The piece is zeroed before it is read into, which costs next to nothing as long as it
/// stays in the processor's cache.
const PIECE_BYTES: usize = 256 << 10;
/// How much is asked for where the end of the file is expected.
const GROWTH_BYTES: u64 = 4 << 10;
/// How far to read before the kernel is asked to drop the pages behind. A multiple of the largest unit in which the
/// kernel caches, because it drops whole units only.
const DROP_STEP_BYTES: u64 = 8 << 20;

/// What a file is at one moment, and what tells whether it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u16,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of content or metadata.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Bytes that it takes on its device. Not compared: a file system may change it without touching the file.
    pub allocated_bytes: u64,
}

impl Stamp {
    fn from_statx(stat: &Statx) -> Stamp {
        Stamp {
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            mtime: timestamp(&stat.stx_mtime),
            ctime: timestamp(&stat.stx_ctime),
            inode: stat.stx_ino,
            allocated_bytes: stat.stx_blocks.saturating_mul(512),
        }
    }

    /// Whether the file is still as it was when `entry` was made of it.
    pub fn same_as(&self, entry: &Entry) -> bool {
        (self.mode, self.uid, self.gid) == (entry.mode, entry.uid, entry.gid)
            && (self.size, self.mtime, self.ctime, self.inode)
                == (entry.size, entry.mtime, entry.ctime, entry.inode)
    }
}

/// Opens files. Keeps the folder of the last one open, so that its neighbours cost one call each.
#[derive(Debug, Default)]
pub struct FolderReader {
    open: Option<(FolderPath, OwnedFd)>,
}

impl FolderReader {
    /// A reader that is in no folder yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the file `name` of `folder` for reading.
    ///
    /// Never follows a link and never blocks: what is not a regular file any more is an error.
    pub fn open_file(&mut self, folder: &FolderPath, name: &[u8]) -> io::Result<SourceFile> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME;
        let file = match open_entry(self.folder(folder)?, name, flags) {
            // A link has taken its place. The words of the system speak of too many links.
            Err(Errno::LOOP) => return Err(not_a_file()),
            opened => opened?,
        };
        let stat = look_at_open(file.as_fd())?;
        if !FileType::from_raw_mode(stat.stx_mode.into()).is_file() {
            return Err(not_a_file());
        }
        let opened = Stamp::from_statx(&stat);
        let is_dropped = opened.size >= LARGE_FILE_BYTES_MIN && !is_in_use(file.as_fd(), opened.size);
        let cache = if is_dropped { Cache::DropBehind } else { Cache::Keep };
        Ok(SourceFile { file, opened, offset: 0, cache, dropped_to: 0 })
    }

    /// Adds to `entry`, which lies in `folder`, its extended attributes and, if it is a folder, its inode flags.
    ///
    /// For everything that is not opened to be read: folders, links, empty files, devices. Follows no link.
    pub fn read_extras(&mut self, folder: &FolderPath, entry: &mut Entry) -> Result<(), ExtrasError> {
        let opened = match entry.kind {
            EntryKind::Directory => self.read_folder_entry(folder, entry),
            EntryKind::File
            | EntryKind::Symlink
            | EntryKind::BlockDevice
            | EntryKind::CharDevice
            | EntryKind::Fifo
            | EntryKind::Socket => self.read_closed_entry(folder, entry),
        };
        opened.unwrap_or_else(|source| Err(note(entry, ExtrasError::Unopened { source })))
    }

    /// Adds to `entry` the extended attributes and inode flags of `folder` itself.
    pub fn read_folder_extras(&mut self, folder: &FolderPath, entry: &mut Entry) -> Result<(), ExtrasError> {
        match folder.open(OFlags::RDONLY | OFlags::NOATIME) {
            Ok(open) => read_open_extras(open.as_fd(), entry),
            Err(source) => Err(note(entry, ExtrasError::Unopened { source })),
        }
    }

    fn read_folder_entry(
        &mut self,
        folder: &FolderPath,
        entry: &mut Entry,
    ) -> io::Result<Result<(), ExtrasError>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
        let open = open_entry(self.folder(folder)?, entry.name.as_slice(), flags)?;
        Ok(read_open_extras(open.as_fd(), entry))
    }

    /// Attributes of a link or device cannot be asked for by descriptor. The way through `/proc` leads to the folder
    /// that is open, whatever has happened to its path since.
    fn read_closed_entry(
        &mut self,
        folder: &FolderPath,
        entry: &mut Entry,
    ) -> io::Result<Result<(), ExtrasError>> {
        let folder = self.folder(folder)?;
        let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
        path.extend_from_slice(entry.name.as_slice());
        Ok(add_xattrs(entry, &Holder::Path(&CString::new(path)?)))
    }

    fn folder(&mut self, folder: &FolderPath) -> io::Result<BorrowedFd<'_>> {
        if !self.open.as_ref().is_some_and(|(open, _)| open.is(folder)) {
            // The old one is closed first: there is never more than one.
            self.open = None;
            self.open = Some((folder.clone(), folder.open(OFlags::PATH)?));
        }
        let (_, open) = self.open.as_ref().expect("it was opened above");
        Ok(open.as_fd())
    }
}

fn not_a_file() -> io::Error {
    io::Error::other("it is not a regular file any more")
}

fn read_open_extras(open: BorrowedFd<'_>, entry: &mut Entry) -> Result<(), ExtrasError> {
    add_inode_flags(entry, open);
    add_xattrs(entry, &Holder::Open(open))
}

/// How reading treats the page cache.
///
/// Linux 6.14 can read without leaving anything there (`RWF_DONTCACHE`), but drops all of the unit that it cached
/// after any read from it: reading in pieces below 2 MiB then reads everything several times. Dropping behind costs
/// nothing, if only it spares what others have in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// As any read: the file is small, or others have it in use.
    Keep,
    /// What was read is given back.
    DropBehind,
}

/// Whether a part of the file is in the page cache before we read it. Where this cannot be told it is not.
fn is_in_use(file: BorrowedFd<'_>, size: u64) -> bool {
    let probe = |offset| {
        let mut byte = [0];
        let read =
            rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
        matches!(read, Ok(1))
    };
    if size < PROBED_FILE_BYTES_MIN {
        return probe(0);
    }
    // The kernel may begin to read what it does not have: a single page, where it expects nothing to follow.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Random);
    let in_use = probe(size / 3) || probe(size / 3 * 2);
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Normal);
    in_use
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct SourceFile {
    file: OwnedFd,
    opened: Stamp,
    offset: u64,
    cache: Cache,
    /// Pages up to here have been given back.
    dropped_to: u64,
}

impl SourceFile {
    /// What the file was when it was opened.
    pub fn opened(&self) -> &Stamp {
        &self.opened
    }

    /// What the file is now.
    pub fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp::from_statx(&look_at_open(self.file.as_fd())?))
    }

    /// Adds extended attributes and inode flags to `entry`.
    pub fn read_extras(&self, entry: &mut Entry) -> Result<(), ExtrasError> {
        read_open_extras(self.file.as_fd(), entry)
    }

    /// Appends at most `max` of the next bytes to `buffer`, and says how many; 0 is the end of the file.
    ///
    /// Fewer than `max` may come anywhere in the file. After an error the buffer is as before.
    pub fn read_into(&mut self, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        let start = buffer.len();
        let mut total = 0;
        while total < max {
            let wanted = self.piece_len().min(max - total);
            match self.read_piece(buffer, wanted) {
                Ok(len) => {
                    total += len;
                    if len < wanted {
                        break;
                    }
                }
                // What was read before the error is good; the next call meets it again.
                Err(_) if total > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        debug_assert_eq!(buffer.len(), start + total);
        let step_end = self.offset - self.offset % DROP_STEP_BYTES;
        if self.cache == Cache::DropBehind && step_end > self.dropped_to {
            self.drop_behind(step_end);
        }
        Ok(total)
    }

    /// Continues at `offset`, counted from the start of the file.
    pub fn seek_to(&mut self, offset: u64) {
        self.offset = offset;
        self.dropped_to = offset - offset % DROP_STEP_BYTES;
    }

    /// The holes of the first `size` bytes. Does not move the place where reading goes on.
    pub fn sparse_map(&self, size: u64) -> io::Result<SparseMap> {
        sparse::sparse_map(self.file.as_fd(), size)
    }

    /// Tells the kernel that the file will be read from start to end, so that it reads further ahead.
    pub fn advise_sequential(&self) {
        // Only advice: a file system that does not take it reads as well as it can.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Sequential);
    }

    /// How much to ask for at once: what is left of the file, as far as it is known, but not more than a piece.
    fn piece_len(&self) -> usize {
        let left = self.opened.size.saturating_sub(self.offset);
        // Behind the end that it had, a file that grows is read in small steps.
        let left = if left == 0 { GROWTH_BYTES } else { left };
        usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES)
    }

    fn read_piece(&mut self, buffer: &mut Vec<u8>, wanted: usize) -> rustix::io::Result<usize> {
        let start = buffer.len();
        buffer.resize(start + wanted, 0);
        let piece = buffer.get_mut(start..).unwrap_or_default();
        let read = retried(|| rustix::io::pread(&self.file, &mut *piece, self.offset));
        let len = *read.as_ref().unwrap_or(&0);
        buffer.truncate(start + len);
        self.offset = self.offset.saturating_add(len as u64);
        read
    }

    /// Gives back the pages up to `end`.
    fn drop_behind(&mut self, end: u64) {
        if let Some(len) = NonZeroU64::new(end.saturating_sub(self.dropped_to)) {
            // Only advice: pages that stay do no harm.
            let _ = rustix::fs::fadvise(&self.file, self.dropped_to, Some(len), Advice::DontNeed);
            self.dropped_to = end;
        }
    }
}

impl Drop for SourceFile {
    fn drop(&mut self) {
        if self.cache == Cache::DropBehind {
            self.drop_behind(self.offset);
        }
    }
}

#[cfg(test)]
mod tests;
