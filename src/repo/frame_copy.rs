//! Frames on their way from packs into other packs, of this repository or of one with the same identities.
//!
//! Each chunk and node is opened and compared with its id on the way: damage is never sealed anew. What is copied is
//! stored like a backup stores it: packs first, then the index objects that describe them.
//!
//! Frames of which all is wanted are copied as they are. Those that rest on others go on doing so, at most as deep as
//! before, if what they rest on may be relied on where they go. What is copied itself is there before what rests on it,
//! because less deep frames come first, and are described before the next ones begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::event::{Observer, Progress};
use crate::format::frame::{ChunkEntry, ContentKind, FrameEntry};
use crate::id::PackId;
use crate::index::counts::DeadEntries;
use crate::index::{PackKind, PackNumber};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::chunk_writer::{ChunkWriter, FrameWriter, StoredFrame};
use crate::repo::error::RepoError;
use crate::repo::pack_sealing::OpenedFrame;

/// A pack of which something is to be copied.
pub struct PackToCopy {
    /// Its number in the index of the reader.
    pub number: PackNumber,
    /// Its name.
    pub name: (PackKind, PackId),
    /// What of it.
    pub wanted: Wanted,
    /// Frames of it that are left out, because they are stated to be damaged.
    pub left_out: BTreeSet<u32>,
    /// How deep the frames lie that hold what is wanted.
    pub depths: BTreeSet<u8>,
}

/// What of a pack is to be copied.
pub enum Wanted {
    /// What is not dead.
    AllBut(DeadEntries),
    /// What has these keys, in ascending order.
    Only(Vec<[u8; 16]>),
}

impl Wanted {
    fn has(&self, ordinal: usize, entry: &ChunkEntry) -> bool {
        match self {
            Self::AllBut(dead) => dead.entries.binary_search_by_key(&ordinal, |dead| dead.ordinal).is_err(),
            Self::Only(keys) => keys.binary_search(&entry.key).is_ok(),
        }
    }

    /// What of a frame is wanted, with where it begins. `first` chunks of the pack lie before the frame.
    fn of_frame(&self, frame: &FrameEntry, first: usize) -> Vec<(usize, ChunkEntry)> {
        let mut start = 0;
        let mut wanted = Vec::new();
        for (ordinal, entry) in (first..).zip(&frame.chunks) {
            if self.has(ordinal, entry) {
                wanted.push((start, *entry));
            }
            start += entry.len as usize;
        }
        wanted
    }
}

/// Decides whether a frame that rests on others is worth what those cost.
pub trait BasePrices: Sync {
    /// What the bases of a frame cost in bytes, as far as only what is copied needs them.
    fn of_frame(&self, frame: &FrameEntry) -> u64;

    /// Whether a difference of so many bytes is to be stored, and not the whole in so many, if its bases cost `price`.
    fn is_worth_it(&self, difference: u64, whole: u64, price: u64) -> bool;
}

/// A copying: from where, to where, and by which prices; without any, all that rests on others goes on doing so.
pub struct FrameCopy<'a> {
    /// Reads the packs.
    pub reader: &'a ChunkReader,
    /// Writes the new ones. Its repository has the same identities.
    pub writer: &'a ChunkWriter,
    /// What bases cost.
    pub prices: Option<&'a dyn BasePrices>,
    /// Counts packs that are done as files.
    pub observer: &'a dyn Observer,
}

/// Packs of which something that is wanted is damaged.
type Damaged = Mutex<BTreeSet<(PackKind, PackId)>>;

