//! What a snapshot keeps of a file, folder or link (docs/format.md, "Nodes").

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{ChunkId, ListId, NodeId};
use crate::limits;
use crate::wire::{Bytes, Validate, WireError, ensure};

/// What an entry is. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// A folder.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A local socket.
    Socket,
}

/// A chunk of a file, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// Which chunk.
    pub id: ChunkId,
    /// Its plain length in bytes, at least 1.
    pub len: u32,
}

/// Where the bytes of an entry are. The numbers of the variants are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing: an empty file, a link, a device; or a file that could not be read.
    None,
    /// At most [`limits::INLINE_CHUNK_COUNT_MAX`] chunks.
    Chunks(Vec<ChunkRef>),
    /// The list node at the top of a longer chunk list.
    List(ListId),
    /// The node of a folder.
    Directory(NodeId),
    /// Target of a symbolic link.
    LinkTarget(Bytes),
    /// Major and minor number of a device.
    Device(u32, u32),
}

/// Something more that is known of an entry. Tags from 2^14 upwards must be understood to restore the entry;
/// others are kept as they are when unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// One of [`tag`].
    pub tag: u32,
    /// Its value, in the shape that the tag says.
    pub value: Bytes,
}

/// The defined extensions.
pub mod tag {
    /// Extended attributes, POSIX ACLs and capabilities among them: [`super::XattrSet`].
    pub const XATTRS: u32 = 1;
    /// Birth time: a [`crate::clock::Timestamp`].
    pub const BIRTH_TIME: u32 = 3;
    /// Inode flags as in `FS_IOC_GETFLAGS`: u32 varint.
    pub const INODE_FLAGS: u32 = 4;
    /// Hard-link group: device number as u64 varint; with the inode number of the entry it names the group.
    pub const HARD_LINK: u32 = 5;
    /// Why the content or a part of the metadata is not what the file held: UTF-8 text.
    pub const CAPTURE_PROBLEM: u32 = 9;
    /// Holes of the file: [`super::SparseMap`]. The content leaves them out, so a reader must know them.
    pub const SPARSE_MAP: u32 = CRITICAL;
    /// Tags from here upwards must be understood.
    pub const CRITICAL: u32 = 1 << 14;
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name inside its folder; never empty, `.`, `..`, and never with `/` or NUL.
    pub name: Bytes,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-user-id, set-group-id and sticky: 12 bits.
    pub mode: u16,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of content or metadata; with the inode number it tells whether a file is unchanged.
    pub ctime: Timestamp,
    /// Inode number.
    pub inode: u64,
    /// Length of a file in bytes; for a folder the bytes of everything below it; 0 for the rest.
    pub size: u64,
    /// Where its bytes are.
    pub content: Content,
    /// More that is known of it, by ascending tag.
    pub extensions: Vec<Extension>,
}

impl Entry {
    /// The node of a folder; `None` for everything else.
    pub fn folder(&self) -> Option<NodeId> {
        match self.content {
            Content::Directory(id) => Some(id),
            Content::None
            | Content::Chunks(_)
            | Content::List(_)
            | Content::LinkTarget(_)
            | Content::Device(..) => None,
        }
    }

    /// The value of an extension.
    pub fn extension(&self, tag: u32) -> Option<&[u8]> {
        self.extensions
            .iter()
            .find(|extension| extension.tag == tag)
            .map(|extension| extension.value.as_slice())
    }

    /// Sets an extension, keeping the order of tags.
    pub fn set_extension(&mut self, tag: u32, value: Vec<u8>) {
        let value = Bytes::from(value);
        match self.extensions.binary_search_by_key(&tag, |extension| extension.tag) {
            Ok(at) => {
                if let Some(extension) = self.extensions.get_mut(at) {
                    extension.value = value;
                }
            }
            Err(at) => self.extensions.insert(at, Extension { tag, value }),
        }
    }

    /// Whether the name may stand in a folder.
    pub fn name_is_good(name: &[u8]) -> bool {
        !matches!(name, b"" | b"." | b"..")
            && name.len() <= limits::NAME_BYTES_MAX
            && !name.iter().any(|byte| matches!(byte, b'/' | 0))
    }
}

