//! Two ways to prove that what is about to be deleted is not needed. Neither believes a count.
//!
//! **The mark** follows the edges from the roots of all counted snapshots, with one bit for each local number. It
//! reads the edges once, backwards: children are mostly stored before their parents, so that nearly every node is
//! known to be needed, or not, when its edges come by. The few that come too early are read singly afterwards. It
//! costs time in proportion to all edges.
//!
//! **The confirmation** looks, from the other side, at everything that no snapshot needs according to the counts: no
//! parent may refer to it. This is enough. Suppose something that is reachable counts as not needed, and go from the
//! root towards it. The first such thing on the way has a parent that is needed, or is a root itself. The edges of a
//! needed parent are stored in both directions, so it is found among those that refer to it. It costs time in
//! proportion to what is not needed, and what lies beside it; a repository that is a hundred times as large costs
//! nothing more. What vanishes from a pack that is gone is looked at in the same way at once, in the transaction that
//! releases it.
//!
//! Both read the same edges, written by the same code. The mark also finds edges that are missing.

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::super::error::{IndexError, guarded};
use super::super::rows::{opened, pair_part};
use super::super::{Index, META, PackNumber};
use super::ledger::{decode_frame_edges, edge_bytes};
use super::queries::DeadEntries;
use super::rows::{
    BLOCK_ENTRY_COUNT, Entry, LocalNumber, NumberedPack, PHANTOM_PACK_MIN, PackState, SnapshotRow,
    SnapshotState, decode_block, decode_numbers, opened_local, parent_key,
};
use super::{ALIASES, BLOCKS, DYING, EDGES, FRAME_EDGES, KEEPERS, NUMBERED, PARENTS, SNAPSHOTS};
use crate::limits::PACK_CHUNK_COUNT_MAX;

/// Everything that is reachable from counted snapshots.
#[derive(Debug)]
pub struct Marked {
    packs: Vec<MarkedPack>,
    bits: Vec<u64>,
}

/// The bits of one pack.
#[derive(Debug, Clone, Copy)]
struct MarkedPack {
    number: u32,
    first_bit: u64,
    bit_count: u64,
    must_have_edges: bool,
    may_have_edges: bool,
    /// Of its nodes, how many have shown their edges.
    shown_count: u64,
}

impl Marked {
    fn new(reading: &ReadTransaction) -> Result<Self, IndexError> {
        let mut packs = Vec::new();
        let mut first_bit = 0;
        for row in reading.open_table(NUMBERED)?.iter()? {
            let (number, row) = row?;
            let number = number.value();
            let row = NumberedPack::decode(number, row.value())?;
            let bit_count = match number >= PHANTOM_PACK_MIN {
                true => PACK_CHUNK_COUNT_MAX as u64,
                false => u64::from(row.entry_count),
            };
            packs.push(MarkedPack {
                number,
                first_bit,
                bit_count,
                must_have_edges: row.has_nodes,
                // What no pack holds may well be a node.
                may_have_edges: row.has_nodes || number >= PHANTOM_PACK_MIN,
                shown_count: 0,
            });
            first_bit += bit_count;
        }
        Ok(Self { packs, bits: vec![0; first_bit.div_ceil(64) as usize] })
    }

    fn pack_at(&self, number: LocalNumber) -> Option<usize> {
        let pack = number.pack().0;
        self.packs.binary_search_by_key(&pack, |it| it.number).ok()
    }

    fn bit(&self, number: LocalNumber, pack: usize) -> Option<u64> {
        let pack = self.packs.get(pack)?;
        let ordinal = number.ordinal() as u64;
        (ordinal < pack.bit_count).then_some(pack.first_bit + ordinal)
    }

    /// Whether it is reachable. What stands for several copies of an id is marked, and not the copies.
    pub fn contains(&self, number: LocalNumber) -> bool {
        let bit = self.pack_at(number).and_then(|pack| self.bit(number, pack));
        let word = bit.and_then(|bit| Some((bit, self.bits.get((bit / 64) as usize)?)));
        word.is_some_and(|(bit, word)| word & (1 << (bit % 64)) != 0)
    }

