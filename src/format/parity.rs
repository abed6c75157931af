//! Redundancy inside one stored object, so that it survives bad sectors (docs/format.md, "Parity").
//!
//! ```text
//! payload | trailer | shard hashes | parity shards | shard hashes | trailer
//! ```
//!
//! The payload is cut into shards, the last one filled up with zeros. Reed-Solomon makes parity shards from them: as
//! many damaged shards as there are parity shards can be computed again, whichever they are. Hashes tell which
//! shards are damaged. Trailer and hashes exist twice, so that no single bad place takes both away.
//!
//! Parity follows the payload and is not part of it: it changes no offset and no name, and can be added or left out
//! at any time. All lengths and places are functions of the payload length. Nothing here is secret or authenticated;
//! what counts in the end is that a repaired payload has the hash that is its name.

mod repair;
mod trailer;

use reed_solomon_simd::ReedSolomonEncoder;

use crate::limits;
pub use repair::{ParityError, repair, repair_until, vouches_for};
pub use trailer::TRAILER_BYTES;

/// Length of the hash of one shard.
pub const SHARD_HASH_BYTES: usize = 8;

const SHARD_BYTES_MIN: u64 = 64;
/// Objects shorter than 64 of the longest shards have shorter ones, so that they too have about 64.
const SHARDS_OF_SMALL_PAYLOAD: u64 = 64;
const PARITY_SHARD_COUNT_MIN: u64 = 4;
const DATA_SHARDS_PER_PARITY_SHARD: u64 = 32;

/// All shards are encoded one stripe of this width after the other, so that a stripe through all of them fits into
/// the cache of a processor core. A multiple of 64, which the code works on independently.
const STRIPE_BYTES: usize = 512;

/// The shape of the parity of an object: a function of its payload length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Length of the payload.
    pub payload_len: u64,
    /// Length of every shard, a power of two from 64 upwards.
    pub shard_len: u64,
    /// Shards that the payload fills, the last one perhaps in part.
    pub data_shards: u64,
    /// Shards that can be lost.
    pub parity_shards: u64,
}

impl Geometry {
    /// Bytes that follow the payload.
    pub const fn parity_len(&self) -> u64 {
        2 * (TRAILER_BYTES as u64 + self.table_len()) + self.parity_shards * self.shard_len
    }

    /// Bytes of one table of shard hashes.
    const fn table_len(&self) -> u64 {
        (self.data_shards + self.parity_shards) * SHARD_HASH_BYTES as u64
    }
}

/// The parity of a payload of this length.
pub fn geometry(payload_len: u64) -> Geometry {
    let shard_len = payload_len.div_ceil(SHARDS_OF_SMALL_PAYLOAD);
    let shard_len = shard_len.clamp(SHARD_BYTES_MIN, limits::PARITY_SHARD_BYTES as u64).next_power_of_two();
    let data_shards = payload_len.div_ceil(shard_len).max(1);
    let parity_shards = (data_shards / DATA_SHARDS_PER_PARITY_SHARD).max(PARITY_SHARD_COUNT_MIN);
    Geometry { payload_len, shard_len, data_shards, parity_shards }
}

/// Bytes of parity that follow a payload of this length.
pub fn parity_len(payload_len: u64) -> u64 {
    geometry(payload_len).parity_len()
}

/// Appends the parity of `payload`, which must be no longer than a pack may be, to `into`.
pub fn encode(payload: &[u8], into: &mut Vec<u8>) {
    assert!(payload.len() as u64 <= limits::PACK_BYTES_MAX, "no object is longer than a pack may be");
    let shape = geometry(payload.len() as u64);
    into.reserve(shape.parity_len() as usize);
    let parity = parity_shards(payload, &shape);
    let table = hash_table(payload, &parity, &shape);
    let trailer = trailer::encode(&shape, &table);
    for part in [&trailer[..], &table, &parity, &table, &trailer] {
        into.extend_from_slice(part);
    }
}

