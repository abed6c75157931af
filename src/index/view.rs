//! Reading the index as it was at one moment.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata};

use crate::id::{IndexObjectId, PackId};

use super::damage::{StatedDamage, stated};
use super::error::{Guarded, IndexError, guarded};
use super::filter::Filter;
use super::rows::{RunRow, StoredPack, decode_frame, opened, opened_number, pair_key};
use super::runs::{
    LazySummary, MergedEntries, RunTable, all_runs, forgotten_packs, is_complete, run_name, slice_of,
};
use super::write::meta_number;
use super::{
    DAMAGED, FORGOTTEN, FRAMES, FrameRow, INDEX_OBJECTS, META, META_HAS_BASES, PACK_NUMBERS, PACKS,
    PackNumber, PackRow, Place, RUNS, SLICE_COUNT,
};

/// Rows that are read before any of them is shown to a visitor.
const VISIT_COUNT_MAX: usize = 4096;

/// The places of one id: usually none or one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    first: Option<Place>,
    more: Vec<Place>,
}

impl Places {
    /// The only place, or that in the pack with the lowest number.
    pub fn first(&self) -> Option<Place> {
        self.first
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// All of them, by pack number.
    pub fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.first.iter().chain(&self.more).copied()
    }

    fn push(&mut self, place: Place) {
        match self.first {
            None => self.first = Some(place),
            Some(_) => self.more.push(place),
        }
    }

    /// Copies come run by run; only when there are several is there anything to order.
    fn sort(&mut self) {
        if let (Some(first), false) = (self.first, self.more.is_empty()) {
            self.more.push(first);
            self.more.sort_unstable();
            self.first = Some(self.more.remove(0));
        }
    }
}

/// How much an index holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexTotals {
    /// Packs.
    pub packs: u64,
    /// Frames of all packs.
    pub frames: u64,
    /// Places of all ids, copies included.
    pub places: u64,
}

/// The index as it was when [`super::Index::view`] was called, whatever changes afterwards.
///
/// Cheap to ask from many threads at once.
pub struct IndexView {
    tables: Guarded<Tables>,
}

struct Tables {
    reading: ReadTransaction,
    index_objects: ReadOnlyTable<[u8; 32], &'static [u8]>,
    packs: ReadOnlyTable<u32, &'static [u8]>,
    pack_numbers: ReadOnlyTable<[u8; 32], &'static [u8]>,
    frames: ReadOnlyTable<[u8; 6], &'static [u8]>,
    damaged: ReadOnlyTable<[u8; 32], &'static [u8]>,
    slices: Vec<Vec<Run>>,
    /// By number.
    forgotten: Vec<(u32, u32)>,
    place_count: u64,
    has_bases: bool,
}

/// A run, opened by whoever first needs it: opening reads, and there are many.
struct Run {
    number: u32,
    row: RunRow,
    opened: OnceLock<ReadOnlyTable<u32, &'static [u8]>>,
    summary: Arc<LazySummary>,
}

impl Run {
    fn table(&self, reading: &ReadTransaction) -> Result<&ReadOnlyTable<u32, &'static [u8]>, IndexError> {
        match self.opened.get() {
            Some(table) => Ok(table),
            None => {
                let table = reading.open_table(RunTable::new(&run_name(self.number)))?;
                if !is_complete(&table, self.row)? {
                    return Err(IndexError::damaged("a run does not fit its row"));
                }
                Ok(self.opened.get_or_init(|| table))
            }
        }
    }
}

impl IndexView {
    /// Opens what `reading` shows. `known` are the summaries of earlier views and become those of this one.
    pub(super) fn new(
        reading: ReadTransaction,
        known: &mut HashMap<u32, Arc<LazySummary>>,
        filter_bytes_max: usize,
    ) -> Result<Self, IndexError> {
        let runs = all_runs(&reading.open_table(RUNS)?)?;
        let forgotten = forgotten_packs(&reading.open_table(FORGOTTEN)?)?;
        let stored_count: u64 = runs.iter().map(|(_, row)| u64::from(row.count)).sum();
        let forgotten_count = forgotten.iter().map(|(_, count)| u64::from(*count)).sum();
        let tables = Tables {
            index_objects: reading.open_table(INDEX_OBJECTS)?,
            packs: reading.open_table(PACKS)?,
            pack_numbers: reading.open_table(PACK_NUMBERS)?,
            frames: reading.open_table(FRAMES)?,
            damaged: reading.open_table(DAMAGED)?,
            slices: slices_of(runs, known, filter_bytes_max)?,
            forgotten,
            place_count: stored_count.saturating_sub(forgotten_count),
            has_bases: meta_number(&reading.open_table(META)?, META_HAS_BASES)? != 0,
            reading,
        };
        Ok(Self { tables: Guarded::new(tables) })
    }

