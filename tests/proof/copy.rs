//! Copies into another repository, made like the first and not: what arrives is what was sent, whatever stops the copy or
//! works beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kluis::backup::{self, BackupOptions};
use kluis::check::{self, CheckOptions, DataPart};
use kluis::copy::compare::{self, Comparison};
use kluis::copy::{self, CopyError, CopyOptions, CopyReport};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::format::snapshot::Snapshot;
use kluis::id::SnapshotId;
use kluis::index::PackKind;
use kluis::prune::{self, PruneOptions, UnusedLimit};
use kluis::repo::{InitOptions, Repo};
use kluis::storage::{FaultPlan, FaultyStorage, MemoryStorage, Storage};
use tempfile::TempDir;

use crate::crash::{CALL_COUNT_MAX, STOPS, Stop};
use crate::fixture::{Objects, cache_folder, init, init_options, noise, open, options, snapshots, write};
use crate::interlude::InterludeStorage;
use crate::tree::{Tree, assert_same, capture, read_snapshot};

const LARGE_BYTES: usize = 300_000;

/// A repository with a few nights of a large file that changes in every chunk, of small files that change, of one that
/// stays, and of all kinds of other things.
struct Source {
    files: TempDir,
    cache: TempDir,
    storage: MemoryStorage,
    repo: Arc<Repo>,
    trees: BTreeMap<SnapshotId, Tree>,
}

impl Source {
    fn new(nights: u64) -> Self {
        let (files, cache) = (tempfile::tempdir().unwrap(), cache_folder());
        let storage = MemoryStorage::new();
        let repo = init(Arc::new(storage.clone()), cache.path(), &init_options(64 << 10)).unwrap();
        let mut source = Self { files, cache, storage, repo, trees: BTreeMap::new() };
        let root = source.files.path().to_owned();
        write(&root, "stays", &noise(20_000, 7));
        write(&root, "folder/again", &noise(20_000, 7));
        write(&root, "folder/empty", b"");
        std::os::unix::fs::symlink("folder/again", root.join("link")).unwrap();
        for night in 0..nights {
            source.night(night);
        }
        source
    }

    fn night(&mut self, night: u64) -> SnapshotId {
        let root = self.files.path();
        let mut large = noise(LARGE_BYTES, 1);
        large.iter_mut().step_by(3000).for_each(|byte| *byte = night as u8);
        write(root, "large", &large);
        write(root, &format!("folder/{night}/small"), format!("night {night}").as_bytes());
        let options = BackupOptions { base_depth_max: 2, ..options(root) };
        let report = backup::run(&self.repo, &options, &Silent::default()).unwrap();
        let id = report.snapshot_id.unwrap().parse().unwrap();
        self.trees.insert(id, capture(root));
        id
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        snapshots(&self.repo)
    }

    fn copy_to(&self, target: &Arc<Repo>) -> Result<CopyReport, CopyError> {
        copy::run(&self.repo, target, &self.snapshots(), CopyOptions::default(), &Silent::default())
    }

    fn compare_with(&self, target: &Arc<Repo>) -> Comparison {
        compare::run(&self.repo, target, &self.snapshots(), &Silent::default()).unwrap()
    }

    /// Every copy that is there holds what its original does, and says of itself what that says. How many there are.
    fn assert_copies(&self, target: &Arc<Repo>) -> usize {
        let copies = snapshots(target);
        for copy in &copies {
            let original = self.snapshots().into_iter().find(|it| it.id == copy.original()).unwrap();
            assert_eq!(
                (&copy.host, &copy.tags, &copy.paths),
                (&original.host, &original.tags, &original.paths)
            );
            assert_eq!((copy.started_at, copy.series), (original.started_at, original.series));
            assert_same(&self.trees[&original.id], &read_snapshot(target, copy, self.files.path()));
        }
        copies.len()
    }
}

/// A second repository.
struct Target {
    storage: MemoryStorage,
    repo: Arc<Repo>,
    _cache: TempDir,
}

impl Target {
    fn like(source: &Source) -> Self {
        Self::made(InitOptions { like: Some(source.repo.identities().unwrap()), ..init_options(64 << 10) })
    }

