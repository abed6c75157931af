//! The steps of the protocol by their names in `docs/design.md`, and how a history prints them.

use std::fmt;

use crate::frames::{Frame, Ids, Packs, members};
use crate::state::Slots;

/// Who takes a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    Writer(usize),
    Pruner(usize),
    /// Whoever runs `forget`.
    Owner,
}

/// One step of one actor. Crashes need no step of their own: an actor that never moves again has crashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// W1: create `lease/L.0`.
    W1Register { slot: usize },
    /// W2: list `prune/`; begin to list `index/`, `data/`, `meta/`.
    W2ReadPlans { seen: u8, excluded: Packs },
    /// W3, W4: those listings end. W5: create `lease/L.1`.
    W4ListPacks { known: Packs },
    /// W6: a chunk is Known.
    W6ClaimKnown { id: usize, used: Packs },
    /// W6: a chunk is Ours: used, and then created.
    W6StorePack { place: usize, frame: Frame, used: Packs },
    /// W7: list `prune/`, exclude what a new open plan dooms, compute the holds.
    W7ReadPlan { seen: u8, holds: Packs },
    /// W7: create `lease/L.k`.
    W7State { seen: u8, holds: Packs },
    /// W7, W8: create index objects for the packs finished so far.
    W8Index { packs: Packs },
    /// W9: create `snapshot/L`: created.
    W9Commit { ids: Ids },
    /// W9: created, but the answer is lost.
    W9AnswerLost { ids: Ids },
    /// W9 again after a lost answer: our own bytes are there.
    W9Confirmed,
    /// W10: fenced, or killed: begin again with a new lease, or give up.
    W10BeginAgain,
    /// W11: delete `lease/L.*`.
    W11Unregister,
    /// W11 without the permission to delete: create `lease/L.end`.
    W11End,

    /// P1: an open plan exists: continue it at P6; begin to list `lease/`.
    P1Continue { plan: u8 },
    /// P1: choose the next number; begin the listings of P2 and P3.
    P1Begin { plan: u8 },
    /// P2, P3: the listings end. P4: fates.
    P4Decide { live: Slots, listed: Packs, doomed: Packs },
    /// P4 with a rewrite, and the first half of P5: store the copy.
    P5Rewrite { from: usize, place: usize, doomed: Packs },
    /// P5: create the index object of the copy.
    P5Index { packs: Packs },
    /// P5: create `prune/N.plan`; begin to list `lease/`.
    P5CreatePlan { plan: u8, base: Ids, doomed: Packs },
    /// P5: the name exists: back to P1.
    P5Exists { plan: u8 },
    /// P6: the listing of `lease/` ends.
    P6ListLeases { listed: Slots },
    /// P6: this lease has ended, or its snapshot or tombstone exists.
    P6Settled { slot: usize },
    /// P6: this lease acknowledged the plan; its holds are collected.
    P6Acknowledged { slot: usize, holds: Packs },
    /// P6: create a tombstone at `snapshot/L`.
    P6Fence { slot: usize },
    /// P6 without waiting or fencing: this lease is passed over.
    P6Ignore { slot: usize },
    /// P7: the listings of snapshots and packs end, what is needed is spared.
    P7Recheck { live: Slots, listed: Packs, spared: Packs },
    /// P7 as above, and P9: create `prune/N.verdict`.
    P9CreateVerdict { live: Slots, listed: Packs, verdict: Packs },
    /// P9: the name exists: adopt what it says.
    P9Adopt { verdict: Packs },
    /// P10: delete the verdict's index objects.
    P10DeleteIndex { packs: Packs },
    /// P11: delete one of its packs.
    P11DeletePack { place: usize },
    /// P12: delete forgotten snapshots, leases of ended and fenced writers.
    P12CleanUp,
    /// P13: create `prune/N.done`.
    P13Done { plan: u8 },
    /// Stops: waits for a host, is killed, or has nothing to do. A later run begins at P1.
    Stop,

    /// F2: create a forget record.
    F2Forget { slot: usize },
}

/// How many kinds of steps the protocol has. Two more exist only where rules are removed.
pub const KINDS: usize = 33;

fn packs(set: Packs) -> String {
    let names: Vec<String> = members(set).map(|place| format!("p{place}")).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
}

