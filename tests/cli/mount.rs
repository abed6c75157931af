//! `repo mount`, with the kernel of this computer: what is shown is what was backed up.
//!
//! Where nothing can be mounted these tests say so on standard error and prove nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use rustix::process::{Pid, Signal, kill_process};

use crate::noise::noise;
use crate::vault::Vault;

/// Whether there is what mounting needs. Says loudly if not.
pub fn can_mount() -> bool {
    let has_device = File::options().read(true).write(true).open("/dev/fuse").is_ok();
    let has_program = Command::new("fusermount3").arg("-V").output().is_ok();
    if !has_device || !has_program {
        let line = "SKIPPED: mounting was not tested, because there is no /dev/fuse or no fusermount3\n";
        // Past the capture of the test harness.
        let _ =
            File::options().append(true).open("/dev/stderr").map(|mut out| out.write_all(line.as_bytes()));
    }
    has_device && has_program
}

/// A mount in the foreground. Dropped, it is unmounted whatever happens.
pub struct Mount {
    /// Where.
    pub folder: PathBuf,
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Mount {
    /// Mounts.
    pub fn new(vault: &Vault, args: &[&str]) -> Self {
        let folder = vault.home.path("mnt");
        fs::create_dir_all(&folder).unwrap();
        let args = ["mount"].iter().chain(args).map(PathBuf::from).chain([folder.clone()]);
        let mut command = vault.home.command(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.contains("mounted at"), "{line}");
        Self { folder, child, stderr }
    }

    /// A path in it.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        let below = below.as_ref();
        self.folder.join(below.strip_prefix("/").unwrap_or(below))
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end of the program, and leaves the rest as it is.
    pub fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    /// Waits for the end of the program; returns its exit code and what else it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.stderr, &mut said).unwrap();
        (code, said)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if is_mounted(&self.folder) {
            let _ = Command::new("fusermount3").args(["-u", "-z"]).arg(&self.folder).status();
        }
        let _ = self.child.wait();
    }
}

/// Whether something is mounted there.
pub fn is_mounted(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == folder.to_str())
}

/// Everything that can be seen of what is below a folder.
fn see(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut groups = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else if kind.is_file() {
            blake3::hash(&fs::read(&path).unwrap()).to_string()
        } else {
            String::new()
        };
        let mut shared = "alone".to_owned();
        let mut size = 0;
        if kind.is_dir() {
            let mut below: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            // Groups of links are counted in the order in which they are met.
            below.sort();
            open.extend(below);
        } else {
            let group_count = groups.len();
            let group = groups.entry(metadata.ino()).or_insert(group_count);
            if metadata.nlink() > 1 {
                shared = format!("one of {} in {group}", metadata.nlink());
            }
            size = metadata.len();
        }
        let below = path.strip_prefix(folder).unwrap().to_owned();
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
        let (device, xattrs) = (metadata.rdev(), xattrs(&path));
        let line = format!("{mode:o} {uid} {gid} {size} {times:?} {device} {shared} {xattrs:?} {content}");
        seen.insert(below, line);
    }
    seen
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let len = llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    names.truncate(len);
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let len = lgetxattr(path, name, value.as_mut_slice()).unwrap();
        value.truncate(len);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Strange files; as root, devices and other owners too.
fn write_strange_files(vault: &Vault) {
    vault.write_files();
    let at = |name: &str| vault.home.path("files").join(name);
    fs::write(at("large"), noise(3_000_000, 1)).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::create_dir(at("empty folder")).unwrap();
    fs::hard_link(at("large"), at("sub/same")).unwrap();
    fs::hard_link(at("large"), at("zzz")).unwrap();
    symlink("nowhere/\u{e9}", at("dangling")).unwrap();
    fs::write(at("sub/mode"), "x").unwrap();
    fs::set_permissions(at("sub/mode"), fs::Permissions::from_mode(0o4751)).unwrap();
    let holes = File::create(at("holes")).unwrap();
    holes.set_len(10 << 20).unwrap();
    for place in [0u64, 5 << 20, (10 << 20) - 7] {
        holes.write_all_at(b"bytes!!", place).unwrap();
    }
    // A file system without attributes is not what is tested.
    let _ = lsetxattr(at("a.txt"), c"user.note", b"value\0\xff", XattrFlags::empty());
    Command::new("setfacl").args(["-m", "u:1234:r"]).arg(at("a.txt")).status().unwrap();
    Command::new("mkfifo").arg(at("fifo")).status().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket"));
    if rustix::process::geteuid().is_root() {
        Command::new("mknod").arg(at("device")).args(["c", "259", "70000"]).status().unwrap();
        std::os::unix::fs::lchown(at("link"), Some(1234), Some(4321)).unwrap();
    }
}

