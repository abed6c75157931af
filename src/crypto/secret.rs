//! Secret bytes, and the keys that are derived from them.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Secret bytes. They live in one place on the heap, so that moving a secret leaves no copy behind, and are wiped
/// when it is dropped.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// The secret with these bytes; the copy handed in is wiped.
    pub fn new(mut bytes: [u8; N]) -> Self {
        let secret = Self::fill_with(|place| place.copy_from_slice(&bytes));
        bytes.zeroize();
        secret
    }

    /// The secret with these bytes, or `None` unless there are exactly `N` of them.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == N).then(|| Self::fill_with(|place| place.copy_from_slice(bytes)))
    }

    /// The secret that `fill` writes into the place where it will stay. It is handed zeros.
    pub fn fill_with(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0);
        secret
    }

    /// The bytes. Whoever asks takes care that no copy of them stays.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl Secret<64> {
    /// The first half as a key, the second as the commitment to it, which is no secret.
    pub fn key_and_commitment(&self) -> (Secret<32>, [u8; 32]) {
        let (key, commitment) = self.0.split_at(32);
        let key = Secret::fill_with(|place| place.copy_from_slice(key));
        (key, *commitment.first_chunk().expect("64 bytes have two halves of 32"))
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Equality takes the same time wherever the bytes differ.
impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

/// The key for the purpose that `context` (one of [`super::context`]) names.
pub fn derive(context: &'static str, material: &Secret<32>) -> Secret<32> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(material.expose());
    let mut output = hasher.finalize_xof();
    hasher.zeroize();
    let key = Secret::fill_with(|place| output.fill(place));
    output.zeroize();
    key
}

/// A key and the commitment to it, from `material` and a salt that is no secret.
pub fn derive_salted(context: &'static str, material: &Secret<32>, salt: &[u8; 32]) -> Secret<64> {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(material.expose()).update(salt);
    let mut output = hasher.finalize_xof();
    hasher.zeroize();
    let keys = Secret::fill_with(|place| output.fill(place));
    output.zeroize();
    keys
}

/// What only a holder of `key` can compute over `message`. Compare with [`super::commitment_matches`].
pub fn keyed_tag(key: &Secret<32>, message: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key.expose(), message).as_bytes()
}

#[cfg(test)]
mod tests;
