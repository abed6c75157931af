//! The walk through the snapshot beside the target: makes folders, decides about entries, fills windows.
//!
//! One thread does this. Folders, links and special files are made here; files become jobs of a window.

mod entries;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::decide::{Decision, decide};
use super::filter::Filter;
use super::seen::SeenNames;
use super::shared::{Shared, chain, join};
use super::walk::{Step, Walk};
use super::window::{End, FirstName, Sealed, Task, Window};
use super::{RestoreError, RestoreRequest};
use crate::event::Progress;
use crate::format::tree::{Entry, EntryKind};
use crate::target::{FolderCache, TargetError, TargetPath, Wanted};

/// Windows that are worked on while the next one is planned.
const WINDOWS_UNDER_WAY_MAX: usize = 1;

pub(super) struct Planner<'r> {
    shared: &'r Shared<'r>,
    tasks: Sender<Task>,
    cache: FolderCache,
    /// For the other end of a hard link.
    link_cache: FolderCache,
    levels: Vec<Level>,
    window: Window,
    windows_sealed: u32,
    under_way: VecDeque<(Arc<Sealed>, Vec<End>)>,
    /// Files with several names, by device and inode in the snapshot.
    first_names: HashMap<(u64, u64), FirstName>,
    /// Told at the end: until then nobody could say how many there will be.
    file_count: u64,
}

/// A folder on the way down.
struct Level {
    path: Arc<TargetPath>,
    /// `None` for the target itself, which keeps its metadata.
    entry: Option<Box<Entry>>,
    state: LevelState,
    /// Nothing can be in it but what this restore put there.
    is_fresh: bool,
    /// Whether it keeps the metadata that it has.
    is_left: bool,
    /// What was in it, for `delete`.
    names: SeenNames,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LevelState {
    /// Not made yet, because perhaps nothing in it is restored.
    Waiting,
    Ready,
    Failed,
}

impl<'r> Planner<'r> {
    pub(super) fn new(shared: &'r Shared<'r>, tasks: Sender<Task>) -> Self {
        Self {
            shared,
            tasks,
            cache: FolderCache::new(),
            link_cache: FolderCache::new(),
            levels: Vec::new(),
            window: Window::new(0),
            windows_sealed: 0,
            under_way: VecDeque::new(),
            first_names: HashMap::new(),
            file_count: 0,
        }
    }

