//! The search: every state that can be reached, in order of the number of steps, so that the first violation that is
//! found has the shortest history.
//!
//! States are remembered as fingerprints of 64 bits. Among 20 million states, two have the same one by chance with a
//! probability of about 1 in 100,000; then a part of the search would be missed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::mem::{Discriminant, discriminant};
use std::sync::Mutex;

use rayon::prelude::*;

use crate::canonical::canonical;
use crate::invariants::{Goal, violation};
use crate::pruner::pruner_steps;
use crate::scenario::World;
use crate::state::State;
use crate::steps::Step;
use crate::writer::{Nexts, owner_steps, writer_steps};

/// What a search has seen.
#[derive(Debug)]
pub struct Seen {
    pub states: usize,
    pub steps: usize,
    /// The number of steps of the longest of all shortest histories.
    pub depth: usize,
    /// The kinds of steps that were taken.
    pub kinds: HashSet<Discriminant<Step>>,
    /// The violation found first, and the steps that lead to it.
    pub violation: Option<(&'static str, Vec<String>)>,
}

/// Everything that anybody can do in a state.
pub fn all_steps(world: &World, state: &State, nexts: &mut Nexts) {
    nexts.clear();
    for index in 0..world.scenario.writers.len() {
        writer_steps(world, state, index, nexts);
    }
    for index in 0..world.scenario.pruners {
        pruner_steps(world, state, index, nexts);
    }
    owner_steps(state, nexts);
    for (_, _, next) in nexts {
        next.settle(world.rules);
    }
}

/// Searches until a violation is found or nothing is left.
pub fn search(world: &World, goal: Goal) -> Seen {
    let visited = Visited::new();
    let first = world.scenario.initial_state();
    let root = fingerprint(&canonical(world, &first));
    visited.insert(root, root);
    let mut seen = Seen { states: 1, steps: 0, depth: 0, kinds: HashSet::new(), violation: None };
    let mut frontier = vec![first];
    while !frontier.is_empty() {
        let parts: Vec<Part> =
            frontier.par_chunks(1024).map(|states| expand(world, goal, states, &visited)).collect();
        frontier = Vec::with_capacity(parts.iter().map(|part| part.new.len()).sum());
        for part in parts {
            seen.steps += part.steps;
            seen.kinds.extend(part.kinds);
            frontier.extend(part.new);
            if let (None, Some((what, last))) = (&seen.violation, part.violation) {
                seen.violation = Some((what, history(world, goal, &visited, &last)));
            }
        }
        seen.states += frontier.len();
        if seen.violation.is_some() {
            break;
        }
        seen.depth += usize::from(!frontier.is_empty());
    }
    seen
}

/// What came out of a part of the frontier.
#[derive(Default)]
struct Part {
    new: Vec<State>,
    steps: usize,
    kinds: HashSet<Discriminant<Step>>,
    /// The violation, and the state in which the step was taken that makes it.
    violation: Option<(&'static str, State)>,
}

fn expand(world: &World, goal: Goal, states: &[State], visited: &Visited) -> Part {
    let mut part = Part::default();
    let mut nexts = Nexts::new();
    for state in states {
        let parent = fingerprint(&canonical(world, state));
        all_steps(world, state, &mut nexts);
        part.steps += nexts.len();
        for &(actor, step, next) in &nexts {
            part.kinds.insert(discriminant(&step));
            if let Some(what) = violation(goal, world, state, actor, step, &next) {
                part.violation = Some((what, *state));
                return part;
            }
            let next = canonical(world, &next);
            if visited.insert(fingerprint(&next), parent) {
                part.new.push(next);
            }
        }
    }
    part
}

/// The steps to `last` and the step that makes the violation, found by walking the same way once more. States in the
/// search may have actors and places exchanged; on this walk everybody keeps the name.
fn history(world: &World, goal: Goal, visited: &Visited, last: &State) -> Vec<String> {
    let mut way = vec![fingerprint(&canonical(world, last))];
    while let Some(parent) = visited.parent(*way.last().expect("the way has an end")) {
        way.push(parent);
    }
    let mut lines = Vec::new();
    let mut state = world.scenario.initial_state();
    let mut nexts = Nexts::new();
    for &target in way.iter().rev().skip(1) {
        all_steps(world, &state, &mut nexts);
        let (actor, step, next) = nexts
            .iter()
            .find(|(_, _, next)| fingerprint(&canonical(world, next)) == target)
            .expect("the search went this way");
        lines.push(format!("{actor}: {step}"));
        state = *next;
    }
    all_steps(world, &state, &mut nexts);
    let bad = nexts
        .iter()
        .find(|(actor, step, next)| violation(goal, world, &state, *actor, *step, next).is_some())
        .expect("the search found a violation here");
    lines.push(format!("{}: {}", bad.0, bad.1));
    lines
}

/// The states that were seen, each with the state it was first reached from.
struct Visited {
    shards: Vec<Mutex<HashMap<u64, u64, BuildHasherDefault<Identity>>>>,
}

impl Visited {
    const SHARDS: usize = 256;

    fn new() -> Visited {
        Visited { shards: (0..Self::SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, state: u64) -> &Mutex<HashMap<u64, u64, BuildHasherDefault<Identity>>> {
        &self.shards[(state >> 24) as usize % Self::SHARDS]
    }

    /// Whether the state is new.
    fn insert(&self, state: u64, parent: u64) -> bool {
        match self.shard(state).lock().expect("no thread panicked").entry(state) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(parent);
                true
            }
        }
    }

    fn parent(&self, state: u64) -> Option<u64> {
        let parent = *self.shard(state).lock().expect("no thread panicked").get(&state)?;
        (parent != state).then_some(parent)
    }
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = Mixer::default();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Collects bytes into words and folds each into the state with one wide multiplication.
#[derive(Default)]
struct Mixer {
    state: u64,
    word: u64,
    bytes: u32,
}

impl Mixer {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word ^ 0x9E37_79B9_7F4A_7C15)
            * u128::from(word.rotate_left(32) ^ 0xD1B5_4A32_D192_ED03);
        self.state = self.state.rotate_left(23) ^ product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u8(byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.word = self.word << 8 | u64::from(byte);
        self.bytes += 1;
        if self.bytes == 8 {
            self.fold(self.word);
            (self.word, self.bytes) = (0, 0);
        }
    }

    fn write_isize(&mut self, value: isize) {
        // Stages of actors: few enough for a byte.
        self.write_u8(value as u8);
    }

    fn write_usize(&mut self, _: usize) {
        // Lengths of arrays, the same in every state.
    }

    fn finish(&self) -> u64 {
        let mut last = Mixer { state: self.state, word: 0, bytes: 0 };
        last.fold(self.word);
        last.fold(u64::from(self.bytes));
        last.state
    }
}

/// Fingerprints are mixed already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
