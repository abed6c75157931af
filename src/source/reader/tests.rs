//! Reading files: their bytes, attributes and holes, and what is refused.

use std::os::unix::fs::FileExt;
use std::process::Command;

use super::*;
use crate::format::tree::{XattrSet, tag};
use crate::limits;
use crate::source::WalkOptions;
use crate::source::fixture::{Tree, find, list, some_entry};
use crate::wire;

fn entry_of(tree: &Tree, name: &str) -> Entry {
    find(&list(&tree.root(), WalkOptions::default()), name).entry.clone()
}

fn read_all(file: &mut SourceFile, step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while file.read_into(&mut bytes, step).unwrap() > 0 {}
    bytes
}

fn xattrs_of(entry: &Entry) -> Vec<(String, Vec<u8>)> {
    let Some(bytes) = entry.extension(tag::XATTRS) else { return Vec::new() };
    let set: XattrSet = wire::decode(bytes, limits::EXTENSIONS_BYTES_MAX).unwrap();
    let pair = |xattr: &crate::format::tree::Xattr| {
        let name = String::from_utf8(xattr.name.as_slice().to_vec()).unwrap();
        (name, xattr.value.as_slice().to_vec())
    };
    set.xattrs.iter().map(pair).collect()
}

/// Sets an attribute; `false`, with a word on stderr, where the file system has none.
fn set_xattr(path: &std::path::Path, name: &str, value: &[u8]) -> bool {
    let outcome = rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty());
    if let Err(error) = outcome {
        eprintln!("skipped: {name} cannot be set on {}: {error}", path.display());
    }
    outcome.is_ok()
}

#[test]
fn files_are_read_whole_whatever_the_steps() {
    let tree = Tree::new();
    let content: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    for len in [0, 1, 4096, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 1 << 20, 3_000_000] {
        let content = &content[..len];
        std::fs::write(tree.path("file"), content).unwrap();
        for step in [1000, PIECE_BYTES, 1 << 20, 5_000_000] {
            for cache in [Cache::Keep, Cache::DropBehind] {
                let mut file = FolderReader::new().open_file(&tree.root(), b"file").unwrap();
                file.cache = cache;
                file.advise_sequential();
                assert!(read_all(&mut file, step) == content, "{len} bytes by {step}, {cache:?}");
            }
        }
    }
}

#[test]
fn reading_appends_and_never_exceeds_what_was_asked_for() {
    let tree = Tree::new();
    tree.file("file", "0123456789");
    let mut file = FolderReader::new().open_file(&tree.root(), b"file").unwrap();
    let mut buffer = Vec::with_capacity(1000);
    buffer.extend_from_slice(b"before ");
    assert_eq!(file.read_into(&mut buffer, 4).unwrap(), 4);
    assert_eq!(buffer, b"before 0123");
    file.seek_to(8);
    assert_eq!(file.read_into(&mut buffer, 100).unwrap(), 2);
    assert_eq!(buffer, b"before 012389");
    assert_eq!(file.read_into(&mut buffer, 100).unwrap(), 0);
    assert_eq!(buffer, b"before 012389");
}

#[test]
fn what_is_appended_to_a_file_meanwhile_is_read_too_and_changes_its_stamp() {
    let tree = Tree::new();
    tree.file("file", "first");
    let entry = entry_of(&tree, "file");
    let mut file = FolderReader::new().open_file(&tree.root(), b"file").unwrap();
    assert!(file.opened().same_as(&entry) && file.stamp().unwrap().same_as(&entry));
    let more = vec![b'x'; 10_000];
    let writer = std::fs::OpenOptions::new().write(true).open(tree.path("file")).unwrap();
    writer.write_all_at(&more, 5).unwrap();
    assert_eq!(read_all(&mut file, 1 << 20).len(), 10_005);
    assert!(file.opened().same_as(&entry));
    assert!(!file.stamp().unwrap().same_as(&entry));
}

#[test]
fn a_file_that_is_cut_meanwhile_ends_early() {
    let tree = Tree::new();
    std::fs::write(tree.path("file"), vec![1; 3 << 20]).unwrap();
    let mut file = FolderReader::new().open_file(&tree.root(), b"file").unwrap();
    let mut bytes = Vec::new();
    file.read_into(&mut bytes, 1 << 20).unwrap();
    std::fs::write(tree.path("file"), b"short").unwrap();
    assert_eq!(file.read_into(&mut bytes, 1 << 20).unwrap(), 0);
    assert_eq!(file.stamp().unwrap().size, 5);
}

