//! What there is and what is needed, from listings made now (P2, P3, P7).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::event::Observer;
use crate::id::{IndexObjectId, SnapshotId};
use crate::index::Index;
use crate::index::counts::PackUsage;
use crate::prune::{PackName, PruneError};
use crate::repo::names::Named;
use crate::repo::{CountingInput, PackListing, Repo, RepoError, SnapshotList};
use crate::storage::StorageError;

/// What a look has found.
pub struct Look {
    /// All snapshots.
    pub list: SnapshotList,
    /// The index, with counts up to date. Nobody else may bring it up to date while this is held.
    pub index: Arc<Index>,
    /// All packs.
    pub listing: PackListing,
    /// Packs that nothing is planned for: a writer at work may just have stored them.
    pub untouchable: BTreeSet<PackName>,
    vanished: Vec<SnapshotId>,
    doomed: BTreeSet<PackName>,
}

/// Looks. What is `doomed` counts as not there.
///
/// Snapshots are listed first and forget records second, then the index objects, then the packs.
pub fn now(
    repo: &Arc<Repo>,
    doomed: &BTreeMap<PackName, u64>,
    observer: &dyn Observer,
) -> Result<Look, PruneError> {
    let list = repo.snapshots()?;
    if let Some((id, reason)) = list.damaged.first() {
        return Err(PruneError::SnapshotUnreadable { id: *id, reason: reason.clone() });
    }
    for warning in list.forgotten.warnings() {
        observer.note(&warning);
    }
    let view = repo.sync_index()?;
    must_be_read(repo)?;
    let listing = repo.list_packs()?;
    let mut absent = HashSet::new();
    view.visit_packs(&mut |_, row| {
        let name = (row.kind, row.id);
        if doomed.contains_key(&name) || !listing.shows(&row) {
            absent.insert(row.id);
        }
    })
    .map_err(RepoError::from)?;
    drop(view);
    let live: Vec<_> = list.snapshots.iter().map(|snapshot| (snapshot.id, snapshot.root)).collect();
    let forgotten: HashSet<_> = list.forgotten.snapshots().map(|(id, _)| id).collect();
    let input = CountingInput { live: &live, forgotten: &forgotten, absent: &absent };
    let counted = repo.synchronise_counts(input, observer).map_err(|error| match error {
        RepoError::Ended if observer.is_interrupted() => PruneError::Interrupted,
        error => error.into(),
    })?;
    if let Some(reason) = &counted.rebuilt_because {
        observer.note(&format!("the local index was made again: {reason}"));
    }
    // Counting has brought the index up to date again.
    must_be_read(repo)?;
    Ok(Look {
        list,
        index: repo.counted_index()?,
        listing,
        untouchable: BTreeSet::new(),
        vanished: counted.vanished,
        doomed: doomed.keys().copied().collect(),
    })
}

/// Stops where an index object could not be read: what it says of damage decides which of two copies may go, and an error
/// that passes must not delete anything.
fn must_be_read(repo: &Repo) -> Result<(), PruneError> {
    let unread = repo.take_unread_index_object();
    unread.map_or(Ok(()), |unread| Err(PruneError::IndexUnread { id: unread.id, source: unread.error }))
}

impl Look {
    /// Stops where something that is needed is not there: a prune must not make it worse.
    pub fn must_be_whole(&self) -> Result<(), PruneError> {
        if !self.vanished.is_empty() {
            return Err(PruneError::SnapshotsVanished { ids: self.vanished.clone() });
        }
        let lost = self.index.lost_content().map_err(RepoError::from)?;
        match (lost.keys.len() + lost.absent_packs.len()) as u64 {
            0 => Ok(()),
            count => Err(PruneError::ContentMissing { count }),
        }
    }

    /// Doomed packs that hold something that is needed and in no other pack.
    pub fn needed_after_all(&self) -> Result<BTreeSet<PackName>, PruneError> {
        let lost = self.index.lost_content().map_err(RepoError::from)?;
        let lost: HashSet<_> = lost.absent_packs.into_iter().collect();
        Ok(self.doomed.iter().filter(|(_, id)| lost.contains(id)).copied().collect())
    }

    /// Index objects that describe any of these packs.
    pub fn index_objects_of(
        &self,
        packs: &BTreeMap<PackName, u64>,
    ) -> Result<BTreeSet<IndexObjectId>, PruneError> {
        let described = self.described()?;
        let is_doomed = |pack: &PackName| packs.contains_key(pack);
        let doomed = described.into_iter().filter(|(_, described)| described.iter().any(is_doomed));
        Ok(doomed.map(|(id, _)| id).collect())
    }

