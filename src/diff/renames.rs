//! What only one tree has, matched with what only the other one has. Pure.

use std::collections::HashMap;
use std::hash::Hash;

use super::compare::Aspects;
use super::{Change, Item};
use crate::format::tree::{Content, Entry, EntryKind, tag};
use crate::id::{ChunkId, ListId, NodeId};

/// Something that one tree has and the other one has not, under this path.
pub(super) struct Lone {
    pub(super) path: Vec<u8>,
    pub(super) entry: Entry,
}

impl Lone {
    pub(super) fn item(self) -> Item {
        Item { path: self.path, kind: self.entry.kind, size: self.entry.size }
    }

    fn is_below(&self, folder: &[u8]) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
    }
}

/// Takes out folders that moved as a whole, with everything in them. Both lists have a folder right before what is in
/// it.
pub(super) fn folders(removed: &mut Vec<Lone>, added: &mut Vec<Lone>, changes: &mut Vec<Change>) {
    matched(removed, added, changes, |entry| match entry.content {
        Content::Directory(id) if entry.size > 0 => Some(id),
        _ => None::<NodeId>,
    });
}

/// Takes out files that moved.
pub(super) fn files(removed: &mut Vec<Lone>, added: &mut Vec<Lone>, changes: &mut Vec<Change>) {
    matched(removed, added, changes, |entry| {
        let content = match &entry.content {
            Content::Chunks(chunks) => FileContent::Chunks(chunks.iter().map(|chunk| chunk.id).collect()),
            Content::List(id) => FileContent::List(*id),
            Content::None | Content::Directory(_) | Content::LinkTarget(_) | Content::Device(..) => {
                return None;
            }
        };
        let holes = entry.extension(tag::SPARSE_MAP).map(<[u8]>::to_vec);
        (entry.kind == EntryKind::File && entry.size > 0).then_some((entry.size, content, holes))
    });
}

#[derive(PartialEq, Eq, Hash)]
enum FileContent {
    Chunks(Vec<ChunkId>),
    List(ListId),
}

fn matched<K: Hash + Eq>(
    removed: &mut Vec<Lone>,
    added: &mut Vec<Lone>,
    changes: &mut Vec<Change>,
    key: impl Fn(&Entry) -> Option<K>,
) {
    let only_added = once(added, &key);
    let mut is_moved = (vec![false; removed.len()], vec![false; added.len()]);
    let mut pairs: Vec<(usize, usize)> = once(removed, &key)
        .into_iter()
        .filter_map(|(key, from)| Some((from?, only_added.get(&key).copied().flatten()?)))
        .collect();
    // Outer folders first: what is in them comes along.
    pairs.sort_unstable();
    for (from, to) in pairs {
        if is_moved.0.get(from) != Some(&false) || is_moved.1.get(to) != Some(&false) {
            continue;
        }
        let (Some(before), Some(after)) = (removed.get(from), added.get(to)) else { continue };
        let aspects = Aspects::between(&before.entry, &after.entry);
        let item = Item { path: after.path.clone(), kind: after.entry.kind, size: after.entry.size };
        changes.push(Change::Renamed { from: before.path.clone(), item, aspects });
        mark(removed, from, &mut is_moved.0);
        mark(added, to, &mut is_moved.1);
    }
    sweep(removed, is_moved.0);
    sweep(added, is_moved.1);
}

/// Where each key stands; `None` for one that stands in several places.
fn once<K: Hash + Eq>(lone: &[Lone], key: impl Fn(&Entry) -> Option<K>) -> HashMap<K, Option<usize>> {
    let mut places = HashMap::new();
    for (at, lone) in lone.iter().enumerate() {
        if let Some(key) = key(&lone.entry) {
            places.entry(key).and_modify(|place| *place = None).or_insert(Some(at));
        }
    }
    places
}

/// Marks an entry and what is below it.
fn mark(lone: &[Lone], at: usize, marks: &mut [bool]) {
    let Some((top, rest)) = lone.get(at..).and_then(<[Lone]>::split_first) else { return };
    let count = 1 + rest.iter().take_while(|lone| lone.is_below(&top.path)).count();
    marks.iter_mut().skip(at).take(count).for_each(|mark| *mark = true);
}

fn sweep(lone: &mut Vec<Lone>, marks: Vec<bool>) {
    let mut marks = marks.into_iter();
    lone.retain(|_| !marks.next().unwrap_or(false));
}
