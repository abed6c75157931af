//! Runs [`kluis_fuzz::decoders::lease`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::lease(data));