    fn stranger() -> Self {
        Self::made(init_options(64 << 10))
    }

    fn made(options: InitOptions) -> Self {
        let (storage, cache) = (MemoryStorage::new(), cache_folder());
        let repo = init(Arc::new(storage.clone()), cache.path(), &options).unwrap();
        Self { storage, repo, _cache: cache }
    }

    fn both(source: &Source) -> [Self; 2] {
        [Self::like(source), Self::stranger()]
    }
}

fn assert_sound(repo: &Arc<Repo>) {
    let options = CheckOptions { directories: true, data: Some(DataPart::All) };
    let report = check::run(repo, &options, &Silent::default()).unwrap();
    assert!(!report.has_damage(), "{:?}", report.findings);
}

fn data_bytes(storage: &MemoryStorage) -> usize {
    let objects = storage.objects();
    objects.iter().filter(|(name, _)| name.as_str().starts_with("data/")).map(|(_, bytes)| bytes.len()).sum()
}

fn thorough() -> PruneOptions {
    PruneOptions { max_unused: UnusedLimit::Bytes(0), confirmed: true, ..PruneOptions::default() }
}

#[test]
fn what_arrives_is_what_was_sent_and_is_sent_once() {
    let mut source = Source::new(3);
    for target in Target::both(&source) {
        let report = source.copy_to(&target.repo).unwrap();
        assert_eq!((report.snapshots.len(), report.already_there, report.failed.len()), (3, 0, 0));
        assert_eq!(source.assert_copies(&target.repo), 3);
        assert_sound(&target.repo);
        let comparison = source.compare_with(&target.repo);
        assert_eq!((comparison.snapshots, comparison.difference_count), (3, 0), "{comparison:?}");
        let before = target.storage.objects();
        let again = source.copy_to(&target.repo).unwrap();
        assert_eq!((again.snapshots.len(), again.already_there, again.bytes_stored), (0, 3, 0));
        assert!(target.storage.objects() == before, "nothing was to be done");
    }
    let targets = Target::both(&source);
    for target in &targets {
        source.copy_to(&target.repo).unwrap();
    }
    source.night(3);
    for target in targets {
        let report = source.copy_to(&target.repo).unwrap();
        assert_eq!((report.snapshots.len(), report.already_there), (1, 3));
        assert!(report.bytes_new < 2 * LARGE_BYTES as u64, "only what is new: {report:?}");
        assert_eq!(source.assert_copies(&target.repo), 4);
    }
}

#[test]
fn between_repositories_that_are_alike_differences_stay_differences() {
    let source = Source::new(4);
    let target = Target::like(&source);
    source.copy_to(&target.repo).unwrap();
    let depths = |repo: &Arc<Repo>| {
        let view = repo.sync_index().unwrap();
        let mut numbers = Vec::new();
        view.visit_packs(&mut |number, row| numbers.extend((row.kind == PackKind::Data).then_some(number)))
            .unwrap();
        let frames = numbers.into_iter().flat_map(|number| view.frames(number).unwrap());
        let mut depths: Vec<_> = frames.map(|frame| frame.depth).filter(|depth| *depth > 0).collect();
        depths.sort_unstable();
        depths
    };
    assert!(!depths(&source.repo).is_empty());
    assert_eq!(depths(&target.repo), depths(&source.repo));
    let (stored, copied) = (data_bytes(&source.storage), data_bytes(&target.storage));
    assert!(copied <= stored + stored / 20, "{copied} bytes of {stored}");
    // The same content has the same ids, and so a snapshot has the same root.
    let roots = |repo| snapshots(repo).iter().map(|it| it.root).collect::<Vec<_>>();
    assert_eq!(roots(&source.repo), roots(&target.repo));
}

#[test]
fn one_snapshot_alone_stands_by_itself() {
    let source = Source::new(3);
    for target in Target::both(&source) {
        let newest = source.snapshots().pop().unwrap();
        let chosen = std::slice::from_ref(&newest);
        copy::run(&source.repo, &target.repo, chosen, CopyOptions::default(), &Silent::default()).unwrap();
        assert_eq!(source.assert_copies(&target.repo), 1);
        assert_sound(&target.repo);
        // Those before it come later, and what they hold is not lost by a prune.
        source.copy_to(&target.repo).unwrap();
        prune::run(&target.repo, &thorough(), &Silent::default()).unwrap();
        assert_eq!(source.assert_copies(&target.repo), 3);
        assert_sound(&target.repo);
    }
}

