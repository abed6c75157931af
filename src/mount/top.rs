//! The folders at the top, kept up to date.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::mount::links::Links;
use crate::mount::look::Tree;
use crate::mount::names::{Folders, lay_out};
use crate::mount::origin::{Origin, REFRESH_SECONDS};
use crate::repo::RepoError;
use crate::target::OwnerMap;

/// Says which snapshots are shown.
pub(super) type Filter = Box<dyn Fn(&Snapshot) -> bool + Send + Sync>;

/// See the module.
pub(super) struct Top {
    filter: Filter,
    state: Mutex<State>,
}

struct State {
    listed_at: i64,
    listing: Arc<Listing>,
}

/// The snapshots at one moment.
#[derive(Default)]
pub(super) struct Listing {
    /// What is in the folders at the top.
    pub(super) folders: Folders,
    /// The snapshots that they name.
    pub(super) trees: Vec<Arc<Tree>>,
}

impl Top {
    /// Lists the snapshots for the first time.
    pub(super) fn new(origin: &Origin, filter: Filter) -> Result<Self, RepoError> {
        let listed_at = origin.repo().clock().now().seconds;
        let listing = list(origin, &filter, &Listing::default())?.unwrap_or_default();
        let state = State { listed_at, listing: Arc::new(listing) };
        Ok(Self { filter, state: Mutex::new(state) })
    }

    /// The snapshots, listed again if that was not done for some seconds. Where that fails, those from before.
    pub(super) fn listing(&self, origin: &Origin) -> (Arc<Listing>, Result<(), RepoError>) {
        let now = origin.repo().clock().now().seconds;
        let before = {
            let mut state = self.state.lock().expect("no holder of this lock panics");
            let is_fresh = (0..REFRESH_SECONDS).contains(&now.saturating_sub(state.listed_at));
            if is_fresh {
                return (Arc::clone(&state.listing), Ok(()));
            }
            // Whoever comes meanwhile makes do with what is there.
            state.listed_at = now;
            Arc::clone(&state.listing)
        };
        match list(origin, &self.filter, &before) {
            Ok(None) => (before, Ok(())),
            Ok(Some(listing)) => {
                let listing = Arc::new(listing);
                self.state.lock().expect("no holder of this lock panics").listing = Arc::clone(&listing);
                (listing, Ok(()))
            }
            Err(error) => (before, Err(error)),
        }
    }
}

/// The snapshots that there are now, or `None` if they are those from before.
fn list(origin: &Origin, filter: &Filter, before: &Listing) -> Result<Option<Listing>, RepoError> {
    let mut snapshots = origin.repo().snapshots()?.snapshots;
    snapshots.retain(|snapshot| filter(snapshot));
    let is_same = snapshots.len() == before.trees.len()
        && snapshots.iter().zip(&before.trees).all(|(now, then)| now.id == then.id);
    if is_same && !before.folders.is_empty() {
        return Ok(None);
    }
    if !before.folders.is_empty() {
        // What new snapshots name is in packs that the index does not know yet.
        origin.reopen()?;
    }
    let known: HashMap<SnapshotId, &Arc<Tree>> = before.trees.iter().map(|tree| (tree.id, tree)).collect();
    let trees = snapshots.iter().map(|snapshot| match known.get(&snapshot.id) {
        Some(tree) => Arc::clone(tree),
        None => Arc::new(Tree::new(snapshot, snapshot.root)),
    });
    let trees = trees.collect();
    Ok(Some(Listing { folders: lay_out(&snapshots, |time| time.rfc3339()), trees }))
}

impl Tree {
    /// The part of a snapshot below `root`.
    pub(super) fn new(snapshot: &Snapshot, root: crate::id::NodeId) -> Self {
        let named = |is_group| {
            let owners = snapshot.owners.iter().filter(move |owner| owner.is_group == is_group);
            owners.map(|owner| (owner.number, owner.name.as_bytes().into())).collect::<Vec<_>>()
        };
        Self {
            id: snapshot.id,
            root,
            started_at: snapshot.started_at,
            owners: OwnerMap::of_this_computer(&named(false), &named(true)),
            links: Links::default(),
            shown: None,
        }
    }
}
