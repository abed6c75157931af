//! The cache folder of this user, and the indexes in it.
//!
//! ```text
//! <cache>/CACHEDIR.TAG                      tells backup programs to leave the folder out
//! <cache>/<repository id>/index.redb        the index
//! <cache>/<repository id>/witness.json      what was seen of the repository, and witness.lock beside it
//! <cache>/<repository id>/verified           when each pack was last read whole
//! <cache>/copies/<hash of the place>/        copies of objects of a bucket, by their names
//! <cache>/<repository id>/index-<pid>.redb  the index of a second process, for as long as it runs
//! ```
//!
//! Beside them is what a mount has opened and does not hold in memory, sealed, in a file that never has a name.
//!
//! One process has `index.redb` open. A second one does not wait: it builds a private index and leaves no trace of
//! it. The private file loses its name as soon as it is open, so that nothing is left even by a process that is
//! killed; only one killed in between leaves a file, which the next process removes.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::id::RepositoryId;

use super::{Index, IndexError, IndexOptions, ScratchFile};

const TAG_NAME: &str = "CACHEDIR.TAG";
const TAG_SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";
const TAG_COMMENT: &str = "# This file marks a cache folder of kluis, which can be deleted at any time.\n\
                           # See https://bford.info/cachedir/\n";
const INDEX_NAME: &str = "index.redb";
const WITNESS_NAME: &str = "witness.json";
const COPIES_NAME_LEN: usize = 32;
const VERIFIED_NAME: &str = "verified";
/// Indexes that one process may have open privately at the same time.
const PRIVATE_INDEX_COUNT_MAX: u32 = 64;

/// The cache folder, or something in it, could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the cache folder {path} cannot be used", path = path.display())]
pub struct CacheFolderError {
    /// Which folder or file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A folder for what can be made again.
#[derive(Debug, Clone)]
pub struct CacheFolder {
    path: PathBuf,
}

/// How an index came to be what it is.
#[derive(Debug)]
pub enum IndexOrigin {
    /// It is the index of all processes of this user: what it held before, if there was one before.
    Shared,
    /// It is as `Shared`, and empty, because what was there before could not be used.
    Replaced {
        /// Why it could not.
        because: IndexError,
    },
    /// Another process has the shared one. This one is empty, and is gone when it is dropped.
    Private,
}

/// An index of the cache folder.
pub struct CachedIndex {
    /// The index itself.
    pub index: Index,
    /// How it came to be.
    pub origin: IndexOrigin,
}

impl CacheFolder {
    /// Where copies of objects of the storage at `place` may lie. The folder is made by whoever keeps some.
    pub fn copies_path(&self, place: &str) -> PathBuf {
        let digest = blake3::hash(place.as_bytes()).to_hex();
        self.path.join("copies").join(digest.as_str().get(..COPIES_NAME_LEN).unwrap_or_default())
    }

    /// Makes the folder at `path`, readable by its owner alone, and tags it as a cache.
    ///
    /// A folder that exists keeps its mode; the folders of repositories inside it are always private.
    pub fn open(path: &Path) -> Result<Self, CacheFolderError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            |source| CacheFolderError { path, source }
        };
        make_private_folder(path).map_err(error(path))?;
        let tag = path.join(TAG_NAME);
        if !has_signature(&tag) {
            fs::write(&tag, format!("{TAG_SIGNATURE}\n{TAG_COMMENT}")).map_err(error(&tag))?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The folder of one repository, made if it is missing.
    pub fn repository_folder(&self, repository: RepositoryId) -> Result<PathBuf, CacheFolderError> {
        let path = self.path.join(repository.to_string());
        match make_private_folder(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(CacheFolderError { path, source }),
        }
    }

    /// Where the witness of a repository is. Its folder exists afterwards.
    pub fn witness_path(&self, repository: RepositoryId) -> Result<PathBuf, CacheFolderError> {
        Ok(self.repository_folder(repository)?.join(WITNESS_NAME))
    }

    /// Where the witness of a repository is, or would be. Nothing is made.
    pub fn witness_below(path: &Path, repository: RepositoryId) -> PathBuf {
        path.join(repository.to_string()).join(WITNESS_NAME)
    }

    /// Where it is noted when packs were last verified. Its folder exists afterwards.
    pub fn verified_path(&self, repository: RepositoryId) -> Result<PathBuf, CacheFolderError> {
        Ok(self.repository_folder(repository)?.join(VERIFIED_NAME))
    }

    /// Opens the index of a repository: the shared one if it is free, otherwise a private one.
    ///
    /// A shared one that is damaged or stale is deleted, and an empty one takes its place.
    pub fn open_index(
        &self,
        repository: RepositoryId,
        options: IndexOptions,
    ) -> Result<CachedIndex, IndexError> {
        let folder = self.repository_folder(repository).map_err(|error| error.source)?;
        remove_abandoned(&folder);
        let path = folder.join(INDEX_NAME);
        match Index::open_with(&path, repository, options) {
            Ok(index) => Ok(CachedIndex { index, origin: IndexOrigin::Shared }),
            Err(IndexError::Locked) => open_private(&folder, repository, options),
            Err(because @ (IndexError::Damaged { .. } | IndexError::Stale)) => {
                Index::delete(&path)?;
                let index = Index::open_with(&path, repository, options)?;
                Ok(CachedIndex { index, origin: IndexOrigin::Replaced { because } })
            }
            Err(error) => Err(error),
        }
    }

    /// Opens an empty index of a repository that nobody else uses, and that is gone when it is dropped.
    pub fn open_private_index(
        &self,
        repository: RepositoryId,
        options: IndexOptions,
    ) -> Result<CachedIndex, IndexError> {
        open_private(&self.repository_folder(repository).map_err(|error| error.source)?, repository, options)
    }

    /// A file in the folder of a repository that nobody else can see.
    pub fn scratch_file(&self, repository: RepositoryId) -> Result<ScratchFile, CacheFolderError> {
        let path = self.repository_folder(repository)?;
        ScratchFile::make(&path).map_err(|source| CacheFolderError { path, source })
    }

    /// Deletes the shared index of a repository: what to do when one that was open turns out to be damaged.
    ///
    /// Whoever has it open may go on using it; the next process makes a new one.
    pub fn delete_index(&self, repository: RepositoryId) -> Result<(), IndexError> {
        let folder = self.repository_folder(repository).map_err(|error| error.source)?;
        Index::delete(&folder.join(INDEX_NAME))
    }
}

fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn has_signature(tag: &Path) -> bool {
    let mut start = [0; TAG_SIGNATURE.len()];
    File::open(tag).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && start == *TAG_SIGNATURE.as_bytes()
}

fn open_private(
    folder: &Path,
    repository: RepositoryId,
    options: IndexOptions,
) -> Result<CachedIndex, IndexError> {
    for number in 0..PRIVATE_INDEX_COUNT_MAX {
        let suffix = if number == 0 { String::new() } else { format!("-{number}") };
        let path = folder.join(format!("index-{}{suffix}.redb", std::process::id()));
        if path.exists() {
            continue; // Another thread is between making its file and taking the name away.
        }
        match Index::open_with(&path, repository, options) {
            Ok(index) => {
                Index::delete(&path)?;
                return Ok(CachedIndex { index, origin: IndexOrigin::Private });
            }
            Err(IndexError::Locked) => {}
            Err(error) => return Err(error),
        }
    }
    Err(IndexError::Locked)
}

/// Removes private indexes whose process is gone. What cannot be removed now is left for another time.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_private =
            name.to_str().is_some_and(|name| name.starts_with("index-") && name.ends_with(".redb"));
        // The lock, not the number, tells whether the process lives: numbers are used again, and another
        // container has its own. The engine holds the lock for as long as the file is open.
        if is_private && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId::new([0xab; 16]);

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn open(cache: &CacheFolder) -> CachedIndex {
        cache.open_index(REPOSITORY, IndexOptions::default()).unwrap()
    }

