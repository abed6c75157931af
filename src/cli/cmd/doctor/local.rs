//! Probes of files and limits of this computer.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::Resource;

use crate::check::doctor::Probe;
use crate::id::RepositoryId;
use crate::index::CacheFolder;
use crate::storage::FileSystem;
use crate::units::{ByteCount, count_text};

/// A command has a few dozen files open at most; with many folders above a source, some more.
const OPEN_FILES_MIN: u64 = 256;
/// With less room the index of a large repository does not fit.
const CACHE_SPACE_BYTES_MIN: u64 = 1 << 30;

/// Which program this is.
pub fn program() -> Probe {
    let version = env!("CARGO_PKG_VERSION");
    Probe::good("program", format!("repo {version}, format 1, on {}", std::env::consts::OS))
}

/// How many files a process may have open.
pub fn open_files() -> Probe {
    judge_open_files(rustix::process::getrlimit(Resource::Nofile).current)
}

fn judge_open_files(limit: Option<u64>) -> Probe {
    match limit {
        Some(limit) if limit < OPEN_FILES_MIN => {
            let message = format!("a process may have only {} files open", count_text(limit));
            Probe::bad("open_files", message).hint(format!("raise it: ulimit -n {OPEN_FILES_MIN}"))
        }
        Some(limit) => {
            Probe::good("open_files", format!("a process may have {} files open", count_text(limit)))
        }
        None => Probe::good("open_files", "a process may have any number of files open"),
    }
}

/// What kind of file system a repository is on.
pub fn file_system(folder: &Path) -> Probe {
    match FileSystem::of(folder) {
        Ok(found) => judge_file_system(found),
        Err(error) => {
            Probe::bad("file_system", format!("the file system cannot be asked what it is: {error}"))
        }
    }
}

fn judge_file_system(found: FileSystem) -> Probe {
    match found.is_shared {
        false => Probe::good("file_system", format!("the repository is on {found}")),
        true => Probe::note(
            "file_system",
            format!("the repository is on {found}, which may show other computers late what this one stores"),
        )
        .hint("writers and prunes wait for that; a disk of this computer is faster, and an object storage is surer"),
    }
}

/// Who else may read or change the repository.
pub fn folder_rights(folder: &Path) -> Vec<Probe> {
    let mut worst: Option<(String, u32)> = None;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in std::iter::once(folder.to_owned()).chain(entries.map(|entry| entry.path())) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let mode = metadata.permissions().mode() & 0o077;
        // A link has rights of its own that mean nothing.
        if !metadata.is_symlink() && worst.as_ref().is_none_or(|(_, worst)| mode & 0o022 > worst & 0o022) {
            worst = Some((path.display().to_string(), mode));
        }
    }
    let id = "folder_rights";
    vec![match worst {
        None => Probe::bad(id, "the folder cannot be looked at"),
        Some((path, mode)) if mode & 0o002 != 0 => {
            Probe::bad(id, format!("everybody on this computer may change {path}"))
                .hint("take the right away: chmod -R o-w")
        }
        Some((path, mode)) if mode & 0o020 != 0 => {
            Probe::note(id, format!("the group of {path} may change it"))
                .hint("right if several users back up to it; otherwise chmod -R g-w")
        }
        Some(_) => Probe::good(id, "only its owner may change the repository"),
    }]
}

/// Whether a second name can be made for a file, and a folder be synced: how objects appear, and survive a power cut.
pub fn links(folder: &Path) -> Vec<Probe> {
    let tmp = folder.join("tmp");
    let (name, link) = (tmp.join(probe_name("link")), tmp.join(probe_name("linked")));
    let made = fs::create_dir_all(&tmp).and_then(|()| fs::write(&name, b"kluis probe"));
    if let Err(error) = made {
        return vec![Probe::bad("links", format!("no file can be made in {}: {error}", tmp.display()))];
    }
    let linked = fs::hard_link(&name, &link);
    let synced = File::open(&tmp).and_then(|tmp| tmp.sync_all());
    for path in [&name, &link] {
        // It is in `tmp`: whatever stays is removed by the next command.
        let _ = fs::remove_file(path);
    }
    vec![judge_links(linked), judge_sync(synced)]
}