    /// How many are reachable.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Marks it. Says whether it was not, and whether it is a node.
    fn insert(&mut self, number: LocalNumber, hint: &mut usize) -> Result<(bool, bool), IndexError> {
        if self.packs.get(*hint).is_none_or(|pack| pack.number != number.pack().0) {
            *hint = self.pack_at(number).ok_or_else(|| IndexError::damaged("an edge leads nowhere"))?;
        }
        let bit = self.bit(number, *hint);
        let word = bit.and_then(|bit| Some((bit, self.bits.get_mut((bit / 64) as usize)?)));
        let (bit, word) = word.ok_or_else(|| IndexError::damaged("an edge leads nowhere"))?;
        let is_new = *word & (1 << (bit % 64)) == 0;
        *word |= 1 << (bit % 64);
        let is_node = self.packs.get(*hint).is_some_and(|pack| pack.may_have_edges);
        Ok((is_new, is_node))
    }

    fn shown(&mut self, number: LocalNumber) {
        if let Some(pack) = self.pack_at(number).and_then(|at| self.packs.get_mut(at)) {
            pack.shown_count += 1;
        }
    }

    /// Every node that is reachable has shown its edges; one that has not would hide what is below it.
    fn all_have_shown(&self) -> bool {
        let bit_is_set =
            |bit: &u64| self.bits.get((bit / 64) as usize).is_some_and(|word| word & (1 << (bit % 64)) != 0);
        self.packs.iter().filter(|pack| pack.must_have_edges).all(|pack| {
            let bits = pack.first_bit..pack.first_bit + pack.bit_count;
            bits.filter(bit_is_set).count() as u64 == pack.shown_count
        })
    }
}

impl Index {
    /// Marks what is reachable from the counted snapshots, those that vanished among them.
    ///
    /// Reads edges only, and no count. [`IndexError::Damaged`] if the edges of something reachable are not there.
    pub fn mark(&self) -> Result<Marked, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let mut marked = Marked::new(&reading)?;
            mark_trees(&reading, &mut marked)?;
            if !marked.all_have_shown() {
                return Err(IndexError::damaged("a node that is needed has no edges"));
            }
            mark_bases(&reading, &mut marked)?;
            Ok(marked)
        })
    }

    /// What of these is reachable all the same: nothing, unless a count is wrong.
    pub fn contradictions(
        &self,
        marked: &Marked,
        dead: &[DeadEntries],
    ) -> Result<Vec<LocalNumber>, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let mut found = Vec::new();
            for pack in dead {
                for_each_used(&reading, pack.number, &mut |copy, number, _| {
                    let is_dead = pack.entries.binary_search_by_key(&copy.ordinal(), |it| it.ordinal).is_ok();
                    found.extend((is_dead && marked.contains(number)).then_some(number));
                    Ok(())
                })?;
            }
            Ok(found)
        })
    }

    /// Makes sure that nothing refers to anything that counts as not needed, in all packs; returns what is referred
    /// to all the same: nothing, unless a count is wrong.
    ///
    /// As good as a mark, see the module, and costs only in proportion to what is not needed.
    pub fn confirm_dead(&self) -> Result<Vec<LocalNumber>, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let mut found = Vec::new();
            let mut roots = HashSet::new();
            for row in reading.open_table(SNAPSHOTS)?.iter()? {
                let (id, row) = row?;
                let row = SnapshotRow::decode(&id.value(), row.value())?;
                if row.state != SnapshotState::Released {
                    roots.insert(row.root);
                }
            }
            let packs = reading.open_table(NUMBERED)?;
            for row in reading.open_table(DYING)?.iter()? {
                let pack = row?.0.value();
                let row = packs.get(pack)?.ok_or_else(|| IndexError::damaged("a pack has no numbers"))?;
                if NumberedPack::decode(pack, row.value())?.state != PackState::Vanished {
                    confirm_pack(&reading, PackNumber(pack), &roots, &mut found)?;
                }
            }
            Ok(found)
        })
    }

    /// Bytes of all edges. The mark reads half of them.
    pub fn edge_bytes(&self) -> Result<u64, IndexError> {
        guarded(|| edge_bytes(&self.database.get().begin_read()?.open_table(META)?))
    }
}

