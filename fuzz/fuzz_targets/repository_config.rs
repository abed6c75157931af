//! Runs [`kluis_fuzz::decoders::repository_config`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::repository_config(data));
