//! Proof of what only a local folder can show: temporary files, locks, damage from outside.

use std::cell::Cell;

use super::*;
use crate::storage::local::temporary::remove_leftovers;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn open(place: &Path) -> LocalStorage {
    LocalStorage::open(place, LocalStorageOptions::default()).unwrap()
}

fn names(storage: &LocalStorage, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    storage.list(prefix, &mut |listed| names.push(listed.name.to_string())).unwrap();
    names.sort();
    names
}

fn write_temporary<'a>(storage: &'a LocalStorage, bytes: &[u8]) -> Temporary<'a> {
    Temporary::write(&storage.folders, &storage.temporary_names, bytes, &File::sync_all).unwrap()
}

#[test]
fn leftovers_are_removed_at_open_unless_somebody_works_on_them() {
    let place = tempfile::tempdir().unwrap();
    let writer = open(place.path());
    let working = write_temporary(&writer, b"in progress");
    std::fs::write(place.path().join("tmp/00000000c0ffee00.7"), b"by a crash").unwrap();
    assert_eq!(names(&writer, "tmp").len(), 2);

    let options = LocalStorageOptions { leftovers: Leftovers::Keep };
    assert_eq!(names(&LocalStorage::open(place.path(), options).unwrap(), "tmp").len(), 2);
    assert_eq!(names(&open(place.path()), "tmp").len(), 1);
    assert_eq!(working.publish(&writer.folders.open("").unwrap(), "README").unwrap(), Created::Created);
    drop(working);
    assert_eq!(
        (names(&writer, "tmp"), writer.get(&name("README")).unwrap()),
        (vec![], b"in progress".to_vec())
    );
}

#[test]
fn where_locks_may_not_reach_other_hosts_only_old_files_are_leftovers() {
    let place = tempfile::tempdir().unwrap();
    let storage = open(place.path());
    std::fs::create_dir(place.path().join("tmp")).unwrap();
    let young = "tmp/00000000c0ffee00.0";
    std::fs::write(place.path().join(young), b"").unwrap();
    let old = File::create(place.path().join("tmp/00000000c0ffee00.1")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    remove_leftovers(&storage.folders, false).unwrap();
    assert_eq!(names(&storage, "tmp"), [young]);
}

#[test]
fn opening_a_folder_that_is_no_repository_removes_nothing_of_its_tmp() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("tmp")).unwrap();
    let foreign = [
        "letter",
        "00000000c0ffee00",
        "00000000c0ffee00.",
        "00000000c0ffee00.7b",
        "00000000C0FFEE00.7",
        "0.7",
    ];
    for name in foreign {
        std::fs::write(place.path().join("tmp").join(name), b"mine").unwrap();
    }
    drop(open(place.path()));
    for name in foreign {
        assert_eq!(std::fs::read(place.path().join("tmp").join(name)).unwrap(), b"mine");
    }
}

#[test]
fn a_writer_whose_file_was_taken_for_a_leftover_writes_a_new_one() {
    let place = tempfile::tempdir().unwrap();
    let storage = open(place.path());
    let attempts = Cell::new(0);
    let created = storage
        .store(&name("index/a"), b"bytes", |temporary, folder| {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 1 {
                std::fs::remove_dir_all(place.path().join("tmp")).unwrap();
            }
            temporary.publish(folder, "a")
        })
        .unwrap();
    assert_eq!((created, attempts.get()), (Created::Created, 2));
    assert_eq!((storage.get(&name("index/a")).unwrap(), names(&storage, "tmp")), (b"bytes".to_vec(), vec![]));
}

#[test]
fn a_failed_sync_condemns_the_file_and_the_bytes_are_written_once_more() {
    let place = tempfile::tempdir().unwrap();
    let storage = open(place.path());
    let write = |failures: u32| {
        let left = Cell::new(failures);
        let sync = |_: &File| match left.get() {
            0 => Ok(()),
            count => {
                left.set(count - 1);
                Err(io::Error::other("planned"))
            }
        };
        Temporary::write(&storage.folders, &storage.temporary_names, b"bytes", &sync)
    };
    let temporary = write(1).unwrap();
    let left = names(&storage, "tmp");
    assert_eq!(left.len(), 1);
    assert_eq!(storage.get(&name(&left[0])).unwrap(), b"bytes");
    drop(temporary);
    assert!(write(2).is_err());
    assert!(names(&storage, "tmp").is_empty());
}

