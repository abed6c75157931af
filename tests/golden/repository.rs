//! Repositories made by every released format, with the key file that opens them and a text of what they hold.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kluis::backup::{self, BackupOptions, BackupReport, Labels};
use kluis::check;
use kluis::chunker::ChunkSizes;
use kluis::clock::{FixedClock, Timestamp};
use kluis::crypto::{KdfParams, Secret};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::format::key_file;
use kluis::format::snapshot::Snapshot;
use kluis::format::tree::{Content, Entry, SparseMap, tag};
use kluis::limits;
use kluis::repo::{Identity, InitOptions, Repo, RepoError, Surroundings, TreeReader, UnlockSecret};
use kluis::storage::{Leftovers, LocalStorage, LocalStorageOptions};
use kluis::wire;

pub const SECRET: [u8; 32] = *b"this key is for everybody to see";
/// A folder of more entries than one node holds.
const MANY: &str = "/many";

pub fn folder(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format)
}

fn surroundings(place: &Path, cache: &Path) -> Surroundings {
    surroundings_at(place, cache, 1_800_000_000)
}

/// The same for so many seconds after 1970.
pub fn surroundings_at(place: &Path, cache: &Path, seconds: i64) -> Surroundings {
    let options = LocalStorageOptions { leftovers: Leftovers::Remove };
    Surroundings {
        storage: Arc::new(LocalStorage::open(place, options).unwrap()),
        cache: cache.to_owned(),
        clock: Arc::new(FixedClock(Timestamp::from_seconds(seconds))),
        identity: Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() },
    }
}

fn back_up(repo: &Arc<Repo>, source: &Path) -> BackupReport {
    let options = BackupOptions {
        sources: vec![source.to_owned()],
        labels: Labels { tags: vec!["golden".to_owned()], ..Labels::default() },
        threads: 1,
        ..BackupOptions::default()
    };
    backup::run(repo, &options, &Silent::default()).unwrap()
}

/// Everything that a snapshot holds, a line for each entry, and a hash of the lines of the folder with many.
fn describe(repo: &Arc<Repo>, snapshot: &Snapshot) -> String {
    let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
    let totals = &snapshot.totals;
    let mut text = format!(
        "snapshot {} of {} by {}: {:?}, {} files, {} directories, {} bytes\n",
        snapshot.sequence,
        snapshot.host,
        snapshot.user,
        snapshot.tags,
        totals.files,
        totals.directories,
        totals.bytes
    );
    let mut many = blake3::Hasher::new();
    let mut open = vec![(String::new(), snapshot.root)];
    while let Some((path, id)) = open.pop() {
        for entry in reader.directory(id) {
            let entry = entry.unwrap();
            let below = format!("{path}/{}", entry.name.as_slice().escape_ascii());
            let line = describe_entry(&reader, &below, &entry);
            if path.ends_with(MANY) {
                many.update(line.as_bytes());
            } else {
                text.push_str(&line);
            }
            if let Content::Directory(id) = entry.content {
                open.push((below, id));
            }
        }
    }
    text.push_str(&format!("in {MANY}: {}\n", many.finalize()));
    text
}

fn describe_entry(reader: &TreeReader, path: &str, entry: &Entry) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = 0;
    let count = &mut |chunk: &[u8]| {
        hasher.update(chunk);
        bytes += chunk.len();
        Ok::<(), RepoError>(())
    };
    reader.visit_bytes(&entry.content, count).unwrap();
    let content = match &entry.content {
        Content::None | Content::Directory(_) => String::new(),
        Content::Chunks(chunks) => format!(" {} chunks, {bytes} bytes {}", chunks.len(), hasher.finalize()),
        Content::List(_) => format!(" a list, {bytes} bytes {}", hasher.finalize()),
        Content::LinkTarget(target) => format!(" to {}", target.as_slice().escape_ascii()),
        Content::Device(major, minor) => format!(" {major}:{minor}"),
    };
    let holes: SparseMap = entry
        .extension(tag::SPARSE_MAP)
        .map_or_else(SparseMap::default, |map| wire::decode(map, limits::EXTENSIONS_BYTES_MAX).unwrap());
    let holes: String = holes.holes.iter().map(|hole| format!(" {}+{}", hole.skip, hole.len)).collect();
    let xattrs = entry.extension(tag::XATTRS).unwrap_or_default().escape_ascii();
    let is_linked = entry.extension(tag::HARD_LINK).is_some();
    format!(
        "{path} {:?} {:o} {}:{} {}.{:09} {}{content}{holes} {xattrs}{}\n",
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime.seconds,
        entry.mtime.nanoseconds,
        entry.size,
        if is_linked { " linked" } else { "" }
    )
}

