//! What an actor has in hand: a storage and a clock that ask the stage before anything happens.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kluis::clock::{Alarm, Clock, Timestamp};
use kluis::crypto::Randomness;
use kluis::repo::{Identity, Repo, RepoError, Surroundings};
use kluis::storage::{
    Action, Created, HeldState, Hold, Listed, MappedObject, MemoryStorage, ObjectName, Storage, StorageError,
};
use kluis::units::ByteRange;

use crate::fixture::key;
use crate::stage::{ActorId, Outcome, Stage, WeakStage, is_judged};

/// A computer on which an actor works.
#[derive(Clone)]
pub struct Host {
    stage: Stage,
    actor: ActorId,
    /// Its name, where it is not that of the actor's number.
    pub name: Option<String>,
    /// Seed of its ids and salts.
    pub seed: u64,
    pub may_delete: bool,
    /// A listing takes time: it misses what is created or deleted meanwhile.
    pub lists_slowly: bool,
    /// A name is there before it is durable, unless somebody lists it.
    pub syncs_late: bool,
    /// The answer of the first create that begins so is lost; what it did was done, or not.
    pub lost_answer: Option<(&'static str, bool)>,
    pub lag: Option<Arc<Lag>>,
    /// So many seconds its clock is ahead.
    pub clock_error: i64,
}

impl Host {
    pub fn new(stage: Stage, actor: ActorId) -> Self {
        Self {
            stage,
            actor,
            name: None,
            seed: actor.0 as u64,
            may_delete: true,
            lists_slowly: false,
            syncs_late: false,
            lost_answer: None,
            lag: None,
            clock_error: 0,
        }
    }

    pub fn storage(&self) -> Arc<dyn Storage> {
        let is_answer_lost = AtomicBool::new(false);
        Arc::new(HostStorage { host: self.clone(), inner: self.stage.memory().clone(), is_answer_lost })
    }

    /// Opens the repository; calls that this makes are granted like all others.
    pub fn open(&self, cache: &Path) -> Result<Arc<Repo>, RepoError> {
        let number = self.actor.0 as u32;
        let identity = Identity {
            host: self.name.clone().unwrap_or_else(|| format!("host {number}")),
            user: "user".into(),
            process: number,
            boot: "the only one".into(),
        };
        let clock = Arc::new(StageClock::OfActor(self.stage.clone(), self.actor, self.clock_error));
        let around = Surroundings { storage: self.storage(), cache: cache.to_owned(), clock, identity };
        let repo = Repo::open(around, &key())?;
        Ok(Arc::new(repo.with_randomness(Randomness::repeatable(self.seed))))
    }
}

/// The pretended clock.
pub enum StageClock {
    /// Stamps objects; the moment is for the time before the stage stands.
    OfStorage(WeakStage, Timestamp),
    /// Is so many seconds ahead of it.
    OfActor(Stage, ActorId, i64),
}

impl StageClock {
    pub fn of_storage(stage: impl Into<WeakStage>, begin: Timestamp) -> Self {
        Self::OfStorage(stage.into(), begin)
    }
}

impl Clock for StageClock {
    fn now(&self) -> Timestamp {
        match self {
            Self::OfStorage(stage, begin) => stage.now().unwrap_or(*begin),
            Self::OfActor(stage, _, ahead) => {
                let now = stage.now();
                Timestamp { seconds: now.seconds + ahead, ..now }
            }
        }
    }

    fn sleep(&self, span: Duration) {
        if let Self::OfActor(stage, actor, _) = self {
            stage.sleep(*actor, 0, span);
        }
    }

    fn alarm(&self) -> Arc<dyn Alarm> {
        match self {
            Self::OfActor(stage, actor, _) => {
                let line = stage.new_line(*actor);
                Arc::new(StageAlarm { stage: stage.clone(), actor: *actor, line })
            }
            Self::OfStorage(..) => unreachable!("a storage sets no alarms"),
        }
    }
}

struct StageAlarm {
    stage: Stage,
    actor: ActorId,
    line: usize,
}

impl Alarm for StageAlarm {
    fn wait(&self, span: Duration) -> bool {
        self.stage.sleep(self.actor, self.line, span)
    }

    fn cancel(&self) {
        self.stage.cancel(self.actor, self.line);
    }
}

/// What the folders of a network file system show late: to others than the host that did it.
pub struct Lag {
    span: Duration,
    changes: Mutex<BTreeMap<ObjectName, Change>>,
}

#[derive(Clone)]
struct Change {
    by: ActorId,
    at: Timestamp,
    /// What a listing still shows of what is gone.
    deleted: Option<Listed>,
}

impl Lag {
    pub fn new(span: Duration) -> Arc<Self> {
        Arc::new(Self { span, changes: Mutex::default() })
    }

    fn note(&self, name: &ObjectName, by: ActorId, at: Timestamp, deleted: Option<Listed>) {
        self.changes.lock().unwrap().insert(name.clone(), Change { by, at, deleted });
    }

