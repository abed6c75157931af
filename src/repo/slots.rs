//! Ways to unlock a repository: make, open, list and remove slots (docs/format.md, "Slots").

use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::crypto::{self, KdfParams, SealingKey, Secret, context};
use crate::format::slot::{Slot, SlotHead, SlotKind};
use crate::id::{RepositoryId, SlotId};
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::names::Named;
use crate::repo::{Repo, create_resolved, names, read_control};
use crate::storage::{Created, Storage};

/// What somebody has to unlock a repository with.
pub enum UnlockSecret {
    /// A passphrase; it is wiped when dropped.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The secret of a key file.
    KeyFile(Secret<32>),
}

impl UnlockSecret {
    fn words(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::KeyFile(_) => "key file",
        }
    }

    /// Sealing key and commitment for a slot of `kind`, or `None` for a slot of the other kind.
    fn keys_for(
        &self,
        kind: &SlotKind,
        salt: &[u8; 32],
    ) -> Result<Option<(Secret<32>, [u8; 32])>, RepoError> {
        let keys = match (self, kind) {
            (Self::Passphrase(text), SlotKind::Passphrase { memory_kib, passes, lanes }) => {
                crypto::stretch(text, salt, KdfParams::new(*memory_kib, *passes, *lanes)?)?
            }
            (Self::KeyFile(secret), SlotKind::KeyFile) => {
                crypto::derive_salted(context::SLOT_KEY_FILE, secret, salt)
            }
            (Self::Passphrase(_), SlotKind::KeyFile) | (Self::KeyFile(_), SlotKind::Passphrase { .. }) => {
                return Ok(None);
            }
        };
        Ok(Some(keys.key_and_commitment()))
    }
}

/// A slot, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSummary {
    /// Its id.
    pub id: SlotId,
    /// What opens it.
    pub kind: SlotKind,
    /// When it was made.
    pub created_at: Timestamp,
    /// What people call it.
    pub label: String,
}

/// What a new slot is made of.
pub struct NewSlot<'a> {
    /// What opens it.
    pub secret: &'a UnlockSecret,
    /// What a try of a passphrase costs.
    pub kdf: KdfParams,
    /// What people call it.
    pub label: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// Stores a slot that holds `unlock_key`.
pub fn create(
    storage: &dyn Storage,
    repository: RepositoryId,
    copies: bool,
    unlock_key: &Secret<32>,
    new: &NewSlot<'_>,
) -> Result<SlotId, RepoError> {
    let id = SlotId::new(crypto::random()?);
    let salt = crypto::random()?;
    let kind = match new.secret {
        UnlockSecret::Passphrase(_) => SlotKind::Passphrase {
            memory_kib: new.kdf.memory_kib(),
            passes: new.kdf.passes(),
            lanes: new.kdf.lanes(),
        },
        UnlockSecret::KeyFile(_) => SlotKind::KeyFile,
    };
    let keys = new.secret.keys_for(&kind, &salt)?;
    let (key, commitment) = keys.expect("the kind of the slot was chosen to fit the secret");
    let label = new.label.to_owned();
    let head = SlotHead { version: 1, id, kind, created_at: new.now, label, salt, commitment };
    let mut sealed = Vec::with_capacity(48);
    let aad = additional_data(&head, repository)?;
    SealingKey::new(&key).seal_to(0, &aad, unlock_key.expose(), &mut sealed);
    let sealed = *sealed.first_chunk().expect("32 bytes and a tag");
    let bytes = Slot { head, sealed }.encode().map_err(RepoError::Unstorable)?;
    let name = names::slot(&id);
    if create_resolved(storage, &name, &bytes)? == Created::Exists {
        return Err(RepoError::Exists { place: name.to_string() });
    }
    if copies {
        create_resolved(storage, &names::copy(&name), &bytes)?;
    }
    Ok(id)
}

fn additional_data(head: &SlotHead, repository: RepositoryId) -> Result<Vec<u8>, RepoError> {
    let mut data = head.encode().map_err(RepoError::Unstorable)?;
    data.extend(repository.bytes());
    Ok(data)
}

