//! Every kind of damage to every kind of object: it is found and named, nothing panics, and whatever can still be read
//! is right.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use kluis::backup::{self, BackupOptions, Labels, ParentChoice};
use kluis::check::{self, CheckOptions, CheckReport, DataPart, FindingCode, Severity};
use kluis::clock::SystemClock;
use kluis::compress::Compression;
use kluis::crypto::{KdfParams, Secret};
use kluis::event::Silent;
use kluis::format::tree::Content;
use kluis::id::{NodeId, SnapshotId};
use kluis::repo::{Identity, InitOptions, Lease, Repo, RepoError, Surroundings, TreeReader, UnlockSecret};
use kluis::source::Excludes;
use kluis::storage::{MemoryStorage, ObjectName, Storage};

type Objects = BTreeMap<ObjectName, Arc<[u8]>>;
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything that is looked at: structure, directories, data.
const ALL: CheckOptions = CheckOptions { directories: true, data: Some(DataPart::All) };

/// A repository, and what its snapshots hold.
struct Fixture {
    objects: Objects,
    expected: BTreeMap<SnapshotId, Files>,
}

fn key(number: u8) -> UnlockSecret {
    UnlockSecret::KeyFile(Secret::new([number; 32]))
}

fn surroundings(storage: &MemoryStorage, cache: &Path) -> Surroundings {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
    Surroundings { storage, cache: cache.to_owned(), clock: Arc::new(SystemClock), identity }
}

fn back_up(repo: &Arc<Repo>, source: &Path, parent: ParentChoice) -> SnapshotId {
    let options = BackupOptions {
        sources: vec![source.to_owned()],
        excludes: Excludes::default(),
        one_file_system: false,
        skipped_folders: Vec::new(),
        parent,
        dry_run: false,
        skip_if_unchanged: false,
        labels: Labels::default(),
        compression: Compression::Auto,
        verify: true,
        threads: 2,
    };
    let report = backup::run(repo, &options, &Silent::default()).unwrap();
    report.snapshot_id.unwrap().parse().unwrap()
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Three snapshots of a small folder, two slots, and a lease.
fn make_fixture(parity: bool) -> Fixture {
    let (source, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let storage = MemoryStorage::new();
    let init = InitOptions { parity, kdf: KdfParams::MIN, ..InitOptions::default() };
    let repo = Arc::new(Repo::init(surroundings(&storage, cache.path()), &init, &key(7)).unwrap());
    repo.add_slot(&key(8), KdfParams::MIN, "second").unwrap();
    let mut expected = BTreeMap::new();
    for round in 0..3u64 {
        let folder = source.path().join(format!("round-{round}/inside"));
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..4 {
            let bytes = noise(100 + 700 * number, round * 10 + number as u64);
            std::fs::write(folder.join(format!("file-{number}")), bytes).unwrap();
        }
        std::fs::write(source.path().join("changing"), format!("{round} ").repeat(500)).unwrap();
        let id = back_up(&repo, source.path(), ParentChoice::Newest);
        expected.insert(id, read_snapshot(&repo, id).unwrap());
    }
    assert!(expected.values().any(|files| files.len() > 15));
    // The lease is taken while it lives: its objects are those of a writer that was killed.
    let lease = Lease::register(&repo, "backup").unwrap();
    let objects = storage.objects();
    lease.end().unwrap();
    Fixture { objects, expected }
}

fn fixture(parity: bool) -> &'static Fixture {
    static FIXTURES: [OnceLock<Fixture>; 2] = [OnceLock::new(), OnceLock::new()];
    FIXTURES[usize::from(parity)].get_or_init(|| make_fixture(parity))
}

/// All files of a snapshot, or the first error.
fn read_snapshot(repo: &Arc<Repo>, id: SnapshotId) -> Result<Files, RepoError> {
    let snapshot = repo.read_snapshot(id)?.expect("no tombstone is in these repositories");
    let reader = TreeReader::new(Arc::new(repo.chunk_reader()?));
    let mut files = Files::new();
    let mut failure = None;
    read_folder(&reader, snapshot.root, &[], &mut files, &mut failure);
    failure.map_or(Ok(files), Err)
}

/// Reads what can be read, and keeps the last error.
fn read_folder(
    reader: &TreeReader,
    id: NodeId,
    path: &[u8],
    files: &mut Files,
    failure: &mut Option<RepoError>,
) {
    for entry in reader.directory(id) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                *failure = Some(error);
                return;
            }
        };
        let below = [path, b"/", entry.name.as_slice()].concat();
        let mut bytes = Vec::new();
        let append = &mut |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok::<(), RepoError>(())
        };
        match reader.visit_bytes(&entry.content, append) {
            Ok(()) => drop(files.insert(below.clone(), bytes)),
            Err(error) => *failure = Some(error),
        }
        if let Content::Directory(id) = entry.content {
            read_folder(reader, id, &below, files, failure);
        }
    }
}

/// What became of a damaged repository.
struct Aftermath {
    /// What the check said, unless the repository could not even be opened.
    report: Result<CheckReport, String>,
    /// Snapshots that were read completely.
    whole: BTreeSet<SnapshotId>,
}

/// Opens, checks and reads a repository, and compares all that it returns with what was stored.
fn look(objects: Objects, expected: &BTreeMap<SnapshotId, Files>, what: &str) -> Aftermath {
    let cache = tempfile::tempdir().unwrap();
    look_with_cache(objects, expected, cache.path(), what)
}

fn look_with_cache(
    objects: Objects,
    expected: &BTreeMap<SnapshotId, Files>,
    cache: &Path,
    what: &str,
) -> Aftermath {
    let storage = MemoryStorage::from_objects(objects);
    let mut whole = BTreeSet::new();
    let repo = match Repo::open(surroundings(&storage, cache), &key(7)) {
        Ok(repo) => Arc::new(repo),
        Err(error) => return Aftermath { report: Err(error.to_string()), whole },
    };
    let report = check::run(&repo, &ALL, &Silent::default()).map_err(|error| error.to_string());
    for (id, files) in expected {
        let Ok(Some(snapshot)) = repo.read_snapshot(*id) else { continue };
        let Ok(chunks) = repo.chunk_reader() else { continue };
        let (mut read, mut failure) = (Files::new(), None);
        read_folder(&TreeReader::new(Arc::new(chunks)), snapshot.root, &[], &mut read, &mut failure);
        for (path, bytes) in &read {
            assert!(files.get(path) == Some(bytes), "{what}: {} differs", path.escape_ascii());
        }
        if failure.is_none() {
            assert_eq!(read.len(), files.len(), "{what}: files vanished without an error");
            whole.insert(*id);
        }
    }
    Aftermath { report, whole }
}

#[test]
fn a_repository_in_order_passes() {
    for parity in [false, true] {
        let fixture = fixture(parity);
        let Aftermath { report, whole } = look(fixture.objects.clone(), &fixture.expected, "in order");
        let report = report.unwrap();
        assert!(!report.has_damage(), "{:#?}", report.findings);
        let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [FindingCode::LeaseLeftover]);
        assert_eq!(whole.len(), 3);
        assert_eq!((report.snapshots_checked, report.packs_checked, report.packs_read), (3, 6, 6));
        assert!(report.nodes_checked > 6 && report.chunks_checked > 10 && report.chunks_read > 16);
    }
}
