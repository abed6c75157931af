//! Leases: the registration of a writer, so that prune knows of it. A lease blocks nobody.
//!
//! The order matters. The lease is created before anything but settings is read (a prune that lists leases later
//! sees it), the plans are read before the packs are listed (a plan that is missed there is finished), and only then
//! may a chunk be claimed.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::crypto;
use crate::format::container::{Header, ObjectKind};
use crate::format::lease::{LeaseStatement, SeenPlan};
use crate::hash::payload_id;
use crate::id::SnapshotId;
use crate::repo::error::RepoError;
use crate::repo::{Repo, names};
use crate::storage::{Created, Hold, ObjectName};

/// A sign of life every so often.
const STATEMENT_INTERVAL: Duration = Duration::from_secs(300);

/// A registered writer. [`Lease::end`] removes the registration; dropping it tries to.
pub struct Lease {
    inner: Arc<Inner>,
    stop: Option<Sender<()>>,
    heartbeat: Option<JoinHandle<()>>,
}

struct Inner {
    repo: Arc<Repo>,
    id: SnapshotId,
    purpose: &'static str,
    started_at: Timestamp,
    seen: Option<SeenPlan>,
    stated: Mutex<Vec<ObjectName>>,
    hold: Mutex<Option<Hold>>,
}

impl Lease {
    /// Registers a writer: states that it is there, reads the prune plans, and states what it has seen.
    ///
    /// Fails with [`RepoError::PruneUnderWay`] while a prune is under way that this program cannot read.
    pub fn register(repo: &Arc<Repo>, purpose: &'static str) -> Result<Self, RepoError> {
        let id = SnapshotId::new(crypto::random()?);
        let mut inner = Inner {
            repo: Arc::clone(repo),
            id,
            purpose,
            started_at: repo.clock().now(),
            seen: None,
            stated: Mutex::default(),
            hold: Mutex::new(None),
        };
        inner.state(0)?;
        *inner.hold.lock().expect("no holder of this lock panics") =
            repo.storage().hold(&names::lease(&id, 0))?;
        let settle = Duration::from_secs(repo.config.settle_seconds);
        if !settle.is_zero() {
            std::thread::sleep(settle);
        }
        inner.seen = repo.newest_plan()?;
        inner.state(1)?;
        let inner = Arc::new(inner);
        let (stop, stopped) = channel();
        let beating = Arc::clone(&inner);
        let heartbeat = std::thread::spawn(move || {
            let mut number = 2;
            while stopped.recv_timeout(STATEMENT_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // A missed sign of life can at worst get this writer fenced, which it notices at its commit.
                let _ = beating.state(number).and_then(|()| beating.forget_older_than(number));
                number += 1;
            }
        });
        Ok(Self { inner, stop: Some(stop), heartbeat: Some(heartbeat) })
    }

    /// Its id, which will be that of the snapshot.
    pub fn id(&self) -> SnapshotId {
        self.inner.id
    }

    /// The prune plan it has seen.
    pub fn seen(&self) -> Option<SeenPlan> {
        self.inner.seen
    }

    /// When it began.
    pub fn started_at(&self) -> Timestamp {
        self.inner.started_at
    }

    /// Removes the registration; without the right to delete it states its end.
    pub fn end(mut self) -> Result<(), RepoError> {
        self.stop_beating();
        self.inner.end()
    }

    fn stop_beating(&mut self) {
        drop(self.stop.take());
        if let Some(heartbeat) = self.heartbeat.take() {
            // A panic of that thread says nothing about the lease.
            let _ = heartbeat.join();
        }
    }
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
    fn state(&self, number: u32) -> Result<(), RepoError> {
        self.create(names::lease(&self.id, number), &self.statement(number, self.purpose))
    }

    fn statement(&self, number: u32, purpose: &str) -> LeaseStatement {
        let identity = self.repo.identity();
        LeaseStatement {
            version: 1,
            lease: self.id,
            number,
            purpose: purpose.to_owned(),
            host: identity.host.clone(),
            process: identity.process,
            boot: identity.boot.clone(),
            started_at: self.started_at,
            seen: self.seen,
            holds: Vec::new(),
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
    /// and one just created.
    fn forget_older_than(&self, number: u32) -> Result<(), RepoError> {
        let keep = [names::lease(&self.id, 0), names::lease(&self.id, number)];
        let old: Vec<_> = self.stated().iter().filter(|name| !keep.contains(name)).cloned().collect();
        for name in old {
            self.repo.storage().delete(&name)?;
            self.stated().retain(|stated| *stated != name);
        }
        Ok(())
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

impl Repo {
    /// The newest prune plan, which must be finished: this program cannot read plans.
    fn newest_plan(&self) -> Result<Option<SeenPlan>, RepoError> {
        let mut plans = Vec::new();
        let mut done = Vec::new();
        self.storage().list(names::PRUNE, &mut |listed| {
            if let Some((number, kind)) = listed.name.leaf().split_once('.')
                && let Ok(number) = number.parse::<u64>()
            {
                match kind {
                    "plan" => plans.push((number, listed.name.clone())),
                    "done" => done.push(number),
                    _ => {}
                }
            }
        })?;
        let Some((number, name)) = plans.into_iter().max_by_key(|(number, _)| *number) else {
            return Ok(None);
        };
        if !done.contains(&number) {
            return Err(RepoError::PruneUnderWay { number });
        }
        let stored = self.storage().get(&name)?;
        let damaged = |source| RepoError::Damaged { name: name.to_string(), source };
        let (header, _) = Header::decode(&stored).map_err(|error| damaged(error.into()))?;
        let payload = stored.get(..header.payload_len as usize);
        let payload = payload.ok_or_else(|| damaged(crate::repo::error::DamageReason::Short))?;
        Ok(Some(SeenPlan { number, hash: payload_id(payload) }))
    }
}
