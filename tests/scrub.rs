//! A scrub finds every byte that is not what was stored, without a key.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kluis::backup::{self, BackupOptions};
use kluis::check::scrub::{self, ScrubOptions, ScrubReport};
use kluis::check::{CheckError, FindingCode, Severity};
use kluis::clock::SystemClock;
use kluis::crypto::{KdfParams, Secret};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::prune::{self, PruneOptions};
use kluis::repo::{Identity, InitOptions, Lease, Repo, RepoError, Surroundings, UnlockSecret};
use kluis::storage::{MemoryStorage, ObjectName, Storage};

type Objects = BTreeMap<ObjectName, Arc<[u8]>>;

/// A small repository in which there is an object of every kind: settings, a slot, a keyring, packs, index objects, a
/// snapshot, a tombstone, leases, a forget record, and the decisions of a prune with their bodies.
fn every_kind(has_parity: bool) -> Objects {
    let cache = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    let storage = MemoryStorage::new();
    let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
    let around = Surroundings {
        storage: Arc::new(storage.clone()),
        cache: cache.path().to_owned(),
        clock: Arc::new(SystemClock),
        identity,
    };
    let options = InitOptions { parity: has_parity, kdf: KdfParams::MIN, ..InitOptions::default() };
    let secret = UnlockSecret::KeyFile(Secret::new([7; 32]));
    let repo = Arc::new(Repo::init(around, &options, &secret).unwrap());
    let back_up = |bytes: &[u8]| {
        std::fs::write(source.path().join("file"), bytes).unwrap();
        let options = BackupOptions { sources: vec![source.path().to_owned()], ..BackupOptions::default() };
        backup::run(&repo, &options, &Silent::default()).unwrap();
    };
    back_up(b"first");
    back_up(b"second");
    let list = repo.snapshots().unwrap();
    let ids = [list.snapshots[0].id];
    forget::run(&repo, &list, &ids, &ForgetOptions::default(), &Silent::default()).unwrap();
    // A writer at work, for which the prune waits, so that its plan stays open and its body is there.
    let lease = Lease::register(&repo, "backup").unwrap();
    let prune = PruneOptions { confirmed: true, ..PruneOptions::default() };
    let report = prune::run(&repo, &prune, &Silent::default()).unwrap();
    assert_eq!(report.waiting.len(), 1);
    let before = storage.objects();
    prune::run(&repo, &PruneOptions { exclusive: true, ..prune }, &Silent::default()).unwrap();
    let mut objects = storage.objects();
    drop(lease);
    // What a finished prune has removed.
    let is_removed =
        |name: &ObjectName| name.as_str().starts_with("body/") || name.as_str().starts_with("lease/");
    objects.extend(before.into_iter().filter(|(name, _)| is_removed(name)));
    let folders: BTreeSet<_> = objects.keys().map(|name| name.as_str().split('/').next().unwrap()).collect();
    let all = [
        "README", "body", "config", "copy", "data", "forget", "index", "keyring", "lease", "meta", "prune",
        "reserve", "slot", "snapshot",
    ];
    assert_eq!(folders, BTreeSet::from(all));
    for end in [".plan", ".verdict", ".done"] {
        assert!(objects.keys().any(|name| name.as_str().ends_with(end)), "{end}");
    }
    assert!(objects.keys().filter(|name| name.as_str().starts_with("snapshot/")).count() > 1);
    objects
}

fn scrubbed(storage: &dyn Storage) -> Result<ScrubReport, CheckError> {
    scrub::run(storage, ScrubOptions::default(), &Silent::default())
}

fn scrub_objects(objects: &Objects) -> ScrubReport {
    scrubbed(&MemoryStorage::from_objects(objects.clone())).unwrap()
}

/// What nothing proves, because it holds nothing.
fn holds_nothing(name: &ObjectName) -> bool {
    name.as_str() == "reserve"
}

#[test]
fn a_good_repository_is_clean_and_every_byte_is_read() {
    for has_parity in [true, false] {
        let objects = every_kind(has_parity);
        let report = scrub_objects(&objects);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        let read = objects.iter().filter(|(name, _)| !holds_nothing(name));
        assert_eq!(report.objects_read, read.clone().count() as u64);
        assert_eq!(report.bytes_read, read.map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
        let unproven = objects.iter().filter(|(name, _)| name.as_str().starts_with("lease/"));
        let unproven: u64 = unproven.map(|(_, bytes)| bytes.len() as u64).sum();
        assert_eq!(report.bytes_unproven, if has_parity { 0 } else { unproven });
        assert!(unproven > 0);
    }
}

/// Flips bytes of every object, one at a time, and says how many flips were tried and which were not found.
fn undetected(objects: &Objects, step: usize) -> (usize, Vec<(String, usize)>) {
    let storage = MemoryStorage::from_objects(objects.clone());
    let mut tried = 0;
    let mut missed = Vec::new();
    for (name, bytes) in objects.iter().filter(|(name, _)| !holds_nothing(name)) {
        // Small objects at many places, long ones at some, and always at both ends.
        let step = (bytes.len() / 90).max(step);
        for at in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (at % 8);
            storage.set(name, flipped);
            let report = scrubbed(&storage).unwrap();
            tried += 1;
            let is_found = match name.as_str() {
                "README" => report.findings.iter().any(|found| found.code == FindingCode::ReadmeDiffers),
                _ => report.has_damage(),
            };
            let about = |found: &kluis::check::Finding| {
                found.object == name.as_str() || name.as_str().ends_with(&found.object)
            };
            if !is_found || !report.findings.iter().any(about) {
                missed.push((name.to_string(), at));
            }
        }
        storage.set(name, Arc::clone(bytes));
    }
    (tried, missed)
}

