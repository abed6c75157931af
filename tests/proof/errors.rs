//! A disk that is full, or refuses, once or from some moment on; and somebody who presses Ctrl-C at any moment. The
//! backup says so, nothing half-done is visible, and the next one goes on where it stopped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kluis::backup::BackupError;
use kluis::event::{Observer, Problem, Progress};
use kluis::storage::{Afterwards, Calls, Fault, FaultPlan, FaultyStorage, MemoryStorage};

use crate::fixture::{
    PACK_FILLING_BYTES, assert_newest_is, back_up, back_up_watched, back_up_well, cache_folder, init, open,
    options_of_several_packs, pack_count, snapshots, write_pack,
};
use crate::tree::{Tree, capture};

const FILE_COUNT: u64 = 6;
/// Nodes, and what lay in a frame that was not finished.
const SLACK_BYTES: u64 = 40 << 10;

/// Files, each a pack of its own.
fn fill(root: &Path) -> Tree {
    (0..FILE_COUNT).for_each(|number| write_pack(root, &number.to_string(), number));
    capture(root)
}

fn new_repository() -> MemoryStorage {
    let memory = MemoryStorage::new();
    init(Arc::new(memory.clone()), cache_folder().path(), &options_of_several_packs()).unwrap();
    memory
}

/// Bytes of the packs of chunks that are stored.
fn stored_bytes(memory: &MemoryStorage) -> u64 {
    let objects = memory.objects().into_iter();
    objects.filter(|(name, _)| name.as_str().starts_with("data/")).map(|(_, bytes)| bytes.len() as u64).sum()
}

/// The next backup stores only what is not stored yet, and all of it can be read.
fn assert_goes_on(memory: &MemoryStorage, cache: &Path, source: &Path, tree: &Tree, place: &str) {
    let kept = stored_bytes(memory);
    let repo = open(Arc::new(memory.clone()), cache).unwrap();
    let next = back_up_well(&repo, source);
    let all = FILE_COUNT * PACK_FILLING_BYTES as u64 + SLACK_BYTES;
    assert!(next.bytes_new + kept <= all, "{place}: {} again, although {kept} were there", next.bytes_new);
    assert_newest_is(&repo, source, tree);
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn fail_at_every_call(fault: Fault, calls: Calls, then: Afterwards) -> usize {
    let source = tempfile::tempdir().unwrap();
    let tree = fill(source.path());
    let start = new_repository().objects();
    let mut failures = 0;
    for at_call in 0..500 {
        let memory = MemoryStorage::from_objects(start.clone());
        let plan = FaultPlan { calls, at_call, fault, then };
        let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
        let cache = cache_folder();
        let outcome = match open(Arc::clone(&faulty) as _, cache.path()) {
            Ok(repo) => back_up(&repo, source.path()),
            Err(error) => Err(error.into()),
        };
        let Some(struck) = faulty.struck() else {
            assert!(pack_count(&memory) as u64 >= FILE_COUNT);
            return failures;
        };
        let place = format!("{plan:?}, {struck}");
        let visible = snapshots(&open(Arc::new(memory.clone()), cache_folder().path()).unwrap()).len();
        match outcome {
            Ok(report) => {
                assert_eq!((visible, report.problems.len()), (1, 0), "{place}");
            }
            Err(error) => {
                failures += 1;
                assert_eq!(visible, 0, "{place}: something is visible");
                assert!(matches!(error, BackupError::Repo(_)), "{place}: {error:?}");
                let text = with_causes(&error);
                assert!(text.contains("planned"), "{place}: the cause is not named: {text}");
            }
        }
        assert_goes_on(&memory, cache.path(), source.path(), &tree, &place);
    }
    panic!("the backup does not end");
}

#[test]
fn a_disk_that_is_full_once_costs_this_backup_and_no_more() {
    assert!(fail_at_every_call(Fault::OutOfSpace, Calls::Changes, Afterwards::Fine) > 5);
}

#[test]
fn a_disk_that_stays_full_costs_this_backup_and_no_more() {
    assert!(fail_at_every_call(Fault::OutOfSpace, Calls::Changes, Afterwards::Same) > 5);
}

#[test]
fn a_storage_that_refuses_any_one_call_costs_this_backup_and_no_more() {
    assert!(fail_at_every_call(Fault::Denied, Calls::All, Afterwards::Fine) > 10);
}

#[test]
fn a_lost_answer_is_looked_up_and_not_believed() {
    // All is done that was asked for; so hardly any of these ends a backup, and none makes it store anything twice.
    let source = tempfile::tempdir().unwrap();
    let tree = fill(source.path());
    let start = new_repository().objects();
    for at_call in 0..500 {
        let memory = MemoryStorage::from_objects(start.clone());
        let plan = FaultPlan { calls: Calls::Changes, at_call, fault: Fault::After, then: Afterwards::Fine };
        let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
        let cache = cache_folder();
        let repo = open(Arc::clone(&faulty) as _, cache.path()).unwrap();
        back_up_well(&repo, source.path());
        assert_newest_is(&repo, source.path(), &tree);
        if faulty.struck().is_none() {
            assert!(at_call > 5);
            return;
        }
    }
    panic!("the backup does not end");
}

/// Somebody who presses Ctrl-C when the backup looks for the n-th time.
struct Impatient {
    progress: Progress,
    looks_left: AtomicU64,
}

impl Observer for Impatient {
    fn progress(&self) -> &Progress {
        &self.progress
    }
    fn phase(&self, _name: &'static str) {}
    fn problem(&self, _problem: &Problem) {}
    fn note(&self, _text: &str) {}
    fn is_interrupted(&self) -> bool {
        let look = |left: u64| Some(left.saturating_sub(1));
        self.looks_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, look) == Ok(0)
    }
}

#[test]
fn an_interrupted_backup_is_continued_by_the_next() {
    let source = tempfile::tempdir().unwrap();
    let tree = fill(source.path());
    let start = new_repository().objects();
    for looks in 0..500 {
        let memory = MemoryStorage::from_objects(start.clone());
        let cache = cache_folder();
        let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
        let observer = Impatient { progress: Progress::default(), looks_left: AtomicU64::new(looks) };
        match back_up_watched(&repo, source.path(), &observer) {
            Err(BackupError::Interrupted) => {}
            Ok(_) => {
                assert!(looks > 5, "it never looked");
                return;
            }
            Err(error) => panic!("look {looks}: {error:?}"),
        }
        assert!(snapshots(&repo).is_empty(), "look {looks}: something is visible");
        let leases = memory.objects().into_keys().filter(|name| name.as_str().starts_with("lease/")).count();
        assert_eq!(leases, 0, "look {looks}: the lease is left");
        drop(repo);
        assert_goes_on(&memory, cache.path(), source.path(), &tree, &format!("look {looks}"));
    }
    panic!("the backup does not end");
}
