//! A snapshot of what is left of a damaged one.
//!
//! Its writer is one like that of a backup: it registers a lease, looks at what is there afterwards, and claims every
//! chunk that it keeps before it commits. Folders are written anew; one that has lost nothing comes out as the node
//! that is stored already.
//!
//! A file that has lost a chunk is left out as a whole, and so is a folder whose node is lost: half a file that looks
//! like a whole one would be worse than none. What is left out is named among the problems of the new snapshot.

use std::sync::Arc;

use super::{RepairError, stop_if_interrupted};
use crate::event::{Observer, Progress};
use crate::format::node::Node;
use crate::format::snapshot::{LeftOf, Snapshot, SnapshotProblem, Totals};
use crate::format::tree::{ChunkRef, Content, Entry, EntryKind};
use crate::id::{ContentId, ListId, NodeId, SnapshotId};
use crate::index::PackKind;
use crate::limits;
use crate::repo::{
    ChunkReader, ChunkWriter, DirectoryWriter, Lease, NodeRef, Repo, RepoError, SnapshotList, TreeReader,
    TreeWriter, View, WriterOptions, retry_when_fenced,
};
use crate::wire::Bytes;

/// What became of the attempt.
pub enum Remnant {
    /// There is a snapshot now.
    Made {
        /// Its id.
        id: SnapshotId,
        /// Entries that are not in it.
        lost_count: u64,
    },
    /// Nothing is lost, there is such a snapshot already, or the damaged one is gone.
    NotNeeded,
    /// Not even the topmost folder can be read.
    Nothing,
    /// Something lies in a pack that an open plan dooms, so that nobody may rely on it now.
    Busy,
}

/// Makes a snapshot of what is left of this one.
pub fn keep(repo: &Arc<Repo>, id: SnapshotId, observer: &dyn Observer) -> Result<Remnant, RepairError> {
    let is_fenced = |error: &RepairError| matches!(error, RepairError::Repo(RepoError::Fenced));
    retry_when_fenced(is_fenced, || attempt(repo, id, observer))
}

/// One attempt under one lease: register, look, copy, commit.
fn attempt(repo: &Arc<Repo>, id: SnapshotId, observer: &dyn Observer) -> Result<Remnant, RepairError> {
    let lease = Lease::register(repo, "repair")?;
    let (view, _, _) = repo.writer_view(lease.excluded())?;
    let view = Arc::new(view);
    let list = repo.snapshots()?;
    let is_kept = |snapshot: &Snapshot| snapshot.left_of().is_some_and(|damaged| damaged.snapshot == id);
    let damaged = list.snapshots.iter().find(|snapshot| snapshot.id == id);
    let Some(damaged) = damaged.filter(|_| !list.snapshots.iter().any(is_kept)) else {
        return Ok(Remnant::NotNeeded);
    };
    let options = WriterOptions::default();
    let writer = ChunkWriter::start(repo, lease.id(), Arc::clone(&view), options);
    lease.watch(&writer);
    let copied = copy(repo, &lease, &view, &writer, damaged.root, observer)?;
    let (root, lost, mut totals) = match copied {
        Copied { is_busy: true, .. } => return Ok(Remnant::Busy),
        Copied { root: None, .. } => return Ok(Remnant::Nothing),
        Copied { lost: Lost { count: 0, .. }, .. } => return Ok(Remnant::NotNeeded),
        Copied { root: Some(root), lost, totals, .. } => (root, lost, totals),
    };
    let written = writer.finish()?;
    (totals.bytes_new, totals.bytes_stored) = (written.bytes_new, written.bytes_stored);
    let lost_count = lost.count;
    let snapshot = remnant_of(damaged, root, totals, lost, &list, &lease)?;
    lease.commit(&snapshot, observer)?;
    lease.end_well(observer);
    Ok(Remnant::Made { id: snapshot.id, lost_count })
}

/// What came of copying a tree.
struct Copied {
    /// The topmost node of the copy.
    root: Option<NodeId>,
    lost: Lost,
    totals: Totals,
    is_busy: bool,
}

