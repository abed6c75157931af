//! The writer: W1 to W11.
//!
//! Steps that lie side by side are one step here where that hides nothing. Reading plans and beginning to list packs
//! (W2, W3), or ending that and stating it (W4, W5): a listing that begins earlier or ends later can have any result
//! that a shorter one can have, and more.

use crate::frames::{Frame, Packs, claims, members, present, present_at_any_depth, sets_between};
use crate::rules::Rule;
use crate::scenario::World;
use crate::state::{Listing, PrunerStage, Slot, State, Writer, WriterStage};
use crate::steps::{Actor, Step};

/// Every next state, with the step that leads to it.
pub type Nexts = Vec<(Actor, Step, State)>;

/// One writer in one state, about to take a step.
struct Turn<'a> {
    world: &'a World<'a>,
    before: &'a State,
    index: usize,
    nexts: &'a mut Nexts,
}

/// Adds everything that writer `index` can do in state `before`.
pub fn writer_steps(world: &World, before: &State, index: usize, nexts: &mut Nexts) {
    let mut turn = Turn { world, before, index, nexts };
    match turn.writer().stage {
        WriterStage::Done => return,
        WriterStage::Begin => turn.begin(),
        WriterStage::Registered => turn.read_plans(),
        WriterStage::Listing => turn.list_packs(),
        WriterStage::Listed => turn.catch_up(),
        WriterStage::Working => turn.work(),
        WriterStage::Asking => turn.ask_again(),
        WriterStage::Committed => turn.unregister(),
    }
    turn.begin_again();
}

