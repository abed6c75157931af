//! The one door between stored structs and their bytes.
//!
//! Stored structs derive `serde` in `format`; their bytes are the published wire format of `postcard`: integers
//! are LEB128 varints (signed ones zigzag), byte strings and lists are preceded by their length. This module bounds
//! the input, refuses trailing bytes, and calls [`Validate::validate`] for what types alone cannot say.

use std::fmt;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why stored bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// More bytes than this kind of object may have.
    #[error("{len} bytes are more than the {max} allowed")]
    TooLong {
        /// How many there are.
        len: usize,
        /// How many are allowed.
        max: usize,
    },
    /// The bytes end early or hold an impossible value.
    #[error("the bytes do not parse")]
    Malformed,
    /// Bytes are left over after the last field.
    #[error("{len} bytes follow the last field")]
    Trailing {
        /// How many are left over.
        len: usize,
    },
    /// A rule that the types alone do not say is broken.
    #[error("{0}")]
    Invalid(&'static str),
}

/// What a decoded value must fulfil beyond its types: order, sums, limits.
pub trait Validate {
    /// Names the first rule that is broken.
    fn validate(&self) -> Result<(), WireError>;
}

/// Encodes `value`, which must be valid and at most `bytes_max` long.
pub fn encode<T: Serialize + Validate>(value: &T, bytes_max: usize) -> Result<Vec<u8>, WireError> {
    value.validate()?;
    let bytes = postcard::to_allocvec(value).map_err(|_| WireError::Malformed)?;
    if bytes.len() > bytes_max {
        return Err(WireError::TooLong { len: bytes.len(), max: bytes_max });
    }
    Ok(bytes)
}

/// Decodes exactly `bytes`. Takes linear time, and memory in proportion to the input.
pub fn decode<T: DeserializeOwned + Validate>(bytes: &[u8], bytes_max: usize) -> Result<T, WireError> {
    if bytes.len() > bytes_max {
        return Err(WireError::TooLong { len: bytes.len(), max: bytes_max });
    }
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|_| WireError::Malformed)?;
    if !rest.is_empty() {
        return Err(WireError::Trailing { len: rest.len() });
    }
    value.validate()?;
    Ok(value)
}

/// Turns a broken rule into an error: `ensure(ordered, "entries are not in order")?`.
pub fn ensure(rule_holds: bool, rule: &'static str) -> Result<(), WireError> {
    if rule_holds { Ok(()) } else { Err(WireError::Invalid(rule)) }
}

/// A byte string, stored as its length and its bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Box<[u8]>);

impl Bytes {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "b\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a byte string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::from(bytes))
            }
        }
        from.deserialize_bytes(BytesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pair {
        low: u32,
        high: u32,
        name: Bytes,
    }

    impl Validate for Pair {
        fn validate(&self) -> Result<(), WireError> {
            ensure(self.low <= self.high, "low is above high")
        }
    }

    #[test]
    fn what_was_encoded_decodes_to_the_same() {
        let pair = Pair { low: 1, high: 300, name: Bytes::from(&b"x\xff"[..]) };
        let bytes = encode(&pair, 100).unwrap();
        assert_eq!(bytes, [1, 0xac, 2, 2, b'x', 0xff]);
        assert_eq!(decode(&bytes, 100), Ok(pair));
    }

    #[test]
    fn long_short_trailing_and_invalid_input_is_refused() {
        assert_eq!(decode::<Pair>(&[0; 9], 8), Err(WireError::TooLong { len: 9, max: 8 }));
        assert_eq!(decode::<Pair>(&[1], 8), Err(WireError::Malformed));
        assert_eq!(decode::<Pair>(&[1, 2, 200, 1], 8), Err(WireError::Malformed));
        assert_eq!(decode::<Pair>(&[1, 2, 0, 0], 8), Err(WireError::Trailing { len: 1 }));
        assert_eq!(decode::<Pair>(&[2, 1, 0], 8), Err(WireError::Invalid("low is above high")));
        assert!(encode(&Pair { low: 2, high: 1, name: Bytes::default() }, 8).is_err());
    }
}
