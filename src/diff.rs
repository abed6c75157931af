//! Two trees compared: what was added, removed, changed, renamed.
//!
//! Both trees are walked side by side, by name. What has the same node id on both sides is the same and is not read:
//! neither a folder, nor a part of a large one. So the work is that of the difference, and so is the memory.
//!
//! - **Contents** differ if the chunks, the holes, the target of a link or the numbers of a device do. **Metadata** is
//!   mode, owner, time, extended attributes and inode flags. The time of a folder is not told: it says no more than that
//!   something in it came or went.
//! - **Renamed** is what is gone from one place and new at one other, with the same content, if neither side has that
//!   content twice and it is not empty. A folder whose node is the same moved as a whole, and is one change; it is not
//!   read either.
//! - Another kind of thing under the same name is one that was removed and one that was added.

mod compare;
mod merge;
mod renames;

#[cfg(test)]
mod tests;

pub use compare::Aspects;

use crate::event::{Observer, Progress};
use crate::format::tree::{Content, Entry, EntryKind};
use crate::id::NodeId;
use crate::repo::{FolderNodes, RepoError};

use merge::{Merge, Pair};
use renames::Lone;

/// Something in one of the trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// From the top of what is compared; without a slash in front of it.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file; of a folder, those of everything below it.
    pub size: u64,
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the second tree has it.
    Added(Item),
    /// Only the first tree has it.
    Removed(Item),
    /// Both have it, and it differs in at least one aspect.
    Changed {
        /// As it is in the second tree.
        item: Item,
        /// Bytes in the first tree.
        size_before: u64,
        /// In what it differs.
        aspects: Aspects,
    },
    /// It has another path. A folder comes with all that is in it, unchanged.
    Renamed {
        /// Its path in the first tree.
        from: Vec<u8>,
        /// As it is in the second tree.
        item: Item,
        /// In what it differs besides; never in its contents.
        aspects: Aspects,
    },
}

impl Change {
    /// What changed; in the second tree, where that has it.
    pub fn item(&self) -> &Item {
        match self {
            Self::Added(item)
            | Self::Removed(item)
            | Self::Changed { item, .. }
            | Self::Renamed { item, .. } => item,
        }
    }
}

/// Files, folders, and other things of one sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Regular files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Links, devices, named pipes, sockets.
    pub others: u64,
    /// Bytes of the files. Of renamed folders, all below them.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, item: &Item, counts_below: bool) {
        match item.kind {
            EntryKind::File => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(item.size);
            }
            EntryKind::Directory => {
                self.folders += 1;
                if counts_below {
                    self.bytes = self.bytes.saturating_add(item.size);
                }
            }
            EntryKind::Symlink
            | EntryKind::BlockDevice
            | EntryKind::CharDevice
            | EntryKind::Fifo
            | EntryKind::Socket => self.others += 1,
        }
    }
}

/// How two trees differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiffReport {
    /// By path, a folder before what is in it.
    pub changes: Vec<Change>,
    /// What only the second tree has.
    pub added: Tally,
    /// What only the first tree has.
    pub removed: Tally,
    /// What has other contents; sizes of the second tree.
    pub contents: Tally,
    /// What has other metadata only.
    pub metadata: Tally,
    /// What has another path only.
    pub renamed: Tally,
}

impl DiffReport {
    fn new(mut changes: Vec<Change>) -> Self {
        let key = |change: &Change| matches!(change, Change::Added(_));
        changes.sort_by(|one, other| {
            by_path(&one.item().path, &other.item().path).then(key(one).cmp(&key(other)))
        });
        let mut report = Self::default();
        for change in &changes {
            let tally = match change {
                Change::Added(_) => &mut report.added,
                Change::Removed(_) => &mut report.removed,
                Change::Changed { aspects, .. } if aspects.contents => &mut report.contents,
                Change::Changed { .. } => &mut report.metadata,
                Change::Renamed { .. } => &mut report.renamed,
            };
            tally.add(change.item(), matches!(change, Change::Renamed { .. }));
        }
        Self { changes, ..report }
    }
}

/// The order of a walk: folders before what is in them, and that before whatever follows the folder.
fn by_path(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    one.split(|byte| *byte == b'/').cmp(other.split(|byte| *byte == b'/'))
}

