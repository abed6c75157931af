//! `repo snapshots`: lists what is stored.

use clap::{Args, ValueEnum};

use crate::cli::args::Narrow;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};

/// List the snapshots of the repository.
///
/// Each with its id, time, host, tags, paths, size, and how many problems there were.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo snapshots
  repo snapshots --tag daily --last 5
  repo snapshots --group-by host,paths --json")]
pub struct SnapshotsArgs {
    /// Group by host, paths, tags, or several of them.
    #[arg(long, value_name = "KEY[,KEY...]", value_delimiter = ',')]
    pub group_by: Vec<GroupKey>,

    /// Only the newest N snapshots; with --group-by, of each group.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// What snapshots can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupKey {
    /// The host they were made on.
    Host,
    /// What was backed up.
    Paths,
    /// Their tags.
    Tags,
}

/// Not connected yet.
pub fn run(_args: &SnapshotsArgs, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("snapshots is not a part of this version yet"))
}
