//! Hostile bytes for slots: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::slot::Slot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(slot) = Slot::decode(data) {
        let again = slot.encode().expect("what was decoded can be encoded");
        assert_eq!(Slot::decode(&again).as_ref(), Ok(&slot));
    }
});
