//! The local index: which pack holds a chunk, in which frame of it, and where in that frame.
//!
//! It is a database in the cache folder, made from the index objects of a repository and disposable at any time:
//! it is never the only copy of a fact. Whoever gets [`IndexError::Damaged`] or [`IndexError::Stale`] deletes it
//! with [`Index::delete`] and adds the index objects again.
//!
//! What it promises:
//!
//! - **One transaction per index object.** After a crash the index holds every index object that was added
//!   completely, and nothing of the one that was being added.
//! - **A view does not move.** [`IndexView`] answers from one moment, whatever is added or removed meanwhile.
//! - **Damage is not an answer.** Every row carries a check of its own, and a panic of the database engine over a
//!   broken page ends as [`IndexError::Damaged`]. One thing it cannot promise: a damaged page may *hide* a row. A
//!   writer then stores a chunk twice, which is harmless; a reader that misses a chunk which must exist treats the
//!   index as damaged, rebuilds it and asks again.
//!
//! # Tables
//!
//! | Table | Key | Value |
//! | --- | --- | --- |
//! | `meta` | name | schema version, repository id, next pack and run number, whether there are bases |
//! | `index_objects` | index object id | numbers of the packs it describes |
//! | `packs` | pack number | [`PackRow`], how many index objects describe it, its places |
//! | `pack_numbers` | pack id | pack number |
//! | `frames` | pack number, frame number | [`FrameRow`] |
//! | `runs` | run number | slice and count of the run |
//! | `run-<number>` | block number | 136 places, each 30 bytes |
//! | `filters`, `fences` | run number, part | a piece of what views keep in memory of the run |
//! | `forgotten` | pack number | how many places of it are still in runs |
//! | `damaged` | pack id | which statement about its damage counts, and the frames it names |
//!
//! Pack numbers are given in ascending order and never again, so `packs` and `frames` only grow at their end.
//!
//! # Runs
//!
//! Ids are keyed hashes, so the places of one index object fall all over the key space. In one ordered table every
//! index object would rewrite nearly every page: measured at 10 million places, 31 s of inserting and more than 100
//! bytes a place, because pages are half full and their old copies wait to be freed. So places are kept in *runs*:
//! ordered lists in full blocks that are written once, front to back, and later merged with their like.
//!
//! The key space is cut into eight slices by the first three bits. Each slice has runs of its own, and merging is
//! one transaction per slice, so that the old and the new copy of at most an eighth of the places exist together.
//! Runs are merged when four of a similar size have come together: a place is copied once for each fourfold growth
//! of the index. For each run a view holds a filter of ten bits a place, so that a lookup touches only runs that very
//! likely hold the id, and the first id of every block. The filters of all runs together are bounded; the largest
//! runs do without when the bound is reached.
//!
//! The copies of a chunk in several packs are simply several places with the same id. A forgotten pack leaves its
//! places behind: views pass over them, merging drops them, and everything is merged when they are a quarter of all.

mod cache_folder;
pub mod counts;
mod damage;
mod error;
mod filter;
mod merge;
mod rows;
mod runs;
mod scratch_file;
mod verified;
mod view;
mod witness;
mod write;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableDefinition, TableHandle};

pub use cache_folder::{CacheFolder, CacheFolderError, CachedIndex, IndexOrigin};
pub use damage::StatedDamage;
pub use error::{IndexError, expects_panic};
pub use scratch_file::ScratchFile;
pub use verified::VerifiedPacks;
pub use view::{IndexTotals, IndexView, Places};
pub use witness::{Observed, SeriesMark, Witness, WitnessError, WitnessedNumber};

use crate::id::{ContentId, IndexObjectId, PackId, RepositoryId};
use error::{Guarded, guarded};
use rows::{opened, opened_number, sealed, sealed_number};
use runs::LazySummary;

/// Version of the tables. Another one in the file makes it [`IndexError::Stale`].
const SCHEMA_VERSION: u32 = 2;

/// The file is compacted when one place in so many has changed.
const COMPACTING_SHARE: u64 = 4;
/// The key space is cut into slices by so many bits.
const SLICE_BITS: u32 = 3;
const SLICE_COUNT: u8 = 1 << SLICE_BITS;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const META_SCHEMA: &str = "schema";
const META_REPOSITORY: &str = "repository";
const META_NEXT_PACK: &str = "next pack";
const META_NEXT_RUN: &str = "next run";
/// 1 once any frame with bases was added, 0 before.
const META_HAS_BASES: &str = "has bases";
const INDEX_OBJECTS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("index_objects");
const PACKS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("packs");
const PACK_NUMBERS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("pack_numbers");
const FRAMES: TableDefinition<'_, [u8; 6], &[u8]> = TableDefinition::new("frames");
const RUNS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("runs");
const FILTERS: TableDefinition<'_, [u8; 6], &[u8]> = TableDefinition::new("filters");
const FENCES: TableDefinition<'_, [u8; 6], &[u8]> = TableDefinition::new("fences");
const FORGOTTEN: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("forgotten");
const DAMAGED: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("damaged");

