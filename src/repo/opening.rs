//! What it takes to read something: the plain bytes of its frame, and of all frames that this rests on.
//!
//! The length of a chunk says little about that. A small file lies in a frame of megabytes, and files that were changed all
//! over a tree may rest on every frame of it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use crate::id::ContentId;
use crate::index::PackNumber;
use crate::repo::error::RepoError;
use crate::repo::view::View;

/// Pack and number of a frame.
type FrameKey = (PackNumber, u16);

/// What is known of frames so far, so that each is looked at once in a run.
#[derive(Default)]
pub struct OpeningCosts(Mutex<HashMap<FrameKey, Known>>);

/// One frame.
struct Known {
    /// Its own plain bytes; `u64::MAX` if it cannot be read.
    bytes: u64,
    /// What it rests on.
    below: BTreeSet<FrameKey>,
}

/// Frames that are to be opened, those below them included, with the plain bytes of each.
#[derive(Default)]
pub struct Openings(BTreeMap<FrameKey, u64>);

impl OpeningCosts {
    /// What is opened for these chunks or nodes; those that are not stored take nothing.
    pub fn of(&self, view: &View, ids: impl Iterator<Item = ContentId>) -> Result<Openings, RepoError> {
        let mut known = self.0.lock().expect("no holder of this lock panics");
        let mut openings = Openings::default();
        let mut open = Vec::new();
        for id in ids {
            open.extend(view.find(&id.prefix())?.map(|place| (place.pack, place.frame)));
        }
        while let Some(key) = open.pop() {
            if openings.0.contains_key(&key) {
                continue;
            }
            let frame = match known.entry(key) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(look_at(view, key)?),
            };
            openings.0.insert(key, frame.bytes);
            open.extend(&frame.below);
        }
        Ok(openings)
    }
}

fn look_at(view: &View, (pack, frame): FrameKey) -> Result<Known, RepoError> {
    let frame = view.frame(pack, frame)?;
    let mut known = Known { bytes: u64::from(frame.plain_len), below: BTreeSet::new() };
    for base in &frame.bases {
        match view.find(&base.prefix())? {
            Some(place) => drop(known.below.insert((place.pack, place.frame))),
            None => known.bytes = u64::MAX,
        }
    }
    Ok(known)
}

impl Openings {
    /// Plain bytes in all.
    pub fn bytes(&self) -> u64 {
        self.0.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Plain bytes in all after these are added.
    pub fn bytes_with(&self, more: &Self) -> u64 {
        let added = more.0.iter().filter(|(key, _)| !self.0.contains_key(key));
        added.fold(self.bytes(), |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Adds these.
    pub fn add(&mut self, more: &Self) {
        self.0.extend(&more.0);
    }
}
