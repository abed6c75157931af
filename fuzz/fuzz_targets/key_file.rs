//! Runs [`kluis_fuzz::decoders::key_file`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::key_file(data));
