//! Histories that a seed decides: what there is, who plays, whose turn it is, when time passes, who dies.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::fixture::{Chance, cache_folder};
use crate::judge::{Known, judge, judge_counts};
use crate::roles::{Asked, Role, Said};
use crate::stage::{ActorId, Cast, Event, Part, Stage};
use crate::world::{Scene, World, stage};

/// Schedules that every run of the tests plays, from seed 0 on.
const SCHEDULE_COUNT: u64 = 20_000;
/// For a night: how many, unless the variable says so, and from which seed on.
const NIGHT_COUNT: u64 = 1_000_000;
const COUNT_VARIABLE: &str = "KLUIS_SCHEDULES";
const SEED_VARIABLE: &str = "KLUIS_SCHEDULE_SEED";
/// Schedules that are played twice.
const REPLAY_COUNT: u64 = 150;
const REPLAY_ATTEMPT_COUNT: usize = 20;
const STEP_COUNT_MAX: usize = 20_000;
const ACTOR_COUNT_MAX: u64 = 4;
/// About so many steps does a history have, when a change of priorities is put into it.
const STEP_COUNT_USUAL: u64 = 150;
/// Changes of priority in one history: enough for every bug of that depth, found with a known probability.
const PRIORITY_CHANGE_COUNT: usize = 3;
const BEAT: Duration = Duration::from_secs(301);
const SILENCE: Duration = Duration::from_secs(25 * 3600);
/// By so many seconds some clocks are wrong: ten years, two days, or not.
const CLOCK_ERRORS: [i64; 5] = [-315_360_000, -172_800, 0, 172_800, 315_360_000];

/// What came of one seed.
pub struct Played {
    pub digest: u64,
    /// Every event, where somebody wants to compare them.
    pub shapes: Vec<String>,
    pub failures: Vec<String>,
    pub steps: usize,
}

/// Who is next.
enum Strategy {
    /// Anybody.
    Uniform,
    /// Whoever has the highest priority, which changes a few times.
    Priorities { of_actor: Vec<u64>, changes: BTreeSet<usize> },
}

impl Strategy {
    fn new(chance: &mut Chance, actors: usize) -> Self {
        if chance.below(3) == 0 {
            return Self::Uniform;
        }
        let of_actor = (0..actors).map(|_| 1000 + chance.below(1 << 30)).collect();
        let changes = (0..PRIORITY_CHANGE_COUNT).map(|_| chance.below(STEP_COUNT_USUAL) as usize).collect();
        Self::Priorities { of_actor, changes }
    }
}

/// What befalls the actors.
struct Fate {
    /// At this step, this one.
    dying: Option<(usize, u64)>,
    times: Vec<(usize, Duration)>,
    power_cut: Option<usize>,
}

/// One schedule, from its beginning to its judgement.
pub fn play(world: &Arc<World>, cast: &Cast, seed: u64) -> Played {
    let mut chance = Chance(seed << 20);
    let scene = *chance.one_of(&Scene::ALL);
    let stage = stage(&world.start(scene).objects);
    let roles: Vec<_> = (0..2 + chance.below(ACTOR_COUNT_MAX - 1)).map(|_| role(&mut chance)).collect();
    println!("seed {seed}: {scene:?}, {roles:?}");
    let asked = Asked::default();
    let caches: Vec<_> = roles.iter().map(|_| cache_folder()).collect();
    let is_one_host = chance.below(4) == 0;
    let (lists_slowly, syncs_late) = (chance.below(3) == 0, chance.below(4) == 0);
    let has_wrong_clocks = chance.below(6) == 0;
    let parts: Vec<Part<Said>> = roles
        .iter()
        .zip(&caches)
        .enumerate()
        .map(|(number, (role, cache))| {
            let (role, world, cache) = (*role, Arc::clone(world), cache.path().to_owned());
            let asked = Arc::clone(&asked);
            let clock_error = if has_wrong_clocks { *chance.one_of(&CLOCK_ERRORS) } else { 0 };
            stage.start(cast, move |mut host| {
                host.clock_error = clock_error;
                host.seed = seed << 8 | number as u64;
                (host.lists_slowly, host.syncs_late) = (lists_slowly, syncs_late);
                host.name = is_one_host.then(|| "one host".to_owned());
                role.play(&host, &cache, &world, &asked)
            })
        })
        .collect();
    let dying =
        (chance.below(3) == 0).then(|| (chance.below(120) as usize, chance.below(roles.len() as u64)));
    let times = times(&mut chance);
    let power_cut = (syncs_late && chance.below(2) == 0).then(|| chance.below(STEP_COUNT_USUAL) as usize);
    let fate = Fate { dying, times, power_cut };
    let steps = run(&stage, &mut chance, roles.len(), &fate);
    let (committed, asked_for) = (BTreeSet::new(), BTreeSet::new());
    let mut known = Known { start: world.start(scene), committed, asked: asked_for, is_spoilt: false };
    let mut failures = Vec::new();
    for part in &parts {
        let said = part.outcome();
        known.committed.extend(said.committed);
        let is_dead = stage.is_dead(part.id);
        if let (Some(failure), false) = (said.failure, is_dead) {
            failures.push(format!("{:?}: {failure}", roles[part.id.0]));
        }
        if let (Some(violation), false) = (said.violation, is_dead) {
            tell(&stage.events());
            panic!("{violation}");
        }
    }
    known.asked.clone_from(&asked.lock().unwrap());
    let shapes: Vec<_> = stage.events().iter().map(Event::shape).collect();
    let digest = digest(&shapes);
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let objects = stage.memory().objects();
        caches.iter().for_each(|cache| judge_counts(&objects, cache.path()));
        judge(&stage, world, &known, seed);
    }));
    if let Err(panic) = judged {
        tell(&stage.events());
        resume_unwind(panic);
    }
    Played { digest, shapes, failures, steps }
}

