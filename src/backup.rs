//! Backup: a source becomes a snapshot.
//!
//! ```text
//! scan      one thread   walks in the order of names, compares with the parent snapshot, cuts large files
//! workers   some threads read small files; hash, claim, compress; check that what is taken over is stored
//! assemble  one thread   puts results in order, makes folders of them, leaves first
//! ```
//!
//! The scanner sends [`step`]s to the assembler in the order of the tree, and work to the workers; a step whose
//! content is still being worked on names where the outcome will arrive. So folders come out in order although files are
//! finished in any. Every queue is bounded.
//!
//! What the source refuses becomes a [`Problem`] in the report, and the rest is stored. What the storage refuses
//! ends the backup, and nothing of it is visible; chunks that were stored are found by the next one.

mod alike;
mod assemble;
mod parent;
mod scan;
mod step;
mod stream;
mod top;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::clock::{Timestamp, Zone};
use crate::compress::Compression;
use crate::event::{Observer, Problem};
use crate::format::snapshot::{OwnerName, Snapshot, SnapshotProblem, Totals, UtcOffset};
use crate::id::SnapshotId;
use crate::limits;
use crate::repo::{
    ChunkReader, ChunkWriter, Lease, Repo, RepoError, SnapshotFilter, SnapshotList, TreeReader, WriteTotals,
    WriterOptions, retry_when_fenced, series_of,
};
use crate::source::{Excludes, Owners, SourceError};
use crate::wire::Bytes;

pub use stream::{StreamSource, run_stream};

/// How deep frames lie at most that hold only the difference from an earlier version: see decision 0024.
pub const BASE_DEPTH_MAX_USUAL: u8 = 3;

/// What to back up, and how.
pub struct BackupOptions {
    /// Paths to back up.
    pub sources: Vec<PathBuf>,
    /// What is left out.
    pub excludes: Excludes,
    /// Whether folders on other devices are kept as empty folders.
    pub one_file_system: bool,
    /// Device and inode of folders that are never backed up: the repository itself and its cache.
    pub skipped_folders: Vec<(u64, u64)>,
    /// Which earlier snapshot tells what is unchanged.
    pub parent: ParentChoice,
    /// Does everything but storing.
    pub dry_run: bool,
    /// Makes no snapshot if nothing differs from the parent.
    pub skip_if_unchanged: bool,
    /// What the snapshot says of itself.
    pub labels: Labels,
    /// How frames are compressed.
    pub compression: Compression,
    /// Whether packs are opened and verified before they are stored.
    pub verify: bool,
    /// How deep frames may lie that hold only the difference from an earlier version; 0 stores no differences.
    pub base_depth_max: u8,
    /// Threads that work; 0 chooses by the number of processors.
    pub threads: usize,
}

impl Default for BackupOptions {
    /// No sources yet; everything in them, compared with the newest snapshot, verified.
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            excludes: Excludes::default(),
            one_file_system: false,
            skipped_folders: Vec::new(),
            parent: ParentChoice::Newest,
            dry_run: false,
            skip_if_unchanged: false,
            labels: Labels::default(),
            compression: Compression::default(),
            verify: true,
            base_depth_max: BASE_DEPTH_MAX_USUAL,
            threads: 0,
        }
    }
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// Name of the computer, if not that of this one.
    pub host: Option<String>,
    /// Labels for people and policies.
    pub tags: Vec<String>,
    /// The time of the backup, if not now.
    pub time: Option<Timestamp>,
}

/// Which earlier snapshot tells what is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParentChoice {
    /// The newest of the same host and paths.
    Newest,
    /// The one that this names.
    Named(String),
    /// None: every file is read again.
    None,
}

