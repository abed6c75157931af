//! Making and opening a repository: README, settings, slots, keyring (docs/format.md, "Settings", "Keyring").

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::chunker::ChunkSizes;
use crate::crypto::{self, KdfParams, Secret, keyed_tag};
use crate::format::keyring::{GenerationFields, KeyringFields};
use crate::format::repository_config::{ChunkerConfig, PackConfig, RepositoryConfig};
use crate::format::{FormatError, parity};
use crate::id::{RepositoryId, SeriesId};
use crate::index::{CacheFolder, CacheFolderError, Observed, SeriesMark, Witness, WitnessError};
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::keys::Keys;
use crate::repo::names::Named;
use crate::repo::slots::{self, NewSlot, UnlockSecret};
use crate::repo::{Repo, Surroundings, create_resolved, names, probe, read_control, reserve, sealing};
use crate::shelf::Shelf;
use crate::storage::{Created, ObjectName, Storage, StorageError};

const PACK_BYTES_DATA: u64 = 32 << 20;
const PACK_BYTES_META: u64 = 8 << 20;
const SETTLE_SECONDS: u64 = 120;

/// The text that explains the repository to whoever finds it.
pub const README: &str = "This is a kluis backup repository (format 1).

Everything in here is needed and encrypted. Do not change, rename or delete anything by hand.
To look inside or to restore, use the program `repo`:

    repo -r <this folder> snapshots
    repo -r <this folder> restore latest --target <somewhere>

It asks for the passphrase, without which nobody can read this, its owner included.
The format is specified in docs/format.md of the source code of kluis.
";

/// How a new repository is made.
pub struct InitOptions {
    /// Whether parity follows every object. Never on object storage, which has its own: single disks rot, it does not.
    pub parity: bool,
    /// Sizes of chunks.
    pub chunk_sizes: ChunkSizes,
    /// Payload at which a pack of chunks is finished, in bytes.
    pub pack_bytes: u64,
    /// What a try of a passphrase costs.
    pub kdf: KdfParams,
    /// What people call the first slot.
    pub label: String,
    /// Whose identities it takes over, so that the same content has the same ids in both.
    pub like: Option<Identities>,
}

/// What makes ids and decides where files are cut. Nothing can be opened with it.
pub struct Identities {
    master: Secret<32>,
    chunker: ChunkerConfig,
}

impl Default for InitOptions {
    fn default() -> Self {
        let kdf = KdfParams::default();
        let chunk_sizes = ChunkSizes::default();
        let (parity, pack_bytes, label) = (true, PACK_BYTES_DATA, "first".to_owned());
        Self { parity, chunk_sizes, pack_bytes, kdf, label, like: None }
    }
}

/// See [`Repo::init`].
pub fn init(around: Surroundings, options: &InitOptions, secret: &UnlockSecret) -> Result<Repo, RepoError> {
    let storage = Arc::clone(&around.storage);
    // Second copies and the reserve are for a single disk too.
    let is_disk = !storage.is_remote();
    let has_parity = options.parity && is_disk;
    if Repo::exists(&*storage)? {
        return Err(RepoError::Exists { place: storage.place() });
    }
    let probes = probe::run(&*storage)?;
    let id = RepositoryId::new(crypto::random()?);
    let unlock_key = crypto::random_secret()?;
    let keyring = new_keyring(options.like.as_ref())?;
    let keys = Keys::new(&keyring);
    let now = around.clock.now();
    create_once(&*storage, &names::readme(), README.as_bytes())?;
    let slot = NewSlot { secret, kdf: options.kdf, label: &options.label, now };
    slots::create(&*storage, id, is_disk, &unlock_key, &slot)?;
    let name = names::keyring(keyring.number);
    let plain = keyring.encode().map_err(RepoError::Unstorable)?;
    let mut sealed = sealing::seal_keyring(&unlock_key, id, name.as_str(), &plain)?;
    if has_parity {
        parity::append(&mut sealed);
    }
    create_once(&*storage, &name, &sealed)?;
    if is_disk {
        create_once(&*storage, &names::copy(&name), &sealed)?;
        reserve::make(&*storage)?;
    }
    let mut config = new_config(id, options, &around, probes);
    (config.parity, config.copies) = (has_parity, is_disk);
    let text = config.encode(|text| keyed_tag(&keys.config, text)).map_err(RepoError::Unstorable)?;
    let name = names::config(config.number);
    if is_disk {
        create_once(&*storage, &names::copy(&name), text.as_bytes())?;
    }
    create_once(&*storage, &name, text.as_bytes())?;
    open(around, secret)
}

