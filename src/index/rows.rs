//! The bytes of the rows. Every row ends in a check over its table, key and value, so that a broken page is not taken
//! for an answer.
//!
//! | Row | Key | Value |
//! | --- | --- | --- |
//! | place | prefix 16, pack 4, frame 2, start 3, all big-endian | 40 bits little-endian: length 25, check 15 |
//! | pack | number | the fields in order, described 4, places 4 |
//! | frame | pack 4, frame 2, big-endian | the fixed fields 30, bases 32 each |
//! | run | number | slice 1, count 4 |
//!
//! Places are not rows of the database but entries in blocks of a run. All other values are followed by four bytes
//! of check.

use redb::TableHandle;

use crate::id::{ContentId, PackId};
use crate::limits::{BASE_COUNT_MAX, FRAME_BYTES_MAX};

use super::error::IndexError;
use super::{FRAMES, FrameRow, PACKS, PackKind, PackNumber, PackRow, Place, RUNS};

/// Bytes of a place.
pub(super) const PLACE_ENTRY_LEN: usize = 30;

const PLACE_KEY_LEN: usize = 25;
const FRAME_FIXED_LEN: usize = 30;
const LEN_BITS: u32 = 25;
const LEN_MASK: u64 = (1 << LEN_BITS) - 1;
const _: () = assert!(FRAME_BYTES_MAX as u64 <= LEN_MASK && FRAME_BYTES_MAX <= 1 << 24);

/// A place as it stands in a run. Ordered as runs are: by id, then by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceEntry(pub(super) [u8; PLACE_ENTRY_LEN]);

impl PlaceEntry {
    /// The entry of a place whose range lies inside the largest frame.
    pub(super) fn new(key: &[u8; 16], place: Place) -> Self {
        let mut bytes = [0; PLACE_ENTRY_LEN];
        let (prefix, rest) = bytes.split_at_mut(16);
        prefix.copy_from_slice(key);
        let (pack, rest) = rest.split_at_mut(4);
        pack.copy_from_slice(&place.pack.0.to_be_bytes());
        let (frame, rest) = rest.split_at_mut(2);
        frame.copy_from_slice(&place.frame.to_be_bytes());
        let (start, _) = rest.split_at_mut(3);
        start.copy_from_slice(&place.start.to_be_bytes()[1..]);
        let (key, value) = bytes.split_at_mut(PLACE_KEY_LEN);
        let bits = u64::from(place.len) | place_check(key, place.len) << LEN_BITS;
        value.copy_from_slice(&bits.to_le_bytes()[..5]);
        Self(bytes)
    }

    /// Whether both are the same place of the same id.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        self.0.first_chunk::<PLACE_KEY_LEN>() == other.0.first_chunk()
    }

    /// The prefix of the id.
    pub(super) fn prefix(&self) -> [u8; 16] {
        *self.0.first_chunk().expect("30 bytes have 16")
    }

    /// The first eight bytes of the id, as a number that is ordered as ids are.
    pub(super) fn head(&self) -> u64 {
        u64::from_be_bytes(*self.0.first_chunk().expect("30 bytes have 8"))
    }

    /// The pack, without looking at the check.
    pub(super) fn pack(&self) -> PackNumber {
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] = self.0;
        PackNumber(u32::from_be_bytes([a, b, c, d]))
    }

    /// The place, if the check agrees.
    pub(super) fn place(&self) -> Result<Place, IndexError> {
        let (key, _) = self.0.split_at(PLACE_KEY_LEN);
        let [.., f, g, x, y, z, a, b, c, d, e] = self.0;
        let bits = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
        let len = u32::try_from(bits & LEN_MASK).expect("25 bits fit");
        if bits >> LEN_BITS != place_check(key, len) {
            return Err(IndexError::damaged("a place does not match its check"));
        }
        let start = u32::from_be_bytes([0, x, y, z]);
        Ok(Place { pack: self.pack(), frame: u16::from_be_bytes([f, g]), start, len })
    }
}

/// Fifteen bits.
fn place_check(key: &[u8], len: u32) -> u64 {
    (check(0, key) ^ u64::from(len)).wrapping_mul(CHECK_FACTOR) >> (24 + LEN_BITS)
}

