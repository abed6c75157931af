//! Where each object of a repository lies (docs/format.md, "Names").

use crate::id::{BodyId, ForgetId, IndexObjectId, PackId, SlotId, SnapshotId};
use crate::index::PackKind;
use crate::storage::ObjectName;

pub const README: &str = "README";
pub const CONFIG: &str = "config";
pub const SLOT: &str = "slot";
pub const KEYRING: &str = "keyring";
pub const DATA: &str = "data";
pub const META: &str = "meta";
pub const INDEX: &str = "index";
pub const LEASE: &str = "lease";
pub const SNAPSHOT: &str = "snapshot";
pub const FORGET: &str = "forget";
pub const PRUNE: &str = "prune";
pub const BODY: &str = "body";
pub const TEMPORARY: &str = "tmp";
pub const COPY: &str = "copy";
pub const RESERVE: &str = "reserve";

fn name(text: String) -> ObjectName {
    ObjectName::new(text).expect("made of fixed words, digits and hexadecimal")
}

/// The text that explains the repository to whoever finds it.
pub fn readme() -> ObjectName {
    name(README.to_owned())
}

/// The file that prune may delete to gain room on a full disk.
pub fn reserve() -> ObjectName {
    name(RESERVE.to_owned())
}

/// Settings by number.
pub fn config(number: u64) -> ObjectName {
    name(format!("{CONFIG}/{number}"))
}

/// A keyring by number.
pub fn keyring(number: u64) -> ObjectName {
    name(format!("{KEYRING}/{number}"))
}

/// A slot.
pub fn slot(id: &SlotId) -> ObjectName {
    name(format!("{SLOT}/{id}"))
}

/// A pack.
pub fn pack(kind: PackKind, id: &PackId) -> ObjectName {
    let folder = match kind {
        PackKind::Data => DATA,
        PackKind::Meta => META,
    };
    let id = id.to_string();
    let fan_out = id.get(..2).unwrap_or_default();
    name(format!("{folder}/{fan_out}/{id}"))
}

/// An index object.
pub fn index_object(id: &IndexObjectId) -> ObjectName {
    name(format!("{INDEX}/{id}"))
}

/// The `number`-th statement of a lease.
pub fn lease(id: &SnapshotId, number: u32) -> ObjectName {
    name(format!("{LEASE}/{id}.{number}"))
}

/// The last statement of a lease whose writer may not delete.
pub fn lease_end(id: &SnapshotId) -> ObjectName {
    name(format!("{LEASE}/{id}.end"))
}

/// A snapshot, or the tombstone in its place.
pub fn snapshot(id: &SnapshotId) -> ObjectName {
    name(format!("{SNAPSHOT}/{id}"))
}

/// A forget record.
pub fn forget(id: &ForgetId) -> ObjectName {
    name(format!("{FORGET}/{id}"))
}

/// The plan of a prune.
pub fn plan(number: u64) -> ObjectName {
    name(format!("{PRUNE}/{number:08}.plan"))
}

/// The verdict of a prune.
pub fn verdict(number: u64) -> ObjectName {
    name(format!("{PRUNE}/{number:08}.verdict"))
}

/// The end of a prune.
pub fn done(number: u64) -> ObjectName {
    name(format!("{PRUNE}/{number:08}.done"))
}

/// The long lists of a plan or verdict.
pub fn body(id: &BodyId) -> ObjectName {
    name(format!("{BODY}/{id}"))
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The text that explains the repository.
    Readme,
    /// The file that prune may delete.
    Reserve,
    /// Settings by number.
    Config(u64),
    /// A slot.
    Slot(SlotId),
    /// A keyring by number.
    Keyring(u64),
    /// A pack.
    Pack(PackKind, PackId),
    /// An index object.
    Index(IndexObjectId),
    /// A statement of a lease by number, or its end.
    Lease(SnapshotId, Option<u32>),
    /// A snapshot, or the tombstone in its place.
    Snapshot(SnapshotId),
    /// A forget record.
    Forget(ForgetId),
    /// The plan of a prune.
    Plan(u64),
    /// The verdict of a prune.
    Verdict(u64),
    /// The end of a prune.
    Done(u64),
    /// The long lists of a plan or verdict.
    Body(BodyId),
    /// Something unfinished.
    Temporary,
}

