//! The scanner: walks in the order of names, compares with the parent, and hands out work.
//!
//! A folder is kept back until something in it differs from the parent. So a folder in which nothing does costs one
//! step, its node of the parent is taken over, and nothing of it is encoded again.

mod resembled;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::backup::assemble::{self, Assembled};
use crate::backup::parent::{MovedFiles, ParentFolder, earlier_version, is_unchanged, same_metadata};
use crate::backup::step::{Counts, FileOutcome, FileTask, Step, Task, outcome_channel};
use crate::backup::stream::LargeFile;
use crate::backup::top::{self, Above, Top};
use crate::backup::work::Worker;
use crate::backup::{BackupError, Outcome, Run, owner_names};
use crate::chunker::Chunker;
use crate::event::{Problem, Progress, with_causes};
use crate::format::tree::{ChunkRef, Content, Entry, EntryKind};
use crate::id::{ContentId, NodeId};
use crate::repo::{FRAME_BYTES_TARGET_DATA, RepoError, TreeReader};
use crate::shelf::Shelf;
use crate::source::{FolderPath, FolderReader, Found, Listing, Walk, WalkOptions};
use crate::wire::Bytes;

/// Bytes of small files that one worker takes at once: one frame.
const BATCH_BYTES_TARGET: u64 = FRAME_BYTES_TARGET_DATA as u64;
/// Files that one worker takes at once.
const BATCH_COUNT_MAX: usize = 4096;
/// A larger file is read by the scanner, so that several workers share it.
const SMALL_FILE_BYTES_MAX: u64 = 4 << 20;
/// Workers beyond the number of threads asked for. They wait for the disk while the others compute; with one instead of
/// four, the first backup of a source tree that is not in memory took 10 % longer.
const WAITING_WORKER_COUNT: usize = 4;
/// Ids that one worker looks up at once.
const CONFIRM_COUNT: usize = 2048;
/// Tasks that wait for a worker. A part of a large file holds its bytes, so there are few.
const TASK_QUEUE: usize = 2;
/// Buffers for parts that are kept for the next ones.
const PART_BUFFER_COUNT: usize = 4;
/// Steps sent at once.
const STEP_COUNT: usize = 256;
/// Groups of steps that may wait for the assembler: more files than all workers have in hand, because the assembler
/// waits for the oldest batch.
const STEP_QUEUE: usize = 128;
/// Entries that may be listed ahead.
const ENTRIES_AHEAD_MAX: usize = 1 << 16;

/// Reads the sources and stores what is new. With `use_parent` unchanged files are taken over from the parent.
pub fn run(run: &Run<'_>, use_parent: bool) -> Result<Outcome, BackupError> {
    let sources = top::open(&run.options.sources).map_err(BackupError::NothingReadable)?;
    for problem in &sources.problems {
        run.observer.problem(problem);
    }
    run.observer.phase("reading files");
    let walk = Walk::start(WalkOptions {
        threads: thread_count(run),
        one_file_system: run.options.one_file_system,
        excludes: run.options.excludes.clone(),
        skipped_folders: run.options.skipped_folders.clone(),
        entries_ahead_max: ENTRIES_AHEAD_MAX,
    });
    let (counts, mut problems, assembled, lacks_content) = pipeline(run, |scanner| {
        scanner.problems.extend(sources.problems);
        scanner.scan_top(&walk, sources.top, use_parent)
    })?;
    problems.extend(assembled.problems);
    let mut counts = counts;
    counts.add(&assembled.counts);
    Ok(Outcome {
        root: assembled.root,
        counts,
        problems,
        owners: owner_names(assembled.owners, run.parent.as_ref()),
        paths: sources.paths,
        lacks_content,
    })
}

fn thread_count(run: &Run<'_>) -> usize {
    match run.options.threads {
        0 => thread::available_parallelism().map_or(2, |count| count.get()),
        count => count,
    }
}

