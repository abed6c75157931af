//! Pruning: stopped at every call to the storage, asleep at every call while others work, beside writers that use what
//! is being doomed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kluis::backup::{self, BackupError, BackupOptions};
use kluis::check::{self, CheckOptions, DataPart};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::id::SnapshotId;
use kluis::prune::{self, PruneError, PruneOptions, PruneReport, UnusedLimit};
use kluis::repo::{Repo, RepoError};
use kluis::storage::{Afterwards, Calls, Fault, FaultPlan, FaultyStorage, MemoryStorage, Storage};
use tempfile::TempDir;

use crate::crash::{CALL_COUNT_MAX, STOPS, Stop};
use crate::fixture::{
    Objects, back_up, back_up_well, cache_folder, init, init_options, noise, open, options, snapshots, write,
};
use crate::interlude::InterludeStorage;
use crate::tree::{Tree, assert_same, capture, read_snapshot};

/// Everything that is not needed is rewritten away.
fn thorough() -> PruneOptions {
    PruneOptions { max_unused: UnusedLimit::Bytes(0), confirmed: true, ..PruneOptions::default() }
}

/// A repository with several snapshots, of which some are forgotten: some packs are not needed at all, of some a part.
struct Scene {
    source: TempDir,
    start: Objects,
    trees: Arc<BTreeMap<SnapshotId, Tree>>,
}

impl Scene {
    /// With a file that rests on what it was the night before.
    fn new() -> Self {
        Self::made(true)
    }

    /// Without bases, so that it is known which pack holds what.
    fn plain() -> Self {
        Self::made(false)
    }

    fn made(has_bases: bool) -> Self {
        let source = tempfile::tempdir().unwrap();
        let root = source.path().to_owned();
        let storage = MemoryStorage::new();
        let cache = cache_folder();
        let repo = init(Arc::new(storage.clone()), cache.path(), &init_options(64 << 10)).unwrap();
        let mut trees = BTreeMap::new();
        let mut ids = Vec::new();
        for night in 0..4u64 {
            write(&root, "stays", &noise(50_000, 1));
            write(&root, "often", &noise(60_000, 100 + night));
            if has_bases {
                let mut dump = noise(300_000, 2);
                dump.iter_mut().step_by(10_000).for_each(|byte| *byte = night as u8);
                write(&root, "dump", &dump);
            }
            write(&root, &format!("once-{night}"), &noise(40_000, 200 + night));
            for small in 0..20u64 {
                let seed = if small % 4 == night { 1000 * night + small } else { small };
                write(&root, &format!("folder/{small}"), &noise(700, 5000 + seed));
            }
            let base_depth_max = if has_bases { 3 } else { 0 };
            let options = BackupOptions { base_depth_max, ..options(&root) };
            let report = backup::run(&repo, &options, &Silent::default()).unwrap();
            let id: SnapshotId = report.snapshot_id.unwrap().parse().unwrap();
            trees.insert(id, capture(&root));
            ids.push(id);
            std::fs::remove_file(root.join(format!("once-{night}"))).unwrap();
        }
        assert_eq!(repo.sync_index().unwrap().has_bases(), has_bases);
        let list = repo.snapshots().unwrap();
        let doomed = [ids[0], ids[2]];
        forget::run(&repo, &list, &doomed, &ForgetOptions::default(), &Silent::default()).unwrap();
        Self { source, start: storage.objects(), trees: Arc::new(trees) }
    }

    fn memory(&self) -> MemoryStorage {
        MemoryStorage::from_objects(self.start.clone())
    }
}

fn run(repo: &Arc<Repo>, options: &PruneOptions) -> Result<PruneReport, PruneError> {
    prune::run(repo, options, &Silent::default())
}

/// Every live snapshot holds what was on the disk when it was made; a new one, the tree as it is.
fn assert_live(repo: &Arc<Repo>, trees: &BTreeMap<SnapshotId, Tree>, source: &Path, place: &str) -> usize {
    let live = snapshots(repo);
    let now = capture(source);
    for snapshot in &live {
        let tree = trees.get(&snapshot.id).unwrap_or(&now);
        assert_same(tree, &read_snapshot(repo, snapshot, source));
    }
    assert!(live.len() >= 2, "{place}: a snapshot is gone");
    live.len()
}

