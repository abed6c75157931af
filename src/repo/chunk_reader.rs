//! Chunks and nodes on their way out: located, read, opened, expanded.

mod by_pieces;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::crypto::{self, SealingKey};
use crate::format::container::{Header, TAG_LEN, Wrap};
use crate::format::frame::{Codec, ContentKind, additional_data};
use crate::id::{ChunkId, ContentId, PackId};
use crate::index::{FrameRow, IndexError, PackKind, PackNumber, PackRow, Place};
use crate::limits;
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::frame_cache::{FrameCache, Plain};
use crate::repo::pack_sealing::{FrameOpener, OpenedFrame, SealedFrame, content_id, object_kind};
use crate::repo::piece_cache::PieceCache;
use crate::repo::view::View;
use crate::repo::{Repo, names, sealing};
use crate::shelf::{Shelf, Taken};
use crate::storage::ObjectName;
use crate::units::ByteRange;
use by_pieces::ByPieces;

/// Plain bytes of opened frames that are kept for the next reader.
const CACHE_BYTES_MAX: usize = 32 << 20;
/// The same where frames rest on others: what a few neighbours rest on, several levels down.
const CACHE_BYTES_MAX_WITH_BASES: usize = 96 << 20;
/// Buffers that nobody uses are kept up to so many.
const BUFFER_COUNT_MAX: usize = 8;
/// Frames with less than so much between them are read in one go.
const GAP_BYTES_MAX: u64 = 128 << 10;
/// Bytes read in one go, unless one frame alone is longer.
const READ_BYTES_MAX: u64 = 4 << 20;
/// Keys of packs that are kept; each is a few hundred bytes.
const PACK_KEY_COUNT_MAX: usize = 4096;

/// What is needed of a pack to read frames from it.
struct OpenPack {
    row: PackRow,
    name: ObjectName,
    key: SealingKey,
}

/// Names a frame.
type FrameKey = (PackNumber, u16);

/// Is handed the number of a frame and its plain bytes, or what is wrong with it.
pub type FrameVisitor<'a> = &'a mut dyn FnMut(u16, Result<&[u8], RepoError>);

/// The same, and the bytes before they were expanded.
pub type OpenedFrameVisitor<'a> = &'a mut dyn FnMut(u16, Result<OpenedFrame<'_>, RepoError>);

/// Reads what packs hold. Its methods may be called from several threads.
pub struct ChunkReader {
    repo: Arc<Repo>,
    view: Arc<View>,
    packs: Mutex<HashMap<PackNumber, Arc<OpenPack>>>,
    cache: Mutex<FrameCache>,
    scratch: Shelf<Scratch>,
    /// For plain bytes of frames in the cache, and of bases.
    buffers: Shelf<Vec<u8>>,
    opening: Mutex<HashMap<FrameKey, Arc<Mutex<()>>>>,
    /// In place of the cache of frames, for readers who stay.
    by_pieces: Option<ByPieces>,
    index_doubt: IndexDoubt,
}

/// Whether the local index is in doubt, asked from anywhere.
#[derive(Debug, Clone, Default)]
pub struct IndexDoubt(Arc<AtomicBool>);

impl IndexDoubt {
    /// Whether the index could not answer, or did not know something that a tree names. Damage of its file may hide
    /// what the repository holds, so only a new index can tell that something is missing.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn heard<T>(&self, answer: Result<T, RepoError>) -> Result<T, RepoError> {
        if let Err(RepoError::Index(IndexError::Damaged { .. } | IndexError::Failed { .. })) = &answer {
            self.raise();
        }
        answer
    }
}

/// Buffers of one reading thread.
#[derive(Default)]
struct Scratch {
    opener: FrameOpener,
    read: Vec<u8>,
}

/// What a frame rests on.
#[derive(Default)]
pub struct BaseBytes {
    /// The plain bytes of all bases, end to end.
    pub bytes: Taken<Vec<u8>>,
    /// How long each is.
    pub lens: Vec<usize>,
}

