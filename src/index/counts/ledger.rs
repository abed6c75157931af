//! The counts as one transaction sees and changes them.
//!
//! Blocks of entries are read when they are first needed, changed in memory, and written back sorted: at the end, or
//! when there are too many. So a count that changes a thousand times is written once, and memory is bounded.
//!
//! What follows from a change is put on a stack of work instead of being done at once. Nothing here recurses.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};

use super::super::error::IndexError;
use super::super::rows::{decode_frame, opened, pair_key, sealed};
use super::super::write::meta_number;
use super::super::{FRAMES, FrameRow, IndexView, META, META_HAS_BASES, PackNumber, Place, Places};
use super::rows::{
    BLOCK_ENTRY_COUNT, Entry, LocalNumber, NumberedPack, PHANTOM_PACK_MIN, PackState, block_key,
    decode_block, decode_first_spots, decode_numbers, encode_block, encode_first_spots, encode_numbers,
    opened_local, parent_key, sealed_local, spot_of,
};
use super::{
    ALIASES, BLOCKS, DYING, EDGES, FIRST_SPOTS, FRAME_EDGES, KEEPERS, LOST, LOST_KEYS, META_EDGE_BYTES,
    META_NEXT_PHANTOM, NUMBERED, PARENTS,
};

/// Blocks in memory; each is 5 KiB.
const BLOCK_COUNT_MAX: usize = if cfg!(test) { 3 } else { 6144 };
/// Frames with bases in memory.
const FRAME_COUNT_MAX: usize = if cfg!(test) { 2 } else { 16_384 };
/// Edges of nodes that wait to be written.
const EDGE_BYTES_MAX: usize = if cfg!(test) { 30 } else { 4 << 20 };

