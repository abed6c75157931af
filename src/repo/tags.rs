//! Tags of objects that may destroy something (docs/format.md, "Tags").

use crate::crypto::{commitment_matches, keyed_tag};
use crate::format::{FormatError, Tagged};
use crate::repo::error::DamageReason;
use crate::repo::keys::Keys;

/// Puts the tag on an object that is otherwise complete.
pub fn tag(keys: &Keys, object: &mut impl Tagged) -> Result<(), FormatError> {
    let tag = keyed_tag(&keys.admin, &object.tagged_bytes()?);
    object.set_tag(tag);
    Ok(())
}

/// Whether a holder of the admin key tagged this object as it is. Compares in constant time.
pub fn verify(keys: &Keys, object: &impl Tagged) -> Result<(), DamageReason> {
    let expected = keyed_tag(&keys.admin, &object.tagged_bytes()?);
    if commitment_matches(&expected, object.tag()) { Ok(()) } else { Err(DamageReason::Tag) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::keyring::{GenerationFields, KeyringFields};
    use crate::format::plan::Done;
    use crate::format::snapshot::Tombstone;
    use crate::id::SnapshotId;

    fn keys(master: u8) -> Keys {
        let generation = GenerationFields { number: 1, content_root: [1; 32], catalogue_root: [2; 32] };
        Keys::new(&KeyringFields {
            version: 1,
            number: 1,
            master: [master; 32],
            generations: vec![generation],
        })
    }

    #[test]
    fn a_tag_fits_what_was_tagged_under_this_key_and_nothing_else() {
        let lease = SnapshotId::new([1; 16]);
        let mut tombstone = Tombstone { version: 1, lease, plan: 7, reason: String::new(), tag: [0; 32] };
        assert!(verify(&keys(3), &tombstone).is_err());
        tag(&keys(3), &mut tombstone).unwrap();
        assert!(verify(&keys(3), &tombstone).is_ok());
        assert!(verify(&keys(4), &tombstone).is_err());
        let other = Tombstone { plan: 8, ..tombstone.clone() };
        assert!(verify(&keys(3), &other).is_err());
        for bit in 0..256 {
            let mut flipped = tombstone.clone();
            flipped.tag[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&keys(3), &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn no_tag_fits_an_object_of_another_kind() {
        let extensions = Vec::new();
        let mut done = Done { version: 1, number: 7, verdict: [1; 32], extensions, tag: [0; 32] };
        tag(&keys(3), &mut done).unwrap();
        let bytes = done.tagged_bytes().unwrap();
        let without_kind = keyed_tag(&keys(3).admin, bytes.get(1..).unwrap());
        assert_ne!(without_kind, done.tag);
    }
}
