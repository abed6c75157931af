//! Hostile bytes for index objects: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::index_object::IndexObject;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(object) = IndexObject::decode(data) {
        let again = object.encode().expect("what was decoded can be encoded");
        assert_eq!(IndexObject::decode(&again).as_ref(), Ok(&object));
    }
});
