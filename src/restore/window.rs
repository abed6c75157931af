//! So many files and chunks as are worked on together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::job::{FileJob, Start};
use super::plan::{self, Candidate, Want};
use super::shared::{Countdown, Shared, chain};
use crate::format::tree::Entry;
use crate::target::TargetPath;
use crossbeam_channel::Sender;

/// Files and folder ends of one window.
const ENTRY_COUNT_MAX: usize = 16_384;
const ENTRY_COUNT_FIRST: usize = 512;
/// Pieces of files in one window.
const CANDIDATE_COUNT_MAX: usize = 65_536;
/// Bytes of content in one window. They are never in memory together; this bounds how far a frame's users spread.
const CONTENT_BYTES_MAX: u64 = 1 << 30;
/// Files without any piece to write that one thread takes on at once.
const PLAIN_RUN_LEN: usize = 64;
/// Bytes that one thread reads back at once.
const COMPARE_BYTES_MAX: u64 = 16 << 20;
const COMPARE_COUNT_MAX: usize = 1024;

/// What is done when everything before it in the walk has been written.
#[derive(Debug)]
pub(super) enum End {
    /// A further name of a file.
    Link { folder: Arc<TargetPath>, entry: Box<Entry>, first: FirstName },
    /// The metadata of a folder.
    Folder { path: Arc<TargetPath>, entry: Box<Entry> },
}

/// The name under which a file with several names was restored.
#[derive(Debug, Clone)]
pub(super) struct FirstName {
    pub(super) folder: Arc<TargetPath>,
    pub(super) name: Box<[u8]>,
}

/// A window while it is filled.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) jobs: Vec<Arc<FileJob>>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) ends: Vec<End>,
    bytes: u64,
    entry_count_max: usize,
}

/// A window that is worked on.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) jobs: Vec<Arc<FileJob>>,
    pub(super) wants: Vec<Want>,
    pub(super) countdown: Countdown,
}

/// Pieces of files that are compared with what is in the target.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) jobs: Vec<Arc<FileJob>>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) differs: Vec<AtomicBool>,
    pub(super) countdown: Countdown,
}

/// What a thread takes on.
#[derive(Debug)]
pub(super) enum Task {
    /// Read frames and write what is wanted from them.
    Run(Arc<Sealed>, std::ops::Range<usize>),
    /// Make or finish files that need nothing to be written.
    Plain(Arc<Sealed>, Vec<u32>),
    /// Compare pieces.
    Compare(Arc<Comparison>, std::ops::Range<usize>),
}

impl Task {
    fn countdown(&self) -> CountdownOf {
        match self {
            Self::Run(window, _) | Self::Plain(window, _) => CountdownOf::Window(window.clone()),
            Self::Compare(comparison, _) => CountdownOf::Comparison(comparison.clone()),
        }
    }

    /// Counts the task as done when what is returned goes away, also if the thread panics.
    pub(super) fn done_when_dropped(&self) -> impl Drop + use<> {
        Done(self.countdown())
    }
}

enum CountdownOf {
    Window(Arc<Sealed>),
    Comparison(Arc<Comparison>),
}

struct Done(CountdownOf);

impl Drop for Done {
    fn drop(&mut self) {
        match &self.0 {
            CountdownOf::Window(window) => window.countdown.one_done(),
            CountdownOf::Comparison(comparison) => comparison.countdown.one_done(),
        }
    }
}

/// Hands a task on. If every thread has panicked, nobody is left to take it; it then counts as done, so that
/// waiting for it ends and the panic comes out.
fn send(tasks: &Sender<Task>, task: Task) {
    if let Err(unsent) = tasks.send(task) {
        drop(unsent.0.done_when_dropped());
    }
}