impl Validate for Entry {
    fn validate(&self) -> Result<(), WireError> {
        ensure(Entry::name_is_good(self.name.as_slice()), "a name is empty, too long, or holds / or NUL")?;
        ensure(self.mode < 1 << 12, "a mode has more than 12 bits")?;
        for time in [self.mtime, self.ctime] {
            ensure(time.nanoseconds < 1_000_000_000, "a time has too many nanoseconds")?;
        }
        let (mut bytes, mut tag_before) = (0, None);
        for extension in &self.extensions {
            ensure(tag_before < Some(extension.tag), "extensions are not in order")?;
            tag_before = Some(extension.tag);
            bytes += extension.value.as_slice().len();
        }
        ensure(bytes <= limits::EXTENSIONS_BYTES_MAX, "extensions are too long")?;
        self.validate_content()
    }
}

impl Entry {
    fn validate_content(&self) -> Result<(), WireError> {
        let content_fits = match (&self.content, self.kind) {
            (Content::None, EntryKind::File | EntryKind::Fifo | EntryKind::Socket) => true,
            (Content::Chunks(_) | Content::List(_), EntryKind::File) => true,
            (Content::Directory(_), EntryKind::Directory) => true,
            (Content::LinkTarget(_), EntryKind::Symlink) => true,
            (Content::Device(..), EntryKind::BlockDevice | EntryKind::CharDevice) => true,
            (
                Content::None
                | Content::Chunks(_)
                | Content::List(_)
                | Content::Directory(_)
                | Content::LinkTarget(_)
                | Content::Device(..),
                _,
            ) => false,
        };
        ensure(content_fits, "an entry has content of another kind")?;
        match &self.content {
            Content::Chunks(chunks) => {
                let count_is_good = (1..=limits::INLINE_CHUNK_COUNT_MAX).contains(&chunks.len());
                ensure(count_is_good, "an entry has no chunks or too many")?;
                chunks.iter().try_for_each(|chunk| chunk.validate())
            }
            Content::LinkTarget(target) => {
                let len = target.as_slice().len();
                ensure(len <= limits::LINK_TARGET_BYTES_MAX, "a link target is too long")
            }
            Content::None | Content::List(_) | Content::Directory(_) | Content::Device(..) => Ok(()),
        }
    }
}

impl Validate for ChunkRef {
    fn validate(&self) -> Result<(), WireError> {
        let len_is_good = self.len > 0 && self.len as usize <= limits::FRAME_BYTES_MAX;
        ensure(len_is_good, "a chunk is empty or too long")
    }
}

/// Extended attributes of an entry, by ascending name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct XattrSet {
    /// Each with its full name (`user.note`, `system.posix_acl_access`).
    pub xattrs: Vec<Xattr>,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xattr {
    /// Its full name.
    pub name: Bytes,
    /// Its value.
    pub value: Bytes,
}

impl Validate for XattrSet {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.xattrs.len() <= limits::XATTR_COUNT_MAX, "too many extended attributes")?;
        let mut pairs = self.xattrs.iter().zip(self.xattrs.iter().skip(1));
        ensure(pairs.all(|(one, next)| one.name < next.name), "extended attributes are not in order")
    }
}

/// The holes of a sparse file: everything that is not in here is data, and the content is that data, end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparseMap {
    /// Stretches of zeros that take no space, in order, without touching each other.
    pub holes: Vec<Hole>,
}

/// A stretch of a file that takes no space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// Data bytes between the end of the hole before, or the start of the file, and this one.
    pub skip: u64,
    /// Bytes of the hole, at least 1.
    pub len: u64,
}

impl SparseMap {
    /// Bytes in all holes together, or `None` where the map reaches beyond 64 bits.
    pub fn hole_bytes(&self) -> Option<u64> {
        self.holes.iter().try_fold(0u64, |sum, hole| sum.checked_add(hole.len))
    }
}

impl Validate for SparseMap {
    fn validate(&self) -> Result<(), WireError> {
        let mut end = 0u64;
        for (at, hole) in self.holes.iter().enumerate() {
            ensure(hole.len > 0 && (at == 0 || hole.skip > 0), "holes are empty or touch each other")?;
            let next = end.checked_add(hole.skip).and_then(|start| start.checked_add(hole.len));
            end = next.ok_or(WireError::Invalid("holes reach beyond 64 bits"))?;
        }
        Ok(())
    }
}
