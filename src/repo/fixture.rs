//! Trees without a repository, for tests of what reads folders: nodes in a map, and a count of how often each was read.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use super::{FolderNode, FolderNodes, RepoError};
use crate::clock::Timestamp;
use crate::format::tree::{ChunkRef, Content, Entry, EntryKind};
use crate::id::{ChunkId, NodeId};
use crate::wire::Bytes;

/// A tree as a test writes it down: names, and what is under them.
pub(crate) type Folder = BTreeMap<Vec<u8>, Thing>;

/// What is under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A file with this content (0 is empty), mode and time.
    File { content: u8, mode: u16, seconds: i64 },
    /// A symbolic link.
    Link { target: u8 },
    /// A folder with this mode.
    Folder { mode: u16, inside: Folder },
}

/// Nodes by id.
#[derive(Debug, Default)]
pub(crate) struct MapNodes {
    nodes: HashMap<NodeId, FolderNode>,
    ids: HashMap<String, NodeId>,
    pub(crate) reads: RefCell<HashMap<NodeId, u32>>,
    pub(crate) broken: Vec<NodeId>,
}

impl FolderNodes for MapNodes {
    fn folder_node(&self, id: NodeId) -> Result<FolderNode, RepoError> {
        *self.reads.borrow_mut().entry(id).or_default() += 1;
        let found = self.nodes.get(&id).filter(|_| !self.broken.contains(&id));
        found.cloned().ok_or(RepoError::NoPath { path: "no such node".to_owned() })
    }
}

impl MapNodes {
    /// Stores a folder; equal ones have one id. Some are split.
    pub(crate) fn store(&mut self, folder: &Folder) -> NodeId {
        let mut leaves = vec![Vec::new()];
        for (name, thing) in folder {
            let entry = self.entry(name, thing);
            let is_last = name.iter().map(|byte| u32::from(*byte)).sum::<u32>() % 3 == 0;
            leaves.last_mut().unwrap().push(entry);
            if is_last {
                leaves.push(Vec::new());
            }
        }
        leaves.retain(|leaf| !leaf.is_empty());
        let mut parts: Vec<NodeId> =
            leaves.into_iter().map(|leaf| self.intern(FolderNode::Leaf(leaf))).collect();
        match parts.len() {
            0 => self.intern(FolderNode::Leaf(Vec::new())),
            1 => parts.remove(0),
            _ => self.intern(FolderNode::Branch(parts)),
        }
    }

    fn intern(&mut self, node: FolderNode) -> NodeId {
        let next = u32::try_from(self.ids.len()).unwrap();
        let id = *self.ids.entry(format!("{node:?}")).or_insert_with(|| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&next.to_le_bytes());
            NodeId::new(bytes)
        });
        self.nodes.insert(id, node);
        id
    }

    fn entry(&mut self, name: &[u8], thing: &Thing) -> Entry {
        let (kind, mode, seconds, size, content) = match thing {
            Thing::File { content: 0, mode, seconds } => (EntryKind::File, *mode, *seconds, 0, Content::None),
            Thing::File { content, mode, seconds } => {
                let chunk = ChunkRef { id: ChunkId::new([*content; 32]), len: (*content).into() };
                (EntryKind::File, *mode, *seconds, (*content).into(), Content::Chunks(vec![chunk]))
            }
            Thing::Link { target } => {
                (EntryKind::Symlink, 0o777, 0, 0, Content::LinkTarget(Bytes::from(vec![b'a' + target])))
            }
            Thing::Folder { mode, inside } => {
                let id = self.store(inside);
                (EntryKind::Directory, *mode, 0, bytes_below(inside), Content::Directory(id))
            }
        };
        Entry {
            name: Bytes::from(name),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp::from_seconds(seconds),
            ctime: Timestamp::default(),
            inode: 1,
            size,
            content,
            extensions: Vec::new(),
        }
    }
}

fn bytes_below(folder: &Folder) -> u64 {
    let bytes = |thing: &Thing| match thing {
        Thing::File { content, .. } => (*content).into(),
        Thing::Link { .. } => 0,
        Thing::Folder { inside, .. } => bytes_below(inside),
    };
    folder.values().map(bytes).sum()
}

/// Everything below a folder, with its path, parents first.
pub(crate) fn listing(folder: &Folder) -> BTreeMap<Vec<u8>, Thing> {
    fn go(folder: &Folder, above: &[u8], all: &mut BTreeMap<Vec<u8>, Thing>) {
        for (name, thing) in folder {
            let path = [above, b"/", name].concat();
            if let Thing::Folder { inside, .. } = thing {
                go(inside, &path, all);
            }
            all.insert(path, thing.clone());
        }
    }
    let mut all = BTreeMap::new();
    go(folder, b"", &mut all);
    all
}

/// Random trees of few names, so that two of them share much.
pub(crate) fn any_folder() -> impl proptest::strategy::Strategy<Value = Folder> {
    use proptest::prelude::*;
    let name = prop::sample::select(vec![&b"a"[..], b"b", b"c", b"c.txt", b"d", b"e\xff", b"A"]);
    let name = name.prop_map(<[u8]>::to_vec).boxed();
    let file = (0..5u8, prop::sample::select(vec![0o600, 0o644]), 0..3i64);
    let leaf = prop_oneof![
        6 => file.prop_map(|(content, mode, seconds)| Thing::File { content, mode, seconds }),
        1 => (0..3u8).prop_map(|target| Thing::Link { target }),
    ];
    let mode = prop::sample::select(vec![0o700, 0o755]);
    let names = name.clone();
    let thing = leaf.prop_recursive(3, 40, 6, move |inner| {
        let inside = prop::collection::btree_map(names.clone(), inner, 0..6);
        (mode.clone(), inside).prop_map(|(mode, inside)| Thing::Folder { mode, inside })
    });
    prop::collection::btree_map(name, thing, 0..6)
}
