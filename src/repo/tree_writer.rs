//! Folders and chunk lists on their way in, split by content when they are large (docs/format.md, "Nodes").
//!
//! Where a node ends depends on what it holds, not on where it began. So a folder of ten million entries that gains
//! one more costs one leaf and one node per level above it.

use crate::crypto::Secret;
use crate::format::node::{
    DirectoryBranch, DirectoryLeaf, DirectoryPart, ListBranch, ListLeaf, ListPart, NodeBody,
};
use crate::format::tree::{ChunkRef, Content, Entry};
use crate::id::{ListId, NodeId};
use crate::limits;
use crate::repo::chunk_writer::FrameWriter;
use crate::repo::error::RepoError;
use crate::wire::Bytes;

/// Entries before a node may end.
const ENTRY_COUNT_MIN: usize = 128;
/// Entries at which it must end.
const ENTRY_COUNT_MAX: usize = 4096;
/// Bytes at which it must end.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// A node ends where so many low bits of a hash are zero: on average every 1,024 entries.
const SPLIT_MASK: u16 = (1 << 10) - 1;
/// Encoded bytes of an entry without name, link target, chunks and extensions, at most.
const ENTRY_BYTES_FIXED: usize = 80;
const CHUNK_REF_BYTES: usize = 36;

/// Writes nodes through a frame writer of its own.
pub struct TreeWriter<'w> {
    frames: FrameWriter<'w>,
    split_key: [u8; 32],
}

/// A folder that is stored, or soon will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenDirectory {
    /// Its topmost node.
    pub id: NodeId,
    /// Bytes of all files below it.
    pub size: u64,
}

impl<'w> TreeWriter<'w> {
    /// A writer that splits nodes by `split_key`.
    pub fn new(frames: FrameWriter<'w>, split_key: &Secret<32>) -> Self {
        Self { frames, split_key: *split_key.expose() }
    }

    /// Puts everything written so far into packs.
    pub fn finish(mut self) -> Result<(), RepoError> {
        self.frames.finish()
    }

    fn splits_after(&self, name: &[u8]) -> bool {
        ends_node(blake3::keyed_hash(&self.split_key, name).as_bytes())
    }

    fn put_directory_node(
        &mut self,
        node: &impl NodeBody,
        earlier: Option<NodeId>,
    ) -> Result<NodeId, RepoError> {
        let bytes = node.encode().map_err(RepoError::Unstorable)?;
        self.frames.put_node_version(&bytes, earlier)
    }

    fn put_list_node(&mut self, node: &impl NodeBody) -> Result<ListId, RepoError> {
        let bytes = node.encode().map_err(RepoError::Unstorable)?;
        self.frames.put_list(&bytes)
    }
}

fn ends_node(hash: &[u8]) -> bool {
    hash.first_chunk().is_some_and(|low| u16::from_le_bytes(*low) & SPLIT_MASK == 0)
}

/// Collects the entries of one folder, by ascending name.
#[derive(Default)]
pub struct DirectoryWriter {
    leaf: DirectoryLeaf,
    leaf_bytes: usize,
    size: u64,
    above: Levels<DirectoryPart>,
    parts_size: u64,
    earlier: Vec<(Bytes, NodeId)>,
}

impl DirectoryWriter {
    /// A writer of a folder of which there is an earlier version with these leaves, each with its first name, in order.
    /// New leaves may be stored as their differences from those.
    pub fn resembling(earlier: Vec<(Bytes, NodeId)>) -> Self {
        Self { earlier, ..Self::default() }
    }

    /// The leaf of the earlier version that lay where the open one begins.
    fn earlier_leaf(&self) -> Option<NodeId> {
        let first = &self.leaf.entries.first()?.name;
        let after = self.earlier.partition_point(|(name, _)| name <= first);
        self.earlier.get(after.saturating_sub(1)).map(|(_, id)| *id)
    }

    /// Adds an entry, whose name is greater than that of the entry before.
    pub fn push(&mut self, entry: Entry, writer: &mut TreeWriter<'_>) -> Result<(), RepoError> {
        self.size = self.size.saturating_add(entry.size);
        self.leaf_bytes += encoded_bytes_max(&entry);
        let count = self.leaf.entries.len() + 1;
        let ends = count >= ENTRY_COUNT_MAX
            || self.leaf_bytes >= ENTRY_BYTES_MAX
            || (count >= ENTRY_COUNT_MIN && writer.splits_after(entry.name.as_slice()));
        self.leaf.entries.push(entry);
        if ends { self.end_leaf(writer) } else { Ok(()) }
    }

    fn end_leaf(&mut self, writer: &mut TreeWriter<'_>) -> Result<(), RepoError> {
        let id = writer.put_directory_node(&self.leaf, self.earlier_leaf())?;
        let Some(first) = self.leaf.entries.first() else { return Ok(()) };
        let size = self.size - self.parts_size;
        let part = DirectoryPart {
            first: first.name.clone(),
            id,
            entry_count: self.leaf.entries.len() as u64,
            size,
        };
        self.parts_size = self.size;
        self.leaf.entries.clear();
        self.leaf_bytes = 0;
        self.above.add(0, part, writer)
    }

    /// Ends the folder.
    pub fn finish(mut self, writer: &mut TreeWriter<'_>) -> Result<WrittenDirectory, RepoError> {
        let size = self.size;
        if self.above.is_empty() {
            let id = writer.put_directory_node(&self.leaf, self.earlier_leaf())?;
            return Ok(WrittenDirectory { id, size });
        }
        if !self.leaf.entries.is_empty() {
            self.end_leaf(writer)?;
        }
        Ok(WrittenDirectory { id: self.above.finish(writer)?.id, size })
    }
}