/// Finds the slot that opens with `secret` and returns the unlock key in it.
pub fn unlock(
    storage: &dyn Storage,
    repository: RepositoryId,
    secret: &UnlockSecret,
) -> Result<Secret<32>, RepoError> {
    let mut damaged = None;
    for slot in list(storage)? {
        let slot = match slot {
            Ok(slot) => slot,
            Err(error) => {
                damaged = Some(error);
                continue;
            }
        };
        let Some((key, commitment)) = secret.keys_for(&slot.head.kind, &slot.head.salt)? else { continue };
        if !crypto::commitment_matches(&commitment, &slot.head.commitment) {
            continue;
        }
        let mut plain = Zeroizing::new(Vec::with_capacity(48));
        let aad = additional_data(&slot.head, repository)?;
        let opened = SealingKey::new(&key).open_to(0, &aad, &slot.sealed, &mut plain);
        opened.map_err(|reason| RepoError::Damaged {
            name: names::slot(&slot.head.id).to_string(),
            source: DamageReason::Open(reason),
        })?;
        return Ok(Secret::from_slice(&plain).expect("48 sealed bytes hold 32"));
    }
    Err(damaged.unwrap_or(RepoError::WrongKey { what: secret.words() }))
}

fn list(storage: &dyn Storage) -> Result<Vec<Result<Slot, RepoError>>, RepoError> {
    let mut found = Vec::new();
    storage.list(names::SLOT, &mut |listed| {
        if let Some(Named::Slot(id)) = names::parse(&listed.name) {
            found.push(id);
        }
    })?;
    found.sort();
    let read = |id| read_control(storage, &names::slot(&id), |bytes| open_slot(id, bytes));
    Ok(found.into_iter().map(read).collect())
}

/// Decodes a slot that should have this id.
pub fn open_slot(id: SlotId, bytes: &[u8]) -> Result<Slot, DamageReason> {
    let slot = Slot::decode(bytes)?;
    if slot.head.id == id { Ok(slot) } else { Err(DamageReason::Id) }
}

impl Repo {
    /// All slots that can be read, oldest first.
    pub fn slots(&self) -> Result<Vec<SlotSummary>, RepoError> {
        let slots = list(&**self.storage())?.into_iter().flatten().map(|slot| slot.head);
        let mut summaries: Vec<_> = slots
            .map(|SlotHead { id, kind, created_at, label, .. }| SlotSummary { id, kind, created_at, label })
            .collect();
        summaries.sort_by_key(|slot| (slot.created_at, slot.id));
        Ok(summaries)
    }

    /// Adds a slot that opens with `secret`.
    pub fn add_slot(&self, secret: &UnlockSecret, kdf: KdfParams, label: &str) -> Result<SlotId, RepoError> {
        let new = NewSlot { secret, kdf, label, now: self.clock().now() };
        create(&**self.storage(), self.id(), self.config().copies, &self.unlock_key, &new)
    }

    /// Removes a slot. The last one stays.
    pub fn remove_slot(&self, id: SlotId) -> Result<(), RepoError> {
        let slots = self.slots()?;
        if !slots.iter().any(|slot| slot.id == id) {
            return Err(RepoError::NoSlot { selector: id.to_string() });
        }
        if slots.len() < 2 {
            return Err(RepoError::LastSlot);
        }
        let name = names::slot(&id);
        // The copy first: a repair makes an object again of which only the copy is there.
        self.storage().delete(&names::copy(&name))?;
        Ok(self.storage().delete(&name)?)
    }

    /// The slot that this secret opens.
    pub fn slot_of(&self, secret: &UnlockSecret) -> Result<Option<SlotId>, RepoError> {
        for slot in list(&**self.storage())?.into_iter().flatten() {
            if let Some((_, commitment)) = secret.keys_for(&slot.head.kind, &slot.head.salt)?
                && crypto::commitment_matches(&commitment, &slot.head.commitment)
            {
                return Ok(Some(slot.head.id));
            }
        }
        Ok(None)
    }
}
