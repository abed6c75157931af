//! Runs: places in order, written once and read by many. See the module above for why.
//!
//! A run is a table of blocks, each one page of the database with 136 places. Beside it stand its *fences* (the
//! first eight bytes of the first id of every block) and its [`Filter`], which views keep in memory once they were used. A lookup that
//! passes the filter finds its block by the fences, reads that one row, and guesses where in the block the id must
//! be, because ids are spread evenly.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use super::error::IndexError;
use super::filter::Filter;
use super::rows::{
    PLACE_ENTRY_LEN, PlaceEntry, RunRow, opened, opened_number, pair_key, pair_part, sealed, sealed_number,
};
use super::write::next_number;
use super::{FENCES, FILTERS, FORGOTTEN, META_NEXT_RUN, RUNS};

pub(super) type RunTable<'a> = TableDefinition<'a, u32, &'static [u8]>;
type RunRange<'a> = redb::Range<'a, u32, &'static [u8]>;

/// Places in a block: with its key it just fits into one page.
const BLOCK_ENTRY_COUNT: usize = 136;
/// Bytes of a part of a filter or of fences: with key and check it just fits into one page.
const PART_BYTES: usize = 4064;

/// Name of the table of a run.
pub(super) fn run_name(run: u32) -> String {
    format!("run-{run:08x}")
}

/// The slice in which an id lies.
pub(super) fn slice_of(prefix: &[u8; 16]) -> u8 {
    let [first, ..] = prefix;
    first >> (8 - super::SLICE_BITS)
}

/// The places of a block, in order.
fn block_entries(block: &[u8]) -> Result<&[[u8; PLACE_ENTRY_LEN]], IndexError> {
    match block.as_chunks() {
        (entries, []) if !entries.is_empty() => Ok(entries),
        _ => Err(IndexError::damaged("a block of places has a wrong length")),
    }
}

/// The summary of a run, read by whoever first looks something up in the run. All summaries together grow with the
/// index, and many commands look nothing up.
pub(super) struct LazySummary {
    run: u32,
    row: RunRow,
    /// False where the filters of all runs together would be too large.
    pub(super) has_filter: bool,
    read: OnceLock<RunSummary>,
}

impl LazySummary {
    pub(super) fn new(run: u32, row: RunRow, has_filter: bool) -> Self {
        Self { run, row, has_filter, read: OnceLock::new() }
    }

    pub(super) fn get(&self, reading: &ReadTransaction) -> Result<&RunSummary, IndexError> {
        match self.read.get() {
            Some(summary) => Ok(summary),
            // Two threads may both read it; what they read is the same.
            None => {
                let summary = RunSummary::read(reading, self.run, self.row, self.has_filter)?;
                Ok(self.read.get_or_init(|| summary))
            }
        }
    }
}

/// What is kept in memory of a run in which something was looked up.
#[derive(Debug)]
pub(super) struct RunSummary {
    fences: Vec<u64>,
    /// None where the filters of all runs together would be too large.
    filter: Option<Filter>,
}

impl RunSummary {
    /// Reads the summary of a run of `count` places.
    fn read(reading: &ReadTransaction, run: u32, row: RunRow, has_filter: bool) -> Result<Self, IndexError> {
        let fences: Vec<u64> = read_parts(reading, FENCES, run)?
            .as_chunks()
            .0
            .iter()
            .map(|it| u64::from_le_bytes(*it))
            .collect();
        let is_whole =
            usize::try_from(row.count).is_ok_and(|count| count.div_ceil(BLOCK_ENTRY_COUNT) == fences.len());
        if !is_whole || !fences.is_sorted() {
            return Err(IndexError::damaged("the fences of a run do not fit it"));
        }
        let filter = match has_filter {
            true => Some(Filter::from_bytes(&read_parts(reading, FILTERS, run)?)),
            false => None,
        };
        Ok(Self { fences, filter })
    }

    /// Shows every entry of this id in the run to `visit`.
    pub(super) fn find(
        &self,
        run: &ReadOnlyTable<u32, &'static [u8]>,
        key: &[u8; 16],
        mut visit: impl FnMut(&PlaceEntry) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        if self.filter.as_ref().is_some_and(|filter| !filter.may_contain(key)) {
            return Ok(());
        }
        let [a, b, c, d, e, f, g, h, ..] = *key;
        let head = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        // An id may begin at the end of one block and go on in the next ones; nearly always it is in one.
        let after_first = self.fences.partition_point(|fence| *fence < head);
        let blocks = self.fences.iter().enumerate().skip(after_first.saturating_sub(1));
        for (block, fence) in blocks.take_while(|(_, fence)| **fence <= head) {
            let number = u32::try_from(block).map_err(|_| IndexError::damaged("a run is too long"))?;
            let row = run.get(number)?.ok_or_else(|| IndexError::damaged("a block of places is missing"))?;
            let entries = block_entries(row.value())?;
            let first = entries.first().map(|entry| PlaceEntry(*entry).head());
            if first != Some(*fence) {
                return Err(IndexError::damaged("a block of places does not begin at its fence"));
            }
            let next_fence = self.fences.get(block + 1).copied().unwrap_or(u64::MAX);
            let guess = guess(entries.len(), head.saturating_sub(*fence), next_fence.saturating_sub(*fence));
            for entry in entries_of(entries, key, guess) {
                visit(&PlaceEntry(*entry))?;
            }
        }
        Ok(())
    }
}