    /// What this actor sees of a fresh listing.
    fn seen(&self, prefix: &str, fresh: Vec<Listed>, by: ActorId, now: Timestamp) -> Vec<Listed> {
        let changes = self.changes.lock().unwrap();
        let is_late =
            |change: &Change| change.by != by && now.seconds - change.at.seconds < self.span.as_secs() as i64;
        let is_hidden =
            |listed: &Listed| changes.get(&listed.name).is_some_and(|it| it.deleted.is_none() && is_late(it));
        let mut seen: Vec<_> = fresh.into_iter().filter(|listed| !is_hidden(listed)).collect();
        let below = format!("{prefix}/");
        let gone =
            changes.iter().filter(|(name, change)| name.as_str().starts_with(&below) && is_late(change));
        seen.extend(gone.filter_map(|(_, change)| change.deleted.clone()));
        seen
    }
}

/// The storage as one host sees it.
struct HostStorage {
    host: Host,
    inner: MemoryStorage,
    is_answer_lost: AtomicBool,
}

impl HostStorage {
    fn wait(&self, call: (&'static str, &str), action: Action) -> Result<(), StorageError> {
        match self.host.stage.wait_for_turn(self.host.actor, call.0, call.1) {
            true => Ok(()),
            false => Err(failed(action, call.1, io::ErrorKind::BrokenPipe)),
        }
    }

    fn pass<T>(
        &self,
        call: (&'static str, &str),
        action: Action,
        work: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.wait(call, action)?;
        let outcome = work();
        let noted = if outcome.is_ok() { Outcome::Done } else { Outcome::Failed };
        self.host.stage.note(self.host.actor, call, noted, None);
        outcome
    }
}

fn failed(action: Action, what: &str, kind: io::ErrorKind) -> StorageError {
    StorageError::Failed {
        action,
        what: what.to_owned(),
        source: io::Error::new(kind, "as the test wants it"),
    }
}

impl Storage for HostStorage {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        let call = ("create", name.as_str());
        self.wait(call, Action::Create)?;
        let is_lost = self.host.lost_answer.filter(|(prefix, _)| {
            name.as_str().starts_with(prefix) && !self.is_answer_lost.swap(true, Ordering::Relaxed)
        });
        if let Some((_, false)) = is_lost {
            return Err(failed(Action::Create, name.as_str(), io::ErrorKind::TimedOut));
        }
        let created = self.inner.create(name, bytes)?;
        let outcome = if created == Created::Created { Outcome::Changed } else { Outcome::Nothing };
        let kept = (outcome == Outcome::Changed && is_judged(name)).then(|| Arc::from(bytes));
        self.host.stage.note(self.host.actor, call, outcome, kept);
        if let (Some(lag), Created::Created) = (&self.host.lag, created) {
            lag.note(name, self.host.actor, self.host.stage.now(), None);
        }
        if is_lost.is_some() {
            return Err(failed(Action::Create, name.as_str(), io::ErrorKind::TimedOut));
        }
        if self.host.syncs_late && created == Created::Created {
            self.host.stage.is_open(name);
            self.wait(("sync", name.as_str()), Action::Create)?;
            self.host.stage.is_durable(name);
        }
        Ok(created)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.pass(("read", name.as_str()), Action::Read, || self.inner.get(name))
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        self.pass(("read", name.as_str()), Action::Read, || self.inner.get_range(name, range, into))
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.pass(("ask", name.as_str()), Action::Read, || self.inner.len(name))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        let mut listed = Vec::new();
        let call = ("list", prefix);
        self.pass(call, Action::List, || self.inner.list(prefix, &mut |object| listed.push(object)))?;
        if self.host.lists_slowly {
            let mut left = BTreeSet::new();
            let call = ("list on", prefix);
            self.pass(call, Action::List, || {
                self.inner.list(prefix, &mut |object| left.extend([object.name]))
            })?;
            listed.retain(|object| left.contains(&object.name));
        }
        if !matches!(prefix, "data" | "meta" | "tmp") {
            listed.iter().for_each(|object| self.host.stage.is_durable(&object.name));
        }
        if let Some(lag) = &self.host.lag {
            listed = lag.seen(prefix, listed, self.host.actor, self.host.stage.now());
        }
        listed.into_iter().for_each(visit);
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        let call = ("delete", name.as_str());
        self.wait(call, Action::Delete)?;
        if !self.host.may_delete {
            self.host.stage.note(self.host.actor, call, Outcome::Failed, None);
            return Err(failed(Action::Delete, name.as_str(), io::ErrorKind::PermissionDenied));
        }
        if let Some(lag) = &self.host.lag {
            let mut last = None;
            self.inner.list(name.folder(), &mut |listed| {
                if listed.name == *name {
                    last = Some(listed);
                }
            })?;
            lag.note(name, self.host.actor, self.host.stage.now(), last);
        }
        let was_there = self.inner.remove(name).is_some();
        let outcome = if was_there { Outcome::Changed } else { Outcome::Nothing };
        self.host.stage.note(self.host.actor, call, outcome, None);
        Ok(())
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<(), StorageError> {
        let what = names.first().map_or("nothing", ObjectName::as_str);
        self.pass(("make durable", what), Action::Create, || {
            names.iter().for_each(|name| self.host.stage.is_durable(name));
            Ok(())
        })
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.pass(("replace", name.as_str()), Action::Replace, || self.inner.replace(name, bytes))
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        self.pass(("hold", name.as_str()), Action::Read, || self.inner.hold(name))
    }

    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        self.pass(("held", name.as_str()), Action::Read, || self.inner.held(name))
    }

    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        self.pass(("map", name.as_str()), Action::Read, || self.inner.map(name))
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    fn listing_lags(&self) -> bool {
        self.host.lag.is_some()
    }

    fn place(&self) -> String {
        "the stage".to_owned()
    }
}
