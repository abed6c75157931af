//! Index objects: what some packs hold, written once (docs/format.md, "Index objects").
//!
//! An index object states facts about immutable packs. Nothing follows from it about whether they still exist.

use serde::{Deserialize, Serialize};

use crate::format::FormatError;
use crate::format::frame::FrameEntry;
use crate::format::pack::PackDirectory;
use crate::format::tree::Extension;
use crate::id::PackId;
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

const OBJECT: &str = "index object";

/// What an index object says of one pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedPack {
    /// Which pack.
    pub id: PackId,
    /// Number of its kind: 1 for chunks, 2 for nodes.
    pub kind: u8,
    /// Number of its wrap method.
    pub wrap: u8,
    /// Flags of its header.
    pub flags: u8,
    /// Generation of its root.
    pub generation: u32,
    /// Length of its payload.
    pub payload_len: u64,
    /// Salt of its header, so that one ranged read suffices for a frame.
    pub salt: [u8; 32],
    /// What it holds.
    pub frames: Vec<FrameEntry>,
}

/// What some packs hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexObject {
    version: u8,
    /// The packs, by ascending id.
    pub packs: Vec<IndexedPack>,
    /// More that is known of them, by ascending tag.
    pub extensions: Vec<Extension>,
}

/// The defined extensions of an index object.
pub mod tag {
    /// Frames that are damaged beyond mending: [`super::DamageStatements`].
    pub const DAMAGE: u32 = 1;
}

/// Which frames of a pack are damaged, so that nobody counts on what they held.
///
/// Of several statements about a pack those with the highest number count, and equal ones together. So a statement
/// without frames takes back what was stated before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageStatement {
    /// Which pack.
    pub pack: PackId,
    /// Which statement about it, from 1.
    pub number: u32,
    /// Numbers of the damaged frames, ascending.
    pub frames: Vec<u32>,
}

/// What an index object says of damage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageStatements {
    /// By ascending pack.
    pub statements: Vec<DamageStatement>,
}

impl Validate for DamageStatements {
    fn validate(&self) -> Result<(), WireError> {
        let packs_are_in_order = self.statements.is_sorted_by(|one, next| one.pack < next.pack);
        ensure(packs_are_in_order, "its damaged packs are not in order")?;
        for DamageStatement { number, frames, .. } in &self.statements {
            ensure(*number > 0, "a statement about damage has number zero")?;
            ensure(frames.is_sorted_by(|one, next| one < next), "damaged frames are not in order")?;
            let last = frames.last().map_or(0, |last| *last as usize);
            ensure(last < limits::PACK_FRAME_COUNT_MAX, "a damaged frame has too high a number")?;
        }
        Ok(())
    }
}

impl IndexObject {
    /// Describes these packs.
    pub fn new(mut packs: Vec<IndexedPack>) -> Self {
        packs.sort_unstable_by_key(|pack| pack.id);
        Self { version: 1, packs, extensions: Vec::new() }
    }

    /// States damage of packs, too, in the place of what it stated before.
    pub fn with_damage(mut self, mut statements: Vec<DamageStatement>) -> Result<Self, FormatError> {
        statements.sort_unstable_by_key(|statement| statement.pack);
        self.extensions.retain(|extension| extension.tag != tag::DAMAGE);
        if !statements.is_empty() {
            let value = wire::encode(&DamageStatements { statements }, limits::INDEX_OBJECT_BYTES_MAX);
            let value = value.map_err(FormatError::of(OBJECT))?.into();
            let at = self.extensions.partition_point(|before| before.tag < tag::DAMAGE);
            self.extensions.insert(at, Extension { tag: tag::DAMAGE, value });
        }
        Ok(self)
    }

    /// What it states of damage.
    pub fn damage(&self) -> Result<Vec<DamageStatement>, FormatError> {
        let Some(extension) = self.extensions.iter().find(|extension| extension.tag == tag::DAMAGE) else {
            return Ok(Vec::new());
        };
        let said: Result<DamageStatements, _> =
            wire::decode(extension.value.as_slice(), limits::INDEX_OBJECT_BYTES_MAX);
        Ok(said.map_err(FormatError::of(OBJECT))?.statements)
    }