fn assert_sound(repo: &Arc<Repo>, place: &str) {
    let options = CheckOptions { directories: true, data: Some(DataPart::All) };
    let report = check::run(repo, &options, &Silent::default()).unwrap();
    assert!(!report.has_damage(), "{place}: {:?}", report.findings);
}

/// After two prunes nothing is left that is not needed.
fn assert_clean_after_two(memory: &MemoryStorage, cache: &Path, place: &str) {
    let repo = open(Arc::new(memory.clone()), cache).unwrap();
    // Whoever slept or died is not waited for.
    let patient_enough = PruneOptions { silence: std::time::Duration::ZERO, ..thorough() };
    for _ in 0..2 {
        let report = run(&repo, &patient_enough).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        assert!(report.waiting.is_empty(), "{place}: {:?}", report.waiting);
    }
    let last = run(&repo, &thorough()).unwrap();
    assert_eq!((last.packs_deleted, last.bytes_unused), (0, 0), "{place}");
    let objects = memory.objects();
    let left = |folder: &str| objects.keys().filter(|name| name.as_str().starts_with(folder)).count();
    assert_eq!((left("body/"), left("lease/")), (0, 0), "{place}");
    let list = repo.snapshots().unwrap();
    assert!(list.dead.is_empty(), "{place}: forgotten snapshots are still there");
}

#[test]
fn a_prune_frees_what_nobody_needs_and_keeps_the_rest() {
    let scene = Scene::plain();
    let memory = scene.memory();
    let cache = cache_folder();
    let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
    let size = |memory: &MemoryStorage| memory.objects().values().map(|bytes| bytes.len()).sum::<usize>();
    let before = size(&memory);
    let planned = run(&repo, &PruneOptions { dry_run: true, ..thorough() }).unwrap();
    assert_eq!(size(&memory), before, "a dry run writes nothing");
    let report = run(&repo, &thorough()).unwrap();
    assert!(
        report.packs_deleted > 1 && report.packs_rewritten > 0 && planned.packs_deleted > 0,
        "{report:?}"
    );
    // Two nights each had 40,000 bytes of their own, and 60,000 that the next night replaced.
    assert!(before - size(&memory) > 190_000, "{before} {}", size(&memory));
    assert_eq!(assert_live(&repo, &scene.trees, scene.source.path(), "after"), 2);
    assert_sound(&repo, "after");
    assert_eq!(report.snapshots_removed, 2);
    let again = run(&repo, &thorough()).unwrap();
    assert_eq!((again.packs_deleted, again.plans), (0, vec![]));
    assert_clean_after_two(&memory, cache_folder().path(), "after");
}

/// Lets a prune meet a fault at each call in turn, and perhaps a power cut then. Returns how many faults there were.
fn fail_at_every_call(scene: &Scene, plan: impl Fn(u64) -> FaultPlan, power_cut: Option<u64>) -> usize {
    for at_call in 0..CALL_COUNT_MAX {
        let memory = scene.memory();
        let plan = plan(at_call);
        let faulty = Arc::new(FaultyStorage::with_plan(Arc::new(memory.clone()), plan));
        let cache = cache_folder();
        let outcome = open(Arc::clone(&faulty) as Arc<dyn Storage>, cache.path())
            .map_err(PruneError::from)
            .and_then(|repo| run(&repo, &thorough()));
        if let Some(seed) = power_cut {
            faulty.lose_power(seed.wrapping_mul(0x1_0001) + at_call).unwrap();
        }
        let struck = faulty.struck();
        let place = format!("{plan:?}, {power_cut:?} ({})", struck.clone().unwrap_or("none".to_owned()));
        println!("{place}");
        let fresh_cache = cache_folder();
        let fresh = open(Arc::new(memory.clone()), fresh_cache.path()).unwrap();
        assert_live(&fresh, &scene.trees, scene.source.path(), &place);
        // Once with what the process left in its cache, once without it.
        let next = if at_call % 2 == 0 { cache.path() } else { fresh_cache.path() };
        drop(fresh);
        let repo = open(Arc::new(memory.clone()), next).unwrap();
        back_up_well(&repo, scene.source.path());
        drop(repo);
        assert_clean_after_two(&memory, next, &place);
        let repo = open(Arc::new(memory.clone()), next).unwrap();
        assert_eq!(assert_live(&repo, &scene.trees, scene.source.path(), &place), 3, "{place}");
        assert_sound(&repo, &place);
        if struck.is_none() {
            outcome.unwrap();
            return at_call as usize;
        }
    }
    panic!("the prune does not end");
}

