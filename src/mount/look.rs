//! From a number to the entry, and to what the kernel is told of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};

use crate::clock::Timestamp;
use crate::format::node::Node;
use crate::format::tree::{Content, Entry, EntryKind};
use crate::id::{NodeId, SnapshotId};
use crate::limits;
use crate::mount::content;
use crate::mount::links::Links;
use crate::mount::numbers::{Leaf, Meaning, Numbers, Opened};
use crate::mount::origin::Origin;
use crate::repo::{DamageReason, RepoError, link_group};
use crate::target::OwnerMap;

/// Bytes that a folder is said to have; what is below it would be counted twice by whoever adds up.
const FOLDER_SIZE: u64 = 4096;
/// Bytes of a unit in which the space of a file is counted.
const UNIT: u64 = 512;

/// A snapshot, or the part of one that is shown.
pub(super) struct Tree {
    /// Of the snapshot.
    pub(super) id: SnapshotId,
    /// The folder that is shown.
    pub(super) root: NodeId,
    /// When the backup began.
    pub(super) started_at: Timestamp,
    /// Whose the files are on this computer.
    pub(super) owners: OwnerMap,
    /// How many names files have.
    pub(super) links: Links,
    /// The entry that is shown: of the folder, or the only file that there is.
    pub(super) shown: Option<Box<Entry>>,
}

/// An entry where it was found.
pub(super) enum Seen {
    /// In a leaf.
    InLeaf(Arc<Node>, usize),
    /// The one that its tree shows.
    Shown(Arc<Tree>),
}

impl Seen {
    /// The entry.
    pub(super) fn entry(&self) -> Option<&Entry> {
        match self {
            Self::InLeaf(node, place) => leaf_entries(node).get(*place),
            Self::Shown(tree) => tree.shown.as_deref(),
        }
    }
}

/// The entries of a leaf; of anything else none.
pub(super) fn leaf_entries(node: &Node) -> &[Entry] {
    match node {
        Node::DirectoryLeaf(leaf) => &leaf.entries,
        Node::DirectoryBranch(_) | Node::ListLeaf(_) | Node::ListBranch(_) => &[],
    }
}

/// The entry of a leaf at a place.
pub(super) fn see(origin: &Origin, leaf: &Leaf, place: usize) -> Result<Seen, RepoError> {
    Ok(Seen::InLeaf(origin.directory_node(leaf.node)?, place))
}

/// The leaves of a folder, in order.
pub(super) fn leaves(origin: &Origin, folder: NodeId) -> Result<Vec<NodeId>, RepoError> {
    let mut leaves = Vec::new();
    let mut open = vec![vec![folder].into_iter()];
    while let Some(level) = open.last_mut() {
        let Some(id) = level.next() else {
            open.pop();
            continue;
        };
        // Most folders are one leaf, which is wanted next; the leaves below a branch are not read yet.
        match &*origin.directory_node(id)? {
            Node::DirectoryLeaf(_) => leaves.push(id),
            Node::DirectoryBranch(branch) if open.len() < limits::NODE_LEVEL_COUNT_MAX => {
                let below: Vec<_> = branch.children.iter().map(|part| part.id).collect();
                open.push(below.into_iter());
            }
            Node::DirectoryBranch(_) | Node::ListLeaf(_) | Node::ListBranch(_) => {
                let source = DamageReason::Kind;
                return Err(RepoError::Damaged { name: format!("node {}", id.content()), source });
            }
        }
    }
    Ok(leaves)
}

/// An entry that was looked for.
pub(super) struct FoundEntry {
    /// Which leaf of the folder holds it.
    pub(super) at: usize,
    /// Where in the leaf.
    pub(super) place: usize,
    /// The leaf, decoded.
    pub(super) node: Arc<Node>,
    /// The leaf.
    pub(super) leaf: Leaf,
}

