//! 17 of the interleavings: chunks that are stored as their difference from other ones. The writers here choose the other
//! ones by hand, which a backup does by the earlier versions of files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kluis::check::{self, CheckOptions, DataPart};
use kluis::clock::Timestamp;
use kluis::compress::Compression;
use kluis::event::Silent;
use kluis::format::snapshot::{Snapshot, Totals};
use kluis::format::tree::{ChunkRef, Content, Entry, EntryKind};
use kluis::id::{ChunkId, SnapshotId};
use kluis::index::PackKind;
use kluis::prune::PruneError;
use kluis::repo::{
    ChunkWriter, DirectoryWriter, Earlier, Lease, Repo, RepoError, TreeReader, TreeWriter, WriterOptions,
    series_of,
};
use kluis::storage::MemoryStorage;
use kluis::wire::Bytes;
use tempfile::TempDir;

use crate::act::{SILENCE, STEP_COUNT_MAX, cast};
use crate::fixture::{Objects, cache_folder, noise};
use crate::judge::is_harmless;
use crate::stage::{Cast, Part, Stage};
use crate::world::{Scene, World, forget_ids, impatient, names_below, open_beside, prune, stage, thorough};

/// A chunk, and another one that it is stored as the difference from.
type Wanted = (u8, Option<u8>);

/// What a chunk of this number holds: all resemble each other.
fn bytes_of(number: u8) -> Vec<u8> {
    let mut bytes = noise(3000, 77);
    bytes[..20].copy_from_slice(&[number; 20]);
    bytes
}

/// A backup of some chunks, each a file.
fn store(repo: &Arc<Repo>, chunks: &[Wanted]) -> Result<SnapshotId, RepoError> {
    let lease = Lease::register(repo, "backup")?;
    let (view, _, _) = repo.writer_view(lease.excluded())?;
    let list = repo.snapshots()?;
    let options =
        WriterOptions { compression: Compression::Auto, verify: true, discard: false, base_depth_max: 8 };
    let writer = ChunkWriter::start(repo, lease.id(), Arc::new(view), options);
    lease.watch(&writer);
    let mut frames = writer.frame_writer(PackKind::Data);
    let mut folder = DirectoryWriter::default();
    let mut ids = Vec::new();
    for (number, base) in chunks {
        frames.begin();
        let bytes = bytes_of(*number);
        let len = bytes.len() as u32;
        let earlier = base.map(|base| ChunkRef { id: repo.chunk_id(&bytes_of(base)), len });
        let earlier = Earlier::whole(earlier.as_slice());
        ids.extend(
            frames.put_version(&bytes, &[bytes.len()], 0, &earlier)?.into_iter().map(|id| (*number, id)),
        );
        frames.finish()?;
    }
    drop(frames);
    let mut trees = TreeWriter::new(writer.frame_writer(PackKind::Meta), writer.split_key());
    ids.into_iter().try_for_each(|(number, id)| folder.push(entry(number, id), &mut trees))?;
    let root = folder.finish(&mut trees)?.id;
    trees.finish()?;
    writer.finish()?;
    let paths = vec![Bytes::from(&b"/"[..])];
    let series = series_of("host", &paths);
    let (sequence, previous) = list.next_of(series);
    let snapshot = Snapshot {
        version: 1,
        id: lease.id(),
        series,
        sequence,
        previous,
        started_at: repo.clock().now(),
        finished_at: repo.clock().now(),
        host: "host".into(),
        user: "user".into(),
        name_encoding: 0,
        paths,
        tags: Vec::new(),
        root,
        totals: Totals {
            files: chunks.len() as u64,
            directories: 0,
            bytes: 0,
            bytes_new: 0,
            bytes_stored: 0,
        },
        problem_count: 0,
        problems: Vec::new(),
        owners: Vec::new(),
        seen: lease.seen().map(|plan| plan.number),
        verified: true,
        program: "test".into(),
        extensions: Vec::new(),
    };
    repo.commit_snapshot(&snapshot)?;
    repo.after_commit(&snapshot)?;
    let id = lease.id();
    lease.end()?;
    Ok(id)
}

