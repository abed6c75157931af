use crate::clock::Timestamp;
use crate::format::tree::{Content, Entry, EntryKind};
use crate::wire::Bytes;

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
