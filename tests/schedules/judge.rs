//! What must be true after every history: of what is stored, and of how it came to be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kluis::check::{self, CheckOptions, DataPart, Finding, FindingCode, Severity};
use kluis::event::Silent;
use kluis::id::SnapshotId;
use kluis::repo::{Repo, names};
use kluis::storage::{MemoryStorage, ObjectName};

use crate::fixture::{Objects, cache_folder, snapshots};
use crate::roles::root_of;
use crate::stage::{Event, Outcome, Stage, What};
use crate::tree::{assert_same, read_snapshot};
use crate::world::{Start, World, back_up_well, impatient, names_below, open_beside, prune, thorough};

/// What is known of a history beside what is stored.
pub struct Known<'a> {
    pub start: &'a Start,
    /// Snapshots that were reported as made.
    pub committed: BTreeSet<SnapshotId>,
    /// Snapshots that somebody wanted to be forgotten.
    pub asked: BTreeSet<SnapshotId>,
    /// A pack is damaged, which alone is no violation.
    pub is_spoilt: bool,
}

/// Looks at everything. `seed` decides what is backed up next.
pub fn judge(stage: &Stage, world: &World, known: &Known<'_>, seed: u64) {
    // What the history is followed by is not a part of it.
    let memory = MemoryStorage::from_objects(stage.memory().objects());
    let forgotten = judge_objects(&memory, world, known, seed);
    judge_events(&stage.events(), &known.start.objects, &forgotten);
}

/// I1, and that the repository goes on: everything that should live comes back bit for bit, the next backup works, two
/// prunes leave no garbage, and the counts are those of a recount. Returns what was forgotten.
pub fn judge_objects(
    memory: &MemoryStorage,
    world: &World,
    known: &Known<'_>,
    seed: u64,
) -> BTreeSet<SnapshotId> {
    let cache = cache_folder();
    let repo = open_beside(memory, cache.path(), seed);
    let live = live_trees(&repo, world);
    let list = repo.snapshots().unwrap();
    let forgotten: BTreeSet<_> = list.forgotten.snapshots().map(|(id, _)| id).collect();
    let start = known.start;
    for id in start.live.iter().chain(&known.committed) {
        assert!(live.contains(id) || forgotten.contains(id), "snapshot {id} is gone");
    }
    for id in forgotten.difference(&start.forgotten) {
        assert!(known.asked.contains(id), "nobody wanted {id} to be forgotten");
    }
    drop(list);
    let next = back_up_well(&repo, &world.roots[seed as usize % world.roots.len()]);
    for _ in 0..2 {
        let report = prune(&repo, &impatient()).unwrap();
        assert!(report.waiting.is_empty() && report.damaged_packs.is_empty(), "{report:?}");
    }
    let last = prune(&repo, &thorough()).unwrap();
    assert_eq!((last.packs_deleted, last.bytes_unused, last.plans.len()), (0, 0, 0), "garbage is left");
    for folder in ["body", "lease"] {
        assert_eq!(names_below(memory, folder), [], "garbage is left");
    }
    let list = repo.snapshots().unwrap();
    assert!(list.dead.is_empty(), "forgotten snapshots are left");
    let roots: Vec<_> = list.snapshots.iter().map(|snapshot| snapshot.root).collect();
    assert!(repo.counts_are_right(&roots).unwrap(), "the counts are wrong");
    let after: BTreeSet<_> = list.snapshots.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(after, live.into_iter().chain([next]).collect(), "the list of snapshots has changed");
    // All bytes were read above; that a prune copies them right is not a matter of schedules.
    let data = seed.is_multiple_of(4).then_some(DataPart::All);
    let options = CheckOptions { directories: true, data };
    let report = check::run(&repo, &options, &Silent::default()).unwrap();
    let is_known = |code| matches!(code, FindingCode::PackShort | FindingCode::PackDamaged);
    let is_fine = !report.has_damage()
        || (known.is_spoilt
            && report.findings.iter().all(|found| is_known(found.code) && found.snapshots.is_empty()));
    assert!(is_fine, "{:?}", report.findings);
    forgotten
}

/// The counts that one of the actors left behind in this cache, after whatever it did and wherever it was stopped, are
/// those of a recount as soon as they are brought up to date. Who counted nothing left none.
pub fn judge_counts(objects: &Objects, cache: &Path) {
    let memory = MemoryStorage::from_objects(objects.clone());
    let repo = open_beside(&memory, cache, 0);
    if !repo.counted_index().and_then(|index| Ok(index.has_counts()?)).unwrap_or(false) {
        return;
    }
    let list = repo.snapshots().unwrap();
    let (counted, _) = repo.count_snapshots(&list, &Silent::default()).unwrap();
    assert_eq!(counted.rebuilt_because, None, "an index was damaged");
    if counted.vanished.is_empty() {
        let roots: Vec<_> = list.snapshots.iter().map(|snapshot| snapshot.root).collect();
        assert!(repo.counts_are_right(&roots).unwrap(), "the counts in {} are wrong", cache.display());
    }
}

/// A finding of a check that is no damage. A history may leave what a prune will remove, which is worth a note.
pub fn is_harmless(found: &Finding) -> bool {
    found.severity == Severity::Note
}

/// Every live snapshot holds what is in its source. Returns them.
fn live_trees(repo: &Arc<Repo>, world: &World) -> BTreeSet<SnapshotId> {
    let live = snapshots(repo);
    for snapshot in &live {
        let root = root_of(snapshot);
        assert_same(&world.trees[&root], &read_snapshot(repo, snapshot, &root));
    }
    live.iter().map(|snapshot| snapshot.id).collect()
}

