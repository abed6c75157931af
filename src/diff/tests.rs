//! Random trees compared, and the cases that people care about.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::event::Silent;
use crate::repo::fixture::{Folder, MapNodes, Thing, any_folder, listing};

fn compare(before: &Folder, after: &Folder) -> (DiffReport, MapNodes) {
    let mut nodes = MapNodes::default();
    let (before, after) = (nodes.store(before), nodes.store(after));
    (folders(&nodes, before, after, &Silent::default()).unwrap().unwrap(), nodes)
}

fn file(content: u8) -> Thing {
    Thing::File { content, mode: 0o644, seconds: 1 }
}

fn folder<const N: usize>(things: [(&str, Thing); N]) -> Folder {
    things.into_iter().map(|(name, thing)| (name.as_bytes().to_vec(), thing)).collect()
}

fn inside<const N: usize>(things: [(&str, Thing); N]) -> Thing {
    Thing::Folder { mode: 0o755, inside: folder(things) }
}

/// The changes as short lines.
fn lines(report: &DiffReport) -> Vec<String> {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let line = |change: &Change| match change {
        Change::Added(item) => format!("+{}", text(&item.path)),
        Change::Removed(item) => format!("-{}", text(&item.path)),
        Change::Changed { item, aspects, .. } => {
            let words: Vec<_> = aspects.contents.then_some("contents").into_iter().collect();
            let words: Vec<_> = words.into_iter().chain(aspects.metadata()).collect();
            format!("{} {}", text(&item.path), words.join(","))
        }
        Change::Renamed { from, item, aspects } => {
            format!(
                "{}>{} {}",
                text(from),
                text(&item.path),
                aspects.metadata().collect::<Vec<_>>().join(",")
            )
        }
    };
    report.changes.iter().map(line).collect()
}

fn check(before: Folder, after: Folder, expected: &[&str]) -> DiffReport {
    let (report, _) = compare(&before, &after);
    assert_eq!(lines(&report), expected);
    report
}

#[test]
fn contents_and_metadata_are_told_apart() {
    let with = |content, mode, seconds| folder([("a", Thing::File { content, mode, seconds })]);
    for (after, expected) in [
        (with(1, 0o644, 1), &[][..]),
        (with(2, 0o644, 1), &["a contents"]),
        (with(1, 0o600, 1), &["a mode"]),
        (with(1, 0o644, 2), &["a mtime"]),
        (with(2, 0o600, 2), &["a contents,mode,mtime"]),
        (folder([("a", Thing::Link { target: 1 })]), &["-a", "+a"]),
        (folder([("a", inside([("b", file(3))]))]), &["-a", "+a", "+a/b"]),
        (folder([]), &["-a"]),
    ] {
        check(with(1, 0o644, 1), after, expected);
    }
    let link = |target| folder([("l", Thing::Link { target })]);
    check(link(0), link(1), &["l contents"]);
}

#[test]
fn a_rename_is_recognised_if_it_is_certain() {
    let one = |name, content| folder([(name, file(content))]);
    let report = check(one("a", 1), one("b", 1), &["a>b "]);
    assert_eq!((report.renamed.files, report.renamed.bytes, report.added.files), (1, 1, 0));
    check(one("a", 0), one("b", 0), &["-a", "+b"]);
    check(folder([("a", file(1)), ("b", file(1))]), one("c", 1), &["-a", "-b", "+c"]);
    check(one("a", 1), folder([("b", file(1)), ("c", file(1))]), &["-a", "+b", "+c"]);
    let other_mode = folder([("b", Thing::File { content: 1, mode: 0o600, seconds: 1 })]);
    check(one("a", 1), other_mode, &["a>b mode"]);
    check(
        folder([("a", file(1)), ("x", inside([]))]),
        folder([("x", inside([("a", file(1))]))]),
        &["a>x/a "],
    );
}

#[test]
fn a_folder_that_moved_is_one_line_and_is_not_read() {
    let tree = || inside([("a", file(1)), ("b", inside([("c", file(2))]))]);
    let (report, nodes) = compare(&folder([("old", tree())]), &folder([("new", tree())]));
    assert_eq!(lines(&report), ["old>new "]);
    assert_eq!((report.renamed.folders, report.renamed.bytes), (1, 3));
    assert_eq!(nodes.reads.borrow().len(), 2, "the two roots");
    // Also out of a folder that is gone, and together with a file that changed beside it.
    let before = folder([("gone", inside([("deep", tree()), ("x", file(4))]))]);
    check(before, folder([("new", tree())]), &["-gone", "-gone/x", "gone/deep>new "]);
    check(folder([("old", inside([]))]), folder([("new", inside([]))]), &["+new", "-old"]);
}

