//! Bytes to ids (docs/format.md, "Identities").
//!
//! Chunks, directory nodes and list nodes are named by BLAKE3 under a key of their own each: equal bytes of
//! different kinds never share an id, and an id says nothing to those without the keys. Stored objects are named
//! by plain BLAKE3, so that whoever keeps them can verify them.

use crate::crypto::{Secret, context, derive};
use crate::id::{ChunkId, ListId, NodeId};

/// The keys of all ids. They last as long as the repository, because other keys would end deduplication.
///
/// One instance serves all threads.
pub struct IdKeys {
    chunk: Secret<32>,
    node: Secret<32>,
    list: Secret<32>,
}

impl IdKeys {
    /// The keys that belong to this master secret.
    pub fn new(master: &Secret<32>) -> Self {
        Self {
            chunk: derive(context::CHUNK_ID, master),
            node: derive(context::NODE_ID, master),
            list: derive(context::LIST_ID, master),
        }
    }

    /// The id of a chunk with these bytes.
    pub fn chunk(&self, bytes: &[u8]) -> ChunkId {
        ChunkId::new(keyed(&self.chunk, bytes))
    }

    /// The id of a directory node with this encoding.
    pub fn node(&self, bytes: &[u8]) -> NodeId {
        NodeId::new(keyed(&self.node, bytes))
    }

    /// The id of a list node with this encoding.
    pub fn list(&self, bytes: &[u8]) -> ListId {
        ListId::new(keyed(&self.list, bytes))
    }
}

/// The name of a stored object with this payload: pack, index object, and the like.
pub fn payload_id(payload: &[u8]) -> [u8; 32] {
    *blake3::hash(payload).as_bytes()
}

// The function for a whole slice skips the state that a hasher kept ready would have to copy.
fn keyed(key: &Secret<32>, bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key.expose(), bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    //! Vectors computed with the `blake3` package of Python.

    use super::*;
    use crate::crypto::fixture::{counting_secret, hex};

    #[test]
    fn content_has_the_ids_it_always_had() {
        let keys = IdKeys::new(&counting_secret());
        let vectors = [
            (
                keys.chunk(b"content").to_string(),
                "858f87049f57c5059c761e9bff4558ae40a90ff464e3f7f0dc09d5114be8f6ba",
            ),
            (keys.chunk(b"").to_string(), "8d98e11c56a8426a8c3f9d47839d5fe49e07a91b7472db826b386e87e118b1ce"),
            (
                keys.node(b"content").to_string(),
                "ba2918f2388c880a442a9108e28a6bd868cf839bc523bf08c451b46c3da8301f",
            ),
            (keys.node(b"").to_string(), "f285faa64135ed6ba1cb64ac13170181d524745a52656ff8533f71037f96cfac"),
            (
                keys.list(b"content").to_string(),
                "12b215a96676367e0a6d744d6406b820923e23d442f855e30667ac4fb8ebbace",
            ),
            (keys.list(b"").to_string(), "e3d7573ef0e5478b8a10d5c86f13668d20e0d298918780ada577d1603119409a"),
            (
                hex(&payload_id(b"content")),
                "3fba5250be9ac259c56e7250c526bc83bacb4be825f2799d3d59e5b4878dd74e",
            ),
        ];
        for (id, expected) in vectors {
            assert_eq!(id, expected);
        }
    }

    #[test]
    fn long_content_has_the_ids_it_always_had() {
        let mut long: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
        long.push(b'x');
        let id = IdKeys::new(&counting_secret()).chunk(&long);
        assert_eq!(id.to_string(), "b63b1527f7b8245a741da6e68ef8c4604cce90d8b1a7c4b398805f52200f370f");
    }

    #[test]
    fn another_master_gives_other_ids() {
        let (one, other) = (IdKeys::new(&counting_secret()), IdKeys::new(&Secret::new([0; 32])));
        assert_ne!(one.chunk(b"content"), other.chunk(b"content"));
    }
}