impl Part for DirectoryPart {
    const OBJECT: &'static str = "folder";

    fn may_end_node(&self, writer: &TreeWriter<'_>) -> bool {
        writer.splits_after(self.first.as_slice())
    }

    fn join(children: Vec<Self>, writer: &mut TreeWriter<'_>) -> Result<Self, RepoError> {
        let branch = DirectoryBranch { children };
        let id = writer.put_directory_node(&branch, None)?;
        let first = branch.children.first().expect("a branch ends after a part").first.clone();
        let entry_count = branch.children.iter().map(|part| part.entry_count).sum();
        let size = branch.children.iter().map(|part| part.size).fold(0, u64::saturating_add);
        Ok(Self { first, id, entry_count, size })
    }
}

fn encoded_bytes_max(entry: &Entry) -> usize {
    let content = match &entry.content {
        Content::Chunks(chunks) => chunks.len() * CHUNK_REF_BYTES,
        Content::LinkTarget(target) => target.as_slice().len(),
        Content::None | Content::List(_) | Content::Directory(_) | Content::Device(..) => 0,
    };
    let extensions = entry.extensions.iter().map(|extension| extension.value.as_slice().len() + 8);
    ENTRY_BYTES_FIXED + entry.name.as_slice().len() + content + extensions.sum::<usize>()
}

/// Collects the chunks of one file, in order. Short lists stay inside the entry.
#[derive(Default)]
pub struct ListWriter {
    leaf: ListLeaf,
    above: Levels<ListPart>,
}

impl ListWriter {
    /// Adds a chunk.
    pub fn push(&mut self, chunk: ChunkRef, writer: &mut TreeWriter<'_>) -> Result<(), RepoError> {
        self.leaf.chunks.push(chunk);
        let count = self.leaf.chunks.len();
        let ends = count >= ENTRY_COUNT_MAX || (count >= ENTRY_COUNT_MIN && ends_node(chunk.id.bytes()));
        if ends { self.end_leaf(writer) } else { Ok(()) }
    }

    fn end_leaf(&mut self, writer: &mut TreeWriter<'_>) -> Result<(), RepoError> {
        let id = writer.put_list_node(&self.leaf)?;
        let len = self.leaf.chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        self.leaf.chunks.clear();
        self.above.add(0, ListPart { id, len }, writer)
    }

    /// Ends the list.
    pub fn finish(mut self, writer: &mut TreeWriter<'_>) -> Result<Content, RepoError> {
        if self.above.is_empty() {
            return match self.leaf.chunks.len() {
                0 => Ok(Content::None),
                1..=limits::INLINE_CHUNK_COUNT_MAX => Ok(Content::Chunks(self.leaf.chunks)),
                _ => Ok(Content::List(writer.put_list_node(&self.leaf)?)),
            };
        }
        if !self.leaf.chunks.is_empty() {
            self.end_leaf(writer)?;
        }
        Ok(Content::List(self.above.finish(writer)?.id))
    }
}

impl Part for ListPart {
    const OBJECT: &'static str = "chunk list";

    fn may_end_node(&self, _: &TreeWriter<'_>) -> bool {
        ends_node(self.id.bytes())
    }

    fn join(children: Vec<Self>, writer: &mut TreeWriter<'_>) -> Result<Self, RepoError> {
        let branch = ListBranch { children };
        let id = writer.put_list_node(&branch)?;
        Ok(Self { id, len: branch.children.iter().map(|part| part.len).fold(0, u64::saturating_add) })
    }
}

/// What stands in a branch for one of its children.
trait Part: Sized {
    /// What is split, for messages.
    const OBJECT: &'static str;

    /// Whether a node that is large enough ends after it.
    fn may_end_node(&self, writer: &TreeWriter<'_>) -> bool;

    /// Stores a branch, and says what stands for it in the level above. There is at least one child.
    fn join(children: Vec<Self>, writer: &mut TreeWriter<'_>) -> Result<Self, RepoError>;
}

/// The branches above the leaves: of each level the children of the branch that is open.
struct Levels<P>(Vec<Vec<P>>);

impl<P> Default for Levels<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<P: Part> Levels<P> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a child at `level`, and ends the branches that it fills.
    fn add(&mut self, level: usize, part: P, writer: &mut TreeWriter<'_>) -> Result<(), RepoError> {
        let mut part = part;
        for level in level..limits::NODE_LEVEL_COUNT_MAX {
            if self.0.len() <= level {
                self.0.push(Vec::new());
            }
            let parts = self.0.get_mut(level).expect("the level was just made");
            let may_end = parts.len() + 1 >= ENTRY_COUNT_MIN && part.may_end_node(writer);
            parts.push(part);
            if !may_end && parts.len() < ENTRY_COUNT_MAX {
                return Ok(());
            }
            part = P::join(std::mem::take(parts), writer)?;
        }
        let rule = "its node levels are more than the format allows";
        Err(RepoError::Unstorable(crate::format::FormatError::invalid(P::OBJECT, rule)))
    }

    /// Ends all branches; what stands for the topmost node. At least one child was added.
    fn finish(mut self, writer: &mut TreeWriter<'_>) -> Result<P, RepoError> {
        let mut level = 0;
        loop {
            let mut parts = std::mem::take(self.0.get_mut(level).expect("a level below the top is there"));
            let is_top = self.0.iter().skip(level + 1).all(Vec::is_empty);
            match parts.pop() {
                Some(only) if is_top && parts.is_empty() => return Ok(only),
                Some(last) => {
                    parts.push(last);
                    let part = P::join(parts, writer)?;
                    self.add(level + 1, part, writer)?;
                }
                None => {}
            }
            level += 1;
        }
    }
}
