//! Restoring from an origin in memory: plans, windows, damage, and what stays untouched.

mod preview;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::clock::Timestamp;
use crate::event::Silent;
use crate::format::tree::{ChunkRef, Content, Entry, EntryKind, Hole, SparseMap, tag};
use crate::id::{ChunkId, ListId};
use crate::wire::{self, Bytes};

pub(super) fn entry(name: &str, kind: EntryKind) -> Entry {
    Entry {
        name: Bytes::from(name.as_bytes()),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: 1_000_000, nanoseconds: 42 },
        ctime: Timestamp::default(),
        inode: 1,
        size: 0,
        content: Content::None,
        extensions: Vec::new(),
    }
}

/// A repository in memory: chunks of 1,000 bytes, four to a frame, three frames to a pack.
#[derive(Default)]
struct Fake {
    directories: HashMap<NodeId, Vec<Entry>>,
    lists: HashMap<ListId, Vec<ChunkRef>>,
    places: HashMap<ChunkId, Place>,
    packs: Vec<Vec<Vec<u8>>>,
    chunk_count: usize,
    damaged_frames: HashSet<(u32, u16)>,
    broken_directories: HashSet<NodeId>,
    frames_read: std::sync::Mutex<Vec<(u32, u16)>>,
}

const CHUNK: usize = 1000;

impl Fake {
    fn chunk(&mut self, bytes: &[u8]) -> ChunkRef {
        let id = ChunkId::new(*blake3::hash(bytes).as_bytes());
        let len = u32::try_from(bytes.len()).unwrap();
        if !self.places.contains_key(&id) {
            let frame_number = self.chunk_count / 4;
            let (pack, frame) = (frame_number / 3, frame_number % 3);
            self.packs.resize_with(self.packs.len().max(pack + 1), Vec::new);
            let frames = &mut self.packs[pack];
            frames.resize_with(frames.len().max(frame + 1), Vec::new);
            let start = u32::try_from(frames[frame].len()).unwrap();
            frames[frame].extend_from_slice(bytes);
            self.places.insert(id, Place { pack: pack as u32, frame: frame as u16, start, len });
            self.chunk_count += 1;
        }
        ChunkRef { id, len }
    }

    fn content(&mut self, bytes: &[u8]) -> Content {
        let chunks: Vec<ChunkRef> = bytes.chunks(CHUNK).map(|chunk| self.chunk(chunk)).collect();
        if chunks.is_empty() {
            Content::None
        } else if chunks.len() <= 8 {
            Content::Chunks(chunks)
        } else {
            let id = ListId::new(*blake3::hash(bytes).as_bytes());
            self.lists.insert(id, chunks);
            Content::List(id)
        }
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Entry {
        let mut file = entry(name, EntryKind::File);
        file.size = bytes.len() as u64;
        file.content = self.content(bytes);
        file
    }

    fn directory_id(&mut self, mut entries: Vec<Entry>) -> NodeId {
        entries.sort_by(|one, next| one.name.cmp(&next.name));
        let text = format!("{} {entries:?}", self.directories.len());
        let id = NodeId::new(*blake3::hash(text.as_bytes()).as_bytes());
        self.directories.insert(id, entries);
        id
    }

    fn folder(&mut self, name: &str, entries: Vec<Entry>) -> Entry {
        let mut folder = entry(name, EntryKind::Directory);
        folder.mode = 0o755;
        folder.size = entries.iter().map(|entry| entry.size).sum();
        folder.content = Content::Directory(self.directory_id(entries));
        folder
    }
}

impl Origin for Fake {
    fn directory(&self, id: NodeId) -> Stored<'_, Entry> {
        let broken = self.broken_directories.contains(&id);
        let error = broken.then(|| Err(OriginError("node is damaged".into())));
        let take = if broken { 1 } else { usize::MAX };
        Box::new(self.directories[&id].iter().cloned().map(Ok).take(take).chain(error))
    }

