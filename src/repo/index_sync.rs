//! Bringing the local index up to date with the index objects, and views of it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::format::container::{HEADER_LEN, ObjectKind};
use crate::format::index_object::{DamageStatement, IndexObject, IndexedPack};
use crate::format::pack::PackDirectory;
use crate::format::parity;
use crate::hash::payload_id;
use crate::id::{IndexObjectId, PackId, SnapshotId};
use crate::index::{
    FrameRow, Index, IndexError, IndexOptions, IndexView, NewPack, NewPlace, PackKind, PackRow, StatedDamage,
};
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::names::Named;
use crate::repo::view::{PackProbe, PackSet, Presence, View};
use crate::repo::{Repo, names, sealing};
use crate::storage::{Listed, StorageError};

/// Index objects read and opened side by side before they are added; bounds memory.
const BATCH_COUNT: usize = 4;
/// Directories of packs in memory at once; far below the limit of an index object for packs of usual content.
const DESCRIBED_COUNT_BATCH: usize = 64;
/// After so many rebuilds in a row the cause is not the index.
const REBUILD_COUNT_MAX: usize = 1;

/// What a listing showed of the packs.
#[derive(Default)]
pub struct PackListing {
    /// Length by kind and id.
    pub packs: HashMap<(PackKind, PackId), u64>,
}

impl PackListing {
    /// Whether a pack was listed with the right length.
    pub fn shows(&self, row: &PackRow) -> bool {
        let len = self.packs.get(&(row.kind, row.id));
        len.is_some_and(|len| is_right_len(*len, row.payload_len))
    }
}

impl Repo {
    /// The local index, opened, or made anew when it is missing, stale or damaged.
    pub(crate) fn index(&self) -> Result<Arc<Index>, RepoError> {
        let mut open = self.index.lock().expect("no holder of this lock panics");
        let index = match open.take() {
            Some(index) => index,
            None if self.uses_own_index.load(Ordering::Relaxed) => {
                Arc::new(self.cache.open_private_index(self.id, IndexOptions::default())?.index)
            }
            None => Arc::new(self.cache.open_index(self.id, IndexOptions::default())?.index),
        };
        *open = Some(Arc::clone(&index));
        Ok(index)
    }

    /// Closes the local index and deletes it; the next one who asks builds it again. Nobody may hold a view of it.
    fn discard_index(&self) -> Result<(), RepoError> {
        drop(self.index.lock().expect("no holder of this lock panics").take());
        if self.uses_own_index.load(Ordering::Relaxed) {
            return Ok(());
        }
        Ok(self.cache.delete_index(self.id)?)
    }

    /// Brings the index up to date: reads index objects that are new, drops those that are gone.
    ///
    /// A damaged index is deleted and built again. Where an index object is damaged, the directories of the packs
    /// that nothing else describes take its place, so that one bad object does not make all others unreachable. So
    /// they do for one that the storage could not read, but only until the next time: it may be read then. Whoever
    /// deletes because of what the index says asks [`Self::take_unread_index_object`] first.
    pub fn sync_index(&self) -> Result<IndexView, RepoError> {
        let mut rebuilds = 0;
        loop {
            match self.try_sync() {
                Err(RepoError::Index(IndexError::Damaged { .. } | IndexError::Stale))
                    if rebuilds < REBUILD_COUNT_MAX =>
                {
                    rebuilds += 1;
                    self.discard_index()?;
                }
                outcome => return outcome,
            }
        }
    }

    fn try_sync(&self) -> Result<IndexView, RepoError> {
        let index = self.index()?;
        let mut listed = HashSet::new();
        self.storage().list(names::INDEX, &mut |object| {
            if let Some(Named::Index(id)) = names::parse(&object.name) {
                listed.insert(id);
            }
        })?;
        let known: HashSet<_> = index.view()?.index_objects()?.into_iter().collect();
        let mut new: Vec<_> = listed.difference(&known).copied().collect();
        // From the end, so that they are added in order.
        new.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        let mut damaged = Vec::new();
        let mut unread = Vec::new();
        while !new.is_empty() {
            let batch = new.split_off(new.len().saturating_sub(BATCH_COUNT));
            let read: Vec<_> = batch.par_iter().rev().map(|id| (*id, self.read_index_object(*id))).collect();
            for (id, object) in read {
                match object {
                    Ok(object) => {
                        // What described a damaged pack before is read again: less of the pack counts now.
                        new.extend(index.state_damage(&stated_damage(&object)?)?);
                        index.add_index_object(id, new_packs(&object))?;
                    }
                    // Removed by a prune since the listing: what survives is described by newer objects.
                    Err(RepoError::Storage(StorageError::Missing { .. })) => {}
                    Err(RepoError::Damaged { .. }) => damaged.push(id),
                    Err(RepoError::Storage(error @ StorageError::Failed { .. })) => unread.push((id, error)),
                    Err(error) => return Err(error),
                }
            }
        }
        let stand_ins: HashSet<_> = unread.iter().map(|(id, _)| stand_in(id)).collect();
        damaged.extend(stand_ins.difference(&known));
        // Last, so that a pack that another object describes now never leaves the index: it would lose its local number.
        let gone = known.difference(&listed).filter(|id| !stand_ins.contains(*id));
        let gone: Vec<_> = gone.copied().collect();
        if !gone.is_empty() {
            index.remove_index_objects(&gone)?;
        }
        self.describe_from_directories(&index, &damaged)?;
        let unread = unread.into_iter().next().map(|(id, error)| UnreadIndexObject { id, error });
        *self.unread_index_object.lock().expect("no holder of this lock panics") = unread;
        Ok(index.view()?)
    }