fn slots(set: Slots) -> String {
    let names: Vec<String> = members(set).map(|slot| format!("L{slot}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// The letter of a chunk.
pub fn chunk(id: usize) -> char {
    char::from(b'A' + id as u8)
}

fn chunks(ids: Ids) -> String {
    if ids == 0 { "nothing".to_owned() } else { members(ids).map(chunk).collect() }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.base() {
            None => write!(f, "{} plain", chunk(self.id())),
            Some(base) => write!(f, "{} on {} at depth {}", chunk(self.id()), chunk(base), self.depth()),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Actor::Writer(writer) => write!(f, "writer {}", writer + 1),
            Actor::Pruner(pruner) => write!(f, "pruner {}", pruner + 1),
            Actor::Owner => write!(f, "owner   "),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Step::W1Register { .. }
            | Step::W2ReadPlans { .. }
            | Step::W4ListPacks { .. }
            | Step::W6ClaimKnown { .. }
            | Step::W6StorePack { .. }
            | Step::W7ReadPlan { .. }
            | Step::W7State { .. }
            | Step::W8Index { .. }
            | Step::W9Commit { .. }
            | Step::W9AnswerLost { .. }
            | Step::W9Confirmed
            | Step::W10BeginAgain
            | Step::W11Unregister
            | Step::W11End => self.show_writer(f),
            _ => self.show_pruner(f),
        }
    }
}

impl Step {
    fn show_writer(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Step::W1Register { slot } => write!(f, "W1  registers lease L{slot}"),
            Step::W2ReadPlans { seen: 0, .. } => write!(f, "W2  finds no plan; begins to list packs"),
            Step::W2ReadPlans { seen, excluded } => {
                write!(f, "W2  reads plan {seen}, excludes {}; begins to list packs", packs(excluded))
            }
            Step::W4ListPacks { known } => write!(f, "W4  has listed packs: {}; W5 says so", packs(known)),
            Step::W6ClaimKnown { id, used } => {
                write!(f, "W6  chunk {} is Known, used: {}", chunk(id), packs(used))
            }
            Step::W6StorePack { place, frame, used } => {
                write!(f, "W6  stores {frame} as p{place}, used: {}", packs(used))
            }
            Step::W7ReadPlan { seen, holds } => {
                write!(f, "W7  reads plan {seen}, will hold {}", packs(holds))
            }
            Step::W7State { seen, holds } => {
                write!(f, "W7  acknowledges plan {seen}, holds {}", packs(holds))
            }
            Step::W8Index { packs: set } => write!(f, "W8  creates the index object of {}", packs(set)),
            Step::W9Commit { ids } => write!(f, "W9  creates its snapshot of {}", chunks(ids)),
            Step::W9AnswerLost { ids } => {
                write!(f, "W9  creates its snapshot of {}, the answer is lost", chunks(ids))
            }
            Step::W9Confirmed => write!(f, "W9  again: finds its snapshot"),
            Step::W10BeginAgain => write!(f, "W10 is fenced or dies"),
            Step::W11Unregister => write!(f, "W11 deletes its lease"),
            _ => write!(f, "W11 says that it has ended"),
        }
    }

    fn show_pruner(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Step::P1Continue { plan } => write!(f, "P1  finds plan {plan} open; P6 begins to list leases"),
            Step::P1Begin { plan } => write!(f, "P1  will make plan {plan}; begins to list"),
            Step::P4Decide { live, listed, doomed } => {
                write!(f, "P4  live {}, packs {}: dooms {}", slots(live), packs(listed), packs(doomed))
            }
            Step::P5Rewrite { from, place, doomed } => {
                write!(f, "P5  rewrites p{from} as p{place}; dooms {}", packs(doomed))
            }
            Step::P5Index { packs: set } => write!(f, "P5  creates the index object of {}", packs(set)),
            Step::P5CreatePlan { plan, base, doomed } => write!(
                f,
                "P5  creates plan {plan} for {}, doomed: {}; P6 begins to list leases",
                chunks(base),
                packs(doomed)
            ),
            Step::P5Exists { plan } => write!(f, "P5  plan {plan} exists: begins again"),
            Step::P6ListLeases { listed } => write!(f, "P6  has listed leases: {}", slots(listed)),
            Step::P6Settled { slot } => write!(f, "P6  L{slot} is settled"),
            Step::P6Acknowledged { slot, holds } => {
                write!(f, "P6  L{slot} has acknowledged and holds {}", packs(holds))
            }
            Step::P6Fence { slot } => write!(f, "P6  fences L{slot} with a tombstone"),
            Step::P6Ignore { slot } => write!(f, "P6  passes over L{slot}"),
            Step::P7Recheck { live, listed, spared } => {
                write!(f, "P7  live {}, packs {}: spares {}", slots(live), packs(listed), packs(spared))
            }
            Step::P9CreateVerdict { live, listed, verdict } => write!(
                f,
                "P7  live {}, packs {}; P9 creates the verdict: {}",
                slots(live),
                packs(listed),
                packs(verdict)
            ),
            Step::P9Adopt { verdict } => write!(f, "P9  adopts the verdict: {}", packs(verdict)),
            Step::P10DeleteIndex { packs: set } => {
                write!(f, "P10 deletes the index object of {}", packs(set))
            }
            Step::P11DeletePack { place } => write!(f, "P11 deletes p{place}"),
            Step::P12CleanUp => write!(f, "P12 deletes forgotten snapshots and settled leases"),
            Step::P13Done { plan } => write!(f, "P13 plan {plan} is done"),
            Step::F2Forget { slot } => write!(f, "F2  forgets the snapshot of L{slot}"),
            _ => write!(f, "stops"),
        }
    }
}