/// Local number of a pack. Never given twice in the life of an index file, and unknown outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackNumber(pub u32);

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackKind {
    /// Chunks of files.
    Data = 1,
    /// Nodes.
    Meta = 2,
}

/// A pack as an index object describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRow {
    /// Its name in the storage.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Bytes of its payload, without parity.
    pub payload_len: u64,
    /// How its key is wrapped.
    pub wrap: u8,
    /// Flags of its header.
    pub flags: u8,
    /// Generation of the key that opens it.
    pub generation: u32,
    /// Salt of its key.
    pub salt: [u8; 32],
    /// How many frames it has.
    pub frame_count: u32,
    /// How many chunks or nodes it holds.
    pub chunk_count: u32,
}

/// A frame of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRow {
    /// Where the sealed frame begins in the payload of its pack.
    pub offset: u32,
    /// Bytes after compressing, before sealing.
    pub stored_len: u32,
    /// Bytes of its chunks together.
    pub plain_len: u32,
    /// How it is compressed.
    pub codec: u8,
    /// Frames that rest on frames: 0 without bases.
    pub depth: u8,
    /// Identifies the list of its chunks.
    pub list_hash: [u8; 16],
    /// The chunks against which it is compressed.
    pub bases: Vec<ContentId>,
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// In which pack.
    pub pack: PackNumber,
    /// In which frame of it.
    pub frame: u16,
    /// First byte in the plain frame.
    pub start: u32,
    /// Bytes of the chunk.
    pub len: u32,
}

/// A place in a pack that has no number yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewPlace {
    /// The first half of the id: [`ContentId::prefix`].
    pub key: [u8; 16],
    /// In which frame of the pack.
    pub frame: u16,
    /// First byte in the plain frame.
    pub start: u32,
    /// Bytes of the chunk.
    pub len: u32,
}

/// A pack that an index object describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPack {
    /// The pack itself.
    pub row: PackRow,
    /// Its frames, in order.
    pub frames: Vec<FrameRow>,
    /// Its chunks or nodes, in any order.
    pub places: Vec<NewPlace>,
}

/// How much memory an index may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexOptions {
    /// For pages of the database, read and about to be written, together.
    pub cache_bytes_max: usize,
    /// For the filters of all runs together.
    pub filter_bytes_max: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self { cache_bytes_max: 48 << 20, filter_bytes_max: 16 << 20 }
    }
}

/// The open index of one repository. One process at a time has a file open.
///
/// All methods may be called from any thread; those that change something wait for each other.
pub struct Index {
    database: Guarded<Database>,
    options: IndexOptions,
    /// By run number, shared by all views: a run never changes, and its number is never given again.
    summaries: Mutex<HashMap<u32, Arc<LazySummary>>>,
    /// Places added and forgotten since the index was opened.
    changed_count: AtomicU64,
}

impl Index {
    /// Opens the index of `repository` at `path`, and creates it if there is none.
    ///
    /// [`IndexError::Locked`] if a process has it open, this one included. [`IndexError::Damaged`] and
    /// [`IndexError::Stale`] mean: delete it and build it again.
    pub fn open(path: &Path, repository: RepositoryId) -> Result<Self, IndexError> {
        Self::open_with(path, repository, IndexOptions::default())
    }

    /// As [`Index::open`], with other bounds on memory.
    pub fn open_with(
        path: &Path,
        repository: RepositoryId,
        options: IndexOptions,
    ) -> Result<Self, IndexError> {
        Self::open_from(repository, options, |builder| builder.create(path))
    }

