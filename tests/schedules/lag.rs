//! 15 of the interleavings: a network file system that shows other hosts late what one of them has done.
//!
//! There, a writer and a prune may miss each other: the writer does not see the plan, and the prune does not see the
//! lease. Both therefore wait so long, after they have said that they are there, that the other one must see it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kluis::check::{self, CheckOptions, DataPart};
use kluis::event::Silent;
use kluis::repo::Repo;
use kluis::storage::{
    Created, HeldState, Hold, Listed, MappedObject, MemoryStorage, ObjectName, Storage, StorageError,
};
use kluis::units::ByteRange;
use tempfile::TempDir;

use crate::act::cast;
use crate::fixture::{Objects, cache_folder, init_options, key, surroundings};
use crate::props::{Host, Lag};
use crate::stage::{Cast, Part, Stage};
use crate::world::{World, back_up, back_up_well, forget_ids, open_beside, prune, stage, thorough};

/// A listing may be so old, which is less than the wait.
const LAG: Duration = Duration::from_secs(100);
/// What `init` writes into the settings where listings lag.
const SETTLE_SECONDS: u64 = 120;

/// A repository made where listings lag, or not, in which a source is forgotten.
fn start(world: &World, lags: bool) -> Objects {
    let memory = MemoryStorage::new();
    let cache = cache_folder();
    // Only while it is made: what is stored then has settled long before the histories begin.
    let storage: Arc<dyn Storage> =
        if lags { Arc::new(Lagging(memory.clone())) } else { Arc::new(memory.clone()) };
    let made = Repo::init(surroundings(storage, cache.path()), &init_options(1 << 20), &key()).unwrap();
    assert_eq!(made.config().settle_seconds, if lags { SETTLE_SECONDS } else { 0 });
    drop(made);
    let repo = settled(&memory, cache.path());
    let forgotten = back_up_well(&repo, &world.roots[0]);
    back_up_well(&repo, &world.roots[1]);
    forget_ids(&repo, &[forgotten]);
    memory.objects()
}

/// Opens it with a clock whose waits are over at once.
fn settled(memory: &MemoryStorage, cache: &std::path::Path) -> Arc<Repo> {
    open_beside(memory, cache, 11)
}

/// Says that its listings lag, which they do not.
struct Lagging(MemoryStorage);

/// Two hosts on one such file system.
struct Hosts<'c> {
    cast: &'c Cast,
    world: Arc<World>,
    stage: Stage,
    lag: Arc<Lag>,
    caches: Vec<TempDir>,
}

impl<'c> Hosts<'c> {
    fn new(cast: &'c Cast, objects: &Objects) -> Self {
        Self {
            cast,
            world: World::shared(cast),
            stage: stage(objects),
            lag: Lag::new(LAG),
            caches: Vec::new(),
        }
    }

    fn enter<T: Send + 'static>(&mut self, play: impl FnOnce(Arc<Repo>) -> T + Send + 'static) -> Part<T> {
        let cache = cache_folder();
        let (path, lag) = (cache.path().to_owned(), Arc::clone(&self.lag));
        self.caches.push(cache);
        self.stage.start(self.cast, move |mut host: Host| {
            host.lag = Some(lag);
            play(host.open(&path).unwrap())
        })
    }

    fn writer(&mut self) -> Part<bool> {
        let root = self.world.roots[0].clone();
        self.enter(move |repo| back_up(&repo, &root).is_ok_and(|report| report.snapshot_id.is_some()))
    }

    fn pruner(&mut self) -> Part<usize> {
        self.enter(|repo| prune(&repo, &thorough()).map_or(0, |report| report.waiting.len()))
    }

    /// Everything that is live can be read.
    fn is_whole(&self) -> bool {
        let memory = MemoryStorage::from_objects(self.stage.memory().objects());
        let repo = settled(&memory, cache_folder().path());
        let options = CheckOptions { directories: true, data: Some(DataPart::All) };
        !check::run(&repo, &options, &Silent::default()).unwrap().has_damage()
    }
}

/// The writer registers, and the prune publishes its plan; neither has listed what the other one did. Each then goes on
/// as fast as it may.
fn miss_each_other(cast: &Cast, objects: &Objects, writer_calls: usize) -> bool {
    let mut hosts = Hosts::new(cast, objects);
    let writer = hosts.writer();
    let pruner = hosts.pruner();
    hosts.stage.run_until(pruner.id, "create prune/00000001.plan");
    hosts.stage.run_until(writer.id, "create lease/");
    hosts.stage.steps(writer.id, writer_calls);
    hosts.stage.step(pruner.id);
    // By turns; whoever waits does so by the clock.
    while !(hosts.stage.has_ended(writer.id) && hosts.stage.has_ended(pruner.id)) {
        let is_at_commit =
            hosts.stage.next_call(writer.id).is_some_and(|it| it.starts_with("create snapshot/"));
        let writer_went = !is_at_commit && hosts.stage.step(writer.id);
        let pruner_went = hosts.stage.step(pruner.id);
        if writer_went || pruner_went {
            continue;
        }
        // The prune is over, or both wait.
        if hosts.stage.has_ended(pruner.id) && hosts.stage.step(writer.id) {
            continue;
        }
        hosts.stage.pass_time(Duration::from_secs(10));
    }
    let (_, _) = (writer.outcome(), pruner.outcome());
    hosts.is_whole()
}

#[test]
fn a_writer_and_a_prune_that_cannot_see_each_other_yet_wait_until_they_must() {
    let cast = cast();
    let objects = start(&World::shared(&cast), true);
    for writer_calls in 0..12 {
        assert!(miss_each_other(&cast, &objects, writer_calls), "after {writer_calls} calls");
    }
}

/// Or the test above would prove nothing.
#[test]
fn without_the_wait_they_would_miss_each_other() {
    let cast = cast();
    let objects = start(&World::shared(&cast), false);
    let outcomes = (0..12).map(|writer_calls| {
        catch_unwind(AssertUnwindSafe(|| miss_each_other(&cast, &objects, writer_calls))).unwrap_or(false)
    });
    let outcomes: Vec<_> = outcomes.collect();
    assert!(outcomes.contains(&false), "nothing was lost: {outcomes:?}");
}

impl Storage for Lagging {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        self.0.create(name, bytes)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.0.get(name)
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        self.0.get_range(name, range, into)
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.0.len(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        self.0.list(prefix, visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.0.delete(name)
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.replace(name, bytes)
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        self.0.hold(name)
    }

    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        self.0.held(name)
    }

    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        self.0.map(name)
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        self.0.space_left()
    }

    fn listing_lags(&self) -> bool {
        true
    }

    fn place(&self) -> String {
        self.0.place()
    }
}
