//! From a place and a secret to an unlocked repository, and to a new one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::key_file;
use crate::cli::place::Place;
use crate::cli::secrets::{Credential, SecretOptions, Variables};
use crate::clock::SystemClock;
use crate::index::CacheFolder;
use crate::repo::{Identity, InitOptions, Repo, RepoError, Surroundings, UnlockSecret, names};
use crate::storage::{
    CachedStorage, Leftovers, LocalStorage, LocalStorageOptions, S3Storage, Storage, StorageError,
};

/// Copies of node packs and control objects of one bucket take at most so much of the cache folder.
const COPIES_BYTES_MAX: u64 = 4 << 30;

/// From where a repository is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// From the cache folder what is there, and the rest from where it is stored.
    Copies,
    /// All of it from where it is stored.
    Itself,
}

/// What a `repo init` that did not come to its end leaves behind, at most.
const INIT_NAMES: [&str; 7] = ["README", "reserve", "slot", "keyring", "copy", "config", "tmp"];

impl Context {
    /// Opens and unlocks the repository. Whether there is one is found out before anybody is asked for a passphrase.
    pub fn open_repository(&self) -> Result<Arc<Repo>, Failure> {
        self.open_repository_and_secret().map(|(repo, _)| repo)
    }

    /// As [`Self::open_repository`], for those who look for damage: everything is read from where it is stored.
    pub fn open_repository_itself(&self) -> Result<Arc<Repo>, Failure> {
        self.open(Reading::Itself).map(|(repo, _)| repo)
    }

    /// As [`Self::open_repository`], with the secret that opened it.
    pub fn open_repository_and_secret(&self) -> Result<(Arc<Repo>, UnlockSecret), Failure> {
        self.open(Reading::Copies)
    }

    fn open(&self, reading: Reading) -> Result<(Arc<Repo>, UnlockSecret), Failure> {
        let place = self.place()?;
        self.open_at(&place, reading, || self.credential(&place))
    }

    /// Opens a second repository, with what its own options and variables name, or else with what opens the first.
    pub fn open_other(
        &self,
        place: &OsStr,
        options: SecretOptions<'_>,
        variables: Variables,
    ) -> Result<Arc<Repo>, Failure> {
        let place = Place::parse(place)?;
        let credential = || self.other_credential(options, variables, &place);
        let opened = self.open_at(&place, Reading::Copies, credential);
        opened.map(|(repo, _)| repo)
    }

    fn open_at(
        &self,
        place: &Place,
        reading: Reading,
        credential: impl FnOnce() -> Result<Credential, Failure>,
    ) -> Result<(Arc<Repo>, UnlockSecret), Failure> {
        // Whatever lies in a folder that is no repository stays there.
        let looked_at = self.storage_at(place, Leftovers::Keep)?;
        if !Repo::exists(&*looked_at)? {
            return Err(no_repository(place));
        }
        let secret = self.unlock_secret(credential()?)?;
        // A bucket has no leftovers, but a connection that is worth keeping.
        let storage = match looked_at.is_remote() {
            true if reading == Reading::Copies => self.with_copies(place, looked_at)?,
            true => looked_at,
            false => self.storage_at(place, Leftovers::Remove)?,
        };
        let repo = Repo::open(self.surroundings(storage)?, &secret)?;
        Ok((Arc::new(repo), secret))
    }

    /// Opens the place of the repository for somebody without a key. Nothing in it is changed.
    pub fn open_storage(&self) -> Result<Arc<dyn Storage>, Failure> {
        let place = self.place()?;
        let storage = self.storage_at(&place, Leftovers::Keep)?;
        if Repo::exists(&*storage)? { Ok(storage) } else { Err(no_repository(&place)) }
    }

