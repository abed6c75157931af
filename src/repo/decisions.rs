//! What prunes have decided: plans, verdicts, bodies, ends, and tombstones (docs/format.md, "Prune decisions").
//!
//! The name of a decision is taken for ever by whoever creates it first. Everybody else adopts what is there, so
//! somebody who slept through a prune can only repeat what was decided.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use crate::format::body::Body;
use crate::format::container::ObjectKind;
use crate::format::lease::SeenPlan;
use crate::format::plan::{BodyRef, Done, Plan, PruneCounts, Verdict, base_digest};
use crate::format::snapshot::Tombstone;
use crate::format::{Tagged, parity};
use crate::hash::payload_id;
use crate::id::{BodyId, IndexObjectId, PackId, SnapshotId};
use crate::index::{Observed, PackKind};
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::names::Named;
use crate::repo::{Repo, create_resolved, names, sealing, tags};
use crate::storage::{Created, ObjectName, StorageError};

/// Objects of prunes are sealed in the name of no lease.
const NO_LEASE: SnapshotId = SnapshotId::new([0; 16]);

/// What a listing showed of the decisions of one number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecisionState {
    /// The plan is there.
    pub has_plan: bool,
    /// The verdict is there.
    pub has_verdict: bool,
    /// All is done.
    pub is_done: bool,
}

/// What of an open prune cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StuckPrune {
    /// Its plan; nothing is decided yet.
    Plan,
    /// Its verdict, which somebody may have read before.
    Verdict,
}

/// A decision with its long lists.
#[derive(Debug, Clone)]
pub struct Decided<D> {
    /// The decision itself.
    pub decision: D,
    /// BLAKE3 of its payload.
    pub hash: [u8; 32],
    /// What it is about.
    pub body: Body,
}

impl Body {
    /// All packs.
    pub fn packs(&self) -> impl Iterator<Item = (PackKind, PackId)> {
        let data = self.data_packs.iter().map(|id| (PackKind::Data, *id));
        data.chain(self.meta_packs.iter().map(|id| (PackKind::Meta, *id)))
    }

    /// The body that names these packs and index objects.
    pub fn of(packs: &BTreeSet<(PackKind, PackId)>, index_objects: &BTreeSet<IndexObjectId>) -> Self {
        let of_kind =
            |wanted| packs.iter().filter(move |(kind, _)| *kind == wanted).map(|(_, id)| *id).collect();
        Self::new(of_kind(PackKind::Data), of_kind(PackKind::Meta), index_objects.iter().copied().collect())
    }
}

impl Repo {
    /// All decisions, by number, from a listing made now.
    pub fn list_decisions(&self) -> Result<BTreeMap<u64, DecisionState>, RepoError> {
        let mut all: BTreeMap<u64, DecisionState> = BTreeMap::new();
        self.storage().list(names::PRUNE, &mut |listed| match names::parse(&listed.name) {
            Some(Named::Plan(number)) => all.entry(number).or_default().has_plan = true,
            Some(Named::Verdict(number)) => all.entry(number).or_default().has_verdict = true,
            Some(Named::Done(number)) => all.entry(number).or_default().is_done = true,
            _ => {}
        })?;
        Ok(all)
    }

    /// Reads a plan and its body. Without its body nobody can know what it dooms.
    pub fn read_plan(&self, number: u64) -> Result<Decided<Plan>, RepoError> {
        let (plan, hash) = self.read_decision(&names::plan(number), Plan::decode)?;
        self.decided(plan, hash, names::plan(number), |plan| (plan.number == number).then_some(plan.body))
    }

    /// The hash of the payload of a plan, without its body, which a finished prune may have deleted.
    pub fn plan_hash(&self, number: u64) -> Result<[u8; 32], RepoError> {
        self.read_decision(&names::plan(number), Plan::decode).map(|(_, hash)| hash)
    }

