//! Where and when a file existed: looks for names in all snapshots at once.
//!
//! Snapshots share most of their folders. So each node of a folder, or of a part of a large one, is read once, however
//! many snapshots hold it, and what it holds that could match is kept: the entries whose *name* fits a pattern, and the
//! folders below which there are such. Of all other nodes only the id is kept. Then every snapshot is walked in memory,
//! where patterns meet whole paths. So memory is that of the distinct nodes (some 50 bytes each) and of what is found.
//!
//! What is found is grouped by host and path, because the same path on two hosts is two files.

mod names;
mod versions;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;

pub use names::{Names, PatternError};
pub use versions::{FoundPath, Sighting, Version};

use crate::clock::Timestamp;
use crate::event::{Observer, Problem, Progress, with_causes};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Entry, EntryKind};
use crate::id::NodeId;
use crate::repo::{FolderNode, FolderNodes};

use versions::Versions;

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// The patterns.
    pub names: Names,
    /// Only things of these kinds; any, if empty.
    pub kinds: Vec<EntryKind>,
    /// Only what was last changed at this moment or later.
    pub newer: Option<Timestamp>,
    /// Only what was last changed at this moment or earlier.
    pub older: Option<Timestamp>,
}

impl FindOptions {
    fn may_match(&self, entry: &Entry) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.newer.is_none_or(|newer| entry.mtime >= newer)
            && self.older.is_none_or(|older| entry.mtime <= older)
            && self.names.may_match(entry.name.as_slice(), entry.kind == EntryKind::Directory)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct FindReport {
    /// By host and path.
    pub found: Vec<FoundPath>,
    /// How many snapshots were looked through.
    pub snapshot_count: u64,
    /// Folders that could not be read, each once, under the first path where it was met.
    pub problems: Vec<Problem>,
}

/// Looks through `snapshots`, oldest first. A folder that cannot be read is a problem, and the rest goes on. `None` if
/// the observer interrupted it.
pub fn run(
    nodes: &dyn FolderNodes,
    snapshots: &[Snapshot],
    options: &FindOptions,
    observer: &dyn Observer,
) -> Option<FindReport> {
    let mut finder = Finder { nodes, options, observer, known: HashMap::new(), problems: Vec::new() };
    let mut versions = Versions::default();
    for snapshot in snapshots {
        finder.read(snapshot.root)?;
        finder.walk(snapshot, &mut versions)?;
    }
    let found = versions.sorted();
    Some(FindReport { found, snapshot_count: snapshots.len() as u64, problems: finder.problems })
}

/// What of a node could match.
struct Kept {
    /// Entries whose names fit, and folders to go into.
    entries: Vec<KeptEntry>,
    /// Further nodes of the same folder.
    parts: Vec<NodeId>,
}

struct KeptEntry {
    entry: Entry,
    fits: bool,
    folder: Option<NodeId>,
}

struct Finder<'f> {
    nodes: &'f dyn FolderNodes,
    options: &'f FindOptions,
    observer: &'f dyn Observer,
    /// Every node that was read; `None` where nothing in or below it could match.
    known: HashMap<NodeId, Option<Box<Kept>>>,
    problems: Vec<Problem>,
}

/// A node on the way down.
struct Open {
    id: NodeId,
    kept: Kept,
    /// What is still to be read, the next one last: the path of each, and its node.
    below: Vec<(Vec<u8>, NodeId)>,
}

impl Finder<'_> {
    /// Reads what is not known yet of a tree, leaves first.
    fn read(&mut self, root: NodeId) -> Option<()> {
        // A stack instead of recursion: a tree may be deeper than the stack of a thread.
        let mut stack: Vec<Open> = Vec::new();
        stack.extend(self.open(Vec::new(), root));
        while let Some(top) = stack.last_mut() {
            if self.observer.is_interrupted() {
                return None;
            }
            if let Some((path, id)) = top.below.pop() {
                if !self.known.contains_key(&id) {
                    stack.extend(self.open(path, id));
                }
            } else if let Some(Open { id, kept, .. }) = stack.pop() {
                let kept = self.pruned(kept);
                self.known.insert(id, kept);
            }
        }
        Some(())
    }

    /// Reads a node. `None` for one that is known by then, because it cannot be read or was read before.
    fn open(&mut self, path: Vec<u8>, id: NodeId) -> Option<Open> {
        if self.known.contains_key(&id) {
            return None;
        }
        Progress::add(&self.observer.progress().files_done, 1);
        let mut open = Open { id, kept: Kept { entries: Vec::new(), parts: Vec::new() }, below: Vec::new() };
        match self.nodes.folder_node(id) {
            Ok(FolderNode::Leaf(entries)) => {
                for mut entry in entries {
                    let folder = entry.folder();
                    let fits = self.options.may_match(&entry);
                    if let Some(id) = folder {
                        open.below.push(([path.as_slice(), b"/", entry.name.as_slice()].concat(), id));
                    }
                    if fits || folder.is_some() {
                        entry.extensions = Vec::new();
                        open.kept.entries.push(KeptEntry { entry, fits, folder });
                    }
                }
            }
            Ok(FolderNode::Branch(parts)) => {
                open.below.extend(parts.iter().map(|part| (path.clone(), *part)));
                open.kept.parts = parts;
            }
            Err(error) => {
                let problem = Problem { path: to_path(&path), message: with_causes(&error) };
                self.observer.problem(&problem);
                self.problems.push(problem);
                self.known.insert(id, None);
                return None;
            }
        }
        Some(open)
    }

    /// Without folders and parts in which there is nothing, once all of them are known.
    fn pruned(&self, mut kept: Kept) -> Option<Box<Kept>> {
        let has_any = |id: &NodeId| self.known.get(id).is_some_and(Option::is_some);
        kept.parts.retain(has_any);
        for kept in &mut kept.entries {
            kept.folder = kept.folder.filter(has_any);
        }
        kept.entries.retain(|kept| kept.fits || kept.folder.is_some());
        kept.entries.shrink_to_fit();
        (!kept.parts.is_empty() || !kept.entries.is_empty()).then(|| Box::new(kept))
    }

    /// Meets patterns with the paths of a snapshot, all of whose nodes are known.
    fn walk(&self, snapshot: &Snapshot, versions: &mut Versions) -> Option<()> {
        let mut open: Vec<(Vec<u8>, NodeId)> = vec![(Vec::new(), snapshot.root)];
        while let Some((path, id)) = open.pop() {
            if self.observer.is_interrupted() {
                return None;
            }
            let Some(Some(kept)) = self.known.get(&id) else { continue };
            open.extend(kept.parts.iter().map(|part| (path.clone(), *part)));
            for KeptEntry { entry, fits, folder } in &kept.entries {
                let here = [path.as_slice(), b"/", entry.name.as_slice()].concat();
                if *fits && self.options.names.matches(&here, entry.kind == EntryKind::Directory) {
                    versions.add(&here, entry, snapshot);
                }
                open.extend(folder.map(|id| (here, id)));
            }
        }
        Some(())
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let bytes = if bytes.is_empty() { b"/" } else { bytes };
    std::ffi::OsStr::from_bytes(bytes).into()
}