    fn open_from(
        repository: RepositoryId,
        options: IndexOptions,
        create: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, IndexError> {
        guarded(|| {
            let database = create(Builder::new().set_cache_size(options.cache_bytes_max))?;
            let index = Self {
                database: Guarded::new(database),
                options,
                summaries: Mutex::default(),
                changed_count: AtomicU64::new(0),
            };
            index.prepare(repository)?;
            Ok(index)
        })
    }

    /// Removes the index at `path`; one that does not exist is removed already.
    pub fn delete(path: &Path) -> Result<(), IndexError> {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(IndexError::Failed { source })
            }
            _ => Ok(()),
        }
    }

    /// Adds an index object, completely or not at all. One that is known already changes nothing.
    ///
    /// A pack that another index object described before keeps the frames and places it has; it is now described
    /// by both. Durable on return. Merging runs comes last: should that fail, the index object is there.
    pub fn add_index_object(&self, id: IndexObjectId, packs: Vec<NewPack>) -> Result<(), IndexError> {
        guarded(|| {
            let added_count = write::add_index_object(self, id, packs)?;
            self.changed_count.fetch_add(added_count, Ordering::Relaxed);
            merge::merge_similar_runs(self.database.get())
        })
    }

    /// Removes index objects, all of them or none; ids that are not known are passed over.
    ///
    /// A pack that no index object describes any more is forgotten, with its frames and places.
    pub fn remove_index_objects(&self, ids: &[IndexObjectId]) -> Result<(), IndexError> {
        guarded(|| {
            let forgotten_count = write::remove_index_objects(self, ids)?;
            self.changed_count.fetch_add(forgotten_count, Ordering::Relaxed);
            merge::drop_forgotten_places(self.database.get())
        })
    }

    /// Takes in what is stated of damaged frames, all of it or nothing. What lies in a damaged frame has no place there
    /// from then on: it counts as not stored, or its other copies count.
    ///
    /// Where a statement changes what counts of a pack that is known, the index objects that describe the pack are
    /// removed and returned: they must be read and added again.
    pub fn state_damage(&self, stated: &[StatedDamage]) -> Result<Vec<IndexObjectId>, IndexError> {
        if stated.is_empty() {
            return Ok(Vec::new());
        }
        guarded(|| {
            let (removed, forgotten_count) = damage::state(self, stated)?;
            self.changed_count.fetch_add(forgotten_count, Ordering::Relaxed);
            if !removed.is_empty() {
                merge::drop_forgotten_places(self.database.get())?;
            }
            Ok(removed)
        })
    }

    /// The index as it is now. See [`IndexView`].
    ///
    /// While a view lives, the space of what is removed or merged is not used again: drop it when a newer one
    /// takes its place.
    pub fn view(&self) -> Result<IndexView, IndexError> {
        guarded(|| {
            let transaction = self.database.get().begin_read()?;
            let mut known = self.summaries.lock().map_err(|_| IndexError::damaged("a lock is poisoned"))?;
            IndexView::new(transaction, &mut known, self.options.filter_bytes_max)
        })
    }

    /// Reads every page that is in use and compares its checksum: whether the file is undamaged.
    ///
    /// [`IndexError::InUse`] while a view lives.
    pub fn verify(&mut self) -> Result<(), IndexError> {
        guarded(|| match self.database.get_mut().check_integrity()? {
            true => Ok(()),
            false => Err(IndexError::damaged("a page does not match its checksum")),
        })
    }

    /// Makes the tables of a new file, or makes sure that an old one is ours.
    fn prepare(&self, repository: RepositoryId) -> Result<(), IndexError> {
        let database = self.database.get();
        let reading = database.begin_read()?;
        if reading.list_tables()?.any(|table| table.name() == META.name()) {
            let meta = reading.open_table(META)?;
            let (Some(schema), Some(owner)) = (meta.get(META_SCHEMA)?, meta.get(META_REPOSITORY)?) else {
                return Err(IndexError::Stale);
            };
            let is_ours = opened_number(META, META_SCHEMA.as_bytes(), schema.value())? == SCHEMA_VERSION
                && opened(META, META_REPOSITORY.as_bytes(), owner.value())? == repository.bytes();
            if !is_ours {
                return Err(IndexError::Stale);
            }
            return Ok(());
        }
        drop(reading);
        let writing = write::begin(database)?;
        {
            let mut meta = writing.open_table(META)?;
            meta.insert(META_SCHEMA, sealed_number(META, META_SCHEMA.as_bytes(), SCHEMA_VERSION).as_slice())?;
            let owner = sealed(META, META_REPOSITORY.as_bytes(), repository.bytes().to_vec());
            meta.insert(META_REPOSITORY, owner.as_slice())?;
            for name in [META_NEXT_PACK, META_NEXT_RUN, META_HAS_BASES] {
                meta.insert(name, sealed_number(META, name.as_bytes(), 0).as_slice())?;
            }
            writing.open_table(INDEX_OBJECTS)?;
            writing.open_table(PACKS)?;
            writing.open_table(PACK_NUMBERS)?;
            writing.open_table(FRAMES)?;
            writing.open_table(RUNS)?;
            writing.open_table(FILTERS)?;
            writing.open_table(FENCES)?;
            writing.open_table(FORGOTTEN)?;
            writing.open_table(DAMAGED)?;
        }
        writing.commit()?;
        Ok(())
    }
}

impl Drop for Index {
    /// Gives space that is not used back to the disk, if much of the index has changed since it was opened.
    ///
    /// The engine doubles the file when it needs space. Moving its pages together takes a third of a second for a
    /// million places, which is little beside adding them, and too much for adding a few. Nothing depends on it,
    /// so that whatever prevents it (a view that still lives, for one) is passed over.
    fn drop(&mut self) {
        let _ = guarded(|| {
            let totals = self.view()?.totals()?;
            let changed_count = *self.changed_count.get_mut();
            if changed_count > 0 && changed_count * COMPACTING_SHARE >= totals.places {
                self.database.get_mut().compact()?;
            }
            Ok(())
        });
    }
}