/// A chunk or node: inside an opened frame, or copied from its pieces.
pub struct Located(Held);

enum Held {
    InFrame { frame: Plain, start: usize, end: usize },
    Copied(Vec<u8>),
}

impl AsRef<[u8]> for Located {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Held::InFrame { frame, start, end } => {
                frame.get(*start..*end).expect("the range was checked when it was located")
            }
            Held::Copied(bytes) => bytes,
        }
    }
}

impl Repo {
    /// A reader of everything that the index describes now.
    pub fn chunk_reader(self: &Arc<Self>) -> Result<ChunkReader, RepoError> {
        Ok(ChunkReader::new(Arc::clone(self), Arc::new(self.reader_view()?)))
    }
}

impl ChunkReader {
    /// Whether reading means waiting for a network.
    pub fn is_remote(&self) -> bool {
        self.repo.storage().is_remote()
    }

    /// A reader that relies on `view`.
    pub fn new(repo: Arc<Repo>, view: Arc<View>) -> Self {
        let with_bases = view.index().has_bases();
        let cache_bytes = if with_bases { CACHE_BYTES_MAX_WITH_BASES } else { CACHE_BYTES_MAX };
        Self {
            repo,
            view,
            packs: Mutex::default(),
            cache: Mutex::new(FrameCache::new(cache_bytes)),
            scratch: Shelf::new(usize::MAX),
            buffers: Shelf::new(BUFFER_COUNT_MAX),
            opening: Mutex::default(),
            by_pieces: None,
            index_doubt: IndexDoubt::default(),
        }
    }

    /// The same, which keeps so many plain bytes of opened frames.
    pub fn with_cache(self, bytes_max: usize) -> Self {
        Self { cache: Mutex::new(FrameCache::new(bytes_max)), ..self }
    }

    /// The same for one that lives long: it reads through `pieces`, opens one frame at a time, and keeps few buffers.
    pub fn with_pieces(self, pieces: Arc<PieceCache>) -> Self {
        Self { by_pieces: Some(ByPieces::new(pieces)), buffers: Shelf::new(1), ..self }
    }

    /// Whether what it could not find may be there all the same.
    pub fn index_doubt(&self) -> &IndexDoubt {
        &self.index_doubt
    }

    /// The repository it reads.
    pub fn repo(&self) -> &Arc<Repo> {
        &self.repo
    }

    /// Where a chunk or node is: its present copy of least depth.
    pub fn locate(&self, id: &ContentId) -> Result<Option<Place>, RepoError> {
        let place = self.index_doubt.heard(self.view.find(&id.prefix()))?;
        if place.is_none() {
            self.index_doubt.raise();
        }
        Ok(place)
    }

    /// Where a chunk or node is; [`RepoError::MissingContent`] if it is nowhere.
    pub fn place_of(&self, id: &ContentId) -> Result<Place, RepoError> {
        self.locate(id)?.ok_or(RepoError::MissingContent { id: *id })
    }

    /// The name of a pack that a place names.
    pub fn pack_name(&self, pack: PackNumber) -> Result<(PackKind, PackId), RepoError> {
        let row = self.index_doubt.heard(self.view.pack(pack))?;
        Ok((row.kind, row.id))
    }

    /// A frame that a place names.
    pub fn frame(&self, pack: PackNumber, frame: u16) -> Result<FrameRow, RepoError> {
        self.index_doubt.heard(self.view.frame(pack, frame))
    }

