//! Folders and chunk lists on their way out, node by node.

use std::sync::Arc;

use crate::format::node::{DirectoryBranch, ListBranch, Node};
use crate::format::tree::{ChunkRef, Content, Entry};
use crate::id::{ChunkId, ContentId, ListId, NodeId};
use crate::limits;
use crate::repo::Repo;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::error::{DamageReason, RepoError};
use crate::wire::Bytes;

/// Reads folders and chunk lists. Its methods may be called from several threads.
pub struct TreeReader {
    chunks: Arc<ChunkReader>,
}

impl TreeReader {
    /// Reads through `chunks`.
    pub fn new(chunks: Arc<ChunkReader>) -> Self {
        Self { chunks }
    }

    /// What it reads through.
    pub fn chunk_reader(&self) -> &Arc<ChunkReader> {
        &self.chunks
    }

    /// The entries of a folder, by ascending name.
    pub fn directory(&self, id: NodeId) -> DirectoryEntries<'_> {
        DirectoryEntries {
            reader: self,
            open: vec![vec![id].into_iter()],
            leaf: Vec::new().into_iter(),
            last: None,
        }
    }

    /// The leaves of a folder, each with its first name, in order; that of a single one is left open. None of a folder of
    /// more than two levels. For those who look for something that resembles them: what they hold is not read.
    pub fn leaves(&self, id: NodeId) -> Result<Vec<(Bytes, NodeId)>, RepoError> {
        let bytes = self.chunks.read_content(&id.content())?;
        if !Node::is_branch(bytes.as_ref()) {
            return Ok(vec![(Bytes::default(), id)]);
        }
        let Node::DirectoryBranch(DirectoryBranch { children }) = self.read_directory_node(id)? else {
            return Ok(Vec::new());
        };
        let Some(first) = children.first() else { return Ok(Vec::new()) };
        if Node::is_branch(self.chunks.read_content(&first.id.content())?.as_ref()) {
            return Ok(Vec::new());
        }
        Ok(children.into_iter().map(|part| (part.first, part.id)).collect())
    }

    /// The chunks of a file, in order. Anything but a file has none.
    pub fn chunks(&self, content: &Content) -> ChunkList<'_> {
        let (open, leaf) = match content {
            Content::Chunks(chunks) => (Vec::new(), chunks.clone()),
            Content::List(id) => (vec![vec![*id].into_iter()], Vec::new()),
            Content::None | Content::Directory(_) | Content::LinkTarget(_) | Content::Device(..) => {
                (Vec::new(), Vec::new())
            }
        };
        ChunkList { reader: self, open, leaf: leaf.into_iter(), parts: Vec::new() }
    }

    /// The entry with this name in a folder.
    pub fn find(&self, folder: NodeId, name: &[u8]) -> Result<Option<Entry>, RepoError> {
        let mut id = folder;
        for _ in 0..limits::NODE_LEVEL_COUNT_MAX {
            match self.read_directory_node(id)? {
                Node::DirectoryLeaf(leaf) => {
                    let found = leaf.entries.into_iter().find(|entry| entry.name.as_slice() == name);
                    return Ok(found);
                }
                Node::DirectoryBranch(DirectoryBranch { children }) => {
                    let after = children.partition_point(|part| part.first.as_slice() <= name);
                    match after.checked_sub(1).and_then(|at| children.get(at)) {
                        Some(part) => id = part.id,
                        None => return Ok(None),
                    }
                }
                Node::ListLeaf(_) | Node::ListBranch(_) => return Err(wrong_kind(id.content())),
            }
        }
        Err(wrong_kind(folder.content()))
    }

    /// The entry at a path below a folder, given as its components. No component means `None`: the folder itself.
    pub fn resolve(&self, root: NodeId, path: &[&[u8]]) -> Result<Option<Entry>, RepoError> {
        let mut folder = root;
        let mut found = None;
        for (depth, name) in path.iter().enumerate() {
            let no_path = || RepoError::NoPath { path: path_text(path) };
            let entry = self.find(folder, name)?.ok_or_else(no_path)?;
            if depth + 1 < path.len() {
                let Content::Directory(id) = entry.content else { return Err(no_path()) };
                folder = id;
            }
            found = Some(entry);
        }
        Ok(found)
    }

    fn read_node(&self, id: ContentId, is_id_of: impl Fn(&[u8]) -> bool) -> Result<Node, RepoError> {
        let bytes = self.chunks.read_content(&id)?;
        if !is_id_of(bytes.as_ref()) {
            return Err(RepoError::Damaged { name: format!("node {id}"), source: DamageReason::Id });
        }
        let decoded = Node::decode(bytes.as_ref());
        decoded.map_err(|error| RepoError::Damaged { name: format!("node {id}"), source: error.into() })
    }

    /// The node of a folder or of a part of one.
    pub fn read_directory_node(&self, id: NodeId) -> Result<Node, RepoError> {
        self.read_node(id.content(), |bytes| self.repo().keys.ids.node(bytes) == id)
    }

    /// The node of a chunk list or of a part of one.
    pub fn read_list_node(&self, id: ListId) -> Result<Node, RepoError> {
        self.read_node(id.content(), |bytes| self.repo().keys.ids.list(bytes) == id)
    }

    fn repo(&self) -> &Repo {
        self.chunks.repo()
    }

    /// All bytes of a file, chunk by chunk, to `write`. Holes are left out: see [`crate::format::tree::SparseMap`].
    pub fn visit_bytes<E: From<RepoError>>(
        &self,
        content: &Content,
        write: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for chunk in self.chunks(content) {
            let ChunkRef { id, .. } = chunk?;
            write(self.chunks.read_chunk(&id)?.as_ref())?;
        }
        Ok(())
    }

    /// Whether a chunk can be read and has its id.
    pub fn chunk_is_good(&self, id: &ChunkId) -> bool {
        self.chunks.read_chunk(id).is_ok()
    }
}