/// Where among `count` evenly spread entries the one at `distance` of `span` should be.
fn guess(count: usize, distance: u64, span: u64) -> usize {
    let position = u128::from(distance) * count as u128 / u128::from(span.max(1));
    usize::try_from(position).unwrap_or(usize::MAX).min(count)
}

/// The entries of an id, found by walking from `guess` in both directions.
fn entries_of<'a>(
    entries: &'a [[u8; PLACE_ENTRY_LEN]],
    key: &[u8; 16],
    guess: usize,
) -> impl Iterator<Item = &'a [u8; PLACE_ENTRY_LEN]> {
    let prefix = |entry: &[u8; PLACE_ENTRY_LEN]| PlaceEntry(*entry).prefix();
    let (before, after) = entries.split_at_checked(guess).unwrap_or((entries, &[]));
    let back = before.iter().rev().take_while(|entry| prefix(entry) >= *key).count();
    let from_key = before.iter().skip(before.len() - back).chain(after);
    let key = *key;
    from_key.skip_while(move |entry| prefix(entry) < key).take_while(move |entry| prefix(entry) == key)
}

/// Entries of several runs in one order, each once.
pub(super) struct MergedEntries<'a> {
    sources: Vec<Source<'a>>,
    last: Option<PlaceEntry>,
}

struct Source<'a> {
    head: (u64, PlaceEntry),
    block: std::vec::IntoIter<PlaceEntry>,
    blocks: Option<RunRange<'a>>,
}

impl<'a> MergedEntries<'a> {
    /// Merges `fresh` entries, which are in order.
    pub(super) fn new(fresh: Vec<PlaceEntry>) -> Self {
        let mut fresh = fresh.into_iter();
        let head = fresh.next().map(|entry| (entry.head(), entry));
        let source = head.map(|head| Source { head, block: fresh, blocks: None });
        Self { sources: source.into_iter().collect(), last: None }
    }

    /// Merges a run too.
    pub(super) fn push(&mut self, blocks: RunRange<'a>) -> Result<(), IndexError> {
        let nothing = PlaceEntry([0; PLACE_ENTRY_LEN]);
        let mut source = Source { head: (0, nothing), block: Vec::new().into_iter(), blocks: Some(blocks) };
        if source.advance()? {
            self.sources.push(source);
        }
        Ok(())
    }

    fn next_of_all(&mut self) -> Result<Option<PlaceEntry>, IndexError> {
        let least = self.sources.iter_mut().enumerate().min_by(|(_, a), (_, b)| a.head.cmp(&b.head));
        let Some((at, source)) = least else { return Ok(None) };
        let (_, entry) = source.head;
        if !source.advance()? {
            self.sources.swap_remove(at);
        }
        Ok(Some(entry))
    }
}

