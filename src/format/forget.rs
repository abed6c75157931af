//! Forget records: which snapshots are dead, for ever (docs/format.md, "Forget records").
//!
//! Only a record drops a snapshot, never its absence: an empty or partial listing must not look like "all forgotten".

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::format::container::ObjectKind;
use crate::format::tree::Extension;
use crate::format::{ADMIN_TAG_LEN, FormatError, Tagged};
use crate::id::{SeriesId, SnapshotId};
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

const OBJECT: &str = "forget record";

/// Snapshots that were forgotten together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetRecord {
    /// Version of this encoding: 1.
    pub version: u8,
    /// When it was decided.
    pub forgotten_at: Timestamp,
    /// Name of the computer that decided it.
    pub host: String,
    /// Why, in the words of whoever did it; may be empty.
    pub reason: String,
    /// The policy that chose the snapshots, in words; empty where they were named one by one.
    pub policy: String,
    /// The snapshots, by ascending id; at least one.
    pub snapshots: Vec<ForgottenSnapshot>,
    /// More that is known of it, by ascending tag.
    pub extensions: Vec<Extension>,
    /// See [`Tagged`].
    pub tag: [u8; ADMIN_TAG_LEN],
}

/// A forgotten snapshot and its place, so that its series has no gap when it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenSnapshot {
    /// Which.
    pub id: SnapshotId,
    /// Its series.
    pub series: SeriesId,
    /// Its place in the series.
    pub sequence: u64,
}

impl ForgetRecord {
    /// Decodes a record. Whether its tag is right is for those to say who have the key.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        wire::decode(bytes, limits::FORGET_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }
}

impl Tagged for ForgetRecord {
    const KIND: ObjectKind = ObjectKind::Forget;

    fn tag(&self) -> &[u8; ADMIN_TAG_LEN] {
        &self.tag
    }

    fn set_tag(&mut self, tag: [u8; ADMIN_TAG_LEN]) {
        self.tag = tag;
    }

    fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::FORGET_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }
}

impl Validate for ForgetRecord {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        ensure(self.forgotten_at.nanoseconds < 1_000_000_000, "a time has too many nanoseconds")?;
        ensure(!self.snapshots.is_empty(), "it names no snapshot")?;
        ensure(self.snapshots.len() <= limits::FORGET_COUNT_MAX, "it names too many snapshots")?;
        ensure(self.snapshots.is_sorted_by(|a, b| a.id < b.id), "its snapshots are not in order")?;
        ensure(self.snapshots.iter().all(|one| one.sequence > 0), "a sequence number is zero")?;
        ensure(self.extensions.is_sorted_by(|a, b| a.tag < b.tag), "its extensions are not in order")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ids: &[u8]) -> ForgetRecord {
        let snapshot = |id: &u8| ForgottenSnapshot {
            id: SnapshotId::new([*id; 16]),
            series: SeriesId::new([9; 16]),
            sequence: u64::from(*id) + 1,
        };
        ForgetRecord {
            version: 1,
            forgotten_at: Timestamp::from_seconds(1_800_000_000),
            host: "host".to_owned(),
            reason: "room".to_owned(),
            policy: String::new(),
            snapshots: ids.iter().map(snapshot).collect(),
            extensions: Vec::new(),
            tag: [0; ADMIN_TAG_LEN],
        }
    }

    #[test]
    fn a_record_without_snapshots_or_with_one_twice_is_refused() {
        assert!(record(&[1, 2]).encode().is_ok());
        for ids in [&[][..], &[2, 1], &[1, 1]] {
            assert!(record(ids).encode().is_err(), "{ids:?}");
        }
    }

    #[test]
    fn unknown_extensions_survive_and_are_tagged() {
        let plain = record(&[1]);
        let mut more = plain.clone();
        more.extensions.push(Extension { tag: 77, value: b"later"[..].into() });
        assert_eq!(ForgetRecord::decode(&more.encode().unwrap()), Ok(more.clone()));
        assert_ne!(plain.tagged_bytes(), more.tagged_bytes());
    }

    #[test]
    fn every_field_but_the_tag_is_tagged() {
        let mut record = record(&[1]);
        let before = record.tagged_bytes().unwrap();
        record.set_tag([7; ADMIN_TAG_LEN]);
        assert_eq!(record.tagged_bytes().unwrap(), before);
        assert_eq!(before[0], 7);
        assert_eq!(before[1..], record.encode().unwrap()[..before.len() - 1]);
        record.snapshots[0].sequence += 1;
        assert_ne!(record.tagged_bytes().unwrap(), before);
    }
}