impl FrameCopy<'_> {
    /// Copies what is wanted of these packs, unless the writer's repository holds it already. Packs of which something
    /// could not be read are returned; what else they hold may have been copied or not.
    ///
    /// [`RepoError::Ended`] if the observer asked to stop.
    pub fn run(&self, packs: &[PackToCopy]) -> Result<BTreeSet<(PackKind, PackId)>, RepoError> {
        let damaged = Damaged::default();
        let depths: BTreeSet<u8> = packs.iter().flat_map(|pack| &pack.depths).copied().collect();
        for (at, depth) in depths.into_iter().enumerate() {
            if at > 0 {
                self.writer.settle()?;
            }
            let packs: Vec<_> = packs.iter().filter(|pack| pack.depths.contains(&depth)).collect();
            self.run_depth(packs, depth, &damaged)?;
        }
        Ok(damaged.into_inner().expect("no holder of this lock panics"))
    }

    fn run_depth(&self, packs: Vec<&PackToCopy>, depth: u8, damaged: &Damaged) -> Result<(), RepoError> {
        let processors = std::thread::available_parallelism().map_or(2, |count| count.get());
        let thread_count = processors.min(packs.len());
        let packs = Mutex::new(packs.into_iter());
        let next = || packs.lock().expect("no holder of this lock panics").next();
        std::thread::scope(|scope| {
            let work = || {
                let mut copier = Copier {
                    copying: self,
                    data: self.writer.frame_writer(PackKind::Data),
                    meta: self.writer.frame_writer(PackKind::Meta),
                };
                while let Some(pack) = next() {
                    if self.observer.is_interrupted() {
                        return Err(RepoError::Ended);
                    }
                    // A pack of nodes waits for all frames of chunks that are begun, so nobody who fills one may have begun
                    // one.
                    if pack.name.0 == PackKind::Data {
                        copier.data.begin();
                    }
                    let is_whole = copier.copy(pack, depth)?;
                    copier.data.finish()?;
                    copier.meta.finish()?;
                    if !is_whole {
                        damaged.lock().expect("no holder of this lock panics").insert(pack.name);
                    }
                    if pack.depths.last() == Some(&depth) {
                        Progress::add(&self.observer.progress().files_done, 1);
                    }
                }
                Ok(())
            };
            let threads: Vec<_> = (0..thread_count).map(|_| scope.spawn(work)).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(RepoError::Ended)));
            // All of them end before the first error is told.
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }
}

/// One thread's way out and in.
struct Copier<'w> {
    copying: &'w FrameCopy<'w>,
    data: FrameWriter<'w>,
    meta: FrameWriter<'w>,
}

impl Copier<'_> {
    /// Whether everything that is wanted of the frames of this depth could be copied.
    fn copy(&mut self, pack: &PackToCopy, depth: u8) -> Result<bool, RepoError> {
        let reader = self.copying.reader;
        let repo = reader.repo();
        let directory = match repo.read_pack_directory(pack.name.0, pack.name.1) {
            Ok(directory) => directory,
            Err(error) if error.is_damage() => match repo.description_of(&pack.name.1)? {
                Some(directory) => directory,
                None => return Ok(false),
            },
            Err(error) => return Err(error),
        };
        let mut found = BTreeMap::new();
        let mut first = 0;
        for (number, frame) in directory.frames.iter().enumerate() {
            // What is stated to be damaged is not counted, and nobody relies on it.
            if pack.left_out.contains(&(number as u32)) {
                continue;
            }
            let wanted = pack.wanted.of_frame(frame, first);
            first += frame.chunks.len();
            if !wanted.is_empty() && frame.depth == depth {
                found.insert(number as u16, (frame, wanted));
            }
        }
        let numbers: Vec<_> = found.keys().copied().collect();
        let mut outcome = Ok(true);
        reader.read_stored_frames(pack.number, &numbers, &mut |number, opened| {
            if !matches!(outcome, Ok(true)) {
                return;
            }
            outcome = match (opened, found.get(&number)) {
                (Ok(OpenedFrame { stored, plain }), Some((entry, wanted))) => {
                    self.put(StoredFrame { entry, stored, plain }, wanted)
                }
                (Ok(_), None) => Ok(true),
                (Err(error), _) if error.is_damage() => Ok(false),
                (Err(error), _) => Err(error),
            };
        })?;
        outcome
    }

    /// Stores chunks or nodes of one frame again. Whether each has the id that the directory says.
    fn put(&mut self, frame: StoredFrame<'_>, wanted: &[(usize, ChunkEntry)]) -> Result<bool, RepoError> {
        let into = match frame.entry.chunks.first().map(|entry| entry.kind) {
            Some(ContentKind::Node | ContentKind::List) => &mut self.meta,
            Some(ContentKind::Chunk) | None => &mut self.data,
        };
        let price = self.copying.prices.map(|prices| (prices, prices.of_frame(frame.entry)));
        let Some((prices, price)) = price.filter(|(_, price)| *price > 0) else {
            return into.put_again(frame, wanted, self.copying.reader, None);
        };
        let is_worth_it = |difference, whole| prices.is_worth_it(difference, whole, price);
        into.put_again(frame, wanted, self.copying.reader, Some(&is_worth_it))
    }
}