fn entry(number: u8, id: ChunkId) -> Entry {
    let size = bytes_of(number).len();
    Entry {
        name: Bytes::from(number.to_string().as_bytes()),
        kind: EntryKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(1),
        ctime: Timestamp::from_seconds(1),
        inode: 1,
        size: size as u64,
        content: Content::Chunks(vec![ChunkRef { id, len: size as u32 }]),
        extensions: Vec::new(),
    }
}

/// A repository in which writers that knew nothing of each other have stored: each sees what those named have stored.
struct Made {
    all: Objects,
    parts: Vec<Objects>,
    ids: Vec<SnapshotId>,
}

impl Made {
    fn new(cast: &Cast) -> Self {
        let all = World::shared(cast).start(Scene::Empty).objects.clone();
        Self { all, parts: Vec::new(), ids: Vec::new() }
    }

    fn store(mut self, seen: &[usize], chunks: &[Wanted]) -> Self {
        let mut objects: Objects = match seen {
            [] => self.all.iter().filter(|(name, _)| is_setting(name.as_str())).map(clone_of).collect(),
            _ => seen.iter().flat_map(|part| &self.parts[*part]).map(clone_of).collect(),
        };
        let memory = MemoryStorage::from_objects(std::mem::take(&mut objects));
        let cache = cache_folder();
        let seed = 900 + self.parts.len() as u64;
        self.ids.push(store(&open_beside(&memory, cache.path(), seed), chunks).unwrap());
        self.all.extend(memory.objects());
        self.parts.push(memory.objects());
        self
    }

    fn forget(mut self, parts: &[usize]) -> Self {
        let memory = MemoryStorage::from_objects(self.all.clone());
        let ids: Vec<_> = parts.iter().map(|part| self.ids[*part]).collect();
        forget_ids(&open_beside(&memory, cache_folder().path(), 950), &ids);
        self.all = memory.objects();
        self
    }
}

fn clone_of(
    (name, bytes): (&kluis::storage::ObjectName, &Arc<[u8]>),
) -> (kluis::storage::ObjectName, Arc<[u8]>) {
    (name.clone(), Arc::clone(bytes))
}

fn is_setting(name: &str) -> bool {
    ["README", "config", "slot", "keyring", "copy/config", "copy/slot", "copy/keyring", "reserve"]
        .iter()
        .any(|folder| name.starts_with(folder))
}

/// Actors on one stage, each on a host of his own.
struct Hosts<'c> {
    cast: &'c Cast,
    stage: Stage,
    caches: Vec<TempDir>,
}

impl<'c> Hosts<'c> {
    fn new(cast: &'c Cast, objects: &Objects) -> Self {
        Self { cast, stage: stage(objects), caches: Vec::new() }
    }

    fn enter<T: Send + 'static>(&mut self, play: impl FnOnce(Arc<Repo>) -> T + Send + 'static) -> Part<T> {
        let cache = cache_folder();
        let path = cache.path().to_owned();
        self.caches.push(cache);
        self.stage.start(self.cast, move |host| play(host.open(&path).unwrap()))
    }

    fn writer(&mut self, chunks: &'static [Wanted]) -> Part<Result<SnapshotId, RepoError>> {
        self.enter(move |repo| store(&repo, chunks))
    }

    fn pruner(&mut self) -> Part<Result<(), PruneError>> {
        self.enter(|repo| prune(&repo, &thorough()).map(drop))
    }

    /// Everybody ends; then everything that is live comes back, nothing else is left after two prunes, and the counts
    /// are right.
    fn finish(self, lives: &BTreeSet<SnapshotId>) {
        self.stage.run_all_to_end();
        let memory = MemoryStorage::from_objects(self.stage.memory().objects());
        let cache = cache_folder();
        let repo = open_beside(&memory, cache.path(), 960);
        assert_whole(&repo, lives);
        (0..3).for_each(|_| drop(prune(&repo, &impatient()).unwrap()));
        let last = prune(&repo, &thorough()).unwrap();
        assert_eq!((last.packs_deleted, last.bytes_unused), (0, 0), "garbage is left");
        let list = repo.snapshots().unwrap();
        let roots: Vec<_> = list.snapshots.iter().map(|snapshot| snapshot.root).collect();
        assert!(repo.counts_are_right(&roots).unwrap());
        assert_whole(&repo, lives);
    }
}

