//! Random histories searched, and compared with listings of all snapshots.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::event::Silent;
use crate::format::snapshot::Totals;
use crate::id::{SeriesId, SnapshotId};
use crate::repo::fixture::{Folder, MapNodes, Thing, any_folder, listing};

fn snapshot(at: u8, host: &str, root: NodeId) -> Snapshot {
    Snapshot {
        version: 1,
        id: SnapshotId::new([at; 16]),
        series: SeriesId::new([0; 16]),
        sequence: 1,
        previous: None,
        started_at: Timestamp::from_seconds(at.into()),
        finished_at: Timestamp::from_seconds(at.into()),
        host: host.to_owned(),
        user: String::new(),
        name_encoding: 0,
        paths: Vec::new(),
        tags: Vec::new(),
        root,
        totals: Totals::default(),
        problem_count: 0,
        problems: Vec::new(),
        owners: Vec::new(),
        seen: None,
        verified: true,
        program: String::new(),
        extensions: Vec::new(),
    }
}

fn names(pattern: &str) -> FindOptions {
    FindOptions { names: Names::new(&[pattern.to_owned()], false).unwrap(), ..FindOptions::default() }
}

/// Snapshots of these trees, of two hosts in turn.
fn store(trees: &[Folder]) -> (MapNodes, Vec<Snapshot>) {
    let mut nodes = MapNodes::default();
    let hosts = ["one", "two"].into_iter().cycle();
    let snapshots = trees.iter().zip(hosts).zip(0..).map(|((tree, host), at)| {
        let root = nodes.store(tree);
        snapshot(at, host, root)
    });
    let snapshots = snapshots.collect();
    (nodes, snapshots)
}

/// Version as a test sees it, with the first and last snapshot and how many there are.
type Seen = Vec<(Thing, u8, u8, u64)>;

fn naive(trees: &[Folder], options: &FindOptions) -> BTreeMap<(&'static str, Vec<u8>), Seen> {
    let mut all: BTreeMap<_, Seen> = BTreeMap::new();
    for (at, tree) in (0..).zip(trees) {
        for (path, thing) in listing(tree) {
            let is_folder = matches!(thing, Thing::Folder { .. });
            if !options.names.matches(&path, is_folder) {
                continue;
            }
            // What tells versions apart.
            let thing = match thing {
                Thing::File { content, seconds, .. } => Thing::File { content, mode: 0, seconds },
                Thing::Link { target } => Thing::Link { target },
                Thing::Folder { .. } => Thing::Folder { mode: 0, inside: Folder::new() },
            };
            let host = if at % 2 == 0 { "one" } else { "two" };
            let seen = all.entry((host, path)).or_default();
            match seen.iter_mut().find(|it| it.0 == thing) {
                Some(it) => (it.2, it.3) = (at, it.3 + 1),
                None => seen.push((thing, at, at, 1)),
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn what_is_found_is_what_listings_of_all_snapshots_hold(
        trees in prop::collection::vec(any_folder(), 1..6),
        pattern in prop::sample::select(vec!["a", "*", "*.txt", "/a/b", "a/*", "**/b", "c/", "a/**", "{a/b,c}"]),
    ) {
        let (nodes, snapshots) = store(&trees);
        let options = names(pattern);
        let report = run(&nodes, &snapshots, &options, &Silent::default()).unwrap();
        let expected = naive(&trees, &options);
        prop_assert_eq!(report.found.len(), expected.len());
        for (found, ((host, path), seen)) in report.found.iter().zip(&expected) {
            prop_assert_eq!((&*found.host, &found.path), (*host, path));
            let versions: Vec<_> = found.versions.iter().map(|version| {
                let at = |sighting: Sighting| u8::try_from(sighting.time.seconds).unwrap();
                (version.mtime.seconds, at(version.first), at(version.last), version.snapshot_count)
            }).collect();
            let seen: Vec<_> = seen.iter().map(|(thing, first, last, count)| {
                let seconds = if let Thing::File { seconds, .. } = thing { *seconds } else { 0 };
                (seconds, *first, *last, *count)
            }).collect();
            prop_assert_eq!(versions, seen);
        }
        prop_assert!(nodes.reads.borrow().values().all(|count| *count == 1));
    }
}

#[test]
fn kinds_and_times_narrow_what_is_found() {
    let file = |seconds| Thing::File { content: 1, mode: 0o644, seconds };
    let inside = Folder::from([(b"new".to_vec(), file(9)), (b"old".to_vec(), file(1))]);
    let tree = Folder::from([(b"x".to_vec(), Thing::Folder { mode: 0o755, inside })]);
    let (nodes, snapshots) = store(&[tree]);
    let found = |options| {
        let report = run(&nodes, &snapshots, &options, &Silent::default()).unwrap();
        report.found.into_iter().map(|found| String::from_utf8(found.path).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found(names("*")), ["/x", "/x/new", "/x/old"]);
    assert_eq!(found(FindOptions { kinds: vec![EntryKind::File], ..names("*") }), ["/x/new", "/x/old"]);
    let since = |seconds| Some(Timestamp::from_seconds(seconds));
    assert_eq!(found(FindOptions { newer: since(9), ..names("*") }), ["/x/new"]);
    assert_eq!(found(FindOptions { older: since(1), ..names("*") }), ["/x", "/x/old"]);
}

#[test]
fn a_folder_that_cannot_be_read_is_told_once_and_the_rest_is_found() {
    let file = || Thing::File { content: 1, mode: 0o644, seconds: 1 };
    let inside = Folder::from([(b"a".to_vec(), file())]);
    let bad = Thing::Folder { mode: 0o755, inside: inside.clone() };
    let tree = Folder::from([(b"bad".to_vec(), bad), (b"a".to_vec(), file())]);
    let (mut nodes, snapshots) = store(&[tree.clone(), tree.clone(), tree]);
    let broken = nodes.store(&inside);
    nodes.broken.push(broken);
    let report = run(&nodes, &snapshots, &names("a"), &Silent::default()).unwrap();
    let paths: Vec<_> = report.found.iter().map(|found| found.path.as_slice()).collect();
    assert_eq!(paths, [b"/a", b"/a"], "of two hosts");
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].path.to_str(), Some("/bad"));
}