/// A pack with what only the index needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPack {
    pub(super) row: PackRow,
    /// Index objects that describe it, at least one.
    pub(super) described: u32,
    /// Rows that it has in runs.
    pub(super) place_count: u32,
}

impl StoredPack {
    pub(super) fn encode(&self, number: u32) -> Vec<u8> {
        let row = &self.row;
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(row.id.bytes());
        bytes.push(row.kind as u8);
        bytes.extend_from_slice(&row.payload_len.to_le_bytes());
        bytes.extend_from_slice(&[row.wrap, row.flags]);
        bytes.extend_from_slice(&row.generation.to_le_bytes());
        bytes.extend_from_slice(&row.salt);
        for count in [row.frame_count, row.chunk_count, self.described, self.place_count] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        sealed(PACKS, &number.to_be_bytes(), bytes)
    }

    pub(super) fn decode(number: u32, bytes: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(opened(PACKS, &number.to_be_bytes(), bytes)?);
        let pack = (|| {
            Some(Self {
                row: PackRow {
                    id: PackId::new(fields.take()?),
                    kind: match fields.take()? {
                        [1] => PackKind::Data,
                        [2] => PackKind::Meta,
                        _ => return None,
                    },
                    payload_len: u64::from_le_bytes(fields.take()?),
                    wrap: u8::from_le_bytes(fields.take()?),
                    flags: u8::from_le_bytes(fields.take()?),
                    generation: fields.take_u32()?,
                    salt: fields.take()?,
                    frame_count: fields.take_u32()?,
                    chunk_count: fields.take_u32()?,
                },
                described: fields.take_u32()?,
                place_count: fields.take_u32()?,
            })
        })();
        pack.ok_or_else(|| IndexError::damaged("a pack row does not parse"))
    }
}

/// The key of a frame, and of a part of a filter: both numbers big-endian, so that they are in order.
pub(super) fn pair_key(number: u32, part: u16) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    let [e, f] = part.to_be_bytes();
    [a, b, c, d, e, f]
}

/// The second number of [`pair_key`].
pub(super) fn pair_part(key: [u8; 6]) -> u16 {
    let [.., e, f] = key;
    u16::from_be_bytes([e, f])
}

pub(super) fn encode_frame(key: [u8; 6], frame: &FrameRow) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_FIXED_LEN + 32 * frame.bases.len() + 4);
    for number in [frame.offset, frame.stored_len, frame.plain_len] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&[frame.codec, frame.depth]);
    bytes.extend_from_slice(&frame.list_hash);
    for base in &frame.bases {
        bytes.extend_from_slice(base.bytes());
    }
    sealed(FRAMES, &key, bytes)
}

pub(super) fn decode_frame(key: [u8; 6], bytes: &[u8]) -> Result<FrameRow, IndexError> {
    let mut fields = Fields(opened(FRAMES, &key, bytes)?);
    let frame = (|| {
        let frame = FrameRow {
            offset: fields.take_u32()?,
            stored_len: fields.take_u32()?,
            plain_len: fields.take_u32()?,
            codec: u8::from_le_bytes(fields.take()?),
            depth: u8::from_le_bytes(fields.take()?),
            list_hash: fields.take()?,
            bases: match fields.0.as_chunks() {
                (bases, []) => bases.iter().map(|base| ContentId::new(*base)).collect(),
                _ => return None,
            },
        };
        Some(frame).filter(|frame| frame.bases.len() <= BASE_COUNT_MAX)
    })();
    frame.ok_or_else(|| IndexError::damaged("a frame row does not parse"))
}

/// A run of one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunRow {
    pub(super) slice: u8,
    pub(super) count: u32,
}

impl RunRow {
    pub(super) fn encode(self, run: u32) -> Vec<u8> {
        let mut bytes = vec![self.slice];
        bytes.extend_from_slice(&self.count.to_le_bytes());
        sealed(RUNS, &run.to_be_bytes(), bytes)
    }

    pub(super) fn decode(run: u32, bytes: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(opened(RUNS, &run.to_be_bytes(), bytes)?);
        let run = (|| Some(Self { slice: u8::from_le_bytes(fields.take()?), count: fields.take_u32()? }))();
        run.ok_or_else(|| IndexError::damaged("a run row does not parse"))
    }
}

