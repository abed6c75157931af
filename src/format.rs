//! Stored objects: what their bytes mean. `docs/format.md` is the law, this is its implementation.
//!
//! Every decoder is a pure function from a slice to a `Result`: it never panics, never recurses, uses memory in
//! proportion to its input, refuses trailing bytes and values above [`crate::limits`], and says which kind of object
//! it refused and why.

pub mod container;
pub mod frame;
pub mod index_object;
pub mod key_file;
pub mod keyring;
pub mod lease;
pub mod node;
pub mod pack;
pub mod parity;
pub mod repository_config;
pub mod slot;
pub mod snapshot;
pub mod tree;

use crate::wire::WireError;

/// Stored bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no valid {object}: {reason}")]
pub struct FormatError {
    /// Which kind of object was expected.
    pub object: &'static str,
    /// Why the bytes are not one.
    pub reason: WireError,
}

impl FormatError {
    /// Bytes that break `rule`.
    pub fn invalid(object: &'static str, rule: &'static str) -> Self {
        Self { object, reason: WireError::Invalid(rule) }
    }

    /// Turns what [`crate::wire`] says into an error that names the object.
    pub fn of(object: &'static str) -> impl Fn(WireError) -> Self {
        move |reason| Self { object, reason }
    }
}
