//! Pieces of opened frames that do not fit in memory: sealed, in a file without a name.
//!
//! The file is a ring of slots. Whatever is written next takes the place of what was written longest ago. Each piece is
//! sealed under a key that is never stored, at a position that is never used twice. So a piece that is read while another
//! takes its place does not open, and whoever wanted it opens its frame again. Therefore no lock is held while the file is
//! read or written.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::crypto::{self, SealingKey, TAG_BYTES};
use crate::index::ScratchFile;
use crate::repo::error::RepoError;
use crate::repo::piece_cache::{PIECE_BYTES, PieceId};

/// Bytes of a slot: a piece and its tag.
const SLOT_BYTES: usize = PIECE_BYTES + TAG_BYTES;
/// It takes at most this part of the space that was free when it began.
const FREE_SHARE_MAX: u64 = 4;

/// See the module. Its methods may be called from several threads.
pub struct Overflow {
    file: ScratchFile,
    key: SealingKey,
    slot_count: usize,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    /// The slot that is written next.
    next: usize,
    /// The position at which the next piece is sealed.
    position: u64,
    places: HashMap<PieceId, Place>,
    /// What the slots hold.
    owners: Vec<Option<PieceId>>,
    /// Once it could not be written, as when the disk is full, it is left as it is.
    is_broken: bool,
}

#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    position: u64,
    len: usize,
}

impl Overflow {
    /// Uses this empty file, for at most so many bytes and a part of what is free.
    pub fn new(file: ScratchFile, bytes_max: u64) -> Result<Self, RepoError> {
        let free = file.free_bytes().unwrap_or(0);
        let slot_count = bytes_max.min(free / FREE_SHARE_MAX) / SLOT_BYTES as u64;
        let key = SealingKey::new(&crypto::random_secret()?);
        let slot_count = usize::try_from(slot_count).unwrap_or(usize::MAX);
        Ok(Self { file, key, slot_count, ring: Mutex::default() })
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no holder of this lock panics")
    }

    /// Whether it has a piece, unless that is taken away in this moment.
    pub fn holds(&self, piece: &PieceId) -> bool {
        self.ring().places.contains_key(piece)
    }

    /// Takes pieces in, as far as that is possible.
    pub fn put(&self, pieces: &[(PieceId, Vec<u8>)]) {
        let mut sealed = Vec::new();
        let mut taken: Vec<(PieceId, Place)> = Vec::with_capacity(pieces.len());
        for (id, bytes) in pieces {
            let Some(place) = self.ring().take_slot(id, bytes.len(), self.slot_count) else { continue };
            let follows = taken.last().is_none_or(|(_, last)| last.slot + 1 == place.slot);
            if !follows {
                self.write(&mut taken, &mut sealed);
            }
            sealed.resize(taken.len() * SLOT_BYTES, 0);
            self.key.seal_to(place.position, &[], bytes, &mut sealed);
            taken.push((*id, place));
        }
        self.write(&mut taken, &mut sealed);
    }

    fn write(&self, taken: &mut Vec<(PieceId, Place)>, sealed: &mut Vec<u8>) {
        let Some((_, first)) = taken.first() else { return };
        let written = self.file.write_at(sealed, first.slot as u64 * SLOT_BYTES as u64);
        let mut ring = self.ring();
        ring.is_broken |= written.is_err();
        if written.is_ok() {
            taken.drain(..).for_each(|(id, place)| ring.settle(id, place));
        }
        taken.clear();
        sealed.clear();
    }

    /// Appends a part of a piece to `into`; whether it was there.
    pub fn read(&self, piece: &PieceId, from: usize, to: usize, into: &mut Vec<u8>) -> bool {
        let Some(place) = self.ring().places.get(piece).copied() else { return false };
        let mut sealed = vec![0; place.len + TAG_BYTES];
        let is_read = self.file.read_at(&mut sealed, place.slot as u64 * SLOT_BYTES as u64).is_ok();
        let mut plain = Vec::with_capacity(place.len);
        let is_open = is_read && self.key.open_to(place.position, &[], &sealed, &mut plain).is_ok();
        match plain.get(from..to).filter(|_| is_open) {
            Some(part) => {
                into.extend_from_slice(part);
                true
            }
            None => {
                self.ring().places.remove(piece);
                false
            }
        }
    }
}

impl Ring {
    fn take_slot(&mut self, id: &PieceId, len: usize, slot_count: usize) -> Option<Place> {
        if slot_count == 0 || self.is_broken || self.places.contains_key(id) || len > PIECE_BYTES {
            return None;
        }
        let slot = self.next;
        self.next = (slot + 1) % slot_count;
        match self.owners.get_mut(slot) {
            Some(owner) => {
                if let Some(gone) = owner.take() {
                    self.places.remove(&gone);
                }
            }
            None => self.owners.resize(slot + 1, None),
        }
        self.position += 1;
        Some(Place { slot, position: self.position, len })
    }

    fn settle(&mut self, id: PieceId, place: Place) {
        if let Some(owner) = self.owners.get_mut(place.slot) {
            *owner = Some(id);
            self.places.insert(id, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{PackId, RepositoryId};
    use crate::index::CacheFolder;

    fn overflow(slot_count: usize) -> (tempfile::TempDir, Overflow) {
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheFolder::open(folder.path()).unwrap();
        let file = cache.scratch_file(RepositoryId::new([1; 16])).unwrap();
        (folder, Overflow::new(file, (slot_count * SLOT_BYTES) as u64).unwrap())
    }

    fn piece(number: u16) -> (PieceId, Vec<u8>) {
        let id = PieceId { frame: (PackId::new([7; 32]), 3), number };
        (id, vec![number as u8; PIECE_BYTES - usize::from(number)])
    }

    fn read(overflow: &Overflow, number: u16) -> Option<Vec<u8>> {
        let mut into = Vec::new();
        let (id, bytes) = piece(number);
        overflow.read(&id, 10, bytes.len(), &mut into).then_some(into)
    }

    #[test]
    fn what_was_put_is_read_until_newer_pieces_take_its_place() {
        let (_folder, overflow) = overflow(3);
        overflow.put(&[piece(0), piece(1)]);
        // Over the end of the ring, in one go; what is there already is not written again.
        overflow.put(&[piece(1), piece(2), piece(3)]);
        for number in 1..4 {
            assert_eq!(read(&overflow, number).unwrap(), piece(number).1[10..], "{number}");
        }
        assert_eq!(read(&overflow, 0), None);
        assert!(!overflow.holds(&piece(0).0) && overflow.holds(&piece(3).0));
    }

    #[test]
    fn nothing_readable_is_on_the_disk_and_what_was_altered_is_not_there() {
        let (_folder, overflow) = overflow(2);
        overflow.put(&[piece(5)]);
        let mut stored = vec![0; PIECE_BYTES];
        overflow.file.read_at(&mut stored, 0).unwrap();
        assert!(stored.windows(4).all(|bytes| bytes != [5; 4]));
        overflow.file.write_at(&[stored[100] ^ 1], 100).unwrap();
        assert_eq!(read(&overflow, 5), None);
        assert!(!overflow.holds(&piece(5).0));
    }

    #[test]
    fn without_room_nothing_is_kept_and_nothing_fails() {
        let (_folder, overflow) = overflow(0);
        overflow.put(&[piece(0)]);
        assert_eq!(read(&overflow, 0), None);
    }
}