/// What the names of events must obey.
fn judge_events(events: &[Event], start: &Objects, forgotten: &BTreeSet<SnapshotId>) {
    let mut history = History::new(start);
    for event in events {
        if let What::Lost(name) = &event.what {
            history.lost(name);
        }
        let What::Call { action, name, outcome, .. } = &event.what else { continue };
        match (*action, outcome) {
            ("create", Outcome::Changed) => history.created(name, event.bytes.clone()),
            ("delete", Outcome::Changed) => history.deleted(name),
            _ => {}
        }
    }
    history.judge_contents(forgotten);
}

/// Names as they came and went, in order.
struct History {
    /// Everything that ever was, with its bytes where they are judged.
    ever: Objects,
    present: BTreeSet<String>,
    /// Packs, index objects and snapshots that were deleted, with how many verdicts there were and whether the last one
    /// was done already.
    deletions: Vec<(String, BTreeSet<u64>)>,
    /// Snapshots whose names were used again.
    reappeared: Vec<String>,
    /// Index objects that were created, with the packs that had ever been there.
    described: Vec<(String, BTreeSet<String>)>,
}

impl History {
    fn new(start: &Objects) -> Self {
        let present = start.keys().map(|name| name.as_str().to_owned()).collect();
        let (deletions, reappeared, described) = (Vec::new(), Vec::new(), Vec::new());
        Self { ever: start.clone(), present, deletions, reappeared, described }
    }

    /// Verdicts that stand and are not carried out to the end.
    fn open_verdicts(&self) -> BTreeSet<u64> {
        let numbers =
            self.present.iter().filter_map(|name| name.strip_prefix("prune/")?.strip_suffix(".verdict"));
        let is_open = |number: &&str| !self.present.contains(&format!("prune/{number}.done"));
        numbers.filter(is_open).map(|number| number.parse().unwrap()).collect()
    }

    fn created(&mut self, name: &str, bytes: Option<Arc<[u8]>>) {
        let object = ObjectName::new(name.to_owned()).unwrap();
        let folder = name.split('/').next().unwrap_or_default();
        let was_there = self.ever.insert(object, bytes.unwrap_or_else(|| Arc::from([]))).is_some();
        let is_once = matches!(folder, "data" | "meta" | "index" | "body" | "lease" | "prune" | "forget");
        // I2, and that what was decided stays decided.
        assert!(!(is_once && was_there), "{name} was used before");
        if folder == "snapshot" && was_there {
            self.reappeared.push(name.to_owned());
        }
        if let Some(number) = name.strip_prefix("prune/").and_then(|rest| rest.strip_suffix(".plan")) {
            let before = number.parse::<u64>().unwrap() - 1;
            let done = format!("prune/{before:08}.done");
            // I4.
            assert!(
                before == 0 || self.present.contains(&done),
                "plan {number} is made before the last is done"
            );
        }
        if folder == "index" {
            let names = self.ever.keys().map(ObjectName::as_str);
            let packs = names.filter(|name| name.starts_with("data/") || name.starts_with("meta/"));
            self.described.push((name.to_owned(), packs.map(str::to_owned).collect()));
        }
        self.present.insert(name.to_owned());
    }

    /// As if it had never been created.
    fn lost(&mut self, name: &str) {
        self.ever.remove(&ObjectName::new(name.to_owned()).unwrap());
        self.present.remove(name);
        self.described.retain(|(described, _)| described != name);
    }

    fn deleted(&mut self, name: &str) {
        let folder = name.split('/').next().unwrap_or_default();
        // I3.
        assert!(!matches!(folder, "prune" | "forget" | "config" | "keyring" | "slot"), "{name} is deleted");
        if matches!(folder, "data" | "meta" | "index" | "snapshot") {
            self.deletions.push((name.to_owned(), self.open_verdicts()));
        }
        self.present.remove(name);
    }

    /// Opens what was decided, whether or not it is still there.
    fn judge_contents(self, forgotten: &BTreeSet<SnapshotId>) {
        let archive = MemoryStorage::from_objects(self.ever);
        let cache = cache_folder();
        let repo = open_beside(&archive, cache.path(), 0);
        let forgotten: BTreeSet<_> =
            forgotten.iter().map(|id| names::snapshot(id).as_str().to_owned()).collect();
        for name in self.reappeared {
            // I3: only what is dead for ever.
            assert!(forgotten.contains(&name), "{name} was used before");
        }
        let mut verdicts = BTreeMap::new();
        for (name, open) in self.deletions {
            if name.starts_with("snapshot/") {
                // I3.
                assert!(forgotten.contains(&name), "{name} is deleted and was never forgotten");
                continue;
            }
            let is_named = open.iter().any(|number| {
                let named = verdicts.entry(*number).or_insert_with(|| names_in_verdict(&repo, *number));
                named.contains(&name)
            });
            // I5, and of I12: the verdict before the deletion, and the deletion before the end.
            assert!(is_named, "{name} is deleted, and no open verdict names it");
        }
        for (name, packs) in self.described {
            let id = name.trim_start_matches("index/").parse().unwrap();
            for pack in repo.read_index_object(id).unwrap().packs {
                let (kind, id) = kluis::repo::name_of(&pack);
                let pack = names::pack(kind, &id);
                // Of I12. A pack that is gone may be described all the same: that is a fact about it.
                assert!(
                    packs.contains(pack.as_str()),
                    "{name} describes {pack}, which was never there before"
                );
            }
        }
    }
}

fn names_in_verdict(repo: &Arc<Repo>, number: u64) -> BTreeSet<String> {
    let verdict = repo.read_verdict(number).unwrap();
    let packs = verdict.body.packs().map(|(kind, id)| names::pack(kind, &id));
    let index_objects = verdict.body.index_objects.iter().map(names::index_object);
    packs.chain(index_objects).map(|name| name.as_str().to_owned()).collect()
}
