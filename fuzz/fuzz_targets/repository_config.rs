//! Hostile bytes for the settings of a repository: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::repository_config::RepositoryConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = RepositoryConfig::decode(data) {
        let text = config.encode(|_| [0; 32]).expect("what was decoded can be encoded");
        assert!(RepositoryConfig::decode(text.as_bytes()).is_ok());
    }
});
