//! Leases as a prune sees them: who is at work, what he has acknowledged, and whether he is alive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::format::container::ObjectKind;
use crate::format::lease::LeaseStatement;
use crate::id::SnapshotId;
use crate::repo::error::RepoError;
use crate::repo::names::Named;
use crate::repo::{Repo, names, sealing};
use crate::storage::{HeldState, StorageError};

/// What a listing showed of a lease.
#[derive(Debug, Clone, Default)]
pub struct ListedLease {
    /// Numbers of its statements.
    pub statements: BTreeSet<u32>,
    /// It said that it is over.
    pub has_ended: bool,
    /// When its newest object was stored, by the clock of the storage.
    pub stored_at: Timestamp,
}

impl Repo {
    /// All leases, from a listing made now.
    pub fn list_leases(&self) -> Result<BTreeMap<SnapshotId, ListedLease>, RepoError> {
        let mut all: BTreeMap<SnapshotId, ListedLease> = BTreeMap::new();
        self.storage().list(names::LEASE, &mut |listed| {
            let Some(Named::Lease(id, number)) = names::parse(&listed.name) else { return };
            let lease = all.entry(id).or_default();
            lease.stored_at = lease.stored_at.max(listed.stored_at);
            match number {
                Some(number) => {
                    lease.statements.insert(number);
                }
                None => lease.has_ended = true,
            }
        })?;
        Ok(all)
    }

    /// Whether any writer is registered that has not said that it is over.
    pub fn has_leases(&self) -> Result<bool, RepoError> {
        Ok(self.list_leases()?.values().any(|lease| !lease.has_ended))
    }

    /// All statements of a lease that can be read, the newest first. One that was deleted meanwhile, because a newer one
    /// is there, is passed over; so is a damaged one, which says nothing.
    pub fn lease_statements(
        &self,
        id: SnapshotId,
        lease: &ListedLease,
    ) -> Result<Vec<LeaseStatement>, RepoError> {
        let mut statements = Vec::new();
        for number in lease.statements.iter().rev() {
            let name = names::lease(&id, *number);
            let opened = self.read_control(&name, |stored| {
                let plain = sealing::open_object(
                    &self.keys,
                    self.id,
                    ObjectKind::Lease,
                    Some(name.as_str()),
                    stored,
                )?;
                Ok(LeaseStatement::decode(&plain)?)
            });
            match opened {
                Ok(statement) => statements.push(statement),
                Err(RepoError::Storage(StorageError::Missing { .. }) | RepoError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(statements)
    }

    /// Whether the owner of a lease is known to be dead: a process of this computer that is gone.
    ///
    /// A computer of the same name that is another one may be wronged. It then begins again, and nothing is lost.
    pub fn is_dead(&self, id: SnapshotId, statement: &LeaseStatement) -> Result<bool, RepoError> {
        let identity = self.identity();
        if statement.host != identity.host {
            return Ok(false);
        }
        if statement.boot != identity.boot {
            return Ok(true);
        }
        match self.storage().held(&names::lease(&id, 0)) {
            Ok(state) => Ok(state == HeldState::Free),
            Err(StorageError::Missing { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the lease has been silent for so long, by the times of the storage and the clock of this computer.
    pub fn is_silent(&self, lease: &ListedLease, silence: Duration) -> bool {
        let age = self.clock().now().seconds.saturating_sub(lease.stored_at.seconds);
        u64::try_from(age).is_ok_and(|age| age >= silence.as_secs())
    }

    /// Removes all objects of a lease that is over, the first statement last.
    pub fn remove_lease(&self, id: SnapshotId, lease: &ListedLease) -> Result<(), RepoError> {
        for number in lease.statements.iter().rev() {
            self.storage().delete(&names::lease(&id, *number))?;
        }
        if lease.has_ended {
            self.storage().delete(&names::lease_end(&id))?;
        }
        Ok(())
    }
}
