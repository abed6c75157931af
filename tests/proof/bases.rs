//! Frames that rest on earlier versions: what they save, that they restore, and that prune keeps what they rest on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kluis::backup::{self, BackupOptions, BackupReport, ParentChoice};
use kluis::check::repair::{self, RepairOptions};
use kluis::check::{self, CheckOptions, DataPart};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::id::{ContentId, SnapshotId};
use kluis::index::{PackKind, PackRow};
use kluis::prune::{self, PruneOptions, PruneReport, UnusedLimit};
use kluis::repo::Repo;
use kluis::storage::{MemoryStorage, Storage};
use tempfile::TempDir;

use crate::fixture::{back_up_well, cache_folder, init_in_memory, noise, options, snapshots, write};
use crate::tree::{Tree, assert_same, capture, read_snapshot};

/// Bytes of the file that changes every night: several chunks and more than one part of it.
const DUMP_BYTES: usize = 9 << 20;
const DEPTH_MAX: u8 = 2;

/// A dump of some night: the same noise with a few bytes changed in every chunk, and some inserted at the front.
fn dump(night: u64) -> Vec<u8> {
    let mut bytes = noise(night as usize * 1000, 99);
    let mut rest = noise(DUMP_BYTES, 1);
    for at in (0..rest.len()).step_by(10_000) {
        rest[at] = night as u8;
    }
    bytes.append(&mut rest);
    bytes
}

pub struct Nights {
    storage: MemoryStorage,
    source: TempDir,
    cache: TempDir,
    pub repo: Arc<Repo>,
}

impl Nights {
    pub fn new() -> Self {
        let (source, cache) = (tempfile::tempdir().unwrap(), cache_folder());
        let (storage, repo) = init_in_memory(cache.path(), 1 << 20);
        Self { storage, source, cache, repo }
    }

    pub fn root(&self) -> &Path {
        self.source.path()
    }

    pub fn back_up(&self, base_depth_max: u8) -> BackupReport {
        let options = BackupOptions { base_depth_max, ..options(self.root()) };
        backup::run(&self.repo, &options, &Silent::default()).unwrap()
    }

    /// How many frames of chunks lie how deep.
    pub fn data_depths(&self) -> Vec<usize> {
        self.depths(PackKind::Data)
    }

    fn depths(&self, kind: PackKind) -> Vec<usize> {
        let view = self.repo.sync_index().unwrap();
        let mut numbers = Vec::new();
        view.visit_packs(&mut |number, row| numbers.extend((row.kind == kind).then_some(number))).unwrap();
        let mut depths = Vec::new();
        for frame in numbers.into_iter().flat_map(|number| view.frames(number).unwrap()) {
            assert_eq!(frame.depth > 0, !frame.bases.is_empty());
            let depth = usize::from(frame.depth);
            depths.resize(depths.len().max(depth + 1), 0);
            depths[depth] += 1;
        }
        depths
    }

    /// Of all frames of files that rest on others: how deep, which codec, how long, on what.
    fn differences(&self) -> Vec<(u8, u8, u32, u32, Vec<ContentId>)> {
        let view = self.repo.sync_index().unwrap();
        let mut numbers = Vec::new();
        let mut add = |number, pack: PackRow| numbers.extend((pack.kind == PackKind::Data).then_some(number));
        view.visit_packs(&mut add).unwrap();
        let frames = numbers.into_iter().flat_map(|number| view.frames(number).unwrap());
        let described = frames.filter(|frame| frame.depth > 0);
        let mut all: Vec<_> = described
            .map(|frame| (frame.depth, frame.codec, frame.plain_len, frame.stored_len, frame.bases))
            .collect();
        all.sort();
        all
    }

    fn data_packs(&self) -> BTreeMap<String, usize> {
        let objects = self.storage.objects();
        let packs = objects.iter().filter(|(name, _)| name.as_str().starts_with("data/"));
        packs.map(|(name, bytes)| (name.as_str().to_owned(), bytes.len())).collect()
    }

    fn forget(&self, ids: &[SnapshotId]) {
        let list = self.repo.snapshots().unwrap();
        forget::run(&self.repo, &list, ids, &ForgetOptions::default(), &Silent::default()).unwrap();
    }

