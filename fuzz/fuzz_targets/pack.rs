//! Runs [`kluis_fuzz::decoders::pack_tail`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::pack_tail(data));
