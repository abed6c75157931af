//! Reading everything back and comparing it with the chunks of the snapshot.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use super::filter::Filter;
use super::job::{FileJob, Start};
use super::layout::Layout;
use super::plan::Candidate;
use super::shared::Shared;
use super::walk::{Step, Walk};
use super::window::{Task, Window, compare};
use super::{Overwrite, RestoreRequest};
use crate::format::tree::{Content, Entry, EntryKind, tag};
use crate::target::FolderCache;

struct Verifier<'v> {
    shared: &'v Shared<'v>,
    tasks: &'v Sender<Task>,
    cache: FolderCache,
    window: Window,
    /// Files that are known not to be right.
    known: HashSet<PathBuf>,
}

/// Nobody waits for the first window here, so it need not be short.
fn whole_window() -> Window {
    Window::new(u32::MAX)
}

pub(super) fn run(shared: &Shared<'_>, request: &RestoreRequest, filter: &Filter, tasks: &Sender<Task>) {
    let known = {
        let report = shared.report();
        report.damaged.iter().chain(&report.problems).map(|problem| problem.path.clone()).collect()
    };
    let mut verifier = Verifier { shared, tasks, cache: FolderCache::new(), window: whole_window(), known };
    let mut walk = Walk::new(shared.origin, request, filter);
    while let Some(step) = walk.next() {
        if shared.must_stop() {
            return;
        }
        if let Step::Entry(entry) = step
            && entry.kind == EntryKind::File
        {
            verifier.add(Arc::new(walk.path().clone()), *entry);
        }
    }
    verifier.compare(None);
}

impl Verifier<'_> {
    fn add(&mut self, folder: Arc<crate::target::TargetPath>, mut entry: Entry) {
        let content = std::mem::replace(&mut entry.content, Content::None);
        let job = Arc::new(FileJob::new(folder, entry, None, Start::Mend));
        if self.known.contains(&job.path()) || job.entry.extension(tag::CAPTURE_PROBLEM).is_some() {
            return;
        }
        let Some(mut layout) = Layout::new(&job.entry).ok().filter(|_| self.looks_right(&job)) else {
            return;
        };
        let mut number = self.window.add_job(job.clone());
        for chunk in self.shared.origin.chunks(&content) {
            let Ok(chunk) = chunk else {
                job.add_damage("its list of chunks is damaged".to_owned());
                break;
            };
            if self.window.is_full() {
                self.compare(Some(&job));
                number = self.window.add_job(job.clone());
            }
            let window = &mut self.window;
            let placed = layout.place(chunk.len, |piece| {
                window.add_candidate(Candidate { job: number, id: chunk.id, chunk_len: chunk.len, piece });
            });
            if placed.is_none() {
                break;
            }
        }
        if self.window.is_full() {
            self.compare(None);
        }
    }

    /// Looks at the file itself; false if there is nothing to compare, because it was left alone or is wrong anyway.
    fn looks_right(&mut self, job: &FileJob) -> bool {
        let folder = self.cache.folder(self.shared.root, &job.folder);
        let existing = folder.and_then(|folder| folder.look(job.name()));
        let was_left_alone = match self.shared.options.overwrite {
            Overwrite::Never | Overwrite::IfNewer => true,
            Overwrite::IfChanged | Overwrite::Always => false,
        };
        match existing {
            Ok(Some(there)) if was_left_alone && there.mtime != job.entry.mtime => false,
            Ok(Some(there)) if there.kind == EntryKind::File && there.size == job.entry.size => true,
            Ok(Some(_) | None) | Err(_) => {
                self.shared.damaged(job.path(), "it is not what was restored".to_owned());
                false
            }
        }
    }

    fn compare(&mut self, open: Option<&Arc<FileJob>>) {
        let window = std::mem::replace(&mut self.window, whole_window());
        let comparison = compare(window.candidates, window.jobs, self.tasks);
        if self.shared.must_stop() {
            return;
        }
        for (candidate, differs) in comparison.candidates.iter().zip(&comparison.differs) {
            if differs.load(Ordering::Acquire)
                && let Some(job) = comparison.jobs.get(candidate.job as usize)
            {
                job.add_damage("it reads back as something else than was written".to_owned());
            }
        }
        for job in &comparison.jobs {
            if open.is_some_and(|open| Arc::ptr_eq(open, job)) {
                continue;
            }
            self.shared.report().files_verified += 1;
            if let Some(message) = job.state().damage.take() {
                self.shared.damaged(job.path(), message);
            }
        }
    }
}
