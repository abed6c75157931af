//! One state of the world: what is stored, and what every actor remembers. About a hundred bytes.

use crate::frames::{Frame, Frames, Ids, PACKS_MAX, Packs, members};

pub const WRITERS_MAX: usize = 2;
pub const PRUNERS_MAX: usize = 2;
pub const PLANS_MAX: usize = 4;
pub const SLOTS_MAX: usize = 6;

/// A set of slots, as bits.
pub type Slots = u8;

/// What `prune/<N>.plan`, `.verdict` and `.done` say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Plan {
    pub is_created: bool,
    pub has_verdict: bool,
    pub is_done: bool,
    pub doomed: Packs,
    /// The packs that the verdict names.
    pub verdict: Packs,
}

impl Plan {
    pub fn is_open(&self) -> bool {
        self.is_created && !self.is_done
    }
}

/// Everything under one lease id L: `lease/L.*` and `snapshot/L`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Slot {
    /// `lease/L.0` exists, so a complete listing shows the lease.
    pub is_registered: bool,
    /// `lease/L.end` exists.
    pub has_ended: bool,
    /// The newest statement: it acknowledges this plan and holds these packs. 0: none.
    pub seen: u8,
    pub holds: Packs,
    /// `snapshot/L` is a snapshot that names the chunks `ids`.
    pub has_snapshot: bool,
    pub ids: Ids,
    /// `snapshot/L` is a tombstone.
    pub has_tombstone: bool,
    /// A forget record names L.
    pub is_forgotten: bool,
}

impl Slot {
    /// `live(S)` := `snapshot/S` holds a snapshot, and S is in no forget record.
    pub fn is_live(&self) -> bool {
        self.has_snapshot && !self.is_forgotten
    }

    /// Something exists at `snapshot/L`, or the writer said that it will never commit.
    pub fn is_settled(&self) -> bool {
        self.has_ended || self.has_snapshot || self.has_tombstone
    }
}

/// A listing that has begun and not ended. S3: it will contain every name that is there all the time, and any name
/// that is there at some time may be in it or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Listing {
    pub must: u8,
    pub may: u8,
}

impl Listing {
    pub fn begin(now: u8) -> Listing {
        Listing { must: now, may: now }
    }

    /// Takes notice of what is there now.
    pub fn observe(&mut self, now: u8) {
        self.must &= now;
        self.may |= now;
    }
}

/// Where a writer stands: what it does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum WriterStage {
    /// There is no such writer, or it has finished.
    #[default]
    Done,
    /// W1.
    Begin,
    /// W2.
    Registered,
    /// In the listings of W3 and W4.
    Listing,
    /// After these, where rules are removed that would have put something before them.
    Listed,
    /// W6 to W9.
    Working,
    /// W9 was carried out, but the answer was lost.
    Asking,
    /// W11.
    Committed,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Writer {
    pub stage: WriterStage,
    /// How often it began again; each time with a new lease.
    pub attempt: u8,
    /// The newest plan it has read.
    pub seen: u8,
    /// W7 is between reading the plan and stating it.
    pub owes_statement: bool,
    /// The holds to be stated.
    pub holds: Packs,
    /// The chunks its snapshot will name.
    pub claimed: Ids,
    /// Packs found by W3 and W4, and its own.
    pub known: Packs,
    pub excluded: Packs,
    pub used: Packs,
    /// Its packs that no index object describes yet.
    pub unindexed: Packs,
    pub listing: Listing,
}