#[test]
fn without_links_a_rename_keeps_a_taken_name() {
    let place = tempfile::tempdir().unwrap();
    let storage = open(place.path());
    let create = |bytes| {
        storage.store(&name("index/a"), bytes, |temporary, folder| temporary.publish_by_rename(folder, "a"))
    };
    assert_eq!(create(b"first").unwrap(), Created::Created);
    assert_eq!(create(b"second").unwrap(), Created::Exists);
    assert_eq!((storage.get(&name("index/a")).unwrap(), names(&storage, "tmp")), (b"first".to_vec(), vec![]));
}

#[test]
fn a_place_is_made_with_the_folders_above_it_and_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let place = parent.path().join("a/b");
    LocalStorage::create_place(&place).unwrap();
    LocalStorage::create_place(&place).unwrap();
    open(&place).create(&name("data/00/x"), b"x").unwrap();
    let mode = |path: &str| std::fs::metadata(place.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(""), mode("data"), mode("data/00"), mode("data/00/x")), (0o700, 0o700, 0o700, 0o600));
}

#[test]
fn a_place_with_something_in_it_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let refused = |path: &Path| LocalStorage::create_place(path).unwrap_err();
    std::fs::create_dir(path.join("lost+found")).unwrap();
    std::fs::create_dir(path.join("tmp")).unwrap();
    LocalStorage::create_place(path).unwrap();
    std::fs::write(path.join("tmp/file"), b"").unwrap();
    assert!(matches!(refused(path), StorageError::NotEmpty { place } if place == path));
    let file = path.join("tmp/file");
    assert!(matches!(refused(&file), StorageError::NotAFolder { place } if place == file));
    assert!(matches!(refused(&file.join("below")), StorageError::NotAFolder { place } if place == file));
}

#[test]
fn only_a_folder_can_be_opened() {
    let place = tempfile::tempdir().unwrap();
    let opened =
        |path: &str| LocalStorage::open(&place.path().join(path), LocalStorageOptions::default()).err();
    std::fs::write(place.path().join("file"), b"").unwrap();
    assert!(matches!(opened("missing"), Some(StorageError::NoPlace { .. })));
    assert!(matches!(opened("file"), Some(StorageError::NotAFolder { .. })));
    assert!(matches!(opened("file/below"), Some(StorageError::NotAFolder { .. })));
}

#[test]
fn what_is_no_object_is_not_listed_and_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let storage = open(place.path());
    storage.create(&name("data/00/x"), b"x").unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("y"), b"secret").unwrap();
    std::fs::write(place.path().join("data/00/not a name"), b"").unwrap();
    std::os::unix::fs::symlink(outside.path(), place.path().join("data/01")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("y"), place.path().join("data/00/link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path().join("data/00/pipe"), Mode::RWXU).unwrap();
    assert_eq!(names(&storage, "data"), ["data/00/x"]);
    assert!(storage.get(&name("data/00/link")).is_err());
    assert!(storage.create(&name("data/01/z"), b"z").is_err());
    assert!(storage.get(&name("data/00/pipe")).unwrap().is_empty());
    assert!(storage.len(&name("data/00/pipe")).is_err());
}

#[test]
fn a_folder_that_was_made_again_is_synced_again() {
    let place = tempfile::tempdir().unwrap();
    let storage = open(place.path());
    let settled = |folder: &str| storage.folders.is_settled(folder);
    assert!(!settled("data"));
    storage.create(&name("data/00/x"), b"x").unwrap();
    assert!(settled("data") && settled("data/00") && !settled("data/01"));
    std::fs::remove_dir_all(place.path().join("data")).unwrap();
    storage.folders.make("data/01").unwrap();
    assert!(!settled("data") && !settled("data/00"));
}

#[test]
fn network_file_systems_are_known_by_their_magic_number() {
    assert!(
        FileSystem::from_magic(0x6969).is_shared && FileSystem::from_magic(0xffff_ffff_ff53_4d42).is_shared
    );
    assert!(!FileSystem::from_magic(0xef53).is_shared && !FileSystem::from_magic(0x0102_1994).is_shared);
}
