//! What a check found.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::id::SnapshotId;
use crate::repo::names::Named;
use crate::units::PathText;

/// Findings that are listed one by one.
const FINDING_COUNT_MAX: usize = 10_000;
/// Paths that a finding names.
const PATH_COUNT_MAX: usize = 10;

/// What kind of thing was found. The texts are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingCode {
    /// Settings do not open, or not with the keys of the repository.
    ConfigDamaged,
    /// A slot is not what was stored.
    SlotDamaged,
    /// A keyring does not open.
    KeyringDamaged,
    /// A snapshot does not open.
    SnapshotDamaged,
    /// The second copy of an object is missing or cannot stand in for the first.
    CopyDamaged,
    /// An object is gone, and its second copy is there.
    OriginalMissing,
    /// A snapshot that another one continues, or that this computer saw before, is gone.
    SnapshotChainGap,
    /// A forget record that this computer saw before is gone.
    ForgetRecordMissing,
    /// A forget record does not open.
    ForgetRecordDamaged,
    /// A forget record that nobody wrote who may forget.
    ForgetRecordUntagged,
    /// What a prune decided does not open, or nobody wrote it who may prune.
    DecisionDamaged,
    /// A statement of a lease does not open.
    LeaseDamaged,
    /// A lease whose first statement is gone.
    LeaseIncomplete,
    /// A lease whose owner is gone or has finished.
    LeaseLeftover,
    /// The text that explains the repository is missing or altered.
    ReadmeDiffers,
    /// A name that no object of a repository has.
    NameUnparsable,
    /// An index object is not what was stored.
    IndexObjectDamaged,
    /// No index object describes a pack.
    PackNotIndexed,
    /// A pack that an index object describes is gone.
    PackMissing,
    /// A pack ends early.
    PackShort,
    /// A pack is not what was stored.
    PackDamaged,
    /// One frame of a pack does not open, or holds something else.
    FrameDamaged,
    /// Frames of a pack are damaged, and it is stated that they are, so that nobody counts on them.
    DamageStated,
    /// What is stated of the damage of a pack is not so, or not any more.
    StatementOutdated,
    /// The directory in a pack says something else than the index.
    DirectoryDiffers,
    /// Parity is missing or altered; what it protects is good.
    ParityDamaged,
    /// A node that a snapshot needs is in no pack.
    NodeMissing,
    /// A node is not what its id says, or says what cannot be.
    NodeDamaged,
    /// A chunk that a snapshot needs is in no pack.
    ChunkMissing,
    /// The local index was damaged, or its reference counts were wrong; it is made again.
    LocalIndexWrong,
}

impl FindingCode {
    /// The code under which damage of an object itself is told.
    pub fn of(object: Named) -> Self {
        match object {
            Named::Config(_) => Self::ConfigDamaged,
            Named::Slot(_) => Self::SlotDamaged,
            Named::Keyring(_) => Self::KeyringDamaged,
            Named::Forget(_) => Self::ForgetRecordDamaged,
            Named::Plan(_) | Named::Verdict(_) | Named::Done(_) | Named::Body(_) => Self::DecisionDamaged,
            Named::Pack(..) => Self::PackDamaged,
            Named::Index(_) => Self::IndexObjectDamaged,
            Named::Lease(..) => Self::LeaseDamaged,
            Named::Readme | Named::Reserve | Named::Temporary => Self::ReadmeDiffers,
            Named::Snapshot(_) => Self::SnapshotDamaged,
        }
    }
}

impl fmt::Display for FindingCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Stored bytes are gone or altered.
    Damage,
    /// Worth knowing; nothing is lost or in danger.
    Note,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub code: FindingCode,
    /// How bad it is.
    pub severity: Severity,
    /// Name of the object, or the id of a chunk or node.
    pub object: String,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// Whether what is in the repository suffices to mend it.
    pub is_mendable: bool,
    /// Snapshots that cannot be restored completely because of it.
    #[serde(serialize_with = "as_texts")]
    pub snapshots: Vec<SnapshotId>,
    /// Some paths that cannot be restored completely because of it.
    #[serde(serialize_with = "as_paths")]
    pub paths: Vec<PathBuf>,
}

impl Finding {
    /// Damage of an object.
    pub fn damage(code: FindingCode, object: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Damage,
            object: object.to_string(),
            message: message.into(),
            is_mendable: false,
            snapshots: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Something worth knowing of an object.
    pub fn note(code: FindingCode, object: impl fmt::Display, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::damage(code, object, message) }
    }