/// What comes out of a pipeline: what the scanner counted, its problems, what was assembled (with all owners), and
/// whether anything taken over is not stored.
type Piped = (Counts, Vec<Problem>, Assembled, bool);

/// Starts workers and assembler around a scanner, and waits for all of them.
pub fn pipeline(
    run: &Run<'_>,
    scan: impl FnOnce(&mut Scanner<'_>) -> Result<(), BackupError>,
) -> Result<Piped, BackupError> {
    let worker_count = thread_count(run) + WAITING_WORKER_COUNT;
    let lacks_content = AtomicBool::new(false);
    let config = run.repo.config().chunker;
    let sizes = config.sizes().map_err(|_| BackupError::Repo(RepoError::Ended))?;
    let chunker = Chunker::new(run.repo.chunker_key(), sizes);
    let (tasks, task_queue) = bounded::<Task>(TASK_QUEUE);
    let (steps, step_queue) = bounded::<Vec<Step>>(STEP_QUEUE);
    // One entry for each batch that is being worked on or has waited for the assembler; its bound is theirs.
    let (batches, batch_queue) = crossbeam_channel::unbounded();
    let outcome = thread::scope(|scope| {
        let assembler = scope.spawn(|| assemble::run(run, &step_queue, &batch_queue));
        let workers: Vec<_> = (0..worker_count)
            .map(|_| {
                let queue = task_queue.clone();
                let (chunker, lacks_content) = (&chunker, &lacks_content);
                scope.spawn(move || Worker::new(run, chunker, lacks_content).run(&queue))
            })
            .collect();
        drop(task_queue);
        let mut scanner = Scanner::new(run, &chunker, tasks, steps, batches);
        let mut scanned = scan(&mut scanner).and_then(|()| scanner.flush_all());
        // This closes the queues, so that the others end too.
        let (counts, owners, problems) = scanner.into_findings();
        for worker in workers {
            let worked = worker.join().unwrap_or(Err(RepoError::Ended));
            scanned = first_cause(scanned, worked.map_err(BackupError::from));
        }
        match assembler.join().unwrap_or(Err(RepoError::Ended.into())) {
            Ok(mut assembled) => {
                assembled.owners.extend(owners);
                scanned.map(|()| (counts, problems, assembled))
            }
            Err(error) => Err(first_cause(scanned, Err(error)).expect_err("one of them is an error")),
        }
    });
    let (counts, problems, assembled) = outcome?;
    Ok((counts, problems, assembled, lacks_content.into_inner()))
}

/// Of two results, the one that explains the other: a thread that was merely cut off says [`RepoError::Ended`].
fn first_cause(one: Result<(), BackupError>, other: Result<(), BackupError>) -> Result<(), BackupError> {
    match (one, other) {
        (Err(BackupError::Repo(RepoError::Ended)), Err(cause)) => Err(cause),
        (Ok(()), other) => other,
        (one, _) => one,
    }
}

/// See the module.
pub struct Scanner<'a> {
    run: &'a Run<'a>,
    chunker: &'a Chunker,
    tasks: Sender<Task>,
    steps: Sender<Vec<Step>>,
    batches: Sender<Receiver<Vec<FileOutcome>>>,
    batch: Vec<FileTask>,
    batch_bytes: u64,
    confirm: Vec<ContentId>,
    outgoing: Vec<Step>,
    reader: FolderReader,
    /// For parts of large files.
    buffers: Shelf<Vec<u8>>,
    counts: Counts,
    owners: BTreeSet<(bool, u32)>,
    problems: Vec<Problem>,
    /// Where the large files of the parent are, once one was looked for.
    moved: Option<MovedFiles<'a>>,
}

/// A folder that is being scanned.
struct OpenFolder<'r> {
    entry: Option<Entry>,
    items: Items,
    parent: ParentFolder<'r>,
    /// Entries that are as in the parent, while all of them are; `None` once the folder has been sent.
    kept_back: Option<Vec<Entry>>,
    /// What the parent has in its place.
    before: Option<Entry>,
}

