//! `repo dump`: writes a file or an archive to standard output.

use std::io::BufRead;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::args::{Narrow, SnapshotName};
use crate::cli::attempt::Attempt;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::selection::{Found, find_path, find_snapshot, owner_names};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Content, Entry, EntryKind, tag};
use crate::id::NodeId;
use crate::target::archive::{ArchiveWriter, TarWriter, ZipWriter};

use archive::Archiver;
use file_bytes::FileBytes;

mod archive;
mod file_bytes;

/// Write a file of a snapshot to standard output.
///
/// A folder is written as an archive: tar, unless another kind is asked for.
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

/// Writes the file or the archive. Nothing else is ever written to standard output.
pub fn run(args: &DumpArgs, context: &Context) -> Result<Exit, Failure> {
    let repo = context.open_repository()?;
    let snapshot = find_snapshot(&repo, &args.snapshot, &args.narrow)?;
    context.read(&repo, |attempt| dump(args, context, &snapshot, attempt))
}

fn dump(args: &DumpArgs, context: &Context, snapshot: &Snapshot, attempt: &Attempt) -> Result<Exit, Failure> {
    let found = find_path(&attempt.reader, snapshot.root, &args.what)?;
    match (found.folder(), found) {
        (Some(folder), _) => dump_folder(args, context, snapshot, attempt, folder),
        (None, Found::Entry(entry)) => {
            if args.archive.is_some() {
                let sentence = format!("{} is no folder; archives are made of folders", args.what.display());
                return Err(Failure::usage(sentence).hint("leave out --archive"));
            }
            dump_file(args, context, attempt, &entry)
        }
        (None, Found::Root(_)) => unreachable!("the root is a folder"),
    }
}

fn dump_file(args: &DumpArgs, context: &Context, attempt: &Attempt, entry: &Entry) -> Result<Exit, Failure> {
    let what = args.what.display();
    if entry.kind != EntryKind::File {
        return Err(Failure::new(Exit::Failed, format!("{what} is no file, so there is nothing to write")));
    }
    if let (Content::None, Some(why)) = (&entry.content, entry.extension(tag::CAPTURE_PROBLEM))
        && entry.size > 0
    {
        let why = String::from_utf8_lossy(why);
        return Err(Failure::new(Exit::Failed, format!("the content of {what} was not stored: {why}")));
    }
    let failed = || format!("{what} could not be read to its end");
    let mut bytes = FileBytes::new(&attempt.reader, entry).or_fail(failed)?;
    let mut output = attempt.output();
    loop {
        if context.is_interrupted() {
            return Err(Failure::interrupted());
        }
        let piece = bytes.fill_buf().or_fail(failed)?;
        if piece.is_empty() {
            break;
        }
        output.bytes(piece)?;
        let len = piece.len();
        bytes.consume(len);
    }
    output.finish()?;
    Ok(Exit::Done)
}

fn dump_folder(
    args: &DumpArgs,
    context: &Context,
    snapshot: &Snapshot,
    attempt: &Attempt,
    folder: NodeId,
) -> Result<Exit, Failure> {
    let output = attempt.output();
    if output.is_terminal() {
        let sentence =
            format!("{} is a folder, and an archive is nothing for a terminal", args.what.display());
        return Err(
            Failure::usage(sentence).hint("write it to a file or a pipe, or look inside with `repo ls`")
        );
    }
    let (users, groups) = owner_names(snapshot);
    let writer: Box<dyn ArchiveWriter> = match args.archive.unwrap_or(ArchiveKind::Tar) {
        ArchiveKind::Tar => Box::new(TarWriter::new(output, &users, &groups)),
        ArchiveKind::Zip => Box::new(ZipWriter::new(output)),
    };
    Archiver::new(context, attempt, writer).run(folder)
}
