//! Hostile bytes for snapshots and tombstones: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::Tagged;
use kluis::format::snapshot::{Snapshot, Tombstone};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(snapshot) = Snapshot::decode(data) {
        let again = snapshot.encode().expect("what was decoded can be encoded");
        assert_eq!(Snapshot::decode(&again).as_ref(), Ok(&snapshot));
        let _ = (snapshot.utc_offset(), snapshot.in_place_of());
    }
    if let Ok(tombstone) = Tombstone::decode(data) {
        let again = tombstone.encode().expect("what was decoded can be encoded");
        assert_eq!(Tombstone::decode(&again).as_ref(), Ok(&tombstone));
    }
});
