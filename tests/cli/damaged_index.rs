//! The local index is disposable: whatever happens to its file, and whenever, commands do their work.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::home::Ran;
use crate::vault::Vault;

const PAGE_BYTES: usize = 4096;

/// Bytes that look random and are the same each time.
fn noise(len: usize, seed: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn index_of(vault: &Vault) -> PathBuf {
    let cache = std::fs::read_dir(vault.home.path("cache")).unwrap();
    cache.map(|entry| entry.unwrap().path().join("index.redb")).find(|path| path.exists()).unwrap()
}

/// A repository whose index has many places, in several runs; its newest snapshot, and the index.
fn vault_with_index() -> (Vault, String, Vec<u8>) {
    let vault = Vault::new();
    let mut newest = String::new();
    for round in 0..3 {
        for number in 0..60 {
            let seed = 100 * round + number;
            vault.home.write(&format!("files/{number}/{round}"), noise(50 + 400 * (number % 9), seed));
        }
        newest = vault.backup();
    }
    let index = std::fs::read(index_of(&vault)).unwrap();
    (vault, newest, index)
}

/// Damages the file in one of several ways, at a place that depends on the seed.
fn damage(bytes: &mut Vec<u8>, seed: usize) {
    let used: Vec<usize> = (0..bytes.len() / PAGE_BYTES)
        .map(|page| page * PAGE_BYTES)
        .filter(|at| bytes[*at..][..PAGE_BYTES].iter().any(|byte| *byte != 0))
        .collect();
    let page = used[seed * 7 % used.len()];
    match seed % 4 {
        0 => bytes[page..][..PAGE_BYTES].fill(0),
        1 => bytes[page..][..PAGE_BYTES].copy_from_slice(&noise(PAGE_BYTES, seed)),
        2 => bytes.truncate(page),
        _ => {
            // A few bits in many pages: this is what may hide places without any other sign.
            for (at, draw) in used.iter().zip(noise(4 * used.len(), seed).chunks(4)) {
                let offset = usize::from(draw[0]) << 4 | usize::from(draw[1]) >> 4;
                bytes[at + offset] ^= u8::from(draw[3] < 128) << (draw[2] % 8);
            }
        }
    }
}

#[test]
fn a_damaged_index_makes_no_command_fail_or_lie() {
    let (vault, snapshot, good) = vault_with_index();
    let snapshot = snapshot.as_str();
    let index = index_of(&vault);
    let files = vault.files();
    let files = files.to_str().unwrap();
    let commands: [&[&str]; 4] = [
        &["ls", "-R", snapshot],
        &["ls", "-R", snapshot, "--json"],
        &["dump", snapshot, files, "--archive", "tar"],
        &["dump", snapshot, files, "--archive", "zip"],
    ];
    let expected = commands.map(|command| vault.home.command(command).output().unwrap().stdout);
    let mut remade = 0;
    for seed in 0..16 {
        let mut bytes = good.clone();
        damage(&mut bytes, seed);
        for (command, expected) in commands.iter().zip(&expected) {
            std::fs::write(&index, &bytes).unwrap();
            let output = vault.home.command(*command).output().unwrap();
            assert!(output.stdout == *expected, "{seed}: {command:?} says something else");
            let ran = Ran::from(output).expect(0);
            assert!(ran.stderr.is_empty() || ran.stderr.contains("it is made again"), "{}", ran.stderr);
            remade += usize::from(!ran.stderr.is_empty());
        }
        let target = format!("back-{seed}");
        let inside = format!("{snapshot}:{files}");
        for command in [&["restore", &inside, "--target", &target][..], &["check"], &["stats"]] {
            std::fs::write(&index, &bytes).unwrap();
            vault.home.run(command).expect(0);
        }
        crate::everyday::assert_same(Path::new(files), &vault.home.path(&target));
        std::fs::write(&index, &bytes).unwrap();
        vault.run(["backup", "--force", files]).expect(0);
    }
    assert!(remade > 0, "no damage was met by a command that was running");
    vault.run(["check", "--data"]).expect(0);
}

#[test]
fn an_index_that_is_damaged_while_it_is_read_costs_a_note() {
    let vault = Vault::new();
    for number in 0..24 {
        // Each is a frame of its own, so that the index is asked again and again.
        vault.home.write(&format!("files/{number:02}"), noise(9 << 20, number));
    }
    vault.backup();
    let files = vault.files();
    let command = ["dump", "latest", files.to_str().unwrap()];
    let expected = vault.home.command(command).output().unwrap().stdout;
    for damaged_share in [1, 2] {
        let mut dump = vault.home.command(command);
        let mut dump = dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = dump.stdout.take().unwrap();
        let mut bytes = vec![0; 1 << 20];
        // It waits now until somebody reads on.
        stdout.read_exact(&mut bytes).unwrap();
        let index = OpenOptions::new().write(true).open(index_of(&vault)).unwrap();
        let len = index.metadata().unwrap().len();
        index.write_all_at(&vec![0x5a; (len / damaged_share) as usize], 0).unwrap();
        stdout.read_to_end(&mut bytes).unwrap();
        let mut stderr = String::new();
        dump.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(dump.wait().unwrap().code(), Some(0), "{stderr}");
        assert!(bytes == expected, "{stderr}");
    }
}

#[test]
fn a_stream_that_cannot_begin_again_is_stored_although_the_index_is_damaged() {
    let (vault, ..) = vault_with_index();
    let index = index_of(&vault);
    // The program runs while the backup has the index open.
    let script = format!("head -c 100000 /dev/zero | tr '\\0' Z > {}; echo stored", index.display());
    vault.run(["backup", "--command", "x", "--", "sh", "-c", &script]).expect(0);
    let output = vault.home.command(["dump", "latest", "/x"]).output().unwrap();
    assert_eq!(output.stdout, b"stored\n");
    vault.run(["check", "--data"]).expect(0);
    let mut backup = vault.home.command(["backup", "--stdin"]);
    let mut backup =
        backup.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    backup.stdin.take().unwrap().write_all(b"small").unwrap();
    Ran::from(backup.wait_with_output().unwrap()).expect(0);
}
