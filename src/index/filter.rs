//! A filter tells of most ids that they are not in a run, without reading the run.
//!
//! It is a Bloom filter in blocks of 64 bytes, ten bits an entry: an id sets seven bits in one block, so that asking
//! costs one access to memory, and about one id in sixty passes without being there. Ids are keyed hashes, so
//! their own bits choose the block and the bits in it; ids that are not random only make it pass more.

use super::SLICE_BITS;

const BITS_PER_ENTRY: u64 = 10;
const BITS_PER_ID: u32 = 7;
const BLOCK_WORDS: usize = 8;
const BLOCK_BYTES: usize = 8 * BLOCK_WORDS;

/// The filter of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    blocks: Vec<[u64; BLOCK_WORDS]>,
}

impl Filter {
    /// A filter that so many ids may be inserted into.
    pub(super) fn with_capacity(count: u64) -> Self {
        Self { blocks: vec![[0; BLOCK_WORDS]; block_count(count)] }
    }

    /// Bytes in memory of the filter for so many ids.
    pub(super) fn bytes_for(count: u64) -> usize {
        block_count(count) * BLOCK_BYTES
    }

    /// Remembers an id.
    pub(super) fn insert(&mut self, key: &[u8; 16]) {
        let (block, mask) = self.spot(key);
        if let Some(words) = self.blocks.get_mut(block) {
            words.iter_mut().zip(mask).for_each(|(word, bits)| *word |= bits);
        }
    }

    /// Whether the id may have been inserted: true if it was.
    pub(super) fn may_contain(&self, key: &[u8; 16]) -> bool {
        let (block, mask) = self.spot(key);
        match self.blocks.get(block) {
            Some(words) => {
                words.iter().zip(mask).fold(0, |missing, (word, bits)| missing | (bits & !word)) == 0
            }
            None => true,
        }
    }

    /// The block of an id, and its bits in the block.
    fn spot(&self, key: &[u8; 16]) -> (usize, [u64; BLOCK_WORDS]) {
        let id = u128::from_be_bytes(*key);
        // All ids of a run agree in the bits that choose the slice; those that follow choose the block. The order
        // of blocks is the order of ids, so that a filter is filled from front to back.
        let position = u64::try_from((id << SLICE_BITS) >> 64).expect("64 bits are left");
        let block = (u128::from(position) * self.blocks.len() as u128) >> 64;
        let mut mask = [0; BLOCK_WORDS];
        for turn in 0..BITS_PER_ID {
            let bit = (id >> (9 * turn)) as usize % (64 * BLOCK_WORDS);
            mask[bit / 64] |= 1 << (bit % 64);
        }
        (usize::try_from(block).expect("less than the number of blocks"), mask)
    }

    /// The bytes to store.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The filter that was stored as `bytes`.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let words = |block: &[u8; BLOCK_BYTES]| {
            let mut words = [0; BLOCK_WORDS];
            let stored = block.as_chunks::<8>().0;
            words.iter_mut().zip(stored).for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
            words
        };
        Self { blocks: bytes.as_chunks::<BLOCK_BYTES>().0.iter().map(words).collect() }
    }
}

fn block_count(count: u64) -> usize {
    let blocks = count.saturating_mul(BITS_PER_ENTRY).div_ceil(8 * BLOCK_BYTES as u64).max(1);
    usize::try_from(blocks).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::tests::random_key;

    #[test]
    fn every_inserted_id_passes_and_few_others_do() {
        let mut filter = Filter::with_capacity(10_000);
        (0..10_000).for_each(|seed| filter.insert(&random_key(seed)));
        assert!((0..10_000).all(|seed| filter.may_contain(&random_key(seed))));
        let passing = (10_000..110_000).filter(|seed| filter.may_contain(&random_key(*seed))).count();
        assert!(passing < 4_000, "{passing} of 100,000 pass");
    }

    #[test]
    fn a_stored_filter_is_the_same_when_read() {
        let mut filter = Filter::with_capacity(10_000);
        (0..10_000).for_each(|seed| filter.insert(&random_key(seed)));
        let bytes = filter.to_bytes();
        assert_eq!(Filter::from_bytes(&bytes), filter);
        assert_eq!(bytes.len(), Filter::bytes_for(10_000));
    }
}
