//! A history that is played on purpose.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use crate::fixture::cache_folder;
use crate::judge::{Known, judge};
use crate::props::Host;
use crate::roles::{Asked, Role, Said};
use crate::stage::{Cast, Part, Stage};
use crate::world::{Scene, World, stage};

/// So many actors play in one act at most.
const ACTOR_COUNT_MAX: usize = 20;
/// Ids that are drawn after the play are not those of any scene: one of a snapshot that was forgotten would be dead at once.
const JUDGE_SEED: u64 = 100_003;
/// An operation that makes more calls than this does not end.
pub const STEP_COUNT_MAX: usize = 2000;
/// After so long a lease gives a sign of life.
pub const BEAT: Duration = Duration::from_secs(301);
/// After so long a writer is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(25 * 3600);

/// Threads for actors, on one processor, so that operations work with one thread.
pub fn cast() -> Cast {
    let allowed = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|at| allowed.is_set(*at)).unwrap();
    let mut only = CpuSet::new();
    only.set(first);
    sched_setaffinity(None, &only).unwrap();
    Cast::new(ACTOR_COUNT_MAX)
}

/// See the module.
pub struct Act<'c> {
    cast: &'c Cast,
    pub world: Arc<World>,
    scene: Scene,
    pub stage: Stage,
    caches: Vec<TempDir>,
    asked: Asked,
    committed: BTreeSet<kluis::id::SnapshotId>,
    entered: Vec<Arc<Part<Said>>>,
    /// Failures that begin so are no surprise.
    pub may_fail_with: &'static [&'static str],
    /// Somebody damaged a pack, which stays until it is repaired.
    pub is_spoilt: bool,
}

impl<'c> Act<'c> {
    pub fn new(cast: &'c Cast, scene: Scene) -> Self {
        let world = World::shared(cast);
        let stage = stage(&world.start(scene).objects);
        Self {
            cast,
            world,
            scene,
            stage,
            caches: Vec::new(),
            asked: Asked::default(),
            committed: BTreeSet::new(),
            entered: Vec::new(),
            may_fail_with: &[],
            is_spoilt: false,
        }
    }

    /// Somebody comes, and is about to make his first call.
    pub fn enter(&mut self, role: Role) -> Arc<Part<Said>> {
        self.enter_as(role, |_| ())
    }

    /// As [`Self::enter`], on a special host.
    pub fn enter_as(
        &mut self,
        role: Role,
        change: impl FnOnce(&mut Host) + Send + 'static,
    ) -> Arc<Part<Said>> {
        let cache = cache_folder();
        let (path, world, asked) =
            (cache.path().to_owned(), Arc::clone(&self.world), Arc::clone(&self.asked));
        self.caches.push(cache);
        let part = self.stage.start(self.cast, move |mut host| {
            change(&mut host);
            role.play(&host, &path, &world, &asked)
        });
        let part = Arc::new(part);
        self.entered.push(Arc::clone(&part));
        part
    }

    /// Somebody works to his end, and says what came of it.
    #[track_caller]
    pub fn end(&mut self, part: &Arc<Part<Said>>) -> Said {
        self.stage.run_to_end(part.id);
        self.entered.retain(|other| other.id != part.id);
        self.hear(part)
    }

    /// Somebody comes and works to his end.
    #[track_caller]
    pub fn play(&mut self, role: Role) -> Said {
        let part = self.enter(role);
        self.end(&part)
    }

    #[track_caller]
    fn hear(&mut self, part: &Part<Said>) -> Said {
        let said = part.outcome();
        self.committed.extend(said.committed);
        if !self.stage.is_dead(part.id) {
            let is_surprise = |text: &String| !self.may_fail_with.iter().any(|known| text.contains(known));
            let surprise = said.failure.as_ref().filter(|text| is_surprise(text));
            assert_eq!((&said.violation, surprise), (&None, None));
        }
        said
    }

    /// Everybody works to his end, and everything is looked at.
    #[track_caller]
    pub fn finish(mut self) {
        self.stage.run_all_to_end();
        for part in std::mem::take(&mut self.entered) {
            self.hear(&part);
        }
        let asked = self.asked.lock().unwrap().clone();
        let known = Known {
            start: self.world.start(self.scene),
            committed: self.committed,
            asked,
            is_spoilt: self.is_spoilt,
        };
        judge(&self.stage, &self.world, &known, JUDGE_SEED);
    }
}

/// Puts somebody to sleep before each of his calls in turn, from the one on that begins so, plays something else, wakes
/// him, and looks at everything. Returns how many calls there were.
pub fn asleep_at_every_call(
    scene: Scene,
    sleeper: Role,
    from: &str,
    may_fail_with: &'static [&'static str],
    meanwhile: &dyn Fn(&mut Act<'_>),
) -> usize {
    let cast = cast();
    for at in 0..STEP_COUNT_MAX {
        let mut act = Act::new(&cast, scene);
        act.may_fail_with = may_fail_with;
        let part = act.enter(sleeper);
        if !from.is_empty() {
            act.stage.run_until(part.id, from);
        }
        act.stage.steps(part.id, at);
        let Some(call) = act.stage.next_call(part.id) else {
            act.finish();
            return at;
        };
        // Printed only if something below fails.
        println!("{sleeper:?} on {scene:?} sleeps at call {at}, {call}");
        meanwhile(&mut act);
        act.finish();
    }
    panic!("{sleeper:?} does not end");
}
