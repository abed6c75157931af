//! Typed ids. Each kind of object has a type of its own, so that two ids cannot be swapped unnoticed.
//!
//! `Display` prints all of an id in lower-case hexadecimal, so that a logged id can be searched for;
//! `short` is for people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id of {digits} hexadecimal digits")]
pub struct IdError {
    text: String,
    digits: usize,
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The id with these bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id.
            pub const fn bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                let mut text = self.to_string();
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = || IdError { text: text.to_owned(), digits: 2 * $len };
                let digits = text.as_bytes();
                if digits.len() != 2 * $len {
                    return Err(error());
                }
                let mut bytes = [0; $len];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = hex_pair(pair).ok_or_else(error)?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

id_type!(
    /// Names a chunk: keyed BLAKE3 of its bytes (docs/format.md, "Identities").
    ChunkId,
    32
);
id_type!(
    /// Names a directory node: keyed BLAKE3 of its encoding, under a key of its own.
    NodeId,
    32
);
id_type!(
    /// Names a list node, which holds the chunk list of a large file.
    ListId,
    32
);
id_type!(
    /// Names whatever lies in a pack: the bytes of a [`ChunkId`], [`NodeId`] or [`ListId`].
    ///
    /// The three are made under different keys, so that one never equals another.
    ContentId,
    32
);
id_type!(
    /// Names a pack: BLAKE3 of its payload.
    PackId,
    32
);
id_type!(
    /// Names an index object: BLAKE3 of its payload.
    IndexObjectId,
    32
);
id_type!(
    /// Names a forget record: BLAKE3 of its payload.
    ForgetId,
    32
);
id_type!(
    /// Names the long lists of a prune plan or verdict: BLAKE3 of their payload.
    BodyId,
    32
);
id_type!(
    /// Names a lease, and with it the snapshot that the lease may commit: 128 random bits.
    SnapshotId,
    16
);
id_type!(
    /// Names a repository: 128 random bits.
    RepositoryId,
    16
);
id_type!(
    /// Names a slot: 128 random bits.
    SlotId,
    16
);
id_type!(
    /// Names a series: the snapshots of one host and one set of paths.
    SeriesId,
    16
);

macro_rules! content_id_from {
    ($($name:ident),*) => {
        $(impl $name {
            /// The same bytes as an id of anything that lies in packs.
            pub const fn content(&self) -> ContentId {
                ContentId(self.0)
            }
        })*
    };
}
content_id_from!(ChunkId, NodeId, ListId);

impl ContentId {
    /// The first sixteen bytes, by which packs and the index know it.
    ///
    /// Ids are keyed hashes, so these are enough to tell any two apart. Whoever reads by a whole id compares all of it.
    pub fn prefix(&self) -> [u8; 16] {
        *self.0.first_chunk().expect("32 bytes have a first half")
    }
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_printing_and_parsing() {
        let id = SlotId::new(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "30313233");
    }

    #[test]
    fn only_lower_case_hex_of_the_right_length_is_an_id() {
        for text in ["", "00", "ZZ", &"0".repeat(63), &"A".repeat(64), &"0".repeat(65), &"\u{e9}".repeat(32)]
        {
            assert!(text.parse::<ChunkId>().is_err(), "{text:?} was accepted");
        }
    }
}