    fn chunks(&self, content: &Content) -> Stored<'_, ChunkRef> {
        let chunks = match content {
            Content::Chunks(chunks) => chunks.clone(),
            Content::List(id) => self.lists[id].clone(),
            _ => Vec::new(),
        };
        Box::new(chunks.into_iter().map(Ok))
    }

    fn locate(&self, id: &ChunkId) -> Result<Option<Place>, OriginError> {
        Ok(self.places.get(id).copied())
    }

    fn read_frames(
        &self,
        pack: u32,
        frames: &[u16],
        visit: &mut FrameVisitor<'_>,
    ) -> Result<(), OriginError> {
        for frame in frames {
            self.frames_read.lock().unwrap().push((pack, *frame));
            if self.damaged_frames.contains(&(pack, *frame)) {
                visit(*frame, Err(OriginError("frame does not open".into())));
            } else {
                visit(*frame, Ok(&self.packs[pack as usize][*frame as usize]));
            }
        }
        Ok(())
    }

    fn verify_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        blake3::hash(bytes).as_bytes() == id.bytes()
    }
}

fn options() -> RestoreOptions {
    RestoreOptions { thread_count: 3, verify: true, ..RestoreOptions::default() }
}

fn restore_with(
    fake: &Fake,
    root: NodeId,
    target: &Path,
    options: &RestoreOptions,
) -> Result<RestoreReport, RestoreError> {
    let (owners, observer) = (crate::target::OwnerMap::default(), Silent::default());
    let context = RestoreContext { origin: fake, owners: &owners, observer: &observer };
    run(&context, &RestoreRequest::Folder(root), target, options)
}

fn restore(fake: &Fake, root: NodeId, target: &Path, options: &RestoreOptions) -> RestoreReport {
    restore_with(fake, root, target, options).unwrap()
}

fn assert_is_clean(report: &RestoreReport) {
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
}

/// Bytes that do not repeat, different for each seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_tree_comes_back_with_contents_and_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let long = noise(1, 50 * CHUNK + 17);
    let mut files: Vec<Entry> =
        (0..200).map(|at| fake.file(&format!("small-{at:03}"), &noise(100 + at, 300))).collect();
    files.push(fake.file("empty", b""));
    files.push(fake.file("long", &long));
    let inner = fake.folder("inner", files);
    let mut link = entry("link", EntryKind::Symlink);
    link.content = Content::LinkTarget(Bytes::from(&b"../../nowhere"[..]));
    let mut read_only = fake.folder("read-only", vec![inner, link, entry("pipe", EntryKind::Fifo)]);
    read_only.mode = 0o555;
    let root = fake.directory_id(vec![read_only]);
    let report = restore(&fake, root, dir.path(), &options());
    assert_is_clean(&report);
    assert_eq!(
        (report.files_restored, report.folders, report.symlinks, report.special_files),
        (202, 2, 1, 1)
    );
    assert_eq!((report.bytes_written, report.files_verified), (200 * 300 + long.len() as u64, 202));
    assert_eq!(fs::read(dir.path().join("read-only/inner/long")).unwrap(), long);
    for at in 0..200 {
        let bytes = fs::read(dir.path().join(format!("read-only/inner/small-{at:03}"))).unwrap();
        assert_eq!(bytes, noise(100 + at, 300));
    }
    for path in ["read-only", "read-only/inner", "read-only/link", "read-only/inner/empty", "read-only/pipe"]
    {
        let metadata = fs::symlink_metadata(dir.path().join(path)).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000, 42), "{path}");
    }
    let mode = fs::metadata(dir.path().join("read-only")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o555);
    let mut frames = fake.frames_read.lock().unwrap().clone();
    let count = frames.len();
    frames.sort_unstable();
    frames.dedup();
    assert_eq!(frames.len(), count, "a frame was opened twice");
}

