//! Opened frames for readers who come in any order and stay for weeks: in pieces, a bounded number of them in memory.
//!
//! A small file lies in a frame of megabytes, and opening that costs a hundred times what the file does. Whoever reads
//! files all over a repository would open every frame once for each file in it. Therefore pieces that have to leave the
//! memory go to the [`Overflow`]. Pieces that were read once from end to end do not: whoever reads everything in order
//! comes back for nothing, and writes nothing.
//!
//! Pieces are as long as each other, and their memory is used again for the next ones. Whole frames of all lengths left
//! so much unusable memory between them that a cache of 64 MiB took 350.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use crate::id::PackId;
use crate::repo::overflow::Overflow;

/// Plain bytes of a piece; the last one of a frame may be shorter. A smaller one would cost more to look up, a larger one
/// more to open for a single small file.
pub const PIECE_BYTES: usize = 64 << 10;
/// So many pieces change places at once, so that the lock is held for microseconds and the disk is written to in
/// megabytes.
const PIECES_AT_ONCE: usize = 16;

/// A piece that was read more often than so is still wanted. Two readers may come for the same chunk at the same time.
const SERVED_OVER_AND_OVER: usize = 4;

/// A frame, by its pack and its number in that. Unlike numbers of packs, these stay the same when the index is made anew.
pub type FrameId = (PackId, u16);

/// A piece of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PieceId {
    /// The frame.
    pub frame: FrameId,
    /// Which piece of it.
    pub number: u16,
}

/// See the module. Its methods may be called from several threads.
pub struct PieceCache {
    memory: Mutex<Memory>,
    overflow: Option<Overflow>,
}

struct Memory {
    slots: Vec<Slot>,
    slot_count_max: usize,
    tick: u64,
    places: HashMap<PieceId, usize>,
    by_use: BTreeMap<u64, usize>,
    /// Buffers that nobody uses.
    spare: Vec<Vec<u8>>,
}

struct Slot {
    id: PieceId,
    used: u64,
    /// Bytes that were read of it, counted as often as they were.
    served: usize,
    bytes: Vec<u8>,
}

impl Slot {
    /// Whether somebody may come for it again. What was read once from end to end is past; what was read over and over
    /// is not.
    fn is_wanted(&self) -> bool {
        self.served < self.bytes.len() / 4 * 3 || self.served > self.bytes.len() * SERVED_OVER_AND_OVER
    }
}

/// The pieces that a stretch of a frame touches, each with the part of it.
fn pieces(frame: FrameId, range: Range<usize>) -> impl Iterator<Item = (PieceId, Range<usize>)> {
    let numbers = range.start / PIECE_BYTES..range.end.div_ceil(PIECE_BYTES);
    numbers.map(move |number| {
        let start = number * PIECE_BYTES;
        let from = range.start.saturating_sub(start);
        let to = (range.end - start).min(PIECE_BYTES);
        // A frame has at most `FRAME_BYTES_MAX`.
        (PieceId { frame, number: number as u16 }, from..to)
    })
}

const _: () = assert!(crate::limits::FRAME_BYTES_MAX / PIECE_BYTES <= u16::MAX as usize);

impl PieceCache {
    /// Keeps so many bytes in memory, at least a few pieces, and what leaves it in `overflow`.
    pub fn new(memory_bytes_max: usize, overflow: Option<Overflow>) -> Self {
        let memory = Memory {
            slots: Vec::new(),
            slot_count_max: (memory_bytes_max / PIECE_BYTES).max(PIECES_AT_ONCE),
            tick: 0,
            places: HashMap::new(),
            by_use: BTreeMap::new(),
            spare: Vec::new(),
        };
        Self { memory: Mutex::new(memory), overflow }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no holder of this lock panics")
    }

    /// A stretch of a frame, if all of it is here.
    pub fn read(&self, frame: FrameId, range: Range<usize>) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(range.len());
        for (id, part) in pieces(frame, range) {
            let is_there = self.memory().read(&id, part.clone(), &mut bytes)
                || self.overflow.as_ref().is_some_and(|it| it.read(&id, part.start, part.end, &mut bytes));
            if !is_there {
                return None;
            }
        }
        Some(bytes)
    }

    /// Whether a stretch of a frame is here.
    pub fn holds(&self, frame: FrameId, range: Range<usize>) -> bool {
        pieces(frame, range).all(|(id, _)| {
            self.memory().places.contains_key(&id) || self.overflow.as_ref().is_some_and(|it| it.holds(&id))
        })
    }

    /// Adds an opened frame, a stretch of which was read from it.
    pub fn insert(&self, frame: FrameId, plain: &[u8], served: Range<usize>) {
        let mut all = pieces(frame, 0..plain.len()).zip(plain.chunks(PIECE_BYTES)).peekable();
        let mut leaving = Vec::with_capacity(PIECES_AT_ONCE);
        while all.peek().is_some() {
            {
                let mut memory = self.memory();
                memory.spare.extend(leaving.drain(..).map(|(_, bytes)| bytes));
                for ((id, _), bytes) in all.by_ref().take(PIECES_AT_ONCE) {
                    let start = usize::from(id.number) * PIECE_BYTES;
                    let end = start + bytes.len();
                    let served = served.end.min(end).saturating_sub(served.start.max(start));
                    leaving.extend(memory.insert(id, bytes, served));
                }
            }
            if let Some(overflow) = &self.overflow {
                overflow.put(&leaving);
            }
        }
        let mut memory = self.memory();
        memory.spare.extend(leaving.drain(..).map(|(_, bytes)| bytes));
        memory.spare.truncate(PIECES_AT_ONCE);
    }
}

