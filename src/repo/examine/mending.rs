//! Damaged objects brought back from what is left: parity, the second copy, what the index says of a pack.
//!
//! Whatever is offered as right was proven: what is named by its hash has that hash, everything else opens under its
//! name with the keys of the repository. So nothing wrong can be put in the place of anything.

use serde::Serialize;

use super::examine_id;
use crate::format::parity;
use crate::id::PackId;
use crate::index::PackKind;
use crate::repo::error::RepoError;
use crate::repo::names::Named;
use crate::repo::{Repo, create_resolved, names, pack_sealing, sealing, settings};
use crate::storage::{Created, ObjectName, StorageError};
use crate::units::ByteRange;

/// What cannot be read as a whole is read in pieces of this length, and of those that cannot be read in smaller ones.
const PIECE_BYTES: u64 = 64 << 10;
const SMALL_PIECE_BYTES: u64 = 4 << 10;

/// From what an object is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MendHow {
    /// Its parity gives the damaged bytes.
    FromParity,
    /// Its content is good, and gives the parity.
    ParityAgain,
    /// Bytes follow it that do not belong there.
    Cut,
    /// Its second copy is good.
    FromCopy,
    /// It is good, and gives the second copy.
    CopyAgain,
    /// It is gone, and its second copy is good.
    BackFromCopy,
    /// What frames a pack has around its content follows from what the index says of it.
    FromIndex,
    /// It says the same in every repository.
    WrittenAgain,
}

/// An object and the bytes that belong in its place.
pub struct Mend {
    /// The object, or its second copy.
    pub name: ObjectName,
    /// From what it is brought back.
    pub how: MendHow,
    /// Whether there is anything under this name.
    is_there: bool,
    bytes: Vec<u8>,
}

/// Stored bytes made right.
struct Right {
    /// What had to be done; none if they were right.
    how: Option<MendHow>,
    bytes: Vec<u8>,
}

impl Repo {
    /// What would bring an object, and its second copy, back. Empty if nothing is wrong with them, or nothing can.
    ///
    /// Reads the object as it is now and changes nothing. Objects of which nothing can be proven (leases, the reserve)
    /// are passed over.
    pub fn find_mends(&self, object: Named) -> Result<Vec<Mend>, RepoError> {
        let Some(name) = object.object_name() else { return Ok(Vec::new()) };
        if matches!(object, Named::Reserve | Named::Lease(..)) {
            return Ok(Vec::new());
        }
        let copy_name = names::copy(&name);
        let first = self.read_what_is_left(&name)?;
        let copy = if object.has_copy() { self.read_what_is_left(&copy_name)? } else { None };
        let Some((right, how)) = self.right_bytes(object, first.as_deref(), copy.as_deref())? else {
            return Ok(Vec::new());
        };
        let mut mends = Vec::new();
        let is_there = first.is_some();
        let wants_copy = object.has_copy() && (self.config.copies || copy.is_some());
        let copy_differs = wants_copy && copy.as_ref() != Some(&right);
        let mut right = right;
        if first.as_ref() != Some(&right) {
            if !is_there && !self.may_come_back(object)? {
                return Ok(Vec::new());
            }
            let how = if is_there || how == MendHow::WrittenAgain { how } else { MendHow::BackFromCopy };
            // Packs are long and have no copy.
            let bytes = if copy_differs { right.clone() } else { std::mem::take(&mut right) };
            mends.push(Mend { name, how, is_there, bytes });
        }
        if copy_differs {
            let is_there = copy.is_some();
            mends.push(Mend { name: copy_name, how: MendHow::CopyAgain, is_there, bytes: right });
        }
        Ok(mends)
    }