#[test]
fn a_second_restore_finds_everything_right() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let files = (0..50).map(|at| fake.file(&format!("{at}"), &noise(at, 2500))).collect();
    let folder = fake.folder("folder", files);
    let root = fake.directory_id(vec![folder]);
    restore(&fake, root, dir.path(), &options());
    fake.frames_read.lock().unwrap().clear();
    let report = restore(&fake, root, dir.path(), &options());
    assert_is_clean(&report);
    assert_eq!((report.files_restored, report.files_unchanged, report.bytes_written), (0, 50, 0));
    let always = RestoreOptions { overwrite: Overwrite::Always, ..options() };
    let report = restore(&fake, root, dir.path(), &always);
    assert_eq!((report.bytes_written, report.bytes_unchanged), (0, 50 * 2500));
    assert_eq!((report.files_restored, report.files_unchanged), (0, 50));
    assert!(fake.frames_read.lock().unwrap().is_empty());
}

#[test]
fn a_changed_file_is_mended_where_it_differs() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let right = noise(1, 20 * CHUNK);
    let file = fake.file("file", &right);
    let root = fake.directory_id(vec![file]);
    let mut wrong = right.clone();
    wrong[5 * CHUNK + 3] ^= 1;
    for wrong in
        [wrong, right[..3 * CHUNK + 1].to_vec(), [right.clone(), noise(2, 5000)].concat(), Vec::new()]
    {
        fs::write(dir.path().join("file"), &wrong).unwrap();
        let inode = fs::metadata(dir.path().join("file")).unwrap().ino();
        let report = restore(&fake, root, dir.path(), &options());
        assert_is_clean(&report);
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), right);
        assert_eq!(fs::metadata(dir.path().join("file")).unwrap().ino(), inode);
        assert_eq!(report.bytes_written + report.bytes_unchanged, right.len() as u64);
        let same = wrong.chunks(CHUNK).zip(right.chunks(CHUNK)).filter(|(one, two)| one == two).count();
        assert_eq!(report.bytes_unchanged, (same * CHUNK) as u64);
    }
}

#[test]
fn a_file_with_a_name_outside_is_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(dir.path().join("outside"), "precious").unwrap();
    fs::hard_link(dir.path().join("outside"), target.join("file")).unwrap();
    let mut fake = Fake::default();
    let file = fake.file("file", b"new content");
    let root = fake.directory_id(vec![file]);
    assert_is_clean(&restore(&fake, root, &target, &options()));
    assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"precious");
    assert_eq!(fs::read(target.join("file")).unwrap(), b"new content");
}

#[test]
fn whatever_is_in_the_way_is_removed_but_not_what_it_points_to() {
    let dir = tempfile::tempdir().unwrap();
    let (target, outside) = (dir.path().join("target"), dir.path().join("outside"));
    fs::create_dir_all(target.join("file/tree")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("inner"), "precious").unwrap();
    symlink(&outside, target.join("folder")).unwrap();
    fs::write(target.join("link"), "x").unwrap();
    let mut fake = Fake::default();
    let inner = fake.file("inner", b"from the snapshot");
    let folder = fake.folder("folder", vec![inner]);
    let file = fake.file("file", b"content");
    let mut link = entry("link", EntryKind::Symlink);
    link.content = Content::LinkTarget(Bytes::from(&b"a"[..]));
    let root = fake.directory_id(vec![folder, file, link]);
    assert_is_clean(&restore(&fake, root, &target, &options()));
    assert_eq!(fs::read(outside.join("inner")).unwrap(), b"precious");
    assert_eq!(fs::read(target.join("folder/inner")).unwrap(), b"from the snapshot");
    assert_eq!(fs::read(target.join("file")).unwrap(), b"content");
    assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("a"));
}

