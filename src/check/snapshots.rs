//! Snapshots, and whether their series are complete.

use std::collections::HashMap;
use std::sync::Arc;

use super::CheckError;
use super::findings::{Finding, FindingCode, Findings};
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::index::WitnessError;
use crate::repo::names;
use crate::repo::{Repo, RepoError};

/// All snapshots that can be read. Those that cannot, and gaps in series, become findings.
pub fn check(repo: &Arc<Repo>, findings: &mut Findings) -> Result<Vec<Snapshot>, CheckError> {
    let (list, contradiction) = repo.examine_snapshots()?;
    for (id, reason) in &list.damaged {
        let finding = Finding::damage(FindingCode::SnapshotDamaged, names::snapshot(id), reason.clone());
        findings.add(finding.of_snapshot(*id));
    }
    let is_damaged = |id: &SnapshotId| list.damaged.iter().any(|(damaged, _)| damaged == id);
    if let Some(error) = contradiction {
        match &error {
            // What cannot be read may well be what seems to be missing.
            WitnessError::SeriesWentBack { snapshot, .. } if is_damaged(snapshot) => {}
            WitnessError::SeriesWentBack { snapshot, .. } => {
                let name = names::snapshot(snapshot);
                let message = error.to_string();
                findings.add(
                    Finding::damage(FindingCode::SnapshotChainGap, name, message).of_snapshot(*snapshot),
                );
            }
            _ => return Err(RepoError::Replaced(error).into()),
        }
    }
    let known: HashMap<_, _> = list.snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    let decisions_exist = has_decisions(repo)?;
    for snapshot in &list.snapshots {
        let Some(previous) = snapshot.previous else { continue };
        let follows = known
            .get(&previous)
            .map(|before| before.series == snapshot.series && before.sequence < snapshot.sequence);
        if follows == Some(true) || is_damaged(&previous) {
            continue;
        }
        let name = names::snapshot(&previous);
        let finding = if follows == Some(false) {
            let message = format!("snapshot {} does not continue it, although it says so", snapshot.id);
            Finding::damage(FindingCode::SnapshotChainGap, name, message)
        } else if decisions_exist {
            let message = format!("snapshot {} continues it; it may have been forgotten", snapshot.id);
            Finding::note(FindingCode::SnapshotChainGap, name, message)
        } else {
            let message = format!("snapshot {} continues it, and it is gone", snapshot.id);
            Finding::damage(FindingCode::SnapshotChainGap, name, message).of_snapshot(previous)
        };
        findings.add(finding);
    }
    Ok(list.snapshots)
}

/// Whether somebody forgot snapshots: records of that explain gaps, and are for a newer version to read.
fn has_decisions(repo: &Repo) -> Result<bool, RepoError> {
    let mut found = false;
    repo.storage().list(names::FORGET, &mut |_| found = true)?;
    Ok(found)
}