    /// Prunes until nothing is left that is not needed.
    fn prune_all(&self) -> PruneReport {
        let thorough =
            PruneOptions { max_unused: UnusedLimit::Bytes(0), confirmed: true, ..PruneOptions::default() };
        let report = prune::run(&self.repo, &thorough, &Silent::default()).unwrap();
        let again = prune::run(&self.repo, &thorough, &Silent::default()).unwrap();
        assert_eq!((again.packs_deleted, again.bytes_unused), (0, 0));
        report
    }

    fn assert_newest_is(&self, tree: &Tree) {
        let newest = snapshots(&self.repo).pop().unwrap();
        assert_same(tree, &read_snapshot(&self.repo, &newest, self.root()));
        self.assert_sound();
    }

    fn stored_bytes(&self, prefix: &str) -> usize {
        let objects = self.storage.objects();
        objects.iter().filter(|(name, _)| name.as_str().starts_with(prefix)).map(|(_, it)| it.len()).sum()
    }

    fn meta_bytes(&self) -> usize {
        self.stored_bytes("meta/")
    }

    pub fn assert_sound(&self) {
        let options = CheckOptions { directories: true, data: Some(DataPart::All) };
        let report = check::run(&self.repo, &options, &Silent::default()).unwrap();
        assert!(!report.has_damage(), "{:?}", report.findings);
    }
}

#[test]
fn a_file_that_changes_in_every_chunk_is_stored_as_its_difference() {
    let nights = Nights::new();
    write(nights.root(), "dump", &dump(0));
    nights.back_up(DEPTH_MAX);
    assert_eq!(nights.data_depths().len(), 1);
    let mut trees = vec![capture(nights.root())];
    for night in 1..6 {
        write(nights.root(), "dump", &dump(night));
        let report = nights.back_up(DEPTH_MAX);
        assert!(report.bytes_new > DUMP_BYTES as u64 / 2, "most chunks differ");
        if night <= u64::from(DEPTH_MAX) {
            assert!(report.bytes_stored < DUMP_BYTES as u64 / 20, "{night}: {report:?}");
        }
        trees.push(capture(nights.root()));
    }
    assert_eq!(nights.data_depths().len(), usize::from(DEPTH_MAX) + 1, "no frame lies deeper");
    for (tree, snapshot) in trees.iter().zip(snapshots(&nights.repo)) {
        assert_same(tree, &read_snapshot(&nights.repo, &snapshot, nights.root()));
    }
    nights.assert_sound();
}

#[test]
fn small_files_that_changed_share_frames_that_rest_on_their_earlier_versions() {
    let nights = Nights::new();
    let contents = |number: u64, night: u8| {
        let mut bytes = noise(3000, 50 + number);
        bytes[1500] = night;
        bytes
    };
    for number in 0..100 {
        write(nights.root(), &format!("small/{number}"), &contents(number, 0));
    }
    nights.back_up(DEPTH_MAX);
    for number in 0..50 {
        write(nights.root(), &format!("small/{number}"), &contents(number, 1));
    }
    write(nights.root(), "small/new", &noise(3000, 49));
    let report = nights.back_up(DEPTH_MAX);
    assert!(report.bytes_new > 50 * 3000 && report.bytes_stored < 50 * 3000 / 3, "{report:?}");
    // One frame holds all that changed; what is new lies elsewhere.
    assert_eq!(nights.data_depths().get(1), Some(&1));
    let newest = snapshots(&nights.repo).pop().unwrap();
    assert_same(&capture(nights.root()), &read_snapshot(&nights.repo, &newest, nights.root()));
    nights.assert_sound();
}

