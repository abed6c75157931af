//! `repo backup`: stores a snapshot.

use std::ffi::OsString;
use std::path::PathBuf;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::backup::{self, BASE_DEPTH_MAX_USUAL, BackupOptions, BackupReport, Labels, ParentChoice};
use crate::cli::args::{SnapshotName, parse_time};
use crate::cli::cmd::init::with_measured_kdf;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::Output;
use crate::clock::Timestamp;
use crate::compress::Compression;
use crate::repo::{InitOptions, Repo};
use crate::units::{ByteCount, count_text, counted_text, duration_text};

use selection::skipped_folders;
use streams::{Program, StandardInput};

mod selection;
mod streams;

const SELECTION: &str = "What to leave out";
const STREAMS: &str = "Streams";

/// Store a snapshot of files and folders.
///
/// A path that is missing or cannot be read is a problem: it is listed, the rest is stored, and the exit code is 3. If
/// nothing at all could be read, there is no snapshot. An interrupted backup is continued by the next one.
///
/// Patterns follow gitignore: a leading / is the start of the backed-up path, ** crosses folders, and ! takes back what
/// an earlier pattern left out.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo backup --init ~/Documents
  repo backup /home --exclude '*.tmp' --exclude-caches --tag daily
  pg_dump shop | repo backup --stdin --stdin-filename shop.sql
  repo backup --command shop.sql -- pg_dump shop")]
pub struct BackupArgs {
    /// What to back up; with --command, the program to run and its arguments.
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    #[arg(required_unless_present_any = ["stdin", "files_from", "files_from0"])]
    pub paths: Vec<OsString>,

    /// Create the repository first if there is none.
    #[arg(long)]
    pub init: bool,

    /// Give the snapshot this tag; may be given several times.
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,

    /// Write this host name into the snapshot instead of the computer's.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,

    /// Write this time into the snapshot instead of the present.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub time: Option<Timestamp>,

    /// Compare with this snapshot instead of the last one of the same host and paths.
    #[arg(long, value_name = "SNAPSHOT")]
    pub parent: Option<SnapshotName>,

    /// Read every file again, also those that seem unchanged.
    #[arg(long)]
    pub force: bool,

    /// Only say what would be stored.
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Make no snapshot if nothing has changed since the last one.
    #[arg(long)]
    pub skip_if_unchanged: bool,

    /// Compress so much: off, fast, auto (as without this option), max, or a level from 1 to 19.
    #[arg(long, value_name = "HOW", default_value = "auto", hide_default_value = true)]
    pub compression: Compression,

    /// Do not store changed files as differences from their earlier versions.
    #[arg(long)]
    pub no_bases: bool,

    /// How deep differences may rest on each other, up to 8; for measuring.
    #[arg(long, value_name = "N", hide = true, default_value_t = BASE_DEPTH_MAX_USUAL,
          value_parser = clap::value_parser!(u8).range(0..=8))]
    pub base_depth: u8,

    /// Do not open and verify packs before they are stored; a fault of the memory then goes unnoticed.
    #[arg(long)]
    pub fast_unverified: bool,

    /// Stay on the file system of each path.
    #[arg(short = 'x', long, help_heading = SELECTION)]
    pub one_file_system: bool,

    /// Leave out what matches this pattern; may be given several times.
    #[arg(long, value_name = "GLOB", help_heading = SELECTION)]
    pub exclude: Vec<String>,

    /// The same, without regard to upper and lower case.
    #[arg(long, value_name = "GLOB", help_heading = SELECTION)]
    pub iexclude: Vec<String>,

    /// Read patterns from FILE, one a line; lines that begin with # are comments.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = SELECTION)]
    pub exclude_file: Vec<PathBuf>,

    /// Leave out the contents of folders that a CACHEDIR.TAG marks as caches.
    #[arg(long, help_heading = SELECTION)]
    pub exclude_caches: bool,

    /// Leave out the contents of folders that hold a file of this name.
    #[arg(long, value_name = "NAME", help_heading = SELECTION)]
    pub exclude_if_present: Vec<OsString>,

    /// Leave out files that are larger than SIZE, such as 2G.
    #[arg(long, value_name = "SIZE", help_heading = SELECTION)]
    pub exclude_larger_than: Option<ByteCount>,

    /// Read further paths from FILE, one a line; - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files_from: Vec<PathBuf>,

    /// Read further paths from FILE, each ended by a zero byte, as find -print0 writes them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files_from0: Vec<PathBuf>,

    /// Store standard input as one file.
    #[arg(long, help_heading = STREAMS)]
    #[arg(conflicts_with_all = ["paths", "command", "files_from", "files_from0"])]
    pub stdin: bool,

    /// The name of that file in the snapshot.
    #[arg(long, value_name = "NAME", default_value = "stdin", help_heading = STREAMS, requires = "stdin")]
    pub stdin_filename: OsString,

    /// Store what a program prints as the file NAME; no snapshot is made unless it exits with 0.
    #[arg(long, value_name = "NAME", help_heading = STREAMS)]
    #[arg(conflicts_with_all = ["files_from", "files_from0"])]
    pub command: Option<OsString>,
}