/// A row that is a single number.
pub(super) fn sealed_number(table: impl TableHandle, key: &[u8], number: u32) -> Vec<u8> {
    sealed(table, key, number.to_le_bytes().to_vec())
}

/// The number of [`sealed_number`].
pub(super) fn opened_number(table: impl TableHandle, key: &[u8], stored: &[u8]) -> Result<u32, IndexError> {
    let number = opened(table, key, stored)?.try_into().map(u32::from_le_bytes);
    number.map_err(|_| IndexError::damaged("a number has another width"))
}

/// A row with its check.
pub(super) fn sealed(table: impl TableHandle, key: &[u8], mut row: Vec<u8>) -> Vec<u8> {
    let sum = row_check(table.name(), key, &row);
    row.extend_from_slice(&sum);
    row
}

/// The row without its check, if the check agrees.
pub(super) fn opened<'a>(
    table: impl TableHandle,
    key: &[u8],
    stored: &'a [u8],
) -> Result<&'a [u8], IndexError> {
    match stored.split_last_chunk() {
        Some((row, sum)) if *sum == row_check(table.name(), key, row) => Ok(row),
        _ => Err(IndexError::damaged("a row does not match its check")),
    }
}

/// The table belongs to it: a page that turns up in another table must not be taken for one of its own.
fn row_check(table: &str, key: &[u8], row: &[u8]) -> [u8; 4] {
    let [.., a, b, c, d] = check(check(check(0, table.as_bytes()), key), row).to_le_bytes();
    [a, b, c, d]
}

const CHECK_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sum that any small change of `bytes` changes. It guards against accidents, not against an enemy: whoever can
/// write this file can read the backups of its owner.
fn check(before: u64, bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| {
        let mixed = (sum ^ word).wrapping_mul(CHECK_FACTOR);
        mixed ^ mixed >> 29
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let last = rest.iter().fold(bytes.len() as u64, |last, byte| last << 8 | u64::from(*byte));
    let sum = words.iter().fold(before ^ CHECK_FACTOR, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    mix(mix(sum, last), CHECK_FACTOR)
}

/// Takes fixed-width fields off the front of a row.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn take_u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start: u32, len: u32) -> PlaceEntry {
        PlaceEntry::new(&[7; 16], Place { pack: PackNumber(0x0102_0304), frame: 0xfffe, start, len })
    }

    #[test]
    fn a_place_survives_at_both_ends_of_a_frame() {
        let max = u32::try_from(FRAME_BYTES_MAX).unwrap();
        for (start, len) in [(0, max), (max - 1, 1), (0, 0), (max - 1, 0)] {
            let place = Place { pack: PackNumber(0x0102_0304), frame: 0xfffe, start, len };
            assert_eq!(entry(start, len).place().unwrap(), place);
            assert_eq!(entry(start, len).pack(), place.pack);
        }
    }

    #[test]
    fn every_single_bit_flip_of_a_place_is_noticed() {
        let mut noticed = 0;
        for bit in 0..8 * PLACE_ENTRY_LEN {
            let mut broken = entry(12_345, 67_890);
            broken.0[bit / 8] ^= 1 << (bit % 8);
            noticed += u32::from(broken.place().is_err());
        }
        assert_eq!(noticed, 240);
    }

    #[test]
    fn flipped_and_cut_rows_are_refused() {
        let frame = FrameRow {
            offset: 64,
            stored_len: 1000,
            plain_len: 5000,
            codec: 2,
            depth: 3,
            list_hash: [9; 16],
            bases: vec![ContentId::new([1; 32]), ContentId::new([2; 32])],
        };
        let key = pair_key(5, 6);
        let bytes = encode_frame(key, &frame);
        assert_eq!(decode_frame(key, &bytes).unwrap(), frame);
        assert!(decode_frame(pair_key(5, 7), &bytes).is_err());
        for len in 0..bytes.len() {
            assert!(decode_frame(key, &bytes[..len]).is_err());
        }
        for bit in 0..8 * bytes.len() {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_frame(key, &broken).is_err());
        }
    }
}
