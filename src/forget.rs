//! Forget: drops snapshots, and brings them back as long as no prune has taken them.
//!
//! A forget is one record, and the record is its commit point: before it nothing has changed, after it its snapshots
//! are dead for ever. It deletes nothing; the next prune does.
//!
//! [`undo`] cannot revive a snapshot. It writes a new one with the same root, and for that it is a writer like a backup:
//! a prune may be about to delete what only the dead snapshot needs. So it registers a lease first, looks at what is
//! there afterwards, and claims every node and chunk below the root before it commits. If anything is gone, there is no
//! new snapshot.

mod confirm;

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use crate::event::Observer;
use crate::format::forget::{ForgetRecord, ForgottenSnapshot};
use crate::format::snapshot::{InPlaceOf, Snapshot};
use crate::id::{ContentId, SnapshotId};
use crate::limits;
use crate::repo::{Lease, Repo, RepoError, SnapshotList, retry_when_fenced};
use crate::storage::StorageError;

/// What a forget record says beside the snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetOptions {
    /// Why, in the words of whoever does it.
    pub reason: String,
    /// What chose the snapshots, in words; empty where they were named.
    pub policy: String,
}

/// What a forget did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ForgetReport {
    /// The snapshots that are dead now.
    pub snapshot_ids: Vec<String>,
    /// The records that say so; none if there was nothing to forget.
    pub record_ids: Vec<String>,
}

/// A snapshot that is there again, under a new id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BroughtBack {
    /// The new snapshot.
    pub id: String,
    /// The forgotten one.
    pub in_place_of_id: String,
    /// Whether it was there already: brought back before.
    pub was_back: bool,
}

/// What an undo did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UndoReport {
    /// The snapshots that are there again.
    pub snapshots: Vec<BroughtBack>,
}

/// Why nothing was forgotten, or not brought back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A prune has removed the forgotten snapshot.
    #[error("snapshot {} is gone: a prune has removed it", .id.short())]
    Gone {
        /// Which.
        id: SnapshotId,
    },
    /// A prune has removed, or damage has taken, something that the forgotten snapshot needs.
    #[error("snapshot {} cannot come back: {content}, which it needs, is in no pack any more", .id.short())]
    Incomplete {
        /// Which snapshot.
        id: SnapshotId,
        /// What is missing.
        content: ContentId,
    },
    /// Somebody asked to stop.
    #[error("the command was interrupted")]
    Interrupted,
}

/// Forgets those of `list` that `ids` names, damaged ones among them. Ids that are not live in `list` are passed over.
///
/// More snapshots than a record holds make several records, of which each takes effect alone.
pub fn run(
    repo: &Repo,
    list: &SnapshotList,
    ids: &[SnapshotId],
    options: &ForgetOptions,
    observer: &dyn Observer,
) -> Result<ForgetReport, ForgetError> {
    let ids: HashSet<_> = ids.iter().collect();
    let chosen = list.snapshots.iter().filter(|snapshot| ids.contains(&snapshot.id));
    let mut chosen: Vec<_> = chosen
        .map(|snapshot| ForgottenSnapshot {
            id: snapshot.id,
            series: snapshot.series,
            sequence: snapshot.sequence,
        })
        .collect();
    // One that cannot be read can be forgotten all the same: otherwise no prune could ever go on.
    for (id, _) in list.damaged.iter().filter(|(id, _)| ids.contains(id)) {
        let (series, sequence) = repo.place_of_damaged(list, *id)?;
        chosen.push(ForgottenSnapshot { id: *id, series, sequence });
    }
    chosen.sort_unstable_by_key(|snapshot| snapshot.id);
    let mut report = ForgetReport::default();
    let mut records = Vec::new();
    for snapshots in chosen.chunks(limits::FORGET_COUNT_MAX) {
        let record = || ForgetRecord {
            version: 1,
            forgotten_at: repo.clock().now(),
            host: repo.identity().host.clone(),
            reason: options.reason.clone(),
            policy: options.policy.clone(),
            snapshots: snapshots.to_vec(),
            extensions: Vec::new(),
            tag: [0; 32],
        };
        let id = repo.with_reserve(|| repo.commit_forget(record()))?;
        records.push(id);
        report.record_ids.push(id.to_string());
        report.snapshot_ids.extend(snapshots.iter().map(|snapshot| snapshot.id.to_string()));
    }
    if let Err(error) = repo.after_forget(&list.forgotten, &records) {
        observer.note(&format!("the snapshots are forgotten, but the record has no second copy: {error}"));
    }
    Ok(report)
}