#[test]
fn a_copy_of_a_copy_is_known_where_it_came_from() {
    let source = Source::new(2);
    let [like, stranger] = Target::both(&source);
    source.copy_to(&stranger.repo).unwrap();
    let chosen = snapshots(&stranger.repo);
    let options = CopyOptions::default();
    let on = copy::run(&stranger.repo, &like.repo, &chosen, options, &Silent::default()).unwrap();
    assert_eq!(on.snapshots.len(), 2);
    assert_eq!(source.assert_copies(&like.repo), 2);
    let back =
        copy::run(&like.repo, &source.repo, &snapshots(&like.repo), options, &Silent::default()).unwrap();
    assert_eq!((back.snapshots.len(), back.already_there), (0, 2));
}

#[test]
fn a_dry_run_stores_nothing() {
    let source = Source::new(2);
    for target in Target::both(&source) {
        let before = target.storage.objects();
        let options = CopyOptions { dry_run: true };
        let report =
            copy::run(&source.repo, &target.repo, &source.snapshots(), options, &Silent::default()).unwrap();
        assert_eq!(report.snapshots.len(), 2);
        assert!(report.bytes_new >= LARGE_BYTES as u64, "{report:?}");
        assert!(target.storage.objects() == before);
    }
}

#[test]
fn a_repository_is_not_copied_into_itself() {
    let source = Source::new(1);
    let outcome = source.copy_to(&source.repo);
    assert!(matches!(outcome, Err(CopyError::Same)), "{outcome:?}");
}

#[test]
fn damage_is_not_copied_and_what_it_does_not_touch_is() {
    let mut source = Source::new(2);
    let damaged = source.snapshots();
    let files = source.files.path().to_owned();
    // A pack of the second night, which the third does not need.
    std::fs::remove_file(files.join("large")).unwrap();
    let report = backup::run(&source.repo, &options(&files), &Silent::default()).unwrap();
    let third: SnapshotId = report.snapshot_id.unwrap().parse().unwrap();
    source.trees.insert(third, capture(&files));
    let reader = kluis::repo::TreeReader::new(Arc::new(source.repo.chunk_reader().unwrap()));
    let path: Vec<_> =
        files.components().skip(1).map(|part| part.as_os_str().as_encoded_bytes().to_vec()).collect();
    let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).chain([b"large".as_slice()]).collect();
    let entry = reader.resolve(damaged[1].root, &path).unwrap().unwrap();
    let chunk = reader.chunks(&entry.content).nth(3).unwrap().unwrap();
    let chunks = reader.chunk_reader();
    let place = chunks.locate(&chunk.id.content()).unwrap().unwrap();
    let (kind, id) = chunks.pack_name(place.pack).unwrap();
    let frame = chunks.frame(place.pack, place.frame).unwrap();
    let name = kluis::repo::names::pack(kind, &id);
    let mut bytes = source.storage.get(&name).unwrap();
    bytes[frame.offset as usize + 20] ^= 1;
    source.storage.set(&name, bytes);
    for target in Target::both(&source) {
        let report = source.copy_to(&target.repo).unwrap();
        let failed: Vec<_> = report.failed.iter().map(|failed| failed.id.parse().unwrap()).collect();
        assert!(failed.contains(&damaged[1].id) && !failed.contains(&third), "{report:?}");
        assert_eq!(source.assert_copies(&target.repo), 3 - failed.len());
        assert_sound(&target.repo);
        let comparison = source.compare_with(&target.repo);
        assert_eq!(comparison.difference_count, failed.len() as u64, "{comparison:?}");
    }
}

