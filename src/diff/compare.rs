//! In what two entries differ. Pure.

use crate::format::tree::{Content, Entry, EntryKind, tag};

/// In what two entries of the same kind differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aspects {
    /// Chunks, holes, target or numbers; never of a folder.
    pub contents: bool,
    /// Permissions.
    pub mode: bool,
    /// Number of the owner or of the group.
    pub owner: bool,
    /// Last change of the content; never of a folder.
    pub mtime: bool,
    /// Extended attributes, ACLs among them.
    pub xattrs: bool,
    /// Inode flags.
    pub flags: bool,
}

impl Aspects {
    pub(super) fn between(before: &Entry, after: &Entry) -> Self {
        let is_folder = after.kind == EntryKind::Directory;
        let differs = |tag| before.extension(tag) != after.extension(tag);
        Self {
            contents: !is_folder && content_key(before) != content_key(after),
            mode: before.mode != after.mode,
            owner: (before.uid, before.gid) != (after.uid, after.gid),
            mtime: !is_folder && before.mtime != after.mtime,
            xattrs: differs(tag::XATTRS),
            flags: differs(tag::INODE_FLAGS),
        }
    }

    /// Whether there is any difference.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// The metadata that differs, in words that stay stable.
    pub fn metadata(&self) -> impl Iterator<Item = &'static str> {
        let named = [
            (self.mode, "mode"),
            (self.owner, "owner"),
            (self.mtime, "mtime"),
            (self.xattrs, "xattrs"),
            (self.flags, "flags"),
        ];
        named.into_iter().filter_map(|(differs, name)| differs.then_some(name))
    }
}

/// Equal for equal contents. Files of the same bytes have the same chunks, because they are cut where their bytes say.
fn content_key(entry: &Entry) -> (u64, &Content, Option<&[u8]>) {
    (entry.size, &entry.content, entry.extension(tag::SPARSE_MAP))
}
