//! Leases: the registration of a writer, so that prune knows of it. A lease blocks nobody.
//!
//! The order matters. The lease is created before anything but settings is read (a prune that lists leases later
//! sees it), the plans are read before the packs are listed (a plan that is missed there is finished), and only then
//! may a chunk be claimed.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::{Alarm, Timestamp};
use crate::event::Observer;
use crate::format::container::ObjectKind;
use crate::format::lease::{LeaseStatement, SeenPlan};
use crate::format::snapshot::Snapshot;
use crate::id::{PackId, SnapshotId};
use crate::repo::chunk_writer::ChunkWriter;
use crate::repo::claims::Claims;
use crate::repo::error::RepoError;
use crate::repo::{Repo, names};
use crate::storage::{Created, Hold, ObjectName, StorageError};

/// A writer that was fenced so often gives up.
const FENCE_COUNT_MAX: usize = 3;
/// Whoever made a plan whose lists are gone closes it at once, if he lives. So long, and so often, that is waited for.
const PLAN_WAIT: Duration = Duration::from_secs(5);
const PLAN_WAIT_COUNT: usize = 12;
/// A sign of life every so often.
const STATEMENT_INTERVAL: Duration = Duration::from_secs(300);

/// A registered writer. [`Lease::end`] removes the registration; dropping it tries to.
pub struct Lease {
    inner: Arc<Inner>,
    excluded: HashSet<PackId>,
    alarm: Arc<dyn Alarm>,
    heartbeat: Option<JoinHandle<()>>,
}

struct Inner {
    repo: Arc<Repo>,
    id: SnapshotId,
    purpose: &'static str,
    started_at: Timestamp,
    acknowledged: Mutex<Acknowledged>,
    stated: Mutex<Vec<ObjectName>>,
    next_number: AtomicU32,
    hold: Mutex<Option<Hold>>,
    claims: Mutex<Option<Arc<Claims>>>,
    /// A prune has put a tombstone in the place of the snapshot.
    is_fenced: AtomicBool,
}

/// What every statement of a lease says again.
#[derive(Debug, Clone, Default)]
struct Acknowledged {
    seen: Option<SeenPlan>,
    /// Packs of that plan that are used, by ascending id.
    holds: Vec<PackId>,
}

impl Lease {
    /// Registers a writer: states that it is there, reads the prune plans, and states what it has seen.
    ///
    /// Fails while a prune is under way whose plan cannot be read: nobody can know then what to keep away from. For one
    /// whose lists are gone it waits a minute.
    pub fn register(repo: &Arc<Repo>, purpose: &'static str) -> Result<Self, RepoError> {
        let id = SnapshotId::new(repo.random()?);
        let inner = Inner {
            repo: Arc::clone(repo),
            id,
            purpose,
            started_at: repo.clock().now(),
            acknowledged: Mutex::default(),
            stated: Mutex::default(),
            next_number: AtomicU32::new(0),
            hold: Mutex::new(None),
            claims: Mutex::new(None),
            is_fenced: AtomicBool::new(false),
        };
        inner.state()?;
        let excluded = match inner.look_for_plans() {
            Ok(excluded) => excluded,
            Err(error) => {
                // Nobody should have to wait for a writer that never began.
                let _ = inner.end();
                return Err(error);
            }
        };
        let inner = Arc::new(inner);
        let alarm = repo.clock().alarm();
        let (beating, ringing) = (Arc::clone(&inner), Arc::clone(&alarm));
        let heartbeat = std::thread::spawn(move || {
            while ringing.wait(STATEMENT_INTERVAL) {
                // A missed sign of life can at worst get this writer fenced, which it notices with the next one, or at
                // its commit.
                if let Err(RepoError::Fenced) = beating.beat() {
                    ringing.cancel();
                }
            }
        });
        Ok(Self { inner, excluded, alarm, heartbeat: Some(heartbeat) })
    }

    /// Packs that an open plan dooms: the view of this writer must leave them out.
    pub fn excluded(&self) -> &HashSet<PackId> {
        &self.excluded
    }

    /// What the writer relies on. Before this is told, nothing may be claimed.
    pub fn watch(&self, writer: &ChunkWriter) {
        let claims = writer.claims();
        *self.inner.claims.lock().expect("no holder of this lock panics") = Some(Arc::clone(&claims));
        if self.is_fenced() {
            claims.fence();
        }
    }

    /// Whether a prune is known to have made the commit impossible.
    pub fn is_fenced(&self) -> bool {
        self.inner.is_fenced.load(Ordering::SeqCst)
    }