fn mark_trees(reading: &ReadTransaction, marked: &mut Marked) -> Result<(), IndexError> {
    let mut hint = 0;
    for row in reading.open_table(SNAPSHOTS)?.iter()? {
        let (id, row) = row?;
        let row = SnapshotRow::decode(&id.value(), row.value())?;
        if row.state != SnapshotState::Released {
            marked.insert(row.root, &mut hint)?;
        }
    }
    let edges = reading.open_table(EDGES)?;
    let mut late = Vec::new();
    for row in edges.iter()?.rev() {
        let (number, row) = row?;
        let number = LocalNumber(number.value());
        if marked.contains(number) {
            marked.shown(number);
            for child in decode_numbers(opened(EDGES, &number.0.to_be_bytes(), row.value())?)? {
                let (is_new, is_node) = marked.insert(child, &mut hint)?;
                if is_new && is_node && child > number {
                    late.push(child);
                }
            }
        }
    }
    while let Some(number) = late.pop() {
        let Some(row) = edges.get(number.0)? else { continue };
        marked.shown(number);
        for child in decode_numbers(opened(EDGES, &number.0.to_be_bytes(), row.value())?)? {
            let (is_new, is_node) = marked.insert(child, &mut hint)?;
            if is_new && is_node {
                late.push(child);
            }
        }
    }
    Ok(())
}

/// Marks the bases of every frame in which something marked lies, until there are no more.
fn mark_bases(reading: &ReadTransaction, marked: &mut Marked) -> Result<(), IndexError> {
    let frame_edges = reading.open_table(FRAME_EDGES)?;
    if frame_edges.is_empty()? {
        return Ok(());
    }
    let mut seen = HashSet::new();
    loop {
        let mut frames = Vec::new();
        for row in reading.open_table(BLOCKS)?.iter()? {
            let (key, row) = row?;
            for (number, entry) in numbered_entries(key.value(), row.value())? {
                if entry.is_alias() || !(entry.is_based() || entry.is_copied()) || !marked.contains(number) {
                    continue;
                }
                let keeper = keeper_of(reading, number, entry)?;
                let kept = if keeper == number { entry } else { entry_of(reading, keeper)? };
                if kept.is_based() && seen.insert((keeper.pack(), kept.frame())) {
                    frames.push((keeper.pack(), kept.frame()));
                }
            }
        }
        if frames.is_empty() {
            return Ok(());
        }
        for (pack, frame) in frames {
            let key = super::super::rows::pair_key(pack.0, frame);
            let row = frame_edges.get(key)?;
            let row = row.ok_or_else(|| IndexError::damaged("a frame that is needed has no edges"))?;
            let mut hint = 0;
            for base in decode_frame_edges(key, row.value())?.1 {
                marked.insert(base, &mut hint)?;
            }
        }
    }
}

/// The entries of a block with their numbers.
pub(super) fn numbered_entries(
    key: [u8; 6],
    stored: &[u8],
) -> Result<impl Iterator<Item = (LocalNumber, Entry)>, IndexError> {
    let [a, b, c, d, ..] = key;
    let pack = u32::from_be_bytes([a, b, c, d]);
    let first = usize::from(pair_part(key)) * BLOCK_ENTRY_COUNT;
    let entries = decode_block(key, stored)?.into_iter().enumerate();
    Ok(entries.map(move |(at, entry)| (LocalNumber::new(pack, first + at), entry)))
}

