//! The walk over the stored tree: folder by folder in name order, with an explicit stack.

use super::filter::{Choice, Filter};
use super::origin::Stored;
use super::{Origin, OriginError, RestoreRequest};
use crate::format::tree::{Content, Entry, EntryKind};
use crate::limits;
use crate::target::{TargetError, TargetPath};

/// What the walk comes to.
#[derive(Debug)]
pub(super) enum Step {
    /// A folder begins; the path is now its own. With `false` it is only looked into.
    Enter(Box<Entry>, bool),
    /// The folder ends; the path is still its own. With `false` a part of it could not be read.
    Leave(bool),
    /// Anything else, in the folder of the path.
    Entry(Box<Entry>),
    /// The folder of the path cannot be read any further.
    Broken(OriginError),
    /// A name that cannot be restored, or a folder deeper than any may be.
    BadName(TargetError),
}

struct Level<'o> {
    entries: Stored<'o, Entry>,
    is_taken: bool,
    is_whole: bool,
}

pub(super) struct Walk<'o> {
    origin: &'o dyn Origin,
    filter: &'o Filter,
    levels: Vec<Level<'o>>,
    path: TargetPath,
    /// The folder that just ended is left at the next step, when its path has been seen.
    must_pop: bool,
}

impl<'o> Walk<'o> {
    pub(super) fn new(origin: &'o dyn Origin, request: &RestoreRequest, filter: &'o Filter) -> Self {
        let (entries, is_taken): (Stored<'o, Entry>, bool) = match request {
            RestoreRequest::Folder(id) => (origin.directory(*id), filter.takes_all()),
            RestoreRequest::Single(entry) => (Box::new(std::iter::once(Ok(Entry::clone(entry)))), true),
        };
        let levels = vec![Level { entries, is_taken, is_whole: true }];
        Self { origin, filter, levels, path: TargetPath::root(), must_pop: false }
    }

    /// The folder that the last step was in.
    pub(super) fn path(&self) -> &TargetPath {
        &self.path
    }

    /// Does not go into the folder that was just entered; it is left at the next step, and not as a whole.
    pub(super) fn skip_folder(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.entries = Box::new(std::iter::empty());
            level.is_whole = false;
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        if std::mem::take(&mut self.must_pop) {
            self.path.pop();
        }
        loop {
            let depth = self.levels.len();
            let level = self.levels.last_mut()?;
            let entry = match level.entries.next() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    level.entries = Box::new(std::iter::empty());
                    level.is_whole = false;
                    return Some(Step::Broken(error));
                }
                None => {
                    let is_whole = level.is_whole;
                    self.levels.pop();
                    self.must_pop = !self.levels.is_empty();
                    return Some(Step::Leave(is_whole));
                }
            };
            let is_taken = level.is_taken;
            if let Err(error) = self.path.push(entry.name.as_slice()) {
                return Some(Step::BadName(error));
            }
            let is_folder = entry.kind == EntryKind::Directory;
            let choice = self.filter.choose(&self.path, is_folder, is_taken);
            if let (Choice::Take | Choice::LookInside, Content::Directory(id)) = (choice, &entry.content)
                && depth <= limits::DIRECTORY_DEPTH_MAX
            {
                let is_taken = choice == Choice::Take;
                let entries = self.origin.directory(*id);
                self.levels.push(Level { entries, is_taken, is_whole: true });
                return Some(Step::Enter(Box::new(entry), is_taken));
            }
            self.path.pop();
            if choice != Choice::Skip && is_folder {
                let name = entry.name.as_slice().escape_ascii().to_string();
                return Some(Step::BadName(TargetError::BadName { name }));
            }
            if choice == Choice::Take {
                return Some(Step::Entry(Box::new(entry)));
            }
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.next_step()
    }
}
