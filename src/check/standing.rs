//! Which places can still be read, as far as is known so far.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::findings::FindingNumber;
use crate::format::container::TAG_LEN;
use crate::id::ContentId;
use crate::index::{FrameRow, IndexError, PackNumber, Place};
use crate::repo::{RepoError, View};

/// What is lost of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// All of it.
    All,
    /// What lies beyond so many bytes.
    Beyond(u64),
    /// These frames.
    Frames(BTreeSet<u32>),
}

/// Why an id cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Because of something that was found.
    Found(FindingNumber),
    /// No pack holds this id: the one that was asked for, or a base below it.
    Nowhere(ContentId),
}

/// Knows the packs that are not whole. Asked from several threads.
pub struct Standing {
    view: Arc<View>,
    packs: HashMap<PackNumber, Vec<(FindingNumber, Lost)>>,
    ids: HashMap<ContentId, FindingNumber>,
    /// Outcome for frames with bases, which are looked at again and again.
    based: Mutex<HashMap<(PackNumber, u16), Option<Loss>>>,
}

impl Standing {
    /// Everything that the index describes can be read.
    pub fn new(view: Arc<View>) -> Self {
        Self { view, packs: HashMap::new(), ids: HashMap::new(), based: Mutex::default() }
    }

    /// The index that places come from.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Part of a pack is lost because of a finding.
    pub fn lose(&mut self, pack: PackNumber, finding: FindingNumber, lost: Lost) {
        self.packs.entry(pack).or_default().push((finding, lost));
        self.based.lock().expect("no holder of this lock panics").clear();
    }

    /// An id cannot be read because of a finding, although there is a place for it.
    pub fn lose_id(&mut self, id: ContentId, finding: FindingNumber) {
        self.ids.insert(id, finding);
    }

    /// Whether anything is lost.
    pub fn has_losses(&self) -> bool {
        !self.packs.is_empty() || !self.ids.is_empty()
    }

    /// The place that readers choose for an id, if what is there can be read as far as is known.
    pub fn find(&self, id: &ContentId) -> Result<Result<Place, Loss>, RepoError> {
        if let Some(finding) = self.ids.get(id) {
            return Ok(Err(Loss::Found(*finding)));
        }
        let mut loss = Loss::Nowhere(*id);
        let mut best: Option<(u8, Place)> = None;
        let places = self.view.index().lookup(&id.prefix())?;
        for place in places.iter() {
            match self.loss_of(place)? {
                Some(found @ Loss::Found(_)) => loss = found,
                Some(Loss::Nowhere(base)) if loss == Loss::Nowhere(*id) => loss = Loss::Nowhere(base),
                Some(Loss::Nowhere(_)) => {}
                None if places.len() == 1 => return Ok(Ok(place)),
                None => {
                    let depth = self.frame(place)?.depth;
                    if best.is_none_or(|(least, _)| depth < least) {
                        best = Some((depth, place));
                    }
                }
            }
        }
        Ok(best.map(|(_, place)| place).ok_or(loss))
    }

    fn frame(&self, place: Place) -> Result<FrameRow, RepoError> {
        self.view.frame(place.pack, place.frame)
    }

    /// Why what is at a place cannot be read.
    fn loss_of(&self, place: Place) -> Result<Option<Loss>, RepoError> {
        for (finding, lost) in self.packs.get(&place.pack).into_iter().flatten() {
            let is_lost = match lost {
                Lost::All => true,
                Lost::Beyond(len) => {
                    let row = self.frame(place)?;
                    u64::from(row.offset) + u64::from(row.stored_len) + TAG_LEN as u64 > *len
                }
                Lost::Frames(frames) => frames.contains(&u32::from(place.frame)),
            };
            if is_lost {
                return Ok(Some(Loss::Found(*finding)));
            }
        }
        if self.view.index().has_bases() { self.loss_below(place) } else { Ok(None) }
    }

    /// Why the bases of a frame cannot be read. Each lies less deep than what rests on it, which bounds the recursion.
    fn loss_below(&self, place: Place) -> Result<Option<Loss>, RepoError> {
        let key = (place.pack, place.frame);
        if let Some(known) = self.based.lock().expect("no holder of this lock panics").get(&key) {
            return Ok(*known);
        }
        let row = self.frame(place)?;
        let mut outcome = None;
        for base in &row.bases {
            outcome = match self.find_base(base, row.depth)? {
                Err(loss) => Some(loss),
                Ok(_) => continue,
            };
            break;
        }
        self.based.lock().expect("no holder of this lock panics").insert(key, outcome);
        Ok(outcome)
    }

    fn find_base(&self, base: &ContentId, depth: u8) -> Result<Result<Place, Loss>, RepoError> {
        let places = self.view.index().lookup(&base.prefix())?;
        let least = places
            .iter()
            .map(|place| Ok(self.frame(place)?.depth))
            .min_by_key(|depth: &Result<u8, RepoError>| *depth.as_ref().unwrap_or(&u8::MAX));
        match least {
            Some(Err(error)) => Err(error),
            Some(Ok(least)) if least < depth => self.find(base),
            Some(Ok(_)) => Ok(Err(Loss::Nowhere(*base))),
            None => Ok(Err(Loss::Nowhere(*base))),
        }
    }

    /// The number of a pack that the index must know.
    pub fn number_of(&self, id: &crate::id::PackId) -> Result<Option<PackNumber>, RepoError> {
        Ok(self.view.index().pack_number(id)?)
    }

    /// Damage of the local index, which is no finding.
    pub fn index_is_wrong(what: &str) -> RepoError {
        RepoError::Index(IndexError::damaged(what))
    }
}
