//! Copies on a local disk of what is read again and again from a remote storage: packs of nodes and control objects.
//!
//! Objects are written once, so a copy is as good as the object for as long as that exists, and:
//!
//! - Nothing in here decides anything. Whether an object exists is always asked of the storage: `list`, `len` and
//!   `create` go there, and a name that a listing no longer shows loses its copy.
//! - A copy is used only if the digest that lies beside it is that of its name and its bytes. Otherwise it is deleted, and
//!   the object is read from the storage.
//! - Names that a new repository at the same place would use again (`config/1`) are served only to somebody who has just
//!   seen them listed with the same length and time.
//! - Packs of file contents, leases and decisions of prunes are not kept.
//!
//! What a remote storage cannot tell either stands in here: whether a process of this host still holds a lease. A file is
//! locked for as long as it does. Without the file nobody knows, and a prune waits as it does for other hosts.
//!
//! The folder can be deleted at any time. Its size is bounded: what was not used for longest goes first. Whoever is to
//! find damage in the storage must not look through this.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::storage::{
    Created, HeldState, Hold, Listed, MappedObject, ObjectName, RequestCounts, Storage, StorageError,
};
use crate::units::ByteRange;

/// Folders whose objects are kept.
const KEPT: [&str; 8] = ["meta", "index", "snapshot", "forget", "body", "slot", "config", "keyring"];
/// Those among them whose names are numbers.
const NUMBERED: [&str; 2] = ["config", "keyring"];
/// Folder of files that are locked while a process holds something.
const HELD: &str = "held";
const DIGEST_LEN: usize = 32;
/// Digest, then seconds and nanoseconds of when the storage received the object.
const HEAD_LEN: usize = DIGEST_LEN + 12;
/// After so much of the allowed size was written the folder is measured again.
const MEASURE_SHARE: u64 = 16;

/// See the module.
pub struct CachedStorage {
    inner: Arc<dyn Storage>,
    folder: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
    written: AtomicU64,
    next_temporary: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Copies that this process has compared with their digests.
    verified: BTreeSet<ObjectName>,
    /// What listings said of the objects whose names are numbers.
    listed: BTreeMap<ObjectName, (u64, Timestamp)>,
}

impl CachedStorage {
    /// Keeps copies below `folder`, which is for this place alone and is made when needed. At most about `bytes_max`.
    pub fn new(inner: Arc<dyn Storage>, folder: PathBuf, bytes_max: u64) -> Self {
        let cached = Self {
            inner,
            folder,
            bytes_max,
            state: Mutex::default(),
            written: AtomicU64::new(0),
            next_temporary: AtomicU64::new(0),
        };
        cached.shrink();
        cached
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    /// The file of a copy that is as it should be.
    fn open(&self, name: &ObjectName) -> Option<File> {
        if !is_kept(name) {
            return None;
        }
        let file = File::open(self.path(name)).ok()?;
        if !self.state().verified.contains(name) {
            if self.verify(name, &file).is_none() {
                self.forget(name);
                return None;
            }
            self.state().verified.insert(name.clone());
            // Says that it is of use; a file system that refuses that costs a later download.
            let now = SystemClock.now();
            let since_epoch = Duration::new(u64::try_from(now.seconds).unwrap_or(0), now.nanoseconds);
            let _ = file.set_modified(SystemTime::UNIX_EPOCH + since_epoch);
        }
        Some(file)
    }

    fn verify(&self, name: &ObjectName, file: &File) -> Option<()> {
        let mut bytes = Vec::new();
        read_from(file, 0, file.metadata().ok()?.len(), &mut bytes).ok()?;
        let (head, content) = bytes.split_at_checked(HEAD_LEN)?;
        let (stored, stamp) = head.split_at_checked(DIGEST_LEN)?;
        if digest(name, stamp, content).as_slice() != stored {
            return None;
        }
        match (is_numbered(name), self.state().listed.get(name)) {
            (false, _) => Some(()),
            (true, Some((len, at))) => {
                (*len == content.len() as u64 && stamp_of(*at).as_slice() == stamp).then_some(())
            }
            (true, None) => None,
        }
    }

    /// Keeps a copy. What fails here costs a download later, and nothing else.
    fn keep(&self, name: &ObjectName, bytes: &[u8]) {
        let stamp = match (is_numbered(name), self.state().listed.get(name)) {
            (false, _) => Timestamp::default(),
            (true, Some((_, stored_at))) => *stored_at,
            (true, None) => return,
        };
        if is_kept(name) && bytes.len() as u64 <= self.bytes_max / MEASURE_SHARE {
            let _ = self.write(name, &stamp_of(stamp), bytes);
        }
    }

    fn write(&self, name: &ObjectName, stamp: &[u8], bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let parent = path.parent().unwrap_or(&self.folder);
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!(".{}-{number}", std::process::id()));
        let mut content = Vec::with_capacity(HEAD_LEN + bytes.len());
        content.extend_from_slice(&digest(name, stamp, bytes));
        content.extend_from_slice(stamp);
        content.extend_from_slice(bytes);
        // Not synced: a copy that a power cut leaves in pieces does not match its digest.
        let outcome = fs::write(&temporary, &content).and_then(|()| fs::rename(&temporary, &path));
        if outcome.is_err() {
            let _ = fs::remove_file(&temporary);
            return outcome;
        }
        self.state().verified.insert(name.clone());
        let len = content.len() as u64;
        if self.written.fetch_add(len, Ordering::Relaxed) + len > self.bytes_max / MEASURE_SHARE {
            self.written.store(0, Ordering::Relaxed);
            self.shrink();
        }
        Ok(())
    }

