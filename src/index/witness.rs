//! The witness remembers the highest numbers ever seen of a repository, so that a storage that shows an older state
//! is found out.
//!
//! It is a small file beside the index and survives a rebuild of it. Everything it remembers only grows in an honest
//! repository: settings, keyrings and prune numbers are never taken back, forget records are never deleted, and the
//! newest snapshot of a series is either listed or named in a forget record. Losing the file loses only the
//! memory: the next look at the repository is then believed as the first one was.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{RepositoryId, SeriesId, SnapshotId};

/// A number that never goes down in an honest repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WitnessedNumber {
    /// The highest `config/<n>`.
    Config,
    /// The highest `keyring/<n>`.
    Keyring,
    /// The highest prune number.
    Prune,
    /// How many forget records there are.
    ForgetCount,
}

impl fmt::Display for WitnessedNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Config => "the number of the settings",
            Self::Keyring => "the number of the keyring",
            Self::Prune => "the number of the last prune",
            Self::ForgetCount => "the number of forget records",
        })
    }
}

/// Why a repository is not believed, or the witness could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// Another repository stands where this one stood.
    #[error("the repository is {found}, and was {known} before")]
    OtherRepository {
        /// The one that was seen first.
        known: RepositoryId,
        /// The one that is there now.
        found: RepositoryId,
    },
    /// The repository has the same id, and other secrets.
    #[error("the keys of repository {repository} are not those it had before")]
    OtherKeys {
        /// Which.
        repository: RepositoryId,
    },
    /// A number went down: the storage shows an older state, or part of the state.
    #[error("{number} was {known} before and is {found} now: the storage shows an older state")]
    WentBack {
        /// Which number.
        number: WitnessedNumber,
        /// The highest that was seen.
        known: u64,
        /// What is shown now.
        found: u64,
    },
    /// The newest snapshots of a series are neither listed nor forgotten.
    #[error("snapshot {snapshot}, number {sequence} of its series, was seen before and is hidden now")]
    SeriesWentBack {
        /// Which series.
        series: SeriesId,
        /// Number of the snapshot that is missing.
        sequence: u64,
        /// The snapshot that is missing.
        snapshot: SnapshotId,
    },
    /// The file is not a witness. It may be deleted: only its memory is lost.
    #[error("the witness {path} is damaged", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        source: serde_json::Error,
    },
    /// The file could not be read or written.
    #[error("the witness {path} could not be read or written", path = path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The highest snapshot of a series: by sequence number, and by id among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeriesMark {
    /// Its number in the series.
    pub sequence: u64,
    /// Its id.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub snapshot: SnapshotId,
}

/// What somebody saw of a repository just now. What was not looked at is `None`, and is neither compared nor kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Id of the repository.
    pub repository: RepositoryId,
    /// Fingerprint of its secrets.
    pub key_fingerprint: [u8; 32],
    /// The highest `config/<n>`.
    pub config: Option<u64>,
    /// The highest `keyring/<n>`.
    pub keyring: Option<u64>,
    /// The highest prune number.
    pub prune: Option<u64>,
    /// How many forget records there are.
    pub forget_count: Option<u64>,
    /// The highest snapshot of every series, of all that are listed *or named in a forget record*.
    pub series: Option<BTreeMap<SeriesId, SeriesMark>>,
}

/// What was seen of a repository, ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Id of the repository.
    pub repository: RepositoryId,
    /// Fingerprint of its secrets.
    pub key_fingerprint: [u8; 32],
    /// The highest `config/<n>`.
    pub config: u64,
    /// The highest `keyring/<n>`.
    pub keyring: u64,
    /// The highest prune number.
    pub prune: u64,
    /// How many forget records there were.
    pub forget_count: u64,
    /// The highest snapshot of every series.
    pub series: BTreeMap<SeriesId, SeriesMark>,
}

impl Witness {
    /// Somebody who has seen this repository, and nothing of its state yet.
    pub fn new(repository: RepositoryId, key_fingerprint: [u8; 32]) -> Self {
        let series = BTreeMap::new();
        Self { repository, key_fingerprint, config: 0, keyring: 0, prune: 0, forget_count: 0, series }
    }

    /// Compares what is seen now with what was seen before, and then remembers the higher of both.
    ///
    /// Says whether there was anything new to remember. After an error nothing has changed.
    pub fn check_and_raise(&mut self, observed: &Observed) -> Result<bool, WitnessError> {
        self.check(observed)?;
        let before = self.clone();
        self.config = self.config.max(observed.config.unwrap_or(0));
        self.keyring = self.keyring.max(observed.keyring.unwrap_or(0));
        self.prune = self.prune.max(observed.prune.unwrap_or(0));
        self.forget_count = self.forget_count.max(observed.forget_count.unwrap_or(0));
        for (series, mark) in observed.series.iter().flatten() {
            self.series.insert(*series, *mark);
        }
        Ok(*self != before)
    }

