//! What files and folders are compared with that the parent has, or does not have, in their place.

use crate::backup::BackupError;
use crate::backup::alike::{ALIKE_BYTES_MIN, MOVED_BYTES_MIN};
use crate::backup::parent::{MovedFiles, ParentFolder};
use crate::backup::scan::{OpenFolder, Scanner};
use crate::format::tree::{Content, Entry, EntryKind};
use crate::repo::TreeReader;

impl Scanner<'_> {
    /// What the parent has in the place of a folder, and the folder that it is compared with: that, or one that it may
    /// resemble.
    pub(super) fn parent_of<'r>(
        &self,
        open: &mut [OpenFolder<'r>],
        entry: &Entry,
        tree_reader: &'r TreeReader,
    ) -> (Option<Entry>, ParentFolder<'r>) {
        let Some(above) = open.last_mut().map(|folder| &mut folder.parent) else {
            return (None, ParentFolder::new(tree_reader, None));
        };
        let id_of = |folder: &Entry| match folder.content {
            Content::Directory(id) => Some(id),
            _ => None,
        };
        let met = above.find(&entry.name, self.run.observer);
        match met.filter(|met| met.kind == EntryKind::Directory) {
            Some(before) if above.is_same() => {
                let parent = ParentFolder::new(tree_reader, id_of(&before));
                (Some(before), parent)
            }
            Some(met) => (None, ParentFolder::alike(tree_reader, id_of(&met))),
            None if self.run.options.base_depth_max == 0 => (None, ParentFolder::new(tree_reader, None)),
            None => (None, ParentFolder::alike(tree_reader, above.nearest(entry).and_then(id_of))),
        }
    }

    /// What a file may resemble that the parent does not have under its name.
    pub(super) fn find_alike(
        &mut self,
        parent: &mut ParentFolder<'_>,
        new: &Entry,
    ) -> Result<Option<Entry>, BackupError> {
        let is_looked_for = new.kind == EntryKind::File && new.size >= ALIKE_BYTES_MIN;
        if !is_looked_for || self.run.options.base_depth_max == 0 {
            return Ok(None);
        }
        let mut found = parent.nearest(new).cloned();
        if found.is_none() && new.size >= MOVED_BYTES_MIN {
            let run = self.run;
            let roots = run.parent.as_ref().or(run.alike.as_ref()).map(|snapshot| snapshot.root);
            found = self.moved.get_or_insert_with(|| MovedFiles::of(&run.tree_reader, roots)).find(new);
        }
        // A photo beside another: reading it again would be all that comes of it.
        let first = found.as_ref().and_then(|it| self.run.tree_reader.chunks(&it.content).next());
        match first {
            Some(Ok(chunk)) if self.run.writer.is_compressed(&chunk.id.content())? => Ok(found),
            Some(_) | None => Ok(None),
        }
    }
}
