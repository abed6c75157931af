//! One suite for every storage and every wrapper: what the contract in `kluis::storage` promises, as tests.
//!
//! Survival of power cuts (S5, S7) cannot be shown from inside a process and is left to review.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

#[path = "shared/bucket.rs"]
mod bucket;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Barrier};

use kluis::storage::{
    Created, FaultyStorage, HeldState, Listed, LocalStorage, LocalStorageOptions, MemoryStorage, ObjectName,
    S3Storage, Storage, StorageError,
};
use kluis::units::ByteRange;
use tempfile::TempDir;

/// A storage to try, with the folder that it lives in, if any.
struct Fixture {
    storage: Arc<dyn Storage>,
    folder: Option<TempDir>,
}

impl Fixture {
    fn memory() -> Self {
        Self { storage: Arc::new(MemoryStorage::new()), folder: None }
    }

    fn local() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("repository");
        LocalStorage::create_place(&place).unwrap();
        let storage = LocalStorage::open(&place, LocalStorageOptions::default()).unwrap();
        Self { storage: Arc::new(storage), folder: Some(folder) }
    }

    /// A prefix in a bucket of the store that a variable names.
    fn bucket(variable: &str) -> Option<Self> {
        let options = bucket::options(&bucket::address(variable)?);
        Some(Self { storage: Arc::new(S3Storage::new(&options).unwrap()), folder: None })
    }

    fn faulty(mut self) -> Self {
        self.storage = Arc::new(FaultyStorage::new(self.storage.clone()));
        self
    }

    /// Names below a folder, sorted. Fails if one is listed twice.
    fn names(&self, prefix: &str) -> Vec<String> {
        let names: Vec<String> =
            listed(&*self.storage, prefix).iter().map(|listed| listed.name.to_string()).collect();
        let sorted: BTreeSet<&String> = names.iter().collect();
        assert_eq!(sorted.len(), names.len(), "listed twice: {names:?}");
        sorted.into_iter().cloned().collect()
    }

    fn create(&self, text: &str, bytes: &[u8]) -> Created {
        self.storage.create(&name(text), bytes).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Whatever a test did, nothing unfinished stays.
        if !std::thread::panicking() {
            assert_eq!(self.names("tmp"), Vec::<String>::new());
        }
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn listed(storage: &dyn Storage, prefix: &str) -> Vec<Listed> {
    let mut listed = Vec::new();
    storage.list(prefix, &mut |object| listed.push(object)).unwrap();
    listed
}

fn get_range(storage: &dyn Storage, text: &str, start: u64, len: u64) -> Result<Vec<u8>, StorageError> {
    let mut into = Vec::new();
    storage.get_range(&name(text), ByteRange { start, len }, &mut into).map(|()| into)
}

/// Bytes that differ everywhere, from a seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

fn of_all_creates_of_a_name_one_wins_and_its_bytes_stay(fixture: &Fixture) {
    const THREAD_COUNT: u8 = 16;
    for round in 0..8 {
        let text = format!("prune/{round:08}.plan");
        let barrier = Barrier::new(THREAD_COUNT.into());
        let attempt = |thread: u8| {
            barrier.wait();
            let created = fixture.create(&text, &[thread; 300]);
            // Whoever has an answer can read the winner's bytes, complete.
            (created, fixture.storage.get(&name(&text)).unwrap())
        };
        let attempts: Vec<(Created, Vec<u8>)> = std::thread::scope(|scope| {
            let attempt = &attempt;
            let threads: Vec<_> =
                (0..THREAD_COUNT).map(|thread| scope.spawn(move || attempt(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<usize> =
            (0..attempts.len()).filter(|at| attempts[*at].0 == Created::Created).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert!(attempts.iter().all(|(_, bytes)| *bytes == vec![winners[0] as u8; 300]));
    }
}

fn a_taken_name_is_refused_also_for_equal_bytes(fixture: &Fixture) {
    assert_eq!(fixture.create("config/1", b"one"), Created::Created);
    assert_eq!(fixture.create("config/1", b"one"), Created::Exists);
    assert_eq!(fixture.create("config/1", b"another"), Created::Exists);
    assert_eq!(fixture.storage.get(&name("config/1")).unwrap(), b"one");
}

fn what_was_created_is_found_by_get_and_list(fixture: &Fixture) {
    for (text, len) in [("README", 0), ("data/00/a", 1), ("data/ff/b", 4096), ("index/c", 100_000)] {
        let bytes = noise(len, 7);
        assert_eq!(fixture.create(text, &bytes), Created::Created);
        assert_eq!(fixture.storage.get(&name(text)).unwrap(), bytes);
        assert_eq!(fixture.storage.len(&name(text)).unwrap(), len as u64);
        let (folder, _) = text.split_once('/').unwrap_or(("", ""));
        let found = listed(&*fixture.storage, folder);
        let object = found.iter().find(|listed| listed.name.as_str() == text).unwrap();
        assert_eq!(object.len, len as u64);
        assert!(object.stored_at.seconds > 0);
    }
}

fn a_listing_holds_its_folder_and_nothing_else(fixture: &Fixture) {
    for text in ["data/00/a", "data/00/b", "data/01/a", "database/a", "index/a", "README"] {
        fixture.create(text, b"x");
    }
    assert_eq!(fixture.names("data"), ["data/00/a", "data/00/b", "data/01/a"]);
    assert_eq!(fixture.names("data/00"), ["data/00/a", "data/00/b"]);
    assert_eq!(fixture.names("index"), ["index/a"]);
    assert_eq!(fixture.names("").len(), 6);
    for missing in ["lease", "data/02", "meta/00", "dat"] {
        assert_eq!(fixture.names(missing), Vec::<String>::new(), "{missing}");
    }
}

fn a_listing_shows_all_that_existed_throughout_while_others_create_and_delete(fixture: &Fixture) {
    let steady: Vec<String> = (0..40).map(|number| format!("lease/steady.{number:02}")).collect();
    for text in &steady {
        fixture.create(text, b"x");
    }
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            for number in 0..40 {
                let text = format!("lease/passing.{number}");
                fixture.create(&text, b"x");
                fixture.storage.delete(&name(&text)).unwrap();
            }
        });
        loop {
            let is_last = churn.is_finished();
            let names = fixture.names("lease");
            assert!(steady.iter().all(|text| names.binary_search(text).is_ok()), "{names:?}");
            if is_last {
                assert_eq!(names, steady);
                break;
            }
        }
    });
}

fn what_was_deleted_is_gone_and_may_be_deleted_again(fixture: &Fixture) {
    for text in ["data/00/a", "lease/a", "README"] {
        fixture.create(text, b"x");
        for _ in 0..2 {
            fixture.storage.delete(&name(text)).unwrap();
            assert!(matches!(fixture.storage.get(&name(text)), Err(StorageError::Missing { .. })));
        }
    }
    fixture.storage.delete(&name("never/was/here")).unwrap();
    assert_eq!(fixture.names(""), Vec::<String>::new());
}

fn everything_says_missing_of_what_is_not_there(fixture: &Fixture) {
    fixture.create("data/00/b", b"x");
    for text in ["data/00/a", "data/01/a", "a"] {
        let is_missing = |error: Option<StorageError>| match error {
            Some(StorageError::Missing { name }) => name.as_str() == text,
            _ => false,
        };
        let (storage, name) = (&fixture.storage, name(text));
        assert!(is_missing(storage.get(&name).err()));
        assert!(is_missing(get_range(&**storage, text, 0, 0).err()));
        assert!(is_missing(storage.len(&name).err()));
        if storage.is_remote() {
            // It cannot map or hold anything, and does not ask.
            continue;
        }
        assert!(is_missing(storage.map(&name).err()));
        assert!(is_missing(storage.hold(&name).err()));
        assert!(is_missing(storage.held(&name).err()));
    }
}

fn a_range_is_exact_or_an_error(fixture: &Fixture) {
    let bytes = noise(100_000, 3);
    fixture.create("data/00/a", &bytes);
    fixture.create("data/00/empty", b"");
    let range = |start, len| get_range(&*fixture.storage, "data/00/a", start, len);
    for (start, len) in [(0, 100_000), (0, 0), (1, 4095), (99_999, 1), (100_000, 0), (50_000, 50_000)] {
        let expected = &bytes[start as usize..(start + len) as usize];
        assert_eq!(range(start, len).unwrap(), expected, "{start} + {len}");
    }
    for (start, len) in [(0, 100_001), (99_999, 2), (100_000, 1), (100_001, 0), (5, u64::MAX), (u64::MAX, 1)]
    {
        assert!(matches!(range(start, len), Err(StorageError::Short { .. })), "{start} + {len}");
    }
    assert!(get_range(&*fixture.storage, "data/00/empty", 0, 0).unwrap().is_empty());
    assert!(get_range(&*fixture.storage, "data/00/empty", 0, 1).is_err());
}

fn a_range_is_appended_to_whatever_the_buffer_holds(fixture: &Fixture) {
    let bytes = noise(9000, 5);
    fixture.create("data/00/a", &bytes);
    for capacity in [0, 5, 4005, 100_000] {
        let mut into = Vec::with_capacity(capacity);
        into.extend_from_slice(b"start");
        for start in [0, 4000] {
            let range = ByteRange { start, len: 4000 };
            fixture.storage.get_range(&name("data/00/a"), range, &mut into).unwrap();
        }
        assert_eq!(into, [b"start", &bytes[..8000]].concat(), "capacity {capacity}");
    }
}

fn replacing_is_atomic_for_readers(fixture: &Fixture) {
    const LEN: usize = 300_000;
    fixture.create("reserve", &[0; LEN]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..=20 {
                fixture.storage.replace(&name("reserve"), &[round; LEN]).unwrap();
            }
        });
        while !writer.is_finished() {
            let bytes = fixture.storage.get(&name("reserve")).unwrap();
            assert!(bytes.len() == LEN && bytes.iter().all(|byte| *byte == bytes[0]));
        }
    });
    assert_eq!(fixture.storage.get(&name("reserve")).unwrap(), [20; LEN]);
}