impl Turn<'_> {
    fn writer(&self) -> &Writer {
        &self.before.writers[self.index]
    }

    /// Where the lease of this writer is.
    fn slot(&self) -> usize {
        self.world.scenario.slot_of(self.index, self.writer().attempt)
    }

    /// Adds a step. `change` gets the state, this writer and its slot.
    fn step(&mut self, step: Step, change: impl FnOnce(&mut State, &mut Writer, &mut Slot)) {
        let mut state = *self.before;
        let mut writer = state.writers[self.index];
        let place = self.slot();
        let mut slot = state.slots[place];
        change(&mut state, &mut writer, &mut slot);
        state.writers[self.index] = writer;
        state.slots[place] = slot;
        self.nexts.push((Actor::Writer(self.index), step, state));
    }

    /// W1: create `lease/L.0`. Nothing may be read before this.
    fn begin(&mut self) {
        if !self.world.rules.have(Rule::W1First) {
            return self.read_plans();
        }
        let slot = self.slot();
        self.step(Step::W1Register { slot }, |_, writer, slot| {
            slot.is_registered = true;
            writer.stage = WriterStage::Registered;
        });
    }

    /// The highest plan, and what it excludes if it is open. Names under `prune/` are created and never deleted, so
    /// whatever a listing of them shows was true at one moment of it; it needs no beginning and end.
    fn plans_now(&self) -> (u8, Packs) {
        let excluded = self.before.open_plan().map_or(0, |open| self.before.plan(open).doomed);
        (self.before.highest_plan(), excluded)
    }

    /// W2: list `prune/`; the doomed packs of an open plan are excluded. W3: begin to list.
    fn read_plans(&mut self) {
        let (mut seen, mut excluded) = self.plans_now();
        if !self.world.rules.have(Rule::W2BeforeW4) {
            // The plans are read when the listing is over.
            (seen, excluded) = (0, 0);
        }
        let now = self.before.trustworthy(self.world.rules);
        self.step(Step::W2ReadPlans { seen, excluded }, |_, writer, _| {
            (writer.seen, writer.excluded) = (seen, excluded);
            writer.listing = Listing::begin(now);
            writer.stage = WriterStage::Listing;
        });
    }

    /// W3, W4: the view is what the index describes, the listing shows and no open plan excludes.
    /// W5: create `lease/L.1`, which says what plan was seen.
    fn list_packs(&mut self) {
        let rules = self.world.rules;
        let is_ready = rules.have(Rule::W1First) && rules.have(Rule::W2BeforeW4);
        let Listing { must, may } = self.writer().listing;
        for known in sets_between(must, may) {
            self.step(Step::W4ListPacks { known }, |_, writer, slot| {
                writer.known = known;
                writer.excluded &= known;
                writer.listing = Listing::default();
                writer.stage = WriterStage::Listed;
                if is_ready {
                    slot.seen = writer.seen;
                    writer.stage = WriterStage::Working;
                }
            });
            self.delete_first_statement();
        }
    }

    /// Without the rule that `L.0` stays, the step that was added last also deletes it: a listing under way may miss
    /// both the old statement and the new one.
    fn delete_first_statement(&mut self) {
        let slot = self.slot();
        if self.world.rules.have(Rule::FirstStatementStays) {
            return;
        }
        let (_, _, state) = self.nexts.last_mut().expect("a step was added just now");
        for pruner in state.pruners.iter_mut().filter(|pruner| pruner.stage == PrunerStage::ListingLeases) {
            pruner.slots_listing.must &= !(1 << slot);
        }
    }

    /// What a removed rule would have put first: registering (W1), or reading the plans (W2). Then W5.
    fn catch_up(&mut self) {
        if !self.world.rules.have(Rule::W1First) {
            let slot = self.slot();
            return self.step(Step::W1Register { slot }, |_, writer, slot| {
                slot.is_registered = true;
                slot.seen = writer.seen;
                writer.stage = WriterStage::Working;
            });
        }
        let (seen, excluded) = self.plans_now();
        self.step(Step::W2ReadPlans { seen, excluded }, |_, writer, slot| {
            writer.excluded = excluded & writer.known;
            (writer.seen, slot.seen) = (seen, seen);
            writer.stage = WriterStage::Working;
        });
    }

    /// W6 to W9, in any order that the rules leave.
    fn work(&mut self) {
        for id in 0..self.world.scenario.ids {
            if self.writer().claimed & 1 << id == 0 {
                self.claim(id);
            }
        }
        if self.world.scenario.has_acknowledgements {
            self.acknowledge();
        }
        let packs = self.writer().unindexed;
        if packs != 0 {
            // W8, or earlier as a part of W7: an index object for the packs that are finished.
            self.step(Step::W8Index { packs }, |state, writer, _| {
                state.indexed |= packs;
                writer.unindexed = 0;
            });
        } else if self.writer().claimed != 0 {
            self.commit();
        }
    }

    /// The copies that are Known: in the view, and present there.
    fn known_copies(&self) -> Packs {
        let writer = self.writer();
        let view = writer.known & !writer.excluded;
        if !self.world.rules.have(Rule::KnownOnlyWithBases) {
            view
        } else if !self.world.rules.have(Rule::BasesLessDeep) {
            present_at_any_depth(&self.before.frames, view)
        } else {
            present(&self.before.frames, view)
        }
    }

    /// W6: chunk `id` is Known, or it is Ours and stored, plainly or on a base that is Known.
    fn claim(&mut self, id: usize) {
        let known = self.known_copies();
        let ways = claims(&self.before.frames, id, known);
        if ways.is_empty() {
            self.store(Frame::plain(id), 0, id);
            return self.store_on_bases(id, known);
        }
        for way in ways {
            let used = self.marked(way.copy, way.below);
            self.step(Step::W6ClaimKnown { id, used }, |_, writer, _| {
                writer.used |= used;
                writer.claimed |= 1 << id;
            });
        }
    }

    /// What a claim marks as used: the pack of the copy, and the packs of all bases below it.
    fn marked(&self, copy: usize, below: Packs) -> Packs {
        let below = if self.world.rules.have(Rule::AllBasesUsed) { below } else { 0 };
        1 << copy | below
    }

    /// Stores chunk `id` on every other chunk that is Known, if that does not become too deep.
    fn store_on_bases(&mut self, id: usize, known: Packs) {
        for base in (0..self.world.scenario.ids).filter(|&base| base != id) {
            for way in claims(&self.before.frames, base, known) {
                let mut depth = self.before.frames[way.copy].depth();
                if !self.world.rules.have(Rule::DepthFromClaimedCopy) {
                    // From the least deep copy that the index has heard of.
                    let heard_of = self.before.indexed | 1 << way.copy;
                    depth = crate::frames::least_depth(&self.before.frames, base, heard_of).unwrap_or(depth);
                }
                if depth < self.world.scenario.depth_max {
                    self.store(Frame::on(id, base, depth + 1), self.marked(way.copy, way.below), id);
                }
            }
        }
    }

    /// The pack is marked as used, and then created. Its chunks are Known from now on.
    fn store(&mut self, frame: Frame, marked: Packs, id: usize) {
        let rules = self.world.rules;
        let mut after = *self.before;
        let place = after.create_pack(frame, rules);
        let used = marked | 1 << place;
        self.step(Step::W6StorePack { place, frame, used }, |state, writer, _| {
            state.create_pack(frame, rules);
            writer.used |= used;
            writer.known |= 1 << place;
            writer.unindexed |= 1 << place;
            writer.claimed |= 1 << id;
        });
    }

    /// W7: list `prune/`; for a new open plan exclude what it dooms, and hold what of it is used. Then create the
    /// next statement. The other threads of the writer go on between the two.
    fn acknowledge(&mut self) {
        let (seen, holds) = (self.writer().seen, self.writer().holds);
        if self.writer().owes_statement {
            self.step(Step::W7State { seen, holds }, |_, writer, slot| {
                (slot.seen, slot.holds) = (seen, holds);
                (writer.owes_statement, writer.holds) = (false, 0);
            });
            return self.delete_first_statement();
        }
        let Some(open) = self.before.open_plan().filter(|&open| open > seen) else {
            return;
        };
        let doomed = self.before.plan(open).doomed;
        let holds = self.writer().used & doomed;
        let grow = self.world.rules.have(Rule::ExcludedSetsGrow);
        self.step(Step::W7ReadPlan { seen: open, holds }, |_, writer, _| {
            writer.excluded = if grow { writer.excluded | doomed } else { doomed } & writer.known;
            (writer.seen, writer.holds, writer.owes_statement) = (open, holds, true);
        });
    }

    /// W9: create `snapshot/L`. A tombstone there makes it fail, see [`Turn::begin_again`].
    fn commit(&mut self) {
        let slot = &self.before.slots[self.slot()];
        if slot.has_tombstone && self.world.rules.have(Rule::FenceByCreate) {
            return;
        }
        let ids = self.writer().claimed;
        self.step(Step::W9Commit { ids }, |_, writer, slot| {
            (slot.has_snapshot, slot.ids) = (true, ids);
            *writer = Writer { stage: WriterStage::Committed, attempt: writer.attempt, ..Writer::default() };
        });
        if self.world.scenario.loses_answers && self.writer().stage == WriterStage::Working {
            self.step(Step::W9AnswerLost { ids }, |_, writer, slot| {
                (slot.has_snapshot, slot.ids) = (true, ids);
                let Writer { attempt, claimed, .. } = *writer;
                *writer = Writer { stage: WriterStage::Asking, attempt, claimed, ..Writer::default() };
            });
        }
    }

    /// W9 after a lost answer: our own bytes are success. If the snapshot was forgotten and deleted meanwhile, it is
    /// created again, and stays forgotten.
    fn ask_again(&mut self) {
        if self.before.slots[self.slot()].has_snapshot {
            self.step(Step::W9Confirmed, |_, writer, _| writer.stage = WriterStage::Committed);
        } else {
            self.commit();
        }
    }

    /// W11: delete the lease, or say that it has ended.
    fn unregister(&mut self) {
        if self.world.scenario.cannot_delete {
            return self.step(Step::W11End, |_, writer, slot| {
                slot.has_ended = slot.is_registered;
                *writer = Writer::default();
            });
        }
        self.step(Step::W11Unregister, |_, writer, slot| {
            slot.is_registered = false;
            *writer = Writer::default();
        });
    }

    /// W10: a writer that finds a tombstone, or is killed, begins again with a new lease. The old one stays.
    fn begin_again(&mut self) {
        let leases = self.world.scenario.writers[self.index];
        let attempt = self.writer().attempt + 1;
        if matches!(self.writer().stage, WriterStage::Begin | WriterStage::Committed) || attempt >= leases {
            return;
        }
        self.step(Step::W10BeginAgain, |_, writer, _| {
            *writer = Writer { stage: WriterStage::Begin, attempt, ..Writer::default() };
        });
    }
}

/// F2: one forget record, which names one live snapshot.
pub fn owner_steps(before: &State, nexts: &mut Nexts) {
    if before.forgets_left == 0 {
        return;
    }
    for slot in members(before.slots_where(Slot::is_live)) {
        let mut state = *before;
        state.slots[slot].is_forgotten = true;
        state.forgets_left -= 1;
        nexts.push((Actor::Owner, Step::F2Forget { slot }, state));
    }
}