#[test]
fn a_mounted_snapshot_is_what_was_backed_up() {
    if !can_mount() {
        return;
    }
    let vault = Vault::new();
    write_strange_files(&vault);
    let before = see(&vault.files());
    let id = vault.backup();
    let mount = Mount::new(&vault, &[]);
    let latest = mount.path("latest").join(vault.files().strip_prefix("/").unwrap());
    assert_eq!(see(&latest), before);
    let by_id = mount.path("ids").join(&id).join(vault.files().strip_prefix("/").unwrap());
    assert_eq!(see(&by_id), before);
    for folder in ["snapshots", "hosts"] {
        assert_eq!(fs::read_dir(mount.path(folder)).unwrap().count(), 1, "{folder}");
    }
    assert_eq!(fs::read_dir(mount.path("tags")).unwrap().count(), 0);
    let error = fs::write(mount.path("latest/new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::symlink_metadata(latest.join("gone")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    // Space is taken by data alone.
    let holes = fs::metadata(latest.join("holes")).unwrap();
    assert!(holes.blocks() * 512 < 1 << 20, "{}", holes.blocks());
}

#[test]
fn any_stretch_of_a_file_can_be_read() {
    if !can_mount() {
        return;
    }
    let vault = Vault::new();
    write_strange_files(&vault);
    // So many chunks that they are a list.
    vault.home.write("files/huge", noise(30 << 20, 2));
    vault.backup();
    // With much and with next to no memory, with and without a place on disk.
    for memory in [&[][..], &["--cache-size=1M"], &["--cache-size=0", "--disk-cache-size=0"]] {
        let mount = Mount::new(&vault, &[memory, &["latest"]].concat());
        read_any_stretch(&vault, &mount);
        assert!(fs::read(mount.path(vault.files()).join("huge")).unwrap() == noise(30 << 20, 2));
    }
}

fn read_any_stretch(vault: &Vault, mount: &Mount) {
    for name in ["huge", "large", "holes"] {
        let source = fs::read(vault.files().join(name)).unwrap();
        let file = File::open(mount.path(vault.files()).join(name)).unwrap();
        let mut place = 1usize;
        for round in 0..60 {
            place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let from = (place >> 20) % (source.len() + 10);
            let mut read = vec![0; 1 + (place >> 40) % 300_000];
            let mut len = 0;
            while let Ok(count @ 1..) = file.read_at(&mut read[len..], (from + len) as u64) {
                len += count;
            }
            let end = (from + read.len()).min(source.len());
            assert!(read[..len] == source[from.min(end)..end], "{name}, round {round}: {from}..{end}");
        }
    }
}

#[test]
fn a_part_of_a_snapshot_is_shown_as_restore_would_write_it() {
    if !can_mount() {
        return;
    }
    let vault = Vault::new();
    write_strange_files(&vault);
    vault.backup();
    for (path, names) in [("files/sub", vec!["b.txt", "mode", "same"]), ("files/a.txt", vec!["a.txt"])] {
        let selector = format!("latest:{}", vault.home.path(path).display());
        let mount = Mount::new(&vault, &[&selector]);
        let mut seen: Vec<_> =
            fs::read_dir(&mount.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        seen.sort();
        assert_eq!(seen, names);
        let target = vault.home.path("target");
        vault.run(["restore", "-q", &selector, "--target", target.to_str().unwrap()]).expect(0);
        for name in names {
            let (shown, restored) = (mount.path(name), target.join(name));
            assert_eq!(fs::read(&shown).unwrap(), fs::read(&restored).unwrap());
            let (shown, restored) = (fs::metadata(shown).unwrap(), fs::metadata(restored).unwrap());
            assert_eq!(shown.mode(), restored.mode());
            assert_eq!(shown.mtime(), restored.mtime());
            assert_eq!(shown.nlink(), 1);
        }
        mount.signal(Signal::INT);
        assert_eq!(mount.end(), (Some(0), String::new()));
        fs::remove_dir_all(target).unwrap();
    }
}

#[test]
fn a_large_folder_is_listed_completely_from_any_place() {
    if !can_mount() {
        return;
    }
    let vault = Vault::new();
    let folder = vault.home.path("files");
    fs::create_dir(&folder).unwrap();
    for number in 0..100_000 {
        File::create(folder.join(format!("name-{number}"))).unwrap();
    }
    vault.backup();
    let mount = Mount::new(&vault, &["latest"]);
    let shown = mount.path(vault.files());
    let list = |folder: &Path| {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_vec());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    assert!(list(&shown) == list(&folder));
    // The second time the kernel may know all; a look at single names goes another way.
    assert!(list(&shown) == list(&folder));
    for number in [0, 7, 4999, 12_345, 99_999] {
        assert!(shown.join(format!("name-{number}")).exists());
        assert!(!shown.join(format!("name-{number}x")).exists());
    }
}

#[test]
fn damage_is_an_error_of_the_files_that_it_touches_and_is_told() {
    if !can_mount() {
        return;
    }
    let vault = Vault::unmade();
    vault.run(["init", "--quiet", "--no-parity"]).expect(0);
    // Each larger than what is packed together.
    vault.home.write("files/a", noise(9 << 20, 1));
    vault.home.write("files/b", noise(9 << 20, 2));
    vault.backup();
    let mount = Mount::new(&vault, &["latest"]);
    let good = |name: &str| {
        let shown = fs::read(mount.path(vault.files()).join(name));
        shown.is_ok_and(|bytes| bytes == fs::read(vault.files().join(name)).unwrap())
    };
    let mut packs: Vec<PathBuf> = Vec::new();
    let mut open = vec![vault.home.path("repo/data")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { open.push(entry) } else { packs.push(entry) }
        }
    }
    let pack = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
    File::options().write(true).open(pack).unwrap().write_all_at(&[0xa5; 64], 1 << 20).unwrap();
    let states = [good("a"), good("b")];
    assert_eq!(states.iter().filter(|good| **good).count(), 1, "{states:?}");
    let broken = if states[0] { "b" } else { "a" };
    let error = fs::read(mount.path(vault.files()).join(broken)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    mount.signal(Signal::TERM);
    let (code, said) = mount.end();
    assert_eq!(code, Some(0));
    let lines: Vec<_> = said.lines().filter(|line| line.contains(&format!("files/{broken}: "))).collect();
    assert_eq!((lines.len(), said.lines().count()), (1, 1), "{said}");
}

/// Waits until a file appears. That it takes some seconds is intended; the limit is far beyond what any computer needs.
fn wait_for(file: &Path) {
    let begin = std::time::Instant::now();
    while !file.exists() {
        assert!(begin.elapsed().as_secs() < 300, "{} does not appear", file.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_new_snapshot_appears_in_a_mount_and_a_backup_runs_beside_it() {
    if !can_mount() {
        return;
    }
    let vault = Vault::with_snapshot();
    let mount = Mount::new(&vault, &[]);
    assert_eq!(fs::read_dir(mount.path("ids")).unwrap().count(), 1);
    vault.home.write("files/later.txt", "written later\n");
    let id = vault.backup();
    let later = mount.path("ids").join(&id).join(vault.files().strip_prefix("/").unwrap()).join("later.txt");
    wait_for(&later);
    assert_eq!(fs::read_to_string(later).unwrap(), "written later\n");
    let latest = mount.path("latest").join(vault.files().strip_prefix("/").unwrap()).join("later.txt");
    wait_for(&latest);
}

fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn signals_and_unmounting_leave_nothing_behind() {
    if !can_mount() {
        return;
    }
    let vault = Vault::with_snapshot();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        // A program that was started with a signal ignored, as in the background of a script, goes on ignoring it.
        if is_ignored(signal) {
            eprintln!("SKIPPED: {signal:?} is ignored here");
            continue;
        }
        let mount = Mount::new(&vault, &[]);
        // Somebody is inside, and has a file open.
        let held =
            File::open(mount.path("latest").join(vault.files().strip_prefix("/").unwrap()).join("a.txt"));
        let folder = mount.folder.clone();
        assert!(is_mounted(&folder));
        mount.signal(signal);
        assert_eq!(mount.end(), (Some(0), String::new()));
        assert!(!is_mounted(&folder));
        drop(held.unwrap());
    }
    let mount = Mount::new(&vault, &[]);
    let folder = mount.folder.clone();
    assert!(Command::new("fusermount3").arg("-u").arg(&folder).status().unwrap().success());
    assert_eq!(mount.end(), (Some(0), String::new()));
    assert!(!is_mounted(&folder));
}

#[test]
fn a_daemon_returns_when_it_is_mounted_or_says_why_not() {
    if !can_mount() {
        return;
    }
    let vault = Vault::with_snapshot();
    let folder = vault.home.path("mnt");
    fs::create_dir(&folder).unwrap();
    let shown = folder.to_str().unwrap();
    let ran = vault.run(["mount", "--daemon", shown]).expect(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    assert!(folder.join("latest").is_dir());
    assert!(Command::new("fusermount3").arg("-u").arg(&folder).status().unwrap().success());
    let ran = vault.run(["mount", "--daemon", "latest:/nothing/here", shown]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("the snapshot holds no /nothing/here"), "{}", ran.stderr);
    assert!(!is_mounted(&folder));
}

#[test]
fn what_cannot_be_mounted_at_is_refused_with_a_hint() {
    if !can_mount() {
        return;
    }
    let vault = Vault::with_snapshot();
    vault.home.write("file", "");
    for (folder, why) in [
        ("gone", "there is no such folder"),
        ("file", "it is no folder"),
        ("files", "it is not empty"),
        ("/proc", "something is mounted there"),
    ] {
        let ran = vault.run(["mount", folder]).expect(1);
        assert!(ran.stderr.contains(why) && ran.stderr.contains("hint: "), "{}", ran.stderr);
    }
    let mount = Mount::new(&vault, &[]);
    let ran = vault.run(["mount", "neither", "/mnt"]).expect(2);
    assert!(ran.stderr.contains("neither"), "{}", ran.stderr);
    let again = vault.run(["mount", mount.folder.to_str().unwrap()]).expect(1);
    assert!(again.stderr.contains("something is mounted there"), "{}", again.stderr);
}
