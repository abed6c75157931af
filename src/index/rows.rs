//! The bytes of the rows. Every row has a fixed width but for the bases of a frame, and ends in a check, so that a
//! broken page is not taken for an answer.
//!
//! | Row | Key | Value |
//! | --- | --- | --- |
//! | place | prefix 16, pack 4, frame 2, start 3, all big-endian | 40 bits little-endian: length 25, check 15 |
//! | pack | number | the fields in order, described 4, places 4, check 4 |
//! | frame | pack 4, frame 2, big-endian | the fixed fields 30, bases 32 each, check 4 |
//! | run | number | slice 1, count 4, check 4 |

use crate::id::{ContentId, PackId};
use crate::limits::{BASE_COUNT_MAX, FRAME_BYTES_MAX};

use super::error::IndexError;
use super::{FrameRow, PackKind, PackNumber, PackRow, Place};

/// Bytes of the key of a place.
pub(super) const PLACE_KEY_LEN: usize = 25;
/// Bytes of the value of a place.
pub(super) const PLACE_VALUE_LEN: usize = 5;
/// Bytes of the value of a pack.
pub(super) const PACK_ROW_LEN: usize = 99;
/// Bytes of the value of a run.
pub(super) const RUN_ROW_LEN: usize = 9;

const FRAME_FIXED_LEN: usize = 30;
const LEN_BITS: u32 = 25;
const LEN_MASK: u64 = (1 << LEN_BITS) - 1;
const _: () = assert!(FRAME_BYTES_MAX as u64 <= LEN_MASK && FRAME_BYTES_MAX <= 1 << 24);

/// A place as it stands in a run. Ordered as runs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlaceEntry {
    pub(super) key: [u8; PLACE_KEY_LEN],
    pub(super) value: [u8; PLACE_VALUE_LEN],
}

impl PlaceEntry {
    /// The entry of a place whose range lies inside the largest frame.
    pub(super) fn new(key: &[u8; 16], place: Place) -> Self {
        let mut bytes = [0; PLACE_KEY_LEN];
        let (prefix, rest) = bytes.split_at_mut(16);
        prefix.copy_from_slice(key);
        let (pack, rest) = rest.split_at_mut(4);
        pack.copy_from_slice(&place.pack.0.to_be_bytes());
        let (frame, start) = rest.split_at_mut(2);
        frame.copy_from_slice(&place.frame.to_be_bytes());
        let [_, low @ ..] = place.start.to_be_bytes();
        start.copy_from_slice(&low);
        let bits = u64::from(place.len) | place_check(&bytes, place.len) << LEN_BITS;
        let [a, b, c, d, e, ..] = bits.to_le_bytes();
        Self { key: bytes, value: [a, b, c, d, e] }
    }

    /// The first key that a place of this prefix can have.
    pub(super) fn first_key(key: &[u8; 16]) -> [u8; PLACE_KEY_LEN] {
        let mut bytes = [0; PLACE_KEY_LEN];
        bytes.split_at_mut(16).0.copy_from_slice(key);
        bytes
    }

    /// The prefix of the id.
    pub(super) fn prefix(&self) -> [u8; 16] {
        *self.key.first_chunk().expect("25 bytes have 16")
    }

    /// The pack, without the check.
    pub(super) fn pack(&self) -> PackNumber {
        let mut fields = Fields(self.key.get(16..).unwrap_or_default());
        PackNumber(u32::from_be_bytes(fields.take().expect("25 bytes have 16 and 4")))
    }

    /// The place, if the check agrees.
    pub(super) fn place(&self) -> Result<Place, IndexError> {
        let [a, b, c, d, e] = self.value;
        let bits = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
        let len = u32::try_from(bits & LEN_MASK).expect("25 bits fit");
        if bits >> LEN_BITS != place_check(&self.key, len) {
            return Err(IndexError::damaged("a place does not match its check"));
        }
        let mut fields = Fields(self.key.get(16..).unwrap_or_default());
        let place = (|| {
            let pack = PackNumber(u32::from_be_bytes(fields.take()?));
            let frame = u16::from_be_bytes(fields.take()?);
            let [high, middle, low] = fields.take()?;
            Some(Place { pack, frame, start: u32::from_be_bytes([0, high, middle, low]), len })
        })();
        place.ok_or_else(|| IndexError::damaged("a place is cut short"))
    }
}

