//! What frames are compressed against: chosen by what it costs, claimed, read, and proven to be what it seemed.

use super::ChunkWriter;
use super::open_frame::{Base, Prefix};
use crate::format::frame::FrameEntry;
use crate::index::PackKind;
use crate::repo::chunk_reader::BaseBytes;
use crate::repo::error::RepoError;
use crate::repo::opening::Openings;
use crate::repo::pack_sealing::FrameHash;

/// Opening the bases of a frame may take so many times its own plain bytes. Where files were changed here and there, far
/// apart, as much as the whole tree would be opened for a few kilobytes.
pub(super) const OPENING_SHARE_MAX: u64 = 32;

/// Plain bytes whose opening is never too dear.
const OPENING_BYTES_CHEAP: u64 = 4 << 20;

impl ChunkWriter {
    /// What is opened for these bases.
    pub(super) fn openings(&self, bases: &[Base]) -> Result<Openings, RepoError> {
        // Most files have none, and then nobody is asked.
        match bases {
            [] => Ok(Openings::default()),
            bases => self.claims.openings(bases.iter().map(|(id, _)| *id)),
        }
    }

    /// Whether opening these bases takes too much for a frame of so many plain bytes.
    pub(super) fn is_too_dear(&self, bases: &[Base], plain_len: usize) -> Result<bool, RepoError> {
        let bytes_max = (plain_len as u64 * OPENING_SHARE_MAX).max(OPENING_BYTES_CHEAP);
        Ok(self.openings(bases)?.bytes() > bytes_max)
    }

    /// Claims those of these bases that are stored and do not lie too deep, and reads them. If they cannot be read there
    /// are none: what rests on nothing heals.
    pub(super) fn prefix(&self, bases: &[Base]) -> Result<Prefix, RepoError> {
        let mut prefix = Prefix::default();
        for base in bases {
            if let Some(depth) = self.claims.claim_base(&base.0)?
                && depth < self.options.base_depth_max
            {
                prefix.bases.push(*base);
                prefix.depth = prefix.depth.max(depth + 1);
            }
        }
        let ids = prefix.ids();
        let read = self.base_reader.read_bases(&ids, prefix.depth);
        // Otherwise that comes last: see `prove`.
        let is_right =
            |read: &BaseBytes| self.options.verify || self.base_reader.verify_bases(&ids, read).is_ok();
        match read {
            Ok(read) if is_right(&read) => Ok(Prefix { read, ..prefix }),
            Ok(_) | Err(_) => Ok(Prefix::default()),
        }
    }

    /// Proves a difference while the bases are at hand, so that nobody has to read them again: it expands to the chunks
    /// that the frame names, after what really are its bases. `None` if they are not; then the frame must not rest on them.
    ///
    /// The hash is taken first: whatever happens to the difference from here on makes it another one, and is noticed
    /// either by expanding it or when the sealed pack is opened.
    fn prove(
        &self,
        frame: &FrameEntry,
        stored: &[u8],
        prefix: &Prefix,
    ) -> Result<Option<FrameHash>, RepoError> {
        let hash = FrameHash::of(frame, stored);
        let mut opener = self.repo.openers.take();
        let expanded = opener.verify_stored(&self.repo.keys.ids, frame, stored, &prefix.read.bytes);
        drop(opener);
        // Last of all, so that it holds for what was compressed against and for what was expanded after.
        if self.base_reader.verify_bases(&prefix.ids(), &prefix.read).is_err() {
            return Ok(None);
        }
        expanded.map_err(RepoError::NotVerified)?;
        Ok(Some(hash))
    }

    /// Puts a frame that was compressed against a prefix into a pack, proven if it rests on that. Gives the entry back if
    /// what it should rest on is not what it seemed to be: it heals by resting on nothing.
    pub(super) fn append_against(
        &self,
        kind: PackKind,
        frame: FrameEntry,
        stored: &[u8],
        prefix: &Prefix,
    ) -> Result<Option<FrameEntry>, RepoError> {
        let mut proof = None;
        if self.options.verify && frame.depth > 0 {
            proof = self.prove(&frame, stored, prefix)?;
            if proof.is_none() {
                return Ok(Some(frame));
            }
        }
        self.append(kind, frame, stored, proof).map(|()| None)
    }
}