/// The entry with this name in an opened folder.
pub(super) fn find(
    origin: &Origin,
    leaf_of: impl Fn(usize) -> Option<Leaf>,
    opened: Opened,
    name: &[u8],
) -> Result<Option<FoundEntry>, RepoError> {
    let (mut low, mut high) = (0, opened.leaf_count());
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(leaf) = leaf_of(middle) else { return Ok(None) };
        let node = origin.directory_node(leaf.node)?;
        let entries = leaf_entries(&node);
        match entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)) {
            Ok(place) => return Ok(Some(FoundEntry { at: middle, place, node, leaf })),
            Err(0) => high = middle,
            Err(place) if place == entries.len() => low = middle + 1,
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// What the kernel is told of an entry whose own number is `number`.
pub(super) fn attributes(origin: &Origin, tree: &Tree, number: u64, entry: &Entry) -> FileAttr {
    let (number, link_count) = match link_group(entry) {
        Some(group) => {
            let count = tree.links.count(origin, tree.root, &group);
            (tree.links.number(group, number), count)
        }
        // Of folders it says nothing, as on Btrfs: what is in them would have to be read.
        None => (number, 1),
    };
    let (size, stored) = match (&entry.content, entry.kind) {
        (_, EntryKind::Directory) => (FOLDER_SIZE, FOLDER_SIZE),
        (Content::LinkTarget(target), _) => (target.as_slice().len() as u64, 0),
        _ => (entry.size, entry.size.saturating_sub(content::hole_bytes(entry))),
    };
    let (uid, gid) = tree.owners.local(entry.uid, entry.gid);
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: stored.div_ceil(4096).saturating_mul(4096 / UNIT),
        atime: moment(entry.mtime),
        mtime: moment(entry.mtime),
        ctime: moment(entry.ctime),
        crtime: UNIX_EPOCH,
        kind: kind_of(entry.kind),
        perm: entry.mode,
        nlink: link_count,
        uid,
        gid,
        rdev: match entry.content {
            Content::Device(major, minor) => device_number(major, minor),
            _ => 0,
        },
        blksize: 4096,
        flags: 0,
    }
}

/// What the kernel is told of a folder that no snapshot knows more of.
pub(super) fn plain_folder(number: u64, changed_at: Timestamp) -> FileAttr {
    let at = moment(changed_at);
    FileAttr {
        ino: INodeNo(number),
        size: FOLDER_SIZE,
        blocks: FOLDER_SIZE / UNIT,
        atime: at,
        mtime: at,
        ctime: at,
        crtime: UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0o755,
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// The kind as the kernel names it.
pub(super) fn kind_of(kind: EntryKind) -> FileType {
    match kind {
        EntryKind::Directory => FileType::Directory,
        EntryKind::File => FileType::RegularFile,
        EntryKind::Symlink => FileType::Symlink,
        EntryKind::BlockDevice => FileType::BlockDevice,
        EntryKind::CharDevice => FileType::CharDevice,
        EntryKind::Fifo => FileType::NamedPipe,
        EntryKind::Socket => FileType::Socket,
    }
}

/// A device number as the kernel exchanges it: 12 bits of major, 20 of minor, interleaved.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// A moment that the system cannot say is 1970.
fn moment(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let at = match time.seconds >= 0 {
        true => UNIX_EPOCH.checked_add(whole),
        false => UNIX_EPOCH.checked_sub(whole),
    };
    let at = at.and_then(|at| at.checked_add(Duration::from_nanos(time.nanoseconds.into())));
    at.unwrap_or(UNIX_EPOCH)
}

/// The path of a number, for people.
pub(super) fn path_of(origin: &Origin, numbers: impl Fn(u64) -> Option<Meaning>, number: u64) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut at = number;
    for _ in 0..limits::DIRECTORY_DEPTH_MAX {
        let Some(Meaning::Entry(leaf, place)) = numbers(at) else { break };
        let seen = see(origin, &leaf, place).ok();
        let name = seen.as_ref().and_then(Seen::entry).map(|entry| entry.name.as_slice().to_vec());
        parts.push(name.unwrap_or_else(|| b"?".to_vec()));
        at = leaf.folder;
    }
    if let Some(Meaning::Root(tree)) = numbers(at) {
        parts.push(tree.id.short().into_bytes());
    }
    parts.reverse();
    parts.join(&b'/')
}

/// Makes sure that a folder is opened; `content` says where it is.
pub(super) fn open(
    origin: &Origin,
    numbers: &std::sync::RwLock<Numbers>,
    number: u64,
    node: NodeId,
) -> Result<Option<Opened>, RepoError> {
    if let Some(opened) = numbers.read().expect("no holder of this lock panics").opened(number) {
        return Ok(Some(opened));
    }
    let leaves = leaves(origin, node)?;
    Ok(numbers.write().expect("no holder of this lock panics").open(number, &leaves))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_those_of_the_kernel() {
        assert_eq!(device_number(8, 1), 0x801);
        assert_eq!(device_number(259, 0x12345), 0x1231_0345);
    }

    #[test]
    fn moments_before_1970_and_beyond_all_calendars_do_no_harm() {
        let at = moment(Timestamp { seconds: -1, nanoseconds: 250_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(at).unwrap(), Duration::from_millis(750));
        for seconds in [i64::MIN, i64::MAX] {
            moment(Timestamp { seconds, nanoseconds: 999_999_999 });
        }
    }
}
