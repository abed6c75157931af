//! Prune: gives back the space of what no snapshot needs, while other hosts go on writing.
//!
//! Nobody waits. A prune announces in a numbered *plan* which packs it dooms; writers that are at work say which of
//! them they use already, and use no others from then on. When every writer has spoken, has ended, or was fenced, the
//! prune looks again, spares what is needed after all, and decides in a *verdict*. Only what a verdict names is
//! deleted. Plans and verdicts are created under names that exist once and for ever, so that several prunes, or one
//! that slept, can only repeat what was decided. The steps P1 to P13 are told and argued in `docs/design.md`, "Prune".
//!
//! ```text
//! look      P2, P3     snapshots, index, packs, counts: what there is and what is needed
//! fates     P4         a pure function: which packs are deleted, rewritten, kept
//! rewrite   P5         copies what is needed out of packs that are mostly not
//! settle    P6         every writer that could use a doomed pack has spoken
//! carry     P7 - P13   look again, verdict, deletions
//! ```

mod carry;
mod fates;
mod look;
mod outline;
mod rewrite;
mod settle;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use fates::{Share, UnusedLimit};
pub use outline::{PlannedFate, PlannedPack};
pub use settle::Waiting;

use crate::event::Observer;
use crate::format::body::Body;
use crate::format::plan::{Plan, PruneCounts, base_digest};
use crate::id::{BodyId, IndexObjectId, PackId, SnapshotId};
use crate::index::PackKind;
use crate::index::counts::PackUsage;
use crate::limits;
use crate::repo::{Repo, RepoError, names, refuses_second_create};
use crate::storage::{Created, StorageError};
use fates::Fate;
use look::Look;

/// A writer that gave no sign of life for so long is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// So often in a row a run begins again because another prune was at work.
const ATTEMPT_COUNT_MAX: u32 = 5;
/// Names in one plan; the rest is for the next one.
const DOOMED_COUNT_MAX: usize = limits::BODY_NAME_COUNT_MAX / 4;
/// A mark over all edges is made as long as these are no longer, and beyond that by every tenth prune.
const MARKED_EDGE_BYTES_MAX: u64 = 128 << 10;
const MARKED_PLAN_INTERVAL: u64 = 10;
/// A probe takes seconds; what is older than a day was left behind.
const PROBE_SECONDS_MAX: i64 = 24 * 60 * 60;

/// Names a pack.
pub(crate) type PackName = (PackKind, PackId);

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Changes nothing in the repository.
    pub dry_run: bool,
    /// How much that is not needed may stay.
    pub max_unused: UnusedLimit,
    /// Bytes of packs that one run rewrites at most.
    pub max_rewrite: Option<u64>,
    /// The operator promises that nothing else runs: all registered writers are taken for dead.
    pub exclusive: bool,
    /// The operator has confirmed what a brake stopped.
    pub confirmed: bool,
    /// How long a writer may be silent.
    pub silence: Duration,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            max_unused: UnusedLimit::default(),
            max_rewrite: None,
            exclusive: false,
            confirmed: false,
            silence: SILENCE,
        }
    }
}

/// What a prune did, or would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PruneReport {
    /// Numbers of the plans that were carried out.
    pub plans: Vec<u64>,
    /// Packs that were deleted, those that were rewritten among them.
    pub packs_deleted: u64,
    /// Packs out of which something was copied.
    pub packs_rewritten: u64,
    /// Packs that are left.
    pub packs_kept: u64,
    /// Doomed packs that somebody needed after all.
    pub packs_spared: u64,
    /// Bytes of the deleted packs.
    pub bytes_deleted: u64,
    /// Bytes that the rewriting stored.
    pub bytes_rewritten: u64,
    /// Bytes of the packs that are left.
    pub bytes_kept: u64,
    /// About so many of them are not needed.
    pub bytes_unused: u64,
    /// Objects of forgotten snapshots that were deleted.
    pub snapshots_removed: u64,
    /// Writers that the prune waits for.
    pub waiting: Vec<Waiting>,
    /// Packs that could not be rewritten because something in them is damaged.
    pub damaged_packs: Vec<String>,
    /// Of a dry run: the packs that would not stay, and why.
    pub planned: Vec<PlannedPack>,
    /// How long it took.
    pub duration_seconds: f64,
}

