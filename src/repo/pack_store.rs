//! Finished packs on their way into the storage: sealed, verified, stored, and described by index objects.
//!
//! A few threads of its own do this, so that waiting for a disk to make one pack durable stalls nobody. Two rules
//! keep a crash at any moment harmless:
//!
//! - A pack of nodes is stored only when every pack handed in before it is durable. So no stored node names a chunk
//!   that is not there.
//! - An index object is stored only when the packs it describes are durable.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::format::container::ObjectKind;
use crate::format::frame::FrameEntry;
use crate::format::index_object::{IndexObject, IndexedPack};
use crate::format::parity;
use crate::hash::payload_id;
use crate::id::{IndexObjectId, SnapshotId};
use crate::index::PackKind;
use crate::limits;
use crate::repo::chunk_writer::WriterOptions;
use crate::repo::claims::Claims;
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::index_sync::new_packs;
use crate::repo::pack_sealing::{self, FrameHash, PackBody, Proof, SealedPack};
use crate::repo::sealing::SaltSource;
use crate::repo::{Repo, create_resolved, names, sealing};
use crate::shelf::Taken;
use crate::storage::Created;

/// Packs being sealed, verified or stored at the same time. One waits for the disk while the other computes.
const THREAD_COUNT: usize = 2;
/// The same for a remote storage: more of them wait there, each with one sealed pack, while no more compute.
const THREAD_COUNT_REMOTE: usize = 4;
/// An interrupted first backup loses at most the descriptions of so much time.
const INDEX_OBJECT_INTERVAL: Duration = Duration::from_secs(300);
/// Descriptions held in memory before an index object is written.
const INDEX_OBJECT_ENTRY_COUNT_TARGET: usize = limits::INDEX_OBJECT_ENTRY_COUNT_MAX / 2;

struct Job {
    sequence: u64,
    body: PackBody,
}

#[derive(Default)]
struct Progress {
    next_sequence: u64,
    unfinished: BTreeSet<u64>,
    finished: Vec<IndexedPack>,
    finished_entry_count: usize,
    has_failed: bool,
    failure: Option<RepoError>,
}

/// What the store and its threads share.
pub struct Shared {
    repo: Arc<Repo>,
    lease: SnapshotId,
    options: WriterOptions,
    claims: Arc<Claims>,
    progress: Mutex<Progress>,
    changed: Condvar,
    /// Packs that may be sealed and verified now; each is in memory twice meanwhile.
    sealing: Mutex<usize>,
    sealed: Condvar,
    indexed_at: Mutex<Instant>,
    bytes_stored: AtomicU64,
}

