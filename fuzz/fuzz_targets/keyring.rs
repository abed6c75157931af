//! Hostile bytes for keyrings: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::keyring::KeyringFields;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(keyring) = KeyringFields::decode(data) {
        assert!(keyring.encode().is_ok());
    }
});
