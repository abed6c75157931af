//! What the counts say.
//!
//! Questions about ids wait for whoever is changing the index, and must not be asked by somebody who is: they look
//! through a transaction that is thrown away.

use redb::{ReadableDatabase, ReadableTable};

use super::super::damage::StatedDamage;
use super::super::error::{IndexError, guarded};
use super::super::rows::{StoredPack, decode_frame, opened, opened_number, pair_key};
use super::super::{DAMAGED, FRAMES, Index, PACK_NUMBERS, PACKS, PackNumber, PackRow};
use super::mark::{blocks_of, for_each_used};
use super::rows::{BLOCK_ENTRY_COUNT, NumberedPack, PackState, SnapshotRow, SnapshotState, decode_block};
use super::{BLOCKS, DYING, LOST, NUMBERED, SNAPSHOTS};
use crate::id::{PackId, SnapshotId};

/// How much of a pack is needed. All bytes are plain: before compressing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackUsage {
    /// Its number.
    pub number: PackNumber,
    /// The pack itself, with the bytes that it takes in the storage.
    pub row: PackRow,
    /// Bytes of the chunks or nodes that are needed.
    pub live_bytes: u64,
    /// Bytes of all chunks or nodes.
    pub total_bytes: u64,
    /// How many of them are needed.
    pub live_count: u32,
    /// How many there are.
    pub total_count: u32,
}

impl PackUsage {
    /// About so many bytes in the storage are not needed.
    pub fn dead_stored_bytes(&self) -> u64 {
        let dead = u128::from(self.total_bytes.saturating_sub(self.live_bytes));
        (u128::from(self.row.payload_len) * dead / u128::from(self.total_bytes.max(1))) as u64
    }
}

/// Something in a pack that is not needed, or not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadEntry {
    /// How many chunks lie before it in the pack; the directory of the pack has them in the same order.
    pub ordinal: usize,
    /// In which frame.
    pub frame: u16,
    /// First byte in the plain frame.
    pub start: u32,
    /// Its bytes.
    pub len: u32,
}

/// What is not needed of a pack: nothing refers to it, or another copy of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEntries {
    /// The pack.
    pub number: PackNumber,
    /// In the order of the pack.
    pub entries: Vec<DeadEntry>,
}

/// A snapshot that is or was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// What has become of it.
    pub state: SnapshotState,
}

/// What only one snapshot needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UniqueBytes {
    /// Bytes before compressing.
    pub plain_bytes: u64,
    /// About so many bytes in the storage.
    pub stored_bytes: u64,
    /// Chunks and nodes.
    pub count: u64,
}

/// What is needed and not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostContent {
    /// First halves of ids that no pack of the index holds.
    pub keys: Vec<[u8; 16]>,
    /// Packs that hold something of which there is no other copy, and that a listing did not show.
    pub absent_packs: Vec<PackId>,
}

