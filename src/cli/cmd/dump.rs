//! `repo dump`: writes a file or an archive to standard output.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::args::{Narrow, SnapshotName};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};

/// Write a file of a snapshot to standard output.
///
/// A folder is written as an archive.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo dump latest /home/me/notes.txt
  repo dump latest /var/www --archive tar | tar -t
  repo dump 5f2c0a41 / --archive zip > all.zip")]
pub struct DumpArgs {
    /// Which snapshot: latest, latest~2, or the beginning of an id.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: SnapshotName,

    /// The file or folder.
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub what: PathBuf,

    /// Write a folder as such an archive.
    #[arg(long, value_name = "KIND")]
    pub archive: Option<ArchiveKind>,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// A kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArchiveKind {
    /// POSIX tar, with all metadata.
    Tar,
    /// Zip, for other systems.
    Zip,
}

/// Not connected yet.
pub fn run(_args: &DumpArgs, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("dump is not a part of this version yet"))
}
