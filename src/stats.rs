//! Stats: how large things are, what is stored only once, and what nobody needs any more.
//!
//! Sizes of packs come from a listing, what is in them from the index, and who needs it from the reference counts,
//! which are kept from the first time on. Then a report costs what has changed since, and for each snapshot what that
//! one holds alone. Nothing in the repository is changed.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::compress::Codec;
use crate::event::Observer;
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::index::counts::UniqueBytes;
use crate::index::{FrameRow, IndexView, PackKind, PackRow};
use crate::repo::{PackListing, Repo, RepoError, SnapshotList};

/// What is stored, in numbers. Sizes are bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StatsReport {
    /// How many snapshots the report is about.
    pub snapshot_count: u64,
    /// Files of all these snapshots together.
    pub files: u64,
    /// Bytes of these files: what restoring each of the snapshots would write.
    pub bytes_restored: u64,
    /// Bytes of all stored chunks before compressing. This and what follows is about the whole repository.
    pub bytes_unique: u64,
    /// The same after compressing.
    pub bytes_compressed: u64,
    /// Bytes of the packs of chunks, with everything around the chunks and with parity.
    pub bytes_stored: u64,
    /// About so many stored bytes no snapshot needs, so that a prune could free them; `None` if there are no counts.
    pub bytes_unused: Option<u64>,
    /// Packs of chunks.
    pub packs: u64,
    /// Frames in them.
    pub frames: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Frames that are stored as a difference.
    pub bases: BaseStats,
    /// What keeps names and metadata.
    pub tree: TreeStats,
    /// Packs that no index object describes: a writer is storing them now, or left them when it died.
    pub undescribed: UndescribedStats,
    /// What only the snapshots of this report hold: forgetting all of them would free it.
    pub together: Option<Held>,
    /// Why nobody can tell what is unused, if that is so.
    pub counts_missing_because: Option<String>,
    /// Each snapshot, oldest first.
    pub snapshots: Vec<SnapshotStats>,
}

/// Frames that are compressed against bases.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct BaseStats {
    /// How many.
    pub frames: u64,
    /// Bytes of their chunks.
    pub bytes_unique: u64,
    /// What is stored of them.
    pub bytes_compressed: u64,
}

/// What keeps names and metadata.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct TreeStats {
    /// Bytes of all nodes before compressing.
    pub bytes_unique: u64,
    /// Bytes of their packs.
    pub bytes_stored: u64,
    /// Packs of nodes.
    pub packs: u64,
    /// Nodes of folders and of chunk lists.
    pub nodes: u64,
}

/// Packs that no index object describes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct UndescribedStats {
    /// How many.
    pub packs: u64,
    /// Their bytes; they are in the stored bytes, and not in the unused ones.
    pub bytes_stored: u64,
}

/// What nobody else needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Bytes before compressing.
    pub bytes: u64,
    /// About so many bytes in the storage.
    pub bytes_stored: u64,
    /// Chunks and nodes.
    pub count: u64,
}

/// A snapshot in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotStats {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub id: SnapshotId,
    /// When it was begun.
    #[serde(serialize_with = "as_rfc3339")]
    pub time: Timestamp,
    /// Whose it is.
    pub host: String,
    /// Files in it.
    pub files: u64,
    /// Bytes of these files.
    pub bytes_restored: u64,
    /// What only this one holds; `None` if there are no counts.
    pub only_here: Option<Held>,
}

fn as_text<S: Serializer>(id: &SnapshotId, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

fn as_rfc3339<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.rfc3339())
}

impl From<UniqueBytes> for Held {
    fn from(unique: UniqueBytes) -> Self {
        let UniqueBytes { plain_bytes: bytes, stored_bytes, count } = unique;
        Self { bytes, bytes_stored: stored_bytes, count }
    }
}