fn role(chance: &mut Chance) -> Role {
    let source = chance.below(6) as usize;
    match chance.below(16) {
        0..5 => Role::Backup(source),
        5..9 => Role::Prune,
        9 => Role::ExclusivePrune,
        10 => Role::ImpatientPrune,
        11 | 12 => Role::Forget(source),
        13 => Role::Undo(source),
        14 => Role::Check,
        _ => Role::Restore,
    }
}

/// At which steps time passes, and how much.
fn times(chance: &mut Chance) -> Vec<(usize, Duration)> {
    let span = |chance: &mut Chance| if chance.below(3) == 0 { SILENCE } else { BEAT };
    (0..chance.below(4)).map(|_| (chance.below(STEP_COUNT_USUAL) as usize, span(chance))).collect()
}

fn run(stage: &Stage, chance: &mut Chance, actors: usize, fate: &Fate) -> usize {
    let Fate { dying, times, power_cut } = fate;
    let mut strategy = Strategy::new(chance, actors);
    let mut lowest = 1000;
    for step in 0..STEP_COUNT_MAX {
        if let Some((_, actor)) = dying.filter(|(at, _)| *at == step) {
            let actor = ActorId(actor as usize);
            if !stage.has_ended(actor) {
                stage.kill(actor);
            }
        }
        if *power_cut == Some(step) {
            stage.lose_power(|_| chance.below(2) == 0);
        }
        times.iter().filter(|(at, _)| *at == step).for_each(|(_, span)| stage.pass_time(*span));
        let moves = stage.moves();
        if moves.is_empty() {
            if !stage.has_sleepers() {
                return step;
            }
            stage.pass_time(Duration::from_secs(60));
            continue;
        }
        let chosen = match &mut strategy {
            Strategy::Uniform => *chance.one_of(&moves),
            Strategy::Priorities { of_actor, changes } => {
                let highest = moves.iter().map(|it| it.actor).max_by_key(|actor| of_actor[actor.0]);
                let highest = highest.expect("there is a move");
                if changes.contains(&step) {
                    lowest -= 1;
                    of_actor[highest.0] = lowest;
                }
                let mine: Vec<_> = moves.into_iter().filter(|it| it.actor == highest).collect();
                *chance.one_of(&mine)
            }
        };
        stage.grant(chosen);
    }
    tell(&stage.events());
    panic!("the history does not end");
}

fn digest(shapes: &[String]) -> u64 {
    let mut hasher = DefaultHasher::new();
    shapes.hash(&mut hasher);
    hasher.finish()
}

/// Prints the end of a history, for whoever has to find out why.
fn tell(events: &[Event]) {
    let texts: Vec<_> = events.iter().map(Event::text).collect();
    println!("history of {} events:\n{}", texts.len(), texts.join("\n"));
}