pub fn describe_all(repo: &Arc<Repo>) -> String {
    let list = repo.snapshots().unwrap();
    assert!(list.damaged.is_empty(), "{:?}", list.damaged);
    let mut snapshots = list.snapshots;
    snapshots.sort_by_key(|snapshot| snapshot.sequence);
    snapshots.iter().map(|snapshot| describe(repo, snapshot)).collect()
}

pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_repository_of_format_1_is_read_and_goes_on() {
    let golden = folder("format-1");
    let secret = key_file::decode(&fs::read(golden.join("key")).unwrap()).unwrap();
    let key = UnlockSecret::KeyFile(Secret::new(*secret));
    let scratch = tempfile::tempdir().unwrap();
    let (place, cache) = (scratch.path().join("repository"), scratch.path().join("cache"));
    copy(&golden.join("repository"), &place);
    let repo = Arc::new(Repo::open(surroundings(&place, &cache), &key).unwrap());
    let expected = fs::read_to_string(golden.join("contents.txt")).unwrap();
    assert_eq!(describe_all(&repo), expected);

    let source = scratch.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "more").unwrap();
    back_up(&repo, &source);
    let snapshots = describe_all(&repo);
    assert!(snapshots.contains("/file File"), "{snapshots}");
    assert_eq!(snapshots.lines().count(), expected.lines().count() + lines_of_new(&source));
}

/// Three snapshots of a small folder, two of which were forgotten, and one of those brought back.
const FORGOTTEN: &str = "format-1-forgotten";

#[test]
fn what_was_forgotten_in_a_repository_of_format_1_stays_so() {
    let golden = folder(FORGOTTEN);
    let scratch = tempfile::tempdir().unwrap();
    let (place, cache) = (scratch.path().join("repository"), scratch.path().join("cache"));
    copy(&golden.join("repository"), &place);
    let key = UnlockSecret::KeyFile(Secret::new(SECRET));
    let repo = Arc::new(Repo::open(surroundings(&place, &cache), &key).unwrap());
    assert_eq!(describe_all(&repo), fs::read_to_string(golden.join("contents.txt")).unwrap());
    let list = repo.snapshots().unwrap();
    assert_eq!((list.snapshots.len(), list.dead.len()), (2, 2));
    assert_eq!(list.forgotten.warnings(), [""; 0]);
    let record = list.forgotten.records.values().next().unwrap();
    assert_eq!((record.reason.as_str(), record.snapshots.len()), ("golden", 2));
    let back = list.snapshots.iter().find_map(Snapshot::in_place_of).unwrap();
    assert_eq!(back.sequence, 1);
    // The other one can still come back.
    let other: Vec<_> = list.dead.iter().copied().filter(|id| *id != back.snapshot).collect();
    forget::undo(&repo, &other, &Silent::default()).unwrap();
    assert_eq!(repo.snapshots().unwrap().snapshots.len(), 3);
    let report = check::run(&repo, &Default::default(), &Silent::default()).unwrap();
    assert!(!report.has_damage(), "{:?}", report.findings);
}

