//! The pruner: P1 to P13.
//!
//! Steps that lie side by side are one step here where that hides nothing, as with the writer: a listing begins in the
//! step before it and ends in the step that uses it, and so can have any result that a shorter one can have. P7 and P9
//! are one step for this reason; a pruner that sleeps between them has a verdict that is out of date, and so has one
//! whose listing took long.

use crate::frames::{
    Frame, Ids, Needed, NeededBy, Packs, copies, least_depth, members, needed, present, present_at_any_depth,
    sets_between,
};
use crate::rules::Rule;
use crate::scenario::World;
use crate::state::{Listing, Plan, Pruner, PrunerStage, Slot, Slots, State};
use crate::steps::{Actor, Step};
use crate::writer::Nexts;

/// One pruner in one state, about to take a step.
struct Turn<'a> {
    world: &'a World<'a>,
    before: &'a State,
    index: usize,
    nexts: &'a mut Nexts,
}

/// Adds everything that pruner `index` can do in state `before`.
pub fn pruner_steps(world: &World, before: &State, index: usize, nexts: &mut Nexts) {
    let mut turn = Turn { world, before, index, nexts };
    match turn.pruner().stage {
        PrunerStage::Idle => return turn.begin(),
        PrunerStage::Scanning => turn.decide_fates(),
        PrunerStage::Rewritten => turn.index_copy(),
        PrunerStage::Planned => turn.create_plan(),
        PrunerStage::ListingLeases => turn.list_leases(),
        PrunerStage::Settling => turn.settle_leases(),
        PrunerStage::Rechecking => turn.recheck(),
        PrunerStage::Decided => turn.decide(),
        PrunerStage::DeletingIndex => turn.delete_index(),
        PrunerStage::DeletingPacks => turn.delete_packs(),
        PrunerStage::Ending => turn.end_plan(),
    }
    // It waits for a host, or is killed. Whoever runs prune next begins at P1.
    turn.step(Step::Stop, |_, pruner| *pruner = Pruner::default());
}

