//! Counts for those who only want to know: brought up to date with what is there now, whatever it is.
//!
//! A prune looks at more, and stops where something is missing; see [`crate::prune`].

use std::collections::HashSet;
use std::sync::Arc;

use crate::event::Observer;
use crate::repo::counting::{CountingInput, CountingReport};
use crate::repo::error::RepoError;
use crate::repo::index_sync::PackListing;
use crate::repo::{Repo, SnapshotList};

impl Repo {
    /// Brings the counts up to date with these snapshots, and with the index objects and packs that are listed now.
    /// What the listing showed is returned, too.
    ///
    /// Nobody may hold the index or a view of it. [`RepoError::Ended`] if the observer asked to stop.
    pub fn count_snapshots(
        self: &Arc<Self>,
        list: &SnapshotList,
        observer: &dyn Observer,
    ) -> Result<(CountingReport, PackListing), RepoError> {
        let view = self.sync_index()?;
        let listing = self.list_packs()?;
        let mut absent = HashSet::new();
        view.visit_packs(&mut |_, row| {
            if !listing.shows(&row) {
                absent.insert(row.id);
            }
        })?;
        drop(view);
        let live: Vec<_> = list.snapshots.iter().map(|snapshot| (snapshot.id, snapshot.root)).collect();
        let forgotten: HashSet<_> = list.forgotten.snapshots().map(|(id, _)| id).collect();
        let input = CountingInput { live: &live, forgotten: &forgotten, absent: &absent };
        Ok((self.synchronise_counts(input, observer)?, listing))
    }
}
