//! `repo diff`: how two snapshots differ.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::{Narrow, SnapshotPath, snapshot_path_parser};
use crate::cli::attempt::Attempt;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Output, json_name, kind_word, safe_name};
use crate::cli::selection::{Found, find_path, find_snapshot, in_snapshot};
use crate::diff::{self, Aspects, Change, DiffReport, Item, Tally};
use crate::format::snapshot::Snapshot;
use crate::format::tree::EntryKind;
use crate::units::{ByteCount, counted_text};

/// Compare two snapshots, or two folders or files of snapshots.
///
/// Each line begins with what happened: + added, - removed, M other contents, U other metadata only, R renamed. What has
/// the same content under another name counts as renamed if that is certain; a folder that moved as a whole is one line.
/// Whether there are differences does not change the exit code.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo diff latest~1 latest
  repo diff 5f2c0a41:/etc latest:/etc
  repo diff latest~7 latest --host web1 --json")]
pub struct DiffArgs {
    /// The first one: latest, latest~2, or the beginning of an id; and what in it.
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = snapshot_path_parser())]
    pub before: SnapshotPath,

    /// The second one.
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = snapshot_path_parser())]
    pub after: SnapshotPath,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// Lists the differences and adds them up.
pub fn run(args: &DiffArgs, context: &Context) -> Result<Exit, Failure> {
    let repo = context.open_repository()?;
    let before = find_snapshot(&repo, &args.before.snapshot, &args.narrow)?;
    let after = find_snapshot(&repo, &args.after.snapshot, &args.narrow)?;
    let report = context.read(&repo, |attempt| compare(args, [&before, &after], context, attempt))?;
    let prefix = prefix(args);
    context.show(&document(args, [&before, &after], &report, &prefix), |out| {
        for change in &report.changes {
            out.line(&line(change, &prefix))?;
        }
        if context.is_quiet() { Ok(()) } else { show_totals(&report, out) }
    })?;
    Ok(Exit::Done)
}

fn path_of(side: &SnapshotPath) -> Vec<u8> {
    in_snapshot(side.path.as_deref().unwrap_or(Path::new("/")))
}

/// What stands before every path: the folder that is compared if that is the same one on both sides, otherwise nothing.
fn prefix(args: &DiffArgs) -> Vec<u8> {
    let path = path_of(&args.before);
    if path != path_of(&args.after) {
        return Vec::new();
    }
    if path == b"/" { path } else { [path.as_slice(), b"/"].concat() }
}

fn compare(
    args: &DiffArgs,
    [before, after]: [&Snapshot; 2],
    context: &Context,
    attempt: &Attempt,
) -> Result<DiffReport, Failure> {
    let find = |side: &SnapshotPath, snapshot: &Snapshot| {
        find_path(&attempt.reader, snapshot.root, side.path.as_deref().unwrap_or(Path::new("/")))
    };
    let (before, after) = (find(&args.before, before)?, find(&args.after, after)?);
    let report = match (before.folder(), after.folder(), before, after) {
        (Some(before), Some(after), _, _) => {
            let watch = context.watch("folders")?;
            let report = diff::folders(&attempt.reader, before, after, &attempt.watch(&watch));
            // The bar is gone before anything else is said.
            drop(watch);
            report?.ok_or_else(Failure::interrupted)?
        }
        (None, None, Found::Entry(before), Found::Entry(after)) => {
            let name = after.name.as_slice().to_vec();
            diff::entries(&name, *before, *after)
        }
        _ => return Err(Failure::usage("a folder cannot be compared with a file")),
    };
    Ok(report)
}

/// The path as people and JSON get it. A single file is compared under its name.
fn shown(path: &[u8], prefix: &[u8]) -> Vec<u8> {
    let is_itself =
        prefix.strip_suffix(b"/").is_some_and(|top| top.rsplit(|byte| *byte == b'/').next() == Some(path));
    match prefix.strip_suffix(b"/") {
        Some(top) if is_itself && !top.is_empty() => top.to_vec(),
        _ => [prefix, path].concat(),
    }
}

