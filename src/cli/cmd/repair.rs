//! `repo repair`: mends what can be mended.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;

use crate::check::Finding;
use crate::check::repair::{self, RepairAction, RepairOptions, RepairPlan, RepairReport, StepOutcome};
use crate::cli::cmd::check::show_finding;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Output, safe_name, safe_text, short_id};
use crate::units::{count_text, counted_text, duration_text};

/// Paths that are listed one by one.
const PATH_COUNT_MAX: usize = 20;

/// Mend damage, as far as what is in the repository suffices.
///
/// Looks at everything as `repo check --data` does, shows what it would do and why, and asks. It only adds: damaged
/// objects get their bytes back from parity or from their second copies; what is lost for good is stated, so that the
/// next backup of the same files stores it again and old snapshots heal; and of a snapshot that lacks parts there is
/// then a second one with all that is left. Snapshots are never changed, and nothing is deleted. Repeating it changes
/// nothing. The exit code is 0 if everything is whole afterwards, and 4 if damage is left.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo repair -n
  repo repair
  repo repair --yes")]
pub struct RepairArgs {
    /// Only show what would be done.
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Do not ask.
    #[arg(short = 'y', long)]
    pub yes: bool,

    /// Do not read packs: only what shows without that is mended.
    #[arg(long)]
    pub no_data: bool,

    /// Promise that no prune is at work anywhere: then one is closed whose decision cannot be read.
    #[arg(long)]
    pub exclusive: bool,
}

/// Plans, shows the plan, asks, repairs, and tells what is left.
pub fn run(args: &RepairArgs, context: &Context) -> Result<Exit, Failure> {
    let options = RepairOptions { data: !args.no_data, exclusive: args.exclusive };
    let repo = context.open_repository_itself()?;
    let watch = context.watch("nodes")?;
    let planned = repair::plan(&repo, &options, &watch);
    drop(watch);
    let plan = planned?;
    if !context.wants_json() {
        let mut out = Output::new();
        show_plan(&plan, &mut out)?;
        out.finish()?;
    }
    if args.dry_run {
        context.show(&plan, |_| Ok(()))?;
        return Ok(if plan.has_damage() { Exit::Damage } else { Exit::Done });
    }
    if !plan.steps.is_empty() {
        let question = format!("do this ({})?", counted_text(plan.steps.len() as u64, "steps"));
        if !context.confirm(&question, args.yes)? {
            return Err(Failure::new(Exit::Failed, "nothing was changed"));
        }
    }
    let watch = context.watch("nodes")?;
    let repaired = repair::run(&repo, &plan, &watch);
    drop(watch);
    let report = repaired?;
    context.show(&report, |out| show(&report, context, out))?;
    Ok(if report.has_damage() { Exit::Damage } else { Exit::Done })
}

/// What snapshots lack, however many chunks of however many packs that is.
fn show_lacking(findings: &[&Finding], out: &mut Output) -> Result<(), Failure> {
    let snapshots: BTreeSet<_> = findings.iter().flat_map(|finding| &finding.snapshots).collect();
    let paths: BTreeSet<_> = findings.iter().flat_map(|finding| &finding.paths).collect();
    let ids: Vec<_> = snapshots.iter().map(|id| id.short()).collect();
    out.line(&format!("snapshots that lack parts: {}", ids.join(", ")))?;
    for path in paths.iter().take(PATH_COUNT_MAX) {
        out.line(&format!("  {}", safe_name(path.as_os_str().as_encoded_bytes())))?;
    }
    if paths.len() > PATH_COUNT_MAX {
        let more = count_text((paths.len() - PATH_COUNT_MAX) as u64);
        out.line(&format!("  and {more} more; `repo check` lists them"))?;
    }
    out.line("to heal them, back up the same files again, if they are still there; or forget the snapshots")
}

fn verb(action: RepairAction) -> &'static str {
    match action {
        RepairAction::Mend => "mend",
        RepairAction::Describe => "describe",
        RepairAction::StateDamage => "state the damage of",
        RepairAction::ClosePrune => "close",
        RepairAction::KeepWhatIsLeft => "keep what is left of",
    }
}

fn show_plan(plan: &RepairPlan, out: &mut Output) -> Result<(), Failure> {
    for step in &plan.steps {
        out.line(&safe_text(&format!("{} {}", verb(step.action), step.object)))?;
        out.line(&safe_text(&format!("  why: {}", step.reason)))?;
        out.line(&safe_text(&format!("  how: {}", step.effect)))?;
    }
    for lost in &plan.beyond_repair {
        out.line(&safe_text(&format!("beyond repair: {}: {}", lost.object, lost.reason)))?;
        out.line(&safe_text(&format!("  what you can do: {}", lost.hint)))?;
    }
    if plan.steps.is_empty() {
        out.line(match plan.has_damage() {
            false => "nothing is damaged, and nothing is to be done",
            true => "there is nothing more to be done",
        })?;
    }
    Ok(())
}

fn show(report: &RepairReport, context: &Context, out: &mut Output) -> Result<(), Failure> {
    for step in &report.steps {
        let message = step.message.as_deref().unwrap_or_default();
        match step.outcome {
            StepOutcome::Failed => {
                let sentence =
                    format!("could not {} {}: {message}", verb(step.step.action), step.step.object);
                out.line(&safe_text(&sentence))?;
            }
            StepOutcome::NotNeeded if !context.is_quiet() => {
                out.line(&safe_text(&format!("not needed any more: {}", step.step.object)))?;
            }
            StepOutcome::NotNeeded | StepOutcome::Done => {}
        }
    }
    for kept in &report.snapshots {
        out.line(&format!(
            "snapshot {} holds what is left of {}, without {} of its files and folders",
            short_id(&kept.id).to_owned(),
            short_id(&kept.left_of_id).to_owned(),
            count_text(kept.lost_count)
        ))?;
    }
    let damages = report.findings.iter().filter(|finding| finding.is_damage());
    let damages: Vec<&Finding> = damages.collect();
    let (lacking, others): (Vec<_>, Vec<_>) =
        damages.into_iter().partition(|finding| !finding.snapshots.is_empty());
    if !others.is_empty() {
        out.line("still damaged:")?;
        others.iter().try_for_each(|finding| show_finding(finding, out))?;
    }
    if !lacking.is_empty() {
        show_lacking(&lacking, out)?;
    }
    if context.is_quiet() || report.steps.is_empty() {
        return Ok(());
    }
    out.line(&format!(
        "done: {} of {}, in {}",
        report.done_count(),
        counted_text(report.steps.len() as u64, "steps"),
        duration_text(Duration::from_secs_f64(report.duration_seconds.max(0.0)))
    ))
}
