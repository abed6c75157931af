//! Bringing the reference counts of the local index up to date with the snapshots.
//!
//! What is counted, and how, is told in [`crate::index::counts`]. Here it is decided which snapshots are applied and
//! which are released, and nodes are read: each one once, when it appears.
//!
//! - New snapshots are applied before forgotten ones are released. What both need is then neither dropped nor read
//!   again.
//! - References are released only for snapshots that a forget record names. One that is merely not listed any more is
//!   noted as vanished, and stays counted.
//! - Each snapshot is a transaction of its own. Only the last one of a run is forced to the disk: a crash takes back
//!   whole transactions, and the next run applies them again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use crate::event::{Observer, with_causes};
use crate::format::node::Node;
use crate::format::tree::Content;
use crate::id::{ContentId, ListId, NodeId, PackId, SnapshotId};
use crate::index::counts::{ChildId, Counting, Durable, NodeToRead, SnapshotState};
use crate::index::{Index, IndexError, IndexView, Places};
use crate::repo::Repo;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::error::RepoError;
use crate::repo::tree_reader::TreeReader;
use crate::repo::view::{PackProbe, Presence, View};

/// Nodes that are read together.
const BATCH_COUNT: usize = 1024;
/// So many changed counts are forced to the disk at the latest.
const CHANGE_COUNT_MAX: u64 = 4 << 20;
/// After so many rebuilds in a row the cause is not the index.
const REBUILD_COUNT_MAX: usize = 1;
/// In [`ChildId::node`].
const DIRECTORY: u8 = 0;
const LIST: u8 = 1;

/// What there is to be counted. The snapshots come from a listing of them that was made before that of the forget
/// records.
#[derive(Debug, Clone, Copy)]
pub struct CountingInput<'a> {
    /// Snapshots that are listed and in no forget record, with their roots, oldest first.
    pub live: &'a [(SnapshotId, NodeId)],
    /// Snapshots that a forget record names.
    pub forgotten: &'a HashSet<SnapshotId>,
    /// Packs that the index knows and a listing does not show with the right length.
    pub absent: &'a HashSet<PackId>,
}

/// What synchronising has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountingReport {
    /// Snapshots that are counted now and were not before.
    pub applied: Vec<SnapshotId>,
    /// Snapshots that are not counted any more.
    pub released: Vec<SnapshotId>,
    /// Snapshots that are neither listed nor forgotten, of this time and all times before. They are still counted; a
    /// prune must stop.
    pub vanished: Vec<SnapshotId>,
    /// Nodes that were read.
    pub nodes_read: u64,
    /// Counts that have changed.
    pub changes: u64,
    /// Why the index was deleted and built again, if it was.
    pub rebuilt_because: Option<String>,
}

impl Repo {
    /// Brings the index, and the counts in it, up to date. Afterwards the counts are a function of the packs that the
    /// index describes and of the snapshots that are live or vanished.
    ///
    /// The first time on this computer every node is read; later only those that are new. A damaged index is deleted
    /// and built again, so nobody may hold the index, or a view of it, meanwhile. An error about a node that cannot be
    /// read leaves its snapshot uncounted. [`RepoError::Ended`] if the observer asked to stop.
    pub fn synchronise_counts(
        self: &Arc<Self>,
        input: CountingInput<'_>,
        observer: &dyn Observer,
    ) -> Result<CountingReport, RepoError> {
        let mut rebuilt_because = None;
        let mut rebuild_count = 0;
        loop {
            let mut report =
                CountingReport { rebuilt_because: rebuilt_because.clone(), ..CountingReport::default() };
            match self.try_synchronise(input, observer, &mut report) {
                Err(RepoError::Index(error @ (IndexError::Damaged { .. } | IndexError::Stale)))
                    if rebuild_count < REBUILD_COUNT_MAX =>
                {
                    rebuild_count += 1;
                    rebuilt_because = Some(with_causes(&error));
                    self.rebuild_index()?;
                }
                outcome => return outcome.map(|()| report),
            }
        }
    }