/// Compares what is in two folders. `None` is interrupted by the observer.
pub fn folders(
    nodes: &dyn FolderNodes,
    before: NodeId,
    after: NodeId,
    observer: &dyn Observer,
) -> Result<Option<DiffReport>, RepoError> {
    let mut walk = Walk { nodes, observer, changes: Vec::new(), removed: Vec::new(), added: Vec::new() };
    if !walk.both(before, after)? {
        return Ok(None);
    }
    let Walk { mut changes, mut removed, mut added, .. } = walk;
    // Folders that moved are matched before what is in the others is read.
    renames::folders(&mut removed, &mut added, &mut changes);
    let (Some(mut removed), Some(mut added)) =
        (expand(nodes, observer, removed)?, expand(nodes, observer, added)?)
    else {
        return Ok(None);
    };
    renames::folders(&mut removed, &mut added, &mut changes);
    renames::files(&mut removed, &mut added, &mut changes);
    changes.extend(removed.into_iter().map(|lone| Change::Removed(lone.item())));
    changes.extend(added.into_iter().map(|lone| Change::Added(lone.item())));
    Ok(Some(DiffReport::new(changes)))
}

/// Compares two entries that are no folders, as if both had this path.
pub fn entries(path: &[u8], before: Entry, after: Entry) -> DiffReport {
    let lone = |entry| Lone { path: path.to_vec(), entry };
    let changes = if before.kind != after.kind {
        vec![Change::Removed(lone(before).item()), Change::Added(lone(after).item())]
    } else {
        changed(path, &before, &after).into_iter().collect()
    };
    DiffReport::new(changes)
}

fn changed(path: &[u8], before: &Entry, after: &Entry) -> Option<Change> {
    let aspects = Aspects::between(before, after);
    aspects.any().then(|| Change::Changed {
        item: Item { path: path.to_vec(), kind: after.kind, size: after.size },
        size_before: before.size,
        aspects,
    })
}

struct Walk<'w> {
    nodes: &'w dyn FolderNodes,
    observer: &'w dyn Observer,
    changes: Vec<Change>,
    /// What one side only has, in the order of the walk; folders unread.
    removed: Vec<Lone>,
    added: Vec<Lone>,
}

impl Walk<'_> {
    /// False if it was interrupted.
    fn both(&mut self, before: NodeId, after: NodeId) -> Result<bool, RepoError> {
        if before == after {
            return Ok(true);
        }
        let mut path = Vec::new();
        // A stack instead of recursion: a tree may be deeper than the stack of a thread.
        let mut open = vec![(Merge::new(self.nodes, Some(before), Some(after))?, 0)];
        while let Some((merge, len)) = open.last_mut() {
            path.truncate(*len);
            let Some(pair) = merge.next()? else {
                open.pop();
                continue;
            };
            push(&mut path, pair.name());
            if let Some((before, after)) = self.pair(&path, pair) {
                if self.observer.is_interrupted() {
                    return Ok(false);
                }
                Progress::add(&self.observer.progress().files_done, 1);
                open.push((Merge::new(self.nodes, Some(before), Some(after))?, path.len()));
            }
        }
        Ok(true)
    }

    /// Notes how the two differ. Returns the nodes of folders that have to be gone into.
    fn pair(&mut self, path: &[u8], pair: Pair) -> Option<(NodeId, NodeId)> {
        let lone = |entry| Lone { path: path.to_vec(), entry };
        match pair {
            Pair::Before(entry) => self.removed.push(lone(entry)),
            Pair::After(entry) => self.added.push(lone(entry)),
            Pair::Both(before, after) if before.kind != after.kind => {
                self.removed.push(lone(before));
                self.added.push(lone(after));
            }
            Pair::Both(before, after) => {
                self.changes.extend(changed(path, &before, &after));
                if let (Content::Directory(before), Content::Directory(after)) =
                    (before.content, after.content)
                    && before != after
                {
                    return Some((before, after));
                }
            }
        }
        None
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// The same, each folder followed by everything in it. `None` if it was interrupted.
fn expand(
    nodes: &dyn FolderNodes,
    observer: &dyn Observer,
    lone: Vec<Lone>,
) -> Result<Option<Vec<Lone>>, RepoError> {
    let mut all = Vec::new();
    for top in lone {
        let mut path = top.path.clone();
        let mut open = Vec::new();
        if let Content::Directory(id) = top.entry.content {
            open.push((Merge::new(nodes, Some(id), None)?, path.len()));
        }
        all.push(top);
        while let Some((merge, len)) = open.last_mut() {
            path.truncate(*len);
            let Some(pair) = merge.next()? else {
                open.pop();
                continue;
            };
            let (Pair::Before(entry) | Pair::After(entry) | Pair::Both(entry, _)) = pair;
            push(&mut path, entry.name.as_slice());
            if let Content::Directory(id) = entry.content {
                if observer.is_interrupted() {
                    return Ok(None);
                }
                Progress::add(&observer.progress().files_done, 1);
                open.push((Merge::new(nodes, Some(id), None)?, path.len()));
            }
            all.push(Lone { path: path.clone(), entry });
        }
    }
    Ok(Some(all))
}
