//! The counts as one transaction sees and changes them.
//!
//! Blocks of entries are read when they are first needed, changed in memory, and written back sorted: at the end, or
//! when there are too many. So a count that changes a thousand times is written once, and memory is bounded.
//!
//! What follows from a change is put on a stack of work instead of being done at once. Nothing here recurses.

mod edges;
mod lost;
mod references;
mod resting;

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};

use super::super::error::IndexError;
use super::super::rows::sealed;
use super::super::write::meta_number;
use super::super::{IndexView, META, META_HAS_BASES, PackNumber, Place};
use super::rows::{
    BLOCK_ENTRY_COUNT, Entry, LocalNumber, NumberedPack, PackState, block_key, decode_block,
    decode_first_spots, encode_block, encode_first_spots, opened_local, spot_of,
};
use super::{ALIASES, BLOCKS, DYING, FIRST_SPOTS, KEEPERS, META_NEXT_PHANTOM, NUMBERED};
use edges::write_frames;
pub(super) use edges::{decode_frame_edges, edge_bytes};

/// Blocks in memory; each is 5 KiB.
const BLOCK_COUNT_MAX: usize = if cfg!(test) { 3 } else { 6144 };
/// Frames with bases in memory.
const FRAME_COUNT_MAX: usize = if cfg!(test) { 2 } else { 16_384 };
/// Edges of nodes that wait to be written.
const EDGE_BYTES_MAX: usize = if cfg!(test) { 30 } else { 8 << 20 };

/// Something that is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// One reference more.
    Add(LocalNumber),
    /// One reference less.
    Drop(LocalNumber),
    /// A frame more rests on the bytes of a node.
    Rest(LocalNumber),
    /// A frame less does.
    Unrest(LocalNumber),
}

struct Block {
    entries: Vec<Entry>,
    is_changed: bool,
}

struct Pack {
    row: NumberedPack,
    is_changed: bool,
}

/// A frame with bases: how many of its chunks count on it, and what it rests on while there are any.
#[derive(Default)]
struct Vertex {
    live_count: u32,
    bases: Vec<LocalNumber>,
    is_changed: bool,
}

/// What a parent refers to in a block, or that it does not any more.
type ParentRow = ([u8; 14], Option<Vec<u8>>);

/// See the module. `W` is a transaction, owned or borrowed.
pub(super) struct Ledger<W> {
    pub(super) writing: W,
    /// The places as they were before the transaction.
    pub(super) view: Arc<IndexView>,
    /// What stands for the ids that lie in packs that the transaction itself has added.
    pub(super) fresh: HashMap<[u8; 16], LocalNumber>,
    pub(super) work: Vec<Work>,
    /// Something lost its last copy, and is still referred to.
    pub(super) newly_lost: BTreeSet<LocalNumber>,
    /// What was released and lay in no pack.
    pub(super) released_lost: BTreeSet<LocalNumber>,
    /// Vanished packs in which something is not referred to any more.
    pub(super) touched: BTreeSet<u32>,
    /// What was not needed any more, by pack: bytes and how many.
    pub(super) fallen: HashMap<u32, (u64, u64)>,
    /// Counts that were changed.
    pub(super) change_count: u64,
    has_bases: bool,
    blocks: HashMap<(u32, u16), Block>,
    packs: HashMap<u32, Pack>,
    first_spots: HashMap<u32, Vec<u64>>,
    frames: HashMap<(u32, u16), Vertex>,
    edges: Vec<(LocalNumber, Vec<u8>)>,
    /// Who refers to what, from the side of what is referred to. `None` takes a row away.
    parents: Vec<ParentRow>,
    /// Bytes of both that wait to be written.
    waiting_bytes: usize,
    /// By how much the bytes of both have changed.
    edge_bytes_change: i64,
    next_phantom: Option<u32>,
}

impl<W: Borrow<WriteTransaction>> Ledger<W> {
    pub(super) fn new(writing: W, view: Arc<IndexView>) -> Result<Self, IndexError> {
        let has_bases = meta_number(&writing.borrow().open_table(META)?, META_HAS_BASES)? != 0;
        Ok(Self {
            writing,
            view,
            fresh: HashMap::new(),
            work: Vec::new(),
            newly_lost: BTreeSet::new(),
            released_lost: BTreeSet::new(),
            touched: BTreeSet::new(),
            fallen: HashMap::new(),
            change_count: 0,
            has_bases,
            blocks: HashMap::new(),
            packs: HashMap::new(),
            first_spots: HashMap::new(),
            frames: HashMap::new(),
            edges: Vec::new(),
            parents: Vec::new(),
            waiting_bytes: 0,
            edge_bytes_change: 0,
            next_phantom: None,
        })
    }