fn place_check(key: &[u8], len: u32) -> u64 {
    (check(key) ^ u64::from(len)).wrapping_mul(CHECK_FACTOR) >> (24 + LEN_BITS)
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
    pub(super) fn encode(&self) -> [u8; PACK_ROW_LEN] {
        let row = &self.row;
        let mut bytes = Vec::with_capacity(PACK_ROW_LEN);
        bytes.extend_from_slice(row.id.bytes());
        bytes.push(row.kind as u8);
        bytes.extend_from_slice(&row.payload_len.to_le_bytes());
        bytes.extend_from_slice(&[row.wrap, row.flags]);
        bytes.extend_from_slice(&row.generation.to_le_bytes());
        bytes.extend_from_slice(&row.salt);
        for count in [row.frame_count, row.chunk_count, self.described, self.place_count] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        seal_row(&mut bytes);
        bytes.try_into().expect("the fields add up to the length of the row")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(open_row(bytes)?);
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

pub(super) fn encode_frame(frame: &FrameRow, bytes: &mut Vec<u8>) {
    bytes.clear();
    for number in [frame.offset, frame.stored_len, frame.plain_len] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&[frame.codec, frame.depth]);
    bytes.extend_from_slice(&frame.list_hash);
    for base in &frame.bases {
        bytes.extend_from_slice(base.bytes());
    }
    debug_assert_eq!(bytes.len(), FRAME_FIXED_LEN + 32 * frame.bases.len());
    seal_row(bytes);
}

pub(super) fn decode_frame(bytes: &[u8]) -> Result<FrameRow, IndexError> {
    let bytes = open_row(bytes)?;
    let mut fields = Fields(bytes);
    let frame = (|| {
        let base_count = bytes.len().checked_sub(FRAME_FIXED_LEN)? / 32;
        if base_count > BASE_COUNT_MAX {
            return None;
        }
        Some(FrameRow {
            offset: fields.take_u32()?,
            stored_len: fields.take_u32()?,
            plain_len: fields.take_u32()?,
            codec: u8::from_le_bytes(fields.take()?),
            depth: u8::from_le_bytes(fields.take()?),
            list_hash: fields.take()?,
            bases: (0..base_count).map(|_| Some(ContentId::new(fields.take()?))).collect::<Option<_>>()?,
        })
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
    pub(super) fn encode(self) -> [u8; RUN_ROW_LEN] {
        let mut bytes = vec![self.slice];
        bytes.extend_from_slice(&self.count.to_le_bytes());
        seal_row(&mut bytes);
        bytes.try_into().expect("the fields add up to the length of the row")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(open_row(bytes)?);
        let run = (|| Some(Self { slice: u8::from_le_bytes(fields.take()?), count: fields.take_u32()? }))();
        run.ok_or_else(|| IndexError::damaged("a run row does not parse"))
    }
}

/// Appends the check to a row.
pub(super) fn seal_row(bytes: &mut Vec<u8>) {
    let sum = check(bytes);
    bytes.extend_from_slice(&(sum >> 32).to_le_bytes()[..4]);
}

/// The row without its check, if the check agrees.
pub(super) fn open_row(bytes: &[u8]) -> Result<&[u8], IndexError> {
    match bytes.split_last_chunk::<4>() {
        Some((row, stored)) if u64::from(u32::from_le_bytes(*stored)) == check(row) >> 32 => Ok(row),
        _ => Err(IndexError::damaged("a row does not match its check")),
    }
}

const CHECK_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sum over bytes that any small change changes. It guards against accidents, not against an enemy: whoever can
/// write this file can read the backups of its owner.
fn check(bytes: &[u8]) -> u64 {
    let seed = bytes.len() as u64 ^ CHECK_FACTOR;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    words.iter().chain([&last]).fold(seed, |sum, word| {
        let mixed = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(CHECK_FACTOR);
        mixed ^ mixed >> 29
    })
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
        for bit in 0..8 * (PLACE_KEY_LEN + PLACE_VALUE_LEN) {
            let mut broken = entry(12_345, 67_890);
            match bit / 8 {
                byte if byte < PLACE_KEY_LEN => broken.key[byte] ^= 1 << (bit % 8),
                byte => broken.value[byte - PLACE_KEY_LEN] ^= 1 << (bit % 8),
            }
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
        let mut bytes = Vec::new();
        encode_frame(&frame, &mut bytes);
        assert_eq!(decode_frame(&bytes).unwrap(), frame);
        for len in 0..bytes.len() {
            assert!(decode_frame(&bytes[..len]).is_err());
        }
        for bit in 0..8 * bytes.len() {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_frame(&broken).is_err());
        }
    }
}
