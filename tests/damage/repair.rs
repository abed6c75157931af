//! Every kind of damage to every kind of object, and a repair: what can be mended is mended, what cannot is contained,
//! and nothing wrong ever comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use kluis::check::repair::{self, RepairAction, RepairOptions, RepairReport, StepOutcome};
use kluis::check::{self, CheckReport, FindingCode, Severity};
use kluis::crypto::KdfParams;
use kluis::event::Silent;
use kluis::forget;
use kluis::id::SnapshotId;
use kluis::prune::{self, PruneError, PruneOptions, UnusedLimit};
use kluis::repo::{InitOptions, Repo, Surroundings, TreeReader, names as object_names};
use kluis::storage::{MemoryStorage, ObjectName, Storage};
use kluis::units::ByteRange;

use crate::bad_sectors::BadSectors;
use crate::{
    ALL, Damage, Files, Fixture, Objects, all_damages, back_up, failures_of, fixture, flipped, folder_of,
    key, make_fixture, make_small_fixture, names, noise, one_bit_of_every_byte, read_folder, read_snapshot,
    scratch, surroundings,
};
use kluis::backup::ParentChoice;

pub fn open(storage: &MemoryStorage, cache: &Path) -> Arc<Repo> {
    Arc::new(Repo::open(surroundings(storage, cache), &key(7)).unwrap())
}

pub fn repaired(repo: &Arc<Repo>) -> RepairReport {
    let plan = repair::plan(repo, &RepairOptions::default(), &Silent::default()).unwrap();
    repair::run(repo, &plan, &Silent::default()).unwrap()
}

pub fn checked(repo: &Arc<Repo>) -> CheckReport {
    check::run(repo, &ALL, &Silent::default()).unwrap()
}

/// What of a snapshot can be read, and whether that is all.
fn readable(repo: &Arc<Repo>, id: SnapshotId) -> (Files, bool) {
    let (mut files, mut failure) = (Files::new(), None);
    let Ok(Some(snapshot)) = repo.read_snapshot(id) else { return (files, false) };
    let Ok(chunks) = repo.chunk_reader() else { return (files, false) };
    read_folder(&TreeReader::new(Arc::new(chunks)), snapshot.root, &[], &mut files, &mut failure);
    (files, failure.is_none())
}

/// What a single damage of an object must come to when it is repaired.
fn must_be_whole(fixture: &Fixture, damage: &Damage, has_parity: bool) -> bool {
    let Some(name) = damage.what.split(':').next() else { return false };
    let is_renamed = damage.what.contains("renamed");
    let is_exchanged = damage.what.contains("exchanged");
    match folder_of(&ObjectName::new(name).unwrap()) {
        _ if is_renamed => false,
        "README" => true,
        // A forgotten one does not come back from its copy.
        "snapshot" if damage.what.contains("removed") && !is_live(fixture, name) => false,
        // Both copies of each other are still there.
        "config" | "slot" | "keyring" | "snapshot" | "forget" => !is_exchanged || !name.starts_with("copy/"),
        "data" | "meta" | "index" if damage.what.contains("flipped") => has_parity,
        "data" | "meta" | "index" => damage.what.contains("appended"),
        _ => false,
    }
}

fn is_live(fixture: &Fixture, name: &str) -> bool {
    fixture.expected.keys().any(|id| name.ends_with(&id.to_string()))
}