/// Plays seeds on all processors, one schedule on each at a time.
fn play_all(first: u64, count: u64, keeps_shapes: bool) -> Vec<(u64, Played)> {
    let allowed = sched_getaffinity(None).unwrap();
    let processors: Vec<_> = (0..CpuSet::MAX_CPU).filter(|at| allowed.is_set(*at)).collect();
    let next = AtomicU64::new(first);
    let all = Mutex::new(Vec::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let runners: Vec<_> = processors
            .iter()
            .map(|processor| {
                let (next, all) = (&next, &all);
                scope.spawn(move || {
                    let mut only = CpuSet::new();
                    only.set(*processor);
                    sched_setaffinity(None, &only).unwrap();
                    let cast = Cast::new(ACTOR_COUNT_MAX as usize);
                    let world = World::shared(&cast);
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + count {
                            return;
                        }
                        let mut played = play(&world, &cast, seed);
                        if !keeps_shapes {
                            played.shapes = Vec::new();
                        }
                        all.lock().unwrap().push((seed, played));
                    }
                })
            })
            .collect();
        for runner in runners {
            if let Err(panic) = runner.join() {
                // Nobody begins another one.
                next.store(u64::MAX / 2, Ordering::Relaxed);
                resume_unwind(panic);
            }
        }
    });
    let mut all = all.into_inner().unwrap();
    all.sort_unstable_by_key(|(seed, _)| *seed);
    tell_numbers(&all, begun.elapsed());
    all
}

fn tell_numbers(all: &[(u64, Played)], took: Duration) {
    let is_surprise =
        |text: &&String| !text.ends_with("Repo(Fenced)") && !text.contains("Repo(PlanWithoutLists");
    let digests: BTreeSet<_> = all.iter().map(|(_, played)| played.digest).collect();
    let steps: usize = all.iter().map(|(_, played)| played.steps).sum();
    let failures: Vec<_> =
        all.iter().flat_map(|(seed, it)| it.failures.iter().map(move |text| (seed, text))).collect();
    println!(
        "{} schedules in {:.1} s, {:.0} a second; {} different histories; {} steps each; {} operations failed",
        all.len(),
        took.as_secs_f64(),
        all.len() as f64 / took.as_secs_f64(),
        digests.len(),
        steps / all.len().max(1),
        failures.len(),
    );
    for (seed, failure) in failures.iter().take(20) {
        println!("seed {seed}: {failure}");
    }
    // A writer that is taken for dead three times gives up. A prune that slept for longer than the silence before it made
    // its plan finds its lists gone; until the next prune, nobody knows what to keep away from. Nothing else is a reason.
    let surprises: Vec<_> = failures.iter().filter(|(_, text)| is_surprise(text)).collect();
    assert!(surprises.is_empty(), "{surprises:?}");
}

fn number_from(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn one_seed_replays_one_history() {
    for _ in 0..REPLAY_ATTEMPT_COUNT {
        let above = World::shared(&Cast::new(ACTOR_COUNT_MAX as usize)).times_above();
        let [first, second] = [(); 2].map(|()| play_all(0, REPLAY_COUNT, true));
        if World::shared(&Cast::new(ACTOR_COUNT_MAX as usize)).times_above() != above {
            // Folders above the sources are stored too, and somebody else has made something in one of them.
            continue;
        }
        for ((seed, one), (_, other)) in first.iter().zip(&second) {
            let at = one.shapes.iter().zip(&other.shapes).position(|(one, other)| one != other);
            let at = at.or((one.shapes.len() != other.shapes.len()).then_some(0));
            assert_eq!(
                at.map(|at| (&one.shapes[at], &other.shapes[at])),
                None,
                "seed {seed} differs at event {at:?}"
            );
        }
        return;
    }
    println!("nothing is proven: somebody else is always at work above the sources");
}

#[test]
fn random_schedules_lose_nothing() {
    assert_eq!(play_all(0, SCHEDULE_COUNT, false).len() as u64, SCHEDULE_COUNT);
}

/// For nights, and to play one seed again:
/// `KLUIS_SCHEDULES=1 KLUIS_SCHEDULE_SEED=4711 cargo test --test schedules night -- --ignored --nocapture`.
#[test]
#[ignore = "takes as long as one wants"]
fn a_night_of_random_schedules_loses_nothing() {
    let count = number_from(COUNT_VARIABLE, NIGHT_COUNT);
    assert_eq!(play_all(number_from(SEED_VARIABLE, SCHEDULE_COUNT), count, false).len() as u64, count);
}
