//! Proof that restored files are what they were, and that nothing is written outside the target.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::{CWD, Mode, OFlags, XattrFlags};

use super::*;
use crate::clock::Timestamp;
use crate::format::tree::{Content, Entry, EntryKind, Xattr, XattrSet, tag};
use crate::wire::{self, Bytes};

struct Fixture {
    dir: tempfile::TempDir,
    root: TargetRoot,
    cache: FolderCache,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/victim"), "precious").unwrap();
        let root = TargetRoot::open(&dir.path().join("inside/target"), true).unwrap();
        Self { dir, root, cache: FolderCache::new() }
    }

    fn without_openat2() -> Self {
        let fixture = Self::new();
        fixture.root.has_openat2.store(false, std::sync::atomic::Ordering::Relaxed);
        fixture
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.dir.path().join("inside/target").join(below)
    }

    fn outside(&self) -> std::path::PathBuf {
        self.dir.path().join("outside")
    }

    fn assert_outside_is_untouched(&self) {
        assert_eq!(fs::read(self.outside().join("victim")).unwrap(), b"precious");
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1);
        assert_eq!(fs::metadata(self.outside().join("victim")).unwrap().permissions().mode() & 0o777, 0o644);
    }

    fn folder(&mut self, path: &str) -> Result<&Folder, TargetError> {
        self.cache.folder(&self.root, &target_path(path))
    }
}

fn target_path(text: &str) -> TargetPath {
    let mut path = TargetPath::root();
    text.split('/').filter(|name| !name.is_empty()).for_each(|name| path.push(name.as_bytes()).unwrap());
    path
}

fn entry(kind: EntryKind, mode: u16) -> Entry {
    Entry {
        name: Bytes::from(&b"name"[..]),
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: -5, nanoseconds: 123_456_789 },
        ctime: Timestamp::default(),
        inode: 1,
        size: 0,
        content: Content::None,
        extensions: Vec::new(),
    }
}

fn wanted(entry: &Entry) -> Wanted<'_> {
    Wanted { entry, owner: None, with_time: true }
}

#[test]
fn names_that_say_another_place_are_refused_everywhere() {
    let mut fixture = Fixture::new();
    let file = entry(EntryKind::File, 0o644);
    let folder = fixture.folder("").unwrap();
    for name in [&b".."[..], b".", b"", b"/etc/passwd", b"../../outside/victim", b"a/b", b"a\0b"] {
        assert!(matches!(folder.look(name), Err(TargetError::BadName { .. })));
        assert!(matches!(folder.make_folder(name), Err(TargetError::BadName { .. })));
        assert!(matches!(folder.create_file(name, &wanted(&file), true), Err(TargetError::BadName { .. })));
        assert!(matches!(folder.open_file(name), Err(TargetError::BadName { .. })));
        assert!(matches!(folder.read_file(name), Err(TargetError::BadName { .. })));
        assert!(matches!(folder.make_symlink(name, b"x"), Err(TargetError::BadName { .. })));
        assert!(matches!(
            folder.make_special(name, EntryKind::Fifo, (0, 0)),
            Err(TargetError::BadName { .. })
        ));
        assert!(matches!(folder.make_link(name, folder, b"x"), Err(TargetError::BadName { .. })));
        assert!(matches!(folder.make_link(b"x", folder, name), Err(TargetError::BadName { .. })));
        assert!(matches!(folder.remove(name), Err(TargetError::BadName { .. })));
        assert_eq!(folder.apply_to_name(name, &wanted(&file), Current::UNKNOWN).problems.len(), 1);
    }
    fixture.assert_outside_is_untouched();
}

