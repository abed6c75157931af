//! Frames: the chunks that are compressed and sealed as one message (docs/format.md, "Frames").

use serde::{Deserialize, Serialize};

pub use crate::compress::Codec;

use crate::id::ContentId;
use crate::limits;
use crate::wire::{Validate, WireError, ensure};

/// What a run of bytes in a frame is. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContentKind {
    /// A chunk of a file.
    Chunk,
    /// A directory node.
    Node,
    /// A list node.
    List,
}

/// One chunk or node in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkEntry {
    /// The first 16 bytes of its id: [`ContentId::prefix`].
    pub key: [u8; 16],
    /// What it is.
    pub kind: ContentKind,
    /// Its plain length in bytes, at least 1.
    pub len: u32,
}

/// One frame as the directory of its pack lists it. Offsets follow by addition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameEntry {
    /// How it is compressed.
    pub codec: Codec,
    /// 0 without bases, otherwise one more than the greatest depth of a base's frame.
    pub depth: u8,
    /// Bytes before sealing; in the pack there are [`crate::format::container::TAG_LEN`] more.
    pub stored_len: u32,
    /// Chunks, or in packs of nodes nodes, whose plain bytes, end to end, are the prefix for the compressor.
    pub bases: Vec<ContentId>,
    /// What it holds, in order.
    pub chunks: Vec<ChunkEntry>,
}

impl FrameEntry {
    /// Plain bytes of all its chunks.
    pub fn plain_len(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
    }

    /// The first 16 bytes of BLAKE3 over kind, key and length (u32, little endian) of each chunk in order.
    ///
    /// It stands for the list of chunks in what is authenticated with the frame, so that a reader who knows the
    /// place of one chunk need not know the others.
    pub fn list_hash(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        for chunk in &self.chunks {
            hasher.update(&[chunk.kind as u8]).update(&chunk.key).update(&chunk.len.to_le_bytes());
        }
        *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
    }
}

/// What is authenticated with a frame besides its bytes: codec, depth, plain length (u32, little endian), list hash,
/// and the ids of its bases.
pub fn additional_data(
    codec: Codec,
    depth: u8,
    plain_len: u32,
    list_hash: &[u8; 16],
    bases: &[ContentId],
) -> Vec<u8> {
    let mut data = Vec::with_capacity(22 + ContentId::LEN * bases.len());
    data.extend([codec as u8, depth]);
    data.extend(plain_len.to_le_bytes());
    data.extend(list_hash);
    bases.iter().for_each(|base| data.extend(base.bytes()));
    data
}

impl Validate for FrameEntry {
    fn validate(&self) -> Result<(), WireError> {
        ensure(!self.chunks.is_empty(), "a frame is empty")?;
        ensure(self.chunks.iter().all(|chunk| chunk.len > 0), "a chunk is empty")?;
        let plain_len = self.plain_len();
        ensure(plain_len <= limits::FRAME_BYTES_MAX as u64, "a frame is too long")?;
        ensure(u64::from(self.stored_len) <= plain_len, "a frame is longer than its plain bytes")?;
        let stored_fits = self.codec != Codec::Stored || u64::from(self.stored_len) == plain_len;
        ensure(stored_fits, "a stored frame has another length than its plain bytes")?;
        ensure(self.bases.len() <= limits::BASE_COUNT_MAX, "a frame has too many bases")?;
        ensure(self.depth <= limits::BASE_DEPTH_MAX, "a frame lies too deep")?;
        let with_bases = self.codec == Codec::ZstdPrefix;
        ensure(with_bases != self.bases.is_empty(), "a frame has bases without their codec, or the reverse")?;
        ensure(with_bases == (self.depth > 0), "the depth of a frame does not fit its bases")
    }
}
