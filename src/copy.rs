//! Copies snapshots into another repository: the second place that every backup needs.
//!
//! A copy is a writer of the target like a backup (`docs/design.md`, "Writing"): it registers, looks, claims, stores, and
//! commits a snapshot last. So it is safe beside all that goes on there, and one that is interrupted is continued by the
//! next. In the source it is a reader, and blocks nobody.
//!
//! - `alike`: into a repository that shares identities (`repo init --like`) frames travel as they are
//! - `anew`: into any other, all is cut and named anew by what the target goes by
//! - `below`: everything that a snapshot refers to
//! - `pairs`: the chunks of a snapshot and of its copy, side by side
//! - `compare`: proves that a snapshot and its copy hold the same
//!
//! Everything is opened and compared with its id on the way: damage is not copied. A snapshot with something that cannot
//! be read is reported and left out, and the others go on.

mod alike;
mod anew;
mod below;
pub mod compare;
mod pairs;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::event::{Observer, with_causes};
use crate::format::snapshot::{CopyOf, Snapshot, Totals};
use crate::id::{NodeId, PackId, SnapshotId};
use crate::repo::{
    ChunkWriter, Lease, Repo, RepoError, SnapshotList, TreeReader, WriteTotals, WriterOptions,
    retry_when_fenced,
};

/// How snapshots are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Says what would be copied, and stores nothing.
    pub dry_run: bool,
}

/// What was copied.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CopyReport {
    /// Snapshots that were copied, or would be, oldest first.
    pub snapshots: Vec<Copied>,
    /// How many the target had already.
    pub already_there: u64,
    /// Snapshots that could not be copied, because something they need cannot be read.
    pub failed: Vec<NotCopied>,
    /// Plain bytes that were new in the target.
    pub bytes_new: u64,
    /// Bytes that the target received.
    pub bytes_stored: u64,
    /// How long it took.
    pub duration_seconds: f64,
}

/// A snapshot that was copied.
#[derive(Debug, Clone, Serialize)]
pub struct Copied {
    /// The snapshot in the target; none where nothing was stored.
    pub id: Option<String>,
    /// The snapshot in the source.
    pub copy_of_id: String,
    /// See [`CopyReport::bytes_new`].
    pub bytes_new: u64,
    /// See [`CopyReport::bytes_stored`].
    pub bytes_stored: u64,
}

/// A snapshot that was not copied.
#[derive(Debug, Clone, Serialize)]
pub struct NotCopied {
    /// The snapshot in the source.
    pub id: String,
    /// Why, in one sentence.
    pub reason: String,
}

/// Why nothing more was copied. Snapshots that were copied before stay.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Source and target are one.
    #[error("source and target are the same repository")]
    Same,
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The source cannot be read here. Other snapshots may do without it.
    #[error("the source cannot be read")]
    Source(#[source] RepoError),
    /// Something that is needed of a pack of the source does not open. Other snapshots may do without it.
    #[error("pack {pack} of the source is damaged")]
    Damaged {
        /// Which.
        pack: PackId,
    },
    /// The target failed, or all of the source.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// From where, and to where.
#[derive(Clone, Copy)]
struct Sides<'a> {
    source: &'a Arc<Repo>,
    target: &'a Arc<Repo>,
    options: CopyOptions,
    observer: &'a dyn Observer,
}

/// Copies those of the `chosen` snapshots that the target does not have, oldest first.
pub fn run(
    source: &Arc<Repo>,
    target: &Arc<Repo>,
    chosen: &[Snapshot],
    options: CopyOptions,
    observer: &dyn Observer,
) -> Result<CopyReport, CopyError> {
    let begun = Instant::now();
    if source.id() == target.id() {
        return Err(CopyError::Same);
    }
    let missing = missing(chosen, &target.snapshots()?);
    let mut report =
        CopyReport { already_there: (chosen.len() - missing.len()) as u64, ..CopyReport::default() };
    let sides = Sides { source, target, options, observer };
    for snapshot in missing {
        let is_fenced = |error: &CopyError| matches!(error, CopyError::Repo(RepoError::Fenced));
        let mut outcome = retry_when_fenced(is_fenced, || sides.copy(snapshot));
        if let Err(CopyError::Source(_) | CopyError::Damaged { .. }) = outcome {
            // A prune of the source may have put elsewhere what was read. Then a second look finds it.
            outcome = retry_when_fenced(is_fenced, || sides.copy(snapshot));
        }
        match outcome {
            Ok(copied) => {
                report.bytes_new += copied.bytes_new;
                report.bytes_stored += copied.bytes_stored;
                report.snapshots.push(copied);
            }
            Err(error @ (CopyError::Source(_) | CopyError::Damaged { .. })) => {
                let not_copied = NotCopied { id: snapshot.id.to_string(), reason: with_causes(&error) };
                report.failed.push(not_copied);
            }
            Err(error) => return Err(error),
        }
    }
    report.duration_seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// The snapshots of which the target holds neither a copy nor what they are copies of. Of each series in its order, so
/// that it is the order in the target, too.
fn missing<'s>(chosen: &'s [Snapshot], there: &SnapshotList) -> Vec<&'s Snapshot> {
    let there: BTreeSet<_> = there.snapshots.iter().map(Snapshot::original).collect();
    let mut missing: Vec<_> = chosen.iter().filter(|it| !there.contains(&it.original())).collect();
    missing.sort_by_key(|snapshot| (snapshot.started_at, snapshot.series, snapshot.place()));
    missing
}

