//! Which snapshot, and what in it, a person means.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::cli::args::{Narrow, SnapshotName};
use crate::cli::exit::Failure;
use crate::format::snapshot::Snapshot;
use crate::format::tree::Entry;
use crate::id::NodeId;
use crate::repo::{Repo, RepoError, SnapshotFilter, SnapshotList, TreeReader};
use crate::wire::Bytes;

impl Narrow {
    /// Whether the snapshot is one of those that are meant.
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        let has_tags = |tags: &String| tags.split(',').all(|tag| snapshot.tags.iter().any(|has| has == tag));
        let has_path = |path: &[u8]| snapshot.paths.iter().any(|held| held.as_slice() == path);
        (self.host.is_empty() || self.host.contains(&snapshot.host))
            && (self.tag.is_empty() || self.tag.iter().any(has_tags))
            && self.path.iter().all(|path| has_path(&absolute(path)))
    }

    /// Only the snapshots that are meant.
    pub fn narrowed(&self, mut list: SnapshotList) -> SnapshotList {
        list.snapshots.retain(|snapshot| self.fits(snapshot));
        list
    }
}

/// The snapshot of this name; `narrow` says which ones `latest` counts.
pub fn find_snapshot(repo: &Repo, name: &SnapshotName, narrow: &Narrow) -> Result<Snapshot, Failure> {
    let list = repo.snapshots()?;
    let list = match name {
        SnapshotName::Latest(_) => narrow.narrowed(list),
        SnapshotName::Prefix(_) => list,
    };
    Ok(list.select(&name.to_string(), &SnapshotFilter::default())?.clone())
}

/// Something in a snapshot.
pub enum Found {
    /// The folder `/`, of which a snapshot keeps no metadata.
    Root(NodeId),
    /// Anything else.
    Entry(Box<Entry>),
}

impl Found {
    /// The node, if it is a folder.
    pub fn folder(&self) -> Option<NodeId> {
        match self {
            Self::Root(id) => Some(*id),
            Self::Entry(entry) => entry.folder(),
        }
    }
}

/// What is at this path of a snapshot.
pub fn find_path(reader: &TreeReader, root: NodeId, path: &Path) -> Result<Found, RepoError> {
    let path = in_snapshot(path);
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    Ok(match reader.resolve(root, &parts)? {
        Some(entry) => Found::Entry(Box::new(entry)),
        None => Found::Root(root),
    })
}

/// A path inside a snapshot, where every path begins at `/`: absolute, without `.`, `..` and doubled slashes.
pub fn in_snapshot(path: &Path) -> Vec<u8> {
    let mut clean = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                clean.push(b'/');
                clean.extend_from_slice(name.as_bytes());
            }
            Component::ParentDir => {
                let end = clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                clean.truncate(end);
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if clean.is_empty() { b"/".to_vec() } else { clean }
}

/// A path of this computer as a snapshot lists it.
fn absolute(path: &Path) -> Vec<u8> {
    in_snapshot(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Numbers of users or groups, each with its name.
pub type OwnerNames = Vec<(u32, Bytes)>;

/// The users and the groups that a snapshot names.
pub fn owner_names(snapshot: &Snapshot) -> (OwnerNames, OwnerNames) {
    let named = |is_group| {
        let owners = snapshot.owners.iter().filter(move |owner| owner.is_group == is_group);
        owners.map(|owner| (owner.number, Bytes::from(owner.name.as_bytes()))).collect()
    };
    (named(false), named(true))
}

/// Bytes as a path.
pub fn to_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_a_snapshot_begin_at_the_root() {
        let shown = |path: &str| String::from_utf8(in_snapshot(Path::new(path))).unwrap();
        assert_eq!(shown("/a//b/./c/../d/"), "/a/b/d");
        assert_eq!(shown("a"), "/a");
        for path in ["", "/", ".", "../.."] {
            assert_eq!(shown(path), "/", "{path:?}");
        }
    }
}
