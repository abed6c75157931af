//! The histories that must be looked at, by their numbers in the design ("Interleavings that must be checked"). Those
//! of network file systems, power cuts and bases are in files of their own.
//!
//! In the scene that most of them begin with, sources 0 and 2 are forgotten and not yet pruned: a backup of one of them
//! claims chunks in packs that a prune is about to doom.

use std::time::Duration;

use crate::act::{Act, BEAT, SILENCE, STEP_COUNT_MAX, asleep_at_every_call, cast};
use crate::roles::Role;
use crate::world::{Scene, names_below};

const PLAN: &str = "create prune/00000001.plan";
const VERDICT: &str = "create prune/00000001.verdict";
/// Everything is claimed and stored, and nothing committed.
const COMMIT: &str = "create snapshot/";

/// 1, without an acknowledgement.
#[test]
fn a_writer_that_claimed_before_a_plan_may_commit_at_any_call_of_the_prune() {
    let cast = cast();
    let calls = asleep_at_every_call(Scene::Forgotten, Role::Prune, "", &[], &|act| {
        // It was there before the prune, as far as claims go: it knows of no plan unless there is one already.
        let writer = act.enter(Role::Backup(0));
        assert!(act.end(&writer).committed.is_some());
    });
    assert!(calls > 40, "{calls}");
    for commit_at in 0..calls {
        let mut act = Act::new(&cast, Scene::Forgotten);
        let writer = act.enter(Role::Backup(0));
        act.stage.run_until(writer.id, COMMIT);
        let pruner = act.enter(Role::Prune);
        act.stage.steps(pruner.id, commit_at);
        assert!(act.end(&writer).committed.is_some());
        act.finish();
    }
}

/// 1, with an acknowledgement: before, between and after P6 and P7.
#[test]
fn a_writer_that_acknowledges_at_any_call_of_a_prune_keeps_what_it_claimed() {
    let cast = cast();
    let mut acknowledged = 0;
    for beat_at in 0..200 {
        let mut act = Act::new(&cast, Scene::Forgotten);
        let writer = act.enter(Role::Backup(0));
        act.stage.run_until(writer.id, COMMIT);
        let pruner = act.enter(Role::Prune);
        act.stage.steps(pruner.id, beat_at);
        let is_over = act.stage.has_ended(pruner.id);
        act.stage.pass_time(BEAT);
        act.stage.give_sign_of_life(writer.id);
        acknowledged += usize::from(act.end(&pruner).pruned.is_some_and(|report| report.plans.contains(&1)));
        // What it had not seen before, it sees now.
        act.stage.pass_time(BEAT);
        act.stage.give_sign_of_life(writer.id);
        act.play(Role::Prune);
        let done = names_below(act.stage.memory(), "prune")
            .into_iter()
            .any(|name| name.as_str().ends_with("1.done"));
        assert!(done, "the plan waits for a writer that has acknowledged it");
        assert!(act.end(&writer).committed.is_some());
        act.finish();
        if is_over {
            assert!(acknowledged > 3, "no plan was acknowledged in time");
            return;
        }
    }
    panic!("the prune does not end");
}

/// 2: between P5 and P6, between P6 and P9, after P13, and at all other calls.
#[test]
fn a_writer_may_register_at_any_call_of_a_prune_and_commit_when_it_is_over() {
    for source in [0, 5] {
        let calls = asleep_at_every_call(Scene::Forgotten, Role::Prune, "", &[], &|act| {
            let writer = act.enter(Role::Backup(source));
            act.stage.run_until(writer.id, COMMIT);
        });
        assert!(calls > 40, "{calls}");
    }
    // It has only said that it is there, and has read nothing.
    asleep_at_every_call(Scene::Forgotten, Role::Prune, "list prune", &[], &|act| {
        let writer = act.enter(Role::Backup(0));
        act.stage.run_until(writer.id, "list prune");
    });
}

