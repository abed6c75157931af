//! One folder: what is in it, looked at and sorted.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, OFlags, RawDir, Statx};
use rustix::io::Errno;

use super::WalkOptions;
use super::excludes::{CACHE_TAG_NAME, CACHE_TAG_SIGNATURE, Excludes};
use super::extras::device_extension;
use super::folder::{FolderPath, device_of};
use super::open::{look_at, look_at_open, open_entry, retried};
use crate::clock::Timestamp;
use crate::event::Problem;
use crate::format::tree::{Content, Entry, EntryKind, tag};
use crate::wire::Bytes;

const NAMES_BUFFER_BYTES: usize = 64 << 10;
const NANOSECONDS_MAX: u32 = 999_999_999;

/// An entry as the walk found it.
#[derive(Debug, Clone)]
pub struct Found {
    /// What will be stored of it. The content holds link targets and device numbers only; for files and folders it
    /// is [`Content::None`]. The size is that of a file, 0 for the rest. Entries with several names carry
    /// [`tag::HARD_LINK`]; there are no other extensions yet.
    pub entry: Entry,
    /// The device that it is on.
    pub device: u64,
    /// Names that it has.
    pub link_count: u32,
    /// Bytes that it takes on its device; less than the size where a file has holes.
    pub allocated_bytes: u64,
}

const _: () = assert!(size_of::<Found>() <= 176);

/// What is in a folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// The entries, by strictly ascending bytes of their names.
    pub entries: Vec<Found>,
    /// Entries that could not be looked at, and are not among `entries`.
    pub problems: Vec<Problem>,
    /// How many entries were left out because they are excluded; nothing below them is counted.
    pub excluded: u64,
    /// What else was left out, and why: sentences for people.
    pub notes: Vec<String>,
}

impl Found {
    /// Makes an entry of what was seen of `name` in `folder`.
    pub(super) fn from_statx(folder: BorrowedFd<'_>, name: &[u8], stat: &Statx) -> io::Result<Found> {
        let kind = kind_of(stat).ok_or_else(|| io::Error::other("it is of a kind that does not exist"))?;
        let content = match kind {
            EntryKind::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
                Content::LinkTarget(Bytes::from(target.into_bytes()))
            }
            EntryKind::BlockDevice | EntryKind::CharDevice => {
                Content::Device(stat.stx_rdev_major, stat.stx_rdev_minor)
            }
            EntryKind::Directory | EntryKind::File | EntryKind::Fifo | EntryKind::Socket => Content::None,
        };
        let mut entry = Entry {
            name: Bytes::from(name),
            kind,
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: timestamp(&stat.stx_mtime),
            ctime: timestamp(&stat.stx_ctime),
            inode: stat.stx_ino,
            size: if kind == EntryKind::File { stat.stx_size } else { 0 },
            content,
            extensions: Vec::new(),
        };
        let device = device_of(stat);
        if stat.stx_nlink > 1 && kind != EntryKind::Directory {
            entry.set_extension(tag::HARD_LINK, device_extension(device));
        }
        Ok(Found {
            entry,
            device,
            link_count: stat.stx_nlink,
            allocated_bytes: stat.stx_blocks.saturating_mul(512),
        })
    }
}

fn kind_of(stat: &Statx) -> Option<EntryKind> {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Some(EntryKind::File),
        FileType::Directory => Some(EntryKind::Directory),
        FileType::Symlink => Some(EntryKind::Symlink),
        FileType::Fifo => Some(EntryKind::Fifo),
        FileType::Socket => Some(EntryKind::Socket),
        FileType::CharacterDevice => Some(EntryKind::CharDevice),
        FileType::BlockDevice => Some(EntryKind::BlockDevice),
        FileType::Unknown => None,
    }
}

/// A moment as the file system gave it. A damaged one may hold too many nanoseconds, which must not spoil the entry.
pub(super) fn timestamp(time: &rustix::fs::StatxTimestamp) -> Timestamp {
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec.min(NANOSECONDS_MAX) }
}

/// A name that the folder gave, not yet looked at.
#[derive(Debug, Clone, Copy)]
struct Seen {
    inode: u64,
    /// Where its bytes begin among the names.
    start: usize,
    /// Length with the NUL behind it.
    len: usize,
    kind: FileType,
}

/// Lists folders, one after another, with the same buffers.
pub(super) struct Lister {
    buffer: Box<[MaybeUninit<u8>]>,
    /// Names of the folder in hand, each with a NUL behind it.
    names: Vec<u8>,
    seen: Vec<Seen>,
    /// Path of an entry from the root, for the patterns.
    relative: Vec<u8>,
}