#[test]
fn names_that_lead_elsewhere_are_problems_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let mut fake = Fake::default();
    let mut entries: Vec<Entry> =
        ["..", "/etc/evil", "a/../../evil", ".", "good"].map(|name| fake.file(name, b"x")).into();
    entries.push(fake.folder("../folder", Vec::new()));
    let root = fake.directory_id(entries);
    let report = restore(&fake, root, &target, &options());
    assert_eq!(report.problem_count, 5, "{:?}", report.problems);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn one_damaged_frame_costs_only_the_files_that_need_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let files: Vec<Entry> = (0..12).map(|at| fake.file(&format!("{at:02}"), &noise(at, CHUNK))).collect();
    let long = fake.file("long", &[noise(4, CHUNK), noise(99, CHUNK)].concat());
    let root = fake.directory_id([files, vec![long]].concat());
    fake.damaged_frames.insert((0, 1));
    let report = restore(&fake, root, dir.path(), &options());
    let damaged: Vec<_> = report
        .damaged
        .iter()
        .map(|problem| problem.path.display().to_string())
        .collect::<HashSet<_>>()
        .into_iter()
        .collect();
    let mut damaged = damaged;
    damaged.sort();
    assert_eq!(damaged, ["04", "05", "06", "07", "long"]);
    assert!(report.problems.is_empty());
    assert_eq!((report.files_restored, report.damaged_count), (8, 5));
    let mut readable = vec![0; CHUNK];
    readable.extend(noise(99, CHUNK));
    assert_eq!(fs::read(dir.path().join("long")).unwrap(), readable);
    assert_ne!(fs::metadata(dir.path().join("long")).unwrap().mtime(), 1_000_000);
    // Once the repository is repaired, the same restore mends them.
    fake.damaged_frames.clear();
    let report = restore(&fake, root, dir.path(), &options());
    assert_is_clean(&report);
    assert_eq!((report.files_restored, report.files_unchanged), (5, 8));
}

#[test]
fn wrong_bytes_in_the_place_of_a_chunk_are_never_restored() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let file = fake.file("file", &noise(1, 500));
    let gone = fake.file("gone", &noise(2, 500));
    let root = fake.directory_id(vec![file, gone]);
    fake.packs[0][0][3] ^= 1;
    fake.places.remove(&ChunkId::new(*blake3::hash(&noise(2, 500)).as_bytes()));
    let report = restore(&fake, root, dir.path(), &options());
    assert_eq!((report.damaged_count, report.files_restored), (2, 0));
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), vec![0; 500]);
}

#[test]
fn a_damaged_folder_is_named_and_nothing_in_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("folder/kept"), "x").unwrap();
    fs::write(dir.path().join("extra"), "x").unwrap();
    let mut fake = Fake::default();
    let files = vec![fake.file("a", b"1"), fake.file("b", b"2")];
    let folder = fake.folder("folder", files);
    let Content::Directory(id) = folder.content else { unreachable!() };
    fake.broken_directories.insert(id);
    let root = fake.directory_id(vec![folder]);
    let report = restore(&fake, root, dir.path(), &RestoreOptions { delete: true, ..options() });
    assert_eq!((report.damaged_count, report.files_restored, report.deleted), (1, 1, 1));
    assert!(dir.path().join("folder/kept").exists() && !dir.path().join("extra").exists());
    fake.broken_directories.clear();
    let report = restore(&fake, root, dir.path(), &RestoreOptions { delete: true, ..options() });
    assert_eq!((report.files_restored, report.deleted), (1, 1));
}

#[test]
fn further_names_become_hard_links() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let mut first = fake.file("first", &noise(1, 5 * CHUNK));
    first.set_extension(tag::HARD_LINK, vec![3]);
    first.inode = 77;
    let mut second = first.clone();
    second.name = Bytes::from(&b"second"[..]);
    let other = fake.folder("other", vec![second]);
    let root = fake.directory_id(vec![first, other]);
    for expected in [1, 0] {
        let report = restore(&fake, root, dir.path(), &options());
        assert_is_clean(&report);
        assert_eq!(report.hard_links, expected);
        let inode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().ino();
        assert_eq!(inode("first"), inode("other/second"));
    }
    let folder = fs::metadata(dir.path().join("other")).unwrap();
    assert_eq!(folder.mtime(), 1_000_000);
}

