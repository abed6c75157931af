//! What the stages of a backup tell each other.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::event::Problem;
use crate::format::tree::{ChunkRef, Entry};
use crate::id::{ContentId, NodeId};
use crate::repo::Earlier;
use crate::shelf::Taken;
use crate::source::{FolderPath, Found};

/// Work for any worker.
pub enum Task {
    /// Small files, and entries of which only metadata is read.
    Files(Vec<FileTask>, Sender<Vec<FileOutcome>>),
    /// A stretch of a large file, cut into chunks.
    Part(FilePart, Sender<Vec<ChunkRef>>),
    /// Ids taken over from the parent: are they all stored?
    Confirm(Vec<ContentId>),
}

/// A file, link or device to be stored.
pub struct FileTask {
    /// The folder that it is in.
    pub folder: FolderPath,
    /// What the walk saw of it.
    pub found: Found,
    /// Whether the parent has something of this name.
    pub was_there: bool,
    /// The chunks of the file in the parent that it resembles.
    pub earlier: Vec<ChunkRef>,
}

/// A stretch of a large file.
pub struct FilePart {
    /// Its bytes.
    pub bytes: Taken<Vec<u8>>,
    /// Lengths of its chunks, which add up to all bytes.
    pub chunk_lens: Vec<usize>,
    /// Bytes of the file before it.
    pub at: u64,
    /// What lay there in the earlier version.
    pub earlier: Earlier,
}

/// What became of a [`FileTask`].
pub struct FileOutcome {
    /// The entry to be kept, its content still to be filled in; `None` if nothing of it could be read.
    pub entry: Option<Entry>,
    /// The chunks of a small file; those of a large one have come as parts.
    pub chunks: Vec<ChunkRef>,
    /// What went wrong.
    pub problem: Option<Problem>,
    /// Whether the parent had something of this name.
    pub was_there: bool,
    /// Bytes read.
    pub bytes_read: u64,
}

/// The tree in its order, for the assembler.
pub enum Step {
    /// A folder begins. Its content is filled in when it ends. With the node of one in the parent that it resembles.
    Open(Box<Entry>, Option<NodeId>),
    /// The folder that was opened last ends.
    Close,
    /// An entry that is complete: unchanged, or without content.
    Ready(Entry),
    /// The next file of the batch in hand; when that is used up, of the next one.
    Batched,
    /// A large file begins.
    LargeOpen,
    /// The next stretch of it.
    LargePart(Receiver<Vec<ChunkRef>>),
    /// It ends; its content is filled in.
    LargeClose(Box<FileOutcome>),
}

/// Counts of the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files that the parent did not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files that are as the parent has them.
    pub files_unchanged: u64,
    /// Folders.
    pub directories: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A channel for one outcome.
pub fn outcome_channel<T>() -> (Sender<T>, Receiver<T>) {
    bounded(1)
}
