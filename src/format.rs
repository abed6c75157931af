//! Stored objects: what their bytes mean. `docs/format.md` is the law, this is its implementation.
//!
//! Every decoder is a pure function from a slice to a `Result`: it never panics, never recurses, uses memory in
//! proportion to its input, refuses trailing bytes and values above [`crate::limits`], and says which kind of object
//! it refused and why.

pub mod body;
pub mod container;
pub mod forget;
pub mod frame;
pub mod index_object;
pub mod key_file;
pub mod keyring;
pub mod lease;
pub mod node;
pub mod pack;
pub mod parity;
pub mod plan;
pub mod repository_config;
pub mod slot;
pub mod snapshot;
pub mod tree;

use crate::format::container::ObjectKind;
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

/// Length of the tag that ends a [`Tagged`] object.
pub const ADMIN_TAG_LEN: usize = 32;

/// An object that may destroy something. It ends in a tag that only a holder of the admin key can make
/// (docs/format.md, "Tags").
pub trait Tagged {
    /// What the object is. It is part of what is tagged, so that no tag fits an object of another kind.
    const KIND: ObjectKind;

    /// The tag that it carries.
    fn tag(&self) -> &[u8; ADMIN_TAG_LEN];

    /// Puts a tag on it.
    fn set_tag(&mut self, tag: [u8; ADMIN_TAG_LEN]);

    /// Encodes the object with its tag, which is the last field.
    fn encode(&self) -> Result<Vec<u8>, FormatError>;

    /// What the tag is computed over: number of the kind, and the encoding of all fields before the tag.
    fn tagged_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let encoded = self.encode()?;
        let fields = encoded.len().checked_sub(ADMIN_TAG_LEN).and_then(|end| encoded.get(..end));
        let fields = fields.expect("the tag is the last field, and is stored without a length");
        let mut bytes = Vec::with_capacity(1 + fields.len());
        bytes.push(Self::KIND as u8);
        bytes.extend_from_slice(fields);
        Ok(bytes)
    }
}
