//! Snapshots, and whether their series are complete.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::CheckError;
use super::findings::{Finding, FindingCode, Findings};
use crate::id::SnapshotId;
use crate::index::{WitnessError, WitnessedNumber};
use crate::repo::names;
use crate::repo::{Repo, RepoError, SnapshotList, UNKNOWN_SERIES};

/// All snapshots. Those that cannot be read, and gaps in series, become findings.
pub fn check(repo: &Arc<Repo>, findings: &mut Findings) -> Result<SnapshotList, CheckError> {
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
            WitnessError::WentBack { number: WitnessedNumber::ForgetCount, .. } => {
                let message = format!("{error}; what it named counts as not forgotten");
                findings.add(Finding::damage(FindingCode::ForgetRecordMissing, names::FORGET, message));
            }
            _ => return Err(RepoError::Replaced(error).into()),
        }
    }
    if predecessors(&list, findings) {
        numbers(&list, findings);
    }
    Ok(list)
}

/// Whether every snapshot that another one continues is there, or was forgotten. If not, that becomes findings.
fn predecessors(list: &SnapshotList, findings: &mut Findings) -> bool {
    let mut are_there = true;
    let known: HashMap<_, _> = list.snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    for snapshot in &list.snapshots {
        let Some(previous) = snapshot.previous else { continue };
        let live = known.get(&previous).map(|before| (before.series, before.sequence));
        let place = live.or_else(|| list.forgotten.get(previous).map(|dead| (dead.series, dead.sequence)));
        let name = names::snapshot(&previous);
        let finding = match place {
            Some((series, sequence)) if series == snapshot.series && sequence < snapshot.sequence => continue,
            // Forgotten when nobody could read which place it had.
            Some((UNKNOWN_SERIES, _)) => continue,
            Some(_) => {
                let message = format!("snapshot {} does not continue it, although it says so", snapshot.id);
                Finding::damage(FindingCode::SnapshotChainGap, name, message)
            }
            // What cannot be read may well be what seems to be missing.
            None if list.damaged.iter().any(|(damaged, _)| *damaged == previous) => continue,
            None if !list.forgotten.damaged.is_empty() => {
                let message = format!("snapshot {} continues it; it may have been forgotten", snapshot.id);
                Finding::note(FindingCode::SnapshotChainGap, name, message)
            }
            None => {
                let message = format!("snapshot {} continues it, and it is gone", snapshot.id);
                Finding::damage(FindingCode::SnapshotChainGap, name, message).of_snapshot(previous)
            }
        };
        findings.add(finding);
        are_there = false;
    }
    are_there
}

/// The numbers of every series have no gap: forgotten snapshots keep theirs.
fn numbers(list: &SnapshotList, findings: &mut Findings) {
    if !list.damaged.is_empty() || !list.forgotten.damaged.is_empty() {
        return;
    }
    let live = list.snapshots.iter().map(|snapshot| (snapshot.series, snapshot.sequence));
    let dead = list.forgotten.snapshots().map(|(_, dead)| (dead.series, dead.sequence));
    let places: BTreeSet<_> = live.chain(dead).collect();
    let is_unknown = |(_, dead): &(SnapshotId, crate::repo::Dead)| dead.series == UNKNOWN_SERIES;
    let dead_without_place = list.forgotten.snapshots().filter(is_unknown).count();
    let mut before = None;
    for (series, sequence) in places {
        let expected = match before {
            Some((same, number)) if same == series => number + 1,
            _ => 1,
        };
        // Two writers at the same time may both have taken a number, so only what is left out says something.
        if sequence > expected && dead_without_place > 0 {
            let message = format!(
                "snapshots {expected} to {} of series {series} are gone; some were forgotten when they could not be read",
                sequence - 1
            );
            let object = format!("{}/{series}", names::SNAPSHOT);
            findings.add(Finding::note(FindingCode::SnapshotChainGap, object, message));
        } else if sequence > expected {
            let message = format!("snapshots {expected} to {} of series {series} are gone", sequence - 1);
            let object = format!("{}/{series}", names::SNAPSHOT);
            findings.add(Finding::damage(FindingCode::SnapshotChainGap, object, message));
        }
        before = Some((series, sequence));
    }
}
