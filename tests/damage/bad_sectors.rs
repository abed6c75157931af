//! A disk on which a stretch of one object cannot be read, until the object is written anew.

use std::sync::atomic::{AtomicBool, Ordering};

use kluis::storage::{
    Action, Created, HeldState, Hold, Listed, MappedObject, MemoryStorage, ObjectName, Storage, StorageError,
};
use kluis::units::ByteRange;

/// See the module.
pub struct BadSectors {
    inner: MemoryStorage,
    name: ObjectName,
    bad: ByteRange,
    is_mended: AtomicBool,
}

impl BadSectors {
    /// Objects of `inner`, of which `name` cannot be read in the stretch `bad`.
    pub fn new(inner: MemoryStorage, name: ObjectName, bad: ByteRange) -> Self {
        Self { inner, name, bad, is_mended: AtomicBool::new(false) }
    }

    /// Whether the object was written anew.
    pub fn is_mended(&self) -> bool {
        self.is_mended.load(Ordering::Relaxed)
    }

    fn look(&self, name: &ObjectName, start: u64, end: u64) -> Result<(), StorageError> {
        let is_bad = *name == self.name && start < self.bad.start + self.bad.len && self.bad.start < end;
        if !is_bad || self.is_mended() {
            return Ok(());
        }
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
        self.is_mended.fetch_or(*name == self.name, Ordering::Relaxed);
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
