//! The real binary, as a person or a script meets it.

#![expect(clippy::unwrap_used, reason = "fixtures of tests fail loudly, as the tests themselves do")]

mod bad_input;
mod copy;
mod damaged_index;
mod doctor;
mod everyday;
mod forget;
mod full_disk;
mod help;
mod home;
mod look;
mod mount;
mod mount_life;
#[path = "../shared/noise.rs"]
mod noise;
mod prune;
mod repair;
mod repository;
mod scrub;
mod secrets;
mod stats;
mod streams;
mod transcripts;
mod vault;
