//! What a cache may and may not do, over a storage that counts calls.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::storage::{Calls, FaultyStorage, MemoryStorage};

struct Fixture {
    folder: tempfile::TempDir,
    inner: Arc<FaultyStorage>,
    cached: CachedStorage,
}

fn fixture(bytes_max: u64) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let inner = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
    let cached = CachedStorage::new(inner.clone(), folder.path().to_owned(), bytes_max);
    Fixture { folder, inner, cached }
}

impl Fixture {
    /// What a new process makes of the same folder.
    fn again(&mut self) {
        self.cached = CachedStorage::new(self.inner.clone(), self.folder.path().to_owned(), 1 << 20);
    }

    fn reads(&self, read: impl Fn(&CachedStorage)) -> u64 {
        let before = self.inner.call_count(Calls::Reads);
        read(&self.cached);
        self.inner.call_count(Calls::Reads) - before
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

#[test]
fn what_was_stored_or_read_once_is_not_read_again() {
    let mut fixture = fixture(1 << 20);
    fixture.cached.create(&name("meta/00/own"), b"own bytes").unwrap();
    fixture.inner.create(&name("meta/00/other"), b"other bytes").unwrap();
    fixture.inner.create(&name("data/00/content"), b"content").unwrap();
    let range = ByteRange { start: 2, len: 3 };
    let read = |text: &'static str, part: &'static [u8]| {
        move |storage: &CachedStorage| {
            let mut into = Vec::new();
            storage.get_range(&name(text), range, &mut into).unwrap();
            assert_eq!(into, part);
            storage.get(&name(text)).unwrap();
        }
    };
    assert_eq!(fixture.reads(read("meta/00/own", b"n b")), 0);
    assert_eq!(fixture.reads(read("meta/00/other", b"her")), 1);
    assert_eq!(fixture.reads(read("data/00/content", b"nte")), 2);
    fixture.again();
    assert_eq!(fixture.reads(read("meta/00/other", b"her")), 0);
    let beyond = ByteRange { start: 5, len: 100 };
    let outcome = fixture.cached.get_range(&name("meta/00/other"), beyond, &mut Vec::new());
    assert!(matches!(outcome, Err(StorageError::Short { .. })));
}

#[test]
fn a_damaged_copy_is_read_anew() {
    let mut fixture = fixture(1 << 20);
    fixture.cached.create(&name("index/a"), b"the bytes of an index object").unwrap();
    let path = fixture.folder.path().join("index/a");
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        fixture.again();
        let is_right = AtomicBool::new(false);
        let reads = fixture.reads(|storage| {
            let bytes = storage.get(&name("index/a")).unwrap();
            is_right.store(bytes == b"the bytes of an index object", Ordering::Relaxed);
        });
        assert_eq!((reads, is_right.into_inner()), (1, true), "byte {at}");
    }
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    fixture.again();
    assert_eq!(fixture.reads(|storage| drop(storage.get(&name("index/a")).unwrap())), 1);
    // A copy of one name says nothing of another.
    fs::copy(&path, fixture.folder.path().join("index/b")).unwrap();
    fixture.again();
    assert!(matches!(fixture.cached.get(&name("index/b")), Err(StorageError::Missing { .. })));
}

#[test]
fn what_is_gone_from_the_storage_is_gone_from_here() {
    let mut fixture = fixture(1 << 20);
    for text in ["slot/a", "slot/b", "meta/00/c"] {
        fixture.cached.create(&name(text), b"x").unwrap();
    }
    fixture.inner.delete(&name("slot/a")).unwrap();
    fixture.cached.list("slot", &mut |_| {}).unwrap();
    fixture.cached.delete(&name("meta/00/c")).unwrap();
    fixture.again();
    for text in ["slot/a", "meta/00/c"] {
        assert!(matches!(fixture.cached.get(&name(text)), Err(StorageError::Missing { .. })), "{text}");
    }
    assert_eq!(fixture.reads(|storage| drop(storage.get(&name("slot/b")).unwrap())), 0);
}

#[test]
fn a_name_that_may_mean_something_else_now_is_served_only_after_a_listing() {
    let mut fixture = fixture(1 << 20);
    let config = name("config/1");
    let read = |storage: &CachedStorage| storage.get(&config).unwrap();
    fixture.inner.create(&config, b"one").unwrap();
    fixture.cached.list("config", &mut |_| {}).unwrap();
    assert_eq!(read(&fixture.cached), b"one");
    fixture.again();
    // Not listed by this process: not believed.
    assert_eq!(fixture.reads(|storage| drop(read(storage))), 1);
    fixture.cached.list("config", &mut |_| {}).unwrap();
    assert_eq!(read(&fixture.cached), b"one");
    fixture.again();
    fixture.cached.list("config", &mut |_| {}).unwrap();
    assert_eq!(fixture.reads(|storage| assert_eq!(read(storage), b"one")), 0);
    // Another repository at the same place.
    fixture.inner.delete(&config).unwrap();
    fixture.inner.create(&config, b"another").unwrap();
    fixture.again();
    fixture.cached.list("config", &mut |_| {}).unwrap();
    assert_eq!(read(&fixture.cached), b"another");
}

#[test]
fn the_folder_stays_as_small_as_it_should_be() {
    let fixture = fixture(100_000);
    for number in 0..100 {
        fixture.cached.create(&name(&format!("meta/00/{number}")), &[7; 5000]).unwrap();
    }
    let mut bytes = 0;
    files_below(fixture.folder.path(), &mut |_, metadata| bytes += metadata.len());
    assert!((50_000..=110_000).contains(&bytes), "{bytes}");
    // Larger than its share: not kept at all.
    fixture.cached.create(&name("meta/00/large"), &[7; 50_000]).unwrap();
    assert_eq!(fixture.reads(|storage| drop(storage.get(&name("meta/00/large")).unwrap())), 1);
    assert!((0..100).all(|number| fixture.cached.get(&name(&format!("meta/00/{number}"))).is_ok()));
}

/// A storage that cannot tell who holds what, as a bucket.
struct Unheld(MemoryStorage);

#[test]
fn whoever_ended_on_this_host_is_known_to_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let open =
        || CachedStorage::new(Arc::new(Unheld(MemoryStorage::new())), folder.path().to_owned(), 1 << 20);
    let (here, there) = (open(), open());
    let lease = name("lease/a.0");
    assert_eq!(there.held(&lease).unwrap(), HeldState::Unknown);
    let hold = here.hold(&lease).unwrap().expect("a file can be locked");
    assert_eq!(there.held(&lease).unwrap(), HeldState::Held);
    drop(hold);
    assert_eq!(there.held(&lease).unwrap(), HeldState::Free);
    there.delete(&lease).unwrap();
    assert_eq!(there.held(&lease).unwrap(), HeldState::Unknown);
}

impl Storage for Unheld {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        self.0.create(name, bytes)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.0.get(name)
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        self.0.get_range(name, range, into)
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.0.len(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        self.0.list(prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.0.delete(name)
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.replace(name, bytes)
    }

    fn hold(&self, _: &ObjectName) -> Result<Option<Hold>, StorageError> {
        Ok(None)
    }

    fn held(&self, _: &ObjectName) -> Result<HeldState, StorageError> {
        Ok(HeldState::Unknown)
    }

    fn map(&self, _: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        Ok(None)
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    fn listing_lags(&self) -> bool {
        false
    }

    fn place(&self) -> String {
        "nowhere".to_owned()
    }
}
