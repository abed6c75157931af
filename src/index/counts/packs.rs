//! Packs that come and go: local numbers, and which of several copies of an id is the one that is used.
//!
//! The copies of an id share one count, at the number of the first copy that was ever numbered. That number *stands*
//! for the id, even after its pack is gone, so that edges never have to be rewritten. The *keeper* is the copy that
//! is used: of those in present packs the one whose frame lies least deep, and of equal ones that in the pack with
//! the smaller id. It is a function of the packs that are known, whatever came first. Its pack has the live bytes,
//! and the bases of its frame are needed. When none is left, the last keeper stays what it was.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};

use super::super::error::IndexError;
use super::super::rows::StoredPack;
use super::super::write::{begin, meta_number};
use super::super::{Index, META, NewPack, PACKS, PackKind, PackNumber, Place};
use super::ledger::Ledger;
use super::rows::{
    BLOCK_ENTRY_COUNT, Entry, LocalNumber, NumberedPack, PackState, opened_local, sealed_local, spot, spot_of,
};
use super::{ABSENT, ALIASES, COPIES, KEEPERS, META_COUNTS, TABLES_MADE, make_tables};
use crate::id::PackId;
use crate::limits::PACK_CHUNK_COUNT_MAX;

/// Places that are put in order together when all packs are numbered.
const NUMBERED_TOGETHER_MAX: u64 = if cfg!(test) { 50 } else { 4 << 20 };

/// Keys of a new pack with the spots where they lie.
type Spots = Vec<(u64, u32, [u8; 16])>;

impl<W: Borrow<WriteTransaction>> Ledger<W> {
    /// Gives numbers to what lies in a pack: `spots` with lengths, ascending and different.
    fn number_pack(
        &mut self,
        pack: PackNumber,
        kind: PackKind,
        spots: impl Iterator<Item = (u64, u32)>,
        based_frames: &HashSet<u16>,
    ) -> Result<(), IndexError> {
        let entries: Vec<_> = spots
            .map(|(spot, len)| Entry::new(spot, len, based_frames.contains(&((spot >> 24) as u16))))
            .collect();
        if entries.len() > PACK_CHUNK_COUNT_MAX {
            return Err(IndexError::Invalid { rule: "a pack holds too many chunks" });
        }
        // Only empty chunks could, and the format has none. They would share a number and so a count.
        if !entries.is_sorted_by(|a, b| a.spot < b.spot) {
            return Err(IndexError::Invalid { rule: "two chunks lie in one place" });
        }
        let row = NumberedPack {
            state: PackState::Present,
            has_nodes: kind == PackKind::Meta,
            total_bytes: entries.iter().map(|entry| u64::from(entry.len)).sum(),
            live_bytes: 0,
            live_count: 0,
            entry_count: entries.len() as u32,
        };
        let blocks = entries.chunks(BLOCK_ENTRY_COUNT);
        let first_spots = blocks.clone().filter_map(|block| Some(block.first()?.spot)).collect();
        self.put_pack(pack, row, first_spots);
        for (at, block) in (0..=u16::MAX).zip(blocks) {
            self.put_block((pack.0, at), block.to_vec());
        }
        self.spill_if_full()
    }

    /// Notes that `copy` is another copy of the id that `number` stands for.
    fn relate(&mut self, number: LocalNumber, copy: LocalNumber) -> Result<(), IndexError> {
        self.entry_mut(copy)?.set_alias(true);
        self.entry_mut(number)?.set_copied(true);
        let writing = self.writing.borrow();
        writing
            .open_table(ALIASES)?
            .insert(copy.0, sealed_local(ALIASES, &copy.0.to_be_bytes(), number).as_slice())?;
        writing.open_table(COPIES)?.insert((number.0, copy.0), ())?;
        Ok(())
    }

