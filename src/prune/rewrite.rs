//! P5: what is needed of packs that are mostly not goes into new packs.
//!
//! Each chunk and node is opened and verified on the way: damage is never sealed anew. A pack in which anything that is
//! needed is damaged stays where it is. What is copied is stored like a backup stores it: packs first, then the index
//! objects that describe them. Until the plan is there, all of it is ordinary garbage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::event::{Observer, Progress};
use crate::format::frame::{ChunkEntry, ContentKind, FrameEntry};
use crate::id::SnapshotId;
use crate::index::counts::DeadEntries;
use crate::index::{PackKind, PackNumber};
use crate::prune::{PackName, PruneError};
use crate::repo::{
    ChunkReader, ChunkWriter, FrameWriter, PackProbe, PackSet, Presence, Repo, RepoError, View, WriterOptions,
};

/// What a rewriting did.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Bytes that were stored.
    pub bytes_stored: u64,
    /// Packs that must stay, because something that is needed of them is damaged.
    pub damaged: Vec<PackName>,
}

/// A pack to be rewritten.
struct Job {
    number: PackNumber,
    name: PackName,
    dead: DeadEntries,
    /// Frames that are stated to be damaged.
    damaged: BTreeSet<u32>,
}

/// Copies what is needed of these packs. What some pack of `listed` holds that is not `doomed` is not copied again.
pub fn run(
    repo: &Arc<Repo>,
    numbers: &[PackNumber],
    doomed: &BTreeMap<PackName, u64>,
    listed: &BTreeSet<PackName>,
    observer: &dyn Observer,
) -> Result<Rewritten, PruneError> {
    let index = repo.counted_index()?;
    let view = index.view().map_err(RepoError::from)?;
    let mut end = 0;
    let mut kept = Vec::new();
    let mut names = BTreeMap::new();
    let visited = view.visit_packs(&mut |number, row| {
        let name = (row.kind, row.id);
        end = end.max(number.0 + 1);
        if listed.contains(&name) && !doomed.contains_key(&name) {
            kept.push(number);
        }
        names.insert(number, name);
    });
    visited.map_err(RepoError::from)?;
    let present = PackSet::below(end);
    kept.into_iter().for_each(|number| present.insert(number));
    let mut jobs = Vec::new();
    for number in numbers {
        let Some(name) = names.get(number).copied() else { continue };
        let dead = index.dead_entries(*number).map_err(RepoError::from)?;
        let damaged = view.stated_damage(&name.1).map_err(RepoError::from)?;
        let damaged = damaged.map(|damage| damage.frames).unwrap_or_default();
        jobs.push(Job { number: *number, name, dead, damaged });
    }
    drop(index);
    let lease = SnapshotId::new(repo.random()?);
    let options = WriterOptions::default();
    let for_writing = Arc::new(View::new(view, Presence::Listed(present), Arc::default()));
    let writer = ChunkWriter::start(repo, lease, for_writing, options);
    let reader = ChunkReader::new(Arc::clone(repo), Arc::new(all_described(repo)?));
    let damaged = Mutex::new(Vec::new());
    let outcome = copy_all(repo, &reader, &writer, jobs, observer, &damaged);
    if let (Some(failure), Err(_)) = (writer.failure(), &outcome) {
        return Err(failure.into());
    }
    outcome?;
    let written = writer.finish()?;
    let damaged = damaged.into_inner().expect("no holder of this lock panics");
    Ok(Rewritten { bytes_stored: written.bytes_stored, damaged })
}

fn all_described(repo: &Repo) -> Result<View, RepoError> {
    let presence = Presence::Described(PackProbe::new(Arc::clone(repo.storage())));
    Ok(View::new(repo.counted_index()?.view()?, presence, Arc::default()))
}

