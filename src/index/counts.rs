//! Reference counts: which chunks and nodes some snapshot still needs.
//!
//! The counts are part of the index and as disposable as it is. They are kept only where somebody prunes: the tables
//! come into being with [`Index::make_counts`], and an index without them pays nothing. From then on they change in
//! the same transactions as the packs that the index knows.
//!
//! # What is counted
//!
//! The count of a chunk or node is the number of nodes that are needed and refer to it, plus the snapshots whose root
//! it is, plus the frames that are needed and rest on it. A node is needed while its count is above zero. A frame with
//! bases is needed while any chunk in it is. So
//!
//! ```text
//! apply(id)    count + 1; if it became 1: keep its edges, apply each child
//! release(id)  count - 1; if it became 0: take its edges, forget them, release each child
//! ```
//!
//! and the work is in proportion to the nodes that appear or disappear. An unchanged folder costs one addition.
//! Nodes are read once, when they appear; releasing reads nothing but this file.
//!
//! Counts *nominate* packs whose bytes are not needed. Before anything is deleted, [`Index::mark`] follows the edges
//! from the roots without looking at any count, and must agree.
//!
//! # Tables
//!
//! | Table | Key | Value |
//! | --- | --- | --- |
//! | `counted-blocks` | pack number, block | what lies in the pack, in order, with lengths and counts |
//! | `counted-packs` | pack number | total and needed bytes |
//! | `counted-spots` | pack number | where in the pack each of its blocks begins |
//! | `counted-dying` | pack number | of packs that are not needed, or not there, as a whole |
//! | `counted-absent` | pack number | of packs that a listing did not show |
//! | `edges` | local number of a node | its children |
//! | `parents` | block, local number of a node | which entries of the block are its children |
//! | `frame-edges` | pack number, frame number | how much in the frame is needed, and the bases it rests on |
//! | `resting` | local number of a node | how many needed frames rest on it, which do not need its children |
//! | `snapshots` | id | state and root |
//! | `aliases`, `copies`, `keepers` | local number | ids of which there are several copies, see `packs` |
//! | `lost`, `lost-keys` | id; local number | what is referred to, and no pack holds |
//!
//! # Numbers
//!
//! A chunk is known by its local number: the pack and how many chunks lie before it in that pack. Siblings are stored
//! side by side, so children are short differences, the counts that a folder changes lie in a few blocks, and a pack
//! that nobody talks about is never read. An id is looked up only once for each node that appears.

mod apply;
mod audit;
mod ledger;
mod mark;
mod packs;
mod queries;
mod recount;
mod rows;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use redb::{ReadableDatabase, TableDefinition, WriteTransaction};

pub use apply::{ChildId, Counting, Durable, NodeToRead};
pub use audit::{CountsAudit, ReferenceSum};
pub use mark::Marked;
pub(super) use packs::{packs_added, packs_removed};
pub use queries::{CountedSnapshot, DeadEntries, DeadEntry, LostContent, PackUsage, UniqueBytes};
pub use recount::CountsDump;
pub use rows::{LocalNumber, SnapshotState};

use super::error::{IndexError, guarded};
use super::rows::{opened_number, sealed_number};
use super::{Index, META};
use crate::id::PackId;

const META_COUNTS: &str = "counts";
const META_NEXT_PHANTOM: &str = "next phantom";
const META_EDGE_BYTES: &str = "edge bytes";
/// Value of [`META_COUNTS`]: version of the counting tables.
const TABLES_MADE: u32 = 2;

const BLOCKS: TableDefinition<'_, [u8; 6], &[u8]> = TableDefinition::new("counted-blocks");
const NUMBERED: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("counted-packs");
const FIRST_SPOTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("counted-spots");
const DYING: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("counted-dying");
const ABSENT: TableDefinition<'_, u32, ()> = TableDefinition::new("counted-absent");
const EDGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("edges");
const PARENTS: TableDefinition<'_, [u8; 14], &[u8]> = TableDefinition::new("parents");
const FRAME_EDGES: TableDefinition<'_, [u8; 6], &[u8]> = TableDefinition::new("frame-edges");
const RESTING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("resting");
const SNAPSHOTS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("snapshots");
const ALIASES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("aliases");
const COPIES: TableDefinition<'_, (u64, u64), ()> = TableDefinition::new("copies");
const KEEPERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keepers");
const LOST: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("lost");
const LOST_KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("lost-keys");

fn make_tables(writing: &WriteTransaction) -> Result<(), IndexError> {
    writing.open_table(BLOCKS)?;
    writing.open_table(NUMBERED)?;
    writing.open_table(FIRST_SPOTS)?;
    writing.open_table(DYING)?;
    writing.open_table(ABSENT)?;
    writing.open_table(EDGES)?;
    writing.open_table(PARENTS)?;
    writing.open_table(FRAME_EDGES)?;
    writing.open_table(RESTING)?;
    writing.open_table(SNAPSHOTS)?;
    writing.open_table(ALIASES)?;
    writing.open_table(COPIES)?;
    writing.open_table(KEEPERS)?;
    writing.open_table(LOST)?;
    writing.open_table(LOST_KEYS)?;
    let mut meta = writing.open_table(META)?;
    for (name, number) in [(META_COUNTS, TABLES_MADE), (META_NEXT_PHANTOM, 0)] {
        meta.insert(name, sealed_number(META, name.as_bytes(), number).as_slice())?;
    }
    Ok(())
}

impl Index {
    /// Whether counts are kept in this index.
    pub fn has_counts(&self) -> Result<bool, IndexError> {
        guarded(|| {
            let meta = self.database.get().begin_read()?.open_table(META)?;
            match meta.get(META_COUNTS)? {
                None => Ok(false),
                Some(row) => match opened_number(META, META_COUNTS.as_bytes(), row.value())? {
                    TABLES_MADE => Ok(true),
                    _ => Err(IndexError::Stale),
                },
            }
        })
    }

    /// Begins to keep counts: everything that the index knows is given a local number, and nothing is counted yet.
    ///
    /// Durable on return. Where counts are kept already nothing changes. Memory does not grow with the index.
    pub fn make_counts(&self) -> Result<(), IndexError> {
        guarded(|| {
            let numbered_count = packs::make(self)?;
            // The tables that follow are as large as the index, so that it is worth putting together when it is closed.
            self.changed_count.fetch_add(numbered_count, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Notes which packs a listing did not show, completely or not at all; all others are there. Other copies of what
    /// lies in an absent pack take its place.
    ///
    /// Packs that the index does not know are passed over. Where nothing changes nothing is written.
    pub fn set_absent_packs(&self, absent: &HashSet<PackId>) -> Result<(), IndexError> {
        guarded(|| packs::set_absent(self, absent))
    }
}
