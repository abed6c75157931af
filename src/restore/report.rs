//! What a restore did.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::event::{Problem, serialize_problems};

/// What a restore did, or from [`super::preview`] what it would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RestoreReport {
    /// Files made or mended.
    pub files_restored: u64,
    /// Files whose content was right already, or that were to be left alone.
    pub files_unchanged: u64,
    /// Folders restored.
    pub folders: u64,
    /// Symbolic links made.
    pub symlinks: u64,
    /// Further names of files made.
    pub hard_links: u64,
    /// Devices, named pipes and sockets made.
    pub special_files: u64,
    /// Bytes written into files.
    pub bytes_written: u64,
    /// Bytes that were right already.
    pub bytes_unchanged: u64,
    /// Entries removed because the snapshot does not have them.
    pub deleted: u64,
    /// Entries compared after the restore.
    pub files_verified: u64,
    /// How many problems there were; the first of them are in `problems`.
    pub problem_count: u64,
    /// What could not be restored as it should; at most 10,000.
    #[serde(serialize_with = "serialize_problems")]
    pub problems: Vec<Problem>,
    /// How many files are damaged in the repository; the first of them are in `damaged`.
    pub damaged_count: u64,
    /// Files that lack a part because the repository is damaged; at most 100,000.
    #[serde(serialize_with = "serialize_problems")]
    pub damaged: Vec<Problem>,
    /// How long it took.
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub duration: Duration,
}

const PROBLEMS_LISTED_MAX: usize = 10_000;
const DAMAGED_LISTED_MAX: usize = 100_000;

impl RestoreReport {
    pub(super) fn add_problem(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_LISTED_MAX {
            self.problems.push(problem);
        }
    }

    pub(super) fn add_damaged(&mut self, problem: Problem) {
        self.damaged_count += 1;
        if self.damaged.len() < DAMAGED_LISTED_MAX {
            self.damaged.push(problem);
        }
    }
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}
