//! Packs: sealed frames, then their sealed directory, then a sealed tail of fixed length (docs/format.md, "Packs").
//!
//! ```text
//! header | frame 0 | ... | frame n-1 | padding | directory | tail
//! ```

use serde::{Deserialize, Serialize};

use crate::format::FormatError;
use crate::format::container::{HEADER_LEN, TAG_LEN};
use crate::format::frame::FrameEntry;
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

/// Length of an opened tail.
pub const TAIL_LEN: usize = 48;
/// Length of a sealed tail.
pub const TAIL_LEN_SEALED: usize = TAIL_LEN + TAG_LEN;
/// Position under the directory key at which the tail is sealed.
pub const TAIL_POSITION: u64 = 0;
/// Position under the directory key at which the directory is sealed.
pub const DIRECTORY_POSITION: u64 = 1;

const OBJECT: &str = "pack directory";
const TAIL: &str = "pack tail";

/// What a pack holds: its frames in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackDirectory {
    /// Version of this encoding: 1.
    version: u8,
    /// The frames, in the order of their places.
    pub frames: Vec<FrameEntry>,
}

impl PackDirectory {
    /// The directory of these frames.
    pub fn new(frames: Vec<FrameEntry>) -> Self {
        Self { version: 1, frames }
    }

    /// Encodes the directory, which must be within the limits of a pack.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::PACK_DIRECTORY_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }

    /// Decodes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        wire::decode(bytes, limits::PACK_DIRECTORY_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }

    /// Chunks and nodes in all frames.
    pub fn chunk_count(&self) -> usize {
        self.frames.iter().map(|frame| frame.chunks.len()).sum()
    }

    /// Bytes that a frame takes in the pack, its tag included.
    pub fn sealed_len(frame: &FrameEntry) -> u64 {
        u64::from(frame.stored_len) + TAG_LEN as u64
    }

    /// Each frame with the offset of its first sealed byte in the pack.
    pub fn placed(&self) -> impl Iterator<Item = (u64, &FrameEntry)> {
        let mut next = HEADER_LEN as u64;
        self.frames.iter().map(move |frame| {
            let offset = next;
            next += Self::sealed_len(frame);
            (offset, frame)
        })
    }

    /// Sealed bytes of all frames.
    pub fn body_len(&self) -> u64 {
        self.frames.iter().map(Self::sealed_len).sum()
    }
}

impl Validate for PackDirectory {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        ensure(self.frames.len() <= limits::PACK_FRAME_COUNT_MAX, "it has too many frames")?;
        ensure(self.chunk_count() <= limits::PACK_CHUNK_COUNT_MAX, "it has too many chunks")?;
        self.frames.iter().try_for_each(Validate::validate)?;
        ensure(self.body_len() <= limits::PACK_BYTES_MAX, "its frames are longer than a pack")
    }
}

/// The last sealed message of a pack. It leads to the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackTail {
    /// Bytes of the directory before sealing.
    pub directory_len: u32,
    /// Frames in the pack.
    pub frame_count: u32,
    /// Sealed bytes of all frames.
    pub body_len: u64,
    /// Sealed bytes of the padding, its tag included; 0 when there is none.
    pub padding_len: u32,
}

impl PackTail {
    /// The fixed bytes of a tail.
    pub fn encode(&self) -> [u8; TAIL_LEN] {
        let mut bytes = [0; TAIL_LEN];
        let fields = self.directory_len.to_le_bytes().into_iter().chain(self.frame_count.to_le_bytes());
        let fields = fields.chain(self.body_len.to_le_bytes()).chain(self.padding_len.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }

    /// Decodes a tail and compares its lengths with that of the payload.
    pub fn decode(bytes: &[u8; TAIL_LEN], payload_len: u64) -> Result<Self, FormatError> {
        let (fields, zeros) = bytes.split_first_chunk::<20>().expect("20 is less than 48");
        let number = |from: usize, len: usize| {
            fields.iter().skip(from).take(len).rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let tail = Self {
            directory_len: number(0, 4) as u32,
            frame_count: number(4, 4) as u32,
            body_len: number(8, 8),
            padding_len: number(16, 4) as u32,
        };
        let parts = [
            HEADER_LEN as u64,
            tail.body_len,
            u64::from(tail.padding_len),
            u64::from(tail.directory_len) + TAG_LEN as u64,
            TAIL_LEN_SEALED as u64,
        ];
        let sum = parts.into_iter().try_fold(0u64, u64::checked_add);
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(FormatError::invalid(TAIL, "reserved bytes are not zero"));
        }
        if sum != Some(payload_len) || payload_len > limits::PACK_BYTES_MAX {
            return Err(FormatError::invalid(TAIL, "its parts do not add up to the payload"));
        }
        Ok(tail)
    }

    /// Sealed bytes of directory and tail together, at the end of the payload.
    pub fn suffix_len(&self) -> u64 {
        u64::from(self.directory_len) + (TAG_LEN + TAIL_LEN_SEALED) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::{ChunkEntry, Codec, ContentKind};
    use crate::id::ContentId;

    fn directory() -> PackDirectory {
        let chunk = |number, len| ChunkEntry { key: [number; 16], kind: ContentKind::Chunk, len };
        PackDirectory::new(vec![
            FrameEntry {
                codec: Codec::Zstd,
                depth: 0,
                stored_len: 50,
                bases: vec![],
                chunks: vec![chunk(1, 60), chunk(2, 1)],
            },
            FrameEntry {
                codec: Codec::ZstdPrefix,
                depth: 2,
                stored_len: 7,
                bases: vec![ContentId::new([9; 32])],
                chunks: vec![chunk(3, 300)],
            },
        ])
    }

    #[test]
    fn a_directory_with_bases_survives_encoding() {
        let bytes = directory().encode().unwrap();
        assert_eq!(PackDirectory::decode(&bytes), Ok(directory()));
        let offsets: Vec<u64> = directory().placed().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, [112, 112 + 66]);
    }

    #[test]
    fn impossible_frames_are_refused() {
        let spoil = |change: fn(&mut FrameEntry)| {
            let mut directory = directory();
            change(&mut directory.frames[0]);
            directory.encode()
        };
        assert!(spoil(|frame| frame.chunks.clear()).is_err());
        assert!(spoil(|frame| frame.chunks[0].len = 0).is_err());
        assert!(spoil(|frame| frame.stored_len = 62).is_err());
        assert!(spoil(|frame| frame.depth = 1).is_err());
        assert!(spoil(|frame| frame.codec = Codec::ZstdPrefix).is_err());
        assert!(spoil(|frame| frame.codec = Codec::Stored).is_err());
        assert!(spoil(|frame| frame.chunks[0].len = 17 << 20).is_err());
        assert!(spoil(|_| ()).is_ok());
    }

    #[test]
    fn a_tail_must_add_up() {
        let tail = PackTail { directory_len: 100, frame_count: 2, body_len: 89, padding_len: 0 };
        let payload_len = 112 + 89 + 116 + 64;
        assert_eq!(PackTail::decode(&tail.encode(), payload_len), Ok(tail));
        assert!(PackTail::decode(&tail.encode(), payload_len + 1).is_err());
        let mut bytes = tail.encode();
        bytes[40] = 1;
        assert!(PackTail::decode(&bytes, payload_len).is_err());
        bytes[40] = 0;
        bytes[8..16].fill(0xff);
        assert!(PackTail::decode(&bytes, payload_len).is_err());
    }
}
