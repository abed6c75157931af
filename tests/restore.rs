//! What was backed up comes back: a tree of strange files, through a real repository.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kluis::backup::{self, BackupOptions};
use kluis::clock::SystemClock;
use kluis::event::Silent;
use kluis::repo::{Identity, InitOptions, Repo, SnapshotFilter, Surroundings, TreeReader, UnlockSecret};
use kluis::restore::{self, RestoreContext, RestoreOptions, RestoreReport, RestoreRequest};
use kluis::storage::MemoryStorage;
use kluis::target::OwnerMap;

struct Fixture {
    dir: tempfile::TempDir,
    repo: Arc<Repo>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        let around = Surroundings {
            storage: Arc::new(MemoryStorage::new()),
            cache: dir.path().join("cache"),
            clock: Arc::new(SystemClock),
            identity: Identity {
                host: "host".to_owned(),
                user: "user".to_owned(),
                process: 1,
                boot: "boot".to_owned(),
            },
        };
        let secret = UnlockSecret::KeyFile(kluis::crypto::Secret::new([7; 32]));
        let repo = Repo::init(around, &InitOptions::default(), &secret).unwrap();
        Self { dir, repo: Arc::new(repo) }
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn backup(&self) {
        let options = BackupOptions { sources: vec![self.source()], threads: 2, ..BackupOptions::default() };
        let report = backup::run(&self.repo, &options, &Silent::default()).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }

    fn restore(&self) -> RestoreReport {
        let list = self.repo.snapshots().unwrap();
        let snapshot = list.select("latest", &SnapshotFilter::default()).unwrap();
        let reader = TreeReader::new(Arc::new(self.repo.chunk_reader().unwrap()));
        let context =
            RestoreContext { origin: &reader, owners: &OwnerMap::default(), observer: &Silent::default() };
        let options = RestoreOptions { verify: true, delete: true, owner: true, ..RestoreOptions::default() };
        let request = RestoreRequest::Folder(snapshot.root);
        restore::run(&context, &request, &self.target(), &options).unwrap()
    }

    fn restored(&self) -> PathBuf {
        self.target().join(self.source().strip_prefix("/").unwrap())
    }
}

/// Everything that can be seen of a tree.
fn see(folder: &Path, below: &Path, seen: &mut BTreeMap<PathBuf, String>) {
    let metadata = fs::symlink_metadata(folder).unwrap();
    let content = if metadata.is_symlink() {
        format!("{:?}", fs::read_link(folder).unwrap())
    } else if metadata.is_file() && metadata.len() < 1 << 30 {
        kluis_hash(&fs::read(folder).unwrap())
    } else {
        String::new()
    };
    let text = format!(
        "{:o} {} {} {} {}.{} {content}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        if metadata.is_dir() { 0 } else { metadata.len() },
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    seen.insert(below.to_path_buf(), text);
    if metadata.is_dir() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            see(&entry.path(), &below.join(entry.file_name()), seen);
        }
    }
}

fn kluis_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

fn assert_same(one: &Path, two: &Path) {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    see(one, Path::new(""), &mut left);
    see(two, Path::new(""), &mut right);
    assert_eq!(left, right);
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn make_strange_tree(source: &Path) {
    let name = |bytes: &[u8]| source.join(std::ffi::OsStr::from_bytes(bytes));
    for at in 0..300 {
        let folder = source.join(format!("folder-{}", at % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{at}")), noise(at, (at * 97) as usize)).unwrap();
    }
    fs::write(name(b"new\nline \xff\xfe"), "strange").unwrap();
    fs::write(source.join("large"), noise(1000, 9_000_000)).unwrap();
    fs::write(source.join("empty"), "").unwrap();
    symlink("/nowhere/at all", source.join("link")).unwrap();
    fs::hard_link(source.join("large"), source.join("folder-1/large-too")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(&noise(5, 100_000), 1 << 35).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, source.join("fifo"), fifo, mode, 0).unwrap();
    let _ = rustix::fs::setxattr(source.join("empty"), "user.note", b"kept", rustix::fs::XattrFlags::empty());
}

#[test]
fn a_strange_tree_comes_back_and_follows_its_changes() {
    let fixture = Fixture::new();
    make_strange_tree(&fixture.source());
    fixture.backup();
    let report = fixture.restore();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    assert_eq!(report.hard_links, 1);
    assert_same(&fixture.source(), &fixture.restored());
    let inode = |path: &str| fs::metadata(fixture.restored().join(path)).unwrap().ino();
    assert_eq!(inode("large"), inode("folder-1/large-too"));
    let sparse = fs::metadata(fixture.restored().join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20);
    let mut note = [0; 8];
    if let Ok(len) = rustix::fs::getxattr(fixture.source().join("empty"), "user.note", &mut note) {
        let restored = rustix::fs::getxattr(fixture.restored().join("empty"), "user.note", &mut note);
        assert_eq!(restored, Ok(len));
    }

    // Change it, back it up again, and restore over what is there.
    fs::remove_dir_all(fixture.source().join("folder-3")).unwrap();
    fs::write(fixture.source().join("folder-3"), "now a file").unwrap();
    fs::remove_file(fixture.source().join("link")).unwrap();
    fs::create_dir(fixture.source().join("link")).unwrap();
    let large = fs::OpenOptions::new().write(true).open(fixture.source().join("large")).unwrap();
    large.write_all_at(b"changed", 4_000_000).unwrap();
    fixture.backup();
    let report = fixture.restore();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    assert_same(&fixture.source(), &fixture.restored());
}
