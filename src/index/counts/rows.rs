//! The bytes of the counting tables. As everywhere in the index, every row ends in a check over table, key and value.
//!
//! | Row | Key | Value |
//! | --- | --- | --- |
//! | block | pack 4, block 2, big-endian | 338 entries of 12: frame 2, start 3, length - 1 3, flags and count 4 |
//! | numbered pack | number | state 1, kind 1, total bytes 8, live bytes 8, live count 4, entries 4 |
//! | first spots | number | for each block the spot of its first entry, 8 |
//! | edges | local number | children, see [`encode_numbers`] |
//! | parent | block 6, parent 8, big-endian | which entries of the block it refers to, as [`encode_numbers`] |
//! | frame | pack 4, frame 2, big-endian | live count 4, bases as [`encode_numbers`] |
//! | resting | local number | count 4 |
//! | snapshot | id | state 1, root 8 |

use redb::TableHandle;

use super::super::error::IndexError;
use super::super::rows::{opened, pair_key, sealed};
use super::super::{PackNumber, Place};
use super::{BLOCKS, FIRST_SPOTS, NUMBERED, SNAPSHOTS};
use crate::limits::{FRAME_BYTES_MAX, PACK_CHUNK_COUNT_MAX};

/// Entries of a block: with key and check they just fit into one page.
pub(super) const BLOCK_ENTRY_COUNT: usize = if cfg!(test) { 7 } else { 338 };

const ENTRY_LEN: usize = 12;
const ORDINAL_BITS: u32 = 18;
const ORDINAL_MASK: u64 = (1 << ORDINAL_BITS) - 1;
const _: () = assert!(PACK_CHUNK_COUNT_MAX as u64 <= ORDINAL_MASK + 1);
const _: () = assert!(FRAME_BYTES_MAX <= 1 << 24);

/// Local number of a copy of a chunk or node: its pack, and how many lie before it in that pack.
///
/// One of the copies of an id *represents* it: its number stands in edges, and its entry holds the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalNumber(pub(super) u64);

impl LocalNumber {
    pub(super) fn new(pack: u32, ordinal: usize) -> Self {
        Self(u64::from(pack) << ORDINAL_BITS | (ordinal as u64 & ORDINAL_MASK))
    }

    /// What refers to the bases of a frame: it is no chunk, so it is above all numbers of chunks.
    pub(super) fn frame(at: (u32, u16)) -> Self {
        Self(1 << 63 | u64::from(at.0) << 16 | u64::from(at.1))
    }

    /// The number of something that no pack holds: packs of such numbers are counted down from the highest.
    pub(super) fn phantom(at: u32) -> Self {
        let pack = u32::MAX - (at >> ORDINAL_BITS);
        Self::new(pack, at as usize)
    }

    /// Its pack.
    pub fn pack(self) -> PackNumber {
        PackNumber((self.0 >> ORDINAL_BITS) as u32)
    }

    /// How many lie before it in its pack.
    pub fn ordinal(self) -> usize {
        (self.0 & ORDINAL_MASK) as usize
    }

    pub(super) fn block(self) -> (u32, u16) {
        (self.pack().0, (self.ordinal() / BLOCK_ENTRY_COUNT) as u16)
    }

    pub(super) fn place_in_block(self) -> usize {
        self.ordinal() % BLOCK_ENTRY_COUNT
    }
}

/// The highest packs belong to what no pack holds.
pub(super) const PHANTOM_PACK_MIN: u32 = u32::MAX - (u32::MAX >> ORDINAL_BITS);

/// Where something lies in its pack: frame and start as one number.
pub(super) fn spot(frame: u16, start: u32) -> u64 {
    u64::from(frame) << 24 | u64::from(start)
}

/// See [`spot`].
pub(super) fn spot_of(place: Place) -> u64 {
    spot(place.frame, place.start)
}

/// Bytes that count: an empty chunk counts as one byte, so that it is seen at all.
pub(super) fn counted_len(len: u32) -> u32 {
    len.max(1)
}