#[test]
fn what_took_the_place_of_a_file_is_refused_and_does_not_block() {
    let tree = Tree::new();
    tree.file("target", "x").fifo("fifo").link("link", "target").folder("folder");
    let mut reader = FolderReader::new();
    for name in ["fifo", "link", "folder"] {
        let error = reader.open_file(&tree.root(), name.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "it is not a regular file any more", "{name}");
    }
    let error = reader.open_file(&tree.root(), b"missing").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_reader_goes_from_folder_to_folder() {
    let tree = Tree::new();
    tree.file("a/x", "ax").file("a/y", "ay").file("b/x", "bx");
    let mut reader = FolderReader::new();
    for (folder, name) in [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x")] {
        let folder_path = tree.root().child(folder.as_bytes());
        let mut file = reader.open_file(&folder_path, name.as_bytes()).unwrap();
        assert_eq!(read_all(&mut file, 10), [folder, name].concat().as_bytes());
    }
}

#[test]
fn a_folder_replaced_by_a_link_is_not_entered() {
    let tree = Tree::new();
    tree.file("real/x", "x").link("folder", "real");
    assert!(FolderReader::new().open_file(&tree.root().child(b"folder"), b"x").is_err());
}

#[test]
fn attributes_of_files_and_folders_are_read() {
    let tree = Tree::new();
    tree.file("file", "x").folder("folder");
    let long = vec![b'v'; 1500];
    for name in ["file", "folder"] {
        if !set_xattr(&tree.path(name), "user.note", b"\0\xff")
            || !set_xattr(&tree.path(name), "user.long", &long)
        {
            return;
        }
    }
    let expected = [("user.long".to_owned(), long), ("user.note".to_owned(), b"\0\xff".to_vec())];
    let mut reader = FolderReader::new();
    let user = |entry: &Entry| {
        let mut all = xattrs_of(entry);
        all.retain(|(name, _)| name.starts_with("user."));
        all
    };

    let mut open = some_entry();
    reader.open_file(&tree.root(), b"file").unwrap().read_extras(&mut open).unwrap();
    assert_eq!(user(&open), expected);
    for name in ["file", "folder"] {
        let mut entry = entry_of(&tree, name);
        reader.read_extras(&tree.root(), &mut entry).unwrap();
        assert_eq!(user(&entry), expected, "{name}");
    }
    let mut itself = some_entry();
    reader.read_folder_extras(&tree.root().child(b"folder"), &mut itself).unwrap();
    assert_eq!(user(&itself), expected);
}

#[test]
fn attributes_of_a_link_are_its_own() {
    let tree = Tree::new();
    tree.file("file", "x").link("link", "file");
    if !set_xattr(&tree.path("file"), "user.note", b"of the file")
        || !set_xattr(&tree.path("link"), "trusted.note", b"of the link")
    {
        return;
    }
    let mut entry = entry_of(&tree, "link");
    FolderReader::new().read_extras(&tree.root(), &mut entry).unwrap();
    let xattrs = xattrs_of(&entry);
    assert!(xattrs.contains(&("trusted.note".to_owned(), b"of the link".to_vec())));
    assert!(!xattrs.iter().any(|(name, _)| name == "user.note"));
}

#[test]
fn access_lists_are_kept_as_raw_attributes() {
    let tree = Tree::new();
    tree.file("file", "x").folder("folder");
    // Version 2: the owner, user 12345, the group, the mask and the others.
    let line = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let lines = [(1, 6, !0), (2, 4, 12345), (4, 4, !0), (16, 4, !0), (32, 0, !0)];
    let lines: Vec<u8> = lines.into_iter().flat_map(|(tag, rights, id)| line(tag, rights, id)).collect();
    let list = [&2u32.to_le_bytes()[..], &lines].concat();
    let places = [("file", "system.posix_acl_access"), ("folder", "system.posix_acl_default")];
    for (name, attribute) in places {
        if !set_xattr(&tree.path(name), attribute, &list) {
            return;
        }
        let mut entry = entry_of(&tree, name);
        FolderReader::new().read_extras(&tree.root(), &mut entry).unwrap();
        assert!(xattrs_of(&entry).contains(&(attribute.to_owned(), list.clone())));
    }
}

#[test]
fn entries_without_anything_more_get_no_extension() {
    let tree = Tree::new();
    tree.file("file", "x").folder("folder").link("link", "file").fifo("fifo");
    let mut reader = FolderReader::new();
    for name in ["file", "folder", "link", "fifo"] {
        let mut entry = entry_of(&tree, name);
        reader.read_extras(&tree.root(), &mut entry).unwrap();
        // Some systems label every file.
        entry.extensions.retain(|extension| extension.tag != tag::XATTRS);
        assert_eq!(entry.extensions, [], "{name}");
    }
}

#[test]
fn flags_that_can_be_set_are_kept_and_others_are_not() {
    let tree = Tree::new();
    tree.file("file", "x").folder("folder");
    for name in ["file", "folder"] {
        let status = Command::new("chattr").arg("+d").arg(tree.path(name)).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("skipped: this file system has no inode flags");
            return;
        }
    }
    let mut reader = FolderReader::new();
    let mut file = some_entry();
    reader.open_file(&tree.root(), b"file").unwrap().read_extras(&mut file).unwrap();
    let mut folder = entry_of(&tree, "folder");
    reader.read_extras(&tree.root(), &mut folder).unwrap();
    // On ext4 a file also has the flag for extents, which is nobody's to set.
    assert_eq!(file.extension(tag::INODE_FLAGS), Some(&[0x40][..]));
    assert_eq!(folder.extension(tag::INODE_FLAGS), Some(&[0x40][..]));
}