    /// Whether these bytes have this id.
    pub fn verify_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        self.repo.keys.ids.chunk(bytes) == *id
    }

    fn open_pack(&self, number: PackNumber) -> Result<Arc<OpenPack>, RepoError> {
        let mut packs = self.packs.lock().expect("no holder of this lock panics");
        if let Some(pack) = packs.get(&number) {
            return Ok(Arc::clone(pack));
        }
        let row = self.index_doubt.heard(self.view.pack(number))?;
        let name = names::pack(row.kind, &row.id);
        let damaged = |source| RepoError::Damaged { name: name.to_string(), source };
        if row.wrap != Wrap::Generation as u8 {
            return Err(damaged(DamageReason::Kind));
        }
        let header = Header {
            kind: object_kind(row.kind),
            wrap: Wrap::Generation,
            flags: row.flags,
            repository: self.repo.id,
            generation: row.generation,
            payload_len: row.payload_len,
            salt: row.salt,
        };
        let missing = || damaged(DamageReason::Generation(row.generation));
        let generation = self.repo.keys.generation(row.generation).ok_or_else(missing)?;
        let root = sealing::root_of(header.kind, generation);
        let key = crypto::object_keys(root, &header.derived_bytes()).message;
        let pack = Arc::new(OpenPack { row, name, key });
        if packs.len() >= PACK_KEY_COUNT_MAX {
            packs.clear();
        }
        packs.insert(number, Arc::clone(&pack));
        Ok(pack)
    }

    /// Reads frames of one pack, given in ascending order, with as few reads as make sense, and hands each to
    /// `visit`. A damaged frame is handed out as an error, and the others go on.
    pub fn read_frames(
        &self,
        pack: PackNumber,
        frames: &[u16],
        visit: FrameVisitor<'_>,
    ) -> Result<(), RepoError> {
        self.read_stored_frames(pack, frames, &mut |frame, opened| {
            visit(frame, opened.map(|opened| opened.plain))
        })
    }

    /// As [`Self::read_frames`]; hands out the bytes before they were expanded, too.
    pub fn read_stored_frames(
        &self,
        pack: PackNumber,
        frames: &[u16],
        visit: OpenedFrameVisitor<'_>,
    ) -> Result<(), RepoError> {
        let rows = frames.iter().map(|frame| Ok((*frame, self.frame(pack, *frame)?)));
        let rows = rows.collect::<Result<Vec<_>, RepoError>>()?;
        let pack = self.open_pack(pack)?;
        let mut scratch = self.scratch.take();
        for run in runs(&rows) {
            self.read_run(&pack, run, &mut scratch, visit);
        }
        Ok(())
    }

    fn read_run(
        &self,
        pack: &OpenPack,
        run: &[(u16, FrameRow)],
        scratch: &mut Scratch,
        visit: OpenedFrameVisitor<'_>,
    ) {
        let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else { return };
        let start = u64::from(first.offset);
        let len = sealed_end(last).saturating_sub(start);
        let Scratch { opener, read } = scratch;
        read.clear();
        if self.repo.storage().get_range(&pack.name, ByteRange { start, len }, read).is_err() && run.len() > 1
        {
            // Part of the stretch cannot be read: each frame on its own.
            for single in run.chunks(1) {
                self.read_run(pack, single, scratch, visit);
            }
            return;
        }
        for (number, row) in run {
            let from = (u64::from(row.offset) - start) as usize;
            let sealed = read.get(from..from + row.stored_len as usize + TAG_LEN);
            let opened = match sealed {
                Some(sealed) => self.open_frame(pack, *number, row, sealed, opener),
                None => Err(self.damaged_frame(pack, *number, DamageReason::Short)),
            };
            visit(*number, opened);
        }
    }

    fn damaged_frame(&self, pack: &OpenPack, frame: u16, source: DamageReason) -> RepoError {
        RepoError::DamagedFrame { pack: pack.row.id, frame: u32::from(frame), source }
    }

    fn open_frame<'s>(
        &self,
        pack: &OpenPack,
        number: u16,
        row: &FrameRow,
        sealed: &[u8],
        opener: &'s mut FrameOpener,
    ) -> Result<OpenedFrame<'s>, RepoError> {
        let damaged = |source| self.damaged_frame(pack, number, source);
        // Whoever reads a frame compares its chunks with their ids, so those of the bases need not be compared as well.
        let bases = self.read_bases(&row.bases, row.depth).map_err(damaged)?;
        self.open_frame_after(pack, number, row, &bases.bytes, sealed, opener)
    }

    /// Opens a frame whose bases have been read.
    fn open_frame_after<'s>(
        &self,
        pack: &OpenPack,
        number: u16,
        row: &FrameRow,
        prefix: &[u8],
        sealed: &[u8],
        opener: &'s mut FrameOpener,
    ) -> Result<OpenedFrame<'s>, RepoError> {
        let damaged = |source| self.damaged_frame(pack, number, source);
        let codec = Codec::from_number(row.codec).ok_or_else(|| damaged(DamageReason::Expand))?;
        if row.plain_len as usize > limits::FRAME_BYTES_MAX {
            return Err(damaged(DamageReason::Expand));
        }
        let data = additional_data(codec, row.depth, row.plain_len, &row.list_hash, &row.bases);
        let frame = SealedFrame {
            position: u64::from(number),
            codec,
            plain_len: row.plain_len,
            additional_data: &data,
            sealed,
            prefix,
        };
        opener.open(&pack.key, &frame).map_err(damaged)
    }

    /// The plain bytes of the bases of a frame of this depth, end to end, compared with their ids.
    pub fn prefix_of(&self, bases: &[ContentId], depth: u8) -> Result<Taken<Vec<u8>>, DamageReason> {
        let read = self.read_bases(bases, depth)?;
        self.verify_bases(bases, &read)?;
        Ok(read.bytes)
    }

    /// The plain bytes of the bases of a frame of this depth, end to end. Their ids are not looked at.
    ///
    /// Each base lies less deep than what rests on it, so this ends after [`limits::BASE_DEPTH_MAX`] steps.
    pub fn read_bases(&self, bases: &[ContentId], depth: u8) -> Result<BaseBytes, DamageReason> {
        if bases.is_empty() {
            return Ok(BaseBytes::default());
        }
        let mut places = Vec::with_capacity(bases.len());
        let mut len = 0;
        for base in bases {
            let place = self.locate(base).ok().flatten().ok_or(DamageReason::MissingBase(*base))?;
            let row = self.frame(place.pack, place.frame).map_err(|_| DamageReason::MissingBase(*base))?;
            len += place.len as usize;
            if row.depth >= depth || len > limits::PREFIX_BYTES_MAX {
                return Err(DamageReason::TooDeep);
            }
            places.push((*base, place));
        }
        let lens = places.iter().map(|(_, place)| place.len as usize).collect();
        let read = |(base, place)| self.read_place(place).map_err(|_| DamageReason::MissingBase(base));
        if self.by_pieces.is_some() {
            let mut bytes = self.buffers.buffer(len);
            for place in places {
                bytes.extend_from_slice(read(place)?.as_ref());
            }
            return Ok(BaseBytes { bytes, lens });
        }
        let located = places.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        // Only now: while frames further down are opened nobody holds a buffer for nothing.
        let mut bytes = self.buffers.buffer(len);
        located.iter().for_each(|chunk| bytes.extend_from_slice(chunk.as_ref()));
        Ok(BaseBytes { bytes, lens })
    }

    /// Whether these are the plain bytes of these bases, at this moment.
    pub fn verify_bases(&self, bases: &[ContentId], read: &BaseBytes) -> Result<(), DamageReason> {
        let mut rest = read.bytes.as_slice();
        for (base, len) in bases.iter().zip(&read.lens) {
            let (chunk, after) = rest.split_at_checked(*len).ok_or(DamageReason::MissingBase(*base))?;
            // In packs of nodes the bases are nodes. No two kinds share an id.
            let kinds = [ContentKind::Chunk, ContentKind::Node, ContentKind::List];
            let is_of = |kind| content_id(&self.repo.keys.ids, kind, chunk) == *base;
            if !kinds.into_iter().any(is_of) {
                return Err(DamageReason::MissingBase(*base));
            }
            rest = after;
        }
        Ok(())
    }

    /// The plain bytes at a place, through the cache of opened frames. Their id is not looked at.
    pub fn read_place(&self, place: Place) -> Result<Located, RepoError> {
        if let Some(by_pieces) = &self.by_pieces {
            return self.read_place_by_pieces(by_pieces, place);
        }
        let frame = self.read_cached_frame(place.pack, place.frame)?;
        let start = place.start as usize;
        let end = start + place.len as usize;
        if end > frame.len() {
            let pack = self.open_pack(place.pack)?;
            return Err(self.damaged_frame(&pack, place.frame, DamageReason::Expand));
        }
        Ok(Located(Held::InFrame { frame, start, end }))
    }

    fn cached(&self, key: FrameKey) -> Option<Plain> {
        self.cache.lock().expect("no holder of this lock panics").get(key)
    }

    /// Neighbours rest on the same frames: whoever comes second waits for the first instead of opening it as well. Nobody
    /// waits in a circle, because whoever opens a frame waits for less deep ones only.
    fn in_turn<T>(&self, key: FrameKey, work: impl FnOnce() -> T) -> T {
        let opening = || self.opening.lock().expect("no holder of this lock panics");
        let gate = Arc::clone(opening().entry(key).or_default());
        let turn = gate.lock().expect("no holder of this lock panics");
        let outcome = work();
        drop(turn);
        opening().remove(&key);
        outcome
    }

    fn read_cached_frame(&self, pack: PackNumber, frame: u16) -> Result<Plain, RepoError> {
        let key = (pack, frame);
        if let Some(found) = self.cached(key) {
            return Ok(found);
        }
        self.in_turn(key, || match self.cached(key) {
            Some(found) => Ok(found),
            None => self.read_into_cache(key),
        })
    }

    fn read_into_cache(&self, (pack, frame): FrameKey) -> Result<Plain, RepoError> {
        let rows = [(frame, self.frame(pack, frame)?)];
        let open_pack = self.open_pack(pack)?;
        let mut scratch = self.scratch.take();
        let mut outcome = Err(RepoError::Ended);
        self.read_run(&open_pack, &rows, &mut scratch, &mut |_, opened| outcome = opened.map(|_| ()));
        let mut plain = self.buffers.take();
        scratch.opener.swap_plain(&mut plain);
        let plain = Arc::new(plain);
        outcome?;
        self.cache.lock().expect("no holder of this lock panics").insert((pack, frame), Arc::clone(&plain));
        Ok(plain)
    }

    /// The bytes of a chunk or node, through the cache of opened frames. Their id is not looked at.
    pub fn read_content(&self, id: &ContentId) -> Result<Located, RepoError> {
        self.read_place(self.place_of(id)?)
    }

    /// The bytes of a chunk, verified against its id.
    pub fn read_chunk(&self, id: &ChunkId) -> Result<Located, RepoError> {
        let place = self.place_of(&id.content())?;
        let chunk = self.read_place(place)?;
        if self.verify_chunk(id, chunk.as_ref()) {
            Ok(chunk)
        } else {
            let pack = self.open_pack(place.pack)?;
            Err(self.damaged_frame(&pack, place.frame, DamageReason::Id))
        }
    }
}

fn sealed_end(row: &FrameRow) -> u64 {
    u64::from(row.offset) + u64::from(row.stored_len) + TAG_LEN as u64
}

/// Cuts ascending frames into stretches that are worth one read each.
fn runs(rows: &[(u16, FrameRow)]) -> impl Iterator<Item = &[(u16, FrameRow)]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let (_, first) = rest.first()?;
        let mut end = sealed_end(first);
        let mut count = 1;
        for (_, row) in rest.iter().skip(1) {
            let is_near = u64::from(row.offset) >= end && u64::from(row.offset) - end <= GAP_BYTES_MAX;
            if !is_near || sealed_end(row) - u64::from(first.offset) > READ_BYTES_MAX {
                break;
            }
            end = sealed_end(row);
            count += 1;
        }
        let (run, after) = rest.split_at(count);
        rest = after;
        Some(run)
    })
}