#[test]
fn packs_of_nodes_are_rewritten_while_packs_of_chunks_are() {
    let source = tempfile::tempdir().unwrap();
    let (memory, cache) = (MemoryStorage::new(), cache_folder());
    let repo = init(Arc::new(memory.clone()), cache.path(), &init_options(640 << 10)).unwrap();
    // Folders whose nodes are large and do not compress well: several frames in a pack, and several packs.
    for folder in 0..100u64 {
        write(source.path(), &format!("{folder}/file"), &noise(20_000, 5000 + folder));
        for link in 0..25u64 {
            let target: String =
                noise(1000, folder * 25 + link).iter().map(|byte| format!("{byte:02x}")).collect();
            std::os::unix::fs::symlink(target, source.path().join(format!("{folder}/{link}"))).unwrap();
        }
    }
    back_up_well(&repo, source.path());
    for folder in (0..100).step_by(9) {
        std::fs::remove_dir_all(source.path().join(folder.to_string())).unwrap();
    }
    back_up_well(&repo, source.path());
    let oldest = snapshots(&repo)[0].id;
    let list = repo.snapshots().unwrap();
    forget::run(&repo, &list, &[oldest], &ForgetOptions::default(), &Silent::default()).unwrap();
    let report = run(&repo, &thorough()).unwrap();
    assert!(report.packs_rewritten >= 4, "{report:?}");
    let newest = snapshots(&repo).pop().unwrap();
    assert_same(&capture(source.path()), &read_snapshot(&repo, &newest, source.path()));
    assert_sound(&repo, "after");
}

#[test]
fn a_prune_stopped_at_any_call_loses_nothing() {
    let scene = Scene::new();
    let stop = |stop: &Stop| {
        fail_at_every_call(&scene, |at_call| FaultPlan::death(at_call, stop.fault), stop.power_cut)
    };
    let count: usize = STOPS.iter().map(stop).sum();
    assert!(count > 300, "there were only {count} stops");
}

#[test]
fn a_storage_that_refuses_any_one_call_costs_this_prune_and_no_more() {
    let scene = Scene::new();
    let denied =
        |at_call| FaultPlan { calls: Calls::All, at_call, fault: Fault::Denied, then: Afterwards::Fine };
    assert!(fail_at_every_call(&scene, denied, None) > 50);
}

#[test]
fn a_disk_that_is_full_from_any_moment_on_costs_this_prune_and_no_more() {
    let scene = Scene::new();
    for then in [Afterwards::Fine, Afterwards::Same] {
        let full = |at_call| FaultPlan { calls: Calls::Changes, at_call, fault: Fault::OutOfSpace, then };
        assert!(fail_at_every_call(&scene, full, None) > 20);
    }
}

/// What happens while somebody sleeps, by others with caches of their own.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Prune,
    ExclusivePrune,
    Backup,
    BackupAndPrunes,
    ForgetAndPrune,
}

impl Meanwhile {
    const ALL: [Meanwhile; 5] =
        [Self::Prune, Self::ExclusivePrune, Self::Backup, Self::BackupAndPrunes, Self::ForgetAndPrune];

    fn play(self, memory: &MemoryStorage, source: &Path) {
        let cache = cache_folder();
        let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
        let exclusive = PruneOptions { exclusive: true, ..thorough() };
        match self {
            Self::Prune => drop(run(&repo, &thorough()).unwrap()),
            Self::ExclusivePrune => drop(run(&repo, &exclusive).unwrap()),
            Self::Backup => drop(back_up_well(&repo, source)),
            Self::BackupAndPrunes => {
                back_up_well(&repo, source);
                run(&repo, &exclusive).unwrap();
                run(&repo, &thorough()).unwrap();
            }
            Self::ForgetAndPrune => {
                let list = repo.snapshots().unwrap();
                let oldest: Vec<_> = list.snapshots.iter().take(1).map(|snapshot| snapshot.id).collect();
                forget::run(&repo, &list, &oldest, &ForgetOptions::default(), &Silent::default()).unwrap();
                run(&repo, &exclusive).unwrap();
            }
        }
    }
}

