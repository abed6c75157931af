//! Snapshots and tombstones (docs/format.md, "Snapshots").

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::format::container::ObjectKind;
use crate::format::tree::Extension;
use crate::format::{ADMIN_TAG_LEN, FormatError, Tagged};
use crate::id::{NodeId, SeriesId, SnapshotId};
use crate::limits;
use crate::wire::{self, Bytes, Validate, WireError, ensure};

const OBJECT: &str = "snapshot";

/// A root folder with its time, host and tags: the commit of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of this encoding: 1.
    pub version: u8,
    /// The lease that committed it; also its name.
    pub id: SnapshotId,
    /// Host and paths that it continues.
    pub series: SeriesId,
    /// Place in its series, from 1.
    pub sequence: u64,
    /// The snapshot before it in its series.
    pub previous: Option<SnapshotId>,
    /// When the backup began.
    pub started_at: Timestamp,
    /// When it was committed.
    pub finished_at: Timestamp,
    /// Name of the computer.
    pub host: String,
    /// Name of the user that ran the backup.
    pub user: String,
    /// How names are encoded: 0 bytes as Unix has them, 1 WTF-8.
    pub name_encoding: u8,
    /// What was backed up: absolute paths, in order.
    pub paths: Vec<Bytes>,
    /// Labels, in order.
    pub tags: Vec<String>,
    /// The folder `/` of this snapshot.
    pub root: NodeId,
    /// What it holds.
    pub totals: Totals,
    /// How many problems there were.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<SnapshotProblem>,
    /// Names of the users and groups that its entries name by number.
    pub owners: Vec<OwnerName>,
    /// The prune plan that the writer had seen.
    pub seen: Option<u64>,
    /// Whether packs were opened and verified before they were stored.
    pub verified: bool,
    /// Version of the program.
    pub program: String,
    /// More that is known of it, by ascending tag.
    pub extensions: Vec<Extension>,
}

/// Counts of what a snapshot holds and of what it added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Files, links and devices.
    pub files: u64,
    /// Folders.
    pub directories: u64,
    /// Bytes of all files as they would be restored.
    pub bytes: u64,
    /// Bytes of chunks that were new.
    pub bytes_new: u64,
    /// Bytes that the storage received.
    pub bytes_stored: u64,
}

/// Something that could not be stored as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProblem {
    /// What it is about.
    pub path: Bytes,
    /// One sentence.
    pub message: String,
}

/// The name of a user or group at the time of the backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnerName {
    /// Whether the number is that of a group.
    pub is_group: bool,
    /// The number in the entries.
    pub number: u32,
    /// The name.
    pub name: String,
}

/// The defined extensions of a snapshot.
pub mod tag {
    /// What clocks showed where the backup ran: [`super::UtcOffset`].
    pub const UTC_OFFSET: u32 = 1;
    /// The forgotten snapshot that this one brings back: [`super::InPlaceOf`].
    pub const IN_PLACE_OF: u32 = 2;
    /// The damaged snapshot of which this one holds what is left: [`super::LeftOf`].
    pub const LEFT_OF: u32 = 3;
    /// The snapshot of another repository that this one is a copy of: [`super::CopyOf`].
    pub const COPY_OF: u32 = 4;
}

/// How far the clocks where a backup ran were ahead of UTC when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtcOffset {
    /// Seconds east of UTC; less than 26 hours in either direction.
    pub seconds: i64,
}

impl Validate for UtcOffset {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.seconds.unsigned_abs() < 26 * 3600, "it is no offset from UTC")
    }
}

/// The forgotten snapshot whose content a snapshot brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlaceOf {
    /// The forgotten snapshot; it stays dead.
    pub snapshot: SnapshotId,
    /// The place in the series that a policy gives to the one that brings it back.
    pub sequence: u64,
}

impl Validate for InPlaceOf {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.sequence > 0, "its sequence number is zero")
    }
}

/// The damaged snapshot of which a snapshot holds what could still be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOf {
    /// The damaged snapshot; it stays as it is.
    pub snapshot: SnapshotId,
    /// The place in the series that a policy gives to the one that holds what is left.
    pub sequence: u64,
}

impl Validate for LeftOf {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.sequence > 0, "its sequence number is zero")
    }
}

/// The snapshot of another repository that a snapshot is a copy of; of a copy of a copy, the first one of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOf {
    /// The snapshot in the repository where it was made.
    pub snapshot: SnapshotId,
}

impl Validate for CopyOf {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

const EXTENSION_BYTES_MAX: usize = 64;

fn read_extension<T: serde::de::DeserializeOwned + Validate>(all: &[Extension], tag: u32) -> Option<T> {
    let extension = all.iter().find(|extension| extension.tag == tag)?;
    // Extensions are optional: one that cannot be read counts as none.
    wire::decode(extension.value.as_slice(), EXTENSION_BYTES_MAX).ok()
}

impl Snapshot {
    /// What clocks showed where the backup ran, if that was recorded.
    pub fn utc_offset(&self) -> Option<UtcOffset> {
        read_extension(&self.extensions, tag::UTC_OFFSET)
    }

    /// Records what clocks show where the backup runs.
    pub fn set_utc_offset(&mut self, offset: UtcOffset) -> Result<(), FormatError> {
        self.set_extension(tag::UTC_OFFSET, &offset)
    }

