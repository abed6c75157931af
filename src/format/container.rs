//! The clear header in front of every sealed object (docs/format.md, "Container").

use crate::format::FormatError;
use crate::id::RepositoryId;

/// First bytes of every container. The line ends among them show damage by a text-mode transfer.
pub const MAGIC: [u8; 8] = [0x89, b'K', b'L', b'U', 0x0d, 0x0a, 0x1a, 0x0a];
/// Version of the format that this program writes.
pub const FORMAT_VERSION: u16 = 1;
/// The suite that this program writes: AES-256-GCM and BLAKE3.
pub const SUITE: u8 = 1;
/// Length of a header without wrap data.
pub const HEADER_LEN: usize = 112;
/// Length of the part of a header that enters the derivation of the keys.
pub const HEADER_LEN_DERIVED: usize = 80;
/// Authentication tag after each sealed message.
pub const TAG_LEN: usize = 16;

const OBJECT: &str = "container header";

/// What a container holds. The numbers are stored; 32 to 47 are reserved for groups of parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A pack of file chunks.
    DataPack = 1,
    /// A pack of nodes.
    MetaPack = 2,
    /// An index object.
    Index = 3,
    /// A snapshot.
    Snapshot = 4,
    /// A tombstone in the place of a snapshot.
    Tombstone = 5,
    /// A statement of a lease.
    Lease = 6,
    /// A list of forgotten snapshots.
    Forget = 7,
    /// A prune plan.
    Plan = 8,
    /// A prune verdict.
    Verdict = 9,
    /// The end of a prune.
    Done = 10,
    /// The long lists of a plan or verdict.
    Body = 11,
    /// The keyring.
    Keyring = 12,
    /// A put key.
    PutKey = 13,
}

impl ObjectKind {
    /// All kinds, by ascending number.
    pub const ALL: [Self; 13] = [
        Self::DataPack,
        Self::MetaPack,
        Self::Index,
        Self::Snapshot,
        Self::Tombstone,
        Self::Lease,
        Self::Forget,
        Self::Plan,
        Self::Verdict,
        Self::Done,
        Self::Body,
        Self::Keyring,
        Self::PutKey,
    ];

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// From which secret the keys of a container are derived. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Wrap {
    /// A root of the generation that the header names.
    Generation = 0,
    /// The unlock key of the repository; only for the keyring.
    UnlockKey = 2,
}

impl Wrap {
    /// The method with this number, if this program knows it.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Generation),
            2 => Some(Self::UnlockKey),
            _ => None,
        }
    }
}

/// The clear header of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the container holds.
    pub kind: ObjectKind,
    /// Where its keys come from.
    pub wrap: Wrap,
    /// Flags below 0x80 that may be ignored when unknown.
    pub flags: u8,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Generation of the root.
    pub generation: u32,
    /// Bytes of the whole container, header included, parity not.
    pub payload_len: u64,
    /// Makes the keys of this object its own.
    pub salt: [u8; 32],
}

impl Header {
    /// The bytes that enter the derivation of the object's keys: all but the commitment.
    pub fn derived_bytes(&self) -> [u8; HEADER_LEN_DERIVED] {
        let mut bytes = [0; HEADER_LEN_DERIVED];
        let mut at = 0;
        let mut put = |part: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
            at += part.len();
        };
        put(&MAGIC);
        put(&FORMAT_VERSION.to_le_bytes());
        put(&[self.kind as u8, SUITE]);
        put(&(HEADER_LEN as u16).to_le_bytes());
        put(&[self.wrap as u8, self.flags]);
        put(self.repository.bytes());
        put(&self.generation.to_le_bytes());
        put(&[0; 4]);
        put(&self.payload_len.to_le_bytes());
        put(&self.salt);
        bytes
    }

    /// The whole header.
    pub fn encode(&self, commitment: &[u8; 32]) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let (derived, rest) = bytes.split_at_mut(HEADER_LEN_DERIVED);
        derived.copy_from_slice(&self.derived_bytes());
        rest.copy_from_slice(commitment);
        bytes
    }

    /// Reads the header at the start of `bytes`, and the commitment to the keys.
    pub fn decode(bytes: &[u8]) -> Result<(Self, [u8; 32]), FormatError> {
        let invalid = |rule| FormatError::invalid(OBJECT, rule);
        let mut fields = Fields { rest: bytes };
        if fields.take::<8>()? != MAGIC {
            return Err(invalid("the magic bytes are missing"));
        }
        if u16::from_le_bytes(fields.take()?) != FORMAT_VERSION {
            return Err(invalid("its format is newer than this program"));
        }
        let [kind, suite] = fields.take()?;
        let kind = ObjectKind::from_number(kind).ok_or_else(|| invalid("its kind is unknown"))?;
        if suite != SUITE {
            return Err(invalid("its cipher suite is unknown"));
        }
        let header_len = u16::from_le_bytes(fields.take()?);
        let [wrap, flags] = fields.take()?;
        let wrap = Wrap::from_number(wrap).ok_or_else(|| invalid("its wrap method is unknown"))?;
        if usize::from(header_len) != HEADER_LEN {
            return Err(invalid("its length does not fit its wrap method"));
        }
        if flags >= 0x80 {
            return Err(invalid("it has a flag that must be understood"));
        }
        let repository = RepositoryId::new(fields.take()?);
        let generation = u32::from_le_bytes(fields.take()?);
        if fields.take::<4>()? != [0; 4] {
            return Err(invalid("reserved bytes are not zero"));
        }
        let payload_len = u64::from_le_bytes(fields.take()?);
        if payload_len < (HEADER_LEN + TAG_LEN) as u64 {
            return Err(invalid("the payload is shorter than its header"));
        }
        let salt = fields.take()?;
        let commitment = fields.take()?;
        Ok((Self { kind, wrap, flags, repository, generation, payload_len, salt }, commitment))
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (field, rest) =
            self.rest.split_first_chunk::<N>().ok_or(FormatError::invalid(OBJECT, "it ends early"))?;
        self.rest = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: ObjectKind::Snapshot,
            wrap: Wrap::Generation,
            flags: 0,
            repository: RepositoryId::new([7; 16]),
            generation: 3,
            payload_len: 4711,
            salt: [9; 32],
        }
    }

    #[test]
    fn what_was_encoded_decodes_to_the_same() {
        let bytes = header().encode(&[5; 32]);
        assert_eq!(Header::decode(&bytes), Ok((header(), [5; 32])));
    }

    #[test]
    fn every_cut_is_refused() {
        let bytes = header().encode(&[5; 32]);
        for len in 0..bytes.len() {
            assert!(Header::decode(&bytes[..len]).is_err(), "{len} bytes were accepted");
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_changes_what_is_derived() {
        let bytes = header().encode(&[5; 32]);
        for bit in 0..8 * HEADER_LEN_DERIVED {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok((decoded, _)) = Header::decode(&flipped) {
                assert_ne!(decoded.derived_bytes(), header().derived_bytes(), "bit {bit}");
                assert_eq!(decoded.derived_bytes(), flipped[..HEADER_LEN_DERIVED], "bit {bit}");
            }
        }
    }
}