/// What sleeps: works on a source, and says what went wrong.
type Sleeper<'a> = &'a dyn Fn(&Arc<Repo>, &Path) -> Result<(), String>;

/// Puts the operation to sleep before each of its calls in turn, lets others work, wakes it, and looks.
fn asleep_at_every_call(scene: &Scene, meanwhile: Meanwhile, operation: Sleeper<'_>) -> usize {
    for at_call in 0.. {
        assert!((at_call as u64) < CALL_COUNT_MAX, "the operation does not end");
        let memory = scene.memory();
        let (inner, source): (_, PathBuf) = (memory.clone(), scene.source.path().to_owned());
        let others = move || meanwhile.play(&inner, &source);
        let storage = Arc::new(InterludeStorage::new(memory.clone(), at_call as u64, others));
        let cache = cache_folder();
        let place = format!("{meanwhile:?} at call {at_call}");
        println!("{place}");
        let repo = open(Arc::clone(&storage) as Arc<dyn Storage>, cache.path()).unwrap();
        let outcome = operation(&repo, scene.source.path());
        drop(repo);
        if !storage.was_played() {
            outcome.unwrap();
            return at_call;
        }
        if let Err(error) = outcome {
            panic!("{place}: {error}");
        }
        let fresh_cache = cache_folder();
        let fresh = open(Arc::new(memory.clone()), fresh_cache.path()).unwrap();
        let live: BTreeSet<_> = snapshots(&fresh).iter().map(|snapshot| snapshot.id).collect();
        let now = capture(scene.source.path());
        for snapshot in snapshots(&fresh) {
            let tree = scene.trees.get(&snapshot.id).unwrap_or(&now);
            assert_same(tree, &read_snapshot(&fresh, &snapshot, scene.source.path()));
        }
        assert!(!live.is_empty(), "{place}");
        drop(fresh);
        assert_clean_after_two(&memory, fresh_cache.path(), &place);
        let fresh = open(Arc::new(memory.clone()), fresh_cache.path()).unwrap();
        assert_sound(&fresh, &place);
    }
    unreachable!("the loop ends by returning");
}

#[test]
fn a_prune_may_sleep_at_any_call_while_others_work() {
    let scene = Scene::new();
    for meanwhile in Meanwhile::ALL {
        let count = asleep_at_every_call(&scene, meanwhile, &|repo, _| match run(repo, &thorough()) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error:?}")),
        });
        assert!(count > 25, "{meanwhile:?}: only {count} calls");
    }
}

#[test]
fn a_backup_may_sleep_at_any_call_while_others_work() {
    let scene = Scene::new();
    // What only forgotten snapshots hold is met again by this backup, in packs that are being doomed.
    write(scene.source.path(), "once-0", &noise(40_000, 200));
    write(scene.source.path(), "again", &noise(60_000, 102));
    for meanwhile in Meanwhile::ALL {
        let count = asleep_at_every_call(&scene, meanwhile, &|repo, source| match back_up(repo, source) {
            Ok(report) if report.snapshot_id.is_some() => Ok(()),
            Ok(report) => Err(format!("no snapshot: {report:?}")),
            Err(BackupError::Repo(RepoError::Storage(_) | RepoError::MissingContent { .. })) => Ok(()),
            Err(error) => Err(format!("{error:?}")),
        });
        assert!(count > 25, "{meanwhile:?}: only {count} calls");
    }
}

#[test]
fn a_prune_waits_for_a_writer_that_has_not_spoken_and_goes_on_when_it_has_ended() {
    let scene = Scene::new();
    let memory = scene.memory();
    let writer_cache = cache_folder();
    let writer = open(Arc::new(memory.clone()), writer_cache.path()).unwrap();
    let lease = kluis::repo::Lease::register(&writer, "backup").unwrap();
    let cache = cache_folder();
    let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
    let report = run(&repo, &thorough()).unwrap();
    assert_eq!(report.waiting.iter().map(|it| it.host.as_str()).collect::<Vec<_>>(), ["host"]);
    assert_eq!((report.packs_deleted, report.snapshots_removed), (0, 0));
    lease.end().unwrap();
    let report = run(&repo, &thorough()).unwrap();
    assert!(report.waiting.is_empty() && report.packs_deleted > 0);
    assert_live(&repo, &scene.trees, scene.source.path(), "after");
}