fn probe_name(what: &str) -> String {
    format!("probe-{what}-{}", std::process::id())
}

fn judge_links(linked: io::Result<()>) -> Probe {
    match linked {
        Ok(()) => Probe::good("links", "a file can be given its name only once it is complete"),
        Err(error) => {
            let message = format!("files cannot have a second name here ({error}); they are renamed instead");
            Probe::note("links", message)
        }
    }
}

fn judge_sync(synced: io::Result<()>) -> Probe {
    match synced {
        Ok(()) => Probe::good("folder_sync", "names of files can be made to survive a power cut"),
        Err(error) => {
            let message = format!("folders cannot be synced here ({error})");
            let hint = "a power cut may take back the last snapshot; use another file system";
            Probe::bad("folder_sync", message).hint(hint)
        }
    }
}

/// Where the local index and the memory of what was seen are.
pub fn cache(cache: &Path, repository_folder: Option<&Path>, repository: Option<RepositoryId>) -> Vec<Probe> {
    let place = cache.display();
    let metadata = match fs::metadata(cache) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message = format!("the cache folder {place} does not exist yet; the next command makes it");
            return vec![Probe::note("cache", message)];
        }
        Err(error) => {
            return vec![Probe::bad("cache", format!("the cache folder {place} cannot be used: {error}"))];
        }
        Ok(metadata) => metadata,
    };
    let mut probes = vec![cache_folder(cache, &metadata, repository_folder)];
    if let Some(repository) = repository {
        probes.push(match CacheFolder::witness_below(cache, repository).exists() {
            true => {
                Probe::good("witness", "this computer knows the repository, and notices if it is put back")
            }
            false => {
                let message =
                    "this computer has never opened the repository: it would not notice if it was put back";
                Probe::note("witness", message)
            }
        });
    }
    probes
}

fn cache_folder(cache: &Path, metadata: &Metadata, repository_folder: Option<&Path>) -> Probe {
    let (id, place) = ("cache", cache.display());
    let hint = "name another folder with --cache-dir or KLUIS_CACHE_DIR";
    let probe = cache.join(probe_name("cache"));
    if let Err(error) = fs::write(&probe, b"kluis probe") {
        return Probe::bad(id, format!("nothing can be written into the cache folder {place}: {error}"))
            .hint(hint);
    }
    // Whatever stays is an unused file in a folder that may be deleted at any time.
    let _ = fs::remove_file(&probe);
    if metadata.permissions().mode() & 0o022 != 0 {
        return Probe::bad(id, format!("others may change the cache folder {place}")).hint("chmod go-w");
    }
    let size = ByteCount(bytes_below(cache));
    if FileSystem::of(cache).is_ok_and(|found| found.is_shared) {
        let message = format!("the cache folder {place} ({size}) is on a network file system, which is slow");
        return Probe::note(id, message).hint(hint);
    }
    match rustix::fs::statvfs(cache) {
        Ok(space) if space.f_bavail.saturating_mul(space.f_frsize) < CACHE_SPACE_BYTES_MIN => {
            let left = ByteCount(space.f_bavail.saturating_mul(space.f_frsize));
            return Probe::note(
                id,
                format!("the cache folder {place} ({size}) has room for only {left} more"),
            )
            .hint(hint);
        }
        Ok(_) | Err(_) => {}
    }
    let is_beside =
        |folder: &Path| fs::metadata(folder).is_ok_and(|repository| repository.dev() == metadata.dev());
    if repository_folder.is_some_and(is_beside) {
        let message = format!(
            "the cache folder {place} ({size}) is on the same file system as the repository: a disk that is put back \
             or replaced takes along the memory of what was there"
        );
        return Probe::note(id, message);
    }
    Probe::good(id, format!("the cache folder {place} ({size}) can be written"))
}

