//! `repo copy` and `repo init --like`.

use crate::vault::Vault;

/// A vault with a snapshot, and beside it a second repository with its own key.
fn with_second(like: bool) -> Vault {
    let vault = Vault::with_snapshot();
    let mut arguments = vec!["init", "--repo", "second", "--key-file", "second.key", "--no-parity"];
    if like {
        arguments.extend(["--like", "repo", "--like-key-file", "key"]);
    }
    vault.home.run(arguments).expect(0);
    vault
}

const TO: [&str; 5] = ["copy", "--to", "second", "--to-key-file", "second.key"];

#[test]
fn a_second_place_holds_the_same_and_says_so() {
    for like in [true, false] {
        let vault = with_second(like);
        let first = vault.home.run([&TO[..], &["--check"]].concat()).expect(0);
        assert!(first.stdout.contains("1 snapshot copied, 0 there already"), "{}", first.stdout);
        assert!(first.stdout.contains("both hold the same"), "{}", first.stdout);
        let again = vault.home.run(TO).expect(0);
        assert!(again.stdout.contains("0 snapshots copied, 1 there already"), "{}", again.stdout);
        let second = ["--repo", "second", "--key-file", "second.key"];
        let listed = vault.home.run([&["snapshots", "--json"], &second[..]].concat()).expect(0);
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
        let here = vault.json(["snapshots"], 0);
        assert_eq!(listed["snapshots"][0]["copy_of_id"], here["snapshots"][0]["id"]);
        vault.home.run([&["check", "--data"], &second[..]].concat()).expect(0);
        vault.home.run([&["restore", "latest", "--target", "back"], &second[..]].concat()).expect(0);
    }
}

#[test]
fn bad_input_is_told_in_a_sentence() {
    let vault = with_second(false);
    let to_itself = vault.run(["copy", "--to", "repo"]).expect(2);
    assert!(to_itself.stderr.contains("the same repository"), "{}", to_itself.stderr);
    let nowhere = vault.run(["copy", "--to", "nowhere"]).expect(10);
    assert!(nowhere.stderr.contains("nowhere"), "{}", nowhere.stderr);
    // Without a secret of its own the other one is opened by that of the first.
    vault.run(["copy", "--to", "second"]).expect(12);
    vault.run(["copy", "--to", "second", "--to-key-file", "second.key", "ffff"]).expect(1);
    vault.run(["init", "--repo", "third", "--like", "repo", "--chunk-size", "1M"]).expect(2);
    vault.run(["init", "--repo", "third", "--like", "nowhere"]).expect(10);
    assert!(!vault.home.path("third").exists(), "nothing was made");
}

#[test]
fn a_dry_run_says_what_would_be_copied() {
    let vault = with_second(true);
    let ran = vault.home.run([&TO[..], &["-n"]].concat()).expect(0);
    assert!(ran.stdout.contains("1 snapshot would be copied"), "{}", ran.stdout);
    let ran = vault.home.run(TO).expect(0);
    assert!(ran.stdout.contains("1 snapshot copied"), "{}", ran.stdout);
}
