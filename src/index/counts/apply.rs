//! Counting snapshots, one transaction each.
//!
//! The index cannot read nodes. Whoever counts is handed nodes that have appeared, reads them, and hands back what
//! they refer to:
//!
//! ```text
//! counting.apply_root(snapshot, root)
//! while not empty: counting.nodes_to_read(n) -> read them -> counting.add_children(..)
//! counting.commit(..)
//! ```
//!
//! Nodes that wait are kept on a stack: the siblings of what is being read, not whole levels. So memory does not grow
//! with the tree. Dropping a [`Counting`] leaves everything as it was.

use std::sync::Arc;

use redb::{Durability, ReadableTable, WriteTransaction};

use super::super::error::{Guarded, IndexError, guarded};
use super::super::write::begin;
use super::super::{Index, IndexView, Place, Places};
use super::SNAPSHOTS;
use super::ledger::{Ledger, Work};
use super::packs::are_kept;
use super::rows::{LocalNumber, SnapshotRow, SnapshotState};
use crate::id::{ContentId, SnapshotId};

/// Something that a node refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId {
    /// Its id.
    pub id: ContentId,
    /// What the caller needs to know to read it if it is a node, handed back in [`NodeToRead`]; `None` for a chunk.
    pub node: Option<u8>,
}

/// A node that has appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeToRead {
    /// Its number, to be handed back.
    pub number: LocalNumber,
    /// Its id.
    pub id: ContentId,
    /// As in [`ChildId::node`].
    pub node: u8,
    /// A place where it lies; `None` if no pack holds it.
    pub place: Option<Place>,
}

/// Whether a commit is on the disk when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// It is, and with it all commits before.
    Now,
    /// It will be with the next one that is. A crash takes it back whole, and the index is as it was before.
    Later,
}

/// A transaction that counts. While it lives, nothing else can change the index.
pub struct Counting {
    ledger: Guarded<Ledger<WriteTransaction>>,
    view: Arc<IndexView>,
    waiting: Vec<NodeToRead>,
    /// Nodes that were handed out and not handed back.
    unread_count: usize,
}

impl Index {
    /// Begins a transaction that counts. [`IndexError::Invalid`] where no counts are kept.
    ///
    /// Waits for whoever else is changing the index.
    pub fn begin_counting(&self) -> Result<Counting, IndexError> {
        guarded(|| {
            let writing = begin(self.database.get())?;
            if !are_kept(&writing)? {
                return Err(IndexError::Invalid { rule: "it keeps no counts" });
            }
            let view = Arc::new(self.view()?);
            let ledger = Guarded::new(Ledger::new(writing, Arc::clone(&view))?);
            Ok(Counting { ledger, view, waiting: Vec::new(), unread_count: 0 })
        })
    }
}

impl Counting {
    /// The index as this transaction found it, to look up children with.
    pub fn view(&self) -> &IndexView {
        &self.view
    }

    /// How many counts have changed.
    pub fn change_count(&self) -> u64 {
        self.ledger.get().change_count
    }

    /// What has become of a snapshot, if it was ever counted.
    pub fn snapshot_state(&self, snapshot: SnapshotId) -> Result<Option<SnapshotState>, IndexError> {
        guarded(|| Ok(row_of(self.ledger.get(), snapshot)?.map(|row| row.state)))
    }

    /// Counts a snapshot that is not counted. Its root may have to be read.
    pub fn apply_root(&mut self, snapshot: SnapshotId, root: ChildId) -> Result<(), IndexError> {
        let places = self.view.lookup(&root.id.prefix())?;
        let Self { ledger, waiting, .. } = self;
        guarded(|| {
            let ledger = ledger.get_mut();
            if row_of(ledger, snapshot)?.is_some_and(|row| row.state != SnapshotState::Released) {
                return Err(IndexError::damaged("a snapshot would be counted twice"));
            }
            let number = refer(ledger, root, &places, waiting)?;
            put_row(ledger, snapshot, SnapshotRow { state: SnapshotState::Applied, root: number })?;
            ledger.settle()
        })
    }

    /// Counts a snapshot no longer. One that is not counted is none of our business.
    pub fn release_root(&mut self, snapshot: SnapshotId) -> Result<(), IndexError> {
        let ledger = self.ledger.get_mut();
        guarded(|| {
            let Some(row) = row_of(ledger, snapshot)? else { return Ok(()) };
            if row.state == SnapshotState::Released {
                return Ok(());
            }
            put_row(ledger, snapshot, SnapshotRow { state: SnapshotState::Released, ..row })?;
            ledger.work.push(Work::Drop(row.root));
            ledger.settle()
        })
    }

