//! What the errors of the floors below mean for a person: the exit code, and what to try next.

use std::error::Error;
use std::io;

use crate::backup::BackupError;
use crate::check::CheckError;
use crate::check::repair::RepairError;
use crate::cli::exit::{Exit, Failure};
use crate::crypto::KdfError;
use crate::forget::ForgetError;
use crate::index::{CacheFolderError, IndexError, WitnessError};
use crate::prune::PruneError;
use crate::repo::RepoError;
use crate::restore::RestoreError;
use crate::source::{ExcludeError, SourceError};
use crate::storage::{Action, S3Error, StorageError};
use crate::target::TargetError;

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        let failure = Failure::of(exit_of(&error), &error);
        match repo_hint(&error) {
            Some(hint) => failure.hint(hint),
            None => with_system_hint(failure, &error),
        }
    }
}

fn exit_of(error: &RepoError) -> Exit {
    match error {
        RepoError::NoRepository { .. } => Exit::NoRepository,
        RepoError::Storage(StorageError::NoPlace { .. } | StorageError::NoBucket { .. }) => {
            Exit::NoRepository
        }
        RepoError::WrongKey { .. } => Exit::WrongKey,
        RepoError::Fenced | RepoError::PruneUnderWay { .. } | RepoError::PlanWithoutLists { .. } => {
            Exit::Postponed
        }
        _ => Exit::Failed,
    }
}

fn repo_hint(error: &RepoError) -> Option<&'static str> {
    Some(match error {
        RepoError::NoRepository { .. } | RepoError::Storage(StorageError::NoPlace { .. }) => {
            "`repo init` makes a repository; --repo or KLUIS_REPO says where it is"
        }
        RepoError::Storage(StorageError::NoBucket { .. }) => {
            "make the bucket with the tools of the store; --repo names it, AWS_ENDPOINT_URL and AWS_REGION say where it is"
        }
        RepoError::Exists { .. } => "name another place with --repo, or just use what is there",
        RepoError::WrongKey { what: "passphrase" } => "look at upper and lower case and the keyboard layout",
        RepoError::WrongKey { .. } => {
            "this is the key of another repository, or it was removed from this one"
        }
        RepoError::Fenced => "a prune took this backup for dead; just run it again",
        RepoError::PruneUnderWay { .. } => {
            "use a newer version of this program, or wait until the prune is done; `repo check` says if it is damaged"
        }
        RepoError::PlanWithoutLists { .. } => {
            "it died before it could close its plan; `repo prune` does that"
        }
        RepoError::NoSnapshot { .. } | RepoError::AmbiguousSnapshot { .. } => {
            "`repo snapshots` lists what there is"
        }
        RepoError::Forgotten { is_there: true, .. } => {
            "`repo undo-forget` brings it back, until the next prune"
        }
        RepoError::Forgotten { is_there: false, .. } => "`repo snapshots` lists what there is",
        RepoError::NoPath { .. } => "`repo ls SNAPSHOT` lists what the snapshot holds",
        RepoError::NotVerified(_) => "test the memory of this computer before you trust it with backups",
        RepoError::LastSlot => "add another passphrase or key file first: `repo key add`",
        RepoError::NoSlot { .. } => "`repo key list` lists the slots",
        RepoError::Index(IndexError::Locked) => "wait until the other command is done",
        RepoError::Index(IndexError::Failed { .. }) | RepoError::Cache(_) => {
            "the index is in the cache folder: see to its disk, or name another folder with --cache-dir"
        }
        RepoError::Replaced(WitnessError::Failed { .. }) => return None,
        RepoError::Replaced(_) => {
            "if you replaced or restored the repository yourself, delete its folder in the cache folder"
        }
        RepoError::Stretch(KdfError::OutOfMemory { .. }) => {
            "close other programs, or unlock with a key file, which needs no memory"
        }
        _ if error.is_damage() => "`repo check` finds out what is damaged and what it touches",
        _ => return None,
    })
}

