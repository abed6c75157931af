//! `repo stats`: says how large things are.

use std::collections::HashSet;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use crate::cli::args::{Narrow, SnapshotName};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Align, Output, Table};
use crate::cli::requests::{self, Noted};
use crate::format::snapshot::Snapshot;
use crate::repo::{Repo, RepoError, SnapshotFilter, SnapshotList};
use crate::stats::{self, Held, SnapshotStats, StatsReport};
use crate::storage::RequestCounts;
use crate::units::{ByteCount, count_text};

/// Show how much is stored, and how much of it for nothing.
///
/// For each snapshot it says what only that one holds: what forgetting it, and no other, would free. Snapshots that are
/// named, and the options, narrow which ones are listed; what is unique, stored and unused is always that of the whole
/// repository. The first time on a computer this reads the names and metadata of all snapshots; later only what is new.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo stats
  repo stats latest latest~1
  repo stats --host web1 --json
  repo stats --requests")]
pub struct StatsArgs {
    /// Only these snapshots.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotName>,

    /// Instead, show what the last commands on this computer cost in requests to the bucket.
    #[arg(long)]
    pub requests: bool,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// Commands that `--requests` shows.
const REQUESTS_SHOWN: usize = 20;

/// Adds up what snapshots, index, counts and storage say.
pub fn run(args: &StatsArgs, context: &Context) -> Result<Exit, Failure> {
    if args.requests {
        return show_requests(context);
    }
    let (report, damaged) = context.with_repository(|repo| gather(args, repo, context))?;
    for (id, reason) in damaged {
        context.warn(&format!("snapshot {id} cannot be read: {reason}"));
    }
    if let Some(reason) = &report.counts_missing_because {
        context.warn(&format!("what is unused cannot be told: {reason}"));
    }
    context.show(&report, |out| show(&report, out))?;
    Ok(if report.counts_missing_because.is_none() { Exit::Done } else { Exit::Damage })
}

/// What the last commands have cost. Needs neither a key nor the bucket.
fn show_requests(context: &Context) -> Result<Exit, Failure> {
    let place = context.place()?;
    if place.folder().is_some() {
        return Err(Failure::usage(format!("{place} is a folder: nobody counts requests there")));
    }
    let noted = requests::read(&context.cache_folder()?, &place.to_string(), REQUESTS_SHOWN);
    context.show(&json!({ "requests": noted }), |out| {
        let columns = ["Put", "Get", "Head", "List", "Delete", "Repeated", "Sent", "Received"];
        let left = [("Time", Align::Left), ("Command", Align::Left)];
        let columns: Vec<_> = left.into_iter().chain(columns.map(|name| (name, Align::Right))).collect();
        let mut table = Table::new(&columns);
        for Noted { time, command, counts, .. } in &noted {
            let RequestCounts { puts, gets, heads, lists, deletes, repeated, bytes_sent, bytes_received } =
                *counts;
            let counts = [puts, gets, heads, lists, deletes, repeated].map(count_text);
            let row = [time.clone(), command.clone()].into_iter().chain(counts);
            table.row(row.chain([size(bytes_sent), size(bytes_received)]));
        }
        table.lines().iter().try_for_each(|line| out.line(line))
    })?;
    Ok(Exit::Done)
}

type Damaged = Vec<(String, String)>;

fn gather(args: &StatsArgs, repo: &Arc<Repo>, context: &Context) -> Result<(StatsReport, Damaged), Failure> {
    let list = repo.snapshots()?;
    let chosen = chosen(args, &list)?;
    let watch = context.watch("nodes")?;
    let report = stats::run(repo, &list, &chosen, &watch).map_err(|error| match error {
        RepoError::Ended if context.is_interrupted() => Failure::interrupted(),
        error => error.into(),
    });
    drop(watch);
    let damaged = list.damaged.iter().map(|(id, reason)| (id.short(), reason.clone())).collect();
    Ok((report?, damaged))
}

/// The snapshots that are meant, oldest first, each once.
fn chosen<'l>(args: &StatsArgs, list: &'l SnapshotList) -> Result<Vec<&'l Snapshot>, Failure> {
    let fitting = || list.snapshots.iter().filter(|snapshot| args.narrow.fits(snapshot));
    if args.snapshots.is_empty() {
        return Ok(fitting().collect());
    }
    let narrowed = SnapshotList { snapshots: fitting().cloned().collect(), ..SnapshotList::default() };
    let mut named = HashSet::new();
    for name in &args.snapshots {
        let from = match name {
            SnapshotName::Latest(_) => &narrowed,
            SnapshotName::Prefix(_) => list,
        };
        named.insert(from.select(&name.to_string(), &SnapshotFilter::default())?.id);
    }
    Ok(list.snapshots.iter().filter(|snapshot| named.contains(&snapshot.id)).collect())
}

