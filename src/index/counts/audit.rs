//! Whether the counts agree with each other and with what refers to what, for those who check a repository.
//!
//! Every table is read once, in the order of the file, and nothing is collected: what should be equal is added up as
//! [`ReferenceSum`]s, which do not depend on the order.
//!
//! - Edges say the same from the side of the parents as from the side of the children.
//! - The counts add up to what edges and roots say, entry by entry.
//! - The needed bytes of every pack are those of its entries that are needed, and a pack that is not needed as a whole
//!   is among those that are looked at for a prune.
//!
//! That the edges are those of the nodes themselves is for somebody to compare who reads the nodes: with
//! [`CountsAudit::references`].

use std::collections::BTreeSet;

use redb::{ReadTransaction, ReadableDatabase, ReadableTable};

use super::super::error::{IndexError, guarded};
use super::super::rows::opened;
use super::super::{Index, PackNumber, Place};
use super::ledger::decode_frame_edges;
use super::mark::{blocks_of, entry_of, for_each_used, keeper_of, numbered_entries};
use super::rows::{
    BLOCK_ENTRY_COUNT, Entry, LocalNumber, NumberedPack, PackState, SnapshotRow, SnapshotState,
    decode_numbers, opened_local,
};
use super::{ALIASES, BLOCKS, COPIES, DYING, EDGES, FRAME_EDGES, NUMBERED, PARENTS, SNAPSHOTS};

/// References added up, whatever their order: two sums are equal if the same things are referred to equally often, and
/// otherwise differ but for a chance of one in 2^128.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReferenceSum {
    sum: u128,
    count: u64,
}

impl ReferenceSum {
    /// One reference to what has its first copy here: in the pack with the lowest number.
    pub fn add(&mut self, first: Place) {
        self.add_key(key_of(first.pack.0, u64::from(first.frame) << 24 | u64::from(first.start)), 1);
    }

    /// All references of another sum.
    pub fn merge(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count = self.count.wrapping_add(other.count);
    }

    fn add_key(&mut self, (high, low): (u64, u64), times: u32) {
        let hash = u128::from(mixed(high ^ mixed(low))) << 64 | u128::from(mixed(low ^ mixed(!high)));
        self.sum = self.sum.wrapping_add(hash.wrapping_mul(u128::from(times)));
        self.count = self.count.wrapping_add(u64::from(times));
    }
}

/// Takes the references out that frames make to what they rest on: nodes know nothing of those.
fn without_bases(
    reading: &ReadTransaction,
    mut references: ReferenceSum,
) -> Result<Option<ReferenceSum>, IndexError> {
    for row in reading.open_table(FRAME_EDGES)?.iter()? {
        let (key, row) = row?;
        let mut resting = ReferenceSum::default();
        for base in decode_frame_edges(key.value(), row.value())?.1 {
            let entry = entry_of(reading, base)?;
            let itself = is_described(reading, base.pack())?.then(|| (base.pack().0, entry.spot));
            let first = if entry.is_copied() { first_copy(reading, base, itself)? } else { itself };
            let Some((pack, spot)) = first else { return Ok(None) };
            resting.add_key(key_of(pack, spot), 1);
        }
        references.sum = references.sum.wrapping_sub(resting.sum);
        references.count = references.count.wrapping_sub(resting.count);
    }
    Ok(Some(references))
}

fn key_of(pack: u32, spot: u64) -> (u64, u64) {
    (u64::from(pack), spot)
}

/// The last step of splitmix64: every bit of the input moves half of the bits of the output.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What an audit found in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountsAudit {
    /// All counts as references of nodes and snapshots to the first copies of what is counted. `None` if they cannot be
    /// compared: something counted is in no pack, or a snapshot has vanished.
    pub references: Option<ReferenceSum>,
}