fn what_is_not_there_is_not_replaced(fixture: &Fixture) {
    fixture.create("data/00/a", b"there");
    for missing in ["data/00/b", "copy/new"] {
        let outcome = fixture.storage.replace(&name(missing), b"made");
        assert!(matches!(outcome, Err(StorageError::Missing { .. })), "{outcome:?}");
        assert!(fixture.storage.get(&name(missing)).is_err());
    }
    fixture.storage.replace(&name("data/00/a"), b"other").unwrap();
    assert_eq!(fixture.storage.get(&name("data/00/a")).unwrap(), b"other");
    fixture.storage.delete(&name("data/00/a")).unwrap();
    assert!(fixture.storage.replace(&name("data/00/a"), b"made").is_err());
}

fn an_object_is_held_until_the_last_hold_is_dropped(fixture: &Fixture) {
    if fixture.storage.is_remote() {
        fixture.create("lease/a.0", b"x");
        assert!(fixture.storage.hold(&name("lease/a.0")).unwrap().is_none());
        assert_eq!(fixture.storage.held(&name("lease/a.0")).unwrap(), HeldState::Unknown);
        return;
    }
    fixture.create("lease/a.0", b"x");
    fixture.create("lease/b.0", b"x");
    let held = |text| fixture.storage.held(&name(text)).unwrap();
    assert_eq!(held("lease/a.0"), HeldState::Free);
    let first = fixture.storage.hold(&name("lease/a.0")).unwrap().expect("these storages can hold");
    let second = fixture.storage.hold(&name("lease/a.0")).unwrap().expect("these storages can hold");
    assert_eq!((held("lease/a.0"), held("lease/b.0")), (HeldState::Held, HeldState::Free));
    drop(first);
    assert_eq!(held("lease/a.0"), HeldState::Held);
    drop(second);
    assert_eq!(held("lease/a.0"), HeldState::Free);
}