fn line(change: &Change, prefix: &[u8]) -> String {
    let path = |path: &[u8]| safe_name(&shown(path, prefix));
    let named = |item: &Item| match item.kind {
        EntryKind::Directory => format!("{}/", path(&item.path)),
        _ => path(&item.path),
    };
    let size = |item: &Item| match item.kind {
        EntryKind::File => ByteCount(item.size).to_string(),
        EntryKind::Directory if matches!(change, Change::Renamed { .. }) => ByteCount(item.size).to_string(),
        _ => String::new(),
    };
    let metadata = |aspects: &Aspects| aspects.metadata().collect::<Vec<_>>().join(", ");
    let (letter, item, name) = match change {
        Change::Added(item) => ('+', item, named(item)),
        Change::Removed(item) => ('-', item, named(item)),
        Change::Changed { item, size_before, aspects } if aspects.contents => {
            let before = match item.kind {
                EntryKind::File => format!(" ({} before)", ByteCount(*size_before)),
                _ => String::new(),
            };
            ('M', item, named(item) + &before)
        }
        Change::Changed { item, aspects, .. } => {
            ('U', item, format!("{} ({})", named(item), metadata(aspects)))
        }
        Change::Renamed { from, item, aspects } => {
            let more = if aspects.any() { format!(" ({})", metadata(aspects)) } else { String::new() };
            ('R', item, format!("{} -> {}{more}", path(from), named(item)))
        }
    };
    format!("{letter} {:>10}  {name}", size(item))
}

fn tallies(report: &DiffReport) -> [(&'static str, &Tally); 5] {
    let DiffReport { changes: _, added, removed, contents, metadata, renamed } = report;
    [
        ("added", added),
        ("removed", removed),
        ("contents_changed", contents),
        ("metadata_changed", metadata),
        ("renamed", renamed),
    ]
}

fn show_totals(report: &DiffReport, out: &mut Output) -> Result<(), Failure> {
    for (name, Tally { files, folders, others, bytes }) in tallies(report) {
        out.line(&format!(
            "{}: {}, {}, {}, {}",
            name.replace('_', " "),
            counted_text(*files, "files"),
            counted_text(*folders, "folders"),
            counted_text(*others, "others"),
            ByteCount(*bytes)
        ))?;
    }
    Ok(())
}

fn document(args: &DiffArgs, [before, after]: [&Snapshot; 2], report: &DiffReport, prefix: &[u8]) -> Value {
    let side = |snapshot: &Snapshot, path: &SnapshotPath| json!({ "snapshot_id": snapshot.id.to_string(), "path": json_name(&path_of(path)) });
    let change = |change: &Change| {
        let item = change.item();
        let mut object = json!({
            "path": json_name(&shown(&item.path, prefix)),
            "kind": kind_word(item.kind),
            "size": item.size,
        });
        match change {
            Change::Added(_) => object["change"] = "added".into(),
            Change::Removed(_) => object["change"] = "removed".into(),
            Change::Changed { size_before, aspects, .. } => {
                object["change"] = "changed".into();
                object["size_before"] = (*size_before).into();
                object["contents_changed"] = aspects.contents.into();
                object["metadata_changes"] = aspects.metadata().collect();
            }
            Change::Renamed { from, aspects, .. } => {
                object["change"] = "renamed".into();
                object["path_before"] = json_name(&shown(from, prefix));
                object["metadata_changes"] = aspects.metadata().collect();
            }
        }
        object
    };
    let mut document = json!({
        "before": side(before, &args.before),
        "after": side(after, &args.after),
        "changes": report.changes.iter().map(change).collect::<Vec<_>>(),
    });
    for (name, Tally { files, folders, others, bytes }) in tallies(report) {
        document[name] = json!({ "files": files, "folders": folders, "others": others, "bytes": bytes });
    }
    document
}
