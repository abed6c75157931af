//! States that differ only in names are one state.
//!
//! Nothing in the protocol depends on which pack has which name, or which pruner is the first. So packs are put in
//! order of everything that is said about them, and where two actors of a kind are given the same task, they are
//! exchanged if that makes the state smaller. If one of two such states leads to a violation, the other does, too.

use std::cmp::Ordering;

use crate::frames::{Frames, PACKS_MAX, members};
use crate::scenario::World;
use crate::state::{Pruner, Slot, State, Writer};

/// The state that stands for all that differ from this one only in names.
pub fn canonical(world: &World, state: &State) -> State {
    let &[first, second] = world.scenario.writers else {
        return with_pruners_in_order(world, *state);
    };
    let leases = usize::from(first);
    match key_of_writer(state, 0, 0, leases).cmp(&key_of_writer(state, 1, leases, leases)) {
        _ if first != second => with_pruners_in_order(world, *state),
        Ordering::Less => with_pruners_in_order(world, *state),
        Ordering::Greater => with_pruners_in_order(world, with_writers_exchanged(*state, leases)),
        Ordering::Equal => {
            let exchanged = with_pruners_in_order(world, with_writers_exchanged(*state, leases));
            with_pruners_in_order(world, *state).min(exchanged)
        }
    }
}

fn with_pruners_in_order(world: &World, state: State) -> State {
    let mut exchanged = state;
    exchanged.pruners.swap(0, 1);
    match key_of_pruner(&state, 0).cmp(&key_of_pruner(&state, 1)) {
        _ if world.scenario.pruners < 2 => with_packs_in_order(state),
        Ordering::Less => with_packs_in_order(state),
        Ordering::Greater => with_packs_in_order(exchanged),
        Ordering::Equal => with_packs_in_order(state).min(with_packs_in_order(exchanged)),
    }
}

/// What can be said of a writer without naming packs: enough to put two writers in order, mostly.
fn key_of_writer(state: &State, index: usize, first_slot: usize, leases: usize) -> (Writer, [Slot; 3]) {
    let Writer { stage, attempt, seen, owes_statement, claimed, .. } = state.writers[index];
    let mut slots = [Slot::default(); 3];
    for (key, slot) in slots.iter_mut().zip(&state.slots[first_slot..first_slot + leases]) {
        *key = Slot { holds: 0, ..*slot };
    }
    (Writer { stage, attempt, seen, owes_statement, claimed, ..Writer::default() }, slots)
}

/// The same for a pruner.
fn key_of_pruner(state: &State, index: usize) -> Pruner {
    let Pruner { stage, plan, base, unsettled, slots_listing, .. } = state.pruners[index];
    Pruner { stage, plan, base, unsettled, slots_listing, ..Pruner::default() }
}

/// Exchanges two writers with all of their leases.
fn with_writers_exchanged(mut state: State, leases: usize) -> State {
    state.writers.swap(0, 1);
    let partner = |slot: usize| match slot {
        slot if slot < leases => slot + leases,
        slot if slot < 2 * leases => slot - leases,
        slot => slot,
    };
    let slots = state.slots;
    state.slots = std::array::from_fn(|slot| slots[partner(slot)]);
    let exchange = |set: &mut u8| *set = members(*set).fold(0, |set, slot| set | 1 << partner(slot));
    for pruner in &mut state.pruners {
        exchange(&mut pruner.unsettled);
        exchange(&mut pruner.slots_listing.must);
        exchange(&mut pruner.slots_listing.may);
    }
    state
}

/// Puts packs in the order of what they hold and of the sets they are in. Two packs with the same order are the same
/// in every respect, so it does not matter which comes first.
fn with_packs_in_order(mut state: State) -> State {
    let mut said: [(u64, usize); PACKS_MAX] = std::array::from_fn(|place| (0, place));
    let mut sets = 0;
    state.for_each_set_of_packs(|set| {
        let mut rest = *set;
        while rest != 0 {
            said[rest.trailing_zeros() as usize].0 |= 1 << sets;
            rest &= rest - 1;
        }
        sets += 1;
    });
    let frames: Frames = state.frames;
    said.sort_unstable_by_key(|&(said, place)| (frames[place], said));
    let mut new_bit = [0u8; PACKS_MAX];
    for (new, &(_, old)) in said.iter().enumerate() {
        new_bit[old] = 1 << new;
        state.frames[new] = frames[old];
    }
    state.for_each_set_of_packs(|set| {
        let (mut rest, mut exchanged) = (*set, 0);
        while rest != 0 {
            exchanged |= new_bit[rest.trailing_zeros() as usize];
            rest &= rest - 1;
        }
        *set = exchanged;
    });
    state
}