/// 3.
#[test]
fn a_writer_may_sleep_at_any_call_until_a_prune_has_finished() {
    for scene in [Scene::Forgotten, Scene::Planned, Scene::Doubled] {
        for role in [Role::Backup(0), Role::Undo(0)] {
            let calls = asleep_at_every_call(scene, role, "", &[], &|act| {
                act.stage.pass_time(SILENCE);
                let report = act.play(Role::Prune).pruned.unwrap();
                assert!(report.waiting.is_empty(), "{report:?}");
            });
            assert!(calls > 15, "{calls}");
        }
    }
    // A prune that waits for it, one that need not, and a second one that it slept through as well.
    asleep_at_every_call(Scene::Forgotten, Role::Backup(0), "", &[], &|act| {
        act.play(Role::Prune);
        act.play(Role::ExclusivePrune);
        act.play(Role::Forget(0));
        act.play(Role::Prune);
    });
}

/// 4.
#[test]
fn a_prune_may_sleep_at_any_call_until_others_have_finished_its_plan_and_the_next_two() {
    for scene in [Scene::Forgotten, Scene::HalfDeleted, Scene::Doubled] {
        asleep_at_every_call(scene, Role::Prune, "", &[], &|act| {
            act.play(Role::Prune);
            act.play(Role::Forget(0));
            act.play(Role::Prune);
            act.play(Role::Backup(5));
            act.play(Role::Forget(0));
            act.play(Role::Prune);
        });
    }
}

/// 5.
#[test]
fn of_two_prunes_that_make_one_plan_the_loser_carries_out_that_of_the_winner() {
    let cast = cast();
    // The first plan only deletes; before the second both have rewritten packs.
    for plan in [PLAN, "create prune/00000002.plan"] {
        let mut act = Act::new(&cast, Scene::Forgotten);
        let [one, other] = [act.enter(Role::Prune), act.enter(Role::Prune)];
        if plan == PLAN {
            act.stage.run_until(one.id, plan);
            act.stage.run_until(other.id, plan);
        } else {
            act.stage.run_until(one.id, "create prune/00000001.done");
            act.stage.step(one.id);
            act.stage.run_until(other.id, plan);
            act.stage.run_until(one.id, plan);
        }
        let first = act.end(&one).pruned.unwrap();
        let second = act.end(&other).pruned.unwrap();
        assert!(!first.plans.is_empty(), "{first:?}");
        if plan != PLAN {
            assert!(first.packs_rewritten > 0 && second.packs_rewritten > 0, "{first:?} {second:?}");
        }
        act.finish();
    }
}

/// 6.
#[test]
fn of_two_prunes_that_spare_different_packs_the_first_verdict_counts() {
    let cast = cast();
    for first_decides in [true, false] {
        let mut act = Act::new(&cast, Scene::Forgotten);
        let writer = act.enter(Role::Backup(2));
        act.stage.run_until(writer.id, COMMIT);
        let one = act.enter(Role::Prune);
        act.stage.run_until(one.id, PLAN);
        act.stage.step(one.id);
        act.end(&writer);
        // It sees the new snapshot and spares what that needs.
        act.stage.run_until(one.id, VERDICT);
        // The other one sees it forgotten.
        let count = names_below(act.stage.memory(), "snapshot").len();
        act.play(Role::Forget(count - 3));
        let other = act.enter(Role::Prune);
        act.stage.run_until(other.id, VERDICT);
        let [first, second] = if first_decides { [one, other] } else { [other, one] };
        act.stage.step(first.id);
        act.end(&second);
        act.end(&first);
        act.finish();
    }
}

