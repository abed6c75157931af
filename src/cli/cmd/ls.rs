//! `repo ls`: lists what is in a snapshot.

use clap::Args;

use crate::cli::args::{Narrow, SnapshotPath, snapshot_path_parser};
use crate::cli::attempt::Attempt;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::selection::{Found, find_path, find_snapshot, in_snapshot, to_path};
use crate::format::snapshot::Snapshot;
use crate::id::NodeId;
use crate::repo::TreeReader;

use lines::Lines;

mod lines;

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

    /// Show kind, rights, number of names, owner, group, size and time, as ls -l does.
    ///
    /// The size of a folder is that of everything in it.
    #[arg(short, long)]
    pub long: bool,

    /// Also list what is in the folders below.
    #[arg(short = 'R', long)]
    pub recursive: bool,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// Lists entries, one absolute path a line.
pub fn run(args: &LsArgs, context: &Context) -> Result<Exit, Failure> {
    let repo = context.open_repository()?;
    let snapshot = find_snapshot(&repo, &args.snapshot.snapshot, &args.narrow)?;
    context.read(&repo, |attempt| list(args, context, &snapshot, attempt))?;
    Ok(Exit::Done)
}

fn list(args: &LsArgs, context: &Context, snapshot: &Snapshot, attempt: &Attempt) -> Result<(), Failure> {
    let lines = Lines::new(attempt.output(), context, args.long, snapshot, &attempt.reader)?;
    let mut listing = Listing { args, context, reader: &attempt.reader, lines };
    match &args.snapshot.path {
        Some(path) => listing.path(snapshot.root, &in_snapshot(path))?,
        None => listing.sources(snapshot)?,
    }
    listing.lines.finish()
}

struct Listing<'a> {
    args: &'a LsArgs,
    context: &'a Context,
    reader: &'a TreeReader,
    lines: Lines<'a>,
}

impl Listing<'_> {
    /// What was backed up, and what is directly in it.
    fn sources(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        for path in &snapshot.paths {
            match find_path(self.reader, snapshot.root, to_path(path.as_slice()))? {
                Found::Root(id) => self.folder(id, b"/")?,
                Found::Entry(entry) => {
                    self.lines.entry(path.as_slice(), &entry)?;
                    if let Some(id) = entry.folder() {
                        self.folder(id, path.as_slice())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is in the folder at this path, or the file that it is.
    fn path(&mut self, root: NodeId, path: &[u8]) -> Result<(), Failure> {
        let found = find_path(self.reader, root, to_path(path))?;
        match (found.folder(), found) {
            (Some(id), _) => self.folder(id, path),
            (None, Found::Entry(entry)) => self.lines.entry(path, &entry),
            (None, Found::Root(id)) => self.folder(id, path),
        }
    }

    fn folder(&mut self, id: NodeId, path: &[u8]) -> Result<(), Failure> {
        // A stack instead of recursion: a tree may be deeper than the stack of a thread.
        let mut open = vec![(self.reader.directory(id), path.strip_suffix(b"/").unwrap_or(path).len())];
        let mut path = path.strip_suffix(b"/").unwrap_or(path).to_vec();
        while let Some((entries, len)) = open.last_mut() {
            path.truncate(*len);
            let Some(entry) = entries.next() else {
                open.pop();
                continue;
            };
            let entry = entry?;
            path.push(b'/');
            path.extend_from_slice(entry.name.as_slice());
            self.lines.entry(&path, &entry)?;
            if let Some(id) = entry.folder()
                && self.args.recursive
            {
                if self.context.is_interrupted() {
                    return Err(Failure::interrupted());
                }
                open.push((self.reader.directory(id), path.len()));
            }
        }
        Ok(())
    }
}