const COUNT_MASK: u32 = (1 << 28) - 1;
const IS_BASED: u32 = 1 << 28;
const IS_EXPANDED: u32 = 1 << 29;
const IS_COPIED: u32 = 1 << 30;
const IS_ALIAS: u32 = 1 << 31;

/// What is known of a copy of a chunk or node; and its count, if it represents its id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) spot: u64,
    pub(super) len: u32,
    bits: u32,
}

macro_rules! flag {
    ($(#[$doc:meta])* $get:ident, $set:ident, $bit:ident) => {
        $(#[$doc])*
        pub(super) fn $get(&self) -> bool {
            self.bits & $bit != 0
        }

        pub(super) fn $set(&mut self, on: bool) {
            self.bits = if on { self.bits | $bit } else { self.bits & !$bit };
        }
    };
}

impl Entry {
    pub(super) fn new(spot: u64, len: u32, is_based: bool) -> Self {
        Self { spot, len: counted_len(len), bits: if is_based { IS_BASED } else { 0 } }
    }

    /// Whether its frame has bases.
    pub(super) fn is_based(&self) -> bool {
        self.bits & IS_BASED != 0
    }

    flag!(
        /// Whether its edges are stored.
        is_expanded, set_expanded, IS_EXPANDED
    );
    flag!(
        /// Whether there are further copies of the id that it represents.
        is_copied, set_copied, IS_COPIED
    );
    flag!(
        /// Whether another copy represents its id.
        is_alias, set_alias, IS_ALIAS
    );

    pub(super) fn count(&self) -> u32 {
        self.bits & COUNT_MASK
    }

    pub(super) fn frame(&self) -> u16 {
        (self.spot >> 24) as u16
    }

    pub(super) fn start(&self) -> u32 {
        self.spot as u32 & 0x00ff_ffff
    }

    /// Whether somebody may still ask for it after its pack is forgotten.
    pub(super) fn is_needed(&self) -> bool {
        self.bits & (COUNT_MASK | IS_COPIED | IS_ALIAS) != 0
    }

    pub(super) fn add(&mut self) -> Result<(), IndexError> {
        if self.count() == COUNT_MASK {
            return Err(IndexError::Invalid { rule: "a chunk is referred to too often" });
        }
        self.bits += 1;
        Ok(())
    }

    pub(super) fn subtract(&mut self) -> Result<(), IndexError> {
        if self.count() == 0 {
            return Err(IndexError::damaged("a count would fall below zero"));
        }
        self.bits -= 1;
        Ok(())
    }

    fn encode(&self) -> [u8; ENTRY_LEN] {
        let [_, _, _, s0, s1, s2, s3, s4] = self.spot.to_be_bytes();
        let [_, l0, l1, l2] = (self.len - 1).to_be_bytes();
        let [b0, b1, b2, b3] = self.bits.to_be_bytes();
        [s0, s1, s2, s3, s4, l0, l1, l2, b0, b1, b2, b3]
    }

    fn decode(bytes: [u8; ENTRY_LEN]) -> Self {
        let [s0, s1, s2, s3, s4, l0, l1, l2, b0, b1, b2, b3] = bytes;
        Self {
            spot: u64::from_be_bytes([0, 0, 0, s0, s1, s2, s3, s4]),
            len: u32::from_be_bytes([0, l0, l1, l2]) + 1,
            bits: u32::from_be_bytes([b0, b1, b2, b3]),
        }
    }
}

pub(super) fn block_key(block: (u32, u16)) -> [u8; 6] {
    pair_key(block.0, block.1)
}

/// Key of what a parent refers to in a block.
pub(super) fn parent_key(block: (u32, u16), parent: LocalNumber) -> [u8; 14] {
    let mut key = [0; 14];
    let (head, tail) = key.split_at_mut(6);
    head.copy_from_slice(&block_key(block));
    tail.copy_from_slice(&parent.0.to_be_bytes());
    key
}

pub(super) fn encode_block(key: [u8; 6], entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_LEN * entries.len() + 4);
    entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.encode()));
    sealed(BLOCKS, &key, bytes)
}

