//! A storage in memory, for tests. It keeps every promise of the contract but survival.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::storage::{Created, HeldState, Hold, Listed, MappedObject, ObjectName, Storage, StorageError};
use crate::units::ByteRange;

/// Keeps objects in memory. Clones share them, as hosts share a disk.
///
/// Beside [`Storage`] it has a back door for tests: [`objects`](Self::objects), [`set`](Self::set),
/// [`remove`](Self::remove).
#[derive(Clone)]
pub struct MemoryStorage {
    shared: Arc<Mutex<Shared>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Shared {
    objects: BTreeMap<ObjectName, Stored>,
    hold_counts: HashMap<ObjectName, usize>,
}

struct Stored {
    bytes: Arc<[u8]>,
    stored_at: Timestamp,
}

/// Ends one hold when it is dropped.
struct Holding {
    storage: MemoryStorage,
    name: ObjectName,
}

impl MemoryStorage {
    /// An empty storage that stamps objects with the time of this computer.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty storage with a clock of its own.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::default(), clock }
    }

    /// A storage of its own that holds these objects.
    pub fn from_objects(objects: BTreeMap<ObjectName, Arc<[u8]>>) -> Self {
        let storage = Self::new();
        objects.into_iter().for_each(|(name, bytes)| storage.set(&name, bytes));
        storage
    }

    /// All objects as they are now.
    pub fn objects(&self) -> BTreeMap<ObjectName, Arc<[u8]>> {
        let shared = self.lock();
        shared.objects.iter().map(|(name, stored)| (name.clone(), stored.bytes.clone())).collect()
    }

    /// Makes an object hold these bytes, whether or not it existed.
    pub fn set(&self, name: &ObjectName, bytes: impl Into<Arc<[u8]>>) {
        let stored = Stored { bytes: bytes.into(), stored_at: self.clock.now() };
        self.lock().objects.insert(name.clone(), stored);
    }

    /// Takes an object away and returns its bytes, or `None` where there was none.
    pub fn remove(&self, name: &ObjectName) -> Option<Arc<[u8]>> {
        self.lock().objects.remove(name).map(|stored| stored.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // No code that can panic runs under the lock, so a poisoned one still guards whole objects.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self, name: &ObjectName) -> Result<Arc<[u8]>, StorageError> {
        let shared = self.lock();
        let stored = shared.objects.get(name);
        stored.map(|stored| stored.bytes.clone()).ok_or_else(|| StorageError::Missing { name: name.clone() })
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage for MemoryStorage {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        let stored = Stored { bytes: bytes.into(), stored_at: self.clock.now() };
        let mut shared = self.lock();
        if shared.objects.contains_key(name) {
            return Ok(Created::Exists);
        }
        shared.objects.insert(name.clone(), stored);
        Ok(Created::Created)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        Ok(self.bytes(name)?.to_vec())
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        let bytes = self.bytes(name)?;
        let part = usize::try_from(range.start)
            .ok()
            .zip(range.end().and_then(|end| usize::try_from(end).ok()))
            .and_then(|(start, end)| bytes.get(start..end));
        let short = || StorageError::Short { name: name.clone(), end: range.end().unwrap_or(u64::MAX) };
        into.extend_from_slice(part.ok_or_else(short)?);
        Ok(())
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        Ok(self.bytes(name)?.len() as u64)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        let is_below = |name: &ObjectName| match name.as_str().strip_prefix(prefix) {
            Some(rest) => prefix.is_empty() || rest.starts_with('/'),
            None => false,
        };
        // Collected first: the visitor may call this storage again.
        let listed: Vec<Listed> = self
            .lock()
            .objects
            .iter()
            .filter(|(name, _)| is_below(name))
            .map(|(name, stored)| Listed {
                name: name.clone(),
                len: stored.bytes.len() as u64,
                stored_at: stored.stored_at,
            })
            .collect();
        listed.into_iter().for_each(visit);
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.remove(name);
        Ok(())
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        match self.lock().objects.get_mut(name) {
            Some(stored) => {
                stored.bytes = bytes.into();
                Ok(())
            }
            None => Err(StorageError::Missing { name: name.clone() }),
        }
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        let mut shared = self.lock();
        if !shared.objects.contains_key(name) {
            return Err(StorageError::Missing { name: name.clone() });
        }
        *shared.hold_counts.entry(name.clone()).or_default() += 1;
        Ok(Some(Hold::new(Holding { storage: self.clone(), name: name.clone() })))
    }

    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        let shared = self.lock();
        if !shared.objects.contains_key(name) {
            return Err(StorageError::Missing { name: name.clone() });
        }
        let is_held = shared.hold_counts.contains_key(name);
        Ok(if is_held { HeldState::Held } else { HeldState::Free })
    }

    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        Ok(Some(MappedObject::from_bytes(self.bytes(name)?)))
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    fn listing_lags(&self) -> bool {
        false
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut shared = self.storage.lock();
        if let Some(count) = shared.hold_counts.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                shared.hold_counts.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;

    #[test]
    fn clones_share_objects_and_holds() {
        let name = ObjectName::new("lease/1.0").unwrap();
        let here = MemoryStorage::with_clock(Arc::new(FixedClock(Timestamp::from_seconds(7))));
        let there = here.clone();
        here.set(&name, *b"one");
        let hold = there.hold(&name).unwrap();
        let second = there.hold(&name).unwrap();
        drop(hold);
        assert_eq!(here.held(&name).unwrap(), HeldState::Held);
        drop(second);
        assert_eq!(here.held(&name).unwrap(), HeldState::Free);
        here.list("", &mut |listed| assert_eq!(listed.stored_at.seconds, 7)).unwrap();
        assert_eq!(there.remove(&name).as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn a_storage_made_from_objects_is_one_of_its_own() {
        let name = ObjectName::new("README").unwrap();
        let first = MemoryStorage::new();
        first.set(&name, *b"one");
        let second = MemoryStorage::from_objects(first.objects());
        second.set(&name, *b"two");
        assert_eq!(
            (first.get(&name).unwrap(), second.get(&name).unwrap()),
            (b"one".to_vec(), b"two".to_vec())
        );
    }
}