    /// Looks for new plans, keeps away from what they doom, and gives a sign of life that says what of it this writer
    /// uses already. Done every few minutes by itself.
    ///
    /// [`RepoError::Fenced`] if a prune took this writer for dead: then its work ends, because nothing can be claimed any
    /// more, and its owner begins again under another lease.
    pub fn beat(&self) -> Result<(), RepoError> {
        self.inner.beat()
    }

    /// Its id, which will be that of the snapshot.
    pub fn id(&self) -> SnapshotId {
        self.inner.id
    }

    /// Looks whether a prune has made the commit impossible. What this writer relied on may be gone then, so that an error
    /// which looks like damage may be none.
    pub fn has_tombstone(&self) -> bool {
        self.is_fenced() || matches!(self.inner.repo.read_snapshot(self.inner.id), Ok(None))
    }

    /// The prune plan it has seen.
    pub fn seen(&self) -> Option<SeenPlan> {
        self.inner.acknowledged().seen
    }

    /// When it began.
    pub fn started_at(&self) -> Timestamp {
        self.inner.started_at
    }

    /// Commits a snapshot under this lease: the last write of all. Everything it names must be durable.
    ///
    /// [`RepoError::Fenced`] if a prune has made that impossible. Its second copy may be missing afterwards, which the
    /// observer is told.
    pub fn commit(&self, snapshot: &Snapshot, observer: &dyn Observer) -> Result<(), RepoError> {
        self.inner.repo.commit_snapshot(snapshot)?;
        if let Err(error) = self.inner.repo.after_commit(snapshot) {
            observer.note(&format!("the snapshot is stored, but not its second copy: {error}"));
        }
        Ok(())
    }

    /// As [`Self::end`], after a commit: what is left of the registration harms nobody.
    pub fn end_well(self, observer: &dyn Observer) {
        if let Err(error) = self.end() {
            observer.note(&format!("the lease could not be removed; the next prune does it: {error}"));
        }
    }

    /// Removes the registration; without the right to delete it states its end.
    pub fn end(mut self) -> Result<(), RepoError> {
        self.stop_beating();
        self.inner.end()
    }

    fn stop_beating(&mut self) {
        self.alarm.cancel();
        if let Some(heartbeat) = self.heartbeat.take() {
            // A panic of that thread says nothing about the lease.
            let _ = heartbeat.join();
        }
    }
}

/// Attempts until one is not fenced, each under a lease of its own; what one has stored is found by the next, so that this
/// is short. Gives up after [`FENCE_COUNT_MAX`].
pub fn retry_when_fenced<T, E>(
    is_fenced: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 1..FENCE_COUNT_MAX {
        match attempt() {
            Err(error) if is_fenced(&error) => {}
            outcome => return outcome,
        }
    }
    attempt()
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.heartbeat.is_some() {
            self.stop_beating();
            // Giving up. What cannot be removed is fenced by the next prune.
            let _ = self.inner.end();
        }
    }
}

impl Inner {
    /// The rest of a registration, after the first statement: what an open plan dooms, which is acknowledged.
    fn look_for_plans(&self) -> Result<HashSet<PackId>, RepoError> {
        let hold = match self.repo.storage().hold(&names::lease(&self.id, 0)) {
            // A prune took this writer for dead already, and removed what it said.
            Err(StorageError::Missing { .. }) => return Err(RepoError::Fenced),
            hold => hold?,
        };
        *self.hold.lock().expect("no holder of this lock panics") = hold;
        let settle = Duration::from_secs(self.repo.config.settle_seconds);
        if !settle.is_zero() {
            self.repo.clock().sleep(settle);
        }
        let (seen, excluded) = self.wait_for_plan()?;
        *self.acknowledged() = Acknowledged { seen, holds: Vec::new() };
        self.state()?;
        Ok(excluded)
    }

    /// The newest plan. A prune that slept between its lists and its plan for longer than anybody keeps such lists makes a
    /// plan that nobody can read. It finds that out with its next call, and closes the plan; if it died just there, the
    /// next prune does. To a writer that has only said that it is there, it is all the same when it looks.
    fn wait_for_plan(&self) -> Result<(Option<SeenPlan>, HashSet<PackId>), RepoError> {
        for _ in 0..PLAN_WAIT_COUNT {
            match self.repo.newest_plan() {
                Err(RepoError::PlanWithoutLists { .. }) => self.repo.clock().sleep(PLAN_WAIT),
                outcome => return outcome,
            }
        }
        self.repo.newest_plan()
    }

