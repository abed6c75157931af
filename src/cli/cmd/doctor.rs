//! `repo doctor`: tries everything that the program relies on.

mod local;

use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use crate::check::doctor::{self, Outcome, Probe};
use crate::check::newest_settings;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Output, safe_text};
use crate::repo::Repo;

/// Try out whether storage, clocks, rights and cache are right.
///
/// Says one line for each thing that was looked at: good, note, or bad. Small files are stored in the repository and
/// removed again; nothing else is changed. Without a passphrase or key in options or variables nobody is asked for one,
/// and it says what could not be looked at. Whether the data is whole is for `repo check` and `repo scrub`. If anything
/// is bad the exit code is 1.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo doctor
  repo doctor --key-file /etc/kluis/key --json")]
pub struct DoctorArgs {}

/// All probes.
#[derive(Debug, Serialize)]
struct Examination {
    probes: Vec<Probe>,
}

/// Looks at everything, and tells what came of it.
pub fn run(_: &DoctorArgs, context: &Context) -> Result<Exit, Failure> {
    let examination = Examination { probes: examine(context)? };
    context.show(&examination, |out| show(&examination, out))?;
    let is_bad = examination.probes.iter().any(|probe| probe.outcome == Outcome::Bad);
    Ok(if is_bad { Exit::Failed } else { Exit::Done })
}

fn examine(context: &Context) -> Result<Vec<Probe>, Failure> {
    let place = context.place()?;
    let storage = context.open_storage()?;
    let config = newest_settings(&*storage)?;
    let cache = context.cache_folder()?;
    let mut probes = vec![local::program(), local::open_files()];
    if let Some(folder) = place.folder() {
        probes.push(local::file_system(folder));
        probes.extend(local::folder_rights(folder));
        probes.extend(local::links(folder));
    }
    probes.extend(doctor::promises(&*storage, context.now())?);
    match &config {
        Some(config) => probes.extend(doctor::settings(&*storage, config)),
        None => {
            let message = "no settings of the repository can be read";
            probes.push(Probe::bad("settings", message).hint("`repo scrub` says what is wrong with them"));
        }
    }
    let repository = config.as_ref().and_then(|config| config.repository.parse().ok());
    probes.extend(local::cache(&cache, place.folder(), repository));
    probes.extend(context.secret_file().map(|path| local::secret_rights(&path)));
    match open(context) {
        Opened::Repo(repo) => {
            probes.push(Probe::good("key", "the passphrase or key opens the repository"));
            probes.extend(doctor::with_key(&repo, context.now())?);
        }
        Opened::Not(probe) => {
            probes.push(probe);
            probes.extend(doctor::without_key(&*storage, context.now())?);
        }
    }
    Ok(probes)
}

enum Opened {
    Repo(Arc<Repo>),
    /// Why not.
    Not(Probe),
}

fn open(context: &Context) -> Opened {
    if context.would_ask() {
        let message = "no passphrase or key was named, so snapshots, writers, and how much was never read were not looked at";
        let hint = "name one, for instance with --password-file";
        return Opened::Not(Probe::note("key", message).hint(hint));
    }
    match context.open_repository_itself() {
        Ok(repo) => Opened::Repo(repo),
        Err(failure) => {
            let message = format!("the repository could not be opened: {}", failure.in_one_line());
            Opened::Not(Probe::bad("key", message))
        }
    }
}

fn show(examination: &Examination, out: &mut Output) -> Result<(), Failure> {
    for Probe { id, outcome, message, hint } in &examination.probes {
        let word = match outcome {
            Outcome::Good => "good",
            Outcome::Note => "note",
            Outcome::Bad => "bad ",
        };
        out.line(&safe_text(&format!("{word}  {}: {message}", id.replace('_', " "))))?;
        if let (Outcome::Note | Outcome::Bad, Some(hint)) = (outcome, hint) {
            out.line(&safe_text(&format!("      {hint}")))?;
        }
    }
    Ok(())
}