    #[test]
    fn a_new_cache_folder_is_private_and_tagged() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let cache = CacheFolder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(fs::read_to_string(path.join(TAG_NAME)).unwrap().starts_with(TAG_SIGNATURE));
        fs::write(path.join(TAG_NAME), "").unwrap();
        CacheFolder::open(&path).unwrap();
        assert!(has_signature(&path.join(TAG_NAME)));
        let witness = cache.witness_path(REPOSITORY).unwrap();
        assert_eq!(witness, path.join("abababababababababababababababab/witness.json"));
        let folder = cache.repository_folder(REPOSITORY).unwrap();
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_path_that_is_a_file_is_refused_by_name() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        assert_eq!(CacheFolder::open(&path).unwrap_err().path, path);
    }

    #[test]
    fn a_second_index_is_private_and_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let cache = CacheFolder::open(parent.path()).unwrap();
        let first = open(&cache);
        assert!(matches!(first.origin, IndexOrigin::Shared));
        let (second, third) = (open(&cache), open(&cache));
        assert!(matches!((&second.origin, &third.origin), (IndexOrigin::Private, IndexOrigin::Private)));
        let folder = cache.repository_folder(REPOSITORY).unwrap();
        assert_eq!(names(&folder), [INDEX_NAME]);
        second.index.add_index_object(crate::id::IndexObjectId::new([1; 32]), Vec::new()).unwrap();
        assert_eq!(second.index.view().unwrap().index_objects().unwrap().len(), 1);
        assert_eq!(third.index.view().unwrap().index_objects().unwrap().len(), 0);
        drop(first);
        assert!(matches!(open(&cache).origin, IndexOrigin::Shared));
    }

    #[test]
    fn private_indexes_are_removed_when_nobody_has_them_open() {
        let parent = tempfile::tempdir().unwrap();
        let cache = CacheFolder::open(parent.path()).unwrap();
        let folder = cache.repository_folder(REPOSITORY).unwrap();
        fs::write(folder.join("index-17.redb"), "leftover").unwrap();
        let used = Index::open(&folder.join("index-18.redb"), REPOSITORY).unwrap();
        open(&cache);
        assert_eq!(names(&folder), ["index-18.redb", INDEX_NAME]);
        drop(used);
    }

    #[test]
    fn a_damaged_or_foreign_index_is_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let cache = CacheFolder::open(parent.path()).unwrap();
        let path = cache.repository_folder(REPOSITORY).unwrap().join(INDEX_NAME);
        fs::write(&path, [0; 10_000]).unwrap();
        let replaced = open(&cache);
        assert!(matches!(replaced.origin, IndexOrigin::Replaced { because: IndexError::Damaged { .. } }));
        drop(replaced);
        assert!(matches!(open(&cache).origin, IndexOrigin::Shared));
        fs::remove_file(&path).unwrap();
        drop(Index::open(&path, RepositoryId::new([1; 16])).unwrap());
        assert!(matches!(open(&cache).origin, IndexOrigin::Replaced { because: IndexError::Stale }));
        cache.delete_index(REPOSITORY).unwrap();
        assert!(!path.exists());
    }
}