#[test]
fn a_link_at_the_place_of_a_folder_is_never_followed() {
    for mut fixture in [Fixture::new(), Fixture::without_openat2()] {
        fs::create_dir(fixture.path("a")).unwrap();
        symlink(fixture.outside(), fixture.path("a/link")).unwrap();
        symlink("../../../outside", fixture.path("a/relative")).unwrap();
        symlink("..", fixture.path("a/up")).unwrap();
        for path in ["a/link", "a/relative", "a/up", "a/up/a", "a/link/deeper"] {
            let error = fixture.folder(path).unwrap_err();
            assert!(matches!(error, TargetError::NoFolder { .. }), "{path}: {error}");
        }
        // Also from a folder that is open already.
        fixture.folder("a").unwrap();
        assert!(fixture.folder("a/link").is_err());
        assert!(fixture.folder("a").is_ok());
    }
}

#[test]
fn a_folder_swapped_for_a_link_between_two_calls_is_not_followed() {
    for mut fixture in [Fixture::new(), Fixture::without_openat2()] {
        fs::create_dir_all(fixture.path("a/b")).unwrap();
        fixture.folder("a").unwrap();
        fs::rename(fixture.path("a/b"), fixture.path("a/b-old")).unwrap();
        symlink(fixture.outside(), fixture.path("a/b")).unwrap();
        assert!(fixture.folder("a/b").is_err());

        // A folder that was open before the swap is still the folder, not what now has its name.
        let file = entry(EntryKind::File, 0o600);
        fs::create_dir(fixture.path("c")).unwrap();
        fixture.folder("c").unwrap();
        fs::rename(fixture.path("c"), fixture.path("c-old")).unwrap();
        symlink(fixture.outside(), fixture.path("c")).unwrap();
        fixture.folder("c").unwrap().create_file(b"new", &wanted(&file), true).unwrap();
        assert!(fixture.path("c-old/new").exists());
        fixture.assert_outside_is_untouched();
    }
}