    /// Notes that a counted snapshot is not listed any more, or is again. It stays counted.
    pub fn note_vanished(&mut self, snapshot: SnapshotId, has_vanished: bool) -> Result<(), IndexError> {
        let ledger = self.ledger.get_mut();
        guarded(|| {
            let Some(row) = row_of(ledger, snapshot)? else { return Ok(()) };
            let state = match row.state {
                SnapshotState::Released => return Ok(()),
                SnapshotState::Applied | SnapshotState::Vanished if has_vanished => SnapshotState::Vanished,
                SnapshotState::Applied | SnapshotState::Vanished => SnapshotState::Applied,
            };
            put_row(ledger, snapshot, SnapshotRow { state, ..row })
        })
    }

    /// At most `count` nodes that have appeared and were not handed out yet; none when all were.
    pub fn nodes_to_read(&mut self, count: usize) -> Vec<NodeToRead> {
        let nodes = self.waiting.split_off(self.waiting.len().saturating_sub(count));
        self.unread_count += nodes.len();
        nodes
    }

    /// Adds what a node refers to, with the places that [`Self::view`] shows for each child.
    pub fn add_children(
        &mut self,
        node: &NodeToRead,
        children: &[(ChildId, Places)],
    ) -> Result<(), IndexError> {
        self.unread_count = self.unread_count.saturating_sub(1);
        let Self { ledger, waiting, .. } = self;
        guarded(|| {
            let ledger = ledger.get_mut();
            let mut numbers = Vec::with_capacity(children.len());
            for (child, places) in children {
                numbers.push((ledger.resolve_or_lose(&child.id.prefix(), places)?, child, places));
            }
            numbers.sort_unstable_by_key(|(number, child, _)| (*number, child.node.is_none()));
            numbers.dedup_by_key(|(number, _, _)| *number);
            for (number, child, places) in &numbers {
                refer_to(ledger, *number, **child, places, waiting)?;
            }
            let numbers: Vec<_> = numbers.into_iter().map(|(number, _, _)| number).collect();
            ledger.put_edges(node.number, &numbers);
            ledger.settle()?;
            ledger.spill_if_full()
        })
    }

    /// Ends the transaction. Nodes that were not read make it fail, and nothing has changed then.
    pub fn commit(self, durable: Durable) -> Result<(), IndexError> {
        let Self { ledger, waiting, unread_count, .. } = self;
        if !waiting.is_empty() || unread_count > 0 {
            return Err(IndexError::Invalid { rule: "a node was not read" });
        }
        guarded(|| {
            let mut ledger = ledger.into_inner();
            ledger.finish()?;
            let mut writing = ledger.writing;
            if durable == Durable::Later {
                // Cannot fail: there are no savepoints.
                writing.set_durability(Durability::None).map_err(|_| IndexError::InUse)?;
            }
            writing.commit()?;
            Ok(())
        })
    }

    /// The transaction without the means to go on: for those who only want to know.
    pub(super) fn into_ledger(self) -> Guarded<Ledger<WriteTransaction>> {
        self.ledger
    }
}

fn row_of(
    ledger: &Ledger<WriteTransaction>,
    snapshot: SnapshotId,
) -> Result<Option<SnapshotRow>, IndexError> {
    match ledger.writing.open_table(SNAPSHOTS)?.get(snapshot.bytes())? {
        Some(row) => SnapshotRow::decode(snapshot.bytes(), row.value()).map(Some),
        None => Ok(None),
    }
}

fn put_row(
    ledger: &Ledger<WriteTransaction>,
    snapshot: SnapshotId,
    row: SnapshotRow,
) -> Result<(), IndexError> {
    let mut table = ledger.writing.open_table(SNAPSHOTS)?;
    table.insert(snapshot.bytes(), row.encode(snapshot.bytes()).as_slice())?;
    Ok(())
}

fn refer(
    ledger: &mut Ledger<WriteTransaction>,
    child: ChildId,
    places: &Places,
    waiting: &mut Vec<NodeToRead>,
) -> Result<LocalNumber, IndexError> {
    let number = ledger.resolve_or_lose(&child.id.prefix(), places)?;
    refer_to(ledger, number, child, places, waiting)?;
    Ok(number)
}

/// Counts a reference. A node that has no edges yet is to be read: also one that so far was only a base, whose
/// children nobody needed.
fn refer_to(
    ledger: &mut Ledger<WriteTransaction>,
    number: LocalNumber,
    child: ChildId,
    places: &Places,
    waiting: &mut Vec<NodeToRead>,
) -> Result<(), IndexError> {
    let before = ledger.add_reference(number)?;
    if let (Some(node), false) = (child.node, before.is_expanded()) {
        ledger.entry_mut(number)?.set_expanded(true);
        waiting.push(NodeToRead { number, id: child.id, node, place: places.first() });
    }
    Ok(())
}