    /// Walks through all of it, and returns when everything is written.
    pub(super) fn run(mut self, request: &RestoreRequest, filter: &Filter) -> Result<(), RestoreError> {
        self.enter_target()?;
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
                Step::Entry(entry) => self.entry(*entry),
                Step::Broken(source) if self.levels.len() == 1 => {
                    self.shared.fail(RestoreError::Root { source });
                }
                Step::Broken(error) => {
                    self.shared.damaged(
                        walk.path().to_path_buf(),
                        format!("the folder is damaged: {}", chain(&error)),
                    );
                }
                Step::BadName(error) => {
                    self.shared.target_problem(walk.path().to_path_buf(), error);
                }
            }
            if self.window.is_full() {
                self.seal(None);
            }
        }
        Progress::add(&self.shared.observer.progress().files_total, self.file_count);
        self.seal(None);
        while self.end_oldest() {}
        Ok(())
    }

    fn enter_target(&mut self) -> Result<(), RestoreError> {
        let path = Arc::new(TargetPath::root());
        let names = self.cache.folder(self.shared.root, &path)?.names()?;
        let mut level = Level::new(path, None);
        level.state = LevelState::Ready;
        level.is_fresh = names.is_empty();
        if self.shared.options.delete {
            level.names = SeenNames::new(names);
        }
        self.levels.push(level);
        Ok(())
    }

    /// Whether the folder can be gone into.
    fn enter(&mut self, path: &TargetPath, entry: Box<Entry>, is_taken: bool) -> bool {
        self.mark_seen(entry.name.as_slice());
        self.levels.push(Level::new(Arc::new(path.clone()), Some(entry)));
        !is_taken || self.make_levels()
    }

    /// Makes the folders on the way that were only looked into so far. False if one cannot be made.
    fn make_levels(&mut self) -> bool {
        for at in 1..self.levels.len() {
            let Some([above, level]) = self.levels.get(at - 1..=at) else { return false };
            let state = match (above.state, level.state) {
                (LevelState::Failed, _) => LevelState::Failed,
                (_, LevelState::Waiting) => self.make_level(at),
                (_, state) => state,
            };
            if let Some(level) = self.levels.get_mut(at) {
                level.state = state;
            }
        }
        self.levels.last().is_some_and(|level| level.state == LevelState::Ready)
    }

    fn make_level(&mut self, at: usize) -> LevelState {
        let Some([above, level]) = self.levels.get(at - 1..=at) else { return LevelState::Failed };
        let (above_path, above_is_fresh) = (above.path.clone(), above.is_fresh);
        let path = level.path.clone();
        let Some(entry) = level.entry.clone() else { return LevelState::Failed };
        match self.make_folder(&above_path, above_is_fresh, &path, &entry) {
            Ok(made) => {
                if let Some(level) = self.levels.get_mut(at) {
                    (level.is_fresh, level.is_left, level.names) = made;
                }
                LevelState::Ready
            }
            Err(error) => {
                self.shared.target_problem(path.to_path_buf(), error);
                LevelState::Failed
            }
        }
    }

    /// Returns whether it is fresh, whether it is left as it is, and what is in it.
    fn make_folder(
        &mut self,
        above: &TargetPath,
        above_is_fresh: bool,
        path: &TargetPath,
        entry: &Entry,
    ) -> Result<(bool, bool, SeenNames), TargetError> {
        let options = self.shared.options;
        let name = entry.name.as_slice();
        let folder = self.cache.folder(self.shared.root, above)?;
        let existing = if above_is_fresh { None } else { folder.look(name)? };
        match (decide(entry, existing.as_ref(), options.overwrite), existing) {
            (Decision::Create, _) | (_, None) => {
                folder.make_folder(name)?;
                Ok((true, false, SeenNames::default()))
            }
            (decision, Some(existing)) if existing.kind == EntryKind::Directory => {
                folder.unlock_folder(name, &existing)?;
                let names = match options.delete {
                    true => SeenNames::new(self.cache.folder(self.shared.root, path)?.names()?),
                    false => SeenNames::default(),
                };
                Ok((false, decision == Decision::Leave, names))
            }
            (Decision::Leave, Some(_)) => Err(TargetError::Replaced),
            (Decision::Keep | Decision::Mend | Decision::Replace, Some(_)) => {
                folder.remove(name)?;
                folder.make_folder(name)?;
                Ok((true, false, SeenNames::default()))
            }
        }
    }

    fn leave(&mut self, is_whole: bool) {
        let Some(mut level) = self.levels.pop() else { return };
        if level.state != LevelState::Ready {
            return;
        }
        if is_whole {
            self.delete_unseen(&level.path, &level.names);
        }
        if let Some(entry) = level.entry.take() {
            self.shared.report().folders += 1;
            if !level.is_left {
                self.window.ends.push(End::Folder { path: level.path, entry });
            }
        }
    }

    fn delete_unseen(&mut self, path: &TargetPath, names: &SeenNames) {
        for name in names.unseen() {
            let folder = self.cache.folder(self.shared.root, path);
            match folder.and_then(|folder| folder.remove(name)) {
                Ok(count) => self.shared.report().deleted += count,
                Err(error) => self.shared.target_problem(join(path, name), error),
            }
        }
    }

    fn mark_seen(&mut self, name: &[u8]) {
        if let Some(level) = self.levels.last_mut() {
            level.names.mark(name);
        }
    }

    /// Hands the window to the threads, and ends windows until few enough are under way.
    fn seal(&mut self, open: Option<&Arc<super::job::FileJob>>) {
        self.windows_sealed += 1;
        let window = std::mem::replace(&mut self.window, Window::new(self.windows_sealed));
        let sealed = window.seal(open, self.shared, &self.tasks);
        self.under_way.push_back(sealed);
        while self.under_way.len() > WINDOWS_UNDER_WAY_MAX && self.end_oldest() {}
    }

    /// Waits for the oldest window, then makes its links and ends its folders. False if there is none.
    fn end_oldest(&mut self) -> bool {
        let Some((sealed, ends)) = self.under_way.pop_front() else { return false };
        sealed.countdown.wait();
        for end in ends {
            if self.shared.must_stop() {
                break;
            }
            match end {
                End::Link { folder, entry, first } => self.make_link(&folder, &entry, &first),
                End::Folder { path, entry } => self.end_folder(&path, &entry),
            }
        }
        true
    }

    fn end_folder(&mut self, path: &TargetPath, entry: &Entry) {
        let wanted = Wanted { entry, owner: self.shared.owner(entry), with_time: true };
        match self.cache.folder(self.shared.root, path) {
            Ok(folder) => self.shared.applied(|| path.to_path_buf(), folder.apply_to_self(&wanted)),
            Err(error) => self.shared.target_problem(path.to_path_buf(), error),
        }
    }

    fn make_link(&mut self, folder: &TargetPath, entry: &Entry, first: &FirstName) {
        let name = entry.name.as_slice();
        match self.try_link(folder, name, first) {
            Ok(true) => self.shared.report().hard_links += 1,
            Ok(false) => self.shared.report().files_unchanged += 1,
            Err(error) => self.shared.target_problem(join(folder, name), error),
        }
        self.shared.count_file();
    }

    /// False if both are the same file already.
    fn try_link(&mut self, folder: &TargetPath, name: &[u8], first: &FirstName) -> Result<bool, TargetError> {
        let from = self.link_cache.folder(self.shared.root, &first.folder)?;
        let to = self.cache.folder(self.shared.root, folder)?;
        let there = to.look(name)?;
        let file = from.look(&first.name)?;
        if let (Some(there), Some(file)) = (there, file)
            && there.is_same_file(&file)
        {
            return Ok(false);
        }
        if there.is_some() && file.is_some() {
            to.remove(name)?;
        }
        to.make_link(name, from, &first.name)?;
        Ok(true)
    }
}

impl Level {
    fn new(path: Arc<TargetPath>, entry: Option<Box<Entry>>) -> Self {
        Self {
            path,
            entry,
            state: LevelState::Waiting,
            is_fresh: false,
            is_left: false,
            names: SeenNames::default(),
        }
    }
}
