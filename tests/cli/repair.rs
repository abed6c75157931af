//! `repo repair`: what it shows, asks, does, and says afterwards.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::vault::Vault;

/// The longest pack of chunks of a vault with some noise in it.
fn with_pack() -> (Vault, PathBuf) {
    let vault = Vault::new();
    let noise = |len: usize, seed: u64| {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    };
    std::fs::create_dir(vault.files()).unwrap();
    std::fs::write(vault.files().join("one"), noise(5 << 20, 1)).unwrap();
    std::fs::write(vault.files().join("two"), noise(5 << 20, 2)).unwrap();
    vault.backup();
    let folders = vault.names("data").into_iter().map(|folder| vault.home.path("repo/data").join(folder));
    let packs = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let pack = packs.map(|entry| entry.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len());
    (vault, pack.unwrap())
}

fn spoil(pack: &PathBuf, at: u64, len: usize) {
    let file = std::fs::OpenOptions::new().write(true).open(pack).unwrap();
    file.write_all_at(&vec![0; len], at).unwrap();
}

#[test]
fn what_parity_can_mend_is_shown_asked_about_and_mended() {
    let (vault, pack) = with_pack();
    let good = std::fs::read(&pack).unwrap();
    vault.run(["repair"]).expect(0);
    spoil(&pack, 1 << 20, 5000);
    let spoiled = std::fs::read(&pack).unwrap();
    let shown = vault.run(["repair", "-n"]).expect(4).stdout;
    let name = pack.file_name().unwrap().to_str().unwrap();
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("mend data/") && lines[0].ends_with(name), "{lines:?}");
    assert!(lines[1].starts_with("  why: ") && lines[2].contains("parity"), "{lines:?}");
    // Nobody can be asked here.
    let asked = vault.run(["repair"]).expect(2);
    assert!(asked.stdout.contains(name) && asked.stderr.contains("--yes"), "{}", asked.stderr);
    assert_eq!(std::fs::read(&pack).unwrap(), spoiled);
    let done = vault.run(["repair", "--yes"]).expect(0).stdout;
    assert!(done.contains("done: 1 of 1 step"), "{done}");
    assert!(std::fs::read(&pack).unwrap() == good);
    vault.run(["check", "--data"]).expect(0);
    let again = vault.run(["repair", "--yes"]).expect(0).stdout;
    assert_eq!(again, "nothing is damaged, and nothing is to be done\n");
}

#[test]
fn what_is_lost_is_named_kept_apart_and_heals() {
    let (vault, pack) = with_pack();
    let before = vault.json(["snapshots"], 0)["snapshots"][0]["id"].as_str().unwrap().to_owned();
    spoil(&pack, 1 << 20, 3 << 20);
    let plan = vault.json(["repair", "--dry-run"], 4);
    let actions: Vec<_> = plan["steps"].as_array().unwrap().iter().map(|it| it["action"].clone()).collect();
    assert_eq!(actions, ["state_damage", "keep_what_is_left"]);
    let report = vault.json(["repair", "--yes"], 4);
    assert_eq!(report["snapshots"][0]["left_of_id"], before.as_str());
    assert_eq!(report["snapshots"][0]["lost_count"], 1);
    let left = vault.json(["snapshots"], 0);
    let left = left["snapshots"].as_array().unwrap();
    assert_eq!((left.len(), &left[1]["left_of_id"]), (2, &before.as_str().into()));
    let again = vault.run(["repair", "--yes"]).expect(4).stdout;
    assert!(again.contains("snapshots that lack parts") && again.contains("files/"), "{again}");
    let stopped = vault.run(["prune"]).expect(4);
    assert!(stopped.stderr.contains("repo repair"), "{}", stopped.stderr);
    vault.backup();
    vault.run(["repair", "--yes"]).expect(0);
    vault.run(["check", "--data"]).expect(0);
    vault.run(["restore", &before, "--target", "back", "--quiet"]).expect(0);
    vault.run(["prune", "--yes"]).expect(0);
}

#[test]
fn a_snapshot_that_cannot_be_read_can_be_forgotten_by_its_id() {
    let vault = Vault::with_snapshot();
    let id = vault.json(["snapshots"], 0)["snapshots"][0]["id"].as_str().unwrap().to_owned();
    vault.home.write("files/more", "more\n");
    vault.backup();
    for name in ["snapshot", "copy/snapshot"] {
        std::fs::write(vault.home.path("repo").join(name).join(&id), "not a snapshot").unwrap();
    }
    let repaired = vault.run(["repair", "--yes"]).expect(4).stdout;
    assert!(repaired.contains("beyond repair") && repaired.contains("repo forget"), "{repaired}");
    vault.run(["prune"]).expect(4);
    vault.run(["forget", &id[..8]]).expect(0);
    vault.run(["prune", "--yes"]).expect(0);
    vault.run(["check", "--data"]).expect(0);
}