#[test]
fn a_writer_that_acknowledges_a_plan_keeps_what_it_uses_and_uses_nothing_else_of_it() {
    use kluis::index::PackKind;
    use kluis::repo::{ChunkWriter, Lease, WriterOptions};

    let scene = Scene::plain();
    let memory = scene.memory();
    let writer_cache = cache_folder();
    let writing = open(Arc::new(memory.clone()), writer_cache.path()).unwrap();
    let lease = Lease::register(&writing, "backup").unwrap();
    let (view, _, _) = writing.writer_view(lease.excluded()).unwrap();
    let options = WriterOptions::default();
    let writer = ChunkWriter::start(&writing, lease.id(), Arc::new(view), options);
    lease.watch(&writer);
    // Chunks of what only forgotten snapshots hold: some are claimed before the plan, the others after it.
    let ids = forgotten_chunks(&writing);
    assert!(ids.len() > 3, "{}", ids.len());
    let (used, unused) = ids.split_at(ids.len() / 2);
    assert!(used.iter().all(|id| writer.is_known(id).unwrap()));
    let cache = cache_folder();
    let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
    let report = run(&repo, &thorough()).unwrap();
    assert_eq!(report.waiting.len(), 1);
    lease.beat().unwrap();
    // What was said once is said again in every sign of life.
    lease.beat().unwrap();
    let known: Vec<_> = unused.iter().filter(|id| writer.is_known(id).unwrap()).collect();
    assert!(known.len() < unused.len(), "what is doomed is not used any more");
    let report = run(&repo, &thorough()).unwrap();
    assert!(report.packs_spared >= 1, "{report:?}");
    let view = repo.reader_view().unwrap();
    assert!(used.iter().all(|id| view.holds(id).unwrap()), "what was used is still there");
    let mut frames = writer.frame_writer(PackKind::Data);
    frames.begin();
    frames.finish().unwrap();
    drop(frames);
    writer.finish().unwrap();
    assert_live(&repo, &scene.trees, scene.source.path(), "after");
}

/// Ids of chunks that only forgotten snapshots refer to.
fn forgotten_chunks(repo: &Arc<Repo>) -> Vec<kluis::id::ContentId> {
    use kluis::repo::TreeReader;
    let list = repo.snapshots().unwrap();
    let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
    let chunks_of = |root| {
        let mut found = BTreeSet::new();
        let mut pending = vec![kluis::repo::NodeRef::Directory(root)];
        while let Some(node) = pending.pop() {
            let kluis::repo::NodeRef::Directory(id) = node else { continue };
            let references = kluis::repo::references(reader.read_directory_node(id).unwrap());
            found.extend(references.chunks.iter().map(|chunk| chunk.id.content()));
            pending.extend(references.nodes);
        }
        found
    };
    let live: BTreeSet<_> = list.snapshots.iter().flat_map(|snapshot| chunks_of(snapshot.root)).collect();
    let dead = list.dead.iter().map(|id| repo.read_snapshot(*id).unwrap().unwrap());
    let dead: BTreeSet<_> = dead.flat_map(|snapshot| chunks_of(snapshot.root)).collect();
    dead.difference(&live).copied().collect()
}

#[test]
fn a_writer_that_was_fenced_begins_again_and_commits() {
    let scene = Scene::new();
    let memory = scene.memory();
    let (inner, cache) = (memory.clone(), cache_folder());
    // The last calls of a backup: at each the fence falls just before.
    let calls = {
        let storage = Arc::new(InterludeStorage::new(scene.memory(), u64::MAX, || ()));
        let repo = open(Arc::clone(&storage) as Arc<dyn Storage>, cache_folder().path()).unwrap();
        back_up_well(&repo, scene.source.path());
        storage.call_count()
    };
    let fence = move || Meanwhile::ExclusivePrune.play(&inner, Path::new("/"));
    let storage = Arc::new(InterludeStorage::new(memory.clone(), calls - 12, fence));
    let repo = open(Arc::clone(&storage) as Arc<dyn Storage>, cache.path()).unwrap();
    let report = backup::run(&repo, &options(scene.source.path()), &Silent::default()).unwrap();
    assert!(storage.was_played() && report.snapshot_id.is_some());
    assert_eq!(assert_live(&repo, &scene.trees, scene.source.path(), "after"), 3);
}

