//! `repo scrub`.

use crate::home::Home;
use crate::vault::Vault;

#[test]
fn a_scrub_needs_no_key_and_finds_a_flipped_byte() {
    let vault = Vault::with_snapshot();
    // Somebody else's computer: nothing that opens the repository, and no cache.
    std::fs::remove_file(vault.home.path("key")).unwrap();
    std::fs::remove_dir_all(vault.home.path("cache")).unwrap();
    let ran = vault.run(["scrub"]).expect(0);
    assert!(ran.stdout.ends_with("no damage was found\n"), "{}", ran.stdout);
    assert!(!vault.home.path("cache").exists(), "nothing was remembered");
    let report = vault.json(["scrub", "--data=1%"], 0);
    assert_eq!(report["findings"].as_array().unwrap().len(), 0);
    assert_eq!((&report["packs_read"], &report["packs_skipped"]), (&1.into(), &1.into()));

    let folder = vault.names("data").pop().unwrap();
    let pack = vault.names(&format!("data/{folder}")).pop().unwrap();
    let name = format!("data/{folder}/{pack}");
    let path = vault.home.path("repo").join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ran = vault.run(["scrub", "--quiet"]).expect(4);
    let expected = format!(
        "damage: {name}: its content does not have its id; its parity can mend it\n  \
         what is in the repository suffices to mend it\n"
    );
    assert_eq!(ran.stdout, expected);
    let report = vault.json(["scrub"], 4);
    assert_eq!(report["findings"][0]["code"], "pack_damaged");
    assert_eq!(report["findings"][0]["object"], name.as_str());
}

#[test]
fn a_scrub_of_no_repository_says_so() {
    let home = Home::new();
    std::fs::create_dir(home.path("empty")).unwrap();
    home.run(["scrub", "--repo", "empty"]).expect(10);
    home.run(["scrub", "--repo", "nowhere"]).expect(10);
    home.run(["scrub", "--repo", "empty", "--data=0%"]).expect(2);
}
