//! When runs are merged: a pure plan, and the transactions that carry it out, one for each slice.
//!
//! A crash between two of them leaves some slices merged and others not; both answer the same.

use redb::{Database, ReadableDatabase};

use super::error::IndexError;
use super::rows::RunRow;
use super::runs::{all_runs, forgotten_packs, replace_runs};
use super::write::begin;
use super::{FORGOTTEN, RUNS, SLICE_COUNT};

/// So many runs of a similar size become one.
const RUNS_OF_A_SIZE_MAX: usize = 4;
/// Runs up to so many entries are merged into whatever is added to their slice. Tests, which cannot add millions of
/// places, have smaller runs and so the same merging.
pub(super) const TINY_RUN_COUNT_MAX: u32 = if cfg!(test) { 16 } else { 4096 };
/// Everything is merged when one place in so many belongs to a forgotten pack.
const FORGOTTEN_SHARE: u64 = 4;

/// Merges runs of similar size until there are few in each slice.
pub(super) fn merge_similar_runs(database: &Database) -> Result<(), IndexError> {
    loop {
        let runs = all_runs(&database.begin_read()?.open_table(RUNS)?)?;
        let mut is_done = true;
        for slice in 0..SLICE_COUNT {
            let similar = similar_runs(runs_of(&runs, slice));
            if !similar.is_empty() {
                is_done = false;
                replace_in_transaction(database, slice, &similar)?;
            }
        }
        if is_done {
            return Ok(());
        }
    }
}

/// Rewrites all runs if the places of forgotten packs have become too many.
pub(super) fn drop_forgotten_places(database: &Database) -> Result<(), IndexError> {
    let reading = database.begin_read()?;
    let runs = all_runs(&reading.open_table(RUNS)?)?;
    let forgotten = forgotten_packs(&reading.open_table(FORGOTTEN)?)?;
    let forgotten_count: u64 = forgotten.iter().map(|(_, count)| u64::from(*count)).sum();
    drop(reading);
    let count: u64 = runs.iter().map(|(_, row)| u64::from(row.count)).sum();
    if forgotten_count == 0 || forgotten_count * FORGOTTEN_SHARE < count {
        return Ok(());
    }
    for slice in 0..SLICE_COUNT {
        let runs = runs_of(&runs, slice);
        if !runs.is_empty() {
            replace_in_transaction(database, slice, &runs)?;
        }
    }
    Ok(())
}

fn replace_in_transaction(database: &Database, slice: u8, runs: &[(u32, RunRow)]) -> Result<(), IndexError> {
    let writing = begin(database)?;
    replace_runs(&writing, slice, runs, &[])?;
    writing.commit()?;
    Ok(())
}

/// The runs of one slice.
pub(super) fn runs_of(runs: &[(u32, RunRow)], slice: u8) -> Vec<(u32, RunRow)> {
    runs.iter().filter(|(_, row)| row.slice == slice).copied().collect()
}

/// Which of the runs of one slice to merge: the smaller ones, up to the first size that has come together often.
fn similar_runs(mut runs: Vec<(u32, RunRow)>) -> Vec<(u32, RunRow)> {
    runs.sort_unstable_by_key(|(run, row)| (row.count, *run));
    let mut end = 0;
    for same in runs.chunk_by(|(_, a), (_, b)| size_class(a.count) == size_class(b.count)) {
        end += same.len();
        if same.len() >= RUNS_OF_A_SIZE_MAX {
            runs.truncate(end);
            return runs;
        }
    }
    Vec::new()
}

/// Runs of one class differ in size by a factor of less than four.
fn size_class(count: u32) -> u32 {
    (count / TINY_RUN_COUNT_MAX).checked_ilog2().map_or(0, |log| 1 + log / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged_counts(counts: &[u32]) -> Vec<u32> {
        let runs = (0..).zip(counts).map(|(run, count)| (run, RunRow { slice: 0, count: *count })).collect();
        similar_runs(runs).iter().map(|(_, row)| row.count).collect()
    }

    #[test]
    fn few_runs_and_runs_of_different_sizes_are_left_alone() {
        assert!(merged_counts(&[]).is_empty());
        let small = 2 * TINY_RUN_COUNT_MAX;
        assert!(merged_counts(&[5, small, 1_000_000, small, 4_000_000, small, 16_000_000]).is_empty());
    }

    #[test]
    fn four_runs_of_a_size_are_merged_together_with_all_smaller_ones() {
        let (small, large) = (2 * TINY_RUN_COUNT_MAX, 1_000_000);
        let counts = [large, small, small + 1, large, small + 2, small + 3, 7];
        assert_eq!(merged_counts(&counts), [7, small, small + 1, small + 2, small + 3]);
    }

    #[test]
    fn the_number_of_runs_grows_only_with_the_logarithm_of_their_entries() {
        let mut counts = Vec::new();
        for _ in 0..5000 {
            counts.push(TINY_RUN_COUNT_MAX + 1);
            loop {
                let merged = merged_counts(&counts);
                if merged.is_empty() {
                    break;
                }
                counts.retain(|count| !merged.contains(count));
                counts.push(merged.iter().sum());
            }
            // At most three of a class, and 5000 is less than four to the seventh power.
            assert!(counts.len() <= 3 * 7, "{counts:?}");
        }
    }
}
