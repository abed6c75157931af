//! Reference counts of real repositories against counting from scratch.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use kluis::event::Silent;
use kluis::format::snapshot::Snapshot;
use kluis::id::{NodeId, SnapshotId};
use kluis::index::counts::CountsDump;
use kluis::repo::{CountingInput, CountingReport, Repo, RepoError};
use kluis::storage::{MemoryStorage, Storage};
use tempfile::TempDir;

use crate::fixture::{Chance, back_up_well, cache_folder, init_in_memory, noise, open, snapshot_of, write};

fn roots(snapshots: &[Snapshot]) -> Vec<(SnapshotId, NodeId)> {
    snapshots.iter().map(|snapshot| (snapshot.id, snapshot.root)).collect()
}

fn synchronise(
    repo: &Arc<Repo>,
    live: &[Snapshot],
    forgotten: &HashSet<SnapshotId>,
) -> Result<CountingReport, RepoError> {
    let (live, absent) = (roots(live), HashSet::new());
    let input = CountingInput { live: &live, forgotten, absent: &absent };
    repo.synchronise_counts(input, &Silent::default())
}

/// Brings the counts up to date and compares them with a recount.
fn dump_of(repo: &Arc<Repo>, live: &[Snapshot], forgotten: &HashSet<SnapshotId>) -> CountsDump {
    synchronise(repo, live, forgotten).unwrap();
    let roots: Vec<_> = live.iter().map(|snapshot| snapshot.root).collect();
    assert!(repo.counts_are_right(&roots).unwrap());
    let index = repo.counted_index().unwrap();
    assert_eq!(index.confirm_dead().unwrap(), []);
    let dump = index.dump_counts().unwrap();
    assert_eq!(index.mark().unwrap().count(), dump.counts.len() as u64);
    dump
}

struct Fixture {
    storage: MemoryStorage,
    repo: Arc<Repo>,
    source: TempDir,
    cache: TempDir,
}

fn fixture() -> Fixture {
    let (cache, source) = (cache_folder(), tempfile::tempdir().unwrap());
    let (storage, repo) = init_in_memory(cache.path(), 64 << 10);
    Fixture { storage, repo, source, cache }
}

/// Changes some files: small ones, some with equal content, and one that needs a list of chunks.
fn change(source: &Path, chance: &mut Chance) {
    for _ in 0..1 + chance.below(6) {
        let name = format!("{}/{}/{}", chance.below(3), chance.below(3), chance.below(5));
        let (len, seed) = (1 + chance.below(9000), chance.below(30));
        write(source, &name, &noise(len as usize, seed));
    }
    if chance.below(3) == 0 {
        write(source, "large", &noise(600_000 + chance.below(400_000) as usize, chance.below(3)));
    }
    if chance.below(3) == 0 {
        let _ = std::fs::remove_dir_all(source.join(chance.below(3).to_string()));
    }
}

#[test]
fn counts_equal_a_recount_after_every_backup_and_every_forget() {
    let Fixture { storage, repo, source, cache: _cache } = fixture();
    let mut chance = Chance(7);
    let mut live: Vec<Snapshot> = Vec::new();
    let mut forgotten = HashSet::new();
    for round in 0..14 {
        change(source.path(), &mut chance);
        live.push(snapshot_of(&repo, &back_up_well(&repo, source.path())));
        while live.len() > 1 && chance.below(2) == 0 {
            let gone = live.remove(chance.below(live.len() as u64) as usize);
            forgotten.insert(gone.id);
        }
        let dump = dump_of(&repo, &live, &forgotten);
        if round % 4 == 3 {
            // Another computer, which has seen nothing of this history, counts the same.
            let other_cache = cache_folder();
            let other = open(Arc::new(storage.clone()), other_cache.path()).unwrap();
            assert_eq!(dump_of(&other, &live, &forgotten), dump);
            repo.rebuild_index().unwrap();
            assert_eq!(dump_of(&repo, &live, &forgotten), dump);
        }
    }
    forgotten.extend(live.drain(..).map(|snapshot| snapshot.id));
    let dump = dump_of(&repo, &live, &forgotten);
    assert!(dump.counts.is_empty() && dump.packs.values().all(|live| *live == (0, 0)));
}