    fn forget(&self, name: &ObjectName) {
        if is_kept(name) {
            self.state().verified.remove(name);
            let _ = fs::remove_file(self.path(name));
        }
    }

    /// Deletes what was not used for longest until the folder is as small as it should be.
    fn shrink(&self) {
        let mut files = Vec::new();
        files_below(&self.folder, &mut |path, metadata| {
            if path.starts_with(self.folder.join(HELD)) {
                return;
            }
            let used_at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((used_at, metadata.len(), path.to_owned()));
        });
        let mut bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
        if bytes <= self.bytes_max {
            return;
        }
        files.sort();
        let wanted = self.bytes_max - self.bytes_max / 8;
        for (_, len, path) in files {
            if bytes <= wanted {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                bytes -= len;
            }
        }
        // What is gone is looked for again.
        self.state().verified.clear();
    }

    /// Deletes the copies of a folder whose objects are gone.
    fn drop_unlisted(&self, prefix: &str, listed: &BTreeSet<ObjectName>) {
        files_below(&self.folder.join(prefix), &mut |path, _| {
            let name = path.strip_prefix(&self.folder).ok().and_then(Path::to_str);
            match name.map(ObjectName::new) {
                Some(Ok(name)) if listed.contains(&name) => {}
                Some(Ok(name)) => self.forget(&name),
                Some(Err(_)) | None => {}
            }
        });
    }

    fn held_path(&self, name: &ObjectName) -> PathBuf {
        self.folder.join(HELD).join(name.as_str())
    }

    /// A locked file. It gets its name when it is locked, so that nobody finds it free in between.
    fn lock(&self, name: &ObjectName) -> io::Result<File> {
        let path = self.held_path(name);
        let parent = path.parent().unwrap_or(&self.folder);
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        if let Ok(file) = File::open(&path) {
            file.lock_shared()?;
            return Ok(file);
        }
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!(".{}-{number}", std::process::id()));
        let file = File::create(&temporary)?;
        file.lock_shared()?;
        fs::rename(&temporary, &path)?;
        Ok(file)
    }

    fn lock_state(&self, name: &ObjectName) -> HeldState {
        let Ok(file) = File::open(self.held_path(name)) else { return HeldState::Unknown };
        match file.try_lock() {
            Ok(()) => HeldState::Free,
            Err(TryLockError::WouldBlock) => HeldState::Held,
            Err(TryLockError::Error(_)) => HeldState::Unknown,
        }
    }

    /// Reads the whole object from the storage and keeps a copy.
    fn fetch(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        let outcome = self.inner.get(name);
        match &outcome {
            Ok(bytes) => self.keep(name, bytes),
            Err(StorageError::Missing { .. }) => self.forget(name),
            Err(_) => {}
        }
        outcome
    }
}

