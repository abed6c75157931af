//! Continuing what an interrupted backup began.
//!
//! Every few minutes a backup describes the packs it has stored in an index object. What was stored after the last
//! one lies in packs that nothing describes. Their directories say what they hold, so the next backup reads these
//! and describes them. That is always safe: an index object states facts about packs, and nothing follows from it
//! about whether anybody needs them.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;

use rayon::prelude::*;

use crate::event::Observer;
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::repo::{Lease, PackListing, Repo, RepoError, View};
use crate::units::counted_text;

/// Packs described by one index object; far below its limit on entries for packs of usual content.
const PACK_COUNT_BATCH: usize = 64;

/// What a backup may rely on, after describing packs that an interrupted one left behind; and the packs that are
/// described but missing.
pub fn view(
    repo: &Repo,
    lease: Option<&Lease>,
    observer: &dyn Observer,
) -> Result<(View, Vec<crate::index::PackRow>), RepoError> {
    let (view, absent, listing) = repo.writer_view()?;
    let Some(lease) = lease else { return Ok((view, absent)) };
    let orphans = orphans(&view, &listing)?;
    if orphans.is_empty() {
        return Ok((view, absent));
    }
    let packs = counted_text(orphans.len() as u64, "packs");
    observer.note(&format!("continuing with {packs} that an interrupted backup left"));
    drop(view);
    for batch in orphans.chunks(PACK_COUNT_BATCH) {
        // A pack that does not open was torn by a crash of the storage, or belongs to a newer program: prune's case.
        let read = batch.par_iter().filter_map(|(kind, id)| repo.read_pack_directory(*kind, *id).ok());
        let mut packs: Vec<IndexedPack> = read.collect();
        while !packs.is_empty() {
            let rest = packs.split_off(IndexObject::count_that_fits(&packs));
            repo.store_index_object(lease.id(), &IndexObject::new(packs), &AtomicU64::new(0))?;
            packs = rest;
        }
    }
    let (view, absent, _) = repo.writer_view()?;
    Ok((view, absent))
}

type PackName = (crate::index::PackKind, crate::id::PackId);

fn orphans(view: &View, listing: &PackListing) -> Result<Vec<PackName>, RepoError> {
    let mut described = HashSet::new();
    view.index().visit_packs(&mut |_, row| {
        described.insert((row.kind, row.id));
    })?;
    let mut orphans: Vec<_> =
        listing.packs.keys().filter(|pack| !described.contains(pack)).copied().collect();
    orphans.sort_unstable();
    Ok(orphans)
}
