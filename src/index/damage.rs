//! Frames that are stated to be damaged.
//!
//! A pack may be known before the statement about it is, or after: index objects come in any order. What counts must
//! not depend on it. So statements are kept by pack id, whether the pack is known or not; whatever is added looks at
//! them, and a statement that changes what counts of a known pack makes its descriptions be added once more.

use std::collections::BTreeSet;

use redb::{ReadableTable, WriteTransaction};

use crate::id::{IndexObjectId, PackId};

use super::error::IndexError;
use super::rows::{opened, opened_number, sealed};
use super::write::{begin, remove_in};
use super::{DAMAGED, INDEX_OBJECTS, Index, NewPack, PACK_NUMBERS};

/// What is stated of the damage of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedDamage {
    /// Which pack.
    pub pack: PackId,
    /// Which statement it is: the highest counts, and equal ones count together.
    pub number: u32,
    /// The damaged frames.
    pub frames: BTreeSet<u32>,
}

impl StatedDamage {
    /// The pack without what lies in its damaged frames. The frames themselves stay, so that others keep their numbers.
    pub fn leave_out(&self, pack: &mut NewPack) {
        pack.places.retain(|place| !self.frames.contains(&u32::from(place.frame)));
        // No pack has more places than its row could count.
        pack.row.chunk_count = u32::try_from(pack.places.len()).unwrap_or(u32::MAX);
    }

    fn encode(&self) -> Vec<u8> {
        let numbers = std::iter::once(&self.number).chain(&self.frames);
        sealed(DAMAGED, self.pack.bytes(), numbers.flat_map(|number| number.to_le_bytes()).collect())
    }

    pub(in crate::index) fn decode(pack: PackId, stored: &[u8]) -> Result<Self, IndexError> {
        let (numbers, rest) = opened(DAMAGED, pack.bytes(), stored)?.as_chunks::<4>();
        let mut numbers = numbers.iter().map(|number| u32::from_le_bytes(*number));
        match (numbers.next(), rest) {
            (Some(number), []) => Ok(Self { pack, number, frames: numbers.collect() }),
            _ => Err(IndexError::damaged("a row about damage does not parse")),
        }
    }
}

/// What is stated of a pack, if anything is.
pub(super) fn stated(
    table: &impl ReadableTable<[u8; 32], &'static [u8]>,
    pack: &PackId,
) -> Result<Option<StatedDamage>, IndexError> {
    table.get(pack.bytes())?.map(|row| StatedDamage::decode(*pack, row.value())).transpose()
}

/// Leaves out what a pack holds in damaged frames.
pub(super) fn leave_out(writing: &WriteTransaction, pack: &mut NewPack) -> Result<(), IndexError> {
    if let Some(damage) = stated(&writing.open_table(DAMAGED)?, &pack.row.id)? {
        damage.leave_out(pack);
    }
    Ok(())
}

/// See [`Index::state_damage`]. Says also how many places are forgotten.
pub(super) fn state(index: &Index, all: &[StatedDamage]) -> Result<(Vec<IndexObjectId>, u64), IndexError> {
    let writing = begin(index.database.get())?;
    let mut changed = BTreeSet::new();
    {
        let mut table = writing.open_table(DAMAGED)?;
        let numbers = writing.open_table(PACK_NUMBERS)?;
        for new in all {
            let known = stated(&table, &new.pack)?;
            let before = known.as_ref().map(|known| known.frames.clone()).unwrap_or_default();
            let Some(now) = united(known, new) else { continue };
            table.insert(now.pack.bytes(), now.encode().as_slice())?;
            if now.frames != before
                && let Some(number) = numbers.get(now.pack.bytes())?
            {
                changed.insert(opened_number(PACK_NUMBERS, now.pack.bytes(), number.value())?);
            }
        }
    }
    let ids = if changed.is_empty() { Vec::new() } else { describing(&writing, &changed)? };
    let forgotten_count = remove_in(index, &writing, &ids)?;
    writing.commit()?;
    Ok((ids, forgotten_count))
}

/// What counts after one more statement; none if that is what counted before.
fn united(known: Option<StatedDamage>, new: &StatedDamage) -> Option<StatedDamage> {
    match known {
        Some(known) if known.number > new.number => None,
        Some(known) if known.number == new.number => {
            let frames: BTreeSet<_> = known.frames.union(&new.frames).copied().collect();
            (frames != known.frames).then_some(StatedDamage { frames, ..known })
        }
        Some(_) | None => Some(new.clone()),
    }
}

/// Index objects that describe any of these packs.
fn describing(writing: &WriteTransaction, packs: &BTreeSet<u32>) -> Result<Vec<IndexObjectId>, IndexError> {
    let mut ids = Vec::new();
    for row in writing.open_table(INDEX_OBJECTS)?.iter()? {
        let (id, numbers) = row?;
        let (numbers, _) = opened(INDEX_OBJECTS, &id.value(), numbers.value())?.as_chunks::<4>();
        if numbers.iter().any(|number| packs.contains(&u32::from_le_bytes(*number))) {
            ids.push(IndexObjectId::new(id.value()));
        }
    }
    Ok(ids)
}
