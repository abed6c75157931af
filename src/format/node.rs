//! Nodes: folders and chunk lists, split by content when they are large (docs/format.md, "Nodes").
//!
//! The bytes of a node are `version u8 = 1 | kind u8 | body`.

use serde::{Deserialize, Serialize};

use crate::format::FormatError;
use crate::format::tree::{ChunkRef, Entry};
use crate::id::{ListId, NodeId};
use crate::limits;
use crate::wire::{self, Bytes, Validate, WireError, ensure};

const VERSION: u8 = 1;
const OBJECT: &str = "node";

/// A node of any kind. The order of the variants is the stored kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Entries of a folder.
    DirectoryLeaf(DirectoryLeaf),
    /// Parts of a large folder.
    DirectoryBranch(DirectoryBranch),
    /// Chunks of a large file.
    ListLeaf(ListLeaf),
    /// Parts of a longer chunk list.
    ListBranch(ListBranch),
}

/// Entries of a folder, by ascending name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryLeaf {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// Parts of a folder that is split.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryBranch {
    /// The parts, by ascending first name.
    pub children: Vec<DirectoryPart>,
}

/// A part of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryPart {
    /// Name of its first entry.
    pub first: Bytes,
    /// Its node.
    pub id: NodeId,
    /// Entries in it.
    pub entry_count: u64,
    /// Bytes of all files below it.
    pub size: u64,
}

/// Chunks of a file, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListLeaf {
    /// The chunks.
    pub chunks: Vec<ChunkRef>,
}

/// Parts of a longer chunk list, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListBranch {
    /// The parts.
    pub children: Vec<ListPart>,
}

/// A part of a chunk list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPart {
    /// Its node.
    pub id: ListId,
    /// Bytes of all its chunks.
    pub len: u64,
}

impl Node {
    /// Decodes a node of any kind.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let ([version, kind], body) =
            bytes.split_first_chunk::<2>().ok_or(FormatError::invalid(OBJECT, "it ends early"))?;
        if *version != VERSION {
            return Err(FormatError::invalid(OBJECT, "its version is unknown"));
        }
        match kind {
            0 => decode_body(body).map(Self::DirectoryLeaf),
            1 => decode_body(body).map(Self::DirectoryBranch),
            2 => decode_body(body).map(Self::ListLeaf),
            3 => decode_body(body).map(Self::ListBranch),
            _ => Err(FormatError::invalid(OBJECT, "its kind is unknown")),
        }
    }

    /// Whether an encoded node is part of a folder or list that is split, as far as its first bytes tell.
    pub fn is_branch(bytes: &[u8]) -> bool {
        matches!(bytes, [VERSION, 1 | 3, ..])
    }

    /// Encodes a node of any kind.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        match self {
            Self::DirectoryLeaf(leaf) => leaf.encode(),
            Self::DirectoryBranch(branch) => branch.encode(),
            Self::ListLeaf(leaf) => leaf.encode(),
            Self::ListBranch(branch) => branch.encode(),
        }
    }
}

/// A node that knows its stored kind.
pub trait NodeBody: Serialize + Validate + Sized {
    /// Number of the kind.
    const KIND: u8;

    /// Encodes the node, which must be within the limits.
    fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let body = wire::encode(self, limits::NODE_BYTES_MAX - 2).map_err(FormatError::of(OBJECT))?;
        let mut bytes = Vec::with_capacity(body.len() + 2);
        bytes.extend([VERSION, Self::KIND]);
        bytes.extend(body);
        Ok(bytes)
    }
}

impl NodeBody for DirectoryLeaf {
    const KIND: u8 = 0;
}
impl NodeBody for DirectoryBranch {
    const KIND: u8 = 1;
}
impl NodeBody for ListLeaf {
    const KIND: u8 = 2;
}
impl NodeBody for ListBranch {
    const KIND: u8 = 3;
}

fn decode_body<T: for<'de> Deserialize<'de> + Validate>(body: &[u8]) -> Result<T, FormatError> {
    wire::decode(body, limits::NODE_BYTES_MAX - 2).map_err(FormatError::of(OBJECT))
}

fn ensure_count(count: usize) -> Result<(), WireError> {
    ensure(count <= limits::NODE_ENTRY_COUNT_MAX, "it has too many entries")
}

