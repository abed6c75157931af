//! Runs [`kluis_fuzz::decoders::forget`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::forget(data));