    fn check(&self, observed: &Observed) -> Result<(), WitnessError> {
        if observed.repository != self.repository {
            let (known, found) = (self.repository, observed.repository);
            return Err(WitnessError::OtherRepository { known, found });
        }
        if observed.key_fingerprint != self.key_fingerprint {
            return Err(WitnessError::OtherKeys { repository: self.repository });
        }
        for (number, known, found) in [
            (WitnessedNumber::Config, self.config, observed.config),
            (WitnessedNumber::Keyring, self.keyring, observed.keyring),
            (WitnessedNumber::Prune, self.prune, observed.prune),
            (WitnessedNumber::ForgetCount, self.forget_count, observed.forget_count),
        ] {
            if let Some(found) = found.filter(|found| *found < known) {
                return Err(WitnessError::WentBack { number, known, found });
            }
        }
        let Some(seen) = &observed.series else { return Ok(()) };
        for (series, mark) in &self.series {
            if seen.get(series).is_none_or(|now| now < mark) {
                let SeriesMark { sequence, snapshot } = *mark;
                return Err(WitnessError::SeriesWentBack { series: *series, sequence, snapshot });
            }
        }
        Ok(())
    }

    /// Reads the witness at `path`; `None` if there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, WitnessError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(path, source)),
        };
        match serde_json::from_slice::<StoredWitness>(&text) {
            Ok(stored) => Ok(Some(stored.into())),
            Err(source) => Err(WitnessError::Damaged { path: path.to_owned(), source }),
        }
    }

    /// Writes the witness to `path`, completely or not at all. Durable on return.
    pub fn save(&self, path: &Path) -> Result<(), WitnessError> {
        let text = serde_json::to_vec_pretty(&StoredWitness::from(self.clone()))
            .map_err(|source| WitnessError::Damaged { path: path.to_owned(), source })?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = write_durably(&temporary, path, &text);
        if written.is_err() {
            // The error that matters is on its way; a leftover is overwritten next time.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(|source| failed(path, source))
    }

    /// Asks the witness at `path`, and lets it remember. Without one, what is seen now is believed and kept.
    ///
    /// Processes that do this at the same time wait for each other, so that none takes back what another raised.
    pub fn ask(path: &Path, observed: &Observed) -> Result<Self, WitnessError> {
        let lock_path = path.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|source| failed(&lock_path, source))?;
        lock.lock().map_err(|source| failed(&lock_path, source))?;
        let known = Self::load(path)?;
        let is_new = known.is_none();
        let mut witness = known.unwrap_or_else(|| Self::new(observed.repository, observed.key_fingerprint));
        if witness.check_and_raise(observed)? || is_new {
            witness.save(path)?;
        }
        Ok(witness)
    }
}

fn failed(path: &Path, source: io::Error) -> WitnessError {
    WitnessError::Failed { path: path.to_owned(), source }
}