#[test]
fn the_lease_of_a_writer_that_died_after_its_commit_is_removed_also_when_its_snapshot_is_forgotten() {
    let scene = Scene::new();
    let memory = scene.memory();
    let cache = cache_folder();
    let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
    let list = repo.snapshots().unwrap();
    for id in list.snapshots.iter().map(|snapshot| &snapshot.id).chain(&list.dead) {
        memory.set(&kluis::repo::names::lease(id, 0), b"what it said does not matter".to_vec());
    }
    let report = run(&repo, &thorough()).unwrap();
    assert!(report.waiting.is_empty() && report.packs_deleted > 0, "{report:?}");
    assert!(memory.objects().keys().all(|name| !name.as_str().starts_with("lease/")));
}

/// What is counted refers to these numbers: a pack that lost its own would be counted anew, one chunk after the other.
#[test]
fn a_pack_that_stays_keeps_its_local_number_although_its_index_object_goes() {
    let scene = Scene::new();
    let memory = scene.memory();
    let cache = cache_folder();
    let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
    let numbers = |repo: &Arc<Repo>| {
        let mut numbers = BTreeMap::new();
        let view = repo.sync_index().unwrap();
        view.visit_packs(&mut |number, row| {
            numbers.insert(row.id, number);
        })
        .unwrap();
        (numbers, BTreeMap::from_iter(view.described_packs().unwrap()))
    };
    let (before, described_before) = numbers(&repo);
    let only_delete = PruneOptions { max_unused: UnusedLimit::Unlimited, ..thorough() };
    run(&repo, &only_delete).unwrap();
    let (after, described_after) = numbers(&repo);
    assert!(before.iter().all(|(id, number)| after.get(id).is_none_or(|now| now == number)));
    let stayed: BTreeSet<_> = after.values().collect();
    let gone = described_before.iter().filter(|(id, _)| !described_after.contains_key(id));
    let mut orphaned = gone.flat_map(|(_, packs)| packs);
    assert!(orphaned.any(|number| stayed.contains(number)), "no pack outlived its index object");
}

#[test]
fn prune_stops_at_what_looks_like_a_mistake() {
    let scene = Scene::new();
    let memory = scene.memory();
    let cache = cache_folder();
    let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
    let list = repo.snapshots().unwrap();
    let all: Vec<_> = list.snapshots.iter().map(|snapshot| snapshot.id).collect();
    forget::run(&repo, &list, &all, &ForgetOptions::default(), &Silent::default()).unwrap();
    let before = memory.objects();
    let cautious = PruneOptions { confirmed: false, ..thorough() };
    assert!(matches!(run(&repo, &cautious), Err(PruneError::Brake(_))));
    assert_eq!(memory.objects().len(), before.len());
    run(&repo, &thorough()).unwrap();
    assert!(memory.objects().keys().all(|name| !name.as_str().starts_with("data/")));
}

#[test]
fn prune_stops_when_a_snapshot_has_vanished_or_a_pack_is_missing() {
    let scene = Scene::new();
    let memory = scene.memory();
    let cache = cache_folder();
    let repo = open(Arc::new(memory.clone()), cache.path()).unwrap();
    run(&repo, &PruneOptions { max_unused: UnusedLimit::Unlimited, ..thorough() }).unwrap();
    // A pack that a live snapshot needs.
    let victim = memory.objects().keys().find(|name| name.as_str().starts_with("meta/")).unwrap().clone();
    let bytes = memory.get(&victim).unwrap();
    memory.delete(&victim).unwrap();
    let before = memory.objects();
    let outcome = run(&repo, &thorough());
    assert!(matches!(outcome, Err(PruneError::ContentMissing { .. })), "{outcome:?}");
    assert_eq!(memory.objects(), before);
    memory.set(&victim, bytes);
    // A snapshot that nobody forgot.
    let oldest = repo.snapshots().unwrap().snapshots.first().unwrap().id;
    let name = kluis::repo::names::snapshot(&oldest);
    let kept = memory.get(&name).unwrap();
    memory.delete(&name).unwrap();
    let before = memory.objects();
    let outcome = run(&repo, &thorough());
    assert!(matches!(outcome, Err(PruneError::SnapshotsVanished { .. })), "{outcome:?}");
    assert_eq!(memory.objects(), before);
    memory.set(&name, kept);
    run(&repo, &thorough()).unwrap();
    assert_live(&repo, &scene.trees, scene.source.path(), "after");
}
