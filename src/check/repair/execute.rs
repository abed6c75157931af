//! Carries the steps of a plan out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::plan::object_of;
use super::remnant::{self, Remnant};
use super::salvage;
use super::{
    KeptRemnant, RepairAction, RepairError, RepairPlan, RepairReport, RepairStep, RepairedStep, StepOutcome,
    stop_if_interrupted,
};
use crate::check::data::unreadable_frames;
use crate::check::{self, CheckOptions};
use crate::event::Observer;
use crate::id::{PackId, SnapshotId};
use crate::index::PackKind;
use crate::repo::names::{self, Named};
use crate::repo::{ChunkReader, DamageReason, PackVerifier, Repo, RepoError, index_agrees};
use crate::storage::StorageError;

/// What came of one step: whether anything was done, and what there is to say of it.
type Outcome = (StepOutcome, Option<String>);

const DONE: Outcome = (StepOutcome::Done, None);
const NOT_NEEDED: Outcome = (StepOutcome::NotNeeded, None);

fn failed(message: impl Into<String>) -> Outcome {
    (StepOutcome::Failed, Some(message.into()))
}

/// Carries out all steps, and looks at what is left of the damage.
pub fn run(
    repo: &Arc<Repo>,
    plan: &RepairPlan,
    report: &mut RepairReport,
    observer: &dyn Observer,
) -> Result<(), RepairError> {
    observer.phase("repairing");
    let mut has_described = false;
    for step in plan.steps.iter().filter(|step| step.action != RepairAction::KeepWhatIsLeft) {
        stop_if_interrupted(observer)?;
        let outcome = match (step.action, object_of(&step.object)) {
            (RepairAction::Describe, _) if has_described => Ok(DONE),
            (RepairAction::Describe, _) => {
                has_described = true;
                describe(repo)
            }
            (RepairAction::Mend, Some(object)) => mend(repo, object, &step.object),
            (RepairAction::StateDamage, Some(Named::Pack(kind, id))) => state_damage(repo, kind, id),
            (RepairAction::ClosePrune, Some(Named::Plan(number) | Named::Verdict(number))) => {
                close_prune(repo, number)
            }
            _ => Ok(failed("nothing is known of such an object")),
        };
        report.steps.push(finished(step, outcome)?);
    }
    // What describes what, and what is damaged, is asked of the storage anew.
    repo.rebuild_index()?;
    let look = check::run(repo, &CheckOptions { directories: true, data: None }, observer)?;
    report.findings = look.findings;
    let lacking: BTreeSet<_> =
        report.findings.iter().flat_map(|finding| &finding.snapshots).copied().collect();
    observer.phase("keeping what is left of damaged snapshots");
    for step in plan.steps.iter().filter(|step| step.action == RepairAction::KeepWhatIsLeft) {
        let Some(Named::Snapshot(id)) = object_of(&step.object) else { continue };
        stop_if_interrupted(observer)?;
        let outcome = if plan.snapshots.contains(&id) && lacking.contains(&id) {
            keep_what_is_left(repo, id, report, observer)
        } else {
            Ok(NOT_NEEDED)
        };
        report.steps.push(finished(step, outcome)?);
    }
    Ok(())
}

/// Whether the next step may succeed all the same.
fn concerns_one_step(error: &RepoError) -> bool {
    let is_passing = matches!(
        error,
        RepoError::Storage(StorageError::Failed { .. })
            | RepoError::PruneUnderWay { .. }
            | RepoError::PlanWithoutLists { .. }
            | RepoError::Replaced(_)
    );
    is_passing || error.is_damage()
}

/// A step that met damage has failed, and the others go on; any other error ends the repair.
fn finished(step: &RepairStep, outcome: Result<Outcome, RepairError>) -> Result<RepairedStep, RepairError> {
    let (outcome, message) = match outcome {
        Err(RepairError::Repo(error)) if concerns_one_step(&error) => {
            failed(check::packs::last_cause(&error))
        }
        outcome => outcome?,
    };
    Ok(RepairedStep { step: step.clone(), outcome, message })
}

/// Step 1, for an object or its second copy.
fn mend(repo: &Repo, object: Named, name: &str) -> Result<Outcome, RepairError> {
    let mends = repo.find_mends(object)?;
    let Some(mend) = mends.iter().find(|mend| mend.name.as_str() == name) else { return Ok(NOT_NEEDED) };
    if !repo.apply_mend(mend)? {
        return Ok(NOT_NEEDED);
    }
    // A disk that takes bytes and gives others back has mended nothing.
    let again = repo.find_mends(object)?;
    Ok(match again.iter().any(|mend| mend.name.as_str() == name) {
        true => failed("what was written does not read back"),
        false => DONE,
    })
}

