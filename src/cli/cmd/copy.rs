//! `repo copy`: the second place.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};
use serde_json::json;

use crate::cli::args::{Narrow, SnapshotName};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Output, safe_name, short_id};
use crate::cli::secrets::{SecretOptions, Variables};
use crate::cli::selection::find_snapshot;
use crate::copy::compare::{self, Comparison};
use crate::copy::{self, CopyError, CopyOptions, CopyReport};
use crate::format::snapshot::Snapshot;
use crate::repo::Repo;
use crate::units::{ByteCount, counted_text};

/// Differences that a person is shown.
const SHOWN_DIFFERENCE_COUNT: usize = 50;

/// Copy snapshots into another repository.
///
/// Without names, all snapshots that the other repository does not have yet. Each is copied as a whole or not at all, and
/// what is there already is not copied again; so this can be stopped at any time, and run every night after the backup.
/// Both repositories may be in use meanwhile.
///
/// A repository that was made by `repo init --like` takes over what is stored as it is, quickly and as small. In any
/// other, everything is stored anew. The other repository is opened by the same passphrase or key file, unless the options
/// --to-... or the variables KLUIS_TO_PASSWORD_FILE and so on name another.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo init --repo /mnt/usb/backup --like /srv/backup
  repo copy --repo /srv/backup --to /mnt/usb/backup
  repo copy --to /mnt/usb/backup --host web1 --check
  repo copy --to /mnt/usb/backup latest -n")]
pub struct CopyArgs {
    /// The repository to copy into.
    #[arg(long, value_name = "PLACE", value_hint = ValueHint::DirPath)]
    pub to: OsString,

    /// Only these snapshots.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotName>,

    /// Then read all of these snapshots in both repositories, and compare every name and every byte.
    #[arg(long, conflicts_with = "dry_run")]
    pub check: bool,

    /// Say what would be copied, and store nothing.
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub narrow: Narrow,

    #[command(flatten)]
    pub secrets: ToSecretArgs,
}

/// What opens the other repository.
#[derive(Debug, Clone, Args)]
pub struct ToSecretArgs {
    /// The first line of FILE is its passphrase. [env: KLUIS_TO_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["to_password_command", "to_key_file"])]
    pub to_password_file: Option<PathBuf>,

    /// The first line that CMD prints is its passphrase. [env: KLUIS_TO_PASSWORD_COMMAND]
    #[arg(long, value_name = "CMD", value_hint = ValueHint::CommandString, conflicts_with = "to_key_file")]
    pub to_password_command: Option<OsString>,

    /// This key file opens it. [env: KLUIS_TO_KEY_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub to_key_file: Option<PathBuf>,
}

impl ToSecretArgs {
    fn secrets(&self) -> SecretOptions<'_> {
        SecretOptions {
            password_file: self.to_password_file.as_deref(),
            password_command: self.to_password_command.as_deref(),
            key_file: self.to_key_file.as_deref(),
        }
    }
}

/// Copies, and compares if that is asked for.
pub fn run(args: &CopyArgs, context: &Context) -> Result<Exit, Failure> {
    let source = context.open_repository()?;
    let target = context.open_other(&args.to, args.secrets.secrets(), Variables::To)?;
    let chosen = chosen(args, &source)?;
    let watch = context.watch("packs")?;
    let options = CopyOptions { dry_run: args.dry_run };
    let copied = copy::run(&source, &target, &chosen, options, &watch);
    drop(watch);
    let report = copied.map_err(|error| failed(error, &source, &target))?;
    let comparison = if args.check { Some(compared(&source, &target, &chosen, context)?) } else { None };
    let mut shown = json!(report);
    if let (Some(fields), Some(comparison)) = (shown.as_object_mut(), &comparison) {
        fields.insert("comparison".to_owned(), json!(comparison));
    }
    context.show(&shown, |out| show(args, &report, comparison.as_ref(), out))?;
    for failed in &report.failed {
        context.warn(&format!("snapshot {} was not copied: {}", failed.id, failed.reason));
    }
    let differs = comparison.is_some_and(|comparison| comparison.difference_count > 0);
    Ok(if report.failed.is_empty() && !differs { Exit::Done } else { Exit::Damage })
}

/// The snapshots that are meant, each once.
fn chosen(args: &CopyArgs, source: &Repo) -> Result<Vec<Snapshot>, Failure> {
    if args.snapshots.is_empty() {
        return Ok(args.narrow.narrowed(source.snapshots()?).snapshots);
    }
    let mut chosen: Vec<Snapshot> = Vec::new();
    for name in &args.snapshots {
        let snapshot = find_snapshot(source, name, &args.narrow)?;
        if chosen.iter().all(|it| it.id != snapshot.id) {
            chosen.push(snapshot);
        }
    }
    Ok(chosen)
}

fn compared(
    source: &Arc<Repo>,
    target: &Arc<Repo>,
    chosen: &[Snapshot],
    context: &Context,
) -> Result<Comparison, Failure> {
    let watch = context.watch("files")?;
    let compared = compare::run(source, target, chosen, &watch);
    drop(watch);
    compared.map_err(|error| failed(error, source, target))
}

/// An error may be about either repository, so both are named.
fn failed(error: CopyError, source: &Repo, target: &Repo) -> Failure {
    match error {
        CopyError::Interrupted => Failure::interrupted(),
        CopyError::Same => Failure::usage(format!(
            "{} and {} are the same repository",
            source.place(),
            target.place()
        ))
        .hint(
            "`repo init --like` makes a second one; a folder that was copied by hand is the same one twice",
        ),
        CopyError::Repo(error) => Failure::from(error),
        error @ (CopyError::Source(_) | CopyError::Damaged { .. }) => Failure::of(Exit::Damage, &error)
            .hint("`repo check` finds out what is damaged and what it touches"),
    }
}

fn show(
    args: &CopyArgs,
    report: &CopyReport,
    comparison: Option<&Comparison>,
    out: &mut Output,
) -> Result<(), Failure> {
    for copied in &report.snapshots {
        let from = short_id(&copied.copy_of_id);
        let stored = ByteCount(copied.bytes_stored);
        match &copied.id {
            Some(id) => out.line(&format!("{from} copied as {id}, {stored} stored"))?,
            None => out.line(&format!("{from} would be copied, about {}", ByteCount(copied.bytes_new)))?,
        }
    }
    let verb = if args.dry_run { "would be copied" } else { "copied" };
    out.line(&format!(
        "{} {verb}, {} there already; {} new, {} stored, in {:.1} s",
        counted_text(report.snapshots.len() as u64, "snapshots"),
        report.already_there,
        ByteCount(report.bytes_new),
        ByteCount(report.bytes_stored),
        report.duration_seconds
    ))?;
    let Some(comparison) = comparison else { return Ok(()) };
    for difference in comparison.differences.iter().take(SHOWN_DIFFERENCE_COUNT) {
        let path = safe_name(difference.path.as_os_str().as_encoded_bytes());
        out.line(&format!("{}:{path}: {}", short_id(&difference.snapshot_id), difference.message))?;
    }
    let verdict = match comparison.difference_count {
        0 => "both hold the same".to_owned(),
        count => format!("{} found", counted_text(count, "differences")),
    };
    out.line(&format!(
        "{} compared, {} read on each side: {verdict}",
        counted_text(comparison.snapshots, "snapshots"),
        ByteCount(comparison.bytes_compared)
    ))
}