#[test]
fn metadata_that_cannot_be_read_is_noted_in_the_entry() {
    let tree = Tree::new();
    tree.folder("folder").file("file", "");
    for name in ["folder", "file"] {
        let mut entry = entry_of(&tree, name);
        match name {
            "folder" => std::fs::remove_dir(tree.path(name)).unwrap(),
            _ => std::fs::remove_file(tree.path(name)).unwrap(),
        }
        FolderReader::new().read_extras(&tree.root(), &mut entry).unwrap_err();
        assert!(entry.extension(tag::CAPTURE_PROBLEM).is_some(), "{name}");
    }
}

#[test]
fn the_holes_of_a_file_do_not_disturb_reading() {
    let tree = Tree::new();
    let file = std::fs::File::create(tree.path("file")).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(b"in the middle", 1 << 39).unwrap();
    let mut file = FolderReader::new().open_file(&tree.root(), b"file").unwrap();
    let map = file.sparse_map(1 << 40).unwrap();
    assert_eq!(map.holes.len(), 2);
    let mut bytes = Vec::new();
    assert_eq!(file.read_into(&mut bytes, 4096).unwrap(), 4096);
    assert!(bytes.iter().all(|&byte| byte == 0));
    file.seek_to(map.holes[0].len);
    bytes.clear();
    file.read_into(&mut bytes, 4096).unwrap();
    assert!(bytes.starts_with(b"in the middle"));
    assert!(file.opened().allocated_bytes < 1 << 20);
}

#[test]
fn a_large_file_that_was_just_written_is_in_use_and_stays_in_memory() {
    let tree = Tree::new();
    for len in [LARGE_FILE_BYTES_MIN, PROBED_FILE_BYTES_MIN] {
        std::fs::write(tree.path("file"), vec![1; len as usize]).unwrap();
        let file = std::fs::File::open(tree.path("file")).unwrap();
        if !is_in_use(file.as_fd(), len) {
            eprintln!("skipped: this file system does not tell what is in memory");
            return;
        }
        let mut file = FolderReader::new().open_file(&tree.root(), b"file").unwrap();
        assert_eq!(file.cache, Cache::Keep);
        read_all(&mut file, 1 << 20);
        drop(file);
        let file = std::fs::File::open(tree.path("file")).unwrap();
        assert!(is_in_use(file.as_fd(), len));
    }
}

#[test]
fn a_large_file_that_nobody_has_in_use_is_gone_from_memory_after_reading() {
    let tree = Tree::new();
    let len = PROBED_FILE_BYTES_MIN;
    std::fs::write(tree.path("file"), vec![1; len as usize]).unwrap();
    let plain = std::fs::File::open(tree.path("file")).unwrap();
    plain.sync_all().unwrap();
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    if rustix::fs::fstatfs(&plain).unwrap().f_type == TMPFS_MAGIC {
        eprintln!("skipped: this file system keeps everything in memory");
        return;
    }
    rustix::fs::fadvise(&plain, 0, None, Advice::DontNeed).unwrap();
    let mut file = FolderReader::new().open_file(&tree.root(), b"file").unwrap();
    assert_eq!(file.cache, Cache::DropBehind);
    assert_eq!(read_all(&mut file, 1 << 20).len() as u64, len);
    drop(file);
    assert!(!is_in_use(plain.as_fd(), len));
}
