//! Streams that a backup stores as one file: standard input, and what a program prints.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};

use crate::backup::{BackupError, StreamSource};
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::interrupt::Interruption;
use crate::source::CommandSource;

/// Standard input.
pub struct StandardInput {
    name: String,
    stdin: io::StdinLock<'static>,
    interruption: Interruption,
}

impl StandardInput {
    /// Standard input as a file of this name.
    pub fn new(name: &OsStr, interruption: Interruption) -> Result<Self, Failure> {
        Ok(Self { name: file_name(name)?, stdin: io::stdin().lock(), interruption })
    }
}

impl StreamSource for StandardInput {
    fn name(&self) -> &str {
        &self.name
    }

    fn reader(&mut self) -> &mut dyn Read {
        &mut self.stdin
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
    ended: io::Empty,
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
        Ok(Self { name, program: shown, source: Some(source), ended: io::empty(), interruption })
    }
}

impl StreamSource for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn reader(&mut self) -> &mut dyn Read {
        match &mut self.source {
            Some(source) => source,
            None => &mut self.ended,
        }
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

fn file_name(name: &OsStr) -> Result<String, Failure> {
    let shown = || format!("{} cannot be the name of a file in a snapshot", name.to_string_lossy());
    name.to_str().map(str::to_owned).ok_or_else(|| Failure::new(Exit::Usage, shown()))
}