/// Copies what is left below a root. All of it is in packs, or on its way to one, on return.
fn copy(
    repo: &Arc<Repo>,
    lease: &Lease,
    view: &Arc<View>,
    writer: &ChunkWriter,
    root: NodeId,
    observer: &dyn Observer,
) -> Result<Copied, RepairError> {
    let reader = TreeReader::new(Arc::new(ChunkReader::new(Arc::clone(repo), Arc::clone(view))));
    let tree = TreeWriter::new(writer.frame_writer(PackKind::Meta), writer.split_key());
    let (lost, totals) = (Lost::default(), Totals::default());
    let mut copier = Copier { lease, view, reader: &reader, writer, tree, lost, totals, is_busy: false };
    let root = copier.copy(root, observer)?;
    let Copier { tree, lost, totals, is_busy, .. } = copier;
    tree.finish()?;
    Ok(Copied { root, lost, totals, is_busy })
}

/// The snapshot with what is left. It says of itself what the damaged one said, times included.
fn remnant_of(
    damaged: &Snapshot,
    root: NodeId,
    totals: Totals,
    lost: Lost,
    list: &SnapshotList,
    lease: &Lease,
) -> Result<Snapshot, RepoError> {
    let (sequence, previous) = list.next_of(damaged.series);
    let mut problems = damaged.problems.clone();
    problems.extend(lost.problems);
    problems.truncate(limits::PROBLEM_COUNT_MAX);
    let mut snapshot = Snapshot {
        id: lease.id(),
        sequence,
        previous,
        root,
        totals,
        problem_count: damaged.problem_count.saturating_add(lost.count),
        problems,
        seen: lease.seen().map(|plan| plan.number),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        ..damaged.clone()
    };
    let left_of = LeftOf { snapshot: damaged.id, sequence: damaged.place() };
    snapshot.set_left_of(left_of).map_err(RepoError::Unstorable)?;
    Ok(snapshot)
}

/// What is not in the new snapshot.
#[derive(Default)]
struct Lost {
    count: u64,
    problems: Vec<SnapshotProblem>,
}

impl Lost {
    fn add(&mut self, path: &[u8], message: &str) {
        self.count += 1;
        if self.problems.len() < limits::PROBLEM_COUNT_MAX {
            let path = if path.is_empty() { b"/" } else { path };
            self.problems.push(SnapshotProblem { path: Bytes::from(path), message: message.to_owned() });
        }
    }
}

/// A folder that is being copied.
struct Folder {
    /// The entry that it is; none for the topmost.
    entry: Option<Entry>,
    path: Vec<u8>,
    /// Nodes of it that are not read yet, the next one last.
    pending: Vec<NodeId>,
    entries: std::vec::IntoIter<Entry>,
    written: DirectoryWriter,
}

struct Copier<'a> {
    lease: &'a Lease,
    view: &'a View,
    reader: &'a TreeReader,
    writer: &'a ChunkWriter,
    tree: TreeWriter<'a>,
    lost: Lost,
    totals: Totals,
    is_busy: bool,
}

