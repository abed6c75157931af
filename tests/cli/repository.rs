//! Making, finding and unlocking repositories.

use std::os::unix::fs::PermissionsExt;

use crate::home::Home;
use crate::vault::Vault;

#[test]
fn init_makes_a_repository_and_a_private_key_file() {
    let vault = Vault::unmade();
    let report = vault.json(["init", "--no-parity", "--chunk-size", "64K", "--pack-size", "4M"], 0);
    assert_eq!(report["id"].as_str().unwrap().len(), 32);
    assert_eq!(report["place"], vault.home.path("repo").to_str().unwrap());
    assert_eq!(report["key_file"], vault.home.path("key").to_str().unwrap());
    assert_eq!((&report["parity"], &report["chunk_bytes_average"]), (&false.into(), &65536.into()));
    let mode = std::fs::metadata(vault.home.path("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = vault.run(["init"]).expect(1);
    assert!(again.stderr.contains("already"), "{}", again.stderr);
    assert_eq!(vault.json(["snapshots"], 0)["snapshots"], serde_json::json!([]));
}

#[test]
fn init_refuses_sizes_that_cannot_be() {
    let vault = Vault::unmade();
    for args in [["--chunk-size", "100000"], ["--chunk-size", "64M"], ["--pack-size", "1"]] {
        vault.run(["init", args[0], args[1]]).expect(2);
    }
    assert!(!vault.home.path("repo").exists() && !vault.home.path("key").exists());
}

#[test]
fn init_refuses_places_where_something_else_is() {
    let vault = Vault::unmade();
    vault.home.write("full/tmp/precious", "x");
    vault.home.write("file", "x");
    for (place, why) in
        [("full", "is not empty"), ("file", "is not a folder"), ("file/below", "is not a folder")]
    {
        let ran = vault.run(["init", "--repo", place]).expect(1);
        assert!(ran.stderr.contains(why) && ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    }
    assert!(!vault.home.path("key").exists(), "a key of no repository was left");
    assert!(vault.home.path("full/tmp/precious").exists());
}

#[test]
fn a_repository_that_was_never_finished_is_named_as_that() {
    let vault = Vault::new();
    std::fs::remove_dir_all(vault.home.path("repo/config")).unwrap();
    let ran = vault.run(["init"]).expect(1);
    assert!(ran.stderr.contains("never finished"), "{}", ran.stderr);
}

#[test]
fn where_no_repository_is_every_command_says_so_and_touches_nothing() {
    let vault = Vault::unmade();
    vault.home.write("full/tmp/precious", "x");
    for place in ["missing", "full", "full/tmp/precious"] {
        for command in [vec!["snapshots"], vec!["ls", "latest"], vec!["backup", "full"], vec!["check"]] {
            let ran = vault.home.run(command.iter().copied().chain(["--repo", place])).expect(10);
            assert!(ran.stderr.contains("there is no repository at"), "{}", ran.stderr);
            assert!(ran.stderr.contains("\nhint: `repo init`"), "{}", ran.stderr);
            assert_eq!(ran.stdout, "");
        }
    }
    assert!(vault.home.path("full/tmp/precious").exists());
}

#[test]
fn a_wrong_key_is_exit_12() {
    let vault = Vault::new();
    let other = Vault::new();
    let key = other.home.path("key");
    let ran = vault.run(["snapshots", "--key-file", key.to_str().unwrap()]).expect(12);
    assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    vault.home.write("garbage", "not a key");
    vault.run(["snapshots", "--key-file", "garbage"]).expect(12);
    let missing = vault.run(["snapshots", "--key-file", "missing"]).expect(1);
    assert!(missing.stderr.contains("missing could not be read"), "{}", missing.stderr);
}

#[test]
fn a_passphrase_opens_what_it_made_and_can_be_replaced() {
    let home = Home::new().with("KLUIS_REPO", "repo");
    home.write("old", "old words\n");
    home.write("new", "new words\n");
    home.run(["init", "--password-file", "old"]).expect(0);
    home.run(["snapshots", "--password-file", "new"]).expect(12);
    home.run(["key", "change-passphrase", "--password-file", "old", "--new-password-file", "new"]).expect(0);
    home.run(["snapshots", "--password-file", "old"]).expect(12);
    home.run(["snapshots", "--password-file", "new"]).expect(0);
}

#[test]
fn keys_are_added_listed_and_removed_but_never_the_last_one() {
    let vault = Vault::new();
    let first = vault.json(["key", "list"], 0)["slots"][0]["id"].as_str().unwrap().to_owned();
    assert!(vault.run(["key", "remove", &first]).expect(1).stderr.contains("no slot left"));
    let added = vault.json(["key", "add", "--new-key-file", "second", "--label", "office"], 0);
    let listed = vault.json(["key", "list", "--key-file", "second"], 0);
    assert_eq!((&listed["slots"][1]["id"], &listed["slots"][1]["label"]), (&added["id"], &"office".into()));
    vault.run(["key", "remove", &first]).expect(0);
    vault.run(["snapshots"]).expect(12);
    vault.run(["key", "remove", "00", "--key-file", "second"]).expect(1);
    vault.run(["key", "list", "--key-file", "second"]).expect(0);
}

#[test]
fn the_key_on_a_recovery_sheet_opens_the_repository() {
    let vault = Vault::new();
    let sheet = vault.run(["key", "recovery-sheet"]).expect(0).stdout;
    let key: Vec<_> = sheet.lines().skip_while(|line| !line.contains("kluis key")).take(4).collect();
    // As somebody types it.
    vault.home.write("typed", key.join("\r\n").to_uppercase().replace('-', " "));
    vault.run(["snapshots", "--key-file", "typed"]).expect(0);
}