fn bytes_below(folder: &Path) -> u64 {
    let mut pending = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// Who else may read a file with a passphrase or key.
pub fn secret_rights(path: &Path) -> Probe {
    let (id, place) = ("secret_rights", path.display());
    let hint = format!("chmod 600 {place}");
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) => return Probe::bad(id, format!("{place} cannot be looked at: {error}")),
    };
    match (mode & 0o007, mode & 0o070) {
        (0, 0) => Probe::good(id, format!("only its owner may read {place}")),
        (0, _) => Probe::note(id, format!("the group of {place} may read it")).hint(hint),
        (_, _) => Probe::bad(id, format!("everybody on this computer may read or change {place}")).hint(hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::doctor::Outcome;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn few_open_files_are_bad() {
        assert_eq!(judge_open_files(Some(64)).outcome, Outcome::Bad);
        assert_eq!(judge_open_files(Some(1024)).outcome, Outcome::Good);
        assert_eq!(judge_open_files(None).outcome, Outcome::Good);
    }

    #[test]
    fn a_file_system_that_several_computers_share_is_a_note() {
        let here = FileSystem::of(Path::new("/")).unwrap();
        let shared = FileSystem { is_shared: true, ..here };
        assert_eq!(judge_file_system(shared).outcome, Outcome::Note);
        assert_eq!(judge_file_system(FileSystem { is_shared: false, ..here }).outcome, Outcome::Good);
        assert_eq!(file_system(Path::new("/nowhere")).outcome, Outcome::Bad);
    }

    #[test]
    fn rights_of_others_in_the_repository_are_told_by_what_they_allow() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        set_mode(folder.path(), 0o700);
        let outcome = || folder_rights(folder.path())[0].outcome;
        for (mode, expected) in
            [(0o700, Outcome::Good), (0o755, Outcome::Good), (0o770, Outcome::Note), (0o777, Outcome::Bad)]
        {
            set_mode(&folder.path().join("data"), mode);
            assert_eq!(outcome(), expected, "{mode:o}");
        }
        assert_eq!(folder_rights(&folder.path().join("gone"))[0].outcome, Outcome::Bad);
    }

    #[test]
    fn a_secret_that_others_can_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "secret").unwrap();
        for (mode, expected) in
            [(0o600, Outcome::Good), (0o400, Outcome::Good), (0o640, Outcome::Note), (0o644, Outcome::Bad)]
        {
            set_mode(&path, mode);
            assert_eq!(secret_rights(&path).outcome, expected, "{mode:o}");
        }
        assert_eq!(secret_rights(&folder.path().join("gone")).outcome, Outcome::Bad);
    }

    #[test]
    fn what_the_disk_refuses_is_told() {
        let refused = || Err(io::Error::from(io::ErrorKind::Unsupported));
        assert_eq!((judge_links(Ok(())).outcome, judge_sync(Ok(())).outcome), (Outcome::Good, Outcome::Good));
        assert_eq!(judge_links(refused()).outcome, Outcome::Note);
        assert_eq!(judge_sync(refused()).outcome, Outcome::Bad);
        let folder = tempfile::tempdir().unwrap();
        let outcomes: Vec<_> = links(folder.path()).iter().map(|probe| probe.outcome).collect();
        assert_eq!(outcomes, [Outcome::Good; 2]);
        fs::write(folder.path().join("file"), "").unwrap();
        assert_eq!(links(&folder.path().join("file"))[0].outcome, Outcome::Bad);
        assert!(fs::read_dir(folder.path().join("tmp")).unwrap().next().is_none(), "nothing is left");
    }

    #[test]
    fn the_cache_is_told_by_what_can_be_done_there() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), Path::new("/proc"));
        let path = folder.path().join("cache");
        let id = RepositoryId::new([1; 16]);
        let outcomes = |repository: &Path| {
            let probes = cache(&path, Some(repository), Some(id));
            probes.iter().map(|probe| probe.outcome).collect::<Vec<_>>()
        };
        assert_eq!(outcomes(elsewhere), [Outcome::Note], "there is none yet");
        let made = CacheFolder::open(&path).unwrap();
        assert_eq!(outcomes(elsewhere)[1], Outcome::Note, "there is no witness yet");
        fs::write(made.witness_path(id).unwrap(), "{}").unwrap();
        assert_eq!(outcomes(elsewhere)[1], Outcome::Good);
        assert_eq!(outcomes(folder.path())[0], Outcome::Note, "it is beside the repository");
        set_mode(&path, 0o777);
        assert_eq!(outcomes(elsewhere)[0], Outcome::Bad);
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        assert_eq!(outcomes(elsewhere)[0], Outcome::Bad);
        assert_eq!(bytes_below(folder.path()), 6);
    }
}
