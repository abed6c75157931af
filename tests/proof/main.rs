//! Proof of the engine: whatever is interrupted, refused, changed or done at the same time, what was reported as
//! backed up comes back bit for bit.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail loudly, as the tests themselves do")]

mod fixture;
mod interlude;
mod restored;
mod tree;

mod alike;
mod bad_input;
mod bases;
mod copy;
mod counts;
mod crash;
mod errors;
mod forget;
mod keys;
mod processes;
mod property;
mod prune;
mod real;
mod recount;
mod repair;
mod together;
mod trouble;