    /// Index objects that describe a pack that is not there, or nothing that is known.
    ///
    /// A writer may describe a pack that it found undescribed while a prune is about to delete it.
    pub fn stale_index_objects(&self, repo: &Repo) -> Result<BTreeSet<IndexObjectId>, PruneError> {
        let mut stale = BTreeSet::new();
        for (id, packs) in self.described()? {
            let is_stale = match packs.is_empty() {
                false => packs.iter().any(|name| !self.listing.packs.contains_key(name)),
                // It could not be read, and others describe all that there is. One of a newer program stays.
                true => self.is_lost(repo, id)?,
            };
            if is_stale {
                stale.insert(id);
            }
        }
        Ok(stale)
    }

    /// Whether an index object is there, damaged, and beyond mending. What the storage cannot read is none of this.
    fn is_lost(&self, repo: &Repo, id: IndexObjectId) -> Result<bool, PruneError> {
        if let Err(error @ RepoError::Storage(StorageError::Failed { .. })) = repo.read_index_object(id) {
            return Err(error.into());
        }
        let object = Named::Index(id);
        Ok(!repo.has_its_name(object)? && repo.find_mends(object)?.is_empty())
    }

    /// What each index object describes, of the packs that are known.
    pub fn described(&self) -> Result<Vec<(IndexObjectId, Vec<PackName>)>, PruneError> {
        let view = self.index.view().map_err(RepoError::from)?;
        let mut names = BTreeMap::new();
        view.visit_packs(&mut |number, row| {
            names.insert(number, (row.kind, row.id));
        })
        .map_err(RepoError::from)?;
        let named = |number| names.get(&number).copied();
        let described = view.described_packs().map_err(RepoError::from)?.into_iter();
        Ok(described.map(|(id, numbers)| (id, numbers.into_iter().filter_map(named).collect())).collect())
    }

    /// Packs that are there with another length than they had: nobody counts on anything in them.
    pub fn packs_of_wrong_length(&self) -> Result<Vec<PackUsage>, PruneError> {
        let view = self.index.view().map_err(RepoError::from)?;
        let mut found = Vec::new();
        view.visit_packs(&mut |number, row| {
            let is_there = self.listing.packs.contains_key(&(row.kind, row.id));
            if is_there && !self.listing.shows(&row) {
                let (live_bytes, total_bytes, live_count, total_count) = (0, 0, 0, 0);
                found.push(PackUsage { number, row, live_bytes, total_bytes, live_count, total_count });
            }
        })
        .map_err(RepoError::from)?;
        Ok(found)
    }

    /// Those of these packs of whose damage anything is stated.
    pub fn stated_to_be_damaged(&self, packs: &BTreeSet<PackName>) -> Result<BTreeSet<PackName>, PruneError> {
        let view = self.index.view().map_err(RepoError::from)?;
        let mut damaged = BTreeSet::new();
        for name in packs {
            if view.stated_damage(&name.1).map_err(RepoError::from)?.is_some() {
                damaged.insert(*name);
            }
        }
        Ok(damaged)
    }

    /// How often the mark finds something reachable that counts as not needed.
    pub fn marked_contradictions(&self) -> Result<usize, PruneError> {
        let marked = self.index.mark().map_err(RepoError::from)?;
        let packs = self.index.packs_with_dead_bytes().map_err(RepoError::from)?.into_iter();
        let dead = packs.map(|usage| self.index.dead_entries(usage.number)).collect::<Result<Vec<_>, _>>();
        let dead = dead.map_err(RepoError::from)?;
        Ok(self.index.contradictions(&marked, &dead).map_err(RepoError::from)?.len())
    }

    /// The live snapshots.
    pub fn live_ids(&self) -> BTreeSet<SnapshotId> {
        self.list.snapshots.iter().map(|snapshot| snapshot.id).collect()
    }
}

/// A look in which packs that no index object describes are described, too.
///
/// They were left by a writer that died, or are being stored by one that lives. In the first case their directories
/// are read and described, so that the counts know what is in them; while any writer is registered nothing is planned
/// for them.
pub fn with_orphans(repo: &Arc<Repo>, mut look: Look, observer: &dyn Observer) -> Result<Look, PruneError> {
    let view = look.index.view().map_err(RepoError::from)?;
    let orphans = repo.undescribed_packs(&view, &look.listing)?;
    drop(view);
    if orphans.is_empty() {
        return Ok(look);
    }
    if repo.has_leases()? {
        look.untouchable = orphans.into_iter().collect();
        return Ok(look);
    }
    observer.note(&format!("reading what {} packs hold that no index object describes", orphans.len()));
    drop(look);
    repo.describe_packs(SnapshotId::new([0; 16]), &orphans)?;
    now(repo, &BTreeMap::new(), observer)
}
