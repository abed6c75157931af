//! What a prune, a check and a restore do with objects that are there and should not be: plans of newer formats,
//! snapshots that vanished, index objects that lie, leases from the future.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kluis::backup::BackupError;
use kluis::check::{self, CheckOptions, FindingCode};
use kluis::clock::{Clock, FixedClock, SystemClock, Timestamp};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::format::index_object::IndexedPack;
use kluis::id::SnapshotId;
use kluis::index::PackKind;
use kluis::prune::{self, PruneError, PruneOptions, PruneReport, UnusedLimit};
use kluis::repo::names;
use kluis::repo::{ChunkWriter, Identity, Lease, Repo, RepoError, Surroundings, TreeReader, WriterOptions};
use kluis::storage::{MemoryStorage, Storage};
use tempfile::TempDir;

use crate::fixture::{
    Objects, PACK_FILLING_BYTES, back_up, back_up_well, cache_folder, init, init_options, key, noise, open,
    options_of_several_packs, snapshot_of, snapshots, write, write_pack,
};
use crate::tree::{Tree, assert_same, capture, read_snapshot};

fn thorough() -> PruneOptions {
    PruneOptions { max_unused: UnusedLimit::Bytes(0), confirmed: true, ..PruneOptions::default() }
}

fn run(repo: &Arc<Repo>, options: &PruneOptions) -> Result<PruneReport, PruneError> {
    prune::run(repo, options, &Silent::default())
}

fn forget(repo: &Arc<Repo>, id: SnapshotId) {
    let list = repo.snapshots().unwrap();
    forget::run(repo, &list, &[id], &ForgetOptions::default(), &Silent::default()).unwrap();
}

/// Three snapshots, the first of which is forgotten: there is something to prune.
struct Scene {
    storage: MemoryStorage,
    repo: Arc<Repo>,
    source: TempDir,
    _cache: TempDir,
    trees: Vec<(SnapshotId, Tree)>,
}

impl Scene {
    fn new() -> Self {
        let (source, cache) = (tempfile::tempdir().unwrap(), cache_folder());
        let storage = MemoryStorage::new();
        let repo = init(Arc::new(storage.clone()), cache.path(), &init_options(64 << 10)).unwrap();
        let mut trees = Vec::new();
        for night in 0..3 {
            write(source.path(), "changes", &noise(150_000, night));
            write(source.path(), "stays", &noise(50_000, 100));
            let snapshot = snapshot_of(&repo, &back_up_well(&repo, source.path()));
            trees.push((snapshot.id, capture(source.path())));
        }
        let (first, _) = trees.remove(0);
        forget(&repo, first);
        Self { storage, repo, source, _cache: cache, trees }
    }

    /// The repository as another computer sees it, by this clock.
    fn elsewhere(&self, cache: &Path, clock: Arc<dyn Clock>) -> Arc<Repo> {
        let identity =
            Identity { host: "elsewhere".into(), user: "user".into(), process: 1, boot: "boot".into() };
        let storage = Arc::new(self.storage.clone());
        let around = Surroundings { storage, cache: cache.to_owned(), clock, identity };
        Arc::new(Repo::open(around, &key()).unwrap())
    }

    fn assert_whole(&self) {
        let live = snapshots(&self.repo);
        for (id, tree) in &self.trees {
            let snapshot = live.iter().find(|snapshot| snapshot.id == *id).unwrap();
            assert_same(tree, &read_snapshot(&self.repo, snapshot, self.source.path()));
        }
    }

    /// Leaves a plan that waits for a writer, which is gone by now.
    fn with_open_plan(self) -> Self {
        let cache = cache_folder();
        let lease = Lease::register(&self.elsewhere(cache.path(), Arc::new(SystemClock)), "backup").unwrap();
        assert_eq!(run(&self.repo, &thorough()).unwrap().waiting.len(), 1);
        lease.end().unwrap();
        self
    }
}

/// Where the format of a container stands in its header.
const FORMAT_OFFSET: usize = 8;

