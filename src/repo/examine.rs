//! A thorough look at single stored objects, for those who check a repository. Nothing here changes anything.
//!
//! Operations see no sealed byte, so what tells good bytes from bad ones is here; what a damage means for snapshots
//! is theirs.

mod mending;
mod pack;

pub use mending::{Mend, MendHow};
pub use pack::{PackVerdict, PackVerifier, index_agrees};

use crate::format::body::Body;
use crate::format::container::{Header, ObjectKind};
use crate::format::index_object::IndexObject;
use crate::format::lease::LeaseStatement;
use crate::format::node::Node;
use crate::format::plan::{Done, Plan, Verdict};
use crate::format::{FormatError, Tagged, parity};
use crate::hash::payload_id;
use crate::id::{ContentId, IndexObjectId, ListId, NodeId, SnapshotId};
use crate::index::{CacheFolderError, Place, VerifiedPacks};
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::names::Named;
use crate::repo::tree_reader::TreeReader;
use crate::repo::{Repo, names, sealing, settings, slots, tags};
use crate::storage::StorageError;

/// What became of the second copy of a control object.
#[derive(Debug, Clone)]
pub enum CopyState {
    /// It is as good as the first.
    Good,
    /// There is none.
    Missing,
    /// It is there and cannot stand in for the first.
    Damaged(DamageReason),
}

/// What a look at a control object and its second copy found.
#[derive(Debug)]
pub struct ControlVerdict {
    /// What is wrong with the object itself; `None` if it is not there.
    pub first: Option<Result<(), DamageReason>>,
    /// What became of its copy.
    pub copy: CopyState,
}

/// A reference to a node: what it must be, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeRef {
    /// A folder, or a part of one.
    Directory(NodeId),
    /// A chunk list, or a part of one.
    List(ListId),
}

impl NodeRef {
    /// Its id, as packs know it.
    pub fn content(&self) -> ContentId {
        match self {
            Self::Directory(id) => id.content(),
            Self::List(id) => id.content(),
        }
    }
}

impl Repo {
    /// Looks at a small control object or a body, and at its second copy where there is one.
    pub fn examine_control(&self, object: Named) -> Result<ControlVerdict, RepoError> {
        let Some(name) = object.object_name() else {
            return Ok(ControlVerdict { first: None, copy: CopyState::Missing });
        };
        let first = self.examine_bytes(object, &name)?;
        // Both are read once: a prune may delete them at any moment.
        let copy = match (self.examine_bytes(object, &names::copy(&name))?, &first) {
            (None, _) => CopyState::Missing,
            (Some(Err(reason)), _) => CopyState::Damaged(reason),
            (Some(Ok(copy)), Some(Ok(first))) if copy != *first => CopyState::Damaged(DamageReason::Id),
            (Some(Ok(_)), _) => CopyState::Good,
        };
        Ok(ControlVerdict { first: first.map(|found| found.map(drop)), copy })
    }

