//! `repo manpages`: writes the manual, for packages.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::cli::context::Context;
use crate::cli::definition;
use crate::cli::exit::{Exit, Failure, OrFail};

/// Write the manual pages of all commands into a folder.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  repo manpages /usr/local/share/man/man1 && man repo-backup")]
pub struct ManpagesArgs {
    /// The folder; it is made if it does not exist.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,
}

/// Writes one page for the program and one for each command.
pub fn run(args: &ManpagesArgs, context: &Context) -> Result<Exit, Failure> {
    let failed = || format!("the manual could not be written into {}", args.folder.display());
    std::fs::create_dir_all(&args.folder).or_fail(failed)?;
    clap_mangen::generate_to(definition(), &args.folder).or_fail(failed)?;
    context.note(&format!("the manual is in {}", args.folder.display()));
    Ok(Exit::Done)
}
