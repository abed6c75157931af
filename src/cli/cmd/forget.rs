//! `repo forget`: drops snapshots by a policy, or those that are named.

use std::collections::{HashMap, HashSet};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::args::{Narrow, SnapshotName};
use crate::cli::cmd::snapshots::snapshot_json;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Align, Output, Table, json_name, safe_text};
use crate::clock::{CalendarSpan, Zone};
use crate::forget::{self, ForgetOptions, ForgetReport};
use crate::format::snapshot::Snapshot;
use crate::id::SnapshotId;
use crate::prune::PruneOptions;
use crate::repo::{Repo, SnapshotFilter, SnapshotList};
use crate::retention::{self, Candidate, Count, Decision, Fate, Group, GroupBy, Judged, Policy, TagSet};
use crate::units::count_text;

const KEEP: &str = "What to keep; a snapshot stays if any of these keeps it";
const DEFAULT_GROUPS: &str = "host,paths";

/// Forget snapshots that no rule keeps, or those that are named.
///
/// Every snapshot is shown with what becomes of it, and why. Forgotten snapshots are gone from all lists; `repo
/// undo-forget` brings them back until the next prune, which frees their space. The rules mean what they mean in
/// restic, and are applied to each group of snapshots of the same host and paths.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 -n
  repo forget --keep-within-daily 30d --keep-tag release
  repo forget --host old-server --keep-last 1 --reason 'switched off in May'
  repo forget 5f2c81aa latest~3")]
pub struct ForgetArgs {
    /// Snapshots to forget, instead of a policy.
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<SnapshotName>,

    /// Keep the newest N snapshots, or `unlimited`.
    #[arg(long, value_name = "N", help_heading = KEEP, allow_negative_numbers = true)]
    pub keep_last: Option<Count>,

    /// Keep the newest snapshot of each of the last N hours that have any.
    #[arg(long, value_name = "N", help_heading = KEEP, allow_negative_numbers = true)]
    pub keep_hourly: Option<Count>,

    /// Keep the newest snapshot of each of the last N days that have any.
    #[arg(long, value_name = "N", help_heading = KEEP, allow_negative_numbers = true)]
    pub keep_daily: Option<Count>,

    /// Keep the newest snapshot of each of the last N weeks, Monday to Sunday, that have any.
    #[arg(long, value_name = "N", help_heading = KEEP, allow_negative_numbers = true)]
    pub keep_weekly: Option<Count>,

    /// Keep the newest snapshot of each of the last N months that have any.
    #[arg(long, value_name = "N", help_heading = KEEP, allow_negative_numbers = true)]
    pub keep_monthly: Option<Count>,

    /// Keep the newest snapshot of each of the last N years that have any.
    #[arg(long, value_name = "N", help_heading = KEEP, allow_negative_numbers = true)]
    pub keep_yearly: Option<Count>,

    /// Keep all made in this time before the latest snapshot: 14d, 6m or 1y5m7d2h, where m are months.
    #[arg(long, value_name = "TIME", help_heading = KEEP)]
    pub keep_within: Option<CalendarSpan>,

    /// Keep the newest of each hour in this time before the latest snapshot.
    #[arg(long, value_name = "TIME", help_heading = KEEP)]
    pub keep_within_hourly: Option<CalendarSpan>,

    /// Keep the newest of each day in this time before the latest snapshot.
    #[arg(long, value_name = "TIME", help_heading = KEEP)]
    pub keep_within_daily: Option<CalendarSpan>,

    /// Keep the newest of each week in this time before the latest snapshot.
    #[arg(long, value_name = "TIME", help_heading = KEEP)]
    pub keep_within_weekly: Option<CalendarSpan>,

    /// Keep the newest of each month in this time before the latest snapshot.
    #[arg(long, value_name = "TIME", help_heading = KEEP)]
    pub keep_within_monthly: Option<CalendarSpan>,

    /// Keep the newest of each year in this time before the latest snapshot.
    #[arg(long, value_name = "TIME", help_heading = KEEP)]
    pub keep_within_yearly: Option<CalendarSpan>,

    /// Keep all that have this tag, or all tags between the commas; '' means none; may be given several times.
    #[arg(long, value_name = "TAG[,TAG...]", help_heading = KEEP)]
    pub keep_tag: Vec<String>,

    /// Apply the rules to each group of the same host, paths, tags, or several of them; '' makes one group of all.
    #[arg(long, value_name = "KEY[,KEY...]", default_value = DEFAULT_GROUPS)]
    pub group_by: GroupBy,

    /// Only say what would be forgotten.
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Go on with `repo prune`, which frees the space of what was forgotten.
    #[arg(long)]
    pub prune: bool,

    /// Say why; it is kept with the record of what was forgotten.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,

    /// Go on even if a group has no snapshot left.
    #[arg(long)]
    pub allow_empty: bool,

    #[command(flatten)]
    pub narrow: Narrow,
}

