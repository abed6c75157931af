//! Proof that frames expand to what was compressed, and that nothing else is believed.

use proptest::prelude::*;
use zstd::zstd_safe::FrameFormat;

use super::*;

const ALL: [Compression; 5] = [
    Compression::Off,
    Compression::Fast,
    Compression::Auto,
    Compression::Max,
    Compression::Level(CompressionLevel(7)),
];

fn noise(seed: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    bytes
}

/// Compresses well, but not to almost nothing.
fn text(len: usize) -> Vec<u8> {
    let words = (0u64..).flat_map(|at| format!("word {} ", at.wrapping_mul(at) % 1009).into_bytes());
    words.take(len).collect()
}

fn expanded(codec: Codec, stored: &[u8], prefix: &[u8], plain_len: usize) -> Result<Vec<u8>, ExpandError> {
    let mut into = Vec::new();
    Expander::new().expand(codec, stored, prefix, plain_len, &mut into).map(|()| into)
}

fn zstd_frame(plain: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(Compression::Auto);
    let (codec, stored) = compressor.compress(plain);
    assert_eq!(codec, Codec::Zstd);
    stored.to_vec()
}

#[test]
fn compressions_are_parsed_and_printed() {
    for text in ["off", "fast", "auto", "max", "1", "19"] {
        assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
    }
    for text in ["", "0", "20", "-1", "AUTO", "3.5", "zstd", "300"] {
        assert_eq!(text.parse::<Compression>(), Err(CompressionError(text.to_owned())));
    }
}

#[test]
fn codecs_have_the_numbers_of_the_format() {
    for (number, codec) in (0..).zip([Codec::Stored, Codec::Zstd, Codec::ZstdPrefix]) {
        assert_eq!(codec.number(), number);
        assert_eq!(Codec::from_number(number), Some(codec));
        assert_eq!(postcard::to_allocvec(&codec).unwrap(), [number]);
    }
    assert_eq!(Codec::from_number(3), None);
}

#[test]
fn every_compression_expands_to_the_same() {
    let (text, noise) = (text(300_000), noise(b"seed", 300_000));
    for compression in ALL {
        let mut compressor = Compressor::new(compression);
        let mut expander = Expander::new();
        // Again and again, because the contexts are used again.
        for plain in [&text[..], &noise, b"", b"x", &[0; 100_000], &text[..1000]] {
            let (codec, stored) = compressor.compress(plain);
            assert!(stored.len() <= plain.len());
            assert_eq!(codec == Codec::Stored, stored == plain);
            let mut plain_again = b"kept".to_vec();
            expander.expand(codec, stored, &[], plain.len(), &mut plain_again).unwrap();
            assert_eq!(plain_again, [b"kept", plain].concat());
        }
    }
}

#[test]
fn what_does_not_get_smaller_is_stored_plainly() {
    for compression in ALL {
        let plain = noise(b"seed", 100_000);
        assert_eq!(Compressor::new(compression).compress(&plain), (Codec::Stored, plain.as_slice()));
    }
    assert_eq!(Compressor::new(Compression::Off).compress(&[0; 1000]), (Codec::Stored, [0; 1000].as_slice()));
}

