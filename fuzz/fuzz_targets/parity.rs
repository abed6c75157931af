//! Runs [`kluis_fuzz::frames::parity_trailer`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::frames::parity_trailer(data));
