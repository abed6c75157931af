//! P6: every writer that could use a doomed pack has spoken, has ended, or is made to end.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::format::lease::LeaseStatement;
use crate::id::{PackId, SnapshotId};
use crate::prune::{PruneError, PruneOptions};
use crate::repo::{ListedLease, Repo, RepoError, names};
use crate::storage::StorageError;

/// A writer that a prune waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Its lease.
    pub lease: String,
    /// Its computer, as far as it has said so.
    pub host: String,
    /// What it does.
    pub purpose: String,
}

/// What became of the leases.
pub enum Settled {
    /// All are settled; these packs are used.
    All(BTreeSet<PackId>),
    /// These are not.
    Not(Vec<Waiting>),
}

/// Settles every lease for the plan of this number and hash.
pub fn leases(
    repo: &Repo,
    number: u64,
    plan: &[u8; 32],
    options: &PruneOptions,
) -> Result<Settled, PruneError> {
    let mut holds = BTreeSet::new();
    let mut waiting = Vec::new();
    for (id, lease) in repo.list_leases()? {
        match one(repo, number, plan, options, id, &lease)? {
            One::Settled(packs) => holds.extend(packs),
            One::Open(writer) => waiting.push(writer),
        }
    }
    Ok(if waiting.is_empty() { Settled::All(holds) } else { Settled::Not(waiting) })
}

enum One {
    Settled(Vec<PackId>),
    Open(Waiting),
}

fn one(
    repo: &Repo,
    number: u64,
    plan: &[u8; 32],
    options: &PruneOptions,
    id: SnapshotId,
    lease: &ListedLease,
) -> Result<One, PruneError> {
    if is_over(repo, id, lease)? {
        return Ok(One::Settled(Vec::new()));
    }
    let statements = repo.lease_statements(id, lease)?;
    let has_seen =
        |it: &LeaseStatement| it.seen.is_some_and(|seen| seen.number == number && seen.hash == *plan);
    if statements.iter().any(has_seen) {
        // Holds may be told in several statements; what was held once is held.
        let acknowledged = statements.into_iter().filter(has_seen);
        return Ok(One::Settled(acknowledged.flat_map(|statement| statement.holds).collect()));
    }
    let newest = statements.into_iter().next();
    match fence(repo, number, options, id, lease, newest.as_ref())? {
        true => Ok(One::Settled(Vec::new())),
        false => Ok(One::Open(waiting_for(id, newest))),
    }
}

/// Makes the commit of a writer impossible that is taken for dead. False if it is not.
fn fence(
    repo: &Repo,
    number: u64,
    options: &PruneOptions,
    id: SnapshotId,
    lease: &ListedLease,
    newest: Option<&LeaseStatement>,
) -> Result<bool, PruneError> {
    let is_dead = match newest {
        Some(statement) => repo.is_dead(id, statement)?,
        None => false,
    };
    let reason = match () {
        () if options.exclusive => "the operator said that nothing else runs",
        () if is_dead => "its process is gone",
        () if repo.is_silent(lease, options.silence) => "it gave no sign of life for too long",
        () => return Ok(false),
    };
    // Created or not: what stands there now settles it.
    repo.create_tombstone(id, number, reason.to_owned())?;
    Ok(true)
}

/// Removes the leases of writers that are over or taken for dead. For a prune without a plan, which asks nobody: their
/// packs would be left alone for ever, as those of a writer at work are.
pub fn sweep(repo: &Repo, number: u64, options: &PruneOptions) -> Result<(), PruneError> {
    for (id, lease) in repo.list_leases()? {
        let is_gone = is_over(repo, id, &lease)? || {
            let newest = repo.lease_statements(id, &lease)?.into_iter().next();
            fence(repo, number, options, id, &lease, newest.as_ref())?
        };
        if is_gone {
            repo.remove_lease(id, &lease)?;
        }
    }
    Ok(())
}

/// Whether the writer never commits again, or did commit, or never can: P7 sees what it has committed.
pub fn is_over(repo: &Repo, id: SnapshotId, lease: &ListedLease) -> Result<bool, PruneError> {
    if lease.has_ended {
        return Ok(true);
    }
    match repo.storage().len(&names::snapshot(&id)) {
        Ok(_) => Ok(true),
        Err(StorageError::Missing { .. }) => Ok(false),
        Err(error) => Err(RepoError::from(error).into()),
    }
}

fn waiting_for(id: SnapshotId, statement: Option<LeaseStatement>) -> Waiting {
    let (host, purpose) = match statement {
        Some(statement) => (statement.host, statement.purpose),
        None => ("a host that has not said its name".to_owned(), String::new()),
    };
    Waiting { lease: id.to_string(), host, purpose }
}
