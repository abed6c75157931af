//! Earlier versions: where a file that is being stored resembles what is stored already.
//!
//! A new version of a file mostly differs from the one before in a few places of nearly every chunk, so that few chunks
//! are the same although nearly all bytes are. What lay at the same place in the earlier version, give or take by how
//! much the bytes have moved, is then what a frame is compressed against (docs/design.md, "Bases").

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use crate::format::tree::ChunkRef;
use crate::id::{ChunkId, ContentId};
use crate::limits;

/// So many bytes before and after the stretch itself are taken, too: bytes are inserted and removed within a stretch.
const MARGIN_BYTES: u64 = 1 << 20;

/// A chunk of an earlier version, and where it begins in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierChunk {
    /// Which chunk.
    pub id: ChunkId,
    /// Bytes of the version before it.
    pub start: u64,
    /// Its bytes.
    pub len: u32,
}

/// So many frames in a row that were not differences end the search in the file: it resembles nothing, and what lies
/// there would be read for nothing.
const MISS_COUNT_MAX: u32 = 3;

/// By how many bytes a file has moved against its earlier version, where both were last seen to share a chunk; and
/// whether it is alike at all. Known to all who work on parts of the file.
#[derive(Debug, Clone, Default)]
pub struct Drift(Arc<Learned>);

#[derive(Debug, Default)]
struct Learned {
    bytes: AtomicI64,
    miss_count: AtomicU32,
}

impl Drift {
    /// Bytes by which the new version is behind; negative if it is ahead.
    pub fn get(&self) -> i64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn set(&self, bytes: i64) {
        self.0.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// The part of an earlier version that lies around a stretch of a new one.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    chunks: Vec<EarlierChunk>,
    drift: Drift,
}

impl Earlier {
    /// These chunks, by ascending start.
    pub fn new(chunks: Vec<EarlierChunk>, drift: Drift) -> Self {
        Self { chunks, drift }
    }

    /// All chunks of a small file.
    pub fn whole(chunks: &[ChunkRef]) -> Self {
        let mut end = 0;
        let placed = chunks.iter().map(|chunk| {
            let start = end;
            end += u64::from(chunk.len);
            EarlierChunk { id: chunk.id, start, len: chunk.len }
        });
        Self { chunks: placed.collect(), drift: Drift::default() }
    }