/// See the module.
pub struct PackStore {
    shared: Arc<Shared>,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl PackStore {
    /// Starts the threads.
    pub fn start(repo: Arc<Repo>, lease: SnapshotId, options: WriterOptions, claims: Arc<Claims>) -> Self {
        let shared = Arc::new(Shared {
            repo,
            lease,
            options,
            claims,
            progress: Mutex::default(),
            changed: Condvar::new(),
            sealing: Mutex::new(THREAD_COUNT),
            sealed: Condvar::new(),
            indexed_at: Mutex::new(Instant::now()),
            bytes_stored: AtomicU64::new(0),
        });
        let (jobs, queue) = bounded(1);
        let is_remote = shared.repo.storage().is_remote();
        let threads = (0..if is_remote { THREAD_COUNT_REMOTE } else { THREAD_COUNT })
            .map(|_| {
                let (shared, queue) = (Arc::clone(&shared), queue.clone());
                std::thread::spawn(move || shared.work(&queue))
            })
            .collect();
        Self { shared, jobs: Some(jobs), threads }
    }

    /// Hands in a pack. Waits while the threads have enough to do.
    pub fn put(&self, body: PackBody) -> Result<(), RepoError> {
        if body.frame_count() == 0 {
            return Ok(());
        }
        if self.shared.options.discard {
            self.shared.bytes_stored.fetch_add(body.len() as u64, Ordering::Relaxed);
            return Ok(());
        }
        let jobs = self.jobs.as_ref().expect("the sender is there until the store is finished");
        let mut progress = self.shared.progress();
        if progress.has_failed {
            return Err(progress.failure.take().unwrap_or(RepoError::Ended));
        }
        let sequence = progress.next_sequence;
        progress.next_sequence += 1;
        progress.unfinished.insert(sequence);
        drop(progress);
        jobs.send(Job { sequence, body }).map_err(|_| RepoError::Ended)
    }

    /// Bytes that the storage has received, parity and index objects included.
    pub fn bytes_stored(&self) -> u64 {
        self.shared.bytes_stored.load(Ordering::Relaxed)
    }

    /// The first error that a thread met, once.
    pub fn failure(&self) -> Option<RepoError> {
        let mut progress = self.shared.progress();
        progress.has_failed.then(|| progress.failure.take().unwrap_or(RepoError::Ended))
    }

    /// Waits until all packs handed in so far are durable and described, so that they may be claimed.
    pub fn settle(&self) -> Result<(), RepoError> {
        let is_busy = |progress: &mut Progress| !progress.has_failed && !progress.unfinished.is_empty();
        let progress = self.shared.changed.wait_while(self.shared.progress(), is_busy);
        drop(progress.expect("no holder of this lock panics"));
        match self.failure() {
            Some(failure) => Err(failure),
            None => self.shared.write_index_object(1),
        }
    }

    /// Waits until all packs are durable, and then the index objects that describe them.
    pub fn finish(mut self) -> Result<u64, RepoError> {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                return Err(RepoError::Ended);
            }
        }
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        self.shared.write_index_object(0)?;
        Ok(self.bytes_stored())
    }
}

impl Drop for PackStore {
    fn drop(&mut self) {
        // Abandoned: what is on its way ends, nothing new begins.
        self.jobs = None;
        self.shared.progress().has_failed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to say here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no holder of this lock panics")
    }

