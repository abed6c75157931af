//! Runs [`kluis_fuzz::judging::retention`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kluis_fuzz::judging::retention(data));