fn create_once(storage: &dyn Storage, name: &ObjectName, bytes: &[u8]) -> Result<(), RepoError> {
    match create_resolved(storage, name, bytes)? {
        Created::Created => Ok(()),
        Created::Exists => Err(RepoError::Exists { place: storage.place() }),
    }
}

fn new_keyring(like: Option<&Identities>) -> Result<KeyringFields, RepoError> {
    let generation =
        GenerationFields { number: 1, content_root: crypto::random()?, catalogue_root: crypto::random()? };
    let master = match like {
        Some(like) => *like.master.expose(),
        None => crypto::random()?,
    };
    Ok(KeyringFields { version: 1, number: 1, master, generations: vec![generation] })
}

fn new_config(
    id: RepositoryId,
    options: &InitOptions,
    around: &Surroundings,
    probes: BTreeMap<String, bool>,
) -> RepositoryConfig {
    let sizes = options.chunk_sizes;
    RepositoryConfig {
        format: 1,
        repository: id.to_string(),
        number: 1,
        created: around.clock.now().rfc3339(),
        required: Vec::new(),
        chunker: match &options.like {
            Some(like) => like.chunker,
            None => ChunkerConfig {
                method: 1,
                bytes_min: sizes.min() as u32,
                bytes_average: sizes.average() as u32,
                bytes_max: sizes.max() as u32,
            },
        },
        packs: PackConfig {
            data_bytes: options.pack_bytes,
            meta_bytes: PACK_BYTES_META.min(options.pack_bytes),
            padding: false,
        },
        parity: options.parity,
        copies: true,
        settle_seconds: if around.storage.listing_lags() { SETTLE_SECONDS } else { 0 },
        probes,
        unknown: BTreeMap::new(),
        tag: String::new(),
    }
}

/// The highest number among the objects of a folder that are named by number.
pub fn newest_number(storage: &dyn Storage, folder: &str) -> Result<Option<u64>, RepoError> {
    let mut newest = None;
    storage.list(folder, &mut |listed| {
        newest = newest.max(match names::parse(&listed.name) {
            Some(Named::Config(number) | Named::Keyring(number)) => Some(number),
            _ => None,
        });
    })?;
    Ok(newest)
}

/// See [`Repo::open`].
pub fn open(around: Surroundings, secret: &UnlockSecret) -> Result<Repo, RepoError> {
    let storage = Arc::clone(&around.storage);
    let no_repository = || RepoError::NoRepository { place: storage.place() };
    let config_number = newest_number(&*storage, names::CONFIG)?.ok_or_else(no_repository)?;
    let Unlocked { id, config, keys, unlock_key, keyring_number } = unlock(&*storage, config_number, secret)?;
    let cache = CacheFolder::open(&around.cache)?;
    let openers = Shelf::new(rayon::current_num_threads());
    let (index, unread_index_object) = (Mutex::new(None), Mutex::new(None));
    let uses_own_index = AtomicBool::new(false);
    let repo = Repo {
        around,
        id,
        config,
        keys,
        unlock_key,
        cache,
        index,
        uses_own_index,
        unread_index_object,
        openers,
    };
    let observed =
        Observed { config: Some(config_number), keyring: Some(keyring_number), ..repo.nothing_observed() };
    repo.witness(&observed)?;
    Ok(repo)
}

/// What a secret leads to.
struct Unlocked {
    id: RepositoryId,
    config: RepositoryConfig,
    keys: Arc<Keys>,
    unlock_key: Secret<32>,
    keyring_number: u64,
}

/// Unlocks with the settings of this number, or with their copy where they turn out to be damaged. That they still
/// parse proves nothing: their tag can be compared only with the keys to which they lead.
fn unlock(storage: &dyn Storage, number: u64, secret: &UnlockSecret) -> Result<Unlocked, RepoError> {
    let name = names::config(number);
    let outcome = match storage.get(&name) {
        Ok(text) => unlock_with(storage, number, &text, secret),
        Err(error) => Err(error.into()),
    };
    let error = match outcome {
        Err(error @ (RepoError::Damaged { .. } | RepoError::Storage(StorageError::Failed { .. }))) => error,
        outcome => return outcome,
    };
    let Ok(copy) = storage.get(&names::copy(&name)) else { return Err(error) };
    unlock_with(storage, number, &copy, secret).map_err(|_| error)
}