#[test]
fn files_far_apart_rest_on_nothing_and_many_of_a_frame_do() {
    // One frame of eight megabytes; opening it for a single file of 12 KiB is out of all proportion.
    let nights = Nights::new();
    let file = |number: usize, night: u64| {
        let mut bytes = noise(12 << 10, 100 + number as u64);
        bytes[5000] = night as u8;
        bytes
    };
    let write_file = |number: usize, night: u64| {
        let name = format!("{number:03}");
        write(nights.root(), &name, &file(number, night));
    };
    (0..600).for_each(|number| write_file(number, 1));
    nights.back_up(DEPTH_MAX);
    write_file(300, 2);
    nights.back_up(DEPTH_MAX);
    assert_eq!(nights.data_depths().get(1), None, "one file");
    (0..100).for_each(|number| write_file(number * 6, 3));
    let report = nights.back_up(DEPTH_MAX);
    assert!(nights.data_depths().get(1).is_some_and(|count| *count > 0), "a hundred files");
    assert!(report.bytes_stored < 600 << 10, "{report:?}");
    nights.assert_newest_is(&capture(nights.root()));
}

#[test]
fn damage_to_a_base_is_told_of_every_snapshot_that_rests_on_it() {
    let nights = Nights::new();
    write(nights.root(), "dump", &dump(0));
    nights.back_up(DEPTH_MAX);
    let first = nights.storage.objects();
    for night in 1..3 {
        write(nights.root(), "dump", &dump(night));
        nights.back_up(DEPTH_MAX);
    }
    let ids: BTreeSet<_> = snapshots(&nights.repo).iter().map(|snapshot| snapshot.id).collect();
    // All that the first night stored of the file.
    for (name, bytes) in first.iter().filter(|(name, _)| name.as_str().starts_with("data/")) {
        let mut bytes = bytes.to_vec();
        let end = bytes.len() - 2000;
        bytes[500..end].fill(7);
        nights.storage.replace(name, &bytes).unwrap();
    }
    let affected = || {
        let options = CheckOptions { directories: false, data: Some(DataPart::All) };
        let report = check::run(&nights.repo, &options, &Silent::default()).unwrap();
        assert!(report.has_damage());
        let found = report.findings.iter().flat_map(|finding| finding.snapshots.iter().copied());
        found.filter(|id| ids.contains(id)).collect::<BTreeSet<_>>()
    };
    assert_eq!(affected(), ids);
    // Also when it is stated that the base is lost, and no pack is damaged any more as far as is known.
    let plan = repair::plan(&nights.repo, &RepairOptions::default(), &Silent::default()).unwrap();
    repair::run(&nights.repo, &plan, &Silent::default()).unwrap();
    assert_eq!(affected(), ids);
    // The newest heals by being stored again.
    let newest = snapshots(&nights.repo).into_iter().rfind(|snapshot| ids.contains(&snapshot.id)).unwrap();
    let options = BackupOptions { parent: ParentChoice::None, ..options(nights.root()) };
    backup::run(&nights.repo, &options, &Silent::default()).unwrap();
    assert!(!affected().contains(&newest.id));
    assert_same(&capture(nights.root()), &read_snapshot(&nights.repo, &newest, nights.root()));
}

#[test]
fn without_bases_everything_stands_by_itself() {
    let nights = Nights::new();
    for night in 0..2 {
        write(nights.root(), "dump", &dump(night));
        nights.back_up(0);
    }
    assert_eq!(nights.data_depths().len(), 1);
}

#[test]
fn what_does_not_resemble_its_earlier_version_stands_by_itself() {
    let nights = Nights::new();
    for night in 0..2 {
        write(nights.root(), "file", &noise(1 << 20, night));
        write(nights.root(), "text", format!("{:?}", noise(10_000, 50 + night)).as_bytes());
        nights.back_up(DEPTH_MAX);
    }
    assert_eq!(nights.data_depths().len(), 1);
}

#[test]
fn a_prune_keeps_what_the_snapshots_that_are_left_rest_on() {
    let nights = Nights::new();
    let mut trees = Vec::new();
    for night in 0..4 {
        write(nights.root(), "dump", &dump(night));
        write(nights.root(), &format!("only/{night}"), &noise(100_000, 200 + night));
        nights.back_up(DEPTH_MAX);
        trees.push(capture(nights.root()));
        std::fs::remove_file(nights.root().join(format!("only/{night}"))).unwrap();
    }
    // Oldest first: the newest rests on all of them.
    for left in (1..4).rev() {
        nights.forget(&[snapshots(&nights.repo)[0].id]);
        nights.prune_all();
        let live = snapshots(&nights.repo);
        assert_eq!(live.len(), left);
        for (tree, snapshot) in trees.iter().skip(4 - left).zip(&live) {
            assert_same(tree, &read_snapshot(&nights.repo, snapshot, nights.root()));
        }
        nights.assert_sound();
    }
    // And goes on from there.
    write(nights.root(), "dump", &dump(9));
    back_up_well(&nights.repo, nights.root());
    let newest = snapshots(&nights.repo).pop().unwrap();
    assert_same(&capture(nights.root()), &read_snapshot(&nights.repo, &newest, nights.root()));
    assert!(nights.cache.path().exists());
}

