//! Large files and streams: read by one thread, cut there, worked on by all.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::backup::alike::likeness;
use crate::backup::parent::{EarlierVersion, earlier_version};
use crate::backup::scan::{self, Scanner};
use crate::backup::step::{FileOutcome, FilePart, Step};
use crate::backup::work::{data_stretches, finish_entry, holes, open_problem, take_over};
use crate::backup::{
    BackupError, BackupOptions, BackupReport, Outcome, Run, attempt, is_fenced, owner_names,
};
use crate::chunker::Chunker;
use crate::event::{Observer, Problem, Progress, with_causes};
use crate::format::tree::{Content, Entry, EntryKind, SparseMap};
use crate::id::NodeId;
use crate::repo::{Repo, TreeReader, retry_when_fenced};
use crate::shelf::{Shelf, Taken};
use crate::source::{FolderPath, FolderReader, Found, SourceFile, Stamp};
use crate::wire::Bytes;

/// Bytes that one worker takes at once. Large against a chunk, because the piece after the last cut is copied.
const PART_BYTES: usize = 8 << 20;

/// Cuts a stream of bytes into chunks and gathers them into parts.
struct PartCutter<'r> {
    buffers: Shelf<Vec<u8>>,
    buffer: Taken<Vec<u8>>,
    is_at_end: bool,
    /// Bytes that were cut.
    at: u64,
    earlier: EarlierVersion<'r>,
}

impl<'r> PartCutter<'r> {
    fn new(buffers: &Shelf<Vec<u8>>, earlier: EarlierVersion<'r>) -> Self {
        Self { buffers: buffers.clone(), buffer: buffers.buffer(0), is_at_end: false, at: 0, earlier }
    }

    /// The next part, or `None` at the end. `read` appends at most so many bytes and returns 0 at the end.
    fn next(
        &mut self,
        chunker: &Chunker,
        mut read: impl FnMut(&mut Vec<u8>, usize) -> std::io::Result<usize>,
    ) -> std::io::Result<Option<FilePart>> {
        let capacity = PART_BYTES + chunker.sizes().max();
        let missing = capacity.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing);
        while !self.is_at_end && self.buffer.len() < capacity {
            let wanted = capacity - self.buffer.len();
            self.is_at_end = read(&mut self.buffer, wanted)? == 0;
        }
        let mut chunk_lens = Vec::new();
        let mut cut = 0;
        while cut < PART_BYTES {
            let rest = self.buffer.get(cut..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let Some(len) = chunker.cut(rest, self.is_at_end) else { break };
            chunk_lens.push(len);
            cut += len;
        }
        if chunk_lens.is_empty() {
            return Ok(None);
        }
        let mut rest = self.buffers.buffer(capacity);
        rest.extend_from_slice(self.buffer.get(cut..).unwrap_or_default());
        self.buffer.truncate(cut);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        let at = self.at;
        self.at += bytes.len() as u64;
        let earlier = self.earlier.around(at, bytes.len() as u64);
        Ok(Some(FilePart { bytes, chunk_lens, at, earlier }))
    }
}

/// A large file that is being read.
pub struct LargeFile<'a> {
    folder: &'a FolderPath,
    file: SourceFile,
    opened: Stamp,
    entry: Entry,
    was_there: bool,
    map: SparseMap,
    stretches: std::vec::IntoIter<(u64, u64)>,
    left: u64,
    cutter: PartCutter<'a>,
    bytes_read: u64,
    problem: Option<String>,
}

impl<'a> LargeFile<'a> {
    /// Opens a file; a problem if that is refused.
    pub fn open(
        reader: &mut FolderReader,
        buffers: &Shelf<Vec<u8>>,
        folder: &'a FolderPath,
        found: Found,
        was_there: bool,
        earlier: EarlierVersion<'a>,
    ) -> Result<Self, Problem> {
        let mut entry = found.entry;
        let opened = reader.open_file(folder, entry.name.as_slice());
        let file = opened.map_err(|error| Problem {
            path: folder.join(entry.name.as_slice()),
            message: open_problem(&error),
        })?;
        file.advise_sequential();
        let opened = *file.opened();
        take_over(&opened, &mut entry);
        let problem = file.read_extras(&mut entry).err().map(|error| with_causes(&error));
        let map = holes(&file, &opened, found.allocated_bytes);
        let stretches = data_stretches(opened.size, &map).into_iter();
        let cutter = PartCutter::new(buffers, earlier);
        Ok(Self {
            folder,
            file,
            opened,
            entry,
            was_there,
            map,
            stretches,
            left: 0,
            cutter,
            bytes_read: 0,
            problem,
        })
    }

    /// The next part. What cannot be read ends the file early.
    pub fn next_part(&mut self, chunker: &Chunker) -> Option<FilePart> {
        let Self { file, stretches, left, .. } = self;
        let read = |buffer: &mut Vec<u8>, wanted: usize| {
            if *left == 0 {
                let Some((offset, len)) = stretches.next() else { return Ok(0) };
                file.seek_to(offset);
                *left = len;
            }
            let max = usize::try_from(*left).unwrap_or(usize::MAX).min(wanted);
            let count = file.read_into(buffer, max)?;
            *left -= count as u64;
            Ok(count)
        };
        match self.cutter.next(chunker, read) {
            Ok(part) => {
                self.bytes_read += part.as_ref().map_or(0, |part| part.bytes.len() as u64);
                part
            }
            Err(error) => {
                self.problem = Some(format!("it could not be read to its end: {error}"));
                None
            }
        }
    }

