//! What a restore would change: told exactly, and nothing is written.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::restore::{Change, What, preview};

/// The report, and a line for each change.
pub(super) fn preview_of(
    fake: &Fake,
    root: NodeId,
    target: &Path,
    options: &RestoreOptions,
) -> (RestoreReport, Vec<String>) {
    let (owners, observer) = (crate::target::OwnerMap::default(), Silent::default());
    let context = RestoreContext { origin: fake, owners: &owners, observer: &observer };
    let mut lines = Vec::new();
    let mut tell = |change: &Change| {
        lines.push(line(change));
        ControlFlow::Continue(())
    };
    let request = RestoreRequest::Folder(root);
    let report = preview(&context, &request, target, options, &mut tell).unwrap();
    (report, lines)
}

fn line(change: &Change) -> String {
    let path = change.path.as_bytes().escape_ascii();
    let what = match change.what {
        What::Added => "added".to_owned(),
        What::Removed => "removed".to_owned(),
        What::Contents { kind_before, size_before, metadata } => {
            let names: Vec<_> = metadata.names().collect();
            format!("contents, before {kind_before:?} {size_before}, {names:?}")
        }
        What::Metadata(metadata) => format!("metadata, {:?}", metadata.names().collect::<Vec<_>>()),
    };
    format!("{path} {:?} {}: {what}", change.kind, change.size)
}

/// What a preview and a restore count alike.
pub(super) fn sums(report: &RestoreReport) -> [u64; 9] {
    [
        report.files_restored,
        report.files_unchanged,
        report.folders,
        report.symlinks,
        report.hard_links,
        report.special_files,
        report.bytes_written,
        report.bytes_unchanged,
        report.deleted,
    ]
}

/// Everything that a person could notice of a target: paths, inodes, and all times.
fn state(target: &Path) -> Vec<String> {
    let mut pending = vec![target.to_owned()];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        let stat = path.symlink_metadata().unwrap();
        let (inode, mode, size, changed) =
            (stat.ino(), stat.mode(), stat.size(), (stat.ctime(), stat.ctime_nsec()));
        found.push(format!("{} {inode} {mode:o} {size} {changed:?}", path.display()));
        if stat.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// A snapshot with a bit of everything; `text` is the content of its file.
fn snapshot(text: &[u8]) -> (Fake, NodeId) {
    let mut fake = Fake::default();
    let files = vec![fake.file("a", b"1"), fake.file("b", b"2")];
    let folder = fake.folder("folder", files);
    let mut link = entry("link", EntryKind::Symlink);
    link.content = Content::LinkTarget(Bytes::from(&b"elsewhere"[..]));
    let mut names = [fake.file("name-1", b"shared"), fake.file("name-2", b"shared")];
    for name in &mut names {
        name.set_extension(tag::HARD_LINK, vec![7]);
    }
    let [one, two] = names;
    let file = fake.file("file", text);
    let root = fake.directory_id(vec![folder, link, one, two, file, entry("pipe", EntryKind::Fifo)]);
    (fake, root)
}

fn deleting() -> RestoreOptions {
    RestoreOptions { delete: true, owner: true, verify: false, ..options() }
}

#[test]
fn into_an_empty_or_missing_target_everything_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, root) = snapshot(b"text");
    let empty = preview_of(&fake, root, dir.path(), &deleting());
    assert_eq!(
        empty.1,
        [
            "file File 4: added",
            "folder Directory 0: added",
            "folder/a File 1: added",
            "folder/b File 1: added",
            "link Symlink 0: added",
            "name-1 File 6: added",
            "name-2 File 6: added",
            "pipe Fifo 0: added",
        ]
    );
    assert_eq!(preview_of(&fake, root, &dir.path().join("not/there"), &deleting()).1, empty.1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let report = restore(&fake, root, dir.path(), &deleting());
    assert_eq!(sums(&empty.0), sums(&report));
}

