//! `repo restore`: puts files back.

mod changes;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use changes::Changes;
use clap::{Args, ValueEnum, ValueHint};
use serde_json::Value;

use crate::cli::args::{Narrow, SnapshotPath, snapshot_path_parser};
use crate::cli::attempt::Attempt;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::render::Output;
use crate::cli::selection::{Found, find_path, find_snapshot, owner_names};
use crate::format::snapshot::Snapshot;
use crate::restore::{self, Overwrite, RestoreContext, RestoreOptions, RestoreReport, RestoreRequest};
use crate::target::OwnerMap;

use crate::units::{ByteCount, count_text, counted_text, duration_text};

/// Restore files of a snapshot.
///
/// A whole snapshot is put below DIR under its absolute paths; the contents of a PATH go straight into DIR. Files that
/// are already right are left alone, others are mended in place. Nothing is ever written outside DIR.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo restore latest --target /tmp/back
  repo restore latest:/home/me/Documents --target ~/Documents --dry-run
  repo restore latest:/home/me/Documents --target ~/Documents
  repo restore 5f2c0a41 --target /tmp/back --include '*.odt' --verify")]
pub struct RestoreArgs {
    /// Which snapshot: latest, latest~2, or the beginning of an id; and what of it.
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = snapshot_path_parser())]
    pub snapshot: SnapshotPath,

    /// The folder to restore into; it is made if it does not exist.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub target: PathBuf,

    /// Restore only what matches this pattern; may be given several times.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,

    /// Leave out what matches this pattern; may be given several times.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,

    /// Which files that exist to overwrite.
    #[arg(long, value_name = "WHICH", default_value = "if-changed")]
    pub overwrite: OverwriteOption,

    /// Remove what is in the target but not in the snapshot; asks first.
    #[arg(long)]
    pub delete: bool,

    /// Do not ask before removing.
    #[arg(short = 'y', long)]
    pub yes: bool,

    /// Only list what would change; nothing is written.
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Read everything back and compare.
    #[arg(long)]
    pub verify: bool,

    /// Leave owner and group as they come.
    #[arg(long)]
    pub no_owner: bool,

    /// Write long runs of zeros as holes, also where the source had none.
    #[arg(long)]
    pub sparse: bool,

    /// Wait at the end until everything is on the disk.
    #[arg(long)]
    pub sync: bool,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// Which files that exist to overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverwriteOption {
    /// Those that differ from the snapshot.
    IfChanged,
    /// All of them.
    Always,
    /// Those that are older than in the snapshot.
    IfNewer,
    /// None.
    Never,
}

impl OverwriteOption {
    fn choice(self) -> Overwrite {
        match self {
            Self::IfChanged => Overwrite::IfChanged,
            Self::Always => Overwrite::Always,
            Self::IfNewer => Overwrite::IfNewer,
            Self::Never => Overwrite::Never,
        }
    }
}

/// Puts files back and tells what was done. Problems were told when they were met.
pub fn run(args: &RestoreArgs, context: &Context) -> Result<Exit, Failure> {
    let repo = context.open_repository()?;
    let snapshot = find_snapshot(&repo, &args.snapshot.snapshot, &args.narrow)?;
    let is_told = Cell::new(false);
    let report = if args.dry_run {
        context.read(&repo, |attempt| preview(args, context, &snapshot, attempt, &is_told))?
    } else {
        let work = |attempt: &Attempt| restore(args, context, &snapshot, attempt, &is_told);
        let report = match args.overwrite {
            OverwriteOption::IfChanged | OverwriteOption::Always => context.read(&repo, work)?,
            // What the first attempt has written in part would be left alone by the second.
            OverwriteOption::IfNewer | OverwriteOption::Never => context.read_once(&repo, work)?,
        };
        let document = document(&snapshot, &report)?;
        context.show(&document, |out| show(&report, args, context, out))?;
        report
    };
    Ok(match (report.damaged_count, report.problem_count) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Incomplete,
        (_, _) => Exit::Damage,
    })
}

fn restore(
    args: &RestoreArgs,
    context: &Context,
    snapshot: &Snapshot,
    attempt: &Attempt,
    is_told: &Cell<bool>,
) -> Result<RestoreReport, Failure> {
    let request = begin(args, context, snapshot, attempt, is_told)?;
    let (users, groups) = owner_names(snapshot);
    let owners = OwnerMap::of_this_computer(&users, &groups);
    let watch = context.watch("files")?;
    let observer = attempt.watch(&watch);
    let around = RestoreContext { origin: &attempt.reader, owners: &owners, observer: &observer };
    let report = restore::run(&around, &request, &args.target, &args.options());
    // The bar is gone before anything else is said.
    drop(watch);
    Ok(report?)
}

