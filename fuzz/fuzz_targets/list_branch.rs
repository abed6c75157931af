//! Runs [`kluis_fuzz::decoders::list_branch`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::decoders::list_branch(data));
