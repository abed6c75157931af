//! Walking: folders are listed ahead of the one who asks, in the order in which it will ask.
//!
//! The consumer goes depth first, sub-folders in the order of their names. Walkers always begin the known folder that
//! comes first in that order, so that what is ready is what is asked for next. They stop while more than
//! `entries_ahead_max` entries wait to be taken; a listing in hand is finished, so that at most one folder for each
//! walker comes on top.
//!
//! The consumer never waits for a walker that does not work for it: a folder that nobody has begun it lists itself.
//! Whatever the consumer has passed without asking is thrown away as soon as it asks for something behind it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::excludes::Excludes;
use super::folder::FolderPath;
use super::listing::{Lister, Listing};
use crate::format::tree::EntryKind;

/// How to walk.
#[derive(Debug, Clone)]
pub struct WalkOptions {
    /// Walkers that list ahead; with 0 the consumer lists everything itself.
    pub threads: usize,
    /// Whether folders on other devices than their root's are kept as empty folders.
    pub one_file_system: bool,
    /// What is left out.
    pub excludes: Excludes,
    /// Device and inode of folders that are left out with a note: the repository and its cache.
    pub skipped_folders: Vec<(u64, u64)>,
    /// Entries that may wait to be taken before the walkers pause.
    pub entries_ahead_max: usize,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            threads: 2,
            one_file_system: false,
            excludes: Excludes::default(),
            skipped_folders: Vec::new(),
            entries_ahead_max: 1 << 16,
        }
    }
}

/// A walk in progress. Dropping it ends its threads.
pub struct Walk {
    shared: Arc<Shared>,
    /// For the folders that the consumer lists itself.
    lister: Mutex<Lister>,
    walkers: Vec<JoinHandle<()>>,
}

