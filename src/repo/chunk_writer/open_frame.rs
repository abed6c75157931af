//! Frames that are being collected, and what they may rest on.

use crate::format::frame::{ChunkEntry, Codec, FrameEntry};
use crate::id::ContentId;
use crate::limits;
use crate::repo::chunk_reader::BaseBytes;
use crate::repo::opening::Openings;
use crate::repo::resemblance::repeats_much;

/// Bases that were added last, among which one may be met again.
const NEIGHBOUR_COUNT: usize = 32;

/// A chunk or node that something may rest on, and its length.
pub(super) type Base = (ContentId, u32);

/// A frame that is being collected.
#[derive(Default)]
pub(super) struct OpenFrame {
    pub(super) plain: Vec<u8>,
    pub(super) chunks: Vec<ChunkEntry>,
    pub(super) bases: Vec<Base>,
    pub(super) prefix_len: usize,
    /// What is opened for the bases.
    pub(super) openings: Openings,
    /// What it was collected from, if that has earlier versions.
    pub(super) runs: Vec<BasedRun>,
}

/// A stretch of a shared frame, and what it may resemble.
pub(super) struct BasedRun {
    pub(super) len: usize,
    pub(super) chunk_count: usize,
    pub(super) bases: Vec<Base>,
}

impl OpenFrame {
    pub(super) fn has_room(&self, len: usize, bytes_max: usize, bases: &[Base]) -> bool {
        let prefix_len: usize = bases.iter().map(|(_, len)| *len as usize).sum();
        self.plain.len() + len <= bytes_max
            && self.prefix_len + prefix_len <= limits::PREFIX_BYTES_MAX
            && self.bases.len() + bases.len() <= limits::BASE_COUNT_MAX
    }

    /// Whether what is opened for all bases stays within `bytes_max`; it always does if nothing is collected yet.
    pub(super) fn may_open(&self, more: &Openings, bytes_max: u64) -> bool {
        self.chunks.is_empty() || self.openings.bytes_with(more) <= bytes_max
    }

    pub(super) fn add(&mut self, chunks: &mut Vec<ChunkEntry>, bytes: &[u8], bases: &[Base]) {
        if !bases.is_empty() {
            let run = BasedRun { len: bytes.len(), chunk_count: chunks.len(), bases: bases.to_vec() };
            self.runs.push(run);
        }
        self.plain.extend_from_slice(bytes);
        self.chunks.append(chunks);
        for base in bases {
            // Neighbouring stretches rest on the same chunks.
            if !self.bases.iter().rev().take(NEIGHBOUR_COUNT).any(|before| before == base) {
                self.bases.push(*base);
                self.prefix_len += base.1 as usize;
            }
        }
    }
}

/// Chunks of one file, end to end, that are all to be stored.
#[derive(Default)]
pub(super) struct NewRun {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) chunks: Vec<ChunkEntry>,
}

impl NewRun {
    /// What there is so far; the rest begins where it ends.
    pub(super) fn split(&mut self) -> Self {
        let chunks = std::mem::take(&mut self.chunks);
        Self { start: std::mem::replace(&mut self.start, self.end), end: self.end, chunks }
    }
}

/// What a frame may be compressed against; all of it claimed. Without bases it is empty.
#[derive(Default)]
pub(super) struct Prefix {
    pub(super) bases: Vec<Base>,
    pub(super) read: BaseBytes,
    pub(super) depth: u8,
}

impl Prefix {
    pub(super) fn ids(&self) -> Vec<ContentId> {
        self.bases.iter().map(|(id, _)| *id).collect()
    }

    /// The entry of a frame that was compressed against it.
    pub(super) fn frame(&self, codec: Codec, stored: &[u8], chunks: Vec<ChunkEntry>) -> FrameEntry {
        let stored_len = stored.len() as u32;
        match codec {
            Codec::ZstdPrefix => {
                FrameEntry { codec, depth: self.depth, stored_len, bases: self.ids(), chunks }
            }
            Codec::Stored | Codec::Zstd => {
                FrameEntry { codec, depth: 0, stored_len, bases: Vec::new(), chunks }
            }
        }
    }

    /// Whether `bytes` repeat much of those of `bases` that are in the prefix.
    pub(super) fn has_much_of(&self, bytes: &[u8], bases: &[Base]) -> bool {
        let mut rest = self.read.bytes.as_slice();
        let mut parts = Vec::new();
        for base in &self.bases {
            let (part, after) = rest.split_at_checked(base.1 as usize).unwrap_or((rest, &[]));
            rest = after;
            if bases.contains(base) {
                parts.push(part);
            }
        }
        repeats_much(bytes, &parts)
    }
}
