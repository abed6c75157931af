//! Hostile bytes for the directory of a pack: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::pack::PackDirectory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(directory) = PackDirectory::decode(data) {
        let again = directory.encode().expect("what was decoded can be encoded");
        assert_eq!(PackDirectory::decode(&again).as_ref(), Ok(&directory));
    }
});