fn repair_one(fixture: &Fixture, damage: &Damage, has_parity: bool) -> Result<(), String> {
    let what = &damage.what;
    let storage = MemoryStorage::from_objects(damage.objects.clone());
    let caches = [scratch(), scratch()];
    let Ok(repo) = Repo::open(surroundings(&storage, caches[0].path()), &key(7)) else { return Ok(()) };
    let repo = Arc::new(repo);
    let before: Vec<_> = fixture.expected.keys().map(|id| (*id, readable(&repo, *id).1)).collect();
    let plan = repair::plan(&repo, &RepairOptions::default(), &Silent::default())
        .map_err(|error| format!("{what}: no plan: {error:?}"))?;
    let report = repair::run(&repo, &plan, &Silent::default())
        .map_err(|error| format!("{what}: no repair: {error:?}"))?;
    drop(repo);
    let repo = open(&storage, caches[1].path());
    let after = checked(&repo);
    let fail = |why: &str| Err(format!("{what}: {why}: {:#?}\n{report:#?}", after.findings));
    for (id, was_whole) in before {
        let (files, is_whole) = readable(&repo, id);
        let expected = &fixture.expected[&id];
        if files.iter().any(|(path, bytes)| expected.get(path) != Some(bytes)) {
            return fail("something wrong came back");
        }
        if was_whole && !is_whole {
            return fail("a snapshot that could be read cannot be read any more");
        }
        if !is_whole {
            let lacks = remnant_holds_the_rest(&repo, id, &files, expected);
            lacks.map_err(|why| fail(&why).unwrap_err())?;
        }
    }
    let all_are_whole = fixture.expected.keys().all(|id| readable(&repo, *id).1);
    if must_be_whole(fixture, damage, has_parity)
        && (after.has_damage() || report.has_damage() || !all_are_whole)
    {
        return fail("this can be mended");
    }
    if !after.has_damage() && !all_are_whole {
        return fail("nothing is said of what is lost");
    }
    let objects = storage.objects();
    let again = repair::plan(&repo, &RepairOptions::default(), &Silent::default()).unwrap();
    let second = repair::run(&repo, &again, &Silent::default()).unwrap();
    if second.done_count() > 0 || storage.objects() != objects {
        return fail(&format!("a second repair does something: {again:#?}"));
    }
    Ok(())
}

/// What is left of a damaged snapshot is in another one, which is whole, and the rest is named there. A damaged
/// snapshot object, and one of which nothing can be read, has none.
fn remnant_holds_the_rest(
    repo: &Arc<Repo>,
    id: SnapshotId,
    files: &Files,
    expected: &Files,
) -> Result<(), String> {
    let Ok(Some(damaged)) = repo.read_snapshot(id) else { return Ok(()) };
    let list = repo.snapshots().map_err(|error| format!("no snapshots: {error:?}"))?;
    let is_it = |of: kluis::format::snapshot::LeftOf| of.snapshot == id;
    let Some(remnant) = list.snapshots.iter().find(|snapshot| snapshot.left_of().is_some_and(is_it)) else {
        let root = TreeReader::new(Arc::new(repo.chunk_reader().unwrap())).directory(damaged.root).next();
        return match root {
            Some(Err(_)) => Ok(()),
            _ => Err("nothing holds what is left".into()),
        };
    };
    let (left, is_whole) = readable(repo, remnant.id);
    if !is_whole || left.iter().any(|(path, bytes)| expected.get(path) != Some(bytes)) {
        return Err("what is left is not whole".into());
    }
    let is_lost = |path: &Vec<u8>| {
        let problems = remnant.problems.iter();
        problems.filter(|it| it.message.contains("folder")).any(|it| it.path.as_slice() == path.as_slice())
    };
    // A folder is listed although nothing of what is in it can be read.
    if let Some((path, _)) = files.iter().find(|(path, _)| !left.contains_key(*path) && !is_lost(path)) {
        return Err(format!("{} could be read, and is not in what is left", path.escape_ascii()));
    }
    for path in expected.keys().filter(|path| !left.contains_key(*path)) {
        let is_named = |named: &[u8]| path == named || path.starts_with(named) || named == b"/";
        if !remnant.problems.iter().any(|problem| is_named(problem.path.as_slice())) {
            return Err(format!("{} is lost and not named", path.escape_ascii()));
        }
    }
    Ok(())
}