impl Turn<'_> {
    fn pruner(&self) -> &Pruner {
        &self.before.pruners[self.index]
    }

    /// The plan this pruner works on.
    fn plan(&self) -> &Plan {
        self.before.plan(self.pruner().plan)
    }

    fn has(&self, rule: Rule) -> bool {
        self.world.rules.have(rule)
    }

    /// Adds a step. `change` gets the state and this pruner.
    fn step(&mut self, step: Step, change: impl FnOnce(&mut State, &mut Pruner)) {
        let mut state = *self.before;
        let mut pruner = state.pruners[self.index];
        change(&mut state, &mut pruner);
        state.pruners[self.index] = pruner;
        self.nexts.push((Actor::Pruner(self.index), step, state));
    }

    /// P1: list `prune/`. An open plan is continued at P6. Otherwise N := highest + 1.
    fn begin(&mut self) {
        let next = self.before.highest_plan() + 1;
        let may_begin = next <= self.world.scenario.plans;
        match self.before.open_plan() {
            Some(plan) if self.has(Rule::OneOpenPlan) || !may_begin => {
                self.step(Step::P1Continue { plan }, |state, pruner| {
                    pruner.plan = plan;
                    after_plan(state, pruner, self.world);
                });
            }
            _ if may_begin => {
                let live = self.before.slots_where(Slot::is_live);
                self.step(Step::P1Begin { plan: next }, |state, pruner| {
                    pruner.stage = PrunerStage::Scanning;
                    pruner.plan = next;
                    // P2, P3: `snapshot/`, `forget/`, `index/`, `data/`, `meta/`.
                    pruner.slots_listing = Listing::begin(live);
                    pruner.packs_listing = Listing::begin(state.stored);
                });
            }
            _ => {}
        }
    }

    /// P2, P3: the listings end. P4: whatever is no keeper may be doomed.
    fn decide_fates(&mut self) {
        let Pruner { slots_listing: slots, packs_listing: packs, .. } = *self.pruner();
        let by = NeededBy {
            with_bases: self.has(Rule::P4NeedsBases),
            least_depth: self.has(Rule::P4KeepersLeastDeep),
        };
        for live in sets_between(slots.must, slots.may) {
            let base = self.before.ids_named(live);
            for listed in sets_between(packs.must, packs.may) {
                let present = self.present(listed);
                for needed in needed(&self.before.frames, base, present, by) {
                    // P3: stop if something that is needed has no present copy.
                    let is_whole =
                        members(needed.ids).all(|id| copies(&self.before.frames, id, present) != 0);
                    if is_whole {
                        self.choose_doomed(live, listed, needed);
                    }
                }
            }
        }
    }

    /// P4: the packs without a keeper are deleted, all of them or some. A keeper may be rewritten.
    fn choose_doomed(&mut self, live: Slots, listed: Packs, needed: Needed) {
        let base = self.before.ids_named(live);
        let dead = listed & !needed.keepers;
        let at_least = if self.world.scenario.keeps_dead_packs { 0 } else { dead };
        for doomed in sets_between(at_least, dead) {
            if doomed != 0 {
                self.step(Step::P4Decide { live, listed, doomed }, |_, pruner| {
                    *pruner = Pruner {
                        stage: PrunerStage::Planned,
                        plan: pruner.plan,
                        packs: doomed,
                        base,
                        ..Pruner::default()
                    };
                });
            }
            if self.before.rewrites_left > 0 {
                for from in members(needed.keepers) {
                    self.rewrite(from, doomed | 1 << from, base);
                }
            }
        }
    }

    /// P5: the live chunk of a pack goes into a new pack, in the same frame, and the old pack is doomed.
    fn rewrite(&mut self, from: usize, doomed: Packs, base: Ids) {
        let rules = self.world.rules;
        let frame: Frame = self.before.frames[from];
        let mut after = *self.before;
        let place = after.create_pack(frame, rules);
        self.step(Step::P5Rewrite { from, place, doomed }, |state, pruner| {
            state.create_pack(frame, rules);
            state.rewrites_left -= 1;
            *pruner = Pruner {
                stage: PrunerStage::Rewritten,
                plan: pruner.plan,
                packs: doomed,
                base,
                unindexed: 1 << place,
                ..Pruner::default()
            };
        });
    }

    /// P5: packs first, and then index objects.
    fn index_copy(&mut self) {
        let packs = self.pruner().unindexed;
        self.step(Step::P5Index { packs }, |state, pruner| {
            state.indexed |= packs;
            pruner.unindexed = 0;
            pruner.stage = PrunerStage::Planned;
        });
    }

    /// P5: create `prune/N.plan`. Exists: another prune was faster; back to P1.
    fn create_plan(&mut self) {
        let Pruner { plan, packs: doomed, base, .. } = *self.pruner();
        let old = self.before.plan(plan);
        let is_free = !old.is_created || old.is_done && !self.has(Rule::PlanNamesKept);
        if !is_free {
            return self.step(Step::P5Exists { plan }, |_, pruner| *pruner = Pruner::default());
        }
        let world = self.world;
        self.step(Step::P5CreatePlan { plan, base, doomed }, |state, pruner| {
            *state.plan_mut(plan) = Plan { is_created: true, doomed, ..Plan::default() };
            *pruner = Pruner { plan, ..Pruner::default() };
            after_plan(state, pruner, world);
        });
    }

    /// P6: the listing of `lease/` ends.
    fn list_leases(&mut self) {
        let Listing { must, may } = self.pruner().slots_listing;
        for listed in sets_between(must, may) {
            let world = self.world;
            self.step(Step::P6ListLeases { listed }, |state, pruner| {
                pruner.slots_listing = Listing::default();
                pruner.unsettled = listed;
                pruner.stage = PrunerStage::Settling;
                after_settling(state, pruner, world);
            });
        }
    }

    /// P6: one lease after another, in any order.
    fn settle_leases(&mut self) {
        for slot in members(self.pruner().unsettled) {
            self.settle_lease(slot);
        }
    }

    /// P6: settled is a lease that has ended, whose snapshot or tombstone exists, or that acknowledged this plan. Any
    /// other is fenced, or prune stops and waits. It may fence one that acknowledged, too: its listing might have
    /// missed the statement.
    fn settle_lease(&mut self, place: usize) {
        let (slot, plan) = (self.before.slots[place], self.pruner().plan);
        if slot.is_settled() {
            return self.settled(Step::P6Settled { slot: place }, place, |_, _| {});
        }
        if slot.seen == plan {
            let holds = if self.has(Rule::Holds) { slot.holds } else { 0 };
            self.settled(Step::P6Acknowledged { slot: place, holds }, place, |_, pruner| {
                pruner.spared |= holds;
            });
        }
        if self.has(Rule::WaitOrFence) {
            self.settled(Step::P6Fence { slot: place }, place, |state, _| {
                state.slots[place].has_tombstone = true;
            });
        } else {
            self.settled(Step::P6Ignore { slot: place }, place, |_, _| {});
        }
    }

    fn settled(&mut self, step: Step, place: usize, change: impl FnOnce(&mut State, &mut Pruner)) {
        let world = self.world;
        self.step(step, |state, pruner| {
            change(state, pruner);
            pruner.unsettled &= !(1 << place);
            after_settling(state, pruner, world);
        });
    }

    /// P7: the listings end; what is needed is spared. P9: create the verdict.
    fn recheck(&mut self) {
        let Pruner { slots_listing: slots, packs_listing: packs, .. } = *self.pruner();
        if self.plan().has_verdict && self.has(Rule::VerdictAgreed) {
            return self.decide();
        }
        for live in sets_between(slots.must, slots.may) {
            for listed in sets_between(packs.must, packs.may) {
                for rescued in self.rescued(self.before.ids_named(live), listed) {
                    let spared = (self.pruner().spared | rescued) & self.plan().doomed;
                    if self.has(Rule::P7AfterP6) {
                        self.create_verdict(live, listed, spared);
                    } else {
                        let registered = self.before.slots_where(|slot| slot.is_registered);
                        self.step(Step::P7Recheck { live, listed, spared }, |_, pruner| {
                            *pruner = Pruner { plan: pruner.plan, spared, ..Pruner::default() };
                            pruner.stage = PrunerStage::ListingLeases;
                            pruner.slots_listing = Listing::begin(registered);
                        });
                    }
                }
            }
        }
    }

    /// P7: every doomed pack that holds an id which a live snapshot needs, unless the packs outside the doomed set,
    /// taken alone, have a present copy of it at most as deep as its least deep copy now.
    fn rescued(&self, roots: Ids, listed: Packs) -> Vec<Packs> {
        if !self.has(Rule::Rescue) {
            return vec![0];
        }
        let frames = &self.before.frames;
        let doomed = self.plan().doomed;
        let present = self.present(listed);
        let remaining = listed & !doomed;
        let remaining =
            if self.has(Rule::P7RemainingAlone) { self.present(remaining) } else { remaining & present };
        let by = NeededBy { with_bases: self.has(Rule::P7NeedsBases), least_depth: true };
        let mut ways = Vec::new();
        for needed in needed(frames, roots, present, by) {
            let is_kept = |&id: &usize| match least_depth(frames, id, remaining) {
                Some(depth) if self.has(Rule::P7ByDepth) => Some(depth) <= least_depth(frames, id, present),
                Some(_) => true,
                None => false,
            };
            let spared = members(needed.ids)
                .filter(|id| !is_kept(id))
                .fold(0, |spared, id| spared | copies(frames, id, doomed));
            if !ways.contains(&spared) {
                ways.push(spared);
            }
        }
        ways
    }

    fn present(&self, packs: Packs) -> Packs {
        if self.has(Rule::BasesLessDeep) {
            present(&self.before.frames, packs)
        } else {
            present_at_any_depth(&self.before.frames, packs)
        }
    }

    /// P9: create `prune/N.verdict`: doomed without spared. P8 has no step here, because every pack has its own index
    /// object.
    fn create_verdict(&mut self, live: Slots, listed: Packs, spared: Packs) {
        let (number, verdict) = (self.pruner().plan, self.plan().doomed & !spared);
        self.step(Step::P9CreateVerdict { live, listed, verdict }, |state, pruner| {
            let plan = state.plan_mut(number);
            (plan.has_verdict, plan.verdict) = (true, verdict | plan.verdict);
            carry_out(pruner, verdict);
        });
    }

    /// P9: Exists: adopt that one. Where P7 was put before P6, the verdict is created only now.
    fn decide(&mut self) {
        if !self.plan().has_verdict {
            return self.create_verdict(0, 0, self.pruner().spared);
        }
        let verdict = self.plan().verdict;
        self.step(Step::P9Adopt { verdict }, |_, pruner| carry_out(pruner, verdict));
    }

    /// P10: delete the verdict's index objects.
    fn delete_index(&mut self) {
        let packs = self.pruner().packs;
        self.step(Step::P10DeleteIndex { packs }, |state, pruner| {
            state.indexed &= !packs;
            pruner.stage = PrunerStage::DeletingPacks;
        });
    }

    /// P11: delete its packs, one at a time, in any order.
    fn delete_packs(&mut self) {
        let packs = self.pruner().packs;
        if packs == 0 {
            return self.clean_up();
        }
        for place in members(packs) {
            self.step(Step::P11DeletePack { place }, |state, pruner| {
                state.stored &= !(1 << place);
                pruner.packs &= !(1 << place);
            });
        }
    }

    /// P12: delete forgotten snapshot objects, and lease objects of ended and fenced writers. Tombstones stay.
    fn clean_up(&mut self) {
        let keeps_tombstones = self.has(Rule::TombstonesKept);
        self.step(Step::P12CleanUp, |state, pruner| {
            for slot in &mut state.slots {
                if slot.is_settled() {
                    (slot.is_registered, slot.has_ended, slot.holds) = (false, false, 0);
                }
                if slot.is_forgotten {
                    slot.has_snapshot = false;
                }
                slot.has_tombstone &= keeps_tombstones;
            }
            pruner.stage = PrunerStage::Ending;
        });
    }

    /// P13: create `prune/N.done`.
    fn end_plan(&mut self) {
        let plan = self.pruner().plan;
        self.step(Step::P13Done { plan }, |state, pruner| {
            state.plan_mut(plan).is_done = true;
            *pruner = Pruner::default();
        });
    }
}

