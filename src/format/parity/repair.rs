//! From a damaged object back to its payload.

use reed_solomon_simd::ReedSolomonDecoder;

use super::{Geometry, SHARD_HASH_BYTES, TRAILER_BYTES, geometry, shard_hash, stripe_of, trailer};
use crate::limits;

/// Width of a stripe when repairing. Each stripe has a fixed cost here, so there are fewer of them.
const REPAIR_STRIPE_BYTES: usize = 2048;

/// Why a payload was not repaired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// Neither the hint nor a trailer says how long the payload is; or there is no parity.
    #[error("there is no parity to be found")]
    NotFound,
    /// More is damaged than can be computed again.
    #[error("{damaged} of the shards are damaged, and {spare} can be computed again")]
    TooDamaged {
        /// Damaged shards of the payload.
        damaged: u64,
        /// Parity shards in good order.
        spare: u64,
    },
    /// The payload has another hash than its name says, although its shards are in order.
    #[error("the repaired payload does not have the expected hash")]
    OtherPayload,
}

/// The payload of the object of which `stored` is left, with the hash `expected_payload_hash`.
///
/// `stored` is the object with its parity, damaged anywhere or cut short. `payload_len_hint` is the payload length if
/// it is known from elsewhere, such as the header or the index; it may be wrong. What is returned always has the
/// expected hash. Memory is a small multiple of `stored`, whatever the bytes say.
pub fn repair(
    stored: &[u8],
    payload_len_hint: Option<u64>,
    expected_payload_hash: &[u8; 32],
) -> Result<Vec<u8>, ParityError> {
    let is_right = |payload: &[u8]| blake3::hash(payload).as_bytes() == expected_payload_hash;
    repair_until(stored, payload_len_hint, &is_right)
}