fn a_map_holds_the_bytes_of_the_object(fixture: &Fixture) {
    if fixture.storage.is_remote() {
        assert!(fixture.storage.map(&name("meta/00/0")).unwrap().is_none());
        return;
    }
    for len in [0, 1, 4096, 1_000_001] {
        let text = format!("meta/00/{len}");
        let bytes = noise(len, 11);
        fixture.create(&text, &bytes);
        let mapped = fixture.storage.map(&name(&text)).unwrap().expect("these storages can map");
        fixture.storage.delete(&name(&text)).unwrap();
        assert!(*mapped == *bytes, "{len} bytes");
    }
}

fn a_large_object_is_stored_whole(fixture: &Fixture) {
    const LEN: usize = 40 << 20;
    let bytes = noise(LEN, 13);
    fixture.create("data/00/large", &bytes);
    assert!(fixture.storage.get(&name("data/00/large")).unwrap() == bytes);
    let tail = get_range(&*fixture.storage, "data/00/large", LEN as u64 - 70_000, 70_000).unwrap();
    assert!(tail == bytes[LEN - 70_000..]);
}

fn many_threads_create_and_read_many_objects(fixture: &Fixture) {
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for number in 0..16 {
                    let text = format!("data/{:02x}/{thread}.{number}", (thread * 16 + number) % 24);
                    let bytes = noise(1000 + number, thread as u64);
                    assert_eq!(fixture.create(&text, &bytes), Created::Created);
                    assert_eq!(fixture.storage.get(&name(&text)).unwrap(), bytes);
                }
            });
        }
    });
    assert_eq!(fixture.names("data").len(), 8 * 16);
}

macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        suite!(@storage memory, Fixture::memory(), $($test),*);
        suite!(@storage local, Fixture::local(), $($test),*);
        suite!(@storage faulty_memory, Fixture::memory().faulty(), $($test),*);
        suite!(@storage faulty_local, Fixture::local().faulty(), $($test),*);
        suite!(@bucket rados, crate::bucket::RADOS, $($test),*);
        suite!(@bucket moto, crate::bucket::MOTO, $($test),*);
    };
    (@bucket $storage:ident, $variable:expr, $($test:ident),*) => {
        mod $storage {
            use super::Fixture;
            $(#[test]
            fn $test() {
                let Some(fixture) = Fixture::bucket($variable) else { return };
                super::$test(&fixture);
            })*
        }
    };
    (@storage $storage:ident, $fixture:expr, $($test:ident),*) => {
        mod $storage {
            use super::Fixture;
            $(#[test]
            fn $test() {
                super::$test(&$fixture);
            })*
        }
    };
}