fn run_all(fixture: &Fixture, damages: &[Damage], has_parity: bool) {
    let failures = failures_of(damages, |damage| repair_one(fixture, damage, has_parity));
    let first: Vec<_> = failures.iter().take(8).map(String::as_str).collect();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), damages.len(), first.join("\n"));
}

/// A part of all damages, evenly spread; every kind of object is among them.
fn some_of(objects: &Objects, share: usize) -> Vec<Damage> {
    let all = all_damages(objects, names(objects)).into_iter();
    all.enumerate().filter(|(number, _)| number % share == 0).map(|(_, damage)| damage).collect()
}

#[test]
fn every_damage_is_mended_or_contained() {
    for has_parity in [false, true] {
        let fixture = fixture(has_parity);
        run_all(fixture, &some_of(&fixture.objects, 5), has_parity);
    }
}

#[test]
#[ignore = "takes some minutes; run it when a repair or a format changes"]
fn really_every_damage_is_mended_or_contained() {
    for has_parity in [false, true] {
        let fixture = make_fixture(has_parity, has_parity);
        run_all(&fixture, &some_of(&fixture.objects, 1), has_parity);
    }
}

/// One bit of every 16th byte of a small repository.
#[test]
fn a_flipped_bit_anywhere_is_mended_or_contained() {
    for has_parity in [false, true] {
        let fixture = make_small_fixture(has_parity);
        let all = one_bit_of_every_byte(&fixture.objects);
        let some: Vec<_> = all.into_iter().skip(usize::from(has_parity)).step_by(16).collect();
        run_all(&fixture, &some, has_parity);
    }
}

#[test]
#[ignore = "takes some minutes; run it when a repair or a format changes"]
fn a_flipped_bit_in_every_byte_is_mended_or_contained() {
    for has_parity in [false, true] {
        let fixture = make_small_fixture(has_parity);
        run_all(&fixture, &one_bit_of_every_byte(&fixture.objects), has_parity);
    }
}

#[test]
#[ignore = "takes hours; run it when a repair or a format changes"]
fn every_single_bit_is_mended_or_contained() {
    for has_parity in [false, true] {
        let fixture = fixture(has_parity);
        for name in names(&fixture.objects) {
            let bits: Vec<_> = (0..fixture.objects[&name].len() * 8).collect();
            for some in bits.chunks(1000) {
                let flips = some.iter().map(|bit| flipped(&fixture.objects, &name, *bit));
                run_all(fixture, &flips.collect::<Vec<_>>(), has_parity);
            }
        }
    }
}

/// Every byte of a small repository with parity, one bit of each stretch of bytes.
#[test]
fn a_flipped_bit_anywhere_in_a_pack_or_index_object_is_mended() {
    let fixture = fixture(true);
    let mut flips = Vec::new();
    for name in names(&fixture.objects) {
        if matches!(folder_of(&name), "data" | "meta" | "index") {
            let bit_count = fixture.objects[&name].len() * 8;
            flips.extend(
                (3..bit_count).step_by(bit_count / 12).map(|bit| flipped(&fixture.objects, &name, bit)),
            );
        }
    }
    run_all(fixture, &flips, true);
}

/// A repository with one large pack, whose parity can bring back 64 shards and more.
fn large() -> &'static (Objects, ObjectName, BTreeMap<SnapshotId, Files>) {
    static FIXTURE: OnceLock<(Objects, ObjectName, BTreeMap<SnapshotId, Files>)> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let (source, cache) = (scratch(), scratch());
        let storage = MemoryStorage::new();
        let init = InitOptions { kdf: KdfParams::MIN, ..InitOptions::default() };
        let repo = Arc::new(Repo::init(surroundings(&storage, cache.path()), &init, &key(7)).unwrap());
        for number in 0..8 {
            std::fs::write(source.path().join(format!("file-{number}")), noise(5 << 20, number)).unwrap();
        }
        let id = back_up(&repo, source.path(), ParentChoice::Newest);
        let expected = [(id, read_snapshot(&repo, id).unwrap())].into();
        let objects = storage.objects();
        let pack =
            objects.keys().filter(|name| folder_of(name) == "data").max_by_key(|name| objects[*name].len());
        let pack = pack.unwrap().clone();
        (objects, pack, expected)
    })
}

