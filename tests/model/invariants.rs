//! The invariants I1 to I12 as assertions about states and steps.
//!
//! Not here: I10 and I11 are about counts, which the model does not keep - a pruner of the model knows what is live by
//! looking; the tests of the counts prove them. I9 is a rule of the model (`Rule::ExistenceFromListing`), and so is the
//! half of I2 that is not about packs.

use crate::frames::{NeededBy, copies, ids_of, members, needed, present, readable};
use crate::scenario::World;
use crate::state::{Slot, State, WriterStage};
use crate::steps::{Actor, Step};

/// What a search looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Goal {
    /// Any violation.
    AnyViolation,
    /// A live snapshot that nobody could read any more.
    LossOnly,
    /// A live snapshot with a chunk that has no present copy: I1.
    BrokenPromise,
    /// A plan that breaks I6. P7 makes up for such plans, so no loss follows.
    BadPlan,
}

/// The violation that this step makes, if any.
pub fn violation(
    goal: Goal,
    world: &World,
    before: &State,
    actor: Actor,
    step: Step,
    after: &State,
) -> Option<&'static str> {
    match goal {
        Goal::LossOnly => lost(before, after),
        Goal::BrokenPromise => i1(before, after),
        Goal::BadPlan => i6(before, step),
        Goal::AnyViolation => i1(before, after)
            .or_else(|| lost(before, after))
            .or_else(|| i2(before, step))
            .or_else(|| i3(before, after))
            .or_else(|| i4(after))
            .or_else(|| i5(before, after))
            .or_else(|| i6(before, step))
            .or_else(|| i7(before, actor, after))
            .or_else(|| i8(world, before, step))
            .or_else(|| i12(before, step, after)),
    }
}

/// The thing that must not happen.
fn lost(before: &State, after: &State) -> Option<&'static str> {
    if is_same_storage(before, after) {
        return None;
    }
    let named = after.ids_named(after.slots_where(Slot::is_live));
    (named & !readable(&after.frames, after.stored) != 0).then_some("a live snapshot has lost a chunk")
}

/// I1: for every live snapshot, every id reachable from it has a present copy. A present copy brings its bases along.
fn i1(before: &State, after: &State) -> Option<&'static str> {
    if is_same_storage(before, after) {
        return None;
    }
    let named = after.ids_named(after.slots_where(Slot::is_live));
    let present = present(&after.frames, after.stored);
    (named & !ids_of(&after.frames, present) != 0).then_some("I1: a reachable chunk has no present copy")
}

/// Whether a step left packs and snapshots as they were. Then it has lost nothing.
fn is_same_storage(before: &State, after: &State) -> bool {
    before.stored == after.stored && before.slots == after.slots
}

/// I2: names of packs are never reused.
fn i2(before: &State, step: Step) -> Option<&'static str> {
    let (Step::W6StorePack { place, .. } | Step::P5Rewrite { place, .. }) = step else {
        return None;
    };
    (before.places_taken() & 1 << place != 0).then_some("I2: the name of a pack is used again")
}

/// I3: a name decided by create under `snapshot/` or `prune/` is never freed; only a forgotten snapshot is deleted.
fn i3(before: &State, after: &State) -> Option<&'static str> {
    let slots_freed = before.slots.iter().zip(&after.slots).any(|(before, after)| {
        let snapshot_freed = before.has_snapshot && !after.has_snapshot && !before.is_forgotten;
        let both = after.has_snapshot && after.has_tombstone;
        let changed = before.has_snapshot && after.has_snapshot && before.ids != after.ids;
        snapshot_freed || both || changed || before.has_tombstone && !after.has_tombstone
    });
    let plans_freed = before.plans.iter().zip(&after.plans).any(|(before, after)| {
        let changed = before.has_verdict && before.verdict & !after.verdict != 0 && after.verdict != 0;
        before.is_created && !after.is_created
            || before.has_verdict && !after.has_verdict
            || before.is_done && !after.is_done
            || changed
    });
    (slots_freed || plans_freed).then_some("I3: a decision was freed or changed")
}

/// I4: at most one open plan.
fn i4(state: &State) -> Option<&'static str> {
    (state.plans.iter().filter(|plan| plan.is_open()).count() > 1).then_some("I4: two plans are open")
}

