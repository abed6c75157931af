//! Runs [`kluis_fuzz::decoders::snapshot`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::snapshot(data));