    /// Reads a verdict and its body.
    pub fn read_verdict(&self, number: u64) -> Result<Decided<Verdict>, RepoError> {
        let (verdict, hash) = self.read_decision(&names::verdict(number), Verdict::decode)?;
        self.decided(verdict, hash, names::verdict(number), |verdict| {
            (verdict.number == number).then_some(verdict.body)
        })
    }

    /// The bodies that plan and verdict of this number name, as far as they can be read.
    pub fn body_ids(&self, number: u64) -> Result<Vec<BodyId>, RepoError> {
        let plan = self.read_decision(&names::plan(number), Plan::decode).map(|(plan, _)| plan.body.id);
        let verdict = self.read_decision(&names::verdict(number), Verdict::decode);
        let found = [plan, verdict.map(|(verdict, _)| verdict.body.id)];
        let is_fatal = |error: &RepoError| !error.is_damage();
        found.into_iter().filter(|found| found.as_ref().err().is_none_or(is_fatal)).collect()
    }

    /// All bodies, from a listing made now.
    pub fn list_bodies(&self) -> Result<Vec<BodyId>, RepoError> {
        let mut bodies = Vec::new();
        self.storage().list(names::BODY, &mut |listed| {
            if let Some(Named::Body(id)) = names::parse(&listed.name) {
                bodies.push(id);
            }
        })?;
        Ok(bodies)
    }

    /// Bodies that were stored so long ago, by the times of the storage and the clock of this computer.
    pub fn list_old_bodies(&self, age: Duration) -> Result<Vec<BodyId>, RepoError> {
        let now = self.clock().now().seconds;
        let mut old = Vec::new();
        self.storage().list(names::BODY, &mut |listed| {
            let is_old = u64::try_from(now.saturating_sub(listed.stored_at.seconds));
            if let (Some(Named::Body(id)), true) =
                (names::parse(&listed.name), is_old.is_ok_and(|it| it >= age.as_secs()))
            {
                old.push(id);
            }
        })?;
        Ok(old)
    }

    /// Remembers on this computer that there was a prune of this number.
    pub fn witness_prune(&self, number: u64) -> Result<(), RepoError> {
        self.witness(&Observed { prune: Some(number), ..self.nothing_observed() })
    }

    /// Creates a plan. [`Created::Exists`] if another prune was faster.
    pub fn create_plan(&self, mut plan: Plan) -> Result<Created, RepoError> {
        let name = names::plan(plan.number);
        self.create_decision(&name, &mut plan)
    }

    /// Creates a verdict. [`Created::Exists`] if another prune was faster: its verdict counts.
    pub fn create_verdict(&self, mut verdict: Verdict) -> Result<Created, RepoError> {
        let name = names::verdict(verdict.number);
        self.create_decision(&name, &mut verdict)
    }

    /// Creates a verdict on `plan`, the hash of one, that deletes nothing: that is always right.
    pub fn create_empty_verdict(&self, number: u64, plan: [u8; 32]) -> Result<Created, RepoError> {
        let body = self.create_body(&Body::of(&BTreeSet::new(), &BTreeSet::new()))?;
        self.create_verdict(Verdict {
            version: 1,
            number,
            plan,
            body,
            base: base_digest(&BTreeSet::new()),
            counts: PruneCounts::default(),
            extensions: Vec::new(),
            tag: [0; 32],
        })
    }

    /// States that all that a verdict names is deleted.
    pub fn create_done(&self, number: u64, verdict: [u8; 32]) -> Result<Created, RepoError> {
        let mut done = Done { version: 1, number, verdict, extensions: Vec::new(), tag: [0; 32] };
        self.create_decision(&names::done(number), &mut done)
    }

    /// Puts a tombstone in the place of the snapshot of a lease. [`Created::Exists`] if there is a snapshot, or a
    /// tombstone, already; either settles the lease.
    pub fn create_tombstone(
        &self,
        lease: SnapshotId,
        plan: u64,
        reason: String,
    ) -> Result<Created, RepoError> {
        let mut tombstone = Tombstone { version: 1, lease, plan, reason, tag: [0; 32] };
        self.create_decision(&names::snapshot(&lease), &mut tombstone)
    }