    fn block(&mut self, at: (u32, u16)) -> Result<&mut Block, IndexError> {
        match self.blocks.entry(at) {
            std::collections::hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                let key = block_key(at);
                let table = self.writing.borrow().open_table(BLOCKS)?;
                let row =
                    table.get(key)?.ok_or_else(|| IndexError::damaged("a block of counts is missing"))?;
                let entries = decode_block(key, row.value())?;
                Ok(vacant.insert(Block { entries, is_changed: false }))
            }
        }
    }

    pub(super) fn entry(&mut self, number: LocalNumber) -> Result<Entry, IndexError> {
        let block = self.block(number.block())?;
        let entry = block.entries.get(number.place_in_block()).copied();
        entry.ok_or_else(|| IndexError::damaged("a local number has no entry"))
    }

    pub(super) fn entry_mut(&mut self, number: LocalNumber) -> Result<&mut Entry, IndexError> {
        let block = self.block(number.block())?;
        block.is_changed = true;
        let entry = block.entries.get_mut(number.place_in_block());
        entry.ok_or_else(|| IndexError::damaged("a local number has no entry"))
    }

    /// The entries of a block, none if nothing in it is needed any more.
    pub(super) fn block_entries(&mut self, at: (u32, u16)) -> Result<Option<Vec<Entry>>, IndexError> {
        if !self.blocks.contains_key(&at)
            && self.writing.borrow().open_table(BLOCKS)?.get(block_key(at))?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(self.block(at)?.entries.clone()))
    }

    pub(super) fn put_block(&mut self, at: (u32, u16), entries: Vec<Entry>) {
        self.blocks.insert(at, Block { entries, is_changed: true });
    }

    pub(super) fn remove_block(&mut self, at: (u32, u16)) -> Result<(), IndexError> {
        self.blocks.remove(&at);
        self.writing.borrow().open_table(BLOCKS)?.remove(block_key(at))?;
        Ok(())
    }

    fn pack_slot(&mut self, pack: u32) -> Result<&mut Pack, IndexError> {
        match self.packs.entry(pack) {
            std::collections::hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                let table = self.writing.borrow().open_table(NUMBERED)?;
                let row = table.get(pack)?.ok_or_else(|| IndexError::damaged("a pack has no numbers"))?;
                let row = NumberedPack::decode(pack, row.value())?;
                Ok(vacant.insert(Pack { row, is_changed: false }))
            }
        }
    }

    pub(super) fn pack(&mut self, pack: PackNumber) -> Result<NumberedPack, IndexError> {
        Ok(self.pack_slot(pack.0)?.row)
    }

    pub(super) fn pack_mut(&mut self, pack: PackNumber) -> Result<&mut NumberedPack, IndexError> {
        let slot = self.pack_slot(pack.0)?;
        slot.is_changed = true;
        Ok(&mut slot.row)
    }

    pub(super) fn put_pack(&mut self, pack: PackNumber, row: NumberedPack, first_spots: Vec<u64>) {
        self.packs.insert(pack.0, Pack { row, is_changed: true });
        self.first_spots.insert(pack.0, first_spots);
    }

    pub(super) fn remove_pack(&mut self, pack: u32) -> Result<(), IndexError> {
        self.packs.remove(&pack);
        self.first_spots.remove(&pack);
        let writing = self.writing.borrow();
        writing.open_table(NUMBERED)?.remove(pack)?;
        writing.open_table(FIRST_SPOTS)?.remove(pack)?;
        writing.open_table(DYING)?.remove(pack)?;
        Ok(())
    }

    /// The copy of an id that counts as the one that is used: see `packs::elect`.
    pub(super) fn keeper(&self, number: LocalNumber, entry: Entry) -> Result<LocalNumber, IndexError> {
        if !entry.is_copied() {
            return Ok(number);
        }
        let keepers = self.writing.borrow().open_table(KEEPERS)?;
        match keepers.get(number.0)? {
            Some(row) => opened_local(KEEPERS, &number.0.to_be_bytes(), row.value()),
            None => Ok(number),
        }
    }

    /// The number that stands for the id of which this is a copy.
    pub(super) fn representative(&mut self, copy: LocalNumber) -> Result<LocalNumber, IndexError> {
        if !self.entry(copy)?.is_alias() {
            return Ok(copy);
        }
        let aliases = self.writing.borrow().open_table(ALIASES)?;
        let row = aliases.get(copy.0)?.ok_or_else(|| IndexError::damaged("an alias stands for nothing"))?;
        opened_local(ALIASES, &copy.0.to_be_bytes(), row.value())
    }

    /// The number of what lies at a place.
    pub(super) fn number_of(&mut self, place: Place) -> Result<LocalNumber, IndexError> {
        let spot = spot_of(place);
        let pack = place.pack.0;
        let first_spots = match self.first_spots.entry(pack) {
            std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                let table = self.writing.borrow().open_table(FIRST_SPOTS)?;
                let row = table.get(pack)?.ok_or_else(|| IndexError::damaged("a pack has no numbers"))?;
                vacant.insert(decode_first_spots(pack, row.value())?)
            }
        };
        let block = first_spots.partition_point(|first| *first <= spot).saturating_sub(1);
        let entries = &self.block((pack, block as u16))?.entries;
        match entries.binary_search_by_key(&spot, |entry| entry.spot) {
            Ok(at) => Ok(LocalNumber::new(pack, block * BLOCK_ENTRY_COUNT + at)),
            Err(_) => Err(IndexError::damaged("a place has no local number")),
        }
    }

    pub(super) fn spill_if_full(&mut self) -> Result<(), IndexError> {
        let is_full = self.blocks.len() > BLOCK_COUNT_MAX
            || self.frames.len() > FRAME_COUNT_MAX
            || self.waiting_bytes > EDGE_BYTES_MAX;
        if is_full { self.write_all() } else { Ok(()) }
    }

    /// Writes everything that was changed, in the order of the tables. Nothing stays in memory.
    pub(super) fn write_all(&mut self) -> Result<(), IndexError> {
        let writing = self.writing.borrow();
        let mut blocks: Vec<_> = self.blocks.drain().filter(|(_, block)| block.is_changed).collect();
        blocks.sort_unstable_by_key(|(at, _)| *at);
        let mut table = writing.open_table(BLOCKS)?;
        for (at, block) in blocks {
            let key = block_key(at);
            table.insert(key, encode_block(key, &block.entries).as_slice())?;
        }
        drop(table);
        write_frames(writing, &mut self.frames)?;
        write_packs(writing, &mut self.packs, &mut self.first_spots)?;
        if let Some(at) = self.next_phantom.take() {
            let row = sealed(META, META_NEXT_PHANTOM.as_bytes(), at.to_le_bytes().to_vec());
            writing.open_table(META)?.insert(META_NEXT_PHANTOM, row.as_slice())?;
        }
        self.write_edges()
    }

    /// The keys of what was lost, for all that is still lost; then everything is written.
    pub(super) fn finish(&mut self) -> Result<(), IndexError> {
        self.settle()?;
        self.name_lost()?;
        self.confirm_released()?;
        self.drop_unneeded()?;
        self.write_all()
    }
}

