//! `repo key`: the ways to unlock the repository.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use serde_json::json;

use crate::cli::cmd::init::measured_kdf;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::key_file;
use crate::cli::render::{Align, Table};
use crate::cli::secrets::{Credential, SecretOptions};
use crate::crypto::KdfParams;
use crate::format::slot::SlotKind;
use crate::id::SlotId;
use crate::repo::{Repo, RepoError, SlotSummary, UnlockSecret};

mod sheet;

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

    /// What to call it in the list.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
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

/// Does what was asked for.
pub fn run(args: &KeyArgs, context: &Context) -> Result<Exit, Failure> {
    match &args.command {
        KeyCommand::List => list(context),
        KeyCommand::Add(args) => add(args, context),
        KeyCommand::Remove(args) => remove(args, context),
        KeyCommand::ChangePassphrase(args) => change_passphrase(args, context),
        KeyCommand::RecoverySheet => sheet::print(context),
    }?;
    Ok(Exit::Done)
}

fn list(context: &Context) -> Result<(), Failure> {
    let slots = context.open_repository()?.slots()?;
    let listed = slots.iter().map(|slot| {
        json!({
            "id": slot.id.to_string(),
            "kind": kind_words(&slot.kind).replace(' ', "_"),
            "created": slot.created_at.rfc3339(),
            "label": slot.label,
        })
    });
    let report = json!({ "slots": listed.collect::<Vec<_>>() });
    context.show(&report, |out| {
        let columns =
            [("ID", Align::Left), ("Kind", Align::Left), ("Made", Align::Left), ("Label", Align::Left)];
        let mut table = Table::new(&columns);
        for slot in &slots {
            let kind = kind_words(&slot.kind).to_owned();
            table.row([slot.id.short(), kind, slot.created_at.to_string(), slot.label.clone()]);
        }
        table.lines().iter().try_for_each(|line| out.line(line))
    })
}

fn kind_words(kind: &SlotKind) -> &'static str {
    match kind {
        SlotKind::Passphrase { .. } => "passphrase",
        SlotKind::KeyFile => "key file",
    }
}

fn add(args: &NewSecretArgs, context: &Context) -> Result<(), Failure> {
    let repo = context.open_repository()?;
    let id = add_secret(args, context, &repo)?;
    show_slot(context, id, "added")
}

/// Adds a slot for the new secret. A key file that was made for it goes away again if that fails.
fn add_secret(args: &NewSecretArgs, context: &Context, repo: &Repo) -> Result<SlotId, Failure> {
    let (secret, made) = match context.new_credential(args.secrets(), &context.place()?)? {
        Credential::KeyFile(path) if !path.exists() => {
            (UnlockSecret::KeyFile(key_file::create(&path)?), Some(path))
        }
        credential => (context.unlock_secret(credential)?, None),
    };
    let (kdf, label) = match &secret {
        UnlockSecret::Passphrase(_) => (measured_kdf(context), "passphrase"),
        UnlockSecret::KeyFile(_) => (KdfParams::default(), "key file"),
    };
    let label = args.label.as_deref().unwrap_or(label);
    repo.add_slot(&secret, kdf, label).map_err(|error| {
        if let Some(path) = made {
            let _ = std::fs::remove_file(path);
        }
        error.into()
    })
}

fn remove(args: &RemoveArgs, context: &Context) -> Result<(), Failure> {
    let repo = context.open_repository()?;
    let prefix = args.id.to_ascii_lowercase();
    let fits = |slot: &SlotSummary| !prefix.is_empty() && slot.id.to_string().starts_with(&prefix);
    let found: Vec<_> = repo.slots()?.into_iter().filter(fits).map(|slot| slot.id).collect();
    match found.as_slice() {
        [] => Err(RepoError::NoSlot { selector: args.id.clone() }.into()),
        [id] => {
            repo.remove_slot(*id)?;
            show_slot(context, *id, "removed")
        }
        several => {
            let ids = several.iter().map(SlotId::to_string).collect::<Vec<_>>().join(", ");
            Err(Failure::new(Exit::Failed, format!("{:?} names {} slots: {ids}", args.id, several.len())))
        }
    }
}

fn change_passphrase(args: &NewSecretArgs, context: &Context) -> Result<(), Failure> {
    let (repo, secret) = context.open_repository_and_secret()?;
    if matches!(secret, UnlockSecret::KeyFile(_)) {
        return Err(Failure::usage(
            "a key file unlocked the repository, so there is no passphrase to replace",
        )
        .hint("unlock with the old passphrase, or use `repo key add` and `repo key remove`"));
    }
    let old = repo.slot_of(&secret)?;
    // First the new one: whatever happens between, the repository can be unlocked.
    let new = add_secret(args, context, &repo)?;
    if let Some(old) = old {
        repo.remove_slot(old)?;
    }
    show_slot(context, new, "changed")
}

fn show_slot(context: &Context, id: SlotId, done: &str) -> Result<(), Failure> {
    context.show(&json!({ "id": id.to_string() }), |out| out.line(&format!("{done} slot {id}")))
}
