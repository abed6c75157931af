//! Runs [`kluis_fuzz::decoders::done`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::done(data));
