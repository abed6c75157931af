//! Golden cut points were computed with a scalar implementation in Python.

use proptest::prelude::*;

use super::*;
use crate::crypto::fixture::counting_secret;
use crate::crypto::{context, derive};

const SMALL: ChunkSizes = ChunkSizes { min: 4096, average: 16_384, max: 65_536 };

fn keyed(sizes: ChunkSizes) -> Chunker {
    Chunker::new(&derive(context::CHUNKER, &counting_secret()), sizes)
}

/// Bytes that look random, always the same for the same seed.
fn noise(seed: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    bytes
}

fn cut_all(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
    let mut lens = Vec::new();
    while let Some(len) = chunker.cut(bytes, true) {
        lens.push(len);
        bytes = &bytes[len..];
    }
    lens
}

/// Cuts a stream of which every read brings another number of bytes.
fn cut_in_pieces(chunker: &Chunker, bytes: &[u8], reads: &[usize]) -> Vec<usize> {
    let (mut lens, mut start, mut end) = (Vec::new(), 0, 0);
    for read in reads.iter().copied().cycle() {
        while let Some(len) = chunker.cut(&bytes[start..end], false) {
            lens.push(len);
            start += len;
        }
        if end == bytes.len() {
            break;
        }
        end = bytes.len().min(end + read);
    }
    lens.extend(cut_all(chunker, &bytes[start..]));
    lens
}

#[test]
fn the_table_is_the_one_it_always_was() {
    let gear = Gear::from_key(&derive(context::CHUNKER, &counting_secret()));
    assert_eq!(gear.plain[0], 0x7a80_b043_8df5_9db3);
    assert_eq!(gear.plain[1], 0x63a0_e732_a5c5_3061);
    assert_eq!(gear.plain[255], 0xfd75_a751_0fc1_2820);
    assert!(gear.plain.iter().zip(&gear.shifted).all(|(plain, shifted)| plain << 1 == *shifted));
}

#[test]
fn streams_are_cut_where_they_always_were() {
    let golden = [
        13487, 18226, 12739, 25321, 51172, 33179, 16860, 37457, 23055, 18431, 9398, 6569, 15894, 20379,
        17279, 25386, 21992, 28588, 19368, 13630, 45957, 15057, 13650, 8352, 17365, 9062, 23747, 17059,
        25563, 42137, 29048, 14989, 11055, 9558, 17127, 11256, 4837, 20072, 19895, 24800, 11096, 7708, 17060,
        34559, 23658, 18433, 20190, 19410, 18231, 17185, 19434, 32616,
    ];
    assert_eq!(cut_all(&keyed(SMALL), &noise(b"golden", 1 << 20)), golden);

    let mut zeros_then_noise = vec![0; 200_000];
    zeros_then_noise.extend_from_slice(&noise(b"golden", 100_001));
    let sizes = ChunkSizes::new(16 << 10, 64 << 10, 128 << 10).unwrap();
    assert_eq!(cut_all(&keyed(sizes), &zeros_then_noise), [131_072, 72_153, 96_776]);
}

#[test]
fn with_the_public_table_the_cuts_are_those_of_fastcdc() {
    let (plain, _) = v2020::get_gear_with_seed(0);
    let bytes = noise(b"oracle", 5_000_001);
    for sizes in [SMALL, ChunkSizes::default(), ChunkSizes::new(64, 256, 1024).unwrap()] {
        let chunker = Chunker::with_gear(Gear::new(plain.as_ref().try_into().unwrap()), sizes);
        let oracle = v2020::FastCDC::new(&bytes, sizes.min, sizes.average, sizes.max);
        let expected: Vec<usize> = oracle.map(|chunk| chunk.length).collect();
        assert_eq!(cut_all(&chunker, &bytes), expected);
    }
}

#[test]
fn another_key_cuts_elsewhere() {
    let bytes = noise(b"golden", 1 << 20);
    let other = Chunker::new(&Secret::new([1; 32]), SMALL);
    assert_ne!(cut_all(&keyed(SMALL), &bytes), cut_all(&other, &bytes));
}

#[test]
fn a_chunk_is_not_cut_before_the_longest_one_would_fit() {
    let bytes = noise(b"golden", SMALL.max);
    let chunker = keyed(SMALL);
    assert_eq!(chunker.cut(&bytes[..SMALL.max - 1], false), None);
    assert_eq!(chunker.cut(&bytes, false), Some(13487));
    assert_eq!(chunker.cut(&bytes[..100], true), Some(100));
    assert_eq!(chunker.cut(&[], true), None);
    assert_eq!(chunker.cut(&[], false), None);
}

#[test]
fn an_insertion_moves_only_the_cuts_near_it() {
    let bytes = noise(b"golden", 1 << 20);
    let mut changed = bytes.clone();
    changed.splice(500_000..500_000, *b"inserted");
    let (before, after) = (cut_all(&keyed(SMALL), &bytes), cut_all(&keyed(SMALL), &changed));
    let same_front = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
    let same_back =
        before.iter().rev().zip(after.iter().rev()).take_while(|(one, other)| one == other).count();
    assert!(same_front + same_back >= before.len() - 4, "{same_front} and {same_back} of {}", before.len());
}

#[test]
fn sizes_that_the_scan_cannot_handle_are_refused() {
    for (min, average, max) in [
        (32, 256, 1024),
        (64, 128, 1024),
        (64, 256, 512),
        (256, 256, 1024),
        (256, 1024, 1024),
        (2 << 20, 4 << 20, 8 << 20),
        (1 << 20, 8 << 20, 16 << 20),
        (1 << 20, 4 << 20, 32 << 20),
        (4096, 16_384, 65_537),
        (4098, 16_384, 65_536),
        (0, 0, 0),
    ] {
        assert_eq!(ChunkSizes::new(min, average, max), Err(ChunkSizesError { min, average, max }));
    }
    assert!(ChunkSizes::new(1 << 20, 4 << 20, 16 << 20).is_ok());
    let default = ChunkSizes::default();
    assert_eq!(ChunkSizes::new(default.min, default.average, default.max), Ok(default));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_a_stream_is_fed_does_not_change_the_cuts(
        seed in any::<[u8; 4]>(),
        len in 0usize..40_000,
        zeros in 0usize..5000,
        reads in prop::collection::vec(1usize..9000, 1..8),
    ) {
        let mut bytes = noise(&seed, len);
        bytes.splice(len / 2..len / 2, std::iter::repeat_n(0, zeros));
        let sizes = ChunkSizes::new(256, 1024, 4096).unwrap();
        let chunker = keyed(sizes);
        let whole = cut_all(&chunker, &bytes);
        prop_assert_eq!(whole.iter().sum::<usize>(), bytes.len());
        prop_assert!(whole.iter().all(|len| *len <= sizes.max()));
        prop_assert!(whole.iter().rev().skip(1).all(|len| *len >= sizes.min()));
        prop_assert_eq!(cut_in_pieces(&chunker, &bytes, &reads), whole);
    }
}
