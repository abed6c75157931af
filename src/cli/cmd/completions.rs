//! `repo completions`: lets a shell complete commands and options.

use clap::Args;
use clap_complete::Shell;

use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{definition, render::Output};

/// Print what a shell needs to complete commands and options.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo completions bash > ~/.local/share/bash-completion/completions/repo
  repo completions zsh > ~/.zfunc/_repo
  repo completions fish > ~/.config/fish/completions/repo.fish")]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &CompletionsArgs, _context: &Context) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "repo", &mut script);
    let mut output = Output::new();
    output.bytes(&script)?;
    output.finish()?;
    Ok(Exit::Done)
}
