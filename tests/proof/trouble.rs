//! A source that misbehaves: what grows, shrinks, vanishes or turns into something else while it is read is
//! reported, and the rest is stored.
//!
//! The moments are chosen without waiting: a backup counts into its observer after it has listed a folder and
//! before it opens what is in it, and again after each part of a large file. The observer meddles there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kluis::backup::BackupReport;
use kluis::event::{Observer, Problem, Progress};
use kluis::format::tree::{Content, Entry, EntryKind};
use kluis::id::NodeId;
use kluis::repo::{Repo, TreeReader};
use kluis::restore::Overwrite;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::fixture::{
    assert_newest_is, assert_nothing_new, back_up_watched, back_up_well, cache_folder, init_in_memory, noise,
    snapshot_of, write,
};
use crate::restored::restore;
use crate::tree::{capture, file_bytes, sparse_map};

/// Large enough to be read in several parts.
const LARGE_BYTES: usize = 20 << 20;
/// Before anything of the topmost folder is opened.
const AFTER_LISTING: u64 = 0;
/// In the middle of the large file, if that is the first one.
const AFTER_FIRST_PART: u64 = 1;

/// Does something to the source at a chosen moment.
struct Meddler<'a> {
    progress: Progress,
    at: u64,
    count: AtomicU64,
    deed: Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>,
}

impl Observer for Meddler<'_> {
    fn progress(&self) -> &Progress {
        if self.count.fetch_add(1, Ordering::SeqCst) == self.at
            && let Some(deed) = self.deed.lock().unwrap().take()
        {
            deed();
        }
        &self.progress
    }
    fn phase(&self, _name: &'static str) {}
    fn problem(&self, _problem: &Problem) {}
    fn note(&self, _text: &str) {}
    fn is_interrupted(&self) -> bool {
        false
    }
}

struct Scene {
    source: tempfile::TempDir,
    _cache: tempfile::TempDir,
    repo: Arc<Repo>,
}

impl Scene {
    fn new() -> Self {
        let (source, cache) = (tempfile::tempdir().unwrap(), cache_folder());
        let (_, repo) = init_in_memory(cache.path(), 1 << 20);
        Self { source, _cache: cache, repo }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.source.path().join(below)
    }

    /// Backs up, and meddles at the moment `at`.
    fn back_up(&self, at: u64, deed: impl FnOnce() + Send) -> BackupReport {
        let deed: Box<dyn FnOnce() + Send> = Box::new(deed);
        let meddler = Meddler {
            progress: Progress::default(),
            at,
            count: AtomicU64::new(0),
            deed: Mutex::new(Some(deed)),
        };
        let report = back_up_watched(&self.repo, self.source.path(), &meddler).unwrap();
        assert!(meddler.deed.lock().unwrap().is_none(), "the moment never came");
        report
    }

    /// The entries of the topmost folder of the snapshot with their bytes.
    fn stored(&self, report: &BackupReport) -> BTreeMap<String, (Entry, Vec<u8>)> {
        let reader = TreeReader::new(Arc::new(self.repo.chunk_reader().unwrap()));
        let top = folder_at(&reader, snapshot_of(&self.repo, report).root, self.source.path());
        let entries = reader.directory(top).map(|entry| {
            let entry = entry.unwrap();
            let is_file = entry.kind == EntryKind::File;
            let bytes = if is_file { file_bytes(&reader, &entry) } else { Vec::new() };
            (String::from_utf8(entry.name.as_slice().to_vec()).unwrap(), (entry, bytes))
        });
        entries.collect()
    }

    /// Exactly these paths have a problem.
    fn assert_problems(&self, report: &BackupReport, expected: &[&str]) {
        let mut paths: Vec<_> = report.problems.iter().map(|problem| problem.path.clone()).collect();
        paths.sort();
        let expected: Vec<_> = expected.iter().map(|below| self.path(below)).collect();
        assert_eq!(paths, expected, "{:?}", report.problems);
    }

    /// The trouble is over: the next backup has no problem and stores what there is.
    fn assert_next_is_whole(&self) {
        back_up_well(&self.repo, self.source.path());
        assert_newest_is(&self.repo, self.source.path(), &capture(self.source.path()));
    }
}

fn folder_at(reader: &TreeReader, root: NodeId, path: &Path) -> NodeId {
    let parts: Vec<_> = path.as_os_str().as_bytes().split(|byte| *byte == b'/').collect();
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    match reader.resolve(root, &parts).unwrap().unwrap().content {
        Content::Directory(id) => id,
        other => panic!("{other:?} is no folder"),
    }
}

