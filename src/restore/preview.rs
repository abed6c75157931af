//! What a restore would do: the same walk and the same decisions, beside a target that is only read.
//!
//! Contents are compared as a restore compares them: the file in the target is read and hashed, the repository only
//! tells which chunks the file should have. So nothing is fetched that a restore would fetch, and damage of packs
//! does not show. The only calls into the target are those that look and read; there is nothing here that could
//! write.

mod contents;
mod entries;

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::change::{Change, ChangeVisitor, What};
use super::decide::{Decision, decide};
use super::filter::Filter;
use super::run::upper_bound;
use super::seen::SeenNames;
use super::shared::{Shared, chain, join};
use super::walk::{Step, Walk};
use super::{RestoreContext, RestoreError, RestoreOptions, RestoreReport, RestoreRequest};
use crate::event::Progress;
use crate::format::tree::{Entry, EntryKind};
use crate::target::{Existing, FolderCache, MetadataChanges, TargetError, TargetPath, TargetRoot, Wanted};

/// Tells `tell` everything that [`super::run()`] would change, and adds it up. Writes nothing, not even `target` itself.
pub fn preview(
    context: &RestoreContext<'_>,
    request: &RestoreRequest,
    target: &Path,
    options: &RestoreOptions,
    tell: &mut ChangeVisitor<'_>,
) -> Result<RestoreReport, RestoreError> {
    let started = Instant::now();
    let filter =
        Filter::new(&options.include, &options.exclude).map_err(|source| RestoreError::Filter { source })?;
    let (root, exists) = open_target(target)?;
    let shared = Shared::new(context, options, &root);
    shared.observer.phase("comparing with the target");
    Progress::add(&shared.observer.progress().bytes_total, upper_bound(&shared, request)?);
    shared.observer.progress().total_is_known.store(true, Ordering::Relaxed);
    Preview::new(&shared, tell).run(request, &filter, exists)?;
    shared.take_failure()?;
    let mut report = shared.finish();
    report.duration = started.elapsed();
    Ok(report)
}

/// The target, and whether it exists. If not, a folder above it stands in, in which nothing is looked at.
fn open_target(target: &Path) -> Result<(TargetRoot, bool), TargetError> {
    let is_missing = |error: &TargetError| matches!(error, TargetError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound);
    match TargetRoot::open(target, false) {
        Err(error) if is_missing(&error) && target.symlink_metadata().is_err() => {}
        opened => return Ok((opened?, true)),
    }
    for above in target.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match TargetRoot::open(above, false) {
            Err(error) if is_missing(&error) => {}
            opened => return Ok((opened?, false)),
        }
    }
    Ok((TargetRoot::open(Path::new("."), false)?, false))
}

struct Preview<'p, 'v> {
    shared: &'p Shared<'p>,
    tell: &'p mut ChangeVisitor<'v>,
    cache: FolderCache,
    levels: Vec<Level>,
    /// Files with several names, by device and inode in the snapshot: what stays in the target of the first one.
    first_names: HashMap<(u64, u64), Option<Existing>>,
}

/// A folder on the way down.
struct Level {
    path: TargetPath,
    /// `None` for the target itself, which keeps its metadata.
    entry: Option<Box<Entry>>,
    state: LevelState,
    /// Nothing is in it yet.
    is_fresh: bool,
    /// What is in it, for `delete`.
    names: SeenNames,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LevelState {
    /// Not needed yet, because perhaps nothing in it is restored.
    Waiting,
    Ready,
    Failed,
}

impl Level {
    fn new(path: TargetPath, entry: Option<Box<Entry>>) -> Self {
        Self { path, entry, state: LevelState::Waiting, is_fresh: true, names: SeenNames::default() }
    }
}

impl<'p, 'v> Preview<'p, 'v> {
    fn new(shared: &'p Shared<'p>, tell: &'p mut ChangeVisitor<'v>) -> Self {
        Self { shared, tell, cache: FolderCache::new(), levels: Vec::new(), first_names: HashMap::new() }
    }

