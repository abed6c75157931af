//! What a run may rely on: the packs that the index describes *and* a listing has shown.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::id::{ContentId, PackId};
use crate::index::{FrameRow, IndexError, IndexView, PackNumber, PackRow, Place};
use crate::repo::error::RepoError;
use crate::repo::names;
use crate::storage::Storage;

/// A set of pack numbers that grows from several threads.
#[derive(Debug, Default)]
pub struct PackSet {
    words: Vec<AtomicU64>,
}

impl PackSet {
    /// An empty set for packs below `end`.
    pub fn below(end: u32) -> Self {
        Self { words: (0..end.div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The same packs, with room for all below `end`.
    fn extended_to(&self, end: u32) -> Self {
        let larger = Self::below(end.max(64 * self.words.len() as u32));
        for (word, before) in larger.words.iter().zip(&self.words) {
            word.store(before.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        larger
    }

    /// Adds a pack; says nothing of packs beyond the end.
    pub fn insert(&self, pack: PackNumber) {
        if let Some(word) = self.words.get(pack.0 as usize / 64) {
            let bit = 1 << (pack.0 % 64);
            // Most packs are marked over and over: reading first keeps the cache line shared.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Takes a pack out.
    pub fn remove(&self, pack: PackNumber) {
        if let Some(word) = self.words.get(pack.0 as usize / 64) {
            word.fetch_and(!(1 << (pack.0 % 64)), Ordering::Relaxed);
        }
    }

    /// Whether the pack is in the set.
    pub fn contains(&self, pack: PackNumber) -> bool {
        let word = self.words.get(pack.0 as usize / 64).map(|word| word.load(Ordering::Relaxed));
        word.is_some_and(|word| word & (1 << (pack.0 % 64)) != 0)
    }
}

/// Which packs count.
pub enum Presence {
    /// All that the index describes: for readers, who notice a missing pack when they read it. Only where there is a
    /// choice between packs is it found out which of them are there.
    Described(PackProbe),
    /// Those that a listing has shown with the right length and no open plan dooms: for writers.
    Listed(PackSet),
}

/// Asks the storage, once each, whether packs are there.
pub struct PackProbe {
    storage: Arc<dyn Storage>,
    known: Mutex<HashMap<PackNumber, bool>>,
}

impl PackProbe {
    /// Asks this storage.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, known: Mutex::default() }
    }

    fn is_there(&self, number: PackNumber, index: &IndexView) -> Result<bool, RepoError> {
        if let Some(known) = self.known.lock().expect("no holder of this lock panics").get(&number) {
            return Ok(*known);
        }
        let Some(row) = index.pack(number)? else { return Ok(false) };
        // A pack that cannot be asked for is no better than one that is not there.
        let len = self.storage.len(&names::pack(row.kind, &row.id));
        let is_there = len.is_ok_and(|len| len >= row.payload_len);
        self.known.lock().expect("no holder of this lock panics").insert(number, is_there);
        Ok(is_there)
    }
}

/// What a run may rely on. Shared by all its threads.
pub struct View {
    index: IndexView,
    presence: Presence,
    used: Arc<PackSet>,
    /// Frames of which everything below is claimed.
    claimed: RwLock<HashSet<(PackNumber, u16)>>,
}

impl View {
    /// A view of the index in which `presence` counts. Packs that are claimed from are added to `used`.
    pub fn new(index: IndexView, presence: Presence, used: Arc<PackSet>) -> Self {
        Self { index, presence, used, claimed: RwLock::default() }
    }

    /// The view with `own` packs, which this run has stored, added to what is present; `index` knows them.
    pub fn extended(&self, index: IndexView, own: impl Iterator<Item = PackId>) -> Result<Self, RepoError> {
        let presence = match &self.presence {
            Presence::Described(probe) => Presence::Described(PackProbe::new(Arc::clone(&probe.storage))),
            Presence::Listed(before) => {
                let mut numbers = Vec::new();
                for id in own {
                    numbers.extend(index.pack_number(&id)?);
                }
                let end = numbers.iter().map(|number| number.0 + 1).max().unwrap_or(0);
                let packs = before.extended_to(end);
                numbers.into_iter().for_each(|number| packs.insert(number));
                Presence::Listed(packs)
            }
        };
        Ok(Self::new(index, presence, Arc::clone(&self.used)))
    }

    /// Takes `doomed` packs out of what is present; returns those that something was claimed from.
    ///
    /// Nobody may be claiming meanwhile.
    pub fn exclude(&self, doomed: &HashSet<PackId>) -> Result<Vec<PackId>, RepoError> {
        // What rests on a doomed pack is not to be claimed anew.
        self.claimed.write().expect("no holder of this lock panics").clear();
        let mut used = Vec::new();
        for id in doomed {
            let Some(number) = self.index.pack_number(id)? else { continue };
            if self.used.contains(number) {
                used.push(*id);
            }
            if let Presence::Listed(packs) = &self.presence {
                packs.remove(number);
            }
        }
        Ok(used)
    }

    /// The index below.
    pub fn index(&self) -> &IndexView {
        &self.index
    }

    /// The present copy of least depth, for reading.
    pub fn find(&self, key: &[u8; 16]) -> Result<Option<Place>, RepoError> {
        let places = self.index.lookup(key)?;
        let Some(first) = places.first() else { return Ok(None) };
        match &self.presence {
            Presence::Described(_) if places.len() == 1 => Ok(Some(first)),
            Presence::Described(probe) => {
                let mut present = Vec::new();
                for place in places.iter() {
                    if probe.is_there(place.pack, &self.index)? {
                        present.push(place);
                    }
                }
                // If none is there, whoever reads the first will say so.
                Ok(self.least_deep(present.into_iter())?.or(Some(first)))
            }
            Presence::Listed(packs) => {
                self.least_deep(places.iter().filter(|place| packs.contains(place.pack)))
            }
        }
    }

    fn least_deep(&self, mut present: impl Iterator<Item = Place>) -> Result<Option<Place>, RepoError> {
        let Some(first) = present.next() else { return Ok(None) };
        let mut best = (None, first);
        for place in present {
            if best.0.is_none() {
                best.0 = Some(self.frame(best.1.pack, best.1.frame)?.depth);
            }
            let depth = self.frame(place.pack, place.frame)?.depth;
            if Some(depth) < best.0 {
                best = (Some(depth), place);
            }
        }
        Ok(Some(best.1))
    }

    /// Claims the present copy of least depth: marks its pack, and the packs of all bases below it, as used.
    ///
    /// A copy whose bases are not all present counts as absent, so that it heals by being stored again.
    pub fn claim(&self, key: &[u8; 16]) -> Result<Option<Place>, RepoError> {
        let Some(place) = self.find(key)? else { return Ok(None) };
        if self.index.has_bases() && !self.claim_below(place)? {
            return Ok(None);
        }
        self.used.insert(place.pack);
        Ok(Some(place))
    }

    /// Claims all that the frame of a place rests on; whether all of it is present. Each frame is followed once: many
    /// chunks lie in one frame, and many frames rest on the same ones.
    fn claim_below(&self, place: Place) -> Result<bool, RepoError> {
        let top = (place.pack, place.frame);
        let is_claimed = |frame: &(PackNumber, u16)| {
            self.claimed.read().expect("no holder of this lock panics").contains(frame)
        };
        if is_claimed(&top) {
            return Ok(true);
        }
        let mut met = HashSet::from([top]);
        let mut open = vec![self.frame(place.pack, place.frame)?];
        let mut packs = Vec::new();
        while let Some(frame) = open.pop() {
            for base in &frame.bases {
                let Some(below) = self.find(&base.prefix())? else { return Ok(false) };
                let row = self.frame(below.pack, below.frame)?;
                if row.depth >= frame.depth {
                    return Ok(false);
                }
                packs.push(below.pack);
                let at = (below.pack, below.frame);
                if met.insert(at) && !is_claimed(&at) {
                    open.push(row);
                }
            }
        }
        packs.into_iter().for_each(|pack| self.used.insert(pack));
        self.claimed.write().expect("no holder of this lock panics").extend(met);
        Ok(true)
    }

    /// A frame that the index must know, because a place names it.
    pub fn frame(&self, pack: PackNumber, frame: u16) -> Result<FrameRow, RepoError> {
        let row = self.index.frame(pack, frame)?;
        Ok(row.ok_or_else(|| IndexError::damaged("a place names a frame that is not there"))?)
    }

    /// A pack that the index must know.
    pub fn pack(&self, pack: PackNumber) -> Result<PackRow, RepoError> {
        let row = self.index.pack(pack)?;
        Ok(row.ok_or_else(|| IndexError::damaged("a place names a pack that is not there"))?)
    }

    /// Whether something that is present holds this id.
    pub fn holds(&self, id: &ContentId) -> Result<bool, RepoError> {
        Ok(self.find(&id.prefix())?.is_some())
    }
}