suite!(
    of_all_creates_of_a_name_one_wins_and_its_bytes_stay,
    a_taken_name_is_refused_also_for_equal_bytes,
    what_was_created_is_found_by_get_and_list,
    a_listing_holds_its_folder_and_nothing_else,
    a_listing_shows_all_that_existed_throughout_while_others_create_and_delete,
    what_was_deleted_is_gone_and_may_be_deleted_again,
    everything_says_missing_of_what_is_not_there,
    a_range_is_exact_or_an_error,
    a_range_is_appended_to_whatever_the_buffer_holds,
    replacing_is_atomic_for_readers,
    what_is_not_there_is_not_replaced,
    an_object_is_held_until_the_last_hold_is_dropped,
    a_map_holds_the_bytes_of_the_object,
    a_large_object_is_stored_whole,
    many_threads_create_and_read_many_objects,
);

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| entries.count())
}

#[test]
fn a_create_that_cannot_get_its_name_leaves_no_file() {
    let fixture = Fixture::local();
    let place = fixture.folder.as_ref().unwrap().path().join("repository");
    fixture.create("data/00/a", b"x");
    fixture.create("index", b"a file where a folder should be");
    for (text, bytes) in [("data/00/a/b", 10), ("index/a", 2 << 20)] {
        let error = fixture.storage.create(&name(text), &noise(bytes, 1)).unwrap_err();
        assert!(matches!(&error, StorageError::Failed { what, .. } if what == text), "{error}");
    }
    // Here the file is written before its name turns out to be a folder.
    assert!(fixture.storage.replace(&name("data/00"), &noise(5000, 1)).is_err());
    assert_eq!(files_in(&place.join("tmp")), 0);
}

/// Set for the second run of the test below, to the folder of its repository.
const LIMITED_PLACE: &str = "KLUIS_TEST_LIMITED_PLACE";

#[test]
fn a_write_that_fails_in_the_middle_leaves_no_file() {
    if let Some(place) = std::env::var_os(LIMITED_PLACE) {
        let place = Path::new(&place);
        let storage = LocalStorage::open(place, LocalStorageOptions::default()).unwrap();
        for _ in 0..2 {
            let error = storage.create(&name("data/00/large"), &noise(1 << 20, 1)).unwrap_err();
            let StorageError::Failed { source, .. } = error else { panic!("{error}") };
            assert_eq!(source.kind(), ErrorKind::FileTooLarge);
            assert_eq!(files_in(&place.join("tmp")) + files_in(&place.join("data/00")), 0);
        }
        assert_eq!(storage.create(&name("data/00/small"), b"x").unwrap(), Created::Created);
        return;
    }
    // A limit on the size of files stands in for a full disk. It holds for a whole process, so the test runs itself
    // in another one, where the signal that would end it is ignored.
    let place = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 64; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_write_that_fails_in_the_middle_leaves_no_file"])
        .env(LIMITED_PLACE, place.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(files_in(&place.path().join("data/00")), 1);
}

#[test]
fn two_processes_worth_of_storages_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let open = || LocalStorage::open(folder.path(), LocalStorageOptions::default()).unwrap();
    let (here, there) = (open(), open());
    assert_eq!(here.create(&name("lease/a.0"), b"x").unwrap(), Created::Created);
    assert_eq!(there.create(&name("lease/a.0"), b"y").unwrap(), Created::Exists);
    let hold = here.hold(&name("lease/a.0")).unwrap();
    assert_eq!(there.held(&name("lease/a.0")).unwrap(), HeldState::Held);
    drop(hold);
    assert_eq!(there.held(&name("lease/a.0")).unwrap(), HeldState::Free);
    there.delete(&name("lease/a.0")).unwrap();
    assert!(listed(&here, "lease").is_empty());
}

#[test]
fn a_local_storage_says_where_it_is_and_what_it_has_left() {
    let fixture = Fixture::local();
    let folder = fixture.folder.as_ref().unwrap();
    assert_eq!(fixture.storage.place(), folder.path().join("repository").display().to_string());
    assert!(fixture.storage.space_left().unwrap().is_some_and(|bytes| bytes > 0));
    assert!(!fixture.storage.listing_lags());
    let error = fixture.storage.list("../etc", &mut |_| {}).unwrap_err();
    assert!(matches!(error, StorageError::Failed { .. }));
}
