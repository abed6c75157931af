//! Hostile bytes for prune plans, verdicts and ends: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::Tagged;
use kluis::format::plan::{Done, Plan, Verdict};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(plan) = Plan::decode(data) {
        let again = plan.encode().expect("what was decoded can be encoded");
        assert_eq!(Plan::decode(&again).as_ref(), Ok(&plan));
    }
    if let Ok(verdict) = Verdict::decode(data) {
        let again = verdict.encode().expect("what was decoded can be encoded");
        assert_eq!(Verdict::decode(&again).as_ref(), Ok(&verdict));
    }
    if let Ok(done) = Done::decode(data) {
        let again = done.encode().expect("what was decoded can be encoded");
        assert_eq!(Done::decode(&again).as_ref(), Ok(&done));
    }
});
