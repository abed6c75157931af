//! Repair: mends what can be mended, and makes sure that nobody counts on what cannot.
//!
//! ```text
//! plan       a check, and a look at what would bring each damaged object back; changes nothing
//! run        1 objects brought back: parity, second copies, what the index says of a pack
//!            2 packs described again that no readable index object describes
//!            3 damage that stays is stated, so that other copies count and the next backup stores what was lost
//!            4 prunes closed whose decisions cannot be read
//!            5 what is left of damaged snapshots, as new snapshots
//! ```
//!
//! A repair only adds. What it puts in the place of a damaged object was proven to be what was stored. Statements about
//! damage can be taken back by later ones. Snapshots stay as they are: one that is damaged heals when a backup meets
//! the lost content again, because its ids are the same.
//!
//! # Beside writers and prune
//!
//! A repair takes no lease (but for step 5, where it is a writer like a backup). Every step looks again before it acts
//! and passes over what changed meanwhile. Putting the same payload in the place of an object disturbs nobody; an
//! object that a prune deletes at the same moment does not come back by it. An index object about a pack that a prune
//! deletes is removed by the next prune.
//!
//! Repeating it changes nothing: what was mended is not found again, what was stated is known, and a snapshot of which
//! there is one with what is left gets no second one.

mod execute;
mod plan;
mod remnant;
mod salvage;

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::check::{CheckError, CheckOptions, DataPart, Finding};
use crate::event::Observer;
use crate::id::SnapshotId;
use crate::repo::{Repo, RepoError};

/// How to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairOptions {
    /// Whether all packs are read. Without it only damage is found that shows in the structure.
    pub data: bool,
    /// The operator promises that no prune is at work anywhere, not even asleep: then one is closed whose verdict
    /// cannot be read.
    pub exclusive: bool,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self { data: true, exclusive: false }
    }
}

/// What a step does. In this order they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RepairAction {
    /// Brings the object, and its second copy, back.
    Mend,
    /// Describes packs that no readable index object describes.
    Describe,
    /// States which frames of a pack are damaged.
    StateDamage,
    /// Closes a prune of which a decision cannot be read.
    ClosePrune,
    /// Makes a snapshot of what is left of a damaged one.
    KeepWhatIsLeft,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RepairStep {
    /// What is done.
    pub action: RepairAction,
    /// Name of the object it is done to.
    pub object: String,
    /// Why, in words.
    pub reason: String,
    /// What comes of it, in words.
    pub effect: String,
}

/// Damage that nothing in the repository can undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BeyondRepair {
    /// Name of the object.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// What a person can do about it.
    pub hint: String,
}

/// What would be done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RepairPlan {
    /// The steps, in order.
    pub steps: Vec<RepairStep>,
    /// What will stay as it is.
    pub beyond_repair: Vec<BeyondRepair>,
    /// What was found.
    pub findings: Vec<Finding>,
    #[serde(skip)]
    snapshots: Vec<SnapshotId>,
}

impl RepairPlan {
    /// Whether anything is damaged.
    pub fn has_damage(&self) -> bool {
        !self.beyond_repair.is_empty() || self.findings.iter().any(Finding::is_damage)
    }
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It was done.
    Done,
    /// It was not needed any more.
    NotNeeded,
    /// It could not be done.
    Failed,
}

/// A step that was carried out, or tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairedStep {
    /// What was planned.
    #[serde(flatten)]
    pub step: RepairStep,
    /// What became of it.
    pub outcome: StepOutcome,
    /// More about it, in words.
    pub message: Option<String>,
}

/// A snapshot that holds what is left of a damaged one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptRemnant {
    /// The new snapshot.
    pub id: String,
    /// The damaged one.
    pub left_of_id: String,
    /// Files and folders that are not in it, as far as they are known by name.
    pub lost_count: u64,
}

/// What a repair did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RepairReport {
    /// The steps.
    pub steps: Vec<RepairedStep>,
    /// The snapshots that were made.
    pub snapshots: Vec<KeptRemnant>,
    /// What nothing in the repository could undo.
    pub beyond_repair: Vec<BeyondRepair>,
    /// Damage that a look afterwards found.
    pub findings: Vec<Finding>,
    /// Time it took.
    pub duration_seconds: f64,
}

impl RepairReport {
    /// Whether damage is left.
    pub fn has_damage(&self) -> bool {
        let has_failed = |step: &RepairedStep| step.outcome == StepOutcome::Failed;
        self.findings.iter().any(Finding::is_damage)
            || self.steps.iter().any(has_failed)
            || !self.beyond_repair.is_empty()
    }

    /// Steps that changed something.
    pub fn done_count(&self) -> usize {
        self.steps.iter().filter(|step| step.outcome == StepOutcome::Done).count()
    }
}

/// Why nothing more was repaired. What was done stays done, and can be gone on with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// It could not be looked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Somebody asked to stop.
    #[error("the repair was interrupted; run it again to go on")]
    Interrupted,
}

/// Looks for damage and decides what to do about it. Changes nothing.
pub fn plan(
    repo: &Arc<Repo>,
    options: &RepairOptions,
    observer: &dyn Observer,
) -> Result<RepairPlan, RepairError> {
    let data = options.data.then_some(DataPart::All);
    let report = crate::check::run(repo, &CheckOptions { directories: true, data }, observer)?;
    let facts = plan::gather(repo, &report.findings, options, observer)?;
    Ok(RepairPlan { findings: report.findings.clone(), ..plan::decide(&report.findings, &facts) })
}

/// Carries a plan out, and looks at what is left of the damage.
///
/// Each step looks again before it acts. One that cannot be done does not keep the others from being done.
pub fn run(
    repo: &Arc<Repo>,
    plan: &RepairPlan,
    observer: &dyn Observer,
) -> Result<RepairReport, RepairError> {
    let begun = Instant::now();
    let mut report = RepairReport { beyond_repair: plan.beyond_repair.clone(), ..RepairReport::default() };
    if plan.steps.is_empty() {
        report.findings = plan.findings.clone();
    } else {
        execute::run(repo, plan, &mut report, observer)?;
    }
    report.duration_seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

fn stop_if_interrupted(observer: &dyn Observer) -> Result<(), RepairError> {
    if observer.is_interrupted() { Err(RepairError::Interrupted) } else { Ok(()) }
}