impl ForgetArgs {
    /// The policy that the options make, if there is any rule among them.
    fn policy(&self) -> Option<Policy> {
        let periods =
            [self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        let within_periods = [
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        let has_rule = self.keep_last.is_some()
            || periods.iter().any(Option::is_some)
            || self.keep_within.is_some()
            || within_periods.iter().any(Option::is_some)
            || !self.keep_tag.is_empty();
        has_rule.then(|| Policy {
            last: self.keep_last.unwrap_or_default(),
            periods: periods.map(Option::unwrap_or_default),
            within: self.keep_within.unwrap_or_default(),
            within_periods: within_periods.map(Option::unwrap_or_default),
            tags: self.keep_tag.iter().map(|tags| TagSet::parse(tags)).collect(),
        })
    }

    /// What becomes of the snapshots, and the policy in words.
    fn decide(
        &self,
        policy: Option<&Policy>,
        list: &SnapshotList,
        context: &Context,
    ) -> Result<(Decision, String), Failure> {
        let zone = Zone::system();
        let candidate = |snapshot: &Snapshot| Candidate::new(snapshot, &zone);
        if let Some(policy) = policy {
            let meant = list.snapshots.iter().filter(|snapshot| self.narrow.fits(snapshot));
            let meant = meant.map(candidate).collect();
            let decision = retention::decide(meant, policy, self.group_by, context.now(), &zone);
            return Ok((decision, format!("{policy} --group-by '{}'", self.group_by)));
        }
        let mut named = HashSet::new();
        for name in self.snapshots.iter().filter(|name| find_damaged(name, list).is_none()) {
            named.insert(self.find(name, list)?);
        }
        let all = list.snapshots.iter().map(candidate).collect();
        Ok((retention::name(all, &named, self.group_by), String::new()))
    }

    /// Snapshots among the named ones that cannot be read.
    fn damaged(&self, list: &SnapshotList) -> Vec<SnapshotId> {
        self.snapshots.iter().filter_map(|name| find_damaged(name, list)).collect()
    }

    fn find(&self, name: &SnapshotName, list: &SnapshotList) -> Result<SnapshotId, Failure> {
        if let SnapshotName::Latest(back) = name {
            let meant = list.snapshots.iter().rev().filter(|snapshot| self.narrow.fits(snapshot));
            if let Some(snapshot) = meant.skip(*back as usize).take(1).next() {
                return Ok(snapshot.id);
            }
        }
        Ok(list.select(&name.to_string(), &SnapshotFilter::default())?.id)
    }
}

/// Decides, shows the decision, and forgets.
pub fn run(args: &ForgetArgs, context: &Context) -> Result<Exit, Failure> {
    let policy = args.policy();
    if policy.is_some() != args.snapshots.is_empty() {
        let sentence = match policy {
            Some(_) => "give keep rules or name snapshots, not both",
            None => "say what to keep, or name the snapshots to forget",
        };
        return Err(Failure::usage(sentence).hint("for instance `repo forget --keep-daily 7 -n`"));
    }
    let repo = context.open_repository()?;
    let list = repo.snapshots()?;
    warn(&list, context);
    let (decision, policy) = args.decide(policy.as_ref(), &list, context)?;
    if !context.wants_json() {
        let mut out = Output::new();
        decision.groups.iter().try_for_each(|group| show_group(group, &mut out))?;
        out.finish()?;
    }
    let dropped = decision.to_forget(args.allow_empty).map_err(|error| {
        Failure::of(Exit::Failed, &error)
            .hint("nothing was forgotten; if that is what you want, give --allow-empty")
    })?;
    let mut dropped = dropped;
    dropped.extend(args.damaged(&list));
    let mut done = ForgetReport::default();
    if !args.dry_run && !dropped.is_empty() {
        let options = ForgetOptions { reason: args.reason.clone(), policy: policy.clone() };
        let watch = context.watch("snapshots")?;
        let forgotten = forget::run(&repo, &list, &dropped, &options, &watch);
        drop(watch);
        done = forgotten?;
        warn_if_emptied(&repo, &decision, context);
    }
    let mut report = report(&decision, &list, &policy, args.dry_run, &done);
    let are_dropped = list.damaged.iter().all(|(id, _)| dropped.contains(id));
    let mut exit = if are_dropped { Exit::Done } else { Exit::Damage };
    let mut pruned = None;
    if args.prune && !args.dry_run && !dropped.is_empty() {
        let outcome = super::prune::prune(&repo, PruneOptions::default(), context)?;
        exit = if exit == Exit::Done { super::prune::exit_of(&outcome) } else { exit };
        if let Some(fields) = report.as_object_mut() {
            let shown = serde_json::to_value(&outcome).map_err(|error| Failure::of(Exit::Failed, &error))?;
            fields.insert("prune".to_owned(), shown);
        }
        pruned = Some(outcome);
    }
    context.show(&report, |out| {
        out.line(&summary(&decision, dropped.len(), args.dry_run, pruned.is_some()))?;
        pruned.iter().try_for_each(|report| super::prune::show(report, false, context, out))
    })?;
    Ok(exit)
}

/// The one snapshot that cannot be read and whose id begins so, unless one that can be read is meant.
fn find_damaged(name: &SnapshotName, list: &SnapshotList) -> Option<SnapshotId> {
    let SnapshotName::Prefix(prefix) = name else { return None };
    let fits = |id: &SnapshotId| id.to_string().starts_with(&prefix.to_ascii_lowercase());
    if list.snapshots.iter().any(|snapshot| fits(&snapshot.id)) {
        return None;
    }
    let mut found = list.damaged.iter().map(|(id, _)| *id).filter(fits);
    found.next().filter(|_| found.next().is_none())
}

/// Tells what nobody who forgets should miss.
pub fn warn(list: &SnapshotList, context: &Context) {
    for (id, reason) in &list.damaged {
        context.warn(&format!("snapshot {} cannot be read, and is left as it is: {reason}", id.short()));
    }
    list.forgotten.warnings().iter().for_each(|warning| context.warn(warning));
}

/// Two who forget at the same time may each leave what the other one drops.
fn warn_if_emptied(repo: &Repo, decision: &Decision, context: &Context) {
    let Ok(list) = repo.snapshots() else { return };
    let live = list.snapshots.iter().map(|snapshot| snapshot.id).collect();
    for group in decision.emptied_by_others(&live) {
        let key = &group.key;
        context.warn(&format!(
            "somebody else forgot the rest of {key} at the same time: look at `repo undo-forget` before the next prune"
        ));
    }
}

fn summary(decision: &Decision, dropped_count: usize, is_dry_run: bool, is_pruned: bool) -> String {
    let kept = count_text(decision.kept_count() as u64);
    let dropped = count_text(dropped_count as u64);
    match (dropped_count, is_dry_run) {
        (0, _) => format!("kept: {kept}, nothing to forget"),
        (_, true) => format!("kept: {kept}, would be forgotten: {dropped}"),
        (_, false) if is_pruned => format!("kept: {kept}, forgotten: {dropped}"),
        (_, false) => {
            format!(
                "kept: {kept}, forgotten: {dropped}; `repo undo-forget` brings them back until the next prune"
            )
        }
    }
}

fn show_group(group: &Group, out: &mut Output) -> Result<(), Failure> {
    out.line(&safe_text(&group.key.to_string()))?;
    let columns = ["ID", "Time", "Tags", "Fate", "Reason"].map(|title| (title, Align::Left));
    let mut table = Table::new(&columns);
    for Judged { snapshot, fate } in &group.snapshots {
        let (fate, reasons) = fate_texts(fate);
        table.row([
            snapshot.id.short(),
            snapshot.time.to_string(),
            snapshot.tags.join(","),
            fate.to_owned(),
            reasons.join(", "),
        ]);
    }
    table.lines().iter().try_for_each(|line| out.line(line))?;
    out.line("")
}

fn fate_texts(fate: &Fate) -> (&'static str, Vec<String>) {
    match fate {
        Fate::Keep(reasons) => ("keep", reasons.iter().map(ToString::to_string).collect()),
        Fate::Drop(reason) => ("drop", vec![reason.to_string()]),
    }
}

fn report(
    decision: &Decision,
    list: &SnapshotList,
    policy: &str,
    is_dry_run: bool,
    done: &ForgetReport,
) -> Value {
    let by_id: HashMap<_, _> = list.snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    let shown = |judged: &Judged| {
        let (fate, reasons) = fate_texts(&judged.fate);
        let mut shown =
            by_id.get(&judged.snapshot.id).map_or(Value::Null, |snapshot| snapshot_json(snapshot));
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("fate".to_owned(), fate.into());
            fields.insert("reasons".to_owned(), reasons.into());
        }
        shown
    };
    let group = |group: &Group| {
        let key = &group.key;
        let paths = key.paths.as_ref();
        let paths =
            paths.map(|paths| paths.iter().map(|path| json_name(path.as_slice())).collect::<Vec<_>>());
        let names = [
            ("host", key.host.as_deref().map(Value::from)),
            ("paths", paths.map(Value::from)),
            ("tags", key.tags.as_ref().map(|tags| Value::from(tags.as_slice()))),
            ("snapshots", Some(group.snapshots.iter().map(shown).collect())),
        ];
        let named = names.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(named.collect())
    };
    let kept_count = decision.kept_count();
    json!({
        "groups": decision.groups.iter().map(group).collect::<Vec<_>>(),
        "policy": policy,
        "kept": kept_count,
        "dropped": decision.snapshots().count() - kept_count,
        "dry_run": is_dry_run,
        "snapshot_ids": done.snapshot_ids,
        "record_ids": done.record_ids,
    })
}
