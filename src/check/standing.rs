//! Which places can still be read, as far as is known so far.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use super::findings::FindingNumber;
use crate::format::container::TAG_LEN;
use crate::id::{ContentId, PackId};
use crate::index::{FrameRow, IndexError, PackNumber, Place, Places};
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
        // What rests on it is lost because of the same.
        self.based.lock().expect("no holder of this lock panics").clear();
    }

    /// Whether anything is lost.
    pub fn has_losses(&self) -> bool {
        !self.packs.is_empty() || !self.ids.is_empty()
    }

    /// The place that readers choose for an id, if what is there can be read as far as is known.
    pub fn find(&self, id: &ContentId) -> Result<Result<Place, Loss>, RepoError> {
        self.find_and_first(id).map(|(found, _)| found)
    }

    /// As [`Self::find`], with the first copy of all, by which an id can be told from others.
    pub fn find_and_first(&self, id: &ContentId) -> Result<(Result<Place, Loss>, Option<Place>), RepoError> {
        let places = self.view.index().lookup(&id.prefix())?;
        let first = if places.len() > 1 { places.iter().min() } else { places.first() };
        Ok((self.find_among(id, &places, u8::MAX)?, first))
    }

    /// As [`Self::find`], among the copies that lie less deep than `depth`.
    fn find_below(&self, id: &ContentId, depth: u8) -> Result<Result<Place, Loss>, RepoError> {
        self.find_among(id, &self.view.index().lookup(&id.prefix())?, depth)
    }

    fn find_among(
        &self,
        id: &ContentId,
        places: &Places,
        depth: u8,
    ) -> Result<Result<Place, Loss>, RepoError> {
        if let Some(finding) = self.ids.get(id) {
            return Ok(Err(Loss::Found(*finding)));
        }
        let has_bases = self.view.index().has_bases();
        let mut loss = Loss::Nowhere(*id);
        let mut best: Option<(u8, Place)> = None;
        for place in places.iter() {
            let place_depth = if has_bases { self.frame(place)?.depth } else { 0 };
            if place_depth >= depth {
                continue;
            }
            match self.loss_of(place)? {
                Some(found @ Loss::Found(_)) => loss = found,
                Some(Loss::Nowhere(base)) if loss == Loss::Nowhere(*id) => loss = Loss::Nowhere(base),
                Some(Loss::Nowhere(_)) => {}
                None if best.is_none_or(|(least, _)| place_depth < least) => {
                    best = Some((place_depth, place))
                }
                None => {}
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
            if let Err(loss) = self.find_below(base, row.depth)? {
                outcome = Some(loss);
                break;
            }
        }
        self.based.lock().expect("no holder of this lock panics").insert(key, outcome);
        Ok(outcome)
    }

    /// The number of a pack that the index must know.
    pub fn number_of(&self, id: &PackId) -> Result<Option<PackNumber>, RepoError> {
        Ok(self.view.index().pack_number(id)?)
    }

    /// Damage of the local index, which is no finding.
    pub fn index_is_wrong(what: &str) -> RepoError {
        RepoError::Index(IndexError::damaged(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::findings::{Finding, FindingCode, Findings};
    use crate::id::{IndexObjectId, RepositoryId};
    use crate::index::{Index, NewPack, NewPlace, PackKind, PackRow};
    use crate::repo::{PackProbe, Presence};
    use crate::storage::MemoryStorage;

    fn id(number: u8) -> ContentId {
        ContentId::new([number; 32])
    }

    /// A pack with one frame, which holds one chunk and rests on `bases`.
    fn pack(number: u8, chunk: u8, depth: u8, bases: &[u8]) -> NewPack {
        let row = PackRow {
            id: PackId::new([number; 32]),
            kind: PackKind::Data,
            payload_len: 1000,
            wrap: 0,
            flags: 0,
            generation: 1,
            salt: [0; 32],
            frame_count: 1,
            chunk_count: 1,
        };
        let frame = FrameRow {
            offset: 112,
            stored_len: 10,
            plain_len: 10,
            codec: if bases.is_empty() { 1 } else { 2 },
            depth,
            list_hash: [0; 16],
            bases: bases.iter().map(|base| id(*base)).collect(),
        };
        let place = NewPlace { key: id(chunk).prefix(), frame: 0, start: 0, len: 10 };
        NewPack { row, frames: vec![frame], places: vec![place] }
    }

    fn standing(packs: Vec<NewPack>) -> (Standing, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::open(&folder.path().join("index"), RepositoryId::new([1; 16])).unwrap();
        index.add_index_object(IndexObjectId::new([1; 32]), packs).unwrap();
        let presence = Presence::Described(PackProbe::new(Arc::new(MemoryStorage::new())));
        let view = View::new(index.view().unwrap(), presence, Arc::default());
        (Standing::new(Arc::new(view)), folder)
    }

    fn number(standing: &Standing, pack: u8) -> PackNumber {
        standing.number_of(&PackId::new([pack; 32])).unwrap().unwrap()
    }

    fn finding() -> FindingNumber {
        Findings::default().add(Finding::damage(FindingCode::PackMissing, "a pack", "it is gone"))
    }

    #[test]
    fn what_rests_on_a_lost_base_is_lost_with_it() {
        let (mut standing, _folder) =
            standing(vec![pack(1, 10, 0, &[]), pack(2, 20, 1, &[10]), pack(3, 30, 2, &[20])]);
        assert!(standing.find(&id(30)).unwrap().is_ok());
        standing.lose(number(&standing, 1), finding(), Lost::All);
        for lost in [10, 20, 30] {
            assert_eq!(standing.find(&id(lost)).unwrap(), Err(Loss::Found(finding())));
        }
        assert_eq!(standing.find(&id(40)).unwrap(), Err(Loss::Nowhere(id(40))));
    }

    #[test]
    fn another_copy_takes_the_place_of_a_lost_one_only_if_it_lies_less_deep() {
        let packs =
            vec![pack(1, 10, 0, &[]), pack(2, 20, 1, &[10]), pack(3, 10, 1, &[20]), pack(4, 10, 0, &[])];
        let (mut standing, _folder) = standing(packs);
        standing.lose(number(&standing, 4), finding(), Lost::All);
        assert_eq!(standing.find(&id(10)).unwrap().unwrap().pack, number(&standing, 1));
        standing.lose(number(&standing, 1), finding(), Lost::Frames([0].into()));
        // The copy in pack 3 rests on pack 2, which rests on the very chunk that is lost.
        assert_eq!(standing.find(&id(20)).unwrap(), Err(Loss::Found(finding())));
        assert_eq!(standing.find(&id(10)).unwrap(), Err(Loss::Found(finding())));
    }

    #[test]
    fn a_base_that_no_pack_holds_is_what_is_missing() {
        let (standing, _folder) = standing(vec![pack(1, 20, 1, &[10])]);
        assert_eq!(standing.find(&id(20)).unwrap(), Err(Loss::Nowhere(id(10))));
    }

    #[test]
    fn what_is_found_to_be_lost_later_is_known_to_all_that_rests_on_it() {
        let (mut standing, _folder) = standing(vec![pack(1, 20, 1, &[10]), pack(2, 30, 2, &[20])]);
        assert_eq!(standing.find(&id(30)).unwrap(), Err(Loss::Nowhere(id(10))));
        standing.lose_id(id(10), finding());
        for lost in [10, 20, 30] {
            assert_eq!(standing.find(&id(lost)).unwrap(), Err(Loss::Found(finding())));
        }
    }

    #[test]
    fn a_cut_pack_keeps_the_frames_before_the_cut() {
        let (mut standing, _folder) = standing(vec![pack(1, 10, 0, &[])]);
        standing.lose(number(&standing, 1), finding(), Lost::Beyond(112 + 10 + 16));
        assert!(standing.find(&id(10)).unwrap().is_ok());
        standing.lose(number(&standing, 1), finding(), Lost::Beyond(112 + 10 + 15));
        assert!(standing.find(&id(10)).unwrap().is_err());
    }
}
