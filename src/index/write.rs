//! What changes the index: adding and removing index objects, one transaction each.

use std::ops::Bound;

use redb::{Database, ReadableTable, WriteTransaction};

use crate::id::IndexObjectId;
use crate::limits::{BASE_COUNT_MAX, FRAME_BYTES_MAX, PACK_FRAME_COUNT_MAX};

use super::counts::{packs_added, packs_removed};
use super::damage::leave_out;
use super::error::IndexError;
use super::merge::{TINY_RUN_COUNT_MAX, runs_of};
use super::rows::{
    PlaceEntry, StoredPack, encode_frame, opened, opened_number, pair_key, sealed, sealed_number,
};
use super::runs::{all_runs, replace_runs, slice_of};
use super::{
    FORGOTTEN, FRAMES, FrameRow, INDEX_OBJECTS, Index, META, META_HAS_BASES, META_NEXT_PACK, NewPack,
    NewPlace, PACK_NUMBERS, PACKS, PackNumber, Place, RUNS,
};

/// Begins a transaction that is durable when its commit returns, and after a crash needs no reading of the whole
/// file to be opened again.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, IndexError> {
    let mut writing = database.begin_write()?;
    writing.set_two_phase_commit(true);
    writing.set_quick_repair(true);
    Ok(writing)
}

