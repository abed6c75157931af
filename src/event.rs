//! What an operation tells while it runs: counters that a face may poll, and events that it may show.
//!
//! Operations know no terminal. They count into [`Progress`], hand [`Problem`]s and notes to an [`Observer`], and
//! ask it whether they should stop.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Something of the source or the target that could not be read or written as it should; the operation goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub path: PathBuf,
    /// One sentence, lower case, without a full stop.
    pub message: String,
}

/// For reports: a list of `{"path": ..., "message": ...}`. A path that is not UTF-8 is
/// `{"bytes": "<base64>", "text": "<lossy>"}`.
pub fn serialize_problems<'a, S: serde::Serializer>(
    problems: &'a [Problem],
    to: S,
) -> Result<S::Ok, S::Error> {
    #[derive(serde::Serialize)]
    struct Shown<'a> {
        path: crate::units::PathText<'a>,
        message: &'a str,
    }
    let path = |problem: &'a Problem| crate::units::PathText(&problem.path);
    to.collect_seq(problems.iter().map(|problem| Shown { path: path(problem), message: &problem.message }))
}

/// Counters of a running operation. They only grow, but for the totals, which may be corrected.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files found so far, or to be done in all once `total_is_known`.
    pub files_total: AtomicU64,
    /// Bytes found so far, or to be done in all.
    pub bytes_total: AtomicU64,
    /// Whether the totals are final.
    pub total_is_known: AtomicBool,
    /// Files done.
    pub files_done: AtomicU64,
    /// Bytes done, as the source or target counts them.
    pub bytes_done: AtomicU64,
    /// Bytes written to the storage.
    pub bytes_stored: AtomicU64,
}

impl Progress {
    /// Adds to a counter: `Progress::add(&progress.files_done, 1)`.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Whoever watches an operation. Called from any thread.
pub trait Observer: Send + Sync {
    /// The counters to count into.
    fn progress(&self) -> &Progress;

    /// A new phase begins, named in words for people: `reading files`.
    fn phase(&self, name: &'static str);

    /// A problem that the report will list.
    fn problem(&self, problem: &Problem);

    /// Something worth knowing that is no problem.
    fn note(&self, text: &str);

    /// Whether somebody asked to stop. The operation then ends soon, with nothing half-done visible.
    fn is_interrupted(&self) -> bool;
}

/// An error and its causes on one line, for notes and findings.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Counts, and shows nothing.
#[derive(Debug, Default)]
pub struct Silent {
    progress: Progress,
}

impl Observer for Silent {
    fn progress(&self) -> &Progress {
        &self.progress
    }
    fn phase(&self, _name: &'static str) {}
    fn problem(&self, _problem: &Problem) {}
    fn note(&self, _text: &str) {}
    fn is_interrupted(&self) -> bool {
        false
    }
}
