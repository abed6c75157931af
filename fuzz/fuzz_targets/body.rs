//! Hostile bytes for bodies of prune decisions: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::body::Body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(body) = Body::decode(data) {
        let again = body.encode().expect("what was decoded can be encoded");
        assert_eq!(Body::decode(&again).as_ref(), Ok(&body));
    }
});
