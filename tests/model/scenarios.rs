//! The searches: what they start from, how far they go, and how many states they have.
//!
//! The numbers are compared, so that nobody makes the model smaller without noticing. Whoever changes the protocol or
//! the model writes the new ones here and into `docs/design.md`.

use crate::frames::Ids;
use crate::invariants::Goal;
use crate::rules::Rule;
use crate::scenario::{Pack, Scenario};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// The set that a snapshot names.
const fn ids<const N: usize>(ids: [usize; N]) -> Ids {
    let (mut set, mut next) = (0, 0);
    while next < N {
        set |= 1 << ids[next];
        next += 1;
    }
    set
}

/// One chunk in one pack, and no bases.
const PLAIN: Scenario = Scenario { ids: 1, depth_max: 0, packs: &[Pack::Plain(A)], ..Scenario::EMPTY };

/// A chunk, and another one that is stored as a difference from it.
const BASE: Scenario = Scenario { packs: &[Pack::Plain(A), Pack::On(B, A, 1)], ..Scenario::EMPTY };

/// The same, and the plain one is gone.
const LOST_BASE: Scenario = Scenario { packs: &[Pack::LostPlain(A), Pack::On(B, A, 1)], ..Scenario::EMPTY };

/// Two chunks, each plainly, and each as a difference from the other.
const CROSSED: Scenario = Scenario {
    packs: &[Pack::Plain(A), Pack::Plain(B), Pack::On(A, B, 1), Pack::On(B, A, 1)],
    ..Scenario::EMPTY
};

/// A search that has to end without a violation, and the number of its states.
pub struct Search {
    pub scenario: Scenario,
    pub states: usize,
}

/// Those of every test run.
pub const SEARCHES: &[Search] = &[
    Search {
        scenario: Scenario {
            name: "plain copies: two writers, two pruners, two plans",
            writers: &[1, 1],
            pruners: 2,
            plans: 2,
            ..PLAIN
        },
        states: 1_402_042,
    },
    Search {
        scenario: Scenario {
            name: "empty repository, bases: two writers, one pruner",
            writers: &[1, 1],
            pruners: 1,
            ..Scenario::EMPTY
        },
        states: 789_238,
    },
    Search {
        scenario: Scenario {
            name: "copies resting on each other, dead packs kept: one writer, one pruner, two plans",
            writers: &[1],
            pruners: 1,
            plans: 2,
            keeps_dead_packs: true,
            ..CROSSED
        },
        states: 866_373,
    },
    Search {
        scenario: Scenario {
            name: "copies resting on each other, all needed: one writer, one pruner, two plans, one forget",
            writers: &[1],
            snapshots: &[ids([A, B])],
            pruners: 1,
            plans: 2,
            forgets: 1,
            ..CROSSED
        },
        states: 173_512,
    },
    Search {
        scenario: Scenario {
            name: "a lost base: two writers, one pruner",
            writers: &[1, 1],
            pruners: 1,
            ..LOST_BASE
        },
        states: 1_669_474,
    },
    Search {
        scenario: Scenario {
            name: "acknowledgements: one writer, two pruners with two plans each",
            writers: &[1],
            pruners: 2,
            plans: 4,
            has_acknowledgements: true,
            ..PLAIN
        },
        states: 109_375,
    },
    Search {
        scenario: Scenario {
            name: "acknowledgements and a base: one writer, two pruners, two plans",
            writers: &[1],
            pruners: 2,
            plans: 2,
            has_acknowledgements: true,
            ..BASE
        },
        states: 2_616_053,
    },
    Search {
        scenario: Scenario {
            name: "rewrites, dead packs kept: one writer, two pruners, two plans",
            writers: &[1],
            snapshots: &[ids([A])],
            pruners: 2,
            plans: 2,
            rewrites: 2,
            keeps_dead_packs: true,
            ..PLAIN
        },
        states: 748_155,
    },
    Search {
        scenario: Scenario {
            name: "rewrites of a base: two writers, one pruner",
            writers: &[1, 1],
            snapshots: &[ids([B])],
            pruners: 1,
            rewrites: 1,
            ..BASE
        },
        states: 683_867,
    },
    Search {
        scenario: Scenario {
            name: "two copies: one writer, two pruners, two plans, one forget",
            packs: &[Pack::Plain(A), Pack::Plain(A)],
            writers: &[1],
            snapshots: &[ids([A])],
            pruners: 2,
            plans: 2,
            forgets: 1,
            ..PLAIN
        },
        states: 126_022,
    },
    Search {
        scenario: Scenario {
            name: "lost answers: a writer that begins again, one pruner, two plans, two forgets",
            writers: &[2],
            pruners: 1,
            plans: 2,
            forgets: 2,
            loses_answers: true,
            ..PLAIN
        },
        states: 50_339,
    },
    Search {
        scenario: Scenario {
            name: "no permission to delete: two writers, one pruner, two plans",
            writers: &[1, 1],
            pruners: 1,
            plans: 2,
            cannot_delete: true,
            ..PLAIN
        },
        states: 53_522,
    },
    Search {
        scenario: Scenario {
            name: "three chunks, one on two bases: one writer, one pruner",
            ids: 3,
            packs: &[Pack::Plain(A), Pack::Plain(B), Pack::On(C, A, 1), Pack::On(C, B, 1)],
            writers: &[1],
            pruners: 1,
            keeps_dead_packs: true,
            ..Scenario::EMPTY
        },
        states: 1_476_537,
    },
];