fn write_durably(temporary: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // Without this a power cut could bring back the older witness, which would not notice what this one would.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The file: ids as text, and series as a list.
#[derive(Serialize, Deserialize)]
struct StoredWitness {
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    repository: RepositoryId,
    key_fingerprint: [u8; 32],
    config: u64,
    keyring: u64,
    prune: u64,
    forget_count: u64,
    series: Vec<StoredSeries>,
}

#[derive(Serialize, Deserialize)]
struct StoredSeries {
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    series: SeriesId,
    #[serde(flatten)]
    mark: SeriesMark,
}

impl From<Witness> for StoredWitness {
    fn from(witness: Witness) -> Self {
        let Witness { repository, key_fingerprint, config, keyring, prune, forget_count, series } = witness;
        let series = series.into_iter().map(|(series, mark)| StoredSeries { series, mark }).collect();
        Self { repository, key_fingerprint, config, keyring, prune, forget_count, series }
    }
}

impl From<StoredWitness> for Witness {
    fn from(stored: StoredWitness) -> Self {
        let StoredWitness { repository, key_fingerprint, config, keyring, prune, forget_count, series } =
            stored;
        let series = series.into_iter().map(|StoredSeries { series, mark }| (series, mark)).collect();
        Self { repository, key_fingerprint, config, keyring, prune, forget_count, series }
    }
}

fn as_text<S: Serializer>(id: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

fn from_text<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: SeriesId = SeriesId::new([3; 16]);

    fn mark(sequence: u64, snapshot: u8) -> SeriesMark {
        SeriesMark { sequence, snapshot: SnapshotId::new([snapshot; 16]) }
    }

    fn observed() -> Observed {
        Observed {
            repository: RepositoryId::new([1; 16]),
            key_fingerprint: [2; 32],
            config: Some(4),
            keyring: Some(5),
            prune: Some(6),
            forget_count: Some(7),
            series: Some(BTreeMap::from([(SERIES, mark(8, 9))])),
        }
    }

    fn witness() -> Witness {
        let mut witness = Witness::new(RepositoryId::new([1; 16]), [2; 32]);
        assert!(witness.check_and_raise(&observed()).unwrap());
        witness
    }

    fn error_of(change: impl FnOnce(&mut Observed)) -> String {
        let mut later = observed();
        change(&mut later);
        let mut witness = witness();
        let before = witness.clone();
        let error = witness.check_and_raise(&later).unwrap_err();
        assert_eq!(witness, before);
        error.to_string()
    }

    #[test]
    fn the_same_again_or_a_partial_look_changes_nothing() {
        let mut witness = witness();
        assert!(!witness.check_and_raise(&observed()).unwrap());
        let nothing = Observed {
            config: None,
            keyring: None,
            prune: None,
            forget_count: None,
            series: None,
            ..observed()
        };
        assert!(!witness.check_and_raise(&nothing).unwrap());
    }

    #[test]
    fn whatever_goes_back_is_named() {
        assert!(error_of(|it| it.config = Some(3)).contains("the number of the settings was 4 before"));
        assert!(error_of(|it| it.keyring = Some(0)).contains("the number of the keyring was 5 before"));
        assert!(error_of(|it| it.prune = Some(5)).contains("the number of the last prune was 6 before"));
        assert!(error_of(|it| it.forget_count = Some(6)).contains("the number of forget records was 7"));
        let hidden = "snapshot 09090909090909090909090909090909, number 8 of its series";
        assert!(error_of(|it| it.series = Some(BTreeMap::new())).contains(hidden));
        assert!(error_of(|it| it.series = Some(BTreeMap::from([(SERIES, mark(7, 20))]))).contains(hidden));
        assert!(error_of(|it| it.series = Some(BTreeMap::from([(SERIES, mark(8, 8))]))).contains(hidden));
    }

    #[test]
    fn another_repository_and_other_keys_are_refused() {
        assert!(error_of(|it| it.repository = RepositoryId::new([9; 16])).contains("was 0101"));
        assert!(error_of(|it| it.key_fingerprint = [9; 32]).contains("the keys of repository 0101"));
    }

    #[test]
    fn a_new_series_and_higher_numbers_are_kept() {
        let mut witness = witness();
        let other = SeriesId::new([4; 16]);
        let series = BTreeMap::from([(SERIES, mark(9, 1)), (other, mark(1, 2))]);
        let later = Observed { prune: Some(10), series: Some(series.clone()), ..observed() };
        assert!(witness.check_and_raise(&later).unwrap());
        assert_eq!((witness.prune, witness.config, witness.series), (10, 4, series));
    }

    #[test]
    fn a_saved_witness_is_read_back_and_nothing_else_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness.json");
        assert_eq!(Witness::load(&path).unwrap(), None);
        witness().save(&path).unwrap();
        witness().save(&path).unwrap();
        assert_eq!(Witness::load(&path).unwrap(), Some(witness()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_witness_is_asked_and_remembers_across_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness.json");
        assert_eq!(Witness::ask(&path, &observed()).unwrap(), witness());
        assert_eq!(Witness::ask(&path, &observed()).unwrap(), witness());
        let back = Observed { keyring: Some(1), ..observed() };
        assert!(matches!(
            Witness::ask(&path, &back),
            Err(WitnessError::WentBack { number: WitnessedNumber::Keyring, known: 5, found: 1 })
        ));
        assert_eq!(Witness::load(&path).unwrap(), Some(witness()));
    }

    #[test]
    fn a_cut_witness_is_damaged_at_every_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness.json");
        witness().save(&path).unwrap();
        let text = fs::read(&path).unwrap();
        for len in 0..text.len() {
            fs::write(&path, &text[..len]).unwrap();
            assert!(matches!(Witness::load(&path), Err(WitnessError::Damaged { .. })), "cut to {len}");
        }
    }
}