    /// Stores the lists of a decision.
    pub fn create_body(&self, body: &Body) -> Result<BodyRef, RepoError> {
        let plain = body.encode().map_err(RepoError::Unstorable)?;
        let mut payload =
            sealing::seal_object(&self.keys, self.id, ObjectKind::Body, None, NO_LEASE, &plain)?;
        let id = BodyId::new(payload_id(&payload));
        if self.config.parity {
            parity::append(&mut payload);
        }
        create_resolved(&**self.storage(), &names::body(&id), &payload)?;
        Ok(BodyRef { id, digest: Body::digest(&plain) })
    }

    /// What a writer must keep away from, and what it may say that it has seen: the newest plan, and the packs that
    /// it dooms unless it is done.
    pub(super) fn newest_plan(&self) -> Result<(Option<SeenPlan>, HashSet<PackId>), RepoError> {
        let all = self.list_decisions()?;
        let Some((number, state)) = all.last_key_value().map(|(number, state)| (*number, *state)) else {
            return Ok((None, HashSet::new()));
        };
        if state.is_done {
            let hash = self.hash_of_done_plan(number)?;
            return Ok((Some(SeenPlan { number, hash }), HashSet::new()));
        }
        match self.read_plan(number) {
            Ok(plan) => {
                let doomed = plan.body.packs().map(|(_, id)| id).collect();
                Ok((Some(SeenPlan { number, hash: plan.hash }), doomed))
            }
            // Done, and its body deleted, since the listing was made: the next listing says so.
            Err(RepoError::Storage(StorageError::Missing { .. })) if self.is_done(number)? => {
                Ok((Some(SeenPlan { number, hash: self.hash_of_done_plan(number)? }), HashSet::new()))
            }
            Err(RepoError::Damaged { .. }) => Err(RepoError::PruneUnderWay { number }),
            Err(RepoError::Storage(StorageError::Missing { .. })) => {
                Err(RepoError::PlanWithoutLists { number })
            }
            Err(error) => Err(error),
        }
    }

    /// The hash of a plan that is done. It decides nothing any more, so damage of the plan stops nobody: then it is the
    /// one that the verdict names, or zero.
    fn hash_of_done_plan(&self, number: u64) -> Result<[u8; 32], RepoError> {
        let from_verdict = || {
            let verdict = self.read_decision(&names::verdict(number), Verdict::decode);
            verdict.map(|(verdict, _)| verdict.plan)
        };
        match self.plan_hash(number) {
            Err(error) if error.is_damage() => match from_verdict() {
                Err(error) if error.is_damage() => Ok([0; 32]),
                outcome => outcome,
            },
            outcome => outcome,
        }
    }

    /// What of a prune that is not done cannot be read, so that neither it nor writers can go on.
    pub fn stuck_prune(&self, number: u64, state: DecisionState) -> Result<Option<StuckPrune>, RepoError> {
        if state.is_done || self.is_done(number)? {
            return Ok(None);
        }
        let (read, stuck) = match state.has_verdict {
            true => (self.read_verdict(number).map(drop), StuckPrune::Verdict),
            false => (self.read_plan(number).map(drop), StuckPrune::Plan),
        };
        match read {
            Ok(()) => Ok(None),
            Err(error) if error.is_damage() => Ok(Some(stuck)),
            Err(error) => Err(error),
        }
    }