/// 7: in both orders.
#[test]
fn an_acknowledgement_before_the_listing_of_leases_counts_and_one_after_it_is_waited_for() {
    let cast = cast();
    for is_before in [true, false] {
        let mut act = Act::new(&cast, Scene::Forgotten);
        let writer = act.enter(Role::Backup(0));
        act.stage.run_until(writer.id, COMMIT);
        let pruner = act.enter(Role::Prune);
        act.stage.run_until(pruner.id, PLAN);
        act.stage.run_until(pruner.id, "list lease");
        if !is_before {
            act.stage.step(pruner.id);
        }
        act.stage.pass_time(BEAT);
        act.stage.give_sign_of_life(writer.id);
        let report = act.end(&pruner).pruned.unwrap();
        // Also where the statement is new: what is read of a lease is what the listing showed.
        // The next plan is waited for in either case.
        assert_eq!(report.plans.contains(&1), is_before, "{report:?}");
        assert_eq!(report.packs_spared > 0, is_before, "{report:?}");
        act.end(&writer);
        act.finish();
    }
}

/// 7: a second acknowledgement in one lease.
#[test]
fn a_writer_acknowledges_one_plan_after_another() {
    let cast = cast();
    let mut act = Act::new(&cast, Scene::Forgotten);
    let writer = act.enter(Role::Backup(0));
    act.stage.run_until(writer.id, COMMIT);
    let mut plans = Vec::new();
    for _ in 0..4 {
        plans.extend(act.play(Role::Prune).pruned.unwrap().plans);
        act.stage.pass_time(BEAT);
        act.stage.give_sign_of_life(writer.id);
        plans.extend(act.play(Role::Prune).pruned.unwrap().plans);
        act.play(Role::Forget(0));
    }
    assert!(plans.len() > 1, "{plans:?}");
    assert!(act.end(&writer).committed.is_some());
    act.finish();
}

/// 7: holds of own packs that no index object describes yet.
#[test]
fn packs_that_a_writer_at_work_has_not_described_yet_are_left_alone() {
    for from in ["create data/", "create meta/", "create index/"] {
        asleep_at_every_call(Scene::Forgotten, Role::Backup(5), from, &[], &|act| {
            for role in [Role::Prune, Role::ExclusivePrune] {
                act.stage.pass_time(BEAT);
                act.play(role);
            }
        });
    }
}

/// 8.
#[test]
fn of_two_copies_one_is_left_whichever_each_prune_prefers() {
    asleep_at_every_call(Scene::Doubled, Role::Prune, "", &[], &|act| drop(act.play(Role::Prune)));
    let cast = cast();
    for first_calls in (0..80).step_by(3) {
        let mut act = Act::new(&cast, Scene::Doubled);
        let [one, other] = [act.enter(Role::Prune), act.enter(Role::Prune)];
        // By turns, after one of them was ahead.
        act.stage.steps(one.id, first_calls);
        while act.stage.step(other.id) | act.stage.step(one.id) {}
        act.finish();
    }
}

/// 9.
#[test]
fn the_newest_snapshot_may_be_forgotten_at_any_call_of_a_prune() {
    asleep_at_every_call(Scene::Forgotten, Role::Prune, "", &[], &|act| drop(act.play(Role::Forget(1))));
    // One that was committed after the prune has looked.
    asleep_at_every_call(Scene::Forgotten, Role::Prune, "", &[], &|act| {
        act.play(Role::Backup(5));
        act.play(Role::Forget(2));
    });
}

/// 10.
#[test]
fn a_commit_whose_answer_is_lost_is_found_out_after_a_fence_a_forget_and_a_deletion() {
    let cast = cast();
    let meanwhile: [&[Role]; 4] = [
        &[],
        &[Role::ExclusivePrune],
        &[Role::Forget(2)],
        &[Role::Forget(2), Role::ExclusivePrune, Role::ExclusivePrune],
    ];
    for happened in [true, false] {
        for roles in meanwhile {
            let mut act = Act::new(&cast, Scene::Forgotten);
            act.may_fail_with = &["as the test wants it"];
            let writer = act.enter_as(Role::Backup(5), move |host| {
                host.lost_answer = Some(("snapshot/", happened));
            });
            act.stage.run_until(writer.id, COMMIT);
            act.stage.step(writer.id);
            // It is about to look what has become of it.
            assert!(act.stage.next_call(writer.id).unwrap().starts_with("read snapshot/"));
            roles.iter().for_each(|role| drop(act.play(*role)));
            let said = act.end(&writer);
            assert!(!(roles.is_empty() && happened) || said.committed.is_some(), "{said:?}");
            act.finish();
        }
    }
}

