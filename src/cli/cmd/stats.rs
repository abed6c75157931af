//! `repo stats`: says how large things are.

use clap::Args;
use serde::Serialize;

use crate::cli::args::Narrow;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Align, Table};
use crate::index::PackKind;
use crate::repo::Repo;
use crate::units::{ByteCount, count_text};

/// Show how much is stored, and how much of it only once.
///
/// The options narrow which snapshots are counted; what is unique and stored is always that of the whole repository.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo stats
  repo stats --host web1 --json")]
pub struct StatsArgs {
    #[command(flatten)]
    pub narrow: Narrow,
}

/// What is stored, in numbers.
#[derive(Debug, Default, Serialize)]
struct Stats {
    snapshots: u64,
    /// Files of all snapshots together.
    files: u64,
    bytes_restored: u64,
    bytes_unique: u64,
    bytes_compressed: u64,
    bytes_stored: u64,
    packs: u64,
    frames: u64,
    chunks: u64,
    tree: TreeStats,
}

/// The same for what keeps names and metadata.
#[derive(Debug, Default, Serialize)]
struct TreeStats {
    bytes_unique: u64,
    bytes_stored: u64,
    packs: u64,
    nodes: u64,
}

/// Adds up what snapshots, index and storage say.
pub fn run(args: &StatsArgs, context: &Context) -> Result<Exit, Failure> {
    let stats = context.with_repository(|repo| gather(args, repo))?;
    context.show(&stats, |out| {
        let mut table = Table::new(&[("", Align::Left), ("", Align::Right)]);
        let size = |bytes: u64| ByteCount(bytes).to_string();
        let ratio = stats.bytes_restored as f64 / stats.bytes_stored.max(1) as f64;
        let rows = [
            ("snapshots", count_text(stats.snapshots)),
            ("files in them", count_text(stats.files)),
            ("size as restored", size(stats.bytes_restored)),
            ("unique", size(stats.bytes_unique)),
            ("unique, compressed", size(stats.bytes_compressed)),
            ("stored, with parity", size(stats.bytes_stored)),
            ("restored for each stored", format!("{ratio:.1}")),
            ("packs", count_text(stats.packs)),
            ("frames", count_text(stats.frames)),
            ("chunks", count_text(stats.chunks)),
            ("names and metadata, stored", size(stats.tree.bytes_stored)),
            ("nodes of folders and lists", count_text(stats.tree.nodes)),
        ];
        rows.into_iter().for_each(|(name, value)| table.row([name, &value]));
        // The table has no headings worth a line.
        table.lines().iter().skip(1).try_for_each(|line| out.line(line))
    })?;
    Ok(Exit::Done)
}

fn gather(args: &StatsArgs, repo: &Repo) -> Result<Stats, Failure> {
    let mut stats = Stats::default();
    for snapshot in args.narrow.narrowed(repo.snapshots()?).snapshots {
        stats.snapshots += 1;
        stats.files += snapshot.totals.files;
        stats.bytes_restored = stats.bytes_restored.saturating_add(snapshot.totals.bytes);
    }
    let index = repo.sync_index()?;
    let mut packs = Vec::new();
    index.visit_packs(&mut |number, row| packs.push((number, row)))?;
    for (number, row) in packs {
        let frames = index.frames(number)?;
        let plain: u64 = frames.iter().map(|frame| u64::from(frame.plain_len)).sum();
        match row.kind {
            PackKind::Data => {
                stats.packs += 1;
                stats.frames += frames.len() as u64;
                stats.chunks += u64::from(row.chunk_count);
                stats.bytes_unique += plain;
                stats.bytes_compressed += frames.iter().map(|frame| u64::from(frame.stored_len)).sum::<u64>();
            }
            PackKind::Meta => {
                stats.tree.packs += 1;
                stats.tree.nodes += u64::from(row.chunk_count);
                stats.tree.bytes_unique += plain;
            }
        }
    }
    for ((kind, _), len) in repo.list_packs()?.packs {
        match kind {
            PackKind::Data => stats.bytes_stored += len,
            PackKind::Meta => stats.tree.bytes_stored += len,
        }
    }
    Ok(stats)
}
