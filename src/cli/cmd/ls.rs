//! `repo ls`: lists what is in a snapshot.

use clap::Args;

use crate::cli::args::{Narrow, SnapshotPath, snapshot_path_parser};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};

/// List files of a snapshot.
///
/// Without a path it lists what was backed up; with a path, what is in that folder.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo ls latest
  repo ls -l latest:/home/me/Documents
  repo ls -R 5f2c0a41 | grep report")]
pub struct LsArgs {
    /// Which snapshot: latest, latest~2, or the beginning of an id; and where in it.
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = snapshot_path_parser())]
    pub snapshot: SnapshotPath,

    /// Show kind, rights, owner, size and time, as ls -l does.
    #[arg(short, long)]
    pub long: bool,

    /// Also list what is in the folders below.
    #[arg(short = 'R', long)]
    pub recursive: bool,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// Not connected yet.
pub fn run(_args: &LsArgs, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("ls is not a part of this version yet"))
}
