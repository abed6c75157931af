//! A storage that goes wrong on purpose, around any other one. For tests.
//!
//! A crash test runs an operation again and again, with [`FaultPlan::death`] at call 0, 1, 2 and so on, until
//! [`FaultyStorage::struck`] says that the operation ended before the fault came. After each run it looks at what is
//! in the storage below, as a new process would.
//!
//! **Power cuts.** A finished `create` survives them, so only two things are open when the power fails, and
//! [`FaultyStorage::lose_power`] lets chance decide each of them: an object whose create never got its answer may be
//! there or not, and a pack that was deleted may be back, because nobody syncs a folder for that. What a listing of a
//! control folder showed is no longer open. The outcomes are independent of the order of the calls.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use plan::{Afterwards, Calls, Fault, FaultPlan};

use crate::storage::name::is_control;
use crate::storage::{
    Action, Created, HeldState, Hold, Listed, MappedObject, ObjectName, RequestCounts, Storage, StorageError,
};
use crate::units::ByteRange;

/// Passes every call on to another storage, but for the one that its [`FaultPlan`] chooses.
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: Option<FaultPlan>,
    counts: Counts,
    struck: Option<String>,
    is_dead: bool,
    leftover_count: u64,
    /// Objects that a stale listing does not show yet.
    created: BTreeSet<ObjectName>,
    /// Objects that a stale listing still shows.
    deleted: BTreeMap<ObjectName, Listed>,
    /// What a power cut decides.
    open: BTreeMap<ObjectName, Open>,
}

#[derive(Default)]
struct Counts {
    all: u64,
    changes: u64,
    reads: u64,
    lists: u64,
}

enum Open {
    /// Stored, but nobody was told.
    Created,
    /// Deleted, but perhaps only in the memory of the kernel.
    Deleted(Vec<u8>),
}

impl FaultyStorage {
    /// A storage without faults, which counts calls.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// A storage with one planned fault.
    pub fn with_plan(inner: Arc<dyn Storage>, plan: FaultPlan) -> Self {
        let storage = Self::new(inner);
        storage.set_plan(Some(plan));
        storage
    }

    /// Sets a plan, or none, and counts from zero again. What was dead works again.
    pub fn set_plan(&self, plan: Option<FaultPlan>) {
        let mut state = self.lock();
        let open = std::mem::take(&mut state.open);
        *state = State { plan, open, leftover_count: state.leftover_count, ..State::default() };
    }

    /// Calls of this kind since the plan was set, those that failed included.
    pub fn call_count(&self, calls: Calls) -> u64 {
        let counts = &self.lock().counts;
        match calls {
            Calls::All => counts.all,
            Calls::Changes => counts.changes,
            Calls::Reads => counts.reads,
            Calls::Lists => counts.lists,
        }
    }

    /// The first call that the fault hit, in words, or `None` if it was not reached.
    pub fn struck(&self) -> Option<String> {
        self.lock().struck.clone()
    }