enum Items {
    Listed(FolderPath, std::vec::IntoIter<Found>),
    Above(std::collections::btree_map::IntoIter<Bytes, Top>),
}

enum Item {
    Found(FolderPath, Found),
    Top(Bytes, Top),
}

impl Items {
    fn next(&mut self) -> Option<Item> {
        match self {
            Self::Listed(folder, entries) => entries.next().map(|found| Item::Found(folder.clone(), found)),
            Self::Above(below) => below.next().map(|(name, top)| Item::Top(name, top)),
        }
    }
}

impl<'a> Scanner<'a> {
    fn new(
        run: &'a Run<'a>,
        chunker: &'a Chunker,
        tasks: Sender<Task>,
        steps: Sender<Vec<Step>>,
        batches: Sender<Receiver<Vec<FileOutcome>>>,
    ) -> Self {
        Self {
            run,
            chunker,
            tasks,
            steps,
            batches,
            batch: Vec::new(),
            batch_bytes: 0,
            confirm: Vec::new(),
            outgoing: Vec::new(),
            reader: FolderReader::new(),
            buffers: Shelf::new(PART_BUFFER_COUNT),
            counts: Counts::default(),
            owners: BTreeSet::new(),
            problems: Vec::new(),
            moved: None,
        }
    }

    fn into_findings(self) -> (Counts, BTreeSet<(bool, u32)>, Vec<Problem>) {
        (self.counts, self.owners, self.problems)
    }

