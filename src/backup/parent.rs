//! The parent snapshot: which one it is, and walking along it.

use std::collections::{HashMap, VecDeque};
use std::iter::Peekable;
use std::path::PathBuf;

use crate::backup::alike::{ALIKE_BYTES_MIN, MOVED_BYTES_MIN, likeness, nearest};
use crate::backup::{BackupError, BackupOptions, ParentChoice, same_host};
use crate::event::Observer;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{ChunkRef, Content, Entry, EntryKind};
use crate::id::NodeId;
use crate::repo::{
    ChunkList, DirectoryEntries, Drift, Earlier, EarlierChunk, Repo, SnapshotList, TreeReader,
};
use crate::source::Found;
use crate::wire::Bytes;

/// So far before and after a stretch it is looked whether the earlier version shares a chunk with it.
const EARLIER_MARGIN_BYTES: u64 = 64 << 20;

/// Files and folders among which the nearest name is looked for.
const SEARCHED_COUNT_MAX: usize = 1024;

/// The snapshot that tells what is unchanged: the newest of this host that holds all the paths.
pub fn choose(
    snapshots: &SnapshotList,
    repo: &Repo,
    options: &BackupOptions,
    sources: &[PathBuf],
) -> Result<Option<Snapshot>, BackupError> {
    match &options.parent {
        ParentChoice::None => Ok(None),
        ParentChoice::Named(selector) => Ok(Some(snapshots.select(selector, &Default::default())?.clone())),
        ParentChoice::Newest => {
            let mut filter = same_host(repo, options);
            let absolute = sources.iter().filter_map(|path| std::path::absolute(path).ok());
            filter.paths = absolute.map(|path| crate::backup::top::clean_bytes(&path)).collect();
            let newest = snapshots.snapshots.iter().rev().find(|snapshot| filter.fits(snapshot));
            Ok(newest.cloned())
        }
    }
}

/// A snapshot that the sources may resemble although it holds none of them: the newest of this host with a path beside
/// them of nearly the same name.
pub fn choose_alike(
    snapshots: &SnapshotList,
    repo: &Repo,
    options: &BackupOptions,
    sources: &[PathBuf],
) -> Option<Snapshot> {
    if options.parent != ParentChoice::Newest || options.base_depth_max == 0 {
        return None;
    }
    let filter = same_host(repo, options);
    let absolute = sources.iter().filter_map(|path| std::path::absolute(path).ok());
    let wanted: Vec<_> = absolute.map(|path| crate::backup::top::clean_bytes(&path)).collect();
    let is_alike = |snapshot: &&Snapshot| {
        let pairs = wanted.iter().flat_map(|path| snapshot.paths.iter().map(move |held| (path, held)));
        filter.fits(snapshot) && pairs.into_iter().any(|(path, held)| are_beside(path, held.as_slice()))
    };
    snapshots.snapshots.iter().rev().find(is_alike).cloned()
}

fn are_beside(one: &[u8], other: &[u8]) -> bool {
    let split = |path: &[u8]| {
        let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (folder, name) = path.split_at(at);
        (folder.to_vec(), name.to_vec())
    };
    let ((folder, name), (other_folder, other_name)) = (split(one), split(other));
    folder == other_folder && likeness(&name, &other_name).is_some()
}

/// What the parent has under the name of a file, as the version that its new contents may resemble.
pub fn earlier_version<'r>(reader: &'r TreeReader, before: Option<&Entry>) -> EarlierVersion<'r> {
    let content = before.filter(|before| before.kind == EntryKind::File).map(|before| &before.content);
    EarlierVersion {
        chunks: reader.chunks(content.unwrap_or(&Content::None)),
        window: VecDeque::new(),
        end: 0,
        drift: Drift::default(),
    }
}

/// The chunks of an earlier version, read along with the new one: only those around the stretch in hand are in memory.
pub struct EarlierVersion<'r> {
    chunks: ChunkList<'r>,
    window: VecDeque<EarlierChunk>,
    end: u64,
    drift: Drift,
}

impl EarlierVersion<'_> {
    /// What lies around `len` bytes from `at` on. Stretches are asked for in order.
    ///
    /// What cannot be read ends the earlier version: it is only there to be resembled.
    pub fn around(&mut self, at: u64, len: u64) -> Earlier {
        let at = at.saturating_add_signed(self.drift.get());
        let (from, to) = (at.saturating_sub(EARLIER_MARGIN_BYTES), at + len + EARLIER_MARGIN_BYTES);
        while self.end < to
            && let Some(Ok(ChunkRef { id, len })) = self.chunks.next()
        {
            self.window.push_back(EarlierChunk { id, start: self.end, len });
            self.end += u64::from(len);
        }
        while self.window.front().is_some_and(|chunk| chunk.start + u64::from(chunk.len) < from) {
            self.window.pop_front();
        }
        Earlier::new(self.window.iter().copied().collect(), self.drift.clone())
    }
}

/// The entries of a folder in the parent, asked for by ascending name.
pub struct ParentFolder<'r> {
    entries: Option<Peekable<DirectoryEntries<'r>>>,
    id: Option<NodeId>,
    /// Whether every entry so far was asked for.
    all_met: bool,
    reader: &'r TreeReader,
    /// Whether it is the folder of the same path, and not just one that resembles it.
    is_same: bool,
    /// Its files and folders, once something was met that it does not have.
    all: Option<Vec<Entry>>,
}