    fn try_synchronise(
        self: &Arc<Self>,
        input: CountingInput<'_>,
        observer: &dyn Observer,
        report: &mut CountingReport,
    ) -> Result<(), RepoError> {
        drop(self.sync_index()?);
        let index = self.index()?;
        if !index.has_counts()? {
            index.make_counts()?;
        }
        index.set_absent_packs(input.absent)?;
        let states = index.counted_snapshots()?.into_iter().map(|snapshot| (snapshot.id, snapshot.state));
        let steps = steps(input, &states.collect());
        let mut run = Run { reader: self.node_reader(&index)?, index: &index, observer, unsynced: 0, report };
        let last = steps.len().saturating_sub(1);
        for (at, step) in steps.into_iter().enumerate() {
            run.take(step, at == last)?;
        }
        let vanished = |state| state == SnapshotState::Vanished;
        let all = index.counted_snapshots()?.into_iter();
        report.vanished = all.filter(|it| vanished(it.state)).map(|it| it.id).collect();
        Ok(())
    }

    fn node_reader(self: &Arc<Self>, index: &Index) -> Result<TreeReader, RepoError> {
        let presence = Presence::Described(PackProbe::new(Arc::clone(self.storage())));
        let view = Arc::new(View::new(index.view()?, presence, Arc::default()));
        Ok(TreeReader::new(Arc::new(ChunkReader::new(Arc::clone(self), view))))
    }

    /// The index with its counts, after [`Self::synchronise_counts`]. To be dropped before anybody brings it up to
    /// date again.
    pub fn counted_index(&self) -> Result<Arc<Index>, RepoError> {
        self.index()
    }

    /// Counts everything from scratch, reading every node that these roots reach, and compares: whether the counts are
    /// right. Memory and time grow with the repository.
    pub fn counts_are_right(self: &Arc<Self>, roots: &[NodeId]) -> Result<bool, RepoError> {
        let index = self.index()?;
        let reader = self.node_reader(&index)?;
        let roots: Vec<_> = roots.iter().map(|root| directory(*root)).collect();
        let mut children = |child: ChildId| read_children(&reader, child.id, child.node.unwrap_or(DIRECTORY));
        Ok(index.recount::<RepoError>(&roots, &mut children)? == index.dump_counts()?)
    }
}

/// One transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Apply(SnapshotId, NodeId),
    Release(SnapshotId),
    NoteVanished(SnapshotId, bool),
}

/// What is to be done about the snapshots that there are and were.
fn steps(input: CountingInput<'_>, states: &HashMap<SnapshotId, SnapshotState>) -> Vec<Step> {
    let is_forgotten = |id: &SnapshotId| input.forgotten.contains(id);
    let mut steps = Vec::new();
    for (id, root) in input.live.iter().filter(|(id, _)| !is_forgotten(id)) {
        match states.get(id) {
            None | Some(SnapshotState::Released) => steps.push(Step::Apply(*id, *root)),
            Some(SnapshotState::Vanished) => steps.push(Step::NoteVanished(*id, false)),
            Some(SnapshotState::Applied) => {}
        }
    }
    let live: HashSet<_> = input.live.iter().map(|(id, _)| *id).collect();
    let mut counted: Vec<_> = states.iter().filter(|(_, state)| **state != SnapshotState::Released).collect();
    counted.sort_unstable_by_key(|(id, _)| **id);
    for (id, state) in counted {
        if is_forgotten(id) {
            steps.push(Step::Release(*id));
        } else if !live.contains(id) && *state == SnapshotState::Applied {
            steps.push(Step::NoteVanished(*id, true));
        }
    }
    steps
}

struct Run<'r> {
    index: &'r Index,
    reader: TreeReader,
    observer: &'r dyn Observer,
    /// Changed counts that a crash would take back.
    unsynced: u64,
    report: &'r mut CountingReport,
}

