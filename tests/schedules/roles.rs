//! What actors do.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kluis::check::{self, CheckOptions};
use kluis::event::Silent;
use kluis::forget::{self, ForgetError, ForgetOptions};
use kluis::format::snapshot::Snapshot;
use kluis::format::tree::Content;
use kluis::id::SnapshotId;
use kluis::prune::{PruneOptions, PruneReport};
use kluis::repo::{Repo, RepoError, TreeReader};

use crate::judge::is_harmless;
use crate::props::Host;
use crate::world::{World, back_up, impatient, prune, thorough};

/// A reader looks again so often when something has changed under him.
const READ_COUNT: usize = 5;

/// Files by path below the root, with the hash of each.
pub type Files = BTreeMap<Vec<u8>, blake3::Hash>;

/// An operation that an actor plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Of this source.
    Backup(usize),
    /// Of the snapshot at this place of the list.
    Forget(usize),
    /// Of the forgotten one at this place.
    Undo(usize),
    Prune,
    /// The operator says that nothing else runs, which is not so.
    ExclusivePrune,
    /// Whoever works at the same time is taken for dead.
    ImpatientPrune,
    Check,
    Restore,
}

/// What an actor says at its end.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// A snapshot was reported as made.
    pub committed: Option<SnapshotId>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// What a prune did.
    pub pruned: Option<PruneReport>,
    /// What a check found worth knowing.
    pub notes: Vec<String>,
    /// What must never be: damage that was found, or a wrong tree.
    pub violation: Option<String>,
}

/// What anybody has asked to be forgotten.
pub type Asked = Arc<Mutex<BTreeSet<SnapshotId>>>;

impl Role {
    /// Plays it with a repository opened on this host.
    pub fn play(self, host: &Host, cache: &Path, world: &World, asked: &Asked) -> Said {
        let outcome = host.open(cache).map_err(|error| Failure(format!("open: {error:?}")));
        match outcome.and_then(|repo| self.play_on(&repo, world, asked)) {
            Ok(said) => said,
            Err(Failure(text)) => Said { failure: Some(text), ..Said::default() },
        }
    }

    /// Plays it with a repository that nobody else uses.
    pub fn play_alone(self, repo: &Arc<Repo>, world: &World, asked: &Asked) -> Said {
        match self.play_on(repo, world, asked) {
            Ok(said) => said,
            Err(Failure(text)) => Said { failure: Some(text), ..Said::default() },
        }
    }

    fn play_on(self, repo: &Arc<Repo>, world: &World, asked: &Asked) -> Result<Said, Failure> {
        match self {
            Self::Backup(source) => {
                let report = back_up(repo, &world.roots[source])?;
                let committed = report.snapshot_id.map(|id| id.parse().unwrap());
                Ok(Said { committed, ..Said::default() })
            }
            Self::Forget(at) => {
                let list = repo.snapshots()?;
                let Some(at) = at.checked_rem(list.snapshots.len()) else { return Ok(Said::default()) };
                let id = list.snapshots[at].id;
                asked.lock().unwrap().insert(id);
                forget::run(repo, &list, &[id], &ForgetOptions::default(), &Silent::default())?;
                Ok(Said::default())
            }
            Self::Undo(at) => {
                let list = repo.snapshots()?;
                let Some(at) = at.checked_rem(list.dead.len()) else { return Ok(Said::default()) };
                match forget::undo(repo, &[list.dead[at]], &Silent::default()) {
                    Ok(report) => {
                        let back = report.snapshots.first().map(|back| back.id.parse().unwrap());
                        Ok(Said { committed: back, ..Said::default() })
                    }
                    Err(ForgetError::Gone { .. } | ForgetError::Incomplete { .. }) => Ok(Said::default()),
                    Err(error) => Err(error.into()),
                }
            }
            Self::Prune => pruned(repo, &thorough()),
            Self::ExclusivePrune => pruned(repo, &PruneOptions { exclusive: true, ..thorough() }),
            Self::ImpatientPrune => pruned(repo, &impatient()),
            Self::Check => {
                let options = CheckOptions { directories: true, data: None };
                let report = check::run(repo, &options, &Silent::default())?;
                let has_bad = !report.findings.iter().all(is_harmless);
                let violation = has_bad.then(|| format!("check found {:?}", report.findings));
                let notes = report.findings.iter().map(|found| found.object.clone()).collect();
                Ok(Said { violation, notes, ..Said::default() })
            }
            Self::Restore => restored(repo, world, asked),
        }
    }
}

fn pruned(repo: &Arc<Repo>, options: &PruneOptions) -> Result<Said, Failure> {
    let report = prune(repo, options)?;
    let violation =
        (!report.damaged_packs.is_empty()).then(|| format!("prune found {:?}", report.damaged_packs));
    Ok(Said { violation, pruned: Some(report), ..Said::default() })
}

/// Reads all snapshots. One that is forgotten meanwhile may fail, but no file may be wrong.
fn restored(repo: &Arc<Repo>, world: &World, asked: &Asked) -> Result<Said, Failure> {
    for snapshot in repo.snapshots()?.snapshots {
        let root = root_of(&snapshot);
        let mut outcome = read_files(repo, &snapshot, &root);
        for _ in 0..READ_COUNT {
            if outcome.is_err() {
                outcome = read_files(repo, &snapshot, &root);
            }
        }
        let expected = world.files(&root);
        let violation = match outcome {
            Ok(files) if files == expected => continue,
            Ok(files) => format!("{} restores as {files:?}", snapshot.id),
            Err(_) if asked.lock().unwrap().contains(&snapshot.id) => continue,
            Err(error) => format!("{} cannot be restored: {error:?}", snapshot.id),
        };
        return Ok(Said { violation: Some(violation), ..Said::default() });
    }
    Ok(Said::default())
}

/// The folder that a snapshot is of.
pub fn root_of(snapshot: &Snapshot) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(snapshot.paths[0].as_slice()))
}

/// All files of a snapshot: the hash of each.
fn read_files(repo: &Arc<Repo>, snapshot: &Snapshot, root: &Path) -> Result<Files, RepoError> {
    let reader = TreeReader::new(Arc::new(repo.chunk_reader()?));
    let parts: Vec<_> = root.as_os_str().as_bytes().split(|byte| *byte == b'/').collect();
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let top = reader.resolve(snapshot.root, &parts)?.expect("the path names an entry");
    let mut files = Files::new();
    let mut open = vec![(Vec::new(), top)];
    while let Some((path, entry)) = open.pop() {
        if let Content::Directory(id) = entry.content {
            for below in reader.directory(id) {
                let below = below?;
                open.push(([&path[..], b"/", below.name.as_slice()].concat(), below));
            }
        } else {
            let mut hasher = blake3::Hasher::new();
            reader.visit_bytes(&entry.content, &mut |chunk: &[u8]| {
                hasher.update(chunk);
                Ok::<(), RepoError>(())
            })?;
            files.insert(path, hasher.finalize());
        }
    }
    Ok(files)
}

struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = format!("{error:?}");
        text.truncate(300);
        Self(text)
    }
}
