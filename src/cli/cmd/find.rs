//! `repo find`: where and when a file existed.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::args::{Narrow, SnapshotName, parse_time};
use crate::cli::attempt::Attempt;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Output, json_name, kind_word, safe_name, safe_text};
use crate::clock::Timestamp;
use crate::event::serialize_problems;
use crate::find::{self, FindOptions, FindReport, FoundPath, Names, Sighting, Version};
use crate::format::snapshot::Snapshot;
use crate::format::tree::EntryKind;
use crate::repo::{Repo, SnapshotFilter};
use crate::units::{ByteCount, counted_text};

/// Find files in all snapshots.
///
/// For each path it lists the versions that there were: size and time of the file, and the first and the last snapshot
/// that has it. Patterns are those of gitignore: one without a slash fits the name of anything, a leading / is the top of
/// the snapshot, ** crosses folders. The exit code is 1 if nothing was found.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo find '*.odt'
  repo find --ignore-case 'IMG_*.jpg' --type file --newer 2026-01-01
  repo find /etc/fstab --host web1 --json")]
pub struct FindArgs {
    /// What to look for.
    #[arg(value_name = "PATTERN", required = true)]
    pub patterns: Vec<String>,

    /// Do not tell upper from lower case.
    #[arg(short, long)]
    pub ignore_case: bool,

    /// Only things of this kind; may be given several times.
    #[arg(long = "type", value_name = "KIND")]
    pub kinds: Vec<KindOption>,

    /// Only what was last changed at this time or later.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub newer: Option<Timestamp>,

    /// Only what was last changed at this time or earlier.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub older: Option<Timestamp>,

    /// Only in this snapshot; may be given several times.
    #[arg(long, value_name = "SNAPSHOT", help_heading = "Which snapshots")]
    pub snapshot: Vec<SnapshotName>,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindOption {
    /// Regular files.
    File,
    /// Folders.
    Directory,
    /// Symbolic links.
    Symlink,
    /// Devices, named pipes and sockets.
    Special,
}

impl KindOption {
    fn kinds(self) -> &'static [EntryKind] {
        match self {
            Self::File => &[EntryKind::File],
            Self::Directory => &[EntryKind::Directory],
            Self::Symlink => &[EntryKind::Symlink],
            Self::Special => {
                &[EntryKind::BlockDevice, EntryKind::CharDevice, EntryKind::Fifo, EntryKind::Socket]
            }
        }
    }
}

/// Lists what was found. Folders that cannot be read are told, and then the exit code says so.
pub fn run(args: &FindArgs, context: &Context) -> Result<Exit, Failure> {
    let options = options(args)?;
    let repo = context.open_repository()?;
    let snapshots = chosen(args, &repo, context)?;
    let report = context.read(&repo, |attempt| find(&snapshots, &options, context, attempt))?;
    context.show(&document(&report), |out| show(&report, out))?;
    if !report.problems.is_empty() {
        return Ok(Exit::Damage);
    }
    if report.found.is_empty() {
        context.note(&format!("nothing was found in {}", counted_text(report.snapshot_count, "snapshots")));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

fn options(args: &FindArgs) -> Result<FindOptions, Failure> {
    let names =
        Names::new(&args.patterns, args.ignore_case).map_err(|error| Failure::of(Exit::Usage, &error))?;
    let kinds = args.kinds.iter().flat_map(|kind| kind.kinds()).copied().collect();
    Ok(FindOptions { names, kinds, newer: args.newer, older: args.older })
}

/// The snapshots to look through, oldest first.
fn chosen(args: &FindArgs, repo: &Repo, context: &Context) -> Result<Vec<Snapshot>, Failure> {
    let list = repo.snapshots()?;
    for (id, reason) in &list.damaged {
        context.warn(&format!("snapshot {id} cannot be read, so it is left out: {reason}"));
    }
    let list = args.narrow.narrowed(list);
    if args.snapshot.is_empty() {
        return Ok(list.snapshots);
    }
    let mut ids = Vec::new();
    for name in &args.snapshot {
        ids.push(list.select(&name.to_string(), &SnapshotFilter::default())?.id);
    }
    Ok(list.snapshots.into_iter().filter(|snapshot| ids.contains(&snapshot.id)).collect())
}

fn find(
    snapshots: &[Snapshot],
    options: &FindOptions,
    context: &Context,
    attempt: &Attempt,
) -> Result<FindReport, Failure> {
    let watch = context.watch("folders")?;
    let report = find::run(&attempt.reader, snapshots, options, &attempt.watch(&watch));
    // The bar is gone before anything else is said.
    drop(watch);
    report.ok_or_else(Failure::interrupted)
}

fn document(report: &FindReport) -> Value {
    let sighting =
        |seen: &Sighting| json!({ "snapshot_id": seen.id.to_string(), "time": seen.time.rfc3339() });
    let version = |version: &Version| {
        json!({
            "kind": kind_word(version.kind),
            "size": version.size,
            "mtime": version.mtime.rfc3339(),
            "first": sighting(&version.first),
            "last": sighting(&version.last),
            "snapshot_count": version.snapshot_count,
        })
    };
    let found = |found: &FoundPath| {
        let versions: Vec<_> = found.versions.iter().map(version).collect();
        json!({ "host": &*found.host, "path": json_name(&found.path), "versions": versions })
    };
    let problems = serialize_problems(&report.problems, serde_json::value::Serializer);
    json!({
        "paths": report.found.iter().map(found).collect::<Vec<_>>(),
        "snapshot_count": report.snapshot_count,
        "problems": problems.unwrap_or_default(),
    })
}

fn show(report: &FindReport, out: &mut Output) -> Result<(), Failure> {
    let is_one_host =
        report.found.windows(2).all(|pair| matches!(pair, [one, next] if one.host == next.host));
    for found in &report.found {
        let path = safe_name(&found.path);
        match is_one_host {
            true => out.line(&path)?,
            false => out.line(&format!("{}:{path}", safe_text(&found.host)))?,
        }
        for version in &found.versions {
            let size = match version.kind {
                EntryKind::File => ByteCount(version.size).to_string(),
                EntryKind::BlockDevice | EntryKind::CharDevice => "device".to_owned(),
                kind => kind_word(kind).to_owned(),
            };
            let Version { mtime, first, last, snapshot_count, .. } = version;
            let snapshots = match snapshot_count {
                1 => format!("in {} of {}", first.id.short(), first.time),
                count => format!(
                    "in {}, from {} of {} to {} of {}",
                    counted_text(*count, "snapshots"),
                    first.id.short(),
                    first.time,
                    last.id.short(),
                    last.time
                ),
            };
            out.line(&format!("  {size:>10}  {mtime}  {snapshots}"))?;
        }
    }
    Ok(())
}
