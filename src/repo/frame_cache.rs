//! A bounded cache of opened frames, least recently used out first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::index::PackNumber;
use crate::shelf::Taken;

type Key = (PackNumber, u16);

/// The plain bytes of a frame; dropped by the last holder, their buffer goes back to its shelf.
pub type Plain = Arc<Taken<Vec<u8>>>;

/// See the module.
pub struct FrameCache {
    bytes_max: usize,
    bytes: usize,
    tick: u64,
    frames: HashMap<Key, (u64, Plain)>,
    by_use: BTreeMap<u64, Key>,
}

impl FrameCache {
    /// An empty cache for so many plain bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, tick: 0, frames: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// A frame, if it is there; it is now the most recently used one.
    pub fn get(&mut self, key: Key) -> Option<Plain> {
        let (used, plain) = self.frames.get_mut(&key)?;
        self.tick += 1;
        self.by_use.remove(used);
        *used = self.tick;
        self.by_use.insert(self.tick, key);
        Some(Arc::clone(plain))
    }

    /// Adds a frame and lets the least recently used ones go. One that is larger than the cache is not kept.
    pub fn insert(&mut self, key: Key, plain: Plain) {
        if plain.len() > self.bytes_max || self.frames.contains_key(&key) {
            return;
        }
        self.tick += 1;
        self.bytes += plain.len();
        self.by_use.insert(self.tick, key);
        self.frames.insert(key, (self.tick, plain));
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((_, gone)) = self.frames.remove(&oldest) {
                self.bytes -= gone.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::Shelf;

    #[test]
    fn what_was_used_last_stays() {
        let mut cache = FrameCache::new(10);
        let key = |frame| (PackNumber(1), frame);
        let shelf = Shelf::new(4);
        let plain = |len| {
            let mut plain = shelf.buffer(len);
            plain.resize(len, 0);
            Arc::new(plain)
        };
        for frame in 0..2 {
            cache.insert(key(frame), plain(5));
        }
        assert!(cache.get(key(0)).is_some());
        cache.insert(key(2), plain(5));
        assert!(cache.get(key(0)).is_some());
        assert!(cache.get(key(1)).is_none());
        cache.insert(key(3), plain(11));
        assert!(cache.get(key(3)).is_none());
        assert_eq!(cache.bytes, 10);
        // The one that went left its buffer.
        let (left, none) = (shelf.take(), shelf.take());
        assert!(left.capacity() >= 5);
        assert_eq!(none.capacity(), 0);
    }
}
