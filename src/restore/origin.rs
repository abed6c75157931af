//! What a restore needs of a repository. Tests put damage and attacks behind the same door.

use crate::format::tree::{ChunkRef, Content, Entry};
use crate::id::{ChunkId, NodeId};
use crate::index::PackNumber;
use crate::repo::{RepoError, TreeReader};

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Local number of the pack.
    pub pack: u32,
    /// Number of the frame in the pack.
    pub frame: u16,
    /// First byte inside the plain frame.
    pub start: u32,
    /// Plain length.
    pub len: u32,
}

/// Something in the repository could not be read: damaged, missing, or the storage failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OriginError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// An iterator over what is stored, which may fail at any point and ends there.
pub type Stored<'o, T> = Box<dyn Iterator<Item = Result<T, OriginError>> + 'o>;

/// Receives opened frames: the number of the frame, and its plain bytes or why there are none.
pub type FrameVisitor<'v> = dyn FnMut(u16, Result<&[u8], OriginError>) + 'v;

/// The readable side of a repository. Calls may come from any thread.
pub trait Origin: Sync {
    /// The entries of a folder by ascending name, read piece by piece.
    fn directory(&self, id: NodeId) -> Stored<'_, Entry>;

    /// The chunks of a file in order, read piece by piece.
    fn chunks(&self, content: &Content) -> Stored<'_, ChunkRef>;

    /// Where a chunk lies; `None` if nowhere.
    fn locate(&self, id: &ChunkId) -> Result<Option<Place>, OriginError>;

    /// Reads frames of one pack, ascending, and hands out their plain bytes, or for each why not.
    fn read_frames(&self, pack: u32, frames: &[u16], visit: &mut FrameVisitor<'_>)
    -> Result<(), OriginError>;

    /// Whether the bytes are those of the chunk.
    fn verify_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool;

    /// Whether reading means waiting for a network.
    fn is_remote(&self) -> bool {
        false
    }
}

impl From<RepoError> for OriginError {
    fn from(error: RepoError) -> Self {
        Self(Box::new(error))
    }
}

impl Origin for TreeReader {
    fn directory(&self, id: NodeId) -> Stored<'_, Entry> {
        Box::new(TreeReader::directory(self, id).map(|entry| Ok(entry?)))
    }

    fn chunks(&self, content: &Content) -> Stored<'_, ChunkRef> {
        Box::new(TreeReader::chunks(self, content).map(|chunk| Ok(chunk?)))
    }

    fn locate(&self, id: &ChunkId) -> Result<Option<Place>, OriginError> {
        let place = self.chunk_reader().locate(&id.content())?;
        Ok(place.map(|place| Place {
            pack: place.pack.0,
            frame: place.frame,
            start: place.start,
            len: place.len,
        }))
    }

    fn read_frames(
        &self,
        pack: u32,
        frames: &[u16],
        visit: &mut FrameVisitor<'_>,
    ) -> Result<(), OriginError> {
        let mut visit =
            |frame, bytes: Result<&[u8], RepoError>| visit(frame, bytes.map_err(OriginError::from));
        Ok(self.chunk_reader().read_frames(PackNumber(pack), frames, &mut visit)?)
    }

    fn verify_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        self.chunk_reader().verify_chunk(id, bytes)
    }

    fn is_remote(&self) -> bool {
        self.chunk_reader().is_remote()
    }
}