impl Storage for CachedStorage {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        let created = self.inner.create(name, bytes)?;
        match created {
            Created::Created => self.keep(name, bytes),
            Created::Exists => {}
        }
        Ok(created)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        if let Some(file) = self.open(name) {
            let mut bytes = Vec::new();
            let len = file.metadata().map_or(0, |metadata| metadata.len());
            if len >= HEAD_LEN as u64
                && read_from(&file, HEAD_LEN as u64, len - HEAD_LEN as u64, &mut bytes).is_ok()
            {
                return Ok(bytes);
            }
        }
        self.fetch(name)
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        if !is_kept(name) {
            return self.inner.get_range(name, range, into);
        }
        let short = || StorageError::Short { name: name.clone(), end: range.end().unwrap_or(u64::MAX) };
        if let Some(file) = self.open(name) {
            let len = file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(HEAD_LEN as u64);
            if range.end().is_none_or(|end| end > len) {
                return Err(short());
            }
            let kept = into.len();
            if read_from(&file, HEAD_LEN as u64 + range.start, range.len, into).is_ok() {
                return Ok(());
            }
            into.truncate(kept);
        }
        // Whoever reads one node of a pack soon reads more of them.
        let bytes = self.fetch(name)?;
        let start = usize::try_from(range.start).map_err(|_| short())?;
        let end = range.end().and_then(|end| usize::try_from(end).ok()).ok_or_else(short)?;
        into.extend_from_slice(bytes.get(start..end).ok_or_else(short)?);
        Ok(())
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.inner.len(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        let mut names = BTreeSet::new();
        let mut numbered = BTreeMap::new();
        let is_followed = KEPT.contains(&prefix);
        self.inner.list(prefix, &mut |object| {
            if is_followed {
                names.insert(object.name.clone());
            }
            if is_numbered(&object.name) {
                numbered.insert(object.name.clone(), (object.len, object.stored_at));
            }
            visit(object);
        })?;
        self.state().listed.extend(numbered);
        if is_followed {
            self.drop_unlisted(prefix, &names);
        }
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.forget(name);
        self.inner.delete(name)?;
        // Of a writer that is over: what held it is of no use any more.
        let _ = fs::remove_file(self.held_path(name));
        Ok(())
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<(), StorageError> {
        self.inner.make_durable(names)
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.forget(name);
        self.inner.replace(name, bytes)
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        match self.inner.hold(name)? {
            Some(hold) => Ok(Some(hold)),
            // Without a file others have to wait, and no more than that.
            None => Ok(self.lock(name).ok().map(Hold::new)),
        }
    }

    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        match self.inner.held(name)? {
            HeldState::Unknown => Ok(self.lock_state(name)),
            known => Ok(known),
        }
    }

    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        self.inner.map(name)
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        self.inner.space_left()
    }

    fn listing_lags(&self) -> bool {
        self.inner.listing_lags()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn creates_exclusively(&self) -> bool {
        self.inner.creates_exclusively()
    }

    fn requests(&self) -> Option<RequestCounts> {
        self.inner.requests()
    }

    fn place(&self) -> String {
        self.inner.place()
    }
}

fn is_kept(name: &ObjectName) -> bool {
    name.as_str().split_once('/').is_some_and(|(folder, _)| KEPT.contains(&folder))
}

fn is_numbered(name: &ObjectName) -> bool {
    NUMBERED.contains(&name.folder())
}

fn digest(name: &ObjectName, stamp: &[u8], content: &[u8]) -> [u8; DIGEST_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"kluis cached object").update(name.as_str().as_bytes()).update(&[0]).update(stamp);
    *hasher.update(content).finalize().as_bytes()
}

fn stamp_of(stored_at: Timestamp) -> [u8; HEAD_LEN - DIGEST_LEN] {
    let mut stamp = [0; HEAD_LEN - DIGEST_LEN];
    let (seconds, nanoseconds) = stamp.split_at_mut(8);
    seconds.copy_from_slice(&stored_at.seconds.to_le_bytes());
    nanoseconds.copy_from_slice(&stored_at.nanoseconds.to_le_bytes());
    stamp
}

/// Appends so many bytes of a file.
fn read_from(file: &File, start: u64, len: u64, into: &mut Vec<u8>) -> io::Result<()> {
    let wanted = usize::try_from(len).map_err(io::Error::other)?;
    let kept = into.len();
    into.try_reserve_exact(wanted).map_err(io::Error::other)?;
    into.resize(kept + wanted, 0);
    let (_, tail) = into.split_at_mut(kept);
    file.read_exact_at(tail, start)
}

fn files_below(folder: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => visit(&entry.path(), &metadata),
                Err(_) => {}
            }
        }
    }
}