/// As [`repair`], for an object that is not named by its hash: `is_right` proves that a payload is the one.
pub fn repair_until(
    stored: &[u8],
    payload_len_hint: Option<u64>,
    is_right: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, ParityError> {
    let from_hint = || payload_len_hint.map(geometry);
    let from_end = || stored.last_chunk().and_then(trailer::decode);
    let from_middle = || trailer::find_first(stored);
    let sources: [&dyn Fn() -> Option<Geometry>; 3] = [&from_hint, &from_end, &from_middle];
    let mut error = ParityError::NotFound;
    // The next source is asked only where the one before did not lead to the payload.
    for shape in sources.into_iter().filter_map(|source| source()) {
        match repair_with(stored, &shape, is_right) {
            Ok(payload) => return Ok(payload),
            Err(ParityError::NotFound) => {}
            Err(other) => error = other,
        }
    }
    Err(error)
}

/// Whether every shard of a payload has the hash that `parity`, which follows it, states in either of its tables. Both
/// altered together may agree all the same: this finds rot, not forgery.
pub fn vouches_for(payload: &[u8], parity: &[u8]) -> bool {
    let payload_len = payload.len() as u64;
    payload_len <= limits::PACK_BYTES_MAX
        && Damaged::new(payload, parity, &geometry(payload_len)).is_whole.iter().all(|is_whole| *is_whole)
}

fn repair_with(
    stored: &[u8],
    shape: &Geometry,
    is_right: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, ParityError> {
    let payload_len = usize::try_from(shape.payload_len).map_err(|_| ParityError::NotFound)?;
    // Whatever reaches into the payload from behind has taken all parity with it. This also bounds what is allocated.
    if shape.payload_len > limits::PACK_BYTES_MAX || payload_len >= stored.len() {
        return Err(ParityError::NotFound);
    }
    let (payload, parity) = stored.split_at(payload_len);
    if is_right(payload) {
        return Ok(payload.to_vec());
    }
    let object = Damaged::new(payload, parity, shape);
    let repaired = object.decode()?;
    if is_right(&repaired) { Ok(repaired) } else { Err(ParityError::OtherPayload) }
}

/// An object whose shards were compared with their hashes.
struct Damaged<'a> {
    shape: Geometry,
    payload: &'a [u8],
    /// The parity shards that are whole, each with its number.
    spare: Vec<(usize, &'a [u8])>,
    /// Whether each data shard is whole.
    is_whole: Vec<bool>,
}

impl<'a> Damaged<'a> {
    fn new(payload: &'a [u8], parity: &'a [u8], shape: &Geometry) -> Self {
        let shard_len = shape.shard_len as usize;
        let (data_count, parity_count) = (shape.data_shards as usize, shape.parity_shards as usize);
        let table_len = shape.table_len() as usize;
        let table_first = TRAILER_BYTES;
        let shards_start = table_first + table_len;
        let table_second = shards_start + parity_count * shard_len;
        // A hash counts if either copy says it: two different damages may then hit both tables.
        let hash_is_known = |shard: usize, hash: [u8; SHARD_HASH_BYTES]| {
            [table_first, table_second].into_iter().any(|table| {
                let at = table + shard * SHARD_HASH_BYTES;
                parity.get(at..at + SHARD_HASH_BYTES) == Some(&hash)
            })
        };
        let mut filled = vec![0; shard_len];
        let is_whole = (0..data_count).map(|shard| {
            hash_is_known(shard, shard_hash(stripe_of(payload, shard * shard_len, &mut filled)))
        });
        let is_whole = is_whole.collect();
        let spare = (0..parity_count).filter_map(|shard| {
            let start = shards_start + shard * shard_len;
            let bytes = parity.get(start..start + shard_len)?;
            hash_is_known(data_count + shard, shard_hash(bytes)).then_some((shard, bytes))
        });
        let spare = spare.collect();
        Self { shape: *shape, payload, spare, is_whole }
    }

    /// The payload with its damaged shards computed again.
    fn decode(&self) -> Result<Vec<u8>, ParityError> {
        let damaged = self.is_whole.iter().filter(|is_whole| !**is_whole).count();
        if damaged == 0 {
            return Err(ParityError::OtherPayload);
        }
        if damaged > self.spare.len() {
            return Err(ParityError::TooDamaged { damaged: damaged as u64, spare: self.spare.len() as u64 });
        }
        let shard_len = self.shape.shard_len as usize;
        let stripe_len = REPAIR_STRIPE_BYTES.min(shard_len);
        let mut repaired = self.payload.to_vec();
        repaired.resize(self.shape.data_shards as usize * shard_len, 0);
        for start in (0..shard_len).step_by(stripe_len) {
            // The counts were compared with the limits, so the code can do them.
            self.decode_stripe(start, stripe_len, &mut repaired).map_err(|_| ParityError::OtherPayload)?;
        }
        repaired.truncate(self.payload.len());
        Ok(repaired)
    }

    fn decode_stripe(
        &self,
        start: usize,
        stripe_len: usize,
        repaired: &mut [u8],
    ) -> Result<(), reed_solomon_simd::Error> {
        let (data_count, parity_count) = (self.shape.data_shards as usize, self.shape.parity_shards as usize);
        let shard_len = self.shape.shard_len as usize;
        let mut decoder = ReedSolomonDecoder::new(data_count, parity_count, stripe_len)?;
        let mut filled = vec![0; stripe_len];
        for (shard, _) in self.is_whole.iter().enumerate().filter(|(_, is_whole)| **is_whole) {
            let stripe = stripe_of(self.payload, shard * shard_len + start, &mut filled);
            decoder.add_original_shard(shard, stripe)?;
        }
        for (shard, bytes) in &self.spare {
            let stripe = bytes.get(start..start + stripe_len).unwrap_or_default();
            decoder.add_recovery_shard(*shard, stripe)?;
        }
        for (shard, stripe) in decoder.decode()?.restored_original_iter() {
            let at = shard * shard_len + start;
            if let Some(place) = repaired.get_mut(at..at + stripe_len) {
                place.copy_from_slice(stripe);
            }
        }
        Ok(())
    }
}
