//! Hostile bytes for forget records: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::Tagged;
use kluis::format::forget::ForgetRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = ForgetRecord::decode(data) {
        let again = record.encode().expect("what was decoded can be encoded");
        assert_eq!(ForgetRecord::decode(&again).as_ref(), Ok(&record));
    }
});
