//! The stage: actors run real operations, and exactly one of them runs at a time.
//!
//! Every call to the storage waits until the stage grants it. The stage grants the next one only when everything is
//! *still*: each actor has a call pending, or sleeps by the pretended clock, or has ended. So what an operation computes
//! between two calls is part of the first, and a history is the order in which calls were granted. Who decides that
//! order is not the matter of this file: a test does, step by step, or a seed does.
//!
//! An operation has threads of its own. Their calls count as those of its actor, whichever thread makes them, but for
//! the signs of life of a lease: those come from a *line* of its own, which sleeps until the clock says that it is time.
//! Operations run on one processor, so that those which ask for the number of processors work with one thread, and
//! sources are so small that a backup has never two packs to store at once; so a line has one call pending at a time.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Thread, ThreadId};
use std::time::Duration;

use kluis::clock::Timestamp;
use kluis::storage::{MemoryStorage, ObjectName};

use crate::props::{Host, StageClock};

/// Where the pretended clock begins.
const BEGIN: Timestamp = Timestamp::from_seconds(1_900_000_000);
/// Somebody who is not still after so long waits for something that will not come.
const STILL_WAIT: Duration = Duration::from_secs(20);
const STILL_WAIT_COUNT: usize = 6;
/// The line of all threads that are not known to be another one.
const MAIN: usize = 0;

/// Names an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub usize);

/// A line of an actor that has a call pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    pub actor: ActorId,
    line: usize,
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A name was taken by a create, or an object was there to be deleted.
    Changed,
    /// A create found the name taken, a delete nothing.
    Nothing,
    Failed,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    pub what: What,
    /// What was stored, for the objects that are judged afterwards.
    pub bytes: Option<Arc<[u8]>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Call {
        actor: ActorId,
        action: &'static str,
        name: String,
        outcome: Outcome,
    },
    Time(u64),
    Death(ActorId),
    /// A power cut took it back.
    Lost(String),
}

impl Event {
    /// The event without what is drawn at random.
    pub fn shape(&self) -> String {
        match &self.what {
            What::Call { actor, action, name, outcome } => {
                let kind =
                    if name.starts_with("prune/") { name } else { name.split('/').next().unwrap_or("") };
                format!("{} {action} {kind} {outcome:?}", actor.0)
            }
            What::Time(seconds) => format!("+{seconds}"),
            What::Death(actor) => format!("{} dies", actor.0),
            What::Lost(name) => format!("{} is lost", folder_of(name)),
        }
    }