    fn work(&self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            let sequence = job.sequence;
            let outcome = self.wait_for_turn(&job).and_then(|()| self.store(job.body));
            let mut progress = self.progress();
            progress.unfinished.remove(&sequence);
            if let Err(error) = outcome {
                progress.has_failed = true;
                progress.failure.get_or_insert(error);
            }
            drop(progress);
            self.changed.notify_all();
        }
    }

    /// Ends with an error if the work was given up meanwhile.
    fn wait_for_turn(&self, job: &Job) -> Result<(), RepoError> {
        let is_waiting = |progress: &mut Progress| {
            let is_first = progress.unfinished.first() == Some(&job.sequence);
            !progress.has_failed && job.body.kind() == PackKind::Meta && !is_first
        };
        let progress = self.changed.wait_while(self.progress(), is_waiting);
        let progress = progress.expect("no holder of this lock panics");
        if progress.has_failed { Err(RepoError::Ended) } else { Ok(()) }
    }

    /// Waits until this thread may seal.
    fn turn_to_seal(&self) -> Turn<'_> {
        let free = self.sealing.lock().expect("no holder of this lock panics");
        let free = self.sealed.wait_while(free, |free| *free == 0);
        *free.expect("no holder of this lock panics") -= 1;
        Turn(self)
    }

    fn store(&self, body: PackBody) -> Result<(), RepoError> {
        let repo = &self.repo;
        let newest = repo.keys.newest();
        let counter = self.bytes_stored.load(Ordering::Relaxed);
        let salt = SaltSource {
            randomness: &repo.keys.randomness,
            hedge: &newest.hedge,
            lease: self.lease,
            counter,
        };
        let turn = self.turn_to_seal();
        let SealedPack { id, kind, header, directory, mut payload, expanded } =
            pack_sealing::seal_pack(&repo.keys, repo.id, &salt, body)?;
        if self.options.verify {
            self.verify(kind, &payload, &expanded)?;
        }
        if repo.config.parity {
            parity::append(&mut payload);
        }
        drop(turn);
        let name = names::pack(kind, &id);
        self.claims.own(id);
        if create_resolved(&**repo.storage(), &name, &payload)? == Created::Exists {
            return Err(RepoError::Exists { place: name.to_string() });
        }
        self.bytes_stored.fetch_add(payload.len() as u64, Ordering::Relaxed);
        drop(payload);
        let mut progress = self.progress();
        progress.finished_entry_count += directory.chunk_count();
        progress.finished.push(pack_sealing::indexed_pack(id, kind, &header, directory));
        let is_enough = progress.finished_entry_count >= INDEX_OBJECT_ENTRY_COUNT_TARGET;
        drop(progress);
        let indexed_at = *self.indexed_at.lock().expect("no holder of this lock panics");
        if is_enough || indexed_at.elapsed() >= INDEX_OBJECT_INTERVAL {
            self.write_index_object(1)?;
        }
        Ok(())
    }

    /// Opens a pack from the very bytes that will be stored. What rests on bases was expanded where these were at hand.
    fn verify(
        &self,
        kind: PackKind,
        payload: &[u8],
        expanded: &[Option<FrameHash>],
    ) -> Result<(), RepoError> {
        let proof_of = |position: usize, frame: &FrameEntry| match expanded.get(position).copied().flatten() {
            Some(hash) => Ok(Proof::Expanded(hash)),
            None if frame.bases.is_empty() => Ok(Proof::Prefix(Taken::default())),
            None => Err(DamageReason::Expand),
        };
        let verified = pack_sealing::verify_pack(
            &self.repo.keys,
            self.repo.id,
            kind,
            payload,
            &self.repo.openers,
            &proof_of,
        );
        let (_, damages) = verified.map_err(RepoError::NotVerified)?;
        match damages.into_iter().next() {
            None => Ok(()),
            Some(damage) => Err(RepoError::NotVerified(damage.reason)),
        }
    }

    /// Describes all finished packs in index objects, first in the storage and then in the local index, and lets
    /// the claims find them there.
    fn write_index_object(&self, pack_count_min: usize) -> Result<(), RepoError> {
        let mut indexed_at = self.indexed_at.lock().expect("no holder of this lock panics");
        let mut progress = self.progress();
        if progress.finished.len() < pack_count_min.max(1) {
            return Ok(());
        }
        let mut packs = std::mem::take(&mut progress.finished);
        progress.finished_entry_count = 0;
        drop(progress);
        while !packs.is_empty() {
            let rest = packs.split_off(IndexObject::count_that_fits(&packs));
            self.write_one_index_object(packs)?;
            packs = rest;
        }
        *indexed_at = Instant::now();
        Ok(())
    }

    fn write_one_index_object(&self, packs: Vec<IndexedPack>) -> Result<(), RepoError> {
        let repo = &self.repo;
        let object = IndexObject::new(packs);
        let id = repo.store_index_object(self.lease, &object, &self.bytes_stored)?;
        let index = repo.index()?;
        index.add_index_object(id, new_packs(&object))?;
        let stored = object.packs.iter().flat_map(|pack| &pack.frames).flat_map(|frame| &frame.chunks);
        let own = object.packs.iter().map(|pack| pack.id);
        self.claims.extend(index.view()?, own, stored.map(|chunk| chunk.key))
    }
}

/// The right to seal a pack, given back when it is dropped.
struct Turn<'s>(&'s Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.sealing.lock().expect("no holder of this lock panics") += 1;
        self.0.sealed.notify_one();
    }
}

impl Repo {
    /// Seals and stores an index object.
    pub fn store_index_object(
        &self,
        lease: SnapshotId,
        object: &IndexObject,
        bytes_stored: &AtomicU64,
    ) -> Result<IndexObjectId, RepoError> {
        let plain = object.encode().map_err(RepoError::Unstorable)?;
        let mut payload = sealing::seal_object(&self.keys, self.id, ObjectKind::Index, None, lease, &plain)?;
        let id = IndexObjectId::new(payload_id(&payload));
        if self.config.parity {
            parity::append(&mut payload);
        }
        create_resolved(&**self.storage(), &names::index_object(&id), &payload)?;
        bytes_stored.fetch_add(payload.len() as u64, Ordering::Relaxed);
        Ok(id)
    }
}
