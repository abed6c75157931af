//! The keys of one stored object (docs/format.md, "Sealed objects").

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{SealingKey, Secret, context};

/// Length of the salt in the header of an object.
pub const SALT_BYTES: usize = 32;
/// Length of the commitment to a key.
pub const COMMITMENT_BYTES: usize = 32;

/// The keys of one object. No other object has the same ones, because its header holds a salt of its own.
pub struct ObjectKeys {
    /// Seals the messages of the object: the frames of a pack, or the one message of anything else.
    pub message: SealingKey,
    /// Seals directory and tail of a pack.
    pub directory: SealingKey,
    /// Stands at the end of the header. Another value there means another key or an altered header.
    pub commitment: [u8; COMMITMENT_BYTES],
}

/// The keys of the object with this header, which is everything before the commitment.
///
/// The whole header enters the derivation: with one bit changed, nothing opens and the commitment differs.
pub fn object_keys(root: &Secret<32>, header_without_commitment: &[u8]) -> ObjectKeys {
    let mut hasher = blake3::Hasher::new_derive_key(context::OBJECT);
    hasher.update(root.expose()).update(header_without_commitment);
    let mut output = hasher.finalize_xof();
    hasher.zeroize();
    let message = Secret::fill_with(|place| output.fill(place));
    let directory = Secret::fill_with(|place| output.fill(place));
    let mut commitment = [0; COMMITMENT_BYTES];
    output.fill(&mut commitment);
    output.zeroize();
    ObjectKeys { message: SealingKey::new(&message), directory: SealingKey::new(&directory), commitment }
}

/// The salt of a new object. It differs between any two objects as long as *one* of its ingredients does: the
/// random bytes, the lease that writes it, the counter inside the lease, or the content. So even the two halves of a
/// cloned virtual machine, with the same randomness and lease, never seal different content under one key.
///
/// `hedge` comes from a catalogue root under [`context::HEDGE`]; `content` is a hash over what will be sealed.
pub fn hedged_salt(
    hedge: &Secret<32>,
    random: &[u8; 32],
    lease: &[u8; 16],
    counter: u64,
    content: &[u8; 32],
) -> [u8; SALT_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(hedge.expose());
    hasher.update(random).update(lease).update(&counter.to_le_bytes()).update(content);
    let salt = *hasher.finalize().as_bytes();
    hasher.zeroize();
    salt
}

/// Whether two commitments or tags are equal, in a time that does not depend on where they differ.
pub fn commitment_matches(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.as_slice().ct_eq(b.as_slice()).into()
}

#[cfg(test)]
mod tests;