    /// An index object that the storage could not read when the index was last brought up to date; told once. Nobody
    /// knows what it says of damage, so nothing may be deleted.
    pub fn take_unread_index_object(&self) -> Option<UnreadIndexObject> {
        self.unread_index_object.lock().expect("no holder of this lock panics").take()
    }

    /// Describes packs that no index object describes, in the name of `damaged` index objects.
    fn describe_from_directories(&self, index: &Index, damaged: &[IndexObjectId]) -> Result<(), RepoError> {
        let Some((last, others)) = damaged.split_last() else { return Ok(()) };
        let mut packs = self.list_packs()?.packs;
        index.view()?.visit_packs(&mut |_, row| {
            packs.remove(&(row.kind, row.id));
        })?;
        let mut packs: Vec<_> = packs.into_keys().collect();
        packs.sort_unstable();
        let mut rest = packs.as_slice();
        let share = packs.len().div_ceil(damaged.len());
        for id in others.iter().chain([last]) {
            let (some, after) = rest.split_at_checked(share).unwrap_or((rest, &[]));
            rest = after;
            // A pack whose directory does not open either describes nothing.
            let read = some.par_iter().filter_map(|(kind, id)| self.read_pack_directory(*kind, *id).ok());
            index.add_index_object(*id, read.map(|pack| new_pack(&pack)).collect())?;
        }
        Ok(())
    }

    /// Deletes the local index, so that the next one who asks builds it from the index objects. Nobody may hold a
    /// view of it.
    pub fn rebuild_index(&self) -> Result<(), RepoError> {
        self.discard_index()
    }

    /// Reads, opens and decodes an index object.
    pub fn read_index_object(&self, id: IndexObjectId) -> Result<IndexObject, RepoError> {
        let name = names::index_object(&id);
        let stored = match self.storage().get(&name) {
            // One bad sector must not make all else unreachable: parity may have what it held. If it has not, nothing is
            // known to be damaged: the next one who reads it may have more luck.
            Err(error @ StorageError::Failed { .. }) => {
                let left = self.read_what_is_left(&name)?;
                let mended = left.and_then(|left| self.open_index_object(id, &left).ok());
                return mended.ok_or(error.into());
            }
            stored => stored?,
        };
        let object = self.open_index_object(id, &stored);
        object.map_err(|source| RepoError::Damaged { name: name.to_string(), source })
    }

    /// Opens and decodes an index object; what is damaged is mended where its parity can.
    pub(super) fn open_index_object(
        &self,
        id: IndexObjectId,
        stored: &[u8],
    ) -> Result<IndexObject, DamageReason> {
        let open = || -> Result<IndexObject, DamageReason> {
            let plain = sealing::open_object(&self.keys, self.id, ObjectKind::Index, None, stored)?;
            Ok(IndexObject::decode(&plain)?)
        };
        let object = open().and_then(|object| {
            // Another index object under this name states facts too, but not those that are needed here.
            match sealing::payload_of(stored).is_some_and(|payload| payload_id(payload) == *id.bytes()) {
                true => Ok(object),
                false => Err(DamageReason::Id),
            }
        });
        object.or_else(|damage| {
            // The id is the hash of the payload, so parity can prove that it mended it.
            let mended = parity::repair(stored, None, id.bytes()).map_err(|_| damage.clone())?;
            let plain = sealing::open_object(&self.keys, self.id, ObjectKind::Index, None, &mended)?;
            IndexObject::decode(&plain).map_err(DamageReason::from)
        })
    }

