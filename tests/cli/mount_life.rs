//! `repo mount` where something happens meanwhile, and for users other than root.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::mount::{Mount, can_mount, is_mounted};
use crate::noise::noise;
use crate::vault::Vault;

#[test]
fn after_a_kill_the_next_mount_takes_the_dead_one_away() {
    if !can_mount() {
        return;
    }
    let vault = Vault::with_snapshot();
    let mut mount = Mount::new(&vault, &[]);
    let folder = mount.folder.clone();
    mount.signal(Signal::KILL);
    mount.wait();
    assert!(is_mounted(&folder) && fs::read_dir(&folder).is_err());
    let shown = folder.to_str().unwrap();
    let ran = vault.run(["mount", "--daemon", shown]).expect(0);
    assert!(ran.stderr.contains("unmounted what a program that was killed had left"), "{}", ran.stderr);
    assert!(folder.join("latest").is_dir());
    assert!(Command::new("fusermount3").arg("-u").arg(&folder).status().unwrap().success());
    assert!(!is_mounted(&folder));
}

#[test]
fn what_a_prune_moves_below_a_mount_is_read_where_it_is_now() {
    if !can_mount() {
        return;
    }
    let vault = Vault::new();
    // In one pack, of which most is not needed later.
    for number in 0..20 {
        vault.home.write(&format!("files/{number}"), noise(200_000, number));
    }
    let first = vault.backup();
    for number in (0..20).filter(|number| number % 5 != 0) {
        fs::remove_file(vault.files().join(number.to_string())).unwrap();
    }
    vault.backup();
    let mount = Mount::new(&vault, &["latest", "--cache-size=0", "--disk-cache-size=0"]);
    let shown = mount.path(vault.files());
    assert_eq!(fs::read_dir(&shown).unwrap().count(), 4);
    let before = data_packs(&vault);
    vault.run(["forget", "--quiet", &first]).expect(0);
    vault.run(["prune", "--quiet", "--yes"]).expect(0);
    let after = data_packs(&vault);
    assert!(before.iter().all(|pack| !after.contains(pack)), "{before:?} {after:?}");
    for number in [0, 5, 10, 15] {
        assert!(fs::read(shown.join(number.to_string())).unwrap() == noise(200_000, number), "{number}");
    }
    mount.signal(Signal::TERM);
    assert_eq!(mount.end(), (Some(0), String::new()));
}

/// Names of the packs of chunks. The folders that they are in stay when the last one is gone.
fn data_packs(vault: &Vault) -> Vec<String> {
    let folders = vault.names("data").into_iter();
    folders.flat_map(|folder| vault.names(&format!("data/{folder}"))).collect()
}

/// As root, in a world of its own: there the device is open to all, and `/etc/fuse.conf` says what is wanted.
const OTHERS: &str = r#"
mknod "$HOME/fuse" c 10 229 && chmod 666 "$HOME/fuse" && mount --bind "$HOME/fuse" /dev/fuse || { echo SKIPPED; exit 0; }
touch "$HOME/fuse.conf" && mount --bind "$HOME/fuse.conf" /etc/fuse.conf || { echo SKIPPED; exit 0; }
cp "$REPO" "$HOME/program"
chown -R 65534:65534 "$HOME"; chmod 755 "$HOME"
cd "$HOME"
as() { user=$1; shift; setpriv --reuid=$user --regid=$user --clear-groups "$@" 2>&1; echo "= $?"; }
owner() { as 65534 "$@"; }
other() { as 65533 "$@"; }
shown=mnt/latest$HOME/files
owner ./program mount --daemon mnt
owner cat $shown/open $shown/closed
other cat $shown/open
owner fusermount3 -u mnt
echo "-- not allowed"
owner ./program mount --allow-other mnt
echo "-- allowed"
echo user_allow_other > fuse.conf
owner ./program mount --allow-other --daemon mnt
other cat $shown/open
other cat $shown/closed
owner fusermount3 -u mnt
echo "-- missing"
PATH=/nonexistent /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups ./program mount mnt 2>&1; echo "= $?"
chmod 600 fuse; chown 0 fuse
owner ./program mount mnt
umount /dev/fuse; mount -t tmpfs none /dev
owner ./program mount mnt
"#;

#[test]
fn users_other_than_root_mount_and_others_look_inside_only_where_that_was_asked_for() {
    let is_root = rustix::process::geteuid().is_root();
    let vault = Vault::new();
    vault.home.write("files/open", "for all\n");
    let closed = vault.home.write("files/closed", "for one\n");
    fs::set_permissions(closed, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    vault.backup();
    fs::create_dir(vault.home.path("mnt")).unwrap();
    let mut script = Command::new("unshare");
    script.args(["--mount", "sh", "-c", OTHERS]).env("REPO", env!("CARGO_BIN_EXE_repo")).stdin(Stdio::null());
    for (name, path) in [("KLUIS_REPO", "repo"), ("KLUIS_KEY_FILE", "key"), ("KLUIS_CACHE_DIR", "cache")] {
        script.env(name, vault.home.path(path));
    }
    let ran = script.env("HOME", vault.home.path("").canonicalize().unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    if !is_root || !can_mount() || said.starts_with("SKIPPED") {
        let line = "SKIPPED: mounting by other users was not tested, because that needs root\n";
        let _ = fs::File::options()
            .append(true)
            .open("/dev/stderr")
            .map(|mut out| out.write_all(line.as_bytes()));
        return;
    }
    let parts: Vec<_> = said.split("-- ").collect();
    let [own, refused, allowed, missing] = parts.as_slice() else { panic!("{said}") };
    assert!(own.starts_with("= 0\nfor all\nfor one\n= 0\ncat: "), "{said}");
    assert!(own.ends_with("Permission denied\n= 1\n= 0\n"), "{said}");
    assert!(refused.contains("user_allow_other") && refused.ends_with("= 1\n"), "{said}");
    assert!(allowed.starts_with("allowed\n= 0\nfor all\n= 0\ncat: "), "{said}");
    assert!(allowed.ends_with("Permission denied\n= 1\n= 0\n"), "{said}");
    for sentence in [
        "there is no program fusermount3",
        "install the package fuse3",
        "this user may not open /dev/fuse",
        "chmod 666 /dev/fuse",
        "there is no /dev/fuse",
        "modprobe fuse",
    ] {
        assert!(missing.contains(sentence), "{sentence}: {said}");
    }
    assert_eq!(missing.matches("= 1\n").count(), 3, "{said}");
}
