//! Changing the key of a repository, stopped at every call to the storage: nobody is locked out.

use std::path::Path;
use std::sync::Arc;

use kluis::check::{self, CheckOptions};
use kluis::crypto::{KdfParams, Secret};
use kluis::event::Silent;
use kluis::repo::{Repo, RepoError, UnlockSecret};
use kluis::storage::{FaultPlan, FaultyStorage, MemoryStorage, Storage};

use crate::crash::{CALL_COUNT_MAX, STOPS};
use crate::fixture::{back_up_well, cache_folder, init_in_memory, key, snapshots, surroundings, write};
use crate::tree::{assert_same, capture, read_snapshot};

fn new_key() -> UnlockSecret {
    UnlockSecret::KeyFile(Secret::new([8; 32]))
}

fn open_with(storage: Arc<dyn Storage>, cache: &Path, secret: &UnlockSecret) -> Result<Arc<Repo>, RepoError> {
    Repo::open(surroundings(storage, cache), secret).map(Arc::new)
}

fn opens(memory: &MemoryStorage, secret: &UnlockSecret) -> bool {
    open_with(Arc::new(memory.clone()), cache_folder().path(), secret).is_ok()
}

/// What `repo key change-passphrase` does: the new slot first, then the old one goes.
fn change(storage: Arc<dyn Storage>, cache: &Path, secret: &UnlockSecret) -> Result<(), RepoError> {
    let repo = open_with(storage, cache, secret)?;
    if repo.slot_of(&new_key())?.is_none() {
        repo.add_slot(&new_key(), KdfParams::MIN, "new")?;
    }
    repo.slot_of(&key())?.map_or(Ok(()), |old| repo.remove_slot(old))
}

#[test]
fn a_change_of_keys_stopped_at_any_call_locks_nobody_out_and_can_be_repeated() {
    let (source, cache) = (tempfile::tempdir().unwrap(), cache_folder());
    let (storage, repo) = init_in_memory(cache.path(), 64 << 10);
    write(source.path(), "file", b"content");
    back_up_well(&repo, source.path());
    drop(repo);
    let (start, tree) = (storage.objects(), capture(source.path()));
    let mut count = 0;
    for stop in STOPS {
        for at_call in 0.. {
            assert!(at_call < CALL_COUNT_MAX, "the change does not end");
            let memory = MemoryStorage::from_objects(start.clone());
            let plan = FaultPlan::death(at_call, stop.fault);
            let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
            let outcome = change(Arc::clone(&faulty) as _, cache_folder().path(), &key());
            if let Some(seed) = stop.power_cut {
                faulty.lose_power(seed.wrapping_mul(0x1_0001) + at_call).unwrap();
            }
            let struck = faulty.struck();
            let place = format!("{stop:?} at call {at_call} ({struck:?})");
            let (old, new) = (opens(&memory, &key()), opens(&memory, &new_key()));
            assert!(old || new, "{place}: nobody gets in");
            assert!(outcome.is_err() || new, "{place}: the new key was promised");
            let known = if old { key() } else { new_key() };
            change(Arc::new(memory.clone()), cache_folder().path(), &known).unwrap();
            assert!(opens(&memory, &new_key()) && !opens(&memory, &key()), "{place}");
            let cache = cache_folder();
            let repo = open_with(Arc::new(memory), cache.path(), &new_key()).unwrap();
            let report = check::run(&repo, &CheckOptions::default(), &Silent::default()).unwrap();
            assert!(!report.has_damage(), "{place}: {:?}", report.findings);
            assert_same(&tree, &read_snapshot(&repo, &snapshots(&repo)[0], source.path()));
            count += 1;
            if struck.is_none() {
                break;
            }
        }
    }
    assert!(count > 6 * STOPS.len(), "{count}");
}
