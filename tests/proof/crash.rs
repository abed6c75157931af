//! An operation is stopped at every single call to the storage: before it, in the middle of it, after it with the
//! answer lost, and with a power cut that takes back what nobody was told is durable.
//!
//! All tests together make more than 2,000 stops.
//!
//! After each stop the surviving objects are looked at as a new computer would (with an empty cache), and used as
//! the old one would (with the cache that the dead process left).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kluis::backup::BackupReport;
use kluis::id::SnapshotId;
use kluis::repo::{Repo, RepoError};
use kluis::storage::{Calls, Fault, FaultPlan, FaultyStorage, MemoryStorage, Storage};

use crate::fixture::{
    Chance, Objects, assert_newest_is, back_up, back_up_well, cache_folder, init, init_in_memory,
    init_options, noise, open, options_of_several_packs, pack_count, snapshots, write, write_pack,
};
use crate::tree::{Tree, assert_same, capture, read_snapshot};

/// An operation that makes more calls than this does not end.
pub const CALL_COUNT_MAX: u64 = 2000;

const HISTORY_COUNT: u64 = 620;
const HISTORY_STEP_COUNT: usize = 3;

#[derive(Debug, Clone, Copy)]
pub struct Stop {
    pub fault: Fault,
    /// Decides what a power cut takes back, if there is one.
    pub power_cut: Option<u64>,
}

pub const STOPS: &[Stop] = &[
    Stop { fault: Fault::Before, power_cut: None },
    Stop { fault: Fault::Torn, power_cut: None },
    Stop { fault: Fault::After, power_cut: None },
    Stop { fault: Fault::After, power_cut: Some(1) },
    Stop { fault: Fault::After, power_cut: Some(2) },
    Stop { fault: Fault::After, power_cut: Some(3) },
];

/// What is stored before the operation, and what must be true after it.
struct Scene<'a> {
    source: &'a Path,
    start: Objects,
    /// The snapshots that may be there, by sequence number from 1 on; the last is the tree as it is on the disk.
    trees: &'a [Tree],
    /// How many of them are committed before the operation.
    committed_count: usize,
}

type Operation<'a> = &'a dyn Fn(Arc<dyn Storage>, &Path) -> Option<BackupReport>;

/// Stops the operation at each call in turn. Returns how many stops there were.
fn stop_at_every_call(scene: &Scene<'_>, operation: Operation<'_>) -> usize {
    let mut count = 0;
    for stop in STOPS {
        for at_call in 0.. {
            assert!(at_call < CALL_COUNT_MAX, "the operation does not end");
            let memory = MemoryStorage::from_objects(scene.start.clone());
            let plan = FaultPlan::death(at_call, stop.fault);
            let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
            let cache = cache_folder();
            let outcome = operation(Arc::clone(&faulty) as Arc<dyn Storage>, cache.path());
            if let Some(seed) = stop.power_cut {
                faulty.lose_power(seed.wrapping_mul(0x1_0001) + at_call).unwrap();
            }
            let struck = faulty.struck();
            let is_over = struck.is_none();
            let place = format!("{stop:?} at call {at_call} ({})", struck.unwrap_or("none".to_owned()));
            look_after_stop(scene, &memory, cache.path(), outcome.as_ref(), &place);
            if is_over {
                break;
            }
            count += 1;
        }
    }
    count
}

fn look_after_stop(
    scene: &Scene<'_>,
    memory: &MemoryStorage,
    left_cache: &Path,
    outcome: Option<&BackupReport>,
    place: &str,
) {
    // Printed only if one of the assertions below fails.
    println!("{place}");
    let fresh_cache = cache_folder();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let fresh = match open(Arc::clone(&storage), fresh_cache.path()) {
        Ok(repo) => repo,
        // An init that was stopped before its last write has made no repository at all.
        Err(RepoError::NoRepository { .. }) => {
            assert!(scene.start.is_empty() && outcome.is_none(), "{place}: the repository is gone");
            return;
        }
        Err(error) => panic!("{place}: it does not open: {error:?}"),
    };
    let found = assert_snapshots(scene, &fresh);
    assert!(found >= scene.committed_count, "{place}: a snapshot is gone");
    if let Some(id) = outcome.and_then(|report| report.snapshot_id.as_ref()) {
        let newest = snapshots(&fresh).pop().expect("a snapshot was reported");
        assert_eq!(newest.id.to_string(), *id, "{place}: the reported snapshot is not there");
    }
    let reopened = open(storage, left_cache).unwrap();
    back_up_well(&reopened, scene.source);
    assert_newest_is(&fresh, scene.source, scene.trees.last().unwrap());
    assert_eq!(snapshots(&reopened).len(), found + 1);
    assert_snapshots(scene, &reopened);
}

