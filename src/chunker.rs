//! Bytes to chunks: content-defined cutting under a key of the repository (docs/format.md, "Chunker").
//!
//! The scan is FastCDC (2020) as the `fastcdc` crate implements it, the table is ours: 256 gear values from keyed
//! BLAKE3. Without the key nobody can tell where a file is cut, and so cannot recognise known files by the lengths
//! of their chunks. Cut points shape what deduplicates, therefore golden vectors guard them.

use fastcdc::v2020::{self, Normalization};
use zeroize::Zeroize;

use crate::crypto::Secret;
use crate::limits;

/// Number of the chunker in the settings of a repository: keyed FastCDC as in this module.
pub const CHUNKER_FAST_CDC: u8 = 1;

const MIN_BYTES: std::ops::RangeInclusive<usize> = v2020::MINIMUM_MIN..=v2020::MINIMUM_MAX;
const AVERAGE_BYTES: std::ops::RangeInclusive<usize> = v2020::AVERAGE_MIN..=v2020::AVERAGE_MAX;
const MAX_BYTES: std::ops::RangeInclusive<usize> = v2020::MAXIMUM_MIN..=v2020::MAXIMUM_MAX;
const _: () = assert!(v2020::MAXIMUM_MAX <= limits::FRAME_BYTES_MAX);

/// Sizes that the chunker cannot work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "chunks of {min}, {average} and {max} bytes: each size must be a power of two and larger than the one before, \
     with at most 1, 4 and 16 MiB"
)]
pub struct ChunkSizesError {
    min: usize,
    average: usize,
    max: usize,
}

/// Lengths of chunks in bytes. The real mean is about 1.15 times `average`; the last chunk of a stream may be
/// shorter than `min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    min: usize,
    average: usize,
    max: usize,
}

impl Default for ChunkSizes {
    /// For ordinary files: 128 KiB, 512 KiB and 2 MiB.
    fn default() -> Self {
        Self { min: 128 << 10, average: 512 << 10, max: 2 << 20 }
    }
}

impl ChunkSizes {
    /// Powers of two, each larger than the one before, within the limits of the scan: 64 bytes to 1 MiB, 256 bytes
    /// to 4 MiB, 1 KiB to 16 MiB.
    pub fn new(min: usize, average: usize, max: usize) -> Result<Self, ChunkSizesError> {
        let in_order = min < average && average < max;
        let in_limits =
            MIN_BYTES.contains(&min) && AVERAGE_BYTES.contains(&average) && MAX_BYTES.contains(&max);
        let even = [min, average, max].iter().all(|size| size.is_power_of_two());
        let error = ChunkSizesError { min, average, max };
        if in_order && in_limits && even { Ok(Self { min, average, max }) } else { Err(error) }
    }

    /// No chunk but the last of a stream is shorter.
    pub const fn min(&self) -> usize {
        self.min
    }

    /// What the cut points aim at.
    pub const fn average(&self) -> usize {
        self.average
    }

    /// No chunk is longer.
    pub const fn max(&self) -> usize {
        self.max
    }
}

/// Cuts streams into chunks. It keeps no state between calls, so one instance serves all threads.
pub struct Chunker {
    sizes: ChunkSizes,
    gear: Box<Gear>,
    /// Before and after the average length is reached: cutting is first harder, then easier than by chance.
    mask_before: u64,
    mask_after: u64,
}

/// The table, and the same with each value shifted left by one: the scan takes two bytes at a time.
struct Gear {
    plain: [u64; 256],
    shifted: [u64; 256],
}

impl Drop for Gear {
    fn drop(&mut self) {
        self.plain.zeroize();
        self.shifted.zeroize();
    }
}

impl Gear {
    fn new(plain: [u64; 256]) -> Box<Self> {
        let mut gear = Box::new(Self { plain, shifted: [0; 256] });
        let Gear { plain, shifted } = &mut *gear;
        for (shifted, value) in shifted.iter_mut().zip(plain.iter()) {
            *shifted = value << 1;
        }
        gear
    }

    /// Little-endian values from the extended output of keyed BLAKE3 over nothing.
    fn from_key(key: &Secret<32>) -> Box<Self> {
        let mut output = blake3::Hasher::new_keyed(key.expose()).finalize_xof();
        let mut value = || {
            let mut bytes = [0; 8];
            output.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        Self::new(std::array::from_fn(|_| value()))
    }
}

impl Chunker {
    /// The chunker of a repository: `key` comes from the master secret under
    /// [`CHUNKER`](crate::crypto::context::CHUNKER).
    pub fn new(key: &Secret<32>, sizes: ChunkSizes) -> Self {
        Self::with_gear(Gear::from_key(key), sizes)
    }

    fn with_gear(gear: Box<Gear>, sizes: ChunkSizes) -> Self {
        let (mask_before, mask_after) = v2020::select_masks(sizes.average, Normalization::Level1);
        Self { sizes, gear, mask_before, mask_after }
    }

    /// The sizes it cuts to.
    pub const fn sizes(&self) -> ChunkSizes {
        self.sizes
    }

    /// Length of the next chunk, which starts where `buffer` starts.
    ///
    /// `None` if that cannot be told yet, because `buffer` holds less than the longest chunk and the stream goes on;
    /// or if the stream ended and nothing is left. `is_last` says that the stream ends with `buffer`. How a stream
    /// is fed makes no difference to where it is cut.
    pub fn cut(&self, buffer: &[u8], is_last: bool) -> Option<usize> {
        if buffer.is_empty() || (buffer.len() < self.sizes.max && !is_last) {
            return None;
        }
        let (_, len) = v2020::cut_gear(
            buffer,
            self.sizes.min,
            self.sizes.average,
            self.sizes.max,
            self.mask_before,
            self.mask_after,
            self.mask_before << 1,
            self.mask_after << 1,
            &self.gear.plain,
            &self.gear.shifted,
        );
        Some(len)
    }
}

#[cfg(test)]
mod tests;
