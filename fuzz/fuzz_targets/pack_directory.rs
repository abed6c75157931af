//! Runs [`kluis_fuzz::decoders::pack_directory`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::pack_directory(data));