    /// Undoes [`Self::relate`].
    pub(super) fn leave(&mut self, number: LocalNumber, copy: LocalNumber) -> Result<(), IndexError> {
        let writing = self.writing.borrow();
        if writing.open_table(ALIASES)?.remove(copy.0)?.is_none() {
            return Ok(());
        }
        writing.open_table(COPIES)?.remove((number.0, copy.0))?;
        let is_copied =
            writing.open_table(COPIES)?.range((number.0, 0)..=(number.0, u64::MAX))?.next().is_some();
        let mut keepers = writing.open_table(KEEPERS)?;
        let keeper = match keepers.get(number.0)? {
            Some(row) => Some(opened_local(KEEPERS, &number.0.to_be_bytes(), row.value())?),
            None => None,
        };
        if keeper == Some(copy) || !is_copied {
            keepers.remove(number.0)?;
        }
        drop(keepers);
        self.entry_mut(copy)?.set_alias(false);
        self.entry_mut(number)?.set_copied(is_copied);
        self.touched.extend([number.pack().0, copy.pack().0]);
        Ok(())
    }

    /// The further copies of the id that `number` stands for.
    fn copies(&self, number: LocalNumber) -> Result<Vec<LocalNumber>, IndexError> {
        let table = self.writing.borrow().open_table(COPIES)?;
        let rows = table.range((number.0, 0)..=(number.0, u64::MAX))?;
        rows.map(|row| Ok(LocalNumber(row?.0.value().1))).collect()
    }

    fn depth_of(&mut self, copy: LocalNumber) -> Result<u8, IndexError> {
        let entry = self.entry(copy)?;
        if self.has_bases() { Ok(self.frame(copy.pack(), entry.frame())?.depth) } else { Ok(0) }
    }

    fn pack_id(&self, pack: PackNumber) -> Result<PackId, IndexError> {
        let packs = self.writing.borrow().open_table(PACKS)?;
        let row = packs.get(pack.0)?.ok_or_else(|| IndexError::damaged("a pack with a number has no row"))?;
        Ok(StoredPack::decode(pack.0, row.value())?.row.id)
    }

    /// Chooses the keeper anew. What the new one rests on is needed before what the old one rested on is not.
    pub(super) fn elect(&mut self, number: LocalNumber) -> Result<(), IndexError> {
        let entry = self.entry(number)?;
        let before = self.keeper(number, entry)?;
        let mut best = None;
        for copy in std::iter::once(number).chain(self.copies(number)?) {
            if self.pack(copy.pack())?.state == PackState::Present {
                let candidate = (self.depth_of(copy)?, self.pack_id(copy.pack())?, copy);
                best = Some(best.map_or(candidate, |best| candidate.min(best)));
            }
        }
        let Some((_, _, keeper)) = best else {
            if entry.count() > 0 && self.pack(before.pack())?.state == PackState::Vanished {
                self.newly_lost.insert(number);
            }
            return Ok(());
        };
        if keeper == before {
            return Ok(());
        }
        if keeper == number {
            self.writing.borrow().open_table(KEEPERS)?.remove(number.0)?;
        } else {
            let row = sealed_local(KEEPERS, &number.0.to_be_bytes(), keeper);
            self.writing.borrow().open_table(KEEPERS)?.insert(number.0, row.as_slice())?;
        }
        if entry.count() > 0 {
            self.rise(number, keeper)?;
            self.settle()?;
            self.fall(before)?;
            self.settle()?;
            self.note_found(number)?;
        }
        if self.pack(before.pack())?.state == PackState::Vanished {
            self.touched.extend([before.pack().0, number.pack().0]);
            if before != number {
                self.leave(number, before)?;
            }
        }
        Ok(())
    }

    /// Chooses keepers anew for everything that lies in these packs, after their states have changed.
    ///
    /// What nobody refers to comes first: it may become the base of what takes the place of something else, and must
    /// not be looked for in a pack that is gone.
    fn elect_in(&mut self, packs: &[PackNumber]) -> Result<(), IndexError> {
        packs.iter().try_for_each(|pack| self.elect_all(*pack, true))?;
        packs.iter().try_for_each(|pack| self.elect_all(*pack, false))
    }

    fn elect_all(&mut self, pack: PackNumber, only_unused: bool) -> Result<(), IndexError> {
        let row = self.pack(pack)?;
        for ordinal in 0..row.entry_count as usize {
            let copy = LocalNumber::new(pack.0, ordinal);
            let entry = self.entry(copy)?;
            let number = self.representative(copy)?;
            if only_unused && self.entry(number)?.count() > 0 {
                continue;
            }
            if number != copy || entry.is_copied() {
                self.elect(number)?;
            }
            if row.state == PackState::Vanished {
                let standing = self.entry(number)?;
                let is_keeper = self.keeper(number, standing)? == copy;
                if is_keeper && standing.count() > 0 {
                    self.newly_lost.insert(number);
                } else if number != copy {
                    self.leave(number, copy)?;
                }
            }
            self.spill_if_full()?;
        }
        self.touched.insert(pack.0);
        Ok(())
    }