    /// What became of it, its chunks apart.
    pub fn finish(mut self) -> FileOutcome {
        let has_changed = |now: Stamp| now != Stamp { allocated_bytes: now.allocated_bytes, ..self.opened };
        if self.problem.is_none() && self.file.stamp().is_ok_and(has_changed) {
            self.problem = Some("it changed while it was being read".to_owned());
        }
        finish_entry(&mut self.entry, &self.map, self.bytes_read, self.opened.size, self.problem.as_deref());
        let path = self.folder.join(self.entry.name.as_slice());
        FileOutcome {
            problem: self.problem.map(|message| Problem { path, message }),
            entry: Some(self.entry),
            chunks: Vec::new(),
            was_there: self.was_there,
            bytes_read: self.bytes_read,
        }
    }
}

/// Something to be stored as one file that is no file of the source.
pub trait StreamSource {
    /// The name of the file in the snapshot.
    fn name(&self) -> &str;

    /// The bytes.
    fn reader(&mut self) -> &mut dyn Read;

    /// Called at the end of the bytes: whether all of them came.
    fn finish(&mut self) -> Result<(), BackupError>;
}

/// Backs up a stream as the single file `/NAME`. Only the options that concern storing and labels count.
pub fn run_stream(
    repo: &Arc<Repo>,
    options: &BackupOptions,
    source: &mut dyn StreamSource,
    observer: &dyn Observer,
) -> Result<BackupReport, BackupError> {
    let name = source.name().to_owned();
    if !Entry::name_is_good(name.as_bytes()) {
        return Err(BackupError::BadName(name));
    }
    let mut is_used = false;
    retry_when_fenced(is_fenced, || {
        if std::mem::replace(&mut is_used, true) {
            // A stream cannot be read twice.
            return Err(crate::repo::RepoError::Fenced.into());
        }
        let sources = [Path::new("/").join(&name)];
        attempt(repo, options, observer, &sources, |run| store(run, &name, source))
    })
}

fn store(run: &Run<'_>, name: &str, source: &mut dyn StreamSource) -> Result<Outcome, BackupError> {
    run.observer.phase("reading the stream");
    let now = run.repo.clock().now();
    let mut entry = Entry {
        name: Bytes::from(name.as_bytes()),
        kind: EntryKind::File,
        mode: 0o600,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: now,
        ctime: now,
        inode: 0,
        size: 0,
        content: Content::None,
        extensions: Vec::new(),
    };
    let (counts, problems, assembled, lacks_content) = scan::pipeline(run, |scanner| {
        scanner.send(Step::LargeOpen)?;
        entry.size = send_stream(run, scanner, name, source)?;
        let bytes_read = entry.size;
        let outcome = FileOutcome {
            entry: Some(entry),
            chunks: Vec::new(),
            problem: None,
            was_there: false,
            bytes_read,
        };
        scanner.send(Step::LargeClose(Box::new(outcome)))
    })?;
    let mut counts = counts;
    counts.add(&assembled.counts);
    let owners = owner_names(assembled.owners, None);
    let paths = vec![Bytes::from(format!("/{name}").into_bytes())];
    Ok(Outcome { root: assembled.root, counts, problems, owners, paths, lacks_content })
}

/// The file in the topmost folder with the nearest name. How long the stream will be is not known.
fn newest_alike(reader: &TreeReader, root: NodeId, name: &str) -> Option<Entry> {
    let entries = reader.directory(root).map_while(Result::ok).filter(|it| it.kind == EntryKind::File);
    let alike = entries.filter_map(|it| Some((likeness(name.as_bytes(), it.name.as_slice())?, it)));
    alike.max_by_key(|(likeness, _)| *likeness).map(|(_, entry)| entry)
}

fn send_stream(
    run: &Run<'_>,
    scanner: &mut Scanner<'_>,
    name: &str,
    source: &mut dyn StreamSource,
) -> Result<u64, BackupError> {
    let before = match (&run.parent, &run.alike) {
        // What cannot be read of the parent counts as not there.
        (Some(parent), _) => run.tree_reader.find(parent.root, name.as_bytes()).ok().flatten(),
        (None, Some(alike)) => newest_alike(&run.tree_reader, alike.root, name),
        (None, None) => None,
    };
    let mut cutter = PartCutter::new(scanner.buffers(), earlier_version(&run.tree_reader, before.as_ref()));
    let mut bytes = 0;
    loop {
        if run.observer.is_interrupted() {
            return Err(BackupError::Interrupted);
        }
        let reader = source.reader();
        let part = cutter.next(scanner.chunker(), |buffer, max| reader.take(max as u64).read_to_end(buffer));
        let broken = |error| BackupError::Stream { name: name.to_owned(), source: error };
        let part = part.map_err(broken)?;
        // Asked to stop, a stream may end where it is: its last bytes are no chunk that will ever be met again.
        if run.observer.is_interrupted() {
            return Err(BackupError::Interrupted);
        }
        let Some(part) = part else { break };
        bytes += part.bytes.len() as u64;
        Progress::add(&run.observer.progress().bytes_done, part.bytes.len() as u64);
        scanner.send_part(part)?;
    }
    source.finish()?;
    Progress::add(&run.observer.progress().files_done, 1);
    Ok(bytes)
}
