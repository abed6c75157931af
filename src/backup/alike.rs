//! Which earlier file a new one may resemble that has no earlier version of its own.
//!
//! A file that was renamed keeps its inode. A dump with the date in its name, a copy beside the original and a folder with
//! a version in its name have a name that is nearly the same. Whatever is found is only compressed against: contents are
//! always read, so a wrong guess costs time and nothing else.

use std::cmp::Reverse;

use crate::format::tree::{Entry, EntryKind};

/// Smaller new files have no earlier version looked for.
pub const ALIKE_BYTES_MIN: u64 = 4 << 10;
/// New files from this size on are looked for in all folders of the parent, by their inode.
pub const MOVED_BYTES_MIN: u64 = 1 << 20;
/// Sizes may differ by this factor.
const SIZE_FACTOR: u64 = 4;

/// The entry of an earlier folder that `new` may resemble: one of the same inode, or else of the nearest name.
pub fn nearest<'e>(new: &Entry, earlier: &'e [Entry]) -> Option<&'e Entry> {
    let same_kind = || earlier.iter().filter(|entry| entry.kind == new.kind);
    if let Some(same) = same_kind().find(|entry| new.inode != 0 && entry.inode == new.inode) {
        return Some(same);
    }
    let sizes_fit = |entry: &&Entry| {
        new.kind == EntryKind::Directory
            || (entry.size <= new.size.saturating_mul(SIZE_FACTOR)
                && new.size <= entry.size.saturating_mul(SIZE_FACTOR))
    };
    let alike = same_kind().filter(sizes_fit).filter_map(|entry| {
        let likeness = likeness(new.name.as_slice(), entry.name.as_slice())?;
        // Of equal ones the later name: the newest date, the highest version.
        Some(((likeness, Reverse(entry.size.abs_diff(new.size)), entry.name.as_slice()), entry))
    });
    alike.max_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
}

/// How many bytes two names share at their beginnings and ends. `None` if they have different extensions, or share less
/// than half of the shorter one.
pub fn likeness(one: &[u8], other: &[u8]) -> Option<usize> {
    let ((one, extension), (other, other_extension)) = (split(one), split(other));
    if extension != other_extension {
        return None;
    }
    let front = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let rest = one.len().min(other.len()) - front;
    let ends = one.iter().rev().zip(other.iter().rev()).take(rest);
    let shared = front + ends.take_while(|(a, b)| a == b).count();
    (shared > 0 && shared * 2 >= one.len().min(other.len())).then_some(shared)
}

/// A name before its extension, and the extension. What begins with a digit is no extension but part of a version.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    match dot.and_then(|at| name.split_at_checked(at)) {
        Some((stem, extension)) if !extension.get(1).is_some_and(u8::is_ascii_digit) => (stem, extension),
        Some(_) | None => (name, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::Content;
    use crate::wire::Bytes;

    fn entry(name: &str, inode: u64, size: u64) -> Entry {
        Entry {
            name: Bytes::from(name.as_bytes()),
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Default::default(),
            ctime: Default::default(),
            inode,
            size,
            content: Content::None,
            extensions: Vec::new(),
        }
    }

    fn found(new: Entry, earlier: &[Entry]) -> Option<String> {
        nearest(&new, earlier).map(|entry| String::from_utf8_lossy(entry.name.as_slice()).into_owned())
    }

    #[test]
    fn names_are_alike_that_differ_in_a_date_a_version_or_a_word() {
        let alike = |one: &str, other: &str| likeness(one.as_bytes(), other.as_bytes()).is_some();
        assert!(alike("db_2026-11-19.sql", "db_2026-11-20.sql"));
        assert!(alike("2026-11-19-db.sql", "2026-12-01-db.sql"));
        assert!(alike("app-1.2.3", "app-1.2.4"));
        assert!(alike("app-1.9", "app-1.10"));
        assert!(alike("vm.qcow2", "vm-copy.qcow2"));
        assert!(alike("vm.qcow2", "copy of vm.qcow2"));
        assert!(!alike("vm.qcow2", "vm.txt"));
        assert!(!alike("report.doc", "music.doc"));
        assert!(!alike(".bashrc", "notes"));
    }

    #[test]
    fn the_nearest_name_of_fitting_size_is_chosen() {
        let earlier = [
            entry("db_2026-11-18.sql", 1, 1000),
            entry("db_2026-11-19.sql", 2, 1000),
            entry("db_2026-11-19.sql.md5", 3, 30),
            entry("www_2026-11-19.sql", 4, 1000),
        ];
        assert_eq!(
            found(entry("db_2026-11-20.sql", 9, 1100), &earlier).as_deref(),
            Some("db_2026-11-19.sql")
        );
        assert_eq!(
            found(entry("www_2026-11-20.sql", 9, 900), &earlier).as_deref(),
            Some("www_2026-11-19.sql")
        );
        assert_eq!(found(entry("db_2026-11-20.sql", 9, 100_000), &earlier), None);
        assert_eq!(found(entry("other.sql", 9, 1000), &earlier), None);
    }

    #[test]
    fn the_same_inode_wins_whatever_the_name() {
        let earlier = [entry("a.txt", 1, 1000), entry("b.txt", 2, 1000)];
        assert_eq!(found(entry("b2.txt", 1, 9), &earlier).as_deref(), Some("a.txt"));
        assert_eq!(found(entry("c.doc", 0, 9), &earlier), None);
    }
}
