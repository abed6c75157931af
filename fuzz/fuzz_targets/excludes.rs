//! Runs [`kluis_fuzz::texts::excludes`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::texts::excludes(data));
