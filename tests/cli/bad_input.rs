//! Wrong keys, and a repository in which somebody deleted files by hand: nothing is changed, and it is said why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::vault::Vault;

/// All files below a folder with their bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

#[test]
fn forget_and_prune_with_the_wrong_key_change_nothing() {
    let vault = Vault::with_snapshot();
    let repo = vault.home.path("repo");
    vault.run(["init", "--quiet", "--repo", "other", "--key-file", "other-key"]).expect(0);
    vault.home.write("wrong", "a wrong passphrase\n");
    let before = contents(&repo);
    for secret in [["--key-file", "other-key"], ["--password-file", "wrong"]] {
        let commands: [&[&str]; 4] = [
            &["forget", "--keep-last", "1"],
            &["forget", "--keep-last", "1", "--prune"],
            &["prune"],
            &["prune", "--exclusive", "--yes"],
        ];
        for command in commands {
            let ran = vault.home.run(command.iter().chain(&secret)).expect(12);
            assert!(ran.stderr.contains("no slot of the repository opens with this"), "{}", ran.stderr);
            assert!(ran.stdout.is_empty(), "{}", ran.stdout);
            assert!(contents(&repo) == before, "{command:?} changed something");
        }
    }
}

#[test]
fn a_prune_stops_when_a_snapshot_has_vanished_and_says_what_to_do() {
    let vault = Vault::with_snapshot();
    let oldest = vault.backup();
    vault.home.write("files/more", "more");
    vault.backup();
    vault.run(["prune"]).expect(0);
    let repo = vault.home.path("repo");
    let (object, copy) = (repo.join("snapshot").join(&oldest), repo.join("copy/snapshot").join(&oldest));
    let bytes = std::fs::read(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    std::fs::remove_file(&copy).unwrap();
    let before = contents(&repo);
    let ran = vault.run(["prune"]).expect(4);
    assert!(ran.stderr.contains("gone that nobody forgot"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: nothing was deleted"), "{}", ran.stderr);
    assert!(contents(&repo) == before);
    vault.run(["check"]).expect(4);
    std::fs::write(&object, bytes).unwrap();
    vault.run(["prune"]).expect(0);
}
