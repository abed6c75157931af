//! `repo restore`: puts files back.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::args::{Narrow, SnapshotPath, snapshot_path_parser};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};

/// Restore files of a snapshot.
///
/// A whole snapshot is put below DIR under its absolute paths; the contents of a PATH go straight into DIR. Files that
/// are already right are left alone, others are mended in place. Nothing is ever written outside DIR.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo restore latest --target /tmp/back
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

    /// Only say what would be done.
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

/// Not connected yet.
pub fn run(_args: &RestoreArgs, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("restore is not a part of this version yet"))
}