fn unlock_with(
    storage: &dyn Storage,
    number: u64,
    text: &[u8],
    secret: &UnlockSecret,
) -> Result<Unlocked, RepoError> {
    let damaged = |source| RepoError::Damaged { name: names::config(number).to_string(), source };
    let config = RepositoryConfig::decode(text).map_err(|error| damaged(error.into()))?;
    let id = config.repository.parse::<RepositoryId>().map_err(|_| {
        damaged(FormatError::invalid("repository configuration", "its repository id does not parse").into())
    })?;
    let unlock_key = slots::unlock(storage, id, secret)?;
    let (keyring, keyring_number) = open_keyring(storage, id, &unlock_key)?;
    let keys = Arc::new(Keys::new(&keyring));
    let config = open_config(&keys, number, text).map_err(damaged)?;
    Ok(Unlocked { id, config, keys, unlock_key, keyring_number })
}

/// Reads settings and compares their tag and number.
pub fn open_config(keys: &Keys, number: u64, text: &[u8]) -> Result<RepositoryConfig, DamageReason> {
    let config = RepositoryConfig::decode(text)?;
    let text = std::str::from_utf8(text).map_err(|_| DamageReason::Tag)?;
    let tag = keyed_tag(&keys.config, &config.tagged_text(text));
    let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    if tag == config.tag && config.number == number { Ok(config) } else { Err(DamageReason::Tag) }
}

fn open_keyring(
    storage: &dyn Storage,
    id: RepositoryId,
    unlock_key: &Secret<32>,
) -> Result<(KeyringFields, u64), RepoError> {
    let missing = || StorageError::Missing { name: names::keyring(1) };
    let number = newest_number(storage, names::KEYRING)?.ok_or_else(missing)?;
    let name = names::keyring(number);
    let keyring = read_control(storage, &name, |stored| read_keyring(unlock_key, id, number, stored))?;
    Ok((keyring, number))
}

/// Opens and decodes a keyring.
pub fn read_keyring(
    unlock_key: &Secret<32>,
    id: RepositoryId,
    number: u64,
    stored: &[u8],
) -> Result<KeyringFields, DamageReason> {
    let plain = sealing::open_keyring(unlock_key, id, names::keyring(number).as_str(), stored)?;
    let keyring = KeyringFields::decode(&plain)?;
    if keyring.number == number { Ok(keyring) } else { Err(DamageReason::Kind) }
}

impl Repo {
    /// What another repository takes over that is made like this one.
    pub fn identities(&self) -> Result<Identities, RepoError> {
        let (keyring, _) = open_keyring(&**self.storage(), self.id, &self.unlock_key)?;
        let master = Secret::fill_with(|place| place.copy_from_slice(&keyring.master));
        Ok(Identities { master, chunker: self.config.chunker })
    }

    /// Compares what was seen of the repository with what this computer saw before, and remembers it.
    pub(crate) fn witness(&self, observed: &Observed) -> Result<(), RepoError> {
        let path = self.cache.witness_path(self.id)?;
        match Witness::ask(&path, observed) {
            Ok(_) => Ok(()),
            Err(WitnessError::Failed { path, source }) => Err(CacheFolderError { path, source }.into()),
            Err(error) => Err(RepoError::Replaced(error)),
        }
    }

    /// An observation of this repository in which nothing was looked at yet.
    pub(crate) fn nothing_observed(&self) -> Observed {
        Observed {
            repository: self.id,
            key_fingerprint: self.keys.fingerprint,
            config: None,
            keyring: None,
            prune: None,
            forget_count: None,
            series: None,
        }
    }

    /// The newest snapshots of all series that this computer remembers.
    pub(crate) fn witnessed_series(&self) -> Result<BTreeMap<SeriesId, SeriesMark>, RepoError> {
        let path = self.cache.witness_path(self.id)?;
        let witness = Witness::ask(&path, &self.nothing_observed()).map_err(RepoError::Replaced)?;
        Ok(witness.series)
    }

    /// Remembers the newest snapshot of a series.
    pub(crate) fn witness_commit(&self, series: SeriesId, mark: SeriesMark) -> Result<(), RepoError> {
        let path = self.cache.witness_path(self.id)?;
        let mut witness = Witness::ask(&path, &self.nothing_observed()).map_err(RepoError::Replaced)?;
        witness.series.insert(series, mark);
        witness.save(&path).map_err(RepoError::Replaced)
    }
}
