//! Repositories, caches and sources for the tests beside this file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kluis::backup::{self, BackupError, BackupOptions, BackupReport};
use kluis::chunker::ChunkSizes;
use kluis::clock::SystemClock;
use kluis::crypto::{KdfParams, Secret};
use kluis::event::{Observer, Silent};
use kluis::format::snapshot::Snapshot;
use kluis::repo::{Identity, InitOptions, Repo, RepoError, Surroundings, UnlockSecret};
use kluis::storage::{MemoryStorage, ObjectName, Storage};

use crate::tree::{Tree, assert_same, read_snapshot};

#[path = "../shared/noise.rs"]
mod noise;
#[path = "../shared/scratch.rs"]
mod scratch;

pub use noise::noise;
pub use scratch::scratch as cache_folder;

/// What a storage holds.
pub type Objects = BTreeMap<ObjectName, Arc<[u8]>>;

/// The key of all repositories here: a key file, so that no passphrase is stretched.
pub fn key() -> UnlockSecret {
    UnlockSecret::KeyFile(Secret::new([7; 32]))
}

pub fn surroundings(storage: Arc<dyn Storage>, cache: &Path) -> Surroundings {
    let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
    Surroundings { storage, cache: cache.to_owned(), clock: Arc::new(SystemClock), identity }
}

/// Small chunks and packs, so that little data fills several of both.
pub fn init_options(pack_bytes: u64) -> InitOptions {
    InitOptions {
        chunk_sizes: ChunkSizes::new(4096, 16 << 10, 64 << 10).unwrap(),
        pack_bytes,
        kdf: KdfParams::MIN,
        parity: false,
        ..InitOptions::default()
    }
}

/// Data of a [`write_pack`] file.
pub const PACK_FILLING_BYTES: usize = 100 << 10;

/// Options under which the data of each [`write_pack`] file is a chunk, a frame and a pack.
pub fn options_of_several_packs() -> InitOptions {
    let chunk_sizes = ChunkSizes::new(512 << 10, 1 << 20, 4 << 20).unwrap();
    InitOptions { chunk_sizes, ..init_options(64 << 10) }
}

pub fn init(storage: Arc<dyn Storage>, cache: &Path, options: &InitOptions) -> Result<Arc<Repo>, RepoError> {
    Repo::init(surroundings(storage, cache), options, &key()).map(Arc::new)
}

/// A new repository in memory.
pub fn init_in_memory(cache: &Path, pack_bytes: u64) -> (MemoryStorage, Arc<Repo>) {
    let storage = MemoryStorage::new();
    let repo = init(Arc::new(storage.clone()), cache, &init_options(pack_bytes)).unwrap();
    (storage, repo)
}

pub fn open(storage: Arc<dyn Storage>, cache: &Path) -> Result<Arc<Repo>, RepoError> {
    Repo::open(surroundings(storage, cache), &key()).map(Arc::new)
}

pub fn options(source: &Path) -> BackupOptions {
    BackupOptions { sources: vec![source.to_owned()], threads: 1, ..BackupOptions::default() }
}

pub fn back_up(repo: &Arc<Repo>, source: &Path) -> Result<BackupReport, BackupError> {
    backup::run(repo, &options(source), &Silent::default())
}

pub fn back_up_watched(
    repo: &Arc<Repo>,
    source: &Path,
    observer: &dyn Observer,
) -> Result<BackupReport, BackupError> {
    backup::run(repo, &options(source), observer)
}

/// A backup that has no reason to fail or complain.
pub fn back_up_well(repo: &Arc<Repo>, source: &Path) -> BackupReport {
    let report = back_up(repo, source).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    report
}

/// Nothing but perhaps the folders above the source has changed: others may work in those.
pub fn assert_nothing_new(report: &BackupReport) {
    assert_eq!((report.files_new, report.files_changed, report.bytes_read), (0, 0, 0), "{report:?}");
    assert!(report.bytes_new < 1000, "{report:?}");
}

/// All snapshots by their sequence number; none may be damaged.
pub fn snapshots(repo: &Repo) -> Vec<Snapshot> {
    let list = repo.snapshots().unwrap();
    assert!(list.damaged.is_empty(), "{:?}", list.damaged);
    let mut snapshots = list.snapshots;
    snapshots.sort_by_key(|snapshot| (snapshot.sequence, snapshot.id));
    snapshots
}

/// The snapshot that a report names.
pub fn snapshot_of(repo: &Repo, report: &BackupReport) -> Snapshot {
    let id = report.snapshot_id.as_ref().expect("a snapshot was made");
    let found = snapshots(repo).into_iter().find(|snapshot| snapshot.id.to_string() == *id);
    found.expect("the snapshot that was reported is in the repository")
}

/// The newest snapshot holds exactly this tree.
pub fn assert_newest_is(repo: &Arc<Repo>, source: &Path, expected: &Tree) {
    let newest = snapshots(repo).pop().expect("there is a snapshot");
    assert_same(expected, &read_snapshot(repo, &newest, source));
}

/// Writes a file with a large hole: large files are read one by one and share no frame, and the hole costs nothing.
pub fn write_pack(root: &Path, below: &str, seed: u64) {
    write(root, below, &noise(PACK_FILLING_BYTES, seed));
    let file = std::fs::OpenOptions::new().write(true).open(root.join(below)).unwrap();
    file.set_len(5 << 20).unwrap();
}

/// How many packs of chunks there are.
pub fn pack_count(storage: &MemoryStorage) -> usize {
    storage.objects().keys().filter(|name| name.as_str().starts_with("data/")).count()
}

/// Writes a file, and the folders above it.
pub fn write(root: &Path, below: &str, bytes: &[u8]) {
    let path = root.join(below);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Numbers that look random, the same every time.
pub struct Chance(pub u64);

impl Chance {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 += 1;
        let hash = blake3::hash(&self.0.to_le_bytes());
        u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap()) % end
    }

    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