impl Index {
    /// The usage of every pack in the index, by number.
    pub fn pack_usage(&self) -> Result<Vec<PackUsage>, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let (packs, numbered) = (reading.open_table(PACKS)?, reading.open_table(NUMBERED)?);
            let mut all = Vec::new();
            for row in numbered.iter()? {
                let (number, row) = row?;
                all.extend(usage(&packs, number.value(), row.value())?);
            }
            Ok(all)
        })
    }

    /// The usage of the packs that are not needed as a whole, by number: those that a prune may nominate. Others are
    /// not read.
    pub fn packs_with_dead_bytes(&self) -> Result<Vec<PackUsage>, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let (packs, numbered) = (reading.open_table(PACKS)?, reading.open_table(NUMBERED)?);
            let mut all = Vec::new();
            for row in reading.open_table(DYING)?.iter()? {
                let (number, row) = row?;
                let number = number.value();
                opened(DYING, &number.to_be_bytes(), row.value())?;
                let row =
                    numbered.get(number)?.ok_or_else(|| IndexError::damaged("a pack has no numbers"))?;
                all.extend(usage(&packs, number, row.value())?);
            }
            Ok(all)
        })
    }

    /// The usage of the packs of which frames are stated to be damaged, by number. The bytes in those frames count as
    /// not needed: nobody can read them.
    pub fn packs_with_damage(&self) -> Result<Vec<PackUsage>, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let (packs, numbered) = (reading.open_table(PACKS)?, reading.open_table(NUMBERED)?);
            let (numbers, frames) = (reading.open_table(PACK_NUMBERS)?, reading.open_table(FRAMES)?);
            let mut all = Vec::new();
            for row in reading.open_table(DAMAGED)?.iter()? {
                let (id, row) = row?;
                let damage = StatedDamage::decode(PackId::new(id.value()), row.value())?;
                let Some(number) = numbers.get(id.value())? else { continue };
                let number = opened_number(PACK_NUMBERS, &id.value(), number.value())?;
                let Some(row) = numbered.get(number)? else { continue };
                let Some(mut usage) = usage(&packs, number, row.value())? else { continue };
                for frame in damage.frames.into_iter().filter_map(|frame| u16::try_from(frame).ok()) {
                    let key = pair_key(number, frame);
                    if let Some(row) = frames.get(key)? {
                        usage.total_bytes += u64::from(decode_frame(key, row.value())?.plain_len);
                    }
                }
                all.push(usage);
            }
            all.retain(|usage| usage.total_bytes > usage.live_bytes);
            all.sort_unstable_by_key(|usage| usage.number);
            Ok(all)
        })
    }

    /// What of a pack is not needed.
    pub fn dead_entries(&self, pack: PackNumber) -> Result<DeadEntries, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let mut live = Vec::new();
            for_each_used(&reading, pack, &mut |copy, _, entry| {
                if entry.count() > 0 {
                    live.push(copy.ordinal());
                }
                Ok(())
            })?;
            let mut entries = Vec::new();
            for (row, block) in reading.open_table(BLOCKS)?.range(blocks_of(pack))?.zip(0..) {
                let (key, row) = row?;
                for (entry, at) in decode_block(key.value(), row.value())?.iter().zip(0..) {
                    let ordinal = block * BLOCK_ENTRY_COUNT + at;
                    if live.binary_search(&ordinal).is_err() {
                        let (frame, start, len) = (entry.frame(), entry.start(), entry.len);
                        entries.push(DeadEntry { ordinal, frame, start, len });
                    }
                }
            }
            Ok(DeadEntries { number: pack, entries })
        })
    }

    /// All snapshots that are or were counted, by id.
    pub fn counted_snapshots(&self) -> Result<Vec<CountedSnapshot>, IndexError> {
        guarded(|| {
            let rows = self.database.get().begin_read()?.open_table(SNAPSHOTS)?;
            let mut all = Vec::new();
            for row in rows.iter()? {
                let (id, row) = row?;
                let state = SnapshotRow::decode(&id.value(), row.value())?.state;
                all.push(CountedSnapshot { id: SnapshotId::new(id.value()), state });
            }
            Ok(all)
        })
    }

    /// What is needed and not there: a prune stops where there is any.
    pub fn lost_content(&self) -> Result<LostContent, IndexError> {
        guarded(|| {
            let reading = self.database.get().begin_read()?;
            let mut lost = LostContent::default();
            for row in reading.open_table(LOST)?.iter()? {
                lost.keys.push(row?.0.value());
            }
            let (packs, numbered) = (reading.open_table(PACKS)?, reading.open_table(NUMBERED)?);
            for row in reading.open_table(DYING)?.iter()? {
                let number = row?.0.value();
                let row =
                    numbered.get(number)?.ok_or_else(|| IndexError::damaged("a pack has no numbers"))?;
                let counts = NumberedPack::decode(number, row.value())?;
                if counts.state == PackState::Absent && counts.live_count > 0 {
                    let row = packs.get(number)?.ok_or_else(|| IndexError::damaged("a pack has no row"))?;
                    lost.absent_packs.push(StoredPack::decode(number, row.value())?.row.id);
                }
            }
            Ok(lost)
        })
    }

    /// Which of these ids a counted snapshot needs, by the first halves of the ids.
    pub fn are_live(&self, keys: &[[u8; 16]]) -> Result<Vec<bool>, IndexError> {
        Ok(self.counts_of(keys)?.into_iter().map(|count| count > 0).collect())
    }

    /// How often each of these ids is referred to - by snapshots, by nodes, and by frames that rest on it, each of them
    /// once - by what a counted snapshot needs.
    pub fn counts_of(&self, keys: &[[u8; 16]]) -> Result<Vec<u64>, IndexError> {
        let counting = self.begin_counting()?;
        let places = keys.iter().map(|key| counting.view().lookup(key)).collect::<Result<Vec<_>, _>>()?;
        let mut ledger = counting.into_ledger();
        let ledger = ledger.get_mut();
        guarded(|| {
            let mut counts = Vec::with_capacity(keys.len());
            for (key, places) in keys.iter().zip(&places) {
                let number = ledger.resolve(key, places)?;
                counts.push(match number {
                    Some(number) => u64::from(ledger.entry(number)?.count()),
                    None => 0,
                });
            }
            Ok(counts)
        })
    }

    /// What nobody would need if these snapshots were forgotten together. Nothing is changed.
    pub fn unique_bytes(&self, snapshots: &[SnapshotId]) -> Result<UniqueBytes, IndexError> {
        let mut counting = self.begin_counting()?;
        snapshots.iter().try_for_each(|id| counting.release_root(*id))?;
        let ledger = counting.into_ledger();
        let fallen: Vec<_> = ledger.get().fallen.iter().map(|(pack, fallen)| (*pack, *fallen)).collect();
        drop(ledger);
        let reading = guarded(|| Ok(self.database.get().begin_read()?))?;
        guarded(|| {
            let (packs, numbered) = (reading.open_table(PACKS)?, reading.open_table(NUMBERED)?);
            let mut unique = UniqueBytes::default();
            for (pack, (bytes, count)) in fallen {
                unique.plain_bytes += bytes;
                unique.count += count;
                let Some(row) = numbered.get(pack)? else { continue };
                if let Some(usage) = usage(&packs, pack, row.value())? {
                    let dead = PackUsage { live_bytes: usage.total_bytes.saturating_sub(bytes), ..usage };
                    unique.stored_bytes += dead.dead_stored_bytes();
                }
            }
            Ok(unique)
        })
    }
}

/// The usage of a pack that is there.
fn usage(
    packs: &impl ReadableTable<u32, &'static [u8]>,
    number: u32,
    row: &[u8],
) -> Result<Option<PackUsage>, IndexError> {
    let numbered = NumberedPack::decode(number, row)?;
    if numbered.state != PackState::Present {
        return Ok(None);
    }
    let row = packs.get(number)?.ok_or_else(|| IndexError::damaged("a pack with a number has no row"))?;
    Ok(Some(PackUsage {
        number: PackNumber(number),
        row: StoredPack::decode(number, row.value())?.row,
        live_bytes: numbered.live_bytes,
        total_bytes: numbered.total_bytes,
        live_count: numbered.live_count,
        total_count: numbered.entry_count,
    }))
}
