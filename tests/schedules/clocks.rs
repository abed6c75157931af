//! Clocks that are wrong, on each host by as much as it likes: writers are fenced that live, or waited for that are dead,
//! and that is all.

use crate::act::{Act, STEP_COUNT_MAX, cast};
use crate::roles::Role;
use crate::world::Scene;

const TEN_YEARS: i64 = 10 * 365 * 24 * 3600;
const ERRORS: [i64; 2] = [-TEN_YEARS, TEN_YEARS];

/// Puts somebody to sleep at every third call while somebody else works, both with wrong clocks.
fn asleep_while(sleeper: Role, others: &[Role], [one, other]: [i64; 2]) -> usize {
    let cast = cast();
    for at in (0..STEP_COUNT_MAX).step_by(3) {
        let mut act = Act::new(&cast, Scene::Forgotten);
        let part = act.enter_as(sleeper, move |host| host.clock_error = one);
        act.stage.steps(part.id, at);
        if act.stage.has_ended(part.id) {
            act.finish();
            return at;
        }
        println!("{sleeper:?} {one} sleeps at call {at}, {others:?} {other}");
        for role in others {
            let part = act.enter_as(*role, move |host| host.clock_error = other);
            act.end(&part);
        }
        act.finish();
    }
    panic!("{sleeper:?} does not end");
}

#[test]
fn clocks_that_are_ten_years_apart_lose_nothing() {
    let everybody: [(Role, &[Role]); 5] = [
        (Role::Backup(0), &[Role::Prune]),
        (Role::Backup(0), &[Role::Prune, Role::Backup(0), Role::Prune]),
        (Role::Undo(0), &[Role::Prune]),
        (Role::Prune, &[Role::Backup(0)]),
        (Role::Prune, &[Role::Forget(0), Role::Prune]),
    ];
    for (sleeper, others) in everybody {
        for errors in ERRORS.iter().flat_map(|one| ERRORS.map(|other| [*one, other])) {
            assert!(asleep_while(sleeper, others, errors) > 15);
        }
    }
}
