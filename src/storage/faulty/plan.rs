//! Which call goes wrong, how, and what follows.

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done; an error is reported.
    Before,
    /// Half of it is done, as far as the contract allows, and an error is reported: `create` and `replace` leave an
    /// unfinished file in `tmp/`, `list` visits the first half, `get_range` appends the first half.
    Torn,
    /// All of it is done, but the answer is lost: an error is reported.
    After,
    /// Nothing is done; the disk is full.
    OutOfSpace,
    /// Nothing is done; it is not permitted.
    Denied,
    /// `create` and `replace` store the first half under the name, and report an error. Only a storage that breaks
    /// its promises does this.
    TornVisibly,
    /// `get`, `get_range` and `map` succeed with this bit flipped, counted from the first, modulo the length.
    FlippedBit(u64),
    /// `list` succeeds after visiting the first half only.
    ListingCut,
    /// `list` succeeds with what was there when the plan was set.
    ListingStale,
}

/// What follows a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Every later call fails and does nothing: the process is dead, or the disk is gone.
    Dead,
    /// All later calls work.
    Fine,
    /// The same again, at every later call that counts.
    Same,
}

/// Which calls count towards [`FaultPlan::at_call`], and can be hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Every call that can fail.
    All,
    /// `create`, `replace`, `delete`.
    Changes,
    /// `get`, `get_range`, `map`, `len`.
    Reads,
    /// `list`.
    Lists,
}

/// One fault. A fault that means nothing for the call that it hits changes nothing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    /// Which calls are counted.
    pub calls: Calls,
    /// The call that goes wrong: 0 is the first one that counts after the plan was set.
    pub at_call: u64,
    /// What happens there.
    pub fault: Fault,
    /// What happens from then on.
    pub then: Afterwards,
}

impl FaultPlan {
    /// The process dies at its `at_call`-th call of any kind, with `fault` as its last deed.
    pub fn death(at_call: u64, fault: Fault) -> Self {
        Self { calls: Calls::All, at_call, fault, then: Afterwards::Dead }
    }
}
