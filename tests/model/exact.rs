//! The search against a plain one, which knows whole states and no shortcuts.

use std::collections::HashSet;

use crate::canonical::canonical;
use crate::invariants::Goal;
use crate::rules::Rules;
use crate::scenario::{Pack, Scenario, World};
use crate::search::{all_steps, search};
use crate::state::State;
use crate::writer::Nexts;

/// Every state that can be reached, with all names.
fn every_state(world: &World) -> HashSet<State> {
    let mut found = HashSet::new();
    let mut todo = vec![world.scenario.initial_state()];
    let mut nexts = Nexts::new();
    while let Some(state) = todo.pop() {
        if found.insert(state) {
            all_steps(world, &state, &mut nexts);
            todo.extend(nexts.iter().map(|&(_, _, next)| next));
        }
    }
    found
}

/// States that are the same but for names, and no others, are one state of the search; and the search finds all.
fn compare(scenario: &Scenario) {
    let world = World { scenario, rules: Rules::ALL };
    let all = every_state(&world);
    let different: HashSet<State> = all.iter().map(|state| canonical(&world, state)).collect();
    let seen = search(&world, Goal::AnyViolation);
    assert_eq!(different.len(), seen.states);
    assert!(different.len() < all.len());
    let mut nexts = Nexts::new();
    for state in &different {
        assert!(canonical(&world, state) == *state, "there are two states for one");
        all_steps(&world, state, &mut nexts);
        let is_closed = nexts.iter().all(|(_, _, next)| different.contains(&canonical(&world, next)));
        assert!(is_closed, "a state behaves in another way than one that differs from it in names only");
    }
}

#[test]
fn a_search_with_two_writers_and_two_pruners_misses_no_state() {
    compare(&Scenario { ids: 1, depth_max: 0, packs: &[], writers: &[1, 1], pruners: 2, ..Scenario::EMPTY });
}

#[test]
fn a_search_with_bases_misses_no_state() {
    compare(&Scenario {
        packs: &[Pack::Plain(0), Pack::On(1, 0, 1)],
        writers: &[1],
        pruners: 1,
        has_acknowledgements: true,
        rewrites: 1,
        ..Scenario::EMPTY
    });
}
