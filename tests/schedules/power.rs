//! Power cuts: in the middle of one operation on a disk, before every step of it and with everything that may be left;
//! and (16 of the interleavings) in the middle of several, where others have seen what is not durable yet.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use kluis::crypto::Randomness;
use kluis::repo::Repo;
use kluis::storage::{MemoryStorage, Storage};

use crate::act::{Act, cast};
use crate::disk::Disk;
use crate::fixture::{Objects, cache_folder, key, surroundings};
use crate::judge::{Known, judge_objects};
use crate::roles::{Asked, Role};
use crate::world::{Scene, World};

const STEP_COUNT_MAX: u64 = 2000;

/// What there was to be looked at.
#[derive(Debug, Default)]
struct Seen {
    steps: u64,
    states: usize,
}

fn open_on(storage: Arc<dyn Storage>, cache: &Path) -> Option<Arc<Repo>> {
    let repo = Repo::open(surroundings(storage, cache), &key()).ok()?;
    Some(Arc::new(repo.with_randomness(Randomness::repeatable(5))))
}

/// Cuts the power before every step of an operation, and looks at every state that may be left.
fn cut_at_every_step(scene: Scene, role: Role) -> Seen {
    let world = World::shared(&cast());
    let start = world.start(scene);
    let mut seen = Seen::default();
    let mut known_states = BTreeSet::new();
    for cut_at in 0..STEP_COUNT_MAX {
        let disk = Arc::new(Disk::new(MemoryStorage::from_objects(start.objects.clone()), cut_at));
        let (cache, asked) = (cache_folder(), Asked::default());
        let said = open_on(Arc::clone(&disk) as Arc<dyn Storage>, cache.path())
            .map(|repo| role.play_alone(&repo, &world, &asked));
        let place = disk.where_cut();
        for (number, objects) in disk.states(cut_at).into_iter().enumerate() {
            if !known_states.insert(digest(&objects)) {
                continue;
            }
            // Printed only if something below fails.
            println!("{role:?} on {scene:?}, cut before step {cut_at}, {place:?}, state {number}");
            let committed = said.iter().filter_map(|said| said.committed).collect();
            let asked = asked.lock().unwrap().clone();
            let known = Known { start, committed, asked, is_spoilt: false };
            judge_objects(&MemoryStorage::from_objects(objects), &world, &known, cut_at);
            seen.states += 1;
        }
        if place.is_none() {
            seen.steps = cut_at;
            println!("{role:?} on {scene:?}: {seen:?}");
            return seen;
        }
    }
    panic!("the operation does not end");
}

fn digest(objects: &Objects) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (name, bytes) in objects {
        hasher.update(name.as_str().as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
    *hasher.finalize().as_bytes()
}

#[test]
fn a_prune_whose_power_fails_at_any_step_loses_nothing_whatever_the_disk_forgets() {
    let seen = cut_at_every_step(Scene::Forgotten, Role::Prune);
    assert!(seen.steps > 100 && seen.states > 50, "{seen:?}");
}

#[test]
fn a_prune_that_continues_another_one_may_lose_its_power_too() {
    for scene in [Scene::HalfDeleted, Scene::Abandoned] {
        let seen = cut_at_every_step(scene, Role::ImpatientPrune);
        assert!(seen.states > 20, "{seen:?}");
    }
}

#[test]
fn a_forget_or_an_undo_whose_power_fails_at_any_step_has_happened_or_has_not() {
    for role in [Role::Forget(0), Role::Undo(0)] {
        let seen = cut_at_every_step(Scene::Forgotten, role);
        assert!(seen.states > 10, "{seen:?}");
    }
}

#[test]
fn a_backup_whose_power_fails_at_any_step_loses_nothing_whatever_the_disk_forgets() {
    for (scene, source) in [(Scene::Forgotten, 0), (Scene::Abandoned, 4)] {
        let seen = cut_at_every_step(scene, Role::Backup(source));
        assert!(seen.states > 10, "{seen:?}");
    }
}

/// 16: a plan, a verdict, a tombstone, a snapshot or a statement that others have seen before it was durable.
#[test]
fn what_others_have_acted_on_is_not_taken_back_by_a_power_cut() {
    let cast = cast();
    let cases: [(Role, &str, &[Role]); 7] = [
        (Role::Prune, "sync prune/00000001.plan", &[Role::Backup(0)]),
        (Role::Prune, "sync prune/00000001.verdict", &[Role::Prune, Role::Backup(0)]),
        (Role::Prune, "sync prune/00000001.done", &[Role::Backup(0)]),
        (Role::ExclusivePrune, "sync prune/00000001.plan", &[Role::ExclusivePrune]),
        (Role::Backup(0), "sync snapshot/", &[Role::Prune, Role::Backup(5)]),
        (Role::Backup(0), "sync lease/", &[Role::Prune]),
        (Role::Forget(0), "sync forget/", &[Role::Prune, Role::Undo(0)]),
    ];
    for (first, call, others) in cases {
        for others_get_so_far in [5, 15, 30, 1000] {
            for keeps in [false, true] {
                let mut act = Act::new(&cast, Scene::Forgotten);
                let sleeper = act.enter_as(first, |host| host.syncs_late = true);
                act.stage.run_until(sleeper.id, call);
                for other in others {
                    let other = act.enter_as(*other, |host| host.syncs_late = true);
                    act.stage.steps(other.id, others_get_so_far);
                }
                assert!(act.stage.open_count() <= 1 + others.len());
                let mut keeps_next = keeps;
                act.stage.lose_power(|_| {
                    keeps_next = !keeps_next;
                    keeps_next
                });
                act.finish();
            }
        }
    }
}

/// 16: a pack whose writer died before it was durable is described, and used, by the next backup.
#[test]
fn a_pack_that_somebody_else_left_is_durable_before_anybody_relies_on_it() {
    let cast = cast();
    for call in ["sync data/", "sync meta/"] {
        let mut act = Act::new(&cast, Scene::Fresh);
        let dying = act.enter_as(Role::Backup(5), |host| host.syncs_late = true);
        act.stage.run_until(dying.id, call);
        act.stage.kill(dying.id);
        let next = act.enter_as(Role::Backup(5), |host| host.syncs_late = true);
        assert!(act.end(&next).committed.is_some());
        act.stage.lose_power(|_| false);
        act.finish();
    }
}