/// I5: packs and index objects are deleted only because a verdict names them.
fn i5(before: &State, after: &State) -> Option<&'static str> {
    let verdicts = before.plans.iter().fold(0, |packs, plan| packs | plan.verdict);
    let deleted = before.stored & !after.stored | before.indexed & !after.indexed;
    (deleted & !verdicts != 0).then_some("I5: something was deleted that no verdict names")
}

/// I6: when a plan is created, every id reachable from its base has a present copy among the packs outside its doomed
/// set, taken alone.
fn i6(before: &State, step: Step) -> Option<&'static str> {
    let Step::P5CreatePlan { base, doomed, .. } = step else {
        return None;
    };
    let now = present(&before.frames, before.stored);
    let alone = present(&before.frames, before.stored & !doomed);
    let by = NeededBy { with_bases: true, least_depth: true };
    let is_kept = needed(&before.frames, base, now, by)
        .iter()
        .any(|needed| members(needed.ids).all(|id| copies(&before.frames, id, alone) != 0));
    (!is_kept).then_some("I6: a plan dooms what its base needs")
}

/// I7: a writer uses only packs it stored itself, or claimed under a view that excludes every plan up to the one it
/// acknowledged.
fn i7(before: &State, actor: Actor, after: &State) -> Option<&'static str> {
    let Actor::Writer(index) = actor else {
        return None;
    };
    let (writer, later) = (&before.writers[index], &after.writers[index]);
    if writer.stage != WriterStage::Working || later.stage != WriterStage::Working {
        return None;
    }
    let newly_used = later.used & !writer.used;
    let acknowledged = before.plans.iter().take(usize::from(writer.seen)).filter(|plan| plan.is_created);
    let forbidden =
        acknowledged.fold(0, |set, plan| set | if plan.has_verdict { plan.verdict } else { plan.doomed });
    (newly_used & forbidden & before.stored != 0).then_some("I7: a writer uses what a plan excludes")
}

/// I8, by what it is for: when a verdict is created, a writer that can still commit has acknowledged the plan and what
/// it holds is spared, or it has not read the plans yet, or it excludes everything doomed.
fn i8(world: &World, before: &State, step: Step) -> Option<&'static str> {
    let Step::P9CreateVerdict { verdict, .. } = step else {
        return None;
    };
    let plan = before.highest_plan();
    let doomed = before.plan(plan).doomed;
    let is_bad = (0..world.scenario.writers.len()).any(|index| {
        let writer = &before.writers[index];
        let slot = &before.slots[world.scenario.slot_of(index, writer.attempt)];
        let can_harm = matches!(writer.stage, WriterStage::Listing | WriterStage::Working);
        if slot.is_settled() || !can_harm {
            return false;
        }
        let has_acknowledged = slot.seen == plan && slot.holds & verdict == 0;
        let trusts_doomed = writer.known & !writer.excluded & doomed & before.stored != 0;
        !has_acknowledged && (trusts_doomed || writer.seen < plan)
    });
    is_bad.then_some("I8: a verdict was created before a lease was settled")
}

/// I12: durable before mentioned. Pack before index object, both before the snapshot; plan before verdict; verdict
/// before deletion, see [`i5`]; deletion before done.
fn i12(before: &State, step: Step, after: &State) -> Option<&'static str> {
    let is_broken = match step {
        Step::W8Index { packs } | Step::P5Index { packs } => packs & !before.places_taken() != 0,
        Step::W9Commit { ids } | Step::W9AnswerLost { ids } => {
            let described = present(&before.frames, before.stored & before.indexed);
            // A snapshot that was forgotten already may be committed again after a lost answer.
            let is_live = |slot: &Slot| slot.is_live();
            before.slots_where(is_live) != after.slots_where(is_live)
                && ids & !ids_of(&before.frames, described) != 0
        }
        Step::P9CreateVerdict { .. } => before.highest_plan() == 0,
        Step::P13Done { plan } => {
            let plan = before.plan(plan);
            !plan.has_verdict || plan.verdict & before.stored != 0
        }
        _ => false,
    };
    is_broken.then_some("I12: something was mentioned before it was durable")
}