impl Lister {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![MaybeUninit::uninit(); NAMES_BUFFER_BYTES].into_boxed_slice(),
            names: Vec::new(),
            seen: Vec::new(),
            relative: Vec::new(),
        }
    }

    /// Lists `folder`. An error says that it could not be opened; whatever goes wrong later is a problem.
    pub(super) fn list(&mut self, folder: &FolderPath, options: &WalkOptions) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let root = folder.of_root();
        let is_root = folder.relative().is_empty();
        if is_root && options.skipped_folders.contains(&(root.device(), root.inode())) {
            listing.notes.push(skip_note(&folder.path()));
            return Ok(listing);
        }
        let open = folder.open(OFlags::RDONLY | OFlags::NOATIME)?;
        if options.one_file_system && !is_root {
            let stat = look_at_open(open.as_fd())?;
            if device_of(&stat) != root.device() {
                return Ok(listing);
            }
        }
        if let Err(error) = self.read_names(open.as_fd()) {
            let message = format!("the folder could not be read to its end: {}", io::Error::from(error));
            listing.problems.push(Problem { path: folder.path(), message });
        }
        self.keep_only_tag(open.as_fd(), &options.excludes, &mut listing);
        self.begin_relative(folder);
        // Neighbouring inodes share blocks on most file systems, so that a cold folder is read once, not at random.
        self.seen.sort_unstable_by_key(|seen| seen.inode);
        listing.entries.reserve_exact(self.seen.len());
        self.look_at_all(&open, folder, options, &mut listing);
        sort(&mut listing, folder);
        Ok(listing)
    }

    fn read_names(&mut self, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        self.names.clear();
        self.seen.clear();
        let mut entries = RawDir::new(folder, &mut self.buffer);
        loop {
            let entry = match entries.next() {
                None => return Ok(()),
                Some(Err(Errno::INTR)) => continue,
                Some(entry) => entry?,
            };
            let name = entry.file_name().to_bytes_with_nul();
            if matches!(name, b".\0" | b"..\0") {
                continue;
            }
            let (inode, kind) = (entry.ino(), entry.file_type());
            self.seen.push(Seen { inode, start: self.names.len(), len: name.len(), kind });
            self.names.extend_from_slice(name);
        }
    }

    /// In a folder that a tag marks, only the tag itself is kept.
    fn keep_only_tag(&mut self, folder: BorrowedFd<'_>, excludes: &Excludes, listing: &mut Listing) {
        if !excludes.caches && excludes.tag_names.is_empty() {
            return;
        }
        let Self { names, seen, .. } = self;
        let is_tag = |seen: &&Seen| {
            let name = name_of(names, seen).to_bytes();
            excludes.tag_names.iter().any(|tag| tag == name)
                || (excludes.caches && name == CACHE_TAG_NAME && is_cache_tag(folder))
        };
        if let Some(tag) = seen.iter().find(is_tag).copied() {
            listing.excluded += seen.len() as u64 - 1;
            seen.clear();
            seen.push(tag);
        }
    }

    fn begin_relative(&mut self, folder: &FolderPath) {
        self.relative.clear();
        if !folder.relative().is_empty() {
            self.relative.extend_from_slice(folder.relative());
            self.relative.push(b'/');
        }
    }

    fn look_at_all(
        &mut self,
        open: &OwnedFd,
        folder: &FolderPath,
        options: &WalkOptions,
        listing: &mut Listing,
    ) {
        let Self { names, seen, relative, .. } = self;
        let excludes = &options.excludes;
        let folder_len = relative.len();
        let mut matches = |name: &[u8], is_folder| {
            relative.truncate(folder_len);
            relative.extend_from_slice(name);
            excludes.has_patterns() && excludes.leaves_out(relative, is_folder)
        };
        for seen in seen.iter() {
            let name = name_of(names, seen);
            let bytes = name.to_bytes();
            // Most file systems tell the kind with the name, so that an excluded entry is not looked at at all.
            if seen.kind != FileType::Unknown && matches(bytes, seen.kind.is_dir()) {
                listing.excluded += 1;
                continue;
            }
            let found = match look_at_found(open.as_fd(), name) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) => {
                    listing.problems.push(Problem { path: folder.join(bytes), message: error.to_string() });
                    continue;
                }
            };
            let is_folder = found.entry.kind == EntryKind::Directory;
            if (seen.kind == FileType::Unknown && matches(bytes, is_folder))
                || excludes.leaves_out_size(found.entry.size)
            {
                listing.excluded += 1;
            } else if is_folder && options.skipped_folders.contains(&(found.device, found.entry.inode)) {
                listing.notes.push(skip_note(&folder.join(bytes)));
            } else {
                listing.entries.push(found);
            }
        }
    }
}

fn skip_note(path: &std::path::Path) -> String {
    format!("{} is left out: the repository or its cache is there", path.display())
}

fn name_of<'a>(names: &'a [u8], seen: &Seen) -> &'a CStr {
    let bytes = names.get(seen.start..seen.start + seen.len);
    bytes
        .and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok())
        .expect("names were stored with the NUL that ends them")
}

/// Looks at an entry; `None` if it has vanished.
fn look_at_found(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Found>> {
    if !Entry::name_is_good(name.to_bytes()) {
        return Err(io::Error::other("the name is damaged"));
    }
    let found = look_at(folder, name)
        .map_err(io::Error::from)
        .and_then(|stat| Found::from_statx(folder, name.to_bytes(), &stat));
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Whether the `CACHEDIR.TAG` of a folder is one: a plain file that begins with the signature.
fn is_cache_tag(folder: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOATIME;
    let Ok(file) = open_entry(folder, CACHE_TAG_NAME, flags) else {
        return false;
    };
    let mut head = [0; CACHE_TAG_SIGNATURE.len()];
    matches!(retried(|| rustix::io::pread(&file, &mut head, 0)), Ok(len) if len == head.len())
        && head == *CACHE_TAG_SIGNATURE
}

/// Sorts by name. Only a damaged folder names an entry twice; the second is then left out.
fn sort(listing: &mut Listing, folder: &FolderPath) {
    listing.entries.sort_unstable_by(|one, other| one.entry.name.cmp(&other.entry.name));
    let mut twice: Vec<PathBuf> = Vec::new();
    listing.entries.dedup_by(|later, first| {
        let is_twice = later.entry.name == first.entry.name;
        if is_twice {
            twice.push(folder.join(later.entry.name.as_slice()));
        }
        is_twice
    });
    let problem = |path| Problem { path, message: "the folder names it twice".to_owned() };
    listing.problems.extend(twice.into_iter().map(problem));
}
