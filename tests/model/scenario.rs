//! What a search starts from, and how much may happen in it.

use crate::frames::{Frame, Ids};
use crate::rules::Rules;
use crate::state::{SLOTS_MAX, Slot, State, WRITERS_MAX, WriterStage};

/// Bounds of one search. Within them, everything that can happen is tried.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// Packs from before, all described by the index.
    pub packs: &'static [Pack],
    /// What snapshots from before name.
    pub snapshots: &'static [Ids],
    /// How many different chunks there are.
    pub ids: usize,
    /// The depth of the deepest frame that a writer makes; 0: no bases.
    pub depth_max: u8,
    /// How many leases each writer may use, one after another; so each entry is a writer.
    pub writers: &'static [u8],
    pub pruners: usize,
    pub plans: u8,
    /// How many snapshots may be forgotten.
    pub forgets: u8,
    /// How many packs that are needed prune may rewrite.
    pub rewrites: u8,
    /// Writers carry out W7.
    pub has_acknowledgements: bool,
    /// Prune may keep packs that nobody needs.
    pub keeps_dead_packs: bool,
    /// The answer of W9 can be lost.
    pub loses_answers: bool,
    /// Writers may not delete, and say `.end`.
    pub cannot_delete: bool,
}

/// A pack from before.
#[derive(Clone, Copy)]
pub enum Pack {
    Plain(usize),
    /// A chunk, its base, and the depth.
    On(usize, usize, u8),
    /// A plain copy that is gone, although the index describes it.
    LostPlain(usize),
}

impl Scenario {
    /// Nothing is there and nobody does anything. Scenarios say how they differ.
    pub const EMPTY: Scenario = Scenario {
        name: "",
        packs: &[],
        snapshots: &[],
        ids: 2,
        depth_max: 2,
        writers: &[],
        pruners: 0,
        plans: 1,
        forgets: 0,
        rewrites: 0,
        has_acknowledgements: false,
        keeps_dead_packs: false,
        loses_answers: false,
        cannot_delete: false,
    };

    pub fn initial_state(&self) -> State {
        let mut state =
            State { forgets_left: self.forgets, rewrites_left: self.rewrites, ..State::default() };
        for (place, pack) in self.packs.iter().enumerate() {
            state.frames[place] = match *pack {
                Pack::Plain(id) | Pack::LostPlain(id) => Frame::plain(id),
                Pack::On(id, base, depth) => Frame::on(id, base, depth),
            };
            state.indexed |= 1 << place;
            if !matches!(pack, Pack::LostPlain(_)) {
                state.stored |= 1 << place;
            }
        }
        for writer in 0..self.writers.len() {
            state.writers[writer].stage = WriterStage::Begin;
        }
        let first = self.slot_of(WRITERS_MAX, 0);
        assert!(first + self.snapshots.len() <= SLOTS_MAX, "too many leases and snapshots");
        for (slot, &ids) in self.snapshots.iter().enumerate() {
            state.slots[first + slot] = Slot { has_snapshot: true, ids, ..Slot::default() };
        }
        state
    }

    /// The slot of a writer's lease.
    pub fn slot_of(&self, writer: usize, attempt: u8) -> usize {
        let before: u8 = self.writers.iter().take(writer).sum();
        usize::from(before + attempt)
    }
}

/// A scenario and the rules that hold.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub scenario: &'a Scenario,
    pub rules: Rules,
}
