//! Looking into snapshots: what differs, and where a file was.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use rustix::fs::XattrFlags;
use serde_json::{Value, json};

use crate::vault::Vault;

/// Two snapshots: something of each kind happens between them. The ids, oldest first.
fn two_snapshots() -> (Vault, [String; 2]) {
    let vault = Vault::new();
    vault.write_files();
    vault.home.write("files/moved/deep/x.txt", "moves along");
    vault.home.write("files/gone.txt", "gone");
    vault.home.write("files/same.txt", "same");
    let first = vault.backup();
    vault.home.write("files/a.txt", "other words\n");
    vault.home.write("files/new\n.txt", "new");
    std::fs::remove_file(vault.home.path("files/gone.txt")).unwrap();
    std::fs::rename(vault.home.path("files/sub/b.txt"), vault.home.path("files/sub/c.txt")).unwrap();
    std::fs::rename(vault.home.path("files/moved"), vault.home.path("files/there")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(vault.home.path("files/same.txt"), mode).unwrap();
    let second = vault.backup();
    (vault, [first, second])
}

#[test]
fn diff_tells_what_happened_to_each_file() {
    let (vault, [first, second]) = two_snapshots();
    let ran = vault.run(["diff", &first, &second]).expect(0);
    let files = vault.files();
    let shown: Vec<String> =
        ran.stdout.lines().map(|line| line.replace(&format!("{}/", files.display()), "")).collect();
    let expected = [
        "M       12 B  a.txt (6 B before)",
        "-       4 B  gone.txt",
        "+       3 B  new\\n.txt",
        "U       4 B  same.txt (mode)",
        "R   6.8 KiB  sub/b.txt -> sub/c.txt",
        "R      11 B  moved -> there/",
    ];
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    for (line, expected) in shown.iter().zip(expected) {
        assert_eq!(squeezed(line), squeezed(expected), "{}", ran.stdout);
    }
    assert_eq!(shown.len(), expected.len() + 5, "{}", ran.stdout);
    assert_eq!(shown.last().unwrap(), "renamed: 1 file, 1 folder, 0 others, 6.8 KiB");
    let same = vault.run(["diff", "--quiet", "latest", "latest"]).expect(0);
    assert_eq!(same.stdout, "");
}

#[test]
fn diff_gives_json_and_takes_paths() {
    let (vault, [first, second]) = two_snapshots();
    let files = vault.files();
    let inside = |id: &str, name: &str| format!("{id}:{}/{name}", files.display());
    let report = vault.json(["diff", &first, &second], 0);
    assert_eq!((&report["before"]["snapshot_id"], &report["after"]["path"]), (&json!(first), &json!("/")));
    let changes = report["changes"].as_array().unwrap();
    let of = |name: &str| -> &Value {
        let path = json!(files.join(name));
        changes.iter().find(|change| change["path"] == path).unwrap_or_else(|| panic!("{name}: {report}"))
    };
    assert_eq!((&of("a.txt")["change"], &of("a.txt")["contents_changed"]), (&json!("changed"), &json!(true)));
    assert_eq!(of("same.txt")["metadata_changes"], json!(["mode"]));
    assert_eq!(of("there")["path_before"], json!(files.join("moved")));
    assert_eq!(report["added"]["files"], 1);
    let folders = vault.json(["diff", &inside(&first, "moved"), &inside(&second, "there")], 0);
    assert_eq!(folders["changes"], json!([]));
    let one = vault.json(["diff", &inside(&first, "a.txt"), &inside(&second, "a.txt")], 0);
    assert_eq!(one["changes"][0]["path"], json!(files.join("a.txt")));
    vault.run(["diff", &inside(&first, "a.txt"), &second]).expect(2);
    vault.run(["diff", &inside(&first, "nothing"), &second]).expect(1);
    vault.run(["diff", &first]).expect(2);
}

#[test]
fn find_tells_where_and_when_a_file_existed() {
    let (vault, [first, second]) = two_snapshots();
    let files = vault.files();
    let found = vault.json(["find", "a.txt"], 0);
    let versions = found["paths"][0]["versions"].as_array().unwrap();
    assert_eq!(found["paths"][0]["path"], json!(files.join("a.txt")));
    let ids =
        |version: &Value| (version["first"]["snapshot_id"].clone(), version["last"]["snapshot_id"].clone());
    assert_eq!(versions.iter().map(|it| it["size"].clone()).collect::<Vec<_>>(), [6, 12]);
    assert_eq!(ids(&versions[0]), (json!(first), json!(first)));
    assert_eq!(ids(&versions[1]), (json!(second), json!(second)));
    let both = vault.json(["find", "SAME.*", "--ignore-case", "--type", "file"], 0);
    let version = &both["paths"][0]["versions"][0];
    assert_eq!((ids(version), &version["snapshot_count"]), ((json!(first), json!(second)), &json!(2)));
    let odd = vault.json(["find", "not-*-text"], 0);
    let name = std::ffi::OsStr::from_bytes(b"not-\xff-text");
    let text = files.join(name).to_string_lossy().into_owned();
    assert_eq!(odd["paths"][0]["path"]["text"], text);
    assert!(odd["paths"][0]["path"]["bytes"].is_string(), "{odd}");
}

#[test]
fn find_is_narrowed_and_says_when_there_is_nothing() {
    let (vault, [first, _]) = two_snapshots();
    let shown = vault.run(["find", "gone.txt", "new*"]).expect(0).stdout;
    let files = vault.files();
    assert!(shown.starts_with(&format!("{}/gone.txt\n ", files.display())), "{shown}");
    assert!(shown.contains(&format!("{}/new\\n.txt\n ", files.display())), "{shown}");
    vault.run(["find", "new*", "--snapshot", &first]).expect(1);
    vault.run(["find", "gone.txt", "--snapshot", "latest"]).expect(1);
    vault.run(["find", "gone.txt", "--host", "nobody"]).expect(1);
    vault.run(["find", "gone.txt", "--older", "1990-01-01"]).expect(1);
    let nothing = vault.json(["find", "no-such-file"], 1);
    assert_eq!((&nothing["paths"], &nothing["snapshot_count"]), (&json!([]), &json!(2)));
    for wrong in ["[", "", "/"] {
        vault.run(["find", wrong]).expect(2);
    }
}

/// An ACL as the kernel takes it: version, then tag, rights and number of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entry = |(tag, rights, id): &(u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [2, 0, 0, 0].into_iter().chain(entries.iter().flat_map(entry)).collect()
}