fn make_fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn what_vanishes_or_turns_into_something_else_after_the_listing_is_reported() {
    let scene = Scene::new();
    for name in ["fifo", "folder", "gone", "good", "link"] {
        write(scene.source.path(), name, name.as_bytes());
    }
    write(scene.source.path(), "gone-folder/file", b"below");
    let report = scene.back_up(AFTER_LISTING, || {
        for name in ["fifo", "folder", "gone", "link"] {
            fs::remove_file(scene.path(name)).unwrap();
        }
        make_fifo(&scene.path("fifo"));
        fs::create_dir(scene.path("folder")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", scene.path("link")).unwrap();
    });
    scene.assert_problems(&report, &["fifo", "folder", "gone", "link"]);
    let stored = scene.stored(&report);
    assert_eq!(stored["good"].1, b"good");
    assert!(stored.contains_key("gone-folder"));
    for (name, (_, bytes)) in &stored {
        assert!(name == "good" || bytes.is_empty(), "{name} holds what was not in it");
    }
    scene.assert_next_is_whole();
}

#[test]
fn a_large_file_that_turns_into_a_fifo_after_the_listing_is_reported() {
    let scene = Scene::new();
    write(scene.source.path(), "large", &noise(LARGE_BYTES, 1));
    write(scene.source.path(), "other", b"stored");
    let report = scene.back_up(AFTER_LISTING, || {
        fs::remove_file(scene.path("large")).unwrap();
        make_fifo(&scene.path("large"));
    });
    scene.assert_problems(&report, &["large"]);
    assert_eq!(scene.stored(&report)["other"].1, b"stored");
    scene.assert_next_is_whole();
}

#[test]
fn a_file_that_changed_its_length_between_listing_and_reading_is_stored_as_it_is() {
    let scene = Scene::new();
    write(scene.source.path(), "longer", &noise(1000, 1));
    write(scene.source.path(), "shorter", &noise(100_000, 2));
    let report = scene.back_up(AFTER_LISTING, || {
        write(scene.source.path(), "longer", &noise(200_000, 3));
        write(scene.source.path(), "shorter", &noise(10, 4));
    });
    scene.assert_problems(&report, &[]);
    assert_newest_is(&scene.repo, scene.source.path(), &capture(scene.source.path()));
}

#[test]
fn a_file_that_grows_while_it_is_read_is_stored_as_long_as_it_was() {
    let scene = Scene::new();
    let bytes = noise(LARGE_BYTES, 1);
    write(scene.source.path(), "large", &bytes);
    write(scene.source.path(), "other", b"stored");
    let report = scene.back_up(AFTER_FIRST_PART, || {
        let file = fs::OpenOptions::new().append(true).open(scene.path("large")).unwrap();
        std::io::Write::write_all(&mut &file, &noise(9 << 20, 2)).unwrap();
    });
    scene.assert_problems(&report, &["large"]);
    let stored = scene.stored(&report);
    assert!(stored["large"].1 == bytes, "it is the file at its opening");
    assert_eq!(stored["other"].1, b"stored");
    scene.assert_next_is_whole();
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_stored_as_far_as_it_was_read() {
    let scene = Scene::new();
    let bytes = noise(LARGE_BYTES, 1);
    write(scene.source.path(), "large", &bytes);
    write(scene.source.path(), "other", b"stored");
    let report = scene.back_up(AFTER_FIRST_PART, || {
        fs::OpenOptions::new().write(true).open(scene.path("large")).unwrap().set_len(9 << 20).unwrap();
    });
    scene.assert_problems(&report, &["large"]);
    let stored = scene.stored(&report);
    assert!(stored["large"].1 == bytes[..9 << 20], "it is the beginning of the file");
    assert_eq!(stored["other"].1, b"stored");
    scene.assert_next_is_whole();
}

#[test]
fn a_file_with_holes_that_is_cut_while_it_is_read_keeps_its_bytes_in_their_places() {
    let scene = Scene::new();
    write(scene.source.path(), "large", &noise(8 << 20, 1));
    let file = fs::OpenOptions::new().write(true).open(scene.path("large")).unwrap();
    file.write_all_at(&noise(8 << 20, 2), 12 << 20).unwrap();
    file.write_all_at(&noise(1 << 20, 3), 30 << 20).unwrap();
    let bytes = fs::read(scene.path("large")).unwrap();
    let report = scene.back_up(AFTER_FIRST_PART, || file.set_len(14 << 20).unwrap());
    scene.assert_problems(&report, &["large"]);
    let stored = &scene.stored(&report)["large"].1;
    assert_eq!(stored.len(), 14 << 20);
    assert!(*stored == bytes[..14 << 20], "it is the beginning of the file");
    scene.assert_next_is_whole();
}

#[test]
fn a_file_that_is_rewritten_while_it_is_read_is_reported() {
    let scene = Scene::new();
    write(scene.source.path(), "large", &noise(LARGE_BYTES, 1));
    let report = scene.back_up(AFTER_FIRST_PART, || {
        let file = fs::OpenOptions::new().write(true).open(scene.path("large")).unwrap();
        file.write_all_at(&noise(1000, 9), 1000).unwrap();
    });
    scene.assert_problems(&report, &["large"]);
    assert_eq!(scene.stored(&report)["large"].1.len(), LARGE_BYTES);
    scene.assert_next_is_whole();
}

#[test]
fn a_file_that_never_stops_changing_ends_all_the_same() {
    let scene = Scene::new();
    write(scene.source.path(), "large", &noise(LARGE_BYTES, 1));
    write(scene.source.path(), "other", b"stored");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(scene.path("large")).unwrap();
            for turn in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                file.write_all_at(&noise(4096, turn), (turn * 7919) % (30 << 20)).unwrap();
                file.set_len((turn * 104_729) % (30 << 20)).unwrap();
            }
        });
        for _ in 0..5 {
            let report = scene.back_up(AFTER_LISTING, || ());
            assert_eq!(scene.stored(&report)["other"].1, b"stored");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    scene.assert_next_is_whole();
}