impl Window {
    /// An empty window, number `number` of this restore. The first ones are short, so that the threads start soon.
    pub(super) fn new(number: u32) -> Self {
        let entry_count_max = ENTRY_COUNT_FIRST.checked_shl(2 * number.min(8)).unwrap_or(ENTRY_COUNT_MAX);
        Self { entry_count_max: entry_count_max.min(ENTRY_COUNT_MAX), ..Self::default() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.jobs.len() + self.ends.len() >= self.entry_count_max
            || self.candidates.len() >= CANDIDATE_COUNT_MAX
            || self.bytes >= CONTENT_BYTES_MAX
    }

    pub(super) fn add_job(&mut self, job: Arc<FileJob>) -> u32 {
        self.jobs.push(job);
        u32::try_from(self.jobs.len() - 1).expect("a window holds few jobs")
    }

    pub(super) fn add_candidate(&mut self, candidate: Candidate) {
        self.bytes += u64::from(candidate.piece.len);
        self.candidates.push(candidate);
    }

    /// Plans the window and hands it to the threads. `open` is the file that goes on in the next window.
    pub(super) fn seal(
        self,
        open: Option<&Arc<FileJob>>,
        shared: &Shared<'_>,
        tasks: &Sender<Task>,
    ) -> (Arc<Sealed>, Vec<End>) {
        let candidates = without_what_is_right(self.candidates, &self.jobs, shared, tasks);
        let mut wants = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let Some(job) = self.jobs.get(candidate.job as usize) else { continue };
            match locate(&candidate, shared) {
                Ok(want) => {
                    job.add_pieces(1);
                    wants.push(want);
                }
                Err(message) => job.add_damage(message),
            }
        }
        let runs = plan::cut(&mut wants);
        let mut plain = Vec::new();
        for (at, job) in (0..).zip(&self.jobs) {
            let is_open = open.is_some_and(|open| Arc::ptr_eq(open, job));
            if !is_open && job.is_planned() {
                plain.push(at);
            }
        }
        let countdown = Countdown::new(runs.len() + plain.len().div_ceil(PLAIN_RUN_LEN));
        let sealed = Arc::new(Sealed { jobs: self.jobs, wants, countdown });
        let plain = plain.chunks(PLAIN_RUN_LEN).map(|jobs| Task::Plain(sealed.clone(), jobs.to_vec()));
        let runs = runs.into_iter().map(|run| Task::Run(sealed.clone(), run));
        for task in plain.chain(runs) {
            send(tasks, task);
        }
        (sealed, self.ends)
    }
}

fn locate(candidate: &Candidate, shared: &Shared<'_>) -> Result<Want, String> {
    let Candidate { job, id, chunk_len, piece } = *candidate;
    let place = match shared.origin.locate(&id) {
        Ok(Some(place)) => place,
        Ok(None) => return Err(format!("chunk {id} is in no pack")),
        Err(error) => return Err(format!("chunk {id} was not found: {}", chain(&error))),
    };
    if place.len != chunk_len {
        return Err(format!("chunk {id} has {} bytes instead of {chunk_len}", place.len));
    }
    Ok(Want { place, job, id, piece })
}

/// Takes out what the files to be mended hold already.
fn without_what_is_right(
    candidates: Vec<Candidate>,
    jobs: &[Arc<FileJob>],
    shared: &Shared<'_>,
    tasks: &Sender<Task>,
) -> Vec<Candidate> {
    let is_mended =
        |candidate: &Candidate| jobs.get(candidate.job as usize).is_some_and(|job| job.start == Start::Mend);
    let (mended, mut needed): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_mended);
    if mended.is_empty() {
        return needed;
    }
    let comparison = compare(mended, jobs.to_vec(), tasks);
    let mut bytes_right = 0;
    for (candidate, differs) in comparison.candidates.iter().zip(&comparison.differs) {
        if differs.load(Ordering::Acquire) {
            needed.push(*candidate);
        } else {
            bytes_right += u64::from(candidate.piece.len);
        }
    }
    shared.report().bytes_unchanged += bytes_right;
    shared.count_bytes(bytes_right);
    needed
}

/// Lets the threads compare, and waits for them.
pub(super) fn compare(
    candidates: Vec<Candidate>,
    jobs: Vec<Arc<FileJob>>,
    tasks: &Sender<Task>,
) -> Arc<Comparison> {
    let mut runs = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, candidate) in candidates.iter().enumerate() {
        // A chunk is known only as a whole, so its pieces stay together.
        if candidate.piece.from == 0 && (bytes >= COMPARE_BYTES_MAX || at - start >= COMPARE_COUNT_MAX) {
            runs.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += u64::from(candidate.piece.len);
    }
    if start < candidates.len() {
        runs.push(start..candidates.len());
    }
    let differs = candidates.iter().map(|_| AtomicBool::new(true)).collect();
    let countdown = Countdown::new(runs.len());
    let comparison = Arc::new(Comparison { jobs, candidates, differs, countdown });
    for run in runs {
        send(tasks, Task::Compare(comparison.clone(), run));
    }
    comparison.countdown.wait();
    comparison
}
