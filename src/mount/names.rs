//! The folders at the top, and which snapshot has which name in them. Pure.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::format::snapshot::Snapshot;

/// The folders at the top by path, each with what is in it. The topmost has the empty path.
pub(super) type Folders = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Child>>;

/// What is in a folder at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    /// A folder with a path of its own.
    Folder,
    /// The folder `/` of a snapshot, by its place in the list.
    Snapshot(usize),
}

/// Lays out snapshots, oldest first.
pub(super) fn lay_out(snapshots: &[Snapshot], name_time: impl Fn(Timestamp) -> String) -> Folders {
    let mut folders = Folders::new();
    for top in ["snapshots", "ids", "hosts", "tags"] {
        add_folder(&mut folders, b"", top.as_bytes());
    }
    for (at, snapshot) in snapshots.iter().enumerate() {
        let time = name_time(snapshot.started_at);
        let child = Child::Snapshot(at);
        folders.entry(b"ids".to_vec()).or_default().insert(snapshot.id.to_string().into_bytes(), child);
        add_by_time(&mut folders, b"snapshots".to_vec(), &time, snapshot, at);
        let host = add_folder(&mut folders, b"hosts", &safe_name(&snapshot.host));
        add_by_time(&mut folders, host, &time, snapshot, at);
        for tag in &snapshot.tags {
            let tag = add_folder(&mut folders, b"tags", &safe_name(tag));
            add_by_time(&mut folders, tag, &time, snapshot, at);
        }
    }
    if let Some(newest) = snapshots.len().checked_sub(1) {
        folders.entry(Vec::new()).or_default().insert(b"latest".to_vec(), Child::Snapshot(newest));
    }
    folders
}

/// Adds a folder if it is not there; returns its path.
fn add_folder(folders: &mut Folders, above: &[u8], name: &[u8]) -> Vec<u8> {
    let path = if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() };
    folders.entry(above.to_vec()).or_default().insert(name.to_vec(), Child::Folder);
    folders.entry(path.clone()).or_default();
    path
}

/// The first of several with the same time has that name alone.
fn add_by_time(folders: &mut Folders, path: Vec<u8>, time: &str, snapshot: &Snapshot, at: usize) {
    let folder = folders.entry(path).or_default();
    let name = match folder.contains_key(time.as_bytes()) {
        false => time.to_owned(),
        true => format!("{time}_{}", snapshot.id.short()),
    };
    folder.insert(name.into_bytes(), Child::Snapshot(at));
}

/// A host or tag as the name of a folder.
fn safe_name(text: &str) -> Vec<u8> {
    let name: String = text.chars().map(|c| if matches!(c, '/' | '\0') { '_' } else { c }).collect();
    let mut end = name.len().min(255);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    match name.get(..end).unwrap_or_default() {
        "" => b"_".to_vec(),
        "." => b"_.".to_vec(),
        ".." => b"_..".to_vec(),
        name => name.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_tags_become_names_that_a_folder_can_have() {
        for (text, name) in [("web1", "web1"), ("a/b\0", "a_b_"), ("", "_"), (".", "_."), ("..", "_..")] {
            assert_eq!(safe_name(text), name.as_bytes(), "{text:?}");
        }
        assert_eq!(safe_name(&"\u{e9}".repeat(200)).len(), 254);
    }

    #[test]
    fn without_snapshots_there_is_no_latest_one() {
        let folders = lay_out(&[], |_| unreachable!("there is no snapshot"));
        let names: Vec<_> = folders[&Vec::new()].keys().map(|name| String::from_utf8_lossy(name)).collect();
        assert_eq!(names, ["hosts", "ids", "snapshots", "tags"]);
        assert_eq!(folders.len(), 5);
    }
}
