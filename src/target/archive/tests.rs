//! Archives, read back by their own libraries.

use std::io::{self, Cursor, Read};

use super::*;
use crate::clock::Timestamp;
use crate::format::tree::{Content, EntryKind, Xattr, XattrSet, tag};
use crate::wire::{self, Bytes};

fn entry(kind: EntryKind, size: u64, content: Content) -> Entry {
    Entry {
        name: Bytes::from(&b"name"[..]),
        kind,
        mode: 0o640,
        uid: 3_000_000,
        gid: 7,
        mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 5 },
        ctime: Timestamp::default(),
        inode: 1,
        size,
        content,
        extensions: Vec::new(),
    }
}

fn path(text: &[u8]) -> TargetPath {
    let mut path = TargetPath::root();
    text.split(|byte| *byte == b'/').for_each(|name| path.push(name).unwrap());
    path
}

/// Fails after its first bytes.
struct Broken(bool);

impl Read for Broken {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.0, true) {
            return Err(io::Error::other("bad"));
        }
        into[..2].copy_from_slice(b"ok");
        Ok(2)
    }
}

fn write_tree(writer: &mut dyn ArchiveWriter) {
    let folder = entry(EntryKind::Directory, 0, Content::None);
    writer.folder(&path(b"a"), &folder).unwrap();
    let mut file = entry(EntryKind::File, 5, Content::None);
    let xattr = Xattr { name: Bytes::from(&b"user.x"[..]), value: Bytes::from(&b"\0\xff"[..]) };
    file.set_extension(tag::XATTRS, wire::encode(&XattrSet { xattrs: vec![xattr] }, 100).unwrap());
    writer.file(&path(b"a/file"), &file, &mut &b"bytes"[..]).unwrap();
    let broken = entry(EntryKind::File, 4, Content::None);
    let error = writer.file(&path(b"a/broken"), &broken, &mut Broken(false)).unwrap_err();
    assert!(matches!(error, ArchiveError::Content { .. }) && !error.is_final());
    let link = entry(EntryKind::Symlink, 0, Content::LinkTarget(Bytes::from(&b"./../x//y"[..])));
    writer.other(&path(b"a/link"), &link).unwrap();
}

#[test]
fn a_tar_archive_holds_everything() {
    let mut bytes = Vec::new();
    let users = [(3_000_000, Bytes::from(&b"anna"[..]))];
    let mut writer = Box::new(TarWriter::new(&mut bytes, &users, &[]));
    write_tree(&mut *writer);
    let long = [b"l\xff".repeat(60), b"m".repeat(200)].join(&b'/');
    let file = entry(EntryKind::File, 0, Content::None);
    writer.file(&path(&long), &file, &mut io::empty()).unwrap();
    writer.link(&path(b"hard"), &file, &path(&long)).unwrap();
    writer.other(&path(b"device"), &entry(EntryKind::BlockDevice, 0, Content::Device(8, 1))).unwrap();
    let socket = writer.other(&path(b"socket"), &entry(EntryKind::Socket, 0, Content::None));
    assert!(matches!(socket, Err(ArchiveError::NotKept { .. })));
    writer.finish().unwrap();

    let mut found = Vec::new();
    let mut archive = ::tar::Archive::new(bytes.as_slice());
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let name = member.path_bytes().into_owned();
        let link = member.link_name_bytes().map(|link| link.into_owned());
        assert_eq!(member.header().uid().unwrap(), 3_000_000);
        assert_eq!(member.header().username().unwrap(), Some("anna"));
        assert_eq!(member.header().mode().unwrap(), 0o640);
        let pax: Vec<(String, Vec<u8>)> = member
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|record| record.unwrap())
            .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
            .collect();
        assert!(pax.contains(&("mtime".to_owned(), b"1700000000.000000005".to_vec())));
        let has_xattr = pax.contains(&("SCHILY.xattr.user.x".to_owned(), b"\0\xff".to_vec()));
        assert_eq!(has_xattr, name == b"a/file");
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        found.push((name, link, content));
    }
    let names: Vec<_> = found.iter().map(|(name, _, _)| name.as_slice()).collect();
    assert_eq!(names, [b"a/", &b"a/file"[..], b"a/broken", b"a/link", &long, b"hard", b"device"]);
    assert_eq!(found[1].2, b"bytes");
    assert_eq!(found[2].2, b"ok\0\0");
    assert_eq!(found[3].1.as_deref(), Some(&b"./../x//y"[..]));
    assert_eq!(found[5].1.as_deref(), Some(&long[..]));
}

#[test]
fn a_zip_archive_can_be_written_without_going_back() {
    let mut bytes = Vec::new();
    let mut writer = Box::new(ZipWriter::new(&mut bytes));
    write_tree(&mut *writer);
    let file = entry(EntryKind::File, 0, Content::None);
    assert!(matches!(
        writer.link(&path(b"hard"), &file, &path(b"a/file")),
        Err(ArchiveError::NotKept { .. })
    ));
    let twice = writer.file(&path(b"a/file"), &file, &mut io::empty());
    assert!(matches!(twice, Err(ArchiveError::NotKept { .. })));
    writer.file(&path(b"\xff"), &file, &mut io::empty()).unwrap();
    writer.finish().unwrap();

    let mut archive = ::zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let mut found = Vec::new();
    for at in 0..archive.len() {
        let mut member = archive.by_index(at).unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        found.push((member.name().unwrap().into_owned(), member.unix_mode().unwrap() & 0o777, content));
    }
    let expected: [(&str, u32, &[u8]); 5] = [
        ("a/", 0o640, b""),
        ("a/file", 0o640, b"bytes"),
        ("a/broken", 0o640, b"ok\0\0"),
        ("a/link", 0o640, b"./../x//y"),
        ("\u{fffd}", 0o640, b""),
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0.as_str(), found.1, found.2.as_slice()), expected);
    }
    assert_eq!(found.len(), 5);
}

#[test]
fn moments_before_1970_are_decimal_numbers() {
    let mut bytes = Vec::new();
    let mut writer = Box::new(TarWriter::new(&mut bytes, &[], &[]));
    let mut old = entry(EntryKind::File, 0, Content::None);
    old.mtime = Timestamp { seconds: -2, nanoseconds: 500_000_000 };
    writer.file(&path(b"old"), &old, &mut io::empty()).unwrap();
    writer.finish().unwrap();
    assert!(bytes.windows(19).any(|part| part == b" mtime=-1.500000000"));
}
