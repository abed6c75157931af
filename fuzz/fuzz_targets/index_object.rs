//! Runs [`kluis_fuzz::decoders::index_object`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::index_object(data));
