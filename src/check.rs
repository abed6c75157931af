//! Check: is everything there that the snapshots need, and is it what was stored?
//!
//! | Level | Proves |
//! | --- | --- |
//! | always | names parse; settings, slots, keyrings, snapshots and leases open, and their copies agree; series of snapshots are complete; index objects are what their names say and describe packs that are there; every node opens, has its id and is encoded in the only way; every chunk has a place in a pack that is there; reference counts, where they are kept, are those of the nodes |
//! | `directories` | the directory in each pack says what the index says |
//! | `data` | every byte of the chosen packs: name, parity, every frame opens and expands, every chunk and node has its id |
//!
//! # Beside writers and prune
//!
//! A check takes no lease and may run while others write. Snapshots are listed first, then the index is brought up to
//! date, then packs are listed: whatever a snapshot names was durable before it, so a writer causes no finding. A
//! prune may take something away in between; so when anything is found, everything but the data is looked at a second
//! time, with fresh listings and a freshly built index, and only what is found both times is reported. A pack whose
//! data is damaged is read again, too.
//!
//! # Memory
//!
//! Neither packs nor chunks are collected: each is looked up in the local index. What grows is a word for each node,
//! the names of packs, and the findings, which are counted but not kept beyond a limit.

mod affected;
mod clear;
mod control;
mod counts;
mod data;
pub mod doctor;
mod findings;
mod packs;
pub mod repair;
pub mod scrub;
mod side_by_side;
mod snapshots;
mod standing;
mod trees;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use clear::newest_settings;
pub use findings::{Finding, FindingCode, Severity};

use crate::event::{Observer, with_causes};
use crate::format::snapshot::Snapshot;
use crate::index::IndexError;
use crate::index::counts::ReferenceSum;
use crate::repo::{ChunkReader, Repo, RepoError};
use findings::Findings;
use standing::Standing;

/// What to look at beside the structure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CheckOptions {
    /// Whether the directory of every pack is read and compared with the index.
    pub directories: bool,
    /// Which packs are read whole.
    pub data: Option<DataPart>,
}

/// Which packs are read whole. Those come first that were not read for longest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DataPart {
    /// All.
    All,
    /// So many percent of the stored bytes.
    Percent(f64),
    /// A tenth of the stored bytes.
    Oldest,
    /// Those that were not read for so long.
    Age(Duration),
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// What is wrong, and what is worth knowing.
    pub findings: Vec<Finding>,
    /// Findings beyond the limit of what is listed.
    pub findings_omitted: u64,
    /// Packs that were compared with the listing.
    pub packs_checked: u64,
    /// References to chunks that were followed to a pack.
    pub chunks_checked: u64,
    /// Nodes that were read.
    pub nodes_checked: u64,
    /// Whether the reference counts of the local index were compared with the nodes. They are kept where somebody prunes,
    /// and cannot be compared while something is damaged.
    pub counts_checked: bool,
    /// Snapshots that were followed.
    pub snapshots_checked: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Chunks and nodes in them that were opened and have their ids.
    pub chunks_read: u64,
    /// Bytes of packs that were read whole.
    pub bytes_read: u64,
    /// Time it took.
    pub duration_seconds: f64,
}

impl CheckReport {
    /// Whether anything is damaged. Notes are not damage.
    pub fn has_damage(&self) -> bool {
        self.findings_omitted > 0 || self.findings.iter().any(Finding::is_damage)
    }
}

/// Why it could not be looked. What was found wrong is no error: see [`CheckReport`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The repository could not be read at all.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Somebody asked to stop.
    #[error("the check was interrupted; nothing is known of what it did not reach")]
    Interrupted,
}

/// One look at everything but the data.
struct Look<'a> {
    repo: &'a Arc<Repo>,
    observer: &'a dyn Observer,
    findings: Findings,
    report: CheckReport,
    snapshots: Vec<Snapshot>,
    standing: Standing,
    reader: Arc<ChunkReader>,
    listed: packs::Listing,
    /// What the nodes refer to, as long as it can be compared with the counts.
    references: Option<ReferenceSum>,
}

/// Checks the repository. What is damaged is in the report; nothing is changed.
pub fn run(
    repo: &Arc<Repo>,
    options: &CheckOptions,
    observer: &dyn Observer,
) -> Result<CheckReport, CheckError> {
    let begun = Instant::now();
    let first = look_with_good_index(repo, options, observer)?;
    let mut look = if first.findings.has_damage() {
        let seen = first.findings.keys();
        drop(first);
        observer.phase("looking again at what was found");
        repo.rebuild_index()?;
        let mut second = look_with_good_index(repo, options, observer)?;
        second.findings.confirm(&seen);
        second
    } else {
        first
    };
    if let Some(part) = options.data {
        data::check(&mut look, part)?;
    }
    affected::find(&mut look)?;
    look.findings.excuse_unneeded();
    let Look { findings, mut report, .. } = look;
    (report.findings, report.findings_omitted) = findings.finish();
    report.duration_seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// A local index that is damaged, or whose counts are wrong, is no damage: it is built again.
fn look_with_good_index<'a>(
    repo: &'a Arc<Repo>,
    options: &CheckOptions,
    observer: &'a dyn Observer,
) -> Result<Look<'a>, CheckError> {
    match look(repo, options, observer) {
        Err(CheckError::Repo(RepoError::Index(error @ (IndexError::Damaged { .. } | IndexError::Stale)))) => {
            repo.rebuild_index()?;
            let mut look = look(repo, options, observer)?;
            counts::note_rebuilt(&mut look.findings, &with_causes(&error));
            Ok(look)
        }
        outcome => outcome,
    }
}

fn look<'a>(
    repo: &'a Arc<Repo>,
    options: &CheckOptions,
    observer: &'a dyn Observer,
) -> Result<Look<'a>, CheckError> {
    let mut findings = Findings::default();
    observer.phase("checking snapshots");
    let list = snapshots::check(repo, &mut findings)?;
    let references = counts::begin(repo, &list, &mut findings, observer)?;
    observer.phase("checking the index");
    let view = Arc::new(repo.reader_view()?);
    let listed = packs::list(repo, &mut findings)?;
    control::check(repo, &listed, &list.forgotten, &mut findings, observer)?;
    let reader = Arc::new(ChunkReader::new(Arc::clone(repo), Arc::clone(&view)));
    let report = CheckReport { snapshots_checked: list.snapshots.len() as u64, ..CheckReport::default() };
    let standing = Standing::new(view);
    let snapshots = list.snapshots;
    let mut look = Look { repo, observer, findings, report, snapshots, standing, reader, listed, references };
    packs::check_index_objects(&mut look)?;
    packs::check_lengths(&mut look)?;
    observer.phase("checking trees");
    trees::check(&mut look)?;
    counts::compare(&mut look)?;
    if options.directories {
        observer.phase("checking the directories of packs");
        packs::check_directories(&mut look)?;
    }
    Ok(look)
}

impl Look<'_> {
    fn stop_if_interrupted(&self) -> Result<(), CheckError> {
        stop_if_interrupted(self.observer)
    }
}

fn stop_if_interrupted(observer: &dyn Observer) -> Result<(), CheckError> {
    if observer.is_interrupted() { Err(CheckError::Interrupted) } else { Ok(()) }
}