const SHARD: usize = 16 << 10;

/// Different shards of a payload, chosen by a seed.
fn places(payload_len: usize, count: usize, seed: u64) -> BTreeSet<usize> {
    let mut places = BTreeSet::new();
    let mut number = seed << 32;
    while places.len() < count {
        number += 1;
        let hash = blake3::hash(&number.to_le_bytes());
        let random = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap()) as usize;
        places.insert(random % (payload_len / SHARD));
    }
    places
}

/// The large repository with so many bad sectors in its pack.
fn with_bad_sectors(count: usize, seed: u64) -> MemoryStorage {
    let (objects, pack, _) = large();
    let storage = MemoryStorage::from_objects(objects.clone());
    let mut bytes = objects[pack].to_vec();
    let payload_len = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    assert!(payload_len > 32 << 20, "{payload_len}");
    for shard in places(payload_len, count, seed) {
        let at = shard * SHARD + (seed as usize * 512) % (SHARD - 512);
        for byte in &mut bytes[at..at + 512] {
            *byte ^= 0x5a;
        }
    }
    storage.set(pack, bytes);
    storage
}

#[test]
fn up_to_64_bad_sectors_in_a_pack_are_mended() {
    let (objects, _, _) = large();
    for (seed, count) in [1, 2, 3, 7, 15, 31, 48, 64].into_iter().enumerate() {
        let storage = with_bad_sectors(count, seed as u64);
        let cache = scratch();
        let repo = open(&storage, cache.path());
        let report = repaired(&repo);
        assert!(!report.has_damage() && report.done_count() == 1, "{count} places: {report:#?}");
        assert!(storage.objects() == *objects, "{count} places: other bytes than before");
    }
}

#[test]
fn more_bad_sectors_than_parity_can_mend_are_contained() {
    let (objects, pack, expected) = large();
    let cache = scratch();
    let storage = with_bad_sectors(300, 9);
    let repo = open(&storage, cache.path());
    let damaged = storage.objects()[pack].clone();
    let report = repaired(&repo);
    assert!(report.has_damage(), "{report:#?}");
    assert_eq!(storage.objects()[pack], damaged, "nothing wrong was put in its place");
    let (id, files) = expected.iter().next().unwrap();
    let (left, is_whole) = readable(&repo, *id);
    assert!(!is_whole && left.iter().all(|(path, bytes)| files.get(path) == Some(bytes)));
    // The file is put back by somebody: what was stated is taken back.
    storage.set(pack, objects[pack].to_vec());
    let report = repaired(&repo);
    let actions: Vec<_> = report.steps.iter().map(|it| (it.step.action, it.outcome.clone())).collect();
    assert_eq!(actions, [(RepairAction::StateDamage, StepOutcome::Done)]);
    assert!(!report.has_damage(), "{report:#?}");
    assert_eq!(&readable(&repo, *id), &(files.clone(), true));
    let elsewhere = scratch();
    let report = checked(&open(&storage, elsewhere.path()));
    assert_eq!(report.findings, []);
}

#[test]
fn what_a_pack_has_around_its_frames_follows_from_the_index() {
    let fixture = fixture(false);
    let cache = scratch();
    let storage = MemoryStorage::from_objects(fixture.objects.clone());
    let repo = open(&storage, cache.path());
    let packs = fixture.objects.keys().filter(|name| matches!(folder_of(name), "data" | "meta"));
    for (number, name) in packs.enumerate() {
        let mut bytes = fixture.objects[name].to_vec();
        let len = bytes.len();
        // The header, the directory and the tail.
        match number % 3 {
            0 => bytes[..112].fill(0),
            1 => bytes[len - 80] ^= 1,
            _ => bytes.truncate(len - 100),
        }
        storage.set(name, bytes);
    }
    let report = repaired(&repo);
    assert!(!report.has_damage() && report.done_count() == 6, "{report:#?}");
    assert!(storage.objects() == fixture.objects, "other bytes than before");
}

