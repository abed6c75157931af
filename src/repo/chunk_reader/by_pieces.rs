//! Reading through a [`PieceCache`].

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::{ChunkReader, FrameKey, Held, Located, OpenPack, sealed_end};
use crate::id::ContentId;
use crate::index::Place;
use crate::limits;
use crate::repo::Repo;
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::overflow::Overflow;
use crate::repo::pack_sealing::FrameOpener;
use crate::repo::piece_cache::{FrameId, PieceCache};
use crate::shelf::Shelf;
use crate::units::ByteRange;

/// See the module.
pub(super) struct ByPieces {
    pieces: Arc<PieceCache>,
    /// There is one, so that the room for stored and for plain bytes is needed once, however many read. Those who come
    /// meanwhile fetch their stored bytes.
    opener: Mutex<FrameOpener>,
    /// For sealed bytes.
    sealed: Shelf<Vec<u8>>,
    /// For each depth, so that what a frame of that depth rests on is held once. Whoever waits for one has frames of that
    /// depth or deeper only, so nobody waits in a circle.
    resting: [Mutex<()>; limits::BASE_DEPTH_MAX as usize + 1],
}

impl ByPieces {
    pub(super) fn new(pieces: Arc<PieceCache>) -> Self {
        Self { pieces, opener: Mutex::default(), sealed: Shelf::new(1), resting: Default::default() }
    }
}

impl Repo {
    /// A cache of opened frames of this repository: so many bytes of them in memory, the one that is being opened included,
    /// and so many, sealed, on disk. Where the cache folder cannot hold them there are none on disk.
    pub fn piece_cache(&self, memory_bytes_max: usize, disk_bytes_max: u64) -> PieceCache {
        let file = (disk_bytes_max > 0).then(|| self.cache.scratch_file(self.id).ok()).flatten();
        let overflow = file.and_then(|file| Overflow::new(file, disk_bytes_max).ok());
        PieceCache::new(memory_bytes_max.saturating_sub(limits::FRAME_BYTES_MAX), overflow)
    }
}

impl ChunkReader {
    pub(super) fn read_place_by_pieces(
        &self,
        by_pieces: &ByPieces,
        place: Place,
    ) -> Result<Located, RepoError> {
        let pack = self.open_pack(place.pack)?;
        let range = range_of(place);
        if range.end > limits::FRAME_BYTES_MAX {
            return Err(self.damaged_frame(&pack, place.frame, DamageReason::Expand));
        }
        let frame = (pack.row.id, place.frame);
        let held = || by_pieces.pieces.read(frame, range.clone());
        if let Some(bytes) = held() {
            return Ok(Located(Held::Copied(bytes)));
        }
        let key = (place.pack, place.frame);
        let bytes = self.in_turn(key, || match held() {
            Some(bytes) => Ok(bytes),
            None => self.open_into_pieces(by_pieces, &pack, key, range.clone()),
        })?;
        Ok(Located(Held::Copied(bytes)))
    }

    /// Opens a frame, puts it into the cache, and returns a stretch of it.
    fn open_into_pieces(
        &self,
        by_pieces: &ByPieces,
        pack: &OpenPack,
        (number, frame): FrameKey,
        range: Range<usize>,
    ) -> Result<Vec<u8>, RepoError> {
        let damaged = |source| self.damaged_frame(pack, frame, source);
        let row = self.frame(number, frame)?;
        let resting = by_pieces.resting.get(usize::from(row.depth)).filter(|_| !row.bases.is_empty());
        let _held = resting.map(|resting| resting.lock().expect("no holder of this lock panics"));
        // What it rests on comes first: whoever has the opener waits for nobody.
        let bases = self.read_bases(&row.bases, row.depth).map_err(damaged)?;
        let start = u64::from(row.offset);
        let stretch = ByteRange { start, len: sealed_end(&row).saturating_sub(start) };
        let mut sealed = by_pieces.sealed.take();
        sealed.clear();
        if self.repo.storage().get_range(&pack.name, stretch, &mut sealed).is_err() {
            return Err(damaged(DamageReason::Short));
        }
        let mut opener = by_pieces.opener.lock().expect("no holder of this lock panics");
        let opened = self.open_frame_after(pack, frame, &row, &bases.bytes, &sealed, &mut opener)?;
        let bytes = opened.plain.get(range.clone()).ok_or_else(|| damaged(DamageReason::Expand))?.to_vec();
        let id: FrameId = (pack.row.id, frame);
        by_pieces.pieces.insert(id, opened.plain, range);
        Ok(bytes)
    }

    /// Opens the frame of a chunk or node if that is not here. Somebody else may open it at the same time; then this waits.
    pub fn fetch(&self, id: &ContentId) -> Result<(), RepoError> {
        let place = self.locate(id)?.ok_or(RepoError::MissingContent { id: *id })?;
        let Some(by_pieces) = &self.by_pieces else { return self.read_place(place).map(|_| ()) };
        let pack = self.open_pack(place.pack)?;
        let range = range_of(place);
        let is_here = || by_pieces.pieces.holds((pack.row.id, place.frame), range.clone());
        if range.end > limits::FRAME_BYTES_MAX || is_here() {
            return Ok(());
        }
        let key = (place.pack, place.frame);
        self.in_turn(key, || match is_here() {
            true => Ok(()),
            false => self.open_into_pieces(by_pieces, &pack, key, 0..0).map(|_| ()),
        })
    }
}

fn range_of(place: Place) -> Range<usize> {
    let start = place.start as usize;
    start..start + place.len as usize
}
