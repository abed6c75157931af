//! A mount in the background: the program starts itself again, and waits for word that it is mounted.
//!
//! The child asks for the passphrase where that is needed, opens and mounts, all with the terminal of its parent. Only
//! then does it leave: it writes a line to the pipe that is its standard output, begins a session of its own, and lets go
//! of the terminal.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitStatus, Stdio};

use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::cli::exit::{Exit, Failure, OrFail};

const MOUNTED: &str = "mounted\n";

/// Starts the child. Returns once it has mounted, or ends as it ended.
pub fn start() -> Result<Exit, Failure> {
    let failed = || "cannot go to the background".to_owned();
    let program = std::env::current_exe().or_fail(failed)?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).arg("--is-daemon").stdout(Stdio::piped());
    let mut child = command.spawn().or_fail(failed)?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).or_fail(failed)?;
    }
    if line == MOUNTED {
        return Ok(Exit::Done);
    }
    let status = child.wait().or_fail(failed)?;
    Err(told_already(status))
}

/// The child has said on standard error why it failed.
fn told_already(status: ExitStatus) -> Failure {
    let exits = [Exit::Usage, Exit::NoRepository, Exit::Postponed, Exit::WrongKey, Exit::Interrupted];
    let exit = exits.into_iter().find(|exit| status.code() == Some(*exit as i32));
    Failure::new(exit.unwrap_or(Exit::Failed), "nothing was mounted")
}

/// Tells the parent that all is well, and leaves the terminal.
pub fn detach() -> Result<(), Failure> {
    let failed = || "cannot go to the background".to_owned();
    // A child is never the leader of a group, unless somebody made it one; then it has left already.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/").or_fail(failed)?;
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null").or_fail(failed)?;
    dup2_stdin(&nothing).or_fail(failed)?;
    let mut output = std::io::stdout();
    output.write_all(MOUNTED.as_bytes()).and_then(|()| output.flush()).or_fail(failed)?;
    dup2_stdout(&nothing).or_fail(failed)?;
    // Whoever reads a pipe would wait for its end.
    if !stderr_is_file() {
        dup2_stderr(&nothing).or_fail(failed)?;
    }
    Ok(())
}

fn stderr_is_file() -> bool {
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|it| it.is_file())
}
