//! The keyring: all secrets of a repository (docs/format.md, "Keyring"). It is stored sealed under the unlock key.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::format::FormatError;
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

const OBJECT: &str = "keyring";

/// The opened bytes of a keyring, as fields. They are wiped when dropped.
#[derive(PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct KeyringFields {
    /// Version of this encoding: 1.
    pub version: u8,
    /// Number of this keyring; the highest counts.
    pub number: u64,
    /// The secret from which everything that lasts as long as the repository is derived.
    pub master: [u8; 32],
    /// Roots of sealed objects, by ascending number.
    pub generations: Vec<GenerationFields>,
}

/// The roots of one generation.
#[derive(PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct GenerationFields {
    /// Its number, from 1.
    pub number: u32,
    /// Seals packs and snapshots.
    pub content_root: [u8; 32],
    /// Seals index objects, leases, and what prune decides.
    pub catalogue_root: [u8; 32],
}

impl KeyringFields {
    /// Encodes the keyring; the bytes are wiped when dropped.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, FormatError> {
        wire::encode(self, limits::SETTINGS_BYTES_MAX).map(Zeroizing::new).map_err(FormatError::of(OBJECT))
    }

    /// Decodes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        wire::decode(bytes, limits::SETTINGS_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }
}

impl Validate for KeyringFields {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        ensure(!self.generations.is_empty(), "it has no generation")?;
        let mut pairs = self.generations.iter().zip(self.generations.iter().skip(1));
        ensure(pairs.all(|(one, next)| one.number < next.number), "its generations are not in order")
    }
}
