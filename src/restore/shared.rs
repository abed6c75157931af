//! What all threads of a restore share: options, the report so far, and the reason to stop.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Origin, RestoreError, RestoreOptions, RestoreReport};
use crate::event::{Observer, Problem, Progress};
use crate::format::tree::Entry;
use crate::target::{Applied, OwnerMap, TargetError, TargetPath, TargetRoot};

pub(super) struct Shared<'r> {
    pub(super) origin: &'r dyn Origin,
    pub(super) observer: &'r dyn Observer,
    pub(super) owners: &'r OwnerMap,
    pub(super) options: &'r RestoreOptions,
    pub(super) root: &'r TargetRoot,
    /// Files that are kept open between their parts.
    pub(super) open_count: AtomicUsize,
    pub(super) bytes_written: AtomicU64,
    pub(super) files_restored: AtomicU64,
    report: Mutex<RestoreReport>,
    stop: AtomicBool,
    failure: Mutex<Option<RestoreError>>,
    owners_refused: AtomicU64,
    xattrs_refused: AtomicU64,
    flags_refused: AtomicU64,
}

impl<'r> Shared<'r> {
    pub(super) fn new(
        context: &super::RestoreContext<'r>,
        options: &'r RestoreOptions,
        root: &'r TargetRoot,
    ) -> Self {
        Self {
            origin: context.origin,
            observer: context.observer,
            owners: context.owners,
            options,
            root,
            open_count: AtomicUsize::new(0),
            bytes_written: AtomicU64::new(0),
            files_restored: AtomicU64::new(0),
            report: Mutex::default(),
            stop: AtomicBool::new(false),
            failure: Mutex::default(),
            owners_refused: AtomicU64::new(0),
            xattrs_refused: AtomicU64::new(0),
            flags_refused: AtomicU64::new(0),
        }
    }

    pub(super) fn report(&self) -> MutexGuard<'_, RestoreReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn problem(&self, path: PathBuf, message: String) {
        let problem = Problem { path, message };
        self.observer.problem(&problem);
        self.report().add_problem(problem);
    }

    pub(super) fn damaged(&self, path: PathBuf, message: String) {
        let problem = Problem { path, message };
        self.observer.problem(&problem);
        self.report().add_damaged(problem);
    }

    /// A problem with one entry of the target; or the end, if nothing more can be written.
    pub(super) fn target_problem(&self, path: PathBuf, error: TargetError) {
        let message = chain(&error);
        if error.is_final() {
            self.fail(error.into());
        } else {
            self.problem(path, message);
        }
    }

    pub(super) fn applied(&self, path: impl FnOnce() -> PathBuf, applied: Applied) {
        for (refused, count) in [
            (applied.owner_refused, &self.owners_refused),
            (applied.xattrs_refused, &self.xattrs_refused),
            (applied.flags_refused, &self.flags_refused),
        ] {
            if refused {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        if !applied.problems.is_empty() {
            let path = path();
            applied.problems.into_iter().for_each(|error| self.target_problem(path.clone(), error));
        }
    }

    /// Remembers the first reason to stop.
    pub(super) fn fail(&self, error: RestoreError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn must_stop(&self) -> bool {
        if self.observer.is_interrupted() {
            self.fail(RestoreError::Interrupted);
        }
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn take_failure(&self) -> Result<(), RestoreError> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    pub(super) fn count_file(&self) {
        Progress::add(&self.observer.progress().files_done, 1);
    }

    pub(super) fn count_bytes(&self, count: u64) {
        Progress::add(&self.observer.progress().bytes_done, count);
    }

    /// An entry whose content is right, or that is to be left alone.
    pub(super) fn count_unchanged(&self, entry: &Entry) {
        let mut report = self.report();
        report.files_unchanged += 1;
        report.bytes_unchanged += entry.size;
        drop(report);
        self.count_file();
        self.count_bytes(entry.size);
    }

    pub(super) fn owner(&self, entry: &Entry) -> Option<(u32, u32)> {
        self.options.owner.then(|| self.owners.local(entry.uid, entry.gid))
    }

    /// Says once what this user or this file system cannot do, and gives the report.
    pub(super) fn finish(self) -> RestoreReport {
        for (count, what) in [
            (&self.owners_refused, "owner and group could not be set (that takes root)"),
            (&self.xattrs_refused, "some extended attributes could not be set here"),
            (&self.flags_refused, "some inode flags could not be set here"),
        ] {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                self.observer.note(&format!("{} entries: {what}", crate::units::count_text(count)));
            }
        }
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.bytes_written += self.bytes_written.into_inner();
        report.files_restored += self.files_restored.into_inner();
        report
    }
}

/// The path of something in a folder of the target, for reports.
pub(super) fn join(folder: &TargetPath, name: &[u8]) -> PathBuf {
    folder.to_path_buf().join(std::ffi::OsStr::from_bytes(name))
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

/// Counts tasks down; one thread waits for the last.
#[derive(Debug, Default)]
pub(super) struct Countdown {
    left: Mutex<usize>,
    reached_zero: Condvar,
}

impl Countdown {
    pub(super) fn new(count: usize) -> Self {
        Self { left: Mutex::new(count), reached_zero: Condvar::new() }
    }

    pub(super) fn one_done(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.reached_zero.notify_all();
        }
    }

    pub(super) fn wait(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while *left > 0 {
            left = self.reached_zero.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