impl Copier<'_> {
    /// The node of the topmost folder of the copy; none if that of the original cannot be read.
    ///
    /// Folders that are open are on a stack of their own: paths may be deep.
    fn copy(&mut self, root: NodeId, observer: &dyn Observer) -> Result<Option<NodeId>, RepairError> {
        let Some(top) = self.open(None, Vec::new(), root)? else { return Ok(None) };
        let mut open = vec![top];
        while let Some(folder) = open.last_mut() {
            if let Some(entry) = folder.entries.next() {
                stop_if_interrupted(observer)?;
                let path = [&folder.path, b"/".as_slice(), entry.name.as_slice()].concat();
                if let Content::Directory(id) = entry.content {
                    match self.open(Some(entry), path.clone(), id)? {
                        Some(below) => open.push(below),
                        None => self.lost.add(&path, "the folder, and what was in it, is lost"),
                    }
                } else if self.keeps(&entry.content)? {
                    self.totals.files += 1;
                    self.totals.bytes += if entry.kind == EntryKind::File { entry.size } else { 0 };
                    folder.written.push(entry, &mut self.tree)?;
                } else {
                    self.lost.add(&path, "a part of the file is lost, so it is left out");
                }
                continue;
            }
            if let Some(node) = folder.pending.pop() {
                let path = folder.path.clone();
                match self.node(NodeRef::Directory(node))? {
                    Some(node) => enter(folder, node),
                    None => self.lost.add(&path, "a part of the folder is lost"),
                }
                continue;
            }
            Progress::add(&observer.progress().files_done, 1);
            let Some(done) = open.pop() else { break };
            let written = done.written.finish(&mut self.tree)?;
            match (done.entry, open.last_mut()) {
                (Some(mut entry), Some(above)) => {
                    self.totals.directories += 1;
                    entry.size = written.size;
                    entry.content = Content::Directory(written.id);
                    above.written.push(entry, &mut self.tree)?;
                }
                _ => return Ok(Some(written.id)),
            }
        }
        Ok(None)
    }

    /// A folder with its topmost node read; none if that is lost.
    fn open(
        &mut self,
        entry: Option<Entry>,
        path: Vec<u8>,
        id: NodeId,
    ) -> Result<Option<Folder>, RepairError> {
        let Some(node) = self.node(NodeRef::Directory(id))? else { return Ok(None) };
        let entries = Vec::new().into_iter();
        let written = DirectoryWriter::default();
        let mut folder = Folder { entry, path, pending: Vec::new(), entries, written };
        enter(&mut folder, node);
        Ok(Some(folder))
    }

    /// Whether all bytes of an entry are there. They are claimed, so they stay.
    fn keeps(&mut self, content: &Content) -> Result<bool, RepairError> {
        match content {
            Content::Chunks(chunks) => self.keeps_chunks(chunks),
            Content::List(id) => self.keeps_list(*id),
            Content::None | Content::Directory(_) | Content::LinkTarget(_) | Content::Device(..) => Ok(true),
        }
    }

    fn keeps_list(&mut self, id: ListId) -> Result<bool, RepairError> {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let keeps = match self.node(NodeRef::List(id))? {
                Some(Node::ListLeaf(leaf)) => {
                    self.is_known(&id.content())? && self.keeps_chunks(&leaf.chunks)?
                }
                Some(Node::ListBranch(branch)) => {
                    pending.extend(branch.children.iter().map(|part| part.id));
                    self.is_known(&id.content())?
                }
                Some(Node::DirectoryLeaf(_) | Node::DirectoryBranch(_)) | None => false,
            };
            if !keeps {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn keeps_chunks(&mut self, chunks: &[ChunkRef]) -> Result<bool, RepairError> {
        for chunk in chunks {
            if !self.is_known(&chunk.id.content())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_known(&mut self, id: &ContentId) -> Result<bool, RepairError> {
        let is_known = self.writer.is_known(id)?;
        self.is_busy |= !is_known && self.is_doomed(id)?;
        Ok(is_known)
    }

    /// A node; none if it is lost.
    fn node(&mut self, reference: NodeRef) -> Result<Option<Node>, RepairError> {
        let id = reference.content();
        let Some(place) = self.view.find(&id.prefix())? else {
            self.is_busy |= self.is_doomed(&id)?;
            return Ok(None);
        };
        match self.reader.examine_node(reference, place) {
            Ok(node) => Ok(Some(node)),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what cannot be claimed lies in a pack that an open plan dooms: then it is not lost.
    fn is_doomed(&self, id: &ContentId) -> Result<bool, RepoError> {
        let excluded = self.lease.excluded();
        if excluded.is_empty() {
            return Ok(false);
        }
        let index = self.view.index();
        for place in index.lookup(&id.prefix())?.iter() {
            if index.pack(place.pack)?.is_some_and(|row| excluded.contains(&row.id)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Takes a node of a folder in.
fn enter(folder: &mut Folder, node: Node) {
    match node {
        Node::DirectoryLeaf(leaf) => folder.entries = leaf.entries.into_iter(),
        Node::DirectoryBranch(branch) => {
            folder.pending.extend(branch.children.iter().rev().map(|part| part.id));
        }
        Node::ListLeaf(_) | Node::ListBranch(_) => {}
    }
}
