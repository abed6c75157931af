//! Chunks and nodes on their way in: claimed, collected into frames, compressed, gathered into packs.
//!
//! Each working thread has a [`FrameWriter`]; what they share is the [`ChunkWriter`]. A thread does everything that
//! costs time (hashing, compressing) alone, and holds the lock of the open pack only to append finished bytes.

mod again;
mod against;
mod open_frame;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::compress::{Compression, Compressor};
use crate::format::container::TAG_LEN;
use crate::format::frame::{ChunkEntry, Codec, ContentKind, FrameEntry};
use crate::format::parity;
use crate::id::{ChunkId, ContentId, ListId, NodeId, SnapshotId};
use crate::index::PackKind;
use crate::limits;
pub use again::StoredFrame;

use crate::repo::Repo;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::claims::{Claim, Claims};
use crate::repo::earlier::Earlier;
use crate::repo::error::RepoError;
use crate::repo::pack_sealing::{FrameHash, PackBody};
use crate::repo::pack_store::PackStore;
use crate::repo::turns::Turns;
use crate::repo::view::View;
use crate::shelf::Shelf;
use against::OPENING_SHARE_MAX;
use open_frame::{Base, BasedRun, NewRun, OpenFrame, Prefix};

/// Plain bytes that a frame of file chunks aims at; a batch of files makes one frame, and may overshoot. Smaller
/// frames compress worse, larger ones hardly better, and one small file costs opening one frame.
pub const FRAME_BYTES_TARGET_DATA: usize = 8 << 20;
/// Plain bytes at which a frame of nodes is finished.
const FRAME_BYTES_TARGET_META: usize = 512 << 10;

/// Plain bytes of opened frames that are kept for those who rest on them: what the frames in hand rest on, one level
/// down.
const BASE_CACHE_BYTES: usize = 64 << 20;

/// Plain bytes that may be opened for the bases of a frame that several files share, so that one of them is read quickly.
const SHARED_OPENING_BYTES_MAX: u64 = 64 << 20;

/// A shared frame of which the difference is not so many times shorter than what it stands for may hold files that do
/// not resemble their earlier versions.
const MIXED_SHARE: usize = 8;

/// Buffers for packs that are kept for the next ones: as many as usually wait to be sealed or stored.
const PACK_BUFFER_COUNT: usize = 2;

/// How chunks are written.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// How frames are compressed.
    pub compression: Compression,
    /// Whether packs are opened and verified before they are stored.
    pub verify: bool,
    /// Does everything but storing.
    pub discard: bool,
    /// How deep frames may lie that rest on earlier versions; 0 for none that do.
    pub base_depth_max: u8,
}

impl Default for WriterOptions {
    /// As what stores again what is stored already: verified, and nothing rests on an earlier version.
    fn default() -> Self {
        Self { compression: Compression::Auto, verify: true, discard: false, base_depth_max: 0 }
    }
}

/// What a run has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteTotals {
    /// Plain bytes of chunks that were new.
    pub bytes_new: u64,
    /// Bytes that the storage received.
    pub bytes_stored: u64,
}

/// Open frames by ticket, so that a pack of nodes can wait for every frame begun before it.
#[derive(Default)]
struct Tickets {
    next: u64,
    open: BTreeSet<u64>,
}

/// Writes chunks and nodes of one run. Must be finished; dropping it abandons the run.
pub struct ChunkWriter {
    repo: Arc<Repo>,
    options: WriterOptions,
    claims: Arc<Claims>,
    /// Reads the bases of frames.
    base_reader: Arc<ChunkReader>,
    store: PackStore,
    /// For packs.
    buffers: Shelf<Vec<u8>>,
    open_data: Mutex<Option<PackBody>>,
    open_meta: Mutex<Option<PackBody>>,
    tickets: Mutex<Tickets>,
    tickets_changed: Condvar,
    turns: Turns,
    bytes_new: AtomicU64,
}

