//! The order in which rules look at snapshots.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::id::SeriesId;
use crate::retention::Candidate;

/// A snapshot, and when it was made as far as its series can be trusted more than its clock.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The snapshot.
    pub snapshot: Candidate,
    /// Its time, or that of the latest one before it in its series, whichever is later.
    pub time: Timestamp,
}

/// Sorts the snapshots, newest first: inside a series by sequence number, and series among each other by time.
///
/// The running maximum makes one order of both: it never goes back inside a series, and where clocks are honest it is
/// the time itself.
pub fn newest_first(mut snapshots: Vec<Candidate>) -> Vec<Placed> {
    snapshots.sort_by_key(|snapshot| (snapshot.series, snapshot.sequence, snapshot.time, snapshot.id));
    let mut latest = HashMap::<SeriesId, Timestamp>::new();
    let mut placed: Vec<_> = snapshots
        .into_iter()
        .map(|snapshot| {
            let time = latest.entry(snapshot.series).or_insert(snapshot.time);
            *time = snapshot.time.max(*time);
            Placed { time: *time, snapshot }
        })
        .collect();
    // Stable: equal ones of a series stay in its order.
    placed.sort_by_key(|placed| (placed.time, placed.snapshot.series));
    placed.reverse();
    placed
}