    /// Puts the right bytes in their place. `false` if that was not possible any more: an object that was to be
    /// replaced is gone, or one that was gone is there.
    pub fn apply_mend(&self, mend: &Mend) -> Result<bool, RepoError> {
        if !mend.is_there {
            return Ok(create_resolved(&**self.storage(), &mend.name, &mend.bytes)? == Created::Created);
        }
        match self.storage().replace(&mend.name, &mend.bytes) {
            Ok(()) => Ok(true),
            Err(StorageError::Missing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes index objects that the storage cannot read, and that nothing can mend, anew as far as they can be read, and
    /// says how many. They are damaged then, which a prune can deal with, instead of in doubt; and what a disk writes
    /// anew it can read again. All packs must be described by others.
    pub fn settle_unread_index_objects(&self) -> Result<u64, RepoError> {
        let mut listed = Vec::new();
        self.storage().list(names::INDEX, &mut |object| {
            if let Some(object @ Named::Index(id)) = names::parse(&object.name) {
                listed.push((object, id));
            }
        })?;
        let mut count = 0;
        for (object, id) in listed {
            let is_unread =
                matches!(self.read_index_object(id), Err(RepoError::Storage(StorageError::Failed { .. })));
            if !is_unread || !self.find_mends(object)?.is_empty() {
                continue;
            }
            let name = names::index_object(&id);
            let Some(left) = self.read_what_is_left(&name)? else { continue };
            // The error has passed.
            if self.open_index_object(id, &left).is_ok() {
                continue;
            }
            match self.storage().replace(&name, &left) {
                Ok(()) => count += 1,
                Err(StorageError::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    /// The bytes that belong under the name of an object, and where they are from.
    fn right_bytes(
        &self,
        object: Named,
        first: Option<&[u8]>,
        copy: Option<&[u8]>,
    ) -> Result<Option<(Vec<u8>, MendHow)>, RepoError> {
        if object == Named::Readme {
            return Ok(Some((settings::README.as_bytes().to_vec(), MendHow::WrittenAgain)));
        }
        let from_first = first.and_then(|stored| self.made_right(object, stored));
        if let Some(Right { how: None, bytes }) = from_first {
            return Ok(Some((bytes, MendHow::CopyAgain)));
        }
        let from_copy = copy.and_then(|stored| self.made_right(object, stored));
        Ok(match (from_first, from_copy) {
            (_, Some(Right { how: None, bytes })) => Some((bytes, MendHow::FromCopy)),
            (Some(Right { how: Some(how), bytes }), _) => Some((bytes, how)),
            (Some(Right { how: None, bytes }), _) => Some((bytes, MendHow::CopyAgain)),
            (None, Some(Right { bytes, .. })) => Some((bytes, MendHow::FromCopy)),
            (None, None) => match (object, first) {
                (Named::Pack(kind, id), Some(stored)) => self
                    .pack_from_index(kind, id, stored)?
                    .map(|payload| (self.with_parity(payload), MendHow::FromIndex)),
                _ => None,
            },
        })
    }

    /// An object made right from its own bytes alone.
    fn made_right(&self, object: Named, stored: &[u8]) -> Option<Right> {
        if self.examine_stored(object, stored).is_ok() {
            return Some(Right { how: None, bytes: stored.to_vec() });
        }
        if matches!(object, Named::Config(_) | Named::Slot(_)) {
            return None;
        }
        let is_right = |payload: &[u8]| {
            let is_all = sealing::payload_of(payload).is_some_and(|part| part.len() == payload.len());
            is_all && self.examine_payload(object, payload).is_ok()
        };
        if let Some(payload) = sealing::payload_of(stored).filter(|payload| is_right(payload)) {
            let bytes = self.with_parity(payload.to_vec());
            let is_cut = stored.starts_with(&bytes);
            let how = if is_cut { MendHow::Cut } else { MendHow::ParityAgain };
            return Some(Right { how: Some(how), bytes });
        }
        let payload = parity::repair_until(stored, None, &is_right).ok()?;
        Some(Right { how: Some(MendHow::FromParity), bytes: self.with_parity(payload) })
    }

    fn with_parity(&self, mut payload: Vec<u8>) -> Vec<u8> {
        if self.config.parity {
            parity::append(&mut payload);
        }
        payload
    }

    /// The payload of a pack whose header, directory or tail is damaged: all three follow from what an index object
    /// says of it. What is damaged beside them is left to the parity.
    fn pack_from_index(
        &self,
        kind: PackKind,
        id: PackId,
        stored: &[u8],
    ) -> Result<Option<Vec<u8>>, RepoError> {
        let Some(described) = self.description_of(&id)? else { return Ok(None) };
        let Some(rebuilt) = pack_sealing::seal_around(&self.keys, self.id, kind, &described, stored) else {
            return Ok(None);
        };
        if examine_id(id.bytes(), &rebuilt).is_ok() {
            let payload = sealing::payload_of(&rebuilt).map(<[u8]>::to_vec);
            return Ok(payload);
        }
        Ok(parity::repair(&rebuilt, Some(described.payload_len), id.bytes()).ok())
    }

    /// Whether an object of which only the second copy is there should be made again: not if somebody may have meant
    /// it to go.
    fn may_come_back(&self, object: Named) -> Result<bool, RepoError> {
        match object {
            Named::Snapshot(id) => Ok(self.list_forgotten()?.get(id).is_none()),
            _ => Ok(true),
        }
    }

    /// All bytes of an object; zeros where they cannot be read. `None` if there is no such object.
    pub(in crate::repo) fn read_what_is_left(&self, name: &ObjectName) -> Result<Option<Vec<u8>>, RepoError> {
        let storage = self.storage();
        match storage.get(name) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(StorageError::Missing { .. }) => return Ok(None),
            Err(StorageError::Failed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let len = match storage.len(name) {
            Ok(len) => len,
            Err(StorageError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        for piece in pieces(0, len, PIECE_BYTES) {
            let before = bytes.len();
            if storage.get_range(name, piece, &mut bytes).is_ok() {
                continue;
            }
            bytes.truncate(before);
            for small in pieces(piece.start, piece.start + piece.len, SMALL_PIECE_BYTES) {
                let before = bytes.len();
                // What this cannot read is damage like any other; what follows may still be good.
                if storage.get_range(name, small, &mut bytes).is_err() {
                    bytes.truncate(before);
                    bytes.resize(before + small.len as usize, 0);
                }
            }
        }
        Ok(Some(bytes))
    }
}

fn pieces(start: u64, end: u64, len: u64) -> impl Iterator<Item = ByteRange> {
    let starts = (start..end).step_by(len as usize);
    starts.map(move |start| ByteRange { start, len: len.min(end - start) })
}