#[test]
#[ignore = "makes a golden repository where there is none yet: only for a new format"]
fn make_the_repository_with_forgotten_snapshots() {
    let golden = folder(FORGOTTEN);
    let place = golden.join("repository");
    fs::create_dir(&golden).unwrap();
    LocalStorage::create_place(&place).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    // Its path is in the snapshots, for ever.
    let source = std::env::temp_dir().join("golden-forgotten");
    fs::create_dir(&source).unwrap();
    let init = InitOptions { kdf: KdfParams::MIN, ..InitOptions::default() };
    let key = UnlockSecret::KeyFile(Secret::new(SECRET));
    let repo = Repo::init(surroundings(&place, &scratch.path().join("cache")), &init, &key);
    let repo = Arc::new(repo.unwrap());
    for text in ["one", "two", "three"] {
        fs::write(source.join("file"), text).unwrap();
        back_up(&repo, &source);
    }
    let list = repo.snapshots().unwrap();
    let mut ids: Vec<_> = list.snapshots.iter().map(|snapshot| (snapshot.sequence, snapshot.id)).collect();
    ids.sort();
    let ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
    let options = ForgetOptions { reason: "golden".to_owned(), policy: "--keep-last 1".to_owned() };
    forget::run(&repo, &list, &ids[..2], &options, &Silent::default()).unwrap();
    forget::undo(&repo, &ids[..1], &Silent::default()).unwrap();
    fs::write(golden.join("contents.txt"), describe_all(&repo)).unwrap();
    fs::remove_dir_all(&source).unwrap();
}

/// The snapshot itself, the folders on the way, the file, and the hash.
fn lines_of_new(source: &Path) -> usize {
    2 + source.components().count()
}

pub fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

pub fn make_source(source: &Path) {
    let write = |name: &[u8], bytes: &[u8]| {
        fs::write(source.join(std::ffi::OsStr::from_bytes(name)), bytes).unwrap();
    };
    fs::create_dir_all(source.join("folder/empty")).unwrap();
    fs::create_dir(source.join("many")).unwrap();
    for number in 0..4500 {
        write(format!("many/{number:04}").as_bytes(), b"");
    }
    write(b"empty", b"");
    write(b"text", "golden\n".repeat(1000).as_bytes());
    write(b"several chunks", &noise(40_000, 1)[..20_000].repeat(2));
    write(b"a list of chunks", "all the same ".repeat(60_000).as_bytes());
    write(b"new\nline \xff", b"strange");
    std::os::unix::fs::symlink("/nowhere/at all", source.join("link")).unwrap();
    fs::hard_link(source.join("text"), source.join("folder/text too")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.write_all_at(b"in the middle", 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, source.join("fifo"), kind, mode, 0).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(source.join("text"), "user.note", b"kept", flags).unwrap();
}

#[test]
#[ignore = "makes a golden repository where there is none yet: only for a new format"]
fn make_the_repository() {
    let golden = folder("format-1");
    let place = golden.join("repository");
    fs::create_dir(&golden).unwrap();
    fs::write(golden.join("key"), key_file::encode(&SECRET).as_bytes()).unwrap();
    LocalStorage::create_place(&place).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    // Its path is in the snapshot, for ever.
    let source = std::env::temp_dir().join("golden");
    let cache = scratch.path().join("cache");
    fs::create_dir(&source).unwrap();
    make_source(&source);
    let init = InitOptions {
        chunk_sizes: ChunkSizes::new(1024, 4096, 16_384).unwrap(),
        pack_bytes: 16 << 10,
        kdf: KdfParams::MIN,
        ..InitOptions::default()
    };
    let key = UnlockSecret::KeyFile(Secret::new(SECRET));
    let repo = Arc::new(Repo::init(surroundings(&place, &cache), &init, &key).unwrap());
    back_up(&repo, &source);
    fs::write(source.join("text"), "changed").unwrap();
    fs::remove_dir(source.join("folder/empty")).unwrap();
    fs::write(source.join("new"), noise(5000, 2)).unwrap();
    back_up(&repo, &source);
    fs::write(golden.join("contents.txt"), describe_all(&repo)).unwrap();
    fs::remove_dir_all(&source).unwrap();
}