#[test]
fn a_prune_moves_differences_as_they_are_and_what_they_rest_on_before_them() {
    let nights = Nights::new();
    for night in 0..4 {
        write(nights.root(), "dump", &dump(night));
        // Shares a pack with the difference, and is not needed when that is.
        write(nights.root(), &format!("only/{night}"), &noise(300_000, 200 + night));
        nights.back_up(3);
        std::fs::remove_file(nights.root().join(format!("only/{night}"))).unwrap();
        nights.back_up(3);
    }
    let tree = capture(nights.root());
    let (before, packs) = (nights.differences(), nights.data_packs());
    assert_eq!(
        before.iter().map(|difference| difference.0).collect::<BTreeSet<_>>(),
        BTreeSet::from([1, 2, 3])
    );
    // Every dump stays, and nothing of what was beside it.
    let forgotten: Vec<_> = snapshots(&nights.repo).iter().step_by(2).map(|snapshot| snapshot.id).collect();
    nights.forget(&forgotten);
    let report = nights.prune_all();
    assert!(report.packs_rewritten >= 4, "{report:?}");
    assert_eq!(nights.differences(), before);
    let after = nights.data_packs();
    assert!(after.values().sum::<usize>() + 4 * 300_000 < packs.values().sum::<usize>() + 20_000);
    nights.assert_newest_is(&tree);
}

#[test]
fn of_a_difference_that_is_partly_needed_the_rest_still_rests_on_its_bases() {
    let nights = Nights::new();
    let contents = |number: u64, night: u8| {
        let mut bytes = noise(30_000, 50 + number);
        bytes[1500] = night;
        bytes
    };
    for night in 0..2 {
        for number in 0..40 {
            write(nights.root(), &format!("small/{number}"), &contents(number, night));
        }
        nights.back_up(DEPTH_MAX);
    }
    // The one frame of the second night holds all of them.
    let before = nights.differences();
    assert_eq!(before.len(), 1);
    for number in 0..20 {
        std::fs::remove_file(nights.root().join(format!("small/{number}"))).unwrap();
    }
    nights.back_up(DEPTH_MAX);
    let tree = capture(nights.root());
    nights.forget(&[snapshots(&nights.repo)[1].id]);
    nights.prune_all();
    let after = nights.differences();
    let ([before], [after]) = (before.as_slice(), after.as_slice()) else { panic!("{after:?}") };
    assert_eq!((before.0, &before.4), (after.0, &after.4));
    assert!(after.2 < before.2 * 2 / 3, "{} of {} bytes", after.2, before.2);
    nights.assert_newest_is(&tree);
}

#[test]
fn a_difference_is_stored_plainly_where_its_bases_are_kept_for_it_alone_and_cost_more_than_it_saves() {
    let nights = Nights::new();
    write(nights.root(), "dump", &dump(0));
    nights.back_up(DEPTH_MAX);
    // What is left of it rests on more than itself.
    let mut part = dump(0)[..5 << 20].to_vec();
    (0..part.len()).step_by(10_000).for_each(|at| part[at] = 77);
    write(nights.root(), "dump", &part);
    write(nights.root(), "only", &noise(300_000, 200));
    nights.back_up(DEPTH_MAX);
    assert_eq!(nights.depths(PackKind::Data).len(), 2);
    std::fs::remove_file(nights.root().join("only")).unwrap();
    nights.back_up(DEPTH_MAX);
    let tree = capture(nights.root());
    let forgotten: Vec<_> = snapshots(&nights.repo).iter().take(2).map(|snapshot| snapshot.id).collect();
    nights.forget(&forgotten);
    nights.prune_all();
    assert_eq!(nights.depths(PackKind::Data).len(), 1);
    assert!(nights.data_packs().values().sum::<usize>() < part.len() * 11 / 10);
    nights.assert_newest_is(&tree);
}

