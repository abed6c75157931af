//! Forget records: which snapshots are dead (docs/format.md, "Forget records").
//!
//! A record is the commit point of a forget, and is never deleted. One that does not open, or whose tag is another,
//! drops nothing: its snapshots stay live, and it is told.

use std::collections::BTreeMap;

use crate::event::with_causes;
use crate::format::container::ObjectKind;
use crate::format::forget::ForgetRecord;
use crate::format::{Tagged, parity};
use crate::hash::payload_id;
use crate::id::{ForgetId, SeriesId, SnapshotId};
use crate::index::Observed;
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::names::Named;
use crate::repo::{Repo, create_resolved, names, sealing, tags};
use crate::storage::StorageError;

/// What a record says of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dead {
    /// The record.
    pub record: ForgetId,
    /// Series of the snapshot.
    pub series: SeriesId,
    /// Its place in the series.
    pub sequence: u64,
}

/// All forget records.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// The records that count.
    pub records: BTreeMap<ForgetId, ForgetRecord>,
    /// Records that drop nothing, because nobody who may destroy has tagged them.
    pub ignored: Vec<ForgetId>,
    /// Records that cannot be read, and why.
    pub damaged: Vec<(ForgetId, String)>,
    snapshots: BTreeMap<SnapshotId, Dead>,
}

impl Forgotten {
    /// What is known of a snapshot, if it is dead.
    pub fn get(&self, snapshot: SnapshotId) -> Option<Dead> {
        self.snapshots.get(&snapshot).copied()
    }

    /// All dead snapshots, whether their objects are still there or not.
    pub fn snapshots(&self) -> impl Iterator<Item = (SnapshotId, Dead)> {
        self.snapshots.iter().map(|(id, dead)| (*id, *dead))
    }

    /// How many records there are, as far as a witness can remember them: a record that is damaged was one.
    pub fn record_count(&self) -> u64 {
        (self.records.len() + self.damaged.len()) as u64
    }

    /// What nobody should miss, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let ignored = self.ignored.iter().map(|id| {
            format!("forget record {} is ignored: its tag is not that of a holder who may forget", id.short())
        });
        let damaged = self.damaged.iter().map(|(id, reason)| {
            format!(
                "forget record {} cannot be read, so what it names counts as not forgotten: {reason}",
                id.short()
            )
        });
        ignored.chain(damaged).collect()
    }

    fn add(&mut self, id: ForgetId, record: ForgetRecord) {
        for snapshot in &record.snapshots {
            let dead = Dead { record: id, series: snapshot.series, sequence: snapshot.sequence };
            self.snapshots.entry(snapshot.id).or_insert(dead);
        }
        self.records.insert(id, record);
    }
}

impl Repo {
    /// Reads all forget records. Snapshots must have been listed before.
    pub(super) fn list_forgotten(&self) -> Result<Forgotten, RepoError> {
        let mut ids = Vec::new();
        self.storage().list(names::FORGET, &mut |listed| {
            if let Some(Named::Forget(id)) = names::parse(&listed.name) {
                ids.push(id);
            }
        })?;
        ids.sort_unstable();
        let mut forgotten = Forgotten::default();
        for id in ids {
            let name = names::forget(&id);
            match self.read_control(&name, |stored| self.open_forget(id, stored)) {
                Ok(record) => forgotten.add(id, record),
                Err(RepoError::Damaged { source: DamageReason::Tag, .. }) => forgotten.ignored.push(id),
                // Records are never deleted: the witness, or a check, says that one is missing.
                Err(RepoError::Storage(StorageError::Missing { .. })) => {}
                Err(error @ (RepoError::Damaged { .. } | RepoError::Storage(_))) => {
                    forgotten.damaged.push((id, with_causes(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(forgotten)
    }

    /// Opens and decodes a forget record, and verifies its tag; what is damaged is mended where its parity can.
    pub(super) fn open_forget(&self, id: ForgetId, stored: &[u8]) -> Result<ForgetRecord, DamageReason> {
        let whole = sealing::payload_of(stored).filter(|payload| payload_id(payload) == *id.bytes());
        let mended = match whole {
            Some(_) => None,
            // The id is the hash of the payload, so parity can prove that it mended it.
            None => Some(parity::repair(stored, None, id.bytes()).map_err(|_| DamageReason::Id)?),
        };
        let payload = mended.as_deref().unwrap_or(stored);
        let plain = sealing::open_object(&self.keys, self.id, ObjectKind::Forget, None, payload)?;
        let record = ForgetRecord::decode(&plain)?;
        tags::verify(&self.keys, &record)?;
        Ok(record)
    }

    /// Stores a forget record, tagged: from then on its snapshots are dead.
    pub fn commit_forget(&self, mut record: ForgetRecord) -> Result<ForgetId, RepoError> {
        tags::tag(&self.keys, &mut record).map_err(RepoError::Unstorable)?;
        let plain = record.encode().map_err(RepoError::Unstorable)?;
        let lease = SnapshotId::new([0; 16]);
        let mut payload = sealing::seal_object(&self.keys, self.id, ObjectKind::Forget, None, lease, &plain)?;
        let id = ForgetId::new(payload_id(&payload));
        // It may destroy, so it must open again before anybody sees it.
        self.open_forget(id, &payload).map_err(RepoError::NotVerified)?;
        if self.config.parity {
            parity::append(&mut payload);
        }
        create_resolved(&**self.storage(), &names::forget(&id), &payload)?;
        Ok(id)
    }

    /// Stores the second copies of committed records and remembers on this computer that there are so many more.
    pub fn after_forget(&self, before: &Forgotten, ids: &[ForgetId]) -> Result<(), RepoError> {
        for id in ids {
            self.create_copy(&names::forget(id))?;
        }
        let count = before.record_count() + ids.len() as u64;
        self.witness(&Observed { forget_count: Some(count), ..self.nothing_observed() })
    }
}

#[cfg(test)]
mod tests;
