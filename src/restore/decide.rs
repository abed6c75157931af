//! Whether something in the target is right already. Pure.

use super::Overwrite;
use crate::format::tree::{Content, Entry, EntryKind, tag};
use crate::limits;
use crate::target::Existing;
use crate::wire;

/// What to do with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing is there: make it.
    Create,
    /// Leave what is there as it is.
    Leave,
    /// The content is right; see to the metadata.
    Keep,
    /// A file: compare its content, and write what differs.
    Mend,
    /// Remove what is there, then make it.
    Replace,
}

pub(super) fn decide(entry: &Entry, existing: Option<&Existing>, overwrite: Overwrite) -> Decision {
    let Some(existing) = existing else { return Decision::Create };
    let is_folder = entry.kind == EntryKind::Directory && existing.kind == EntryKind::Directory;
    match overwrite {
        // A folder that exists is gone into, but stays as it is.
        Overwrite::Never => return Decision::Leave,
        Overwrite::IfNewer if !is_folder && entry.mtime <= existing.mtime => return Decision::Leave,
        Overwrite::IfNewer | Overwrite::IfChanged | Overwrite::Always => {}
    }
    if entry.kind != existing.kind {
        return Decision::Replace;
    }
    let looks_same = entry.mtime == existing.mtime && overwrite != Overwrite::Always;
    match entry.kind {
        EntryKind::Directory => Decision::Keep,
        EntryKind::File if looks_same && entry.size == existing.size && !shares_wrongly(entry, existing) => {
            Decision::Keep
        }
        // Writing into a file that has further names would change what they show, perhaps outside the target.
        EntryKind::File if existing.link_count > 1 => Decision::Replace,
        EntryKind::File => Decision::Mend,
        EntryKind::Symlink if looks_same && link_len(entry) == existing.size => Decision::Keep,
        EntryKind::BlockDevice | EntryKind::CharDevice if entry.content == device_of(existing) => {
            Decision::Keep
        }
        EntryKind::Fifo | EntryKind::Socket => Decision::Keep,
        EntryKind::Symlink | EntryKind::BlockDevice | EntryKind::CharDevice => Decision::Replace,
    }
}

/// A file with further names in the target, which must not get metadata that is meant for one of them.
fn shares_wrongly(entry: &Entry, existing: &Existing) -> bool {
    existing.link_count > 1 && existing.mode != entry.mode
}

/// Why an entry cannot be restored by this version: an extension that must be understood and is not.
pub(super) fn refusal(entry: &Entry) -> Option<String> {
    let mut tags = entry.extensions.iter().map(|extension| extension.tag);
    let tag = tags.find(|tag| *tag >= tag::CRITICAL && *tag != tag::SPARSE_MAP)?;
    Some(format!("it needs a newer version of this program (extension {tag})"))
}

/// Device and inode in the snapshot of a file that has several names; names of one file give the same.
pub(super) fn shared_file(entry: &Entry) -> Option<(u64, u64)> {
    let device = entry.extension(tag::HARD_LINK)?;
    let Number(device) = wire::decode(device, limits::EXTENSIONS_BYTES_MAX).ok()?;
    Some((device, entry.inode))
}

#[derive(serde::Deserialize)]
struct Number(u64);

impl wire::Validate for Number {
    fn validate(&self) -> Result<(), wire::WireError> {
        Ok(())
    }
}

fn link_len(entry: &Entry) -> u64 {
    match &entry.content {
        Content::LinkTarget(target) => target.as_slice().len() as u64,
        Content::None
        | Content::Chunks(_)
        | Content::List(_)
        | Content::Directory(_)
        | Content::Device(..) => u64::MAX,
    }
}

fn device_of(existing: &Existing) -> Content {
    Content::Device(existing.special.0, existing.special.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::restore::tests::entry;

    fn existing(kind: EntryKind) -> Existing {
        Existing {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 10,
            mtime: Timestamp::from_seconds(100),
            link_count: 1,
            device: (1, 1),
            inode: 1,
            special: (0, 0),
        }
    }

    fn file(size: u64, seconds: i64) -> Entry {
        let mut file = entry("name", EntryKind::File);
        file.size = size;
        file.mtime = Timestamp::from_seconds(seconds);
        file
    }

    #[test]
    fn a_file_is_left_alone_mended_or_replaced() {
        let there = existing(EntryKind::File);
        let decided = |file: &Entry, overwrite| decide(file, Some(&there), overwrite);
        assert_eq!(decided(&file(10, 100), Overwrite::IfChanged), Decision::Keep);
        assert_eq!(decided(&file(11, 100), Overwrite::IfChanged), Decision::Mend);
        assert_eq!(decided(&file(10, 101), Overwrite::IfChanged), Decision::Mend);
        assert_eq!(decided(&file(10, 100), Overwrite::Always), Decision::Mend);
        assert_eq!(decided(&file(11, 100), Overwrite::IfNewer), Decision::Leave);
        assert_eq!(decided(&file(11, 101), Overwrite::IfNewer), Decision::Mend);
        assert_eq!(decided(&file(11, 101), Overwrite::Never), Decision::Leave);
        assert_eq!(decide(&file(1, 1), None, Overwrite::Never), Decision::Create);
        assert_eq!(decided(&entry("name", EntryKind::Symlink), Overwrite::IfChanged), Decision::Replace);
    }

    #[test]
    fn a_file_with_further_names_is_never_written_in_place() {
        let there = Existing { link_count: 2, ..existing(EntryKind::File) };
        for overwrite in [Overwrite::IfChanged, Overwrite::Always, Overwrite::IfNewer] {
            assert_eq!(decide(&file(11, 101), Some(&there), overwrite), Decision::Replace);
        }
    }
}
