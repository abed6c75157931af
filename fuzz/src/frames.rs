//! Compressed frames and parity: damage is an error or is mended, and never returned as data.

use kluis::compress::{Codec, Compression, CompressionLevel, Compressor, Expander};
use kluis::format::parity::{self, geometry};

use super::choices::Choices;

const PREFIX: &[u8] =
    b"some older text, which the newer one may repeat in part or as a whole; some older text";

/// Hostile frames, with and without a prefix; and what the compressor makes comes back.
pub fn expand(data: &[u8]) {
    let Some((head, stored)) = data.split_first_chunk::<2>() else { return };
    let plain_len = usize::from(u16::from_le_bytes(*head));
    let mut expander = Expander::new();
    let mut plain = b"before".to_vec();
    for (codec, prefix) in [(Codec::Stored, &b""[..]), (Codec::Zstd, b""), (Codec::ZstdPrefix, PREFIX)] {
        let outcome = expander.expand(codec, stored, prefix, plain_len, &mut plain);
        assert_eq!(plain.len(), 6 + if outcome.is_ok() { plain_len } else { 0 });
        assert!(plain.starts_with(b"before"));
        plain.truncate(6);
    }
    let level = CompressionLevel::new(1 + head[0] % 5).expect("levels from 1 to 19 exist");
    let mut compressor = Compressor::new(Compression::Level(level));
    let prefix = if head[1] % 2 == 0 { PREFIX } else { stored.get(stored.len() / 3..).unwrap_or_default() };
    let (codec, compressed) = compressor.compress_against(stored, prefix);
    let prefix = if codec == Codec::ZstdPrefix { prefix } else { b"" };
    plain.clear();
    let outcome = expander.expand(codec, compressed, prefix, stored.len(), &mut plain);
    assert_eq!(outcome, Ok(()));
    assert!(plain == stored, "what was compressed has changed");
}

/// Hostile trailers and tables: nothing hashes to what is expected, so every repair must end in an error.
pub fn parity_trailer(data: &[u8]) {
    let hint = data.first_chunk().map(|bytes| u64::from(u16::from_le_bytes(*bytes)));
    for hint in [None, hint, Some(u64::MAX)] {
        assert!(parity::repair(data, hint, &[0; 32]).is_err());
    }
    let middle = data.len() / 2;
    let (payload, behind) = data.split_at(middle);
    if parity::is_whole(payload.len() as u64, behind) {
        // Whole parity that vouches for the payload can mend each single shard of it.
        let is_vouched_for = parity::vouches_for(payload, behind);
        let mut damaged = data.to_vec();
        if is_vouched_for && let Some(byte) = damaged.first_mut() {
            *byte ^= 1;
            let hash = blake3::hash(payload);
            assert!(parity::repair(&damaged, None, hash.as_bytes()).is_ok_and(|mended| mended == payload));
        }
    }
}

/// Damage to an object with parity: as many shards as there are parity shards come back; never anything else.
pub fn parity_repair(data: &[u8]) {
    let mut choices = Choices(data);
    let len = 1 + choices.below(20_000);
    let hit_count = choices.below(12);
    let hits: Vec<_> = (0..hit_count).map(|_| (choices.below(65_536), choices.byte())).collect();
    let cut = usize::from(choices.byte());
    let seed = choices.bytes(64);
    let mut payload = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut payload);
    let hash = blake3::hash(&payload);
    let mut stored = payload.clone();
    parity::append(&mut stored);
    assert!(parity::is_whole(len as u64, &stored[len..]) && parity::vouches_for(&payload, &stored[len..]));
    let shape = geometry(len as u64);
    let mut shards = std::collections::BTreeSet::new();
    for (place, mask) in hits {
        let place = place % stored.len();
        stored[place] ^= mask;
        if mask != 0 {
            let is_in_payload = place < len;
            shards.insert(if is_in_payload { place as u64 / shape.shard_len } else { u64::MAX });
        }
    }
    let is_mendable = !shards.contains(&u64::MAX) && shards.len() as u64 <= shape.parity_shards;
    let hint = (cut % 2 == 1).then_some(len as u64 + cut as u64 / 3);
    match parity::repair(&stored, hint, hash.as_bytes()) {
        Ok(mended) => assert!(mended == payload, "something else than the payload came back"),
        Err(error) => assert!(!is_mendable, "{error}: {shards:?}"),
    }
    stored.truncate(stored.len().saturating_sub(cut * 40));
    if let Ok(mended) = parity::repair(&stored, hint, hash.as_bytes()) {
        assert!(mended == payload, "something else than the payload came back");
    }
}
