//! `repo prune`: what it says, and how it ends.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::vault::Vault;

/// A vault in which one of two snapshots is forgotten: one pack holds only what that one needed, another one a part.
fn with_garbage() -> Vault {
    let vault = Vault::new();
    let noise = |seed: &str, len: usize| {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    };
    vault.home.write("files/stays", noise("stays", 300_000));
    vault.home.write("files/goes", noise("goes", 200_000));
    let forgotten = vault.backup();
    std::fs::remove_file(vault.home.path("files/goes")).unwrap();
    vault.home.write("other/alone", noise("alone", 100_000));
    let alone = vault.run(["backup", "--quiet", "other"]).expect(0).stdout;
    vault.backup();
    vault.run(["forget", &forgotten, alone.trim_end(), "--quiet", "--allow-empty"]).expect(0);
    vault
}

#[test]
fn a_dry_run_says_of_each_pack_what_would_become_of_it_and_why_and_changes_nothing() {
    let vault = with_garbage();
    let before = [vault.names("data"), vault.names("prune"), vault.names("lease")];
    let ran = vault.run(["prune", "-n"]).expect(0);
    let said =
        |start: &str, end: &str| ran.stdout.lines().any(|it| it.starts_with(start) && it.ends_with(end));
    assert!(said("delete data/", "no snapshot needs anything in it"), "{}", ran.stdout);
    assert!(said("rewrite data/", "% of it is not needed"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("would be deleted: ") && ran.stdout.contains("would be copied"),
        "{}",
        ran.stdout
    );
    let report = vault.json(["prune", "--dry-run"], 0);
    let planned = report["planned"].as_array().unwrap();
    assert_eq!(planned.len() as u64, report["packs_deleted"].as_u64().unwrap());
    let bytes: u64 = planned.iter().map(|pack| pack["bytes"].as_u64().unwrap()).sum();
    assert_eq!(Some(bytes), report["bytes_deleted"].as_u64());
    let rewritten: Vec<_> = planned.iter().filter(|pack| pack["fate"] == "rewrite").collect();
    let unused = rewritten[0]["bytes_unused"].as_u64().unwrap();
    assert!((190_000..230_000).contains(&unused), "{report}");
    assert_eq!([vault.names("data"), vault.names("prune"), vault.names("lease")], before);
    // And so it comes.
    let done = vault.json(["prune", "--yes"], 0);
    assert_eq!(done["packs_deleted"], report["packs_deleted"]);
    assert_eq!(done["planned"], serde_json::json!([]));
}

#[test]
fn a_writer_at_work_is_named_with_exit_11_and_the_next_prune_goes_on() {
    let vault = with_garbage();
    let mut command = vault.home.command(["backup", "--stdin", "--progress", "json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut writer = command.spawn().unwrap();
    let mut lines = BufReader::new(writer.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("reading the stream")));
    let ran = vault.run(["prune", "--yes"]).expect(11);
    let host = vault.json(["snapshots"], 0)["snapshots"][0]["host"].as_str().unwrap().to_owned();
    assert!(ran.stdout.contains(&format!("waiting for {host}: its backup ")), "{}", ran.stdout);
    assert!(ran.stdout.contains("the next prune goes on from here"), "{}", ran.stdout);
    let mut pipe = writer.stdin.take().unwrap();
    pipe.write_all(b"what was read").unwrap();
    drop(pipe);
    let drained = std::thread::spawn(move || lines.for_each(drop));
    assert!(writer.wait().unwrap().success());
    drained.join().unwrap();
    let report = vault.json(["prune", "--yes"], 0);
    assert!(
        report["packs_deleted"].as_u64().unwrap() > 0 && report["waiting"] == serde_json::json!([]),
        "{report}"
    );
    assert_eq!(vault.run(["dump", "latest", "/stdin"]).expect(0).stdout, "what was read");
    vault.run(["check", "--data"]).expect(0);
}
