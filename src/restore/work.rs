//! What the threads do: read frames, write files, finish them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;

use super::job::{FileJob, FileState, Start};
use super::layout;
use super::plan::{self, Candidate, Want};
use super::shared::{Shared, chain};
use super::window::{Comparison, Sealed, Task};
use crate::format::tree::tag;
use crate::target::{Current, FolderCache, TargetError, TargetFile};

/// Files with parts still to come that are kept open; more are opened again for each part.
const OPEN_COUNT_MAX: usize = 256;

pub(super) struct Worker<'r> {
    shared: &'r Shared<'r>,
    cache: FolderCache,
}

impl<'r> Worker<'r> {
    pub(super) fn new(shared: &'r Shared<'r>) -> Self {
        Self { shared, cache: FolderCache::new() }
    }

    /// Works until no more tasks can come.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        for task in tasks {
            // Counted down whatever happens: somebody waits for it.
            let _done = task.done_when_dropped();
            if self.shared.must_stop() {
                continue;
            }
            match &task {
                Task::Run(window, run) => self.read_run(window, run.clone()),
                Task::Plain(window, jobs) => {
                    let jobs = jobs.iter().filter_map(|job| window.jobs.get(*job as usize));
                    jobs.for_each(|job| self.finish_without_pieces(job));
                }
                Task::Compare(comparison, run) => self.compare(comparison, run.clone()),
            }
        }
    }

    fn read_run(&mut self, window: &Sealed, run: Range<usize>) {
        let run = window.wants.get(run).unwrap_or_default();
        let Some(first) = run.first() else { return };
        let frames = plan::frames(run);
        let mut frames_seen = 0;
        let read = self.shared.origin.read_frames(first.place.pack, &frames, &mut |frame, bytes| {
            // Frames come in the order that was asked for, each once; anything else would be written nowhere.
            if frames.get(frames_seen) != Some(&frame) {
                return;
            }
            frames_seen += 1;
            let bytes = bytes.map_err(|error| chain(&error));
            for wants in plan::by_job(run, frame) {
                self.write_group(window, wants, bytes.as_deref().map_err(String::as_str));
            }
        });
        let reason = read.err().map_or_else(|| "it was not read".to_owned(), |error| chain(&error));
        for frame in frames.iter().skip(frames_seen) {
            for wants in plan::by_job(run, *frame) {
                self.write_group(window, wants, Err(&reason));
            }
        }
    }

    /// Writes the pieces of one file that lie in one frame, and finishes the file if they were the last.
    fn write_group(&mut self, window: &Sealed, wants: &[Want], frame: Result<&[u8], &str>) {
        let Some(job) = wants.first().and_then(|want| window.jobs.get(want.job as usize)) else { return };
        let count = wants.len() as u64;
        let is_alone = job.is_alone_with(count);
        let mut state = job.state();
        let file = self.open(job, &mut state, is_alone);
        if is_alone {
            if let Some(file) = &file {
                self.write_pieces(job, file, wants, frame, &mut state);
            }
        } else {
            drop(state);
            let mut outcome = FileState::default();
            if let Some(file) = &file {
                self.write_pieces(job, file, wants, frame, &mut outcome);
            }
            state = job.state();
            state.damage = state.damage.take().or(outcome.damage);
            state.failure = state.failure.take().or(outcome.failure);
            state.was_written |= outcome.was_written;
        }
        if job.pieces_are_done(count) {
            self.finish(job, &mut state, file);
        }
    }

    fn write_pieces(
        &self,
        job: &FileJob,
        file: &TargetFile,
        wants: &[Want],
        frame: Result<&[u8], &str>,
        state: &mut FileState,
    ) {
        let mut written = 0;
        for want in wants {
            let bytes = match self.piece(want, frame) {
                Ok(bytes) => bytes,
                Err(message) => {
                    state.damage.get_or_insert(message);
                    continue;
                }
            };
            let done = if self.shared.options.sparse {
                file.write_sparse_at(bytes, want.piece.offset, job.start == Start::Mend)
            } else {
                file.write_at(bytes, want.piece.offset)
            };
            if let Err(error) = done {
                self.note_failure(state, error);
                break;
            }
            written += bytes.len() as u64;
            state.was_written = true;
        }
        self.shared.bytes_written.fetch_add(written, Ordering::Relaxed);
        self.shared.count_bytes(written);
    }

    /// The bytes of a piece, once its whole chunk has proved to be the right one.
    fn piece<'f>(&self, want: &Want, frame: Result<&'f [u8], &str>) -> Result<&'f [u8], String> {
        let damaged = |why: &str| format!("chunk {} is damaged: {why}", want.id);
        let frame = frame.map_err(damaged)?;
        let part = |from: u32, len: u32, of: &'f [u8]| {
            let from = usize::try_from(from).ok()?;
            of.get(from..from.checked_add(usize::try_from(len).ok()?)?)
        };
        let chunk =
            part(want.place.start, want.place.len, frame).ok_or_else(|| damaged("its frame is too short"))?;
        if !self.shared.origin.verify_chunk(&want.id, chunk) {
            return Err(damaged("other bytes lie in its place"));
        }
        part(want.piece.from, want.piece.len, chunk).ok_or_else(|| damaged("it is too short"))
    }

    /// Makes the file, or opens it for mending, or gives what is open already. `None` if it cannot be written; the
    /// reason is then in `state`.
    fn open(&mut self, job: &FileJob, state: &mut FileState, is_alone: bool) -> Option<Arc<TargetFile>> {
        if state.failure.is_some() {
            return None;
        }
        if let Some(file) = &state.file {
            return Some(file.clone());
        }
        match self.try_open(job, state, is_alone) {
            Ok(file) => {
                let file = Arc::new(file);
                state.was_opened = true;
                if !is_alone && self.shared.open_count.fetch_add(1, Ordering::Relaxed) < OPEN_COUNT_MAX {
                    state.file = Some(file.clone());
                } else if !is_alone {
                    self.shared.open_count.fetch_sub(1, Ordering::Relaxed);
                }
                Some(file)
            }
            Err(error) => {
                self.note_failure(state, error);
                None
            }
        }
    }

    fn try_open(
        &mut self,
        job: &FileJob,
        state: &mut FileState,
        is_alone: bool,
    ) -> Result<TargetFile, TargetError> {
        let folder = self.cache.folder(self.shared.root, &job.folder)?;
        if state.was_opened {
            return folder.open_file(job.name());
        }
        match job.start {
            Start::Fresh => {
                let (file, current) = folder.create_file(job.name(), &job.wanted(true), is_alone)?;
                state.current = Some(current);
                state.was_written = true;
                Ok(file)
            }
            Start::Mend => {
                let file = folder.open_file(job.name())?;
                let existing = file.look()?;
                if existing.link_count != 1 {
                    return Err(TargetError::Replaced);
                }
                // Writing takes away set-user-id bits, so the mode is not relied upon.
                state.current = Some(Current { mode: None, ..existing.current() });
                state.was_written |= existing.size != job.entry.size;
                if existing.size > job.entry.size {
                    file.set_len(job.entry.size)?;
                }
                let holes = layout::holes(&job.entry).map_err(|source| TargetError::Metadata { source })?;
                for (offset, len) in holes.into_iter().filter(|(offset, _)| *offset < existing.size) {
                    file.punch(offset, len.min(existing.size - offset))?;
                }
                Ok(file)
            }
        }
    }

    fn finish_without_pieces(&mut self, job: &FileJob) {
        let mut state = job.state();
        let file = self.open(job, &mut state, true);
        self.finish(job, &mut state, file);
    }

    /// Sets length and metadata, and counts the file.
    fn finish(&mut self, job: &FileJob, state: &mut FileState, file: Option<Arc<TargetFile>>) {
        if state.file.take().is_some() {
            self.shared.open_count.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(file) = file.filter(|_| state.failure.is_none()) {
            let may_end_early = job.start == Start::Mend
                || self.shared.options.sparse
                || state.damage.is_some()
                || job.entry.extension(tag::SPARSE_MAP).is_some();
            if may_end_early && let Err(error) = file.set_len(job.entry.size) {
                self.note_failure(state, error);
            } else {
                let current = state.current.unwrap_or(Current::UNKNOWN);
                let applied = file.apply(&job.wanted(state.damage.is_none()), current);
                self.shared.applied(|| job.path(), applied);
            }
        }
        self.shared.count_file();
        match (state.failure.take(), state.damage.take()) {
            (Some(message), _) => self.shared.problem(job.path(), message),
            (None, Some(message)) => self.shared.damaged(job.path(), message),
            (None, None) if !state.was_written => self.shared.report().files_unchanged += 1,
            (None, None) => {
                self.shared.files_restored.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn note_failure(&self, state: &mut FileState, error: TargetError) {
        state.failure.get_or_insert_with(|| chain(&error));
        if error.is_final() {
            self.shared.fail(error.into());
        }
    }

    fn compare(&mut self, comparison: &Comparison, run: Range<usize>) {
        let mut bytes = Vec::new();
        let candidates = comparison.candidates.get(run.clone()).unwrap_or_default();
        let differs = comparison.differs.get(run).unwrap_or_default();
        let mut opened: Option<(u32, Option<TargetFile>)> = None;
        let mut at = 0;
        for chunk in candidates.chunk_by(|one, next| one.job == next.job && one.is_followed_by(next)) {
            let job = chunk.first().map_or(0, |candidate| candidate.job);
            if opened.as_ref().is_none_or(|(opened, _)| *opened != job) {
                let file = comparison.jobs.get(job as usize).and_then(|job| self.read_file(job));
                opened = Some((job, file));
            }
            let file = opened.as_ref().and_then(|(_, file)| file.as_ref());
            let is_right = file.is_some_and(|file| self.holds(file, chunk, &mut bytes));
            let of_chunk = differs.iter().skip(at).take(chunk.len());
            of_chunk.for_each(|differs| differs.store(!is_right, Ordering::Release));
            at += chunk.len();
        }
    }

    fn read_file(&mut self, job: &FileJob) -> Option<TargetFile> {
        let folder = self.cache.folder(self.shared.root, &job.folder).ok()?;
        folder.read_file(job.name()).ok()
    }

    /// Whether the file holds the chunk that these pieces make up.
    fn holds(&self, file: &TargetFile, pieces: &[Candidate], bytes: &mut Vec<u8>) -> bool {
        let Some(first) = pieces.first() else { return true };
        bytes.clear();
        for piece in pieces.iter().map(|candidate| candidate.piece) {
            let start = bytes.len();
            bytes.resize(start + piece.len as usize, 0);
            let Some(into) = bytes.get_mut(start..) else { return false };
            if !file.read_at(into, piece.offset).is_ok_and(|len| len == piece.len as usize) {
                return false;
            }
        }
        bytes.len() == first.chunk_len as usize && self.shared.origin.verify_chunk(&first.id, bytes)
    }
}