impl Index {
    /// Makes sure that everything about the counts fits together. [`IndexError::Damaged`] says what does not.
    ///
    /// Time is in proportion to all that is counted; memory is not.
    pub fn audit_counts(&self) -> Result<CountsAudit, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let (referred, has_vanished) = audit_edges(&reading)?;
            let (counted, references) = add_up_counts(&reading)?;
            if counted != referred {
                return Err(IndexError::damaged("counts are not what refers to them"));
            }
            audit_packs(&reading)?;
            let references = match references.filter(|_| !has_vanished) {
                Some(references) => without_bases(&reading, references)?,
                None => None,
            };
            Ok(CountsAudit { references })
        })
    }
}

impl Index {
    /// Packs with copies that are used instead of those in this pack, of what is needed.
    pub fn packs_used_instead(&self, pack: PackNumber) -> Result<BTreeSet<PackNumber>, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let aliases = reading.open_table(ALIASES)?;
            let mut used = BTreeSet::new();
            for row in reading.open_table(BLOCKS)?.range(blocks_of(pack))? {
                let (key, row) = row?;
                for (copy, entry) in numbered_entries(key.value(), row.value())? {
                    let (number, standing) = match aliases.get(copy.0)? {
                        _ if !entry.is_alias() => (copy, entry),
                        None => return Err(IndexError::damaged("an alias stands for nothing")),
                        Some(row) => {
                            let number = opened_local(ALIASES, &copy.0.to_be_bytes(), row.value())?;
                            (number, entry_of(&reading, number)?)
                        }
                    };
                    let keeper = keeper_of(&reading, number, standing)?;
                    if standing.count() > 0 && keeper.pack() != pack {
                        used.insert(keeper.pack());
                    }
                }
            }
            Ok(used)
        })
    }
}

/// All references by local number, and whether a snapshot has vanished.
fn audit_edges(reading: &ReadTransaction) -> Result<(ReferenceSum, bool), IndexError> {
    let mut referred = ReferenceSum::default();
    let (mut downwards, mut upwards) = (ReferenceSum::default(), ReferenceSum::default());
    let mut edges = |parent: LocalNumber, children: Vec<LocalNumber>| {
        for child in children {
            referred.add_key((0, child.0), 1);
            downwards.add_key((parent.0, child.0), 1);
        }
    };
    for row in reading.open_table(EDGES)?.iter()? {
        let (parent, row) = row?;
        let parent = parent.value();
        edges(LocalNumber(parent), decode_numbers(opened(EDGES, &parent.to_be_bytes(), row.value())?)?);
    }
    for row in reading.open_table(FRAME_EDGES)?.iter()? {
        let (key, row) = row?;
        let key = key.value();
        let [a, b, c, d, e, f] = key;
        let at = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
        edges(LocalNumber::frame(at), decode_frame_edges(key, row.value())?.1);
    }
    for row in reading.open_table(PARENTS)?.iter()? {
        let (key, row) = row?;
        let key = key.value();
        let [a, b, c, d, e, f, parent @ ..] = key;
        let (pack, block) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
        for place in decode_numbers(opened(PARENTS, &key, row.value())?)? {
            let ordinal = usize::from(block) * BLOCK_ENTRY_COUNT + place.0 as usize;
            upwards.add_key((u64::from_be_bytes(parent), LocalNumber::new(pack, ordinal).0), 1);
        }
    }
    if downwards != upwards {
        return Err(IndexError::damaged("edges are not the same from both sides"));
    }
    let mut has_vanished = false;
    for row in reading.open_table(SNAPSHOTS)?.iter()? {
        let (id, row) = row?;
        let row = SnapshotRow::decode(&id.value(), row.value())?;
        if row.state != SnapshotState::Released {
            referred.add_key((0, row.root.0), 1);
        }
        has_vanished |= row.state == SnapshotState::Vanished;
    }
    Ok((referred, has_vanished))
}

