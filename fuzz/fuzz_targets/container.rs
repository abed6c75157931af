//! Hostile bytes for the clear header of a container: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::container::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((header, commitment)) = Header::decode(data) {
        assert!(data.starts_with(&header.encode(&commitment)));
    }
});
