//! What the storage cannot read now, and perhaps tomorrow: everything that can go on does, and nothing is deleted because
//! of what nobody could look at.

use std::path::Path;
use std::sync::Arc;

use kluis::backup::ParentChoice;
use kluis::check::FindingCode;
use kluis::check::Severity;
use kluis::event::Silent;
use kluis::forget;
use kluis::prune::{self, PruneError};
use kluis::repo::{Repo, Surroundings};
use kluis::storage::{MemoryStorage, ObjectName, Storage};
use kluis::units::ByteRange;

use crate::bad_sectors::BadSectors;
use crate::repair::{checked, open, repaired, thorough};
use crate::{
    Fixture, back_up, folder_of, key, make_fixture, names, noise, read_snapshot, scratch, surroundings,
};

/// Places on disks of different age.
const SEED_COUNT: u64 = 150;

/// A repository with three snapshots, the first of which is forgotten and not yet pruned, beside the others.
fn scene() -> (Fixture, MemoryStorage) {
    let mut fixture = make_fixture(false, false);
    let storage = MemoryStorage::from_objects(fixture.objects.clone());
    let cache = scratch();
    let repo = open(&storage, cache.path());
    let list = repo.snapshots().unwrap();
    let first = list.snapshots[0].id;
    // What only the newer ones have stays out of the packs of the first.
    forget::run(&repo, &list, &[first], &Default::default(), &Silent::default()).unwrap();
    fixture.expected.remove(&first);
    fixture.objects = storage.objects();
    (fixture, storage)
}

fn open_on(disk: &Arc<BadSectors>, storage: &MemoryStorage, cache: &Path) -> Option<Arc<Repo>> {
    let storage =
        Surroundings { storage: Arc::clone(disk) as Arc<dyn Storage>, ..surroundings(storage, cache) };
    Repo::open(storage, &key(7)).ok().map(Arc::new)
}

fn assert_whole(fixture: &Fixture, storage: &MemoryStorage, what: &str) {
    let cache = scratch();
    let repo = open(storage, cache.path());
    for (id, files) in &fixture.expected {
        assert_eq!(&read_snapshot(&repo, *id).unwrap(), files, "{what}");
    }
}

#[test]
fn an_index_object_that_cannot_be_read_stops_only_prunes() {
    let (fixture, _) = scene();
    let index: Vec<_> =
        names(&fixture.objects).into_iter().filter(|name| folder_of(name) == "index").collect();
    assert!(index.len() > 2);
    let source = scratch();
    std::fs::write(source.path().join("new"), noise(5000, 77)).unwrap();
    for name in &index {
        let storage = MemoryStorage::from_objects(fixture.objects.clone());
        let everywhere = ByteRange { start: 0, len: u64::MAX / 2 };
        let disk = Arc::new(BadSectors::new(storage.clone(), vec![(name.clone(), everywhere)]));
        let cache = scratch();
        let repo = open_on(&disk, &storage, cache.path()).unwrap();
        for (id, files) in &fixture.expected {
            assert_eq!(&read_snapshot(&repo, *id).unwrap(), files);
        }
        back_up(&repo, source.path(), ParentChoice::Newest);
        let report = checked(&repo);
        let damage: Vec<_> = report.findings.iter().filter(|it| it.severity == Severity::Damage).collect();
        assert_eq!(damage.len(), 1, "{report:#?}");
        assert_eq!(
            (damage[0].code, damage[0].object.as_str()),
            (FindingCode::IndexObjectDamaged, name.as_str())
        );
        let before = storage.objects();
        let outcome = prune::run(&repo, &thorough(), &Silent::default());
        assert!(matches!(outcome, Err(PruneError::IndexUnread { .. })), "{outcome:?}");
        assert!(storage.objects() == before, "something was deleted, or made");
        // It was passing: nothing is remembered of it.
        disk.pass();
        let report = checked(&repo);
        assert!(!report.has_damage(), "{report:#?}");
        let pruned = prune::run(&repo, &thorough(), &Silent::default()).unwrap();
        assert!(pruned.packs_deleted > 0, "{pruned:?}");
        drop(repo);
        assert_whole(&fixture, &storage, name.as_str());
    }
}

#[test]
fn an_index_object_that_stays_unreadable_is_made_up_for_by_a_repair_and_goes_with_the_next_prune() {
    let (fixture, _) = scene();
    for name in names(&fixture.objects).into_iter().filter(|name| folder_of(name) == "index") {
        let storage = MemoryStorage::from_objects(fixture.objects.clone());
        let len = fixture.objects[&name].len() as u64;
        for bad in [ByteRange { start: 0, len }, ByteRange { start: len / 2, len: 4 }] {
            let disk = Arc::new(BadSectors::new(storage.clone(), vec![(name.clone(), bad)]));
            let cache = scratch();
            let repo = open_on(&disk, &storage, cache.path()).unwrap();
            let report = repaired(&repo);
            assert!(!report.has_damage() && report.done_count() == 1 && disk.is_mended(), "{report:#?}");
            let again = repaired(&repo);
            assert!(!again.has_damage() && again.done_count() == 0, "{again:#?}");
            prune::run(&repo, &thorough(), &Silent::default()).unwrap();
            assert!(!storage.objects().contains_key(&name), "it is still there");
            assert_eq!(checked(&repo).findings, []);
            drop(repo);
            assert_whole(&fixture, &storage, name.as_str());
            fixture.objects.iter().for_each(|(name, bytes)| storage.set(name, bytes.to_vec()));
        }
    }
}

