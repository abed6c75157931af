//! Values that keep all rules of the format, made of any bytes: read without the rules, then bent until they hold.

use kluis::clock::Timestamp;
use kluis::compress::Codec;
use kluis::format::body::Body;
use kluis::format::forget::ForgetRecord;
use kluis::format::frame::FrameEntry;
use kluis::format::lease::LeaseStatement;
use kluis::format::node::{DirectoryBranch, DirectoryLeaf, ListBranch, ListLeaf};
use kluis::format::plan::{Done, Plan, Verdict};
use kluis::format::snapshot::{Snapshot, Tombstone};
use kluis::format::tree::{ChunkRef, Content, Entry, EntryKind, Extension};
use kluis::limits;
use kluis::wire::Bytes;
use serde::de::DeserializeOwned;

/// A value that can be bent to keep the rules of the format.
pub trait Shape {
    /// Makes the rules hold.
    fn shape(&mut self);
}

/// The value that the bytes begin with, bent to keep the rules.
pub fn read<T: DeserializeOwned + Shape>(bytes: &[u8]) -> Option<T> {
    let (mut value, _) = postcard::take_from_bytes::<T>(bytes).ok()?;
    value.shape();
    Some(value)
}

fn order<T, K: Ord + Clone>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    list.sort_by_key(&key);
    list.dedup_by_key(|item| key(item));
}

fn order_extensions(extensions: &mut Vec<Extension>) {
    order(extensions, |extension| extension.tag);
}

fn moment(time: &mut Timestamp) {
    time.nanoseconds %= 1_000_000_000;
}

fn name(name: &mut Bytes) {
    let clean = |byte: &u8| if matches!(byte, b'/' | 0) { b'_' } else { *byte };
    let mut bytes: Vec<u8> = name.as_slice().iter().take(limits::NAME_BYTES_MAX).map(clean).collect();
    if matches!(bytes.as_slice(), b"" | b"." | b"..") {
        bytes = b"name".to_vec();
    }
    *name = bytes.into();
}

fn chunk(chunk: &mut ChunkRef) {
    chunk.len = 1 + chunk.len % limits::FRAME_BYTES_MAX as u32;
}

impl Shape for Body {
    fn shape(&mut self) {
        self.version = 1;
        order(&mut self.data_packs, |id| *id);
        order(&mut self.meta_packs, |id| *id);
        order(&mut self.index_objects, |id| *id);
        order_extensions(&mut self.extensions);
    }
}

impl Shape for ForgetRecord {
    fn shape(&mut self) {
        self.version = 1;
        moment(&mut self.forgotten_at);
        self.snapshots.iter_mut().for_each(|snapshot| snapshot.sequence = snapshot.sequence.max(1));
        order(&mut self.snapshots, |snapshot| snapshot.id);
        if self.snapshots.is_empty() {
            let id = kluis::id::SnapshotId::new([1; 16]);
            let series = kluis::id::SeriesId::new([2; kluis::id::SeriesId::LEN]);
            self.snapshots.push(kluis::format::forget::ForgottenSnapshot { id, series, sequence: 1 });
        }
        order_extensions(&mut self.extensions);
    }
}

macro_rules! numbered {
    ($($name:ident),*) => {
        $(impl Shape for $name {
            fn shape(&mut self) {
                self.version = 1;
                self.number = self.number.max(1);
                order_extensions(&mut self.extensions);
            }
        })*
    };
}
numbered!(Plan, Verdict, Done);

impl Shape for Tombstone {
    fn shape(&mut self) {
        self.version = 1;
    }
}

impl Shape for LeaseStatement {
    fn shape(&mut self) {
        self.version = 1;
        moment(&mut self.started_at);
        order(&mut self.holds, |id| *id);
        order(&mut self.pins, |id| *id);
        order_extensions(&mut self.extensions);
    }
}

