//! Workers: read small files, cut, hash, claim, compress.

use std::sync::atomic::AtomicBool;

use crossbeam_channel::Receiver;

use crate::backup::Run;
use crate::backup::scan::raise;
use crate::backup::step::{FileOutcome, FilePart, FileTask, Task};
use crate::chunker::Chunker;
use crate::event::{Problem, Progress, with_causes};
use crate::format::tree::{ChunkRef, Entry, EntryKind, Hole, SparseMap, tag};
use crate::id::ContentId;
use crate::index::PackKind;
use crate::limits;
use crate::repo::{Earlier, FrameWriter, RepoError};
use crate::source::{FolderPath, FolderReader, SourceFile, Stamp};
use crate::wire::{self, Bytes};

/// Files with fewer bytes missing on the disk are not looked at for holes: a block at the end is often not full.
const HOLE_BYTES_MIN: u64 = 4096;
/// A file with more holes is stored as if it had none, because its map would be too long for an entry.
const HOLE_COUNT_MAX: usize = 6000;
const _: () = assert!(HOLE_COUNT_MAX * 20 < limits::EXTENSIONS_BYTES_MAX / 2);

/// One worker.
pub struct Worker<'a> {
    run: &'a Run<'a>,
    chunker: &'a Chunker,
    lacks_content: &'a AtomicBool,
    reader: FolderReader,
    frames: FrameWriter<'a>,
    buffer: Vec<u8>,
}

/// The bytes of a file and what was seen while they were read.
struct ReadFile {
    chunks: Vec<ChunkRef>,
    bytes_read: u64,
    problem: Option<String>,
}

impl<'a> Worker<'a> {
    /// A worker of this run.
    pub fn new(run: &'a Run<'a>, chunker: &'a Chunker, lacks_content: &'a AtomicBool) -> Self {
        let frames = run.writer.frame_writer(PackKind::Data);
        Self { run, chunker, lacks_content, reader: FolderReader::new(), frames, buffer: Vec::new() }
    }

    /// Works until there are no more tasks. Outcomes are handed over only after the frames that hold their chunks
    /// are in a pack.
    pub fn run(mut self, tasks: &Receiver<Task>) -> Result<(), RepoError> {
        while let Ok(task) = tasks.recv() {
            // Whoever waits for an outcome that can no longer be sent has ended with an error of its own.
            match task {
                Task::Files(files, sender) => {
                    self.frames.begin();
                    let outcomes =
                        files.into_iter().map(|file| self.store(file)).collect::<Result<_, _>>()?;
                    self.frames.finish()?;
                    let _ = sender.send(outcomes);
                }
                Task::Part(part, sender) => {
                    self.frames.begin();
                    let chunks = self.store_part(&part)?;
                    self.frames.finish()?;
                    let _ = sender.send(chunks);
                }
                Task::Confirm(ids) => self.confirm(&ids)?,
            }
        }
        Ok(())
    }

    fn confirm(&self, ids: &[ContentId]) -> Result<(), RepoError> {
        for id in ids {
            if !self.run.writer.is_known(id)? {
                raise(self.lacks_content);
            }
        }
        Ok(())
    }

    fn store_part(&mut self, part: &FilePart) -> Result<Vec<ChunkRef>, RepoError> {
        self.put_cut(&part.bytes, &part.chunk_lens, part.at, &part.earlier)
    }

    fn put_cut(
        &mut self,
        bytes: &[u8],
        lens: &[usize],
        at: u64,
        earlier: &Earlier,
    ) -> Result<Vec<ChunkRef>, RepoError> {
        let ids = self.frames.put_version(bytes, lens, at, earlier)?;
        Ok(ids.into_iter().zip(lens).map(|(id, len)| ChunkRef { id, len: *len as u32 }).collect())
    }

    fn store(&mut self, task: FileTask) -> Result<FileOutcome, RepoError> {
        let progress = self.run.observer.progress();
        let size = task.found.entry.size;
        let outcome = if task.found.entry.kind == EntryKind::File && size > 0 {
            self.store_file(task)
        } else {
            Ok(self.store_metadata(task))
        };
        Progress::add(&progress.files_done, 1);
        Progress::add(&progress.bytes_done, size);
        outcome
    }

    fn store_metadata(&mut self, task: FileTask) -> FileOutcome {
        let FileTask { folder, found, was_there, .. } = task;
        let mut entry = found.entry;
        let outcome = self.reader.read_extras(&folder, &mut entry);
        let problem = outcome.err().map(|error| self.problem(&folder, &entry.name, with_causes(&error)));
        FileOutcome { entry: Some(entry), chunks: Vec::new(), problem, was_there, bytes_read: 0 }
    }

    fn store_file(&mut self, task: FileTask) -> Result<FileOutcome, RepoError> {
        let FileTask { folder, found, was_there, earlier } = task;
        let mut entry = found.entry;
        let name = entry.name.clone();
        let read = match self.reader.open_file(&folder, name.as_slice()) {
            Ok(mut file) => {
                let earlier = Earlier::whole(&earlier);
                self.read_file(&mut file, &mut entry, found.allocated_bytes, &earlier)?
            }
            Err(error) => {
                let problem = self.problem(&folder, &name, open_problem(&error));
                let problem = Some(problem);
                return Ok(FileOutcome {
                    entry: None,
                    chunks: Vec::new(),
                    problem,
                    was_there,
                    bytes_read: 0,
                });
            }
        };
        let ReadFile { chunks, bytes_read, problem } = read;
        let problem = problem.map(|message| self.problem(&folder, &name, message));
        Ok(FileOutcome { entry: Some(entry), chunks, problem, was_there, bytes_read })
    }