#[test]
fn a_snapshot_that_is_missing_without_a_record_stays_counted_and_is_reported() {
    let Fixture { storage: _storage, repo, source, cache: _cache } = fixture();
    write(source.path(), "a", &noise(5000, 1));
    let first = snapshot_of(&repo, &back_up_well(&repo, source.path()));
    write(source.path(), "a", &noise(5000, 2));
    let second = snapshot_of(&repo, &back_up_well(&repo, source.path()));
    let both = [first.clone(), second.clone()];
    let dump = dump_of(&repo, &both, &HashSet::new());
    let report = synchronise(&repo, &both[1..], &HashSet::new()).unwrap();
    assert_eq!((report.vanished.as_slice(), report.changes), ([first.id].as_slice(), 0));
    assert_eq!(repo.counted_index().unwrap().dump_counts().unwrap(), dump);
    // It is back, or somebody has forgotten it after all.
    assert_eq!(synchronise(&repo, &both, &HashSet::new()).unwrap().vanished, []);
    synchronise(&repo, &both[1..], &HashSet::new()).unwrap();
    let report = synchronise(&repo, &both[1..], &HashSet::from([first.id])).unwrap();
    assert_eq!(
        (report.vanished.as_slice(), report.released.as_slice()),
        ([].as_slice(), [first.id].as_slice())
    );
    assert!(repo.counts_are_right(&[second.root]).unwrap());
}

#[test]
fn an_unchanged_tree_is_not_read_again_and_releasing_reads_nothing() {
    let Fixture { storage: _storage, repo, source, cache: _cache } = fixture();
    (0..40).for_each(|at| write(source.path(), &format!("{}/{at}", at % 8), &noise(3000, at)));
    let first = snapshot_of(&repo, &back_up_well(&repo, source.path()));
    let nodes = synchronise(&repo, std::slice::from_ref(&first), &HashSet::new()).unwrap().nodes_read;
    assert!(nodes > 8, "{nodes}");
    write(source.path(), "3/3", &noise(3000, 100));
    let second = snapshot_of(&repo, &back_up_well(&repo, source.path()));
    let report = synchronise(&repo, &[first.clone(), second.clone()], &HashSet::new()).unwrap();
    // The folders above the source, the source, and the one that has changed.
    let above = source.path().components().count() as u64;
    assert_eq!(report.nodes_read, above + 1);
    let unique = repo.counted_index().unwrap().unique_bytes(&[second.id]).unwrap();
    assert_eq!(unique.count, report.nodes_read + 1);
    let report = synchronise(&repo, &[first], &HashSet::from([second.id])).unwrap();
    assert_eq!(report.nodes_read, 0);
}

#[test]
fn a_snapshot_with_a_node_that_cannot_be_read_is_not_counted() {
    let Fixture { storage, repo, source, cache } = fixture();
    write(source.path(), "a", &noise(5000, 1));
    let snapshot = snapshot_of(&repo, &back_up_well(&repo, source.path()));
    let meta: Vec<_> = storage.objects().into_keys().filter(|it| it.as_str().starts_with("meta/")).collect();
    let saved: Vec<_> = meta.iter().map(|name| (name, storage.get(name).unwrap())).collect();
    meta.iter().for_each(|name| storage.delete(name).unwrap());
    let failed = synchronise(&repo, std::slice::from_ref(&snapshot), &HashSet::new()).unwrap_err();
    assert!(failed.is_damage(), "{failed:?}");
    assert_eq!(repo.counted_index().unwrap().counted_snapshots().unwrap(), []);
    for (name, bytes) in saved {
        storage.create(name, &bytes).unwrap();
    }
    drop(repo);
    let repo = open(Arc::new(storage), cache.path()).unwrap();
    dump_of(&repo, &[snapshot], &HashSet::new());
}
