//! P5: what is needed of packs that are mostly not goes into new packs.
//!
//! Each chunk and node is opened and verified on the way: damage is never sealed anew. A pack in which anything that is
//! needed is damaged stays where it is. What is copied is stored like a backup stores it: packs first, then the index
//! objects that describe them. Until the plan is there, all of it is ordinary garbage.
//!
//! Frames of which all is needed are copied as they are. Those that rest on others go on doing so, at most as deep as
//! before, if what they rest on is in the packs that stay. What is moved itself is there before what rests on it, because
//! less deep frames are moved first, and described before the next ones begin. A frame is stored plainly where its bases are
//! gone, or kept by frames that are moved alone and cost more than the difference saves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use crate::event::{Observer, Progress};
use crate::format::frame::{ChunkEntry, ContentKind, FrameEntry};
use crate::id::{ContentId, SnapshotId};
use crate::index::counts::DeadEntries;
use crate::index::{Index, IndexView, PackKind, PackNumber};
use crate::prune::{PackName, PruneError, fates};
use crate::repo::{
    ChunkReader, ChunkWriter, FrameWriter, OpenedFrame, PackProbe, PackSet, Presence, Repo, RepoError,
    StoredFrame, View, WriterOptions,
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
    /// How deep its frames lie.
    depths: BTreeSet<u8>,
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
    let jobs = jobs(&index, &view, numbers, &names)?;
    let prices = Prices::of(&index, &view, &jobs)?;
    drop(index);
    let lease = SnapshotId::new(repo.random()?);
    let options = WriterOptions::default();
    let for_writing = Arc::new(View::new(view, Presence::Listed(present), Arc::default()));
    let writer = ChunkWriter::start(repo, lease, for_writing, options);
    let reader = ChunkReader::new(Arc::clone(repo), Arc::new(all_described(repo)?));
    let damaged = Mutex::default();
    let copying =
        Copying { repo, reader: &reader, writer: &writer, prices: &prices, damaged: &damaged, observer };
    let outcome = copying.all(&jobs);
    if let (Some(failure), Err(_)) = (writer.failure(), &outcome) {
        return Err(failure.into());
    }
    outcome?;
    let written = writer.finish()?;
    let damaged = damaged.into_inner().expect("no holder of this lock panics");
    Ok(Rewritten { bytes_stored: written.bytes_stored, damaged: damaged.into_iter().collect() })
}

fn jobs(
    index: &Index,
    view: &IndexView,
    numbers: &[PackNumber],
    names: &BTreeMap<PackNumber, PackName>,
) -> Result<Vec<Job>, RepoError> {
    let mut jobs = Vec::new();
    for number in numbers {
        let Some(name) = names.get(number).copied() else { continue };
        let dead = index.dead_entries(*number)?;
        let damaged = view.stated_damage(&name.1)?.map(|damage| damage.frames).unwrap_or_default();
        let depths = view.frames(*number)?.iter().map(|frame| frame.depth).collect();
        jobs.push(Job { number: *number, name, dead, damaged, depths });
    }
    Ok(jobs)
}

/// What the bases of moved frames cost, of which nothing else needs them.
struct Prices(HashMap<[u8; 16], u64>);

impl Prices {
    fn of(index: &Index, view: &IndexView, jobs: &[Job]) -> Result<Self, RepoError> {
        let mut moved: BTreeMap<[u8; 16], u64> = BTreeMap::new();
        for job in jobs.iter().filter(|job| job.depths.iter().any(|depth| *depth > 0)) {
            let mut dead_bytes: HashMap<u16, u32> = HashMap::new();
            for dead in &job.dead.entries {
                *dead_bytes.entry(dead.frame).or_default() += dead.len;
            }
            for (number, frame) in (0u16..).zip(view.frames(job.number)?) {
                // What is not needed as a whole is not moved, and needs no bases.
                let is_dead = dead_bytes.get(&number).is_some_and(|dead| *dead >= frame.plain_len);
                if is_dead || job.damaged.contains(&u32::from(number)) {
                    continue;
                }
                let bases: BTreeSet<_> = frame.bases.iter().map(ContentId::prefix).collect();
                bases.into_iter().for_each(|base| *moved.entry(base).or_default() += 1);
            }
        }
        let keys: Vec<_> = moved.keys().copied().collect();
        let counts = if keys.is_empty() { Vec::new() } else { index.counts_of(&keys)? };
        let mut prices = HashMap::new();
        for ((key, moved), count) in moved.into_iter().zip(counts) {
            let Some(place) = view.lookup(&key)?.first() else { continue };
            let Some(frame) = view.frame(place.pack, place.frame)? else { continue };
            let price = fates::freed_bytes(count, moved, place.len, frame.plain_len, frame.stored_len);
            if price > 0 {
                prices.insert(key, price);
            }
        }
        Ok(Self(prices))
    }

