//! Proof that parity finds and mends what it promises, and nothing beyond.

use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;
/// Starts of the hashes of the parity of 1, 1000, 100,000 and 3,145,728 bytes.
const GOLDEN: [&str; 4] = ["8365fc5d248c3974", "137b9d73760fd339", "e39f96502a10781e", "3f1253fa579fbf36"];

fn noise(seed: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    bytes
}

/// A payload, its hash, and the stored object: payload and parity.
fn object(len: usize) -> (Vec<u8>, [u8; 32], Vec<u8>) {
    let payload = noise(&len.to_le_bytes(), len);
    let mut stored = payload.clone();
    encode(&payload, &mut stored);
    let hash = *blake3::hash(&payload).as_bytes();
    (payload, hash, stored)
}

fn damage(bytes: &mut [u8]) {
    for byte in bytes {
        *byte ^= 0x5a;
    }
}

#[test]
fn shapes_are_those_of_the_format() {
    let shape = |len: u64| {
        let Geometry { shard_len, data_shards, parity_shards, .. } = geometry(len);
        (shard_len, data_shards, parity_shards, parity_len(len))
    };
    assert_eq!(shape(0), (64, 1, 4, 2 * (64 + 5 * 8) + 4 * 64));
    assert_eq!(shape(1), shape(0));
    assert_eq!(shape(64), shape(0));
    assert_eq!(shape(65), (64, 2, 4, 2 * (64 + 6 * 8) + 4 * 64));
    assert_eq!(shape(4096), (64, 64, 4, 2 * (64 + 68 * 8) + 4 * 64));
    assert_eq!(shape(4097), (128, 33, 4, 2 * (64 + 37 * 8) + 4 * 128));
    assert_eq!(shape(1 << 20), (16 << 10, 64, 4, 2 * (64 + 68 * 8) + 4 * (16 << 10)));
    assert_eq!(shape(32 << 20), (16 << 10, 2048, 64, 2 * (64 + 2112 * 8) + (1 << 20)));
    assert_eq!(shape((32 << 20) + 1), (16 << 10, 2049, 64, 2 * (64 + 2113 * 8) + (1 << 20)));
    // Nothing overflows, however long a payload claims to be.
    assert!(parity_len(u64::MAX) > 1 << 50);
}

#[test]
fn parity_has_the_bytes_it_always_had() {
    let digest = |len| {
        let (payload, _, stored) = object(len);
        assert_eq!(stored.len() as u64, len as u64 + parity_len(len as u64));
        assert_eq!(stored[..len], payload);
        blake3::hash(&stored[len..]).to_hex()[..16].to_owned()
    };
    assert_eq!([1, 1000, 100_000, 3 * MIB].map(digest), GOLDEN);
}

#[test]
fn every_changed_bit_and_every_cut_of_parity_is_noticed() {
    let (_, _, stored) = object(1000);
    let parity = &stored[1000..];
    assert!(is_whole(1000, parity));
    for bit in 0..8 * parity.len() {
        let mut changed = parity.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_whole(1000, &changed), "bit {bit}");
    }
    for len in 0..parity.len() {
        assert!(!is_whole(1000, &parity[..len]), "{len} bytes");
    }
    assert!(!is_whole(1001, parity));
    assert!(!is_whole(u64::MAX, parity));
}

#[test]
fn parity_in_stripes_is_the_parity_of_whole_shards() {
    let (payload, _, stored) = object(2 * MIB);
    let shape = geometry(2 << 20);
    let parity = reed_solomon_simd::encode(128, 4, payload.chunks_exact(16 << 10)).unwrap();
    let start = payload.len() + TRAILER_BYTES + shape.table_len() as usize;
    assert_eq!(stored[start..start + (64 << 10)], parity.concat());
}

