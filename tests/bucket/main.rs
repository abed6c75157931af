//! Repositories in buckets of real stores, over a line that goes wrong.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

mod faults;
mod histories;
mod program;
mod proxy;
#[path = "../shared/bucket.rs"]
mod stores;