#[test]
fn the_order_is_that_of_a_walk() {
    let after = folder([("a", inside([("z", file(1))])), ("a b", file(2)), ("a.txt", file(3))]);
    check(folder([]), after, &["+a", "+a/z", "+a b", "+a.txt"]);
}

/// What a comparison of two listings says, without renames: path, and whether it was, is, or differs.
fn naive(before: &Folder, after: &Folder) -> BTreeSet<(Vec<u8>, char)> {
    let (before, after) = (listing(before), listing(after));
    let mut all = BTreeSet::new();
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for path in paths {
        use Thing::{File, Link};
        let mark = match (before.get(path), after.get(path)) {
            (Some(_), None) => "-",
            (None, Some(_)) => "+",
            (Some(Thing::Folder { mode: one, .. }), Some(Thing::Folder { mode: other, .. })) => {
                if one == other { "" } else { "U" }
            }
            (Some(File { content: one, .. }), Some(File { content: other, .. })) if one != other => "M",
            (Some(one @ File { .. }), Some(other @ File { .. })) => {
                if one == other {
                    ""
                } else {
                    "U"
                }
            }
            (Some(one @ Link { .. }), Some(other @ Link { .. })) => {
                if one == other {
                    ""
                } else {
                    "M"
                }
            }
            (Some(_), Some(_)) => "-+",
            (None, None) => unreachable!(),
        };
        all.extend(mark.chars().map(|mark| (path[1..].to_vec(), mark)));
    }
    all
}

/// The changes of a report with renames taken apart again.
fn taken_apart(
    report: &DiffReport,
    before: &BTreeMap<Vec<u8>, Thing>,
    after: &BTreeMap<Vec<u8>, Thing>,
) -> BTreeSet<(Vec<u8>, char)> {
    let mut all = BTreeSet::new();
    let mut insert = |path: &[u8], mark| assert!(all.insert((path.to_vec(), mark)), "{path:?} twice");
    for change in &report.changes {
        match change {
            Change::Added(item) => insert(&item.path, '+'),
            Change::Removed(item) => insert(&item.path, '-'),
            Change::Changed { item, aspects, .. } => {
                insert(&item.path, if aspects.contents { 'M' } else { 'U' })
            }
            Change::Renamed { from, item, .. } => {
                for (path, listing, mark) in [(from, before, '-'), (&item.path, after, '+')] {
                    let top = [b"/", path.as_slice()].concat();
                    let below = [top.as_slice(), b"/"].concat();
                    let moved = listing.keys().filter(|path| **path == top || path.starts_with(&below));
                    moved.for_each(|path| insert(&path[1..], mark));
                }
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn a_diff_says_what_a_comparison_of_listings_says(before in any_folder(), after in any_folder()) {
        let (report, nodes) = compare(&before, &after);
        let (all_before, all_after) = (listing(&before), listing(&after));
        prop_assert_eq!(taken_apart(&report, &all_before, &all_after), naive(&before, &after));
        for change in &report.changes {
            let Change::Renamed { from, item, .. } = change else { continue };
            let at = |listing: &BTreeMap<Vec<u8>, Thing>, path: &[u8]| listing[&[b"/", path].concat()].clone();
            match (at(&all_before, from), at(&all_after, &item.path)) {
                (Thing::File { content: one, .. }, Thing::File { content: other, .. }) => {
                    prop_assert!(one == other && one > 0);
                }
                (Thing::Folder { inside: one, .. }, Thing::Folder { inside: other, .. }) => {
                    prop_assert_eq!(one, other);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        let sorted = report.changes.is_sorted_by(|one, other| by_path(&one.item().path, &other.item().path).is_le());
        prop_assert!(sorted);
        drop(nodes);
    }

    #[test]
    fn equal_trees_are_not_read(tree in any_folder()) {
        let (report, nodes) = compare(&tree, &tree);
        prop_assert_eq!(report, DiffReport::default());
        prop_assert!(nodes.reads.borrow().is_empty());
    }
}
