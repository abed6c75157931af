//! Snapshots: list, select, commit (docs/format.md, "Snapshots").

use std::collections::BTreeMap;

use crate::format::container::{Header, ObjectKind};
use crate::format::snapshot::{Snapshot, Tombstone};
use crate::id::SnapshotId;
use crate::index::{Observed, SeriesMark, WitnessError};
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::names::Named;
use crate::repo::{Repo, names, sealing};
use crate::storage::{Created, StorageError};

/// A listing that contradicts what this computer saw before is made again so often.
const LISTING_COUNT_MAX: u32 = 3;

/// All snapshots that can be read, oldest first.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// By time, then by id.
    pub snapshots: Vec<Snapshot>,
    /// Snapshots that cannot be read, and why.
    pub damaged: Vec<(SnapshotId, String)>,
}

/// Narrows a list of snapshots. Everything given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Hosts, one of which it must be.
    pub hosts: Vec<String>,
    /// Tags, all of which it must have.
    pub tags: Vec<String>,
    /// Absolute paths, all of which it must hold.
    pub paths: Vec<Vec<u8>>,
}

impl SnapshotFilter {
    /// Whether the snapshot fits.
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.paths.iter().all(|path| snapshot.paths.iter().any(|held| held.as_slice() == path))
    }
}

/// `latest`, `latest~2` or the beginning of an id; and `:/path` for something inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSelector {
    /// What names the snapshot.
    pub snapshot: String,
    /// Components of the path inside it.
    pub path: Option<Vec<Vec<u8>>>,
}

impl SnapshotSelector {
    /// Parses `SNAPSHOT` or `SNAPSHOT:/path`.
    pub fn parse(text: &[u8]) -> Self {
        let at = text.iter().position(|byte| *byte == b':');
        let (snapshot, path) = at.and_then(|at| text.split_at_checked(at)).unwrap_or((text, b""));
        let components =
            |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let path = path.strip_prefix(b":").map(|path| {
            let parts = components(path).into_iter();
            parts.filter(|part| !part.is_empty() && part != b".").collect()
        });
        Self { snapshot: String::from_utf8_lossy(snapshot).into_owned(), path }
    }
}

impl SnapshotList {
    /// The snapshot that a selector names among those that fit the filter.
    pub fn select(&self, selector: &str, filter: &SnapshotFilter) -> Result<&Snapshot, RepoError> {
        let none = || RepoError::NoSnapshot { selector: selector.to_owned() };
        if let Some(back) = selector.strip_prefix("latest") {
            let back = match back.strip_prefix('~') {
                None if back.is_empty() => 0,
                None => return Err(none()),
                Some(number) => number.parse::<usize>().map_err(|_| none())?,
            };
            return self
                .snapshots
                .iter()
                .rev()
                .filter(|snapshot| filter.fits(snapshot))
                .nth(back)
                .ok_or_else(none);
        }
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let prefix = selector.to_ascii_lowercase();
        if prefix.is_empty() || !is_hex(&prefix) {
            return Err(none());
        }
        let fits = |snapshot: &&Snapshot| snapshot.id.to_string().starts_with(&prefix);
        let mut found = self.snapshots.iter().filter(fits);
        match (found.next(), found.next()) {
            (None, _) => Err(none()),
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => {
                let candidates = self.snapshots.iter().filter(fits).map(|snapshot| snapshot.id).collect();
                Err(RepoError::AmbiguousSnapshot { selector: selector.to_owned(), candidates })
            }
        }
    }

    /// The newest snapshot of a series.
    pub fn newest_of(&self, series: crate::id::SeriesId) -> Option<&Snapshot> {
        self.snapshots
            .iter()
            .filter(|snapshot| snapshot.series == series)
            .max_by_key(|snapshot| snapshot.sequence)
    }
}

