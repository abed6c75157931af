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

use clap::builder::StyledStr;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

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

/// What people want, and the commands for it, in the order of the help.
const PURPOSES: &[(&str, &[&str])] = &[
    ("Make a backup", &["init", "backup"]),
    ("Look inside", &["snapshots", "ls", "find", "diff", "mount"]),
    ("Get it back", &["restore", "dump"]),
    ("Keep it small", &["forget", "undo-forget", "prune", "stats"]),
    ("Keep it safe", &["check", "scrub", "repair", "copy", "doctor"]),
    ("Keys", &["key"]),
    ("For packagers", &["completions", "manpages"]),
];

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
    let definition = Cli::command();
    let template = help_template(&definition);
    definition.help_template(template)
}

/// The help of the program itself: its commands by what people want.
fn help_template(definition: &clap::Command) -> StyledStr {
    let styles = definition.get_styles();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (purpose, names) in PURPOSES {
        text.push_str(&format!("\n{header}{purpose}:{header:#}\n"));
        for name in *names {
            let command = definition.find_subcommand(name);
            let about = command.and_then(clap::Command::get_about).map(StyledStr::to_string);
            text.push_str(&format!("  {literal}{name:<11}{literal:#}  {}\n", about.unwrap_or_default()));
        }
    }
    text.push_str(&format!("\n{header}Options of every command:{header:#}\n{{options}}{{after-help}}"));
    StyledStr::from(text)
}

/// Runs the program: reads the command line, does the work, tells a failure. Returns the exit code.
pub fn main() -> ExitCode {
    exit::catch_bugs();
    harden::start();
    let mut definition = definition();
    let matches = definition.try_get_matches_from_mut(std::env::args_os());
    let cli = matches
        .and_then(|matches| Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut definition)));
    let cli = match cli {
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

    #[test]
    fn every_command_serves_one_purpose_and_is_told_in_one_line() {
        let definition = definition();
        let mut named: Vec<&str> = PURPOSES.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut commands: Vec<&str> = definition.get_subcommands().map(clap::Command::get_name).collect();
        named.sort_unstable();
        commands.sort_unstable();
        assert_eq!(named, commands);
        for command in definition.get_subcommands() {
            let about = command.get_about().map(StyledStr::to_string).unwrap_or_default();
            assert!((1..=65).contains(&about.len()), "{}: {about}", command.get_name());
        }
    }
}