#[test]
fn holes_stay_holes_and_are_verified() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let data = noise(1, 3 * CHUNK);
    let mut file = fake.file("file", &data);
    file.size = (1 << 40) + data.len() as u64;
    let holes = vec![Hole { skip: 1500, len: 1 << 40 }];
    file.set_extension(tag::SPARSE_MAP, wire::encode(&SparseMap { holes }, 100).unwrap());
    let root = fake.directory_id(vec![file]);
    for wrong in [false, true] {
        if wrong {
            let file = fs::OpenOptions::new().write(true).open(dir.path().join("file")).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, b"junk", 1 << 30).unwrap();
        }
        let report = restore(&fake, root, dir.path(), &options());
        assert_is_clean(&report);
        let file = fs::File::open(dir.path().join("file")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), (1 << 40) + 3000);
        assert!(file.metadata().unwrap().blocks() < 100);
        let mut bytes = vec![1; 1500];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, (1 << 40) + 1500).unwrap();
        assert_eq!(bytes, data[1500..]);
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes[..4], 1 << 30).unwrap();
        assert_eq!(bytes[..4], [0; 4]);
    }
}

#[test]
fn a_file_longer_than_a_window_is_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let block = noise(1, CHUNK);
    let other = noise(2, CHUNK);
    let chunks = [fake.chunk(&block), fake.chunk(&other)];
    let count = 150_000;
    let mut file = entry("file", EntryKind::File);
    file.size = (count * CHUNK) as u64;
    let id = ListId::new([9; 32]);
    fake.lists.insert(id, (0..count).map(|at| chunks[at % 7 % 2]).collect());
    file.content = Content::List(id);
    let after = fake.file("z-after", b"after");
    let folder = fake.folder("folder", vec![file, after]);
    let root = fake.directory_id(vec![folder]);
    let report = restore(&fake, root, dir.path(), &options());
    assert_is_clean(&report);
    assert_eq!(report.files_restored, 2);
    let bytes = fs::read(dir.path().join("folder/file")).unwrap();
    assert_eq!(bytes.len(), count * CHUNK);
    for (at, found) in bytes.chunks(CHUNK).enumerate() {
        assert!(found == if at % 7 % 2 == 0 { &block } else { &other }, "chunk {at}");
    }
    assert_eq!(fs::metadata(dir.path().join("folder")).unwrap().mtime(), 1_000_000);
}

#[test]
fn an_entry_that_needs_a_newer_version_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let mut file = fake.file("file", b"x");
    file.set_extension(tag::CRITICAL + 7, vec![1]);
    let root = fake.directory_id(vec![file]);
    let report = restore(&fake, root, dir.path(), &RestoreOptions { verify: false, ..options() });
    assert_eq!((report.problem_count, report.files_restored), (1, 0));
    assert!(!dir.path().join("file").exists());
}

#[test]
fn includes_and_excludes_choose() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let deep = vec![fake.file("x.conf", b"1"), fake.file("y.log", b"2")];
    let deep = fake.folder("deep", deep);
    let other = vec![fake.file("z.log", b"3")];
    let other = fake.folder("other", other);
    let root = fake.directory_id(vec![deep, other]);
    let options = RestoreOptions { include: vec!["*.conf".to_owned()], ..options() };
    let report = restore(&fake, root, dir.path(), &options);
    assert_is_clean(&report);
    assert!(dir.path().join("deep/x.conf").exists());
    assert!(!dir.path().join("deep/y.log").exists() && !dir.path().join("other").exists());
    assert_eq!(fs::metadata(dir.path().join("deep")).unwrap().mtime(), 1_000_000);
}

