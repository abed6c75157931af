//! A check compares the reference counts of the local index with the nodes themselves; and what is gone and not needed
//! is no damage.

use std::path::Path;
use std::sync::Arc;

use kluis::check::{self, CheckOptions, CheckReport, FindingCode, Severity};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::id::SnapshotId;
use kluis::index::counts::{ChildId, Durable};
use kluis::prune::{self, PruneOptions};
use kluis::repo::Repo;
use kluis::storage::{MemoryStorage, Storage};
use tempfile::TempDir;

use crate::fixture::{
    Chance, back_up_well, cache_folder, init, init_in_memory, noise, open, options_of_several_packs,
    snapshot_of, write, write_pack,
};

fn checked(repo: &Arc<Repo>) -> CheckReport {
    check::run(repo, &CheckOptions::default(), &Silent::default()).unwrap()
}

fn codes(report: &CheckReport) -> Vec<(FindingCode, Severity)> {
    report.findings.iter().map(|found| (found.code, found.severity)).collect()
}

fn count(repo: &Arc<Repo>) {
    repo.count_snapshots(&repo.snapshots().unwrap(), &Silent::default()).unwrap();
}

fn forget(repo: &Arc<Repo>, id: SnapshotId) {
    let list = repo.snapshots().unwrap();
    forget::run(repo, &list, &[id], &ForgetOptions::default(), &Silent::default()).unwrap();
}

/// A repository with three snapshots that share some files, of which copies exist; two of them are counted.
fn counted() -> (MemoryStorage, Arc<Repo>, TempDir, TempDir) {
    let (cache, source) = (cache_folder(), tempfile::tempdir().unwrap());
    let (storage, repo) = init_in_memory(cache.path(), 64 << 10);
    for round in 0..3 {
        let mut chance = Chance(round);
        for at in 0..30 {
            let len = 1 + chance.below(30_000) as usize;
            write(source.path(), &format!("{}/{at}", at % 4), &noise(len, chance.below(40)));
        }
        // What differs a little rests on what it was.
        let mut dump = noise(2_000_000, 90);
        dump.iter_mut().step_by(4000).for_each(|byte| *byte = round as u8);
        write(source.path(), "dump", &dump);
        // The same names and bytes in two folders are one node with two parents.
        write(source.path(), "same/a/b", b"same");
        write(source.path(), "also/a/b", b"same");
        back_up_well(&repo, source.path());
        if round == 1 {
            count(&repo);
        }
    }
    assert!(repo.sync_index().unwrap().has_bases());
    (storage, repo, source, cache)
}

#[test]
fn counts_that_are_kept_are_compared_and_those_that_are_not_are_not() {
    let (storage, repo, ..) = counted();
    let report = checked(&repo);
    assert_eq!((codes(&report), report.counts_checked), (vec![], true));
    let ids: Vec<_> = repo.snapshots().unwrap().snapshots.iter().map(|snapshot| snapshot.id).collect();
    forget(&repo, ids[1]);
    let report = checked(&repo);
    assert_eq!((codes(&report), report.counts_checked), (vec![], true));
    prune::run(&repo, &PruneOptions { confirmed: true, ..PruneOptions::default() }, &Silent::default())
        .unwrap();
    let report = checked(&repo);
    assert_eq!((codes(&report), report.counts_checked), (vec![], true));
    let other = cache_folder();
    let other_repo = open(Arc::new(storage), other.path()).unwrap();
    let report = checked(&other_repo);
    assert_eq!((codes(&report), report.counts_checked), (vec![], false), "nobody counted there");
}

