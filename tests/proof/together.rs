//! Several backups at once into one repository: each makes its snapshot, and all of them come back.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;

use kluis::repo::Repo;
use kluis::storage::{Leftovers, LocalStorage, LocalStorageOptions, MemoryStorage, Storage};

use crate::fixture::{
    assert_nothing_new, back_up_well, cache_folder, init, noise, open, options_of_several_packs, snapshot_of,
    snapshots, write, write_pack,
};
use crate::tree::{assert_same, capture, read_snapshot};

const ROUND_COUNT: u64 = 12;

/// Backs up each source in a thread and through a repository of its own, all beginning at the same moment.
fn back_up_together(storage: &Arc<dyn Storage>, work: &[(&Path, &Path)]) {
    let barrier = Barrier::new(work.len());
    let reports: Vec<_> = thread::scope(|scope| {
        let start = |(source, cache): &(&Path, &Path)| {
            let (storage, barrier) = (Arc::clone(storage), &barrier);
            let (source, cache) = (source.to_path_buf(), cache.to_path_buf());
            scope.spawn(move || {
                let repo = open(storage, &cache).unwrap();
                barrier.wait();
                back_up_well(&repo, &source)
            })
        };
        let threads: Vec<_> = work.iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let fresh = cache_folder();
    let repo = open(Arc::clone(storage), fresh.path()).unwrap();
    for (report, (source, _)) in reports.iter().zip(work) {
        assert_is_on_disk(&repo, &snapshot_of(&repo, report), source);
    }
}

fn assert_is_on_disk(repo: &Arc<Repo>, snapshot: &kluis::format::snapshot::Snapshot, source: &Path) {
    assert_same(&capture(source), &read_snapshot(repo, snapshot, source));
}

/// Content that both sources have, and content that only one has.
fn fill(source: &Path, own: u64, round: u64) {
    for number in 0..3 {
        write_pack(source, &format!("both-{round}-{number}"), 1000 + round * 10 + number);
        write(source, &format!("small-{round}/{number}"), &noise(2000, round * 10 + number));
    }
    write_pack(source, &format!("own-{round}"), own * 100 + round);
}

fn rounds(storage: &Arc<dyn Storage>, round_count: u64, is_cache_shared: bool, is_source_shared: bool) {
    let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let caches = [cache_folder(), cache_folder()];
    init(Arc::clone(storage), caches[0].path(), &options_of_several_packs()).unwrap();
    for round in 0..round_count {
        fill(one.path(), 1, round);
        fill(other.path(), 2, round);
        let second_source = if is_source_shared { &one } else { &other };
        let second_cache = if is_cache_shared { &caches[0] } else { &caches[1] };
        back_up_together(
            storage,
            &[(one.path(), caches[0].path()), (second_source.path(), second_cache.path())],
        );
    }
    let repo = open(Arc::clone(storage), caches[0].path()).unwrap();
    assert_eq!(snapshots(&repo).len() as u64, 2 * round_count);
    // Both are known afterwards.
    assert_nothing_new(&back_up_well(&repo, one.path()));
}

#[test]
fn two_hosts_at_once_each_get_their_snapshot() {
    rounds(&(Arc::new(MemoryStorage::new()) as _), ROUND_COUNT, false, false);
}

#[test]
fn two_programs_with_one_cache_each_get_their_snapshot() {
    rounds(&(Arc::new(MemoryStorage::new()) as _), ROUND_COUNT, true, false);
}

#[test]
fn two_backups_of_one_source_at_once_each_get_their_snapshot() {
    rounds(&(Arc::new(MemoryStorage::new()) as _), ROUND_COUNT, true, true);
}

#[test]
fn two_programs_on_one_disk_each_get_their_snapshot() {
    let place = tempfile::tempdir().unwrap();
    LocalStorage::create_place(place.path()).unwrap();
    let options = LocalStorageOptions { leftovers: Leftovers::Remove };
    let storage = LocalStorage::open(place.path(), options).unwrap();
    rounds(&(Arc::new(storage) as _), 2, false, false);
}
