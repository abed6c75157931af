//! Streams that stay silent, and being asked to stop meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::vault::Vault;

/// Asks `child` to stop, and waits for it. Were it never to end, it is killed after a while, so that the test fails.
fn stopped(mut child: Child, signal: Signal) -> Option<i32> {
    let id = Pid::from_child(&child);
    kill_process(id, signal).unwrap();
    let (ended, waiting) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if waiting.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill_process(id, Signal::KILL);
        }
    });
    let status = child.wait().unwrap();
    drop(ended);
    guard.join().unwrap();
    status.code()
}

/// Starts a backup that reads a stream, and waits until it does.
fn reading(vault: &Vault, args: &[&str]) -> Child {
    let mut command = vault.home.command(["--progress", "json"].iter().chain(args));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.as_mut().unwrap());
    assert!(stderr.lines().any(|line| line.unwrap().contains("reading the stream")));
    child
}

fn assert_nothing_left(vault: &Vault) {
    for folder in ["snapshot", "lease", "tmp"] {
        assert_eq!(vault.names(folder), [""; 0], "{folder}");
    }
}

#[test]
fn a_pipe_that_says_nothing_is_left_when_somebody_asks_to_stop() {
    let vault = Vault::new();
    for said in [&b""[..], b"a few bytes, and nothing more"] {
        let mut child = reading(&vault, &["backup", "--stdin"]);
        // Held open: the program cannot learn of an end.
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(said).unwrap();
        assert_eq!(stopped(child, Signal::INT), Some(130));
        drop(pipe);
        assert_nothing_left(&vault);
    }
}

#[test]
fn a_program_that_says_nothing_ends_with_the_backup() {
    let vault = Vault::new();
    let file = vault.home.path("pid");
    let script = format!("echo $$ > {}.new; mv {0}.new {0}; exec sleep 1000", file.display());
    let child = reading(&vault, &["backup", "--command", "x", "--", "sh", "-c", &script]);
    assert_eq!(stopped(child, Signal::TERM), Some(130));
    assert_nothing_left(&vault);
    // The script may have been stopped before it said who it is; if it did, it is gone.
    if let Ok(id) = std::fs::read_to_string(&file) {
        assert!(!std::path::Path::new("/proc").join(id.trim()).exists());
    }
}

#[test]
fn what_comes_slowly_is_stored_whole() {
    let vault = Vault::new();
    let mut child = reading(&vault, &["backup", "--stdin", "--stdin-filename", "slow"]);
    let mut pipe = child.stdin.take().unwrap();
    let mut expected = Vec::new();
    for number in 0..2000u32 {
        let piece = number.to_string().repeat(number as usize % 50);
        expected.extend_from_slice(piece.as_bytes());
        pipe.write_all(piece.as_bytes()).unwrap();
    }
    drop(pipe);
    assert!(child.wait().unwrap().success());
    let output = vault.home.command(["dump", "latest", "/slow"]).output().unwrap();
    assert!(output.stdout == expected);
}