    /// Whether an object that is named by its hash has that hash. Whatever else is wrong with it then is not damage of
    /// the storage: it may be of a newer version of this program.
    pub fn has_its_name(&self, object: Named) -> Result<bool, RepoError> {
        let Some(name) = object.object_name() else { return Ok(false) };
        match self.storage().get(&name) {
            Ok(stored) => Ok(self.examine_payload(object, &stored).is_ok()),
            Err(StorageError::Missing { .. } | StorageError::Failed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes stored under `name`, or what is wrong with them as those of `object`. Unreadable is wrong too.
    fn examine_bytes(
        &self,
        object: Named,
        name: &crate::storage::ObjectName,
    ) -> Result<Option<Result<Vec<u8>, DamageReason>>, RepoError> {
        match self.storage().get(name) {
            Ok(stored) => Ok(Some(self.examine_stored(object, &stored).map(|()| stored))),
            Err(StorageError::Missing { .. }) => Ok(None),
            Err(error @ StorageError::Failed { .. }) => Ok(Some(Err(DamageReason::unreadable(&error)))),
            Err(error) => Err(error.into()),
        }
    }

    fn examine_stored(&self, object: Named, stored: &[u8]) -> Result<(), DamageReason> {
        self.examine_payload(object, stored)?;
        match object {
            // Plain text, without parity.
            Named::Config(_) | Named::Slot(_) | Named::Readme => Ok(()),
            _ => self.examine_end(stored),
        }
    }

    /// What is wrong with an object, not looking at what follows its payload.
    fn examine_payload(&self, object: Named, stored: &[u8]) -> Result<(), DamageReason> {
        match object {
            Named::Config(number) => settings::open_config(&self.keys, number, stored).map(drop),
            Named::Slot(id) => slots::open_slot(id, stored).map(drop),
            Named::Keyring(number) => {
                settings::read_keyring(&self.unlock_key, self.id, number, stored).map(drop)
            }
            Named::Snapshot(id) => self.open_snapshot(id, stored).map(drop),
            Named::Forget(id) => {
                // What parity could mend is damaged all the same.
                examine_id(id.bytes(), stored)?;
                self.open_forget(id, stored).map(drop)
            }
            Named::Plan(number) => {
                self.examine_decision(object, stored, Plan::decode, |it| it.number == number)
            }
            Named::Verdict(number) => {
                self.examine_decision(object, stored, Verdict::decode, |it| it.number == number)
            }
            Named::Done(number) => {
                self.examine_decision(object, stored, Done::decode, |it| it.number == number)
            }
            Named::Body(id) => {
                examine_id(id.bytes(), stored)?;
                let plain = sealing::open_object(&self.keys, self.id, ObjectKind::Body, None, stored)?;
                Body::decode(&plain)?;
                Ok(())
            }
            Named::Pack(_, id) => examine_id(id.bytes(), stored),
            Named::Index(id) => examine_id(id.bytes(), stored),
            Named::Readme => match stored == settings::README.as_bytes() {
                true => Ok(()),
                false => Err(DamageReason::Id),
            },
            // Of these nothing is known that could be compared.
            Named::Reserve | Named::Lease(..) | Named::Temporary => Ok(()),
        }
    }

    /// What is wrong with a decision of a prune.
    fn examine_decision<T: Tagged>(
        &self,
        object: Named,
        stored: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, FormatError>,
        number_is_right: impl Fn(&T) -> bool,
    ) -> Result<(), DamageReason> {
        let name = object.object_name().map(|name| name.to_string());
        let plain = sealing::open_object(&self.keys, self.id, T::KIND, name.as_deref(), stored)?;
        let decision = decode(&plain)?;
        if !number_is_right(&decision) {
            return Err(DamageReason::Kind);
        }
        tags::verify(&self.keys, &decision)
    }

    /// Whether the parity behind a payload is what it should be, and nothing else follows.
    fn examine_end(&self, stored: &[u8]) -> Result<(), DamageReason> {
        let (header, _) = Header::decode(stored)?;
        self.examine_parity(header.payload_len, stored)
    }

    fn examine_parity(&self, payload_len: u64, stored: &[u8]) -> Result<(), DamageReason> {
        let payload_end = usize::try_from(payload_len).map_err(|_| DamageReason::Short)?;
        let parity = stored.get(payload_end..).ok_or(DamageReason::Short)?;
        let is_surplus = parity.len() as u64 > parity::parity_len(payload_len);
        match parity.is_empty() {
            true if self.config.parity => Err(DamageReason::NoParity),
            true => Ok(()),
            false if parity::is_whole(payload_len, parity) => Ok(()),
            false if is_surplus || !self.config.parity => Err(DamageReason::Surplus),
            false => Err(DamageReason::Parity),
        }
    }

    /// When packs were last read whole and found good, as far as this computer remembers.
    pub fn verified_packs(&self) -> Result<VerifiedPacks, RepoError> {
        Ok(VerifiedPacks::load(&self.cache.verified_path(self.id)?))
    }

    /// Remembers when packs were last read whole and found good.
    pub fn remember_verified(&self, verified: &VerifiedPacks) -> Result<(), RepoError> {
        let path = self.cache.verified_path(self.id)?;
        Ok(verified.save(&path).map_err(|source| CacheFolderError { path, source })?)
    }

    /// Whether the text that explains the repository is there, and as it was written.
    pub fn examine_readme(&self) -> Result<bool, RepoError> {
        match self.storage().get(&names::readme()) {
            Ok(text) => Ok(text == settings::README.as_bytes()),
            Err(StorageError::Missing { .. } | StorageError::Failed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A statement of a lease; `None` if it is not there any more.
    pub fn examine_lease(
        &self,
        id: SnapshotId,
        number: Option<u32>,
    ) -> Result<Option<Result<LeaseStatement, DamageReason>>, RepoError> {
        let name = number.map_or_else(|| names::lease_end(&id), |number| names::lease(&id, number));
        let stored = match self.storage().get(&name) {
            Ok(stored) => stored,
            Err(StorageError::Missing { .. }) => return Ok(None),
            Err(error @ StorageError::Failed { .. }) => {
                return Ok(Some(Err(DamageReason::unreadable(&error))));
            }
            Err(error) => return Err(error.into()),
        };
        let open = || {
            let kind = ObjectKind::Lease;
            let plain = sealing::open_object(&self.keys, self.id, kind, Some(name.as_str()), &stored)?;
            let statement = LeaseStatement::decode(&plain)?;
            if statement.lease != id || number.is_some_and(|number| statement.number != number) {
                return Err(DamageReason::Kind);
            }
            self.examine_end(&stored)?;
            Ok(statement)
        };
        Ok(Some(open()))
    }

    /// Reads an index object and compares its bytes with its name and its parity. `None` if it is not there any
    /// more; otherwise what it says, where that can be read or mended, and what is wrong with it.
    #[expect(clippy::type_complexity, reason = "two answers, either of which may be missing")]
    pub fn examine_index_object(
        &self,
        id: IndexObjectId,
    ) -> Result<Option<(Option<IndexObject>, Result<(), DamageReason>)>, RepoError> {
        let stored = match self.storage().get(&names::index_object(&id)) {
            Ok(stored) => stored,
            Err(StorageError::Missing { .. }) => return Ok(None),
            Err(error @ StorageError::Failed { .. }) => {
                return Ok(Some((None, Err(DamageReason::unreadable(&error)))));
            }
            Err(error) => return Err(error.into()),
        };
        let object = self.open_index_object(id, &stored);
        let bytes_are_good = || {
            let (header, _) = Header::decode(&stored)?;
            let payload = sealing::payload_of(&stored).ok_or(DamageReason::Short)?;
            if payload_id(payload) != *id.bytes() {
                return Err(DamageReason::Id);
            }
            self.examine_parity(header.payload_len, &stored)
        };
        Ok(Some(match object {
            Ok(object) => (Some(object), bytes_are_good()),
            Err(reason) => (None, Err(reason)),
        }))
    }
}

impl TreeReader {
    /// Reads the node at `place`, which must be what `reference` says in every way: its id, its kind, and an encoding
    /// that is the only one of what it says.
    pub fn examine_node(&self, reference: NodeRef, place: Place) -> Result<Node, RepoError> {
        let chunks = self.chunk_reader();
        let ids = &chunks.repo().keys.ids;
        let bytes = chunks.read_place(place)?;
        let bytes = bytes.as_ref();
        let id_is_right = match reference {
            NodeRef::Directory(id) => ids.node(bytes) == id,
            NodeRef::List(id) => ids.list(bytes) == id,
        };
        let damaged = |source| RepoError::Damaged { name: format!("node {}", reference.content()), source };
        if !id_is_right {
            return Err(damaged(DamageReason::Id));
        }
        let node = Node::decode(bytes).map_err(|error| damaged(error.into()))?;
        let kind_is_right = match (&node, reference) {
            (Node::DirectoryLeaf(_) | Node::DirectoryBranch(_), NodeRef::Directory(_)) => true,
            (Node::ListLeaf(_) | Node::ListBranch(_), NodeRef::List(_)) => true,
            (
                Node::DirectoryLeaf(_) | Node::DirectoryBranch(_) | Node::ListLeaf(_) | Node::ListBranch(_),
                _,
            ) => false,
        };
        if !kind_is_right {
            return Err(damaged(DamageReason::Kind));
        }
        let again = node.encode().map_err(|error| damaged(error.into()))?;
        if again == bytes { Ok(node) } else { Err(damaged(DamageReason::Encoding)) }
    }
}

fn examine_id(id: &[u8; 32], stored: &[u8]) -> Result<(), DamageReason> {
    let payload = sealing::payload_of(stored).ok_or(DamageReason::Short)?;
    if payload_id(payload) == *id { Ok(()) } else { Err(DamageReason::Id) }
}