impl ChunkWriter {
    /// Begins a run under a lease. `view` is what may be relied on.
    pub fn start(repo: &Arc<Repo>, lease: SnapshotId, view: Arc<View>, options: WriterOptions) -> Self {
        let base_reader = ChunkReader::new(Arc::clone(repo), Arc::clone(&view));
        let base_reader = Arc::new(base_reader.with_cache(BASE_CACHE_BYTES));
        let claims = Arc::new(Claims::new(view));
        Self {
            repo: Arc::clone(repo),
            options,
            store: PackStore::start(Arc::clone(repo), lease, options, Arc::clone(&claims)),
            base_reader,
            claims,
            buffers: Shelf::new(PACK_BUFFER_COUNT),
            open_data: Mutex::new(None),
            open_meta: Mutex::new(None),
            tickets: Mutex::default(),
            tickets_changed: Condvar::new(),
            turns: Turns::new(),
            bytes_new: AtomicU64::new(0),
        }
    }

    /// A writer of frames for one thread.
    pub fn frame_writer(&self, kind: PackKind) -> FrameWriter<'_> {
        FrameWriter {
            writer: self,
            kind,
            compressor: Compressor::new(self.options.compression),
            open: OpenFrame::default(),
            open_based: OpenFrame::default(),
            ticket: None,
        }
    }

    /// What this run has claimed.
    pub(super) fn claims(&self) -> Arc<Claims> {
        Arc::clone(&self.claims)
    }

    /// Decides where nodes are split.
    pub fn split_key(&self) -> &crate::crypto::Secret<32> {
        &self.repo.keys.split
    }

    /// Claims an id taken over from an earlier snapshot: whether it is stored and may be named.
    pub fn is_known(&self, id: &ContentId) -> Result<bool, RepoError> {
        self.claims.is_known(id)
    }

    /// Whether a frame that holds this is shorter than its plain bytes: what does not compress, resembles nothing but
    /// itself.
    pub fn is_compressed(&self, id: &ContentId) -> Result<bool, RepoError> {
        let frame = self.claims.frame_of(id)?;
        Ok(frame.is_some_and(|frame| u64::from(frame.stored_len) * 10 < u64::from(frame.plain_len) * 9))
    }

    /// The error that ended the run, if one did.
    pub fn failure(&self) -> Option<RepoError> {
        self.store.failure()
    }

    /// Bytes stored so far.
    pub fn bytes_stored(&self) -> u64 {
        self.store.bytes_stored()
    }

    /// Stores what is left: packs first, then the index objects. All frame writers must be finished.
    pub fn finish(self) -> Result<WriteTotals, RepoError> {
        self.flush_pack(&self.open_data)?;
        self.flush_pack(&self.open_meta)?;
        let bytes_new = self.bytes_new.into_inner();
        Ok(WriteTotals { bytes_new, bytes_stored: self.store.finish()? })
    }

    /// Stores what was put so far, so that what follows may rest on it. All frame writers must be finished.
    pub fn settle(&self) -> Result<(), RepoError> {
        self.flush_pack(&self.open_data)?;
        self.flush_pack(&self.open_meta)?;
        self.store.settle()
    }

    fn flush_pack(&self, open: &Mutex<Option<PackBody>>) -> Result<(), RepoError> {
        let body = lock(open).take();
        body.map_or(Ok(()), |body| self.store.put(body))
    }

    fn append(
        &self,
        kind: PackKind,
        frame: FrameEntry,
        stored: &[u8],
        expanded: Option<FrameHash>,
    ) -> Result<(), RepoError> {
        let (open, target) = match kind {
            PackKind::Data => (&self.open_data, self.repo.config().packs.data_bytes),
            PackKind::Meta => (&self.open_meta, self.repo.config().packs.meta_bytes),
        };
        let mut body = lock(open);
        let capacity = target as usize + limits::FRAME_BYTES_MAX / 8;
        let capacity = capacity + parity::parity_len(capacity as u64) as usize;
        let added = stored.len() + TAG_LEN;
        let full = body.as_ref().is_some_and(|body| {
            body.len() + added > capacity
                || body.chunk_count() + frame.chunks.len() > limits::PACK_CHUNK_COUNT_MAX
                || body.frame_count() == limits::PACK_FRAME_COUNT_MAX
        });
        let mut finished = if full { body.take() } else { None };
        let pack = body.get_or_insert_with(|| PackBody::new(kind, self.buffers.buffer(capacity)));
        pack.push(frame, stored, expanded);
        if finished.is_none() && pack.len() as u64 >= target {
            finished = body.take();
        }
        let Some(finished) = finished else { return Ok(()) };
        if kind == PackKind::Data {
            // Still locked: where the storage is slower than the workers, they wait here instead of filling more packs.
            return self.store.put(finished);
        }
        drop(body);
        self.wait_for_open_frames();
        self.flush_pack(&self.open_data)?;
        self.store.put(finished)
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        lock(&self.tickets)
    }

    fn draw_ticket(&self) -> u64 {
        let mut tickets = self.tickets();
        let ticket = tickets.next;
        tickets.next += 1;
        tickets.open.insert(ticket);
        ticket
    }

    fn return_ticket(&self, ticket: u64) {
        self.tickets().open.remove(&ticket);
        self.tickets_changed.notify_all();
    }

    /// Waits until every chunk claimed before is in a pack body, so that the nodes that name it can follow.
    fn wait_for_open_frames(&self) {
        let tickets = self.tickets();
        let end = tickets.next;
        let is_waiting = |tickets: &mut Tickets| tickets.open.first().is_some_and(|first| *first < end);
        // The guard is of no use afterwards: later tickets do not matter here.
        drop(self.tickets_changed.wait_while(tickets, is_waiting));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

/// Collects chunks into frames; one per thread.
///
/// Between [`FrameWriter::begin`] and [`FrameWriter::finish`] the thread must not wait for another one: packs of nodes
/// wait for its frame.
pub struct FrameWriter<'w> {
    writer: &'w ChunkWriter,
    kind: PackKind,
    compressor: Compressor,
    open: OpenFrame,
    /// Of what has an earlier version.
    open_based: OpenFrame,
    ticket: Option<u64>,
}

