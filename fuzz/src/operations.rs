//! Whole operations on a storage in memory, beside a naive copy of every tree. Live snapshots come back bit for bit;
//! where something was damaged they may fail to, but never come back as something else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use kluis::backup::{self, BackupOptions};
use kluis::check::repair::{self, RepairOptions};
use kluis::check::{self, CheckOptions, DataPart};
use kluis::chunker::ChunkSizes;
use kluis::clock::SystemClock;
use kluis::crypto::{KdfParams, Secret};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::format::snapshot::Snapshot;
use kluis::id::SnapshotId;
use kluis::prune::{self, PruneOptions, UnusedLimit};
use kluis::repo::{Identity, InitOptions, Repo, RepoError, Surroundings, TreeReader, UnlockSecret};
use kluis::restore::{self, RestoreContext, RestoreOptions, RestoreRequest};
use kluis::storage::MemoryStorage;
use kluis::target::OwnerMap;
use tempfile::TempDir;

use super::choices::Choices;

const STEP_COUNT_MAX: usize = 24;
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Content of files by name.
type Tree = BTreeMap<&'static str, Vec<u8>>;

/// A folder in memory where there is such a place.
pub fn scratch() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).expect("there is a place for temporary files")
}

/// A repository, what should be in it, and what was done to it.
struct Play {
    storage: MemoryStorage,
    source: TempDir,
    cache: TempDir,
    repo: Arc<Repo>,
    tree: Tree,
    live: BTreeMap<SnapshotId, Tree>,
    /// Whether stored bytes were changed in a way that cannot be mended for sure.
    is_damaged: bool,
    steps: Vec<String>,
}

fn surroundings(storage: &MemoryStorage, cache: &Path) -> Surroundings {
    let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
    let storage = Arc::new(storage.clone());
    Surroundings { storage, cache: cache.to_owned(), clock: Arc::new(SystemClock), identity }
}

fn key() -> UnlockSecret {
    UnlockSecret::KeyFile(Secret::new([7; 32]))
}

impl Play {
    fn new() -> Self {
        let (storage, source, cache) = (MemoryStorage::new(), scratch(), scratch());
        let options = InitOptions {
            chunk_sizes: ChunkSizes::new(1024, 4096, 16_384).expect("the sizes are powers of two"),
            pack_bytes: 32 << 10,
            kdf: KdfParams::MIN,
            ..InitOptions::default()
        };
        let repo = Repo::init(surroundings(&storage, cache.path()), &options, &key());
        let repo = Arc::new(repo.expect("a storage in memory can be filled"));
        let (tree, live, steps) = (Tree::new(), BTreeMap::new(), Vec::new());
        Self { storage, source, cache, repo, tree, live, is_damaged: false, steps }
    }