/// Those that take too long for every run.
pub const LARGER_SEARCHES: &[Search] = &[
    Search {
        scenario: Scenario {
            name: "plain copies: two writers, two pruners, two plans, one forget",
            writers: &[1, 1],
            pruners: 2,
            plans: 2,
            forgets: 1,
            ..PLAIN
        },
        states: 3_597_277,
    },
    Search {
        scenario: Scenario {
            name: "acknowledgements: two writers, two pruners, two plans",
            writers: &[1, 1],
            pruners: 2,
            plans: 2,
            has_acknowledgements: true,
            ..PLAIN
        },
        states: 10_692_044,
    },
    Search {
        scenario: Scenario {
            name: "acknowledgements and a base: two writers, one pruner",
            writers: &[1, 1],
            pruners: 1,
            has_acknowledgements: true,
            ..BASE
        },
        states: 7_004_585,
    },
    Search {
        scenario: Scenario {
            name: "empty repository, bases: two writers, two pruners",
            writers: &[1, 1],
            pruners: 2,
            ..Scenario::EMPTY
        },
        states: 19_990_388,
    },
];

/// A rule, a scenario in which it is missed, and what is found then.
pub struct Removal {
    pub rule: Rule,
    pub scenario: Scenario,
    pub goal: Goal,
}

const fn loses(rule: Rule, scenario: Scenario) -> Removal {
    Removal { rule, scenario, goal: Goal::LossOnly }
}

/// Every rule that can be removed.
pub const REMOVALS: &[Removal] = &[
    loses(Rule::WaitOrFence, ONE_EACH),
    loses(Rule::Rescue, ONE_EACH),
    loses(Rule::FenceByCreate, ONE_EACH),
    loses(Rule::P7AfterP6, ONE_EACH),
    loses(Rule::Holds, ACKNOWLEDGING),
    loses(Rule::W1First, ONE_EACH),
    loses(Rule::W2BeforeW4, ONE_EACH),
    loses(Rule::ExcludedSetsGrow, Scenario { ids: 2, pruners: 1, ..ACKNOWLEDGING }),
    loses(Rule::ExistenceFromListing, Scenario { writers: &[2], pruners: 2, plans: 2, ..ONE_EACH }),
    loses(Rule::OneOpenPlan, ACKNOWLEDGING),
    loses(Rule::VerdictAgreed, ACKNOWLEDGING),
    loses(Rule::TombstonesKept, ONE_EACH),
    loses(Rule::PlanNamesKept, ACKNOWLEDGING),
    loses(Rule::PackNamesUnique, ONE_EACH),
    loses(Rule::FirstStatementStays, ONE_EACH),
    loses(Rule::KnownOnlyWithBases, Scenario { packs: LOST_BASE.packs, ..ONE_EACH_WITH_BASE }),
    loses(Rule::BasesLessDeep, Scenario { keeps_dead_packs: true, writers: &[1], pruners: 1, ..CROSSED }),
    loses(Rule::AllBasesUsed, Scenario { has_acknowledgements: true, ..ONE_EACH_WITH_BASE }),
    loses(
        Rule::DepthFromClaimedCopy,
        Scenario {
            ids: 3,
            packs: &[Pack::LostPlain(A), Pack::Plain(B), Pack::On(A, B, 1)],
            ..ONE_EACH_WITH_BASE
        },
    ),
    loses(Rule::P7NeedsBases, ONE_EACH_WITH_BASE),
    loses(
        Rule::P7RemainingAlone,
        Scenario {
            ids: 3,
            packs: &[Pack::Plain(A), Pack::Plain(B), Pack::On(C, A, 1), Pack::On(C, B, 1)],
            keeps_dead_packs: true,
            ..ONE_EACH_WITH_BASE
        },
    ),
    // What is left can be read by somebody who ignores depths. For everybody else it is damage.
    Removal {
        rule: Rule::P7ByDepth,
        scenario: Scenario {
            ids: 3,
            packs: &[Pack::Plain(A), Pack::Plain(B), Pack::On(A, B, 1), Pack::On(C, A, 1)],
            keeps_dead_packs: true,
            ..ONE_EACH_WITH_BASE
        },
        goal: Goal::BrokenPromise,
    },
    Removal {
        rule: Rule::P4NeedsBases,
        scenario: Scenario { snapshots: &[ids([B])], ..ONE_EACH_WITH_BASE },
        goal: Goal::BadPlan,
    },
    Removal {
        rule: Rule::P4KeepersLeastDeep,
        scenario: Scenario { snapshots: &[ids([A, B])], pruners: 1, ..CROSSED },
        goal: Goal::BadPlan,
    },
];

/// One writer, one pruner, one plan.
const ONE_EACH: Scenario = Scenario { name: "one writer, one pruner", writers: &[1], pruners: 1, ..PLAIN };

/// The same where a base is doomed.
const ONE_EACH_WITH_BASE: Scenario =
    Scenario { name: "one writer, one pruner, a base", writers: &[1], pruners: 1, ..BASE };

/// One writer that acknowledges, two pruners, two plans.
const ACKNOWLEDGING: Scenario = Scenario {
    name: "one writer that acknowledges, two pruners",
    has_acknowledgements: true,
    pruners: 2,
    plans: 2,
    ..ONE_EACH
};
