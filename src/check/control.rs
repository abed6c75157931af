//! Small objects: settings, slots, keyrings, their copies, and leases.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Finding, FindingCode, Findings};
use super::packs::Listing;
use super::{CheckError, stop_if_interrupted};
use crate::event::Observer;
use crate::id::SnapshotId;
use crate::repo::names::{self, Named};
use crate::repo::{ControlVerdict, CopyState, DamageReason, Forgotten, Repo};
use crate::storage::HeldState;

/// Checks every small object that was listed.
///
/// Of a forgotten snapshot that is gone the second copy may be left: by a writer that fell asleep before it stored it. It
/// is removed by the next prune.
pub fn check(
    repo: &Repo,
    listed: &Listing,
    forgotten: &Forgotten,
    findings: &mut Findings,
    observer: &dyn Observer,
) -> Result<(), CheckError> {
    if !repo.examine_readme()? {
        let message = "the text that explains the repository to people is missing or altered";
        findings.add(Finding::note(FindingCode::ReadmeDiffers, names::README, message));
    }
    let done = listed.controls.iter().filter_map(|object| match object {
        Named::Done(number) => Some(*number),
        _ => None,
    });
    let done: BTreeSet<_> = done.collect();
    for object in &listed.controls {
        stop_if_interrupted(observer)?;
        let mut found = Findings::default();
        judge(repo, *object, &repo.examine_control(*object)?, &mut found);
        let is_over = match object {
            Named::Plan(number) | Named::Verdict(number) | Named::Done(number) => done.contains(number),
            _ => false,
        };
        let is_dead = matches!(object, Named::Snapshot(id) if forgotten.get(*id).is_some());
        for finding in found.into_findings() {
            let finding = if is_over { finding.of_what_is_over() } else { finding };
            findings.add(if is_dead { finding.of_what_is_dead() } else { finding });
        }
    }
    leases(repo, listed, findings)
}

fn judge(repo: &Repo, object: Named, verdict: &ControlVerdict, findings: &mut Findings) {
    let Some(name) = object.object_name() else { return };
    let copy_is_good = matches!(verdict.copy, CopyState::Good);
    match &verdict.first {
        Some(Ok(())) => {}
        // Whoever may write to the storage can put one there. It does nothing, and neither copy is better.
        Some(Err(DamageReason::Tag)) if matches!(object, Named::Forget(_)) => {
            let message = "nobody who may forget has tagged it; it is ignored";
            findings.add(Finding::damage(FindingCode::ForgetRecordUntagged, &name, message));
            return;
        }
        Some(Err(reason)) => {
            let copy = if copy_is_good { "its second copy is good" } else { "it has no good copy" };
            let finding = Finding::damage(FindingCode::of(object), &name, format!("{reason}; {copy}"));
            findings.add(if copy_is_good { finding.mendable() } else { finding });
        }
        None if copy_is_good => {
            let message = "it is gone, and its second copy is there";
            let finding = Finding::damage(FindingCode::OriginalMissing, &name, message).mendable();
            findings.add(match object {
                Named::Snapshot(id) => finding.of_snapshot(id),
                _ => finding,
            });
        }
        None => {}
    }
    let first_is_good = matches!(verdict.first, Some(Ok(())));
    let copy = names::copy(&name);
    match &verdict.copy {
        CopyState::Good => {}
        CopyState::Missing if object.has_copy() && repo.config().copies && verdict.first.is_some() => {
            let finding = Finding::note(FindingCode::CopyDamaged, copy, "the second copy is missing");
            findings.add(if first_is_good { finding.mendable() } else { finding });
        }
        CopyState::Missing => {}
        // That the copy is no better was said with what is wrong with the first.
        CopyState::Damaged(_) if matches!(verdict.first, Some(Err(_))) => {}
        CopyState::Damaged(reason) => {
            let finding = Finding::damage(FindingCode::CopyDamaged, copy, reason.to_string());
            findings.add(if first_is_good { finding.mendable() } else { finding });
        }
    }
}

fn leases(repo: &Repo, listed: &Listing, findings: &mut Findings) -> Result<(), CheckError> {
    let mut statements = BTreeMap::<SnapshotId, BTreeSet<Option<u32>>>::new();
    for (id, number) in &listed.leases {
        let mut host = None;
        match repo.examine_lease(*id, *number)? {
            None => continue,
            Some(Ok(statement)) => host = Some(statement.host),
            Some(Err(reason)) => {
                let name = Named::Lease(*id, *number).object_name().map(|name| name.to_string());
                let name = name.unwrap_or_default();
                findings.add(Finding::damage(FindingCode::LeaseDamaged, name, reason.to_string()));
            }
        }
        statements.entry(*id).or_default().insert(*number);
        let is_ours = host.is_some_and(|host| host == repo.identity().host);
        let name = names::lease(id, 0);
        if *number == Some(0) && is_ours && matches!(repo.storage().held(&name), Ok(HeldState::Free)) {
            let message = "its writer ended without removing it; the next prune does";
            findings.add(Finding::note(FindingCode::LeaseLeftover, name, message));
        }
    }
    for (id, numbers) in statements {
        if !numbers.contains(&Some(0)) && !numbers.contains(&None) {
            let message = "its first statement is gone, and others are still there";
            findings.add(Finding::damage(FindingCode::LeaseIncomplete, names::lease(&id, 0), message));
        }
    }
    Ok(())
}