/// Every snapshot that can be seen holds the tree that was on the disk when it was made.
fn assert_snapshots(scene: &Scene<'_>, repo: &Arc<Repo>) -> usize {
    let snapshots = snapshots(repo);
    for snapshot in &snapshots {
        // A stopped backup that had committed is followed by another one of the same tree.
        let at = (snapshot.sequence as usize).min(scene.trees.len()) - 1;
        assert_same(&scene.trees[at], &read_snapshot(repo, snapshot, scene.source));
    }
    snapshots.len()
}

fn open_and_back_up(source: &Path) -> impl Fn(Arc<dyn Storage>, &Path) -> Option<BackupReport> {
    move |storage, cache| back_up(&open(storage, cache).ok()?, source).ok()
}

pub fn small_tree(root: &Path) {
    for number in 0..5 {
        write(root, &format!("folder/{number}"), format!("file {number}").repeat(number).as_bytes());
    }
    write(root, "noise", &noise(30_000, 1));
    write(root, "again", &noise(30_000, 1));
    std::os::unix::fs::symlink("folder/1", root.join("link")).unwrap();
    std::fs::create_dir(root.join("empty")).unwrap();
}

pub fn change_small_tree(root: &Path) {
    write(root, "folder/3", b"changed");
    write(root, "new/folder/file", &noise(20_000, 2));
    std::fs::remove_file(root.join("folder/4")).unwrap();
    std::fs::remove_dir(root.join("empty")).unwrap();
}

fn tree_of_several_packs(root: &Path) {
    for number in 0..8 {
        write_pack(root, &format!("{number}/large"), number);
        write(root, &format!("{number}/small"), &noise(1000, 100 + number));
    }
}

#[test]
fn an_init_stopped_at_any_call_leaves_a_whole_repository_or_none() {
    let source = tempfile::tempdir().unwrap();
    small_tree(source.path());
    let trees = [capture(source.path())];
    let scene = Scene { source: source.path(), start: Objects::new(), trees: &trees, committed_count: 0 };
    let stops = stop_at_every_call(&scene, &|storage, cache| {
        // With its answer, an init that succeeded would have to be there; a report is what says so here.
        init(storage, cache, &init_options(1 << 20)).ok().map(|_| no_report())
    });
    assert!(stops > 130, "only {stops}");
}

/// A report that names no snapshot.
fn no_report() -> BackupReport {
    BackupReport {
        snapshot_id: None,
        parent_id: None,
        files_new: 0,
        files_changed: 0,
        files_unchanged: 0,
        directories: 0,
        bytes_read: 0,
        bytes_new: 0,
        bytes_stored: 0,
        duration_seconds: 0.0,
        problems: Vec::new(),
    }
}

#[test]
fn a_first_backup_stopped_at_any_call_loses_nothing() {
    let source = tempfile::tempdir().unwrap();
    small_tree(source.path());
    let (memory, _) = init_in_memory(cache_folder().path(), 1 << 20);
    let trees = [capture(source.path())];
    let scene = Scene { source: source.path(), start: memory.objects(), trees: &trees, committed_count: 0 };
    let stops = stop_at_every_call(&scene, &open_and_back_up(source.path()));
    assert!(stops > 110, "only {stops}");
}

#[test]
fn a_second_backup_stopped_at_any_call_loses_nothing() {
    let source = tempfile::tempdir().unwrap();
    small_tree(source.path());
    let cache = cache_folder();
    let (memory, repo) = init_in_memory(cache.path(), 1 << 20);
    back_up_well(&repo, source.path());
    let before = capture(source.path());
    change_small_tree(source.path());
    let trees = [before, capture(source.path())];
    let scene = Scene { source: source.path(), start: memory.objects(), trees: &trees, committed_count: 1 };
    let stops = stop_at_every_call(&scene, &open_and_back_up(source.path()));
    assert!(stops > 130, "only {stops}");
}