    /// Whether there is nothing to compare with.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Notes whether a part of the file was alike.
    pub(super) fn learn(&self, is_alike: bool) {
        let miss_count = &self.drift.0.miss_count;
        if is_alike {
            miss_count.store(0, Ordering::Relaxed);
        } else {
            miss_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it is not worth trying any more.
    pub(super) fn is_hopeless(&self) -> bool {
        self.drift.0.miss_count.load(Ordering::Relaxed) >= MISS_COUNT_MAX
    }

    /// Where new and earlier version share a chunk: how far into the new one, and the drift there. `ids` are the chunks
    /// of the new version from `at` on, of these lengths. What was seen last is remembered for whoever works on the
    /// parts that follow.
    pub(super) fn anchors(&self, at: u64, ids: &[ChunkId], lens: &[usize]) -> Anchors {
        let mut anchors = Vec::new();
        let mut start = at;
        for (id, len) in ids.iter().zip(lens) {
            // Contents that repeat themselves are met in several places: the nearest is meant.
            let same = self.chunks.iter().filter(|chunk| chunk.id == *id);
            let drifts = same.map(|chunk| chunk.start as i64 - start as i64);
            let before = anchors.last().map_or(self.drift.get(), |(_, drift)| *drift);
            anchors.extend(drifts.min_by_key(|drift| drift.abs_diff(before)).map(|drift| (start, drift)));
            start += *len as u64;
        }
        let before = self.drift.get();
        if let Some((_, drift)) = anchors.last() {
            self.drift.set(*drift);
            self.learn(true);
        }
        Anchors { before, anchors }
    }

    /// The chunks that lie where `len` bytes from `start` were, with a margin, and no more than a prefix may hold.
    pub(super) fn covering(&self, start: u64, len: u64, drift: i64) -> Vec<(ContentId, u32)> {
        // What would lie before the beginning is cut off.
        let from = start.saturating_add_signed(drift.saturating_sub_unsigned(MARGIN_BYTES));
        let to = (start + len).saturating_add_signed(drift.saturating_add_unsigned(MARGIN_BYTES));
        let overlaps = |chunk: &&EarlierChunk| chunk.start < to && chunk.start + u64::from(chunk.len) > from;
        let mut bytes = 0;
        let covering = self.chunks.iter().filter(overlaps).take_while(|chunk| {
            bytes += u64::from(chunk.len);
            bytes <= limits::PREFIX_BYTES_MAX as u64
        });
        covering.map(|chunk| (chunk.id.content(), chunk.len)).collect()
    }
}

/// See [`Earlier::anchors`].
pub(super) struct Anchors {
    before: i64,
    anchors: Vec<(u64, i64)>,
}

impl Anchors {
    /// The drift at a place of the new version: that of the nearest shared chunk before it, or else after it.
    pub(super) fn drift_at(&self, start: u64) -> i64 {
        let after = self.anchors.partition_point(|(at, _)| *at <= start);
        let before = after.checked_sub(1).and_then(|at| self.anchors.get(at));
        before.or(self.anchors.first()).map_or(self.before, |(_, drift)| *drift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ChunkId {
        ChunkId::new([number; 32])
    }

    /// Ten chunks of a mebibyte.
    fn ten() -> Earlier {
        let chunks: Vec<_> = (0..10).map(|number| ChunkRef { id: id(number), len: 1 << 20 }).collect();
        Earlier::whole(&chunks)
    }

    fn numbers(bases: &[(ContentId, u32)]) -> Vec<u8> {
        bases.iter().map(|(id, _)| id.bytes()[0]).collect()
    }

    #[test]
    fn a_stretch_rests_on_what_lay_there_and_around_it() {
        assert_eq!(numbers(&ten().covering(4 << 20, 1 << 20, 0)), [3, 4, 5]);
        assert_eq!(numbers(&ten().covering(4 << 20, 1 << 20, 1)), [3, 4, 5, 6]);
        assert_eq!(numbers(&ten().covering(4 << 20, 1 << 20, -(5 << 20))), [0]);
        assert_eq!(numbers(&ten().covering(0, 100, 0)), [0, 1]);
        assert!(ten().covering(20 << 20, 1 << 20, 0).is_empty());
        assert_eq!(numbers(&ten().covering(20 << 20, 1 << 20, -(12 << 20))), [7, 8, 9]);
    }

    #[test]
    fn no_prefix_is_longer_than_the_limit() {
        let chunks: Vec<_> = (0..40).map(|number| ChunkRef { id: id(number), len: 1 << 20 }).collect();
        assert_eq!(Earlier::whole(&chunks).covering(0, 40 << 20, 0).len(), 16);
    }

    #[test]
    fn shared_chunks_tell_how_far_the_bytes_have_moved() {
        let earlier = ten();
        let (ids, lens) = ([id(70), id(2), id(71), id(5), id(72)], [500, 1 << 20, 7, 1 << 20, 9]);
        let anchors = earlier.anchors(1 << 20, &ids, &lens);
        let second = (1 << 20) + 500;
        let fourth = second + (1 << 20) + 7;
        let drifts = [(2i64 << 20) - second as i64, (5i64 << 20) - fourth as i64];
        assert_eq!(anchors.drift_at(0), drifts[0]);
        assert_eq!(anchors.drift_at(second + 10), drifts[0]);
        assert_eq!(anchors.drift_at(fourth + 10), drifts[1]);
        assert_eq!(earlier.drift.get(), drifts[1]);
        // Without any, what was seen last counts.
        assert_eq!(earlier.anchors(9 << 20, &[id(80)], &[5]).drift_at(9 << 20), drifts[1]);
    }
}