fn write_packs(
    writing: &WriteTransaction,
    packs: &mut HashMap<u32, Pack>,
    first_spots: &mut HashMap<u32, Vec<u64>>,
) -> Result<(), IndexError> {
    let mut changed: Vec<_> = packs.drain().filter(|(_, pack)| pack.is_changed).collect();
    changed.sort_unstable_by_key(|(number, _)| *number);
    let mut numbered = writing.open_table(NUMBERED)?;
    let mut dying = writing.open_table(DYING)?;
    for (number, Pack { row, .. }) in changed {
        // A pack is met by whoever looks for dead bytes, or for what is lost, only if it may have any.
        let is_dying = match row.state {
            PackState::Present => !row.is_all_live(),
            PackState::Absent => true,
            PackState::Vanished => row.live_count > 0,
        };
        if is_dying {
            dying.insert(number, sealed(DYING, &number.to_be_bytes(), Vec::new()).as_slice())?;
        } else {
            dying.remove(number)?;
        }
        let is_new = numbered.insert(number, row.encode(number).as_slice())?.is_none();
        if let (true, Some(spots)) = (is_new, first_spots.get(&number)) {
            writing.open_table(FIRST_SPOTS)?.insert(number, encode_first_spots(number, spots).as_slice())?;
        }
    }
    Ok(())
}