#[test]
fn a_link_at_the_place_of_a_file_is_never_written_through() {
    let mut fixture = Fixture::new();
    symlink(fixture.outside().join("victim"), fixture.path("file")).unwrap();
    rustix::fs::mknodat(CWD, fixture.path("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let file = entry(EntryKind::File, 0o777);
    let link = entry(EntryKind::Symlink, 0o777);
    let folder = fixture.folder("").unwrap();
    assert!(folder.create_file(b"file", &wanted(&file), true).unwrap_err().is_taken());
    assert!(matches!(folder.open_file(b"file"), Err(TargetError::Replaced)));
    assert!(matches!(folder.read_file(b"file"), Err(TargetError::Replaced)));
    assert!(matches!(folder.open_file(b"pipe"), Err(TargetError::Replaced)));
    assert!(matches!(
        folder.apply_to_name(b"file", &wanted(&file), Current::UNKNOWN).problems[..],
        [TargetError::Replaced]
    ));
    let applied = folder.apply_to_name(b"file", &wanted(&link), Current::UNKNOWN);
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    assert_eq!(folder.look(b"file").unwrap().unwrap().mtime, link.mtime);
    assert_ne!(fs::metadata(fixture.outside().join("victim")).unwrap().mtime(), -5);
    fixture.assert_outside_is_untouched();
}

#[test]
fn removing_a_link_leaves_alone_what_it_points_to() {
    let mut fixture = Fixture::new();
    fs::create_dir_all(fixture.path("tree/deeper")).unwrap();
    symlink(fixture.outside(), fixture.path("tree/deeper/link")).unwrap();
    symlink(fixture.outside(), fixture.path("link")).unwrap();
    assert_eq!(fixture.folder("").unwrap().remove(b"link").unwrap(), 1);
    assert_eq!(fixture.folder("").unwrap().remove(b"tree").unwrap(), 3);
    assert_eq!(fixture.folder("").unwrap().remove(b"tree").unwrap(), 0);
    assert_eq!(fixture.folder("").unwrap().names().unwrap().len(), 0);
    fixture.assert_outside_is_untouched();
}

#[test]
fn folders_4096_deep_are_made_opened_and_removed() {
    let mut fixture = Fixture::new();
    let mut path = TargetPath::root();
    for _ in 0..4096 {
        fixture.cache.folder(&fixture.root, &path).unwrap().make_folder(b"folder").unwrap();
        path.push(b"folder").unwrap();
    }
    // From the root, in pieces, with both ways of opening.
    for has_openat2 in [true, false] {
        fixture.root.has_openat2.store(has_openat2, std::sync::atomic::Ordering::Relaxed);
        let mut cache = FolderCache::new();
        let folder = cache.folder(&fixture.root, &path).unwrap();
        let file = entry(EntryKind::File, 0o600);
        let (file, _) = folder.create_file(has_openat2.to_string().as_bytes(), &wanted(&file), true).unwrap();
        file.write_at(b"deep", 0).unwrap();
    }
    assert_eq!(fixture.folder("").unwrap().remove(b"folder").unwrap(), 4096 + 2);
}

#[test]
fn a_wide_tree_with_locked_folders_is_removed() {
    let mut fixture = Fixture::new();
    for outer in 0..20 {
        for inner in 0..20 {
            let path = fixture.path(&format!("tree/{outer}/{inner}/.restore-removes-1"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("file"), "x").unwrap();
        }
        fs::set_permissions(fixture.path(&format!("tree/{outer}")), fs::Permissions::from_mode(0o000))
            .unwrap();
    }
    assert_eq!(fixture.folder("").unwrap().remove(b"tree").unwrap(), 1 + 20 + 400 + 400 + 400);
}

#[test]
fn a_new_file_gets_mode_time_and_attributes() {
    let mut fixture = Fixture::new();
    for mode in [0o644, 0o400, 0o4755, 0o000, 0o777] {
        for in_one_go in [true, false] {
            let mut file = entry(EntryKind::File, mode);
            let note = Xattr { name: Bytes::from(&b"user.note"[..]), value: Bytes::from(&b"v\0\xff"[..]) };
            let set = wire::encode(&XattrSet { xattrs: vec![note] }, 1000).unwrap();
            file.set_extension(tag::XATTRS, set);
            let name = format!("{mode:o}-{in_one_go}");
            let folder = fixture.folder("").unwrap();
            let (open, current) = folder.create_file(name.as_bytes(), &wanted(&file), in_one_go).unwrap();
            open.write_at(b"content", 0).unwrap();
            let applied = open.apply(&wanted(&file), current);
            assert!(applied.problems.is_empty(), "{:?}", applied.problems);
            let metadata = fs::metadata(fixture.path(&name)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, u32::from(mode), "{name}");
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-5, 123_456_789));
            let may_read = mode & 0o400 != 0 || rustix::process::geteuid().is_root();
            if !applied.xattrs_refused && may_read {
                let mut value = [0; 10];
                let len = rustix::fs::getxattr(fixture.path(&name), "user.note", &mut value).unwrap();
                assert_eq!(&value[..len], b"v\0\xff");
            }
        }
    }
}

#[test]
fn attributes_that_the_snapshot_does_not_have_are_taken_away() {
    let mut fixture = Fixture::new();
    fs::write(fixture.path("name"), "x").unwrap();
    if rustix::fs::setxattr(fixture.path("name"), "user.old", b"1", XattrFlags::empty()).is_err() {
        return;
    }
    let file = entry(EntryKind::File, 0o640);
    let folder = fixture.folder("").unwrap();
    let existing = folder.look(b"name").unwrap().unwrap();
    let applied = folder.open_file(b"name").unwrap().apply(&wanted(&file), existing.current());
    assert!(applied.problems.is_empty());
    assert!(rustix::fs::getxattr(fixture.path("name"), "user.old", &mut [0u8; 8][..]).is_err());
    assert_eq!(fs::metadata(fixture.path("name")).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn special_files_links_and_folders_get_their_metadata() {
    let mut fixture = Fixture::new();
    let folder = fixture.folder("").unwrap();
    for (name, kind) in [(&b"pipe"[..], EntryKind::Fifo), (b"socket", EntryKind::Socket)] {
        folder.make_special(name, kind, (0, 0)).unwrap();
        let applied = folder.apply_to_name(name, &wanted(&entry(kind, 0o666)), Current::FRESH);
        assert!(applied.problems.is_empty(), "{:?}", applied.problems);
        let existing = folder.look(name).unwrap().unwrap();
        assert_eq!((existing.kind, existing.mode, existing.mtime.seconds), (kind, 0o666, -5));
    }
    assert!(fs::metadata(fixture.path("pipe")).unwrap().file_type().is_fifo());
    let folder = fixture.folder("").unwrap();
    folder.make_symlink(b"link", b"/anywhere").unwrap();
    let applied = folder.apply_to_name(b"link", &wanted(&entry(EntryKind::Symlink, 0o777)), Current::FRESH);
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    folder.make_folder(b"folder").unwrap();
    assert_eq!(folder.look(b"folder").unwrap().unwrap().mode, 0o700);
    let applied =
        fixture.folder("folder").unwrap().apply_to_self(&wanted(&entry(EntryKind::Directory, 0o1777)));
    assert!(applied.problems.is_empty(), "{:?}", applied.problems);
    let existing = fixture.folder("").unwrap().look(b"folder").unwrap().unwrap();
    assert_eq!((existing.mode, existing.mtime.seconds), (0o1777, -5));
}

#[test]
fn a_hard_link_is_one_file_with_two_names() {
    let mut fixture = Fixture::new();
    fs::create_dir(fixture.path("a")).unwrap();
    fs::write(fixture.path("a/first"), "x").unwrap();
    let mut other = FolderCache::new();
    let from = other.folder(&fixture.root, &target_path("a")).unwrap();
    let to = fixture.cache.folder(&fixture.root, &TargetPath::root()).unwrap();
    to.make_link(b"second", from, b"first").unwrap();
    let (one, two) = (from.look(b"first").unwrap().unwrap(), to.look(b"second").unwrap().unwrap());
    assert!(one.is_same_file(&two));
    assert_eq!(one.link_count, 2);
}

#[test]
fn zeros_are_left_out_and_old_bytes_under_them_are_emptied() {
    let mut fixture = Fixture::new();
    let file = entry(EntryKind::File, 0o600);
    let bytes = [vec![1u8; 5000], vec![0u8; 1 << 20], vec![2u8; 10]].concat();
    for (name, old) in [(&b"fresh"[..], &b""[..]), (b"mended", &[7u8; 2 << 20][..])] {
        let (open, _) = fixture.folder("").unwrap().create_file(name, &wanted(&file), true).unwrap();
        open.write_at(old, 0).unwrap();
        open.write_sparse_at(&bytes, 0, !old.is_empty()).unwrap();
        open.set_len(bytes.len() as u64).unwrap();
    }
    for name in ["fresh", "mended"] {
        assert_eq!(fs::read(fixture.path(name)).unwrap(), bytes, "{name}");
        // Blocks of 512 bytes; a file system without holes would need more than 2,048.
        assert!(fs::metadata(fixture.path(name)).unwrap().blocks() < 1024, "{name} takes all its space");
    }
}

#[test]
fn a_file_that_may_not_be_written_is_opened_for_mending() {
    let mut fixture = Fixture::new();
    fs::write(fixture.path("name"), "x").unwrap();
    fs::set_permissions(fixture.path("name"), fs::Permissions::from_mode(0o000)).unwrap();
    let folder = fixture.folder("").unwrap();
    let open = folder.open_file(b"name").unwrap();
    open.write_at(b"new", 0).unwrap();
    let mut bytes = [0; 8];
    assert_eq!(open.read_at(&mut bytes, 0).unwrap(), 3);
    assert_eq!(open.look().unwrap().size, 3);
}

#[test]
fn a_root_that_is_no_folder_is_refused() {
    let fixture = Fixture::new();
    fs::write(fixture.path("file"), "x").unwrap();
    assert!(TargetRoot::open(&fixture.path("file"), true).is_err());
    assert!(TargetRoot::open(&fixture.path("missing"), false).is_err());
    assert!(fixture.root.space_left().unwrap() > 0);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    assert!(rustix::fs::open(fixture.path(""), flags, Mode::empty()).is_ok());
}