#[test]
fn damage_of_as_many_shards_as_there_are_parity_shards_is_repaired() {
    for len in [1, 63, 64, 65, 1000, 4096, 4097, 100_000, MIB - 1, MIB, 3 * MIB + 5] {
        let (payload, hash, stored) = object(len);
        let shape = geometry(len as u64);
        let shard_len = shape.shard_len as usize;
        let count = shape.parity_shards.min(shape.data_shards) as usize;
        let step = shape.data_shards as usize / count;
        let mut damaged = stored.clone();
        for shard in (0..count).map(|at| at * step) {
            damage(&mut damaged[shard * shard_len..len.min(shard * shard_len + 1)]);
        }
        assert_ne!(damaged, stored);
        assert_eq!(repair(&damaged, None, &hash), Ok(payload), "{len} bytes");
    }
}

#[test]
fn one_damaged_shard_more_is_refused() {
    let (_, hash, mut stored) = object(MIB);
    for shard in 0..5 {
        stored[shard * 3 * (16 << 10)] ^= 1;
    }
    assert_eq!(repair(&stored, None, &hash), Err(ParityError::TooDamaged { damaged: 5, spare: 4 }));
}

#[test]
fn damaged_parity_shards_count_against_the_budget() {
    let (payload, hash, mut stored) = object(MIB);
    let first_parity_shard = MIB + TRAILER_BYTES + 68 * 8;
    for shard in 0..3 {
        stored[first_parity_shard + shard * (16 << 10)] ^= 1;
    }
    stored[0] ^= 1;
    assert_eq!(repair(&stored, None, &hash), Ok(payload));
    stored[MIB - 1] ^= 1;
    assert_eq!(repair(&stored, None, &hash), Err(ParityError::TooDamaged { damaged: 2, spare: 1 }));
}

#[test]
fn one_bad_place_of_a_whole_shard_anywhere_is_repaired() {
    let (payload, hash, stored) = object(30_000);
    let shard_len = geometry(30_000).shard_len as usize;
    for start in (0..stored.len()).step_by(shard_len / 4 + 1) {
        let mut damaged = stored.clone();
        let end = stored.len().min(start + shard_len);
        damage(&mut damaged[start..end]);
        assert_eq!(repair(&damaged, None, &hash).as_ref(), Ok(&payload), "damage at {start}");
        assert_eq!(repair(&damaged, Some(30_000), &hash).as_ref(), Ok(&payload), "damage at {start}");
    }
}

#[test]
fn an_object_that_lost_its_end_is_found_by_its_first_trailer() {
    let (payload, hash, mut stored) = object(30_000);
    let end = stored.len();
    stored.truncate(end - TRAILER_BYTES - 1);
    stored[100] ^= 1;
    assert_eq!(repair(&stored, None, &hash).as_ref(), Ok(&payload));
    // Without the last two parity shards two are left.
    let shape = geometry(30_000);
    stored.truncate(30_000 + TRAILER_BYTES + shape.table_len() as usize + 2 * shape.shard_len as usize);
    assert_eq!(repair(&stored, None, &hash).as_ref(), Ok(&payload));
}

#[test]
fn without_any_trailer_the_length_known_from_elsewhere_is_enough() {
    let (payload, hash, mut stored) = object(30_000);
    let end = stored.len();
    damage(&mut stored[end - TRAILER_BYTES..]);
    damage(&mut stored[30_000..30_000 + TRAILER_BYTES]);
    damage(&mut stored[..10]);
    assert_eq!(repair(&stored, None, &hash), Err(ParityError::NotFound));
    assert_eq!(repair(&stored, Some(30_000), &hash), Ok(payload));
}

#[test]
fn a_wrong_hint_does_no_harm() {
    let (payload, hash, mut stored) = object(30_000);
    stored[29_999] ^= 1;
    for hint in [0, 1, 29_999, 30_001, 1 << 40, u64::MAX] {
        assert_eq!(repair(&stored, Some(hint), &hash).as_ref(), Ok(&payload), "hint {hint}");
    }
}