/// Every object once. What is in a pack is there only once; of everything else there is a second copy, or something that takes
/// its place, or nobody needs it now.
#[test]
fn no_object_that_cannot_be_read_stops_a_backup_and_only_packs_stop_a_restore() {
    let (fixture, _) = scene();
    let source = scratch();
    std::fs::write(source.path().join("new"), noise(5000, 77)).unwrap();
    let options =
        kluis::backup::BackupOptions { sources: vec![source.path().to_owned()], ..Default::default() };
    let mut stopped = Vec::new();
    for name in names(&fixture.objects) {
        let storage = MemoryStorage::from_objects(fixture.objects.clone());
        let everywhere = ByteRange { start: 0, len: u64::MAX / 2 };
        let disk = Arc::new(BadSectors::new(storage.clone(), vec![(name.clone(), everywhere)]));
        let cache = scratch();
        let Some(repo) = open_on(&disk, &storage, cache.path()) else {
            stopped.push(format!("{name}: it does not open"));
            continue;
        };
        let is_pack = matches!(folder_of(&name), "data" | "meta");
        for (id, files) in &fixture.expected {
            match read_snapshot(&repo, *id) {
                Ok(read) => assert_eq!(&read, files, "{name}"),
                Err(_) if is_pack => {}
                Err(error) => stopped.push(format!("{name}: {error:?}")),
            }
        }
        if let Err(error) = kluis::backup::run(&repo, &options, &Silent::default()) {
            stopped.push(format!("{name}: {error:?}"));
        }
        let checked = kluis::check::run(&repo, &crate::ALL, &Silent::default());
        stopped.extend(checked.err().map(|error| format!("{name}: check: {error:?}")));
    }
    assert!(stopped.is_empty(), "{}", stopped.join("\n"));
}

/// Some stretches of some objects, other ones for each seed.
fn bad_places(objects: &crate::Objects, seed: u64) -> Vec<(ObjectName, ByteRange)> {
    let dice = noise(64, 1000 + seed);
    let number = |at: usize| u64::from(u16::from_le_bytes([dice[2 * at], dice[2 * at + 1]]));
    let names = names(objects);
    let place = |at: usize| {
        let name = names[number(at) as usize % names.len()].clone();
        let len = objects[&name].len() as u64;
        let start = number(at + 1) % len;
        (name, ByteRange { start, len: 1 + number(at + 2) % len })
    };
    (0..1 + number(31) as usize % 4).map(|at| place(3 * at)).collect()
}

#[test]
fn errors_that_pass_lose_nothing_whatever_was_done_meanwhile() {
    let (fixture, _) = scene();
    let source = scratch();
    std::fs::write(source.path().join("new"), noise(5000, 77)).unwrap();
    let (mut failures, mut pruned, mut opened) = (0, 0, 0);
    for seed in 0..SEED_COUNT {
        let storage = MemoryStorage::from_objects(fixture.objects.clone());
        let places = bad_places(&fixture.objects, seed);
        let what = format!("seed {seed}: {places:?}");
        let disk = Arc::new(BadSectors::new(storage.clone(), places));
        let cache = scratch();
        if let Some(repo) = open_on(&disk, &storage, cache.path()) {
            opened += 1;
            for (id, files) in &fixture.expected {
                if let Ok(read) = read_snapshot(&repo, *id) {
                    assert_eq!(&read, files, "{what}");
                }
            }
            let options = kluis::backup::BackupOptions {
                sources: vec![source.path().to_owned()],
                ..Default::default()
            };
            let _ = kluis::backup::run(&repo, &options, &Silent::default());
            let _ = kluis::check::run(&repo, &crate::ALL, &Silent::default());
            pruned += usize::from(prune::run(&repo, &thorough(), &Silent::default()).is_ok());
        }
        failures += usize::from(disk.failures() > 0);
        disk.pass();
        assert_whole(&fixture, &storage, &what);
        let repo = open_on(&disk, &storage, cache.path()).unwrap();
        prune::run(&repo, &thorough(), &Silent::default()).unwrap();
        let report = checked(&repo);
        assert!(!report.has_damage(), "{what}: {report:#?}");
        drop(repo);
        assert_whole(&fixture, &storage, &what);
    }
    assert!(
        failures > 100 && pruned > 20 && opened > 100,
        "{failures} failed, {pruned} pruned, {opened} opened"
    );
}