    /// Whether stored bytes are gone or altered. Notes are not damage.
    pub fn is_damage(&self) -> bool {
        self.severity == Severity::Damage
    }

    /// The same, which what is in the repository suffices to mend.
    pub fn mendable(self) -> Self {
        Self { is_mendable: true, ..self }
    }

    /// The same, of a prune that is done: that its end is there says all that is still asked for.
    pub fn of_what_is_over(self) -> Self {
        match self.code {
            FindingCode::DecisionDamaged => {
                let message = format!("{}; that prune is done, so nobody needs it", self.message);
                Self { severity: Severity::Note, message, ..self }
            }
            _ => self,
        }
    }

    /// The same, of a forgotten snapshot: that only its second copy is there harms nobody.
    pub fn of_what_is_dead(self) -> Self {
        match self.code {
            FindingCode::OriginalMissing => {
                let message = "it was forgotten and is gone; a prune removes its second copy".to_owned();
                Self { severity: Severity::Note, message, snapshots: Vec::new(), is_mendable: false, ..self }
            }
            _ => self,
        }
    }

    /// The same; a note where what is gone was needed by nobody, or is there elsewhere.
    fn softened(self) -> Self {
        if self.code != FindingCode::PackShort || self.is_mendable || !self.snapshots.is_empty() {
            return self;
        }
        let message = format!("{}; all that is needed of it is elsewhere", self.message);
        Self { severity: Severity::Note, message, ..self }
    }

    /// The same, because of which this snapshot cannot be restored.
    pub fn of_snapshot(mut self, snapshot: SnapshotId) -> Self {
        self.snapshots.push(snapshot);
        self
    }
}

fn as_texts<S: Serializer>(ids: &[SnapshotId], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(ids.iter().map(ToString::to_string))
}

fn as_paths<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(paths.iter().map(|path| PathText(path)))
}

/// What makes two findings of two looks the same.
pub type Key = (FindingCode, String, u32);

/// Number of a finding in the collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingNumber(usize);

struct Collected {
    key: Key,
    finding: Finding,
    is_dropped: bool,
    replaced_by: Option<FindingNumber>,
    paths: BTreeSet<Vec<u8>>,
    snapshots: BTreeSet<SnapshotId>,
}

/// Collects findings, each once.
#[derive(Default)]
pub struct Findings {
    list: Vec<Collected>,
    by_key: HashMap<Key, usize>,
    omitted: u64,
}

impl Findings {
    /// Adds a finding, unless it is there already. All beyond the limit share the number of the last one.
    pub fn add(&mut self, finding: Finding) -> FindingNumber {
        self.add_part(finding, 0)
    }

    /// Adds a finding, in the place of one of the same kind about the same object.
    pub fn put(&mut self, finding: Finding) -> FindingNumber {
        let number = self.add(finding.clone());
        if let Some(found) = self.list.get_mut(number.0)
            && found.key.0 == finding.code
            && found.key.1 == finding.object
        {
            found.finding = finding;
            found.is_dropped = false;
        }
        number
    }

    /// As [`Self::add`], for one part of an object: the findings of other parts are others.
    pub fn add_part(&mut self, finding: Finding, part: u32) -> FindingNumber {
        let key = (finding.code, finding.object.clone(), part);
        if let Some(number) = self.by_key.get(&key) {
            return FindingNumber(*number);
        }
        if self.list.len() >= FINDING_COUNT_MAX {
            self.omitted += u64::from(finding.is_damage());
            return FindingNumber(self.list.len() - 1);
        }
        let number = self.list.len();
        let snapshots = finding.snapshots.iter().copied().collect();
        self.by_key.insert(key.clone(), number);
        let paths = BTreeSet::new();
        self.list.push(Collected { key, finding, is_dropped: false, replaced_by: None, paths, snapshots });
        FindingNumber(number)
    }

    /// Takes back the findings of one kind about an object in favour of another one.
    pub fn replace_about(&mut self, code: FindingCode, object: &str, by: FindingNumber) {
        let about =
            self.list.iter_mut().filter(|found| found.key.0 == code && found.finding.object == object);
        about.for_each(|found| found.replaced_by = Some(by));
    }

    /// Whether there is any damage.
    pub fn has_damage(&self) -> bool {
        self.list.iter().any(|found| found.finding.is_damage() && !found.is_dropped)
    }

    /// What was found.
    pub fn keys(&self) -> HashSet<Key> {
        self.list.iter().map(|found| found.key.clone()).collect()
    }