    /// An open plan that is new is acknowledged, with the packs of it that are used already. The acknowledgement says
    /// that nothing else of it will be used; so the packs are excluded first.
    fn beat(&self) -> Result<(), RepoError> {
        self.look_for_tombstone()?;
        let (newest, doomed) = self.repo.newest_plan()?;
        if newest != self.acknowledged().seen {
            let holds = match self.claims.lock().expect("no holder of this lock panics").as_ref() {
                Some(claims) => claims.exclude(&doomed)?,
                None if doomed.is_empty() => BTreeSet::new(),
                // The view of this writer is being made without this plan: it cannot be acknowledged.
                None => return Ok(()),
            };
            *self.acknowledged() = Acknowledged { seen: newest, holds: holds.into_iter().collect() };
        }
        let number = self.state()?;
        self.forget_older_than(number);
        Ok(())
    }

    /// What was stored so far is found by the next attempt, so the sooner it begins, the better.
    fn look_for_tombstone(&self) -> Result<(), RepoError> {
        match self.repo.read_snapshot(self.id) {
            Err(RepoError::Storage(StorageError::Missing { .. })) | Ok(Some(_)) => Ok(()),
            // A damaged one stands there as well: whoever wrote it, the name is taken.
            Ok(None) | Err(RepoError::Damaged { .. }) => {
                self.is_fenced.store(true, Ordering::SeqCst);
                if let Some(claims) = self.claims.lock().expect("no holder of this lock panics").as_ref() {
                    claims.fence();
                }
                Err(RepoError::Fenced)
            }
            Err(error) => Err(error),
        }
    }

    fn acknowledged(&self) -> std::sync::MutexGuard<'_, Acknowledged> {
        self.acknowledged.lock().expect("no holder of this lock panics")
    }

    /// Creates the next statement, and returns its number.
    fn state(&self) -> Result<u32, RepoError> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let statement = self.statement(number, self.purpose);
        self.create(names::lease(&self.id, number), &statement)?;
        Ok(number)
    }

    fn statement(&self, number: u32, purpose: &str) -> LeaseStatement {
        let identity = self.repo.identity();
        let Acknowledged { seen, holds } = self.acknowledged().clone();
        LeaseStatement {
            version: 1,
            lease: self.id,
            number,
            purpose: purpose.to_owned(),
            host: identity.host.clone(),
            process: identity.process,
            boot: identity.boot.clone(),
            started_at: self.started_at,
            seen,
            holds,
            pins: Vec::new(),
            extensions: Vec::new(),
        }
    }

    fn create(&self, name: ObjectName, statement: &LeaseStatement) -> Result<(), RepoError> {
        let plain = statement.encode().map_err(RepoError::Unstorable)?;
        // Remembered first: a create whose answer is lost must be removed too.
        self.stated().push(name.clone());
        match self.repo.create_sealed(ObjectKind::Lease, &name, self.id, &plain)? {
            Created::Created => Ok(()),
            Created::Exists => Err(RepoError::Exists { place: name.to_string() }),
        }
    }

    fn stated(&self) -> std::sync::MutexGuard<'_, Vec<ObjectName>> {
        self.stated.lock().expect("no holder of this lock panics")
    }

    /// Removes statements before `number`, but never the first one: a listing may miss both a name just deleted
    /// and one just created. A host without the right to delete leaves them, and everybody reads the newest.
    fn forget_older_than(&self, number: u32) {
        let keep = [names::lease(&self.id, 0), names::lease(&self.id, number)];
        let old: Vec<_> = self.stated().iter().filter(|name| !keep.contains(name)).cloned().collect();
        for name in old {
            if self.repo.storage().delete(&name).is_ok() {
                self.stated().retain(|stated| *stated != name);
            }
        }
    }

    fn end(&self) -> Result<(), RepoError> {
        let stated = std::mem::take(&mut *self.stated());
        let storage = self.repo.storage();
        let mut outcome = Ok(());
        // The first statement goes last: as long as any is listed, the lease is seen.
        for name in stated.iter().rev() {
            outcome = outcome.and(storage.delete(name));
        }
        *self.hold.lock().expect("no holder of this lock panics") = None;
        if outcome.is_err() {
            let statement = self.statement(u32::MAX, "end");
            return self.create(names::lease_end(&self.id), &statement);
        }
        Ok(())
    }
}