impl Repo {
    /// Reads all snapshots, and compares them with what this computer saw before: a series whose newest snapshots
    /// are gone without a record is an error, because somebody hid them.
    pub fn snapshots(&self) -> Result<SnapshotList, RepoError> {
        let mut tries = 0;
        loop {
            let list = self.list_snapshots()?;
            // What cannot be read may well be what seems to be missing.
            let seen = if list.damaged.is_empty() { self.witness_snapshots(&list) } else { Ok(()) };
            tries += 1;
            match seen {
                Ok(()) => return Ok(list),
                // Another process may have committed, and told the witness, after the listing was made.
                Err(RepoError::Replaced(WitnessError::SeriesWentBack { .. }))
                    if tries < LISTING_COUNT_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads all snapshots, and says beside them what contradicts what this computer saw before.
    pub fn examine_snapshots(&self) -> Result<(SnapshotList, Option<WitnessError>), RepoError> {
        let list = self.list_snapshots()?;
        match self.witness_snapshots(&list) {
            Ok(()) => Ok((list, None)),
            Err(RepoError::Replaced(error)) => Ok((list, Some(error))),
            Err(error) => Err(error),
        }
    }

    fn list_snapshots(&self) -> Result<SnapshotList, RepoError> {
        let mut ids = Vec::new();
        self.storage().list(names::SNAPSHOT, &mut |listed| {
            if let Some(Named::Snapshot(id)) = names::parse(&listed.name) {
                ids.push(id);
            }
        })?;
        let mut list = SnapshotList::default();
        for id in ids {
            match self.read_snapshot(id) {
                Ok(Some(snapshot)) => list.snapshots.push(snapshot),
                Ok(None) => {}
                // Deleted since the listing was made.
                Err(RepoError::Storage(StorageError::Missing { .. })) => {}
                Err(error @ RepoError::Damaged { .. }) => list.damaged.push((id, reason_text(&error))),
                Err(error) => return Err(error),
            }
        }
        list.snapshots.sort_by_key(|snapshot| (snapshot.started_at, snapshot.id));
        list.damaged.sort();
        Ok(list)
    }

    fn witness_snapshots(&self, list: &SnapshotList) -> Result<(), RepoError> {
        let mut series = BTreeMap::<_, SeriesMark>::new();
        for snapshot in &list.snapshots {
            let mark = SeriesMark { sequence: snapshot.sequence, snapshot: snapshot.id };
            series.entry(snapshot.series).and_modify(|newest| *newest = mark.max(*newest)).or_insert(mark);
        }
        self.witness(&Observed { series: Some(series), ..self.nothing_observed() })
    }

    /// A snapshot, or `None` for a tombstone in its place.
    pub fn read_snapshot(&self, id: SnapshotId) -> Result<Option<Snapshot>, RepoError> {
        self.read_control(&names::snapshot(&id), |stored| self.open_snapshot(id, stored))
    }

    /// Opens and decodes a snapshot; `None` for a tombstone in its place.
    pub(super) fn open_snapshot(
        &self,
        id: SnapshotId,
        stored: &[u8],
    ) -> Result<Option<Snapshot>, DamageReason> {
        let name = names::snapshot(&id);
        let (header, _) = Header::decode(stored)?;
        let open = |kind| sealing::open_object(&self.keys, self.id, kind, Some(name.as_str()), stored);
        let snapshot = match header.kind {
            ObjectKind::Tombstone => Tombstone::decode(&open(ObjectKind::Tombstone)?).map(|_| None),
            _ => Snapshot::decode(&open(ObjectKind::Snapshot)?).map(Some),
        }?;
        match snapshot {
            Some(snapshot) if snapshot.id != id => Err(DamageReason::Kind),
            other => Ok(other),
        }
    }

    /// Commits a snapshot: the last write of a backup. Everything it names must be durable.
    pub fn commit_snapshot(&self, snapshot: &Snapshot) -> Result<(), RepoError> {
        let name = names::snapshot(&snapshot.id);
        let plain = snapshot.encode().map_err(RepoError::Unstorable)?;
        match self.create_sealed(ObjectKind::Snapshot, &name, snapshot.id, &plain)? {
            Created::Created => Ok(()),
            Created::Exists => Err(RepoError::Fenced),
        }
    }

    /// Stores the second copy of a committed snapshot and remembers it on this computer.
    pub fn after_commit(&self, snapshot: &Snapshot) -> Result<(), RepoError> {
        self.create_copy(&names::snapshot(&snapshot.id))?;
        let mark = SeriesMark { sequence: snapshot.sequence, snapshot: snapshot.id };
        self.witness_commit(snapshot.series, mark)
    }
}

fn reason_text(error: &RepoError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_may_name_a_path() {
        let parsed = |text: &str| SnapshotSelector::parse(text.as_bytes());
        assert_eq!(parsed("latest").path, None);
        let inside = parsed("latest~2:/srv/a:b/./c/");
        assert_eq!(inside.snapshot, "latest~2");
        assert_eq!(inside.path, Some(vec![b"srv".to_vec(), b"a:b".to_vec(), b"c".to_vec()]));
        assert_eq!(parsed("ab12:").path, Some(vec![]));
    }
}
