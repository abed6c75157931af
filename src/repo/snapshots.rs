//! Snapshots: list, select, commit (docs/format.md, "Snapshots").
//!
//! A snapshot is *live* if its object is there and no forget record names it. Whatever lists or selects snapshots sees
//! live ones only. `snapshot/` is always listed before `forget/`, so that a snapshot that a prune deletes in between is
//! explained by its record.

use std::collections::BTreeMap;

use crate::event::with_causes;
use crate::format::container::{Header, ObjectKind};
use crate::format::snapshot::{Snapshot, Tombstone};
use crate::id::{SeriesId, SnapshotId};
use crate::index::{Observed, SeriesMark, WitnessError, WitnessedNumber};
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::forgets::Forgotten;
use crate::repo::names::Named;
use crate::repo::{Repo, names, sealing, tags};
use crate::storage::{Created, ObjectName, StorageError};

/// A listing that contradicts what this computer saw before is made again so often.
const LISTING_COUNT_MAX: u32 = 3;

/// The series of snapshots that were forgotten when nobody could read theirs.
pub const UNKNOWN_SERIES: SeriesId = SeriesId::new([0; 16]);

/// All live snapshots that can be read, oldest first, and what is known of dead ones.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// By time; of the same time by number, then by id.
    pub snapshots: Vec<Snapshot>,
    /// Live snapshots that cannot be read, and why.
    pub damaged: Vec<(SnapshotId, String)>,
    /// What was forgotten.
    pub forgotten: Forgotten,
    /// Forgotten snapshots whose objects are still there, by id.
    pub dead: Vec<SnapshotId>,
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
            (None, _) => Err(self.find_dead(&prefix).unwrap_or_else(none)),
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => {
                let candidates = self.snapshots.iter().filter(fits).map(|snapshot| snapshot.id).collect();
                Err(RepoError::AmbiguousSnapshot { selector: selector.to_owned(), candidates })
            }
        }
    }

    /// That a snapshot whose id begins so was forgotten, if one was.
    fn find_dead(&self, prefix: &str) -> Option<RepoError> {
        let fits = |id: &SnapshotId| id.to_string().starts_with(prefix);
        let (id, _) = self.forgotten.snapshots().find(|(id, _)| fits(id))?;
        Some(RepoError::Forgotten { id, is_there: self.dead.contains(&id) })
    }

    /// The snapshot that was forgotten and whose id begins so.
    pub fn select_dead(&self, selector: &str) -> Result<SnapshotId, RepoError> {
        let prefix = selector.to_ascii_lowercase();
        let none = || RepoError::NoSnapshot { selector: selector.to_owned() };
        let mut found: Vec<_> = self.forgotten.snapshots().map(|(id, _)| id).collect();
        found.retain(|id| id.to_string().starts_with(&prefix));
        match found.as_slice() {
            [] => Err(none()),
            [only] => Ok(*only),
            _ => Err(RepoError::AmbiguousSnapshot { selector: selector.to_owned(), candidates: found }),
        }
    }

    /// Number and predecessor of the next snapshot of a series. Numbers of forgotten ones are not used again, so that
    /// no number says two things.
    pub fn next_of(&self, series: SeriesId) -> (u64, Option<SnapshotId>) {
        let live = self.snapshots.iter().filter(|snapshot| snapshot.series == series);
        let live = live.map(|snapshot| (snapshot.sequence, snapshot.id));
        let dead = self.forgotten.snapshots().filter(|(_, dead)| dead.series == series);
        let newest = live.chain(dead.map(|(id, dead)| (dead.sequence, id))).max();
        (newest.map_or(1, |(sequence, _)| sequence.saturating_add(1)), newest.map(|(_, id)| id))
    }
}

