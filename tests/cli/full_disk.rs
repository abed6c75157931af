//! Disks that are really full: small file systems in memory, in a mount namespace of their own.

use std::process::Command;

use crate::home::{Home, Ran};

/// Runs a script of the shell in which `$repo` is the program, and `disk` and `cache` are folders of the home. What
/// it mounts is gone when it ends. `None`, with a word on standard error, where this user may not mount anything.
fn with_mounts(home: &Home, script: &str) -> Option<Ran> {
    for folder in ["disk", "cache"] {
        std::fs::create_dir_all(home.path(folder)).unwrap();
    }
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        // Root needs no namespace of users, and in a container may not be allowed one.
        let is_root = rustix::process::geteuid().is_root();
        command.args(if is_root { ["--mount"].as_slice() } else { &["--mount", "--map-root-user"] });
        command.args(["sh", "-euc", script]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home.path(""));
        command.env("repo", env!("CARGO_BIN_EXE_repo")).current_dir(home.path(""));
        command.env("KLUIS_REPO", home.path("disk/repo")).env("KLUIS_KEY_FILE", home.path("key"));
        command.env("KLUIS_CACHE_DIR", home.path("cache"));
        command.output()
    };
    match unshare("mount -t tmpfs -o size=1m none disk") {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprintln!("skipped: nothing can be mounted: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Err(error) => {
            eprintln!("skipped: there is no unshare: {error}");
            return None;
        }
    }
    Some(Ran::from(unshare(script).unwrap()))
}

/// Some megabytes that do not compress.
fn write_noise(home: &Home, name: &str, mebibytes: usize) {
    let mut bytes = vec![0; mebibytes << 20];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    home.write(name, bytes);
}

#[test]
fn a_full_disk_costs_this_backup_and_no_more() {
    let home = Home::new();
    write_noise(&home, "files/first", 6);
    for number in 0..6 {
        write_noise(&home, &format!("more/{number}"), 4);
    }
    let script = "
        mount -t tmpfs -o size=20m none disk
        $repo init --quiet --pack-size 4M >/dev/null
        $repo backup --quiet files >/dev/null
        for attempt in 1 2; do
            code=0
            $repo backup --quiet files more >out 2>err || code=$?
            cat err
            echo exit $code
            echo snapshots $($repo snapshots --json | tr , '\\n' | grep -c '\"id\"')
            echo left $(find disk/repo/tmp disk/repo/lease -type f | wc -l)
            $repo check --quiet --data >/dev/null
            echo checked
        done
        mount -o remount,size=60m disk
        $repo backup --json files more 2>/dev/null >report
        grep -q '\"problems\":\\[\\]' report
        $repo check --quiet --data
        $repo restore latest --quiet --target back >/dev/null
        diff -r files back$PWD/files
        diff -r more back$PWD/more
        echo continued
    ";
    let Some(ran) = with_mounts(&home, script) else { return };
    let ran = ran.expect(0);
    let said: Vec<_> = ran.stdout.lines().filter(|line| !line.starts_with("repo: the storage")).collect();
    let attempt = [
        "  No space left on device (os error 28)",
        "hint: make room on the disk, then run this again: what was stored is found",
        "exit 1",
        "snapshots 1",
        "left 0",
        "checked",
    ];
    assert_eq!(said, [&attempt[..], &attempt, &["continued"]].concat(), "{}", ran.stderr);
    // What the attempts had stored is not stored again.
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.path("report")).unwrap()).unwrap();
    assert!(report["bytes_stored"].as_u64().unwrap() < 20 << 20, "{report}");
}

#[test]
fn on_a_disk_without_a_free_byte_old_snapshots_are_forgotten_and_their_space_comes_back() {
    let home = Home::new();
    for number in 0..4 {
        write_noise(&home, &format!("files/{number}"), 4);
    }
    let script = "
        mount -t tmpfs -o size=24m none disk
        $repo init --quiet --pack-size 4M --no-parity >/dev/null
        for number in 0 1 2 3; do
            $repo backup --quiet files/$number >/dev/null
        done
        cat /dev/zero >disk/other 2>/dev/null || true
        echo free $(df --output=avail disk | tail -n 1)
        $repo forget --quiet --keep-last 1 --group-by host >out
        $repo prune --quiet --yes >/dev/null
        rm disk/other
        $repo prune --quiet >/dev/null
        echo packs $(find disk/repo/data -type f | wc -l)
        echo reserve $(stat -c %s disk/repo/reserve)
        $repo check --quiet --data
        $repo restore latest --quiet --target back >/dev/null
        cmp files/3 back$PWD/files/3
    ";
    let Some(ran) = with_mounts(&home, script) else { return };
    let ran = ran.expect(0);
    assert_eq!(ran.stdout, "free 0\npacks 1\nreserve 262144\n", "{}", ran.stderr);
}

#[test]
fn a_full_cache_folder_is_named_and_harms_nothing() {
    let home = Home::new();
    write_noise(&home, "files/first", 1);
    let script = "
        mount -t tmpfs -o size=40k none cache
        $repo init --quiet >/dev/null
        for command in 'backup files' check stats; do
            code=0
            $repo --quiet $command >/dev/null 2>err || code=$?
            grep hint: err
            echo exit $code
        done
        echo left $(find disk/repo -type f | grep -c -e /snapshot/ -e /lease/ -e /tmp/ || true)
        mount -o remount,size=20m cache
        $repo backup --quiet files >/dev/null
        $repo check --quiet --data
    ";
    let Some(ran) = with_mounts(&home, script) else { return };
    let ran = ran.expect(0);
    let hint =
        "hint: the index is in the cache folder: see to its disk, or name another folder with --cache-dir";
    let attempt = format!("{hint}\nexit 1\n");
    assert_eq!(ran.stdout, format!("{}left 0\n", attempt.repeat(3)), "{}", ran.stderr);
}
