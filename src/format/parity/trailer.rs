//! The trailer: how long the payload is, for whoever has lost its header.
//!
//! | Offset | Size | Field |
//! | --- | --- | --- |
//! | 0 | 8 | magic: `0x89`, `KLP`, `0D 0A 1A 0A` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | zero |
//! | 12 | 4 | shard length |
//! | 16 | 8 | payload length |
//! | 24 | 4 | data shards |
//! | 28 | 4 | parity shards |
//! | 32 | 16 | start of BLAKE3 of the table of shard hashes |
//! | 48 | 16 | start of BLAKE3 of bytes 0 to 47 |

use super::{Geometry, geometry};
use crate::limits;

/// Length of a trailer.
pub const TRAILER_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"\x89KLP\r\n\x1a\n";
const VERSION: u16 = 1;
const PAYLOAD_LEN_OFFSET: usize = 16;
const BODY_BYTES: usize = 48;
const HASH_BYTES: usize = 16;

/// The trailer of a payload with this shape and these shard hashes.
pub fn encode(shape: &Geometry, table: &[u8]) -> [u8; TRAILER_BYTES] {
    let mut trailer = [0; TRAILER_BYTES];
    let mut rest = trailer.as_mut_slice();
    let mut put = |bytes: &[u8]| {
        let (place, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        rest = behind;
    };
    put(&MAGIC);
    put(&VERSION.to_le_bytes());
    put(&[0; 2]);
    put(&narrow(shape.shard_len));
    put(&shape.payload_len.to_le_bytes());
    put(&narrow(shape.data_shards));
    put(&narrow(shape.parity_shards));
    put(&short_hash(table));
    let (body, hash) = trailer.split_at_mut(BODY_BYTES);
    hash.copy_from_slice(&short_hash(body));
    trailer
}

/// The shape that a trailer states, or `None` unless it is whole and states the only shape that its payload length
/// allows.
pub fn decode(trailer: &[u8; TRAILER_BYTES]) -> Option<Geometry> {
    let (body, hash) = trailer.split_at(BODY_BYTES);
    let (fields, _table_hash) = body.split_at(BODY_BYTES - HASH_BYTES);
    let shape = geometry(payload_len(trailer));
    // Encoding again is the strictest comparison: magic, version, zeros and all counts.
    let stated = encode(&shape, &[]);
    let is_good = fields.starts_with(&MAGIC)
        && shape.payload_len <= limits::PACK_BYTES_MAX
        && stated.starts_with(fields)
        && hash == short_hash(body);
    is_good.then_some(shape)
}

/// The payload length that a trailer states, be it true or not.
fn payload_len(trailer: &[u8; TRAILER_BYTES]) -> u64 {
    let (_, from_len) = trailer.split_at(PAYLOAD_LEN_OFFSET);
    u64::from_le_bytes(*from_len.first_chunk().expect("the field lies inside the trailer"))
}

/// The first trailer of an object whose end is lost: it stands where the payload ends that it tells of.
pub fn find_first(stored: &[u8]) -> Option<Geometry> {
    let starts = stored.windows(TRAILER_BYTES).enumerate().filter(|(_, place)| place.starts_with(&MAGIC));
    let trailers = starts.filter_map(|(at, place)| Some((at, place.first_chunk()?)));
    // The cheap comparison comes first, so that bytes full of magic numbers cost linear time.
    let mut fitting = trailers.filter(|(at, place)| payload_len(place) == *at as u64);
    fitting.find_map(|(_, place)| decode(place))
}

fn narrow(count: u64) -> [u8; 4] {
    // Wrapping is harmless: lengths beyond a pack are refused.
    (count as u32).to_le_bytes()
}

fn short_hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    *blake3::hash(bytes).as_bytes().first_chunk().expect("a hash has more than 16 bytes")
}