    /// Numbers packs that were just added, in the transaction that adds them.
    fn add_packs(&mut self, packs: Vec<(PackNumber, NewPack)>) -> Result<(), IndexError> {
        let mut copies = Vec::new();
        let view = Arc::clone(&self.view);
        for (number, pack) in packs {
            let spots = spots_of(&pack);
            let based = (0..=u16::MAX).zip(&pack.frames).filter(|(_, frame)| !frame.bases.is_empty());
            let based = based.map(|(at, _)| at).collect();
            self.number_pack(
                number,
                pack.row.kind,
                spots.iter().map(|(spot, len, _)| (*spot, *len)),
                &based,
            )?;
            for (ordinal, (_, _, key)) in spots.into_iter().enumerate() {
                let copy = LocalNumber::new(number.0, ordinal);
                let known = self.resolve(&key, &view.lookup(&key)?)?;
                self.fresh.insert(key, known.unwrap_or(copy));
                copies.extend(known.map(|known| (known, copy)));
            }
        }
        // First all of them are known as copies, so that whoever asks for one is told the number that stands for it.
        for (number, copy) in &copies {
            self.relate(*number, *copy)?;
        }
        for (number, _) in copies {
            self.elect(number)?;
        }
        Ok(())
    }

    /// Packs that no index object describes any more.
    fn remove_packs(&mut self, packs: &[PackNumber]) -> Result<(), IndexError> {
        for pack in packs {
            self.pack_mut(*pack)?.state = PackState::Vanished;
        }
        self.elect_in(packs)
    }
}

fn spots_of(pack: &NewPack) -> Spots {
    let spots = pack.places.iter().map(|place| (spot(place.frame, place.start), place.len, place.key));
    let mut spots: Spots = spots.collect();
    spots.sort_unstable_by_key(|(spot, _, key)| (*spot, *key));
    spots.dedup_by_key(|(spot, _, key)| (*spot, *key));
    spots
}

/// Whether the counts are kept in this file.
pub(super) fn are_kept(writing: &WriteTransaction) -> Result<bool, IndexError> {
    let is_made = writing.open_table(META)?.get(META_COUNTS)?.is_some();
    Ok(is_made && meta_number(&writing.open_table(META)?, META_COUNTS)? == TABLES_MADE)
}

/// Numbers what a transaction adds, if counts are kept.
pub(in super::super) fn packs_added(
    index: &Index,
    writing: &WriteTransaction,
    packs: Vec<(PackNumber, NewPack)>,
) -> Result<(), IndexError> {
    if packs.is_empty() || !are_kept(writing)? {
        return Ok(());
    }
    let mut ledger = Ledger::new(writing, Arc::new(index.view()?))?;
    ledger.add_packs(packs)?;
    ledger.finish()
}

/// Lets go of what a transaction removes, if counts are kept. The rows of the packs may be gone already.
pub(in super::super) fn packs_removed(
    index: &Index,
    writing: &WriteTransaction,
    packs: &[PackNumber],
) -> Result<(), IndexError> {
    if packs.is_empty() || !are_kept(writing)? {
        return Ok(());
    }
    let mut ledger = Ledger::new(writing, Arc::new(index.view()?))?;
    ledger.remove_packs(packs)?;
    ledger.finish()
}