#[test]
fn every_kind_of_change_is_told_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (fake, root) = snapshot(b"text");
    restore(&fake, root, dir.path(), &deleting());
    assert_eq!(preview_of(&fake, root, dir.path(), &deleting()).1, [""; 0]);

    fs::set_permissions(at("folder"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(at("folder/a"), "other").unwrap();
    // The same content under a new time.
    fs::write(at("folder/b"), "2").unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("somewhere", at("link")).unwrap();
    fs::remove_file(at("name-2")).unwrap();
    fs::write(at("name-2"), "shared").unwrap();
    fs::remove_file(at("file")).unwrap();
    fs::create_dir_all(at("file/in the way")).unwrap();
    fs::create_dir_all(at("extra/deep")).unwrap();
    fs::write(at("extra/deep/file"), "xyz").unwrap();

    let before = state(dir.path());
    let (report, told) = preview_of(&fake, root, dir.path(), &deleting());
    assert_eq!(state(dir.path()), before);
    assert_is_clean(&report);
    assert_eq!(
        told,
        [
            "file File 4: contents, before Directory 0, []",
            "file/in the way Directory 0: removed",
            "folder Directory 0: metadata, [\"mode\"]",
            "folder/a File 1: contents, before File 5, [\"mtime\"]",
            "folder/b File 1: metadata, [\"mtime\"]",
            "link Symlink 0: contents, before Symlink 0, [\"mtime\"]",
            "name-2 File 6: contents, before File 6, []",
            "extra Directory 0: removed",
            "extra/deep Directory 0: removed",
            "extra/deep/file File 3: removed",
        ]
    );
    let done = restore(&fake, root, dir.path(), &deleting());
    assert_eq!(sums(&report), sums(&done));
    assert_eq!(preview_of(&fake, root, dir.path(), &deleting()).1, [""; 0]);
}

#[test]
fn what_is_left_alone_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, root) = snapshot(b"text");
    fs::write(dir.path().join("file"), "newer").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    for overwrite in [Overwrite::Never, Overwrite::IfNewer] {
        let (_, told) = preview_of(&fake, root, dir.path(), &RestoreOptions { overwrite, ..options() });
        assert!(!told.iter().any(|line| line.starts_with("file ")), "{told:?}");
        let folder = told.iter().any(|line| line.starts_with("folder Directory 0: metadata"));
        assert_eq!(folder, overwrite == Overwrite::IfNewer, "{told:?}");
        assert!(told.iter().any(|line| line == "folder/a File 1: added"), "{told:?}");
    }
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"newer");
}

#[test]
fn bytes_where_a_hole_should_be_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut fake = Fake::default();
    let mut file = fake.file("sparse", b"data");
    file.size = 20_004;
    let map = SparseMap { holes: vec![Hole { skip: 0, len: 20_000 }] };
    file.set_extension(tag::SPARSE_MAP, wire::encode(&map, 100).unwrap());
    let root = fake.directory_id(vec![file]);
    restore(&fake, root, dir.path(), &options());
    let path = dir.path().join("sparse");
    let mut bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes).unwrap();
    let told = |fake| preview_of(fake, root, dir.path(), &options()).1;
    assert_eq!(told(&fake), ["sparse File 20004: metadata, [\"mtime\"]"]);
    bytes[9000] = 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(told(&fake), ["sparse File 20004: contents, before File 20004, [\"mtime\"]"]);
}

#[test]
fn a_person_who_has_seen_enough_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, root) = snapshot(b"text");
    let (owners, observer) = (crate::target::OwnerMap::default(), Silent::default());
    let context = RestoreContext { origin: &fake, owners: &owners, observer: &observer };
    let mut count = 0;
    let mut tell = |_: &Change| {
        count += 1;
        ControlFlow::Break(())
    };
    let request = RestoreRequest::Folder(root);
    let ended = preview(&context, &request, dir.path(), &options(), &mut tell);
    assert!(matches!(ended, Err(RestoreError::Interrupted)));
    assert_eq!(count, 1);
}