pub(super) fn keeper_of(
    reading: &ReadTransaction,
    number: LocalNumber,
    entry: Entry,
) -> Result<LocalNumber, IndexError> {
    if !entry.is_copied() {
        return Ok(number);
    }
    match reading.open_table(KEEPERS)?.get(number.0)? {
        Some(row) => opened_local(KEEPERS, &number.0.to_be_bytes(), row.value()),
        None => Ok(number),
    }
}

pub(super) fn entry_of(reading: &ReadTransaction, number: LocalNumber) -> Result<Entry, IndexError> {
    let key = super::rows::block_key(number.block());
    let blocks = reading.open_table(BLOCKS)?;
    let row = blocks.get(key)?.ok_or_else(|| IndexError::damaged("a block of counts is missing"))?;
    let entry = decode_block(key, row.value())?.get(number.place_in_block()).copied();
    entry.ok_or_else(|| IndexError::damaged("a local number has no entry"))
}

/// Is shown a copy that is used, the number that stands for its id, and the entry of that number.
pub(super) type UsedVisitor<'a> =
    &'a mut dyn FnMut(LocalNumber, LocalNumber, Entry) -> Result<(), IndexError>;

/// Shows everything in a pack that is the keeper of its id.
pub(super) fn for_each_used(
    reading: &ReadTransaction,
    pack: PackNumber,
    visit: UsedVisitor<'_>,
) -> Result<(), IndexError> {
    let aliases = reading.open_table(ALIASES)?;
    for row in reading.open_table(BLOCKS)?.range(blocks_of(pack))? {
        let (key, row) = row?;
        for (copy, entry) in numbered_entries(key.value(), row.value())? {
            let (number, standing) = if entry.is_alias() {
                let row = aliases.get(copy.0)?;
                let row = row.ok_or_else(|| IndexError::damaged("an alias stands for nothing"))?;
                let number = opened_local(ALIASES, &copy.0.to_be_bytes(), row.value())?;
                (number, entry_of(reading, number)?)
            } else {
                (copy, entry)
            };
            if keeper_of(reading, number, standing)? == copy {
                visit(copy, number, standing)?;
            }
        }
    }
    Ok(())
}

pub(super) fn blocks_of(pack: PackNumber) -> RangeInclusive<[u8; 6]> {
    super::rows::block_key((pack.0, 0))..=super::rows::block_key((pack.0, u16::MAX))
}

/// Finds what counts as not needed in a pack, and is a root or referred to.
fn confirm_pack(
    reading: &ReadTransaction,
    pack: PackNumber,
    roots: &HashSet<LocalNumber>,
    found: &mut Vec<LocalNumber>,
) -> Result<(), IndexError> {
    let mut dead = Vec::new();
    for_each_used(reading, pack, &mut |_, number, entry| {
        if entry.count() == 0 {
            dead.push(number);
        }
        Ok(())
    })?;
    dead.sort_unstable();
    found.extend(dead.iter().filter(|number| roots.contains(number)));
    found.extend(referred_to(&reading.open_table(PARENTS)?, &dead)?);
    Ok(())
}

/// Which of these, in ascending order, some parent refers to.
pub(super) fn referred_to(
    parents: &impl ReadableTable<[u8; 14], &'static [u8]>,
    numbers: &[LocalNumber],
) -> Result<BTreeSet<LocalNumber>, IndexError> {
    let mut found = BTreeSet::new();
    for in_block in numbers.chunk_by(|a, b| a.block() == b.block()) {
        let Some(block) = in_block.first().map(|number| number.block()) else { continue };
        let all = parent_key(block, LocalNumber(0))..=parent_key(block, LocalNumber(u64::MAX));
        for row in parents.range(all)? {
            let (key, row) = row?;
            let children = decode_numbers(opened(PARENTS, &key.value(), row.value())?)?;
            let is_child = |number: &&LocalNumber| {
                children.binary_search(&LocalNumber(number.place_in_block() as u64)).is_ok()
            };
            found.extend(in_block.iter().filter(is_child));
        }
    }
    Ok(found)
}