/// A source, a repository with two snapshots of it, and what they hold.
struct Healing {
    source: tempfile::TempDir,
    storage: MemoryStorage,
    expected: BTreeMap<SnapshotId, Files>,
}

impl Healing {
    fn new() -> Self {
        let (source, cache) = (scratch(), scratch());
        let storage = MemoryStorage::new();
        let init = InitOptions { kdf: KdfParams::MIN, parity: false, ..InitOptions::default() };
        let repo = Arc::new(Repo::init(surroundings(&storage, cache.path()), &init, &key(7)).unwrap());
        let mut expected = BTreeMap::new();
        for round in 0..2 {
            for number in 0..4 {
                // The larger ones are frames of their own.
                let bytes = noise(if number < 2 { 4_500_000 } else { 30_000 }, 10 * round + number);
                std::fs::write(source.path().join(format!("file-{round}-{number}")), bytes).unwrap();
            }
            let id = back_up(&repo, source.path(), ParentChoice::Newest);
            expected.insert(id, read_snapshot(&repo, id).unwrap());
        }
        Self { source, storage, expected }
    }

    /// Spoils a byte of every pack of chunks, or of nodes.
    fn spoil(&self, folder: &str) -> usize {
        let objects = self.storage.objects();
        let packs: Vec<_> = objects.keys().filter(|name| folder_of(name) == folder).collect();
        for name in &packs {
            let mut bytes = objects[*name].to_vec();
            bytes[300] ^= 1;
            self.storage.set(name, bytes);
        }
        packs.len()
    }

    fn assert_whole(&self) {
        let cache = scratch();
        let repo = open(&self.storage, cache.path());
        for (id, files) in &self.expected {
            assert_eq!(&read_snapshot(&repo, *id).unwrap(), files);
        }
    }
}

pub fn thorough() -> PruneOptions {
    PruneOptions { max_unused: UnusedLimit::Bytes(0), confirmed: true, ..PruneOptions::default() }
}

#[test]
fn old_snapshots_heal_when_what_they_lost_is_backed_up_again() {
    for folder in ["data", "meta"] {
        let scene = Healing::new();
        let cache = scratch();
        let repo = open(&scene.storage, cache.path());
        assert!(scene.spoil(folder) > 1);
        // Without a repair a backup counts on what it cannot know to be damaged.
        assert!(matches!(
            prune::run(&repo, &thorough(), &Silent::default()),
            Ok(_) | Err(PruneError::ContentMissing { .. } | PruneError::Repo(_))
        ));
        let report = repaired(&repo);
        assert!(report.has_damage());
        assert!(
            report.findings.iter().any(|finding| finding.code == FindingCode::ChunkMissing
                || finding.code == FindingCode::NodeMissing),
            "{report:#?}"
        );
        let outcome = prune::run(&repo, &thorough(), &Silent::default());
        assert!(outcome.is_err(), "{outcome:?}");
        back_up(&repo, scene.source.path(), ParentChoice::Newest);
        if folder == "meta" {
            // The older tree is not on the disk any more: its nodes are met again when it is.
            for number in 0..4 {
                std::fs::remove_file(scene.source.path().join(format!("file-1-{number}"))).unwrap();
            }
            let newest = repo.snapshots().unwrap().snapshots.len();
            assert!(newest >= 3);
            continue;
        }
        scene.assert_whole();
        let report = repaired(&repo);
        assert!(!report.has_damage() && report.done_count() == 0, "{report:#?}");
        // A prune gives the space of the damaged frames back, and what is known of them goes with them.
        prune::run(&repo, &thorough(), &Silent::default()).unwrap();
        let roots: Vec<_> = repo.snapshots().unwrap().snapshots.iter().map(|it| it.root).collect();
        assert!(repo.counts_are_right(&roots).unwrap());
        scene.assert_whole();
        let elsewhere = scratch();
        let report = checked(&open(&scene.storage, elsewhere.path()));
        assert_eq!(report.findings, []);
    }
}

