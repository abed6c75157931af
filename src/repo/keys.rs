//! The secrets of an unlocked repository, and what is derived from them (docs/format.md, "Keys").

use crate::crypto::{Randomness, Secret, context, derive};
use crate::format::keyring::{GenerationFields, KeyringFields};
use crate::hash::IdKeys;

/// The roots of one generation, with the key that hedges salts.
pub struct Generation {
    /// Its number.
    pub number: u32,
    /// Seals packs and snapshots.
    pub content_root: Secret<32>,
    /// Seals index objects, leases and what prune decides.
    pub catalogue_root: Secret<32>,
    /// Goes into every salt.
    pub hedge: Secret<32>,
}

/// All secrets of a repository.
pub struct Keys {
    /// Make ids.
    pub ids: IdKeys,
    /// Makes the gear table of the chunker.
    pub chunker: Secret<32>,
    /// Decides where nodes are split.
    pub split: Secret<32>,
    /// Tags the settings.
    pub config: Secret<32>,
    /// Tags what may destroy.
    pub admin: Secret<32>,
    /// Tells two key sets apart without saying anything about them.
    pub fingerprint: [u8; 32],
    /// Goes into every salt.
    pub randomness: Randomness,
    generations: Vec<Generation>,
}

impl Keys {
    /// The secrets in a keyring.
    pub fn new(keyring: &KeyringFields) -> Self {
        let master = Secret::fill_with(|place| place.copy_from_slice(&keyring.master));
        Self {
            ids: IdKeys::new(&master),
            chunker: derive(context::CHUNKER, &master),
            split: derive(context::SPLIT, &master),
            config: derive(context::CONFIG, &master),
            admin: derive(context::ADMIN, &master),
            fingerprint: *derive(context::FINGERPRINT, &master).expose(),
            randomness: Randomness::System,
            generations: keyring.generations.iter().map(Generation::new).collect(),
        }
    }

    /// The generation that new objects are sealed under: the newest.
    pub fn newest(&self) -> &Generation {
        self.generations.last().expect("a keyring without generations does not decode")
    }

    /// The generation with this number.
    pub fn generation(&self, number: u32) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.number == number)
    }
}

impl Generation {
    fn new(fields: &GenerationFields) -> Self {
        let catalogue_root = Secret::fill_with(|place| place.copy_from_slice(&fields.catalogue_root));
        Self {
            number: fields.number,
            content_root: Secret::fill_with(|place| place.copy_from_slice(&fields.content_root)),
            hedge: derive(context::HEDGE, &catalogue_root),
            catalogue_root,
        }
    }
}