#[test]
fn a_plan_of_a_newer_format_stops_writers_and_prunes_and_nothing_is_deleted() {
    let scene = Scene::new().with_open_plan();
    let good = scene.storage.objects();
    for name in [names::plan(1), names::copy(&names::plan(1))] {
        let mut bytes = scene.storage.get(&name).unwrap();
        bytes[FORMAT_OFFSET] += 1;
        scene.storage.set(&name, bytes);
    }
    let before = scene.storage.objects();
    let outcome = run(&scene.repo, &thorough());
    let under_way = |error: &RepoError| matches!(error, RepoError::PruneUnderWay { number: 1 });
    assert!(matches!(&outcome, Err(PruneError::Repo(error)) if under_way(error)), "{outcome:?}");
    let outcome = run(&scene.repo, &PruneOptions { exclusive: true, ..thorough() });
    assert!(matches!(&outcome, Err(PruneError::Repo(error)) if under_way(error)), "{outcome:?}");
    let outcome = back_up(&scene.repo, scene.source.path());
    assert!(matches!(&outcome, Err(BackupError::Repo(error)) if under_way(error)), "{outcome:?}");
    let names = |objects: &Objects| objects.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&scene.storage.objects()), names(&before), "nothing was deleted, and no lease is left");
    assert!(scene.storage.objects() == before);
    let report = check::run(&scene.repo, &CheckOptions::default(), &Silent::default()).unwrap();
    assert!(report.findings.iter().any(|found| found.code == FindingCode::DecisionDamaged));
    scene.assert_whole();
    // The newer version has finished, or somebody has put back what was damaged.
    good.iter().for_each(|(name, bytes)| scene.storage.set(name, bytes.clone()));
    assert!(run(&scene.repo, &thorough()).unwrap().packs_deleted > 0);
    back_up_well(&scene.repo, scene.source.path());
    scene.assert_whole();
}

#[test]
fn a_lease_from_the_future_is_waited_for_and_does_no_harm() {
    let scene = Scene::new();
    let cache = cache_folder();
    let future = Timestamp::from_seconds(SystemClock.now().seconds + 20 * 365 * 24 * 3600);
    let other = scene.elsewhere(cache.path(), Arc::new(FixedClock(future)));
    let lease = Lease::register(&other, "backup").unwrap();
    // The storage dates it ahead, too.
    let dated = MemoryStorage::with_clock(Arc::new(FixedClock(future)));
    for (name, bytes) in scene.storage.objects() {
        dated.set(&name, bytes);
    }
    let dated_cache = cache_folder();
    let repo = open(Arc::new(dated.clone()), dated_cache.path()).unwrap();
    for options in [thorough(), PruneOptions { silence: std::time::Duration::ZERO, ..thorough() }] {
        let report = run(&repo, &options).unwrap();
        let hosts: Vec<_> = report.waiting.iter().map(|waiting| waiting.host.as_str()).collect();
        assert_eq!((hosts, report.packs_deleted), (vec!["elsewhere"], 0));
    }
    let report = run(&repo, &PruneOptions { exclusive: true, ..thorough() }).unwrap();
    assert!(report.waiting.is_empty() && report.packs_deleted > 0, "{report:?}");
    drop(lease);
    scene.assert_whole();
}

#[test]
fn statements_with_the_highest_numbers_and_of_unknown_versions_say_nothing() {
    let scene = Scene::new();
    let cache = cache_folder();
    let other = scene.elsewhere(cache.path(), Arc::new(SystemClock));
    let lease = Lease::register(&other, "backup").unwrap();
    let first = names::lease(&lease.id(), 0);
    let bytes = scene.storage.get(&first).unwrap();
    // Somebody who can write to the storage puts the same statement under another number.
    scene.storage.set(&names::lease(&lease.id(), u32::MAX), bytes.clone());
    let report = run(&scene.repo, &thorough()).unwrap();
    let hosts: Vec<_> = report.waiting.iter().map(|waiting| waiting.host.as_str()).collect();
    assert_eq!((hosts, report.packs_deleted), (vec!["elsewhere"], 0));
    // All that is left of another writer is a statement that nobody here can read.
    let unknown = SnapshotId::new([0x5a; 16]);
    let mut newer = bytes;
    newer[FORMAT_OFFSET] += 1;
    scene.storage.set(&names::lease(&unknown, 0), newer);
    lease.end().unwrap();
    scene.storage.delete(&names::lease(&lease_id_of(&report), u32::MAX)).unwrap();
    let report = run(&scene.repo, &thorough()).unwrap();
    let waiting: Vec<_> = report.waiting.iter().map(|waiting| waiting.lease.clone()).collect();
    assert_eq!((waiting, report.packs_deleted), (vec![unknown.to_string()], 0));
    // It is silent, or the operator knows that it is gone.
    let report = run(&scene.repo, &PruneOptions { exclusive: true, ..thorough() }).unwrap();
    assert!(report.waiting.is_empty() && report.packs_deleted > 0, "{report:?}");
    scene.assert_whole();
}

