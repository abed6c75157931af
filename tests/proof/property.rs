//! Any tree of strange files: backed up, changed, backed up again, read through the tree and restored; everything
//! is compared with what was on the disk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kluis::restore::Overwrite;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::fixture::{back_up_well, cache_folder, init_in_memory, is_root, noise, snapshot_of};
use crate::restored::{assert_restored, restore};
use crate::tree::{Tree, assert_same, capture, read_snapshot};

const CASE_COUNT: u32 = 24;
const BLOCK_BYTES: u64 = 4096;

/// Something to be put into a folder.
#[derive(Debug, Clone)]
enum Thing {
    Folder,
    /// Length, and which noise: a few numbers only, so that contents repeat.
    File(usize, u64),
    /// Length of the file, and written blocks as place and count.
    Sparse(u64, Vec<(u64, u64)>),
    Symlink(Vec<u8>),
    Special(FileType),
    /// A further name of the n-th entry, if that can have one.
    HardLink(usize),
}

#[derive(Debug, Clone)]
struct Item {
    /// Which of the folders there are.
    folder: usize,
    name: Vec<u8>,
    thing: Thing,
    metadata: Metadata,
}

#[derive(Debug, Clone)]
struct Metadata {
    mode: u32,
    owner: Option<(u32, u32)>,
    mtime: (i64, u32),
    xattrs: Vec<(String, Vec<u8>)>,
}

/// Done to the n-th entry of a tree.
#[derive(Debug, Clone)]
enum Change {
    Remove,
    Rewrite(usize, u64),
    Append(usize, u64),
    Cut(u64),
    Overwrite(u64, u64),
    Rename(Vec<u8>),
    Adorn(Metadata),
    Touch,
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![1..=46u8, 48..=255u8];
    let long = vec(prop_oneof![Just(b'n'), 128..=255u8], 255);
    let name = prop_oneof![
        6 => vec(byte, 1..12),
        3 => "[ -.0-~]{1,20}".prop_map(String::into_bytes),
        1 => long,
    ];
    name.prop_filter("no name of its own", |name| !matches!(name.as_slice(), b"." | b".."))
}

fn any_thing() -> impl Strategy<Value = Thing> {
    let target = prop_oneof![any_name(), Just(b"/etc/passwd".to_vec()), Just(b"../..".to_vec())];
    prop_oneof![
        4 => Just(Thing::Folder),
        2 => Just(Thing::File(0, 0)),
        5 => (1..3000usize, 0..6u64).prop_map(|(len, seed)| Thing::File(len, seed)),
        3 => (60_000..400_000usize, 0..3u64).prop_map(|(len, seed)| Thing::File(len, seed)),
        2 => (1..3_000_000u64, vec((0..700u64, 1..9u64), 0..6)).prop_map(|(len, data)| Thing::Sparse(len, data)),
        2 => target.prop_map(Thing::Symlink),
        1 => Just(Thing::Special(FileType::Fifo)),
        1 => Just(Thing::Special(FileType::Socket)),
        1 => Just(Thing::Special(FileType::CharacterDevice)),
        2 => any::<usize>().prop_map(Thing::HardLink),
    ]
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let owner = proptest::option::of((0..u32::MAX, 0..u32::MAX));
    let mtime = (-2_000_000_000..15_000_000_000i64, 0..1_000_000_000u32);
    let value = prop_oneof![4 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 700..1200)];
    let xattrs = vec(("(user|trusted)\\.[a-z ]{1,8}", value), 0..3);
    (0..0o10000u32, owner, mtime, xattrs).prop_map(|(mode, owner, mtime, xattrs)| Metadata {
        mode,
        owner,
        mtime,
        xattrs,
    })
}

fn any_item() -> impl Strategy<Value = Item> {
    (any::<usize>(), any_name(), any_thing(), any_metadata())
        .prop_map(|(folder, name, thing, metadata)| Item { folder, name, thing, metadata })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Remove),
        (0..200_000usize, 0..6u64).prop_map(|(len, seed)| Change::Rewrite(len, seed)),
        (1..50_000usize, 0..6u64).prop_map(|(len, seed)| Change::Append(len, seed)),
        any::<u64>().prop_map(Change::Cut),
        (any::<u64>(), any::<u64>()).prop_map(|(place, seed)| Change::Overwrite(place, seed)),
        any_name().prop_map(Change::Rename),
        any_metadata().prop_map(Change::Adorn),
        Just(Change::Touch),
    ]
}

/// Puts items below `root`; one that is in the way of another is replaced.
fn make(root: &Path, items: &[Item]) {
    let mut folders = vec![root.to_owned()];
    let mut made = Vec::new();
    for Item { folder, name, thing, metadata } in items {
        let folder = Some(&folders[folder % folders.len()]).filter(|folder| is_folder(folder));
        let path = folder.map_or(root, PathBuf::as_path).join(OsStr::from_bytes(name));
        remove(&path);
        match thing {
            Thing::Folder => {
                fs::create_dir(&path).unwrap();
                folders.push(path.clone());
            }
            Thing::File(len, seed) => fs::write(&path, noise(*len, *seed)).unwrap(),
            Thing::Sparse(len, data) => make_sparse(&path, *len, data),
            Thing::Symlink(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), &path).unwrap(),
            Thing::Special(kind) => make_special(&path, *kind),
            Thing::HardLink(to) => {
                let Some((to, _)) = (!made.is_empty()).then(|| &made[to % made.len()]) else { continue };
                let to: &PathBuf = to;
                if to.symlink_metadata().is_err() || is_folder(to) {
                    continue;
                }
                fs::hard_link(to, &path).unwrap();
            }
        }
        made.push((path, metadata));
    }
    // What is inside first: a folder changes with every entry that it gets.
    for (path, metadata) in made.iter().rev() {
        if path.symlink_metadata().is_ok() {
            adorn(path, metadata);
        }
    }
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