/// Something that is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// One reference more.
    Add(LocalNumber),
    /// One reference less.
    Drop(LocalNumber),
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
    parents: Vec<([u8; 14], Option<Vec<u8>>)>,
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

    /// The number that stands for an id, found among its places. None if no pack ever held it and nobody asked.
    pub(super) fn resolve(
        &mut self,
        key: &[u8; 16],
        places: &Places,
    ) -> Result<Option<LocalNumber>, IndexError> {
        if let Some(number) = self.fresh.get(key) {
            return Ok(Some(*number));
        }
        // The view still shows packs that this very transaction removes. A copy in one of those may have parted from
        // the number that stands for the id.
        let mut parted = None;
        for place in places.iter() {
            let copy = self.number_of(place)?;
            let entry = self.entry(copy)?;
            if self.pack(place.pack)?.state != PackState::Vanished || entry.is_needed() {
                return self.representative(copy).map(Some);
            }
            parted = parted.or(Some(copy));
        }
        Ok(self.lost_number(key)?.or(parted))
    }

    /// The number of an id that no pack holds, and that is referred to.
    pub(super) fn lost_number(&self, key: &[u8; 16]) -> Result<Option<LocalNumber>, IndexError> {
        match self.writing.borrow().open_table(LOST)?.get(key)? {
            Some(row) => opened_local(LOST, key, row.value()).map(Some),
            None => Ok(None),
        }
    }

    /// The number that stands for an id; an id that no pack holds is given one.
    pub(super) fn resolve_or_lose(
        &mut self,
        key: &[u8; 16],
        places: &Places,
    ) -> Result<LocalNumber, IndexError> {
        if let Some(number) = self.resolve(key, places)? {
            return Ok(number);
        }
        let at = match self.next_phantom {
            Some(at) => at,
            None => meta_number(&self.writing.borrow().open_table(META)?, META_NEXT_PHANTOM)?,
        };
        self.next_phantom = Some(at.checked_add(1).ok_or(IndexError::Stale)?);
        let number = LocalNumber::phantom(at);
        if number.place_in_block() == 0 {
            self.put_block(number.block(), vec![Entry::new(0, 1, false); BLOCK_ENTRY_COUNT]);
        }
        if number.ordinal() == 0 {
            let row = NumberedPack {
                state: PackState::Vanished,
                has_nodes: false,
                total_bytes: 0,
                live_bytes: 0,
                live_count: 0,
                entry_count: 0,
            };
            self.put_pack(number.pack(), row, Vec::new());
        }
        self.note_lost(number, key)?;
        Ok(number)
    }

    pub(super) fn note_lost(&mut self, number: LocalNumber, key: &[u8; 16]) -> Result<(), IndexError> {
        let writing = self.writing.borrow();
        writing.open_table(LOST)?.insert(key, sealed_local(LOST, key, number).as_slice())?;
        let row = sealed(LOST_KEYS, &number.0.to_be_bytes(), key.to_vec());
        writing.open_table(LOST_KEYS)?.insert(number.0, row.as_slice())?;
        Ok(())
    }

    /// It is not lost any more: it has a copy again, or nobody refers to it.
    pub(super) fn note_found(&mut self, number: LocalNumber) -> Result<(), IndexError> {
        self.newly_lost.remove(&number);
        let writing = self.writing.borrow();
        if let Some(row) = writing.open_table(LOST_KEYS)?.remove(number.0)? {
            let key = opened(LOST_KEYS, &number.0.to_be_bytes(), row.value())?;
            let key: [u8; 16] =
                key.try_into().map_err(|_| IndexError::damaged("a lost id has another width"))?;
            writing.open_table(LOST)?.remove(key)?;
        }
        Ok(())
    }

    /// Does what is on the stack, and all that follows from it.
    pub(super) fn settle(&mut self) -> Result<(), IndexError> {
        while let Some(work) = self.work.pop() {
            match work {
                Work::Add(number) => drop(self.add_reference(number)?),
                Work::Drop(number) => self.drop_reference(number)?,
            }
            self.spill_if_full()?;
        }
        Ok(())
    }

    /// One reference more. Says what the entry was before.
    pub(super) fn add_reference(&mut self, number: LocalNumber) -> Result<Entry, IndexError> {
        let entry = self.entry_mut(number)?;
        let before = *entry;
        entry.add()?;
        self.change_count += 1;
        if before.count() == 0 {
            let keeper = self.keeper(number, before)?;
            self.rise(number, keeper)?;
        }
        Ok(before)
    }

    fn drop_reference(&mut self, number: LocalNumber) -> Result<(), IndexError> {
        let entry = self.entry_mut(number)?;
        entry.subtract()?;
        let mut after = *entry;
        self.change_count += 1;
        if after.count() > 0 {
            return Ok(());
        }
        if after.is_expanded() {
            let children = self.take_edges(number)?;
            self.work.extend(children.into_iter().map(Work::Drop));
            after.set_expanded(false);
            *self.entry_mut(number)? = after;
        }
        let keeper = self.keeper(number, after)?;
        self.fall(keeper)?;
        if self.pack(keeper.pack())?.state == PackState::Vanished {
            self.note_found(number)?;
            self.touched.insert(keeper.pack().0);
            self.touched.insert(number.pack().0);
            if keeper != number {
                // In the middle of a change its place may be taken only now.
                self.elect(number)?;
                self.leave(number, keeper)?;
            }
        }
        Ok(())
    }

    /// An id that is used lies in this copy from now on.
    pub(super) fn rise(&mut self, number: LocalNumber, keeper: LocalNumber) -> Result<(), IndexError> {
        let entry = self.entry(keeper)?;
        let pack = self.pack_mut(keeper.pack())?;
        pack.live_bytes += u64::from(entry.len);
        pack.live_count += 1;
        if pack.state == PackState::Vanished {
            self.newly_lost.insert(number);
        }
        if entry.is_based() {
            self.hold_frame((keeper.pack().0, entry.frame()))?;
        }
        Ok(())
    }

    /// An id that was used does not lie in this copy any more.
    pub(super) fn fall(&mut self, keeper: LocalNumber) -> Result<(), IndexError> {
        let entry = self.entry(keeper)?;
        let pack = self.pack_mut(keeper.pack())?;
        let bytes = pack.live_bytes.checked_sub(u64::from(entry.len));
        let (Some(bytes), Some(count)) = (bytes, pack.live_count.checked_sub(1)) else {
            return Err(IndexError::damaged("more goes from a pack than was in it"));
        };
        (pack.live_bytes, pack.live_count) = (bytes, count);
        let fallen = self.fallen.entry(keeper.pack().0).or_default();
        *fallen = (fallen.0 + u64::from(entry.len), fallen.1 + 1);
        if entry.is_based() {
            let vertex = self.vertex((keeper.pack().0, entry.frame()))?;
            vertex.is_changed = true;
            vertex.live_count = vertex
                .live_count
                .checked_sub(1)
                .ok_or_else(|| IndexError::damaged("more goes from a frame than was in it"))?;
            if vertex.live_count == 0 {
                let bases = std::mem::take(&mut vertex.bases);
                self.remove_parent(LocalNumber::frame((keeper.pack().0, entry.frame())), &bases);
                self.work.extend(bases.into_iter().map(Work::Drop));
            }
        }
        Ok(())
    }

    fn vertex(&mut self, at: (u32, u16)) -> Result<&mut Vertex, IndexError> {
        match self.frames.entry(at) {
            std::collections::hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                let table = self.writing.borrow().open_table(FRAME_EDGES)?;
                let vertex = match table.get(pair_key(at.0, at.1))? {
                    Some(row) => {
                        let (live_count, bases) = decode_frame_edges(pair_key(at.0, at.1), row.value())?;
                        Vertex { live_count, bases, is_changed: false }
                    }
                    None => Vertex::default(),
                };
                Ok(vacant.insert(vertex))
            }
        }
    }

    /// One chunk more counts on a frame with bases; the first one makes the bases needed.
    fn hold_frame(&mut self, at: (u32, u16)) -> Result<(), IndexError> {
        let vertex = self.vertex(at)?;
        vertex.live_count += 1;
        vertex.is_changed = true;
        if vertex.live_count > 1 {
            return Ok(());
        }
        if self.pack(PackNumber(at.0))?.state == PackState::Vanished {
            // It is lost, and was before anybody needed it: nobody knows what it rested on.
            return Ok(());
        }
        let frame = self.frame(PackNumber(at.0), at.1)?;
        let mut bases = Vec::with_capacity(frame.bases.len());
        for base in &frame.bases {
            let places = self.view.lookup(&base.prefix())?;
            bases.push(self.resolve_or_lose(&base.prefix(), &places)?);
        }
        bases.sort_unstable();
        bases.dedup();
        self.work.extend(bases.iter().copied().map(Work::Add));
        self.put_parent(LocalNumber::frame(at), &bases);
        self.vertex(at)?.bases = bases;
        Ok(())
    }

    pub(super) fn frame(&self, pack: PackNumber, frame: u16) -> Result<FrameRow, IndexError> {
        let key = pair_key(pack.0, frame);
        let frames = self.writing.borrow().open_table(FRAMES)?;
        let row = frames.get(key)?.ok_or_else(|| IndexError::damaged("a frame is not there"))?;
        decode_frame(key, row.value())
    }

    pub(super) fn has_bases(&self) -> bool {
        self.has_bases
    }

    /// Remembers what a node refers to; `children` are ascending and different.
    pub(super) fn put_edges(&mut self, number: LocalNumber, children: &[LocalNumber]) {
        let mut bytes = Vec::with_capacity(children.len() + 16);
        encode_numbers(children, &mut bytes);
        let row = sealed(EDGES, &number.0.to_be_bytes(), bytes);
        self.waiting_bytes += row.len();
        self.edge_bytes_change += row.len() as i64;
        self.edges.push((number, row));
        self.put_parent(number, children);
    }

    fn take_edges(&mut self, number: LocalNumber) -> Result<Vec<LocalNumber>, IndexError> {
        if !self.edges.is_empty() {
            self.write_all()?;
        }
        let (len, children) = {
            let mut table = self.writing.borrow().open_table(EDGES)?;
            let row = table.remove(number.0)?.ok_or_else(|| IndexError::damaged("a node has no edges"))?;
            let row = row.value();
            (row.len(), decode_numbers(opened(EDGES, &number.0.to_be_bytes(), row)?)?)
        };
        self.edge_bytes_change -= len as i64;
        self.remove_parent(number, &children);
        Ok(children)
    }

    /// The other direction of edges: for each block what a parent refers to in it.
    fn put_parent(&mut self, parent: LocalNumber, children: &[LocalNumber]) {
        for in_block in children.chunk_by(|a, b| a.block() == b.block()) {
            let Some(block) = in_block.first().map(|child| child.block()) else { continue };
            let key = parent_key(block, parent);
            let places: Vec<_> = in_block.iter().map(|it| LocalNumber(it.place_in_block() as u64)).collect();
            let mut bytes = Vec::with_capacity(places.len() + 8);
            encode_numbers(&places, &mut bytes);
            let row = sealed(PARENTS, &key, bytes);
            self.waiting_bytes += row.len();
            self.edge_bytes_change += row.len() as i64;
            self.parents.push((key, Some(row)));
        }
    }

    fn remove_parent(&mut self, parent: LocalNumber, children: &[LocalNumber]) {
        for in_block in children.chunk_by(|a, b| a.block() == b.block()) {
            let Some(block) = in_block.first().map(|child| child.block()) else { continue };
            self.parents.push((parent_key(block, parent), None));
            self.waiting_bytes += 14;
        }
    }

    /// Writes the waiting rows, in order. Of several for one key, which only frames have, the last counts.
    fn write_edges(&mut self) -> Result<(), IndexError> {
        let writing = self.writing.borrow();
        self.edges.sort_by_key(|(number, _)| *number);
        let mut table = writing.open_table(EDGES)?;
        for (number, row) in self.edges.drain(..) {
            table.insert(number.0, row.as_slice())?;
        }
        drop(table);
        self.parents.sort_by_key(|(key, _)| *key);
        let mut table = writing.open_table(PARENTS)?;
        for (key, row) in self.parents.drain(..) {
            let before = match row {
                Some(row) => table.insert(key, row.as_slice())?,
                None => Some(table.remove(key)?.ok_or_else(|| IndexError::damaged("a parent is missing"))?),
            };
            self.edge_bytes_change -= before.map_or(0, |row| row.value().len() as i64);
        }
        drop(table);
        self.waiting_bytes = 0;
        let change = std::mem::take(&mut self.edge_bytes_change);
        if change != 0 {
            let mut meta = writing.open_table(META)?;
            let bytes = edge_bytes(&meta)?.saturating_add_signed(change);
            let row = sealed(META, META_EDGE_BYTES.as_bytes(), bytes.to_le_bytes().to_vec());
            meta.insert(META_EDGE_BYTES, row.as_slice())?;
        }
        Ok(())
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
        self.drop_unneeded()?;
        self.write_all()
    }

    /// What has lost its last copy is found by its id should it ever be stored again. Its number alone does not tell
    /// the id, so all places are read; this happens only where data is lost.
    fn name_lost(&mut self) -> Result<(), IndexError> {
        let mut nameless = HashSet::new();
        for number in std::mem::take(&mut self.newly_lost) {
            if self.writing.borrow().open_table(LOST_KEYS)?.get(number.0)?.is_none() {
                nameless.insert(number);
            }
        }
        if nameless.is_empty() {
            return Ok(());
        }
        let mut copies = HashMap::new();
        for number in nameless {
            let entry = self.entry(number)?;
            copies.extend([(number, number), (self.keeper(number, entry)?, number)]);
        }
        let packs: HashSet<_> = copies.keys().map(|copy| copy.pack()).collect();
        let mut found = Vec::new();
        let view = Arc::clone(&self.view);
        view.visit_places(&mut |key, place| {
            if packs.contains(&place.pack) {
                found.push((*key, place));
            }
        })?;
        for (key, place) in found {
            if let Some(number) = copies.get(&self.number_of(place)?) {
                self.note_lost(*number, &key)?;
            }
        }
        Ok(())
    }

    /// Forgets the parts of vanished packs that nobody refers to.
    fn drop_unneeded(&mut self) -> Result<(), IndexError> {
        for pack in std::mem::take(&mut self.touched) {
            if pack >= PHANTOM_PACK_MIN || !self.is_numbered(pack)? {
                continue;
            }
            let row = self.pack(PackNumber(pack))?;
            if row.state != PackState::Vanished {
                continue;
            }
            let mut is_needed = false;
            for block in 0..(row.entry_count as usize).div_ceil(BLOCK_ENTRY_COUNT) {
                let at = (pack, block as u16);
                match self.block_entries(at)? {
                    Some(entries) if entries.iter().any(Entry::is_needed) => is_needed = true,
                    Some(_) => self.remove_block(at)?,
                    None => {}
                }
            }
            if !is_needed {
                self.remove_pack(pack)?;
            }
        }
        Ok(())
    }

    fn is_numbered(&self, pack: u32) -> Result<bool, IndexError> {
        Ok(self.packs.contains_key(&pack) || self.writing.borrow().open_table(NUMBERED)?.get(pack)?.is_some())
    }
}