/// Notes which packs a listing did not show, in one transaction. They stay known, and other copies take over.
pub(super) fn set_absent(index: &Index, absent: &HashSet<PackId>) -> Result<(), IndexError> {
    let writing = begin(index.database.get())?;
    let view = Arc::new(index.view()?);
    let mut now = HashSet::new();
    for id in absent {
        now.extend(view.pack_number(id)?.map(|number| number.0));
    }
    let rows = writing.open_table(ABSENT)?;
    let before = rows.iter()?.map(|row| Ok(row?.0.value())).collect::<Result<HashSet<_>, IndexError>>()?;
    drop(rows);
    if now == before {
        writing.abort()?;
        return Ok(());
    }
    {
        let mut ledger = Ledger::new(&writing, view)?;
        let mut changed = Vec::new();
        for pack in now.symmetric_difference(&before) {
            let is_absent = now.contains(pack);
            let mut rows = writing.open_table(ABSENT)?;
            if is_absent {
                rows.insert(*pack, ())?.is_some()
            } else {
                rows.remove(*pack)?.is_some()
            };
            // A pack that vanished meanwhile is not absent: it is gone.
            if ledger.view.pack(PackNumber(*pack))?.is_some() {
                let state = if is_absent { PackState::Absent } else { PackState::Present };
                ledger.pack_mut(PackNumber(*pack))?.state = state;
                changed.push(PackNumber(*pack));
            }
        }
        changed.sort_unstable();
        ledger.elect_in(&changed)?;
        ledger.finish()?;
    }
    writing.commit()?;
    Ok(())
}

/// Makes the tables and numbers everything that the index knows, in one transaction. Nothing is counted yet. Says how
/// much was numbered.
pub(super) fn make(index: &Index) -> Result<u64, IndexError> {
    let writing = begin(index.database.get())?;
    if are_kept(&writing)? {
        writing.abort()?;
        return Ok(0);
    }
    make_tables(&writing)?;
    let view = Arc::new(index.view()?);
    {
        let mut ledger = Ledger::new(&writing, Arc::clone(&view))?;
        let mut packs = Vec::new();
        view.visit_packs(&mut |number, row| packs.push((number, row.kind, row.chunk_count)))?;
        let mut together = Vec::new();
        let mut count = 0;
        for (number, kind, chunk_count) in packs {
            together.push((number, kind));
            count += u64::from(chunk_count);
            if count >= NUMBERED_TOGETHER_MAX {
                number_together(&mut ledger, &std::mem::take(&mut together))?;
                count = 0;
            }
        }
        number_together(&mut ledger, &together)?;
        relate_all(&mut ledger)?;
        ledger.finish()?;
    }
    writing.commit()?;
    Ok(view.totals()?.places)
}

/// Numbers some packs. Places are ordered by id, so they are all read, and put in order for these packs.
fn number_together(
    ledger: &mut Ledger<&WriteTransaction>,
    packs: &[(PackNumber, PackKind)],
) -> Result<(), IndexError> {
    let (Some((first, _)), Some((last, _))) = (packs.first(), packs.last()) else { return Ok(()) };
    let view = Arc::clone(&ledger.view);
    let mut spots = Vec::new();
    view.visit_places(&mut |_, place| {
        if (first.0..=last.0).contains(&place.pack.0) {
            spots.push((place.pack.0, spot_of(place), place.len));
        }
    })?;
    spots.sort_unstable();
    let mut by_pack: HashMap<_, _> =
        spots.chunk_by(|a, b| a.0 == b.0).filter_map(|of_pack| Some((of_pack.first()?.0, of_pack))).collect();
    for (pack, kind) in packs {
        let mut based = HashSet::new();
        if ledger.has_bases() {
            let frames = view.frames(*pack)?;
            based.extend((0..=u16::MAX).zip(frames).filter(|(_, it)| !it.bases.is_empty()).map(|(at, _)| at));
        }
        let of_pack = by_pack.remove(&pack.0).unwrap_or_default();
        ledger.number_pack(*pack, *kind, of_pack.iter().map(|(_, spot, len)| (*spot, *len)), &based)?;
    }
    Ok(())
}

/// Finds the ids of which there are several copies.
fn relate_all(ledger: &mut Ledger<&WriteTransaction>) -> Result<(), IndexError> {
    let view = Arc::clone(&ledger.view);
    let mut before: Option<([u8; 16], Place)> = None;
    let mut copies = Vec::new();
    view.visit_places(&mut |key, place| match before {
        // The first of them stays the one to which all others are copies.
        Some((key_before, first)) if key_before == *key => copies.push((first, place)),
        _ => before = Some((*key, place)),
    })?;
    for (first, copy) in &copies {
        let (number, copy) = (ledger.number_of(*first)?, ledger.number_of(*copy)?);
        ledger.relate(number, copy)?;
        ledger.spill_if_full()?;
    }
    for (first, _) in copies {
        let number = ledger.number_of(first)?;
        let number = ledger.representative(number)?;
        ledger.elect(number)?;
        ledger.spill_if_full()?;
    }
    Ok(())
}
