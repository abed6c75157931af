//! Whole packs: read once, compared with name and parity, and opened frame by frame.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::format::container::Header;
use crate::format::frame::FrameEntry;
use crate::format::index_object::IndexedPack;
use crate::format::parity;
use crate::hash::payload_id;
use crate::id::PackId;
use crate::index::{IndexView, PackKind};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::index_sync::new_pack;
use crate::repo::{Repo, names, pack_sealing, sealing};
use crate::storage::StorageError;
use crate::units::ByteRange;

/// What a look at a whole pack found.
#[derive(Debug)]
pub struct PackVerdict {
    /// Chunks and nodes that were opened and compared with their ids, damaged ones left out.
    pub chunk_count: u64,
    /// What is wrong with the payload as a whole: its hash, its header, its directory.
    pub payload: Result<(), DamageReason>,
    /// What is wrong with what follows the payload.
    pub end: Result<(), DamageReason>,
    /// Frames that do not open or hold something else, and why; `None` if the directory does not open, so that nobody
    /// can tell from the pack alone.
    pub damaged_frames: Option<Vec<(u32, DamageReason)>>,
    /// What the pack says it holds.
    pub described: Option<IndexedPack>,
    /// Whether parity can bring a damaged payload back, all of it.
    pub is_mendable: bool,
}

/// Verifies packs, one after the other; keeps its buffer in between.
pub struct PackVerifier {
    reader: Arc<ChunkReader>,
    stored: Vec<u8>,
}

impl PackVerifier {
    /// A verifier that finds the bases of frames through `reader`.
    pub fn new(reader: Arc<ChunkReader>) -> Self {
        Self { reader, stored: Vec::new() }
    }

    /// Reads all `len` bytes of a pack and verifies them. `None` if the pack is not there any more.
    pub fn verify(&mut self, kind: PackKind, id: PackId, len: u64) -> Result<Option<PackVerdict>, RepoError> {
        let repo = Arc::clone(self.reader.repo());
        self.stored.clear();
        let range = ByteRange { start: 0, len };
        match repo.storage().get_range(&names::pack(kind, &id), range, &mut self.stored) {
            Ok(()) => Ok(Some(self.judge(&repo, kind, id))),
            Err(StorageError::Missing { .. }) => Ok(None),
            Err(error @ StorageError::Failed { .. }) => Ok(Some(unknown(DamageReason::unreadable(&error)))),
            Err(StorageError::Short { .. }) => Ok(Some(unknown(DamageReason::Short))),
            Err(error) => Err(error.into()),
        }
    }

    fn judge(&self, repo: &Repo, kind: PackKind, id: PackId) -> PackVerdict {
        let stored = &self.stored;
        let reader = &self.reader;
        let prefix_of = |frame: &FrameEntry| reader.prefix_of(&frame.bases, frame.depth);
        let (hash_is_right, opened) = rayon::join(
            || sealing::payload_of(stored).is_some_and(|payload| payload_id(payload) == *id.bytes()),
            || pack_sealing::verify_pack(&repo.keys, repo.id, kind, stored, &repo.openers, &prefix_of),
        );
        let payload = match (&opened, hash_is_right) {
            (Err(reason), _) => Err(reason.clone()),
            (Ok(_), false) => Err(DamageReason::Id),
            (Ok(_), true) => Ok(()),
        };
        let end = match Header::decode(stored) {
            Ok((header, _)) => repo.examine_parity(header.payload_len, stored),
            Err(_) => Ok(()),
        };
        let is_mendable = payload.is_err() && parity::repair(stored, None, id.bytes()).is_ok();
        let Ok((pack, damages)) = opened else {
            return PackVerdict { end, is_mendable, ..unknown(payload.err().unwrap_or(DamageReason::Id)) };
        };
        let damaged: Vec<_> =
            damages.into_iter().filter_map(|damage| Some((damage.frame?, damage.reason))).collect();
        let bad: BTreeSet<_> = damaged.iter().map(|(number, _)| *number).collect();
        let frames = pack.directory.frames.iter().zip(0u32..);
        let good = frames.filter(|(_, number)| !bad.contains(number));
        PackVerdict {
            chunk_count: good.map(|(frame, _)| frame.chunks.len() as u64).sum(),
            payload,
            end,
            damaged_frames: Some(damaged),
            described: Some(pack_sealing::indexed_pack(id, kind, &pack.header, pack.directory)),
            is_mendable,
        }
    }
}

/// The verdict on a pack that does not even open.
fn unknown(reason: DamageReason) -> PackVerdict {
    PackVerdict {
        chunk_count: 0,
        payload: Err(reason),
        end: Ok(()),
        damaged_frames: None,
        described: None,
        is_mendable: false,
    }
}

/// Whether the index says the same of a pack as `described`, frame by frame, but for what is stated to be damaged.
/// `None` if it does not know the pack.
pub fn index_agrees(index: &IndexView, described: &IndexedPack) -> Result<Option<bool>, RepoError> {
    let Some(number) = index.pack_number(&described.id)? else { return Ok(None) };
    let mut new = new_pack(described);
    if let Some(damage) = index.stated_damage(&described.id)? {
        damage.leave_out(&mut new);
    }
    let row_is_same = index.pack(number)?.is_some_and(|row| row == new.row);
    Ok(Some(row_is_same && index.frames(number)? == new.frames))
}
