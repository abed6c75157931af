//! Runs [`kluis_fuzz::frames::parity_repair`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::frames::parity_repair(data));
