//! Programs whose output is backed up.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// So often it is looked, so long apart, whether a program that was told to end has ended.
const LOOK_COUNT: u32 = 100;
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// A running program. Reading it reads what it prints; what it says on stderr goes where ours goes.
///
/// Whether its output is complete is known only from [`CommandSource::finish`]. Dropped before that, the program is
/// told to end, and killed if it has not within two seconds.
#[must_use = "a program that is not finished is killed"]
#[derive(Debug)]
pub struct CommandSource {
    child: Child,
    /// `None` once the program is being waited for.
    stdout: Option<ChildStdout>,
    is_finished: bool,
}

impl CommandSource {
    /// Starts `program`, looked up in `PATH`, with `args` and nothing to read on its stdin. Its environment is ours,
    /// but for the variables that may hold a passphrase of ours.
    pub fn spawn<P, I, A>(program: P, args: I) -> io::Result<CommandSource>
    where
        P: AsRef<OsStr>,
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = Command::new(program);
        let is_secret = |name: &OsString| {
            let name = name.as_encoded_bytes();
            name.starts_with(b"KLUIS_") && name.windows(8).any(|part| part == b"PASSWORD")
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_secret(name)) {
            command.env_remove(name);
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        Ok(CommandSource { child, stdout, is_finished: false })
    }

    /// What it prints arrives here, so that somebody can wait for it.
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        self.stdout.as_ref().map(AsFd::as_fd)
    }

    /// Waits for the end of the program. What it still prints is not read, and it is told so by a closed pipe.
    pub fn finish(mut self) -> io::Result<ExitStatus> {
        self.stdout = None;
        let status = self.child.wait()?;
        self.is_finished = true;
        Ok(status)
    }
}

impl Read for CommandSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stdout.as_mut().map_or(Ok(0), |stdout| stdout.read(buffer))
    }
}

impl Drop for CommandSource {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        self.stdout = None;
        // It may have ended by itself meanwhile; either way it must not stay behind as a zombie.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        for _ in 0..LOOK_COUNT {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(LOOK_PERIOD);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_exit_status_of_a_program_are_told() {
        let mut source = CommandSource::spawn("sh", ["-c", "printf hello; exit 3"]).unwrap();
        let mut text = String::new();
        source.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(source.finish().unwrap().code(), Some(3));
    }

    #[test]
    fn a_program_that_does_not_exist_is_an_error() {
        let error = CommandSource::spawn("/nonexistent/program", [""; 0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_program_that_is_dropped_is_killed() {
        let mut source = CommandSource::spawn("sh", ["-c", "echo $$; exec sleep 1000"]).unwrap();
        let mut byte = [0];
        let mut line = String::new();
        while source.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(char::from(byte[0]));
        }
        drop(source);
        assert!(!std::path::Path::new("/proc").join(line).exists());
    }

    #[test]
    fn a_program_that_is_dropped_may_clean_up() {
        let folder = tempfile::tempdir().unwrap();
        let script = "trap 'rm file; exit' TERM; echo; while :; do read line <fifo; done";
        std::fs::write(folder.path().join("file"), "").unwrap();
        let script = format!("cd {} && mkfifo fifo && {script}", folder.path().display());
        let mut source = CommandSource::spawn("sh", ["-c", &script]).unwrap();
        source.read_exact(&mut [0]).unwrap();
        drop(source);
        assert!(!folder.path().join("file").exists());
    }

    #[test]
    fn a_program_that_prints_more_than_is_read_ends() {
        let source = CommandSource::spawn("sh", ["-c", "yes"]).unwrap();
        assert!(!source.finish().unwrap().success());
    }
}
