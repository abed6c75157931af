//! Continuing what an interrupted writer began: a backup or a copy.
//!
//! Every few minutes a writer describes the packs it has stored in an index object. What was stored after the last
//! one lies in packs that nothing describes. Their directories say what they hold, so the next writer reads these
//! and describes them. That is always safe: an index object states facts about packs, and nothing follows from it
//! about whether anybody needs them.

use std::collections::HashSet;

use crate::event::Observer;
use crate::index::PackRow;
use crate::repo::Repo;
use crate::repo::error::RepoError;
use crate::repo::lease::Lease;
use crate::repo::view::View;
use crate::units::counted_text;

impl Repo {
    /// What a writer may rely on, after describing packs that an interrupted one left behind; and the packs that are
    /// described but missing. Without a lease nothing is described.
    pub fn resumed_view(
        &self,
        lease: Option<&Lease>,
        observer: &dyn Observer,
    ) -> Result<(View, Vec<PackRow>), RepoError> {
        let none = HashSet::new();
        let (view, absent, listing) = self.writer_view(lease.map_or(&none, Lease::excluded))?;
        let Some(lease) = lease else { return Ok((view, absent)) };
        let mut orphans = self.undescribed_packs(view.index(), &listing)?;
        // A prune that is under way deletes descriptions before packs.
        orphans.retain(|(_, id)| !lease.excluded().contains(id));
        if orphans.is_empty() {
            return Ok((view, absent));
        }
        let packs = counted_text(orphans.len() as u64, "packs");
        observer.note(&format!("continuing with {packs} that an interrupted backup left"));
        drop(view);
        self.describe_packs(lease.id(), &orphans)?;
        let (view, absent, _) = self.writer_view(lease.excluded())?;
        Ok((view, absent))
    }
}