#[test]
fn tar_gets_acls_and_attributes_back_from_a_dump() {
    let vault = Vault::new();
    vault.write_files();
    let none = u32::MAX;
    let access = acl(&[(1, 6, none), (2, 4, 12345), (4, 4, none), (0x10, 4, none), (0x20, 0, none)]);
    let default = acl(&[(1, 7, none), (4, 5, none), (8, 5, 54321), (0x10, 5, none), (0x20, 0, none)]);
    let cases = [
        ("a.txt", "system.posix_acl_access", access),
        ("sub", "system.posix_acl_default", default),
        ("sub/b.txt", "user.note", b"\0any\xff".to_vec()),
    ];
    for (name, xattr, value) in &cases {
        if let Err(error) = rustix::fs::setxattr(vault.files().join(name), *xattr, value, XattrFlags::empty())
        {
            println!("{xattr} cannot be set here: {error}");
            return;
        }
    }
    vault.backup();
    let output = vault.home.command(["dump", "latest", vault.files().to_str().unwrap()]).output().unwrap();
    let target = vault.home.path("unpacked");
    std::fs::create_dir(&target).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--acls", "-x", "-C"]).arg(&target).stdin(Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    assert!(tar.wait().unwrap().success());
    for (name, xattr, value) in &cases {
        let mut found = vec![0; 200];
        let len = rustix::fs::getxattr(target.join(name), *xattr, found.as_mut_slice()).unwrap();
        assert_eq!(&found[..len], value, "{xattr}");
    }
}