#[test]
fn counts_that_fit_together_and_not_the_nodes_are_found_and_made_again() {
    let (_storage, repo, ..) = counted();
    let last = repo.snapshots().unwrap().snapshots.pop().unwrap();
    let index = repo.counted_index().unwrap();
    let mut counting = index.begin_counting().unwrap();
    counting.apply_root(last.id, ChildId { id: last.root.content(), node: Some(0) }).unwrap();
    // As if every node of the last snapshot that is new were empty: nothing in the index contradicts that.
    loop {
        let nodes = counting.nodes_to_read(100);
        if nodes.is_empty() {
            break;
        }
        nodes.iter().for_each(|node| counting.add_children(node, &[]).unwrap());
    }
    counting.commit(Durable::Now).unwrap();
    index.audit_counts().unwrap();
    drop(index);
    let report = checked(&repo);
    assert_eq!(codes(&report), [(FindingCode::LocalIndexWrong, Severity::Note)], "{:?}", report.findings);
    assert!(!report.has_damage());
    let roots: Vec<_> = repo.snapshots().unwrap().snapshots.iter().map(|snapshot| snapshot.root).collect();
    count(&repo);
    assert!(repo.counts_are_right(&roots).unwrap());
    let report = checked(&repo);
    assert_eq!((codes(&report), report.counts_checked), (vec![], true));
}

/// The file of the index in a cache folder.
fn index_file(cache: &Path) -> std::path::PathBuf {
    let mut folders = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    folders.find(|path| path.is_dir()).unwrap().join("index.redb")
}

#[test]
fn bytes_that_are_flipped_in_the_index_are_never_damage_of_the_repository() {
    let (storage, repo, _source, cache) = counted();
    count(&repo);
    drop(repo);
    let path = index_file(cache.path());
    let good = std::fs::read(&path).unwrap();
    let mut chance = Chance(5);
    let mut found = 0;
    for _ in 0..60 {
        let mut bytes = good.clone();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        // Much of the file is free or hardly ever read, so that one place would mostly cost nothing.
        (0..10).for_each(|_| bytes[chance.below(used) as usize] ^= 1 << chance.below(8));
        std::fs::write(&path, &bytes).unwrap();
        let repo = open(Arc::new(storage.clone()), cache.path()).unwrap();
        let report = checked(&repo);
        assert!(!report.has_damage(), "{:?}", report.findings);
        let is_note = |code: FindingCode| code == FindingCode::LocalIndexWrong;
        assert!(codes(&report).iter().all(|(code, _)| is_note(*code)), "{:?}", report.findings);
        found += codes(&report).len();
    }
    assert!(found > 0, "none of 60 was found");
}

#[test]
fn a_pack_that_is_gone_and_not_needed_is_a_note() {
    let (cache, source) = (cache_folder(), tempfile::tempdir().unwrap());
    let storage = MemoryStorage::new();
    let repo = init(Arc::new(storage.clone()), cache.path(), &options_of_several_packs()).unwrap();
    write_pack(source.path(), "kept", 1);
    let first = snapshot_of(&repo, &back_up_well(&repo, source.path()));
    let before = storage.objects();
    write_pack(source.path(), "gone", 2);
    let second = snapshot_of(&repo, &back_up_well(&repo, source.path()));
    let is_new = |name: &&kluis::storage::ObjectName| {
        name.as_str().starts_with("data/") && !before.contains_key(*name)
    };
    let new: Vec<_> = storage.objects().keys().filter(is_new).cloned().collect();
    assert!(!new.is_empty());
    new.iter().for_each(|name| storage.delete(name).unwrap());
    let report = checked(&repo);
    assert!(report.has_damage());
    let missing = report.findings.iter().filter(|found| found.code == FindingCode::PackMissing);
    assert!(missing.clone().count() > 0);
    for found in missing {
        assert_eq!((found.severity, found.snapshots.as_slice()), (Severity::Damage, [second.id].as_slice()));
    }
    forget(&repo, second.id);
    let report = checked(&repo);
    assert!(!report.has_damage(), "{:?}", report.findings);
    let missing: Vec<_> = new.iter().map(|_| (FindingCode::PackMissing, Severity::Note)).collect();
    assert_eq!(codes(&report), missing);
    assert_eq!(repo.snapshots().unwrap().snapshots[0].id, first.id);
}
