//! Streams that a backup stores as one file: standard input, and what a program prints.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::backup::{BackupError, StreamSource};
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::interrupt::Interruption;
use crate::source::CommandSource;

/// After so long without a byte it is looked whether somebody asked to stop.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Standard input.
pub struct StandardInput {
    name: String,
    /// Not the buffered one: bytes that wait in a buffer would not be seen by who waits for the pipe.
    stdin: File,
    interruption: Interruption,
}

impl StandardInput {
    /// Standard input as a file of this name.
    pub fn new(name: &OsStr, interruption: Interruption) -> Result<Self, Failure> {
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        let stdin = stdin.or_fail(|| "standard input could not be opened".to_owned())?;
        Ok(Self { name: file_name(name)?, stdin: File::from(stdin), interruption })
    }
}

impl Read for StandardInput {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if wait_for_bytes(self.stdin.as_fd(), &self.interruption)? { self.stdin.read(into) } else { Ok(0) }
    }
}

impl StreamSource for StandardInput {
    fn name(&self) -> &str {
        &self.name
    }

    fn reader(&mut self) -> &mut dyn Read {
        self
    }

    fn finish(&mut self) -> Result<(), BackupError> {
        // Ctrl-C also ends whoever writes into the pipe: its end is then not the end of the data.
        if self.interruption.is_asked() { Err(BackupError::Interrupted) } else { Ok(()) }
    }
}

/// A program that runs, and what it prints.
pub struct Program {
    name: String,
    program: String,
    source: Option<CommandSource>,
    interruption: Interruption,
}

impl Program {
    /// Starts the program of a command line, whose output becomes a file of this name.
    pub fn start(name: &OsStr, words: &[OsString], interruption: Interruption) -> Result<Self, Failure> {
        let name = file_name(name)?;
        let Some((program, args)) = words.split_first() else {
            let failure = Failure::usage("there is no program to run");
            return Err(failure.hint("write it behind --, as in --command shop.sql -- pg_dump shop"));
        };
        let shown = program.to_string_lossy().into_owned();
        let source =
            CommandSource::spawn(program, args).or_fail(|| format!("{shown} could not be started"))?;
        Ok(Self { name, program: shown, source: Some(source), interruption })
    }
}

impl Read for Program {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(source) = &mut self.source else { return Ok(0) };
        let Some(output) = source.output() else { return Ok(0) };
        if wait_for_bytes(output, &self.interruption)? { source.read(into) } else { Ok(0) }
    }
}

impl StreamSource for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn reader(&mut self) -> &mut dyn Read {
        self
    }

    fn finish(&mut self) -> Result<(), BackupError> {
        let Some(source) = self.source.take() else { return Ok(()) };
        let status =
            source.finish().map_err(|source| BackupError::Stream { name: self.name.clone(), source })?;
        // Ctrl-C reaches the program too: that it failed is then not what there is to tell.
        if self.interruption.is_asked() {
            return Err(BackupError::Interrupted);
        }
        if status.success() {
            return Ok(());
        }
        Err(BackupError::Command { program: self.program.clone(), status })
    }
}

/// Waits until there is something to read, or the end of it; `false` once somebody asks to stop.
///
/// A read alone would wait for ever: whoever writes into the pipe may have nothing to say, and the system call goes on
/// after the signal.
fn wait_for_bytes(from: BorrowedFd<'_>, interruption: &Interruption) -> io::Result<bool> {
    while !interruption.is_asked() {
        match poll(&mut [PollFd::from_borrowed_fd(from, PollFlags::IN)], Some(&PATIENCE)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn file_name(name: &OsStr) -> Result<String, Failure> {
    let shown = || format!("{} cannot be the name of a file in a snapshot", name.to_string_lossy());
    name.to_str().map(str::to_owned).ok_or_else(|| Failure::new(Exit::Usage, shown()))
}
