//! Back up, look, and get back.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use kluis::format::container::HEADER_LEN;

use crate::vault::Vault;

/// Insists that two folders hold the same files and links with the same bytes.
#[track_caller]
pub fn assert_same(one: &Path, other: &Path) {
    let mut diff = Command::new("diff");
    let output = diff.args(["-r", "--no-dereference"]).arg(one).arg(other).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_snapshot_is_made_listed_and_restored() {
    let vault = Vault::with_snapshot();
    let files = vault.files();
    let listed = vault.json(["snapshots"], 0);
    let snapshot = &listed["snapshots"][0];
    assert_eq!(snapshot["paths"][0], files.to_str().unwrap());
    assert_eq!((&snapshot["files"], &snapshot["problem_count"]), (&5.into(), &0.into()));
    let inside = format!("latest:{}", files.display());
    let restored = vault.json(["restore", &inside, "--target", "back", "--verify"], 0);
    assert_eq!((&restored["files_restored"], &restored["symlinks"]), (&4.into(), &1.into()));
    assert_eq!(restored["snapshot_id"], snapshot["id"]);
    assert_same(&files, &vault.home.path("back"));
    vault.run(["restore", "latest", "--target", "whole"]).expect(0);
    let whole = vault.home.path("whole").join(files.strip_prefix("/").unwrap()).join("a.txt");
    assert_eq!(std::fs::read_to_string(whole).unwrap(), "first\n");
}

#[test]
fn the_report_of_a_backup_has_the_documented_fields() {
    let vault = Vault::new();
    vault.write_files();
    let first = vault.json(["backup", "files", "--tag", "a,b"], 0);
    let numbers = ["files_new", "files_changed", "files_unchanged", "directories", "bytes_read", "bytes_new"];
    for field in numbers.into_iter().chain(["bytes_stored", "duration_seconds"]) {
        assert!(first[field].is_number(), "{field}: {first}");
    }
    assert_eq!(first["problems"], serde_json::json!([]));
    assert_eq!(first["parent_id"], serde_json::Value::Null);
    let second = vault.json(["backup", "files", "missing"], 3);
    assert_eq!(second["parent_id"], serde_json::Value::Null, "the paths are others");
    assert_eq!(second["problems"][0]["path"], "missing");
    assert_eq!(
        second["problems"][0]["message"],
        "it could not be opened: No such file or directory (os error 2)"
    );
    assert_eq!(vault.json(["backup", "files"], 0)["parent_id"], second["snapshot_id"]);
    assert_eq!(vault.json(["snapshots", "--tag", "a,b"], 0)["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn the_last_line_of_a_backup_is_the_snapshot() {
    let vault = Vault::new();
    vault.write_files();
    let ran = vault.run(["backup", "files"]).expect(0);
    let id = ran.stdout.lines().last().unwrap();
    assert_eq!(vault.json(["snapshots"], 0)["snapshots"][0]["id"], id);
    let dry = vault.run(["backup", "files", "--dry-run"]).expect(0);
    assert!(dry.stderr.contains("dry run"), "{}", dry.stderr);
    let same = vault.run(["backup", "files", "--skip-if-unchanged"]).expect(0);
    assert!(same.stderr.contains(id), "{}", same.stderr);
    assert_eq!(vault.names("snapshot").len(), 1);
}

#[test]
fn nothing_readable_is_a_failure_and_no_snapshot() {
    let vault = Vault::new();
    let ran = vault.run(["backup", "missing"]).expect(1);
    assert!(ran.stderr.contains("nothing could be read"), "{}", ran.stderr);
    assert_eq!(vault.names("snapshot").len(), 0);
    assert_eq!(vault.names("lease").len(), 0);
}

#[test]
fn backup_makes_the_repository_when_asked_to() {
    let vault = Vault::unmade();
    vault.write_files();
    vault.run(["backup", "--init", "files"]).expect(0);
    vault.run(["backup", "--init", "files"]).expect(0);
    assert_eq!(vault.names("snapshot").len(), 2);
}

#[test]
fn a_backup_leaves_out_what_it_is_told_to() {
    let vault = Vault::new();
    vault.write_files();
    vault.home.write("files/big", vec![1; 5000]);
    vault.home.write("files/UPPER.TMP", "x");
    vault.home.write("patterns", "# comment\n/link\n");
    vault.home.write("list", "files\n");
    let args = ["backup", "--files-from", "list", "--exclude", "not-*", "--iexclude", "*.tmp"];
    let more = ["--exclude-file", "patterns", "--exclude-larger-than", "4K", "--quiet"];
    vault.home.run(args.into_iter().chain(more)).expect(0);
    let listed = vault.run(["ls", "-R", "latest"]).expect(0).stdout;
    let files = vault.files();
    let expected = format!("{0}\n{0}/a.txt\n{0}/sub\n", files.display());
    assert_eq!(listed, expected);
    for pattern in ["[", ""] {
        vault.run(["backup", "files", "--exclude", pattern]).expect(2);
    }
}

#[test]
fn the_repository_is_never_a_part_of_its_own_backup() {
    let vault = Vault::new();
    vault.write_files();
    vault.run(["backup", "repo"]).expect(2);
    vault.run(["backup", "repo/config"]).expect(2);
    vault.run(["backup", "--quiet", "."]).expect(0);
    let listed = vault.run(["ls", "-R", "latest"]).expect(0).stdout;
    let below = |name: &str| listed.contains(&format!("{}/", vault.home.path(name).display()));
    assert!(below("files") && !below("repo") && !below("cache"), "{listed}");
}

#[test]
fn ls_shows_folders_files_and_json() {
    let vault = Vault::with_snapshot();
    let files = vault.files();
    let inside = |name: &str| format!("latest:{}/{name}", files.display());
    let ran = vault.run(["ls", &inside("sub")]).expect(0);
    assert_eq!(ran.stdout, format!("{}/sub/b.txt\n", files.display()));
    let long = vault.run(["ls", "-l", &inside("link")]).expect(0).stdout;
    assert!(long.starts_with("lrwxrwxrwx ") && long.ends_with("/link -> a.txt\n"), "{long}");
    let listed = vault.json(["ls", "-R", "latest"], 0);
    let entries = listed["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 7);
    assert!(entries.iter().any(|entry| entry["path"]["bytes"].is_string()), "{listed}");
    vault.run(["ls", &inside("nothing")]).expect(1);
    vault.run(["ls", "latest~7"]).expect(1);
    vault.run(["ls", "ffff"]).expect(1);
    vault.run(["ls", "newest"]).expect(2);
}

#[test]
fn dump_writes_files_as_they_were() {
    let vault = Vault::with_snapshot();
    for name in ["a.txt", "sub/b.txt", "sparse"] {
        let path = vault.files().join(name);
        let output = vault.home.command(["dump", "latest", path.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(output.stdout == std::fs::read(&path).unwrap(), "{name}");
    }
    let link = vault.files().join("link");
    vault.run(["dump", "latest", link.to_str().unwrap()]).expect(1);
}

#[test]
fn dump_writes_a_folder_as_an_archive() {
    let vault = Vault::with_snapshot();
    let folder = vault.files();
    let output = vault.home.command(["dump", "latest", folder.to_str().unwrap()]).output().unwrap();
    std::fs::create_dir(vault.home.path("unpacked")).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-x", "-C"]).arg(vault.home.path("unpacked")).stdin(Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_same(&folder, &vault.home.path("unpacked"));
    let mut zip = vault.home.command(["dump", "latest", folder.to_str().unwrap(), "--archive", "zip"]);
    assert!(zip.output().unwrap().stdout.starts_with(b"PK"));
    let file = folder.join("a.txt");
    vault.run(["dump", "latest", file.to_str().unwrap(), "--archive", "tar"]).expect(2);
}

#[test]
fn a_stream_becomes_a_file() {
    let vault = Vault::new();
    let mut command = vault.home.command(["backup", "--quiet", "--stdin", "--stdin-filename", "words"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(vault.run(["dump", "latest", "words"]).expect(0).stdout, "from a pipe");
    vault.run(["backup", "--stdin", "--stdin-filename", "a/b"]).expect(2);
}

#[test]
fn a_program_is_stored_only_if_it_succeeds_and_never_sees_a_passphrase() {
    let vault = Vault::new();
    let with_secret = Vault { home: vault.home.with("KLUIS_PASSWORD", "secret words") };
    with_secret.run(["backup", "--quiet", "--command", "env", "--", "env"]).expect(0);
    let seen = with_secret.run(["dump", "latest", "env"]).expect(0).stdout;
    assert!(seen.contains("KLUIS_REPO=") && !seen.contains("secret words"), "{seen}");
    let failed =
        with_secret.run(["backup", "--command", "x", "--", "sh", "-c", "echo half; exit 3"]).expect(1);
    assert!(failed.stderr.contains("exit status: 3"), "{}", failed.stderr);
    with_secret.run(["backup", "--command", "x", "--", "no-such-program"]).expect(1);
    assert_eq!(with_secret.names("snapshot").len(), 1);
}

#[test]
fn restore_asks_before_it_removes_and_mends_what_differs() {
    let vault = Vault::with_snapshot();
    let inside = format!("latest:{}", vault.files().display());
    vault.run(["restore", &inside, "--target", "back", "--quiet"]).expect(0);
    vault.home.write("back/extra", "x");
    vault.home.write("back/a.txt", "changed");
    let asked = vault.run(["restore", &inside, "--target", "back", "--delete"]).expect(2);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    assert!(vault.home.path("back/extra").exists());
    let plan = vault.json(["restore", &inside, "--target", "back", "--delete", "-n"], 0);
    assert_eq!((&plan["files_restored"], &plan["deleted"]), (&1.into(), &1.into()));
    let changes = plan["changes"].as_array().unwrap().iter();
    let changes: Vec<_> = changes.map(|change| (&change["path"], &change["change"])).collect();
    assert_eq!(changes, [(&"a.txt".into(), &"changed".into()), (&"extra".into(), &"removed".into())]);
    vault.run(["restore", &inside, "--target", "back", "--delete", "--yes"]).expect(0);
    assert!(!vault.home.path("back/extra").exists());
    assert_eq!(std::fs::read(vault.home.path("back/a.txt")).unwrap(), b"first\n");
    vault.run(["restore", &inside, "--target", "key"]).expect(1);
    symlink("/nonexistent/x", vault.home.path("dangling")).unwrap();
    vault.run(["restore", &inside, "--target", "dangling"]).expect(1);
}

#[test]
fn a_restore_waits_for_the_disk_if_it_is_told_to() {
    let vault = Vault::with_snapshot();
    for (option, waits) in [(None, false), (Some("--sync"), true)] {
        let args = ["restore", "latest", "--target", "back", "--progress", "json"];
        let ran = vault.home.run(args.into_iter().chain(option)).expect(0);
        assert_eq!(
            ran.stderr.contains("\"phase\":\"making it durable\""),
            waits,
            "{option:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn damage_is_found_named_and_exit_4() {
    let vault = Vault::with_snapshot();
    assert_eq!(vault.json(["check", "--data"], 0)["findings"], serde_json::json!([]));
    let folder = vault.names("data").pop().unwrap();
    let pack = vault.names(&format!("data/{folder}")).pop().unwrap();
    let path = vault.home.path(&format!("repo/data/{folder}/{pack}"));
    let mut bytes = std::fs::read(&path).unwrap();
    // All behind the header, which is more than parity can mend.
    bytes[HEADER_LEN..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let report = vault.json(["check", "--data"], 4);
    assert!(report["findings"][0]["object"].as_str().unwrap().contains(&pack), "{report}");
    let restored = vault.json(["restore", "latest", "--target", "back"], 4);
    assert!(restored["damaged_count"].as_u64().unwrap() > 0, "{restored}");
}

#[test]
fn stats_add_up() {
    let vault = Vault::with_snapshot();
    vault.backup();
    let stats = vault.json(["stats"], 0);
    assert_eq!((&stats["snapshot_count"], &stats["files"]), (&2.into(), &10.into()));
    let number = |name: &str| stats[name].as_u64().unwrap();
    assert!(number("bytes_unique") < number("bytes_restored"), "{stats}");
    assert!(number("bytes_stored") > 0 && number("chunks") > 0, "{stats}");
    vault.run(["stats", "--host", "nobody"]).expect(0);
}

#[test]
fn an_interrupted_backup_leaves_nothing_in_the_way() {
    let vault = Vault::new();
    vault.write_files();
    // The program asks whoever runs it to stop, and ends only once that was heard.
    let script = "kill -INT $PPID; echo some bytes";
    let ran = vault.run(["backup", "--command", "x", "--", "sh", "-c", script]).expect(130);
    assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
    for folder in ["snapshot", "lease", "tmp"] {
        assert_eq!(vault.names(folder), [""; 0], "{folder}");
    }
    vault.backup();
}

#[test]
fn json_progress_is_one_document_a_line() {
    let vault = Vault::new();
    vault.write_files();
    let ran = vault.run(["backup", "files", "--progress", "json", "--json"]).expect(0);
    let phases: Vec<serde_json::Value> =
        ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(phases.iter().any(|event| event["phase"] == "reading files"), "{}", ran.stderr);
}
