//! Finding the number that stands for an id, also where nothing holds the id any more.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};

use super::super::mark::referred_to;
use super::super::rows::{
    BLOCK_ENTRY_COUNT, Entry, LocalNumber, NumberedPack, PHANTOM_PACK_MIN, PackState, SnapshotRow,
    SnapshotState, opened_local, sealed_local,
};
use super::super::{LOST, LOST_KEYS, META_NEXT_PHANTOM, NUMBERED, PARENTS, SNAPSHOTS};
use super::Ledger;
use crate::index::error::IndexError;
use crate::index::rows::{opened, sealed};
use crate::index::write::meta_number;
use crate::index::{META, PackNumber, Places};

impl<W: Borrow<WriteTransaction>> Ledger<W> {
    /// The number that stands for an id, found among its places. None if no pack ever held it and nobody asked.
    pub(in crate::index::counts) fn resolve(
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
    pub(in crate::index::counts) fn lost_number(
        &self,
        key: &[u8; 16],
    ) -> Result<Option<LocalNumber>, IndexError> {
        match self.writing.borrow().open_table(LOST)?.get(key)? {
            Some(row) => opened_local(LOST, key, row.value()).map(Some),
            None => Ok(None),
        }
    }

    /// The number that stands for an id; an id that no pack holds is given one.
    pub(in crate::index::counts) fn resolve_or_lose(
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

    pub(in crate::index::counts) fn note_lost(
        &mut self,
        number: LocalNumber,
        key: &[u8; 16],
    ) -> Result<(), IndexError> {
        let writing = self.writing.borrow();
        writing.open_table(LOST)?.insert(key, sealed_local(LOST, key, number).as_slice())?;
        let row = sealed(LOST_KEYS, &number.0.to_be_bytes(), key.to_vec());
        writing.open_table(LOST_KEYS)?.insert(number.0, row.as_slice())?;
        Ok(())
    }

    /// It is not lost any more: it has a copy again, or nobody refers to it.
    pub(in crate::index::counts) fn note_found(&mut self, number: LocalNumber) -> Result<(), IndexError> {
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

    /// What has lost its last copy is found by its id should it ever be stored again. Its number alone does not tell
    /// the id, so all places are read; this happens only where data is lost.
    pub(super) fn name_lost(&mut self) -> Result<(), IndexError> {
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

    /// What lies in no pack is nominated by nobody, so it is made sure here that nothing refers to what was released.
    pub(super) fn confirm_released(&mut self) -> Result<(), IndexError> {
        let mut released = Vec::new();
        for number in std::mem::take(&mut self.released_lost) {
            if self.entry(number)?.count() == 0 {
                released.push(number);
            }
        }
        if released.is_empty() {
            return Ok(());
        }
        self.write_edges()?;
        let writing = self.writing.borrow();
        let mut is_needed = !referred_to(&writing.open_table(PARENTS)?, &released)?.is_empty();
        for row in writing.open_table(SNAPSHOTS)?.iter()? {
            let (id, row) = row?;
            let row = SnapshotRow::decode(&id.value(), row.value())?;
            is_needed |= row.state != SnapshotState::Released && released.binary_search(&row.root).is_ok();
        }
        match is_needed {
            false => Ok(()),
            true => Err(IndexError::damaged("something was released that is still referred to")),
        }
    }

    /// Forgets the parts of vanished packs that nobody refers to.
    pub(super) fn drop_unneeded(&mut self) -> Result<(), IndexError> {
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

    pub(super) fn is_numbered(&self, pack: u32) -> Result<bool, IndexError> {
        Ok(self.packs.contains_key(&pack) || self.writing.borrow().open_table(NUMBERED)?.get(pack)?.is_some())
    }
}