/// Adds what helps against troubles of the system, wherever in the chain they are.
fn with_system_hint(failure: Failure, error: &(dyn Error + 'static)) -> Failure {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let of_store = error.get_ref().and_then(|inner| inner.downcast_ref::<S3Error>());
            if let Some(store) = of_store {
                return store.hint().map_or(failure.clone(), |hint| failure.hint(hint));
            }
            return match system_hint(error.kind()) {
                Some(hint) => failure.hint(hint),
                None => failure,
            };
        }
        next = error.source();
    }
    failure
}

fn system_hint(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::PermissionDenied => "run this as a user who may do that, or change the permissions",
        io::ErrorKind::StorageFull => "make room on the disk, then run this again: what was stored is found",
        io::ErrorKind::QuotaExceeded => "the quota of this user is used up",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only",
        _ => return None,
    })
}

macro_rules! failed_with_system_hint {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                with_system_hint(Failure::of(Exit::Failed, &error), &error)
            }
        })*
    };
}
failed_with_system_hint!(IndexError, CacheFolderError, TargetError);

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotEmpty { .. } => Failure::of(Exit::Failed, &error)
                .hint("a repository needs a folder of its own: name a new one with --repo"),
            StorageError::NotAFolder { .. } => {
                Failure::of(Exit::Failed, &error).hint("name a folder with --repo")
            }
            StorageError::Failed { action: Action::Open, .. } => {
                with_system_hint(Failure::of(Exit::Failed, &error), &error)
            }
            _ => Failure::from(RepoError::Storage(error)),
        }
    }
}

impl From<ExcludeError> for Failure {
    fn from(error: ExcludeError) -> Self {
        Failure::of(Exit::Usage, &error)
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Repo(error) => error.into(),
            BackupError::NoSource => Failure::of(Exit::Usage, &error),
            BackupError::BadName(_) => {
                Failure::of(Exit::Usage, &error).hint("a name is neither empty nor a path, such as dump.sql")
            }
            BackupError::Interrupted => Failure::of(Exit::Interrupted, &error),
            BackupError::NothingReadable(ref source) => {
                let failure = Failure::of(Exit::Failed, &error);
                match source {
                    SourceError::EmptyPath => failure,
                    SourceError::Unreadable { source, .. } => with_system_hint(failure, source),
                }
            }
            BackupError::Stream { .. } | BackupError::Command { .. } => Failure::of(Exit::Failed, &error),
        }
    }
}

impl From<CheckError> for Failure {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Repo(error) => error.into(),
            CheckError::Interrupted => Failure::of(Exit::Interrupted, &error),
        }
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Repo(error) => error.into(),
            RepairError::Check(error) => error.into(),
            RepairError::Interrupted => Failure::of(Exit::Interrupted, &error),
        }
    }
}