/// The copy of this snapshot, or what it is a copy of itself, in the other repository.
pub fn counterpart<'s>(snapshot: &Snapshot, there: &'s SnapshotList) -> Option<&'s Snapshot> {
    there.snapshots.iter().find(|it| it.original() == snapshot.original())
}

impl Sides<'_> {
    fn copy(&self, snapshot: &Snapshot) -> Result<Copied, CopyError> {
        if self.options.dry_run {
            return self.under(None, snapshot);
        }
        let lease = Lease::register(self.target, "copy")?;
        let copied = match self.under(Some(&lease), snapshot) {
            Err(CopyError::Repo(error)) if error.is_damage() && lease.has_tombstone() => {
                return Err(RepoError::Fenced.into());
            }
            // Whatever error was met first on the way out, this is why.
            Err(_) if lease.is_fenced() => return Err(RepoError::Fenced.into()),
            outcome => outcome?,
        };
        lease.end_well(self.observer);
        Ok(copied)
    }

    /// One attempt under one lease.
    fn under(&self, lease: Option<&Lease>, snapshot: &Snapshot) -> Result<Copied, CopyError> {
        self.observer.phase("reading what is stored");
        let (view, absent) = self.target.resumed_view(lease, self.observer)?;
        for pack in absent {
            self.observer.note(&format!("pack {} of the target is missing or short", pack.id));
        }
        let list = self.target.snapshots()?;
        let id = lease.map_or(SnapshotId::new([0; 16]), Lease::id);
        let writer_options = WriterOptions { discard: self.options.dry_run, ..WriterOptions::default() };
        let writer = ChunkWriter::start(self.target, id, Arc::new(view), writer_options);
        if let Some(lease) = lease {
            lease.watch(&writer);
        }
        let root = match self.transfer(&writer, snapshot, &list) {
            Ok(root) => root,
            Err(error) => return Err(abandoned(writer, error)),
        };
        self.observer.phase("finishing");
        let written = writer.finish()?;
        let mut copied = Copied {
            id: None,
            copy_of_id: snapshot.id.to_string(),
            bytes_new: written.bytes_new,
            bytes_stored: written.bytes_stored,
        };
        if let Some(lease) = lease {
            let copy = copy_of(snapshot, root, written, &list, lease)?;
            lease.commit(&copy, self.observer)?;
            copied.id = Some(copy.id.to_string());
        }
        Ok(copied)
    }

    /// Stores everything that a snapshot needs, and says what its folder `/` is in the target.
    fn transfer(
        &self,
        writer: &ChunkWriter,
        snapshot: &Snapshot,
        list: &SnapshotList,
    ) -> Result<NodeId, CopyError> {
        let reader = TreeReader::new(Arc::new(self.source.chunk_reader().map_err(CopyError::Source)?));
        if self.source.shares_identities_with(self.target) {
            alike::transfer(&reader, writer, snapshot.root, *self)?;
            return Ok(snapshot.root);
        }
        anew::transfer(&reader, writer, snapshot, list, *self)
    }

    fn check_interrupted(&self) -> Result<(), CopyError> {
        if self.observer.is_interrupted() { Err(CopyError::Interrupted) } else { Ok(()) }
    }

    /// Makes it an interruption that the observer asked to stop.
    fn unless_stopped(&self, error: RepoError) -> CopyError {
        match error {
            RepoError::Ended if self.observer.is_interrupted() => CopyError::Interrupted,
            error => error.into(),
        }
    }
}

/// Ends a run that failed. Stopped on purpose, it describes what it stored, so that the next one continues.
fn abandoned(writer: ChunkWriter, error: CopyError) -> CopyError {
    match (writer.failure(), error) {
        (Some(failure), _) => failure.into(),
        (None, CopyError::Interrupted) => match writer.finish() {
            Ok(_) => CopyError::Interrupted,
            Err(failure) => failure.into(),
        },
        (None, error) => error,
    }
}

/// The snapshot in the target. It says of itself what the other one says, times and tags included.
fn copy_of(
    snapshot: &Snapshot,
    root: NodeId,
    written: WriteTotals,
    list: &SnapshotList,
    lease: &Lease,
) -> Result<Snapshot, RepoError> {
    let (sequence, previous) = list.next_of(snapshot.series);
    let totals =
        Totals { bytes_new: written.bytes_new, bytes_stored: written.bytes_stored, ..snapshot.totals };
    let mut copy = Snapshot {
        id: lease.id(),
        sequence,
        previous,
        root,
        totals,
        seen: lease.seen().map(|plan| plan.number),
        verified: true,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        ..snapshot.clone()
    };
    copy.forget_places();
    copy.set_copy_of(CopyOf { snapshot: snapshot.original() }).map_err(RepoError::Unstorable)?;
    Ok(copy)
}
