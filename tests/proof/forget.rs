//! Forgetting and bringing back: stopped at every call to the storage, beside others, and when somebody hides or
//! forges what was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kluis::check::{self, CheckOptions, CheckReport, FindingCode};
use kluis::event::Silent;
use kluis::forget::{self, ForgetError, ForgetOptions, ForgetReport};
use kluis::format::snapshot::Snapshot;
use kluis::id::SnapshotId;
use kluis::repo::{Repo, RepoError, SnapshotFilter};
use kluis::storage::{Afterwards, Fault, FaultPlan, FaultyStorage, MemoryStorage, ObjectName, Storage};
use tempfile::TempDir;

use crate::crash::{CALL_COUNT_MAX, STOPS, change_small_tree, small_tree};
use crate::fixture::{
    Chance, Objects, back_up, back_up_well, cache_folder, init_in_memory, open, snapshots, write,
};
use crate::tree::{Tree, assert_same, capture, read_snapshot};

/// A repository with three snapshots of a changing tree.
struct Scene {
    source: TempDir,
    start: Objects,
    ids: Vec<SnapshotId>,
    trees: BTreeMap<SnapshotId, Tree>,
}

impl Scene {
    fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        let (memory, repo) = init_in_memory(cache_folder().path(), 1 << 20);
        let mut scene = Self { source, start: Objects::new(), ids: Vec::new(), trees: BTreeMap::new() };
        small_tree(scene.source.path());
        scene.back_up(&repo);
        change_small_tree(scene.source.path());
        scene.back_up(&repo);
        write(scene.source.path(), "third", b"third");
        scene.back_up(&repo);
        scene.start = memory.objects();
        scene
    }

    fn back_up(&mut self, repo: &Arc<Repo>) {
        let id = back_up_well(repo, self.source.path()).snapshot_id.unwrap().parse().unwrap();
        self.ids.push(id);
        self.trees.insert(id, capture(self.source.path()));
    }

    fn memory(&self) -> MemoryStorage {
        MemoryStorage::from_objects(self.start.clone())
    }

    fn repo(&self, memory: &MemoryStorage, cache: &Path) -> Arc<Repo> {
        let _ = self;
        open(Arc::new(memory.clone()), cache).unwrap()
    }

    /// Every live snapshot holds what was on the disk when it, or the one in whose place it is, was made.
    fn assert_live(&self, repo: &Arc<Repo>, place: &str) -> BTreeSet<SnapshotId> {
        let live = snapshots(repo);
        for snapshot in &live {
            let origin = snapshot.in_place_of().map_or(snapshot.id, |forgotten| forgotten.snapshot);
            // One that is not known is of the tree as it is.
            if let Some(tree) = self.trees.get(&origin) {
                assert_same(tree, &read_snapshot(repo, snapshot, self.source.path()));
            } else {
                assert_same(&capture(self.source.path()), &read_snapshot(repo, snapshot, self.source.path()));
            }
        }
        let ids: BTreeSet<_> = live.iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(ids.len(), live.len(), "{place}");
        ids
    }
}

fn forget_ids(repo: &Repo, ids: &[SnapshotId]) -> Result<ForgetReport, ForgetError> {
    let list = repo.snapshots()?;
    let options = ForgetOptions { reason: "to see what happens".to_owned(), policy: String::new() };
    forget::run(repo, &list, ids, &options, &Silent::default())
}

