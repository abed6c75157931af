//! Hostile bytes for key files: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::key_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(secret) = key_file::decode(data) {
        let text = key_file::encode(&secret);
        assert!(key_file::decode(text.as_bytes()).is_ok_and(|again| *again == *secret));
    }
});
