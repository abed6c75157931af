//! A tree as one stream: a tar or zip archive, written to anything that takes bytes, a pipe among them.
//!
//! Tar keeps all that a snapshot knows but holes, birth times and inode flags. Zip is for people on other systems:
//! it keeps names (as text), permission bits and times in seconds; nothing is compressed, because whoever reads it
//! is meant to get it fast.

mod acl;
mod tar;
mod zip;

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};

pub use self::tar::TarWriter;
pub use self::zip::ZipWriter;

use super::TargetPath;
use crate::format::tree::Entry;

/// Why an entry, or the rest of the archive, could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The archive itself could not be written; nothing more can be added.
    #[error("could not write the archive")]
    Write {
        /// Why.
        source: io::Error,
    },
    /// The content of a file could not be read, or had another length than the entry says. Zeros stand in the
    /// archive for what is missing; more can be added.
    #[error("its content could not be read")]
    Content {
        /// Why.
        source: io::Error,
    },
    /// This kind of archive cannot hold the entry; it was left out.
    #[error("a {format} archive cannot hold it")]
    NotKept {
        /// `tar` or `zip`.
        format: &'static str,
    },
}

impl ArchiveError {
    /// Whether the archive is of no more use.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Write { .. } => true,
            Self::Content { .. } | Self::NotKept { .. } => false,
        }
    }
}

/// Writes a tree into an archive, folders before what is in them. Must be finished, or the archive is cut short.
pub trait ArchiveWriter {
    /// Adds a folder.
    fn folder(&mut self, path: &TargetPath, entry: &Entry) -> Result<(), ArchiveError>;

    /// Adds a file with the bytes that `content` gives, which should be as many as `entry.size`.
    fn file(&mut self, path: &TargetPath, entry: &Entry, content: &mut dyn Read) -> Result<(), ArchiveError>;

    /// Adds a symbolic link, device, named pipe or socket. [`ArchiveError::NotKept`] if the archive cannot.
    fn other(&mut self, path: &TargetPath, entry: &Entry) -> Result<(), ArchiveError>;

    /// Adds a further name of the file that was added as `first`. [`ArchiveError::NotKept`] if the archive knows no
    /// hard links; the file can then be added again.
    fn link(&mut self, path: &TargetPath, entry: &Entry, first: &TargetPath) -> Result<(), ArchiveError>;

    /// Writes the end of the archive and hands everything on.
    fn finish(self: Box<Self>) -> Result<(), ArchiveError>;
}

/// Reads exactly as many bytes as an archive announced. What the content lacks is filled with zeros, so that the
/// archive stays whole, and remembered as an error.
struct ExactReader<'r> {
    inner: &'r mut dyn Read,
    left: u64,
    failure: Option<io::Error>,
}

impl<'r> ExactReader<'r> {
    fn new(inner: &'r mut dyn Read, len: u64) -> Self {
        Self { inner, left: len, failure: None }
    }

    /// After everything was read: whether it was what was announced.
    fn finish(self) -> Result<(), ArchiveError> {
        match self.failure {
            None => Ok(()),
            Some(source) => Err(ArchiveError::Content { source }),
        }
    }
}

impl Read for ExactReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(into) = into.get_mut(..len).filter(|into| !into.is_empty()) else { return Ok(0) };
        let mut count = 0;
        while self.failure.is_none() && count == 0 {
            match self.inner.read(into) {
                Ok(0) => self.failure = Some(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => count = read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failure = Some(error),
            }
        }
        if count == 0 {
            into.fill(0);
            count = into.len();
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn write_error(source: io::Error) -> ArchiveError {
    ArchiveError::Write { source }
}

/// Hands what is buffered to whoever reads the archive.
fn flush(mut to: impl Write) -> Result<(), ArchiveError> {
    to.flush().map_err(write_error)
}