impl<'r> ParentFolder<'r> {
    /// The parent's version of a folder, if it has one.
    pub fn new(reader: &'r TreeReader, id: Option<NodeId>) -> Self {
        let entries = id.map(|id| reader.directory(id).peekable());
        Self { entries, id, all_met: true, reader, is_same: true, all: None }
    }

    /// A folder that may resemble the one that is scanned. Nothing in it tells that anything is unchanged.
    pub fn alike(reader: &'r TreeReader, id: Option<NodeId>) -> Self {
        Self { is_same: false, ..Self::new(reader, id) }
    }

    /// The topmost node of the folder.
    pub fn id(&self) -> Option<NodeId> {
        self.id
    }

    /// Whether what it has under a name is an earlier version, and not just something that resembles it.
    pub fn is_same(&self) -> bool {
        self.is_same
    }

    /// What a file or folder that it does not have may resemble. A very large folder is not searched.
    pub fn nearest(&mut self, new: &Entry) -> Option<&Entry> {
        let id = self.id?;
        let reader = self.reader;
        let all = self.all.get_or_insert_with(|| {
            let entries = reader.directory(id).map_while(Result::ok);
            let is_searched =
                |entry: &Entry| entry.kind == EntryKind::Directory || entry.size >= ALIKE_BYTES_MIN;
            let entries: Vec<_> = entries.filter(is_searched).take(SEARCHED_COUNT_MAX + 1).collect();
            if entries.len() <= SEARCHED_COUNT_MAX { entries } else { Vec::new() }
        });
        nearest(new, all)
    }

    /// The entry of this name. What cannot be read of the parent counts as not there: then the source is read.
    pub fn find(&mut self, name: &Bytes, observer: &dyn Observer) -> Option<Entry> {
        loop {
            match self.entries.as_mut()?.peek() {
                None => return None,
                Some(Err(error)) => {
                    observer.note(&format!("part of the parent snapshot cannot be read: {error}"));
                    self.entries = None;
                    self.all_met = false;
                    return None;
                }
                Some(Ok(entry)) if entry.name > *name => return None,
                Some(Ok(entry)) => {
                    let is_it = entry.name == *name;
                    let entry = self.entries.as_mut().and_then(Iterator::next).and_then(Result::ok);
                    if is_it {
                        return entry;
                    }
                    self.all_met = false;
                }
            }
        }
    }

    /// The node of the folder, if every one of its entries was asked for and it is a single node.
    pub fn node_if_all_met(&mut self) -> Option<NodeId> {
        let rest = self.entries.as_mut()?;
        if !self.all_met || rest.peek().is_some() {
            return None;
        }
        self.id
    }
}

/// Where the large files of a snapshot are, by inode: a file that was moved keeps it.
pub struct MovedFiles<'r> {
    reader: &'r TreeReader,
    folders: HashMap<u64, NodeId>,
}

impl<'r> MovedFiles<'r> {
    /// Walks a whole snapshot. What cannot be read of it counts as not there.
    pub fn of(reader: &'r TreeReader, root: Option<NodeId>) -> Self {
        let mut folders = HashMap::new();
        let mut open: Vec<_> = root.into_iter().collect();
        while let Some(folder) = open.pop() {
            for entry in reader.directory(folder).map_while(Result::ok) {
                match entry.content {
                    Content::Directory(id) => open.push(id),
                    _ if entry.size >= MOVED_BYTES_MIN && entry.inode != 0 => {
                        folders.insert(entry.inode, folder);
                    }
                    _ => {}
                }
            }
        }
        Self { reader, folders }
    }

    /// The file that had the inode of this one.
    pub fn find(&self, new: &Entry) -> Option<Entry> {
        let folder = *self.folders.get(&new.inode)?;
        let mut entries = self.reader.directory(folder).map_while(Result::ok);
        entries.find(|entry| entry.kind == EntryKind::File && entry.inode == new.inode)
    }
}

/// Whether nothing about a file, link or device has changed since `before` was stored of it.
pub fn is_unchanged(found: &Found, before: &Entry) -> bool {
    let now = &found.entry;
    let same_content = match now.kind {
        EntryKind::File => now.size == before.size && (now.size == 0 || before.content != Content::None),
        EntryKind::Directory => false,
        EntryKind::Symlink
        | EntryKind::BlockDevice
        | EntryKind::CharDevice
        | EntryKind::Fifo
        | EntryKind::Socket => now.content == before.content,
    };
    same_content && same_metadata(now, before) && !had_problem(before)
}

/// Whether the metadata of an entry is as it was. A change of owner, mode or attributes changes ctime.
pub fn same_metadata(now: &Entry, before: &Entry) -> bool {
    now.kind == before.kind
        && now.inode == before.inode
        && now.mtime == before.mtime
        && now.ctime == before.ctime
        && (now.mode, now.uid, now.gid) == (before.mode, before.uid, before.gid)
}

fn had_problem(before: &Entry) -> bool {
    before.extension(crate::format::tree::tag::CAPTURE_PROBLEM).is_some()
}
