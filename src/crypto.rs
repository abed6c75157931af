//! Cryptography: keys, sealing and opening, passphrases. Reviewed crates are combined here and nowhere else
//! (docs/format.md, "Keys" and "Sealed objects").
//!
//! - Secrets are wiped when dropped, compare in constant time, and have no `Clone`, `Debug` or `Serialize`.
//! - Every key comes from another one by BLAKE3 `derive_key` under a context of its own ([`context`]), so that
//!   no key serves two purposes.
//! - The nonce of a message is its position in its object, and every object has keys of its own: the pair cannot
//!   repeat, and no function takes a nonce.
//! - AES-GCM does not commit to its key. Wherever a key is derived, 32 bytes of commitment are derived beside it;
//!   they are compared first, which also tells a wrong key from damaged bytes.
//!
//! Everything is a pure function of its arguments, but for [`random`] and [`random_secret`].

pub mod context;
mod object;
mod passphrase;
mod random;
mod sealing;
mod secret;

pub use object::{COMMITMENT_BYTES, ObjectKeys, SALT_BYTES, commitment_matches, hedged_salt, object_keys};
pub use passphrase::{KdfError, KdfParams, stretch};
pub use random::{RandomError, Randomness, Repeatable, random, random_secret};
pub use sealing::{OpenError, SealingKey, TAG_BYTES};
pub use secret::{Secret, derive, derive_salted, keyed_tag};

#[cfg(test)]
pub(crate) mod fixture {
    //! What the tests of several files use.

    use super::Secret;

    /// Lower-case hexadecimal, as the vectors are written.
    pub fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The secret 00 01 02 ... that all vectors start from.
    pub fn counting_secret() -> Secret<32> {
        Secret::new(std::array::from_fn(|at| at as u8))
    }
}