impl From<ForgetError> for Failure {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::Repo(error) => error.into(),
            ForgetError::Gone { .. } => Failure::of(Exit::Failed, &error)
                .hint("`repo undo-forget` without a snapshot lists what can come back"),
            ForgetError::Incomplete { .. } => Failure::of(Exit::Failed, &error)
                .hint("a prune has begun to remove it, or the repository is damaged: see `repo check`"),
            ForgetError::Interrupted => Failure::of(Exit::Interrupted, &error),
        }
    }
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Repo(error) if error.is_damage() => Failure::of(Exit::Damage, &error)
                .hint("nothing was deleted; `repo repair` finds out what is damaged, and mends what can be mended"),
            PruneError::Repo(error) => error.into(),
            PruneError::SnapshotUnreadable { .. } => Failure::of(Exit::Damage, &error).hint(
                "nothing was deleted; `repo repair` may mend it, and `repo forget` with its id drops it",
            ),
            PruneError::IndexUnread { .. } => Failure::of(Exit::Damage, &error)
                .hint("nothing was deleted; try again, and if it stays so, `repo repair`"),
            PruneError::SnapshotsVanished { .. } => Failure::of(Exit::Damage, &error)
                .hint("nothing was deleted; `repo repair` may bring them back from their second copies"),
            PruneError::ContentMissing { .. } => Failure::of(Exit::Damage, &error).hint(
                "nothing was deleted; `repo repair` first, then back up the same files again, or forget the snapshots that lack parts",
            ),
            PruneError::IndexLies { .. } => Failure::of(Exit::Damage, &error)
                .hint("nothing was deleted; `repo check --directories` names every such pack"),
            PruneError::CountsWrong { .. } => {
                Failure::of(Exit::Failed, &error).hint("the local index is made again by the next command")
            }
            PruneError::Brake(_) => {
                Failure::of(Exit::Failed, &error).hint("if that is what you want: repo prune --yes")
            }
            PruneError::Overtaken(_) => Failure::of(Exit::Postponed, &error),
            PruneError::NotExclusive { .. } => Failure::of(Exit::Failed, &error).hint(
                "nothing was deleted; when no other host uses the repository: `repo prune --exclusive`",
            ),
            PruneError::NotDescribed => {
                Failure::of(Exit::Failed, &error).hint("nothing was deleted; `repo check` may say why")
            }
            PruneError::Interrupted => Failure::of(Exit::Interrupted, &error),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Interrupted => {
                Failure::of(Exit::Interrupted, &error).hint("run it again to go on: what is right stays")
            }
            RestoreError::Filter { .. } => Failure::of(Exit::Usage, &error),
            RestoreError::NoSpace { .. } => Failure::of(Exit::Failed, &error)
                .hint("make room, or restore a part: SNAPSHOT:PATH or --include"),
            RestoreError::Root { .. } => Failure::of(Exit::Failed, &error)
                .hint("`repo check` finds out what is damaged and what it touches"),
            RestoreError::Target { .. } | RestoreError::Thread { .. } => {
                with_system_hint(Failure::of(Exit::Failed, &error), &error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ObjectName;

    #[test]
    fn outcomes_have_the_documented_exit_codes() {
        let place = || "/srv".to_owned();
        let cases = [
            (RepoError::NoRepository { place: place() }, Exit::NoRepository),
            (RepoError::WrongKey { what: "passphrase" }, Exit::WrongKey),
            (RepoError::Fenced, Exit::Postponed),
            (RepoError::PruneUnderWay { number: 1 }, Exit::Postponed),
            (RepoError::PlanWithoutLists { number: 1 }, Exit::Postponed),
            (RepoError::Exists { place: place() }, Exit::Failed),
            (RepoError::LastSlot, Exit::Failed),
        ];
        for (error, exit) in cases {
            let text = error.to_string();
            assert_eq!(Failure::from(error).exit(), exit, "{text}");
        }
        assert_eq!(Failure::from(BackupError::Interrupted).exit(), Exit::Interrupted);
        assert_eq!(Failure::from(BackupError::NoSource).exit(), Exit::Usage);
    }

    #[test]
    fn a_full_disk_is_recognised_wherever_it_is_met() {
        let failed = StorageError::Failed {
            action: Action::Create,
            what: ObjectName::new("data/00/00").unwrap().to_string(),
            source: io::ErrorKind::StorageFull.into(),
        };
        let failure = format!("{:?}", Failure::from(BackupError::Repo(failed.into())));
        assert!(failure.contains("make room"), "{failure}");
    }

    #[test]
    fn a_damaged_index_is_recognised_under_its_causes() {
        let damaged = || IndexError::Damaged { source: "a page is broken".into() };
        assert!(Failure::from(BackupError::Repo(damaged().into())).is_index_damage());
        assert!(Failure::from(damaged()).is_index_damage());
        assert!(!Failure::from(RepoError::Index(IndexError::Locked)).is_index_damage());
    }
}