#[test]
fn what_is_left_of_a_pack_that_ends_early_is_stored_again() {
    let scene = Healing::new();
    let cache = scratch();
    let repo = open(&scene.storage, cache.path());
    let objects = scene.storage.objects();
    for name in objects.keys().filter(|name| folder_of(name) == "data") {
        scene.storage.set(name, objects[name][..6_000_000].to_vec());
    }
    let report = repaired(&repo);
    assert!(report.has_damage() && report.snapshots.len() == 2, "{report:#?}");
    // Of each pack one large file is lost, and perhaps the small ones.
    assert!(report.snapshots.iter().all(|kept| kept.lost_count <= 6), "{report:#?}");
    for kept in &report.snapshots {
        let (files, is_whole) = readable(&repo, kept.id.parse().unwrap());
        assert!(is_whole && files.values().any(|bytes| bytes.len() > 4_000_000), "nothing was saved");
    }
    back_up(&repo, scene.source.path(), ParentChoice::Newest);
    scene.assert_whole();
    assert!(!repaired(&repo).has_damage());
    prune::run(&repo, &thorough(), &Silent::default()).unwrap();
    scene.assert_whole();
    let elsewhere = scratch();
    assert_eq!(checked(&open(&scene.storage, elsewhere.path())).findings, []);
}

#[test]
fn what_is_stated_of_damage_outlives_the_index_objects_that_state_it() {
    let scene = Healing::new();
    let cache = scratch();
    let repo = open(&scene.storage, cache.path());
    // A pack of which only a part will be damaged, beside one that will go.
    let extra = scratch();
    std::fs::write(extra.path().join("gone"), noise(300_000, 99)).unwrap();
    let gone = back_up(&repo, extra.path(), ParentChoice::None);
    scene.spoil("data");
    repaired(&repo);
    let list = repo.snapshots().unwrap();
    back_up(&repo, scene.source.path(), ParentChoice::Newest);
    let left: Vec<_> = list.snapshots.iter().filter(|it| it.left_of().is_some()).map(|it| it.id).collect();
    assert!(!left.is_empty());
    let mut doomed = left;
    doomed.push(gone);
    let list = repo.snapshots().unwrap();
    forget::run(&repo, &list, &doomed, &Default::default(), &Silent::default()).unwrap();
    let modest = PruneOptions { max_unused: UnusedLimit::Unlimited, ..thorough() };
    prune::run(&repo, &modest, &Silent::default()).unwrap();
    let elsewhere = scratch();
    let fresh = open(&scene.storage, elsewhere.path());
    let report = checked(&fresh);
    assert!(!report.has_damage(), "{:#?}", report.findings);
    let stated = report.findings.iter().filter(|finding| finding.code == FindingCode::DamageStated);
    assert!(stated.count() > 0, "{:#?}", report.findings);
    scene.assert_whole();
}

#[test]
fn an_index_object_that_cannot_be_read_is_made_up_for_and_goes_with_the_next_prune() {
    let scene = Healing::new();
    let cache = scratch();
    let repo = open(&scene.storage, cache.path());
    let objects = scene.storage.objects();
    let index: Vec<_> = objects.keys().filter(|name| folder_of(name) == "index").collect();
    for name in &index {
        scene.storage.set(name, vec![0; objects[*name].len()]);
    }
    let report = repaired(&repo);
    assert!(!report.has_damage(), "{report:#?}");
    let elsewhere = scratch();
    let report = checked(&open(&scene.storage, elsewhere.path()));
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Note), "{report:#?}");
    let notes = report.findings.iter().filter(|finding| finding.code == FindingCode::IndexObjectDamaged);
    assert_eq!(notes.count(), index.len());
    prune::run(&repo, &thorough(), &Silent::default()).unwrap();
    let elsewhere = scratch();
    let report = checked(&open(&scene.storage, elsewhere.path()));
    assert_eq!(report.findings, []);
    scene.assert_whole();
}

