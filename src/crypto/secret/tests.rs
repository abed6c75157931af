//! Vectors computed with the `blake3` package of Python.

use super::*;
use crate::crypto::context;
use crate::crypto::fixture::{counting_secret, hex};

#[test]
fn every_context_derives_the_key_it_always_did() {
    let vectors = [
        (context::CHUNK_ID, "ebfe1e935e0df8e68ba3b27ae0e9f35a3bac098cc7481f6442dd71902b547c88"),
        (context::NODE_ID, "eabdd2bc3f79a74aec4f41f08af9d1dfd518300cde4a4b833e32a7694b341069"),
        (context::LIST_ID, "d738ded4026f55219e75566248a48ce65aa8dd70def6f3a9b1866813db93541b"),
        (context::CHUNKER, "bd5c993e6c333e2ba323dda36134316d1bf3fd416e6c15276cdab9bc9f575ff0"),
        (context::SPLIT, "dfc6417857ce71558703372ed5b9603c67a991db3f4c55cc1254de94d8f85ade"),
        (context::ADMIN, "3a94f88a695a62fd95c4867e14fb02c282f941df8c62e1f85e257ac6f01c7597"),
        (context::CONFIG, "9c57f82cc3f3ec6cd95f33c0aacbe5180b4ffce03fc1b3f5b00c0950b98f4d4b"),
        (context::FINGERPRINT, "ddb382d6111da13f4e30fd83d0cd441a447af8d7eae399bfd8d3d7250fe2d5ea"),
        (context::HEDGE, "e2603bb164bbe03a4867a8bd95e7ccb981c133f26e6202db8b4621f81ba65d4f"),
        (context::OBJECT, "22268dd676fde913ba74bb717f0a3abbbaf38e69a36ebc7a119d89fa4adccba1"),
        (context::SLOT_KEY_FILE, "484f472dc59b165deb24214ea43ca9d62cc725c1c9e16744afddfc3f9a7d1ffd"),
        (context::KEY_FILE_CHECKSUM, "0601f88d459f88ecf22a4823a430cbd3a0a85c6794d15d1d614a86c89c5ce546"),
    ];
    for (context, key) in vectors {
        assert_eq!(hex(derive(context, &counting_secret()).expose()), key, "{context}");
    }
}

#[test]
fn a_salted_derivation_gives_the_key_and_commitment_it_always_did() {
    let salt = std::array::from_fn(|at| at as u8 + 64);
    let keys = derive_salted(context::SLOT_KEY_FILE, &counting_secret(), &salt);
    let (key, commitment) = keys.key_and_commitment();
    assert_eq!(hex(key.expose()), "33445a66ca98d5db8a1bfea95da4b8a56b8f433be086a10fb3abfb84b94741d7");
    assert_eq!(hex(&commitment), "225b2b795d0dd958f12ad834a2ca4b4cb7fa26df732a1b9ab6a7502022a9dbc8");
}

#[test]
fn a_keyed_tag_is_keyed_blake3() {
    let tag = keyed_tag(&counting_secret(), b"message");
    assert_eq!(hex(&tag), "0978071f9c601ec34611813742454dd142c63ffb2cacac65a20b38253323bb00");
}

#[test]
fn secrets_are_equal_only_if_all_bytes_are() {
    assert!(counting_secret() == counting_secret());
    for at in 0..32 {
        let mut bytes = *counting_secret().expose();
        bytes[at] ^= 1;
        assert!(counting_secret() != Secret::new(bytes), "byte {at} was not compared");
    }
}

#[test]
fn a_secret_is_made_only_of_the_right_number_of_bytes() {
    assert!(Secret::<4>::from_slice(b"1234").is_some_and(|secret| secret.expose() == b"1234"));
    assert!(Secret::<4>::from_slice(b"123").is_none());
    assert!(Secret::<4>::from_slice(b"12345").is_none());
}
