//! Repairs that are stopped at every call to the storage, and repairs beside others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kluis::check::repair::{self, RepairError, RepairOptions, RepairReport};
use kluis::check::{self, CheckOptions, DataPart};
use kluis::event::Silent;
use kluis::forget;
use kluis::format::snapshot::Snapshot;
use kluis::id::SnapshotId;
use kluis::prune::{self, PruneOptions, UnusedLimit};
use kluis::repo::{InitOptions, Repo, RepoError, TreeReader, names};
use kluis::storage::{Calls, Fault, FaultPlan, FaultyStorage, MemoryStorage, Storage};
use tempfile::TempDir;

use crate::crash::{CALL_COUNT_MAX, STOPS, Stop};
use crate::fixture::{
    Objects, back_up_well, cache_folder, init, init_options, noise, open, options, snapshots, write,
};
use crate::interlude::InterludeStorage;
use crate::tree::{Tree, assert_same, capture, read_snapshot};

/// A repository with every kind of damage: one pack that parity can mend and one that it cannot, an index object that
/// nobody can read, a snapshot whose second copy is gone, and one whose second copy is all there is.
struct Scene {
    source: TempDir,
    start: Objects,
    trees: BTreeMap<SnapshotId, Tree>,
    /// Snapshots that can be restored in spite of the damage.
    whole: BTreeSet<SnapshotId>,
}

impl Scene {
    fn new() -> Self {
        Self::with_lost_index(0)
    }

    /// The index object of this night cannot be read.
    fn with_lost_index(night_of_index: usize) -> Self {
        let source = tempfile::tempdir().unwrap();
        let root = source.path().to_owned();
        let storage = MemoryStorage::new();
        let cache = cache_folder();
        let init_options = InitOptions { parity: true, ..init_options(64 << 10) };
        let repo = init(Arc::new(storage.clone()), cache.path(), &init_options).unwrap();
        let mut trees = BTreeMap::new();
        let mut packs = Vec::new();
        let mut index_objects = Vec::new();
        for night in 0..3u64 {
            write(&root, "often", &noise(70_000, 100 + night));
            write(&root, &format!("folder/{night}"), &noise(3000, 200 + night));
            let before = storage.objects();
            let id: SnapshotId = back_up_well(&repo, &root).snapshot_id.unwrap().parse().unwrap();
            trees.insert(id, capture(&root));
            let objects = storage.objects();
            let new = |folder: &str| {
                let new = objects.keys().filter(|name| !before.contains_key(*name));
                new.filter(|name| name.as_str().starts_with(folder)).cloned().collect::<Vec<_>>()
            };
            packs.push(new("data/"));
            index_objects.extend(new("index/"));
        }
        let spoil = |name, places: &[usize]| {
            let mut bytes = storage.get(name).unwrap();
            places.iter().for_each(|place| bytes[*place] ^= 1);
            storage.set(name, bytes);
        };
        spoil(&packs[2][0], &[2000]);
        let len = storage.get(&packs[1][0]).unwrap().len();
        spoil(&packs[1][0], &(300..len).step_by(100).collect::<Vec<_>>());
        storage.set(&index_objects[night_of_index], vec![0; 1000]);
        let ids: Vec<_> = trees.keys().copied().collect();
        storage.delete(&names::copy(&names::snapshot(&ids[0]))).unwrap();
        storage.set(&names::snapshot(&ids[1]), b"not a snapshot any more".to_vec());
        let mut scene = Self { source, start: storage.objects(), trees, whole: BTreeSet::new() };
        let cache = cache_folder();
        let repo = open(Arc::new(scene.memory()), cache.path()).unwrap();
        scene.whole = snapshots(&repo).iter().filter(|it| can_be_read(&repo, it)).map(|it| it.id).collect();
        assert!(!scene.whole.is_empty() && scene.whole.len() < 3, "{:?}", scene.whole);
        scene
    }

    fn memory(&self) -> MemoryStorage {
        MemoryStorage::from_objects(self.start.clone())
    }

    /// What could be read before still can, bit for bit.
    fn assert_no_loss(&self, memory: &MemoryStorage, place: &str) {
        let cache = cache_folder();
        let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
        let found = repo.snapshots().unwrap().snapshots;
        for snapshot in found.iter().filter(|snapshot| self.whole.contains(&snapshot.id)) {
            assert_same(&self.trees[&snapshot.id], &read_snapshot(&repo, snapshot, self.source.path()));
        }
        let there: BTreeSet<_> = found.iter().map(|snapshot| snapshot.id).collect();
        assert!(self.whole.is_subset(&there), "{place}: a snapshot is gone");
    }

