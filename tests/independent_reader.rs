//! A second reader in another language, written from `docs/format.md` alone, reads what the library wrote. It needs
//! Python with three packages (`scripts/test` installs them); where they are missing, the test says so and passes.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use kluis::backup::{self, BackupOptions};
use kluis::chunker::ChunkSizes;
use kluis::clock::SystemClock;
use kluis::crypto::{KdfParams, Secret};
use kluis::event::Silent;
use kluis::format::key_file;
use kluis::repo::{Identity, InitOptions, Repo, Surroundings, UnlockSecret};
use kluis::storage::{LocalStorage, LocalStorageOptions};

const KEY: [u8; 32] = [7; 32];
const PASSPHRASE: &[u8] = b"correct horse";

/// A Python that has what the reader needs: the one that `scripts/test` prepares, or that of the system.
fn python() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_repo"));
    let prepared = program.ancestors().nth(2).map(|target| target.join("python-reader/bin/python3"));
    prepared.into_iter().chain([PathBuf::from("python3")]).find(|python| {
        let import = "import blake3, cryptography, zstandard";
        Command::new(python).args(["-c", import]).output().is_ok_and(|output| output.status.success())
    })
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Files of every shape that the format stores in a way of its own.
fn make_source(root: &Path) {
    // More entries than one leaf may have, and enough chunks for list nodes.
    fs::create_dir_all(root.join("many")).unwrap();
    for number in 0..5000 {
        fs::write(root.join(format!("many/file-{number:05}")), format!("{number}\n").repeat(number % 9))
            .unwrap();
    }
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::write(root.join("deep/er/and/deeper/still"), "x").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("large"), noise(6 << 20, 1)).unwrap();
    fs::write(root.join("middle"), noise(700_001, 2)).unwrap();
    fs::write(root.join("text"), "the quick brown fox ".repeat(40_000)).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"no\xffutf8\n")), "odd name").unwrap();
    fs::hard_link(root.join("middle"), root.join("middle-again")).unwrap();
    std::os::unix::fs::symlink("../somewhere", root.join("link")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 2 << 20).unwrap();
}

fn make_repository(place: &Path, cache: &Path, source: &Path) {
    LocalStorage::create_place(place).unwrap();
    let storage = Arc::new(LocalStorage::open(place, LocalStorageOptions::default()).unwrap());
    let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
    let around = Surroundings { storage, cache: cache.to_owned(), clock: Arc::new(SystemClock), identity };
    let init = InitOptions {
        kdf: KdfParams::MIN,
        chunk_sizes: ChunkSizes::new(4 << 10, 16 << 10, 64 << 10).unwrap(),
        pack_bytes: 1 << 20,
        ..InitOptions::default()
    };
    let repo = Arc::new(Repo::init(around, &init, &UnlockSecret::KeyFile(Secret::new(KEY))).unwrap());
    let passphrase = UnlockSecret::Passphrase(PASSPHRASE.to_vec().into());
    repo.add_slot(&passphrase, KdfParams::MIN, "second").unwrap();
    let options = BackupOptions { sources: vec![source.to_owned()], ..BackupOptions::default() };
    let report = backup::run(&repo, &options, &Silent::default()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

/// Everything below a folder by absolute path.
fn paths_below(folder: &Path, into: &mut BTreeMap<Vec<u8>, PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        into.insert(path.as_os_str().as_bytes().to_vec(), path.clone());
        if path.is_dir() && !path.is_symlink() {
            paths_below(&path, into);
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_reader_written_from_the_document_alone_reads_a_repository() {
    let Some(python) = python() else {
        eprintln!("SKIPPED: python3 has no blake3, cryptography and zstandard; scripts/test installs them");
        return;
    };
    let base = tempfile::tempdir().unwrap();
    let base = base.path().canonicalize().unwrap();
    let [source, place, cache, extracted] =
        ["source", "place", "cache", "extracted"].map(|name| base.join(name));
    make_source(&source);
    make_repository(&place, &cache, &source);
    let key = base.join("key");
    fs::write(&key, key_file::encode(&KEY).as_bytes()).unwrap();
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/independent_reader.py");

    let mut command = Command::new(&python);
    command.args([
        reader.as_ref(),
        place.as_os_str(),
        "--check".as_ref(),
        "--key-file".as_ref(),
        key.as_os_str(),
    ]);
    let output = command.args(["--extract".as_ref(), extracted.as_os_str()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let checked: BTreeMap<String, u64> = serde_json::from_slice(&output.stderr).unwrap();
    assert!(checked.len() == 3 && checked.values().all(|count| *count > 0), "{checked:?}");

    let mut expected = BTreeMap::new();
    paths_below(&source, &mut expected);
    let listing = output.stdout;
    for line in String::from_utf8_lossy(&listing).lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(path) = expected.remove(&unhex(entry["path"].as_str().unwrap())) else { continue };
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(entry["mode"], metadata.mode() & 0o7777, "{}", path.display());
        assert_eq!(entry["uid"], metadata.uid(), "{}", path.display());
        assert_eq!(entry["inode"], metadata.ino(), "{}", path.display());
        assert_eq!(entry["mtime"], serde_json::json!([metadata.mtime(), metadata.mtime_nsec()]));
        if metadata.is_symlink() {
            assert_eq!(unhex(entry["target"].as_str().unwrap()), b"../somewhere");
        } else if metadata.is_file() {
            let copy = fs::read(extracted.join(path.strip_prefix("/").unwrap())).unwrap();
            assert!(copy == fs::read(&path).unwrap(), "{} differs", path.display());
        }
    }
    assert!(
        expected.is_empty(),
        "not listed: {:?}",
        expected.keys().map(|path| path.escape_ascii().to_string())
    );

    // Without index objects the directories of the packs say the same.
    fs::remove_dir_all(place.join("index")).unwrap();
    let by_passphrase = ["--passphrase".as_ref(), std::ffi::OsStr::from_bytes(PASSPHRASE)];
    let output = Command::new(&python).arg(reader).arg(&place).args(by_passphrase).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == listing, "the directories of the packs say something else");
    let output =
        Command::new(&python).arg(reader).arg(&place).args(["--passphrase", "wrong"]).output().unwrap();
    assert!(!output.status.success(), "a wrong passphrase was accepted");
}
