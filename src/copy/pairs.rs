//! Two trees side by side: a snapshot and its copy, folder by folder, by name.

use std::collections::HashSet;
use std::iter::Peekable;

use crate::copy::CopyError;
use crate::format::tree::{Content, Entry};
use crate::id::NodeId;
use crate::repo::{DirectoryEntries, RepoError, TreeReader};

/// One side: who reads it, and its folder `/`.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    /// Reads it.
    pub reader: &'a TreeReader,
    /// Its folder `/`.
    pub root: NodeId,
}

/// What was met at a path, on one side or on both; never on neither.
pub struct Met<'e> {
    /// Absolute, as in the snapshots.
    pub path: &'e [u8],
    /// In the first tree.
    pub one: Option<&'e Entry>,
    /// In the second.
    pub other: Option<&'e Entry>,
}

/// Visits everything in two trees by pairs. A pair of folders that was met before is not entered again.
///
/// Memory: 64 bytes for each pair of folders.
pub fn visit(
    one: Tree<'_>,
    other: Tree<'_>,
    met: &mut dyn FnMut(Met<'_>) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let mut visited = HashSet::new();
    let mut pending = vec![(Vec::new(), one.root, other.root)];
    while let Some((folder, first, second)) = pending.pop() {
        if !visited.insert((first, second)) {
            continue;
        }
        let mut left = one.reader.directory(first).peekable();
        let mut right = other.reader.directory(second).peekable();
        while let Some((left, right)) = next_pair(&mut left, &mut right)? {
            let Some(name) = left.as_ref().or(right.as_ref()).map(|entry| entry.name.as_slice()) else {
                break;
            };
            let path = [folder.as_slice(), b"/", name].concat();
            met(Met { path: &path, one: left.as_ref(), other: right.as_ref() })?;
            if let (Some(Content::Directory(first)), Some(Content::Directory(second))) =
                (left.map(|entry| entry.content), right.map(|entry| entry.content))
            {
                pending.push((path, first, second));
            }
        }
    }
    Ok(())
}

type Entries<'r> = Peekable<DirectoryEntries<'r>>;
/// What two folders have under one name.
type EntryPair = (Option<Entry>, Option<Entry>);

/// The entry with the smaller name, or both if they have the same.
fn next_pair(left: &mut Entries<'_>, right: &mut Entries<'_>) -> Result<Option<EntryPair>, CopyError> {
    let order = match (left.peek(), right.peek()) {
        (None, None) => return Ok(None),
        (Some(Ok(one)), Some(Ok(other))) => one.name.as_slice().cmp(other.name.as_slice()),
        (Some(Err(_)), _) | (Some(_), None) => std::cmp::Ordering::Less,
        (_, Some(Err(_))) | (None, Some(_)) => std::cmp::Ordering::Greater,
    };
    let one = if order.is_le() { take(left)? } else { None };
    let other = if order.is_ge() { take(right)? } else { None };
    Ok(Some((one, other)))
}

fn take(entries: &mut Entries<'_>) -> Result<Option<Entry>, CopyError> {
    let next: Option<Result<Entry, RepoError>> = entries.next();
    next.transpose().map_err(CopyError::Source)
}