/// A thousand small files in folders of fifty, of which one in each second folder changes every night.
fn write_folders(root: &Path, night: u64) {
    for number in 0..1000 {
        let seed = if number % 100 == 7 { 10_000 + 1000 * night + number } else { number };
        write(root, &format!("{}/file-{number}", number / 50), &noise(100, seed));
    }
}

#[test]
fn folders_that_changed_are_stored_as_their_differences() {
    let nights = Nights::new();
    write_folders(nights.root(), 0);
    nights.back_up(DEPTH_MAX);
    let first = nights.meta_bytes();
    let mut trees = vec![capture(nights.root())];
    for night in 1..5 {
        // Only what is different is written again, so that all other entries stay as they are.
        for number in (7..1000).step_by(100) {
            let name = format!("{}/file-{number}", number / 50);
            write(nights.root(), &name, &noise(100, 10_000 + 1000 * night + number));
        }
        let before = nights.meta_bytes();
        nights.back_up(DEPTH_MAX);
        if night <= u64::from(DEPTH_MAX) {
            // Ten folders of twenty: half of it all.
            assert!(nights.meta_bytes() - before < first / 5, "{night}");
        }
        trees.push(capture(nights.root()));
    }
    assert_eq!(nights.depths(PackKind::Meta).len(), usize::from(DEPTH_MAX) + 1, "no frame lies deeper");
    for (tree, snapshot) in trees.iter().zip(snapshots(&nights.repo)) {
        assert_same(tree, &read_snapshot(&nights.repo, &snapshot, nights.root()));
    }
    nights.assert_sound();
}

#[test]
fn a_folder_that_is_only_a_base_does_not_keep_what_was_in_it() {
    let nights = Nights::new();
    write_folders(nights.root(), 0);
    for folder in 0..20 {
        write(nights.root(), &format!("{folder}/large"), &noise(200_000, 5000 + folder));
    }
    nights.back_up(DEPTH_MAX);
    for folder in 0..20 {
        std::fs::remove_file(nights.root().join(format!("{folder}/large"))).unwrap();
    }
    nights.back_up(DEPTH_MAX);
    assert!(nights.depths(PackKind::Meta).len() > 1, "the new folders rest on the old ones");
    let tree = capture(nights.root());
    let thorough =
        PruneOptions { max_unused: UnusedLimit::Bytes(0), confirmed: true, ..PruneOptions::default() };
    prune::run(&nights.repo, &thorough, &Silent::default()).unwrap();
    let before = nights.stored_bytes("data/");
    let list = nights.repo.snapshots().unwrap();
    let oldest = snapshots(&nights.repo)[0].id;
    forget::run(&nights.repo, &list, &[oldest], &ForgetOptions::default(), &Silent::default()).unwrap();
    prune::run(&nights.repo, &thorough, &Silent::default()).unwrap();
    assert!(nights.stored_bytes("data/") + 20 * 200_000 <= before + 100_000, "what was deleted is gone");
    let again = prune::run(&nights.repo, &thorough, &Silent::default()).unwrap();
    assert_eq!((again.packs_deleted, again.bytes_unused), (0, 0));
    nights.assert_sound();
    let left = snapshots(&nights.repo).pop().unwrap();
    assert_same(&tree, &read_snapshot(&nights.repo, &left, nights.root()));
    // What was deleted comes back: the old folders are needed as folders again, with all that is in them.
    for folder in 0..20 {
        write(nights.root(), &format!("{folder}/large"), &noise(200_000, 5000 + folder));
    }
    nights.back_up(DEPTH_MAX);
    prune::run(&nights.repo, &thorough, &Silent::default()).unwrap();
    nights.assert_sound();
    let newest = snapshots(&nights.repo).pop().unwrap();
    assert_same(&capture(nights.root()), &read_snapshot(&nights.repo, &newest, nights.root()));
}
