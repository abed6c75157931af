//! Restores, and what they must bring back.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use kluis::event::Silent;
use kluis::format::snapshot::Snapshot;
use kluis::format::tree::Content;
use kluis::repo::{Repo, TreeReader};
use kluis::restore::{self, Overwrite, RestoreContext, RestoreOptions, RestoreReport, RestoreRequest};
use kluis::target::OwnerMap;

use crate::fixture::is_root;
use crate::tree::{Tree, assert_same, capture};

/// Puts what the snapshot holds below `root` into `target`, which then has nothing else.
pub fn restore(
    repo: &Arc<Repo>,
    snapshot: &Snapshot,
    root: &Path,
    target: &Path,
    overwrite: Overwrite,
) -> RestoreReport {
    let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
    let parts: Vec<_> = root.as_os_str().as_bytes().split(|byte| *byte == b'/').collect();
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let top = reader.resolve(snapshot.root, &parts).unwrap().unwrap();
    let Content::Directory(id) = top.content else { panic!("the source is a folder") };
    let context =
        RestoreContext { origin: &reader, owners: &OwnerMap::default(), observer: &Silent::default() };
    let options =
        RestoreOptions { overwrite, delete: true, owner: is_root(), verify: true, ..Default::default() };
    let report = restore::run(&context, &RestoreRequest::Folder(id), target, &options).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    report
}

/// The target is what the tree was, in everything that can be brought back.
pub fn assert_restored(tree: &Tree, target: &Path) {
    assert_same(&timeless(tree), &timeless(&capture(target)));
}

/// Without what no restore can set; names of one file are known by the first of them.
fn timeless(tree: &Tree) -> Tree {
    let mut first_names = BTreeMap::new();
    let mut timeless = Tree::new();
    for (number, (path, seen)) in tree.iter().filter(|(path, _)| !path.is_empty()).enumerate() {
        let mut seen = seen.clone();
        let first = |device| *first_names.entry((device, seen.inode)).or_insert(number as u64);
        seen.hard_link = seen.hard_link.map(first);
        seen.inode = 0;
        seen.ctime = (0, 0);
        timeless.insert(path.clone(), seen);
    }
    timeless
}
