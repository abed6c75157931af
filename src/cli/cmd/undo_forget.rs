//! `repo undo-forget`: brings forgotten snapshots back, or lists them.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::SnapshotName;
use crate::cli::cmd::forget::warn;
use crate::cli::cmd::snapshots::snapshot_json;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Align, Output, Table};
use crate::forget::{self, UndoReport};
use crate::format::forget::ForgetRecord;
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::repo::{Repo, RepoError, SnapshotFilter, SnapshotList};
use crate::storage::StorageError;

/// Bring forgotten snapshots back, until the next prune.
///
/// Each comes back as a new snapshot with another id and the same content and time; for keep rules it takes the place
/// of the forgotten one. Without a SNAPSHOT it lists what can come back.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo undo-forget
  repo undo-forget 5f2c81aa")]
pub struct UndoForgetArgs {
    /// Forgotten snapshots, by the beginning of their ids.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotName>,
}

/// A forgotten snapshot that is still stored, and the record that names it.
struct Forgotten<'l> {
    snapshot: Snapshot,
    record: Option<&'l ForgetRecord>,
}

/// Lists what can come back, or brings it back.
pub fn run(args: &UndoForgetArgs, context: &Context) -> Result<Exit, Failure> {
    let repo = context.open_repository()?;
    let list = repo.snapshots()?;
    warn(&list, context);
    if args.snapshots.is_empty() {
        let forgotten = still_there(&repo, &list)?;
        context.show(&list_json(&forgotten), |out| show_list(&forgotten, out, context))?;
        return Ok(Exit::Done);
    }
    let ids = args.snapshots.iter().map(|name| find(name, &list)).collect::<Result<Vec<_>, _>>()?;
    let watch = context.watch("nodes")?;
    let undone = forget::undo(&repo, &ids, &watch);
    drop(watch);
    let report = undone?;
    context.show(&report, |out| show_report(&report, out))?;
    Ok(Exit::Done)
}

fn find(name: &SnapshotName, list: &SnapshotList) -> Result<SnapshotId, Failure> {
    let SnapshotName::Prefix(prefix) = name else {
        return Err(Failure::usage("forgotten snapshots are named by the beginning of their ids")
            .hint("`repo undo-forget` lists them"));
    };
    match list.select_dead(prefix) {
        Err(RepoError::NoSnapshot { .. }) if list.select(prefix, &SnapshotFilter::default()).is_ok() => {
            Err(Failure::new(Exit::Failed, format!("snapshot {prefix} was not forgotten")))
        }
        Err(error @ RepoError::NoSnapshot { .. }) => {
            Err(Failure::of(Exit::Failed, &error).hint("`repo undo-forget` lists what can come back"))
        }
        outcome => Ok(outcome?),
    }
}

/// Forgotten snapshots whose objects are still stored, and that have not come back yet. Oldest first.
fn still_there<'l>(repo: &Repo, list: &'l SnapshotList) -> Result<Vec<Forgotten<'l>>, Failure> {
    let back = list.snapshots.iter().filter_map(Snapshot::in_place_of).map(|forgotten| forgotten.snapshot);
    let back: Vec<_> = back.collect();
    let mut found = Vec::new();
    for id in list.dead.iter().filter(|id| !back.contains(id)) {
        match repo.read_snapshot(*id) {
            Ok(Some(snapshot)) => {
                let dead = list.forgotten.get(*id);
                let record = dead.and_then(|dead| list.forgotten.records.get(&dead.record));
                found.push(Forgotten { snapshot, record });
            }
            // Not worth a word: removed meanwhile, never a snapshot, or damaged and forgotten.
            Ok(None) | Err(RepoError::Storage(StorageError::Missing { .. }) | RepoError::Damaged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by_key(|forgotten| (forgotten.snapshot.started_at, forgotten.snapshot.id));
    Ok(found)
}

fn list_json(forgotten: &[Forgotten<'_>]) -> Value {
    let shown = |forgotten: &Forgotten<'_>| {
        let mut shown = snapshot_json(&forgotten.snapshot);
        if let (Some(fields), Some(record)) = (shown.as_object_mut(), forgotten.record) {
            fields.insert("forgotten_at".to_owned(), record.forgotten_at.rfc3339().into());
            fields.insert("forgotten_by".to_owned(), record.host.clone().into());
            fields.insert("reason".to_owned(), record.reason.clone().into());
            fields.insert("policy".to_owned(), record.policy.clone().into());
        }
        shown
    };
    json!({ "forgotten": forgotten.iter().map(shown).collect::<Vec<_>>() })
}

fn show_list(forgotten: &[Forgotten<'_>], out: &mut Output, context: &Context) -> Result<(), Failure> {
    if forgotten.is_empty() {
        context.note("there is nothing that could come back");
        return Ok(());
    }
    let columns = ["ID", "Time", "Host", "Forgotten", "By", "Reason"].map(|title| (title, Align::Left));
    let mut table = Table::new(&columns);
    for Forgotten { snapshot, record } in forgotten {
        let reason = |record: &ForgetRecord| match (record.reason.as_str(), record.policy.as_str()) {
            ("", "") => "named".to_owned(),
            ("", policy) => policy.to_owned(),
            (reason, _) => reason.to_owned(),
        };
        table.row([
            snapshot.id.short(),
            snapshot.started_at.to_string(),
            snapshot.host.clone(),
            record.map(|record| record.forgotten_at.to_string()).unwrap_or_default(),
            record.map(|record| record.host.clone()).unwrap_or_default(),
            record.map(reason).unwrap_or_default(),
        ]);
    }
    table.lines().iter().try_for_each(|line| out.line(line))
}

fn show_report(report: &UndoReport, out: &mut Output) -> Result<(), Failure> {
    for back in &report.snapshots {
        let was_back = if back.was_back { ", as before" } else { "" };
        out.line(&format!("{} is back as {}{was_back}", back.in_place_of_id, back.id))?;
    }
    Ok(())
}