/// Adds up what snapshots, index, counts and storage say. `list` has all snapshots, and `chosen` those that the report
/// is about.
///
/// Counts that cannot be made, because something is damaged, are missing in the report. A damaged local index is an
/// error: delete it and ask again.
pub fn run(
    repo: &Arc<Repo>,
    list: &SnapshotList,
    chosen: &[&Snapshot],
    observer: &dyn Observer,
) -> Result<StatsReport, RepoError> {
    let mut report = StatsReport::default();
    for snapshot in chosen {
        report.snapshot_count += 1;
        report.files += snapshot.totals.files;
        report.bytes_restored = report.bytes_restored.saturating_add(snapshot.totals.bytes);
        report.snapshots.push(SnapshotStats {
            id: snapshot.id,
            time: snapshot.started_at,
            host: snapshot.host.clone(),
            files: snapshot.totals.files,
            bytes_restored: snapshot.totals.bytes,
            only_here: None,
        });
    }
    observer.phase("counting what snapshots need");
    let counted = match count(repo, list, &mut report, observer) {
        // What seems to be missing may be missing in the local index only.
        Err(error) if error.is_damage() => {
            repo.rebuild_index()?;
            count(repo, list, &mut report, observer)
        }
        outcome => outcome,
    };
    let listed = match counted {
        Ok(listing) => listing,
        Err(error) if error.is_damage() => {
            report.counts_missing_because = Some(error.to_string());
            None
        }
        Err(error) => return Err(error),
    };
    let (view, listing) = match listed {
        Some(listing) => (repo.counted_index()?.view()?, listing),
        None => (repo.sync_index()?, repo.list_packs()?),
    };
    packs(&view, &listing, &mut report)?;
    Ok(report)
}

/// What the reference counts say, and the listing of packs that they were brought up to date with. `None` if there are no
/// counts.
fn count(
    repo: &Arc<Repo>,
    list: &SnapshotList,
    report: &mut StatsReport,
    observer: &dyn Observer,
) -> Result<Option<PackListing>, RepoError> {
    if let Some((id, _)) = list.damaged.first() {
        let reason = format!("snapshot {} cannot be read, so nobody knows what it needs", id.short());
        report.counts_missing_because = Some(reason);
        return Ok(None);
    }
    let (counted, listing) = repo.count_snapshots(list, observer)?;
    if let Some(reason) = counted.rebuilt_because {
        observer.note(&format!("the local index was made again: {reason}"));
    }
    let index = repo.counted_index()?;
    let mut unused = 0;
    for usage in index.packs_with_dead_bytes()? {
        let listed = listing.packs.get(&(usage.row.kind, usage.row.id)).copied().unwrap_or(0);
        let dead = u128::from(usage.total_bytes.saturating_sub(usage.live_bytes));
        unused += (u128::from(listed) * dead / u128::from(usage.total_bytes.max(1))) as u64;
    }
    report.bytes_unused = Some(unused);
    let ids: Vec<_> = report.snapshots.iter().map(|snapshot| snapshot.id).collect();
    for snapshot in &mut report.snapshots {
        if observer.is_interrupted() {
            return Err(RepoError::Ended);
        }
        snapshot.only_here = Some(index.unique_bytes(&[snapshot.id])?.into());
    }
    report.together = Some(index.unique_bytes(&ids)?.into());
    Ok(Some(listing))
}

/// What index and listing say.
fn packs(view: &IndexView, listing: &PackListing, report: &mut StatsReport) -> Result<(), RepoError> {
    let mut described = Vec::new();
    view.visit_packs(&mut |number, row| described.push((number, row)))?;
    let mut undescribed = listing.packs.clone();
    for (number, row) in described {
        // A description whose pack is gone takes no space.
        if undescribed.remove(&(row.kind, row.id)).is_some() {
            add_pack(&row, &view.frames(number)?, report);
        }
    }
    report.undescribed =
        UndescribedStats { packs: undescribed.len() as u64, bytes_stored: undescribed.values().sum() };
    for ((kind, _), len) in &listing.packs {
        match kind {
            PackKind::Data => report.bytes_stored += len,
            PackKind::Meta => report.tree.bytes_stored += len,
        }
    }
    Ok(())
}

fn add_pack(row: &PackRow, frames: &[FrameRow], report: &mut StatsReport) {
    let plain: u64 = frames.iter().map(|frame| u64::from(frame.plain_len)).sum();
    match row.kind {
        PackKind::Data => {
            report.packs += 1;
            report.frames += frames.len() as u64;
            report.chunks += u64::from(row.chunk_count);
            report.bytes_unique += plain;
            report.bytes_compressed += frames.iter().map(|frame| u64::from(frame.stored_len)).sum::<u64>();
            for frame in frames.iter().filter(|frame| frame.codec == Codec::ZstdPrefix.number()) {
                report.bases.frames += 1;
                report.bases.bytes_unique += u64::from(frame.plain_len);
                report.bases.bytes_compressed += u64::from(frame.stored_len);
            }
        }
        PackKind::Meta => {
            report.tree.packs += 1;
            report.tree.nodes += u64::from(row.chunk_count);
            report.tree.bytes_unique += plain;
        }
    }
}
