//! The seeds of all fuzz targets, without a fuzzing engine; and the test that makes them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kluis::compress::{Compression, Compressor};

#[path = "../fuzz/src/lib.rs"]
mod targets;

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder is there").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_seed_passes_its_target() {
    for (name, target) in targets::TARGETS {
        let folder = seeds().join(name);
        for seed in names_in(&folder) {
            // Shown only where the target panics.
            println!("{name}/{seed}");
            target(&fs::read(folder.join(seed)).expect("the seed can be read"));
        }
    }
}

#[test]
fn every_cut_and_flipped_bit_of_a_seed_passes_its_target() {
    let slow = ["operations", "restore_plan", "parity_repair"];
    for (name, target) in targets::TARGETS.into_iter().filter(|(name, _)| !slow.contains(name)) {
        for seed in names_in(&seeds().join(name)) {
            let bytes = fs::read(seeds().join(name).join(&seed)).expect("the seed can be read");
            println!("{name}/{seed}");
            // Parity is calculated anew in every trial, which takes time.
            let trial_count = if name == "parity" { 60 } else { 300 };
            let step = bytes.len() / trial_count + 1;
            for at in (0..bytes.len()).step_by(step) {
                target(&bytes[..at]);
                for mask in [1, 0x80] {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= mask;
                    target(&flipped);
                }
            }
        }
    }
}

#[test]
fn every_target_has_a_program_and_seeds_and_every_format_file_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names: BTreeSet<String> = targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs = names_in(&root.join("fuzz/fuzz_targets"));
    let programs: BTreeSet<_> = programs.iter().filter_map(|name| name.strip_suffix(".rs")).collect();
    assert_eq!(programs, names.iter().map(String::as_str).collect());
    let settings = fs::read_to_string(root.join("fuzz/Cargo.toml")).expect("the file is text");
    for name in &names {
        assert!(settings.contains(&format!("name = \"{name}\"")), "{name} is missing in fuzz/Cargo.toml");
        assert!(!names_in(&seeds().join(name)).is_empty(), "{name} has no seeds");
    }
    let formats = names_in(&root.join("src/format"));
    for format in formats.iter().filter_map(|name| name.strip_suffix(".rs")) {
        assert!(names.contains(format), "src/format/{format}.rs has no fuzz target");
    }
}

/// The objects of the golden vectors, by target.
fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let text = include_str!("golden/vectors.txt").replace("\n ", "");
    let named: Vec<_> = text.lines().filter_map(|line| line.split_once(" = ")).collect();
    let bytes_of = |name: &str| {
        let (_, hex) = named.iter().find(|(there, _)| *there == name).expect("there is such a vector");
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("vectors are hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect::<Vec<u8>>()
    };
    let targets = [
        ("container", "header"),
        ("index_object", "index object"),
        ("key_file", "key file"),
        ("slot", "key file slot"),
        ("slot", "passphrase slot"),
        ("keyring", "keyring"),
        ("lease", "lease"),
        ("node", "directory branch"),
        ("node", "directory leaf"),
        ("node", "list branch"),
        ("node", "list leaf"),
        ("pack_directory", "pack directory"),
        ("parity", "parity of a small payload"),
        ("repository_config", "settings"),
        ("snapshot", "snapshot"),
        ("tombstone", "tombstone"),
        ("forget", "forget record"),
        ("body", "body"),
        ("plan", "plan"),
        ("verdict", "verdict"),
        ("done", "done"),
    ];
    let mut seeds: Vec<_> = targets.into_iter().map(|(target, name)| (target, bytes_of(name))).collect();
    // Without the two bytes of version and kind, and without version and count.
    seeds.push(("list_branch", bytes_of("list branch").split_off(2)));
    seeds.push(("tree", bytes_of("directory leaf").split_off(3)));
    seeds.push(("frame", bytes_of("pack directory").split_off(2)));
    let tail = bytes_of("pack tail");
    seeds.push(("pack", [&0u64.to_le_bytes()[..], &tail].concat()));
    seeds
}

/// Objects of the golden repositories that can be read without a key.
fn stored(seeds: &mut Vec<(&'static str, Vec<u8>)>) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for repository in ["format-1", "format-1-forgotten"] {
        let mut open = vec![golden.join(repository).join("repository")];
        while let Some(folder) = open.pop() {
            for name in names_in(&folder) {
                let path = folder.join(&name);
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let bytes = fs::read(&path).expect("the object can be read");
                match folder.file_name().and_then(|name| name.to_str()) {
                    Some("slot") => seeds.push(("slot", bytes)),
                    Some("config") => seeds.push(("repository_config", bytes)),
                    _ if bytes.len() < 6000 => {
                        seeds.push(("container", bytes[..bytes.len().min(112)].to_vec()));
                        seeds.push(("parity", bytes));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Bytes that decide a good mixture of everything.
fn decided(seeds: &mut Vec<(&'static str, Vec<u8>)>) {
    for seed in 0..8u8 {
        for target in ["operations", "restore_plan", "retention", "parity_repair"] {
            let mut bytes = vec![0; if target == "operations" { 90 } else { 300 }];
            blake3::Hasher::new().update(&[seed]).update(target.as_bytes()).finalize_xof().fill(&mut bytes);
            seeds.push((target, bytes));
        }
    }
    // Two changed backups, forget, prune, another host, check; and the same with one damage that is repaired.
    let night = |seed: u8| [0, 0, 0, 0x30, 0x75, seed, 1, 1, 0, 0x10, 0x27, seed, 4];
    let mut quiet = [night(3), night(4), night(8)].concat();
    quiet.extend([6, 0, 0, 7, 11, 10, 6, 0, 0, 7, 7]);
    let damaged = [&quiet[..26], &[8, 5, 0, 100, 0, 3, 9, 11, 8, 9, 0, 200, 1, 1, 9, 4, 11][..]].concat();
    seeds.extend([("operations", quiet), ("operations", damaged)]);
    for text in ["latest", "latest~2", "5f2c:/srv/uploads", "latest:a/../b//c/.", "latest~4294967296"] {
        seeds.push(("selector", text.as_bytes().to_vec()));
    }
    for text in ["1.5G", "16 MiB", "1y2m3d4h", "2026-11-20T18:02:35+01:00", "unlimited", "host,paths", "0.1k"]
    {
        seeds.push(("units", text.as_bytes().to_vec()));
    }
    for (first, second, path) in
        [("*.o", "!a.o", "a.o"), ("/a/**/b", "c/", "a/x/y/b"), ("[a-c]", "#d", "b"), ("a\\ ", "!*", "a ")]
    {
        let mut bytes = Vec::new();
        for text in [first, second, path] {
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        seeds.push(("excludes", bytes));
    }
    let plain = b"the same words and the same words and more of the same words".repeat(4);
    let mut compressor = Compressor::new(Compression::Auto);
    let frame = |bytes: &[u8]| [&(plain.len() as u16).to_le_bytes()[..], bytes].concat();
    seeds.push(("expand", frame(&plain)));
    seeds.push(("expand", frame(compressor.compress(&plain).1)));
    seeds.push(("expand", frame(compressor.compress_against(&plain, &plain[7..]).1)));
}

#[test]
#[ignore = "makes the seeds anew: after a change of the format"]
fn make_the_seeds() {
    let mut all = vectors();
    stored(&mut all);
    decided(&mut all);
    for (target, bytes) in all {
        let folder = seeds().join(target);
        fs::create_dir_all(&folder).expect("the folder can be made");
        let name = blake3::hash(&bytes).to_hex();
        fs::write(folder.join(&name[..16]), bytes).expect("the seed can be written");
    }
}