    /// Lets a power cut decide what is open, and forgets about it. Equal seeds decide alike.
    ///
    /// # Errors
    /// Those of the storage below.
    pub fn lose_power(&self, seed: u64) -> Result<(), StorageError> {
        let open = std::mem::take(&mut self.lock().open);
        let mut chance = seed;
        for (name, change) in open {
            if next_random(&mut chance) & 1 == 0 {
                continue;
            }
            match change {
                Open::Created => self.inner.delete(&name)?,
                Open::Deleted(bytes) => drop(self.inner.create(&name, &bytes)?),
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that failed in another thread must not hide behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and says what is to go wrong in it. Faults that do nothing at all are errors already.
    fn enter(&self, call: &Call<'_>) -> Result<Option<Fault>, StorageError> {
        let mut state = self.lock();
        let position = state.counts.count(call.calls);
        if state.is_dead {
            return Err(call.error(io::ErrorKind::BrokenPipe, "the process is dead"));
        }
        let Some(plan) = state.plan else { return Ok(None) };
        let at = match plan.calls {
            Calls::All => Some(state.counts.all - 1),
            calls if calls == call.calls => position,
            _ => None,
        };
        let is_hit = match plan.then {
            Afterwards::Same => at.is_some_and(|at| at >= plan.at_call),
            Afterwards::Dead | Afterwards::Fine => at == Some(plan.at_call),
        };
        if !is_hit {
            return Ok(None);
        }
        state.struck.get_or_insert_with(|| format!("{} {}", call.action, call.what));
        state.is_dead = plan.then == Afterwards::Dead;
        match plan.fault {
            Fault::Before => Err(call.lost()),
            Fault::OutOfSpace => Err(call.error(io::ErrorKind::StorageFull, "planned")),
            Fault::Denied => Err(call.error(io::ErrorKind::PermissionDenied, "planned")),
            fault => Ok(Some(fault)),
        }
    }

    /// A call whose only faults are those of every call.
    fn pass<T>(
        &self,
        call: &Call<'_>,
        work: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match self.enter(call)? {
            Some(Fault::Torn) => Err(call.lost()),
            Some(Fault::After) => work().and(Err(call.lost())),
            _ => work(),
        }
    }

    fn leave_half(&self, bytes: &[u8]) -> Result<(), StorageError> {
        let number = {
            let mut state = self.lock();
            state.leftover_count += 1;
            state.leftover_count
        };
        let name = ObjectName::new(format!("tmp/torn.{number}")).expect("letters and digits are a name");
        self.inner.create(&name, half(bytes)).map(drop)
    }

    /// What there is to remember of an object before it is deleted.
    fn remember_deleted(&self, name: &ObjectName) {
        let mut last = None;
        let listed = self.inner.list(name.folder(), &mut |listed| {
            if listed.name == *name {
                last = Some(listed);
            }
        });
        let (Ok(()), Some(listed), Ok(bytes)) = (listed, last, self.inner.get(name)) else { return };
        let mut state = self.lock();
        if !state.created.contains(name) {
            state.deleted.insert(name.clone(), listed);
        }
        if !is_control(name.folder()) {
            state.open.insert(name.clone(), Open::Deleted(bytes));
        }
    }

    fn stale(&self, prefix: &str, fresh: Vec<Listed>) -> Vec<Listed> {
        let state = self.lock();
        let is_below =
            |name: &ObjectName| prefix.is_empty() || name.as_str().starts_with(&format!("{prefix}/"));
        let vanished = state.deleted.values().filter(|listed| is_below(&listed.name)).cloned();
        fresh.into_iter().filter(|listed| !state.created.contains(&listed.name)).chain(vanished).collect()
    }
}

impl Storage for FaultyStorage {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        let call = Call::new(Calls::Changes, Action::Create, name.as_str());
        let fault = self.enter(&call)?;
        match fault {
            Some(Fault::Torn) => return self.leave_half(bytes).and(Err(call.lost())),
            Some(Fault::TornVisibly) => return self.inner.create(name, half(bytes)).and(Err(call.lost())),
            _ => {}
        }
        let created = self.inner.create(name, bytes)?;
        let mut state = self.lock();
        if created == Created::Created {
            state.created.insert(name.clone());
            state.open.remove(name);
        }
        if fault == Some(Fault::After) {
            if created == Created::Created {
                state.open.insert(name.clone(), Open::Created);
            }
            return Err(call.lost());
        }
        Ok(created)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        let call = Call::new(Calls::Reads, Action::Read, name.as_str());
        let fault = self.enter(&call)?;
        let mut bytes = self.inner.get(name)?;
        match fault {
            Some(Fault::Torn | Fault::After) => return Err(call.lost()),
            Some(Fault::FlippedBit(bit)) => flip(&mut bytes, bit),
            _ => {}
        }
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        let call = Call::new(Calls::Reads, Action::Read, name.as_str());
        let fault = self.enter(&call)?;
        let mut bytes = Vec::new();
        self.inner.get_range(name, range, &mut bytes)?;
        match fault {
            Some(Fault::Torn) => {
                into.extend_from_slice(half(&bytes));
                return Err(call.lost());
            }
            Some(Fault::After) => return Err(call.lost()),
            Some(Fault::FlippedBit(bit)) => flip(&mut bytes, bit),
            _ => {}
        }
        into.append(&mut bytes);
        Ok(())
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.pass(&Call::new(Calls::Reads, Action::Read, name.as_str()), || self.inner.len(name))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        let call = Call::new(Calls::Lists, Action::List, prefix);
        let fault = self.enter(&call)?;
        let mut listed = Vec::new();
        self.inner.list(prefix, &mut |object| listed.push(object))?;
        match fault {
            Some(Fault::Torn | Fault::ListingCut) => listed.truncate(listed.len() / 2),
            Some(Fault::ListingStale) => listed = self.stale(prefix, listed),
            _ => {}
        }
        let shown = listed.clone();
        listed.into_iter().for_each(visit);
        if matches!(fault, Some(Fault::Torn | Fault::After)) {
            return Err(call.lost());
        }
        let mut state = self.lock();
        for object in shown.iter().filter(|object| is_control(object.name.folder())) {
            state.open.remove(&object.name);
        }
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.pass(&Call::new(Calls::Changes, Action::Delete, name.as_str()), || {
            self.remember_deleted(name);
            self.inner.delete(name)
        })
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<(), StorageError> {
        let what = names.first().map_or("nothing", ObjectName::as_str);
        self.pass(&Call::new(Calls::Changes, Action::Create, what), || self.inner.make_durable(names))?;
        let mut state = self.lock();
        state.open.retain(|name, _| !names.contains(name));
        Ok(())
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        let call = Call::new(Calls::Changes, Action::Replace, name.as_str());
        let fault = self.enter(&call)?;
        match fault {
            Some(Fault::Torn) => self.leave_half(bytes).and(Err(call.lost())),
            Some(Fault::TornVisibly) => self.inner.replace(name, half(bytes)).and(Err(call.lost())),
            Some(Fault::After) => self.inner.replace(name, bytes).and(Err(call.lost())),
            _ => self.inner.replace(name, bytes),
        }
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        self.pass(&Call::new(Calls::All, Action::Read, name.as_str()), || self.inner.hold(name))
    }

    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        self.pass(&Call::new(Calls::All, Action::Read, name.as_str()), || self.inner.held(name))
    }

    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        let call = Call::new(Calls::Reads, Action::Read, name.as_str());
        let fault = self.enter(&call)?;
        let mapped = self.inner.map(name)?;
        match fault {
            Some(Fault::Torn | Fault::After) => Err(call.lost()),
            Some(Fault::FlippedBit(bit)) => Ok(mapped.map(|mapped| {
                let mut bytes = mapped.to_vec();
                flip(&mut bytes, bit);
                MappedObject::from_bytes(bytes)
            })),
            _ => Ok(mapped),
        }
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        self.pass(&Call::new(Calls::All, Action::Read, "space"), || self.inner.space_left())
    }

    fn listing_lags(&self) -> bool {
        self.inner.listing_lags()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn creates_exclusively(&self) -> bool {
        self.inner.creates_exclusively()
    }

    fn requests(&self) -> Option<RequestCounts> {
        self.inner.requests()
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}

/// A call, as far as faults look at it.
struct Call<'a> {
    /// The narrowest group that it belongs to.
    calls: Calls,
    action: Action,
    what: &'a str,
}

impl<'a> Call<'a> {
    fn new(calls: Calls, action: Action, what: &'a str) -> Self {
        Self { calls, action, what }
    }

    fn lost(&self) -> StorageError {
        self.error(io::ErrorKind::Other, "planned")
    }

    fn error(&self, kind: io::ErrorKind, why: &str) -> StorageError {
        let source = io::Error::new(kind, why);
        StorageError::Failed { action: self.action, what: self.what.to_owned(), source }
    }
}

impl Counts {
    /// Counts a call and returns how many of its own group came before it.
    fn count(&mut self, calls: Calls) -> Option<u64> {
        self.all += 1;
        let group = match calls {
            Calls::All => return None,
            Calls::Changes => &mut self.changes,
            Calls::Reads => &mut self.reads,
            Calls::Lists => &mut self.lists,
        };
        *group += 1;
        Some(*group - 1)
    }
}

fn half(bytes: &[u8]) -> &[u8] {
    bytes.split_at(bytes.len() / 2).0
}

fn flip(bytes: &mut [u8], bit: u64) {
    let Some(bit) = bit.checked_rem(bytes.len() as u64 * 8) else { return };
    if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at)) {
        *byte ^= 1 << (bit % 8);
    }
}

/// SplitMix64: small, and good enough to toss coins with.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
