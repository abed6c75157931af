//! P6 to P13: carries out the plan that is open, whoever made it.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::body::Body;
use crate::format::plan::{Plan, PruneCounts, Verdict, base_digest};
use crate::id::{IndexObjectId, PackId, SnapshotId};
use crate::prune::look::Look;
use crate::prune::settle::{self, Settled};
use crate::prune::{PackName, PruneError, Run, look};
use crate::repo::{Decided, DecisionState, RepoError, SnapshotList, name_of, names};
use crate::storage::Created;

/// Of the copies of an id, the least deep ones.
#[derive(Debug, Clone, Copy, Default)]
struct Depths {
    /// In a doomed pack: how deep, and which pack.
    doomed: Option<(u8, PackName)>,
    /// In any other.
    other: Option<u8>,
}

impl Run<'_> {
    /// Whether the plan is done; if not, the report says who is waited for.
    pub(super) fn carry_out(&mut self, number: u64, state: DecisionState) -> Result<bool, PruneError> {
        if !state.has_plan && !state.has_verdict {
            let name = names::plan(number);
            return Err(RepoError::from(crate::storage::StorageError::Missing { name }).into());
        }
        let verdict = match self.verdict(number, state) {
            Ok(Some(verdict)) => verdict,
            Ok(None) => return Ok(false),
            // Somebody else has finished it, and deleted its lists.
            Err(PruneError::Repo(error)) if is_missing(&error) && self.is_done(number)? => return Ok(true),
            Err(error) => return Err(error),
        };
        self.observer.phase("deleting");
        self.delete(&verdict)?;
        self.finish(number, &verdict)?;
        Ok(true)
    }

    /// P6 to P9: the verdict that there is, or is now; none if a writer has to be waited for.
    fn verdict(&mut self, number: u64, state: DecisionState) -> Result<Option<Decided<Verdict>>, PruneError> {
        if state.has_verdict {
            return Ok(Some(self.repo.read_verdict(number)?));
        }
        let plan = match self.repo.read_plan(number) {
            Ok(plan) => plan,
            Err(RepoError::Damaged { name, .. }) if name.starts_with(names::BODY) => {
                return Ok(Some(self.decide_nothing(number, &name)?));
            }
            // Of a newer version, perhaps, which knows what to do with it.
            Err(RepoError::Damaged { .. }) => return Err(RepoError::PruneUnderWay { number }.into()),
            Err(error) if is_missing(&error) && !self.is_done(number)? => {
                return Ok(Some(self.decide_nothing(number, "its list")?));
            }
            Err(error) => return Err(error.into()),
        };
        self.observer.phase("asking who is at work");
        match settle::leases(self.repo, number, &plan.hash, self.options)? {
            Settled::Not(waiting) => {
                self.report.waiting = waiting;
                Ok(None)
            }
            Settled::All(holds) => {
                self.check_interrupted()?;
                self.decide(&plan, &holds).map(Some)
            }
        }
    }

    /// Nobody knows what the plan dooms, so nothing is.
    fn decide_nothing(&self, number: u64, what: &str) -> Result<Decided<Verdict>, PruneError> {
        self.observer.note(&format!("{what} cannot be read, so prune {number} deletes nothing"));
        self.repo.create_empty_verdict(number, self.repo.plan_hash(number)?)?;
        Ok(self.repo.read_verdict(number)?)
    }

    fn is_done(&self, number: u64) -> Result<bool, PruneError> {
        Ok(self.repo.list_decisions()?.get(&number).is_some_and(|state| state.is_done))
    }

    /// P7 to P9.
    fn decide(
        &mut self,
        plan: &Decided<Plan>,
        holds: &BTreeSet<PackId>,
    ) -> Result<Decided<Verdict>, PruneError> {
        self.observer.phase("looking again");
        let number = plan.decision.number;
        let doomed: BTreeMap<_, _> = plan.body.packs().map(|name| (name, 0)).collect();
        let look = look::now(self.repo, &doomed, self.observer)?;
        let mut spared = look.needed_after_all()?;
        spared.extend(self.shallower(&look, &doomed)?);
        spared.extend(doomed.keys().filter(|(_, id)| holds.contains(id)));
        self.report.packs_spared += spared.len() as u64;
        let going: BTreeSet<_> = doomed.into_keys().filter(|name| !spared.contains(name)).collect();
        let index_objects: BTreeSet<_> = plan.body.index_objects.iter().copied().collect();
        self.describe_survivors(&look, &going, &index_objects)?;
        let bytes = going.iter().filter_map(|name| look.listing.packs.get(name)).sum();
        let body = self.repo.create_body(&Body::of(&going, &index_objects))?;
        let created = self.repo.create_verdict(Verdict {
            version: 1,
            number,
            plan: plan.hash,
            body,
            base: base_digest(&look.live_ids()),
            counts: PruneCounts {
                packs: going.len() as u64,
                index_objects: index_objects.len() as u64,
                bytes,
            },
            extensions: Vec::new(),
            tag: [0; 32],
        })?;
        if created == Created::Exists {
            self.observer.note("another prune was faster; its verdict counts");
        }
        // Read back in either case: this is what is decided for ever.
        Ok(self.repo.read_verdict(number)?)
    }

    /// Doomed packs whose copies are less deep than all that would remain: what rests on them may rest on nothing less
    /// deep. Without bases there are none.
    fn shallower(
        &self,
        look: &Look,
        doomed: &BTreeMap<PackName, u64>,
    ) -> Result<BTreeSet<PackName>, PruneError> {
        let view = look.index.view().map_err(RepoError::from)?;
        if !view.has_bases() {
            return Ok(BTreeSet::new());
        }
        let mut depths: BTreeMap<[u8; 16], Depths> = BTreeMap::new();
        let mut packs = BTreeMap::new();
        view.visit_packs(&mut |number, row| {
            packs.insert(number, row);
        })
        .map_err(RepoError::from)?;
        let numbers = packs.iter().filter(|(_, row)| doomed.contains_key(&(row.kind, row.id)));
        let numbers: BTreeSet<_> = numbers.map(|(number, _)| *number).collect();
        let mut failure = None;
        let visited = view.visit_places(&mut |key, place| {
            let Some(row) = packs.get(&place.pack).filter(|row| look.listing.shows(row)) else { return };
            let depth = match view.frame(place.pack, place.frame) {
                Ok(Some(frame)) => frame.depth,
                Ok(None) => return,
                Err(error) => {
                    failure.get_or_insert(error);
                    return;
                }
            };
            let least = depths.entry(*key).or_default();
            if numbers.contains(&place.pack) {
                if least.doomed.is_none_or(|(least, _)| depth < least) {
                    least.doomed = Some((depth, (row.kind, row.id)));
                }
            } else if least.other.is_none_or(|least| depth < least) {
                least.other = Some(depth);
            }
        });
        visited.map_err(RepoError::from)?;
        if let Some(error) = failure {
            return Err(RepoError::from(error).into());
        }
        let mut keys = Vec::new();
        let mut packs = Vec::new();
        for (key, least) in depths {
            if let (Some(other), Some((doomed, pack))) = (least.other, least.doomed)
                && doomed < other
            {
                keys.push(key);
                packs.push(pack);
            }
        }
        let live = look.index.are_live(&keys).map_err(RepoError::from)?;
        Ok(packs.into_iter().zip(live).filter(|(_, live)| *live).map(|(pack, _)| pack).collect())
    }

    /// P8: what doomed index objects say of packs that stay is said by new ones.
    fn describe_survivors(
        &self,
        look: &Look,
        going: &BTreeSet<PackName>,
        doomed: &BTreeSet<IndexObjectId>,
    ) -> Result<(), PruneError> {
        let mut described = BTreeSet::new();
        let mut orphaned = BTreeSet::new();
        for (id, packs) in look.described()? {
            let into = if doomed.contains(&id) { &mut orphaned } else { &mut described };
            into.extend(packs);
        }
        // What is stated of damage goes with the object that states it, so it is said again in any case.
        let damaged = look.stated_to_be_damaged(&orphaned)?;
        let is_left = |name: &PackName| {
            let is_silent = !described.contains(name) || damaged.contains(name);
            !going.contains(name) && is_silent && look.listing.packs.contains_key(name)
        };
        let left: BTreeSet<_> = orphaned.into_iter().filter(is_left).collect();
        let mut said = Vec::new();
        let mut missing = left.clone();
        for id in doomed {
            if missing.is_empty() {
                break;
            }
            // One that is damaged or gone says nothing; then the packs speak for themselves.
            let Ok(object) = self.repo.read_index_object(*id) else { continue };
            let wanted = object.packs.into_iter().filter(|pack| missing.remove(&name_of(pack)));
            said.extend(wanted);
        }
        for (kind, id) in &missing {
            said.push(self.repo.read_pack_directory(*kind, *id)?);
        }
        // Set-equality: whatever stays is described by what stays.
        let names: BTreeSet<_> = said.iter().map(name_of).collect();
        if names != left {
            return Err(PruneError::NotDescribed);
        }
        self.repo.store_descriptions(SnapshotId::new([0; 16]), said)?;
        Ok(())
    }

    /// P10 and P11. Repeating it changes nothing.
    fn delete(&mut self, verdict: &Decided<Verdict>) -> Result<(), PruneError> {
        let storage = self.repo.storage();
        for id in &verdict.body.index_objects {
            storage.delete(&names::index_object(id)).map_err(RepoError::from)?;
        }
        let packs: Vec<_> = verdict.body.packs().map(|(kind, id)| names::pack(kind, &id)).collect();
        for pack in &packs {
            storage.delete(pack).map_err(RepoError::from)?;
        }
        // When this prune is done, whoever sees a pack may use it: none may come back that somebody still deletes.
        storage.make_durable(&packs).map_err(RepoError::from)?;
        let counts = verdict.decision.counts;
        self.report.packs_deleted += counts.packs;
        self.report.bytes_deleted += counts.bytes;
        Ok(())
    }

    /// P12 and P13.
    fn finish(&mut self, number: u64, verdict: &Decided<Verdict>) -> Result<(), PruneError> {
        let list = self.repo.snapshots()?;
        // Leases first: one whose writer died after its commit is known to be over by its snapshot, which may be among
        // the dead.
        for (id, lease) in self.repo.list_leases()? {
            if settle::is_over(self.repo, id, &lease)? {
                self.repo.remove_lease(id, &lease)?;
            }
        }
        self.report.snapshots_removed += self.remove_dead_snapshots(&list)?;
        self.repo.create_done(number, verdict.hash)?;
        // Nobody needs the lists of what is done. A crash leaves them for the next prune.
        let void = std::mem::take(&mut self.void_bodies);
        for id in void.into_iter().chain(self.repo.body_ids(number)?) {
            self.repo.storage().delete(&names::body(&id)).map_err(RepoError::from)?;
        }
        self.repo.witness_prune(number)?;
        self.report.plans.push(number);
        Ok(())
    }

    /// Deletes bodies that nobody has made a plan of for so long that nobody will. If somebody does all the same, his
    /// prune deletes nothing.
    ///
    /// The decisions are listed last: while one is open, which another prune may have made meanwhile, its bodies may be
    /// among these. Without that of its verdict it could never be carried out.
    pub(super) fn remove_old_bodies(&self) -> Result<(), PruneError> {
        let old = self.repo.list_old_bodies(self.options.silence)?;
        if self.repo.list_decisions()?.values().any(|state| !state.is_done) {
            return Ok(());
        }
        for id in old {
            self.repo.storage().delete(&names::body(&id)).map_err(RepoError::from)?;
        }
        Ok(())
    }

    /// Deletes the objects of forgotten snapshots; their records stay. Also copies that a slow writer made when its
    /// snapshot was gone already.
    pub(super) fn remove_dead_snapshots(&self, list: &SnapshotList) -> Result<u64, PruneError> {
        let storage = self.repo.storage();
        for id in &list.dead {
            let name = names::snapshot(id);
            // The copy first: without the object it would say nothing, and stay for ever.
            storage.delete(&names::copy(&name)).map_err(RepoError::from)?;
            storage.delete(&name).map_err(RepoError::from)?;
        }
        for id in self.repo.list_snapshot_copies()?.iter().filter(|id| list.forgotten.get(**id).is_some()) {
            storage.delete(&names::copy(&names::snapshot(id))).map_err(RepoError::from)?;
        }
        Ok(list.dead.len() as u64)
    }
}

fn is_missing(error: &RepoError) -> bool {
    matches!(error, RepoError::Storage(crate::storage::StorageError::Missing { .. }))
}