/// 11.
#[test]
fn a_chunk_may_be_healed_at_any_call_of_a_prune_that_dooms_its_damaged_pack() {
    // A pack that is too short, or gone, counts as absent; the next backup of the same content stores it again.
    for is_short in [true, false] {
        let spoil = |act: &Act<'_>| {
            let pack = names_below(act.stage.memory(), "data").remove(0);
            let bytes = act.stage.memory().remove(&pack).unwrap();
            if is_short {
                act.stage.memory().set(&pack, &bytes[..bytes.len() - 1]);
            }
        };
        let cast = cast();
        for at in 0.. {
            let mut act = Act::new(&cast, Scene::Fresh);
            act.may_fail_with = &["ContentMissing", "Overtaken"];
            act.is_spoilt = true;
            spoil(&act);
            let pruner = act.enter(Role::Prune);
            act.stage.steps(pruner.id, at);
            let is_over = act.stage.has_ended(pruner.id);
            act.play(Role::Backup(0));
            act.play(Role::Backup(1));
            act.play(Role::Prune);
            act.finish();
            if is_over {
                break;
            }
        }
    }
}

/// 12.
#[test]
fn a_listing_may_miss_whatever_is_created_or_deleted_while_it_is_made() {
    let meanwhile: [&[Role]; 4] = [
        &[Role::Prune],
        &[Role::Backup(0)],
        &[Role::Backup(0), Role::ExclusivePrune],
        &[Role::Forget(0), Role::Prune, Role::Prune],
    ];
    let cast = cast();
    for role in [Role::Backup(0), Role::Prune, Role::Undo(0), Role::Check] {
        for others in meanwhile {
            let mut listings = 0;
            loop {
                let mut act = Act::new(&cast, Scene::Forgotten);
                let sleeper = act.enter_as(role, |host| host.lists_slowly = true);
                let mut left = listings;
                let is_over = loop {
                    let Some(call) = act.stage.next_call(sleeper.id) else { break true };
                    if call.starts_with("list on") {
                        if left == 0 {
                            break false;
                        }
                        left -= 1;
                    }
                    act.stage.step(sleeper.id);
                };
                others.iter().for_each(|other| drop(act.play(*other)));
                act.finish();
                if is_over {
                    break;
                }
                listings += 1;
            }
            assert!(listings > 5, "{role:?} made {listings} listings");
        }
    }
}

/// 12: a lease whose statements change during P6.
#[test]
fn a_lease_whose_statements_change_while_leases_are_listed_is_seen() {
    let cast = cast();
    let mut act = Act::new(&cast, Scene::Forgotten);
    let writer = act.enter(Role::Backup(0));
    act.stage.run_until(writer.id, COMMIT);
    let pruner = act.enter_as(Role::Prune, |host| host.lists_slowly = true);
    act.stage.run_until(pruner.id, PLAN);
    act.stage.run_until(pruner.id, "list on lease");
    // The new statement is there after the listing began, the old one is gone before it ends: the first one is left.
    act.stage.pass_time(BEAT);
    act.stage.give_sign_of_life(writer.id);
    let report = act.end(&pruner).pruned.unwrap();
    assert_eq!(report.waiting.len(), 1, "{report:?}");
    act.end(&writer);
    act.finish();
}