pub(super) fn decode_block(key: [u8; 6], stored: &[u8]) -> Result<Vec<Entry>, IndexError> {
    match opened(BLOCKS, &key, stored)?.as_chunks() {
        (entries, []) => Ok(entries.iter().map(|entry| Entry::decode(*entry)).collect()),
        _ => Err(IndexError::damaged("a block of counts has a wrong length")),
    }
}

/// Whether what a numbered pack holds can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PackState {
    /// It is in the index, and as far as is known in the storage.
    Present = 1,
    /// It is in the index, and a listing did not show it.
    Absent = 2,
    /// No index object describes it any more; something that lay in it is still referred to.
    Vanished = 3,
}

/// A pack whose chunks or nodes have local numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberedPack {
    pub(super) state: PackState,
    /// Whether it holds nodes.
    pub(super) has_nodes: bool,
    pub(super) total_bytes: u64,
    pub(super) live_bytes: u64,
    pub(super) live_count: u32,
    pub(super) entry_count: u32,
}

impl NumberedPack {
    pub(super) fn encode(&self, pack: u32) -> Vec<u8> {
        let mut bytes = vec![self.state as u8, u8::from(self.has_nodes)];
        bytes.extend_from_slice(&self.total_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.live_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.live_count.to_le_bytes());
        bytes.extend_from_slice(&self.entry_count.to_le_bytes());
        sealed(NUMBERED, &pack.to_be_bytes(), bytes)
    }

    pub(super) fn decode(pack: u32, stored: &[u8]) -> Result<Self, IndexError> {
        let row = opened(NUMBERED, &pack.to_be_bytes(), stored)?;
        let parse = || {
            let ([state, has_nodes], rest) = row.split_first_chunk()?;
            let (total, rest) = rest.split_first_chunk()?;
            let (live, rest) = rest.split_first_chunk()?;
            let (count, rest) = rest.split_first_chunk()?;
            Some(Self {
                state: match state {
                    1 => PackState::Present,
                    2 => PackState::Absent,
                    3 => PackState::Vanished,
                    _ => return None,
                },
                has_nodes: *has_nodes != 0,
                total_bytes: u64::from_le_bytes(*total),
                live_bytes: u64::from_le_bytes(*live),
                live_count: u32::from_le_bytes(*count),
                entry_count: u32::from_le_bytes(rest.try_into().ok()?),
            })
        };
        parse().ok_or_else(|| IndexError::damaged("the counts of a pack do not parse"))
    }

    /// Whether everything in it is needed.
    pub(super) fn is_all_live(&self) -> bool {
        self.live_bytes == self.total_bytes
    }
}

pub(super) fn encode_first_spots(pack: u32, spots: &[u64]) -> Vec<u8> {
    let bytes = spots.iter().flat_map(|spot| spot.to_le_bytes()).collect();
    sealed(FIRST_SPOTS, &pack.to_be_bytes(), bytes)
}

pub(super) fn decode_first_spots(pack: u32, stored: &[u8]) -> Result<Vec<u64>, IndexError> {
    let spots = opened(FIRST_SPOTS, &pack.to_be_bytes(), stored)?.as_chunks().0;
    Ok(spots.iter().map(|spot| u64::from_le_bytes(*spot)).collect())
}

/// What has become of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotState {
    /// It is counted.
    Applied,
    /// It was forgotten, and is not counted any more.
    Released,
    /// It is neither listed nor named in a forget record. It is still counted.
    Vanished,
}

/// A snapshot that is counted, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotRow {
    pub(super) state: SnapshotState,
    pub(super) root: LocalNumber,
}

impl SnapshotRow {
    pub(super) fn encode(self, id: &[u8; 16]) -> Vec<u8> {
        let state = match self.state {
            SnapshotState::Applied => 1,
            SnapshotState::Released => 2,
            SnapshotState::Vanished => 3,
        };
        let mut bytes = vec![state];
        bytes.extend_from_slice(&self.root.0.to_le_bytes());
        sealed(SNAPSHOTS, id, bytes)
    }

