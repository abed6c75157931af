//! `repo prune`: gives back the space of what no snapshot needs.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Output, safe_text};
use crate::prune::{self, PlannedFate, PlannedPack, PruneError, PruneOptions, PruneReport, UnusedLimit};
use crate::repo::Repo;
use crate::units::{ByteCount, count_text, counted_text, duration_text};

/// A plan of more packs is shown in part.
const PLANNED_COUNT_MAX: usize = 50;

/// Free the space of what no snapshot needs.
///
/// Deletes what only forgotten snapshots held, and rewrites packs of which too much is not needed. Backups of other
/// hosts go on meanwhile. One of them may have to tell first what it uses: then this ends with exit code 11, says who it
/// is, and the next prune goes on.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo prune
  repo prune -n
  repo prune --max-unused 0%
  repo prune --max-rewrite 10GiB")]
pub struct PruneArgs {
    /// Only say what would be deleted and rewritten.
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Leave so much that is not needed where it is: a share of all, a size, or `unlimited`.
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    pub max_unused: UnusedLimit,

    /// Copy at most SIZE out of packs of which only a part is needed.
    #[arg(long, value_name = "SIZE")]
    pub max_rewrite: Option<ByteCount>,

    /// Promise that nothing else uses the repository: writers that are registered are taken for dead.
    #[arg(long)]
    pub exclusive: bool,

    /// Do not ask when more than half of all that is stored would be deleted, or no snapshot is left.
    #[arg(long)]
    pub yes: bool,
}

/// Prunes, and tells what it did.
pub fn run(args: &PruneArgs, context: &Context) -> Result<Exit, Failure> {
    let options = PruneOptions {
        dry_run: args.dry_run,
        max_unused: args.max_unused,
        max_rewrite: args.max_rewrite.map(|size| size.0),
        exclusive: args.exclusive,
        confirmed: args.yes,
        ..PruneOptions::default()
    };
    let repo = context.open_repository()?;
    let report = prune(&repo, options, context)?;
    context.show(&report, |out| show(&report, args.dry_run, context, out))?;
    Ok(exit_of(&report))
}

/// Prunes; asks where a brake stops it.
pub fn prune(repo: &Arc<Repo>, mut options: PruneOptions, context: &Context) -> Result<PruneReport, Failure> {
    loop {
        let watch = context.watch("packs")?;
        let pruned = prune::run(repo, &options, &watch);
        drop(watch);
        match pruned {
            Err(PruneError::Brake(reason)) if !options.confirmed => {
                // Without a terminal nobody can be asked, and the reason says more than that.
                options.confirmed = context.confirm(&format!("{reason}; go on?"), false).unwrap_or(false);
                if !options.confirmed {
                    return Err(PruneError::Brake(reason).into());
                }
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// What the exit code says of a prune.
pub fn exit_of(report: &PruneReport) -> Exit {
    match (report.waiting.is_empty(), report.damaged_packs.is_empty()) {
        (false, _) => Exit::Postponed,
        (true, false) => Exit::Damage,
        (true, true) => Exit::Done,
    }
}

/// What would become of which pack, and why.
fn show_planned(report: &PruneReport, out: &mut Output) -> Result<(), Failure> {
    for PlannedPack { pack, fate, bytes, reason, .. } in report.planned.iter().take(PLANNED_COUNT_MAX) {
        let fate = match fate {
            PlannedFate::Delete => "delete",
            PlannedFate::Rewrite => "rewrite",
        };
        out.line(&format!("{fate} {pack} ({}): {reason}", ByteCount(*bytes)))?;
    }
    let more = report.planned.len().saturating_sub(PLANNED_COUNT_MAX);
    if more > 0 {
        out.line(&format!("and {} more, which --json lists", count_text(more as u64)))?;
    }
    Ok(())
}

/// Tells what a prune did, or would do.
pub fn show(
    report: &PruneReport,
    is_dry_run: bool,
    context: &Context,
    out: &mut Output,
) -> Result<(), Failure> {
    for pack in &report.damaged_packs {
        out.line(&safe_text(&format!("damage: {pack}: it could not be rewritten, and stays")))?;
    }
    for waiting in &report.waiting {
        let purpose = if waiting.purpose.is_empty() { "writer" } else { &waiting.purpose };
        let short = waiting.lease.get(..8).unwrap_or(&waiting.lease);
        out.line(&safe_text(&format!(
            "waiting for {}: its {purpose} {short} has not seen the plan yet",
            waiting.host
        )))?;
    }
    if context.is_quiet() {
        return Ok(());
    }
    show_planned(report, out)?;
    let (deleted, rewritten) =
        if is_dry_run { ("would be deleted", "would be copied") } else { ("deleted", "copied") };
    out.line(&format!(
        "{deleted}: {}, {}; {}",
        counted_text(report.packs_deleted, "packs"),
        ByteCount(report.bytes_deleted),
        counted_text(report.snapshots_removed, "forgotten snapshots")
    ))?;
    if report.packs_rewritten > 0 {
        out.line(&format!(
            "{rewritten} out of {} of them: {}",
            count_text(report.packs_rewritten),
            ByteCount(report.bytes_rewritten)
        ))?;
    }
    if report.packs_spared > 0 {
        out.line(&format!("needed after all: {}", counted_text(report.packs_spared, "packs")))?;
    }
    if report.waiting.is_empty() {
        out.line(&format!(
            "left: {}, {}, of which about {} are not needed",
            counted_text(report.packs_kept, "packs"),
            ByteCount(report.bytes_kept),
            ByteCount(report.bytes_unused)
        ))?;
    } else {
        out.line("the next prune goes on from here")?;
    }
    out.line(&format!(
        "{}: {}, in {}",
        if is_dry_run { "would be freed" } else { "freed" },
        ByteCount(report.bytes_freed()),
        duration_text(Duration::from_secs_f64(report.duration_seconds.max(0.0)))
    ))
}