    fn run(
        mut self,
        request: &RestoreRequest,
        filter: &Filter,
        target_exists: bool,
    ) -> Result<(), RestoreError> {
        let mut top = Level::new(TargetPath::root(), None);
        top.state = LevelState::Ready;
        if target_exists {
            top.is_fresh = false;
            top.names = self.names(&top.path)?;
        }
        self.levels.push(top);
        let mut walk = Walk::new(self.shared.origin, request, filter);
        while let Some(step) = walk.next() {
            if self.shared.must_stop() {
                break;
            }
            match step {
                Step::Enter(entry, is_taken) => {
                    if !self.enter(walk.path(), entry, is_taken) {
                        walk.skip_folder();
                    }
                }
                Step::Leave(is_whole) => self.leave(is_whole),
                Step::Entry(entry) => self.entry(&entry),
                Step::Broken(source) if self.levels.len() == 1 => {
                    self.shared.fail(RestoreError::Root { source });
                }
                Step::Broken(error) => {
                    let message = format!("the folder is damaged: {}", chain(&error));
                    self.shared.damaged(walk.path().to_path_buf(), message);
                }
                Step::BadName(error) => self.shared.target_problem(walk.path().to_path_buf(), error),
            }
        }
        Ok(())
    }

    fn tell(&mut self, path: TargetPath, kind: EntryKind, size: u64, what: What) {
        let change = Change { path, kind, size: if kind == EntryKind::File { size } else { 0 }, what };
        if (self.tell)(&change) == ControlFlow::Break(()) {
            self.shared.fail(RestoreError::Interrupted);
        }
    }

    /// What is in the folder, if that is asked for at all; nothing of it seen yet.
    fn names(&mut self, path: &TargetPath) -> Result<SeenNames, TargetError> {
        if !self.shared.options.delete {
            return Ok(SeenNames::default());
        }
        Ok(SeenNames::new(self.cache.folder(self.shared.root, path)?.names()?))
    }

    fn mark_seen(&mut self, name: &[u8]) {
        if let Some(level) = self.levels.last_mut() {
            level.names.mark(name);
        }
    }

    /// Whether the folder can be gone into.
    fn enter(&mut self, path: &TargetPath, entry: Box<Entry>, is_taken: bool) -> bool {
        self.mark_seen(entry.name.as_slice());
        self.levels.push(Level::new(path.clone(), Some(entry)));
        !is_taken || self.see_levels()
    }

    /// Looks at the folders on the way that were not needed so far. False if one cannot be.
    fn see_levels(&mut self) -> bool {
        for at in 1..self.levels.len() {
            let Some([above, level]) = self.levels.get(at - 1..=at) else { return false };
            let state = match (above.state, level.state) {
                (LevelState::Failed, _) => LevelState::Failed,
                (_, LevelState::Waiting) => self.see_level(at),
                (_, state) => state,
            };
            if let Some(level) = self.levels.get_mut(at) {
                level.state = state;
            }
        }
        self.levels.last().is_some_and(|level| level.state == LevelState::Ready)
    }

    fn see_level(&mut self, at: usize) -> LevelState {
        let Some([above, level]) = self.levels.get(at - 1..=at) else { return LevelState::Failed };
        let (above, above_is_fresh, path) = (above.path.clone(), above.is_fresh, level.path.clone());
        let Some(entry) = level.entry.clone() else { return LevelState::Failed };
        match self.see_folder(&above, above_is_fresh, &path, &entry) {
            Ok((is_fresh, names)) => {
                if let Some(level) = self.levels.get_mut(at) {
                    (level.is_fresh, level.names) = (is_fresh, names);
                }
                LevelState::Ready
            }
            Err(error) => {
                self.shared.target_problem(path.to_path_buf(), error);
                LevelState::Failed
            }
        }
    }

