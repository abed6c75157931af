//! Hostile bytes for statements of leases: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::lease::LeaseStatement;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(statement) = LeaseStatement::decode(data) {
        let again = statement.encode().expect("what was decoded can be encoded");
        assert_eq!(LeaseStatement::decode(&again).as_ref(), Ok(&statement));
    }
});