impl Memory {
    fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn read(&mut self, id: &PieceId, part: Range<usize>, into: &mut Vec<u8>) -> bool {
        let Some(place) = self.places.get(id).copied() else { return false };
        let tick = self.next_tick();
        let Some(slot) = self.slots.get_mut(place) else { return false };
        let Some(bytes) = slot.bytes.get(part) else { return false };
        into.extend_from_slice(bytes);
        slot.served += bytes.len();
        self.by_use.remove(&slot.used);
        slot.used = tick;
        self.by_use.insert(tick, place);
        true
    }

    /// Puts a piece in; returns the one that had to go for it, if that is still wanted.
    fn insert(&mut self, id: PieceId, bytes: &[u8], served: usize) -> Option<(PieceId, Vec<u8>)> {
        if self.places.contains_key(&id) {
            return None;
        }
        let used = self.next_tick();
        let mut buffer = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES));
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let slot = Slot { id, used, served, bytes: buffer };
        if self.slots.len() < self.slot_count_max {
            let place = self.slots.len();
            self.slots.push(slot);
            self.places.insert(id, place);
            self.by_use.insert(used, place);
            return None;
        }
        let (_, place) = self.by_use.pop_first()?;
        let gone = std::mem::replace(self.slots.get_mut(place)?, slot);
        self.places.remove(&gone.id);
        self.places.insert(id, place);
        self.by_use.insert(used, place);
        if gone.is_wanted() {
            return Some((gone.id, gone.bytes));
        }
        self.spare.push(gone.bytes);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RepositoryId;
    use crate::index::CacheFolder;

    const FEW: usize = PIECES_AT_ONCE * PIECE_BYTES;

    fn frame(number: u16) -> (FrameId, Vec<u8>) {
        let bytes = (0..FEW + 77).map(|at| (at / 1000) as u8 ^ number as u8).collect();
        ((PackId::new([1; 32]), number), bytes)
    }

    #[test]
    fn any_stretch_of_a_frame_is_read_from_its_pieces() {
        let cache = PieceCache::new(2 * FEW, None);
        let (id, plain) = frame(1);
        cache.insert(id, &plain, 0..0);
        let ends = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, plain.len()];
        for from in ends {
            for to in ends.into_iter().filter(|to| *to >= from) {
                assert!(cache.holds(id, from..to));
                assert!(cache.read(id, from..to).unwrap() == plain[from..to], "{from}..{to}");
            }
        }
        assert_eq!(cache.read(frame(2).0, 0..10), None);
        // Longer than the frame: not here, and no panic.
        assert_eq!(cache.read(id, 0..plain.len() + 1), None);
    }

    #[test]
    fn memory_is_bounded_and_what_was_used_last_stays() {
        let cache = PieceCache::new(2 * FEW, None);
        for number in 0..5 {
            let (id, plain) = frame(number);
            cache.insert(id, &plain, 0..0);
            assert!(cache.read(frame(0).0, 0..100).is_some(), "{number}");
        }
        let memory = cache.memory();
        assert_eq!(memory.slots.len(), 2 * PIECES_AT_ONCE);
        assert_eq!(memory.by_use.len(), memory.slots.len());
        assert_eq!(memory.places.len(), memory.slots.len());
        assert!(memory.spare.len() <= PIECES_AT_ONCE);
        drop(memory);
        assert!(!cache.holds(frame(1).0, 0..100));
    }

    #[test]
    fn what_leaves_the_memory_goes_to_the_overflow_unless_all_of_it_was_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let file =
            CacheFolder::open(folder.path()).unwrap().scratch_file(RepositoryId::new([1; 16])).unwrap();
        let cache = PieceCache::new(FEW, Some(Overflow::new(file, 64 << 20).unwrap()));
        let (scattered, in_order, last) = (frame(0), frame(1), frame(2));
        cache.insert(scattered.0, &scattered.1, 5..10);
        cache.insert(in_order.0, &in_order.1, 0..1000);
        assert!(cache.read(in_order.0, 1000..PIECE_BYTES * 2).is_some());
        cache.insert(last.0, &last.1, 0..0);
        assert!(cache.read(scattered.0, 0..scattered.1.len()).unwrap() == scattered.1);
        assert!(cache.read(in_order.0, 2 * PIECE_BYTES..in_order.1.len()).is_some());
        // Of this piece every byte was read, once.
        assert!(!cache.holds(in_order.0, PIECE_BYTES..2 * PIECE_BYTES));
    }
}
