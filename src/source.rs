//! What can be backed up: folders and files of this computer, and the output of programs.
//!
//! - [`Root`] is one path that was asked for, [`FolderPath`] a folder below it. A root keeps one descriptor open, and
//!   everything below is opened from there without ever following a symbolic link, so that a folder that somebody
//!   replaces by a link while it is being read leads nowhere.
//! - [`Walk`] lists folders, ahead of its single consumer and in the order in which it asks. [`Excludes`] says what
//!   is left out.
//! - [`FolderReader`] and [`SourceFile`] read files and what only an open file tells: extended attributes, inode
//!   flags, holes. Files are read, never mapped: one that is truncated meanwhile would kill the process.
//! - [`CommandSource`] reads what a program prints, [`Owners`] knows the names of users and groups.
//!
//! No descriptor of a folder stays open longer than its listing, or than a reader stays in it, so that neither depth
//! nor breadth of a tree can run into the limit of open files. Names are bytes; nothing here assumes UTF-8.
//!
//! A file that vanishes between being named by its folder and being looked at is left out in silence, as if the
//! folder had been read a moment later. Everything else that cannot be looked at is a
//! [`Problem`](crate::event::Problem).

mod command;
mod excludes;
mod extras;
mod folder;
mod listing;
mod open;
mod owners;
mod reader;
mod sparse;
mod walk;

use std::io;
use std::path::PathBuf;

pub use command::CommandSource;
pub use excludes::{ExcludeError, Excludes, ExcludesBuilder};
pub use extras::ExtrasError;
pub use folder::{FolderPath, Root, clean_path};
pub use listing::{Found, Listing};
pub use owners::Owners;
pub use reader::{FolderReader, SourceFile, Stamp};
pub use walk::{Walk, WalkOptions};

/// Why a path cannot be backed up at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing was named.
    #[error("a path to back up is empty")]
    EmptyPath,
    /// There is nothing at the path, or it may not be looked at.
    #[error("could not open {}", path.display())]
    Unreadable {
        /// The path, absolute.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod fixture;
