//! What a prune decides, number by number: the plan, the verdict, and that it is done (docs/format.md, "Prune
//! decisions"). The names of these objects are never freed, so each is short; the long lists are in bodies.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::format::container::ObjectKind;
use crate::format::tree::Extension;
use crate::format::{ADMIN_TAG_LEN, FormatError, Tagged};
use crate::id::{BodyId, SnapshotId};
use crate::limits;
use crate::wire::{self, Validate, WireError, ensure};

const BASE_CONTEXT: &str = "kluis 2026 v1 prune base";

/// Where the lists of a plan or verdict are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRef {
    /// The body.
    pub id: BodyId,
    /// BLAKE3 of its encoding; see [`crate::format::body::Body::digest`].
    pub digest: [u8; 32],
}

/// How much a plan or verdict is about, for people and for the brakes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneCounts {
    /// Packs of its body.
    pub packs: u64,
    /// Index objects of its body.
    pub index_objects: u64,
    /// Bytes of those packs, without parity.
    pub bytes: u64,
}

/// What a prune is going to delete unless somebody needs it: `prune/<N>.plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this encoding: 1.
    pub version: u8,
    /// Its number, from 1.
    pub number: u64,
    /// The doomed packs and index objects.
    pub body: BodyRef,
    /// The live snapshots it was made for: [`base_digest`].
    pub base: [u8; 32],
    /// How much is doomed.
    pub counts: PruneCounts,
    /// More that is known of it, by ascending tag.
    pub extensions: Vec<Extension>,
    /// See [`Tagged`].
    pub tag: [u8; ADMIN_TAG_LEN],
}

/// What a prune deletes, decided for ever: `prune/<N>.verdict`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Version of this encoding: 1.
    pub version: u8,
    /// Number of its plan.
    pub number: u64,
    /// BLAKE3 of the payload of its plan.
    pub plan: [u8; 32],
    /// The packs and index objects to be deleted: those of the plan without what was spared.
    pub body: BodyRef,
    /// The live snapshots that were seen after all writers were settled: [`base_digest`].
    pub base: [u8; 32],
    /// How much is deleted.
    pub counts: PruneCounts,
    /// More that is known of it, by ascending tag.
    pub extensions: Vec<Extension>,
    /// See [`Tagged`].
    pub tag: [u8; ADMIN_TAG_LEN],
}

/// All deletions of a verdict are done: `prune/<N>.done`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Version of this encoding: 1.
    pub version: u8,
    /// Number of its plan.
    pub number: u64,
    /// BLAKE3 of the payload of the verdict.
    pub verdict: [u8; 32],
    /// More that is known of it, by ascending tag.
    pub extensions: Vec<Extension>,
    /// See [`Tagged`].
    pub tag: [u8; ADMIN_TAG_LEN],
}

/// Stands for a set of live snapshots.
pub fn base_digest(live: &BTreeSet<SnapshotId>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(BASE_CONTEXT);
    for id in live {
        hasher.update(id.bytes());
    }
    *hasher.finalize().as_bytes()
}

fn validate(version: u8, number: u64, extensions: &[Extension]) -> Result<(), WireError> {
    ensure(version == 1, "its version is unknown")?;
    ensure(number > 0, "its number is zero")?;
    ensure(extensions.is_sorted_by(|a, b| a.tag < b.tag), "its extensions are not in order")
}

macro_rules! decision {
    ($name:ident, $kind:ident, $object:literal) => {
        impl $name {
            /// Decodes the decision. Whether its tag is right is for those to say who have the key.
            pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
                wire::decode(bytes, limits::SMALL_OBJECT_BYTES_MAX).map_err(FormatError::of($object))
            }
        }

        impl Tagged for $name {
            const KIND: ObjectKind = ObjectKind::$kind;

            fn tag(&self) -> &[u8; ADMIN_TAG_LEN] {
                &self.tag
            }

            fn set_tag(&mut self, tag: [u8; ADMIN_TAG_LEN]) {
                self.tag = tag;
            }

            fn encode(&self) -> Result<Vec<u8>, FormatError> {
                wire::encode(self, limits::SMALL_OBJECT_BYTES_MAX).map_err(FormatError::of($object))
            }
        }

        impl Validate for $name {
            fn validate(&self) -> Result<(), WireError> {
                validate(self.version, self.number, &self.extensions)
            }
        }
    };
}
decision!(Plan, Plan, "prune plan");
decision!(Verdict, Verdict, "prune verdict");
decision!(Done, Done, "end of a prune");

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            version: 1,
            number: 7,
            body: BodyRef { id: BodyId::new([1; 32]), digest: [2; 32] },
            base: [3; 32],
            counts: PruneCounts { packs: 1, index_objects: 2, bytes: 3 },
            extensions: vec![Extension { tag: 77, value: b"later"[..].into() }],
            tag: [4; ADMIN_TAG_LEN],
        }
    }

    #[test]
    fn a_plan_survives_with_what_it_does_not_know() {
        assert_eq!(Plan::decode(&plan().encode().unwrap()), Ok(plan()));
        assert!(Plan { number: 0, ..plan() }.encode().is_err());
        assert!(Plan { version: 2, ..plan() }.encode().is_err());
    }

    #[test]
    fn what_is_tagged_differs_between_kinds_of_the_same_fields() {
        let done = Done { version: 1, number: 7, verdict: [0; 32], extensions: Vec::new(), tag: [0; 32] };
        assert_eq!(done.tagged_bytes().unwrap()[0], 10);
        assert_eq!(plan().tagged_bytes().unwrap()[0], 8);
    }

    #[test]
    fn the_base_is_the_set_and_not_how_it_was_collected() {
        let set = |ids: &[u8]| ids.iter().map(|id| SnapshotId::new([*id; 16])).collect();
        assert_eq!(base_digest(&set(&[1, 2])), base_digest(&set(&[2, 1, 2])));
        assert_ne!(base_digest(&set(&[1, 2])), base_digest(&set(&[1])));
        assert_ne!(base_digest(&set(&[])), base_digest(&set(&[0])));
    }
}