impl Shape for Snapshot {
    fn shape(&mut self) {
        self.version = 1;
        self.name_encoding &= 1;
        self.sequence = self.sequence.max(1);
        moment(&mut self.started_at);
        moment(&mut self.finished_at);
        self.problems.truncate(limits::PROBLEM_COUNT_MAX);
        self.problem_count = self.problem_count.max(self.problems.len() as u64);
        order(&mut self.owners, |owner| (owner.is_group, owner.number));
        order_extensions(&mut self.extensions);
    }
}

impl Shape for FrameEntry {
    fn shape(&mut self) {
        if self.chunks.is_empty() {
            let key = [7; 16];
            let kind = kluis::format::frame::ContentKind::Chunk;
            self.chunks.push(kluis::format::frame::ChunkEntry { key, kind, len: 1 });
        }
        self.chunks.truncate(1000);
        let len_max = (limits::FRAME_BYTES_MAX / self.chunks.len()) as u32;
        self.chunks.iter_mut().for_each(|chunk| chunk.len = 1 + chunk.len % len_max);
        self.bases.truncate(limits::BASE_COUNT_MAX);
        let plain_len = self.plain_len() as u32;
        self.stored_len %= plain_len + 1;
        match (self.bases.is_empty(), self.codec) {
            (true, Codec::Stored) => (self.depth, self.stored_len) = (0, plain_len),
            (true, _) => (self.depth, self.codec) = (0, Codec::Zstd),
            (false, _) => {
                self.codec = Codec::ZstdPrefix;
                self.depth = self.depth.clamp(1, limits::BASE_DEPTH_MAX);
            }
        }
    }
}

impl Shape for Entry {
    fn shape(&mut self) {
        name(&mut self.name);
        self.mode &= 0o7777;
        moment(&mut self.mtime);
        moment(&mut self.ctime);
        order_extensions(&mut self.extensions);
        if let Content::Chunks(chunks) = &mut self.content {
            chunks.truncate(limits::INLINE_CHUNK_COUNT_MAX);
            chunks.iter_mut().for_each(chunk);
        }
        self.kind = match (&self.content, self.kind) {
            (Content::Chunks(chunks), _) if chunks.is_empty() => {
                self.content = Content::None;
                EntryKind::File
            }
            (Content::None, kind @ (EntryKind::Fifo | EntryKind::Socket)) => kind,
            (Content::None | Content::Chunks(_) | Content::List(_), _) => EntryKind::File,
            (Content::Directory(_), _) => EntryKind::Directory,
            (Content::LinkTarget(_), _) => EntryKind::Symlink,
            (Content::Device(..), EntryKind::BlockDevice) => EntryKind::BlockDevice,
            (Content::Device(..), _) => EntryKind::CharDevice,
        };
    }
}

impl Shape for DirectoryLeaf {
    fn shape(&mut self) {
        self.entries.iter_mut().for_each(Shape::shape);
        order(&mut self.entries, |entry| entry.name.clone());
    }
}

impl Shape for DirectoryBranch {
    fn shape(&mut self) {
        self.children.iter_mut().for_each(|part| name(&mut part.first));
        order(&mut self.children, |part| part.first.clone());
        if self.children.is_empty() {
            let id = kluis::id::NodeId::new([3; 32]);
            let first = b"first"[..].into();
            self.children.push(kluis::format::node::DirectoryPart { first, id, entry_count: 1, size: 2 });
        }
    }
}

impl Shape for ListLeaf {
    fn shape(&mut self) {
        self.chunks.iter_mut().for_each(chunk);
        if self.chunks.is_empty() {
            self.chunks.push(ChunkRef { id: kluis::id::ChunkId::new([4; 32]), len: 1 });
        }
    }
}

impl Shape for ListBranch {
    fn shape(&mut self) {
        let count = self.children.len().max(1) as u64;
        self.children.iter_mut().for_each(|part| part.len %= u64::MAX / count);
        if self.children.is_empty() {
            let id = kluis::id::ListId::new([5; 32]);
            self.children.push(kluis::format::node::ListPart { id, len: u64::MAX });
        }
    }
}
