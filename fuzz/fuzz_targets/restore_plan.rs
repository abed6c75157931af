//! Runs [`kluis_fuzz::restoring::restore_plan`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::restoring::restore_plan(data));