/// Bytes of all edges, in both directions.
pub(super) fn edge_bytes(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u64, IndexError> {
    let Some(row) = meta.get(META_EDGE_BYTES)? else { return Ok(0) };
    let bytes = opened(META, META_EDGE_BYTES.as_bytes(), row.value())?.try_into().map(u64::from_le_bytes);
    bytes.map_err(|_| IndexError::damaged("a number has another width"))
}

fn write_frames(
    writing: &WriteTransaction,
    frames: &mut HashMap<(u32, u16), Vertex>,
) -> Result<(), IndexError> {
    let mut changed: Vec<_> = frames.drain().filter(|(_, vertex)| vertex.is_changed).collect();
    changed.sort_unstable_by_key(|(at, _)| *at);
    let mut table = writing.open_table(FRAME_EDGES)?;
    for ((pack, frame), vertex) in changed {
        let key = pair_key(pack, frame);
        if vertex.live_count == 0 {
            table.remove(key)?;
        } else {
            let mut bytes = vertex.live_count.to_le_bytes().to_vec();
            encode_numbers(&vertex.bases, &mut bytes);
            table.insert(key, sealed(FRAME_EDGES, &key, bytes).as_slice())?;
        }
    }
    Ok(())
}

/// How many chunks count on a frame, and its bases.
pub(super) fn decode_frame_edges(key: [u8; 6], stored: &[u8]) -> Result<(u32, Vec<LocalNumber>), IndexError> {
    match opened(FRAME_EDGES, &key, stored)?.split_first_chunk() {
        Some((count, bases)) => Ok((u32::from_le_bytes(*count), decode_numbers(bases)?)),
        None => Err(IndexError::damaged("the edges of a frame do not parse")),
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
        // A pack is met by whoever looks for dead bytes, or for what is lost, if and only if it has any.
        let is_dying = match row.state {
            PackState::Present => !row.is_all_live(),
            PackState::Absent | PackState::Vanished => row.live_count > 0,
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