fn remove(path: &Path) {
    if is_folder(path) {
        fs::remove_dir_all(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
}

fn make_sparse(path: &Path, len: u64, data: &[(u64, u64)]) {
    let file = fs::File::create(path).unwrap();
    for (place, count) in data {
        file.write_all_at(&noise((count * BLOCK_BYTES) as usize, *place), place * BLOCK_BYTES).unwrap();
    }
    file.set_len(len).unwrap();
}

fn make_special(path: &Path, kind: FileType) {
    let mode = Mode::from_raw_mode(0o600);
    let device = if kind == FileType::CharacterDevice { rustix::fs::makedev(1, 3) } else { 0 };
    // Not everybody may make a device.
    if rustix::fs::mknodat(CWD, path, kind, mode, device).is_err() {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
    }
}

/// Sets what is allowed here; the tree is looked at afterwards, so nothing depends on it.
fn adorn(path: &Path, metadata: &Metadata) {
    let is_symlink = path.symlink_metadata().unwrap().is_symlink();
    if let (Some((uid, gid)), true) = (metadata.owner, is_root()) {
        let _ = std::os::unix::fs::lchown(path, Some(uid), Some(gid));
    }
    for (name, value) in &metadata.xattrs {
        let _ = rustix::fs::lsetxattr(path, name.as_str(), value, XattrFlags::empty());
    }
    if !is_symlink {
        // Who is not root must be able to read what is to be compared.
        let mode = if is_root() { metadata.mode } else { metadata.mode | 0o700 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let time = Timespec { tv_sec: metadata.mtime.0, tv_nsec: metadata.mtime.1.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn change(root: &Path, changes: &[(usize, Change)]) {
    for (which, change) in changes {
        let paths: Vec<_> = capture(root).into_keys().filter(|path| !path.is_empty()).collect();
        if paths.is_empty() {
            return;
        }
        let path = root.join(OsStr::from_bytes(&paths[which % paths.len()]));
        let is_file = path.symlink_metadata().unwrap().is_file();
        let open = || fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        match change {
            Change::Remove => remove(&path),
            Change::Rewrite(len, seed) if is_file => fs::write(&path, noise(*len, *seed)).unwrap(),
            Change::Append(len, seed) if is_file => {
                let file = open();
                let end = file.metadata().unwrap().len();
                file.write_all_at(&noise(*len, *seed), end).unwrap();
            }
            Change::Cut(to) if is_file => {
                let file = open();
                let len = file.metadata().unwrap().len();
                file.set_len(to % (len + 1)).unwrap();
            }
            Change::Overwrite(place, seed) if is_file => {
                let file = open();
                let len = file.metadata().unwrap().len();
                file.write_all_at(&noise(10, *seed), place % (len + 1)).unwrap();
            }
            Change::Rename(name) => {
                let to = path.with_file_name(OsStr::from_bytes(name));
                if to.symlink_metadata().is_err() {
                    fs::rename(&path, to).unwrap();
                }
            }
            Change::Adorn(metadata) => adorn(&path, metadata),
            Change::Touch
            | Change::Rewrite(..)
            | Change::Append(..)
            | Change::Cut(_)
            | Change::Overwrite(..) => {
                let time = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            }
        }
    }
}

fn survives(first: &[Item], changes: &[(usize, Change)], second: &[Item]) {
    let (source, cache) = (tempfile::tempdir().unwrap(), cache_folder());
    let root = source.path();
    let (_, repo) = init_in_memory(cache.path(), 256 << 10);
    let mut made: Vec<(_, Tree)> = Vec::new();
    make(root, first);
    for round in 0..2 {
        let tree = capture(root);
        let report = back_up_well(&repo, root);
        assert_eq!(capture(root), tree, "a backup changes nothing of the source");
        made.push((snapshot_of(&repo, &report), tree));
        if round == 0 {
            change(root, changes);
            make(root, second);
        }
    }
    for (snapshot, tree) in &made {
        assert_same(tree, &read_snapshot(&repo, snapshot, root));
    }
    let target = tempfile::tempdir().unwrap();
    for (snapshot, tree) in made.iter().rev() {
        restore(&repo, snapshot, root, target.path(), Overwrite::Always);
        assert_restored(tree, target.path());
    }
}

#[test]
fn any_tree_comes_back_as_it_was_before_and_after_a_change() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok());
    let config = ProptestConfig { cases: cases.unwrap_or(CASE_COUNT), ..ProptestConfig::default() };
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 300, ..config };
    let items = || vec(any_item(), 0..40);
    let changes = vec((any::<usize>(), any_change()), 0..12);
    TestRunner::new(config)
        .run(&(items(), changes, vec(any_item(), 0..10)), |(first, changes, second)| {
            survives(&first, &changes, &second);
            Ok(())
        })
        .unwrap();
}
