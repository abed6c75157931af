//! Index objects: what some packs hold, written once (docs/format.md, "Index objects").
//!
//! An index object states facts about immutable packs. Nothing follows from it about whether they still exist.

use serde::{Deserialize, Serialize};

use crate::format::FormatError;
use crate::format::frame::FrameEntry;
use crate::format::pack::PackDirectory;
use crate::id::PackId;
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

const OBJECT: &str = "index object";

/// What an index object says of one pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedPack {
    /// Which pack.
    pub id: PackId,
    /// Number of its kind: 1 for chunks, 2 for nodes.
    pub kind: u8,
    /// Number of its wrap method.
    pub wrap: u8,
    /// Flags of its header.
    pub flags: u8,
    /// Generation of its root.
    pub generation: u32,
    /// Length of its payload.
    pub payload_len: u64,
    /// Salt of its header, so that one ranged read suffices for a frame.
    pub salt: [u8; 32],
    /// What it holds.
    pub frames: Vec<FrameEntry>,
}

/// What some packs hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexObject {
    version: u8,
    /// The packs, by ascending id.
    pub packs: Vec<IndexedPack>,
}

impl IndexObject {
    /// Describes these packs.
    pub fn new(mut packs: Vec<IndexedPack>) -> Self {
        packs.sort_unstable_by_key(|pack| pack.id);
        Self { version: 1, packs }
    }

    /// How many packs from the front one index object may describe; at least one.
    pub fn count_that_fits(packs: &[IndexedPack]) -> usize {
        let mut entry_count = 0;
        let fits = packs.iter().take_while(|pack| {
            entry_count += pack.frames.iter().map(|frame| frame.chunks.len()).sum::<usize>();
            entry_count <= limits::INDEX_OBJECT_ENTRY_COUNT_MAX
        });
        fits.count().max(1)
    }

    /// Encodes the object, which must be within the limits.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::INDEX_OBJECT_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }

    /// Decodes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        wire::decode(bytes, limits::INDEX_OBJECT_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }
}

impl Validate for IndexObject {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        let mut pairs = self.packs.iter().zip(self.packs.iter().skip(1));
        ensure(pairs.all(|(one, next)| one.id < next.id), "its packs are not in order")?;
        let mut chunk_count = 0;
        for pack in &self.packs {
            ensure(matches!(pack.kind, 1 | 2), "a pack is of an unknown kind")?;
            ensure(pack.payload_len <= limits::PACK_BYTES_MAX, "a pack is too long")?;
            let frames = pack.frames.iter();
            chunk_count += frames.map(|frame| frame.chunks.len()).sum::<usize>();
            ensure(pack.frames.len() <= limits::PACK_FRAME_COUNT_MAX, "a pack has too many frames")?;
            pack.frames.iter().try_for_each(Validate::validate)?;
            let body_len: u64 = pack.frames.iter().map(|frame| u64::from(frame.stored_len)).sum();
            ensure(body_len <= pack.payload_len, "the frames of a pack are longer than it")?;
        }
        ensure(chunk_count <= limits::INDEX_OBJECT_ENTRY_COUNT_MAX, "it describes too many chunks")
    }
}

impl From<&IndexedPack> for PackDirectory {
    fn from(pack: &IndexedPack) -> Self {
        Self::new(pack.frames.clone())
    }
}