/// A comparison that finds nothing proves nothing unless it finds what is there.
#[test]
fn a_comparison_finds_whatever_is_not_the_same() {
    let mut source = Source::new(1);
    let target = Target::like(&source);
    source.copy_to(&target.repo).unwrap();
    let copy = snapshots(&target.repo).pop().unwrap();
    for (what, expected) in [
        ("large", "content"),
        ("folder/0/small", "content"),
        ("link", "metadata"),
        ("folder/empty", "metadata"),
        ("more", "only in the target"),
        ("stays", "missing in the target"),
    ] {
        let files = source.files.path().join(what);
        match what {
            "large" | "folder/0/small" => {
                let mut bytes = std::fs::read(&files).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                let time = std::fs::metadata(&files).unwrap().modified().unwrap();
                std::fs::write(&files, bytes).unwrap();
                std::fs::File::options().write(true).open(&files).unwrap().set_modified(time).unwrap();
            }
            "link" => {
                std::fs::remove_file(&files).unwrap();
                std::os::unix::fs::symlink("elsewhere", &files).unwrap();
            }
            "more" => std::fs::write(&files, b"more").unwrap(),
            "stays" => std::fs::remove_file(&files).unwrap(),
            _ => {
                std::fs::set_permissions(&files, std::os::unix::fs::PermissionsExt::from_mode(0o100)).unwrap()
            }
        }
        // A snapshot of the changed files that claims to be the copy.
        let other = Target::like(&source);
        let report = backup::run(&other.repo, &options(source.files.path()), &Silent::default()).unwrap();
        let id: SnapshotId = report.snapshot_id.unwrap().parse().unwrap();
        let mut liar = other.repo.read_snapshot(id).unwrap().unwrap();
        liar.id = SnapshotId::new([9; 16]);
        (liar.started_at, liar.tags) = (copy.started_at, copy.tags.clone());
        liar.set_copy_of(kluis::format::snapshot::CopyOf { snapshot: copy.original() }).unwrap();
        other.repo.commit_snapshot(&liar).unwrap();
        let comparison = source.compare_with(&other.repo);
        let path = source.files.path().join(what);
        let found = comparison.differences.iter().find(|it| it.path == path);
        let found = found.unwrap_or_else(|| panic!("{what}: {comparison:?}"));
        // The change time of whatever was touched is another one, too.
        assert!(found.message.contains(expected) || found.message.contains("metadata"), "{what}: {found:?}");
    }
    source.trees.clear();
}

#[test]
fn a_copy_stopped_at_any_call_loses_nothing_and_is_gone_on_with() {
    let source = Source::new(2);
    for empty in Target::both(&source) {
        let start = empty.storage.objects();
        let mut count = 0;
        for stop in STOPS {
            for at_call in 0.. {
                assert!(at_call < CALL_COUNT_MAX, "the copy does not end");
                if !stopped_at(&source, &start, stop, at_call) {
                    break;
                }
                count += 1;
            }
        }
        assert!(count > 200, "there were only {count} stops");
    }
}

/// Whether there was anything left to stop.
fn stopped_at(source: &Source, start: &Objects, Stop { fault, power_cut }: &Stop, at_call: u64) -> bool {
    let memory = MemoryStorage::from_objects(start.clone());
    let plan = FaultPlan::death(at_call, *fault);
    let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
    let cache = cache_folder();
    let outcome = open(Arc::clone(&faulty) as Arc<dyn Storage>, cache.path())
        .map_err(CopyError::from)
        .and_then(|target| source.copy_to(&target));
    if let Some(seed) = power_cut {
        faulty.lose_power(seed.wrapping_mul(0x1_0001) + at_call).unwrap();
    }
    let struck = faulty.struck();
    let place = format!("{fault:?} {power_cut:?} at call {at_call} ({struck:?})");
    println!("{place}");
    let fresh_cache = cache_folder();
    let fresh = open(Arc::new(memory.clone()), fresh_cache.path()).unwrap();
    let there = source.assert_copies(&fresh);
    if let Ok(report) = &outcome {
        assert_eq!(there, report.snapshots.len(), "{place}");
    }
    // Gone on with by the same computer, with the cache that the dead process left.
    let again = open(Arc::new(memory.clone()), cache.path()).unwrap();
    let report = source.copy_to(&again).unwrap();
    assert_eq!(report.already_there as usize, there, "{place}");
    assert_eq!(source.assert_copies(&again), 2, "{place}");
    if struck.is_none() {
        outcome.unwrap();
        return false;
    }
    true
}