#[test]
fn two_damages_may_hit_both_hash_tables() {
    let (payload, hash, mut stored) = object(MIB);
    let end = stored.len();
    damage(&mut stored[MIB..MIB + TRAILER_BYTES + 30 * 8]);
    damage(&mut stored[end - TRAILER_BYTES - 30 * 8..end - TRAILER_BYTES]);
    stored[500_000] ^= 1;
    assert_eq!(repair(&stored, None, &hash), Ok(payload));
}

#[test]
fn a_payload_in_order_is_returned_whatever_became_of_its_parity() {
    let (payload, hash, mut stored) = object(30_000);
    damage(&mut stored[30_000..]);
    assert_eq!(repair(&stored, Some(30_000), &hash), Ok(payload));
}

#[test]
fn another_payload_is_never_returned() {
    let (_, _, mut stored) = object(30_000);
    let (_, other_hash, _) = object(30_001);
    assert_eq!(repair(&stored, None, &other_hash), Err(ParityError::OtherPayload));
    stored[5] ^= 1;
    assert_eq!(repair(&stored, None, &other_hash), Err(ParityError::OtherPayload));
}

#[test]
fn a_trailer_is_not_believed_with_any_bit_changed() {
    let shape = geometry(30_000);
    let trailer = trailer::encode(&shape, b"table");
    assert_eq!(trailer::decode(&trailer), Some(shape));
    for bit in 0..TRAILER_BYTES * 8 {
        let mut changed = trailer;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(trailer::decode(&changed), None, "bit {bit}");
    }
}

#[test]
fn a_trailer_with_a_good_hash_and_an_impossible_shape_is_not_believed() {
    let good = geometry(30_000);
    for shape in [
        Geometry { shard_len: 1 << 31, ..good },
        Geometry { data_shards: 0, ..good },
        Geometry { parity_shards: 65_535, ..good },
        Geometry { payload_len: 30_000_000, ..good },
        geometry(limits::PACK_BYTES_MAX + 1),
        geometry(u64::MAX),
    ] {
        assert_eq!(trailer::decode(&trailer::encode(&shape, b"table")), None, "{shape:?}");
    }
}

#[test]
fn a_stored_trailer_of_a_huge_payload_allocates_nothing() {
    let hostile = trailer::encode(&geometry(limits::PACK_BYTES_MAX), b"table");
    let mut stored = vec![0; 1000];
    stored.extend_from_slice(&hostile);
    assert_eq!(repair(&stored, None, &[0; 32]), Err(ParityError::NotFound));
    assert_eq!(repair(&hostile, Some(64), &[0; 32]), Err(ParityError::NotFound));
    assert_eq!(repair(&[], Some(0), &[0; 32]), Err(ParityError::NotFound));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn scattered_damage_is_repaired_or_refused_and_never_returned(
        len in 1usize..20_000,
        places in prop::collection::vec((any::<prop::sample::Index>(), 1usize..200, any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        hint in prop::option::of(0u64..30_000),
    ) {
        let (payload, hash, mut stored) = object(len);
        for (at, count, value) in places {
            let at = at.index(stored.len());
            let end = stored.len().min(at + count);
            stored[at..end].fill(value);
        }
        if let Some(cut) = cut {
            stored.truncate(cut.index(stored.len()));
        }
        if let Ok(repaired) = repair(&stored, hint, &hash) {
            prop_assert_eq!(repaired, payload);
        }
    }

    #[test]
    fn any_bytes_are_refused_without_panic(
        stored in prop::collection::vec(any::<u8>(), 0..2000),
        payload_len in any::<u64>(),
        hint in any::<Option<u16>>(),
    ) {
        let mut stored = stored;
        stored.extend_from_slice(&trailer::encode(&geometry(payload_len), &stored));
        prop_assert!(repair(&stored, hint.map(u64::from), &[0; 32]).is_err());
    }
}
