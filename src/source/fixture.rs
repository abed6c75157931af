//! Folders for tests.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{FolderPath, Found, Listing, Root, Walk, WalkOptions};
use crate::clock::Timestamp;
use crate::format::tree::{Content, Entry, EntryKind};
use crate::wire::Bytes;

/// A temporary folder, filled by chained calls.
pub(super) struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        match below {
            "" => self.folder.path().to_owned(),
            below => self.folder.path().join(below),
        }
    }

    pub(super) fn path_bytes(&self, below: &[u8]) -> PathBuf {
        self.folder.path().join(OsStr::from_bytes(below))
    }

    pub(super) fn folder(&self, below: &str) -> &Self {
        std::fs::create_dir_all(self.path(below)).unwrap();
        self
    }

    pub(super) fn file(&self, below: &str, content: &str) -> &Self {
        std::fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        std::fs::write(self.path(below), content).unwrap();
        self
    }

    pub(super) fn link(&self, below: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(target, self.path(below)).unwrap();
        self
    }

    pub(super) fn fifo(&self, below: &str) -> &Self {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, self.path(below), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        self
    }

    pub(super) fn root(&self) -> FolderPath {
        FolderPath::root(Root::open(self.folder.path()).unwrap().0)
    }

    /// What a walk with these options finds, as paths from the root, in the order of the walk.
    pub(super) fn walked(&self, options: WalkOptions) -> Vec<String> {
        let walk = Walk::start(options);
        let mut paths = Vec::new();
        visit(&walk, &self.root(), &mut |folder, listing| {
            for found in &listing.entries {
                let path = folder.join(found.entry.name.as_slice());
                let below = path.strip_prefix(self.folder.path()).unwrap();
                paths.push(below.to_string_lossy().into_owned());
            }
        });
        paths
    }
}

/// Goes depth first, as a backup does.
pub(super) fn visit(walk: &Walk, folder: &FolderPath, seen: &mut impl FnMut(&FolderPath, &Listing)) {
    let mut stack = vec![folder.clone()];
    while let Some(folder) = stack.pop() {
        let listing = walk.list(&folder).unwrap();
        seen(&folder, &listing);
        let folders = listing.entries.iter().filter(|found| found.entry.kind == EntryKind::Directory);
        stack.extend(folders.rev().map(|found| folder.child(found.entry.name.as_slice())));
    }
}

/// The listing of one folder.
pub(super) fn list(folder: &FolderPath, options: WalkOptions) -> Listing {
    Walk::start(WalkOptions { threads: 0, ..options }).list(folder).unwrap()
}

pub(super) fn names(listing: &Listing) -> Vec<&[u8]> {
    listing.entries.iter().map(|found| found.entry.name.as_slice()).collect()
}

pub(super) fn find<'a>(listing: &'a Listing, name: &str) -> &'a Found {
    listing.entries.iter().find(|found| found.entry.name.as_slice() == name.as_bytes()).unwrap()
}

/// An empty file.
pub(super) fn some_entry() -> Entry {
    Entry {
        name: Bytes::from(&b"name"[..]),
        kind: EntryKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        inode: 1,
        size: 0,
        content: Content::None,
        extensions: Vec::new(),
    }
}

/// Whether the tests run as root. Tells on stderr which test is skipped because they do not.
pub(super) fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: {test} needs root");
    }
    is_root
}

/// Whether `path` exists.
pub(super) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