impl Source<'_> {
    /// Goes to the next entry, if there is one.
    fn advance(&mut self) -> Result<bool, IndexError> {
        loop {
            if let Some(entry) = self.block.next() {
                self.head = (entry.head(), entry);
                return Ok(true);
            }
            let Some(row) = self.blocks.as_mut().and_then(|blocks| blocks.next()) else { return Ok(false) };
            let (_, block) = row?;
            let entries = block_entries(block.value())?.iter().map(|entry| PlaceEntry(*entry));
            self.block = entries.collect::<Vec<_>>().into_iter();
        }
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
            match self.last.replace(entry) {
                Some(last) if last.is_same_place(&entry) => {}
                Some(last) if last > entry => {
                    return Some(Err(IndexError::damaged("the places of a run are not in order")));
                }
                _ => return Some(Ok(entry)),
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
    {
        let tables = runs.iter().map(|(run, _)| writing.open_table(RunTable::new(&run_name(*run))));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        let mut merged = MergedEntries::new(fresh.to_vec());
        for table in &tables {
            merged.push(table.iter()?)?;
        }
        let count_max = fresh.len() as u64 + runs.iter().map(|(_, row)| u64::from(row.count)).sum::<u64>();
        let kept = merged.filter(|entry| match entry {
            Ok(entry) if forgotten.binary_search_by_key(&entry.pack().0, |(pack, _)| *pack).is_ok() => {
                *dropped.entry(entry.pack().0).or_default() += 1;
                false
            }
            _ => true,
        });
        write_run(writing, slice, count_max, kept)?;
    }
    for (run, _) in runs {
        writing.delete_table(RunTable::new(&run_name(*run)))?;
        writing.open_table(RUNS)?.remove(run)?;
        for table in [FILTERS, FENCES] {
            let parts = pair_key(*run, 0)..=pair_key(*run, u16::MAX);
            writing.open_table(table)?.retain_in(parts, |_, _| false)?;
        }
    }
    note_dropped(writing, forgotten, &dropped)
}

/// Counts places of forgotten packs as gone; a pack that has none left is not remembered any longer.
fn note_dropped(
    writing: &WriteTransaction,
    forgotten: Vec<(u32, u32)>,
    dropped: &BTreeMap<u32, u32>,
) -> Result<(), IndexError> {
    let mut table = writing.open_table(FORGOTTEN)?;
    for (pack, count) in forgotten {
        let Some(dropped) = dropped.get(&pack) else { continue };
        match count.saturating_sub(*dropped) {
            0 => drop(table.remove(pack)?),
            left => drop(table.insert(pack, sealed_number(FORGOTTEN, &pack.to_be_bytes(), left).as_slice())?),
        }
    }
    Ok(())
}

/// Writes at most `count_max` entries, in order, as a new run; no entries make no run.
fn write_run(
    writing: &WriteTransaction,
    slice: u8,
    count_max: u64,
    mut entries: impl Iterator<Item = Result<PlaceEntry, IndexError>>,
) -> Result<(), IndexError> {
    let Some(first) = entries.next() else { return Ok(()) };
    let run = next_number(writing, META_NEXT_RUN)?;
    let name = run_name(run);
    let mut table = writing.open_table(RunTable::new(&name))?;
    let mut cursor = table.upper_bound_mut(std::ops::Bound::<u32>::Unbounded)?;
    let mut filter = Filter::with_capacity(count_max);
    let mut fences = Vec::new();
    let mut block = Vec::with_capacity(BLOCK_ENTRY_COUNT * PLACE_ENTRY_LEN);
    let mut count = 0u32;
    for entry in std::iter::once(first).chain(entries) {
        let entry = entry?;
        if block.is_empty() {
            fences.extend_from_slice(&entry.head().to_le_bytes());
        }
        block.extend_from_slice(&entry.0);
        filter.insert(&entry.prefix());
        if block.len() == BLOCK_ENTRY_COUNT * PLACE_ENTRY_LEN {
            cursor.insert_before(count / BLOCK_ENTRY_COUNT as u32, block.as_slice())?;
            block.clear();
        }
        count = count.checked_add(1).ok_or(IndexError::Invalid { rule: "too many chunks" })?;
    }
    if !block.is_empty() {
        cursor.insert_before(count / BLOCK_ENTRY_COUNT as u32, block.as_slice())?;
    }
    cursor.close()?;
    writing.open_table(RUNS)?.insert(run, RunRow { slice, count }.encode(run).as_slice())?;
    write_parts(writing, FILTERS, run, &filter.to_bytes())?;
    write_parts(writing, FENCES, run, &fences)
}

type PartTable = TableDefinition<'static, [u8; 6], &'static [u8]>;

fn write_parts(
    writing: &WriteTransaction,
    table: PartTable,
    run: u32,
    bytes: &[u8],
) -> Result<(), IndexError> {
    let mut rows = writing.open_table(table)?;
    for (part, bytes) in bytes.chunks(PART_BYTES).enumerate() {
        let part = u16::try_from(part).map_err(|_| IndexError::Invalid { rule: "too many chunks" })?;
        let key = pair_key(run, part);
        rows.insert(key, sealed(table, &key, bytes.to_vec()).as_slice())?;
    }
    Ok(())
}

fn read_parts(reading: &ReadTransaction, table: PartTable, run: u32) -> Result<Vec<u8>, IndexError> {
    let mut bytes = Vec::new();
    let rows = reading.open_table(table)?;
    for (part, row) in (0..=u16::MAX).zip(rows.range(pair_key(run, 0)..=pair_key(run, u16::MAX))?) {
        let (key, stored) = row?;
        if pair_part(key.value()) != part {
            return Err(IndexError::damaged("a part of a summary is missing"));
        }
        bytes.extend_from_slice(opened(table, &key.value(), stored.value())?);
    }
    if bytes.is_empty() {
        return Err(IndexError::damaged("a summary is missing"));
    }
    Ok(bytes)
}

/// All runs, by number.
pub(super) fn all_runs(
    runs: &impl ReadableTable<u32, &'static [u8]>,
) -> Result<Vec<(u32, RunRow)>, IndexError> {
    let mut all = Vec::new();
    for row in runs.iter()? {
        let (run, row) = row?;
        all.push((run.value(), RunRow::decode(run.value(), row.value())?));
    }
    Ok(all)
}

/// The forgotten packs, by number, with how many of their places are still in runs.
pub(super) fn forgotten_packs(
    forgotten: &impl ReadableTable<u32, &'static [u8]>,
) -> Result<Vec<(u32, u32)>, IndexError> {
    let mut packs = Vec::new();
    for row in forgotten.iter()? {
        let (pack, count) = row?;
        packs.push((pack.value(), opened_number(FORGOTTEN, &pack.value().to_be_bytes(), count.value())?));
    }
    Ok(packs)
}

/// Whether a run has exactly the blocks that its row promises.
pub(super) fn is_complete(table: &impl ReadableTableMetadata, row: RunRow) -> Result<bool, IndexError> {
    Ok(table.len()? == u64::from(row.count).div_ceil(BLOCK_ENTRY_COUNT as u64))
}
