//! Statements of a registered writer (docs/format.md, "Leases").

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::format::FormatError;
use crate::format::tree::Extension;
use crate::id::{PackId, SnapshotId};
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

const OBJECT: &str = "lease statement";

/// What a writer says of itself, so that prune knows of it. A lease blocks nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatement {
    /// Version of this encoding: 1.
    pub version: u8,
    /// The lease.
    pub lease: SnapshotId,
    /// Number of the statement, from 0.
    pub number: u32,
    /// What the writer does: `backup`.
    pub purpose: String,
    /// Name of its computer.
    pub host: String,
    /// Number of its process.
    pub process: u32,
    /// Identifies the run of the operating system.
    pub boot: String,
    /// When it began.
    pub started_at: Timestamp,
    /// The highest prune plan it has seen: its number and the BLAKE3 of its payload.
    pub seen: Option<SeenPlan>,
    /// Packs of that plan which it already uses, by ascending id.
    pub holds: Vec<PackId>,
    /// Snapshots to be treated as live while the lease lasts, by ascending id.
    pub pins: Vec<SnapshotId>,
    /// More that is known of it, by ascending tag.
    pub extensions: Vec<Extension>,
}

/// A prune plan that a writer has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenPlan {
    /// Its number.
    pub number: u64,
    /// BLAKE3 of its payload; an acknowledgement of other bytes counts as none.
    pub hash: [u8; 32],
}

impl LeaseStatement {
    /// Encodes the statement, which must be within the limits.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::SMALL_OBJECT_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }

    /// Decodes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        wire::decode(bytes, limits::SMALL_OBJECT_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }
}

impl Validate for LeaseStatement {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        ensure(self.started_at.nanoseconds < 1_000_000_000, "a time has too many nanoseconds")?;
        let mut pairs = self.holds.iter().zip(self.holds.iter().skip(1));
        ensure(pairs.all(|(one, next)| one < next), "its holds are not in order")?;
        let mut pairs = self.pins.iter().zip(self.pins.iter().skip(1));
        ensure(pairs.all(|(one, next)| one < next), "its pins are not in order")?;
        let mut pairs = self.extensions.iter().zip(self.extensions.iter().skip(1));
        ensure(pairs.all(|(one, next)| one.tag < next.tag), "its extensions are not in order")
    }
}