/// 13.
#[test]
fn a_writer_that_may_not_delete_says_that_it_is_over() {
    let cast = cast();
    let mut act = Act::new(&cast, Scene::Forgotten);
    let writer = act.enter_as(Role::Backup(0), |host| host.may_delete = false);
    act.stage.run_until(writer.id, COMMIT);
    // Its statements stay, all of them.
    let pruner = act.enter(Role::Prune);
    act.stage.run_until(pruner.id, "list lease");
    for _ in 0..3 {
        act.stage.pass_time(BEAT);
        act.stage.give_sign_of_life(writer.id);
    }
    assert!(names_below(act.stage.memory(), "lease").len() > 3);
    assert_eq!(act.end(&pruner).pruned.unwrap().plans, [1]);
    assert!(act.end(&writer).committed.is_some());
    let ends = names_below(act.stage.memory(), "lease");
    assert!(ends.iter().any(|name| name.as_str().ends_with(".end")), "{ends:?}");
    assert!(act.play(Role::Prune).pruned.unwrap().waiting.is_empty());
    act.finish();
}

/// 14.
#[test]
fn the_very_first_backup_may_meet_another_one_and_a_prune_at_any_call() {
    for role in [Role::Backup(0), Role::Prune] {
        asleep_at_every_call(Scene::Empty, role, "", &[], &|act| drop(act.play(Role::Backup(4))));
    }
    asleep_at_every_call(Scene::Empty, Role::Backup(0), "", &[], &|act| drop(act.play(Role::Prune)));
    asleep_at_every_call(Scene::Empty, Role::Backup(0), "", &[], &|act| {
        act.play(Role::Backup(4));
        act.play(Role::ExclusivePrune);
    });
}

/// Found by a random schedule: what a check has listed may be deleted while it looks at it.
#[test]
fn a_check_finds_no_damage_where_a_prune_or_a_backup_is_at_work() {
    let meanwhile: [&[Role]; 3] = [&[Role::Prune], &[Role::Backup(0)], &[Role::Forget(0), Role::Prune]];
    for roles in meanwhile {
        let calls = asleep_at_every_call(Scene::Forgotten, Role::Check, "", &[], &|act| {
            roles.iter().for_each(|role| drop(act.play(*role)));
        });
        assert!(calls > 30, "{calls}");
    }
}

/// Found by a random schedule: a writer that is taken for dead may describe a pack of its own again that a prune has deleted,
/// and one that is asleep after its commit may copy a snapshot that is forgotten and gone.
#[test]
fn a_check_beside_a_late_writer_finds_only_what_is_worth_a_note() {
    let cast = cast();
    let mut notes = 0;
    for begins_at in 0..STEP_COUNT_MAX {
        let mut act = Act::new(&cast, Scene::Fresh);
        let writer = act.enter(Role::Backup(5));
        act.stage.run_until(writer.id, "create copy/snapshot/");
        act.stage.pass_time(SILENCE);
        // That of the writer: the clock of the scene is ahead of the stage.
        act.play(Role::Forget(0));
        act.play(Role::Prune);
        let check = act.enter(Role::Check);
        act.stage.steps(check.id, begins_at);
        let is_over = act.stage.has_ended(check.id);
        act.end(&writer);
        act.end(&check);
        notes += usize::from(!act.play(Role::Check).notes.is_empty());
        act.play(Role::Prune);
        assert_eq!(act.play(Role::Check).notes, [""; 0], "a prune has removed it");
        act.finish();
        if is_over {
            assert!(notes > 10, "nothing was left behind");
            return;
        }
    }
    panic!("the check does not end");
}

/// What is there and is gone again may be another thing each time: a check beside somebody who forgets and prunes at each
/// of its calls, and beside a writer that is fenced there.
#[test]
fn a_check_cries_no_wolf_beside_forgets_or_a_fence() {
    let cast = cast();
    for at in 0..STEP_COUNT_MAX {
        let mut act = Act::new(&cast, Scene::Fresh);
        let writer = act.enter(Role::Backup(5));
        act.stage.run_until(writer.id, COMMIT);
        let check = act.enter(Role::Check);
        act.stage.steps(check.id, at);
        if act.stage.has_ended(check.id) {
            act.finish();
            assert!(at > 30, "{at}");
            return;
        }
        act.stage.pass_time(SILENCE);
        act.play(Role::Forget(0));
        act.play(Role::Prune);
        act.end(&writer);
        act.end(&check);
        act.finish();
    }
    panic!("the check does not end");
}

