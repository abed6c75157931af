//! The rules of the protocol that can be switched off one at a time, to see that the search notices.

/// One rule. Its text is what the design says; what happens without it is told where the rule is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// P6: an unsettled lease makes prune wait, or is fenced.
    WaitOrFence,
    /// P7: what a live snapshot needs is spared.
    Rescue,
    /// P6 and W9: tombstone and snapshot are creates of one name, so only one of them can happen.
    FenceByCreate,
    /// P7 looks after P6 settled every lease.
    P7AfterP6,
    /// P6: what an acknowledgement holds is spared.
    Holds,
    /// W1: a writer registers before it reads anything.
    W1First,
    /// W2: plans are read before packs are listed.
    W2BeforeW4,
    /// W7: what was excluded stays excluded.
    ExcludedSetsGrow,
    /// W4: a pack exists because a listing shows it, not because the index describes it.
    ExistenceFromListing,
    /// P1: no new plan while one is open.
    OneOpenPlan,
    /// P9: all pruners of a plan carry out one verdict.
    VerdictAgreed,
    /// P12: tombstones are never deleted.
    TombstonesKept,
    /// P5: the name of a plan is taken for ever.
    PlanNamesKept,
    /// W6, P5: the name of a pack is never used again.
    PackNamesUnique,
    /// W6: a copy is Known only if its base is present.
    KnownOnlyWithBases,
    /// W6, P4, P7: a base counts only if it is less deep.
    BasesLessDeep,
    /// W6: a claim marks the packs of all bases below.
    AllBasesUsed,
    /// W6: the depth of a new frame counts from the copy that was claimed.
    DepthFromClaimedCopy,
    /// P7: needed includes bases.
    P7NeedsBases,
    /// P7: the remaining packs are taken alone.
    P7RemainingAlone,
    /// P7: a remaining copy must be at most as deep as the least deep one now.
    P7ByDepth,
    /// P4: needed includes bases.
    P4NeedsBases,
    /// P4: a keeper is a copy of least depth.
    P4KeepersLeastDeep,
    /// W7: the first statement of a lease stays until the end.
    FirstStatementStays,
}

impl Rule {
    /// How many rules there are.
    pub const COUNT: usize = Rule::FirstStatementStays as usize + 1;
}

/// The rules that hold in one search.
#[derive(Clone, Copy)]
pub struct Rules(u32);

impl Rules {
    /// All of them: the protocol.
    pub const ALL: Rules = Rules(u32::MAX);

    /// All but one.
    pub const fn without(rule: Rule) -> Rules {
        Rules(!(1 << rule as u32))
    }

    /// Whether this rule holds.
    pub const fn have(self, rule: Rule) -> bool {
        self.0 & 1 << rule as u32 != 0
    }
}