/// From P5 or P1 to P6: begin to list `lease/`. Without the order of P6 and P7, to P7.
fn after_plan(state: &State, pruner: &mut Pruner, world: &World) {
    if !world.rules.have(Rule::P7AfterP6) {
        return begin_recheck(state, pruner);
    }
    pruner.stage = PrunerStage::ListingLeases;
    pruner.slots_listing = Listing::begin(state.slots_where(|slot| slot.is_registered));
}

/// From P6 to P7 when every listed lease is settled: begin to list `snapshot/`, `forget/`, `index/`, `data/`, `meta/`.
fn after_settling(state: &State, pruner: &mut Pruner, world: &World) {
    if pruner.unsettled != 0 {
        return;
    }
    if !world.rules.have(Rule::P7AfterP6) {
        pruner.stage = PrunerStage::Decided;
        return;
    }
    begin_recheck(state, pruner);
}

fn begin_recheck(state: &State, pruner: &mut Pruner) {
    pruner.stage = PrunerStage::Rechecking;
    pruner.slots_listing = Listing::begin(state.slots_where(Slot::is_live));
    pruner.packs_listing = Listing::begin(state.stored);
}

/// From P9 to P10.
fn carry_out(pruner: &mut Pruner, verdict: Packs) {
    *pruner =
        Pruner { stage: PrunerStage::DeletingIndex, plan: pruner.plan, packs: verdict, ..Pruner::default() };
}