impl FrameWriter<'_> {
    /// Begins to collect. Harmless when repeated.
    pub fn begin(&mut self) {
        if self.ticket.is_none() && self.kind == PackKind::Data {
            self.ticket = Some(self.writer.draw_ticket());
        }
    }

    /// Stores a directory node unless it is stored already.
    pub fn put_node(&mut self, bytes: &[u8]) -> Result<NodeId, RepoError> {
        self.put_node_version(bytes, None)
    }

    /// As [`Self::put_node`]; what is new may be stored as its difference from an earlier node.
    pub fn put_node_version(&mut self, bytes: &[u8], earlier: Option<NodeId>) -> Result<NodeId, RepoError> {
        let id = self.writer.repo.keys.ids.node(bytes);
        self.put(ContentKind::Node, id.content(), bytes, earlier.map(|earlier| earlier.content()))?;
        Ok(id)
    }

    /// Stores a list node unless it is stored already.
    pub fn put_list(&mut self, bytes: &[u8]) -> Result<ListId, RepoError> {
        let id = self.writer.repo.keys.ids.list(bytes);
        self.put(ContentKind::List, id.content(), bytes, None)?;
        Ok(id)
    }

    fn target(&self) -> usize {
        match self.kind {
            PackKind::Data => FRAME_BYTES_TARGET_DATA,
            PackKind::Meta => FRAME_BYTES_TARGET_META,
        }
    }

    /// Stores the chunks of a stretch of a file, of these lengths end to end, unless they are stored already.
    pub fn put_chunks(&mut self, bytes: &[u8], lens: &[usize]) -> Result<Vec<ChunkId>, RepoError> {
        self.put_version(bytes, lens, 0, &Earlier::default())
    }

    /// As [`Self::put_chunks`], for a stretch that begins `at` bytes into a file of which there is an earlier version.
    /// What is new may be stored as its difference from that.
    pub fn put_version(
        &mut self,
        bytes: &[u8],
        lens: &[usize],
        at: u64,
        earlier: &Earlier,
    ) -> Result<Vec<ChunkId>, RepoError> {
        let mut ids = Vec::with_capacity(lens.len());
        let mut runs = Vec::new();
        let mut run = NewRun::default();
        for len in lens {
            let end = run.end + len;
            let chunk = bytes.get(run.end..end).expect("the lengths add up to the bytes");
            let id = self.writer.repo.keys.ids.chunk(chunk);
            ids.push(id);
            if end - run.start > limits::FRAME_BYTES_MAX {
                runs.push(run.split());
            }
            match self.claim(ContentKind::Chunk, id.content(), *len)? {
                Some(entry) => {
                    run.chunks.push(entry);
                    run.end = end;
                }
                None => {
                    runs.push(run.split());
                    (run.start, run.end) = (end, end);
                }
            }
        }
        runs.push(run);
        let uses_bases = self.writer.options.base_depth_max > 0 && !earlier.is_empty();
        let anchors = uses_bases.then(|| earlier.anchors(at, &ids, lens)).filter(|_| !earlier.is_hopeless());
        for NewRun { start, end, chunks } in runs.into_iter().filter(|run| !run.chunks.is_empty()) {
            let plain = bytes.get(start..end).unwrap_or_default();
            let bases = anchors.as_ref().map_or_else(Vec::new, |anchors| {
                let start = at + start as u64;
                earlier.covering(start, plain.len() as u64, anchors.drift_at(start))
            });
            let codec = self.put_run(chunks, plain, &bases)?;
            if let (Some(codec), false) = (codec, bases.is_empty()) {
                earlier.learn(codec == Codec::ZstdPrefix);
            }
        }
        Ok(ids)
    }

    fn put(
        &mut self,
        kind: ContentKind,
        id: ContentId,
        bytes: &[u8],
        earlier: Option<ContentId>,
    ) -> Result<(), RepoError> {
        let Some(entry) = self.claim(kind, id, bytes.len())? else { return Ok(()) };
        let earlier = earlier.filter(|_| self.writer.options.base_depth_max > 0);
        let mut base = None;
        if let Some(earlier) = earlier {
            base = self.writer.claims.len_of(&earlier)?.map(|len| (earlier, len));
        }
        self.put_run(vec![entry], bytes, base.as_slice()).map(drop)
    }

    /// The entry of a chunk that this thread must store.
    fn claim(&self, kind: ContentKind, id: ContentId, len: usize) -> Result<Option<ChunkEntry>, RepoError> {
        self.claim_at_most(kind, id, len, limits::BASE_DEPTH_MAX)
    }

    fn claim_at_most(
        &self,
        kind: ContentKind,
        id: ContentId,
        len: usize,
        depth_max: u8,
    ) -> Result<Option<ChunkEntry>, RepoError> {
        debug_assert!(self.ticket.is_some() || self.kind == PackKind::Meta);
        if self.writer.claims.claim_at_most(&id, depth_max)? != Claim::Ours {
            return Ok(None);
        }
        self.writer.bytes_new.fetch_add(len as u64, Ordering::Relaxed);
        Ok(Some(ChunkEntry { key: id.prefix(), kind, len: len as u32 }))
    }

    /// Collects chunks that lie end to end. A long run is a frame of its own and is not copied. What has an earlier
    /// version never shares a frame with what has none. Says how a frame was stored that is written already.
    fn put_run(
        &mut self,
        mut chunks: Vec<ChunkEntry>,
        bytes: &[u8],
        bases: &[Base],
    ) -> Result<Option<Codec>, RepoError> {
        debug_assert_eq!(chunks.iter().map(|chunk| chunk.len as usize).sum::<usize>(), bytes.len());
        if bytes.len() >= self.target() / 2 {
            return self.write_frame(chunks, bytes, bases).map(Some);
        }
        let bytes_max = (self.target() * 2).min(limits::FRAME_BYTES_MAX);
        let openings = self.writer.openings(bases)?;
        let opening_bytes_max = SHARED_OPENING_BYTES_MAX.min(self.target() as u64 * OPENING_SHARE_MAX);
        let open = self.open_for(bases);
        if !open.has_room(bytes.len(), bytes_max, bases) || !open.may_open(&openings, opening_bytes_max) {
            self.flush(!bases.is_empty())?;
        }
        let open = self.open_for(bases);
        open.add(&mut chunks, bytes, bases);
        open.openings.add(&openings);
        Ok(None)
    }

    fn open_for(&mut self, bases: &[Base]) -> &mut OpenFrame {
        if bases.is_empty() { &mut self.open } else { &mut self.open_based }
    }

    fn flush(&mut self, is_based: bool) -> Result<(), RepoError> {
        let open = if is_based { &mut self.open_based } else { &mut self.open };
        if open.chunks.is_empty() {
            return Ok(());
        }
        let OpenFrame { chunks, mut plain, bases, runs, .. } = std::mem::take(open);
        let outcome = self.write_shared(chunks, &plain, &bases, runs);
        plain.clear();
        let open = if is_based { &mut self.open_based } else { &mut self.open };
        // What it did not resemble may have been put here meanwhile.
        if open.plain.is_empty() {
            open.plain = plain;
        }
        outcome
    }

    /// Writes a frame of several files. If it did not become much smaller, those that do not resemble their earlier
    /// versions are taken out of it and join what has none: they would spoil the difference of the others.
    fn write_shared(
        &mut self,
        chunks: Vec<ChunkEntry>,
        plain: &[u8],
        bases: &[Base],
        runs: Vec<BasedRun>,
    ) -> Result<(), RepoError> {
        if self.writer.is_too_dear(bases, plain.len())? {
            return self.put_run(chunks, plain, &[]).map(drop);
        }
        if bases.is_empty() || runs.len() < 2 {
            return self.write_frame(chunks, plain, bases).map(drop);
        }
        let turn = self.writer.turns.wait();
        let prefix = self.writer.prefix(bases)?;
        let (codec, stored) = self.compressor.compress_against(plain, &prefix.read.bytes);
        let is_small = codec == Codec::ZstdPrefix && stored.len() <= plain.len() / MIXED_SHARE;
        let mut rest = plain;
        let parts = runs.iter().map(|run| {
            let (bytes, after) = rest.split_at_checked(run.len).expect("a frame is the sum of its runs");
            rest = after;
            (run, bytes, is_small || prefix.has_much_of(bytes, &run.bases))
        });
        let parts: Vec<_> = parts.collect();
        if parts.iter().all(|(_, _, is_alike)| *is_alike) {
            let frame = prefix.frame(codec, stored, chunks);
            let refused = self.writer.append_against(self.kind, frame, stored, &prefix)?;
            drop(prefix);
            drop(turn);
            return refused.map_or(Ok(()), |frame| self.write_plainly(frame.chunks, plain).map(drop));
        }
        drop(prefix);
        drop(turn);
        let mut chunks = chunks.into_iter();
        let mut alike = OpenFrame::default();
        for (run, bytes, is_alike) in parts {
            let mut chunks: Vec<_> = chunks.by_ref().take(run.chunk_count).collect();
            if is_alike {
                alike.add(&mut chunks, bytes, &run.bases);
            } else {
                self.put_run(chunks, bytes, &[])?;
            }
        }
        if alike.chunks.is_empty() {
            return Ok(());
        }
        self.write_frame(alike.chunks, &alike.plain, &alike.bases).map(drop)
    }

    fn write_frame(
        &mut self,
        chunks: Vec<ChunkEntry>,
        plain: &[u8],
        bases: &[Base],
    ) -> Result<Codec, RepoError> {
        let bases = if self.writer.is_too_dear(bases, plain.len())? { &[] } else { bases };
        // Also what is read for it is bounded by the turns, so that there are not more prefixes in memory.
        let turn = self.writer.turns.wait();
        let prefix = self.writer.prefix(bases)?;
        let (codec, stored) = self.compressor.compress_against(plain, &prefix.read.bytes);
        let frame = prefix.frame(codec, stored, chunks);
        let refused = self.writer.append_against(self.kind, frame, stored, &prefix)?;
        drop(prefix);
        drop(turn);
        refused.map_or(Ok(codec), |frame| self.write_plainly(frame.chunks, plain))
    }

    fn write_plainly(&mut self, chunks: Vec<ChunkEntry>, plain: &[u8]) -> Result<Codec, RepoError> {
        let turn = self.writer.turns.wait();
        let (codec, stored) = self.compressor.compress(plain);
        drop(turn);
        let stored_len = stored.len() as u32;
        let frame = FrameEntry { codec, depth: 0, stored_len, bases: Vec::new(), chunks };
        self.writer.append(self.kind, frame, stored, None)?;
        Ok(codec)
    }

    /// Puts what is collected into a pack. Ids that were put may be named in nodes from now on.
    pub fn finish(&mut self) -> Result<(), RepoError> {
        // What does not resemble its earlier version ends up in the other frame.
        let outcome = self.flush(true).and_then(|()| self.flush(false));
        if let Some(ticket) = self.ticket.take() {
            self.writer.return_ticket(ticket);
        }
        outcome
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.writer.return_ticket(ticket);
        }
    }
}