/// What others do to the target, or to the source, while a copy sleeps.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Copy,
    ForgetAndPrune,
}

impl Meanwhile {
    fn play(self, memory: &MemoryStorage, source: &Arc<Repo>) {
        let cache = cache_folder();
        let target = open(Arc::new(memory.clone()), cache.path()).unwrap();
        match self {
            Self::Copy => {
                let chosen = snapshots(source);
                copy::run(source, &target, &chosen, CopyOptions::default(), &Silent::default()).unwrap();
            }
            Self::ForgetAndPrune => forget_first_and_prune(&target),
        }
    }
}

fn forget_first_and_prune(repo: &Arc<Repo>) {
    let list = repo.snapshots().unwrap();
    let first: Vec<_> = list.snapshots.iter().map(|it| it.id).take(1).collect();
    forget::run(repo, &list, &first, &ForgetOptions::default(), &Silent::default()).unwrap();
    // Whoever it waits for is asleep: then it ends without deleting anything.
    let _ = prune::run(repo, &thorough(), &Silent::default());
    let _ = prune::run(repo, &PruneOptions { exclusive: true, ..thorough() }, &Silent::default());
}

#[test]
fn a_copy_may_sleep_at_any_call_while_others_work_on_the_target() {
    let source = Source::new(3);
    for empty in Target::both(&source) {
        let first = &source.snapshots()[..1];
        copy::run(&source.repo, &empty.repo, first, CopyOptions::default(), &Silent::default()).unwrap();
        let start = empty.storage.objects();
        for meanwhile in [Meanwhile::Copy, Meanwhile::ForgetAndPrune] {
            for at_call in 0..CALL_COUNT_MAX {
                let memory = MemoryStorage::from_objects(start.clone());
                let (inner, repo) = (memory.clone(), Arc::clone(&source.repo));
                let others = move || meanwhile.play(&inner, &repo);
                let storage = Arc::new(InterludeStorage::new(memory.clone(), at_call, others));
                let cache = cache_folder();
                println!("{meanwhile:?} at call {at_call}");
                let target = open(Arc::clone(&storage) as Arc<dyn Storage>, cache.path()).unwrap();
                let report = source.copy_to(&target).unwrap();
                assert!(report.failed.is_empty(), "{report:?}");
                drop(target);
                let fresh_cache = cache_folder();
                let fresh = open(Arc::new(memory.clone()), fresh_cache.path()).unwrap();
                assert!(source.assert_copies(&fresh) >= 2);
                if !storage.was_played() {
                    assert!(at_call > 40, "only {at_call} calls");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_prune_of_the_source_while_it_is_copied_costs_no_more_than_what_it_deleted() {
    let source = Source::new(3);
    let start = source.storage.objects();
    let newest = source.snapshots().pop().unwrap();
    for like in [true, false] {
        for at_call in (0..CALL_COUNT_MAX).step_by(3) {
            let memory = MemoryStorage::from_objects(start.clone());
            let inner = memory.clone();
            let others = move || {
                let cache = cache_folder();
                forget_first_and_prune(&open(Arc::new(inner.clone()), cache.path()).unwrap());
            };
            let storage = Arc::new(InterludeStorage::new(memory, at_call, others));
            let cache = cache_folder();
            let repo = open(Arc::clone(&storage) as Arc<dyn Storage>, cache.path()).unwrap();
            let target = if like { Target::like(&source) } else { Target::stranger() };
            let chosen = std::slice::from_ref(&newest);
            let report =
                copy::run(&repo, &target.repo, chosen, CopyOptions::default(), &Silent::default()).unwrap();
            assert!(report.failed.is_empty(), "at call {at_call}: {report:?}");
            assert_eq!(source.assert_copies(&target.repo), 1);
            if !storage.was_played() {
                assert!(at_call > 6, "only {at_call} calls");
                break;
            }
        }
    }
    drop(source.cache);
}
