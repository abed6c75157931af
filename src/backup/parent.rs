//! The parent snapshot: which one it is, and walking along it.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::path::PathBuf;

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
}

impl<'r> ParentFolder<'r> {
    /// The parent's version of a folder, if it has one.
    pub fn new(reader: &'r TreeReader, id: Option<NodeId>) -> Self {
        Self { entries: id.map(|id| reader.directory(id).peekable()), id, all_met: true }
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