    /// How many packs from the front one index object may describe; at least one.
    pub fn count_that_fits(packs: &[IndexedPack]) -> usize {
        let mut entry_count = 0;
        let fits = packs.iter().take_while(|pack| {
            entry_count += pack.frames.iter().map(|frame| frame.chunks.len()).sum::<usize>();
            entry_count <= limits::INDEX_OBJECT_ENTRY_COUNT_MAX
        });
        fits.count().max(1)
    }

    /// Encodes the object, which must be within the limits.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        wire::encode(self, limits::INDEX_OBJECT_BYTES_MAX).map_err(FormatError::of(OBJECT))
    }

    /// Decodes what [`Self::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let object: Self =
            wire::decode(bytes, limits::INDEX_OBJECT_BYTES_MAX).map_err(FormatError::of(OBJECT))?;
        object.damage()?;
        Ok(object)
    }
}

impl Validate for IndexObject {
    fn validate(&self) -> Result<(), WireError> {
        ensure(self.version == 1, "its version is unknown")?;
        let mut pairs = self.packs.iter().zip(self.packs.iter().skip(1));
        ensure(pairs.all(|(one, next)| one.id < next.id), "its packs are not in order")?;
        let mut chunk_count = 0;
        for pack in &self.packs {
            ensure(matches!(pack.kind, 1 | 2), "a pack is of an unknown kind")?;
            ensure(pack.payload_len <= limits::PACK_BYTES_MAX, "a pack is too long")?;
            let frames = pack.frames.iter();
            chunk_count += frames.map(|frame| frame.chunks.len()).sum::<usize>();
            ensure(pack.frames.len() <= limits::PACK_FRAME_COUNT_MAX, "a pack has too many frames")?;
            pack.frames.iter().try_for_each(Validate::validate)?;
            let body_len: u64 = pack.frames.iter().map(|frame| u64::from(frame.stored_len)).sum();
            ensure(body_len <= pack.payload_len, "the frames of a pack are longer than it")?;
        }
        ensure(chunk_count <= limits::INDEX_OBJECT_ENTRY_COUNT_MAX, "it describes too many chunks")?;
        ensure(self.extensions.is_sorted_by(|a, b| a.tag < b.tag), "its extensions are not in order")
    }
}

impl From<&IndexedPack> for PackDirectory {
    fn from(pack: &IndexedPack) -> Self {
        Self::new(pack.frames.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(pack: u8, number: u32, frames: &[u32]) -> DamageStatement {
        DamageStatement { pack: PackId::new([pack; 32]), number, frames: frames.to_vec() }
    }

    #[test]
    fn statements_of_damage_survive_and_can_be_replaced() {
        let said = vec![statement(1, 2, &[]), statement(2, 1, &[0, 7, 65_535])];
        let object = IndexObject::default();
        let object = IndexObject { version: 1, ..object };
        assert_eq!(object.damage().unwrap(), []);
        let object = object.with_damage(said.iter().rev().cloned().collect()).unwrap();
        let decoded = IndexObject::decode(&object.encode().unwrap()).unwrap();
        assert_eq!(decoded.damage().unwrap(), said);
        assert_eq!(decoded.with_damage(Vec::new()).unwrap().extensions, []);
    }

    #[test]
    fn statements_that_break_a_rule_are_refused() {
        let good = IndexObject::new(Vec::new());
        for bad in [
            vec![statement(1, 0, &[1])],
            vec![statement(1, 1, &[2, 1])],
            vec![statement(1, 1, &[2, 2])],
            vec![statement(1, 1, &[65_536])],
            vec![statement(1, 1, &[1]), statement(1, 2, &[1])],
        ] {
            assert!(good.clone().with_damage(bad).is_err());
        }
        let extensions = vec![Extension { tag: tag::DAMAGE, value: vec![1, 2, 3].into() }];
        let object = IndexObject { extensions, ..good };
        assert!(IndexObject::decode(&object.encode().unwrap()).is_err());
    }
}
