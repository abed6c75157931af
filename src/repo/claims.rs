//! Which chunks and nodes are stored already, being stored, or to be stored by whoever asks.
//!
//! A claim is what makes deduplication safe: an id is written into a node only if it was claimed *Known* in a pack
//! that a listing of this very run has shown, or if its pack is durable before the node is.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crate::id::{ContentId, PackId};
use crate::index::{FrameRow, IndexView};
use crate::limits;
use crate::repo::error::RepoError;
use crate::repo::opening::{OpeningCosts, Openings};
use crate::repo::view::View;

const SHARD_COUNT: usize = 64;

/// Outcome of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It lies in a pack of the view.
    Known,
    /// It was claimed in this run; it is or will be in a pack of this run.
    Taken,
    /// The caller must store it now.
    Ours,
}

/// Ids are keyed hashes already, so their own bytes serve as hash.
#[derive(Default)]
pub struct PrefixHasher(u64);

impl Hasher for PrefixHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // The first byte chooses the shard; the last eight are as random as any.
        if let Some(last) = bytes.last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*last);
        }
    }
    fn write_usize(&mut self, _len: usize) {}
}

type PrefixSet = HashSet<[u8; 16], BuildHasherDefault<PrefixHasher>>;

/// All claims of one run.
pub struct Claims {
    /// Whoever claims keeps it locked for reading until the pack is marked as used, so that a claim either comes
    /// before an exclusion, and is counted among the holds, or after it, and finds nothing in an excluded pack.
    view: RwLock<Arc<View>>,
    pending: Vec<Mutex<PrefixSet>>,
    packs: Mutex<Packs>,
    opening_costs: OpeningCosts,
    /// This run can never commit: whatever it stores from now on is for nothing.
    is_fenced: AtomicBool,
}

/// Packs that this run has to do with, beside those of its view.
#[derive(Default)]
struct Packs {
    /// Stored, or about to be, by this run.
    own: BTreeSet<PackId>,
    /// Doomed by plans that this run has acknowledged or is about to. Only grows.
    excluded: HashSet<PackId>,
}

impl Claims {
    /// Nothing is claimed yet; `view` says what is stored.
    pub fn new(view: Arc<View>) -> Self {
        let pending = (0..SHARD_COUNT).map(|_| Mutex::new(PrefixSet::default())).collect();
        Self {
            view: RwLock::new(view),
            pending,
            packs: Mutex::default(),
            opening_costs: OpeningCosts::default(),
            is_fenced: AtomicBool::new(false),
        }
    }

    fn shard(&self, key: &[u8; 16]) -> &Mutex<PrefixSet> {
        let [first, ..] = key;
        self.pending.get(usize::from(*first) % SHARD_COUNT).expect("the remainder is below the count")
    }

    /// Ends the run early: nothing can be claimed any more.
    pub fn fence(&self) {
        self.is_fenced.store(true, Ordering::Relaxed);
    }

    fn stop_if_fenced(&self) -> Result<(), RepoError> {
        if self.is_fenced.load(Ordering::Relaxed) { Err(RepoError::Fenced) } else { Ok(()) }
    }

    /// Claims an id that the caller is able to store now. A copy that is stored deeper than `depth_max` does not do.
    pub fn claim_at_most(&self, id: &ContentId, depth_max: u8) -> Result<Claim, RepoError> {
        self.stop_if_fenced()?;
        let key = id.prefix();
        let shard = self.shard(&key);
        if shard.lock().expect("no holder of this lock panics").contains(&key) {
            return Ok(Claim::Taken);
        }
        let view = self.view.read().expect("no holder of this lock panics");
        if let Some(place) = view.claim(&key)?
            && (depth_max >= limits::BASE_DEPTH_MAX
                || view.frame(place.pack, place.frame)?.depth <= depth_max)
        {
            return Ok(Claim::Known);
        }
        drop(view);
        // No lock is held while the index is asked. Should the entry have moved from here into the index in
        // between, the chunk is stored twice, which costs a little space and is never wrong.
        let is_new = shard.lock().expect("no holder of this lock panics").insert(key);
        Ok(if is_new { Claim::Ours } else { Claim::Taken })
    }

    /// Claims an id only if it is stored already; marks its pack as used.
    pub fn is_known(&self, id: &ContentId) -> Result<bool, RepoError> {
        self.stop_if_fenced()?;
        let view = self.view.read().expect("no holder of this lock panics");
        Ok(view.claim(&id.prefix())?.is_some())
    }

    /// Claims an id as the base of a frame, if it is stored already; says how deep the copy lies that was claimed.
    pub fn claim_base(&self, id: &ContentId) -> Result<Option<u8>, RepoError> {
        self.stop_if_fenced()?;
        let view = self.view.read().expect("no holder of this lock panics");
        match view.claim(&id.prefix())? {
            Some(place) => Ok(Some(view.frame(place.pack, place.frame)?.depth)),
            None => Ok(None),
        }
    }

    /// Bytes of something that is stored. It is not claimed by that.
    pub fn len_of(&self, id: &ContentId) -> Result<Option<u32>, RepoError> {
        let view = self.view.read().expect("no holder of this lock panics");
        Ok(view.find(&id.prefix())?.map(|place| place.len))
    }

    /// The frame that holds something, if it is stored. It is not claimed by that.
    pub fn frame_of(&self, id: &ContentId) -> Result<Option<FrameRow>, RepoError> {
        let view = self.view.read().expect("no holder of this lock panics");
        let place = view.find(&id.prefix())?;
        place.map(|place| view.frame(place.pack, place.frame)).transpose()
    }

    /// Frames that must be opened to read these, as far as they are stored. Nothing is claimed by that.
    pub fn openings(&self, ids: impl Iterator<Item = ContentId>) -> Result<Openings, RepoError> {
        let view = self.view.read().expect("no holder of this lock panics");
        self.opening_costs.of(&view, ids)
    }

    /// Notes a pack that this run is about to create.
    pub fn own(&self, pack: PackId) {
        self.packs.lock().expect("no holder of this lock panics").own.insert(pack);
    }

    /// Takes over an index that describes `own` packs, durable by now; `stored` keys are found there from now on.
    pub fn extend(
        &self,
        index: IndexView,
        own: impl Iterator<Item = PackId>,
        stored: impl Iterator<Item = [u8; 16]>,
    ) -> Result<(), RepoError> {
        let mut view = self.view.write().expect("no holder of this lock panics");
        let packs = self.packs.lock().expect("no holder of this lock panics");
        *view = Arc::new(view.extended(index, own.filter(|id| !packs.excluded.contains(id)))?);
        drop(packs);
        drop(view);
        for key in stored {
            self.shard(&key).lock().expect("no holder of this lock panics").remove(&key);
        }
        Ok(())
    }

    /// Keeps away from `doomed` packs from now on; returns those among them that this run relies on already.
    pub fn exclude(&self, doomed: &HashSet<PackId>) -> Result<BTreeSet<PackId>, RepoError> {
        let view = self.view.write().expect("no holder of this lock panics");
        let mut packs = self.packs.lock().expect("no holder of this lock panics");
        packs.excluded.extend(doomed);
        let mut holds: BTreeSet<_> = packs.own.iter().filter(|id| doomed.contains(*id)).copied().collect();
        holds.extend(view.exclude(doomed)?);
        Ok(holds)
    }
}
