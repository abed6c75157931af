//! Continuing what an interrupted backup began.
//!
//! Every few minutes a backup describes the packs it has stored in an index object. What was stored after the last
//! one lies in packs that nothing describes. Their directories say what they hold, so the next backup reads these
//! and describes them. That is always safe: an index object states facts about packs, and nothing follows from it
//! about whether anybody needs them.

use std::collections::HashSet;

use crate::event::Observer;
use crate::repo::{Lease, Repo, RepoError, View};
use crate::units::counted_text;

/// What a backup may rely on, after describing packs that an interrupted one left behind; and the packs that are
/// described but missing.
pub fn view(
    repo: &Repo,
    lease: Option<&Lease>,
    observer: &dyn Observer,
) -> Result<(View, Vec<crate::index::PackRow>), RepoError> {
    let none = HashSet::new();
    let (view, absent, listing) = repo.writer_view(lease.map_or(&none, Lease::excluded))?;
    let Some(lease) = lease else { return Ok((view, absent)) };
    let mut orphans = repo.undescribed_packs(view.index(), &listing)?;
    // A prune that is under way deletes descriptions before packs.
    orphans.retain(|(_, id)| !lease.excluded().contains(id));
    if orphans.is_empty() {
        return Ok((view, absent));
    }
    let packs = counted_text(orphans.len() as u64, "packs");
    observer.note(&format!("continuing with {packs} that an interrupted backup left"));
    drop(view);
    repo.describe_packs(lease.id(), &orphans)?;
    let (view, absent, _) = repo.writer_view(lease.excluded())?;
    Ok((view, absent))
}