/// Stores a snapshot and tells what was done. Problems were told when they were met.
pub fn run(args: &BackupArgs, context: &Context) -> Result<Exit, Failure> {
    let mut options = args.options()?;
    let has_repository = context.has_repository()?;
    let report = if args.init && !has_repository {
        let created =
            context.create_repository(|secret| with_measured_kdf(InitOptions::default(), secret, context))?;
        context.note(&format!("created repository {} at {}", created.repo.id(), created.place));
        options.skipped_folders = skipped_folders(context)?;
        store(args, context, &created.repo, &options)?
    } else {
        options.skipped_folders = skipped_folders(context)?;
        if has_repository {
            args.refuse_inside(&options.sources, context)?;
        }
        if args.is_repeatable() {
            context.with_repository(|repo| store(args, context, repo, &options))?
        } else {
            store(args, context, &context.open_repository()?, &options)?
        }
    };
    context.show(&report, |out| show(&report, args, context, out))?;
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::Incomplete })
}

fn store(
    args: &BackupArgs,
    context: &Context,
    repo: &Arc<Repo>,
    options: &BackupOptions,
) -> Result<BackupReport, Failure> {
    let watch = context.watch("files")?;
    let stored = if args.stdin {
        let mut source = StandardInput::new(&args.stdin_filename, context.interruption().clone())?;
        backup::run_stream(repo, options, &mut source, &watch)
    } else if let Some(name) = &args.command {
        let mut source = Program::start(name, &args.paths, context.interruption().clone())?;
        backup::run_stream(repo, options, &mut source, &watch)
    } else {
        backup::run(repo, options, &watch)
    };
    // The bar is gone before anything else is said.
    drop(watch);
    Ok(stored?)
}

fn show(
    report: &BackupReport,
    args: &BackupArgs,
    context: &Context,
    out: &mut Output,
) -> Result<(), Failure> {
    if !context.is_quiet() {
        let BackupReport { files_new, files_changed, files_unchanged, directories, .. } = report;
        let count = |count: &u64| count_text(*count);
        out.line(&format!(
            "files: {} new, {} changed, {} unchanged, in {}",
            count(files_new),
            count(files_changed),
            count(files_unchanged),
            counted_text(*directories, "folders")
        ))?;
        out.line(&format!(
            "bytes: {} read, {} new, {} stored, in {}",
            ByteCount(report.bytes_read),
            ByteCount(report.bytes_new),
            ByteCount(report.bytes_stored),
            duration_text(Duration::from_secs_f64(report.duration_seconds.max(0.0)))
        ))?;
        if !report.problems.is_empty() {
            out.line(&format!("problems: {}, each told above", count_text(report.problems.len() as u64)))?;
        }
    }
    match (&report.snapshot_id, &report.parent_id) {
        (Some(id), _) => out.line(id),
        (None, _) if args.dry_run => {
            context.note("nothing was stored: this was a dry run");
            Ok(())
        }
        (None, parent) => {
            let parent = parent.as_deref().unwrap_or("the last snapshot");
            context.note(&format!("nothing has changed since {parent}, so there is no new snapshot"));
            Ok(())
        }
    }
}

impl BackupArgs {
    fn options(&self) -> Result<BackupOptions, Failure> {
        let parent = match &self.parent {
            _ if self.force => ParentChoice::None,
            Some(name) => ParentChoice::Named(name.to_string()),
            None => ParentChoice::Newest,
        };
        Ok(BackupOptions {
            sources: self.sources()?,
            excludes: self.excludes()?,
            one_file_system: self.one_file_system,
            skipped_folders: Vec::new(),
            parent,
            dry_run: self.dry_run,
            skip_if_unchanged: self.skip_if_unchanged,
            labels: Labels { host: self.host.clone(), tags: self.tag.clone(), time: self.time },
            compression: self.compression,
            verify: !self.fast_unverified,
            base_depth_max: if self.no_bases { 0 } else { self.base_depth },
            threads: 0,
        })
    }

    /// Whether the backup can be begun again: a stream is gone once it was read.
    fn is_repeatable(&self) -> bool {
        !self.stdin && self.command.is_none()
    }
}