#[test]
fn a_target_that_is_too_small_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let mut file = fake.file("huge", b"x");
    file.size = 1 << 60;
    let root = fake.directory_id(vec![file]);
    let error = restore_with(&fake, root, dir.path(), &options()).unwrap_err();
    assert!(matches!(error, RestoreError::NoSpace { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Path to content, `None` for a folder.
type Tree = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A path, and of a file the seed and length of its content.
type Spec = (Vec<u8>, Option<(u8, usize)>);

fn random_tree() -> impl Strategy<Value = Vec<Spec>> {
    let name = prop::sample::select(vec![&b"a"[..], b"b", b"c\xff", b"d\n", b"e e"]);
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/'));
    prop::collection::vec((path, prop::option::weighted(0.8, (any::<u8>(), 0..6000usize))), 0..25)
}

fn tree(spec: &[Spec]) -> Tree {
    let mut tree = Tree::new();
    for (path, content) in spec {
        let parents: Vec<usize> =
            path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        let blocked = parents.iter().any(|at| matches!(tree.get(&path[..*at]), Some(Some(_))));
        if blocked || tree.contains_key(path) {
            continue;
        }
        for at in parents {
            tree.entry(path[..at].to_vec()).or_insert(None);
        }
        tree.insert(path.clone(), content.map(|(seed, len)| noise(seed.into(), len)));
    }
    tree
}

fn store(fake: &mut Fake, tree: &Tree, folder: &[u8]) -> NodeId {
    let mut entries = Vec::new();
    for (path, content) in tree {
        let below = if folder.is_empty() {
            Some(&path[..])
        } else {
            path.strip_prefix(folder).and_then(|p| p.strip_prefix(b"/"))
        };
        let Some(name) = below.filter(|name| !name.contains(&b'/')) else { continue };
        let mut stored = match content {
            Some(bytes) => fake.file("x", bytes),
            None => {
                let mut stored = entry("x", EntryKind::Directory);
                stored.mode = 0o750;
                stored.content = Content::Directory(store(fake, tree, path));
                stored
            }
        };
        stored.name = Bytes::from(name);
        entries.push(stored);
    }
    fake.directory_id(entries)
}

fn read(target: &Path, below: &[u8], into: &mut Tree) {
    for found in fs::read_dir(target).unwrap() {
        let found = found.unwrap();
        let name = found.file_name().as_bytes().to_vec();
        let path = if below.is_empty() { name } else { [below, &name].join(&b'/') };
        if found.file_type().unwrap().is_dir() {
            read(&found.path(), &path, into);
            into.insert(path, None);
        } else {
            into.insert(path, Some(fs::read(found.path()).unwrap()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tree_restored_over_any_other_is_that_tree(
        first in random_tree(),
        second in random_tree(),
        sparse in any::<bool>(),
        always in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let overwrite = if always { Overwrite::Always } else { Overwrite::IfChanged };
        for (turn, spec) in [&first, &second].into_iter().enumerate() {
            let mut fake = Fake::default();
            let tree = tree(spec);
            let root = store(&mut fake, &tree, b"");
            // The times of the two trees differ, so that equal lengths do not look like equal files.
            for entry in fake.directories.values_mut().flatten() {
                entry.mtime.seconds += turn as i64;
            }
            let options = RestoreOptions { delete: true, sparse, overwrite, ..options() };
            let (planned, _) = preview::preview_of(&fake, root, dir.path(), &options);
            let report = restore(&fake, root, dir.path(), &options);
            prop_assert_eq!(preview::sums(&planned), preview::sums(&report));
            prop_assert_eq!(preview::preview_of(&fake, root, dir.path(), &options).1, [""; 0]);
            prop_assert!(report.problems.is_empty(), "{:?}", report.problems);
            prop_assert!(report.damaged.is_empty(), "{:?}", report.damaged);
            let mut found = Tree::new();
            read(dir.path(), b"", &mut found);
            prop_assert_eq!(found, tree);
        }
    }
}