impl Validate for DirectoryLeaf {
    fn validate(&self) -> Result<(), WireError> {
        ensure_count(self.entries.len())?;
        let mut pairs = self.entries.iter().zip(self.entries.iter().skip(1));
        ensure(pairs.all(|(one, next)| one.name < next.name), "its entries are not in order")?;
        self.entries.iter().try_for_each(Validate::validate)
    }
}

impl Validate for DirectoryBranch {
    fn validate(&self) -> Result<(), WireError> {
        ensure_count(self.children.len())?;
        ensure(!self.children.is_empty(), "it has no parts")?;
        let mut pairs = self.children.iter().zip(self.children.iter().skip(1));
        ensure(pairs.all(|(one, next)| one.first < next.first), "its parts are not in order")?;
        let mut parts = self.children.iter();
        ensure(parts.all(|part| Entry::name_is_good(part.first.as_slice())), "a part has no good first name")
    }
}

impl Validate for ListLeaf {
    fn validate(&self) -> Result<(), WireError> {
        ensure_count(self.chunks.len())?;
        ensure(!self.chunks.is_empty(), "it has no chunks")?;
        self.chunks.iter().try_for_each(Validate::validate)
    }
}

impl Validate for ListBranch {
    fn validate(&self) -> Result<(), WireError> {
        ensure_count(self.children.len())?;
        ensure(!self.children.is_empty(), "it has no parts")?;
        let total = self.children.iter().try_fold(0u64, |sum, part| sum.checked_add(part.len));
        ensure(total.is_some(), "its parts are longer than 64 bits can say")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::format::tree::{Content, EntryKind};
    use crate::id::ChunkId;

    fn file(name: &str) -> Entry {
        Entry {
            name: Bytes::from(name.as_bytes()),
            kind: EntryKind::File,
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            mtime: Timestamp { seconds: -5, nanoseconds: 999_999_999 },
            ctime: Timestamp::from_seconds(1_800_000_000),
            inode: 77,
            size: 5,
            content: Content::Chunks(vec![ChunkRef { id: ChunkId::new([3; 32]), len: 5 }]),
            extensions: vec![],
        }
    }

    #[test]
    fn every_kind_of_node_survives_encoding() {
        let part = DirectoryPart {
            first: Bytes::from(&b"a"[..]),
            id: NodeId::new([1; 32]),
            entry_count: 2,
            size: 3,
        };
        let nodes = [
            Node::DirectoryLeaf(DirectoryLeaf { entries: vec![file("a"), file("b\n\u{fffd}")] }),
            Node::DirectoryLeaf(DirectoryLeaf::default()),
            Node::DirectoryBranch(DirectoryBranch { children: vec![part] }),
            Node::ListLeaf(ListLeaf { chunks: vec![ChunkRef { id: ChunkId::new([1; 32]), len: 1 << 24 }] }),
            Node::ListBranch(ListBranch {
                children: vec![ListPart { id: ListId::new([2; 32]), len: u64::MAX }],
            }),
        ];
        for node in nodes {
            let bytes = node.encode().unwrap();
            assert_eq!(Node::decode(&bytes).unwrap(), node);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", "/", "a\0b", &"x".repeat(4097)] {
            let leaf = DirectoryLeaf { entries: vec![file(name)] };
            assert!(leaf.encode().is_err(), "{name:?} was accepted");
        }
    }

    #[test]
    fn entries_out_of_order_or_twice_are_refused() {
        assert!(DirectoryLeaf { entries: vec![file("b"), file("a")] }.encode().is_err());
        assert!(DirectoryLeaf { entries: vec![file("a"), file("a")] }.encode().is_err());
    }

    #[test]
    fn an_unknown_optional_extension_survives() {
        let mut entry = file("a");
        entry.set_extension(9000, b"from the future".to_vec());
        let bytes = DirectoryLeaf { entries: vec![entry] }.encode().unwrap();
        assert_eq!(Node::decode(&bytes).unwrap().encode().unwrap(), bytes);
    }

    #[test]
    fn unknown_versions_and_kinds_are_refused() {
        assert!(Node::decode(&[2, 0, 0]).is_err());
        assert!(Node::decode(&[1, 4, 0]).is_err());
        assert!(Node::decode(&[1]).is_err());
        assert!(Node::decode(&[1, 0, 0]).is_ok());
    }
}
