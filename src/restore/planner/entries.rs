//! What becomes of one entry that is no folder.

use std::sync::Arc;

use super::{FirstName, Planner};
use crate::format::tree::{Content, Entry, EntryKind, tag};
use crate::restore::decide::{Decision, decide, refusal, shared_file};
use crate::restore::job::{FileJob, Start};
use crate::restore::layout::Layout;
use crate::restore::plan::Candidate;
use crate::restore::shared::{chain, join};
use crate::restore::window::End;
use crate::target::{Current, Existing, TargetError, TargetPath, Wanted};

impl Planner<'_> {
    pub(super) fn entry(&mut self, entry: Entry) {
        let name = entry.name.as_slice();
        self.mark_seen(name);
        self.file_count += 1;
        if !self.make_levels() {
            return;
        }
        let Some(level) = self.levels.last() else { return };
        let (folder, is_fresh) = (level.path.clone(), level.is_fresh);
        let path = join(&folder, name);
        if let Some(message) = refusal(&entry) {
            return self.shared.problem(path, message);
        }
        if let Err(error) = self.place_entry(folder, is_fresh, entry) {
            self.shared.target_problem(path, error);
        }
    }

    fn place_entry(
        &mut self,
        folder: Arc<TargetPath>,
        is_fresh: bool,
        entry: Entry,
    ) -> Result<(), TargetError> {
        let existing = match is_fresh {
            true => None,
            false => self.cache.folder(self.shared.root, &folder)?.look(entry.name.as_slice())?,
        };
        let decision = decide(&entry, existing.as_ref(), self.shared.options.overwrite);
        if decision == Decision::Leave {
            self.shared.count_unchanged(&entry);
            return Ok(());
        }
        if let Some(first) = self.first_name(&folder, &entry) {
            self.window.ends.push(End::Link { folder, entry: Box::new(entry), first });
            return Ok(());
        }
        match (decision, existing) {
            (Decision::Keep, Some(existing)) => {
                self.keep(&folder, &entry, &existing)?;
                self.shared.count_unchanged(&entry);
                return Ok(());
            }
            (Decision::Replace, Some(_)) => {
                self.cache.folder(self.shared.root, &folder)?.remove(entry.name.as_slice())?;
            }
            (Decision::Create | Decision::Leave | Decision::Mend, _) | (_, None) => {}
        }
        match entry.kind {
            EntryKind::File if decision == Decision::Mend => self.add_file(folder, entry, Start::Mend),
            EntryKind::File => self.add_file(folder, entry, Start::Fresh),
            EntryKind::Directory
            | EntryKind::Symlink
            | EntryKind::BlockDevice
            | EntryKind::CharDevice
            | EntryKind::Fifo
            | EntryKind::Socket => self.make_other(&folder, &entry),
        }
    }

    /// The name under which this file was restored before, if it was; otherwise this name is remembered.
    fn first_name(&mut self, folder: &Arc<TargetPath>, entry: &Entry) -> Option<FirstName> {
        match self.first_names.entry(shared_file(entry)?) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(FirstName { folder: folder.clone(), name: entry.name.as_slice().into() });
                None
            }
        }
    }

    /// Sees to the metadata of something whose content is right.
    fn keep(&mut self, folder: &TargetPath, entry: &Entry, existing: &Existing) -> Result<(), TargetError> {
        let wanted = Wanted { entry, owner: self.shared.owner(entry), with_time: true };
        let name = entry.name.as_slice();
        let has_owner = wanted.owner.is_none_or(|owner| owner == (existing.uid, existing.gid));
        let has_mode = existing.mode == entry.mode || entry.kind == EntryKind::Symlink;
        let is_plain = entry.extension(tag::XATTRS).is_none() && entry.extension(tag::INODE_FLAGS).is_none();
        if has_owner && has_mode && is_plain && existing.mtime == entry.mtime {
            return Ok(());
        }
        let folder = self.cache.folder(self.shared.root, folder)?;
        let applied = match entry.kind {
            EntryKind::File => folder.read_file(name)?.apply(&wanted, existing.current()),
            EntryKind::Directory
            | EntryKind::Symlink
            | EntryKind::BlockDevice
            | EntryKind::CharDevice
            | EntryKind::Fifo
            | EntryKind::Socket => folder.apply_to_name(name, &wanted, existing.current()),
        };
        let path = self.levels.last().map_or_else(Default::default, |level| join(&level.path, name));
        self.shared.applied(|| path, applied);
        Ok(())
    }

    fn make_other(&mut self, folder: &TargetPath, entry: &Entry) -> Result<(), TargetError> {
        let name = entry.name.as_slice();
        let wanted = Wanted { entry, owner: self.shared.owner(entry), with_time: true };
        let open = self.cache.folder(self.shared.root, folder)?;
        match &entry.content {
            Content::LinkTarget(target) => open.make_symlink(name, target.as_slice())?,
            Content::Device(major, minor) => open.make_special(name, entry.kind, (*major, *minor))?,
            Content::None | Content::Chunks(_) | Content::List(_) | Content::Directory(_) => {
                open.make_special(name, entry.kind, (0, 0))?;
            }
        }
        let applied = open.apply_to_name(name, &wanted, Current::FRESH);
        self.shared.applied(|| join(folder, name), applied);
        let mut report = self.shared.report();
        match entry.kind {
            EntryKind::Symlink => report.symlinks += 1,
            EntryKind::Directory
            | EntryKind::File
            | EntryKind::BlockDevice
            | EntryKind::CharDevice
            | EntryKind::Fifo
            | EntryKind::Socket => report.special_files += 1,
        }
        drop(report);
        self.shared.count_file();
        Ok(())
    }

    /// Puts the file and its chunks into the window, and into further ones if it is long.
    fn add_file(
        &mut self,
        folder: Arc<TargetPath>,
        mut entry: Entry,
        start: Start,
    ) -> Result<(), TargetError> {
        let mut layout = Layout::new(&entry).map_err(|source| TargetError::Metadata { source })?;
        let content = std::mem::replace(&mut entry.content, Content::None);
        let capture_problem =
            entry.extension(tag::CAPTURE_PROBLEM).map(|text| String::from_utf8_lossy(text).into_owned());
        let owner = self.shared.owner(&entry);
        let job = Arc::new(FileJob::new(folder, entry, owner, start));
        let mut number = self.window.add_job(job.clone());
        let origin = self.shared.origin;
        for chunk in origin.chunks(&content) {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    job.add_damage(format!("its list of chunks is damaged: {}", chain(&error)));
                    break;
                }
            };
            if self.window.is_full() {
                self.seal(Some(&job));
                number = self.window.add_job(job.clone());
            }
            if self.shared.must_stop() {
                break;
            }
            let window = &mut self.window;
            let placed = layout.place(chunk.len, |piece| {
                window.add_candidate(Candidate { job: number, id: chunk.id, chunk_len: chunk.len, piece });
            });
            if placed.is_none() {
                job.add_damage("its chunks are longer than the file".to_owned());
                break;
            }
        }
        if let Some(reason) = capture_problem {
            let message = format!("it was not read as a whole when it was backed up: {reason}");
            self.shared.problem(job.path(), message);
        } else if !layout.is_complete() && !self.shared.must_stop() {
            job.add_damage("its chunks are shorter than the file".to_owned());
        }
        Ok(())
    }
}