fn size(bytes: u64) -> String {
    ByteCount(bytes).to_string()
}

fn show(stats: &StatsReport, out: &mut Output) -> Result<(), Failure> {
    if !stats.snapshots.is_empty() {
        for line in snapshots(stats).lines() {
            out.line(&line)?;
        }
        out.line("")?;
    }
    let mut table = Table::new(&[("", Align::Left), ("", Align::Right)]);
    let stored = stats.bytes_stored + stats.tree.bytes_stored;
    let ratio = stats.bytes_restored as f64 / stored.max(1) as f64;
    let mut rows = vec![
        ("snapshots", count_text(stats.snapshot_count)),
        ("files in them", count_text(stats.files)),
        ("size as restored", size(stats.bytes_restored)),
        ("only in these, stored", held(stats.together, |held| size(held.bytes_stored))),
        ("unique chunks", size(stats.bytes_unique)),
        ("unique chunks, compressed", size(stats.bytes_compressed)),
        ("stored", size(stored)),
        ("of these names and metadata", size(stats.tree.bytes_stored)),
        ("unused", stats.bytes_unused.map_or_else(|| "?".to_owned(), size)),
        ("restored for each stored", format!("{ratio:.1}")),
        ("packs", count_text(stats.packs + stats.tree.packs)),
        ("frames", count_text(stats.frames)),
        ("frames with bases", count_text(stats.bases.frames)),
        ("chunks", count_text(stats.chunks)),
        ("nodes of folders and lists", count_text(stats.tree.nodes)),
    ];
    if stats.bases.frames > 0 {
        rows.push(("differences, plain", size(stats.bases.bytes_unique)));
        rows.push(("differences, stored", size(stats.bases.bytes_compressed)));
    }
    if stats.undescribed.packs > 0 {
        rows.push(("packs that nothing describes", count_text(stats.undescribed.packs)));
        rows.push(("their size", size(stats.undescribed.bytes_stored)));
    }
    rows.into_iter().for_each(|(name, value)| table.row([name, &value]));
    // The table has no headings worth a line.
    table.lines().iter().skip(1).try_for_each(|line| out.line(line))
}

fn held(held: Option<Held>, of: impl Fn(&Held) -> String) -> String {
    held.as_ref().map_or_else(|| "?".to_owned(), of)
}

fn snapshots(stats: &StatsReport) -> Table {
    let columns = [
        ("ID", Align::Left),
        ("Time", Align::Left),
        ("Host", Align::Left),
        ("Files", Align::Right),
        ("Size", Align::Right),
        ("Only here", Align::Right),
        ("Stored", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for SnapshotStats { id, time, host, files, bytes_restored, only_here } in &stats.snapshots {
        table.row([
            id.short(),
            time.to_string(),
            host.clone(),
            count_text(*files),
            size(*bytes_restored),
            held(*only_here, |held| size(held.bytes)),
            held(*only_here, |held| size(held.bytes_stored)),
        ]);
    }
    table
}