    /// Whether any frame has, or ever had, bases. Without any a copy never depends on another.
    pub fn has_bases(&self) -> bool {
        self.tables.get().has_bases
    }

    fn ask<T>(&self, question: impl FnOnce(&Tables) -> Result<T, IndexError>) -> Result<T, IndexError> {
        guarded(|| question(self.tables.get()))
    }

    /// Ids of all index objects that were added, in order.
    pub fn index_objects(&self) -> Result<Vec<IndexObjectId>, IndexError> {
        self.ask(|tables| {
            let mut ids = Vec::new();
            for row in tables.index_objects.iter()? {
                let (id, packs) = row?;
                opened(INDEX_OBJECTS, &id.value(), packs.value())?;
                ids.push(IndexObjectId::new(id.value()));
            }
            Ok(ids)
        })
    }

    /// The packs that each index object describes, by id.
    pub fn described_packs(&self) -> Result<Vec<(IndexObjectId, Vec<PackNumber>)>, IndexError> {
        self.ask(|tables| {
            let mut all = Vec::new();
            for row in tables.index_objects.iter()? {
                let (id, packs) = row?;
                let packs = opened(INDEX_OBJECTS, &id.value(), packs.value())?;
                let (numbers, _) = packs.as_chunks::<4>();
                let numbers = numbers.iter().map(|number| PackNumber(u32::from_le_bytes(*number)));
                all.push((IndexObjectId::new(id.value()), numbers.collect()));
            }
            Ok(all)
        })
    }

    /// Where the id with this first half lies. Whoever reads the chunk compares the whole id.
    pub fn lookup(&self, key: &[u8; 16]) -> Result<Places, IndexError> {
        self.ask(|tables| tables.lookup(key))
    }

    /// The pack of this number.
    pub fn pack(&self, number: PackNumber) -> Result<Option<PackRow>, IndexError> {
        self.ask(|tables| match tables.packs.get(number.0)? {
            Some(row) => Ok(Some(StoredPack::decode(number.0, row.value())?.row)),
            None => Ok(None),
        })
    }

    /// The number of this pack.
    pub fn pack_number(&self, id: &PackId) -> Result<Option<PackNumber>, IndexError> {
        self.ask(|tables| match tables.pack_numbers.get(id.bytes())? {
            Some(number) => Ok(Some(PackNumber(opened_number(PACK_NUMBERS, id.bytes(), number.value())?))),
            None => Ok(None),
        })
    }

    /// What is stated of the damage of a pack, if anything is.
    pub fn stated_damage(&self, id: &PackId) -> Result<Option<StatedDamage>, IndexError> {
        self.ask(|tables| stated(&tables.damaged, id))
    }

    /// A frame of a pack.
    pub fn frame(&self, pack: PackNumber, frame: u16) -> Result<Option<FrameRow>, IndexError> {
        let key = pair_key(pack.0, frame);
        self.ask(|tables| match tables.frames.get(key)? {
            Some(row) => Ok(Some(decode_frame(key, row.value())?)),
            None => Ok(None),
        })
    }

    /// All frames of a pack, in order; none of a pack that is not known.
    pub fn frames(&self, pack: PackNumber) -> Result<Vec<FrameRow>, IndexError> {
        self.ask(|tables| {
            let keys = pair_key(pack.0, 0)..=pair_key(pack.0, u16::MAX);
            let mut frames = Vec::new();
            for row in tables.frames.range(keys)? {
                let (key, row) = row?;
                frames.push(decode_frame(key.value(), row.value())?);
            }
            Ok(frames)
        })
    }