/// All counts by local number, and by the first copies of what is counted unless some of it has none.
fn add_up_counts(reading: &ReadTransaction) -> Result<(ReferenceSum, Option<ReferenceSum>), IndexError> {
    let mut counted = ReferenceSum::default();
    let mut references = Some(ReferenceSum::default());
    let mut pack_before = None;
    for row in reading.open_table(BLOCKS)?.iter()? {
        let (key, row) = row?;
        for (number, entry) in numbered_entries(key.value(), row.value())? {
            if entry.is_alias() || entry.count() == 0 {
                continue;
            }
            counted.add_key((0, number.0), entry.count());
            let is_there = match pack_before {
                Some((pack, is_there)) if pack == number.pack() => is_there,
                _ => is_described(reading, number.pack())?,
            };
            pack_before = Some((number.pack(), is_there));
            let itself = is_there.then(|| (number.pack().0, entry.spot));
            let first = match entry.is_copied() {
                true => first_copy(reading, number, itself)?,
                false => itself,
            };
            match (first, &mut references) {
                (Some((pack, spot)), Some(sum)) => sum.add_key(key_of(pack, spot), entry.count()),
                (None, _) => references = None,
                (Some(_), None) => {}
            }
        }
    }
    Ok((counted, references))
}

/// Whether an index object describes the pack, so that ids are found in it.
fn is_described(reading: &ReadTransaction, pack: PackNumber) -> Result<bool, IndexError> {
    match reading.open_table(NUMBERED)?.get(pack.0)? {
        Some(row) => Ok(NumberedPack::decode(pack.0, row.value())?.state != PackState::Vanished),
        None => Ok(false),
    }
}

/// The first place of an id of which there are several copies.
fn first_copy(
    reading: &ReadTransaction,
    number: LocalNumber,
    itself: Option<(u32, u64)>,
) -> Result<Option<(u32, u64)>, IndexError> {
    let mut first = itself;
    for row in reading.open_table(COPIES)?.range((number.0, 0)..=(number.0, u64::MAX))? {
        let copy = LocalNumber(row?.0.value().1);
        if is_described(reading, copy.pack())? {
            let place = (copy.pack().0, entry_of(reading, copy)?.spot);
            first = Some(first.map_or(place, |first| first.min(place)));
        }
    }
    Ok(first)
}

/// Whether every pack is as much needed as what is in it.
fn audit_packs(reading: &ReadTransaction) -> Result<(), IndexError> {
    let dying = reading.open_table(DYING)?;
    for row in reading.open_table(NUMBERED)?.iter()? {
        let (pack, row) = row?;
        let pack = pack.value();
        let stated = NumberedPack::decode(pack, row.value())?;
        if stated.state == PackState::Vanished {
            continue;
        }
        let found = added_up(reading, PackNumber(pack), stated)?;
        if found != stated {
            return Err(IndexError::damaged("a pack is more or less needed than what is in it"));
        }
        if !found.is_all_live() && dying.get(pack)?.is_none() {
            return Err(IndexError::damaged("a pack that is not needed as a whole is not noted as such"));
        }
    }
    Ok(())
}

/// The row of a pack as it should be.
fn added_up(
    reading: &ReadTransaction,
    pack: PackNumber,
    stated: NumberedPack,
) -> Result<NumberedPack, IndexError> {
    let mut found = NumberedPack { live_bytes: 0, live_count: 0, total_bytes: 0, entry_count: 0, ..stated };
    let mut lens = Vec::new();
    for row in reading.open_table(BLOCKS)?.range(blocks_of(pack))? {
        let (key, row) = row?;
        for (_, Entry { len, .. }) in numbered_entries(key.value(), row.value())? {
            found.total_bytes += u64::from(len);
            found.entry_count += 1;
            lens.push(len);
        }
    }
    for_each_used(reading, pack, &mut |copy, _, entry| {
        if entry.count() > 0 {
            // What stands for the id may lie in no pack, and have no length.
            found.live_bytes += u64::from(lens.get(copy.ordinal()).copied().unwrap_or(0));
            found.live_count += 1;
        }
        Ok(())
    })?;
    Ok(found)
}