impl PruneReport {
    /// Bytes that the repository is smaller by.
    pub fn bytes_freed(&self) -> u64 {
        self.bytes_deleted.saturating_sub(self.bytes_rewritten)
    }
}

/// Why a prune ended early. Nothing that anybody needs is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A snapshot that nobody forgot cannot be read.
    #[error("snapshot {} cannot be read, so nobody knows what it needs: {reason}", .id.short())]
    SnapshotUnreadable {
        /// Which.
        id: SnapshotId,
        /// Why.
        reason: String,
    },
    /// The storage could not read an index object.
    #[error("index object {} cannot be read, so nobody knows what it says of damage", .id.short())]
    IndexUnread {
        /// Which.
        id: IndexObjectId,
        /// Why.
        source: StorageError,
    },
    /// Snapshots are gone without having been forgotten.
    #[error("{} snapshots are gone that nobody forgot, the first is {}", .ids.len(), .ids.first().map(|id| id.short()).unwrap_or_default())]
    SnapshotsVanished {
        /// Which.
        ids: Vec<SnapshotId>,
    },
    /// Something that a snapshot needs is in no pack.
    #[error("{count} chunks or nodes that snapshots need are in no pack that is there")]
    ContentMissing {
        /// How many, at least.
        count: u64,
    },
    /// The counts of the local index are wrong.
    #[error("the local reference counts contradict the snapshots ({count} times); nothing was deleted")]
    CountsWrong {
        /// How many contradictions.
        count: u64,
    },
    /// An index object says that a pack holds what it does not, and something would have been deleted because of it.
    #[error("an index object says something else of {pack} than the pack itself")]
    IndexLies {
        /// Name of the pack.
        pack: String,
    },
    /// What would be deleted is so much that somebody must confirm it.
    #[error("{0}")]
    Brake(String),
    /// A pack that stays would be described by nothing.
    #[error("the index objects do not add up; nothing was deleted")]
    NotDescribed,
    /// Two prunes decided differently, and what is there is not what this one decided.
    #[error("prune {0} has been going on elsewhere for too long; try again")]
    Overtaken(u64),
    /// The storage lets a name be created twice, so nobody could be told apart.
    #[error("{place} lets two hosts create the same object, so a prune cannot run beside others")]
    NotExclusive {
        /// Where.
        place: String,
    },
    /// Somebody asked to stop.
    #[error("the prune was interrupted; the next one goes on where it stopped")]
    Interrupted,
}

impl PruneError {
    /// Whether the cause may be another prune that was at work since the listings were made.
    fn may_pass(&self) -> bool {
        match self {
            Self::Repo(error) => error.is_damage(),
            Self::ContentMissing { .. }
            | Self::SnapshotsVanished { .. }
            | Self::SnapshotUnreadable { .. } => true,
            _ => false,
        }
    }
}

/// Prunes until there is nothing worth doing, or a writer has to be waited for.
pub fn run(
    repo: &Arc<Repo>,
    options: &PruneOptions,
    observer: &dyn Observer,
) -> Result<PruneReport, PruneError> {
    let begun = Instant::now();
    if !options.exclusive && !options.dry_run && !can_run_beside_others(repo)? {
        return Err(PruneError::NotExclusive { place: repo.storage().place() });
    }
    let mut report = PruneReport::default();
    let mut run =
        Run { repo, options, observer, report: &mut report, rewriting: false, void_bodies: Vec::new() };
    run.all()?;
    if repo.storage().is_remote() && !options.dry_run {
        remove_probes(repo)?;
    }
    report.duration_seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// Whether the storage keeps apart those who create the same name: plans, verdicts and fences rest on it. A bucket may have
/// moved to another store since the repository was made, so it is tried.
fn can_run_beside_others(repo: &Repo) -> Result<bool, RepoError> {
    if repo.storage().is_remote() {
        return refuses_second_create(&**repo.storage());
    }
    Ok(repo.config().probes.get("second_create_is_refused").copied().unwrap_or(true))
}

/// What hosts without the right to delete have left of their probes goes here; a folder loses it when it is opened.
fn remove_probes(repo: &Repo) -> Result<(), RepoError> {
    let mut old = Vec::new();
    let now = repo.clock().now().seconds;
    repo.storage().list(names::TEMPORARY, &mut |listed| {
        if now.saturating_sub(listed.stored_at.seconds) > PROBE_SECONDS_MAX {
            old.push(listed.name);
        }
    })?;
    old.iter().try_for_each(|name| Ok(repo.storage().delete(name)?))
}

struct Run<'a> {
    repo: &'a Arc<Repo>,
    options: &'a PruneOptions,
    observer: &'a dyn Observer,
    report: &'a mut PruneReport,
    /// The first plan of a run only deletes, so that a full disk gains room before anything is written.
    rewriting: bool,
    /// Bodies that were there before this run made its plan. Whoever made them for a plan of his own finds the number
    /// taken; those of plans that are done are of no use either. So they go when the plan is done.
    void_bodies: Vec<BodyId>,
}

