//! Vectors computed with the `cryptography` package of Python (OpenSSL).

use super::*;
use crate::crypto::fixture::{counting_secret, hex};

fn key() -> SealingKey {
    SealingKey::new(&counting_secret())
}

#[test]
fn sealing_gives_the_bytes_it_always_did() {
    let mut sealed = Vec::new();
    key().seal_to(1, b"", b"", &mut sealed);
    assert_eq!(hex(&sealed), "367ef8288831557408e102950a16e26a");

    let plain: [u8; 40] = std::array::from_fn(|at| at as u8);
    let expected = "0d291295609916562e15630eb70d3977f307ba9db8509f228cc1827f7a2a1ed2ff8e80f2d3d135f3\
                    a89cf60b23be367cc39edcde6014a4ff";
    sealed.clear();
    key().seal_to(258, b"beside", &plain, &mut sealed);
    assert_eq!(hex(&sealed), expected);
}

#[test]
fn what_was_sealed_opens_to_the_same() {
    for len in [0, 1, 15, 16, 17, 1000, 100_003] {
        let plain: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let mut sealed = b"before".to_vec();
        key().seal_to(7, b"aad", &plain, &mut sealed);
        assert_eq!(sealed.len(), 6 + len + TAG_BYTES);
        let mut opened = b"kept".to_vec();
        key().open_to(7, b"aad", &sealed[6..], &mut opened).unwrap();
        assert_eq!(opened, [b"kept", plain.as_slice()].concat());
        let mut into = vec![1; len];
        key().open_into(7, b"aad", &sealed[6..], &mut into).unwrap();
        assert_eq!(into, plain);
    }
}

#[test]
fn another_key_position_or_aad_does_not_open() {
    let mut sealed = Vec::new();
    key().seal_to(7, b"aad", b"plain", &mut sealed);
    let mut into = b"kept".to_vec();
    assert_eq!(key().open_to(8, b"aad", &sealed, &mut into), Err(OpenError::Altered));
    assert_eq!(key().open_to(7, b"aae", &sealed, &mut into), Err(OpenError::Altered));
    assert_eq!(key().open_to(7, b"", &sealed, &mut into), Err(OpenError::Altered));
    let other = SealingKey::new(&Secret::new([7; 32]));
    assert_eq!(other.open_to(7, b"aad", &sealed, &mut into), Err(OpenError::Altered));
    assert_eq!(key().open_to(7, b"aad", &sealed[..15], &mut into), Err(OpenError::TooShort { len: 15 }));
    assert_eq!(into, b"kept");
    let mut room = *b"empty";
    assert_eq!(key().open_into(8, b"aad", &sealed, &mut room), Err(OpenError::Altered));
    let too_short = Err(OpenError::TooShort { len: 15 });
    assert_eq!(key().open_into(7, b"aad", &sealed[..15], &mut room), too_short);
    assert_eq!(&room, b"empty");
}

#[test]
fn a_flipped_bit_anywhere_does_not_open_and_leaves_the_buffer_alone() {
    let mut sealed = Vec::new();
    key().seal_to(7, b"aad", b"some plaintext of two blocks", &mut sealed);
    for bit in 0..sealed.len() * 8 {
        let mut altered = sealed.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let mut room = [7; 28];
        assert_eq!(key().open_into(7, b"aad", &altered, &mut room), Err(OpenError::Altered), "bit {bit}");
        assert_eq!(room, [7; 28]);
    }
}