impl Run<'_> {
    fn take(&mut self, step: Step, is_last: bool) -> Result<(), RepoError> {
        let mut counting = self.index.begin_counting()?;
        match step {
            Step::Apply(id, root) => {
                counting.apply_root(id, directory(root))?;
                self.read_all(&mut counting)?;
                self.report.applied.push(id);
            }
            Step::Release(id) => {
                counting.release_root(id)?;
                self.report.released.push(id);
            }
            Step::NoteVanished(id, has_vanished) => counting.note_vanished(id, has_vanished)?,
        }
        self.report.changes += counting.change_count();
        self.unsynced += counting.change_count();
        let is_due = is_last || self.unsynced >= CHANGE_COUNT_MAX;
        self.unsynced = if is_due { 0 } else { self.unsynced };
        Ok(counting.commit(if is_due { Durable::Now } else { Durable::Later })?)
    }

    /// Reads the nodes that have appeared, those of one frame together, and looks up what they refer to.
    fn read_all(&mut self, counting: &mut Counting) -> Result<(), RepoError> {
        loop {
            if self.observer.is_interrupted() {
                return Err(RepoError::Ended);
            }
            let mut nodes = counting.nodes_to_read(BATCH_COUNT);
            if nodes.is_empty() {
                return Ok(());
            }
            nodes.sort_unstable_by_key(|node| (node.place, node.number));
            let (reader, view) = (&self.reader, counting.view());
            let frame_of = |node: &NodeToRead| node.place.map(|place| (place.pack, place.frame));
            let frames: Vec<_> = nodes.chunk_by(|a, b| frame_of(a) == frame_of(b)).collect();
            let read = frames.into_par_iter().map(|nodes| {
                let read = nodes.iter().map(|node| {
                    let children = read_children(reader, node.id, node.node)?;
                    with_places(view, children)
                });
                read.collect::<Result<Vec<_>, RepoError>>()
            });
            let read = read.collect::<Result<Vec<_>, RepoError>>()?;
            for (node, children) in nodes.iter().zip(read.into_iter().flatten()) {
                counting.add_children(node, &children)?;
            }
            self.report.nodes_read += nodes.len() as u64;
        }
    }
}

fn directory(id: NodeId) -> ChildId {
    ChildId { id: id.content(), node: Some(DIRECTORY) }
}

fn with_places(view: &IndexView, children: Vec<ChildId>) -> Result<Vec<(ChildId, Places)>, RepoError> {
    let placed = children.into_iter().map(|child| Ok((child, view.lookup(&child.id.prefix())?)));
    placed.collect()
}

/// Reads a node, verified against its id, and says what it refers to.
fn read_children(reader: &TreeReader, id: ContentId, kind: u8) -> Result<Vec<ChildId>, RepoError> {
    let node = match kind {
        LIST => reader.read_list_node(ListId::new(*id.bytes()))?,
        _ => reader.read_directory_node(NodeId::new(*id.bytes()))?,
    };
    let list = |id: ListId| ChildId { id: id.content(), node: Some(LIST) };
    let chunk = |id: ContentId| ChildId { id, node: None };
    Ok(match node {
        Node::DirectoryLeaf(leaf) => {
            let mut children = Vec::with_capacity(leaf.entries.len());
            for entry in leaf.entries {
                match entry.content {
                    Content::Chunks(chunks) => {
                        children.extend(chunks.iter().map(|it| chunk(it.id.content())));
                    }
                    Content::List(id) => children.push(list(id)),
                    Content::Directory(id) => children.push(directory(id)),
                    Content::None | Content::LinkTarget(_) | Content::Device(..) => {}
                }
            }
            children
        }
        Node::DirectoryBranch(branch) => branch.children.iter().map(|part| directory(part.id)).collect(),
        Node::ListLeaf(leaf) => leaf.chunks.iter().map(|it| chunk(it.id.content())).collect(),
        Node::ListBranch(branch) => branch.children.iter().map(|part| list(part.id)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(number: u8) -> SnapshotId {
        SnapshotId::new([number; 16])
    }

    #[test]
    fn every_state_of_a_snapshot_has_its_step() {
        let root = NodeId::new([9; 32]);
        let live = [1, 2, 3, 4, 5].map(|number| (snapshot(number), root));
        let forgotten = [5, 6, 7, 8].map(snapshot).into();
        let absent = HashSet::new();
        let input = CountingInput { live: &live, forgotten: &forgotten, absent: &absent };
        let states = [
            (2, SnapshotState::Applied),
            (3, SnapshotState::Vanished),
            (4, SnapshotState::Released),
            (6, SnapshotState::Applied),
            (7, SnapshotState::Released),
            (8, SnapshotState::Vanished),
            (9, SnapshotState::Applied),
            (10, SnapshotState::Vanished),
            (11, SnapshotState::Released),
        ];
        let states = states.into_iter().map(|(number, state)| (snapshot(number), state)).collect();
        let expected = [
            Step::Apply(snapshot(1), root),
            Step::NoteVanished(snapshot(3), false),
            Step::Apply(snapshot(4), root),
            Step::Release(snapshot(6)),
            Step::Release(snapshot(8)),
            Step::NoteVanished(snapshot(9), true),
        ];
        assert_eq!(steps(input, &states), expected);
    }
}