    /// A repair finishes the work, another has nothing to do; a backup of what was lost heals all snapshots, and then
    /// prune and check have nothing to say.
    fn assert_heals(&self, memory: &MemoryStorage, cache: &Path, place: &str) {
        let repo = open(Arc::new(memory.clone()), cache).unwrap();
        repaired(&repo).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        let objects = memory.objects();
        let again = repaired(&repo).unwrap();
        assert_eq!(again.done_count(), 0, "{place}: {again:#?}");
        assert!(memory.objects() == objects, "{place}: the second repair changed something");
        let remnants = repo.snapshots().unwrap().snapshots;
        let of: Vec<_> = remnants.iter().filter_map(Snapshot::left_of).map(|it| it.snapshot).collect();
        assert_eq!(of.iter().collect::<BTreeSet<_>>().len(), of.len(), "{place}: one was kept twice");
        // Everything that any night had, in folders of its own.
        let nights = tempfile::tempdir().unwrap();
        for night in 0..3u64 {
            write(nights.path(), &format!("often-{night}"), &noise(70_000, 100 + night));
            write(nights.path(), &format!("small-{night}"), &noise(3000, 200 + night));
        }
        kluis::backup::run(&repo, &options(nights.path()), &Silent::default()).unwrap();
        drop(repo);
        let fresh_cache = cache_folder();
        let fresh = open(Arc::new(memory.clone()), fresh_cache.path()).unwrap();
        for (id, tree) in &self.trees {
            let snapshot = fresh.read_snapshot(*id).unwrap().unwrap();
            assert_same(tree, &read_snapshot(&fresh, &snapshot, self.source.path()));
        }
        let patient = PruneOptions {
            max_unused: UnusedLimit::Bytes(0),
            confirmed: true,
            silence: std::time::Duration::ZERO,
            ..PruneOptions::default()
        };
        prune::run(&fresh, &patient, &Silent::default()).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        let all = CheckOptions { directories: true, data: Some(DataPart::All) };
        let report = check::run(&fresh, &all, &Silent::default()).unwrap();
        assert!(!report.has_damage(), "{place}: {:#?}", report.findings);
    }
}

/// Whether a snapshot can be read to the end.
fn can_be_read(repo: &Arc<Repo>, snapshot: &Snapshot) -> bool {
    let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
    let mut open = vec![snapshot.root];
    while let Some(id) = open.pop() {
        for entry in reader.directory(id) {
            let Ok(entry) = entry else { return false };
            let ignore = &mut |_: &[u8]| Ok::<(), RepoError>(());
            if reader.visit_bytes(&entry.content, ignore).is_err() {
                return false;
            }
            if let kluis::format::tree::Content::Directory(id) = entry.content {
                open.push(id);
            }
        }
    }
    true
}

fn repaired(repo: &Arc<Repo>) -> Result<RepairReport, RepairError> {
    let plan = repair::plan(repo, &RepairOptions::default(), &Silent::default())?;
    repair::run(repo, &plan, &Silent::default())
}

#[test]
fn a_repair_stopped_at_any_call_loses_nothing_and_can_be_gone_on_with() {
    let scene = Scene::new();
    let mut count = 0;
    for Stop { fault, power_cut } in STOPS {
        // Stopped before a call that reads, it does not matter which; in the middle of it, neither.
        let calls = Calls::Changes;
        for at_call in 0.. {
            assert!(at_call < CALL_COUNT_MAX, "the repair does not end");
            let memory = scene.memory();
            let plan = FaultPlan { calls, ..FaultPlan::death(at_call, *fault) };
            let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
            let cache = cache_folder();
            let outcome = open(Arc::clone(&faulty) as Arc<dyn Storage>, cache.path())
                .map_err(RepairError::from)
                .and_then(|repo| repaired(&repo));
            if let Some(seed) = power_cut {
                faulty.lose_power(seed.wrapping_mul(0x1_0001) + at_call).unwrap();
            }
            let struck = faulty.struck();
            let place = format!("{fault:?} {power_cut:?} at call {at_call} ({struck:?})");
            println!("{place}");
            scene.assert_no_loss(&memory, &place);
            // Once with what the dead process left in its cache, once without it.
            let fresh_cache = cache_folder();
            scene.assert_heals(
                &memory,
                if at_call % 2 == 0 { cache.path() } else { fresh_cache.path() },
                &place,
            );
            if struck.is_none() {
                outcome.unwrap();
                break;
            }
            count += 1;
        }
    }
    assert!(count > 60, "there were only {count} stops");
}