    /// Drops all damage that an earlier look did not see.
    pub fn confirm(&mut self, seen: &HashSet<Key>) {
        for found in &mut self.list {
            found.is_dropped |= found.finding.is_damage() && !seen.contains(&found.key);
        }
    }

    /// Notes that something in a snapshot cannot be restored because of a finding.
    pub fn affects(&mut self, number: FindingNumber, snapshot: SnapshotId, path: &[u8]) {
        let number = self.list.get(number.0).and_then(|found| found.replaced_by).unwrap_or(number);
        if let Some(found) = self.list.get_mut(number.0) {
            found.snapshots.insert(snapshot);
            if found.paths.len() < PATH_COUNT_MAX && !found.paths.contains(path) {
                found.paths.insert(path.to_vec());
            }
        }
    }

    /// All findings, as they were added.
    pub fn into_findings(self) -> impl Iterator<Item = Finding> {
        self.list.into_iter().map(|found| found.finding)
    }

    /// A pack that is gone, and in which no snapshot needs anything, is no damage: a prune that was interrupted may
    /// leave its description behind. Nothing is excused while any snapshot is incomplete, because nobody knows then
    /// what it would have led to.
    pub fn excuse_unneeded(&mut self) {
        let is_damage =
            |found: &Collected| found.finding.is_damage() && !found.is_dropped && found.replaced_by.is_none();
        let touches = |found: &Collected| !found.snapshots.is_empty() || !found.finding.snapshots.is_empty();
        if self.omitted > 0 || self.list.iter().any(|found| is_damage(found) && touches(found)) {
            return;
        }
        for found in &mut self.list {
            if is_damage(found) && found.finding.code == FindingCode::PackMissing {
                found.finding.severity = Severity::Note;
                "the pack is gone, and no snapshot needs anything that was only in it"
                    .clone_into(&mut found.finding.message);
            }
        }
    }

    /// The findings, damage first, and how many more there were.
    pub fn finish(self) -> (Vec<Finding>, u64) {
        let kept = self.list.into_iter().filter(|found| !found.is_dropped && found.replaced_by.is_none());
        let finished = kept.map(|found| Finding {
            snapshots: found.snapshots.into_iter().collect(),
            paths: found.paths.into_iter().map(|path| PathBuf::from(OsString::from_vec(path))).collect(),
            ..found.finding
        });
        let finished = finished.map(Finding::softened);
        let mut findings: Vec<_> = finished.collect();
        findings.sort_by(|a, b| (a.severity, a.code, &a.object).cmp(&(b.severity, b.code, &b.object)));
        (findings, self.omitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_that_was_not_seen_twice_is_dropped_and_a_note_stays() {
        let missing = |object: &str| Finding::damage(FindingCode::NodeMissing, object, "it is gone");
        let mut first = Findings::default();
        first.add(missing("data/a"));
        let mut second = Findings::default();
        second.add(missing("data/b"));
        second.add(missing("data/a"));
        second.add(missing("data/a"));
        second.add(Finding::note(FindingCode::PackNotIndexed, "data/c", "nothing describes it"));
        second.confirm(&first.keys());
        let (findings, omitted) = second.finish();
        let objects: Vec<_> = findings.iter().map(|finding| finding.object.as_str()).collect();
        assert_eq!((objects, omitted), (vec!["data/a", "data/c"], 0));
    }

    #[test]
    fn a_pack_that_nobody_misses_is_worth_a_note() {
        let mut findings = Findings::default();
        let missed = findings.add(Finding::damage(FindingCode::PackShort, "data/a", "it ends early"));
        findings.add(Finding::damage(FindingCode::PackShort, "data/b", "it ends early"));
        assert!(findings.has_damage());
        findings.affects(missed, SnapshotId::new([1; 16]), b"/file");
        let (findings, _) = findings.finish();
        let severities: Vec<_> = findings.iter().map(|it| (it.object.as_str(), it.severity)).collect();
        assert_eq!(severities, [("data/a", Severity::Damage), ("data/b", Severity::Note)]);
    }

    #[test]
    fn findings_beyond_the_limit_are_counted() {
        let mut findings = Findings::default();
        for number in 0..FINDING_COUNT_MAX + 7 {
            findings.add(Finding::damage(FindingCode::ChunkMissing, number, "it is gone"));
        }
        let (listed, omitted) = findings.finish();
        assert_eq!((listed.len(), omitted), (FINDING_COUNT_MAX, 7));
    }

    #[test]
    fn codes_are_stable_words() {
        assert_eq!(FindingCode::SnapshotChainGap.to_string(), "snapshot_chain_gap");
    }
}
