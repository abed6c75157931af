//! What was seen where, grouped: by host and path, and under each path by version. Pure.

use std::collections::HashMap;
use std::rc::Rc;

use crate::clock::Timestamp;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Content, Entry, EntryKind};
use crate::id::SnapshotId;

/// A snapshot in which something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Which.
    pub id: SnapshotId,
    /// When it was begun.
    pub time: Timestamp,
}

/// What was under a path for a while: kind, size, time and content tell versions apart. Of a folder, kind and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// What it was.
    pub kind: EntryKind,
    /// Bytes of a file; of a folder, those below it when it was last seen.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// The first snapshot that has it.
    pub first: Sighting,
    /// The last one. Between the two there may be some that do not.
    pub last: Sighting,
    /// How many snapshots have it.
    pub snapshot_count: u64,
    content: Content,
}

/// A path of a host, and what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPath {
    /// Whose snapshots.
    pub host: Rc<str>,
    /// Absolute.
    pub path: Vec<u8>,
    /// In the order in which they were first seen.
    pub versions: Vec<Version>,
}

#[derive(Default)]
pub(super) struct Versions {
    hosts: HashMap<Rc<str>, HashMap<Vec<u8>, Vec<Version>>>,
}

impl Versions {
    /// Snapshots come oldest first.
    pub(super) fn add(&mut self, path: &[u8], entry: &Entry, snapshot: &Snapshot) {
        let seen = Sighting { id: snapshot.id, time: snapshot.started_at };
        if !self.hosts.contains_key(snapshot.host.as_str()) {
            self.hosts.insert(snapshot.host.as_str().into(), HashMap::new());
        }
        let Some(paths) = self.hosts.get_mut(snapshot.host.as_str()) else { return };
        if !paths.contains_key(path) {
            paths.insert(path.to_vec(), Vec::new());
        }
        let Some(versions) = paths.get_mut(path) else { return };
        let is_folder = entry.kind == EntryKind::Directory;
        let known = versions.iter_mut().rev().find(|version| {
            version.kind == entry.kind
                && version.mtime == entry.mtime
                && (is_folder || (version.size == entry.size && version.content == entry.content))
        });
        match known {
            Some(version) => {
                version.size = entry.size;
                version.last = seen;
                version.snapshot_count += 1;
            }
            None => versions.push(Version {
                kind: entry.kind,
                size: entry.size,
                mtime: entry.mtime,
                first: seen,
                last: seen,
                snapshot_count: 1,
                content: if is_folder { Content::None } else { entry.content.clone() },
            }),
        }
    }

    pub(super) fn sorted(self) -> Vec<FoundPath> {
        let of_host = |(host, paths): (Rc<str>, HashMap<_, _>)| {
            paths.into_iter().map(move |(path, versions)| FoundPath { host: host.clone(), path, versions })
        };
        let mut found: Vec<FoundPath> = self.hosts.into_iter().flat_map(of_host).collect();
        found.sort_by(|one, other| (&one.host, &one.path).cmp(&(&other.host, &other.path)));
        found
    }
}
