//! The command line: one file per command in `cmd`, and around them what they share.
//!
//! - `args`: options of every command, and kinds of values
//! - `place`, `bucket`, `secrets`: where the repository is, how it is reached, and what opens it
//! - `context`: all of that for a running command
//! - `progress`, `render`, `exit`: what a person or a script sees while it runs, as its result, and when it fails
//! - `interrupt`, `harden`: signals, and what the process does to itself at the start
//!
//! Results go to standard output, everything else to standard error. Only this module prints.

pub mod args;
pub mod attempt;
mod bucket;
pub mod cmd;
pub mod context;
pub mod exit;
mod failures;
pub mod harden;
pub mod interrupt;
pub mod key_file;
pub mod place;
pub mod progress;
pub mod render;
pub mod repository;
mod requests;
pub mod secrets;
pub mod selection;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::args::Globals;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};

/// Keeps backups: deduplicated, compressed, encrypted, and provably restorable.
#[derive(Debug, Parser)]
#[command(name = "repo", version, max_term_width = 80, arg_required_else_help = true)]
#[command(disable_help_subcommand = false, propagate_version = false, after_long_help = EXIT_CODES)]
#[command(after_help = "\
Begin with a backup; this also makes the repository:
  repo backup --init ~/Documents

`repo help COMMAND` explains a command with examples.")]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    globals: Globals,
}

const EXIT_CODES: &str = "\
Begin with a backup; this also makes the repository:
  repo backup --init ~/Documents

`repo help COMMAND` explains a command with examples.

Exit codes:
  0    done
  1    failed; nothing half-done is visible
  2    wrong usage
  3    incomplete: a snapshot exists, but some of the source could not be read
  4    damage found
  10   there is no repository at this place
  11   cannot go on now: another host must act first
  12   wrong passphrase or key
  130  interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    Init(cmd::init::InitArgs),
    Backup(Box<cmd::backup::BackupArgs>),
    Snapshots(cmd::snapshots::SnapshotsArgs),
    Ls(cmd::ls::LsArgs),
    Find(Box<cmd::find::FindArgs>),
    Diff(cmd::diff::DiffArgs),
    Restore(cmd::restore::RestoreArgs),
    Dump(cmd::dump::DumpArgs),
    Mount(cmd::mount::MountArgs),
    Forget(Box<cmd::forget::ForgetArgs>),
    UndoForget(cmd::undo_forget::UndoForgetArgs),
    Prune(cmd::prune::PruneArgs),
    Stats(cmd::stats::StatsArgs),
    Copy(Box<cmd::copy::CopyArgs>),
    Check(cmd::check::CheckArgs),
    Repair(cmd::repair::RepairArgs),
    Scrub(cmd::scrub::ScrubArgs),
    Doctor(cmd::doctor::DoctorArgs),
    Key(cmd::key::KeyArgs),
    Completions(cmd::completions::CompletionsArgs),
    Manpages(cmd::manpages::ManpagesArgs),
}

impl Command {
    fn run(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Init(args) => cmd::init::run(args, context),
            Self::Backup(args) => cmd::backup::run(args, context),
            Self::Snapshots(args) => cmd::snapshots::run(args, context),
            Self::Ls(args) => cmd::ls::run(args, context),
            Self::Find(args) => cmd::find::run(args, context),
            Self::Diff(args) => cmd::diff::run(args, context),
            Self::Restore(args) => cmd::restore::run(args, context),
            Self::Dump(args) => cmd::dump::run(args, context),
            Self::Mount(args) => cmd::mount::run(args, context),
            Self::Forget(args) => cmd::forget::run(args, context),
            Self::UndoForget(args) => cmd::undo_forget::run(args, context),
            Self::Prune(args) => cmd::prune::run(args, context),
            Self::Stats(args) => cmd::stats::run(args, context),
            Self::Copy(args) => cmd::copy::run(args, context),
            Self::Check(args) => cmd::check::run(args, context),
            Self::Repair(args) => cmd::repair::run(args, context),
            Self::Scrub(args) => cmd::scrub::run(args, context),
            Self::Doctor(args) => cmd::doctor::run(args, context),
            Self::Key(args) => cmd::key::run(args, context),
            Self::Completions(args) => cmd::completions::run(args, context),
            Self::Manpages(args) => cmd::manpages::run(args, context),
        }
    }
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Backup(_) => "backup",
            Self::Snapshots(_) => "snapshots",
            Self::Copy(_) => "copy",
            Self::Ls(_) => "ls",
            Self::Find(_) => "find",
            Self::Diff(_) => "diff",
            Self::Restore(_) => "restore",
            Self::Dump(_) => "dump",
            Self::Mount(_) => "mount",
            Self::Forget(_) => "forget",
            Self::UndoForget(_) => "undo-forget",
            Self::Prune(_) => "prune",
            Self::Stats(_) => "stats",
            Self::Check(_) => "check",
            Self::Repair(_) => "repair",
            Self::Scrub(_) => "scrub",
            Self::Doctor(_) => "doctor",
            Self::Key(_) => "key",
            Self::Completions(_) => "completions",
            Self::Manpages(_) => "manpages",
        }
    }
}

/// The definition of all commands, from which completions and manual pages are made.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Runs the program: reads the command line, does the work, tells a failure. Returns the exit code.
pub fn main() -> ExitCode {
    exit::catch_bugs();
    harden::start();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap sends them to standard output.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    cli.globals.set_color();
    let context = Context::new(cli.globals);
    let result = cli.command.run(&context);
    context.note_requests(cli.command.name());
    exit::end(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        definition().debug_assert();
    }
}
