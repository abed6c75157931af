//! What would become of one entry that is no folder.

use std::collections::hash_map;

use super::Preview;
use super::contents::Contents;
use crate::format::tree::{Content, Entry, EntryKind, tag};
use crate::restore::change::What;
use crate::restore::decide::{Decision, decide, refusal, shared_file};
use crate::restore::layout;
use crate::restore::shared::join;
use crate::target::{Existing, MetadataChanges, TargetError, TargetPath};

impl Preview<'_, '_> {
    pub(super) fn entry(&mut self, entry: &Entry) {
        let name = entry.name.as_slice();
        self.mark_seen(name);
        if !self.see_levels() {
            return;
        }
        let Some(level) = self.levels.last() else { return };
        let (folder, is_fresh) = (level.path.clone(), level.is_fresh);
        if let Some(message) = refusal(entry) {
            return self.shared.problem(join(&folder, name), message);
        }
        if let Err(error) = self.see_entry(&folder, is_fresh, entry) {
            self.shared.target_problem(join(&folder, name), error);
        }
    }

    fn see_entry(&mut self, folder: &TargetPath, is_fresh: bool, entry: &Entry) -> Result<(), TargetError> {
        let name = entry.name.as_slice();
        let path = folder.join(name)?;
        let existing = if is_fresh { None } else { self.look(folder, name)? };
        let decision = decide(entry, existing.as_ref(), self.shared.options.overwrite);
        if decision == Decision::Leave {
            self.shared.count_unchanged(entry);
            return Ok(());
        }
        let stays = existing.filter(|_| matches!(decision, Decision::Keep | Decision::Mend));
        if let Some(file) = shared_file(entry) {
            match self.first_names.entry(file) {
                hash_map::Entry::Occupied(first) => {
                    let first = *first.get();
                    self.further_name(path, entry, existing, first);
                    return Ok(());
                }
                hash_map::Entry::Vacant(place) => drop(place.insert(stays)),
            }
        }
        let Some(existing) = existing else {
            self.tell(path, entry.kind, entry.size, What::Added);
            self.made(entry);
            self.tell_capture_problem(folder, entry);
            return Ok(());
        };
        match (entry.kind, decision) {
            (_, Decision::Keep) => {
                let metadata = self.metadata_changes(folder, entry, &existing)?;
                self.tell_metadata(path, entry, metadata);
                self.shared.count_unchanged(entry);
                Ok(())
            }
            (EntryKind::File, Decision::Mend) => self.mended(folder, path, entry, &existing),
            (EntryKind::Symlink, _) if existing.kind == EntryKind::Symlink => {
                let metadata = self.metadata_changes(folder, entry, &existing)?;
                let target = self.cache.folder(self.shared.root, folder)?.link_target(name)?;
                match &entry.content {
                    Content::LinkTarget(wanted) if wanted.as_slice() == target => {
                        self.tell_metadata(path, entry, metadata);
                    }
                    _ => self.tell_replaced(path, entry, &existing, metadata),
                }
                self.made(entry);
                Ok(())
            }
            (_, _) => {
                self.tell_replaced(path.clone(), entry, &existing, MetadataChanges::default());
                self.made(entry);
                if existing.kind == EntryKind::Directory {
                    self.remove_below(path, &existing)?;
                }
                self.tell_capture_problem(folder, entry);
                Ok(())
            }
        }
    }

    /// A further name of a file: it is linked to the first one, unless it is the same file already.
    fn further_name(
        &mut self,
        path: TargetPath,
        entry: &Entry,
        existing: Option<Existing>,
        first: Option<Existing>,
    ) {
        match (existing, first) {
            (Some(existing), Some(first)) if existing.is_same_file(&first) => {
                self.shared.report().files_unchanged += 1;
            }
            (Some(existing), _) => {
                self.tell_replaced(path, entry, &existing, MetadataChanges::default());
                self.shared.report().hard_links += 1;
            }
            (None, _) => {
                self.tell(path, entry.kind, entry.size, What::Added);
                self.shared.report().hard_links += 1;
            }
        }
        self.shared.count_file();
    }

    /// A file whose size or time is another: only its bytes tell whether its contents are.
    fn mended(
        &mut self,
        folder: &TargetPath,
        path: TargetPath,
        entry: &Entry,
        existing: &Existing,
    ) -> Result<(), TargetError> {
        let metadata = self.metadata_changes(folder, entry, existing)?;
        let Contents { bytes_right, bytes_wrong, holes_are_wrong, damage } =
            self.contents(folder, entry, existing)?;
        let differs = bytes_wrong > 0 || holes_are_wrong || existing.size != entry.size;
        if differs || damage.is_some() {
            self.tell_replaced(path, entry, existing, metadata);
        } else {
            self.tell_metadata(path, entry, metadata);
        }
        if let Some(message) = damage {
            self.shared.damaged(join(folder, entry.name.as_slice()), message);
        } else {
            let is_written = bytes_wrong > 0 || existing.size != entry.size;
            let mut report = self.shared.report();
            if is_written {
                report.files_restored += 1;
            } else {
                report.files_unchanged += 1;
            }
            report.bytes_written += bytes_wrong;
            report.bytes_unchanged += bytes_right;
        }
        self.shared.count_file();
        self.tell_capture_problem(folder, entry);
        Ok(())
    }

    /// Counts what would be made from nothing.
    fn made(&self, entry: &Entry) {
        let mut report = self.shared.report();
        match entry.kind {
            EntryKind::File => {
                report.files_restored += 1;
                report.bytes_written += layout::data_bytes(entry);
            }
            EntryKind::Symlink => report.symlinks += 1,
            EntryKind::Directory
            | EntryKind::BlockDevice
            | EntryKind::CharDevice
            | EntryKind::Fifo
            | EntryKind::Socket => report.special_files += 1,
        }
        drop(report);
        self.shared.count_file();
        self.shared.count_bytes(entry.size);
    }

    fn tell_capture_problem(&self, folder: &TargetPath, entry: &Entry) {
        if let Some(reason) = entry.extension(tag::CAPTURE_PROBLEM) {
            let reason = String::from_utf8_lossy(reason);
            let message = format!("it was not read as a whole when it was backed up: {reason}");
            self.shared.problem(join(folder, entry.name.as_slice()), message);
        }
    }
}