    /// Names and lengths of all packs, from a listing made now.
    pub fn list_packs(&self) -> Result<PackListing, RepoError> {
        let mut listing = PackListing::default();
        for (folder, kind) in [(names::DATA, PackKind::Data), (names::META, PackKind::Meta)] {
            self.storage().list(folder, &mut |Listed { name, len, .. }| {
                // A pack in the folder of another is not found by its name, and so does not count.
                if let Some(Named::Pack(_, id)) = names::parse(&name) {
                    listing.packs.insert((kind, id), len);
                }
            })?;
        }
        Ok(listing)
    }

    /// What a writer may rely on: packs that the index describes and a fresh listing shows with the right length.
    ///
    /// Known packs that are missing or short are returned; what they hold counts as absent and heals by being
    /// stored again. Packs in `excluded`, which an open plan dooms, count as absent without being missing.
    pub fn writer_view(
        &self,
        excluded: &HashSet<PackId>,
    ) -> Result<(View, Vec<PackRow>, PackListing), RepoError> {
        let index = self.sync_index()?;
        let listing = self.list_packs()?;
        let mut end = 0;
        let mut absent = Vec::new();
        let mut present = Vec::new();
        index.visit_packs(&mut |number, row| {
            end = end.max(number.0 + 1);
            if listing.shows(&row) {
                if !excluded.contains(&row.id) {
                    present.push(number);
                }
            } else {
                absent.push(row);
            }
        })?;
        let packs = PackSet::below(end);
        present.into_iter().for_each(|number| packs.insert(number));
        let used = Arc::new(PackSet::below(end));
        Ok((View::new(index, Presence::Listed(packs), used), absent, listing))
    }

    /// What a reader may try: everything that the index describes.
    pub fn reader_view(&self) -> Result<View, RepoError> {
        let presence = Presence::Described(PackProbe::new(Arc::clone(self.storage())));
        Ok(View::new(self.sync_index()?, presence, Arc::default()))
    }

    /// Packs that are listed and that no index object describes, in order.
    pub fn undescribed_packs(
        &self,
        view: &IndexView,
        listing: &PackListing,
    ) -> Result<Vec<(PackKind, PackId)>, RepoError> {
        let mut described = HashSet::new();
        view.visit_packs(&mut |_, row| {
            described.insert((row.kind, row.id));
        })?;
        let packs = listing.packs.keys();
        let mut orphans: Vec<_> = packs.filter(|pack| !described.contains(pack)).copied().collect();
        orphans.sort_unstable();
        Ok(orphans)
    }

    /// Reads the directories of packs and stores index objects that describe them.
    ///
    /// A pack that does not open was torn by a crash of the storage, or belongs to a newer program: it is passed over.
    pub fn describe_packs(
        &self,
        lease: SnapshotId,
        packs: &[(PackKind, PackId)],
    ) -> Result<Vec<IndexObjectId>, RepoError> {
        let mut ids = Vec::new();
        for batch in packs.chunks(DESCRIBED_COUNT_BATCH) {
            // Whoever stored them may have ended before they were durable, and what is described is relied on.
            let stored: Vec<_> = batch.iter().map(|(kind, id)| names::pack(*kind, id)).collect();
            self.storage().make_durable(&stored)?;
            let read = batch.par_iter().filter_map(|(kind, id)| self.read_pack_directory(*kind, *id).ok());
            ids.extend(self.store_descriptions(lease, read.collect())?);
        }
        Ok(ids)
    }

    /// Stores index objects that describe these packs, and say again what is stated of their damage.
    pub fn store_descriptions(
        &self,
        lease: SnapshotId,
        mut packs: Vec<IndexedPack>,
    ) -> Result<Vec<IndexObjectId>, RepoError> {
        let mut ids = Vec::new();
        let index = self.index()?.view()?;
        while !packs.is_empty() {
            let rest = packs.split_off(IndexObject::count_that_fits(&packs));
            let stated = packs.iter().filter_map(|pack| index.stated_damage(&pack.id).transpose());
            let stated = stated.collect::<Result<Vec<_>, _>>()?.into_iter().map(statement).collect();
            let object = IndexObject::new(packs).with_damage(stated).map_err(RepoError::Unstorable)?;
            ids.push(self.store_index_object(lease, &object, &AtomicU64::new(0))?);
            packs = rest;
        }
        Ok(ids)
    }