fn copy_all(
    repo: &Repo,
    reader: &ChunkReader,
    writer: &ChunkWriter,
    jobs: Vec<Job>,
    observer: &dyn Observer,
    damaged: &Mutex<Vec<PackName>>,
) -> Result<(), PruneError> {
    let thread_count = std::thread::available_parallelism().map_or(2, |count| count.get()).min(jobs.len());
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().expect("no holder of this lock panics").next();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..thread_count)
            .map(|_| {
                scope.spawn(|| {
                    let mut copier = Copier {
                        data: writer.frame_writer(PackKind::Data),
                        meta: writer.frame_writer(PackKind::Meta),
                    };
                    while let Some(job) = next() {
                        if observer.is_interrupted() {
                            return Err(PruneError::Interrupted);
                        }
                        copier.data.begin();
                        let is_whole = copier.copy(repo, reader, &job)?;
                        copier.data.finish()?;
                        copier.meta.finish()?;
                        if !is_whole {
                            damaged.lock().expect("no holder of this lock panics").push(job.name);
                        }
                        Progress::add(&observer.progress().files_done, 1);
                    }
                    Ok(())
                })
            })
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(RepoError::Ended.into())));
        // All of them end before the first error is told.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// One thread's way out and in.
struct Copier<'w> {
    data: FrameWriter<'w>,
    meta: FrameWriter<'w>,
}

impl Copier<'_> {
    /// Whether everything that is needed of the pack could be copied.
    fn copy(&mut self, repo: &Repo, reader: &ChunkReader, job: &Job) -> Result<bool, RepoError> {
        let directory = match repo.read_pack_directory(job.name.0, job.name.1) {
            Ok(directory) => directory,
            Err(error) if error.is_damage() => match repo.description_of(&job.name.1)? {
                Some(directory) => directory,
                None => return Ok(false),
            },
            Err(error) => return Err(error),
        };
        let mut live = BTreeMap::new();
        let mut first = 0;
        for (number, frame) in directory.frames.iter().enumerate() {
            // What is stated to be damaged is not counted, and nobody relies on it.
            if job.damaged.contains(&(number as u32)) {
                continue;
            }
            let needed = live_entries(frame, first, &job.dead);
            first += frame.chunks.len();
            if !needed.is_empty() {
                live.insert(number as u16, needed);
            }
        }
        let numbers: Vec<_> = live.keys().copied().collect();
        let mut outcome = Ok(true);
        reader.read_frames(job.number, &numbers, &mut |number, plain| {
            if !matches!(outcome, Ok(true)) {
                return;
            }
            outcome = match (plain, live.get(&number)) {
                (Ok(plain), Some(needed)) => self.put(plain, needed),
                (Ok(_), None) => Ok(true),
                (Err(error), _) if error.is_damage() => Ok(false),
                (Err(error), _) => Err(error),
            };
        })?;
        outcome
    }

    /// Stores chunks or nodes of one frame again. Whether each has the id that the directory says.
    fn put(&mut self, plain: &[u8], needed: &[(usize, ChunkEntry)]) -> Result<bool, RepoError> {
        for run in needed.chunk_by(|(at, entry), (next, then)| {
            at + entry.len as usize == *next && entry.kind == then.kind && entry.kind == ContentKind::Chunk
        }) {
            let Some((start, first)) = run.first() else { continue };
            let lens: Vec<_> = run.iter().map(|(_, entry)| entry.len as usize).collect();
            let Some(bytes) = plain.get(*start..*start + lens.iter().sum::<usize>()) else {
                return Ok(false);
            };
            let keys: Vec<[u8; 16]> = match first.kind {
                ContentKind::Chunk => {
                    let ids = self.data.put_chunks(bytes, &lens)?;
                    ids.iter().map(|id| id.content().prefix()).collect()
                }
                ContentKind::Node => vec![self.meta.put_node(bytes)?.content().prefix()],
                ContentKind::List => vec![self.meta.put_list(bytes)?.content().prefix()],
            };
            if !keys.iter().eq(run.iter().map(|(_, entry)| &entry.key)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What of a frame is needed, with where it begins. `first` chunks of the pack lie before the frame.
fn live_entries(frame: &FrameEntry, first: usize, dead: &DeadEntries) -> Vec<(usize, ChunkEntry)> {
    let mut start = 0;
    let mut needed = Vec::new();
    for (ordinal, entry) in (first..).zip(&frame.chunks) {
        if dead.entries.binary_search_by_key(&ordinal, |dead| dead.ordinal).is_err() {
            needed.push((start, *entry));
        }
        start += entry.len as usize;
    }
    needed
}