/// Brings forgotten snapshots back, each as a new snapshot with the same content. Ends at the first that cannot come.
pub fn undo(
    repo: &Arc<Repo>,
    ids: &[SnapshotId],
    observer: &dyn Observer,
) -> Result<UndoReport, ForgetError> {
    let mut report = UndoReport::default();
    for id in ids {
        let is_fenced = |error: &ForgetError| matches!(error, ForgetError::Repo(RepoError::Fenced));
        report.snapshots.push(retry_when_fenced(is_fenced, || bring_back(repo, *id, observer))?);
    }
    Ok(report)
}

/// One attempt under one lease: register, look, claim, commit.
fn bring_back(repo: &Arc<Repo>, id: SnapshotId, observer: &dyn Observer) -> Result<BroughtBack, ForgetError> {
    let lease = Lease::register(repo, "undo-forget")?;
    let back = match bring_back_under(repo, id, observer, &lease) {
        Err(ForgetError::Repo(error)) if error.is_damage() && lease.has_tombstone() => {
            return Err(RepoError::Fenced.into());
        }
        // A prune may take it, and what it needs, at any moment.
        Err(ForgetError::Repo(error)) if error.is_damage() && is_gone(repo, id) => {
            return Err(ForgetError::Gone { id });
        }
        outcome => outcome?,
    };
    lease.end_well(observer);
    Ok(back)
}

fn is_gone(repo: &Repo, id: SnapshotId) -> bool {
    matches!(repo.read_snapshot(id), Ok(None) | Err(RepoError::Storage(StorageError::Missing { .. })))
}

fn bring_back_under(
    repo: &Arc<Repo>,
    id: SnapshotId,
    observer: &dyn Observer,
    lease: &Lease,
) -> Result<BroughtBack, ForgetError> {
    observer.phase("reading what is stored");
    let (view, _, _) = repo.writer_view(lease.excluded())?;
    let list = repo.snapshots()?;
    let is_it = |snapshot: &&Snapshot| {
        snapshot.id == id || snapshot.in_place_of().is_some_and(|forgotten| forgotten.snapshot == id)
    };
    if let Some(back) = list.snapshots.iter().find(is_it) {
        return Ok(BroughtBack { id: back.id.to_string(), in_place_of_id: id.to_string(), was_back: true });
    }
    let forgotten = match repo.read_snapshot(id) {
        Ok(Some(snapshot)) => snapshot,
        Ok(None) | Err(RepoError::Storage(StorageError::Missing { .. })) => {
            return Err(ForgetError::Gone { id });
        }
        Err(error) => return Err(error.into()),
    };
    observer.phase("looking for all that it needs");
    confirm::claim_all(repo, Arc::new(view), &forgotten, observer)?;
    let snapshot = copy_of(&forgotten, &list, lease)?;
    lease.commit(&snapshot, observer)?;
    Ok(BroughtBack { id: snapshot.id.to_string(), in_place_of_id: id.to_string(), was_back: false })
}

/// The snapshot that takes the place of a forgotten one. It says of itself what that one said, times included.
fn copy_of(forgotten: &Snapshot, list: &SnapshotList, lease: &Lease) -> Result<Snapshot, RepoError> {
    let (sequence, previous) = list.next_of(forgotten.series);
    // One that was brought back before keeps the place of the first.
    let place = forgotten.place();
    let mut snapshot = Snapshot {
        id: lease.id(),
        sequence,
        previous,
        seen: lease.seen().map(|plan| plan.number),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        ..forgotten.clone()
    };
    let in_place_of = InPlaceOf { snapshot: forgotten.id, sequence: place };
    snapshot.set_in_place_of(in_place_of).map_err(RepoError::Unstorable)?;
    Ok(snapshot)
}