/// Found by a random schedule: the lists of a prune that slept for longer than anybody keeps them are gone when it makes
/// its plan. Until somebody closes it, nobody knows what to keep away from.
#[test]
fn a_writer_waits_for_a_plan_without_lists_to_be_closed() {
    let cast = cast();
    for is_killed in [false, true] {
        let mut act = Act::new(&cast, Scene::Forgotten);
        act.may_fail_with = &["PlanWithoutLists"];
        let late = act.enter(Role::Prune);
        act.stage.run_until(late.id, PLAN);
        // All is needed again, so that the next prune makes no plan, and removes what is old.
        act.play(Role::Backup(0));
        act.play(Role::Backup(2));
        act.stage.pass_time(SILENCE);
        act.play(Role::Prune);
        assert_eq!(names_below(act.stage.memory(), "body"), []);
        act.stage.step(late.id);
        assert_eq!(names_below(act.stage.memory(), "prune").len(), 1, "the plan was not made");
        if is_killed {
            act.stage.kill(late.id);
        }
        let writer = act.enter(Role::Backup(1));
        while act.stage.step(writer.id) {}
        assert!(!act.stage.has_ended(writer.id), "it waits");
        if is_killed {
            for _ in 0..20 {
                act.stage.pass_time(Duration::from_secs(5));
                while act.stage.step(writer.id) {}
            }
            let said = act.end(&writer);
            assert!(said.failure.is_some_and(|text| text.contains("PlanWithoutLists")));
            act.play(Role::Prune);
            assert!(act.play(Role::Backup(1)).committed.is_some());
        } else {
            act.end(&late);
            act.stage.pass_time(Duration::from_secs(5));
            assert!(act.end(&writer).committed.is_some());
        }
        act.finish();
    }
}

/// Found by a random schedule: a prune without a plan asked nobody, and never came to fence the dead.
#[test]
fn a_prune_with_nothing_to_do_fences_the_dead_and_then_takes_what_they_left() {
    let cast = cast();
    let mut act = Act::new(&cast, Scene::Abandoned);
    assert!(!names_below(act.stage.memory(), "lease").is_empty());
    act.stage.pass_time(SILENCE);
    let report = act.play(Role::Prune).pruned.unwrap();
    assert!(report.packs_deleted > 0, "{report:?}");
    assert_eq!(names_below(act.stage.memory(), "lease"), []);
    act.finish();
}

/// Found by a random schedule: the lease is gone before its writer has come to hold it.
#[test]
fn a_writer_that_is_fenced_while_it_registers_begins_again() {
    let cast = cast();
    for role in [Role::Backup(0), Role::Undo(0)] {
        let mut act = Act::new(&cast, Scene::Forgotten);
        let writer = act.enter(role);
        act.stage.run_until(writer.id, "hold lease/");
        act.play(Role::ExclusivePrune);
        let committed = act.end(&writer).committed;
        assert_eq!(committed.is_some(), role == Role::Backup(0), "what was pruned cannot come back");
        act.finish();
    }
}

/// Found by a random schedule: the bodies of a plan that another prune has made meanwhile are not old.
#[test]
fn a_prune_that_finds_nothing_to_do_leaves_the_lists_of_one_that_is_at_work() {
    let cast = cast();
    let mut act = Act::new(&cast, Scene::Abandoned);
    let idle = act.enter(Role::Prune);
    act.stage.run_until(idle.id, "list body");
    act.stage.pass_time(SILENCE);
    let busy = act.enter(Role::Prune);
    act.stage.run_until(busy.id, VERDICT);
    act.stage.step(busy.id);
    act.stage.pass_time(SILENCE);
    act.end(&idle);
    act.end(&busy);
    act.finish();
}