    /// States which frames of a pack are damaged, in the place of all that was stated of it before: stores an index
    /// object that says so, and describes the pack. Whoever takes it in counts on nothing that lies in these frames.
    pub fn state_damage(
        &self,
        pack: IndexedPack,
        frames: &BTreeSet<u32>,
    ) -> Result<IndexObjectId, RepoError> {
        let known = self.index()?.view()?.stated_damage(&pack.id)?;
        let number = known.map_or(0, |known| known.number).saturating_add(1);
        let statement = DamageStatement { pack: pack.id, number, frames: frames.iter().copied().collect() };
        let object = IndexObject::new(vec![pack]).with_damage(vec![statement]);
        let object = object.map_err(RepoError::Unstorable)?;
        self.store_index_object(SnapshotId::new([0; 16]), &object, &AtomicU64::new(0))
    }

    /// What index objects that are there say a pack holds; none if no readable one describes it.
    pub fn description_of(&self, id: &PackId) -> Result<Option<IndexedPack>, RepoError> {
        let view = self.index()?.view()?;
        let Some(number) = view.pack_number(id)? else { return Ok(None) };
        for (object, packs) in view.described_packs()? {
            if !packs.contains(&number) {
                continue;
            }
            match self.read_index_object(object) {
                Ok(object) => {
                    if let Some(pack) = object.packs.into_iter().find(|pack| pack.id == *id) {
                        return Ok(Some(pack));
                    }
                }
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads header, tail and directory of a pack with as few ranged reads as possible.
    pub fn read_pack_directory(&self, kind: PackKind, id: PackId) -> Result<IndexedPack, RepoError> {
        crate::repo::pack_sealing::read_directory(self, kind, id)
    }
}

/// See [`Repo::take_unread_index_object`].
#[derive(Debug)]
pub struct UnreadIndexObject {
    /// Which.
    pub id: IndexObjectId,
    /// Why.
    pub error: StorageError,
}

/// The name under which the local index knows what directories say in the place of an index object that could not be
/// read. No object has it, so that it goes when the object is read, or is gone.
pub fn stand_in(id: &IndexObjectId) -> IndexObjectId {
    IndexObjectId::new(payload_id(&[b"in the place of ".as_slice(), id.bytes()].concat()))
}

/// A pack may be listed with or without its parity.
pub fn is_right_len(listed: u64, payload_len: u64) -> bool {
    listed == payload_len || listed == payload_len + parity::parity_len(payload_len)
}

/// Kind and id of a pack that an index object describes.
pub fn name_of(pack: &IndexedPack) -> (PackKind, PackId) {
    let kind = if pack.kind == PackKind::Data as u8 { PackKind::Data } else { PackKind::Meta };
    (kind, pack.id)
}

/// What an index object states of damage.
fn stated_damage(object: &IndexObject) -> Result<Vec<StatedDamage>, RepoError> {
    let stated = object.damage().map_err(RepoError::Unstorable)?.into_iter();
    let stated = stated.map(|DamageStatement { pack, number, frames }| StatedDamage {
        pack,
        number,
        frames: frames.into_iter().collect(),
    });
    Ok(stated.collect())
}

fn statement(stated: StatedDamage) -> DamageStatement {
    let StatedDamage { pack, number, frames } = stated;
    DamageStatement { pack, number, frames: frames.into_iter().collect() }
}

/// The rows that an index object adds to the index.
pub fn new_packs(object: &IndexObject) -> Vec<NewPack> {
    object.packs.iter().map(new_pack).collect()
}

/// The rows that one pack of an index object adds to the index.
pub fn new_pack(pack: &IndexedPack) -> NewPack {
    let (kind, _) = name_of(pack);
    let mut frames = Vec::with_capacity(pack.frames.len());
    let mut places = Vec::new();
    let mut offset = HEADER_LEN as u64;
    for (number, frame) in pack.frames.iter().enumerate() {
        frames.push(FrameRow {
            offset: offset as u32,
            stored_len: frame.stored_len,
            plain_len: frame.plain_len() as u32,
            codec: frame.codec as u8,
            depth: frame.depth,
            list_hash: frame.list_hash(),
            bases: frame.bases.clone(),
        });
        offset += PackDirectory::sealed_len(frame);
        let mut start = 0;
        for chunk in &frame.chunks {
            places.push(NewPlace { key: chunk.key, frame: number as u16, start, len: chunk.len });
            start += chunk.len;
        }
    }
    let row = PackRow {
        id: pack.id,
        kind,
        payload_len: pack.payload_len,
        wrap: pack.wrap,
        flags: pack.flags,
        generation: pack.generation,
        salt: pack.salt,
        frame_count: frames.len() as u32,
        chunk_count: places.len() as u32,
    };
    NewPack { row, frames, places }
}
