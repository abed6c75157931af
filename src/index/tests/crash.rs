//! The disk stops at every single call in turn; what it holds then must open as it was before or after one step.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::*;

/// A disk in memory that stops working after some calls, and knows what was synced.
#[derive(Debug, Clone, Default)]
pub(in crate::index) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    calls: u64,
    calls_max: Option<u64>,
}

#[derive(Debug, Clone)]
enum Change {
    Len(usize),
    Write(usize, Vec<u8>),
}

fn apply(change: &Change, bytes: &mut Vec<u8>) {
    match change {
        Change::Len(len) => bytes.resize(*len, 0),
        Change::Write(at, data) => {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
    }
}

impl Disk {
    pub(in crate::index) fn with(bytes: Vec<u8>, calls_max: Option<u64>) -> Self {
        let synced = bytes.clone();
        Self(Arc::new(Mutex::new(State { bytes, synced, calls_max, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(in crate::index) fn calls(&self) -> u64 {
        self.state().calls
    }

    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.calls += 1;
        match state.calls_max {
            Some(max) if state.calls > max => Err(io::Error::other("the disk is gone")),
            _ => Ok(state),
        }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.call()?;
        apply(&change, &mut state.bytes);
        state.unsynced.push(change);
        Ok(())
    }

    /// What may be found after a power cut: everything, nothing unsynced, and two mixtures.
    pub(in crate::index) fn images(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let mixture = |keep: fn(usize) -> bool| {
            let mut bytes = state.synced.clone();
            let kept = state.unsynced.iter().enumerate().filter(|(at, _)| keep(*at));
            kept.for_each(|(_, change)| apply(change, &mut bytes));
            bytes
        };
        vec![state.bytes.clone(), state.synced.clone(), mixture(|at| at % 2 == 0), mixture(|at| at % 3 == 1)]
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let from = state.bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.call()?;
        state.synced = state.bytes.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }
}

pub(in crate::index) fn open_disk(disk: &Disk) -> Result<Index, IndexError> {
    Index::open_from(REPOSITORY, IndexOptions::default(), |builder| builder.create_with_backend(disk.clone()))
}

fn objects() -> Vec<(IndexObjectId, Vec<NewPack>)> {
    (0..6u8)
        .map(|it| (object_id(it), vec![model_pack(u64::from(it)), model_pack(9 + u64::from(it))]))
        .collect()
}

/// Adds all index objects and removes two, as far as the disk lets it; shows the state after every step.
fn run(disk: &Disk, mut after_step: impl FnMut(&Model)) -> Result<(), IndexError> {
    let index = open_disk(disk)?;
    let mut model = Model::default();
    for (id, packs) in objects() {
        model.add(id, &packs);
        index.add_index_object(id, packs)?;
        after_step(&model);
    }
    let ids = [object_id(1), object_id(4)];
    model.remove(&ids);
    index.remove_index_objects(&ids)?;
    after_step(&model);
    Ok(())
}

fn state_of(view: &IndexView) -> Vec<IndexObjectId> {
    view.index_objects().unwrap()
}

#[test]
fn a_power_cut_at_any_call_leaves_the_state_before_or_after_the_step() {
    let whole = Disk::default();
    let mut models = vec![Model::default()];
    run(&whole, |model| models.push(model.clone())).unwrap();
    let calls = whole.calls();
    assert!(calls > 100, "{calls} calls are too few to mean anything");
    for calls_max in (0..calls).step_by(7) {
        let disk = Disk::with(Vec::new(), Some(calls_max));
        let mut steps_done = 0;
        let ended = run(&disk, |_| steps_done += 1);
        assert!(ended.is_err() || steps_done == models.len() - 1);
        for image in disk.images() {
            let index = match open_disk(&Disk::with(image, None)) {
                Ok(index) => index,
                // Before the first commit there is nothing to keep.
                Err(error) => {
                    assert!(steps_done == 0, "after {calls_max} calls: {error:?}");
                    continue;
                }
            };
            let view = index.view().unwrap();
            let objects = state_of(&view);
            let candidates = models.iter().skip(steps_done).take(2);
            let found = candidates.into_iter().find(|it| it.objects.keys().eq(&objects));
            assert_same(&view, found.unwrap_or_else(|| panic!("after {calls_max} calls: {objects:?}")));
        }
    }
}

#[test]
fn an_index_object_that_was_not_committed_is_not_there_after_reopening() {
    let fixture = fixture();
    let index = open(&fixture.path);
    index.add_index_object(object_id(1), vec![model_pack(5)]).unwrap();
    let copy = fixture.path.with_extension("copy");
    let writing = write::begin(index.database.get()).unwrap();
    writing.open_table(INDEX_OBJECTS).unwrap().insert([9; 32], [].as_slice()).unwrap();
    std::fs::copy(&fixture.path, &copy).unwrap();
    drop(writing);
    drop(index);
    for path in [&fixture.path, &copy] {
        assert_eq!(state_of(&open(path).view().unwrap()), [object_id(1)]);
    }
}