#[test]
fn a_frame_has_neither_content_size_nor_checksum() {
    let stored = zstd_frame(&text(1 << 20));
    assert_eq!(stored[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    assert_eq!(stored[4], 0, "the descriptor announces no optional field");
}

#[test]
fn a_changed_version_costs_little_after_its_base() {
    let mut prefix = noise(b"seed", 4 << 20);
    let mut plain = prefix[1 << 20..3 << 20].to_vec();
    plain.splice(1_000_000..1_000_000, *b"inserted");
    plain[500_000..500_010].fill(0);
    let mut compressor = Compressor::new(Compression::Auto);
    let (codec, stored) = compressor.compress_against(&plain, &prefix);
    let stored = stored.to_vec();
    assert_eq!(codec, Codec::ZstdPrefix);
    assert!(stored.len() < plain.len() / 500, "{} bytes", stored.len());
    assert_eq!(expanded(Codec::ZstdPrefix, &stored, &prefix, plain.len()).as_ref(), Ok(&plain));
    // Another prefix gives other bytes or an error: telling is the task of the chunk ids.
    prefix[1 << 20..3 << 20].fill(7);
    assert_ne!(expanded(Codec::ZstdPrefix, &stored, &prefix, plain.len()).as_ref(), Ok(&plain));
    assert_ne!(expanded(Codec::Zstd, &stored, &[], plain.len()).as_ref(), Ok(&plain));
}

#[test]
fn the_longest_frame_after_the_longest_prefix_keeps_the_window_limit() {
    let prefix = noise(b"seed", limits::PREFIX_BYTES_MAX);
    let mut plain = prefix.clone();
    plain.rotate_left(12_345);
    let mut compressor = Compressor::new(Compression::Fast);
    let (codec, stored) = compressor.compress_against(&plain, &prefix);
    let stored = stored.to_vec();
    assert_eq!(codec, Codec::ZstdPrefix);
    assert!(stored.len() < 20_000, "{} bytes", stored.len());
    assert!(expanded(Codec::ZstdPrefix, &stored, &prefix, plain.len()).is_ok_and(|again| again == plain));
}

#[test]
fn a_prefix_that_helps_nothing_and_no_prefix_are_told_apart() {
    let mut compressor = Compressor::new(Compression::Auto);
    let stored = |compressor: &mut Compressor, plain: &[u8], prefix: &[u8]| {
        compressor.compress_against(plain, prefix).0
    };
    assert_eq!(stored(&mut compressor, &noise(b"one", 10_000), &noise(b"two", 10_000)), Codec::Stored);
    assert_eq!(stored(&mut compressor, &text(10_000), b""), Codec::Zstd);
    assert_eq!(stored(&mut compressor, b"", b"prefix"), Codec::Stored);
    let mut off = Compressor::new(Compression::Off);
    assert_eq!(stored(&mut off, &text(10_000), &text(10_000)), Codec::Stored);
}

#[test]
fn another_length_than_the_stated_one_is_an_error() {
    let plain = text(50_000);
    let stored = zstd_frame(&plain);
    for plain_len in [49_999, 50_001, stored.len(), limits::FRAME_BYTES_MAX] {
        let mut into = Vec::with_capacity(100_000);
        into.extend_from_slice(b"kept");
        let outcome = Expander::new().expand(Codec::Zstd, &stored, &[], plain_len, &mut into);
        assert!(outcome.is_err(), "{plain_len} was accepted");
        assert_eq!(into, b"kept");
    }
    assert_eq!(expanded(Codec::Stored, b"abc", &[], 4), Err(ExpandError::OtherLength { plain_len: 4 }));
    let too_long = ExpandError::TooLong { plain_len: 2, stored_len: 3 };
    assert_eq!(expanded(Codec::Stored, b"abc", &[], 2), Err(too_long));
    assert_eq!(expanded(Codec::Stored, b"", &[], 0), Ok(Vec::new()));
}

#[test]
fn lengths_beyond_the_limits_are_refused() {
    let stored = zstd_frame(&text(1000));
    let plain_len = limits::FRAME_BYTES_MAX + 1;
    let error = ExpandError::TooLong { plain_len, stored_len: stored.len() };
    assert_eq!(expanded(Codec::Zstd, &stored, &[], plain_len), Err(error));
    let prefix = vec![0; limits::PREFIX_BYTES_MAX + 1];
    let error = ExpandError::TooLong { plain_len: 1000, stored_len: stored.len() };
    assert_eq!(expanded(Codec::ZstdPrefix, &stored, &prefix, 1000), Err(error));
}

#[test]
fn only_one_whole_standard_frame_is_accepted() {
    let stored = zstd_frame(&text(1000));
    let twice = [&stored[..], &stored].concat();
    assert_eq!(expanded(Codec::Zstd, &twice, &[], 2000), Err(ExpandError::Malformed));
    let with_skippable = [&stored[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat();
    assert_eq!(expanded(Codec::Zstd, &with_skippable, &[], 1000), Err(ExpandError::Malformed));
    for len in 0..stored.len() {
        assert_eq!(expanded(Codec::Zstd, &stored[..len], &[], 1000), Err(ExpandError::Malformed), "{len}");
    }
    let mut context = new_context(3);
    set(&mut context, CParameter::Format(FrameFormat::Magicless));
    let mut magicless = Vec::with_capacity(2000);
    context.compress2(&mut magicless, &text(1000)).unwrap();
    assert_eq!(expanded(Codec::Zstd, &magicless, &[], 1000), Err(ExpandError::Malformed));
}

#[test]
fn a_window_beyond_the_limit_is_refused() {
    let plain = text(1000);
    let mut stored = zstd_frame(&plain);
    // 2^25, the next larger one, 2^26 and the largest.
    for (window, is_allowed) in [(15 << 3, true), (15 << 3 | 1, false), (16 << 3, false), (0xff, false)] {
        stored[5] = window;
        let expected = if is_allowed { Ok(plain.clone()) } else { Err(ExpandError::Malformed) };
        assert_eq!(expanded(Codec::Zstd, &stored, &[], plain.len()), expected, "window {window:#x}");
    }
}

#[test]
fn a_bomb_is_stopped_at_the_stated_length() {
    let bomb = zstd_frame(&vec![0; limits::FRAME_BYTES_MAX]);
    let mut into = Vec::new();
    assert!(Expander::new().expand(Codec::Zstd, &bomb, &[], 4096, &mut into).is_err());
    assert!(into.capacity() <= 4096);
}

#[test]
fn an_expander_works_on_after_an_error() {
    let plain = text(10_000);
    let stored = zstd_frame(&plain);
    let mut expander = Expander::new();
    let mut into = Vec::new();
    let mut damaged = stored.clone();
    damaged[stored.len() / 2..].fill(0xff);
    let _ = expander.expand(Codec::Zstd, &damaged, &[], plain.len(), &mut into);
    into.clear();
    expander.expand(Codec::Zstd, &stored, &[], plain.len(), &mut into).unwrap();
    assert_eq!(into, plain);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_frames_never_panic_and_keep_what_was_there(
        len in 1usize..30_000,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        codec in prop::sample::select(&[Codec::Zstd, Codec::ZstdPrefix][..]),
    ) {
        let plain = text(len + 100);
        let mut stored = zstd_frame(&plain);
        for (at, value) in places {
            let at = at.index(stored.len());
            stored[at] = value;
        }
        let mut into = b"kept".to_vec();
        let outcome = Expander::new().expand(codec, &stored, b"", plain.len(), &mut into);
        let expected_len = if outcome.is_ok() { 4 + plain.len() } else { 4 };
        prop_assert_eq!(into.len(), expected_len);
        prop_assert!(into.starts_with(b"kept"));
    }

    #[test]
    fn any_bytes_never_panic(
        mut stored in prop::collection::vec(any::<u8>(), 0..500),
        has_magic in any::<bool>(),
        plain_len in 0usize..5000,
        prefix in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        if let (true, Some(magic)) = (has_magic, stored.first_chunk_mut()) {
            *magic = [0x28, 0xb5, 0x2f, 0xfd];
        }
        for codec in [Codec::Stored, Codec::Zstd, Codec::ZstdPrefix] {
            if let Ok(plain) = expanded(codec, &stored, &prefix, plain_len) {
                prop_assert_eq!(plain.len(), plain_len);
            }
        }
    }

    #[test]
    fn any_plaintext_after_any_prefix_expands_to_itself(
        plain in prop::collection::vec(0u8..4, 0..3000),
        prefix in prop::collection::vec(0u8..4, 0..3000),
    ) {
        let mut compressor = Compressor::new(Compression::Auto);
        let (codec, stored) = compressor.compress_against(&plain, &prefix);
        prop_assert_eq!(expanded(codec, stored, &prefix, plain.len()), Ok(plain.clone()));
    }
}