#[test]
fn a_backup_of_several_packs_stopped_at_any_call_loses_nothing() {
    let source = tempfile::tempdir().unwrap();
    tree_of_several_packs(source.path());
    let memory = MemoryStorage::new();
    init(Arc::new(memory.clone()), cache_folder().path(), &options_of_several_packs()).unwrap();
    let trees = [capture(source.path())];
    let scene = Scene { source: source.path(), start: memory.objects(), trees: &trees, committed_count: 0 };
    let stops = stop_at_every_call(&scene, &open_and_back_up(source.path()));
    assert!(stops > 170, "only {stops}");
}

#[test]
fn a_backup_that_continues_a_stopped_one_may_be_stopped_at_any_call_too() {
    let source = tempfile::tempdir().unwrap();
    tree_of_several_packs(source.path());
    let cache = cache_folder();
    let memory = MemoryStorage::new();
    let repo = init(Arc::new(memory.clone()), cache.path(), &options_of_several_packs()).unwrap();
    back_up_well(&repo, source.path());
    let before = capture(source.path());
    for number in 0..4 {
        write_pack(source.path(), &format!("{number}/large"), 50 + number);
    }
    // Two statements of the lease and some packs are stored, and nothing describes these packs.
    let plan = FaultPlan { calls: Calls::Changes, ..FaultPlan::death(5, Fault::Before) };
    let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
    let packs_before = pack_count(&memory);
    assert!(back_up(&open(faulty, cache_folder().path()).unwrap(), source.path()).is_err());
    assert_eq!(pack_count(&memory), packs_before + 3);
    let trees = [before, capture(source.path())];
    let scene = Scene { source: source.path(), start: memory.objects(), trees: &trees, committed_count: 1 };
    let stops = stop_at_every_call(&scene, &open_and_back_up(source.path()));
    assert!(stops > 200, "only {stops}");
}

/// Backups of a changing tree, most of them stopped somewhere; each snapshot that came to be is checked to the end.
#[test]
fn a_history_of_stopped_backups_loses_nothing() {
    let mut stop_count = 0;
    for seed in 0..HISTORY_COUNT {
        let mut chance = Chance(seed << 32);
        let source = tempfile::tempdir().unwrap();
        small_tree(source.path());
        let cache = cache_folder();
        let (memory, repo) = init_in_memory(cache.path(), 1 << 20);
        drop(repo);
        let mut trees = BTreeMap::new();
        for step in 0..HISTORY_STEP_COUNT {
            let fault = *chance.one_of(&[Fault::Before, Fault::Torn, Fault::After]);
            let plan = FaultPlan::death(chance.below(30), fault);
            println!("history {seed}, step {step}: {plan:?}");
            let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
            let reported = open_and_back_up(source.path())(Arc::clone(&faulty) as _, cache.path());
            if chance.below(2) == 0 {
                faulty.lose_power(chance.below(1000)).unwrap();
            }
            stop_count += usize::from(faulty.struck().is_some());
            assert_history(
                &memory,
                source.path(),
                &mut trees,
                reported.and_then(|report| report.snapshot_id),
            );
            write(source.path(), &format!("step-{step}/file"), &noise(20_000, chance.below(3)));
            write(source.path(), "folder/2", &noise(step * 100, 5));
        }
        let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
        let reported = back_up_well(&repo, source.path()).snapshot_id;
        assert_history(&memory, source.path(), &mut trees, reported);
    }
    assert!(stop_count > 1300, "only {stop_count}");
}

/// All snapshots are what they were when they came to be, seen with an empty cache. New ones are of the tree on disk.
fn assert_history(
    memory: &MemoryStorage,
    source: &Path,
    trees: &mut BTreeMap<SnapshotId, Tree>,
    reported: Option<String>,
) {
    let cache = cache_folder();
    let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
    let found = snapshots(&repo);
    for snapshot in &found {
        let tree = trees.entry(snapshot.id).or_insert_with(|| capture(source));
        assert_same(tree, &read_snapshot(&repo, snapshot, source));
    }
    assert_eq!(found.len(), trees.len(), "a snapshot is gone");
    if let Some(id) = reported {
        assert!(trees.keys().any(|known| known.to_string() == id), "the reported snapshot is not there");
    }
}