/// A folder, or a part of one that is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderNode {
    /// Entries, by ascending name.
    Leaf(Vec<Entry>),
    /// Parts, by ascending first name.
    Branch(Vec<NodeId>),
}

/// Whoever knows the nodes of folders: a repository, or a test with trees of its own. For operations that meet the same
/// node in many places, and want to read it once.
pub trait FolderNodes {
    /// The node with this id. One that belongs to no folder is damage.
    fn folder_node(&self, id: NodeId) -> Result<FolderNode, RepoError>;
}

impl FolderNodes for TreeReader {
    fn folder_node(&self, id: NodeId) -> Result<FolderNode, RepoError> {
        match self.read_directory_node(id)? {
            Node::DirectoryLeaf(leaf) => Ok(FolderNode::Leaf(leaf.entries)),
            Node::DirectoryBranch(branch) => {
                Ok(FolderNode::Branch(branch.children.into_iter().map(|part| part.id).collect()))
            }
            Node::ListLeaf(_) | Node::ListBranch(_) => Err(wrong_kind(id.content())),
        }
    }
}

fn path_text(path: &[&[u8]]) -> String {
    let parts = path.iter().map(|part| String::from_utf8_lossy(part));
    parts.fold(String::new(), |text, part| text + "/" + &part)
}

fn wrong_kind(id: ContentId) -> RepoError {
    RepoError::Damaged { name: format!("node {id}"), source: DamageReason::Kind }
}

/// See [`TreeReader::directory`]. Ends after the first error.
pub struct DirectoryEntries<'r> {
    reader: &'r TreeReader,
    open: Vec<std::vec::IntoIter<NodeId>>,
    leaf: std::vec::IntoIter<Entry>,
    last: Option<Vec<u8>>,
}

impl DirectoryEntries<'_> {
    fn advance(&mut self) -> Result<Option<Entry>, RepoError> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return self.checked(entry).map(Some);
            }
            let Some(level) = self.open.last_mut() else { return Ok(None) };
            let Some(id) = level.next() else {
                self.open.pop();
                continue;
            };
            match self.reader.read_directory_node(id)? {
                Node::DirectoryLeaf(leaf) => self.leaf = leaf.entries.into_iter(),
                Node::DirectoryBranch(branch) if self.open.len() < limits::NODE_LEVEL_COUNT_MAX => {
                    let children: Vec<_> = branch.children.into_iter().map(|part| part.id).collect();
                    self.open.push(children.into_iter());
                }
                Node::DirectoryBranch(_) | Node::ListLeaf(_) | Node::ListBranch(_) => {
                    return Err(wrong_kind(id.content()));
                }
            }
        }
    }

    /// Names ascend across leaves too; otherwise one path could name two files.
    fn checked(&mut self, entry: Entry) -> Result<Entry, RepoError> {
        if self.open.len() > 1 {
            if self.last.as_deref().is_some_and(|last| last >= entry.name.as_slice()) {
                let rule = "its leaves are not in order";
                let source = crate::format::FormatError::invalid("folder", rule).into();
                return Err(RepoError::Damaged { name: "folder".to_owned(), source });
            }
            if self.leaf.len() == 0 {
                self.last = Some(entry.name.as_slice().to_vec());
            }
        }
        Ok(entry)
    }
}

impl Iterator for DirectoryEntries<'_> {
    type Item = Result<Entry, RepoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.open.clear();
            self.leaf = Vec::new().into_iter();
        }
        next.transpose()
    }
}

/// See [`TreeReader::chunks`]. Ends after the first error.
pub struct ChunkList<'r> {
    reader: &'r TreeReader,
    open: Vec<std::vec::IntoIter<ListId>>,
    leaf: std::vec::IntoIter<ChunkRef>,
    parts: Vec<ListId>,
}

impl ChunkList<'_> {
    /// The nodes below the topmost one that were met since this was last asked.
    pub fn take_parts(&mut self) -> Vec<ListId> {
        std::mem::take(&mut self.parts)
    }

    fn advance(&mut self) -> Result<Option<ChunkRef>, RepoError> {
        loop {
            if let Some(chunk) = self.leaf.next() {
                return Ok(Some(chunk));
            }
            let Some(level) = self.open.last_mut() else { return Ok(None) };
            let Some(id) = level.next() else {
                self.open.pop();
                continue;
            };
            match self.reader.read_list_node(id)? {
                Node::ListLeaf(leaf) => self.leaf = leaf.chunks.into_iter(),
                Node::ListBranch(ListBranch { children })
                    if self.open.len() < limits::NODE_LEVEL_COUNT_MAX =>
                {
                    let children: Vec<_> = children.into_iter().map(|part| part.id).collect();
                    self.parts.extend(&children);
                    self.open.push(children.into_iter());
                }
                Node::ListBranch(_) | Node::DirectoryLeaf(_) | Node::DirectoryBranch(_) => {
                    return Err(wrong_kind(id.content()));
                }
            }
        }
    }
}

impl Iterator for ChunkList<'_> {
    type Item = Result<ChunkRef, RepoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.open.clear();
        }
        next.transpose()
    }
}