/// A repository whose newest prune has come to the given point, and whose decision is then spoiled.
fn spoil_decision(last: &str) -> (Healing, tempfile::TempDir) {
    let scene = Healing::new();
    let cache = scratch();
    let repo = open(&scene.storage, cache.path());
    let extra = scratch();
    std::fs::write(extra.path().join("gone"), noise(300_000, 99)).unwrap();
    let gone = back_up(&repo, extra.path(), ParentChoice::None);
    let list = repo.snapshots().unwrap();
    forget::run(&repo, &list, &[gone], &Default::default(), &Silent::default()).unwrap();
    let before = scene.storage.objects();
    prune::run(&repo, &thorough(), &Silent::default()).unwrap();
    drop(repo);
    let after = scene.storage.objects();
    // The decision as it was made, beside packs and index objects as they were before it was carried out.
    let storage = MemoryStorage::from_objects(before);
    for ending in ["plan", last] {
        let name = ObjectName::new(format!("prune/00000001.{ending}")).unwrap();
        for name in [object_names::copy(&name), name] {
            let mut bytes = after[&name].to_vec();
            if name.as_str().ends_with(last) {
                bytes.fill(0);
            }
            storage.set(&name, bytes);
        }
    }
    (Healing { storage, ..scene }, scratch())
}

#[test]
fn a_prune_whose_plan_cannot_be_read_is_closed() {
    let (scene, cache) = spoil_decision("plan");
    let repo = open(&scene.storage, cache.path());
    assert!(prune::run(&repo, &thorough(), &Silent::default()).is_err());
    let lease = kluis::repo::Lease::register(&repo, "backup").map(drop);
    assert!(lease.is_err(), "nobody knows what to keep away from");
    let report = repaired(&repo);
    assert!(!report.has_damage() && report.done_count() == 1, "{report:#?}");
    back_up(&repo, scene.source.path(), ParentChoice::Newest);
    let pruned = prune::run(&repo, &thorough(), &Silent::default()).unwrap();
    assert!(pruned.packs_deleted > 0 && pruned.plans[0] == 2, "{pruned:?}");
    scene.assert_whole();
}

#[test]
fn a_prune_whose_verdict_cannot_be_read_is_closed_only_on_a_promise() {
    let (scene, cache) = spoil_decision("verdict");
    let repo = open(&scene.storage, cache.path());
    assert!(prune::run(&repo, &thorough(), &Silent::default()).is_err());
    let report = repaired(&repo);
    assert!(report.has_damage() && report.done_count() == 0, "{report:#?}");
    assert_eq!(report.beyond_repair.len(), 1);
    let options = RepairOptions { exclusive: true, ..RepairOptions::default() };
    let plan = repair::plan(&repo, &options, &Silent::default()).unwrap();
    let report = repair::run(&repo, &plan, &Silent::default()).unwrap();
    assert!(!report.has_damage() && report.done_count() == 1, "{report:#?}");
    back_up(&repo, scene.source.path(), ParentChoice::Newest);
    prune::run(&repo, &thorough(), &Silent::default()).unwrap();
    scene.assert_whole();
}

