//! Whether bytes repeat much of others, found out faster than by compressing.
//!
//! A hash over the last 32 bytes is computed at every byte. Where some of its bits are zero it is kept: both sides choose
//! the same places in what they share, wherever it lies. It decides nothing but how something is stored, so it need not
//! resist anybody.

/// Every so many places are kept, on average. A power of two.
const SAMPLE_SPACING: u64 = 32;
/// Fewer samples tell nothing.
const SAMPLE_COUNT_MIN: usize = 8;
/// One in so many samples must be met again. A change spoils 32 of them, so the bytes that are shared are more: about half.
const SHARE_MIN: usize = 3;

/// Whether `new` repeats much of `earlier`. What is too short to tell does.
pub fn repeats_much(new: &[u8], earlier: &[&[u8]]) -> bool {
    let mut known: Vec<u32> = earlier.iter().flat_map(|part| samples(part)).collect();
    known.sort_unstable();
    let wanted: Vec<u32> = samples(new).collect();
    let met = wanted.iter().filter(|sample| known.binary_search(sample).is_ok()).count();
    wanted.len() < SAMPLE_COUNT_MIN || met * SHARE_MIN >= wanted.len()
}

fn samples(bytes: &[u8]) -> impl Iterator<Item = u32> {
    // Each byte moves a bit up for every byte that follows, so the low 32 bits know the last 32 bytes. Multiplying
    // spreads a byte only upwards, so the bits that choose lie near the top of those.
    let mut hash = 0u64;
    bytes.iter().filter_map(move |byte| {
        hash = (hash << 1).wrapping_add((u64::from(*byte) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let low = hash as u32;
        (u64::from(low >> 20) & (SAMPLE_SPACING - 1) == 0).then_some(low)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn what_was_changed_here_and_there_and_moved_is_recognised() {
        let earlier = noise(100_000, 1);
        let mut new = noise(777, 2);
        new.extend_from_slice(&earlier[5000..]);
        new.extend_from_slice(&earlier[..5000]);
        for at in (0..new.len()).step_by(300) {
            new[at] ^= 1;
        }
        let (one, other) = earlier.split_at(40_000);
        assert!(repeats_much(&new, &[one, other]));
    }

    #[test]
    fn what_is_different_is_not_taken_for_alike() {
        assert!(!repeats_much(&noise(100_000, 1), &[&noise(100_000, 2)]));
        let mut mixed = noise(100_000, 1);
        mixed[..80_000].copy_from_slice(&noise(80_000, 3));
        assert!(!repeats_much(&mixed, &[&noise(100_000, 1)]));
        assert!(!repeats_much(&noise(100_000, 1), &[]));
    }

    #[test]
    fn samples_are_kept_about_as_often_as_stated() {
        for bytes in
            [noise(320_000, 1), "int main(void) { return 0; } // the same again\n".repeat(9).into_bytes()]
        {
            let count = samples(&bytes).count();
            assert!(count <= bytes.len() / 16, "{count}");
        }
        assert!(samples(&noise(320_000, 1)).count() > 8000);
    }

    #[test]
    fn what_is_too_short_to_tell_is_alike() {
        assert!(repeats_much(b"short", &[b"other"]));
    }
}
