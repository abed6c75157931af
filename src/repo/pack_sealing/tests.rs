//! Differences on their way into a sealed pack, and what a faulty memory may do to them there.

use super::*;
use crate::compress::{Compression, Compressor};
use crate::format::frame::ChunkEntry;
use crate::format::keyring::{GenerationFields, KeyringFields};
use crate::id::SnapshotId;
use crate::shelf::Shelf;

const REPOSITORY: RepositoryId = RepositoryId::new([9; 16]);

fn keys() -> Keys {
    let generation = GenerationFields { number: 1, content_root: [1; 32], catalogue_root: [2; 32] };
    Keys::new(&KeyringFields { version: 1, number: 1, master: [3; 32], generations: vec![generation] })
}

/// A frame that rests on a base, its stored bytes, and the plain bytes of the base.
fn difference(keys: &Keys) -> (FrameEntry, Vec<u8>, Vec<u8>) {
    let base: Vec<u8> = (0..50_000u64).map(|at| blake3::hash(&at.to_le_bytes()).as_bytes()[0]).collect();
    let mut plain = base.clone();
    plain[500] ^= 1;
    let mut compressor = Compressor::new(Compression::Auto);
    let (codec, stored) = compressor.compress_against(&plain, &base);
    assert_eq!(codec, Codec::ZstdPrefix);
    let key = keys.ids.chunk(&plain).content().prefix();
    let frame = FrameEntry {
        codec,
        depth: 1,
        stored_len: stored.len() as u32,
        bases: vec![keys.ids.chunk(&base).content()],
        chunks: vec![ChunkEntry { key, kind: ContentKind::Chunk, len: plain.len() as u32 }],
    };
    (frame, stored.to_vec(), base)
}

fn sealed(keys: &Keys, frame: FrameEntry, stored: &[u8], expanded: Option<FrameHash>) -> SealedPack {
    let newest = keys.newest();
    let salt = SaltSource {
        randomness: &keys.randomness,
        hedge: &newest.hedge,
        lease: SnapshotId::new([0; 16]),
        counter: 0,
    };
    let mut body = PackBody::new(PackKind::Data, Shelf::new(1).buffer(1 << 20));
    body.push(frame, stored, expanded);
    seal_pack(keys, REPOSITORY, &salt, body).unwrap()
}

/// What is wrong with the frame of a pack.
fn damage(keys: &Keys, pack: &SealedPack, proof_of: ProofOf<'_>) -> Option<DamageReason> {
    let openers = Shelf::new(1);
    let verified = verify_pack(keys, REPOSITORY, PackKind::Data, &pack.payload, &openers, proof_of);
    let (_, damages) = verified.unwrap();
    damages.into_iter().next().map(|damage| damage.reason)
}

#[test]
fn what_was_expanded_before_it_was_sealed_must_be_the_same_when_it_is_opened() {
    let keys = keys();
    let (frame, stored, _) = difference(&keys);
    let hash = FrameHash::of(&frame, &stored);
    let proof_of = |_: usize, _: &FrameEntry| Ok(Proof::Expanded(hash));
    let pack = sealed(&keys, frame.clone(), &stored, Some(hash));
    assert_eq!(pack.expanded, [Some(hash)]);
    assert!(damage(&keys, &pack, &proof_of).is_none());
    // A bit flips anywhere between compressing and sealing: in the bytes, or in what is said of them.
    for at in 0..stored.len() {
        let mut altered = stored.clone();
        altered[at] ^= 4;
        let pack = sealed(&keys, frame.clone(), &altered, Some(hash));
        assert!(matches!(damage(&keys, &pack, &proof_of), Some(DamageReason::Altered)), "byte {at}");
    }
    let mut chunks = frame.chunks.clone();
    chunks[0].key[3] ^= 1;
    let mut bases = frame.bases.clone();
    bases.push(bases[0]);
    let altered = [
        FrameEntry { chunks, ..frame.clone() },
        FrameEntry { bases, ..frame.clone() },
        FrameEntry { depth: 2, ..frame.clone() },
    ];
    for frame in altered {
        let pack = sealed(&keys, frame, &stored, Some(hash));
        assert!(matches!(damage(&keys, &pack, &proof_of), Some(DamageReason::Altered)));
    }
}

#[test]
fn a_difference_is_verified_after_its_bases_and_by_its_ids() {
    let keys = keys();
    let (frame, stored, base) = difference(&keys);
    let mut opener = FrameOpener::default();
    assert!(opener.verify_stored(&keys.ids, &frame, &stored, &base).is_ok());
    let mut other = base.clone();
    other[30_000] ^= 1;
    assert!(opener.verify_stored(&keys.ids, &frame, &stored, &other).is_err());
    let mut altered = frame.clone();
    altered.chunks[0].key[0] ^= 1;
    assert!(matches!(opener.verify_stored(&keys.ids, &altered, &stored, &base), Err(DamageReason::Id)));
    // The same says the pack itself, with the bases at hand.
    let pack = sealed(&keys, frame, &stored, None);
    assert!(damage(&keys, &pack, &|_, _| Ok(Proof::Prefix(base.clone().into()))).is_none());
    assert!(damage(&keys, &pack, &|_, _| Ok(Proof::Prefix(other.clone().into()))).is_some());
}