/// What one plan dooms.
#[derive(Debug, Clone, Default)]
struct Doomed {
    packs: BTreeMap<PackName, u64>,
    index_objects: BTreeSet<IndexObjectId>,
}

impl Run<'_> {
    /// What was listed may be gone when it is read, because another prune was at work: then everything is looked at
    /// again.
    fn all(&mut self) -> Result<(), PruneError> {
        let mut attempts = 0;
        loop {
            match self.next() {
                Ok(Step::Ended) => return Ok(()),
                Ok(Step::Done) => attempts = 0,
                Ok(Step::Overtaken(number)) if attempts == ATTEMPT_COUNT_MAX => {
                    return Err(PruneError::Overtaken(number));
                }
                Ok(Step::Overtaken(_)) => attempts += 1,
                Err(error) if error.may_pass() && attempts < ATTEMPT_COUNT_MAX => attempts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// P1: carries out the plan that is open, or makes one.
    fn next(&mut self) -> Result<Step, PruneError> {
        let decisions = self.repo.list_decisions()?;
        let newest = decisions.last_key_value().map(|(number, state)| (*number, *state));
        self.check_interrupted()?;
        if let Some((number, state)) = newest
            && !state.is_done
        {
            if self.options.dry_run {
                self.observer.note(&format!("prune {number} is under way; it would be finished first"));
                return self.show_fates();
            }
            return Ok(if self.carry_out(number, state)? { Step::Done } else { Step::Ended });
        }
        if self.options.dry_run {
            return self.show_fates();
        }
        let number = newest.map_or(1, |(number, _)| number + 1);
        match self.plan(number)? {
            Planned::Created => Ok(Step::Done),
            Planned::Nothing if self.rewriting => Ok(Step::Ended),
            Planned::Nothing => {
                self.rewriting = true;
                Ok(Step::Done)
            }
            Planned::Overtaken => Ok(Step::Overtaken(number)),
        }
    }

    fn check_interrupted(&self) -> Result<(), PruneError> {
        if self.observer.is_interrupted() { Err(PruneError::Interrupted) } else { Ok(()) }
    }

    /// P2 to P5.
    fn plan(&mut self, number: u64) -> Result<Planned, PruneError> {
        self.observer.phase("looking for what is not needed");
        let look = look::now(self.repo, &BTreeMap::new(), self.observer)?;
        let look = look::with_orphans(self.repo, look, self.observer)?;
        look.must_be_whole()?;
        let fates = self.fates(&look)?;
        let mut doomed = self.doomed(&look, &fates);
        let stale = look.stale_index_objects(self.repo)?;
        if doomed.packs.is_empty() && stale.is_empty() {
            return self.nothing_doomed(number, look, &fates);
        }
        self.brake(&look, &doomed, &fates)?;
        self.confirm(&look, number)?;
        self.check_interrupted()?;
        let is_rewritten = |fate: &&(PackUsage, Fate)| fate.1 == Fate::Rewrite;
        let rewritten: Vec<_> = fates.iter().filter(is_rewritten).map(|(usage, _)| usage.number).collect();
        let listing = look.listing.packs.keys().copied().collect();
        drop(look);
        if !rewritten.is_empty() {
            self.observer.phase("rewriting packs");
            let outcome = rewrite::run(self.repo, &rewritten, &doomed.packs, &listing, self.observer)?;
            self.report.bytes_rewritten += outcome.bytes_stored;
            self.report.packs_rewritten += (rewritten.len() - outcome.damaged.len()) as u64;
            for name in outcome.damaged {
                let pack = names::pack(name.0, &name.1);
                // One that another prune has deleted meanwhile is not damaged.
                let is_there = !matches!(self.repo.storage().len(&pack), Err(StorageError::Missing { .. }));
                let pack = pack.to_string();
                // A plan that another prune was faster to make is made anew, and meets the same damage.
                if is_there && !self.report.damaged_packs.contains(&pack) {
                    self.report.damaged_packs.push(pack);
                }
                doomed.packs.remove(&name);
            }
        }
        let look = look::now(self.repo, &doomed.packs, self.observer)?;
        // I6: without the doomed packs, everything that is needed is still there.
        for needed in look.needed_after_all()? {
            doomed.packs.remove(&needed);
        }
        if doomed.packs.is_empty() && stale.is_empty() {
            return Ok(Planned::Nothing);
        }
        trust::confirm(self.repo, &look, &doomed.packs)?;
        doomed.index_objects = look.index_objects_of(&doomed.packs)?;
        doomed.index_objects.extend(stale);
        self.create_plan(number, &look, &doomed)
    }

    fn nothing_doomed(
        &mut self,
        number: u64,
        look: Look,
        fates: &[(PackUsage, Fate)],
    ) -> Result<Planned, PruneError> {
        self.report.packs_kept = look.listing.packs.len() as u64;
        self.report.bytes_kept = look.listing.packs.values().sum();
        self.report.bytes_unused = fates.iter().map(|(usage, _)| usage.dead_stored_bytes()).sum();
        // Before the snapshots: a lease may be known to be over by one that is among the dead.
        settle::sweep(self.repo, number, self.options)?;
        self.report.snapshots_removed += self.remove_dead_snapshots(&look.list)?;
        self.remove_old_bodies()?;
        self.repo.restore_reserve(look.listing.packs.len())?;
        Ok(Planned::Nothing)
    }

    fn fates(&self, look: &Look) -> Result<Vec<(PackUsage, Fate)>, PruneError> {
        let mut usage = look.index.packs_with_damage().map_err(RepoError::from)?;
        let damaged: BTreeSet<_> = usage.iter().map(|usage| usage.number).collect();
        let dying = look.index.packs_with_dead_bytes().map_err(RepoError::from)?;
        usage.extend(dying.into_iter().filter(|usage| !damaged.contains(&usage.number)));
        let total: u64 = look.listing.packs.values().sum();
        let mut fates = fates::decide(usage, total, self.options.max_unused, self.options.max_rewrite);
        if !self.rewriting && !self.options.dry_run {
            fates.retain(|(_, fate)| *fate != Fate::Rewrite);
        }
        // What is needed of them is elsewhere, or the look would not be whole.
        let named: BTreeSet<_> = fates.iter().map(|(usage, _)| usage.number).collect();
        let cut = look.packs_of_wrong_length()?.into_iter().filter(|usage| !named.contains(&usage.number));
        fates.extend(cut.map(|usage| (usage, Fate::Delete)));
        fates.retain(|(usage, _)| !look.untouchable.contains(&(usage.row.kind, usage.row.id)));
        Ok(fates)
    }

    fn doomed(&self, look: &Look, fates: &[(PackUsage, Fate)]) -> Doomed {
        let doomed = fates.iter().filter(|(_, fate)| *fate != Fate::Keep).take(DOOMED_COUNT_MAX);
        let packs = doomed.map(|(usage, _)| {
            let name = (usage.row.kind, usage.row.id);
            (name, look.listing.packs.get(&name).copied().unwrap_or(usage.row.payload_len))
        });
        Doomed { packs: packs.collect(), index_objects: BTreeSet::new() }
    }

    /// Stops what looks like a mistake, or like a storage that does not show everything.
    fn brake(&self, look: &Look, doomed: &Doomed, fates: &[(PackUsage, Fate)]) -> Result<(), PruneError> {
        if self.options.confirmed {
            return Ok(());
        }
        if look.list.snapshots.is_empty() {
            return Err(PruneError::Brake("no snapshot is left: everything would be deleted".to_owned()));
        }
        let total: u64 = look.listing.packs.values().sum();
        let freed = |(usage, fate): &(PackUsage, Fate)| match fate {
            Fate::Delete => doomed.packs.get(&(usage.row.kind, usage.row.id)).copied().unwrap_or(0),
            Fate::Rewrite => usage.dead_stored_bytes(),
            Fate::Keep => 0,
        };
        let freed: u64 = fates.iter().map(freed).sum();
        if freed > total / 2 {
            let share = freed * 100 / total.max(1);
            return Err(PruneError::Brake(format!("{share} % of all that is stored would be deleted")));
        }
        Ok(())
    }

    /// 4.4: counters nominate, something that does not believe them confirms.
    fn confirm(&self, look: &Look, number: u64) -> Result<(), PruneError> {
        let wrong = look.index.confirm_dead().map_err(RepoError::from)?.len();
        let is_small = look.index.edge_bytes().map_err(RepoError::from)? <= MARKED_EDGE_BYTES_MAX;
        let marked_wrong = if wrong == 0 && (is_small || number.is_multiple_of(MARKED_PLAN_INTERVAL)) {
            look.marked_contradictions()?
        } else {
            0
        };
        match wrong + marked_wrong {
            0 => Ok(()),
            count => {
                // It is disposable, and the next one is made from the repository.
                self.repo.rebuild_index()?;
                Err(PruneError::CountsWrong { count: count as u64 })
            }
        }
    }

    fn create_plan(&mut self, number: u64, look: &Look, doomed: &Doomed) -> Result<Planned, PruneError> {
        let packs: BTreeSet<_> = doomed.packs.keys().copied().collect();
        self.void_bodies = self.repo.list_bodies()?;
        let plan = || -> Result<Created, RepoError> {
            let body = self.repo.create_body(&Body::of(&packs, &doomed.index_objects))?;
            self.repo.create_plan(Plan {
                version: 1,
                number,
                body,
                base: base_digest(&look.live_ids()),
                counts: PruneCounts {
                    packs: packs.len() as u64,
                    index_objects: doomed.index_objects.len() as u64,
                    bytes: doomed.packs.values().sum(),
                },
                extensions: Vec::new(),
                tag: [0; 32],
            })
        };
        match self.repo.with_reserve(plan)? {
            Created::Created => {
                let settle = Duration::from_secs(self.repo.config().settle_seconds);
                if !settle.is_zero() && !self.options.exclusive {
                    self.repo.clock().sleep(settle);
                }
                Ok(Planned::Created)
            }
            Created::Exists => Ok(Planned::Overtaken),
        }
    }

    fn show_fates(&mut self) -> Result<Step, PruneError> {
        let look = look::now(self.repo, &BTreeMap::new(), self.observer)?;
        look.must_be_whole()?;
        let fates = self.fates(&look)?;
        let report = &mut *self.report;
        report.packs_kept = look.listing.packs.len() as u64;
        report.bytes_kept = look.listing.packs.values().sum();
        report.snapshots_removed = look.list.dead.len() as u64;
        for (usage, fate) in &fates {
            let stored = look.listing.packs.get(&(usage.row.kind, usage.row.id)).copied().unwrap_or(0);
            report.planned.extend(outline::planned(usage, *fate, stored));
            match fate {
                Fate::Keep => {
                    report.bytes_unused += usage.dead_stored_bytes();
                    continue;
                }
                Fate::Rewrite => {
                    report.packs_rewritten += 1;
                    report.bytes_rewritten += stored.saturating_sub(usage.dead_stored_bytes());
                }
                Fate::Delete => {}
            }
            report.packs_deleted += 1;
            report.bytes_deleted += stored;
            report.packs_kept -= 1;
            report.bytes_kept -= stored;
        }
        report.bytes_kept += report.bytes_rewritten;
        Ok(Step::Ended)
    }
}

/// How a run goes on.
enum Step {
    /// With P1.
    Done,
    /// With P1, if not for too long: another prune took the number.
    Overtaken(u64),
    /// Not at all.
    Ended,
}

/// What became of an attempt to plan.
enum Planned {
    /// The plan is there.
    Created,
    /// There is nothing to plan.
    Nothing,
    /// Another prune took the number.
    Overtaken,
}