    fn of_frame(&self, frame: &FrameEntry) -> u64 {
        frame.bases.iter().filter_map(|base| self.0.get(&base.prefix())).sum()
    }
}

fn all_described(repo: &Repo) -> Result<View, RepoError> {
    let presence = Presence::Described(PackProbe::new(Arc::clone(repo.storage())));
    Ok(View::new(repo.counted_index()?.view()?, presence, Arc::default()))
}

/// What all threads share.
struct Copying<'a> {
    repo: &'a Repo,
    reader: &'a ChunkReader,
    writer: &'a ChunkWriter,
    prices: &'a Prices,
    damaged: &'a Mutex<BTreeSet<PackName>>,
    observer: &'a dyn Observer,
}

impl Copying<'_> {
    /// Less deep frames first. When the deeper ones begin, those are described and may be rested on.
    fn all(&self, jobs: &[Job]) -> Result<(), PruneError> {
        let depths: BTreeSet<u8> = jobs.iter().flat_map(|job| &job.depths).copied().collect();
        for (at, depth) in depths.into_iter().enumerate() {
            if at > 0 {
                self.writer.settle()?;
            }
            let jobs: Vec<_> = jobs.iter().filter(|job| job.depths.contains(&depth)).collect();
            self.all_of_depth(jobs, depth)?;
        }
        Ok(())
    }

    fn all_of_depth(&self, jobs: Vec<&Job>, depth: u8) -> Result<(), PruneError> {
        let processors = std::thread::available_parallelism().map_or(2, |count| count.get());
        let thread_count = processors.min(jobs.len());
        let jobs = Mutex::new(jobs.into_iter());
        let next = || jobs.lock().expect("no holder of this lock panics").next();
        std::thread::scope(|scope| {
            let work = || {
                let mut copier = Copier {
                    data: self.writer.frame_writer(PackKind::Data),
                    meta: self.writer.frame_writer(PackKind::Meta),
                };
                while let Some(job) = next() {
                    if self.observer.is_interrupted() {
                        return Err(PruneError::Interrupted);
                    }
                    // A pack of nodes waits for all frames of chunks that are begun, so nobody who fills one may have begun
                    // one.
                    if job.name.0 == PackKind::Data {
                        copier.data.begin();
                    }
                    let is_whole = copier.copy(self, job, depth)?;
                    copier.data.finish()?;
                    copier.meta.finish()?;
                    if !is_whole {
                        self.damaged.lock().expect("no holder of this lock panics").insert(job.name);
                    }
                    if job.depths.last() == Some(&depth) {
                        Progress::add(&self.observer.progress().files_done, 1);
                    }
                }
                Ok(())
            };
            let threads: Vec<_> = (0..thread_count).map(|_| scope.spawn(work)).collect();
            let ended =
                threads.into_iter().map(|thread| thread.join().unwrap_or(Err(RepoError::Ended.into())));
            // All of them end before the first error is told.
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }
}

/// One thread's way out and in.
struct Copier<'w> {
    data: FrameWriter<'w>,
    meta: FrameWriter<'w>,
}

impl Copier<'_> {
    /// Whether everything that is needed of the frames of this depth could be copied.
    fn copy(&mut self, copying: &Copying<'_>, job: &Job, depth: u8) -> Result<bool, RepoError> {
        let repo = copying.repo;
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
            if !needed.is_empty() && frame.depth == depth {
                live.insert(number as u16, (frame, needed));
            }
        }
        let numbers: Vec<_> = live.keys().copied().collect();
        let mut outcome = Ok(true);
        copying.reader.read_stored_frames(job.number, &numbers, &mut |number, opened| {
            if !matches!(outcome, Ok(true)) {
                return;
            }
            outcome = match (opened, live.get(&number)) {
                (Ok(OpenedFrame { stored, plain }), Some((entry, needed))) => {
                    self.put(copying, StoredFrame { entry, stored, plain }, needed)
                }
                (Ok(_), None) => Ok(true),
                (Err(error), _) if error.is_damage() => Ok(false),
                (Err(error), _) => Err(error),
            };
        })?;
        outcome
    }

    /// Stores chunks or nodes of one frame again. Whether each has the id that the directory says.
    fn put(
        &mut self,
        copying: &Copying<'_>,
        frame: StoredFrame<'_>,
        needed: &[(usize, ChunkEntry)],
    ) -> Result<bool, RepoError> {
        let into = match frame.entry.chunks.first().map(|entry| entry.kind) {
            Some(ContentKind::Node | ContentKind::List) => &mut self.meta,
            Some(ContentKind::Chunk) | None => &mut self.data,
        };
        let price = copying.prices.of_frame(frame.entry);
        let is_worth_it = |difference, whole| fates::is_worth_its_bases(difference, whole, price);
        let asked: Option<&dyn Fn(u64, u64) -> bool> = if price > 0 { Some(&is_worth_it) } else { None };
        into.put_again(frame, needed, copying.reader, asked)
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