/// A number kept in `meta`.
pub(super) fn meta_number(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<u32, IndexError> {
    let number = meta.get(name)?.ok_or_else(|| IndexError::damaged("a number of the index is missing"))?;
    opened_number(META, name.as_bytes(), number.value())
}

/// Takes the next of a series of numbers kept in `meta`.
pub(super) fn next_number(writing: &WriteTransaction, name: &str) -> Result<u32, IndexError> {
    let mut meta = writing.open_table(META)?;
    let number = meta_number(&meta, name)?;
    // In an index that is built again the numbers begin again.
    let next = number.checked_add(1).ok_or(IndexError::Stale)?;
    meta.insert(name, sealed_number(META, name.as_bytes(), next).as_slice())?;
    Ok(number)
}

/// Adds an index object. Says how many places were new.
pub(super) fn add_index_object(
    index: &Index,
    id: IndexObjectId,
    packs: Vec<NewPack>,
) -> Result<u64, IndexError> {
    packs.iter().try_for_each(validate)?;
    let writing = begin(index.database.get())?;
    if writing.open_table(INDEX_OBJECTS)?.get(id.bytes())?.is_some() {
        writing.abort()?;
        return Ok(0);
    }
    let mut numbers = Vec::with_capacity(4 * packs.len());
    if packs.iter().flat_map(|pack| &pack.frames).any(|frame| !frame.bases.is_empty()) {
        let yes = sealed_number(META, META_HAS_BASES.as_bytes(), 1);
        writing.open_table(META)?.insert(META_HAS_BASES, yes.as_slice())?;
    }
    let mut entries = Vec::with_capacity(packs.iter().map(|pack| pack.places.len()).sum());
    let mut new_packs = Vec::new();
    for mut pack in packs {
        leave_out(&writing, &mut pack)?;
        let number = match describe_known_pack(&writing, &pack)? {
            Some(number) => number,
            None => {
                let number = add_pack(&writing, &pack, &mut entries)?;
                new_packs.push((number, pack));
                number
            }
        };
        numbers.extend_from_slice(&number.0.to_le_bytes());
    }
    writing
        .open_table(INDEX_OBJECTS)?
        .insert(id.bytes(), sealed(INDEX_OBJECTS, id.bytes(), numbers).as_slice())?;
    let added_count = entries.len() as u64;
    add_entries(&writing, entries)?;
    packs_added(index, &writing, new_packs)?;
    writing.commit()?;
    Ok(added_count)
}

/// Checks what the rows cannot hold.
fn validate(pack: &NewPack) -> Result<(), IndexError> {
    let rule =
        |holds: bool, rule: &'static str| if holds { Ok(()) } else { Err(IndexError::Invalid { rule }) };
    rule(pack.frames.len() <= PACK_FRAME_COUNT_MAX, "a pack has too many frames")?;
    rule(pack.frames.iter().all(|frame| frame.bases.len() <= BASE_COUNT_MAX), "a frame has too many bases")?;
    for place in &pack.places {
        rule(usize::from(place.frame) < pack.frames.len(), "a chunk lies in a frame that is not there")?;
        let end = u64::from(place.start) + u64::from(place.len);
        rule(end <= FRAME_BYTES_MAX as u64, "a chunk reaches beyond the largest frame")?;
        // The start has 24 bits. Only an empty chunk at the very end could need more.
        rule(place.start < FRAME_BYTES_MAX as u32, "a chunk begins behind the largest frame")?;
    }
    Ok(())
}

/// The number of a pack that is in the index, now described once more.
fn describe_known_pack(writing: &WriteTransaction, pack: &NewPack) -> Result<Option<PackNumber>, IndexError> {
    let number = match writing.open_table(PACK_NUMBERS)?.get(pack.row.id.bytes())? {
        Some(number) => opened_number(PACK_NUMBERS, pack.row.id.bytes(), number.value())?,
        None => return Ok(None),
    };
    let mut packs = writing.open_table(PACKS)?;
    let mut stored = stored_pack(&packs, number)?;
    stored.described += 1;
    packs.insert(number, stored.encode(number).as_slice())?;
    Ok(Some(PackNumber(number)))
}

fn stored_pack(
    packs: &impl ReadableTable<u32, &'static [u8]>,
    number: u32,
) -> Result<StoredPack, IndexError> {
    let row = packs.get(number)?.ok_or_else(|| IndexError::damaged("a pack with a number has no row"))?;
    StoredPack::decode(number, row.value())
}

/// Gives a new pack its number, stores its frames, and collects its places.
fn add_pack(
    writing: &WriteTransaction,
    pack: &NewPack,
    entries: &mut Vec<PlaceEntry>,
) -> Result<PackNumber, IndexError> {
    let number = PackNumber(next_number(writing, META_NEXT_PACK)?);
    let mut own: Vec<_> = pack
        .places
        .iter()
        .map(|place| {
            let NewPlace { key, frame, start, len } = *place;
            PlaceEntry::new(&key, Place { pack: number, frame, start, len })
        })
        .collect();
    own.sort_unstable();
    own.dedup_by(|later, earlier| later.is_same_place(earlier));
    let place_count =
        u32::try_from(own.len()).map_err(|_| IndexError::Invalid { rule: "too many chunks" })?;
    entries.append(&mut own);
    let id = pack.row.id.bytes();
    writing.open_table(PACK_NUMBERS)?.insert(id, sealed_number(PACK_NUMBERS, id, number.0).as_slice())?;
    let stored = StoredPack { row: pack.row.clone(), described: 1, place_count };
    if writing.open_table(PACKS)?.insert(number.0, stored.encode(number.0).as_slice())?.is_some() {
        return Err(IndexError::damaged("a number was given to two packs"));
    }
    add_frames(writing, number, &pack.frames)?;
    Ok(number)
}

/// Appends the frames of a new pack: its number is the highest, so they belong at the end of the table.
fn add_frames(writing: &WriteTransaction, pack: PackNumber, frames: &[FrameRow]) -> Result<(), IndexError> {
    let mut table = writing.open_table(FRAMES)?;
    let mut cursor = table.upper_bound_mut(Bound::<[u8; 6]>::Unbounded)?;
    for (part, frame) in (0..=u16::MAX).zip(frames) {
        let key = pair_key(pack.0, part);
        cursor.insert_before(key, encode_frame(key, frame).as_slice())?;
    }
    cursor.close()?;
    Ok(())
}

/// Writes the new places as one run for each slice, together with the tiny runs that are there.
fn add_entries(writing: &WriteTransaction, mut entries: Vec<PlaceEntry>) -> Result<(), IndexError> {
    // Stable, because it makes use of the packs being in order already.
    entries.sort();
    let runs = all_runs(&writing.open_table(RUNS)?)?;
    let slice_of = |entry: &PlaceEntry| slice_of(&entry.prefix());
    for fresh in entries.chunk_by(|a, b| slice_of(a) == slice_of(b)) {
        let slice = fresh.first().map_or(0, slice_of);
        let mut tiny = runs_of(&runs, slice);
        tiny.retain(|(_, row)| row.count <= TINY_RUN_COUNT_MAX);
        replace_runs(writing, slice, &tiny, fresh)?;
    }
    Ok(())
}

/// Removes index objects. Says how many places belong to packs that are thereby forgotten.
pub(super) fn remove_index_objects(index: &Index, ids: &[IndexObjectId]) -> Result<u64, IndexError> {
    let writing = begin(index.database.get())?;
    let forgotten_count = remove_in(index, &writing, ids)?;
    writing.commit()?;
    Ok(forgotten_count)
}

/// As [`remove_index_objects`], in a transaction that somebody else commits.
pub(super) fn remove_in(
    index: &Index,
    writing: &WriteTransaction,
    ids: &[IndexObjectId],
) -> Result<u64, IndexError> {
    let mut forgotten_count = 0;
    let mut forgotten = Vec::new();
    for id in ids {
        let numbers = match writing.open_table(INDEX_OBJECTS)?.remove(id.bytes())? {
            Some(numbers) => opened(INDEX_OBJECTS, id.bytes(), numbers.value())?.to_vec(),
            None => continue,
        };
        for number in numbers.as_chunks().0 {
            let number = u32::from_le_bytes(*number);
            if let Some(place_count) = release_pack(writing, number)? {
                forgotten_count += u64::from(place_count);
                forgotten.push(PackNumber(number));
            }
        }
    }
    packs_removed(index, writing, &forgotten)?;
    Ok(forgotten_count)
}

/// One index object less describes the pack; the last one takes it along. Says how many places it had then.
fn release_pack(writing: &WriteTransaction, number: u32) -> Result<Option<u32>, IndexError> {
    let mut packs = writing.open_table(PACKS)?;
    let mut stored = stored_pack(&packs, number)?;
    stored.described = stored.described.saturating_sub(1);
    if stored.described > 0 {
        packs.insert(number, stored.encode(number).as_slice())?;
        return Ok(None);
    }
    packs.remove(number)?;
    writing.open_table(PACK_NUMBERS)?.remove(stored.row.id.bytes())?;
    let frames = pair_key(number, 0)..=pair_key(number, u16::MAX);
    writing.open_table(FRAMES)?.retain_in(frames, |_, _| false)?;
    if stored.place_count > 0 {
        let count = sealed_number(FORGOTTEN, &number.to_be_bytes(), stored.place_count);
        writing.open_table(FORGOTTEN)?.insert(number, count.as_slice())?;
    }
    Ok(Some(stored.place_count))
}
