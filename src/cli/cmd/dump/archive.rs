//! A folder of a snapshot as an archive.

use std::collections::HashMap;

use crate::cli::attempt::Attempt;
use crate::cli::cmd::dump::file_bytes::FileBytes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{output_failed, safe_name};
use crate::event::with_causes;
use crate::format::tree::{Entry, EntryKind, tag};
use crate::id::NodeId;
use crate::repo::DirectoryEntries;
use crate::target::TargetPath;
use crate::target::archive::{ArchiveError, ArchiveWriter};

/// Device, as the entry keeps it, and inode of a file with several names.
type LinkGroup = (Vec<u8>, u64);

/// Writes what is in a folder into an archive.
pub struct Archiver<'a> {
    /// Where to ask whether to stop.
    pub context: &'a Context,
    /// Where the tree comes from.
    pub attempt: &'a Attempt,
    /// Where it goes.
    pub writer: Box<dyn ArchiveWriter + 'a>,
    first_names: HashMap<LinkGroup, TargetPath>,
    exit: Exit,
}

impl<'a> Archiver<'a> {
    /// Writes into this archive.
    pub fn new(context: &'a Context, attempt: &'a Attempt, writer: Box<dyn ArchiveWriter + 'a>) -> Self {
        Self { context, attempt, writer, first_names: HashMap::new(), exit: Exit::Done }
    }

    /// Writes everything below the folder. What cannot be read or kept is told, and the rest goes on.
    pub fn run(mut self, folder: NodeId) -> Result<Exit, Failure> {
        let mut path = TargetPath::root();
        let mut open: Vec<DirectoryEntries<'_>> = vec![self.attempt.reader.directory(folder)];
        while let Some(entries) = open.last_mut() {
            if self.attempt.is_void() {
                break;
            }
            match entries.next() {
                Some(Ok(entry)) => {
                    if let Some(id) = self.entry(&mut path, &entry)? {
                        open.push(self.attempt.reader.directory(id));
                    }
                }
                Some(Err(error)) => {
                    self.problem(&path, &error, Exit::Damage);
                }
                None => {
                    open.pop();
                    path.pop();
                }
            }
        }
        self.writer.finish().map_err(|error| archive_failed(&error))?;
        Ok(self.exit)
    }

    /// Writes an entry. For a folder returns its node, with `path` gone down to it.
    fn entry(&mut self, path: &mut TargetPath, entry: &Entry) -> Result<Option<NodeId>, Failure> {
        if self.context.is_interrupted() {
            return Err(Failure::interrupted());
        }
        let here = path.join(entry.name.as_slice())?;
        let written = match entry.kind {
            EntryKind::Directory => self.writer.folder(&here, entry),
            EntryKind::File => self.file(&here, entry),
            EntryKind::Symlink
            | EntryKind::BlockDevice
            | EntryKind::CharDevice
            | EntryKind::Fifo
            | EntryKind::Socket => self.writer.other(&here, entry),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.is_final() => return Err(archive_failed(&error)),
            Err(error @ ArchiveError::NotKept { .. }) => self.problem(&here, &error, Exit::Incomplete),
            Err(error) => self.problem(&here, &error, Exit::Damage),
        }
        let folder = entry.folder();
        if folder.is_some() {
            *path = here;
        }
        Ok(folder)
    }

    fn file(&mut self, path: &TargetPath, entry: &Entry) -> Result<(), ArchiveError> {
        if let Some(device) = entry.extension(tag::HARD_LINK) {
            let group = (device.to_vec(), entry.inode);
            if let Some(first) = self.first_names.get(&group) {
                match self.writer.link(path, entry, first) {
                    Err(ArchiveError::NotKept { .. }) => {}
                    linked => return linked,
                }
            } else {
                self.first_names.insert(group, path.clone());
            }
        }
        let mut bytes =
            FileBytes::new(&self.attempt.reader, entry).map_err(|source| ArchiveError::Content { source })?;
        self.writer.file(path, entry, &mut bytes)
    }

    fn problem(&mut self, path: &TargetPath, error: &(dyn std::error::Error + 'static), exit: Exit) {
        if self.attempt.is_void() {
            return;
        }
        self.context.warn(&format!("{}: {}", safe_name(path.as_bytes()), with_causes(error)));
        if self.exit != Exit::Damage {
            self.exit = exit;
        }
    }
}

fn archive_failed(error: &ArchiveError) -> Failure {
    match error {
        ArchiveError::Write { source } => output_failed(source),
        ArchiveError::Content { .. } | ArchiveError::NotKept { .. } => Failure::of(Exit::Failed, &OfArchive),
    }
}

/// Only [`ArchiveError::Write`] is final.
#[derive(Debug, thiserror::Error)]
#[error("the archive could not be finished")]
struct OfArchive;
