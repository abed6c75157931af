//! Where each object of a repository lies (docs/format.md, "Names").

use crate::id::{IndexObjectId, PackId, SlotId, SnapshotId};
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

/// The second copy of a small control object.
pub fn copy(of: &ObjectName) -> ObjectName {
    name(format!("{COPY}/{of}"))
}
