//! `repo forget` and `repo undo-forget`.

use serde_json::Value;

use crate::vault::Vault;

/// A vault with backups of these days in November 2026, at noon UTC; returns their ids.
fn with_days(days: &[u32]) -> (Vault, Vec<String>) {
    let vault = Vault::new();
    vault.write_files();
    let backup = |day: &u32| {
        let time = format!("2026-11-{day:02}T12:00:00Z");
        vault.run(["backup", "--quiet", "--time", &time, "files"]).expect(0).stdout.trim_end().to_owned()
    };
    let ids = days.iter().map(backup).collect();
    (vault, ids)
}

fn live(vault: &Vault) -> Vec<String> {
    let listed = vault.json(["snapshots"], 0);
    let ids = listed["snapshots"].as_array().unwrap().iter();
    ids.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_snapshot_is_shown_with_what_becomes_of_it_and_why() {
    let (vault, ids) = with_days(&[1, 2, 3, 4]);
    let ran = vault.run(["forget", "--keep-last", "2", "--keep-weekly", "2", "-n"]).expect(0);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("host ") && lines[0].ends_with("/files"), "{lines:?}");
    // 2026-11-01 was a Sunday, so it is of a week of its own.
    let expected = [
        "  keep  weekly snapshot",
        "  drop  no rule keeps it",
        "  keep  last snapshot",
        "  keep  last snapshot, weekly snapshot",
    ];
    for ((line, end), id) in lines[2..6].iter().zip(expected).zip(&ids) {
        assert!(line.starts_with(&id[..8]) && line.ends_with(end), "{line:?} should end in {end:?}");
    }
    assert_eq!(lines.last(), Some(&"kept: 3, would be forgotten: 1"));
    assert_eq!(live(&vault), ids, "a dry run forgets nothing");
    assert!(vault.names("forget").is_empty());
}

#[test]
fn what_is_forgotten_is_gone_from_lists_and_comes_back() {
    let (vault, ids) = with_days(&[1, 2, 3]);
    let report = vault.json(["forget", "--keep-daily", "1", "--reason", "room"], 0);
    assert_eq!((&report["kept"], &report["dropped"]), (&1.into(), &2.into()));
    assert_eq!(report["record_ids"].as_array().unwrap().len(), 1);
    assert_eq!(report["policy"], "--keep-daily 1 --group-by 'host,paths'");
    let snapshots = report["groups"][0]["snapshots"].as_array().unwrap();
    let fates: Vec<_> = snapshots.iter().map(|one| one["fate"].as_str().unwrap()).collect();
    assert_eq!(fates, ["drop", "drop", "keep"]);
    assert_eq!(snapshots[2]["reasons"], serde_json::json!(["daily snapshot"]));
    assert_eq!(live(&vault), ids[2..]);
    let named = vault.run(["ls", &ids[0]]).expect(1);
    assert!(
        named.stderr.contains("was forgotten") && named.stderr.contains("undo-forget"),
        "{}",
        named.stderr
    );
    assert_eq!(vault.json(["stats"], 0)["snapshot_count"], 1);
    vault.run(["check"]).expect(0);

    let listed = vault.json(["undo-forget"], 0);
    let forgotten = listed["forgotten"].as_array().unwrap();
    assert_eq!(forgotten.len(), 2);
    assert_eq!(
        (&forgotten[0]["id"], &forgotten[0]["reason"]),
        (&Value::from(ids[0].as_str()), &"room".into())
    );
    let back = vault.json(["undo-forget", &ids[0][..8]], 0);
    let new = back["snapshots"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(back["snapshots"][0]["in_place_of_id"], ids[0].as_str());
    assert_eq!(vault.json(["snapshots"], 0)["snapshots"][0]["in_place_of_id"], ids[0].as_str());
    assert_ne!(new, ids[0]);
    // Oldest first: it has the time of the forgotten one.
    assert_eq!(live(&vault), [new.clone(), ids[2].clone()]);
    vault.run(["restore", &new, "--target", "back", "--verify"]).expect(0);
    assert_eq!(vault.json(["undo-forget"], 0)["forgotten"].as_array().unwrap().len(), 1);
    vault.run(["undo-forget", &ids[2]]).expect(1);
    vault.run(["undo-forget", "latest"]).expect(2);
    vault.run(["check"]).expect(0);
    // It is not the newest, although it came last.
    vault.run(["forget", "--keep-last", "1"]).expect(0);
    assert_eq!(live(&vault), ids[2..]);
}

#[test]
fn snapshots_are_forgotten_by_name_and_latest_is_one() {
    let (vault, ids) = with_days(&[1, 2, 3]);
    let ran = vault.run(["forget", &ids[0][..10], "latest"]).expect(0);
    assert!(ran.stdout.contains("drop  named") && ran.stdout.contains("keep  not named"), "{}", ran.stdout);
    assert_eq!(live(&vault), ids[1..2]);
    let ran = vault.run(["forget", &ids[0]]).expect(1);
    assert!(ran.stderr.contains("was forgotten"), "{}", ran.stderr);
}

#[test]
fn a_group_is_not_emptied_by_accident() {
    let (vault, ids) = with_days(&[1, 2]);
    for args in
        [&["--keep-last", "0"][..], &["--keep-tag", "none"], &["--keep-within", "0h"], &[&ids[0], &ids[1]]]
    {
        let ran = vault.home.run(["forget"].iter().chain(args)).expect(1);
        assert!(ran.stderr.contains("no snapshot would be left of host"), "{}", ran.stderr);
        assert!(ran.stderr.contains("--allow-empty"), "{}", ran.stderr);
        assert_eq!(live(&vault), ids);
    }
    vault.run(["forget", "--keep-tag", "none", "--allow-empty"]).expect(0);
    assert!(live(&vault).is_empty());
    // Everything can still come back.
    vault.run(["undo-forget", &ids[0], &ids[1]]).expect(0);
    assert_eq!(live(&vault).len(), 2);
}

#[test]
fn a_forget_that_does_not_say_what_is_wrong_usage() {
    let (vault, ids) = with_days(&[1]);
    let cases: &[&[&str]] = &[
        &[],
        &["-n"],
        &[&ids[0], "--keep-last", "1"],
        &["--keep-last", "-2"],
        &["--keep-last", "many"],
        &["--keep-within", "7w"],
        &["--keep-last", "1", "--group-by", "size"],
    ];
    for args in cases {
        let ran = vault.home.run(["forget"].iter().chain(*args)).expect(2);
        assert!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{args:?}: {}", ran.stdout);
    }
    assert_eq!(live(&vault), ids);
    vault.run(["forget", "--keep-last", "-1"]).expect(0);
    vault.run(["forget", "--keep-tag", "", "--group-by", ""]).expect(0);
    assert_eq!(live(&vault), ids);
}