    /// Whether there is a repository at the place.
    pub fn has_repository(&self) -> Result<bool, Failure> {
        let place = self.place()?;
        match self.storage_at(&place, Leftovers::Keep) {
            Ok(storage) => Ok(Repo::exists(&*storage)?),
            Err(failure) if failure.exit() == Exit::NoRepository => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Opens the repository and does `work` with it. If the local index turns out to be damaged, it is deleted and
    /// all is done once more: everything in it can be made again. `work` must not have shown any result by then.
    pub fn with_repository<T>(&self, work: impl Fn(&Arc<Repo>) -> Result<T, Failure>) -> Result<T, Failure> {
        let repo = self.open_repository()?;
        match work(&repo) {
            Err(failure) if failure.is_index_damage() => {
                self.note("the local index is damaged; it is made again");
                repo.rebuild_index()?;
                work(&repo)
            }
            outcome => outcome,
        }
    }

    /// What opens a repository, from where the options and variables say.
    pub fn unlock_secret(&self, credential: Credential) -> Result<UnlockSecret, Failure> {
        match credential {
            Credential::Passphrase(passphrase) => Ok(UnlockSecret::Passphrase(passphrase)),
            Credential::KeyFile(path) => key_file::read(&path).map(UnlockSecret::KeyFile),
        }
    }

    fn surroundings(&self, storage: Arc<dyn Storage>) -> Result<Surroundings, Failure> {
        Ok(Surroundings {
            storage,
            cache: self.cache_folder()?,
            clock: Arc::new(SystemClock),
            identity: identity(),
        })
    }

    /// Makes a repository and opens it. What was made of it is removed again if that fails.
    ///
    /// `options_for` is asked once there is a secret: a passphrase has to be measured, a key file has not.
    pub fn create_repository(
        &self,
        options_for: impl FnOnce(&UnlockSecret) -> InitOptions,
    ) -> Result<Created, Failure> {
        let place = self.place()?;
        match place.folder() {
            Some(folder) => self.refuse_occupied(&place, folder)?,
            None => self.refuse_occupied_bucket(&place)?,
        }
        let (secret, new_key_file) = self.first_secret(&place)?;
        let created = self.prepare(&place).and_then(|storage| {
            let storage = match storage.is_remote() {
                true => self.with_copies(&place, storage)?,
                false => storage,
            };
            let around = self.surroundings(storage)?;
            let storage = Arc::clone(&around.storage);
            Repo::init(around, &options_for(&secret), &secret).map_err(|error| {
                // Unless somebody else was faster: then what is there is theirs.
                match (&error, place.folder()) {
                    (RepoError::Exists { .. }, _) => {}
                    (_, Some(folder)) => remove_unfinished(folder),
                    (_, None) => remove_unfinished_objects(&*storage),
                }
                error.into()
            })
        });
        match created {
            Ok(repo) => Ok(Created { repo: Arc::new(repo), place, new_key_file }),
            Err(failure) => {
                if let Some(path) = new_key_file {
                    // Made a moment ago for a repository that does not exist: it opens nothing.
                    let _ = std::fs::remove_file(path);
                }
                Err(failure)
            }
        }
    }

    /// Opens the place of a repository. Whether there is one is for others to find out.
    fn storage_at(&self, place: &Place, leftovers: Leftovers) -> Result<Arc<dyn Storage>, Failure> {
        match place {
            Place::Folder(folder) => match LocalStorage::open(folder, LocalStorageOptions { leftovers }) {
                Ok(storage) => Ok(Arc::new(storage)),
                Err(StorageError::NoPlace { .. }) => Err(no_repository(place)),
                Err(error @ StorageError::NotAFolder { .. }) => Err(no_repository(place).because(&error)),
                Err(error) => Err(error.into()),
            },
            Place::Bucket { bucket, prefix } => {
                let options = self.bucket_options(bucket, prefix)?;
                let storage: Arc<dyn Storage> = Arc::new(S3Storage::new(&options)?);
                self.count_requests_of(place, &storage);
                Ok(storage)
            }
        }
    }

    /// The same storage, with copies of what is read often in the cache folder.
    fn with_copies(&self, place: &Place, storage: Arc<dyn Storage>) -> Result<Arc<dyn Storage>, Failure> {
        let cache = CacheFolder::open(&self.cache_folder()?).map_err(RepoError::from)?;
        // Two stores may have buckets of the same name.
        let folder = cache.copies_path(&format!("{place} at {}", storage.place()));
        Ok(Arc::new(CachedStorage::new(storage, folder, COPIES_BYTES_MAX)))
    }

    fn prepare(&self, place: &Place) -> Result<Arc<dyn Storage>, Failure> {
        if let Some(folder) = place.folder() {
            LocalStorage::create_place(folder)?;
        }
        self.storage_at(place, Leftovers::Keep)
    }

    /// Fails early, before anybody types a passphrase twice, if no repository can be made in the folder.
    fn refuse_occupied(&self, place: &Place, folder: &Path) -> Result<(), Failure> {
        let Ok(entries) = folder.read_dir() else { return Ok(()) };
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let storage = self.storage_at(place, Leftovers::Keep)?;
        if Repo::exists(&*storage)? {
            return Err(RepoError::Exists { place: place.to_string() }.into());
        }
        let has_readme = names.iter().any(|name| name == "README") && folder.join("slot").is_dir();
        let is_ours =
            |name: &std::ffi::OsString| name.to_str().is_some_and(|name| INIT_NAMES.contains(&name));
        if has_readme && names.iter().all(is_ours) {
            let sentence = format!("the folder {place} holds a repository that was never finished");
            return Err(Failure::new(Exit::Failed, sentence).hint("delete the folder, then begin again"));
        }
        Ok(())
    }

    /// As [`Self::refuse_occupied`], for a bucket. Other objects in it disturb nobody.
    fn refuse_occupied_bucket(&self, place: &Place) -> Result<(), Failure> {
        let storage = self.storage_at(place, Leftovers::Keep)?;
        if Repo::exists(&*storage)? {
            return Err(RepoError::Exists { place: place.to_string() }.into());
        }
        let mut is_unfinished = false;
        for folder in [names::KEYRING, names::SLOT] {
            storage.list(folder, &mut |_| is_unfinished = true)?;
        }
        if is_unfinished {
            let sentence = format!("{place} holds a repository that was never finished");
            let hint = format!("delete all objects below {place}, then begin again");
            return Err(Failure::new(Exit::Failed, sentence).hint(hint));
        }
        Ok(())
    }

    /// The secret of a new repository, and the key file that was made for it.
    fn first_secret(&self, place: &Place) -> Result<(UnlockSecret, Option<PathBuf>), Failure> {
        match self.first_credential(place)? {
            Credential::KeyFile(path) if !path.exists() => {
                let secret = key_file::create(&path)?;
                Ok((UnlockSecret::KeyFile(secret), Some(path)))
            }
            credential => Ok((self.unlock_secret(credential)?, None)),
        }
    }
}

/// A repository that was just made.
pub struct Created {
    /// The repository, unlocked.
    pub repo: Arc<Repo>,
    /// Where it is.
    pub place: Place,
    /// The key file that was made with it.
    pub new_key_file: Option<PathBuf>,
}

/// That there is no repository, with what to do about it.
pub fn no_repository(place: &Place) -> Failure {
    Failure::from(RepoError::NoRepository { place: place.to_string() })
}

/// Takes away what a failed `init` made, so that it can be repeated. The folder was empty before.
fn remove_unfinished(folder: &Path) {
    for name in INIT_NAMES {
        let path = folder.join(name);
        // What cannot be removed is found, and named, by the next attempt.
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}

/// As [`remove_unfinished`], in a bucket.
fn remove_unfinished_objects(storage: &dyn Storage) {
    let mut made = vec![names::readme()];
    for folder in [names::SLOT, names::KEYRING] {
        // What cannot be removed is found, and named, by the next attempt.
        let _ = storage.list(folder, &mut |listed| made.push(listed.name));
    }
    for name in &made {
        let _ = storage.delete(name);
    }
}

/// Who uses repositories in this process.
fn identity() -> Identity {
    let uname = rustix::system::uname();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Identity {
        host: uname.nodename().to_string_lossy().into_owned(),
        user: user_name(),
        process: std::process::id(),
        boot: boot.trim().to_owned(),
    }
}

/// The name of the user that this process runs as, or its number where nobody knows a name.
fn user_name() -> String {
    let number = rustix::process::geteuid().as_raw();
    let owners = crate::source::Owners::load();
    owners.user(number).map_or_else(|| number.to_string(), str::to_owned)
}
