//! Sealed objects of one message: everything but packs (docs/format.md, "Container").

use crate::crypto::{self, ObjectKeys, Randomness, Secret};
use crate::format::container::{HEADER_LEN, Header, ObjectKind, TAG_LEN, Wrap};
use crate::id::{RepositoryId, SnapshotId};
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::keys::{Generation, Keys};

const MESSAGE_POSITION: u64 = 0;

/// Which root seals objects of a kind.
pub fn root_of(kind: ObjectKind, generation: &Generation) -> &Secret<32> {
    match kind {
        ObjectKind::DataPack | ObjectKind::MetaPack | ObjectKind::Snapshot => &generation.content_root,
        ObjectKind::Index
        | ObjectKind::Tombstone
        | ObjectKind::Lease
        | ObjectKind::Forget
        | ObjectKind::Plan
        | ObjectKind::Verdict
        | ObjectKind::Done
        | ObjectKind::Body
        | ObjectKind::Keyring
        | ObjectKind::PutKey => &generation.catalogue_root,
    }
}

/// What makes the keys of new objects their own, together with the content.
pub struct SaltSource<'k> {
    /// Its part in the salt.
    pub randomness: &'k Randomness,
    /// From the catalogue root.
    pub hedge: &'k Secret<32>,
    /// The lease that writes, or zeros where there is none.
    pub lease: SnapshotId,
    /// Number of the object inside the lease.
    pub counter: u64,
}

impl SaltSource<'_> {
    /// The salt of an object, given a hash over what will be sealed in it.
    pub fn salt(&self, content: &[u8; 32]) -> Result<[u8; 32], RepoError> {
        let random = self.randomness.draw()?;
        Ok(crypto::hedged_salt(self.hedge, &random, self.lease.bytes(), self.counter, content))
    }
}

/// Seals one message under the newest generation.
///
/// `name` is authenticated unless the object is named by its own hash.
pub fn seal_object(
    keys: &Keys,
    repository: RepositoryId,
    kind: ObjectKind,
    name: Option<&str>,
    lease: SnapshotId,
    plain: &[u8],
) -> Result<Vec<u8>, RepoError> {
    let generation = keys.newest();
    let source =
        SaltSource { randomness: &keys.randomness, hedge: &generation.hedge, lease, counter: u64::MAX };
    let content = blake3::hash(plain);
    let header = Header {
        kind,
        wrap: Wrap::Generation,
        flags: 0,
        repository,
        generation: generation.number,
        payload_len: payload_len(plain.len()),
        salt: source.salt(content.as_bytes())?,
    };
    Ok(seal_with(&header, root_of(kind, generation), name, plain))
}

/// Seals the keyring under the unlock key.
pub fn seal_keyring(
    unlock_key: &Secret<32>,
    repository: RepositoryId,
    name: &str,
    plain: &[u8],
) -> Result<Vec<u8>, RepoError> {
    let lease = SnapshotId::new([0; 16]);
    let source = SaltSource { randomness: &Randomness::System, hedge: unlock_key, lease, counter: 0 };
    let content = blake3::keyed_hash(unlock_key.expose(), plain);
    let header = Header {
        kind: ObjectKind::Keyring,
        wrap: Wrap::UnlockKey,
        flags: 0,
        repository,
        generation: 0,
        payload_len: payload_len(plain.len()),
        salt: source.salt(content.as_bytes())?,
    };
    Ok(seal_with(&header, unlock_key, Some(name), plain))
}

fn payload_len(plain_len: usize) -> u64 {
    (HEADER_LEN + plain_len + TAG_LEN) as u64
}

fn seal_with(header: &Header, root: &Secret<32>, name: Option<&str>, plain: &[u8]) -> Vec<u8> {
    let keys = crypto::object_keys(root, &header.derived_bytes());
    let mut payload = Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN);
    payload.extend(header.encode(&keys.commitment));
    keys.message.seal_to(MESSAGE_POSITION, name.unwrap_or_default().as_bytes(), plain, &mut payload);
    payload
}

/// Reads the header of stored bytes and checks that they can be this object. Returns the payload without parity.
pub fn split_payload(
    stored: &[u8],
    repository: RepositoryId,
    kind: ObjectKind,
) -> Result<(Header, [u8; 32], &[u8]), DamageReason> {
    let (header, commitment) = Header::decode(stored)?;
    if header.repository != repository {
        return Err(DamageReason::OtherRepository(header.repository));
    }
    if header.kind != kind {
        return Err(DamageReason::Kind);
    }
    let payload_len = usize::try_from(header.payload_len).map_err(|_| DamageReason::Short)?;
    let payload = stored.get(..payload_len).ok_or(DamageReason::Short)?;
    Ok((header, commitment, payload))
}

/// The payload of a stored object, as long as its header says; `None` where there is none.
pub fn payload_of(stored: &[u8]) -> Option<&[u8]> {
    let (header, _) = Header::decode(stored).ok()?;
    stored.get(..usize::try_from(header.payload_len).ok()?)
}

/// The keys of an object, after comparing the commitment.
pub fn keys_of(keys: &Keys, header: &Header, commitment: &[u8; 32]) -> Result<ObjectKeys, DamageReason> {
    let number = header.generation;
    let generation = keys.generation(number).ok_or(DamageReason::Generation(number))?;
    if header.wrap != Wrap::Generation {
        return Err(DamageReason::Kind);
    }
    committed_keys(root_of(header.kind, generation), header, commitment)
}

fn committed_keys(
    root: &Secret<32>,
    header: &Header,
    commitment: &[u8; 32],
) -> Result<ObjectKeys, DamageReason> {
    let keys = crypto::object_keys(root, &header.derived_bytes());
    if crypto::commitment_matches(&keys.commitment, commitment) {
        Ok(keys)
    } else {
        Err(DamageReason::Commitment)
    }
}

/// Opens what [`seal_object`] sealed. `stored` may have parity behind the payload.
pub fn open_object(
    keys: &Keys,
    repository: RepositoryId,
    kind: ObjectKind,
    name: Option<&str>,
    stored: &[u8],
) -> Result<Vec<u8>, DamageReason> {
    let (header, commitment, payload) = split_payload(stored, repository, kind)?;
    open_with(&keys_of(keys, &header, &commitment)?, name, payload)
}

/// Opens what [`seal_keyring`] sealed. The result is secret.
pub fn open_keyring(
    unlock_key: &Secret<32>,
    repository: RepositoryId,
    name: &str,
    stored: &[u8],
) -> Result<zeroize::Zeroizing<Vec<u8>>, DamageReason> {
    let (header, commitment, payload) = split_payload(stored, repository, ObjectKind::Keyring)?;
    if header.wrap != Wrap::UnlockKey {
        return Err(DamageReason::Kind);
    }
    let keys = committed_keys(unlock_key, &header, &commitment)?;
    open_with(&keys, Some(name), payload).map(zeroize::Zeroizing::new)
}

fn open_with(keys: &ObjectKeys, name: Option<&str>, payload: &[u8]) -> Result<Vec<u8>, DamageReason> {
    let sealed = payload.get(HEADER_LEN..).ok_or(DamageReason::Short)?;
    let mut plain = Vec::with_capacity(sealed.len());
    keys.message.open_to(MESSAGE_POSITION, name.unwrap_or_default().as_bytes(), sealed, &mut plain)?;
    Ok(plain)
}