/// Appends the parity of a payload to the payload itself.
pub fn append(payload: &mut Vec<u8>) {
    let mut parity = Vec::new();
    encode(payload, &mut parity);
    payload.extend_from_slice(&parity);
}

/// The parity shards, one after the other.
fn parity_shards(payload: &[u8], shape: &Geometry) -> Vec<u8> {
    let shard_len = shape.shard_len as usize;
    let stripe_len = STRIPE_BYTES.min(shard_len);
    let mut parity = vec![0; shape.parity_shards as usize * shard_len];
    let mut filled = vec![0; stripe_len];
    let mut encoder =
        ReedSolomonEncoder::new(shape.data_shards as usize, shape.parity_shards as usize, stripe_len)
            .expect("the limits of a pack keep the counts of shards far below what the code can do");
    for start in (0..shard_len).step_by(stripe_len) {
        for shard in 0..shape.data_shards as usize {
            let stripe = stripe_of(payload, shard * shard_len + start, &mut filled);
            encoder.add_original_shard(stripe).expect("stripes have the announced length and number");
        }
        let encoded = encoder.encode().expect("every stripe was added");
        for (shard, stripe) in parity.chunks_exact_mut(shard_len).zip(encoded.recovery_iter()) {
            if let Some(place) = shard.get_mut(start..start + stripe_len) {
                place.copy_from_slice(stripe);
            }
        }
    }
    parity
}

/// Whether `parity`, which follows a payload of `payload_len` bytes, is what was written: both trailers and both
/// tables agree, and every parity shard has its hash. The payload is not looked at.
pub fn is_whole(payload_len: u64, parity: &[u8]) -> bool {
    let shape = geometry(payload_len);
    if payload_len > limits::PACK_BYTES_MAX || parity.len() as u64 != shape.parity_len() {
        return false;
    }
    let table_len = shape.table_len() as usize;
    let Some((first, rest)) = parity.split_at_checked(TRAILER_BYTES) else { return false };
    let Some((table, rest)) = rest.split_at_checked(table_len) else { return false };
    let shards_len = (shape.parity_shards * shape.shard_len) as usize;
    let Some((shards, rest)) = rest.split_at_checked(shards_len) else { return false };
    let Some((table_again, last)) = rest.split_at_checked(table_len) else { return false };
    let (_, hashes) = table.split_at(table_len - shape.parity_shards as usize * SHARD_HASH_BYTES);
    let mut pairs = shards.chunks_exact(shape.shard_len as usize).zip(hashes.chunks_exact(SHARD_HASH_BYTES));
    first == trailer::encode(&shape, table)
        && first == last
        && table == table_again
        && pairs.all(|(shard, hash)| shard_hash(shard) == hash)
}

/// The bytes of the payload from `at` on, filled up with zeros where the payload ends.
fn stripe_of<'a>(payload: &'a [u8], at: usize, filled: &'a mut [u8]) -> &'a [u8] {
    match payload.get(at..at + filled.len()) {
        Some(stripe) => stripe,
        None => {
            let rest = payload.get(at..).unwrap_or_default();
            let (front, back) = filled.split_at_mut(rest.len());
            front.copy_from_slice(rest);
            back.fill(0);
            filled
        }
    }
}

/// The hashes of all shards, of the payload first.
fn hash_table(payload: &[u8], parity: &[u8], shape: &Geometry) -> Vec<u8> {
    let shard_len = shape.shard_len as usize;
    let mut filled = vec![0; shard_len];
    let mut table = Vec::with_capacity(shape.table_len() as usize);
    for shard in 0..shape.data_shards as usize {
        table.extend_from_slice(&shard_hash(stripe_of(payload, shard * shard_len, &mut filled)));
    }
    for shard in parity.chunks_exact(shard_len) {
        table.extend_from_slice(&shard_hash(shard));
    }
    table
}

fn shard_hash(shard: &[u8]) -> [u8; SHARD_HASH_BYTES] {
    *blake3::hash(shard).as_bytes().first_chunk().expect("a hash has more than 8 bytes")
}

#[cfg(test)]
mod tests;
