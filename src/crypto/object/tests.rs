//! Vectors computed with the `blake3` and `cryptography` packages of Python.

use super::*;
use crate::crypto::fixture::{counting_secret, hex};

fn header() -> [u8; 80] {
    std::array::from_fn(|at| at as u8)
}

fn sealed(key: &SealingKey, position: u64, aad: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    key.seal_to(position, aad, plain, &mut sealed);
    sealed
}

#[test]
fn root_and_header_give_the_keys_they_always_did() {
    let keys = object_keys(&counting_secret(), &header());
    assert_eq!(hex(&keys.commitment), "e3e5dfe2d36749c1648c7340107a91d6e256261a1ac9e86fcfee9287144e3093");
    assert_eq!(
        hex(&sealed(&keys.message, 0, b"aad", b"frame 0 text")),
        "1e8b93f79d948440b0ec2d1360bae216266edca938c8a6170b1a8129"
    );
    assert_eq!(
        hex(&sealed(&keys.directory, 0x0102_0304_0506_0708, b"", b"directory")),
        "e8cffd34d080fe23ba97555fd8b9e7f7454e2bb4742bf52d24"
    );
}

#[test]
fn every_bit_of_the_header_and_the_root_changes_all_keys() {
    let keys = object_keys(&counting_secret(), &header());
    let message = sealed(&keys.message, 0, b"", b"plain");
    let directory = sealed(&keys.directory, 0, b"", b"plain");
    let altered_headers = (0..80 * 8).map(|bit| {
        let mut altered = header();
        altered[bit / 8] ^= 1 << (bit % 8);
        object_keys(&counting_secret(), &altered)
    });
    let other_root = object_keys(&Secret::new([9; 32]), &header());
    for other in altered_headers.chain([other_root]) {
        assert!(!commitment_matches(&keys.commitment, &other.commitment));
        assert!(other.message.open_to(0, b"", &message, &mut Vec::new()).is_err());
        assert!(other.directory.open_to(0, b"", &directory, &mut Vec::new()).is_err());
        assert!(other.message.open_to(0, b"", &directory, &mut Vec::new()).is_err());
    }
}

#[test]
fn a_hedged_salt_is_the_one_it_always_was() {
    let salt = hedged_salt(&counting_secret(), &[1; 32], &[2; 16], 0x0102_0304_0506_0708, &[3; 32]);
    assert_eq!(hex(&salt), "679af586f8017ab78471b351791d3eda8ae022f773c86cd47c97456932e89f9c");
}

#[test]
fn a_salt_differs_when_any_one_ingredient_does() {
    let salts = [
        hedged_salt(&counting_secret(), &[1; 32], &[2; 16], 4, &[3; 32]),
        hedged_salt(&Secret::new([0; 32]), &[1; 32], &[2; 16], 4, &[3; 32]),
        hedged_salt(&counting_secret(), &[0; 32], &[2; 16], 4, &[3; 32]),
        hedged_salt(&counting_secret(), &[1; 32], &[0; 16], 4, &[3; 32]),
        hedged_salt(&counting_secret(), &[1; 32], &[2; 16], 5, &[3; 32]),
        hedged_salt(&counting_secret(), &[1; 32], &[2; 16], 4, &[0; 32]),
    ];
    let distinct: std::collections::BTreeSet<_> = salts.iter().collect();
    assert_eq!(distinct.len(), salts.len());
}

#[test]
fn ten_thousand_seals_with_constant_randomness_never_repeat_a_salt() {
    let salts: std::collections::HashSet<_> = (0..10_000u64)
        .map(|counter| hedged_salt(&counting_secret(), &[0; 32], &[0; 16], counter, &[0; 32]))
        .collect();
    assert_eq!(salts.len(), 10_000);
}