#[test]
fn a_repair_stopped_while_it_reads_loses_nothing() {
    let scene = Scene::new();
    for at_call in (0..CALL_COUNT_MAX).step_by(9) {
        let memory = scene.memory();
        let plan = FaultPlan::death(at_call, Fault::Before);
        let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
        let cache = cache_folder();
        let outcome = open(Arc::clone(&faulty) as Arc<dyn Storage>, cache.path())
            .map_err(RepairError::from)
            .and_then(|repo| repaired(&repo));
        if faulty.struck().is_none() {
            outcome.unwrap();
            assert!(at_call > 100, "only {at_call} calls");
            return;
        }
        let place = format!("at call {at_call} ({:?})", faulty.struck());
        scene.assert_no_loss(&memory, &place);
        scene.assert_heals(&memory, cache.path(), &place);
    }
    panic!("the repair does not end");
}

/// Of one of these packs nobody can say any more what it held.
#[test]
fn a_repair_of_whatever_the_index_has_lost_is_gone_on_with_by_a_backup() {
    for night in 0..3 {
        let scene = Scene::with_lost_index(night);
        let memory = scene.memory();
        let cache = cache_folder();
        scene.assert_heals(&memory, cache.path(), &format!("night {night}"));
        scene.assert_no_loss(&memory, "healed");
    }
}

/// What others do while a repair sleeps.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Repair,
    Backup,
    ForgetAndPrune,
}

impl Meanwhile {
    fn play(self, memory: &MemoryStorage, source: &Path) {
        let cache = cache_folder();
        let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
        match self {
            Self::Repair => drop(repaired(&repo).unwrap()),
            Self::Backup => drop(kluis::backup::run(&repo, &options(source), &Silent::default()).unwrap()),
            Self::ForgetAndPrune => {
                repaired(&repo).unwrap();
                let list = repo.snapshots().unwrap();
                let all: Vec<_> = list.snapshots.iter().map(|it| it.id).collect();
                let doomed: Vec<_> = all.iter().copied().filter(|id| !is_whole(&repo, *id)).collect();
                forget::run(&repo, &list, &doomed, &Default::default(), &Silent::default()).unwrap();
                let options = PruneOptions {
                    max_unused: UnusedLimit::Bytes(0),
                    confirmed: true,
                    exclusive: true,
                    ..PruneOptions::default()
                };
                prune::run(&repo, &options, &Silent::default()).unwrap();
            }
        }
    }
}

fn is_whole(repo: &Arc<Repo>, id: SnapshotId) -> bool {
    repo.read_snapshot(id).unwrap().is_some_and(|snapshot| can_be_read(repo, &snapshot))
}

#[test]
fn a_repair_may_sleep_at_any_call_while_others_work() {
    let scene = Scene::new();
    for meanwhile in [Meanwhile::Repair, Meanwhile::Backup, Meanwhile::ForgetAndPrune] {
        for at_call in (0..CALL_COUNT_MAX).step_by(4) {
            let memory = scene.memory();
            let (inner, source) = (memory.clone(), scene.source.path().to_owned());
            let others = move || meanwhile.play(&inner, &source);
            let storage = Arc::new(InterludeStorage::new(memory.clone(), at_call, others));
            let cache = cache_folder();
            let place = format!("{meanwhile:?} at call {at_call}");
            println!("{place}");
            let repo = open(Arc::clone(&storage) as Arc<dyn Storage>, cache.path()).unwrap();
            repaired(&repo).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            drop(repo);
            if !storage.was_played() {
                assert!(at_call > 100, "{place}");
                break;
            }
            scene.assert_no_loss(&memory, &place);
            let fresh_cache = cache_folder();
            let fresh = open(Arc::new(memory.clone()), fresh_cache.path()).unwrap();
            repaired(&fresh).unwrap();
            let again = repaired(&fresh).unwrap();
            assert_eq!(again.done_count(), 0, "{place}: {again:#?}");
        }
    }
}