impl Walk {
    /// Starts the walkers. They have nothing to do before the first folder is asked for.
    ///
    /// A walker that cannot be started is done without.
    pub fn start(options: WalkOptions) -> Walk {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            finished: Condvar::new(),
            options,
        });
        let walkers = (0..shared.options.threads).filter_map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("walk".to_owned()).spawn(move || walk_ahead(&shared)).ok()
        });
        let walkers = walkers.collect();
        Walk { shared, lister: Mutex::new(Lister::new()), walkers }
    }

    /// What is in `folder`.
    ///
    /// To be called depth first by one thread: a folder, then each of its sub-folders in the order of names with all
    /// that is below it. Any other order is answered correctly too, only without help from the walkers. An error
    /// says that the folder could not be opened.
    pub fn list(&self, folder: &FolderPath) -> io::Result<Listing> {
        let place = Place(folder.clone());
        let mut state = self.shared.lock();
        self.shared.pass_by(&mut state, &place);
        while state.working.contains(&place) {
            state = self.shared.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(listing) = state.done.remove(&place) {
            state.entries_held -= weight(&listing);
            self.shared.wake_if_room(&state);
            return listing;
        }
        state.pending.remove(&place);
        drop(state);

        let mut lister = self.lister.lock().unwrap_or_else(PoisonError::into_inner);
        let listing = lister.list(folder, &self.shared.options);
        drop(lister);
        if let Ok(listing) = &listing {
            let known = self.shared.subfolders(folder, listing);
            let mut state = self.shared.lock();
            self.shared.extend(&mut state, known);
        }
        listing
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for walker in self.walkers.drain(..) {
            // A walker that panicked has said so; nothing is left to be done about it.
            let _ = walker.join();
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// Something is there to be listed, or there is room again, or it is over.
    work: Condvar,
    /// A folder is not in work any more.
    finished: Condvar,
    options: WalkOptions,
}

#[derive(Default)]
struct State {
    /// Known folders that nobody has begun.
    pending: BTreeSet<Place>,
    /// Folders that walkers are at.
    working: BTreeSet<Place>,
    /// Listings that wait to be taken.
    done: BTreeMap<Place, io::Result<Listing>>,
    /// What was asked for last: anything before it will not be asked for again.
    position: Option<Place>,
    entries_held: usize,
    walkers_idle: usize,
    closed: bool,
}

/// What a walk knows of the sub-folders in a listing.
struct Subfolders {
    here: Vec<Place>,
    /// On other devices, so that they count as empty.
    elsewhere: Vec<Place>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subfolders(&self, folder: &FolderPath, listing: &Listing) -> Subfolders {
        let mut known = Subfolders { here: Vec::new(), elsewhere: Vec::new() };
        if self.options.threads == 0 {
            return known;
        }
        for found in listing.entries.iter().filter(|found| found.entry.kind == EntryKind::Directory) {
            let place = Place(folder.child(found.entry.name.as_slice()));
            match self.options.one_file_system && found.device != folder.of_root().device() {
                // Not even opened: that could mount something.
                true => known.elsewhere.push(place),
                false => known.here.push(place),
            }
        }
        known
    }

    fn extend(&self, state: &mut State, known: Subfolders) {
        for place in known.elsewhere {
            let listing = Ok(Listing::default());
            state.entries_held += weight(&listing);
            state.done.insert(place, listing);
        }
        let wanted = known.here.len().min(state.walkers_idle);
        state.pending.extend(known.here);
        if state.entries_held < self.options.entries_ahead_max {
            (0..wanted).for_each(|_| self.work.notify_one());
        }
    }

    /// Notes where the consumer is, and throws away what it has passed.
    fn pass_by(&self, state: &mut State, place: &Place) {
        let is_passed = |other: &Place| !other.shares_root(place) || other < place;
        while let Some(first) = state.done.first_entry() {
            if !is_passed(first.key()) {
                break;
            }
            state.entries_held -= weight(&first.remove());
        }
        while let Some(last) = state.done.last_entry() {
            if last.key().shares_root(place) {
                break;
            }
            state.entries_held -= weight(&last.remove());
        }
        while state.pending.first().is_some_and(is_passed) {
            state.pending.pop_first();
        }
        while state.pending.last().is_some_and(|last| !last.shares_root(place)) {
            state.pending.pop_last();
        }
        state.position = Some(place.clone());
    }

    /// Wakes the walkers once a quarter of the room is free: for a single entry it is not worth it.
    fn wake_if_room(&self, state: &State) {
        let room_from = self.options.entries_ahead_max / 4 * 3 + 1;
        if state.walkers_idle > 0 && state.entries_held < room_from && !state.pending.is_empty() {
            self.work.notify_all();
        }
    }

    /// Stores what a walker found, unless the consumer has gone by.
    fn finish(&self, place: &Place, listing: io::Result<Listing>) {
        let known = listing.as_ref().ok().map(|listing| self.subfolders(&place.0, listing));
        let mut state = self.lock();
        let is_wanted = state.position.as_ref().is_some_and(|at| at.shares_root(place) && at <= place);
        if is_wanted {
            state.entries_held += weight(&listing);
            state.done.insert(place.clone(), listing);
            if let Some(known) = known {
                self.extend(&mut state, known);
            }
        }
    }
}

/// What a listing counts against `entries_ahead_max`. One more than its entries, so that empty folders count too.
fn weight(listing: &io::Result<Listing>) -> usize {
    1 + listing.as_ref().map_or(0, |listing| listing.entries.len())
}

fn walk_ahead(shared: &Shared) {
    let mut lister = Lister::new();
    loop {
        let mut state = shared.lock();
        let place = loop {
            if state.closed {
                return;
            }
            if state.entries_held < shared.options.entries_ahead_max
                && let Some(place) = state.pending.pop_first()
            {
                break place;
            }
            state.walkers_idle += 1;
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.walkers_idle -= 1;
        };
        state.working.insert(place.clone());
        drop(state);
        let in_work = InWork { shared, place };
        let listing = lister.list(&in_work.place.0, &shared.options);
        shared.finish(&in_work.place, listing);
    }
}

/// Marks a folder as being listed. Ends with the walker's work even if that panics, so that the consumer cannot wait
/// for ever.
struct InWork<'a> {
    shared: &'a Shared,
    place: Place,
}

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.working.remove(&self.place);
        if state.position.as_ref() == Some(&self.place) {
            self.shared.finished.notify_one();
        }
    }
}

/// A folder, ordered as the consumer goes: depth first, sub-folders by name.
#[derive(Clone)]
struct Place(FolderPath);

impl Place {
    fn shares_root(&self, other: &Place) -> bool {
        Arc::ptr_eq(self.0.of_root(), other.0.of_root())
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let roots = Arc::as_ptr(self.0.of_root()).cmp(&Arc::as_ptr(other.0.of_root()));
        roots.then_with(|| depth_first(self.0.relative(), other.0.relative()))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}

/// Compares name by name: as if `/` came before every other byte.
fn depth_first(one: &[u8], other: &[u8]) -> Ordering {
    // Names hold no NUL, so that the lowest byte is free to stand for the end of a name.
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match one.iter().zip(other).find(|(one, other)| one != other) {
        Some((&one, &other)) => rank(one).cmp(&rank(other)),
        None => one.len().cmp(&other.len()),
    }
}

#[cfg(test)]
mod tests;
