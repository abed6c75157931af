//! Slots: one way each to unlock a repository (docs/format.md, "Slots").
//!
//! ```text
//! magic 8 | head | sealed unlock key 48 | checksum 8
//! ```
//!
//! The checksum is not keyed: it tells a damaged slot from a wrong passphrase.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::format::FormatError;
use crate::id::SlotId;
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

const MAGIC: [u8; 8] = [0x89, b'K', b'L', b'S', 0x0d, 0x0a, 0x1a, 0x0a];
const OBJECT: &str = "slot";
const SEALED_LEN: usize = 48;
const CHECKSUM_LEN: usize = 8;

/// What opens a slot. The order of the variants is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotKind {
    /// A passphrase, stretched by Argon2id 1.3.
    Passphrase {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes that are computed side by side.
        lanes: u32,
    },
    /// 32 random bytes in a file.
    KeyFile,
}

/// The clear part of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotHead {
    /// Version of this encoding: 1.
    pub version: u8,
    /// Its id.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// When it was made.
    pub created_at: Timestamp,
    /// What people call it.
    pub label: String,
    /// Salt of the derivation.
    pub salt: [u8; 32],
    /// Commitment to the derived key; compared before anything is opened.
    pub commitment: [u8; 32],
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The clear part.
    pub head: SlotHead,
    /// The unlock key, sealed, with its tag.
    pub sealed: [u8; SEALED_LEN],
}

impl SlotHead {
    /// The bytes that are authenticated with the sealed key; the repository id is appended to them.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::SETTINGS_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }
}

impl Slot {
    /// Encodes the slot.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.head.encode()?);
        bytes.extend(self.sealed);
        bytes.extend(checksum(&bytes));
        Ok(bytes)
    }

    /// Decodes a slot and compares its checksum.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let early = || FormatError::invalid(OBJECT, "it ends early");
        let (rest, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or_else(early)?;
        if *sum != checksum(rest) {
            return Err(FormatError::invalid(OBJECT, "its checksum does not match"));
        }
        let (magic, rest) = rest.split_first_chunk::<8>().ok_or_else(early)?;
        if *magic != MAGIC {
            return Err(FormatError::invalid(OBJECT, "the magic bytes are missing"));
        }
        let (head, sealed) = rest.split_last_chunk::<SEALED_LEN>().ok_or_else(early)?;
        let head = wire::decode(head, limits::SETTINGS_BYTES_MAX).map_err(FormatError::of(OBJECT))?;
        Ok(Self { head, sealed: *sealed })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    *blake3::hash(bytes).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

impl Validate for SlotHead {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        ensure(self.created_at.nanoseconds < 1_000_000_000, "a time has too many nanoseconds")?;
        match self.kind {
            SlotKind::Passphrase { memory_kib, passes, lanes } => {
                ensure((64 << 10..=2 << 20).contains(&memory_kib), "its memory is out of bounds")?;
                ensure((3..=16).contains(&passes), "its passes are out of bounds")?;
                ensure((1..=16).contains(&lanes), "its lanes are out of bounds")
            }
            SlotKind::KeyFile => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        let kind = SlotKind::Passphrase { memory_kib: 256 << 10, passes: 3, lanes: 4 };
        let head = SlotHead {
            version: 1,
            id: SlotId::new([1; 16]),
            kind,
            created_at: Timestamp::from_seconds(5),
            label: "office".to_owned(),
            salt: [2; 32],
            commitment: [3; 32],
        };
        Slot { head, sealed: [4; 48] }
    }

    #[test]
    fn a_slot_survives_encoding() {
        assert_eq!(Slot::decode(&slot().encode().unwrap()), Ok(slot()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = slot().encode().unwrap();
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Slot::decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Slot::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn costs_that_would_exhaust_the_reader_are_refused() {
        let mut slot = slot();
        slot.head.kind = SlotKind::Passphrase { memory_kib: 4 << 20, passes: 3, lanes: 4 };
        assert!(slot.encode().is_err());
    }
}
