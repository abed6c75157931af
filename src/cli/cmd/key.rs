//! `repo key`: the ways to unlock the repository.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::secrets::SecretOptions;

/// List, add and remove the ways to unlock the repository.
///
/// Each passphrase or key file has a slot of its own. Whoever knows one can open everything.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo key list
  repo key add --new-key-file ~/backup.key
  repo key recovery-sheet > sheet.txt")]
pub struct KeyArgs {
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with the keys.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// List the slots: one line for each passphrase or key file.
    #[command(after_help = "Example:\n  repo key list --json")]
    List,

    /// Add a passphrase or a key file.
    ///
    /// Asks twice for the new passphrase, or takes it from where the options say. A key file that does not exist is
    /// made, readable by you only.
    #[command(after_help = "\
Examples:
  repo key add
  repo key add --new-key-file ~/backup.key")]
    Add(NewSecretArgs),

    /// Remove a passphrase or key file. The last one cannot be removed.
    #[command(after_help = "Example:\n  repo key remove 5f2c0a41")]
    Remove(RemoveArgs),

    /// Replace the passphrase that unlocked the repository by a new one.
    #[command(after_help = "Example:\n  repo key change-passphrase --new-password-file new.txt")]
    ChangePassphrase(NewSecretArgs),

    /// Print a new key on a sheet to keep on paper.
    ///
    /// The sheet opens the repository by itself, also when every passphrase is forgotten. It says how to use it.
    #[command(after_help = "Example:\n  repo key recovery-sheet | lp")]
    RecoverySheet,
}

/// Which slot to remove.
#[derive(Debug, Clone, Args)]
pub struct RemoveArgs {
    /// The beginning of the slot's id, as `repo key list` shows it.
    #[arg(value_name = "ID")]
    pub id: String,
}

/// Where a new secret comes from.
#[derive(Debug, Clone, Args)]
pub struct NewSecretArgs {
    /// The first line of FILE is the new passphrase. [env: KLUIS_NEW_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["new_password_command", "new_key_file"])]
    pub new_password_file: Option<PathBuf>,

    /// The first line that CMD prints is the new passphrase. [env: KLUIS_NEW_PASSWORD_COMMAND]
    #[arg(long, value_name = "CMD", value_hint = ValueHint::CommandString, conflicts_with = "new_key_file")]
    pub new_password_command: Option<OsString>,

    /// Use this key file, which is made if it does not exist. [env: KLUIS_NEW_KEY_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub new_key_file: Option<PathBuf>,
}

impl NewSecretArgs {
    /// The options that name the new secret.
    pub fn secrets(&self) -> SecretOptions<'_> {
        SecretOptions {
            password_file: self.new_password_file.as_deref(),
            password_command: self.new_password_command.as_deref(),
            key_file: self.new_key_file.as_deref(),
        }
    }
}

/// Not connected yet.
pub fn run(_args: &KeyArgs, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("key is not a part of this version yet"))
}
