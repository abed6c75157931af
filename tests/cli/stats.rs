//! `repo stats`.

use serde_json::Value;

use crate::vault::Vault;

/// Bytes that do not compress, and that no other snapshot has.
const OWN_BYTES: u64 = 300_000;

/// A vault with three snapshots of the same files, of which the second has one more.
fn with_one_more() -> (Vault, Vec<String>) {
    let vault = Vault::new();
    vault.write_files();
    let mut ids = vec![vault.backup()];
    let mut noise = vec![0; OWN_BYTES as usize];
    blake3::Hasher::new().update(b"own").finalize_xof().fill(&mut noise);
    vault.home.write("files/own", noise);
    ids.push(vault.backup());
    std::fs::remove_file(vault.home.path("files/own")).unwrap();
    ids.push(vault.backup());
    (vault, ids)
}

fn number(of: &Value) -> u64 {
    of.as_u64().unwrap_or_else(|| panic!("{of} is no number"))
}

#[test]
fn stats_say_what_a_snapshot_alone_holds_and_what_a_prune_would_free() {
    let (vault, ids) = with_one_more();
    let stats = vault.json(["stats"], 0);
    let listed = stats["snapshots"].as_array().unwrap();
    let listed_ids: Vec<_> = listed.iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(listed_ids, ids);
    let own: Vec<_> = listed.iter().map(|it| number(&it["only_here"]["bytes"])).collect();
    assert!(own[1] >= OWN_BYTES && own[1] < OWN_BYTES + 100_000, "{own:?}");
    assert!(own[0] < 10_000 && own[2] < 10_000, "{own:?}");
    assert!(number(&listed[1]["only_here"]["bytes_stored"]) > OWN_BYTES / 2, "{stats}");
    assert_eq!(stats["bytes_unused"], 0);
    assert_eq!(stats["counts_missing_because"], Value::Null);
    assert_eq!(stats["bases"]["frames"], 0);
    assert_eq!(stats["undescribed"]["packs"], 0);
    let together = number(&stats["together"]["bytes"]);
    assert!(together >= number(&stats["bytes_unique"]), "everything is needed by these only: {stats}");

    vault.run(["forget", &ids[1]]).expect(0);
    let after = vault.json(["stats"], 0);
    assert_eq!(after["snapshot_count"], 2);
    let unused = number(&after["bytes_unused"]);
    let stored = number(&after["bytes_stored"]) + number(&after["tree"]["bytes_stored"]);
    assert!(unused > OWN_BYTES / 2 && unused < stored, "{after}");
    let pruned = vault.json(["prune", "--max-unused", "0%", "--yes"], 0);
    assert!(number(&pruned["bytes_deleted"]) > 0, "{pruned}");
    let left = vault.json(["stats"], 0);
    assert!(number(&left["bytes_unused"]) < 10_000, "{left}");
}

#[test]
fn stats_of_named_snapshots_are_about_these() {
    let (vault, ids) = with_one_more();
    let stats = vault.json(["stats", &ids[1][..12]], 0);
    assert_eq!(stats["snapshot_count"], 1);
    assert_eq!(stats["snapshots"][0]["id"], ids[1].as_str());
    assert_eq!(stats["together"], stats["snapshots"][0]["only_here"]);
    let both = vault.json(["stats", "latest", "latest~2", &ids[2]], 0);
    assert_eq!(both["snapshot_count"], 2, "one that is named twice counts once");
    assert_eq!(vault.json(["stats", "--host", "nobody"], 0)["snapshot_count"], 0);
    vault.run(["stats", "latest~3"]).expect(1);
    vault.run(["stats", "nothing"]).expect(2);
}

#[test]
fn stats_are_a_table_of_snapshots_and_a_list_of_sizes() {
    let (vault, ids) = with_one_more();
    let text = vault.run(["stats"]).expect(0).stdout;
    let heading = text.lines().next().unwrap();
    assert_eq!(heading.split_whitespace().collect::<Vec<_>>()[..3], ["ID", "Time", "Host"]);
    for id in &ids {
        assert!(text.lines().any(|line| line.starts_with(&id[..8])), "{text}");
    }
    for name in ["size as restored", "unique chunks", "stored", "unused", "frames with bases", "chunks"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
    }
}

#[test]
fn stats_without_a_snapshot_that_can_be_read_do_not_guess_what_is_unused() {
    let (vault, ids) = with_one_more();
    for folder in ["snapshot", "copy/snapshot"] {
        let path = vault.home.path("repo").join(folder).join(&ids[1]);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[200] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let stats = vault.json(["stats"], 4);
    assert_eq!(stats["bytes_unused"], Value::Null);
    assert!(stats["counts_missing_because"].as_str().unwrap().contains("cannot be read"), "{stats}");
    let ran = vault.run(["stats"]).expect(4);
    assert!(ran.stderr.contains("what is unused cannot be told"), "{}", ran.stderr);
}
