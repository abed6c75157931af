//! A real tree on a real disk: sources of Rust packages, changed as people change them, there and back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kluis::compress::Compression;
use kluis::event::Silent;
use kluis::repo::InitOptions;
use kluis::restore::Overwrite;
use kluis::storage::{Leftovers, LocalStorage, LocalStorageOptions, Storage};

use crate::fixture::{key, noise, open, options, snapshot_of, surroundings};
use crate::restored::{assert_restored, restore};
use crate::tree::{Tree, assert_same, capture, read_snapshot};

const FILE_COUNT_MAX: usize = 5000;
const BYTES_MAX: u64 = 100 << 20;

/// Folders that are likely to be there, the best first.
fn candidates() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let registries = home.map(|home| home.join("registry/src"));
    let registries = registries.into_iter().flat_map(|folder| folders_in(&folder));
    let rest = ["/usr/share/zoneinfo", "/usr/include", "/usr/share", "/usr/lib"];
    registries.chain(rest.map(PathBuf::from)).collect()
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Files and bytes below a folder, not counting what cannot be read.
fn size_of(folder: &Path) -> (usize, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                (files, bytes) = (files + 1, bytes + metadata.len());
            }
        }
    }
    (files, bytes)
}

/// Copies folders until there is enough.
fn copy_some(to: &Path) {
    let (mut files, mut bytes) = (0, 0);
    for candidate in candidates() {
        for folder in folders_in(&candidate) {
            let (count, len) = size_of(&folder);
            if files + count > FILE_COUNT_MAX || bytes + len > BYTES_MAX {
                continue;
            }
            let copied = Command::new("cp").args(["-a", "--"]).arg(&folder).arg(to).status().unwrap();
            assert!(copied.success());
            (files, bytes) = (files + count, bytes + len);
        }
        if files > FILE_COUNT_MAX / 2 {
            return;
        }
    }
    assert!(files > 100, "there is no real tree on this computer: {files} files");
}

/// Changes every so-and-so-many-th file in one of the ways in which files change.
fn change(root: &Path, tree: &Tree) {
    let files = tree.iter().filter(|(_, seen)| seen.bytes.is_some_and(|(len, _)| len > 0));
    for (number, (path, _)) in files.enumerate().filter(|(number, _)| number % 37 == 0) {
        let path = root.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
        let mut bytes = fs::read(&path).unwrap();
        match number / 37 % 6 {
            0 => bytes.extend_from_slice(b"a line more\n"),
            1 => bytes.insert(bytes.len() / 2, b'!'),
            2 => bytes.truncate(bytes.len() / 2),
            3 => fs::set_permissions(&path, fs::Permissions::from_mode(0o4711)).unwrap(),
            4 => {
                fs::rename(&path, path.with_extension("moved")).unwrap();
                continue;
            }
            _ => {
                fs::remove_file(&path).unwrap();
                continue;
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    fs::create_dir(root.join("new folder")).unwrap();
    fs::write(root.join("new folder/new file"), noise(3 << 20, 1)).unwrap();
}

#[test]
fn a_real_tree_comes_back_as_it_was_before_and_after_its_changes() {
    let scratch = tempfile::tempdir().unwrap();
    let below = |name: &str| scratch.path().join(name);
    let (source, cache) = (below("source"), below("cache"));
    fs::create_dir(&source).unwrap();
    copy_some(&source);
    LocalStorage::create_place(&below("repository")).unwrap();
    let local = || {
        let options = LocalStorageOptions { leftovers: Leftovers::Remove };
        Arc::new(LocalStorage::open(&below("repository"), options).unwrap()) as Arc<dyn Storage>
    };
    let init = InitOptions::default();
    drop(kluis::repo::Repo::init(surroundings(local(), &cache), &init, &key()).unwrap());
    let mut made = Vec::new();
    for round in 0..2 {
        let tree = capture(&source);
        let repo = open(local(), &cache).unwrap();
        let options =
            kluis::backup::BackupOptions { threads: 0, compression: Compression::Auto, ..options(&source) };
        let report = kluis::backup::run(&repo, &options, &Silent::default()).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(report.parent_id.is_some(), round == 1);
        made.push((snapshot_of(&repo, &report), tree));
        if round == 0 {
            change(&source, &made[0].1);
        } else {
            assert!(report.files_unchanged > 10 * report.files_changed.max(1), "{report:?}");
        }
    }
    // A computer that never saw this repository, and takes the newer state back to the older one.
    let repo = open(local(), &below("cache elsewhere")).unwrap();
    for (snapshot, tree) in made.iter().rev() {
        assert_same(tree, &read_snapshot(&repo, snapshot, &source));
        restore(&repo, snapshot, &source, &below("target"), Overwrite::IfChanged);
        assert_restored(tree, &below("target"));
    }
}
