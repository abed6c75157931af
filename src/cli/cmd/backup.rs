//! `repo backup`: stores a snapshot.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueHint};

use crate::cli::args::{SnapshotName, parse_time};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::clock::Timestamp;
use crate::units::ByteCount;

const SELECTION: &str = "What to leave out";
const STREAMS: &str = "Streams";

/// Store a snapshot of files and folders.
///
/// A path that is missing or cannot be read is a problem: it is listed, the rest is stored, and the exit code is 3. If
/// nothing at all could be read, there is no snapshot. An interrupted backup is continued by the next one.
///
/// Patterns follow gitignore: a leading / is the start of the backed-up path, ** crosses folders, and ! takes back what
/// an earlier pattern left out.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo backup --init ~/Documents
  repo backup /home --exclude '*.tmp' --exclude-caches --tag daily
  pg_dump shop | repo backup --stdin --stdin-filename shop.sql
  repo backup --command shop.sql -- pg_dump shop")]
pub struct BackupArgs {
    /// What to back up; with --command, the program to run and its arguments.
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    #[arg(required_unless_present_any = ["stdin", "files_from", "files_from0"])]
    pub paths: Vec<OsString>,

    /// Create the repository first if there is none.
    #[arg(long)]
    pub init: bool,

    /// Give the snapshot this tag; may be given several times.
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,

    /// Write this host name into the snapshot instead of the computer's.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,

    /// Write this time into the snapshot instead of the present.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub time: Option<Timestamp>,

    /// Compare with this snapshot instead of the last one of the same host and paths.
    #[arg(long, value_name = "SNAPSHOT")]
    pub parent: Option<SnapshotName>,

    /// Read every file again, also those that seem unchanged.
    #[arg(long)]
    pub force: bool,

    /// Only say what would be stored.
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Make no snapshot if nothing has changed since the last one.
    #[arg(long)]
    pub skip_if_unchanged: bool,

    /// Compress so much: off, fast, auto, max, or a level from 1 to 19.
    #[arg(long, value_name = "HOW", default_value = "auto", hide_default_value = true)]
    pub compression: Compression,

    /// Do not store changed files as differences from their earlier versions.
    #[arg(long)]
    pub no_bases: bool,

    /// Stay on the file system of each path.
    #[arg(short = 'x', long, help_heading = SELECTION)]
    pub one_file_system: bool,

    /// Leave out what matches this pattern; may be given several times.
    #[arg(long, value_name = "GLOB", help_heading = SELECTION)]
    pub exclude: Vec<String>,

    /// The same, without regard to upper and lower case.
    #[arg(long, value_name = "GLOB", help_heading = SELECTION)]
    pub iexclude: Vec<String>,

    /// Read patterns from FILE, one a line; lines that begin with # are comments.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = SELECTION)]
    pub exclude_file: Vec<PathBuf>,

    /// Leave out the contents of folders that a CACHEDIR.TAG marks as caches.
    #[arg(long, help_heading = SELECTION)]
    pub exclude_caches: bool,

    /// Leave out the contents of folders that hold a file of this name.
    #[arg(long, value_name = "NAME", help_heading = SELECTION)]
    pub exclude_if_present: Vec<OsString>,

    /// Leave out files that are larger than SIZE, such as 2G.
    #[arg(long, value_name = "SIZE", help_heading = SELECTION)]
    pub exclude_larger_than: Option<ByteCount>,

    /// Read further paths from FILE, one a line; - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files_from: Vec<PathBuf>,

    /// Read further paths from FILE, each ended by a zero byte, as find -print0 writes them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files_from0: Vec<PathBuf>,

    /// Store standard input as one file.
    #[arg(long, help_heading = STREAMS)]
    #[arg(conflicts_with_all = ["paths", "command", "files_from", "files_from0"])]
    pub stdin: bool,

    /// The name of that file in the snapshot.
    #[arg(long, value_name = "NAME", default_value = "stdin", help_heading = STREAMS, requires = "stdin")]
    pub stdin_filename: OsString,

    /// Store what a program prints as the file NAME; no snapshot is made unless it exits with 0.
    #[arg(long, value_name = "NAME", help_heading = STREAMS)]
    #[arg(conflicts_with_all = ["files_from", "files_from0"])]
    pub command: Option<OsString>,
}

/// How much to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// Little, for slow computers and fast disks.
    Fast,
    /// Well, but no time is spent on what does not compress.
    Auto,
    /// As small as it gets.
    Max,
    /// A level of zstd, 1 to 19.
    Level(u8),
}

impl FromStr for Compression {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "off" => Ok(Self::Off),
            "fast" => Ok(Self::Fast),
            "auto" => Ok(Self::Auto),
            "max" => Ok(Self::Max),
            _ => match text.parse() {
                Ok(level @ 1..=19) => Ok(Self::Level(level)),
                _ => Err("write off, fast, auto, max, or a level from 1 to 19"),
            },
        }
    }
}

/// Not connected yet.
pub fn run(_args: &BackupArgs, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("backup is not a part of this version yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_a_word_or_a_level() {
        assert_eq!("max".parse(), Ok(Compression::Max));
        assert_eq!("19".parse(), Ok(Compression::Level(19)));
        for text in ["", "0", "20", "-1", "best"] {
            assert!(text.parse::<Compression>().is_err(), "{text:?}");
        }
    }
}