#[test]
fn every_flipped_byte_is_found_and_named() {
    let (tried, missed) = undetected(&every_kind(true), 1);
    assert_eq!(missed, []);
    assert!(tried > 2000, "{tried} flips are too few to mean anything");
}

#[test]
fn without_parity_only_leases_are_not_proven() {
    let (tried, missed) = undetected(&every_kind(false), 3);
    let others: Vec<_> = missed.iter().filter(|(name, _)| !name.starts_with("lease/")).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(tried > 800, "{tried} flips are too few to mean anything");
}

#[test]
fn whatever_is_cut_emptied_swapped_or_longer_is_found() {
    let objects = every_kind(true);
    let mut names: Vec<_> = objects.keys().filter(|name| !holds_nothing(name)).collect();
    names.retain(|name| name.as_str() != "README");
    for name in &names {
        let bytes = &objects[*name];
        let cuts = [0, 1, 8, 60, 112, bytes.len() / 2, bytes.len() - 1].map(|len| bytes.get(..len));
        let longer = [&bytes[..], b"more"].concat();
        for changed in cuts.into_iter().flatten().chain([longer.as_slice()]) {
            let mut damaged = objects.clone();
            damaged.insert((*name).clone(), changed.into());
            assert!(scrub_objects(&damaged).has_damage(), "{name} with {} bytes", changed.len());
        }
    }
    // Objects of one folder that take each other's places are whole, and not what their names say. Without a key that
    // shows only where a name is a hash, or where there is a copy.
    for pair in names.windows(2) {
        let [one, other] = pair else { continue };
        if objects[*one] == objects[*other] || one.as_str().starts_with("lease/") {
            continue;
        }
        let mut damaged = objects.clone();
        damaged.insert((*one).clone(), objects[*other].clone());
        damaged.insert((*other).clone(), objects[*one].clone());
        assert!(scrub_objects(&damaged).has_damage(), "{one} and {other}");
    }
}

#[test]
fn what_is_gone_and_has_a_copy_is_damage_and_a_missing_copy_a_note() {
    let objects = every_kind(true);
    let copied = objects.keys().filter_map(|name| name.as_str().strip_prefix("copy/"));
    let copied: Vec<_> = copied.map(|name| ObjectName::new(name).unwrap()).collect();
    assert!(copied.len() > 5);
    for name in copied {
        let mut damaged = objects.clone();
        damaged.remove(&name);
        let report = scrub_objects(&damaged);
        let [found] = report.findings.as_slice() else { panic!("{name}: {:?}", report.findings) };
        assert_eq!((found.code, found.is_mendable), (FindingCode::OriginalMissing, true));
        let copy = ObjectName::new(format!("copy/{name}")).unwrap();
        let mut damaged = objects.clone();
        damaged.remove(&copy);
        let report = scrub_objects(&damaged);
        let [found] = report.findings.as_slice() else { panic!("{name}: {:?}", report.findings) };
        assert_eq!((found.code, found.severity), (FindingCode::CopyDamaged, Severity::Note));
    }
}

#[test]
fn damage_within_the_parity_of_what_is_named_by_its_hash_is_called_mendable() {
    let objects = every_kind(true);
    for folder in ["data/", "meta/", "index/", "forget/", "body/"] {
        let (name, bytes) = objects.iter().find(|(name, _)| name.as_str().starts_with(folder)).unwrap();
        let mut damaged = objects.clone();
        let mut flipped = bytes.to_vec();
        flipped[130] ^= 4;
        damaged.insert(name.clone(), flipped.into());
        let report = scrub_objects(&damaged);
        assert!(report.findings.iter().all(|found| found.is_mendable), "{:?}", report.findings);
        assert!(report.has_damage());
    }
}

#[test]
fn names_that_no_object_has_are_damage_and_unfinished_files_are_not() {
    let mut objects = every_kind(true);
    objects.insert(ObjectName::new("tmp/1").unwrap(), b"half".as_slice().into());
    assert!(!scrub_objects(&objects).has_damage());
    objects.insert(ObjectName::new("data/00/nothing").unwrap(), b"x".as_slice().into());
    objects.insert(ObjectName::new("copy/README").unwrap(), b"x".as_slice().into());
    let report = scrub_objects(&objects);
    let codes: Vec<_> = report.findings.iter().map(|found| found.code).collect();
    assert_eq!(codes, [FindingCode::NameUnparsable; 2]);
}

#[test]
fn an_empty_place_holds_no_repository() {
    let error = scrubbed(&MemoryStorage::new()).unwrap_err();
    assert!(matches!(error, CheckError::Repo(RepoError::NoRepository { .. })), "{error:?}");
}

#[test]
fn a_part_leaves_packs_out_and_says_so() {
    let objects = every_kind(true);
    let storage = MemoryStorage::from_objects(objects.clone());
    let options = ScrubOptions { percent: Some(0.01) };
    let report = scrub::run(&storage, options, &Silent::default()).unwrap();
    let is_pack =
        |name: &&ObjectName| name.as_str().starts_with("data/") || name.as_str().starts_with("meta/");
    let packs = objects.keys().filter(is_pack).count() as u64;
    assert_eq!((report.packs_read, report.packs_skipped), (1, packs - 1));
    assert!(!report.has_damage());
}