    fn scan_top(&mut self, walk: &Walk, top: Top, use_parent: bool) -> Result<(), BackupError> {
        let tree_reader = Arc::clone(&self.run.tree_reader);
        let items = match top {
            Top::Above(Above { below, .. }) => Items::Above(below.into_iter()),
            Top::Source(root, found) => self.list(walk, FolderPath::root(root), &found.entry),
        };
        let parent = match (&self.run.parent, &self.run.alike) {
            (Some(parent), _) if use_parent => ParentFolder::new(&tree_reader, Some(parent.root)),
            (None, Some(alike)) if use_parent => ParentFolder::alike(&tree_reader, Some(alike.root)),
            _ => ParentFolder::new(&tree_reader, None),
        };
        let mut open = vec![OpenFolder { entry: None, items, parent, kept_back: None, before: None }];
        while let Some(folder) = open.last_mut() {
            if self.run.observer.is_interrupted() {
                return Err(BackupError::Interrupted);
            }
            match folder.items.next() {
                None => self.close(&mut open)?,
                Some(Item::Found(path, found)) if found.entry.kind == EntryKind::Directory => {
                    let below = path.child(found.entry.name.as_slice());
                    let items = self.list(walk, below.clone(), &found.entry);
                    self.open(&mut open, found.entry, Some(&below), items, &tree_reader)?;
                }
                Some(Item::Found(path, found)) => self.meet_file(&mut open, path, found)?,
                Some(Item::Top(_, Top::Source(root, found))) => {
                    let path = FolderPath::root(root);
                    if found.entry.kind == EntryKind::Directory {
                        let items = self.list(walk, path.clone(), &found.entry);
                        self.open(&mut open, found.entry, Some(&path), items, &tree_reader)?;
                    } else {
                        self.meet_file(&mut open, path, found)?;
                    }
                }
                Some(Item::Top(name, Top::Above(above))) => {
                    let entry = above.entry.unwrap_or_else(|| nameless_folder(name));
                    let items = Items::Above(above.below.into_iter());
                    self.open(&mut open, entry, None, items, &tree_reader)?;
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, walk: &Walk, folder: FolderPath, entry: &Entry) -> Items {
        let listing = walk.list(&folder).unwrap_or_else(|error| {
            let message = format!("the folder could not be read: {error}");
            Listing { problems: vec![Problem { path: folder.path(), message }], ..Listing::default() }
        });
        for problem in listing.problems {
            self.report(problem);
        }
        for note in &listing.notes {
            self.run.observer.note(note);
        }
        self.meet_owner(entry);
        let progress = self.run.observer.progress();
        let files = listing.entries.iter().filter(|found| found.entry.kind != EntryKind::Directory);
        let (count, bytes) =
            files.fold((0, 0), |(count, bytes), found| (count + 1, bytes + found.entry.size));
        Progress::add(&progress.files_total, count);
        Progress::add(&progress.bytes_total, bytes);
        Items::Listed(folder, listing.entries.into_iter())
    }

    fn report(&mut self, problem: Problem) {
        self.run.observer.problem(&problem);
        self.problems.push(problem);
    }

    fn meet_owner(&mut self, entry: &Entry) {
        for owner in [(false, entry.uid), (true, entry.gid)] {
            if !self.owners.contains(&owner) {
                self.owners.insert(owner);
            }
        }
    }

    fn open<'r>(
        &mut self,
        open: &mut Vec<OpenFolder<'r>>,
        mut entry: Entry,
        path: Option<&FolderPath>,
        items: Items,
        tree_reader: &'r TreeReader,
    ) -> Result<(), BackupError> {
        self.counts.directories += 1;
        let (before, parent) = self.parent_of(open, &entry, tree_reader);
        let same = before.as_ref().filter(|before| same_metadata(&entry, before));
        let mut is_whole = true;
        match (same, path) {
            (Some(same), _) => entry.extensions = same.extensions.clone(),
            (None, Some(path)) => {
                if let Err(error) = self.reader.read_folder_extras(path, &mut entry) {
                    self.report(Problem { path: path.path(), message: with_causes(&error) });
                    is_whole = false;
                }
            }
            (None, None) => {}
        }
        let kept_back = (same.is_some() && is_whole).then(Vec::new);
        let is_sent = kept_back.is_none();
        open.push(OpenFolder { entry: Some(entry), items, parent, kept_back, before });
        if is_sent { self.send_folders(open) } else { Ok(()) }
    }

    /// Sends the beginnings of all open folders that were kept back: something below the last one differs.
    fn send_folders(&mut self, open: &mut [OpenFolder<'_>]) -> Result<(), BackupError> {
        // A folder that was sent has only sent ones above it.
        let sent = |folder: &OpenFolder<'_>| folder.kept_back.is_none() && folder.entry.is_none();
        let first = open.iter().rposition(sent).map_or(0, |last_sent| last_sent + 1);
        for folder in open.iter_mut().skip(first) {
            if let Some(entry) = folder.entry.take() {
                self.send(Step::Open(Box::new(entry), folder.parent.id()))?;
            }
            for entry in folder.kept_back.take().into_iter().flatten() {
                self.send(Step::Ready(entry))?;
            }
        }
        Ok(())
    }

    fn close(&mut self, open: &mut Vec<OpenFolder<'_>>) -> Result<(), BackupError> {
        let Some(mut folder) = open.pop() else { return Ok(()) };
        let unchanged = match (&folder.kept_back, folder.parent.node_if_all_met()) {
            (Some(kept_back), Some(id)) if kept_back.len() < crate::limits::NODE_ENTRY_COUNT_MAX / 2 => {
                Some(id)
            }
            _ => None,
        };
        if let (Some(id), Some(before)) = (unchanged, folder.before.take())
            && self.is_known_whole(id)?
        {
            return self.keep(open, before);
        }
        let is_top = open.is_empty();
        open.push(folder);
        self.send_folders(open)?;
        open.pop();
        if is_top { Ok(()) } else { self.send(Step::Close) }
    }

    /// Claims all nodes of a folder that is taken over: whether they are stored.
    fn is_known_whole(&self, id: NodeId) -> Result<bool, BackupError> {
        let writer = &self.run.writer;
        if !writer.is_known(&id.content())? {
            return Ok(false);
        }
        // Nothing else claims the leaves of a folder that is split.
        let Ok(leaves) = self.run.tree_reader.leaves(id) else { return Ok(false) };
        for (_, leaf) in leaves.iter().filter(|(_, leaf)| *leaf != id) {
            if !writer.is_known(&leaf.content())? {
                return Ok(false);
            }
        }
        Ok(!leaves.is_empty())
    }

    /// Takes over an entry of the parent, in the folder that is open.
    fn keep(&mut self, open: &mut [OpenFolder<'_>], entry: Entry) -> Result<(), BackupError> {
        match open.last_mut().and_then(|folder| folder.kept_back.as_mut()) {
            Some(kept_back) => {
                kept_back.push(entry);
                Ok(())
            }
            None => self.send(Step::Ready(entry)),
        }
    }

    fn meet_file(
        &mut self,
        open: &mut [OpenFolder<'_>],
        path: FolderPath,
        found: Found,
    ) -> Result<(), BackupError> {
        let folder = open.last_mut().expect("an entry is met in an open folder");
        self.meet_owner(&found.entry);
        let met = folder.parent.find(&found.entry.name, self.run.observer);
        let before = met.as_ref().filter(|_| folder.parent.is_same());
        if let Some(before) = before.filter(|before| is_unchanged(&found, before)) {
            self.counts.files_unchanged += 1;
            self.counts.bytes += before.size;
            let progress = self.run.observer.progress();
            Progress::add(&progress.files_done, 1);
            Progress::add(&progress.bytes_done, before.size);
            self.confirm(&before.content)?;
            let before = before.clone();
            return self.keep(open, before);
        }
        let was_there = before.is_some();
        let resembled = match met {
            Some(met) => Some(met),
            None => self.find_alike(&mut folder.parent, &found.entry)?,
        };
        self.send_folders(open)?;
        let is_large = found.entry.kind == EntryKind::File && found.entry.size > SMALL_FILE_BYTES_MAX;
        if is_large {
            self.dispatch_batch()?;
            return self.read_large(path, found, was_there, resembled.as_ref());
        }
        self.batch_bytes += found.entry.size;
        let earlier = self.chunks_of(resembled.as_ref());
        self.batch.push(FileTask { folder: path, found, was_there, earlier });
        self.send(Step::Batched)?;
        if self.batch_bytes >= BATCH_BYTES_TARGET || self.batch.len() >= BATCH_COUNT_MAX {
            self.dispatch_batch()?;
        }
        Ok(())
    }

    /// The chunks of a small file in the parent. What cannot be read counts as not there.
    fn chunks_of(&self, before: Option<&Entry>) -> Vec<ChunkRef> {
        let before = before.filter(|it| it.kind == EntryKind::File && it.size <= SMALL_FILE_BYTES_MAX);
        let chunks = before.map(|before| self.run.tree_reader.chunks(&before.content));
        chunks.into_iter().flatten().map_while(Result::ok).collect()
    }

    fn read_large(
        &mut self,
        path: FolderPath,
        found: Found,
        was_there: bool,
        resembled: Option<&Entry>,
    ) -> Result<(), BackupError> {
        let tree_reader = Arc::clone(&self.run.tree_reader);
        let earlier = earlier_version(&tree_reader, resembled);
        let opened = LargeFile::open(&mut self.reader, &self.buffers, &path, found, was_there, earlier);
        let mut file = match opened {
            Ok(file) => file,
            Err(problem) => {
                self.report(problem);
                return Ok(());
            }
        };
        self.send(Step::LargeOpen)?;
        while let Some(part) = file.next_part(self.chunker) {
            if self.run.observer.is_interrupted() {
                return Err(BackupError::Interrupted);
            }
            Progress::add(&self.run.observer.progress().bytes_done, part.bytes.len() as u64);
            self.send_part(part)?;
        }
        let outcome = file.finish();
        Progress::add(&self.run.observer.progress().files_done, 1);
        self.send(Step::LargeClose(Box::new(outcome)))
    }

    /// Hands out a stretch of the large file that is open.
    pub fn send_part(&mut self, part: crate::backup::step::FilePart) -> Result<(), BackupError> {
        let (sender, receiver) = outcome_channel();
        self.tasks.send(Task::Part(part, sender)).map_err(|_| RepoError::Ended)?;
        self.send(Step::LargePart(receiver))
    }

    /// What cuts.
    pub fn chunker(&self) -> &'a Chunker {
        self.chunker
    }

    /// Buffers for parts.
    pub fn buffers(&self) -> &Shelf<Vec<u8>> {
        &self.buffers
    }

    fn confirm(&mut self, content: &Content) -> Result<(), BackupError> {
        match content {
            Content::Chunks(chunks) => self.confirm.extend(chunks.iter().map(|chunk| chunk.id.content())),
            Content::List(id) => {
                self.confirm.push(id.content());
                let tree_reader = Arc::clone(&self.run.tree_reader);
                let mut chunks = tree_reader.chunks(content);
                while let Some(chunk) = chunks.next() {
                    // What cannot be read is not stored; confirming an id that no chunk has says so.
                    self.confirm.push(chunk.map_or(ContentId::new([0; 32]), |chunk| chunk.id.content()));
                    self.confirm.extend(chunks.take_parts().into_iter().map(|part| part.content()));
                    self.send_confirmations(CONFIRM_COUNT)?;
                }
            }
            Content::None | Content::Directory(_) | Content::LinkTarget(_) | Content::Device(..) => {}
        }
        self.send_confirmations(CONFIRM_COUNT)
    }

    fn send_confirmations(&mut self, count_min: usize) -> Result<(), BackupError> {
        if self.confirm.len() < count_min.max(1) {
            return Ok(());
        }
        let ids = std::mem::replace(&mut self.confirm, Vec::with_capacity(CONFIRM_COUNT));
        Ok(self.tasks.send(Task::Confirm(ids)).map_err(|_| RepoError::Ended)?)
    }

    fn dispatch_batch(&mut self) -> Result<(), BackupError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let (sender, receiver) = outcome_channel();
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.batches.send(receiver).map_err(|_| RepoError::Ended)?;
        Ok(self.tasks.send(Task::Files(batch, sender)).map_err(|_| RepoError::Ended)?)
    }

    /// Sends a step, together with others.
    pub fn send(&mut self, step: Step) -> Result<(), BackupError> {
        self.outgoing.push(step);
        if self.outgoing.len() >= STEP_COUNT { self.flush_steps() } else { Ok(()) }
    }

    fn flush_steps(&mut self) -> Result<(), BackupError> {
        if self.steps.is_full() {
            // The assembler may be waiting for the batch in hand; it must be on its way before this thread waits.
            self.dispatch_batch()?;
        }
        let steps = std::mem::replace(&mut self.outgoing, Vec::with_capacity(STEP_COUNT));
        Ok(self.steps.send(steps).map_err(|_| RepoError::Ended)?)
    }

    fn flush_all(&mut self) -> Result<(), BackupError> {
        self.dispatch_batch()?;
        self.send_confirmations(0)?;
        self.flush_steps()
    }
}

/// A folder above a source that could not be looked at.
fn nameless_folder(name: Bytes) -> Entry {
    Entry {
        name,
        kind: EntryKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Default::default(),
        ctime: Default::default(),
        inode: 0,
        size: 0,
        content: Content::None,
        extensions: Vec::new(),
    }
}

impl Counts {
    /// Adds what another stage counted.
    pub fn add(&mut self, other: &Self) {
        self.files_new += other.files_new;
        self.files_changed += other.files_changed;
        self.files_unchanged += other.files_unchanged;
        self.directories += other.directories;
        self.bytes_read += other.bytes_read;
        self.bytes += other.bytes;
    }
}

/// Raises a flag that is looked at when all threads have ended.
pub fn raise(flag: &AtomicBool) {
    flag.store(true, Ordering::Relaxed);
}