/// What a backup did.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// The new snapshot, unless none was made.
    pub snapshot_id: Option<String>,
    /// The snapshot that told what is unchanged.
    pub parent_id: Option<String>,
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files that are as the parent has them.
    pub files_unchanged: u64,
    /// Folders.
    pub directories: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Plain bytes of chunks that the repository did not have.
    pub bytes_new: u64,
    /// Bytes that the storage received.
    pub bytes_stored: u64,
    /// Time it took.
    pub duration_seconds: f64,
    /// What could not be stored as it should.
    #[serde(serialize_with = "crate::event::serialize_problems")]
    pub problems: Vec<Problem>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// Nothing was named.
    #[error("there is nothing to back up: no path was given")]
    NoSource,
    /// None of the paths could be read.
    #[error("nothing could be read, so there is no snapshot")]
    NothingReadable(#[source] SourceError),
    /// The stream to be stored broke.
    #[error("{name} could not be read to its end, so there is no snapshot")]
    Stream {
        /// What the stream was to be called.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program whose output was to be stored failed.
    #[error("{program} ended with {status}, so there is no snapshot")]
    Command {
        /// Which program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The name of a stream cannot be that of a file.
    #[error("{0:?} cannot be the name of a file")]
    BadName(String),
    /// Somebody asked to stop.
    #[error("the backup was interrupted; what was stored so far will be found by the next one")]
    Interrupted,
}

/// Everything that a run has in hand.
struct Run<'a> {
    repo: &'a Arc<Repo>,
    options: &'a BackupOptions,
    observer: &'a dyn Observer,
    parent: Option<Snapshot>,
    /// Where there is no parent: a snapshot of something that the sources may resemble.
    alike: Option<Snapshot>,
    tree_reader: Arc<TreeReader>,
    writer: ChunkWriter,
}

/// What the source turned into, before it is committed.
struct Outcome {
    root: crate::id::NodeId,
    counts: step::Counts,
    problems: Vec<Problem>,
    owners: Vec<OwnerName>,
    paths: Vec<Bytes>,
    /// Whether something taken over from the parent turned out not to be stored.
    lacks_content: bool,
}

/// Backs up the sources. Commits nothing after an error.
pub fn run(
    repo: &Arc<Repo>,
    options: &BackupOptions,
    observer: &dyn Observer,
) -> Result<BackupReport, BackupError> {
    if options.sources.is_empty() {
        return Err(BackupError::NoSource);
    }
    retry_when_fenced(is_fenced, || {
        attempt(repo, options, observer, &options.sources, |run| {
            let outcome = scan::run(run, options.parent != ParentChoice::None)?;
            if !outcome.lacks_content {
                return Ok(outcome);
            }
            observer.note(
                "something that earlier snapshots hold is missing in the storage; reading all files again",
            );
            scan::run(run, false)
        })
    })
}

fn is_fenced(error: &BackupError) -> bool {
    matches!(error, BackupError::Repo(RepoError::Fenced))
}

/// One attempt under one lease: register, look, store, commit. The parent is one that holds all of `sources`.
fn attempt(
    repo: &Arc<Repo>,
    options: &BackupOptions,
    observer: &dyn Observer,
    sources: &[PathBuf],
    store: impl FnMut(&mut Run<'_>) -> Result<Outcome, BackupError>,
) -> Result<BackupReport, BackupError> {
    let begun = Instant::now();
    let lease = if options.dry_run { None } else { Some(Lease::register(repo, "backup")?) };
    let mut report = match attempt_under(repo, options, observer, lease.as_ref(), sources, store) {
        Err(BackupError::Repo(error))
            if error.is_damage() && lease.as_ref().is_some_and(Lease::has_tombstone) =>
        {
            return Err(RepoError::Fenced.into());
        }
        outcome => outcome?,
    };
    if let Some(Err(error)) = lease.map(Lease::end) {
        observer.note(&format!("the lease could not be removed; the next prune does it: {error}"));
    }
    report.duration_seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

fn attempt_under(
    repo: &Arc<Repo>,
    options: &BackupOptions,
    observer: &dyn Observer,
    lease: Option<&Lease>,
    sources: &[PathBuf],
    mut store: impl FnMut(&mut Run<'_>) -> Result<Outcome, BackupError>,
) -> Result<BackupReport, BackupError> {
    let started_at = options.labels.time.unwrap_or_else(|| repo.clock().now());
    observer.phase("reading what is stored");
    let (view, absent) = repo.resumed_view(lease, observer)?;
    for pack in &absent {
        observer.note(&format!(
            "pack {} is missing or short; what it held is stored again where it is met",
            pack.id
        ));
    }
    let view = Arc::new(view);
    let snapshots = repo.snapshots()?;
    let parent = parent::choose(&snapshots, repo, options, sources)?;
    let alike = match parent {
        Some(_) => None,
        None => parent::choose_alike(&snapshots, repo, options, sources),
    };
    let lease_id = lease.map_or(SnapshotId::new([0; 16]), Lease::id);
    let chunk_reader = Arc::new(ChunkReader::new(Arc::clone(repo), Arc::clone(&view)));
    let writer_options = WriterOptions {
        compression: options.compression,
        verify: options.verify,
        discard: options.dry_run,
        base_depth_max: options.base_depth_max,
    };
    let mut run = Run {
        repo,
        options,
        observer,
        parent,
        alike,
        tree_reader: Arc::new(TreeReader::new(chunk_reader)),
        writer: ChunkWriter::start(repo, lease_id, view, writer_options),
    };
    if let Some(lease) = lease {
        lease.watch(&run.writer);
    }
    let stored = store(&mut run);
    let Run { writer, parent, .. } = run;
    let outcome = match stored {
        Ok(outcome) => outcome,
        // Whatever error was met first on the way out, this is why.
        Err(_) if lease.is_some_and(Lease::is_fenced) => return Err(RepoError::Fenced.into()),
        Err(error) => return Err(abandon(writer, error)),
    };
    observer.phase("finishing");
    let written = writer.finish()?;
    let mut report = report(&outcome, written, parent.as_ref());
    let is_skipped = options.skip_if_unchanged && is_unchanged(repo, parent.as_ref(), &outcome)?;
    if let Some(lease) = lease.filter(|_| !is_skipped) {
        let snapshot = snapshot(repo, options, lease, started_at, &snapshots, outcome, written);
        lease.commit(&snapshot, observer)?;
        report.snapshot_id = Some(snapshot.id.to_string());
    }
    Ok(report)
}

/// Whether all that was asked for is as the parent has it. The folders above do not count: anybody may add a file
/// beside what is backed up.
fn is_unchanged(repo: &Arc<Repo>, parent: Option<&Snapshot>, outcome: &Outcome) -> Result<bool, BackupError> {
    let Some(parent) = parent.filter(|parent| parent.paths == outcome.paths) else { return Ok(false) };
    if parent.root == outcome.root {
        return Ok(true);
    }
    let reader = TreeReader::new(Arc::new(repo.chunk_reader()?));
    for path in &parent.paths {
        let parts = path.as_slice().split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.collect();
        if parts.is_empty() || reader.resolve(parent.root, &parts)? != reader.resolve(outcome.root, &parts)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ends a run that failed. Stopped on purpose, it describes what it stored, so that the next one continues.
fn abandon(writer: ChunkWriter, error: BackupError) -> BackupError {
    match (writer.failure(), error) {
        (Some(failure), BackupError::Repo(RepoError::Ended)) => failure.into(),
        (Some(_), error) => error,
        (
            None,
            error @ (BackupError::Interrupted | BackupError::Stream { .. } | BackupError::Command { .. }),
        ) => match writer.finish() {
            Ok(_) => error,
            Err(failure) => failure.into(),
        },
        (None, error) => error,
    }
}

fn report(outcome: &Outcome, written: WriteTotals, parent: Option<&Snapshot>) -> BackupReport {
    let counts = outcome.counts;
    BackupReport {
        snapshot_id: None,
        parent_id: parent.map(|parent| parent.id.to_string()),
        files_new: counts.files_new,
        files_changed: counts.files_changed,
        files_unchanged: counts.files_unchanged,
        directories: counts.directories,
        bytes_read: counts.bytes_read,
        bytes_new: written.bytes_new,
        bytes_stored: written.bytes_stored,
        duration_seconds: 0.0,
        problems: outcome.problems.clone(),
    }
}

fn snapshot(
    repo: &Repo,
    options: &BackupOptions,
    lease: &Lease,
    started_at: Timestamp,
    snapshots: &SnapshotList,
    outcome: Outcome,
    written: WriteTotals,
) -> Snapshot {
    let host = options.labels.host.clone().unwrap_or_else(|| repo.identity().host.clone());
    let series = series_of(&host, &outcome.paths);
    let (sequence, previous) = snapshots.next_of(series);
    let mut tags = options.labels.tags.clone();
    tags.sort();
    tags.dedup();
    let counts = outcome.counts;
    let to_stored = |problem: &Problem| SnapshotProblem {
        path: Bytes::from(std::os::unix::ffi::OsStrExt::as_bytes(problem.path.as_os_str())),
        message: problem.message.clone(),
    };
    let mut snapshot = Snapshot {
        version: 1,
        id: lease.id(),
        series,
        sequence,
        previous,
        started_at,
        finished_at: repo.clock().now(),
        host,
        user: repo.identity().user.clone(),
        name_encoding: 0,
        paths: outcome.paths,
        tags,
        root: outcome.root,
        totals: Totals {
            files: counts.files_new + counts.files_changed + counts.files_unchanged,
            directories: counts.directories,
            bytes: counts.bytes,
            bytes_new: written.bytes_new,
            bytes_stored: written.bytes_stored,
        },
        problem_count: outcome.problems.len() as u64,
        problems: outcome.problems.iter().take(limits::PROBLEM_COUNT_MAX).map(to_stored).collect(),
        owners: outcome.owners,
        seen: lease.seen().map(|plan| plan.number),
        verified: options.verify,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: Vec::new(),
    };
    let offset = UtcOffset { seconds: Zone::system().offset_seconds(started_at) };
    snapshot.set_utc_offset(offset).expect("no time zone is a day ahead of UTC");
    snapshot
}

/// The names of these users and groups, on top of those that the parent knew.
fn owner_names(
    numbers: std::collections::BTreeSet<(bool, u32)>,
    parent: Option<&Snapshot>,
) -> Vec<OwnerName> {
    let owners = Owners::load();
    let mut names: std::collections::BTreeMap<(bool, u32), String> = parent
        .into_iter()
        .flat_map(|parent| &parent.owners)
        .map(|owner| ((owner.is_group, owner.number), owner.name.clone()))
        .collect();
    for (is_group, number) in numbers {
        let name = if is_group { owners.group(number) } else { owners.user(number) };
        names.extend(name.map(|name| ((is_group, number), name.to_owned())));
    }
    let names = names.into_iter().map(|((is_group, number), name)| OwnerName { is_group, number, name });
    names.take(limits::OWNER_COUNT_MAX).collect()
}

/// Narrows the choice of a parent to the same host.
fn same_host(repo: &Repo, options: &BackupOptions) -> SnapshotFilter {
    let host = options.labels.host.clone().unwrap_or_else(|| repo.identity().host.clone());
    SnapshotFilter { hosts: vec![host], ..SnapshotFilter::default() }
}