fn assert_whole(repo: &Arc<Repo>, lives: &BTreeSet<SnapshotId>) {
    let list = repo.snapshots().unwrap();
    let live: BTreeSet<_> = list.snapshots.iter().map(|snapshot| snapshot.id).collect();
    assert!(lives.is_subset(&live), "a snapshot is gone");
    let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
    for snapshot in &list.snapshots {
        for entry in reader.directory(snapshot.root) {
            let entry = entry.unwrap();
            let number: u8 = std::str::from_utf8(entry.name.as_slice()).unwrap().parse().unwrap();
            let mut bytes = Vec::new();
            let append = &mut |chunk: &[u8]| {
                bytes.extend_from_slice(chunk);
                Ok::<(), RepoError>(())
            };
            reader.visit_bytes(&entry.content, append).unwrap();
            assert!(bytes == bytes_of(number), "chunk {number} is wrong");
        }
    }
    let options = CheckOptions { directories: true, data: Some(DataPart::All) };
    let report = check::run(repo, &options, &Silent::default()).unwrap();
    assert!(report.findings.iter().all(is_harmless), "{:?}", report.findings);
}

/// Puts a prune to sleep before each of its calls, plays something else, wakes it, and looks at everything.
fn at_every_call_of_a_prune(
    made: &Made,
    lives: &[usize],
    meanwhile: &dyn Fn(&mut Hosts<'_>) -> Vec<SnapshotId>,
) {
    let cast = cast();
    for at in 0..STEP_COUNT_MAX {
        let mut hosts = Hosts::new(&cast, &made.all);
        let pruner = hosts.pruner();
        hosts.stage.steps(pruner.id, at);
        let is_over = hosts.stage.has_ended(pruner.id);
        println!("asleep at call {at}");
        let mut lives: BTreeSet<_> = lives.iter().map(|part| made.ids[*part]).collect();
        lives.extend(meanwhile(&mut hosts));
        hosts.finish(&lives);
        if is_over {
            return;
        }
    }
    panic!("the prune does not end");
}

/// A writer comes and commits at once.
fn commits(hosts: &mut Hosts<'_>, chunks: &'static [Wanted]) -> Vec<SnapshotId> {
    let writer = hosts.writer(chunks);
    hosts.stage.run_to_end(writer.id);
    vec![writer.outcome().unwrap()]
}

/// One that rests on another, which rests on a third; all but the last are forgotten, or all.
fn chain(cast: &Cast) -> Made {
    let made =
        Made::new(cast).store(&[], &[(1, None)]).store(&[0], &[(2, Some(1))]).store(&[0, 1], &[(3, Some(2))]);
    let depths = depths_of(&made);
    assert_eq!(depths, [0, 1, 2], "the differences are worth storing");
    made
}

fn depths_of(made: &Made) -> Vec<u8> {
    let memory = MemoryStorage::from_objects(made.all.clone());
    let repo = open_beside(&memory, cache_folder().path(), 970);
    let mut depths = Vec::new();
    for name in names_below(&memory, "index") {
        let id = Path::new(name.as_str()).file_name().unwrap().to_str().unwrap().parse().unwrap();
        let packs = repo.read_index_object(id).unwrap().packs;
        let data = packs.iter().filter(|pack| kluis::repo::name_of(pack).0 == PackKind::Data);
        depths.extend(data.flat_map(|pack| &pack.frames).map(|frame| frame.depth));
    }
    depths.sort_unstable();
    depths
}

#[test]
fn a_base_lives_as_long_as_anything_rests_on_it() {
    let cast = cast();
    let made = chain(&cast).forget(&[0, 1]);
    at_every_call_of_a_prune(&made, &[2], &|_| Vec::new());
}

#[test]
fn a_writer_may_claim_a_chunk_whose_base_lies_in_a_pack_that_is_being_doomed() {
    let cast = cast();
    let made = chain(&cast).forget(&[0, 1, 2]);
    at_every_call_of_a_prune(&made, &[], &|hosts| commits(hosts, &[(3, None)]));
    at_every_call_of_a_prune(&made, &[], &|hosts| commits(hosts, &[(4, Some(3))]));
    // It has claimed before the plan, and commits when the prune waits for it, has fenced it, or is over.
    for is_fenced in [false, true] {
        let mut hosts = Hosts::new(&cast, &made.all);
        let writer = hosts.writer(&[(2, None), (4, Some(3))]);
        hosts.stage.run_until(writer.id, "create snapshot/");
        if is_fenced {
            hosts.stage.pass_time(SILENCE);
        }
        let pruner = hosts.pruner();
        hosts.stage.run_to_end(pruner.id);
        hosts.stage.run_to_end(writer.id);
        let committed = writer.outcome();
        assert_eq!(committed.is_err(), is_fenced, "{committed:?}");
        hosts.finish(&committed.into_iter().collect());
    }
}

#[test]
fn of_two_copies_at_different_depths_one_is_left_whichever_each_prune_prefers() {
    let cast = cast();
    // 2 lies plainly in one pack and on 1 in another; something rests on it.
    let made =
        Made::new(&cast).store(&[], &[(1, None)]).store(&[0], &[(2, Some(1))]).store(&[], &[(2, None)]);
    let made = made.store(&[0, 1], &[(3, Some(2))]).forget(&[0, 1]);
    let other_prune = |hosts: &mut Hosts<'_>| {
        let other = hosts.pruner();
        hosts.stage.run_to_end(other.id);
        other.outcome().unwrap();
        Vec::new()
    };
    at_every_call_of_a_prune(&made, &[2, 3], &other_prune);
    let made = made.forget(&[2]);
    at_every_call_of_a_prune(&made, &[3], &other_prune);
}