    pub(super) fn decode(id: &[u8; 16], stored: &[u8]) -> Result<Self, IndexError> {
        let row = opened(SNAPSHOTS, id, stored)?;
        let parse = || {
            let ([state], root) = row.split_first_chunk()?;
            let state = match state {
                1 => SnapshotState::Applied,
                2 => SnapshotState::Released,
                3 => SnapshotState::Vanished,
                _ => return None,
            };
            Some(Self { state, root: LocalNumber(u64::from_le_bytes(root.try_into().ok()?)) })
        };
        parse().ok_or_else(|| IndexError::damaged("the row of a snapshot does not parse"))
    }
}

/// A row that is one local number.
pub(super) fn sealed_local(table: impl TableHandle, key: &[u8], number: LocalNumber) -> Vec<u8> {
    sealed(table, key, number.0.to_le_bytes().to_vec())
}

/// The number of [`sealed_local`].
pub(super) fn opened_local(
    table: impl TableHandle,
    key: &[u8],
    stored: &[u8],
) -> Result<LocalNumber, IndexError> {
    let number = opened(table, key, stored)?.try_into().map(u64::from_le_bytes);
    number.map(LocalNumber).map_err(|_| IndexError::damaged("a local number has another width"))
}

/// Ascending numbers as differences, seven bits a byte, the lowest first. Siblings mostly lie side by side in a pack,
/// so that a number takes a byte.
pub(super) fn encode_numbers(numbers: &[LocalNumber], bytes: &mut Vec<u8>) {
    let mut before = 0;
    for LocalNumber(number) in numbers {
        let mut rest = number - before;
        before = *number;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
}

/// The numbers of [`encode_numbers`].
pub(super) fn decode_numbers(bytes: &[u8]) -> Result<Vec<LocalNumber>, IndexError> {
    let mut numbers = Vec::with_capacity(bytes.len());
    let (mut before, mut rest, mut shift) = (0u64, 0u64, 0);
    for byte in bytes {
        if shift > 56 {
            return Err(IndexError::damaged("a local number is too long"));
        }
        rest |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            before = before.wrapping_add(rest);
            numbers.push(LocalNumber(before));
            (rest, shift) = (0, 0);
        }
    }
    match shift {
        0 => Ok(numbers),
        _ => Err(IndexError::damaged("a list of local numbers ends early")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_at_all_its_limits() {
        for (frame, start, len) in [(0, 0, 1), (u16::MAX, (1 << 24) - 1, 1), (7, 0, 1 << 24)] {
            let mut entry = Entry::new(spot(frame, start), len, true);
            entry.set_copied(true);
            (0..5).for_each(|_| entry.add().unwrap());
            let read = Entry::decode(entry.encode());
            assert_eq!(read, entry);
            assert_eq!((read.frame(), read.start(), read.len, read.count()), (frame, start, len, 5));
            assert!(read.is_based() && read.is_copied() && !read.is_alias() && !read.is_expanded());
        }
    }

    #[test]
    fn a_count_ends_at_both_ends_with_an_error() {
        let mut entry = Entry::new(0, 1, false);
        assert!(matches!(entry.subtract(), Err(IndexError::Damaged { .. })));
        entry.bits = COUNT_MASK;
        assert!(matches!(entry.add(), Err(IndexError::Invalid { .. })));
        assert_eq!(entry.count(), COUNT_MASK);
    }

    #[test]
    fn lists_of_numbers_survive_and_cut_ones_are_refused() {
        let lists: [&[u64]; 4] = [&[], &[0], &[5, 6, 7, 200, 100_000], &[1, u64::from(u32::MAX) << 18 | 9]];
        for list in lists {
            let numbers: Vec<_> = list.iter().map(|number| LocalNumber(*number)).collect();
            let mut bytes = Vec::new();
            encode_numbers(&numbers, &mut bytes);
            assert_eq!(decode_numbers(&bytes).unwrap(), numbers);
        }
        assert!(decode_numbers(&[0x80]).is_err());
        assert!(decode_numbers(&[0xff; 12]).is_err());
    }

    #[test]
    fn phantom_numbers_are_above_all_packs() {
        assert_eq!(LocalNumber::phantom(0).pack().0, u32::MAX);
        assert_eq!(LocalNumber::phantom(u32::MAX).pack().0, PHANTOM_PACK_MIN);
        assert_eq!(LocalNumber::phantom(5).ordinal(), 5);
    }
}