    /// The event, names shortened.
    pub fn text(&self) -> String {
        match &self.what {
            What::Call { actor, action, name, outcome } => {
                let short = name.get(..20).unwrap_or(name);
                format!("{} {action} {short} {outcome:?}", actor.0)
            }
            _ => self.shape(),
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Stage {
    shared: Arc<Shared>,
}

struct Shared {
    memory: MemoryStorage,
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    now: Timestamp,
    actors: Vec<Actor>,
    lines: HashMap<ThreadId, (ActorId, usize)>,
    granted: BTreeSet<u64>,
    next_ticket: u64,
    events: Vec<Event>,
    /// Objects that are there and not yet durable.
    open: BTreeSet<ObjectName>,
}

#[derive(Default)]
struct Actor {
    lines: Vec<Line>,
    is_dead: bool,
    has_ended: bool,
    panic: Option<String>,
}

/// Threads of an actor that work one after the other.
#[derive(Default)]
struct Line {
    pending: Vec<Pending>,
    asleep: Option<(Timestamp, Thread)>,
    is_cancelled: bool,
    is_over: bool,
}

struct Pending {
    ticket: u64,
    action: &'static str,
    name: String,
    thread: Thread,
}

impl Line {
    fn is_asleep(&self) -> bool {
        self.asleep.is_some() && !self.is_cancelled
    }
}

impl Actor {
    fn is_still(&self) -> bool {
        if self.has_ended {
            return true;
        }
        if self.is_dead {
            return false;
        }
        let mut others = self.lines.iter().skip(1);
        // Whoever cancels an alarm waits for the line that it woke.
        let is_waiting = self.lines.iter().skip(1).any(|line| line.is_cancelled && !line.is_over);
        let main = &self.lines[MAIN];
        (main.is_asleep() || !main.pending.is_empty() || is_waiting)
            && others.all(|line| line.is_over || line.is_asleep() || !line.pending.is_empty())
    }
}

/// An actor that was started, and what will come of it.
pub struct Part<T> {
    pub id: ActorId,
    outcome: Arc<Mutex<Option<T>>>,
}

impl<T> Part<T> {
    /// What the operation returned. It must have ended.
    #[track_caller]
    pub fn outcome(&self) -> T {
        self.outcome.lock().unwrap().take().expect("the operation has ended")
    }
}

/// Threads for actors, kept from one stage to the next.
pub struct Cast {
    pools: Vec<rayon::ThreadPool>,
}

impl Cast {
    /// Threads that all run on the processor of this one.
    ///
    /// Each is a pool of one thread, so that an operation that works in parallel does it on this very thread.
    pub fn new(count: usize) -> Self {
        let pool = || rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        Self { pools: (0..count).map(|_| pool()).collect() }
    }
}

impl Stage {
    /// A stage on which these objects are stored. `make` gets the clock that stamps them.
    pub fn new(make: impl FnOnce(StageClock) -> MemoryStorage) -> Self {
        let shared = Arc::new_cyclic(|weak| {
            let state = State {
                now: BEGIN,
                actors: Vec::new(),
                lines: HashMap::new(),
                granted: BTreeSet::new(),
                next_ticket: 0,
                events: Vec::new(),
                open: BTreeSet::new(),
            };
            let memory = make(StageClock::of_storage(weak.clone(), BEGIN));
            Shared { memory, state: Mutex::new(state), moved: Condvar::new() }
        });
        Self { shared }
    }

    /// What is stored, without waiting for anybody.
    pub fn memory(&self) -> &MemoryStorage {
        &self.shared.memory
    }

    pub fn now(&self) -> Timestamp {
        self.shared.state().now
    }

    /// Everything that has happened.
    pub fn events(&self) -> Vec<Event> {
        self.shared.state().events.clone()
    }

    /// Starts an operation; it comes to its first call before this returns.
    pub fn start<T: Send + 'static>(
        &self,
        cast: &Cast,
        operation: impl FnOnce(Host) -> T + Send + 'static,
    ) -> Part<T> {
        let id = {
            let mut state = self.shared.state();
            state.actors.push(Actor { lines: vec![Line::default()], ..Actor::default() });
            ActorId(state.actors.len() - 1)
        };
        let outcome = Arc::new(Mutex::new(None));
        let (stage, place) = (self.clone(), Arc::clone(&outcome));
        let pool = cast.pools.get(id.0).expect("there is a thread for every actor");
        pool.spawn(move || {
            let host = Host::new(stage.clone(), id);
            let played = catch_unwind(AssertUnwindSafe(|| operation(host)));
            let panic = match played {
                Ok(value) => {
                    *place.lock().unwrap() = Some(value);
                    None
                }
                Err(panic) => Some(panic_text(&panic)),
            };
            let mut state = stage.shared.state();
            state.actors[id.0].has_ended = true;
            state.actors[id.0].panic = panic;
            drop(state);
            stage.shared.moved.notify_all();
        });
        drop(self.still());
        Part { id, outcome }
    }

    /// Waits until nobody computes.
    fn still(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state();
        let mut waits = 0;
        while !state.actors.iter().all(Actor::is_still) {
            let waited = self.shared.moved.wait_timeout(state, STILL_WAIT);
            let (locked, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = locked;
            waits += usize::from(timeout.timed_out());
            assert!(waits < STILL_WAIT_COUNT, "somebody waits for what will not come:\n{}", state.describe());
        }
        for actor in &state.actors {
            if let Some(panic) = &actor.panic {
                panic!("an operation panicked: {panic}");
            }
        }
        state
    }

    /// The lines that have a call pending, in order.
    pub fn moves(&self) -> Vec<Move> {
        let state = self.still();
        let mut moves = Vec::new();
        for (number, actor) in state.actors.iter().enumerate().filter(|(_, actor)| !actor.has_ended) {
            for (line, _) in actor.lines.iter().enumerate().filter(|(_, line)| !line.pending.is_empty()) {
                moves.push(Move { actor: ActorId(number), line });
            }
        }
        moves
    }

    /// Whether somebody waits for the time to pass.
    pub fn has_sleepers(&self) -> bool {
        let state = self.still();
        let awake = state.actors.iter().filter(|actor| !actor.has_ended);
        awake.flat_map(|actor| &actor.lines).any(Line::is_asleep)
    }

    pub fn has_ended(&self, actor: ActorId) -> bool {
        self.still().actors[actor.0].has_ended
    }

    /// Whether it was killed before it ended.
    pub fn is_dead(&self, actor: ActorId) -> bool {
        self.still().actors[actor.0].is_dead
    }

    /// The call that an actor would make next: `create snapshot/...`. None where it sleeps or has ended.
    pub fn next_call(&self, actor: ActorId) -> Option<String> {
        let state = self.still();
        let actor = &state.actors[actor.0];
        let pending = actor.lines.iter().find_map(|line| line.pending.first());
        pending.filter(|_| !actor.has_ended).map(|call| format!("{} {}", call.action, call.name))
    }

    /// Grants a call, and waits until everything is still again.
    pub fn grant(&self, step: Move) {
        let mut state = self.still();
        let line = &mut state.actors[step.actor.0].lines[step.line];
        let key = |call: &Pending| (call.action, folder_of(&call.name).to_owned(), call.ticket);
        let first = (0..line.pending.len()).min_by_key(|at| key(&line.pending[*at]));
        let call = line.pending.remove(first.expect("the line has a call pending"));
        state.granted.insert(call.ticket);
        drop(state);
        call.thread.unpark();
        drop(self.still());
    }

    /// Grants the next call of an actor. False where there is none.
    pub fn step(&self, actor: ActorId) -> bool {
        let step = self.moves().into_iter().find(|step| step.actor == actor);
        step.inspect(|step| self.grant(*step)).is_some()
    }

    /// Grants so many calls of an actor, if it makes so many.
    pub fn steps(&self, actor: ActorId, count: usize) {
        for _ in 0..count {
            self.step(actor);
        }
    }

    /// Lets a lease of an actor give its sign of life, which the time has come for, and nothing else.
    pub fn give_sign_of_life(&self, actor: ActorId) {
        while let Some(step) = self.moves().into_iter().find(|step| step.actor == actor && step.line != MAIN)
        {
            self.grant(step);
        }
    }

    /// Lets one actor work until it is about to make a call that begins so, and only then.
    #[track_caller]
    pub fn run_until(&self, actor: ActorId, call: &str) {
        while let Some(next) = self.next_call(actor) {
            if next.starts_with(call) {
                return;
            }
            self.step(actor);
        }
        panic!("it has ended, or sleeps, and has not come to {call}");
    }

    /// Lets one actor work to its end; it must not sleep by the clock.
    #[track_caller]
    pub fn run_to_end(&self, actor: ActorId) {
        while self.step(actor) {}
        assert!(self.has_ended(actor), "it sleeps");
    }

    /// Lets everybody work to his end, one after the other; whoever sleeps is given time.
    pub fn run_all_to_end(&self) {
        loop {
            while let Some(step) = self.moves().first() {
                self.grant(*step);
            }
            if self.still().actors.iter().all(|actor| actor.has_ended) {
                return;
            }
            self.pass_time(Duration::from_secs(60));
        }
    }

    /// Sets the clock forward and wakes whoever slept until then.
    pub fn pass_time(&self, span: Duration) {
        let mut state = self.still();
        state.now.seconds += span.as_secs() as i64;
        state.events.push(Event { what: What::Time(span.as_secs()), bytes: None });
        let now = state.now;
        let lines = state.actors.iter_mut().flat_map(|actor| &mut actor.lines);
        for line in lines.filter(|line| line.is_asleep()) {
            if let Some((_, thread)) = line.asleep.take_if(|(until, _)| *until <= now) {
                thread.unpark();
            }
        }
        drop(state);
        drop(self.still());
    }

    /// Ends an actor as `kill -9` does: whatever it still does comes to nothing.
    pub fn kill(&self, actor: ActorId) {
        let mut state = self.still();
        state.events.push(Event { what: What::Death(actor), bytes: None });
        let dying = &mut state.actors[actor.0];
        dying.is_dead = true;
        for line in &mut dying.lines {
            line.pending.drain(..).for_each(|call| call.thread.unpark());
            line.asleep.take().into_iter().for_each(|(_, thread)| thread.unpark());
        }
        drop(state);
        drop(self.still());
    }

    /// Ends all actors; of what is not durable, `survives` decides.
    pub fn lose_power(&self, mut survives: impl FnMut(&ObjectName) -> bool) {
        let count = self.still().actors.len();
        (0..count).map(ActorId).filter(|actor| !self.has_ended(*actor)).for_each(|actor| self.kill(actor));
        let open = std::mem::take(&mut self.still().open);
        for name in open.iter().filter(|name| !survives(name)) {
            self.memory().remove(name);
            let what = What::Lost(name.as_str().to_owned());
            self.shared.state().events.push(Event { what, bytes: None });
        }
    }

    /// How many objects are not durable.
    pub fn open_count(&self) -> usize {
        self.still().open.len()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A test that failed leaves actors in the middle of something; the next stage needs their threads.
        if std::thread::panicking() {
            let mut state = self.shared.state();
            for actor in &mut state.actors {
                actor.is_dead = true;
                for line in &mut actor.lines {
                    line.pending.drain(..).for_each(|call| call.thread.unpark());
                    line.asleep.take().into_iter().for_each(|(_, thread)| thread.unpark());
                }
            }
        }
    }
}

fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn folder_of(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

impl State {
    fn describe(&self) -> String {
        let mut text = String::new();
        for (number, actor) in self.actors.iter().enumerate() {
            let lines = actor.lines.iter().map(|line| {
                let calls: Vec<_> =
                    line.pending.iter().map(|it| format!("{} {}", it.action, it.name)).collect();
                format!("{calls:?} asleep {} cancelled {}", line.asleep.is_some(), line.is_cancelled)
            });
            let lines: Vec<_> = lines.collect();
            text += &format!("{number}: still {} dead {} {lines:?}\n", actor.is_still(), actor.is_dead);
        }
        text
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an actor asks of the stage, through its storage and its clock.
impl Stage {
    /// Waits until the call is granted. False if the actor is dead.
    pub(crate) fn wait_for_turn(&self, actor: ActorId, action: &'static str, name: &str) -> bool {
        let thread = std::thread::current();
        let mut state = self.shared.state();
        if state.actors[actor.0].is_dead {
            return false;
        }
        let line = state.lines.get(&thread.id()).filter(|(owner, _)| *owner == actor).map_or(MAIN, |it| it.1);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let call = Pending { ticket, action, name: name.to_owned(), thread };
        state.actors[actor.0].lines[line].pending.push(call);
        drop(state);
        self.shared.moved.notify_all();
        loop {
            std::thread::park();
            let mut state = self.shared.state();
            if state.granted.remove(&ticket) {
                return true;
            }
            if state.actors[actor.0].is_dead {
                return false;
            }
        }
    }

    pub(crate) fn note(
        &self,
        actor: ActorId,
        call: (&'static str, &str),
        outcome: Outcome,
        bytes: Option<Arc<[u8]>>,
    ) {
        let (action, name) = (call.0, call.1.to_owned());
        let what = What::Call { actor, action, name, outcome };
        self.shared.state().events.push(Event { what, bytes });
    }

    pub(crate) fn is_open(&self, name: &ObjectName) {
        self.shared.state().open.insert(name.clone());
    }

    pub(crate) fn is_durable(&self, name: &ObjectName) {
        self.shared.state().open.remove(name);
    }

    /// A line of its own for a thread that waits for an alarm.
    pub(crate) fn new_line(&self, actor: ActorId) -> usize {
        let mut state = self.shared.state();
        state.actors[actor.0].lines.push(Line::default());
        state.actors[actor.0].lines.len() - 1
    }

    /// Sleeps until the clock has moved on so far. False if somebody cancelled it, or the actor is dead.
    pub(crate) fn sleep(&self, actor: ActorId, line: usize, span: Duration) -> bool {
        let thread = std::thread::current();
        let mut state = self.shared.state();
        state.lines.insert(thread.id(), (actor, line));
        let until = Timestamp { seconds: state.now.seconds + span.as_secs() as i64, ..state.now };
        let mine = &mut state.actors[actor.0].lines[line];
        mine.asleep = Some((until, thread));
        loop {
            let (is_dead, mine) = {
                let actor = &mut state.actors[actor.0];
                (actor.is_dead, &mut actor.lines[line])
            };
            if mine.is_cancelled || is_dead {
                mine.asleep = None;
                mine.is_over = line != MAIN;
                drop(state);
                self.shared.moved.notify_all();
                return false;
            }
            if mine.asleep.is_none() {
                return true;
            }
            drop(state);
            self.shared.moved.notify_all();
            std::thread::park();
            state = self.shared.state();
        }
    }

    pub(crate) fn cancel(&self, actor: ActorId, line: usize) {
        let mut state = self.shared.state();
        let line = &mut state.actors[actor.0].lines[line];
        line.is_cancelled = true;
        let thread = line.asleep.as_ref().map(|(_, thread)| thread.clone());
        drop(state);
        thread.into_iter().for_each(|thread| thread.unpark());
        self.shared.moved.notify_all();
    }
}

/// The stage as seen by the clock of its storage, which it owns.
#[derive(Clone)]
pub struct WeakStage(std::sync::Weak<Shared>);

impl WeakStage {
    pub fn now(&self) -> Option<Timestamp> {
        self.0.upgrade().map(|shared| shared.state().now)
    }
}

impl From<std::sync::Weak<Shared>> for WeakStage {
    fn from(weak: std::sync::Weak<Shared>) -> Self {
        Self(weak)
    }
}

/// Whether names of this object are worth keeping with their bytes, to be judged afterwards.
pub fn is_judged(name: &ObjectName) -> bool {
    matches!(folder_of(name.as_str()), "prune" | "body" | "index" | "lease" | "forget" | "snapshot")
}
