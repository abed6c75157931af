//! One file on its way into the target, shared by the threads that write its parts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::format::tree::Entry;
use crate::target::{Current, TargetFile, TargetPath, Wanted};

/// How a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing is there.
    Fresh,
    /// A file is there, which is mended in place.
    Mend,
}

#[derive(Debug)]
pub(super) struct FileJob {
    pub(super) folder: Arc<TargetPath>,
    pub(super) entry: Entry,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) start: Start,
    /// Pieces that nobody has written yet, and one more while the planner may still add some. Whoever brings it
    /// to zero finishes the file.
    left: AtomicU64,
    state: Mutex<FileState>,
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    /// Kept open between its parts, unless too many are.
    pub(super) file: Option<Arc<TargetFile>>,
    /// Whether it was made, or opened for mending, before.
    pub(super) was_opened: bool,
    /// Whether anything of its content was changed.
    pub(super) was_written: bool,
    pub(super) current: Option<Current>,
    /// What is damaged in the repository.
    pub(super) damage: Option<String>,
    /// What went wrong in the target; the rest of the file is not tried.
    pub(super) failure: Option<String>,
}

impl FileJob {
    pub(super) fn new(
        folder: Arc<TargetPath>,
        entry: Entry,
        owner: Option<(u32, u32)>,
        start: Start,
    ) -> Self {
        Self { folder, entry, owner, start, left: AtomicU64::new(1), state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, FileState> {
        // A thread that panicked ends the whole restore, so what it left behind is not used for long.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_pieces(&self, count: u64) {
        self.left.fetch_add(count, Ordering::AcqRel);
    }

    /// Whether nobody else has anything to do with this file.
    pub(super) fn is_alone_with(&self, count: u64) -> bool {
        self.left.load(Ordering::Acquire) == count
    }

    /// Says that pieces are done; true for whoever has to finish the file.
    pub(super) fn pieces_are_done(&self, count: u64) -> bool {
        self.left.fetch_sub(count, Ordering::AcqRel) == count
    }

    /// The planner adds no more; true if nothing is left to be written.
    pub(super) fn is_planned(&self) -> bool {
        self.pieces_are_done(1)
    }

    pub(super) fn add_damage(&self, message: String) {
        self.state().damage.get_or_insert(message);
    }

    pub(super) fn wanted(&self, with_time: bool) -> Wanted<'_> {
        Wanted { entry: &self.entry, owner: self.owner, with_time }
    }

    pub(super) fn name(&self) -> &[u8] {
        self.entry.name.as_slice()
    }

    pub(super) fn path(&self) -> std::path::PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.folder.to_path_buf().join(std::ffi::OsStr::from_bytes(self.name()))
    }
}
