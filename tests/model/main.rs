//! The protocol of backup and prune, searched exhaustively.
//!
//! A small model of writers, pruners and storage takes every step that the protocol allows, in every order, and looks
//! for a live snapshot that has lost a chunk. It knows nothing of the code of the library; the tests of that follow
//! the protocol through real objects, but only in some of the orders.
//!
//! To check the model against the prose, read `docs/design.md`, section "The protocol was searched exhaustively", and
//! beside it `writer` (W1 to W11) and `pruner` (P1 to P13). Each step is a function whose comment begins with its
//! name. The rest:
//!
//! | Module | What it is |
//! | --- | --- |
//! | `state` | what is stored, and what every actor remembers |
//! | `storage` | what storage promises: exclusive creates, listings that take time |
//! | `frames` | what packs hold; present, needed, readable |
//! | `rules` | the rules that can be removed |
//! | `invariants` | I1 to I12 as assertions |
//! | `scenario`, `scenarios` | what searches start from, and which there are |
//! | `search`, `canonical`, `exact` | the search, what it takes for the same, and a check of it |
//! | `steps` | how a history is printed |
//!
//! What the model leaves out: contents, nodes (a snapshot names its chunks itself), reference counts, damage other than
//! packs that are gone, power loss, and listings that break the promises of storage.

mod canonical;
mod exact;
mod frames;
mod invariants;
mod pruner;
mod rules;
mod scenario;
mod scenarios;
mod search;
mod state;
mod steps;
mod storage;
mod writer;

use std::collections::HashSet;

use invariants::Goal;
use rules::{Rule, Rules};
use scenario::World;
use scenarios::{LARGER_SEARCHES, REMOVALS, SEARCHES, Search};
use search::{Seen, search};

/// Runs searches that must find nothing, and prints the rows of the table in `docs/design.md`.
fn search_all(searches: &[Search]) -> Vec<Seen> {
    let (mut all, mut changed) = (Vec::new(), Vec::new());
    for Search { scenario, states } in searches {
        let seen = search(&World { scenario, rules: Rules::ALL }, Goal::AnyViolation);
        println!("| {} | {} | {} |", scenario.name, thousands(seen.states), seen.depth);
        if let Some((what, history)) = seen.violation {
            panic!("{}: {what}\n{}", scenario.name, history.join("\n"));
        }
        if seen.states != *states {
            changed.push(format!("{}: {} instead of {states}", scenario.name, seen.states));
        }
        all.push(seen);
    }
    assert!(changed.is_empty(), "searches have other sizes than are written down:\n{}", changed.join("\n"));
    all
}

/// A number as people read it.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3);
    let mut parts: Vec<String> = groups.map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    if first > 0 {
        parts.insert(0, digits[..first].to_owned());
    }
    parts.join(",")
}

#[test]
fn no_history_of_writers_and_pruners_loses_data() {
    let all = search_all(SEARCHES);
    let states: usize = all.iter().map(|seen| seen.states).sum();
    println!("{} states in all", thousands(states));
    assert!(states >= 5_000_000);
    // A step that nobody can take proves nothing.
    let kinds: HashSet<_> = all.iter().flat_map(|seen| &seen.kinds).collect();
    assert_eq!(kinds.len(), steps::KINDS, "some step of the protocol was never taken");
}

#[test]
#[ignore = "takes several minutes"]
fn no_history_of_larger_scenarios_loses_data() {
    search_all(LARGER_SEARCHES);
}

#[test]
fn without_any_one_of_the_rules_the_search_finds_what_goes_wrong() {
    for removal in REMOVALS {
        let scenario = &removal.scenario;
        let seen = search(&World { scenario, rules: Rules::without(removal.rule) }, removal.goal);
        let Some((what, history)) = seen.violation else {
            panic!("{:?} was removed and nothing went wrong in {} states", removal.rule, seen.states);
        };
        println!("\nwithout {:?}, in {} steps: {what}", removal.rule, history.len());
        for line in history {
            println!("    {line}");
        }
        let whole = search(&World { scenario, rules: Rules::ALL }, removal.goal);
        assert!(whole.violation.is_none(), "{:?}: the scenario fails with the rule, too", removal.rule);
    }
}

#[test]
fn every_rule_is_removed_once() {
    let removed: HashSet<String> = REMOVALS.iter().map(|removal| format!("{:?}", removal.rule)).collect();
    assert_eq!(removed.len(), REMOVALS.len());
    assert_eq!(removed.len(), Rule::COUNT);
}