    fn problem(&self, folder: &FolderPath, name: &Bytes, message: String) -> Problem {
        let problem = Problem { path: folder.join(name.as_slice()), message };
        self.run.observer.problem(&problem);
        problem
    }

    /// Reads a file that fits into memory. The entry takes over what the file was when it was opened.
    fn read_file(
        &mut self,
        file: &mut SourceFile,
        entry: &mut Entry,
        allocated_bytes: u64,
        earlier: &Earlier,
    ) -> Result<ReadFile, RepoError> {
        let opened = *file.opened();
        take_over(&opened, entry);
        let mut problem = file.read_extras(entry).err().map(|error| with_causes(&error));
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let map = holes(file, &opened, allocated_bytes);
        match read_data(file, opened.size, &map, &mut buffer) {
            Err(error) => problem = Some(format!("it could not be read to its end: {error}")),
            Ok(()) => {
                if file
                    .stamp()
                    .is_ok_and(|now| now != Stamp { allocated_bytes: now.allocated_bytes, ..opened })
                {
                    problem = Some("it changed while it was being read".to_owned());
                }
            }
        }
        finish_entry(entry, &map, buffer.len() as u64, opened.size, problem.as_deref());
        let chunks = self.put_buffer(&buffer, earlier);
        let bytes_read = buffer.len() as u64;
        self.buffer = buffer;
        Ok(ReadFile { chunks: chunks?, bytes_read, problem })
    }

    fn put_buffer(&mut self, buffer: &[u8], earlier: &Earlier) -> Result<Vec<ChunkRef>, RepoError> {
        let mut lens = Vec::new();
        let mut rest = buffer;
        while let Some(len) = self.chunker.cut(rest, true) {
            lens.push(len);
            rest = rest.get(len..).unwrap_or_default();
        }
        self.put_cut(buffer, &lens, 0, earlier)
    }
}

/// What the file was when it was opened counts, not what the walk saw a moment before.
pub fn take_over(opened: &Stamp, entry: &mut Entry) {
    entry.mode = opened.mode;
    entry.uid = opened.uid;
    entry.gid = opened.gid;
    entry.size = opened.size;
    entry.mtime = opened.mtime;
    entry.ctime = opened.ctime;
    entry.inode = opened.inode;
}

/// The holes of a file that takes less space than it has bytes.
pub fn holes(file: &SourceFile, opened: &Stamp, allocated_bytes: u64) -> SparseMap {
    if allocated_bytes.saturating_add(HOLE_BYTES_MIN) > opened.size {
        return SparseMap::default();
    }
    // A file system that cannot tell its holes has none as far as we know.
    let map = file.sparse_map(opened.size).unwrap_or_default();
    if map.holes.len() <= HOLE_COUNT_MAX { map } else { SparseMap::default() }
}

/// Stretches of data between the holes: offset and length.
pub fn data_stretches(size: u64, map: &SparseMap) -> Vec<(u64, u64)> {
    let mut stretches = Vec::new();
    let mut at = 0;
    for hole in &map.holes {
        if hole.skip > 0 {
            stretches.push((at, hole.skip));
        }
        at += hole.skip + hole.len;
    }
    if at < size {
        stretches.push((at, size - at));
    }
    stretches
}

/// Appends the data of a file, without its holes, to `buffer`. Ends early where the file does.
fn read_data(file: &mut SourceFile, size: u64, map: &SparseMap, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    for (offset, len) in data_stretches(size, map) {
        file.seek_to(offset);
        let mut left = usize::try_from(len).unwrap_or(usize::MAX);
        while left > 0 {
            let count = file.read_into(buffer, left)?;
            if count == 0 {
                return Ok(());
            }
            left -= count;
        }
    }
    Ok(())
}

/// Makes size, holes and problem of an entry fit what was read of it.
///
/// A file that was cut short while it was read is kept as far as it was read, with its holes, so that its bytes are
/// where they were.
pub fn finish_entry(entry: &mut Entry, map: &SparseMap, data_bytes: u64, size: u64, problem: Option<&str>) {
    let is_whole = map.hole_bytes().and_then(|bytes| bytes.checked_add(data_bytes)) == Some(size);
    let map = if is_whole { map.clone() } else { map_before(map, data_bytes) };
    if !is_whole {
        entry.size = data_bytes + map.hole_bytes().unwrap_or(0);
    }
    if !map.holes.is_empty() {
        let bytes = wire::encode(&map, limits::EXTENSIONS_BYTES_MAX / 2);
        entry.set_extension(tag::SPARSE_MAP, bytes.expect("the number of holes was bounded"));
    }
    if let Some(problem) = problem {
        entry.set_extension(tag::CAPTURE_PROBLEM, problem.as_bytes().to_vec());
    }
}

/// The holes that lie before the last of so many bytes of data.
fn map_before(map: &SparseMap, data_bytes: u64) -> SparseMap {
    let mut before = 0u64;
    let is_before = |hole: &&Hole| {
        before = before.saturating_add(hole.skip);
        before < data_bytes
    };
    SparseMap { holes: map.holes.iter().take_while(is_before).copied().collect() }
}

/// The sentence for a file that could not be opened.
pub fn open_problem(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it vanished before it could be read".to_owned(),
        _ => format!("it could not be opened: {error}"),
    }
}
