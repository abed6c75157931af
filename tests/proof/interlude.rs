//! A storage in which something else happens just before the n-th call: the caller sleeps there, and wakes afterwards.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use kluis::storage::{
    Created, HeldState, Hold, Listed, MappedObject, MemoryStorage, ObjectName, Storage, StorageError,
};
use kluis::units::ByteRange;

type Interlude = Box<dyn FnOnce() + Send>;

/// Passes everything on; before call number `at` the interlude is played, once. Calls of threads that
/// compute are not counted.
pub struct InterludeStorage {
    inner: MemoryStorage,
    at: u64,
    calls: AtomicU64,
    interlude: Mutex<Option<Interlude>>,
}

impl InterludeStorage {
    pub fn new(inner: MemoryStorage, at: u64, interlude: impl FnOnce() + Send + 'static) -> Self {
        Self { inner, at, calls: AtomicU64::new(0), interlude: Mutex::new(Some(Box::new(interlude))) }
    }

    /// Whether the operation came to call number `at`.
    pub fn was_played(&self) -> bool {
        self.interlude.lock().unwrap().is_none()
    }

    /// Calls so far.
    pub fn call_count(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn call(&self) -> &MemoryStorage {
        // Threads that compute are shared by all operations of a process. What is played could wait for one of them,
        // and that one for something that whoever sleeps has in hand; two processes would not.
        if rayon::current_thread_index().is_some() {
            return &self.inner;
        }
        if self.calls.fetch_add(1, Ordering::Relaxed) == self.at {
            let interlude = self.interlude.lock().unwrap().take();
            interlude.into_iter().for_each(|play| play());
        }
        &self.inner
    }
}

impl Storage for InterludeStorage {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        self.call().create(name, bytes)
    }
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.call().get(name)
    }
    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        self.call().get_range(name, range, into)
    }
    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.call().len(name)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        self.call().list(prefix, visit)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.call().delete(name)
    }
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.call().replace(name, bytes)
    }
    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        self.call().hold(name)
    }
    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        self.call().held(name)
    }
    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        self.call().map(name)
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
