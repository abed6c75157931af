//! Runs: ordered tables of places that are written once and read by many. See the module above for why.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::error::IndexError;
use super::filter::Filter;
use super::rows::{
    PLACE_KEY_LEN, PLACE_VALUE_LEN, PlaceEntry, RunRow, open_row, pair_key, pair_part, seal_row,
};
use super::write::next_number;
use super::{FILTERS, FORGOTTEN, META_NEXT_RUN, RUNS};

pub(super) type RunTable<'a> = TableDefinition<'a, [u8; PLACE_KEY_LEN], [u8; PLACE_VALUE_LEN]>;
type RunRange<'a> = redb::Range<'a, [u8; PLACE_KEY_LEN], [u8; PLACE_VALUE_LEN]>;

/// Name of the table of a run.
pub(super) fn run_name(run: u32) -> String {
    format!("run-{run:08x}")
}

/// The slice in which an id lies.
pub(super) fn slice_of(key: &[u8]) -> u8 {
    key.first().map_or(0, |first| first >> (8 - super::SLICE_BITS))
}

/// Entries of several runs in one order, each once.
pub(super) struct MergedEntries<'a> {
    sources: Vec<Source<'a>>,
    last: Option<PlaceEntry>,
}

struct Source<'a> {
    entries: Box<dyn Iterator<Item = Result<PlaceEntry, IndexError>> + 'a>,
    head: PlaceEntry,
}

impl<'a> MergedEntries<'a> {
    pub(super) fn new() -> Self {
        Self { sources: Vec::new(), last: None }
    }

    /// Adds a run, or what is left of one.
    pub(super) fn push_range(&mut self, range: RunRange<'a>) -> Result<(), IndexError> {
        self.push(range.map(|row| {
            let (key, value) = row?;
            Ok(PlaceEntry { key: key.value(), value: value.value() })
        }))
    }

    /// Adds entries that are in order.
    pub(super) fn push(
        &mut self,
        mut entries: impl Iterator<Item = Result<PlaceEntry, IndexError>> + 'a,
    ) -> Result<(), IndexError> {
        if let Some(head) = entries.next() {
            self.sources.push(Source { entries: Box::new(entries), head: head? });
        }
        Ok(())
    }

    fn next_of_all(&mut self) -> Result<Option<PlaceEntry>, IndexError> {
        let Some((at, source)) =
            self.sources.iter_mut().enumerate().min_by_key(|(_, source)| source.head.key)
        else {
            return Ok(None);
        };
        let entry = source.head;
        match source.entries.next() {
            Some(head) => source.head = head?,
            None => drop(self.sources.swap_remove(at)),
        }
        Ok(Some(entry))
    }
}

impl Iterator for MergedEntries<'_> {
    type Item = Result<PlaceEntry, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.next_of_all() {
                Ok(entry) => entry?,
                Err(error) => return Some(Err(error)),
            };
            if self.last.is_none_or(|last| last.key != entry.key) {
                self.last = Some(entry);
                return Some(Ok(entry));
            }
        }
    }
}

/// Replaces `runs` of a slice, and adds `fresh` entries in order, as one new run without forgotten places.
pub(super) fn replace_runs(
    writing: &WriteTransaction,
    slice: u8,
    runs: &[(u32, RunRow)],
    fresh: &[PlaceEntry],
) -> Result<(), IndexError> {
    let forgotten = forgotten_packs(&writing.open_table(FORGOTTEN)?)?;
    let mut dropped = BTreeMap::new();
    let names: Vec<String> = runs.iter().map(|(run, _)| run_name(*run)).collect();
    {
        let inputs: Vec<_> = names
            .iter()
            .map(|name| writing.open_table(RunTable::new(name)))
            .collect::<Result<_, redb::TableError>>()?;
        let mut merged = MergedEntries::new();
        for input in &inputs {
            merged.push_range(input.iter()?)?;
        }
        merged.push(fresh.iter().map(|entry| Ok(*entry)))?;
        let count_max = fresh.len() as u64 + runs.iter().map(|(_, row)| u64::from(row.count)).sum::<u64>();
        let kept = merged.filter(|entry| match entry {
            Ok(entry) if forgotten.binary_search(&entry.pack().0).is_ok() => {
                *dropped.entry(entry.pack().0).or_default() += 1;
                false
            }
            _ => true,
        });
        write_run(writing, slice, count_max, kept)?;
    }
    for ((run, _), name) in runs.iter().zip(&names) {
        writing.delete_table(RunTable::new(name))?;
        writing.open_table(RUNS)?.remove(run)?;
        let parts = pair_key(*run, 0)..=pair_key(*run, u16::MAX);
        writing.open_table(FILTERS)?.retain_in(parts, |_, _| false)?;
    }
    note_dropped(writing, dropped)
}