#[test]
fn a_tebibyte_of_nothing_is_not_read() {
    let scene = Scene::new();
    let file = fs::File::create(scene.path("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(&noise(100_000, 1), 1 << 39).unwrap();
    let report = back_up_well(&scene.repo, scene.source.path());
    assert!(report.bytes_read < 1 << 20, "{} bytes were read", report.bytes_read);
    let reader = TreeReader::new(Arc::new(scene.repo.chunk_reader().unwrap()));
    let top = folder_at(&reader, snapshot_of(&scene.repo, &report).root, scene.source.path());
    let entry = reader.find(top, b"sparse").unwrap().unwrap();
    assert_eq!(entry.size, 1 << 40);
    let map = sparse_map(&entry);
    assert_eq!((map.holes[0].skip, map.holes[0].len), (0, 1 << 39));
    assert_eq!(map.hole_bytes().unwrap() + report.bytes_read, 1 << 40);
}

/// Folders inside folders, and a file in the last one. Their path may be longer than any call takes.
fn make_chain(root: &Path, names: &[Vec<u8>]) {
    let last = names.iter().fold(open_folder(CWD, root.as_os_str().as_bytes()), |folder, name| {
        rustix::fs::mkdirat(&folder, name.as_slice(), Mode::from_raw_mode(0o755)).unwrap();
        open_folder(&folder, name)
    });
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = rustix::fs::openat(last, "at the bottom", flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(&file, b"found").unwrap();
}

fn assert_chain(root: &Path, names: &[Vec<u8>]) {
    let top = open_folder(CWD, root.as_os_str().as_bytes());
    let last = names.iter().fold(top, |folder, name| open_folder(&folder, name));
    let file = rustix::fs::openat(last, "at the bottom", OFlags::RDONLY, Mode::empty()).unwrap();
    let mut bytes = [0; 10];
    let len = rustix::io::read(&file, &mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"found");
}

fn open_folder(folder: impl std::os::fd::AsFd, name: &[u8]) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty()).unwrap()
}

fn survives_chain(names: &[Vec<u8>]) {
    let scene = Scene::new();
    make_chain(scene.source.path(), names);
    let report = back_up_well(&scene.repo, scene.source.path());
    assert_eq!(report.files_new, 1);
    assert_nothing_new(&back_up_well(&scene.repo, scene.source.path()));
    let target = tempfile::tempdir().unwrap();
    let snapshot = snapshot_of(&scene.repo, &report);
    restore(&scene.repo, &snapshot, scene.source.path(), target.path(), Overwrite::Always);
    assert_chain(target.path(), names);
    // Removing such a tree by recursion would need as many open folders.
    for root in [scene.source.path(), target.path()] {
        let first = root.join(OsStr::from_bytes(&names[0]));
        assert!(std::process::Command::new("rm").arg("-rf").arg(first).status().unwrap().success());
    }
}

#[test]
fn folders_four_thousand_deep_come_back() {
    survives_chain(&vec![b"d".to_vec(); 4096]);
}

#[test]
fn a_path_longer_than_any_call_takes_comes_back() {
    survives_chain(&vec![vec![b'n'; 255]; 20]);
}