/// Where a pruner stands: what it does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum PrunerStage {
    /// P1.
    #[default]
    Idle,
    /// In the listings of P2 and P3.
    Scanning,
    /// P5: has stored a rewritten copy, which is not indexed yet.
    Rewritten,
    /// P5: about to create the plan.
    Planned,
    /// P6: in the listing of leases.
    ListingLeases,
    /// P6: settles one lease after another.
    Settling,
    /// In the listings of P7.
    Rechecking,
    /// P9, only where P7 was put before P6.
    Decided,
    /// P10 to P13.
    DeletingIndex,
    DeletingPacks,
    Ending,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pruner {
    pub stage: PrunerStage,
    /// The number of the plan it works on.
    pub plan: u8,
    /// P5: the base of the plan: what the live snapshots name.
    pub base: Ids,
    /// P5: what it wants to doom. From P10 on: what it deletes.
    pub packs: Packs,
    /// P6, P7: what it spares.
    pub spared: Packs,
    /// P5: its rewritten copy that no index object describes yet.
    pub unindexed: Packs,
    /// P6: listed leases that are not settled yet.
    pub unsettled: Slots,
    /// P3, P7: the listing of packs.
    pub packs_listing: Listing,
    /// P2, P7: the listing of live snapshots; in P6 that of leases.
    pub slots_listing: Listing,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct State {
    /// Facts about packs, true for ever.
    pub frames: Frames,
    /// `data/`: which packs exist.
    pub stored: Packs,
    /// `index/`: which packs are described there. One index object a pack.
    pub indexed: Packs,
    pub plans: [Plan; PLANS_MAX],
    /// Those of the first writer, then those of the second, then snapshots from before.
    pub slots: [Slot; SLOTS_MAX],
    pub writers: [Writer; WRITERS_MAX],
    pub pruners: [Pruner; PRUNERS_MAX],
    /// How many snapshots may still be forgotten.
    pub forgets_left: u8,
    /// How many packs may still be rewritten.
    pub rewrites_left: u8,
}

impl State {
    /// The highest number under `prune/`, 0 if there is none.
    pub fn highest_plan(&self) -> u8 {
        self.plans.iter().filter(|plan| plan.is_created).count() as u8
    }

    /// Plan `number`, which counts from 1.
    pub fn plan(&self, number: u8) -> &Plan {
        &self.plans[usize::from(number) - 1]
    }

    pub fn plan_mut(&mut self, number: u8) -> &mut Plan {
        &mut self.plans[usize::from(number) - 1]
    }

    /// The highest plan, if it is open.
    pub fn open_plan(&self) -> Option<u8> {
        let highest = self.highest_plan();
        (highest > 0 && self.plan(highest).is_open()).then_some(highest)
    }

    /// The slots for which `is_in` says so.
    pub fn slots_where(&self, is_in: impl Fn(&Slot) -> bool) -> Slots {
        (0..SLOTS_MAX).filter(|&slot| is_in(&self.slots[slot])).fold(0, |set, slot| set | 1 << slot)
    }

    /// The chunks that the snapshots in `slots` name.
    pub fn ids_named(&self, slots: Slots) -> Ids {
        members(slots).fold(0, |ids, slot| ids | self.slots[slot].ids)
    }

    /// The places that hold a pack or the memory of one.
    pub fn places_taken(&self) -> Packs {
        (0..PACKS_MAX)
            .filter(|&place| self.frames[place] != Frame::NONE)
            .fold(0, |set, place| set | 1 << place)
    }

    /// Every set of packs in the state.
    pub fn for_each_set_of_packs(&mut self, mut visit: impl FnMut(&mut Packs)) {
        visit(&mut self.stored);
        visit(&mut self.indexed);
        for plan in &mut self.plans {
            visit(&mut plan.doomed);
            visit(&mut plan.verdict);
        }
        for slot in &mut self.slots {
            visit(&mut slot.holds);
        }
        for writer in &mut self.writers {
            let Writer { holds, known, excluded, used, unindexed, listing, .. } = writer;
            for set in [holds, known, excluded, used, unindexed, &mut listing.must, &mut listing.may] {
                visit(set);
            }
        }
        for pruner in &mut self.pruners {
            let Pruner { packs, spared, unindexed, packs_listing: listing, .. } = pruner;
            for set in [packs, spared, unindexed, &mut listing.must, &mut listing.may] {
                visit(set);
            }
        }
    }
}