fn lease_id_of(report: &PruneReport) -> SnapshotId {
    report.waiting[0].lease.parse().unwrap()
}

/// Replaces all index objects by others, after `tell` has changed what they say of each pack.
fn replace_index(repo: &Arc<Repo>, storage: &MemoryStorage, tell: impl Fn(&mut IndexedPack)) {
    let mut packs = Vec::new();
    for (kind, id) in repo.list_packs().unwrap().packs.into_keys() {
        let mut described = repo.read_pack_directory(kind, id).unwrap();
        tell(&mut described);
        packs.push(described);
    }
    let old: Vec<_> =
        storage.objects().into_keys().filter(|name| name.as_str().starts_with("index/")).collect();
    repo.store_descriptions(SnapshotId::new([0; 16]), packs).unwrap();
    old.iter().for_each(|name| storage.delete(name).unwrap());
    // A computer that has seen the truth goes on believing it.
    repo.rebuild_index().unwrap();
}

/// Every live snapshot comes back as it was, or it is told that it does not; `true` if all do.
fn come_back_or_tell(scene: &Scene) -> bool {
    let mut all = true;
    for snapshot in snapshots(&scene.repo) {
        let reader = TreeReader::new(Arc::new(scene.repo.chunk_reader().unwrap()));
        let mut pending = vec![snapshot.root];
        while let Some(folder) = pending.pop() {
            for entry in reader.directory(folder) {
                let Ok(entry) = entry else {
                    all = false;
                    break;
                };
                match &entry.content {
                    kluis::format::tree::Content::Directory(id) => pending.push(*id),
                    kluis::format::tree::Content::Chunks(chunks) => {
                        for chunk in chunks {
                            match reader.chunk_reader().read_chunk(&chunk.id) {
                                // Whatever is returned is what its id was made of.
                                Ok(bytes) => {
                                    assert_eq!(scene.repo.chunk_id(bytes.as_ref()), chunk.id);
                                    assert_eq!(bytes.as_ref().len(), chunk.len as usize);
                                }
                                Err(_) => all = false,
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    all
}

#[test]
fn an_index_object_that_lies_about_lengths_is_found_and_named_and_nothing_is_lost() {
    let scene = Scene::new();
    let lied = std::sync::Mutex::new(BTreeSet::new());
    replace_index(&scene.repo, &scene.storage, |pack| {
        let frame = pack.frames.iter_mut().find(|frame| frame.chunks.len() > 1);
        if let (1, Some(frame)) = (pack.kind, frame) {
            frame.chunks[0].len += 1;
            frame.chunks[1].len -= 1;
            lied.lock().unwrap().insert(names::pack(PackKind::Data, &pack.id).to_string());
        }
    });
    let lied = lied.into_inner().unwrap();
    assert!(!lied.is_empty());
    let options = CheckOptions { directories: true, ..CheckOptions::default() };
    let report = check::run(&scene.repo, &options, &Silent::default()).unwrap();
    let differs = report.findings.iter().filter(|found| found.code == FindingCode::DirectoryDiffers);
    assert_eq!(differs.map(|found| found.object.clone()).collect::<BTreeSet<_>>(), lied);
    assert!(!come_back_or_tell(&scene), "something cannot be read");
    // Whatever a prune makes of it, no pack that is needed goes.
    let _ = run(&scene.repo, &thorough());
    // Found again by the directories, also of those packs that the prune wrote.
    replace_index(&scene.repo, &scene.storage, |_| {});
    scene.assert_whole();
}

#[test]
fn an_index_object_that_says_that_a_pack_holds_what_it_does_not_costs_nothing() {
    // Of two copies the one in the pack with the smaller id is used, so both orders must be seen.
    let mut was_stopped = false;
    for seed in 0..20 {
        let (source, cache) = (tempfile::tempdir().unwrap(), cache_folder());
        let storage = MemoryStorage::new();
        let repo = init(Arc::new(storage.clone()), cache.path(), &options_of_several_packs()).unwrap();
        let packs = || repo.list_packs().unwrap().packs.into_keys().filter(|it| it.0 == PackKind::Data);
        write_pack(source.path(), "garbage", 1000 + seed);
        let garbage = snapshot_of(&repo, &back_up_well(&repo, source.path()));
        let before: BTreeSet<_> = packs().collect();
        std::fs::remove_file(source.path().join("garbage")).unwrap();
        write_pack(source.path(), "needed", 2000 + seed);
        let needed = snapshot_of(&repo, &back_up_well(&repo, source.path()));
        let expected = capture(source.path());
        let new: Vec<_> = packs().filter(|pack| !before.contains(pack)).collect();
        let wanted = repo.read_pack_directory(new[0].0, new[0].1).unwrap().frames[0].chunks.clone();
        assert!(wanted.iter().map(|chunk| chunk.len as usize).sum::<usize>() >= PACK_FILLING_BYTES);
        // The pack of the garbage is said to hold what is needed.
        replace_index(&repo, &storage, |pack| {
            if before.contains(&(PackKind::Data, pack.id)) && pack.kind == 1 {
                pack.frames[0].chunks.clone_from(&wanted);
            }
        });
        forget(&repo, garbage.id);
        let held_before = storage.objects();
        match run(&repo, &thorough()) {
            Err(PruneError::IndexLies { pack }) => {
                was_stopped = true;
                assert!(before.iter().any(|(kind, id)| pack == names::pack(*kind, id).to_string()));
                assert!(held_before.keys().all(|name| storage.get(name).is_ok()), "nothing was deleted");
            }
            Ok(_) => {}
            Err(error) => panic!("{error:?}"),
        }
        let options = CheckOptions { directories: true, ..CheckOptions::default() };
        let report = check::run(&repo, &options, &Silent::default()).unwrap();
        let names_it = report.findings.iter().any(|found| found.code == FindingCode::DirectoryDiffers);
        let is_gone = packs().all(|pack| !before.contains(&pack));
        assert!(names_it || is_gone, "{:?}", report.findings);
        assert!(storage.get(&names::pack(new[0].0, &new[0].1)).is_ok(), "the true copy is there");
        // Found again by the directories, the snapshot is whole.
        replace_index(&repo, &storage, |_| {});
        let snapshot = snapshots(&repo).into_iter().find(|snapshot| snapshot.id == needed.id).unwrap();
        assert_same(&expected, &read_snapshot(&repo, &snapshot, source.path()));
    }
    assert!(was_stopped, "no lie would have done any harm");
}

#[test]
fn a_writer_that_finds_its_tombstone_ends_early() {
    let scene = Scene::new();
    let lease = Lease::register(&scene.repo, "backup").unwrap();
    let (view, _, _) = scene.repo.writer_view(lease.excluded()).unwrap();
    let options = WriterOptions::default();
    let writer = ChunkWriter::start(&scene.repo, lease.id(), Arc::new(view), options);
    lease.watch(&writer);
    lease.beat().unwrap();
    let store = |bytes: &[u8]| {
        let mut frames = writer.frame_writer(PackKind::Data);
        frames.begin();
        let stored = frames.put_chunks(bytes, &[bytes.len()]).map(drop);
        stored.and_then(|()| frames.finish())
    };
    store(&noise(1000, 1)).unwrap();
    scene.repo.create_tombstone(lease.id(), 1, "a prune took it for dead".to_owned()).unwrap();
    assert!(!lease.is_fenced());
    let statements = scene.repo.list_leases().unwrap()[&lease.id()].statements.clone();
    assert!(matches!(lease.beat(), Err(RepoError::Fenced)));
    assert!(lease.is_fenced());
    assert_eq!(scene.repo.list_leases().unwrap()[&lease.id()].statements, statements, "no sign of life");
    assert!(matches!(store(&noise(1000, 2)), Err(RepoError::Fenced)));
    assert!(matches!(writer.is_known(&scene.repo.chunk_id(b"x").content()), Err(RepoError::Fenced)));
    // A writer that begins only now is told at once.
    let (view, _, _) = scene.repo.writer_view(lease.excluded()).unwrap();
    let late = ChunkWriter::start(&scene.repo, lease.id(), Arc::new(view), options);
    lease.watch(&late);
    assert!(matches!(late.is_known(&scene.repo.chunk_id(b"x").content()), Err(RepoError::Fenced)));
    drop((writer, late));
    lease.end().unwrap();
    back_up_well(&scene.repo, scene.source.path());
    scene.assert_whole();
}
