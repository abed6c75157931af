//! A disk as the local storage uses it: every create and delete is several steps, and between two of them the power may
//! fail. What then is left is one of many states.
//!
//! - Bytes of a file that was not synced are lost, cut short, or zeros; its name may be there all the same. The local
//!   storage writes such files in `tmp/` only.
//! - A name that was given or taken away, and whose folder was not synced since, is there or not. Changes of one name
//!   happen in their order; those of different names survive in any.
//! - A listing of a control folder syncs it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use kluis::storage::{
    Action, Created, HeldState, Hold, Listed, MappedObject, MemoryStorage, ObjectName, Storage, StorageError,
};
use kluis::units::ByteRange;

use crate::fixture::{Chance, Objects};

/// As many changes that are not durable are tried in all ways; of more, some ways are drawn.
const STATE_COUNT_MAX: usize = 64;

/// See the module.
pub struct Disk {
    memory: MemoryStorage,
    state: Mutex<State>,
}

struct State {
    step: u64,
    cut_at: u64,
    where_cut: Option<String>,
    /// By name, what a power cut may take back, in order: what was stored under the name before.
    open: BTreeMap<ObjectName, Vec<Option<Arc<[u8]>>>>,
    /// Bytes on their way into a temporary file.
    unsynced: Option<Vec<u8>>,
}

impl Disk {
    /// A disk whose power fails before this step.
    pub fn new(memory: MemoryStorage, cut_at: u64) -> Self {
        let state = State { step: 0, cut_at, where_cut: None, open: BTreeMap::new(), unsynced: None };
        Self { memory, state: Mutex::new(state) }
    }

    /// Before which step the power failed, if it did.
    pub fn where_cut(&self) -> Option<String> {
        self.state.lock().unwrap().where_cut.clone()
    }

    /// The states that may be found after a power cut now.
    pub fn states(&self, seed: u64) -> Vec<Objects> {
        let state = self.state.lock().unwrap();
        let objects = self.memory.objects();
        let open: Vec<_> = state.open.iter().collect();
        let count = open.iter().fold(1, |count: usize, (_, befores)| count.saturating_mul(befores.len() + 1));
        let mut chance = Chance(seed);
        let mut states = Vec::new();
        for number in 0..count.min(STATE_COUNT_MAX) {
            let mut rest = number;
            let mut left = objects.clone();
            for (name, befores) in &open {
                let choices = befores.len() + 1;
                let is_drawn = count > STATE_COUNT_MAX && number > 1;
                // 0 keeps everything. The first two ways are to keep all and to lose all.
                let undone = match () {
                    () if is_drawn => chance.below(choices as u64) as usize,
                    () if count > STATE_COUNT_MAX => number * befores.len(),
                    () => {
                        let undone = rest % choices;
                        rest /= choices;
                        undone
                    }
                };
                if let Some(at) = befores.len().checked_sub(undone).filter(|at| *at < befores.len()) {
                    match &befores[at] {
                        Some(bytes) => drop(left.insert((*name).clone(), Arc::clone(bytes))),
                        None => drop(left.remove(name)),
                    }
                }
            }
            if let Some(bytes) = &state.unsynced {
                let torn: Vec<u8> = match number % 4 {
                    0 => Vec::new(),
                    1 => bytes[..bytes.len() / 2].to_vec(),
                    2 => vec![0; bytes.len()],
                    _ => bytes.clone(),
                };
                left.insert(ObjectName::new("tmp/0123456789abcdef.1").unwrap(), torn.into());
            }
            states.push(left);
        }
        states
    }

    fn step(&self, what: &str, name: &str) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        if state.where_cut.is_none() && state.step == state.cut_at {
            state.where_cut = Some(format!("{what} {name}"));
        }
        state.step += 1;
        if state.where_cut.is_some() { Err(off(name)) } else { Ok(()) }
    }

    /// The memory, as long as there is power.
    fn memory(&self) -> Result<&MemoryStorage, StorageError> {
        if self.state.lock().unwrap().where_cut.is_some() { Err(off("anything")) } else { Ok(&self.memory) }
    }

    fn change(&self, name: &ObjectName, before: Option<Arc<[u8]>>) {
        self.state.lock().unwrap().open.entry(name.clone()).or_default().push(before);
    }

    fn sync_folder(&self, folder: &str) {
        self.state.lock().unwrap().open.retain(|name, _| name.folder() != folder);
    }

    fn set_unsynced(&self, bytes: Option<&[u8]>) {
        self.state.lock().unwrap().unsynced = bytes.map(<[u8]>::to_vec);
    }
}

fn off(name: &str) -> StorageError {
    let source = io::Error::new(io::ErrorKind::BrokenPipe, "the power has failed");
    StorageError::Failed { action: Action::Create, what: name.to_owned(), source }
}

fn is_control(folder: &str) -> bool {
    !matches!(folder.split('/').next(), Some("data" | "meta" | "tmp"))
}

impl Storage for Disk {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        let text = name.as_str();
        self.step("write", text)?;
        self.set_unsynced(Some(bytes));
        self.step("sync", text)?;
        self.set_unsynced(None);
        self.step("link", text)?;
        let created = self.memory.create(name, bytes)?;
        if created == Created::Created {
            self.change(name, None);
        }
        self.step("sync the folder of", text)?;
        self.sync_folder(name.folder());
        self.step("unlink the temporary file of", text)?;
        Ok(created)
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.memory()?.get(name)
    }

    fn get_range(&self, name: &ObjectName, range: ByteRange, into: &mut Vec<u8>) -> Result<(), StorageError> {
        self.memory()?.get_range(name, range, into)
    }

    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.memory()?.len(name)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        self.memory()?.list(prefix, visit)?;
        if is_control(prefix) {
            let is_below = |name: &ObjectName| name.as_str().starts_with(&format!("{prefix}/"));
            self.state.lock().unwrap().open.retain(|name, _| !is_below(name));
        }
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.step("unlink", name.as_str())?;
        if let Some(bytes) = self.memory.remove(name) {
            self.change(name, Some(bytes));
        }
        if is_control(name.folder()) {
            self.step("sync after the unlink of", name.as_str())?;
            self.sync_folder(name.folder());
        }
        Ok(())
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<(), StorageError> {
        self.step("sync the folders of", names.first().map_or("", ObjectName::as_str))?;
        names.iter().for_each(|name| self.sync_folder(name.folder()));
        Ok(())
    }

    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.step("replace", name.as_str())?;
        self.memory.replace(name, bytes)
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        self.memory()?.hold(name)
    }

    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        self.memory()?.held(name)
    }

    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        self.memory()?.map(name)
    }

    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        Ok(None)
    }

    fn listing_lags(&self) -> bool {
        false
    }

    fn place(&self) -> String {
        "a disk".to_owned()
    }
}