    /// What an operation returned, which may be an error only after damage.
    fn outcome<T, E: std::fmt::Debug>(&self, outcome: Result<T, E>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                assert!(self.is_damaged, "{error:?} after {:?}", self.steps);
                None
            }
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let kind = choices.byte() % 12;
        self.steps.push(kind.to_string());
        match kind {
            0..=2 => self.write(choices),
            3 => self.remove(choices),
            4 | 5 => self.back_up(),
            6 => self.forget(choices),
            7 => self.prune(),
            8 => self.damage(choices),
            9 => self.repair(),
            10 => self.check(),
            _ => self.reopen(),
        }
    }

    fn write(&mut self, choices: &mut Choices<'_>) {
        let name = NAMES[choices.below(NAMES.len())];
        let len = choices.below(40_000);
        let seed = choices.byte();
        let mut bytes = vec![0; len];
        match (seed % 4, self.tree.get(name)) {
            // A change somewhere in the middle, for bases.
            (0 | 1, Some(before)) if !before.is_empty() => {
                bytes.clone_from(before);
                let at = len % bytes.len();
                bytes.iter_mut().skip(at).take(10).for_each(|byte| *byte ^= seed);
            }
            (2, _) => bytes.fill(seed),
            _ => blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes),
        }
        fs::write(self.source.path().join(name), &bytes).expect("the source can be written");
        self.tree.insert(name, bytes);
    }

    fn remove(&mut self, choices: &mut Choices<'_>) {
        let name = NAMES[choices.below(NAMES.len())];
        if self.tree.remove(name).is_some() {
            fs::remove_file(self.source.path().join(name)).expect("the file is there");
        }
    }

    fn back_up(&mut self) {
        let sources = vec![self.source.path().to_owned()];
        let options = BackupOptions { sources, threads: 1, ..BackupOptions::default() };
        let Some(report) = self.outcome(backup::run(&self.repo, &options, &Silent::default())) else {
            return;
        };
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let id = report.snapshot_id.expect("a backup makes a snapshot");
        self.live.insert(id.parse().expect("an id is shown as it is read"), self.tree.clone());
    }

    fn forget(&mut self, choices: &mut Choices<'_>) {
        let Some(list) = self.outcome(self.repo.snapshots()) else { return };
        let ids: Vec<_> = list.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let Some(id) = (!ids.is_empty()).then(|| ids[choices.below(ids.len())]) else { return };
        let outcome = forget::run(&self.repo, &list, &[id], &ForgetOptions::default(), &Silent::default());
        self.outcome(outcome);
        self.live.remove(&id);
    }

    fn prune(&mut self) {
        let options = PruneOptions {
            max_unused: UnusedLimit::Bytes(0),
            confirmed: true,
            exclusive: true,
            ..PruneOptions::default()
        };
        self.outcome(prune::run(&self.repo, &options, &Silent::default()));
    }

    /// Changes, cuts or takes away any object.
    fn damage(&mut self, choices: &mut Choices<'_>) {
        self.is_damaged = true;
        let objects = self.storage.objects();
        let Some((name, bytes)) = objects.iter().nth(choices.below(objects.len())) else { return };
        let mut bytes = bytes.to_vec();
        let at = choices.below(65_536) % bytes.len().max(1);
        self.steps.push(format!("{name} {at}"));
        match choices.byte() % 8 {
            0 => {
                self.storage.remove(name);
                return;
            }
            1 => bytes.truncate(at),
            2 => bytes.iter_mut().skip(at).take(4096).for_each(|byte| *byte = !*byte),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x40),
        }
        self.storage.set(name, bytes);
    }

    fn repair(&self) {
        let plan = repair::plan(&self.repo, &RepairOptions::default(), &Silent::default());
        if let Some(plan) = self.outcome(plan) {
            self.outcome(repair::run(&self.repo, &plan, &Silent::default()));
        }
    }

    fn check(&self) {
        let options = CheckOptions { directories: true, data: Some(DataPart::All) };
        if let Some(report) = self.outcome(check::run(&self.repo, &options, &Silent::default())) {
            assert!(self.is_damaged || !report.has_damage(), "{:?} after {:?}", report.findings, self.steps);
        }
    }

    /// Another host that knows nothing yet.
    fn reopen(&mut self) {
        let cache = scratch();
        let opened = Repo::open(surroundings(&self.storage, cache.path()), &key());
        if let Some(repo) = self.outcome(opened) {
            self.repo = Arc::new(repo);
            self.cache = cache;
        }
    }

    /// Every live snapshot is there and holds what was backed up.
    fn verify(&self) {
        let Some(list) = self.outcome(self.repo.snapshots()) else { return };
        assert!(self.is_damaged || list.snapshots.len() == self.live.len(), "after {:?}", self.steps);
        let Some(chunks) = self.outcome(self.repo.chunk_reader()) else { return };
        let reader = TreeReader::new(Arc::new(chunks));
        for snapshot in &list.snapshots {
            // What a repair kept of a damaged snapshot is a further one.
            if let Some(tree) = self.live.get(&snapshot.id) {
                self.verify_snapshot(&reader, snapshot, tree);
            }
        }
    }

    fn verify_snapshot(&self, reader: &TreeReader, snapshot: &Snapshot, tree: &Tree) {
        let source = self.source.path().to_str().expect("temporary paths are text");
        let folder: Vec<_> = source.split('/').filter(|part| !part.is_empty()).map(str::as_bytes).collect();
        for name in NAMES {
            let path: Vec<_> = folder.iter().copied().chain([name.as_bytes()]).collect();
            let found = match reader.resolve(snapshot.root, &path) {
                Err(RepoError::NoPath { .. }) => None,
                found => match self.outcome(found) {
                    Some(entry) => entry,
                    None => continue,
                },
            };
            let Some(entry) = found else {
                assert!(!tree.contains_key(name), "{name} is gone after {:?}", self.steps);
                continue;
            };
            let mut bytes = Vec::new();
            let read = reader.visit_bytes(&entry.content, &mut |chunk| {
                bytes.extend_from_slice(chunk);
                Ok::<(), RepoError>(())
            });
            if self.outcome(read).is_some() {
                assert!(tree.get(name) == Some(&bytes), "{name} is another file after {:?}", self.steps);
            }
        }
    }

    /// The newest snapshot, put into a folder.
    fn restore(&self) {
        let Some(list) = self.outcome(self.repo.snapshots()) else { return };
        let Some(snapshot) = list.snapshots.last() else { return };
        let Some(tree) = self.live.get(&snapshot.id) else { return };
        let Some(chunks) = self.outcome(self.repo.chunk_reader()) else { return };
        let reader = TreeReader::new(Arc::new(chunks));
        let target = scratch();
        let context =
            RestoreContext { origin: &reader, owners: &OwnerMap::default(), observer: &Silent::default() };
        let request = RestoreRequest::Folder(snapshot.root);
        let options = RestoreOptions { thread_count: 1, ..RestoreOptions::default() };
        let Some(report) = self.outcome(restore::run(&context, &request, target.path(), &options)) else {
            return;
        };
        assert!(self.is_damaged || report.damaged.is_empty(), "{:?}", report.damaged);
        let source = self.source.path().strip_prefix("/").expect("temporary paths are absolute");
        for (name, bytes) in tree {
            let is_told = !report.damaged.is_empty();
            let restored = fs::read(target.path().join(source).join(name));
            assert!(is_told || restored.is_ok_and(|restored| restored == *bytes), "{name}: {:?}", self.steps);
        }
    }
}

/// As many steps as the bytes decide.
pub fn operations(data: &[u8]) {
    let mut choices = Choices(data);
    let mut play = Play::new();
    for _ in 0..STEP_COUNT_MAX {
        if choices.is_empty() {
            break;
        }
        play.step(&mut choices);
        play.verify();
    }
    play.restore();
}