/// Step 2: packs that nothing describes, or only index objects that cannot be read.
fn describe(repo: &Arc<Repo>) -> Result<Outcome, RepairError> {
    let view = repo.sync_index()?;
    let listing = repo.list_packs()?;
    let mut packs: BTreeSet<_> = repo.undescribed_packs(&view, &listing)?.into_iter().collect();
    let mut readable = BTreeSet::new();
    let mut doubtful = BTreeSet::new();
    for (id, numbers) in view.described_packs().map_err(RepoError::from)? {
        // What stands for one that cannot be read has no object of its own.
        let is_readable = repo.examine_index_object(id)?.is_some_and(|(object, _)| object.is_some());
        let into = if is_readable { &mut readable } else { &mut doubtful };
        into.extend(numbers);
    }
    for number in doubtful.difference(&readable) {
        if let Some(row) = view.pack(*number).map_err(RepoError::from)? {
            packs.insert((row.kind, row.id));
        }
    }
    drop(view);
    packs.retain(|name| listing.packs.contains_key(name));
    let packs: Vec<_> = packs.into_iter().collect();
    let written = repo.describe_packs(SnapshotId::new([0; 16]), &packs)?;
    let settled = repo.settle_unread_index_objects()?;
    Ok(if written.is_empty() && settled == 0 { NOT_NEEDED } else { DONE })
}

/// Step 3: states exactly the frames that cannot be read now.
fn state_damage(repo: &Arc<Repo>, kind: PackKind, id: PackId) -> Result<Outcome, RepairError> {
    let view = Arc::new(repo.reader_view()?);
    let reader = Arc::new(ChunkReader::new(Arc::clone(repo), Arc::clone(&view)));
    let len = match repo.storage().len(&names::pack(kind, &id)) {
        Ok(len) => len,
        Err(StorageError::Missing { .. }) => return Ok(NOT_NEEDED),
        Err(error) => return Err(RepoError::from(error).into()),
    };
    let verdict = PackVerifier::new(Arc::clone(&reader)).verify(kind, id, len)?;
    let Some(mut verdict) = verdict else { return Ok(NOT_NEEDED) };
    let number = view.index().pack_number(&id).map_err(RepoError::from)?;
    let described = verdict.described.take();
    let agrees = described.as_ref().map(|described| index_agrees(view.index(), described)).transpose()?;
    let is_open = verdict.damaged_frames.is_some();
    let frames = match verdict.damaged_frames {
        Some(frames) if agrees.flatten() != Some(false) => frames,
        Some(_) | None => unreadable_frames(&reader, &view, number)?,
    };
    if !is_open && repo.has_its_name(Named::Pack(kind, id))? {
        return Ok(failed("it is what was stored, and this program cannot open it; a newer one may"));
    }
    // A frame whose base is lost is itself in order: it can be read again when the base is there again.
    let is_itself =
        |reason: &DamageReason| !matches!(reason, DamageReason::MissingBase(_) | DamageReason::TooDeep);
    let frames = frames.into_iter().filter(|(_, reason)| is_itself(reason));
    let frames: BTreeSet<_> = frames.map(|(frame, _)| frame).collect();
    let stated = view.index().stated_damage(&id).map_err(RepoError::from)?;
    let described = repo.description_of(&id)?.or(described);
    if let (Some(number), Some(described)) = (number, &described)
        && len < described.payload_len
    {
        salvage::copy_out(repo, &reader, number, described, &frames)?;
    }
    if frames == stated.map(|damage| damage.frames).unwrap_or_default() {
        return Ok(match verdict.payload {
            Ok(()) => NOT_NEEDED,
            Err(_) if !frames.is_empty() => NOT_NEEDED,
            Err(reason) => failed(reason.to_string()),
        });
    }
    let Some(described) = described else {
        return Ok(failed("neither it nor any index object says what it holds"));
    };
    repo.state_damage(described, &frames)?;
    Ok(DONE)
}

/// Step 4.
fn close_prune(repo: &Repo, number: u64) -> Result<Outcome, RepairError> {
    let state = repo.list_decisions()?.get(&number).copied().unwrap_or_default();
    if repo.stuck_prune(number, state)?.is_none() {
        return Ok(NOT_NEEDED);
    }
    Ok(if repo.close_decision(number)? { DONE } else { NOT_NEEDED })
}

/// Step 5.
fn keep_what_is_left(
    repo: &Arc<Repo>,
    id: SnapshotId,
    report: &mut RepairReport,
    observer: &dyn Observer,
) -> Result<Outcome, RepairError> {
    Ok(match remnant::keep(repo, id, observer)? {
        Remnant::Made { id: made, lost_count } => {
            let left_of_id = id.to_string();
            report.snapshots.push(KeptRemnant { id: made.to_string(), left_of_id, lost_count });
            (StepOutcome::Done, Some(format!("snapshot {made} holds what is left")))
        }
        Remnant::NotNeeded => NOT_NEEDED,
        Remnant::Nothing => failed("nothing of it can be read"),
        Remnant::Busy => failed("a prune is under way: finish it with `repo prune`, then repair again"),
    })
}