    /// The forgotten snapshot that this one brings back, if it does.
    pub fn in_place_of(&self) -> Option<InPlaceOf> {
        read_extension(&self.extensions, tag::IN_PLACE_OF)
    }

    /// Records that this snapshot brings back a forgotten one.
    pub fn set_in_place_of(&mut self, forgotten: InPlaceOf) -> Result<(), FormatError> {
        self.set_extension(tag::IN_PLACE_OF, &forgotten)
    }

    /// The damaged snapshot of which this one holds what is left, if it does.
    pub fn left_of(&self) -> Option<LeftOf> {
        read_extension(&self.extensions, tag::LEFT_OF)
    }

    /// Records that this snapshot holds what is left of a damaged one.
    pub fn set_left_of(&mut self, damaged: LeftOf) -> Result<(), FormatError> {
        self.set_extension(tag::LEFT_OF, &damaged)
    }

    /// The snapshot of another repository that this one is a copy of, if it is.
    pub fn copy_of(&self) -> Option<CopyOf> {
        read_extension(&self.extensions, tag::COPY_OF)
    }

    /// Records that this snapshot is a copy.
    pub fn set_copy_of(&mut self, original: CopyOf) -> Result<(), FormatError> {
        self.set_extension(tag::COPY_OF, &original)
    }

    /// The id under which it was made: what it is a copy of, or its own. The same for all copies of one backup.
    pub fn original(&self) -> SnapshotId {
        self.copy_of().map_or(self.id, |original| original.snapshot)
    }

    /// Forgets places in the series that belong to other snapshots of the same repository: for a copy, whose own place
    /// says it all.
    pub fn forget_places(&mut self) {
        self.extensions.retain(|extension| extension.tag != tag::IN_PLACE_OF);
        if let Some(damaged) = self.left_of() {
            let left_of = LeftOf { sequence: self.sequence, ..damaged };
            // It was there before, with another number.
            let _ = self.set_left_of(left_of);
        }
    }

    /// Its place in its series where a policy looks at it: one that was made of another has the place of that one.
    pub fn place(&self) -> u64 {
        let forgotten = self.in_place_of().map(|forgotten| forgotten.sequence);
        let damaged = self.left_of().map(|damaged| damaged.sequence);
        damaged.or(forgotten).unwrap_or(self.sequence)
    }

    fn set_extension<T: Serialize + Validate>(&mut self, tag: u32, value: &T) -> Result<(), FormatError> {
        let value = wire::encode(value, EXTENSION_BYTES_MAX).map_err(FormatError::of(OBJECT))?;
        let extension = Extension { tag, value: value.into() };
        self.extensions.retain(|before| before.tag != tag);
        let at = self.extensions.partition_point(|before| before.tag < tag);
        self.extensions.insert(at, extension);
        Ok(())
    }

    /// Encodes the snapshot, which must be within the limits.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::SMALL_OBJECT_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }

    /// Decodes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        wire::decode(bytes, limits::SMALL_OBJECT_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }
}

impl Validate for Snapshot {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        ensure(self.name_encoding <= 1, "its name encoding is unknown")?;
        ensure(self.sequence > 0, "its sequence number is zero")?;
        for time in [self.started_at, self.finished_at] {
            ensure(time.nanoseconds < 1_000_000_000, "a time has too many nanoseconds")?;
        }
        ensure(self.problems.len() <= limits::PROBLEM_COUNT_MAX, "it lists too many problems")?;
        ensure(self.problem_count >= self.problems.len() as u64, "it counts fewer problems than it lists")?;
        ensure(self.owners.len() <= limits::OWNER_COUNT_MAX, "it names too many owners")?;
        let key = |owner: &OwnerName| (owner.is_group, owner.number);
        let mut pairs = self.owners.iter().zip(self.owners.iter().skip(1));
        ensure(pairs.all(|(one, next)| key(one) < key(next)), "its owners are not in order")?;
        let mut pairs = self.extensions.iter().zip(self.extensions.iter().skip(1));
        ensure(pairs.all(|(one, next)| one.tag < next.tag), "its extensions are not in order")
    }
}

/// Stands in the place of a snapshot whose writer was fenced: that snapshot can never be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Version of this encoding: 1.
    pub version: u8,
    /// The fenced lease.
    pub lease: SnapshotId,
    /// The prune plan that needed it settled.
    pub plan: u64,
    /// Why it was fenced, for people.
    pub reason: String,
    /// See [`Tagged`].
    pub tag: [u8; ADMIN_TAG_LEN],
}

impl Tombstone {
    /// Decodes a tombstone.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        wire::decode(bytes, limits::SMALL_OBJECT_BYTES_MAX).map_err(FormatError::of("tombstone"))
    }
}

impl Tagged for Tombstone {
    const KIND: ObjectKind = ObjectKind::Tombstone;

    fn tag(&self) -> &[u8; ADMIN_TAG_LEN] {
        &self.tag
    }

    fn set_tag(&mut self, tag: [u8; ADMIN_TAG_LEN]) {
        self.tag = tag;
    }

    fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::SMALL_OBJECT_BYTES_MAX).map_err(FormatError::of("tombstone"))
    }
}

impl Validate for Tombstone {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")
    }
}
