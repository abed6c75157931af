//! Reference counts of the local index, compared with what the nodes say that were read.
//!
//! Only where counts are kept: where somebody prunes, or asked for statistics. They are first brought up to date with
//! the very snapshots that are followed. While the trees are read, all references are added up, each node's once; the
//! audit of the index adds up all counts in the same way. Both sums are a few bytes. A difference is no damage of the
//! repository: the index is deleted, and whoever needs counts makes new ones.

use std::sync::Arc;

use super::findings::{Finding, FindingCode, Findings};
use super::{CheckError, Look};
use crate::event::Observer;
use crate::index::IndexError;
use crate::index::counts::ReferenceSum;
use crate::repo::{Repo, RepoError, SnapshotList};

/// Brings the counts up to date. `None` if there are none, or if they cannot be compared.
pub fn begin(
    repo: &Arc<Repo>,
    list: &SnapshotList,
    findings: &mut Findings,
    observer: &dyn Observer,
) -> Result<Option<ReferenceSum>, CheckError> {
    let has_counts = repo.counted_index()?.has_counts().map_err(RepoError::from)?;
    if !has_counts || findings.has_damage() || !list.damaged.is_empty() {
        return Ok(None);
    }
    match repo.count_snapshots(list, observer) {
        Ok((counted, _)) => {
            if let Some(reason) = counted.rebuilt_because {
                note_rebuilt(findings, &reason);
            }
            Ok(counted.vanished.is_empty().then(ReferenceSum::default))
        }
        Err(RepoError::Ended) if observer.is_interrupted() => Err(CheckError::Interrupted),
        // What cannot be read is found where everything is looked at.
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Compares the references that were added up with the counts. A wrong index is an error about that.
pub fn compare(look: &mut Look<'_>) -> Result<(), CheckError> {
    let Some(references) = look.references else { return Ok(()) };
    if look.findings.has_damage() {
        return Ok(());
    }
    look.observer.phase("checking reference counts");
    let audit = look.repo.counted_index()?.audit_counts().map_err(RepoError::from)?;
    let Some(counted) = audit.references else { return Ok(()) };
    if counted != references {
        let error = IndexError::damaged("its reference counts are not those of the nodes");
        return Err(RepoError::from(error).into());
    }
    look.report.counts_checked = true;
    Ok(())
}

/// Tells that the local index was wrong.
pub fn note_rebuilt(findings: &mut Findings, reason: &str) {
    let message = format!("it was deleted and is made again: {reason}");
    findings.add(Finding::note(FindingCode::LocalIndexWrong, "the local index", message));
}
