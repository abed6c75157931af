//! Backups of real folders into a repository in memory, read back through the tree.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kluis::backup::{self, BackupOptions, BackupReport};
use kluis::clock::SystemClock;
use kluis::crypto::{KdfParams, Secret};
use kluis::event::{Observer, Problem, Progress, Silent};
use kluis::format::tree::{Content, Entry};
use kluis::id::NodeId;
use kluis::repo::{Identity, InitOptions, Repo, RepoError, Surroundings, TreeReader, UnlockSecret};
use kluis::storage::{MemoryStorage, Storage};

#[path = "shared/noise.rs"]
mod noise;
use noise::noise;

fn key() -> UnlockSecret {
    UnlockSecret::KeyFile(Secret::new([7; 32]))
}

fn surroundings(storage: &MemoryStorage, cache: &Path) -> Surroundings {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
    Surroundings { storage, cache: cache.to_owned(), clock: Arc::new(SystemClock), identity }
}

fn options(source: &Path) -> BackupOptions {
    BackupOptions { sources: vec![source.to_owned()], ..BackupOptions::default() }
}

fn init(storage: &MemoryStorage, cache: &Path) -> Arc<Repo> {
    let init = InitOptions { kdf: KdfParams::MIN, ..InitOptions::default() };
    Arc::new(Repo::init(surroundings(storage, cache), &init, &key()).unwrap())
}

fn back_up(repo: &Arc<Repo>, source: &Path) -> BackupReport {
    backup::run(repo, &options(source), &Silent::default()).unwrap()
}

/// Every file below a folder of a snapshot, by path.
fn read_tree(repo: &Arc<Repo>) -> BTreeMap<Vec<u8>, (Entry, Vec<u8>)> {
    let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
    let snapshots = repo.snapshots().unwrap();
    let root = snapshots.select("latest", &Default::default()).unwrap().root;
    let mut files = BTreeMap::new();
    read_folder(&reader, root, &[], &mut files);
    files
}

fn read_folder(
    reader: &TreeReader,
    id: NodeId,
    path: &[u8],
    files: &mut BTreeMap<Vec<u8>, (Entry, Vec<u8>)>,
) {
    for entry in reader.directory(id) {
        let entry = entry.unwrap();
        let below = [path, b"/", entry.name.as_slice()].concat();
        let mut bytes = Vec::new();
        let append = &mut |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok::<(), RepoError>(())
        };
        reader.visit_bytes(&entry.content, append).unwrap();
        if let Content::Directory(id) = entry.content {
            read_folder(reader, id, &below, files);
        }
        files.insert(below, (entry, bytes));
    }
}