    /// Closes a prune whose plan or verdict cannot be read: nothing more is deleted because of it, for ever.
    ///
    /// Without a verdict one is created that deletes nothing, so that nobody who still has the plan can decide
    /// otherwise. A verdict that is there and cannot be read may still be carried out by somebody who has read it, so
    /// the caller must know that nobody does. Returns whether there was anything to close.
    pub fn close_decision(&self, number: u64) -> Result<bool, RepoError> {
        let Some(state) = self.list_decisions()?.get(&number).copied() else { return Ok(false) };
        if state.is_done {
            return Ok(false);
        }
        if !state.has_verdict {
            self.create_empty_verdict(number, self.hash_of_stored(&names::plan(number))?)?;
        }
        let verdict = match self.read_verdict(number) {
            // Somebody else was faster, and decided something: that is for a prune to carry out.
            Ok(verdict) if verdict.decision.counts != PruneCounts::default() => return Ok(false),
            Ok(verdict) => verdict.hash,
            Err(error) if error.is_damage() => self.hash_of_stored(&names::verdict(number))?,
            Err(error) => return Err(error),
        };
        self.create_done(number, verdict)?;
        // Nobody needs the lists of what is done; a body that stays is removed by a later prune.
        for id in self.body_ids(number)? {
            self.storage().delete(&names::body(&id))?;
        }
        Ok(true)
    }

    /// BLAKE3 of what is left of an object; zero where nothing is.
    fn hash_of_stored(&self, name: &ObjectName) -> Result<[u8; 32], RepoError> {
        match self.storage().get(name) {
            Ok(stored) => Ok(payload_id(sealing::payload_of(&stored).unwrap_or(&stored))),
            Err(StorageError::Missing { .. } | StorageError::Failed { .. }) => Ok([0; 32]),
            Err(error) => Err(error.into()),
        }
    }

    fn is_done(&self, number: u64) -> Result<bool, RepoError> {
        Ok(self.list_decisions()?.get(&number).is_some_and(|state| state.is_done))
    }

    fn create_decision<D: Tagged>(&self, name: &ObjectName, decision: &mut D) -> Result<Created, RepoError> {
        tags::tag(&self.keys, decision).map_err(RepoError::Unstorable)?;
        let plain = decision.encode().map_err(RepoError::Unstorable)?;
        let created = self.create_sealed(D::KIND, name, NO_LEASE, &plain)?;
        if created == Created::Created {
            // The copy decides nothing; a failure to write it takes nothing back.
            let _ = self.create_copy(name);
        }
        Ok(created)
    }

    fn read_decision<D: Tagged>(
        &self,
        name: &ObjectName,
        decode: fn(&[u8]) -> Result<D, crate::format::FormatError>,
    ) -> Result<(D, [u8; 32]), RepoError> {
        self.read_control(name, |stored| {
            let payload = sealing::payload_of(stored).ok_or(DamageReason::Short)?;
            let hash = payload_id(payload);
            let plain = sealing::open_object(&self.keys, self.id, D::KIND, Some(name.as_str()), stored)?;
            let decision = decode(&plain)?;
            tags::verify(&self.keys, &decision)?;
            Ok((decision, hash))
        })
    }

    fn decided<D>(
        &self,
        decision: D,
        hash: [u8; 32],
        name: ObjectName,
        body_of: impl Fn(&D) -> Option<BodyRef>,
    ) -> Result<Decided<D>, RepoError> {
        let damaged = |name: &ObjectName, source| RepoError::Damaged { name: name.to_string(), source };
        let body = body_of(&decision).ok_or_else(|| damaged(&name, DamageReason::Id))?;
        let body_name = names::body(&body.id);
        let stored = self.storage().get(&body_name)?;
        let body = self.open_body(&body, &stored).map_err(|source| damaged(&body_name, source))?;
        Ok(Decided { decision, hash, body })
    }

    fn open_body(&self, body: &BodyRef, stored: &[u8]) -> Result<Body, DamageReason> {
        let whole = sealing::payload_of(stored).filter(|payload| payload_id(payload) == *body.id.bytes());
        let mended = match whole {
            Some(_) => None,
            None => Some(parity::repair(stored, None, body.id.bytes()).map_err(|_| DamageReason::Id)?),
        };
        let payload = mended.as_deref().unwrap_or(stored);
        let plain = sealing::open_object(&self.keys, self.id, ObjectKind::Body, None, payload)?;
        if Body::digest(&plain) != body.digest {
            return Err(DamageReason::Id);
        }
        Ok(Body::decode(&plain)?)
    }
}
