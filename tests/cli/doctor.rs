//! `repo doctor`.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::home::Home;
use crate::vault::Vault;

fn set_mode(vault: &Vault, below: &str, mode: u32) {
    std::fs::set_permissions(vault.home.path(below), std::fs::Permissions::from_mode(mode)).unwrap();
}

fn outcome(report: &Value, id: &str) -> String {
    let probes = report["probes"].as_array().unwrap();
    let found = probes.iter().find(|probe| probe["id"] == id);
    found.unwrap_or_else(|| panic!("{id} is not in {report}"))["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn a_doctor_says_one_line_for_each_probe_and_changes_nothing() {
    let vault = Vault::with_snapshot();
    let before = vault.names("data");
    let ran = vault.run(["doctor"]).expect(0);
    for line in ran.stdout.lines() {
        let begins = ["good  ", "note  ", "      "].iter().any(|begin| line.starts_with(begin));
        assert!(begins, "{line:?}");
    }
    let report = vault.json(["doctor"], 0);
    for id in ["second_create_is_refused", "clock", "snapshots", "leases", "prune", "reserve", "parity"] {
        assert_eq!(outcome(&report, id), "good", "{report}");
    }
    assert_eq!(outcome(&report, "data"), "note", "nothing was read yet");
    assert_eq!(vault.names("tmp"), Vec::<String>::new());
    assert_eq!(vault.names("data"), before);
    vault.run(["check", "--data"]).expect(0);
    assert_eq!(outcome(&vault.json(["doctor"], 0), "data"), "good");
}

#[test]
fn without_a_key_nobody_is_asked_and_the_rest_is_looked_at() {
    let vault = Vault::with_snapshot();
    let home = Home::new().with("KLUIS_REPO", vault.home.path("repo"));
    let ran = home.run(["doctor", "--json"]).expect(0);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(outcome(&report, "key"), "note");
    assert_eq!(outcome(&report, "leases"), "good");
    assert!(!ran.stdout.contains("snapshots\""), "{}", ran.stdout);
}

#[test]
fn what_is_bad_is_exit_code_one() {
    let vault = Vault::with_snapshot();
    set_mode(&vault, "key", 0o644);
    let report = vault.json(["doctor"], 1);
    assert_eq!(outcome(&report, "secret_rights"), "bad");
    set_mode(&vault, "key", 0o600);
    set_mode(&vault, "repo/data", 0o777);
    let ran = vault.run(["doctor"]).expect(1);
    assert!(ran.stdout.contains("bad   folder rights: everybody"), "{}", ran.stdout);
    set_mode(&vault, "repo/data", 0o700);
    vault.run(["doctor"]).expect(0);
    vault.run(["init", "--quiet", "--repo", "other", "--key-file", "other-key"]).expect(0);
    let report = vault.json(["doctor", "--key-file", "other-key"], 1);
    assert_eq!(outcome(&report, "key"), "bad");
    assert_eq!(outcome(&report, "leases"), "good", "the rest was looked at");
}

#[test]
fn a_doctor_without_a_repository_leaves_the_folder_alone() {
    let home = Home::new();
    std::fs::create_dir(home.path("empty")).unwrap();
    home.run(["doctor", "--repo", "empty"]).expect(10);
    home.run(["doctor", "--repo", "nowhere"]).expect(10);
    assert!(std::fs::read_dir(home.path("empty")).unwrap().next().is_none());
}
