//! A disk on which stretches of objects cannot be read: until an object is written anew, or until the trouble has passed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kluis::storage::{
    Action, Created, HeldState, Hold, Listed, MappedObject, MemoryStorage, ObjectName, Storage, StorageError,
};
use kluis::units::ByteRange;

/// See the module.
pub struct BadSectors {
    inner: MemoryStorage,
    bad: Vec<(ObjectName, ByteRange)>,
    mended: Mutex<BTreeSet<ObjectName>>,
    has_passed: AtomicBool,
    failures: AtomicU64,
}

impl BadSectors {
    /// Objects of `inner`, which cannot be read in the stretches `bad`.
    pub fn new(inner: MemoryStorage, bad: Vec<(ObjectName, ByteRange)>) -> Self {
        let (has_passed, failures) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { inner, bad, mended: Mutex::default(), has_passed, failures }
    }

    /// Whether an object was written anew.
    pub fn is_mended(&self) -> bool {
        !self.mended.lock().unwrap().is_empty()
    }

    /// From now on everything can be read.
    pub fn pass(&self) {
        self.has_passed.store(true, Ordering::Relaxed);
    }

    /// So many reads have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn look(&self, name: &ObjectName, start: u64, end: u64) -> Result<(), StorageError> {
        let is_met = |bad: &ByteRange| start < bad.start + bad.len && bad.start < end;
        let is_bad = self.bad.iter().any(|(of, bad)| of == name && is_met(bad));
        let is_good_again =
            || self.has_passed.load(Ordering::Relaxed) || self.mended.lock().unwrap().contains(name);
        if !is_bad || is_good_again() {
            return Ok(());
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        let source = std::io::Error::other("input/output error");
        Err(StorageError::Failed { action: Action::Read, what: name.to_string(), source })
    }
}

impl Storage for BadSectors {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        self.inner.create(name, bytes)
    }
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.look(name, 0, u64::MAX).and_then(|()| self.inner.get(name))
    }
    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        self.look(name, range.start, range.start + range.len)?;
        self.inner.get_range(name, range, into)
    }
    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.inner.len(name)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        self.inner.list(prefix, visit)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.inner.delete(name)
    }
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.inner.replace(name, bytes)?;
        // What is written anew lies in other sectors.
        if self.bad.iter().any(|(of, _)| of == name) {
            self.mended.lock().unwrap().insert(name.clone());
        }
        Ok(())
    }
    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        self.inner.hold(name)
    }
    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        self.inner.held(name)
    }
    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        self.inner.map(name)
    }
    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        self.inner.space_left()
    }
    fn listing_lags(&self) -> bool {
        self.inner.listing_lags()
    }
    fn place(&self) -> String {
        self.inner.place()
    }
}