#[test]
fn two_plain_copies_do_not_vouch_for_copies_that_rest_on_each_other() {
    let cast = cast();
    // 1 on 2 beside 2 on 1: without the plain ones, both would rest on nothing.
    let made = Made::new(&cast).store(&[], &[(1, None)]).store(&[], &[(2, None)]);
    let made = made.store(&[0], &[(2, Some(1))]).store(&[1], &[(1, Some(2))]);
    assert_eq!(depths_of(&made), [0, 0, 1, 1]);
    let made = made.forget(&[0, 1]);
    at_every_call_of_a_prune(&made, &[2, 3], &|_| Vec::new());
    at_every_call_of_a_prune(&made, &[2, 3], &|hosts| commits(hosts, &[(1, None), (2, Some(1))]));
}

#[test]
fn a_doomed_plain_base_may_be_stored_again_deeper_while_something_rests_on_the_old_one() {
    let cast = cast();
    let made =
        Made::new(&cast).store(&[], &[(1, None)]).store(&[0], &[(2, Some(1))]).store(&[], &[(5, None)]);
    let made = made.forget(&[0, 1]);
    at_every_call_of_a_prune(&made, &[2], &|hosts| commits(hosts, &[(1, Some(5)), (2, None)]));
}

#[test]
fn a_base_that_is_lost_may_be_healed_at_any_call_of_a_prune() {
    let cast = cast();
    let made = Made::new(&cast).store(&[], &[(1, None)]);
    let base = names_below(&MemoryStorage::from_objects(made.all.clone()), "data").remove(0);
    let made = made.store(&[0], &[(2, Some(1))]);
    for at in 0..STEP_COUNT_MAX {
        let mut hosts = Hosts::new(&cast, &made.all);
        hosts.stage.memory().remove(&base);
        let pruner = hosts.pruner();
        hosts.stage.steps(pruner.id, at);
        let is_over = hosts.stage.has_ended(pruner.id);
        let mut lives: BTreeSet<_> = made.ids.iter().copied().collect();
        // What rests on the lost base counts as absent too; both are stored again.
        lives.extend(commits(&mut hosts, &[(1, None), (2, None)]));
        hosts.stage.run_all_to_end();
        let outcome = pruner.outcome();
        assert!(matches!(outcome, Ok(()) | Err(PruneError::ContentMissing { .. })), "{outcome:?}");
        hosts.finish(&lives);
        if is_over {
            return;
        }
    }
}