fn undo_ids(repo: &Arc<Repo>, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>, ForgetError> {
    let report = forget::undo(repo, ids, &Silent::default())?;
    Ok(report.snapshots.iter().map(|back| back.id.parse().unwrap()).collect())
}

fn checked(repo: &Arc<Repo>) -> CheckReport {
    check::run(repo, &CheckOptions::default(), &Silent::default()).unwrap()
}

fn codes(report: &CheckReport) -> Vec<FindingCode> {
    report.findings.iter().map(|finding| finding.code).collect()
}

fn names_below(memory: &MemoryStorage, folder: &str) -> Vec<ObjectName> {
    let names = memory.objects().into_keys();
    names.filter(|name| name.as_str().starts_with(&format!("{folder}/"))).collect()
}

/// Stops an operation at each call in turn, and looks after each stop. Returns how many stops there were.
fn stop_at_every_call(
    start: &Objects,
    operation: &dyn Fn(Arc<dyn Storage>, &Path) -> bool,
    look: &dyn Fn(&MemoryStorage, &Path, bool, &str),
) -> usize {
    let mut count = 0;
    for stop in STOPS {
        for at_call in 0.. {
            assert!(at_call < CALL_COUNT_MAX, "the operation does not end");
            let memory = MemoryStorage::from_objects(start.clone());
            let plan = FaultPlan::death(at_call, stop.fault);
            let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
            let cache = cache_folder();
            let is_reported = operation(Arc::clone(&faulty) as Arc<dyn Storage>, cache.path());
            if let Some(seed) = stop.power_cut {
                faulty.lose_power(seed.wrapping_mul(0x1_0001) + at_call).unwrap();
            }
            let struck = faulty.struck();
            let is_over = struck.is_none();
            let place = format!("{stop:?} at call {at_call} ({})", struck.unwrap_or("none".to_owned()));
            println!("{place}");
            look(&memory, cache.path(), is_reported, &place);
            if is_over {
                assert!(is_reported, "{place}: it failed although nothing was wrong");
                break;
            }
            count += 1;
        }
    }
    count
}

/// Every call that an operation makes, in order: `list snapshot`, `create forget/...`.
fn calls_of(start: &Objects, operation: &dyn Fn(&Arc<Repo>)) -> Vec<String> {
    let mut calls = Vec::new();
    for at_call in 0..CALL_COUNT_MAX {
        let memory = MemoryStorage::from_objects(start.clone());
        let plan = FaultPlan { then: Afterwards::Fine, ..FaultPlan::death(at_call, Fault::Before) };
        let faulty = Arc::new(FaultyStorage::new(Arc::new(memory)));
        let cache = cache_folder();
        let repo = open(Arc::clone(&faulty) as Arc<dyn Storage>, cache.path()).unwrap();
        faulty.set_plan(Some(plan));
        operation(&repo);
        match faulty.struck() {
            Some(call) => calls.push(call),
            None => return calls,
        }
    }
    panic!("the operation does not end");
}

/// Insists that calls that begin so come one after the other.
#[track_caller]
fn assert_order(calls: &[String], order: &[&str]) {
    let mut rest = calls.iter();
    for wanted in order {
        assert!(rest.any(|call| call.starts_with(wanted)), "{wanted} is not in its place in {calls:#?}");
    }
}

#[test]
fn snapshots_are_listed_before_the_records_that_explain_what_is_gone() {
    let scene = Scene::new();
    let calls = calls_of(&scene.start, &|repo| drop(repo.snapshots()));
    assert_order(&calls, &["list snapshot", "list forget"]);
    let before = calls.iter().position(|call| call == "list forget").unwrap();
    assert!(!calls[before..].iter().any(|call| call == "list snapshot"), "{calls:#?}");
}

#[test]
fn an_undo_keeps_to_the_order_of_writers() {
    let scene = Scene::new();
    let memory = scene.memory();
    forget_ids(&scene.repo(&memory, cache_folder().path()), &scene.ids[..1]).unwrap();
    let calls = calls_of(&memory.objects(), &|repo| drop(undo_ids(repo, &scene.ids[..1])));
    assert!(calls[0].starts_with("create lease/"), "nothing is read before it is registered: {calls:#?}");
    let order = [
        "create lease/",
        "list prune",
        "create lease/",
        "list index",
        "list data",
        "list meta",
        "list snapshot",
        "list forget",
        "read meta/",
        "create snapshot/",
        "create copy/snapshot/",
        "delete lease/",
    ];
    assert_order(&calls, &order);
}

#[test]
fn a_forget_stopped_at_any_call_has_happened_or_has_not() {
    let scene = Scene::new();
    let doomed = &scene.ids[..2];
    let all: BTreeSet<_> = scene.ids.iter().copied().collect();
    let rest = BTreeSet::from([scene.ids[2]]);
    let operation = |storage: Arc<dyn Storage>, cache: &Path| {
        open(storage, cache).is_ok_and(|repo| forget_ids(&repo, doomed).is_ok())
    };
    let look = |memory: &MemoryStorage, left_cache: &Path, is_reported: bool, place: &str| {
        let fresh_cache = cache_folder();
        let fresh = scene.repo(memory, fresh_cache.path());
        let live = scene.assert_live(&fresh, place);
        assert!(live == all || live == rest, "{place}: half a forget: {live:?}");
        assert!(!is_reported || live == rest, "{place}: reported, and has not happened");
        // The computer that was stopped remembers no more than there is, and goes on.
        let reopened = scene.repo(memory, left_cache);
        assert_eq!(scene.assert_live(&reopened, place), live);
        forget_ids(&reopened, doomed).unwrap();
        let next = back_up_well(&reopened, scene.source.path()).snapshot_id.unwrap().parse().unwrap();
        assert_eq!(scene.assert_live(&fresh, place), BTreeSet::from([scene.ids[2], next]));
        let report = checked(&reopened);
        assert!(!report.has_damage(), "{place}: {:?}", report.findings);
    };
    let stops = stop_at_every_call(&scene.start, &operation, &look);
    assert!(stops > 75, "only {stops}");
}

#[test]
fn an_undo_stopped_at_any_call_brings_back_a_whole_snapshot_or_none() {
    let mut scene = Scene::new();
    let gone = scene.ids[0];
    let memory = scene.memory();
    forget_ids(&scene.repo(&memory, cache_folder().path()), &[gone]).unwrap();
    scene.start = memory.objects();
    let operation = |storage: Arc<dyn Storage>, cache: &Path| {
        open(storage, cache).is_ok_and(|repo| undo_ids(&repo, &[gone]).is_ok())
    };
    let look = |memory: &MemoryStorage, left_cache: &Path, is_reported: bool, place: &str| {
        let fresh_cache = cache_folder();
        let fresh = scene.repo(memory, fresh_cache.path());
        let live = scene.assert_live(&fresh, place);
        assert!(!live.contains(&gone), "{place}: the dead have risen");
        assert!(live.contains(&scene.ids[1]) && live.contains(&scene.ids[2]), "{place}");
        assert!(!is_reported || live.len() == 3, "{place}: reported, and not there");
        let reopened = scene.repo(memory, left_cache);
        // Once more, and once more for nothing: it is back once.
        let back = undo_ids(&reopened, &[gone]).unwrap();
        assert_eq!(undo_ids(&reopened, &[gone]).unwrap(), back);
        let live = scene.assert_live(&fresh, place);
        assert_eq!(live, BTreeSet::from([scene.ids[1], scene.ids[2], back[0]]), "{place}");
        back_up_well(&reopened, scene.source.path());
        let report = checked(&reopened);
        assert!(!report.has_damage(), "{place}: {:?}", report.findings);
    };
    let stops = stop_at_every_call(&scene.start, &operation, &look);
    assert!(stops > 150, "only {stops}");
}

#[test]
fn a_forgotten_snapshot_is_in_no_list_and_says_why() {
    let scene = Scene::new();
    let (memory, cache) = (scene.memory(), cache_folder());
    let repo = scene.repo(&memory, cache.path());
    let newest = scene.ids[2];
    let report = forget_ids(&repo, &[newest]).unwrap();
    assert_eq!(report.snapshot_ids, [newest.to_string()]);
    assert_eq!(names_below(&memory, "forget").len(), 1);
    assert_eq!(names_below(&memory, "copy/forget").len(), 1);
    let list = repo.snapshots().unwrap();
    assert_eq!(list.select("latest", &SnapshotFilter::default()).unwrap().id, scene.ids[1]);
    assert_eq!((list.snapshots.len(), &list.dead), (2, &vec![newest]));
    let named = list.select(&newest.to_string()[..8], &SnapshotFilter::default());
    assert!(matches!(named, Err(RepoError::Forgotten { id, is_there: true }) if id == newest));
    // Forgetting it again does nothing.
    assert_eq!(forget_ids(&repo, &[newest]).unwrap(), ForgetReport::default());
    // The next backup counts on behind it, and finds its parent among the living.
    let report = back_up_well(&repo, scene.source.path());
    assert_eq!(report.parent_id, Some(scene.ids[1].to_string()));
    let next = snapshots(&repo).pop().unwrap();
    assert_eq!((next.sequence, next.previous), (4, Some(newest)));
    assert!(!checked(&repo).has_damage());
    // Whoever deletes its object, as a prune does, is explained by the record.
    for name in [format!("snapshot/{newest}"), format!("copy/snapshot/{newest}")] {
        memory.delete(&ObjectName::new(name).unwrap()).unwrap();
    }
    let report = checked(&repo);
    assert!(!report.has_damage(), "{:?}", report.findings);
    let list = repo.snapshots().unwrap();
    let named = list.select(&newest.to_string(), &SnapshotFilter::default());
    assert!(matches!(named, Err(RepoError::Forgotten { is_there: false, .. })));
    assert!(matches!(undo_ids(&repo, &[newest]), Err(ForgetError::Gone { .. })));
    assert!(names_below(&memory, "lease").is_empty());
}

#[test]
fn what_comes_back_says_what_the_forgotten_one_said() {
    let scene = Scene::new();
    let (memory, cache) = (scene.memory(), cache_folder());
    let repo = scene.repo(&memory, cache.path());
    let first = repo.read_snapshot(scene.ids[0]).unwrap().unwrap();
    forget_ids(&repo, &scene.ids[..1]).unwrap();
    let back = undo_ids(&repo, &scene.ids[..1]).unwrap();
    let back = repo.read_snapshot(back[0]).unwrap().unwrap();
    let place = back.in_place_of().unwrap();
    assert_eq!((place.snapshot, place.sequence), (first.id, 1));
    assert_eq!((back.sequence, back.previous), (4, Some(scene.ids[2])));
    assert_eq!(back.utc_offset(), first.utc_offset());
    assert!(back.utc_offset().is_some());
    let same = Snapshot {
        id: first.id,
        sequence: first.sequence,
        previous: first.previous,
        extensions: first.extensions.clone(),
        ..back.clone()
    };
    assert_eq!(same, first);
    // Forgotten again and brought back again it is still in the first place.
    forget_ids(&repo, &[back.id]).unwrap();
    let again = undo_ids(&repo, &[back.id]).unwrap();
    let again = repo.read_snapshot(again[0]).unwrap().unwrap();
    let place = again.in_place_of().unwrap();
    assert_eq!((place.snapshot, place.sequence), (back.id, 1));
    assert!(!checked(&repo).has_damage());
}

#[test]
fn nothing_comes_back_that_is_not_whole() {
    let scene = Scene::new();
    let (memory, cache) = (scene.memory(), cache_folder());
    let repo = scene.repo(&memory, cache.path());
    forget_ids(&repo, &scene.ids[..1]).unwrap();
    let packs = [names_below(&memory, "data"), names_below(&memory, "meta")].concat();
    let mut refused = 0;
    for pack in packs {
        let bytes = memory.get(&pack).unwrap();
        memory.delete(&pack).unwrap();
        match undo_ids(&repo, &scene.ids[..1]) {
            Err(ForgetError::Incomplete { id, .. }) => {
                assert_eq!(id, scene.ids[0]);
                assert_eq!(snapshots(&repo).len(), 2, "{pack}");
                refused += 1;
            }
            // A pack that only later snapshots need.
            outcome => {
                let back = outcome.unwrap();
                forget_ids(&repo, &back).unwrap();
            }
        }
        assert!(names_below(&memory, "lease").is_empty());
        memory.create(&pack, &bytes).unwrap();
    }
    assert!(refused >= 2, "only {refused}");
}

#[test]
fn a_hidden_record_is_noticed_by_those_who_saw_it() {
    let scene = Scene::new();
    let (memory, cache) = (scene.memory(), cache_folder());
    let repo = scene.repo(&memory, cache.path());
    forget_ids(&repo, &scene.ids[..1]).unwrap();
    for name in [names_below(&memory, "forget"), names_below(&memory, "copy/forget")].concat() {
        memory.delete(&name).unwrap();
    }
    assert!(matches!(repo.snapshots(), Err(RepoError::Replaced(_))));
    assert!(codes(&checked(&repo)).contains(&FindingCode::ForgetRecordMissing));
    // Others cannot know, but nothing is lost to them.
    let other_cache = cache_folder();
    let other = scene.repo(&memory, other_cache.path());
    assert_eq!(scene.assert_live(&other, "hidden").len(), 3);
}

#[test]
fn a_record_is_read_from_its_copy_where_it_is_damaged_and_drops_nothing_where_both_are() {
    let scene = Scene::new();
    let (memory, cache) = (scene.memory(), cache_folder());
    let repo = scene.repo(&memory, cache.path());
    forget_ids(&repo, &scene.ids[..1]).unwrap();
    let damage = |name: &ObjectName| {
        let mut bytes = memory.get(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        memory.replace(name, &bytes).unwrap();
    };
    let first = names_below(&memory, "forget").remove(0);
    damage(&first);
    assert_eq!(snapshots(&repo).len(), 2);
    assert_eq!(codes(&checked(&repo)), [FindingCode::ForgetRecordDamaged]);
    damage(&names_below(&memory, "copy/forget").remove(0));
    let list = repo.snapshots().unwrap();
    assert_eq!((list.snapshots.len(), list.forgotten.damaged.len()), (3, 1));
    assert!(list.forgotten.warnings()[0].contains("cannot be read"));
    // A damaged record stops nobody.
    back_up_well(&repo, scene.source.path());
    let found = codes(&checked(&repo));
    assert!(found.contains(&FindingCode::ForgetRecordDamaged), "{found:?}");
}

#[test]
fn two_who_forget_at_the_same_time_do_not_disturb_each_other() {
    let scene = Scene::new();
    let memory = scene.memory();
    let caches = [cache_folder(), cache_folder()];
    let [one, other] = [0, 1].map(|at| scene.repo(&memory, caches[at].path()));
    // Both decide from what they see before either acts.
    let lists = [one.snapshots().unwrap(), other.snapshots().unwrap()];
    let options = ForgetOptions::default();
    forget::run(&one, &lists[0], &scene.ids[..2], &options, &Silent::default()).unwrap();
    forget::run(&other, &lists[1], &scene.ids[1..2], &options, &Silent::default()).unwrap();
    for repo in [&one, &other] {
        assert_eq!(scene.assert_live(repo, "both"), BTreeSet::from([scene.ids[2]]));
        assert!(!checked(repo).has_damage());
    }
    assert_eq!(names_below(&memory, "forget").len(), 2);
    let back = undo_ids(&other, &scene.ids[1..2]).unwrap();
    assert_eq!(scene.assert_live(&one, "back"), BTreeSet::from([scene.ids[2], back[0]]));
}

#[test]
fn a_gap_in_the_numbers_of_a_series_is_found() {
    let scene = Scene::new();
    let (memory, cache) = (scene.memory(), cache_folder());
    let repo = scene.repo(&memory, cache.path());
    // The record explains the second; nothing explains the first.
    forget_ids(&repo, &scene.ids[1..2]).unwrap();
    assert!(!checked(&repo).has_damage());
    for name in [format!("snapshot/{}", scene.ids[0]), format!("copy/snapshot/{}", scene.ids[0])] {
        memory.delete(&ObjectName::new(name).unwrap()).unwrap();
    }
    let report = checked(&repo);
    assert_eq!(codes(&report), [FindingCode::SnapshotChainGap], "{:?}", report.findings);
    assert!(report.findings[0].message.starts_with("snapshots 1 to 1 of series"));
}

/// Backups, forgets and undos in any order, most of them stopped somewhere. Nothing dies that nobody forgot, nothing
/// dead rises, and what is live is what it was.
#[test]
fn a_history_of_stopped_forgets_loses_nothing_and_raises_nobody() {
    let (mut stop_count, mut dead_count, mut back_count) = (0, 0, 0);
    for seed in 0..200 {
        let mut chance = Chance(seed << 32 | 1 << 60);
        let (source, cache) = (tempfile::tempdir().unwrap(), cache_folder());
        write(source.path(), "file", b"first");
        let (memory, repo) = init_in_memory(cache.path(), 1 << 20);
        drop(repo);
        let mut trees = BTreeMap::<SnapshotId, Tree>::new();
        let (mut live, mut dead) = (BTreeSet::new(), BTreeSet::new());
        for step in 0..8 {
            let some = |chance: &mut Chance, ids: &BTreeSet<SnapshotId>| -> Vec<SnapshotId> {
                ids.iter().copied().filter(|_| chance.below(2) == 0).collect()
            };
            let fault = *chance.one_of(&[Fault::Before, Fault::Torn, Fault::After]);
            let plan = FaultPlan::death(chance.below(40), fault);
            println!("history {seed}, step {step}: {plan:?}");
            let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
            let opened = open(Arc::clone(&faulty) as Arc<dyn Storage>, cache.path());
            let mut to_forget = Vec::new();
            let what = chance.below(3);
            match (what, opened) {
                (_, Err(_)) => {}
                (0, Ok(repo)) => drop(back_up(&repo, source.path())),
                (1, Ok(repo)) => {
                    to_forget = some(&mut chance, &live);
                    let is_done = forget_ids(&repo, &to_forget).is_ok();
                    if is_done {
                        dead.extend(to_forget.iter().copied());
                    }
                }
                (_, Ok(repo)) => {
                    let to_undo = some(&mut chance, &dead);
                    back_count += undo_ids(&repo, &to_undo).map_or(0, |back| back.len());
                }
            }
            if chance.below(2) == 0 {
                faulty.lose_power(chance.below(1000)).unwrap();
            }
            stop_count += usize::from(faulty.struck().is_some());
            // Both the computer that was stopped and one that never saw the repository.
            let fresh_cache = cache_folder();
            for cache in [cache.path(), fresh_cache.path()] {
                let repo = open(Arc::new(memory.clone()), cache).unwrap();
                let found = snapshots(&repo);
                let now: BTreeSet<_> = found.iter().map(|snapshot| snapshot.id).collect();
                assert!(now.is_disjoint(&dead), "the dead have risen");
                let gone: BTreeSet<_> = live.difference(&now).copied().collect();
                assert!(gone.iter().all(|id| to_forget.contains(id)), "a snapshot is gone");
                assert!(gone.is_empty() || gone.len() == to_forget.len(), "half a forget");
                for snapshot in found {
                    let origin = snapshot.in_place_of().map(|forgotten| forgotten.snapshot);
                    let tree = match origin {
                        Some(origin) => trees[&origin].clone(),
                        None => capture(source.path()),
                    };
                    let tree = trees.entry(snapshot.id).or_insert(tree);
                    assert_same(tree, &read_snapshot(&repo, &snapshot, source.path()));
                }
                dead.extend(gone);
                live = now;
            }
            write(source.path(), "file", format!("step {step} of {seed}").as_bytes());
        }
        dead_count += dead.len();
        let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
        undo_ids(&repo, &dead.iter().copied().collect::<Vec<_>>()).unwrap();
        back_up_well(&repo, source.path());
        let report = checked(&repo);
        assert!(!report.has_damage(), "{:?}", report.findings);
    }
    let happened = (stop_count, dead_count, back_count);
    assert!(stop_count > 450 && dead_count > 50 && back_count > 20, "too little happened: {happened:?}");
}