/// What `name` stands for; `None` for a name that no object of a repository has.
pub fn parse(of: &ObjectName) -> Option<Named> {
    let (folder, leaf) = of.as_str().split_once('/').unwrap_or(("", of.as_str()));
    let named = match folder {
        "" if leaf == README => Named::Readme,
        "" if leaf == RESERVE => Named::Reserve,
        CONFIG => Named::Config(leaf.parse().ok()?),
        KEYRING => Named::Keyring(leaf.parse().ok()?),
        SLOT => Named::Slot(leaf.parse().ok()?),
        DATA => Named::Pack(PackKind::Data, of.leaf().parse().ok()?),
        META => Named::Pack(PackKind::Meta, of.leaf().parse().ok()?),
        INDEX => Named::Index(leaf.parse().ok()?),
        LEASE => {
            let (id, number) = leaf.split_once('.')?;
            let number = if number == "end" { None } else { Some(number.parse().ok()?) };
            Named::Lease(id.parse().ok()?, number)
        }
        SNAPSHOT => Named::Snapshot(leaf.parse().ok()?),
        FORGET => Named::Forget(leaf.parse().ok()?),
        PRUNE => {
            let (number, kind) = leaf.split_once('.')?;
            let number = number.parse().ok()?;
            match kind {
                "plan" => Named::Plan(number),
                "verdict" => Named::Verdict(number),
                "done" => Named::Done(number),
                _ => return None,
            }
        }
        BODY => Named::Body(leaf.parse().ok()?),
        TEMPORARY => return Some(Named::Temporary),
        _ => return None,
    };
    // A number may be written in several ways, and a pack may lie in the folder of another.
    (named.object_name().as_ref() == Some(of)).then_some(named)
}

impl Named {
    /// The one name that stands for it, where there is only one.
    pub fn object_name(&self) -> Option<ObjectName> {
        Some(match self {
            Self::Readme => readme(),
            Self::Reserve => reserve(),
            Self::Config(number) => config(*number),
            Self::Slot(id) => slot(id),
            Self::Keyring(number) => keyring(*number),
            Self::Pack(kind, id) => pack(*kind, id),
            Self::Index(id) => index_object(id),
            Self::Lease(id, Some(number)) => lease(id, *number),
            Self::Lease(id, None) => lease_end(id),
            Self::Snapshot(id) => snapshot(id),
            Self::Forget(id) => forget(id),
            Self::Plan(number) => plan(*number),
            Self::Verdict(number) => verdict(*number),
            Self::Done(number) => done(*number),
            Self::Body(id) => body(id),
            Self::Temporary => return None,
        })
    }

    /// Whether there is a second copy of it, where copies are kept.
    pub fn has_copy(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::Slot(_)
            | Self::Keyring(_)
            | Self::Snapshot(_)
            | Self::Forget(_)
            | Self::Plan(_)
            | Self::Verdict(_)
            | Self::Done(_) => true,
            Self::Readme
            | Self::Reserve
            | Self::Pack(..)
            | Self::Index(_)
            | Self::Lease(..)
            | Self::Body(_)
            | Self::Temporary => false,
        }
    }
}

/// The second copy of a small control object.
pub fn copy(of: &ObjectName) -> ObjectName {
    name(format!("{COPY}/{of}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_parsed_as_what_it_was_made_from() {
        let all = [
            Named::Readme,
            Named::Reserve,
            Named::Config(7),
            Named::Slot(SlotId::new([1; 16])),
            Named::Keyring(12),
            Named::Pack(PackKind::Data, PackId::new([0xab; 32])),
            Named::Pack(PackKind::Meta, PackId::new([2; 32])),
            Named::Index(IndexObjectId::new([3; 32])),
            Named::Lease(SnapshotId::new([4; 16]), Some(17)),
            Named::Lease(SnapshotId::new([4; 16]), None),
            Named::Snapshot(SnapshotId::new([5; 16])),
            Named::Forget(ForgetId::new([6; 32])),
            Named::Plan(1),
            Named::Verdict(123_456_789),
            Named::Done(7),
            Named::Body(BodyId::new([8; 32])),
        ];
        for named in all {
            assert_eq!(parse(&named.object_name().unwrap()), Some(named));
        }
    }

    #[test]
    fn a_name_in_the_wrong_place_stands_for_nothing() {
        let id = PackId::new([0xab; 32]);
        for text in [
            "readme".to_owned(),
            "config/01".to_owned(),
            "config/a/1".to_owned(),
            format!("data/{id}"),
            format!("data/ac/{id}"),
            format!("data/ab/{id}.old"),
            format!("index/x/{id}"),
            format!("lease/{}.01", SnapshotId::new([1; 16])),
            "copy/config/1".to_owned(),
            "prune/1.plan".to_owned(),
            "prune/00000001.plan.old".to_owned(),
            "prune/00000001".to_owned(),
            format!("forget/{}", SnapshotId::new([1; 16])),
        ] {
            assert_eq!(parse(&ObjectName::new(text.clone()).unwrap()), None, "{text}");
        }
    }
}