#[test]
fn a_damaged_snapshot_can_be_forgotten_and_the_next_prune_removes_it() {
    let scene = Healing::new();
    let cache = scratch();
    let repo = open(&scene.storage, cache.path());
    let list = repo.snapshots().unwrap();
    for victim in [&list.snapshots[0], &list.snapshots[1]] {
        let name = object_names::snapshot(&victim.id);
        for name in [object_names::copy(&name), name] {
            scene.storage.set(&name, vec![0; 500]);
        }
    }
    let report = repaired(&repo);
    assert_eq!(report.beyond_repair.len(), 2, "{report:#?}");
    assert!(prune::run(&repo, &thorough(), &Silent::default()).is_err());
    let damaged: Vec<_> = repo.snapshots().unwrap().damaged.iter().map(|(id, _)| *id).collect();
    back_up(&repo, scene.source.path(), ParentChoice::None);
    let list = repo.snapshots().unwrap();
    let forgotten = forget::run(&repo, &list, &damaged, &Default::default(), &Silent::default()).unwrap();
    assert_eq!(forgotten.snapshot_ids.len(), 2);
    prune::run(&repo, &thorough(), &Silent::default()).unwrap();
    let elsewhere = scratch();
    let report = checked(&open(&scene.storage, elsewhere.path()));
    assert!(!report.has_damage(), "{:#?}", report.findings);
}

#[test]
fn what_somebody_removed_on_purpose_does_not_come_back() {
    let fixture = make_fixture(true, true);
    let storage = MemoryStorage::from_objects(fixture.objects.clone());
    let cache = scratch();
    let repo = open(&storage, cache.path());
    // A forgotten snapshot that a prune was removing: its second copy would go first, but whoever knows.
    let dead = repo.snapshots().unwrap().dead[0];
    storage.delete(&object_names::snapshot(&dead)).unwrap();
    let before = storage.objects();
    repaired(&repo);
    assert!(!storage.objects().contains_key(&object_names::snapshot(&dead)));
    assert_eq!(storage.objects(), before);
}

#[test]
fn a_dry_run_changes_nothing() {
    let scene = Healing::new();
    let cache = scratch();
    let repo = open(&scene.storage, cache.path());
    scene.spoil("data");
    let before = scene.storage.objects();
    let plan = repair::plan(&repo, &RepairOptions::default(), &Silent::default()).unwrap();
    assert!(plan.has_damage() && plan.steps.len() >= 3, "{plan:#?}");
    assert_eq!(scene.storage.objects(), before);
}

/// A repository on a disk that cannot read a stretch of one of its objects, after a repair.
fn repaired_on_bad_sectors(name: &ObjectName, bad: ByteRange) -> (RepairReport, bool, MemoryStorage) {
    let storage = MemoryStorage::from_objects(large().0.clone());
    let disk = Arc::new(BadSectors::new(storage.clone(), vec![(name.clone(), bad)]));
    let cache = scratch();
    let around = Surroundings {
        storage: Arc::clone(&disk) as Arc<dyn Storage>,
        ..surroundings(&storage, cache.path())
    };
    let repo = Arc::new(Repo::open(around, &key(7)).unwrap());
    let report = repaired(&repo);
    (report, disk.is_mended(), storage)
}

#[test]
fn sectors_that_cannot_be_read_are_mended_from_parity() {
    let (objects, pack, expected) = large();
    let snapshot = object_names::snapshot(expected.keys().next().unwrap());
    for (name, bad) in [
        (pack, ByteRange { start: 5 << 20, len: 300_000 }),
        (pack, ByteRange { start: objects[pack].len() as u64 - 5000, len: 5000 }),
        (pack, ByteRange { start: 0, len: 4096 }),
        (&snapshot, ByteRange { start: 0, len: 100 }),
    ] {
        let (report, is_mended, storage) = repaired_on_bad_sectors(name, bad);
        assert!(!report.has_damage() && is_mended, "{name} {bad:?}: {report:#?}");
        assert!(storage.objects() == *objects, "{name} {bad:?}: other bytes than before");
    }
    let (report, is_mended, _) = repaired_on_bad_sectors(pack, ByteRange { start: 1 << 20, len: 3 << 20 });
    assert!(report.has_damage() && !is_mended && report.snapshots.len() == 1, "{report:#?}");
}
