//! A repository in memory for benchmarks.

use std::path::Path;
use std::sync::Arc;

use kluis::clock::SystemClock;
use kluis::crypto::{KdfParams, Secret};
use kluis::repo::{Identity, InitOptions, Repo, Surroundings, UnlockSecret};
use kluis::storage::MemoryStorage;

/// A new one, without parity. Its local index lies in `cache`.
pub fn new_repository(cache: &Path) -> Arc<Repo> {
    let identity = Identity { host: "bench".into(), user: "bench".into(), process: 1, boot: String::new() };
    let storage = Arc::new(MemoryStorage::new());
    let around = Surroundings { storage, cache: cache.to_owned(), clock: Arc::new(SystemClock), identity };
    let options = InitOptions { kdf: KdfParams::MIN, parity: false, ..InitOptions::default() };
    Arc::new(Repo::init(around, &options, &UnlockSecret::KeyFile(Secret::new([7; 32]))).unwrap())
}