    /// Shows every pack, by number.
    pub fn visit_packs(&self, visit: &mut dyn FnMut(PackNumber, PackRow)) -> Result<(), IndexError> {
        let mut from = Bound::Unbounded;
        loop {
            let batch = self.ask(|tables| {
                let rows = tables.packs.range((from, Bound::Unbounded))?.take(VISIT_COUNT_MAX);
                rows.map(|row| {
                    let (number, row) = row?;
                    Ok((PackNumber(number.value()), StoredPack::decode(number.value(), row.value())?.row))
                })
                .collect::<Result<Vec<_>, IndexError>>()
            })?;
            match batch.last() {
                Some((last, _)) => from = Bound::Excluded(last.0),
                None => return Ok(()),
            }
            batch.into_iter().for_each(|(number, row)| visit(number, row));
        }
    }

    /// Shows the places of all ids, ordered by id and then by pack number. Memory does not grow with the index.
    pub fn visit_places(&self, visit: &mut dyn FnMut(&[u8; 16], Place)) -> Result<(), IndexError> {
        for slice in 0..SLICE_COUNT {
            let mut entries = self.ask(|tables| Ok(Guarded::new(tables.merged_slice(slice)?)))?;
            loop {
                let batch = self.ask(|tables| tables.living_places(entries.get_mut()))?;
                if batch.is_empty() {
                    break;
                }
                batch.iter().for_each(|(key, place)| visit(key, *place));
            }
        }
        Ok(())
    }

    /// How much there is.
    pub fn totals(&self) -> Result<IndexTotals, IndexError> {
        self.ask(|tables| {
            Ok(IndexTotals {
                packs: tables.packs.len()?,
                frames: tables.frames.len()?,
                places: tables.place_count,
            })
        })
    }
}

/// All runs, by slice.
fn slices_of(
    mut runs: Vec<(u32, RunRow)>,
    known: &mut HashMap<u32, Arc<LazySummary>>,
    filter_bytes_max: usize,
) -> Result<Vec<Vec<Run>>, IndexError> {
    let mut slices: Vec<Vec<Run>> = (0..SLICE_COUNT).map(|_| Vec::new()).collect();
    let mut used = HashMap::new();
    let mut filter_bytes = 0;
    // The smallest first: many small filters spare more reading than a single large one.
    runs.sort_unstable_by_key(|(_, row)| row.count);
    for (run, row) in runs {
        filter_bytes += Filter::bytes_for(u64::from(row.count));
        let has_filter = filter_bytes <= filter_bytes_max;
        let summary = match known.get(&run) {
            Some(summary) if summary.has_filter == has_filter => Arc::clone(summary),
            _ => Arc::new(LazySummary::new(run, row, has_filter)),
        };
        used.insert(run, Arc::clone(&summary));
        let slice = slices.get_mut(usize::from(row.slice));
        let slice = slice.ok_or_else(|| IndexError::damaged("a run lies in no slice"))?;
        slice.push(Run { number: run, row, opened: OnceLock::new(), summary });
    }
    *known = used;
    Ok(slices)
}

impl Tables {
    fn lookup(&self, key: &[u8; 16]) -> Result<Places, IndexError> {
        let mut places = Places::default();
        for run in self.slices.get(usize::from(slice_of(key))).into_iter().flatten() {
            let summary = run.summary.get(&self.reading)?;
            summary.find(run.table(&self.reading)?, key, |entry| {
                let place = entry.place()?;
                if self.lives(place.pack) {
                    places.push(place);
                }
                Ok(())
            })?;
        }
        places.sort();
        Ok(places)
    }

    /// Whether the pack is not forgotten.
    fn lives(&self, pack: PackNumber) -> bool {
        self.forgotten.binary_search_by_key(&pack.0, |(pack, _)| *pack).is_err()
    }

    fn merged_slice(&self, slice: u8) -> Result<MergedEntries<'static>, IndexError> {
        let mut merged = MergedEntries::new(Vec::new());
        for run in self.slices.get(usize::from(slice)).into_iter().flatten() {
            merged.push(run.table(&self.reading)?.range::<u32>(..)?)?;
        }
        Ok(merged)
    }

    /// The next places of packs that are not forgotten; none at the end.
    fn living_places(&self, entries: &mut MergedEntries<'_>) -> Result<Vec<([u8; 16], Place)>, IndexError> {
        let mut batch = Vec::with_capacity(VISIT_COUNT_MAX);
        while batch.len() < VISIT_COUNT_MAX
            && let Some(entry) = entries.next()
        {
            let entry = entry?;
            let place = entry.place()?;
            if self.lives(place.pack) {
                batch.push((entry.prefix(), place));
            }
        }
        Ok(batch)
    }
}
