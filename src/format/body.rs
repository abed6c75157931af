//! Bodies: the long lists of a prune plan or verdict (docs/format.md, "Bodies").
//!
//! A body says nothing by itself. What a plan or verdict names it for is what counts, and that carries the tag.

use serde::{Deserialize, Serialize};

use crate::format::FormatError;
use crate::format::tree::Extension;
use crate::id::{IndexObjectId, PackId};
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

const OBJECT: &str = "body of a prune decision";

/// Packs and index objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Version of this encoding: 1.
    pub version: u8,
    /// Packs of chunks, by ascending id.
    pub data_packs: Vec<PackId>,
    /// Packs of nodes, by ascending id.
    pub meta_packs: Vec<PackId>,
    /// Index objects, by ascending id.
    pub index_objects: Vec<IndexObjectId>,
    /// More that is known of it, by ascending tag.
    pub extensions: Vec<Extension>,
}

impl Body {
    /// The body that names these, in any order.
    pub fn new(
        mut data_packs: Vec<PackId>,
        mut meta_packs: Vec<PackId>,
        mut index_objects: Vec<IndexObjectId>,
    ) -> Self {
        data_packs.sort_unstable();
        data_packs.dedup();
        meta_packs.sort_unstable();
        meta_packs.dedup();
        index_objects.sort_unstable();
        index_objects.dedup();
        Self { version: 1, data_packs, meta_packs, index_objects, extensions: Vec::new() }
    }

    /// Encodes the body, which must be within the limits.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::BODY_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }

    /// Decodes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        wire::decode(bytes, limits::BODY_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }

    /// What a plan or verdict says of its body: BLAKE3 of the encoding.
    pub fn digest(encoded: &[u8]) -> [u8; 32] {
        *blake3::hash(encoded).as_bytes()
    }
}

impl Validate for Body {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        let packs = self.data_packs.len().saturating_add(self.meta_packs.len());
        let count = packs.saturating_add(self.index_objects.len());
        ensure(count <= limits::BODY_NAME_COUNT_MAX, "it names too many objects")?;
        ensure(self.data_packs.is_sorted_by(|a, b| a < b), "its packs of chunks are not in order")?;
        ensure(self.meta_packs.is_sorted_by(|a, b| a < b), "its packs of nodes are not in order")?;
        ensure(self.index_objects.is_sorted_by(|a, b| a < b), "its index objects are not in order")?;
        ensure(self.extensions.is_sorted_by(|a, b| a.tag < b.tag), "its extensions are not in order")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stored_in_order_and_once() {
        let pack = |byte| PackId::new([byte; 32]);
        let body = Body::new(vec![pack(2), pack(1), pack(2)], vec![pack(1)], Vec::new());
        assert_eq!(body.data_packs, [pack(1), pack(2)]);
        assert_eq!(Body::decode(&body.encode().unwrap()), Ok(body.clone()));
        let unsorted = Body { data_packs: vec![pack(2), pack(1)], ..body };
        assert!(unsorted.encode().is_err());
    }

    #[test]
    fn more_names_than_the_limit_are_refused() {
        let pack = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            PackId::new(bytes)
        };
        let body = |count| Body::new((0..count).map(pack).collect(), Vec::new(), Vec::new());
        assert!(body(limits::BODY_NAME_COUNT_MAX).encode().is_ok());
        assert!(body(limits::BODY_NAME_COUNT_MAX + 1).encode().is_err());
    }
}