impl Repo {
    /// Reads all snapshots, and compares them with what this computer saw before: a series whose newest snapshots
    /// are gone without a record is an error, because somebody hid them, and so is a record that is gone.
    pub fn snapshots(&self) -> Result<SnapshotList, RepoError> {
        let mut tries = 0;
        loop {
            let list = self.list_snapshots()?;
            let seen = self.witness_snapshots(&list);
            tries += 1;
            match seen {
                Ok(()) => return Ok(list),
                // Another process may have committed, and told the witness, after the listing was made.
                Err(RepoError::Replaced(
                    WitnessError::SeriesWentBack { .. }
                    | WitnessError::WentBack { number: WitnessedNumber::ForgetCount, .. },
                )) if tries < LISTING_COUNT_MAX => {}
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

    /// Snapshots of which there is a second copy, from a listing made now.
    pub fn list_snapshot_copies(&self) -> Result<Vec<SnapshotId>, RepoError> {
        let mut ids = Vec::new();
        if !self.config.copies {
            return Ok(ids);
        }
        self.storage().list(&format!("{}/{}", names::COPY, names::SNAPSHOT), &mut |listed| {
            let original =
                listed.name.as_str().split_once('/').and_then(|(_, name)| ObjectName::new(name).ok());
            if let Some(Named::Snapshot(id)) = original.and_then(|name| names::parse(&name)) {
                ids.push(id);
            }
        })?;
        Ok(ids)
    }

    fn list_snapshots(&self) -> Result<SnapshotList, RepoError> {
        let mut ids = Vec::new();
        self.storage().list(names::SNAPSHOT, &mut |listed| {
            if let Some(Named::Snapshot(id)) = names::parse(&listed.name) {
                ids.push(id);
            }
        })?;
        let mut list = SnapshotList { forgotten: self.list_forgotten()?, ..SnapshotList::default() };
        for id in ids {
            if list.forgotten.get(id).is_some() {
                list.dead.push(id);
                continue;
            }
            match self.read_snapshot(id) {
                Ok(Some(snapshot)) => list.snapshots.push(snapshot),
                Ok(None) => {}
                // Deleted since the listing was made.
                Err(RepoError::Storage(StorageError::Missing { .. })) => {}
                Err(error @ RepoError::Damaged { .. }) => list.damaged.push((id, with_causes(&error))),
                Err(error) => return Err(error),
            }
        }
        list.snapshots.sort_by_key(|snapshot| (snapshot.started_at, snapshot.sequence, snapshot.id));
        list.damaged.sort();
        list.dead.sort_unstable();
        Ok(list)
    }

    fn witness_snapshots(&self, list: &SnapshotList) -> Result<(), RepoError> {
        let forget_count = Some(list.forgotten.record_count());
        // What cannot be read may well be what seems to be missing.
        let is_complete = list.damaged.is_empty() && list.forgotten.damaged.is_empty();
        let series = is_complete.then(|| series_marks(list));
        let observed = Observed { series, forget_count, ..self.nothing_observed() };
        match self.witness(&observed) {
            // Forgotten when nobody could read which place it had: it was not hidden.
            Err(RepoError::Replaced(WitnessError::SeriesWentBack { snapshot, .. }))
                if list.forgotten.get(snapshot).is_some() =>
            {
                self.witness(&Observed { series: None, ..observed })
            }
            outcome => outcome,
        }
    }

    /// The place of a snapshot that cannot be read, as far as others say it: the one that continues it, or what this
    /// computer remembers. Unknown is the first place of the series without a name.
    pub fn place_of_damaged(
        &self,
        list: &SnapshotList,
        id: SnapshotId,
    ) -> Result<(SeriesId, u64), RepoError> {
        let next = list.snapshots.iter().find(|snapshot| snapshot.previous == Some(id));
        if let Some(next) = next {
            return Ok((next.series, next.sequence.saturating_sub(1).max(1)));
        }
        let remembered = self.witnessed_series()?.into_iter().find(|(_, mark)| mark.snapshot == id);
        let unknown = (UNKNOWN_SERIES, 1);
        Ok(remembered.map_or(unknown, |(series, mark)| (series, mark.sequence.max(1))))
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
            ObjectKind::Tombstone => {
                let tombstone = Tombstone::decode(&open(ObjectKind::Tombstone)?)?;
                tags::verify(&self.keys, &tombstone)?;
                None
            }
            _ => Some(Snapshot::decode(&open(ObjectKind::Snapshot)?)?),
        };
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

/// The newest snapshot of every series, live or dead.
fn series_marks(list: &SnapshotList) -> BTreeMap<SeriesId, SeriesMark> {
    let live = list.snapshots.iter().map(|it| (it.series, it.sequence, it.id));
    let dead = list.forgotten.snapshots().map(|(id, dead)| (dead.series, dead.sequence, id));
    let mut marks = BTreeMap::<_, SeriesMark>::new();
    for (series, sequence, snapshot) in live.chain(dead) {
        let mark = SeriesMark { sequence, snapshot };
        marks.entry(series).and_modify(|newest| *newest = mark.max(*newest)).or_insert(mark);
    }
    marks
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