/// Counts places of forgotten packs as gone; a pack that has none left is not remembered any longer.
fn note_dropped(writing: &WriteTransaction, dropped: BTreeMap<u32, u32>) -> Result<(), IndexError> {
    let mut forgotten = writing.open_table(FORGOTTEN)?;
    for (pack, count) in dropped {
        let left = forgotten.remove(pack)?.map_or(0, |left| left.value()).saturating_sub(count);
        if left > 0 {
            forgotten.insert(pack, left)?;
        }
    }
    Ok(())
}

/// Writes at most `count_max` entries, in order, as a new run; no entries make no run.
fn write_run(
    writing: &WriteTransaction,
    slice: u8,
    count_max: u64,
    entries: impl Iterator<Item = Result<PlaceEntry, IndexError>>,
) -> Result<(), IndexError> {
    let run = next_number(writing, META_NEXT_RUN)?;
    let mut filter = Filter::with_capacity(count_max);
    let mut count = 0u32;
    {
        let name = run_name(run);
        let mut table = writing.open_table(RunTable::new(&name))?;
        let mut cursor = table.upper_bound_mut(Bound::<[u8; PLACE_KEY_LEN]>::Unbounded)?;
        for entry in entries {
            let entry = entry?;
            cursor.insert_before(entry.key, entry.value)?;
            filter.insert(&entry.prefix());
            count = count.checked_add(1).ok_or(IndexError::Invalid { rule: "too many chunks" })?;
        }
        cursor.close()?;
    }
    if count == 0 {
        writing.delete_table(RunTable::new(&run_name(run)))?;
        return Ok(());
    }
    writing.open_table(RUNS)?.insert(run, RunRow { slice, count }.encode())?;
    let mut filters = writing.open_table(FILTERS)?;
    for (part, mut bytes) in (0..=u16::MAX).zip(filter.parts()) {
        seal_row(&mut bytes);
        filters.insert(pair_key(run, part), bytes.as_slice())?;
    }
    Ok(())
}

/// The filter of a run as it was stored.
pub(super) fn read_filter(
    filters: &impl ReadableTable<[u8; 6], &'static [u8]>,
    run: u32,
) -> Result<Filter, IndexError> {
    let mut filter = Filter::default();
    for (part, row) in (0..=u16::MAX).zip(filters.range(pair_key(run, 0)..=pair_key(run, u16::MAX))?) {
        let (key, bytes) = row?;
        if pair_part(key.value()) != part {
            return Err(IndexError::damaged("a part of a filter is missing"));
        }
        filter.push_part(open_row(bytes.value())?);
    }
    if filter.byte_count() == 0 {
        return Err(IndexError::damaged("a filter is missing"));
    }
    Ok(filter)
}

/// All runs, by number.
pub(super) fn all_runs(
    runs: &impl ReadableTable<u32, [u8; super::rows::RUN_ROW_LEN]>,
) -> Result<Vec<(u32, RunRow)>, IndexError> {
    let row =
        |row: Result<(redb::AccessGuard<'_, u32>, redb::AccessGuard<'_, [u8; 9]>), redb::StorageError>| {
            let (run, row) = row?;
            Ok((run.value(), RunRow::decode(&row.value())?))
        };
    runs.iter()?.map(row).collect()
}

/// Numbers of the forgotten packs that may still have places in runs, in order.
pub(super) fn forgotten_packs(forgotten: &impl ReadableTable<u32, u32>) -> Result<Vec<u32>, IndexError> {
    forgotten.iter()?.map(|row| Ok(row?.0.value())).collect()
}