#[test]
fn what_was_backed_up_reads_back_and_an_unchanged_tree_costs_nothing() {
    // Folders above the source are in the snapshot: they must not change meanwhile.
    let (source, cache) =
        (tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, bytes: &[u8]| {
        let path = source.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let mut expected = BTreeMap::new();
    for number in 0..1500 {
        expected.insert(
            format!("many/file-{number:05}"),
            format!("text {number}\n").repeat(number % 40).into_bytes(),
        );
    }
    expected.insert("large.bin".to_owned(), noise(30 << 20, 1));
    expected.insert("middle.bin".to_owned(), noise(3 << 20, 2));
    expected.insert("deep/er/and/deeper/still".to_owned(), b"x".to_vec());
    expected.iter().for_each(|(name, bytes)| write(name, bytes));
    std::fs::create_dir(source.path().join("empty")).unwrap();

    let storage = MemoryStorage::new();
    let repo = init(&storage, cache.path());
    let first = back_up(&repo, source.path());
    assert_eq!((first.files_new, first.files_changed, first.files_unchanged), (1503, 0, 0));
    assert!(first.problems.is_empty(), "{:?}", first.problems);
    let read = read_tree(&repo);
    for (name, bytes) in &expected {
        let path = source.path().join(name);
        let (entry, stored) = &read[path.as_os_str().as_encoded_bytes()];
        assert!(stored == bytes, "{name} differs");
        assert_eq!(entry.size, bytes.len() as u64, "{name}");
    }
    assert!(read.contains_key(source.path().join("empty").as_os_str().as_encoded_bytes()));

    let object_count = storage.objects().len();
    let second = back_up(&repo, source.path());
    assert_eq!((second.files_new, second.files_changed, second.files_unchanged), (0, 0, 1503));
    assert_eq!(second.bytes_new, 0);
    assert_eq!(storage.objects().len(), object_count + 2, "a snapshot and its copy are all that is new");
    let snapshots = repo.snapshots().unwrap().snapshots;
    assert_eq!(snapshots[0].root, snapshots[1].root);
    assert_eq!((snapshots[0].sequence, snapshots[1].sequence), (1, 2));

    write("many/file-00700", b"changed");
    let third = back_up(&repo, source.path());
    assert_eq!((third.files_new, third.files_changed, third.files_unchanged), (0, 1, 1502));
    let path = source.path().join("many/file-00700");
    assert_eq!(read_tree(&repo)[path.as_os_str().as_encoded_bytes()].1, b"changed");
    drop(repo);

    let elsewhere = tempfile::tempdir().unwrap();
    let reopened = Arc::new(Repo::open(surroundings(&storage, elsewhere.path()), &key()).unwrap());
    assert_eq!(read_tree(&reopened).len(), read.len());
}

/// Gives a file another mode, and as root another owner, after the walk has seen it and before it is opened.
struct ChangesRights {
    path: PathBuf,
    progress: Progress,
    is_reading: AtomicBool,
}

impl Observer for ChangesRights {
    /// What a folder holds is counted once it was listed; its files are handed out after that.
    fn progress(&self) -> &Progress {
        if self.is_reading.swap(false, Ordering::Relaxed) {
            std::fs::set_permissions(&self.path, PermissionsExt::from_mode(0o4640)).unwrap();
            match chown(&self.path, Some(1), Some(2)) {
                Ok(()) => std::fs::set_permissions(&self.path, PermissionsExt::from_mode(0o4640)).unwrap(),
                Err(error) => eprintln!("skipped: the owner, which only root may change: {error}"),
            }
        }
        &self.progress
    }

    fn phase(&self, name: &'static str) {
        self.is_reading.store(name == "reading files", Ordering::Relaxed);
    }

    fn problem(&self, problem: &Problem) {
        panic!("{problem:?}");
    }

    fn note(&self, _text: &str) {}

    fn is_interrupted(&self) -> bool {
        false
    }
}

#[test]
fn rights_and_owner_are_those_of_the_file_that_was_opened() {
    use std::os::unix::fs::MetadataExt;
    for len in [5, 5 << 20] {
        let (source, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = source.path().join("file");
        std::fs::write(&path, noise(len, 3)).unwrap();
        let repo = init(&MemoryStorage::new(), cache.path());
        let watch = ChangesRights {
            path: path.clone(),
            progress: Progress::default(),
            is_reading: AtomicBool::new(false),
        };
        backup::run(&repo, &options(source.path()), &watch).unwrap();
        let now = std::fs::metadata(&path).unwrap();
        assert_eq!(now.mode() & 0o7777, 0o4640, "the file was changed while the backup ran");
        let (entry, _) = &read_tree(&repo)[path.as_os_str().as_encoded_bytes()];
        assert_eq!((entry.mode, entry.uid, entry.gid), (0o4640, now.uid(), now.gid()));
        let snapshot = &repo.snapshots().unwrap().snapshots[0];
        for number in [(false, now.uid()), (true, now.gid())] {
            assert!(
                snapshot.owners.iter().any(|owner| (owner.is_group, owner.number) == number),
                "{number:?}"
            );
        }
        assert_eq!(back_up(&repo, source.path()).files_unchanged, 1);
    }
}