    /// Whether it is fresh, and what is in it.
    fn see_folder(
        &mut self,
        above: &TargetPath,
        above_is_fresh: bool,
        path: &TargetPath,
        entry: &Entry,
    ) -> Result<(bool, SeenNames), TargetError> {
        let existing = if above_is_fresh { None } else { self.look(above, entry.name.as_slice())? };
        let decision = decide(entry, existing.as_ref(), self.shared.options.overwrite);
        let Some(existing) = existing else {
            self.tell(path.clone(), entry.kind, 0, What::Added);
            return Ok((true, SeenNames::default()));
        };
        if existing.kind == EntryKind::Directory {
            if decision != Decision::Leave {
                let metadata = self.metadata_changes(above, entry, &existing)?;
                self.tell_metadata(path.clone(), entry, metadata);
            }
            return Ok((false, self.names(path)?));
        }
        if decision == Decision::Leave {
            return Err(TargetError::Replaced);
        }
        self.tell_replaced(path.clone(), entry, &existing, MetadataChanges::default());
        Ok((true, SeenNames::default()))
    }

    fn look(&mut self, folder: &TargetPath, name: &[u8]) -> Result<Option<Existing>, TargetError> {
        self.cache.folder(self.shared.root, folder)?.look(name)
    }

    fn metadata_changes(
        &mut self,
        folder: &TargetPath,
        entry: &Entry,
        existing: &Existing,
    ) -> Result<MetadataChanges, TargetError> {
        let wanted = Wanted { entry, owner: self.shared.owner(entry), with_time: true };
        let folder = self.cache.folder(self.shared.root, folder)?;
        folder.metadata_changes(entry.name.as_slice(), &wanted, existing)
    }

    fn tell_metadata(&mut self, path: TargetPath, entry: &Entry, metadata: MetadataChanges) {
        if metadata.any() {
            self.tell(path, entry.kind, entry.size, What::Metadata(metadata));
        }
    }

    fn tell_replaced(
        &mut self,
        path: TargetPath,
        entry: &Entry,
        existing: &Existing,
        metadata: MetadataChanges,
    ) {
        let size_before = if existing.kind == EntryKind::File { existing.size } else { 0 };
        let what = What::Contents { kind_before: existing.kind, size_before, metadata };
        self.tell(path, entry.kind, entry.size, what);
    }

    fn leave(&mut self, is_whole: bool) {
        let Some(level) = self.levels.pop() else { return };
        if level.state != LevelState::Ready {
            return;
        }
        for name in level.names.unseen().filter(|_| is_whole) {
            match self.remove(&level.path, name) {
                Ok(count) => self.shared.report().deleted += count,
                Err(error) => self.shared.target_problem(join(&level.path, name), error),
            }
        }
        if level.entry.is_some() {
            self.shared.report().folders += 1;
        }
    }

    /// Tells that this would go, and everything below it. Returns how many entries that are.
    fn remove(&mut self, folder: &TargetPath, name: &[u8]) -> Result<u64, TargetError> {
        let Some(existing) = self.look(folder, name)? else { return Ok(0) };
        let path = folder.join(name)?;
        self.tell(path.clone(), existing.kind, existing.size, What::Removed);
        let below =
            if existing.kind == EntryKind::Directory { self.remove_below(path, &existing)? } else { 0 };
        Ok(below + 1)
    }

    /// Tells that everything in this folder would go. Returns how many entries that are.
    fn remove_below(&mut self, folder: TargetPath, existing: &Existing) -> Result<u64, TargetError> {
        let mut count = 0;
        let names = self.cache.folder(self.shared.root, &folder)?.names()?;
        let mut open = vec![(folder, names.into_iter())];
        while let Some((folder, names)) = open.last_mut() {
            let Some(name) = names.next().filter(|_| !self.shared.must_stop()) else {
                open.pop();
                continue;
            };
            let folder = folder.clone();
            let Some(there) = self.look(&folder, &name)? else { continue };
            if there.device != existing.device {
                return Err(TargetError::MountPoint);
            }
            count += 1;
            let path = folder.join(&name)?;
            self.tell(path.clone(), there.kind, there.size, What::Removed);
            if there.kind == EntryKind::Directory {
                let names = self.cache.folder(self.shared.root, &path)?.names()?;
                open.push((path, names.into_iter()));
            }
        }
        Ok(count)
    }
}
