//! Runs [`kluis_fuzz::frames::expand`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::frames::expand(data));