/// Tells each change as it is found, and then the sums.
fn preview(
    args: &RestoreArgs,
    context: &Context,
    snapshot: &Snapshot,
    attempt: &Attempt,
    is_told: &Cell<bool>,
) -> Result<RestoreReport, Failure> {
    let request = begin(args, context, snapshot, attempt, is_told)?;
    let (users, groups) = owner_names(snapshot);
    let owners = OwnerMap::of_this_computer(&users, &groups);
    let watch = context.watch_beside_results("files")?;
    let observer = attempt.watch(&watch);
    let around = RestoreContext { origin: &attempt.reader, owners: &owners, observer: &observer };
    let mut changes = Changes::new(attempt.output(), context.wants_json())?;
    let report =
        restore::preview(&around, &request, &args.target, &args.options(), &mut |change| changes.add(change));
    drop(watch);
    changes.take_failure()?;
    let report = report?;
    let document = document(snapshot, &report)?;
    changes.finish(&document, |out| show(&report, args, context, out))?;
    Ok(report)
}

/// What is to be restored; the first time, that is told and consented to.
fn begin(
    args: &RestoreArgs,
    context: &Context,
    snapshot: &Snapshot,
    attempt: &Attempt,
    is_told: &Cell<bool>,
) -> Result<RestoreRequest, Failure> {
    let path = args.snapshot.path.as_deref().unwrap_or(Path::new("/"));
    let (request, bytes) = match find_path(&attempt.reader, snapshot.root, path)? {
        Found::Root(id) => (RestoreRequest::Folder(id), snapshot.totals.bytes),
        Found::Entry(entry) => {
            let size = entry.size;
            match entry.folder() {
                Some(id) => (RestoreRequest::Folder(id), size),
                None => (RestoreRequest::Single(entry), size),
            }
        }
    };
    if !is_told.replace(true) {
        ask_and_tell(args, context, snapshot, ByteCount(bytes))?;
    }
    Ok(request)
}

fn ask_and_tell(
    args: &RestoreArgs,
    context: &Context,
    snapshot: &Snapshot,
    size: ByteCount,
) -> Result<(), Failure> {
    let target = args.target.display();
    if args.delete && !args.dry_run {
        let question = format!("remove everything from {target} that the snapshot does not have?");
        if !context.confirm(&question, args.yes)? {
            return Err(Failure::new(Exit::Failed, "nothing was restored: you did not consent"));
        }
    }
    let Snapshot { id, started_at, host, .. } = snapshot;
    let of = format!("{size} of {}, made {started_at} on {host}", id.short());
    context.note(&match args.dry_run {
        false => format!("restoring {of}, to {target}"),
        true => format!("this is what a restore of {of}, would change in {target}"),
    });
    Ok(())
}

impl RestoreArgs {
    fn options(&self) -> RestoreOptions {
        RestoreOptions {
            overwrite: self.overwrite.choice(),
            delete: self.delete,
            verify: self.verify,
            owner: !self.no_owner,
            sparse: self.sparse,
            sync: self.sync,
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            thread_count: 0,
        }
    }
}

fn document(snapshot: &Snapshot, report: &RestoreReport) -> Result<Value, Failure> {
    let mut document =
        serde_json::to_value(report).or_fail(|| "the report could not be written".to_owned())?;
    if let Some(fields) = document.as_object_mut() {
        fields.insert("snapshot_id".to_owned(), snapshot.id.to_string().into());
    }
    Ok(document)
}

fn show(
    report: &RestoreReport,
    args: &RestoreArgs,
    context: &Context,
    out: &mut Output,
) -> Result<(), Failure> {
    if context.is_quiet() {
        return Ok(());
    }
    let would = if args.dry_run { "would be " } else { "" };
    let RestoreReport { files_restored, files_unchanged, folders, deleted, .. } = report;
    out.line(&format!(
        "files: {} {would}restored, {} unchanged, {} {would}removed, in {}",
        count_text(*files_restored),
        count_text(*files_unchanged),
        count_text(*deleted),
        counted_text(*folders, "folders")
    ))?;
    out.line(&format!(
        "bytes: {} {would}written, {} right already, in {}",
        ByteCount(report.bytes_written),
        ByteCount(report.bytes_unchanged),
        duration_text(report.duration)
    ))?;
    if args.verify && !args.dry_run {
        out.line(&format!("verified: {}", counted_text(report.files_verified, "files")))?;
    }
    for (name, count) in [("problems", report.problem_count), ("damaged files", report.damaged_count)] {
        if count > 0 {
            out.line(&format!("{name}: {}, each told above", count_text(count)))?;
        }
    }
    Ok(())
}
