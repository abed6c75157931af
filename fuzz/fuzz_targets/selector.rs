//! Runs [`kluis_fuzz::texts::selector`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::texts::selector(data));
