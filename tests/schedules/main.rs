//! Proof of the protocol on real code: operations run together on a simulated storage, and one of them at a time. A seed
//! decides who, and replays the same history; so do the tests that play one history on purpose.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail loudly, as the tests themselves do")]

#[path = "../proof/fixture.rs"]
#[expect(dead_code, reason = "shared with other tests, which use the rest")]
mod fixture;
#[path = "../proof/tree.rs"]
mod tree;

mod act;
mod bases;
mod clocks;
mod disk;
mod interleavings;
mod judge;
mod lag;
mod power;
mod props;
mod random;
mod roles;
mod stage;
mod world;
