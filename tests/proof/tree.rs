//! The naive model: everything that is known of a tree, once as the disk shows it, once as a snapshot does.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use kluis::format::snapshot::Snapshot;
use kluis::format::tree::{Content, Entry, EntryKind, SparseMap, XattrSet, tag};
use kluis::id::NodeId;
use kluis::limits;
use kluis::repo::{Repo, RepoError, TreeReader};
use kluis::wire;

/// A tree by path below its root; the root itself is the empty path.
pub type Tree = BTreeMap<Vec<u8>, Seen>;

/// What was seen of one file, folder, link or device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: EntryKind,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    pub ctime: (i64, i64),
    pub inode: u64,
    /// Length of a file and the hash of its bytes; nothing for the rest.
    pub bytes: Option<(u64, blake3::Hash)>,
    pub link_target: Option<Vec<u8>>,
    pub device: Option<(u32, u32)>,
    /// The device that an entry with several names is on; the inode is the other half of the group.
    pub hard_link: Option<u64>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What could not be kept of it.
    pub problem: Option<String>,
}

/// Walks the disk. What is larger than memory must not be in the tree.
pub fn capture(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let seen = look(&path);
        if seen.kind == EntryKind::Directory {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let below = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        tree.insert(below, seen);
    }
    tree
}

fn look(path: &Path) -> Seen {
    let stat = fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let kind = match () {
        () if kind.is_dir() => EntryKind::Directory,
        () if kind.is_file() => EntryKind::File,
        () if kind.is_symlink() => EntryKind::Symlink,
        () if kind.is_block_device() => EntryKind::BlockDevice,
        () if kind.is_char_device() => EntryKind::CharDevice,
        () if kind.is_fifo() => EntryKind::Fifo,
        () => EntryKind::Socket,
    };
    let is_device = matches!(kind, EntryKind::BlockDevice | EntryKind::CharDevice);
    let has_names = stat.nlink() > 1 && kind != EntryKind::Directory;
    Seen {
        kind,
        mode: stat.mode() & 0o7777,
        owner: (stat.uid(), stat.gid()),
        mtime: (stat.mtime(), stat.mtime_nsec()),
        ctime: (stat.ctime(), stat.ctime_nsec()),
        inode: stat.ino(),
        bytes: (kind == EntryKind::File).then(|| hashed(&fs::read(path).unwrap())),
        link_target: (kind == EntryKind::Symlink)
            .then(|| fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()),
        device: is_device.then(|| (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()))),
        hard_link: has_names.then(|| stat.dev()),
        xattrs: xattrs(path),
        problem: None,
    }
}

fn hashed(bytes: &[u8]) -> (u64, blake3::Hash) {
    (bytes.len() as u64, blake3::hash(bytes))
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut found = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let name = CString::new(name).unwrap();
        let len = rustix::fs::lgetxattr(path, &name, &mut value[..]).unwrap();
        value.truncate(len);
        found.insert(name.into_bytes(), value);
    }
    found
}

/// Reads what a snapshot holds at and below `root`: every folder, every chunk, all metadata.
pub fn read_snapshot(repo: &Arc<Repo>, snapshot: &Snapshot, root: &Path) -> Tree {
    let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
    let parts: Vec<_> = root.as_os_str().as_bytes().split(|byte| *byte == b'/').collect();
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let top = reader.resolve(snapshot.root, &parts).unwrap().expect("the path names an entry");
    let mut tree = Tree::new();
    let mut open = vec![(Vec::new(), top)];
    while let Some((path, entry)) = open.pop() {
        if let Content::Directory(id) = entry.content {
            for below in read_folder(&reader, id) {
                let name = below.name.as_slice();
                let path = if path.is_empty() { name.to_vec() } else { [&path, name].join(&b'/') };
                open.push((path, below));
            }
        }
        tree.insert(path, seen_of(&reader, &entry));
    }
    tree
}

fn read_folder(reader: &TreeReader, id: NodeId) -> Vec<Entry> {
    reader.directory(id).collect::<Result<_, _>>().unwrap()
}

fn seen_of(reader: &TreeReader, entry: &Entry) -> Seen {
    let is_file = entry.kind == EntryKind::File;
    let time = |time: kluis::clock::Timestamp| (time.seconds, i64::from(time.nanoseconds));
    Seen {
        kind: entry.kind,
        mode: entry.mode.into(),
        owner: (entry.uid, entry.gid),
        mtime: time(entry.mtime),
        ctime: time(entry.ctime),
        inode: entry.inode,
        bytes: is_file.then(|| hashed(&file_bytes(reader, entry))),
        link_target: match &entry.content {
            Content::LinkTarget(target) => Some(target.as_slice().to_vec()),
            _ => None,
        },
        device: match entry.content {
            Content::Device(major, minor) => Some((major, minor)),
            _ => None,
        },
        hard_link: entry.extension(tag::HARD_LINK).map(varint),
        xattrs: entry.extension(tag::XATTRS).map(xattr_map).unwrap_or_default(),
        problem: entry.extension(tag::CAPTURE_PROBLEM).map(|text| String::from_utf8(text.to_vec()).unwrap()),
    }
}

/// The bytes of a file, holes included.
pub fn file_bytes(reader: &TreeReader, entry: &Entry) -> Vec<u8> {
    let mut data = Vec::new();
    let append = &mut |chunk: &[u8]| {
        data.extend_from_slice(chunk);
        Ok::<(), RepoError>(())
    };
    reader.visit_bytes(&entry.content, append).unwrap();
    let mut bytes = Vec::new();
    let mut rest = data.as_slice();
    for hole in sparse_map(entry).holes {
        let (before, after) = rest.split_at(hole.skip as usize);
        bytes.extend_from_slice(before);
        bytes.resize(bytes.len() + hole.len as usize, 0);
        rest = after;
    }
    bytes.extend_from_slice(rest);
    assert_eq!(bytes.len() as u64, entry.size, "data and holes make up the size");
    bytes
}

/// The holes that a snapshot knows of.
pub fn sparse_map(entry: &Entry) -> SparseMap {
    let map = entry.extension(tag::SPARSE_MAP);
    map.map_or_else(SparseMap::default, |map| wire::decode(map, limits::EXTENSIONS_BYTES_MAX).unwrap())
}

fn xattr_map(bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let set: XattrSet = wire::decode(bytes, limits::EXTENSIONS_BYTES_MAX).unwrap();
    let pair = |xattr: kluis::format::tree::Xattr| (xattr.name.0.into_vec(), xattr.value.0.into_vec());
    set.xattrs.into_iter().map(pair).collect()
}

fn varint(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

/// Fails with the first path that differs.
pub fn assert_same(expected: &Tree, found: &Tree) {
    let text = |path: &[u8]| format!("{:?}", OsStr::from_bytes(path));
    for (path, expected) in expected {
        let found = found.get(path).unwrap_or_else(|| panic!("{} is missing", text(path)));
        assert_eq!(found, expected, "{} differs (left is what was stored)", text(path));
    }
    for path in found.keys() {
        assert!(expected.contains_key(path), "{} was never there", text(path));
    }
}
