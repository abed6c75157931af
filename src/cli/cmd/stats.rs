//! `repo stats`: says how large things are.

use clap::Args;

use crate::cli::args::Narrow;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};

/// Show how much is stored, and how much of it only once.
///
/// Sizes as restored, unique, and stored; for each snapshot what only it holds; and packs, frames and what is unused.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo stats
  repo stats --host web1 --json")]
pub struct StatsArgs {
    #[command(flatten)]
    pub narrow: Narrow,
}

/// Not connected yet.
pub fn run(_args: &StatsArgs, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("stats is not a part of this version yet"))
}
