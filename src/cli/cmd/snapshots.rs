//! `repo snapshots`: lists what is stored.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::args::Narrow;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Align, Output, Table, json_name, safe_name, safe_text};
use crate::format::snapshot::Snapshot;
use crate::repo::SnapshotList;
use crate::units::{ByteCount, count_text};
use crate::wire::Bytes;

/// List the snapshots of the repository.
///
/// Each with its id, time, host, tags, paths, size, and how many problems there were.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo snapshots
  repo snapshots --tag daily --last 5
  repo snapshots --group-by host,paths --json")]
pub struct SnapshotsArgs {
    /// Group by host, paths, tags, or several of them.
    #[arg(long, value_name = "KEY[,KEY...]", value_delimiter = ',')]
    pub group_by: Vec<GroupKey>,

    /// Only the newest N snapshots; with --group-by, of each group.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// What snapshots can be grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GroupKey {
    /// The host they were made on.
    Host,
    /// What was backed up.
    Paths,
    /// Their tags.
    Tags,
}

/// Lists the snapshots. Those that cannot be read are damage.
pub fn run(args: &SnapshotsArgs, context: &Context) -> Result<Exit, Failure> {
    let list = context.with_repository(|repo| Ok(repo.snapshots()?))?;
    let list = args.narrow.narrowed(list);
    for (id, reason) in &list.damaged {
        context.warn(&format!("snapshot {} cannot be read: {reason}", id.short()));
    }
    list.forgotten.warnings().iter().for_each(|warning| context.warn(warning));
    let mut groups = grouped(&list.snapshots, &args.group_by);
    if let Some(count) = args.last {
        groups.values_mut().for_each(|group| drop(group.drain(..group.len().saturating_sub(count))));
    }
    context
        .show(&report(&groups, &args.group_by, &list), |out| show(&groups, &args.group_by, out, context))?;
    Ok(if list.damaged.is_empty() { Exit::Done } else { Exit::Damage })
}

/// What the snapshots of a group have in common; `None` where it is not grouped by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    host: Option<String>,
    paths: Option<Vec<Vec<u8>>>,
    tags: Option<Vec<String>>,
}

type Groups<'l> = BTreeMap<Group, Vec<&'l Snapshot>>;

fn grouped<'l>(snapshots: &'l [Snapshot], by: &[GroupKey]) -> Groups<'l> {
    let mut groups = Groups::new();
    for snapshot in snapshots {
        let paths = || snapshot.paths.iter().map(|path| path.as_slice().to_vec()).collect();
        let group = Group {
            host: by.contains(&GroupKey::Host).then(|| snapshot.host.clone()),
            paths: by.contains(&GroupKey::Paths).then(paths),
            tags: by.contains(&GroupKey::Tags).then(|| snapshot.tags.clone()),
        };
        groups.entry(group).or_default().push(snapshot);
    }
    groups
}

fn report(groups: &Groups<'_>, by: &[GroupKey], list: &SnapshotList) -> Value {
    let listed = |snapshots: &[&Snapshot]| -> Vec<Value> {
        snapshots.iter().map(|snapshot| snapshot_json(snapshot)).collect()
    };
    let mut report = if by.is_empty() {
        json!({ "snapshots": groups.values().flat_map(|group| listed(group)).collect::<Vec<_>>() })
    } else {
        let group = |(group, snapshots): (&Group, &Vec<&Snapshot>)| {
            let paths =
                group.paths.as_ref().map(|paths| paths.iter().map(|p| json_name(p)).collect::<Vec<_>>());
            let names = [
                ("host", group.host.as_deref().map(Value::from)),
                ("paths", paths.map(Value::from)),
                ("tags", group.tags.as_ref().map(|tags| Value::from(tags.as_slice()))),
                ("snapshots", Some(Value::from(listed(snapshots)))),
            ];
            let named = names.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(named.collect())
        };
        json!({ "groups": groups.iter().map(group).collect::<Vec<_>>() })
    };
    if !list.damaged.is_empty()
        && let Some(object) = report.as_object_mut()
    {
        let damaged = list.damaged.iter().map(|(id, why)| json!({ "id": id.to_string(), "message": why }));
        object.insert("damaged".to_owned(), damaged.collect());
    }
    report
}

/// A snapshot as JSON shows it.
pub fn snapshot_json(snapshot: &Snapshot) -> Value {
    let names = |names: &[Bytes]| names.iter().map(|name| json_name(name.as_slice())).collect::<Vec<_>>();
    json!({
        "id": snapshot.id.to_string(),
        "time": snapshot.started_at.rfc3339(),
        "finished_at": snapshot.finished_at.rfc3339(),
        "host": snapshot.host,
        "user": snapshot.user,
        "tags": snapshot.tags,
        "paths": names(&snapshot.paths),
        "previous_id": snapshot.previous.map(|id| id.to_string()),
        "in_place_of_id": snapshot.in_place_of().map(|forgotten| forgotten.snapshot.to_string()),
        "copy_of_id": snapshot.copy_of().map(|original| original.snapshot.to_string()),
        "left_of_id": snapshot.left_of().map(|damaged| damaged.snapshot.to_string()),
        "files": snapshot.totals.files,
        "directories": snapshot.totals.directories,
        "bytes": snapshot.totals.bytes,
        "bytes_new": snapshot.totals.bytes_new,
        "bytes_stored": snapshot.totals.bytes_stored,
        "problem_count": snapshot.problem_count,
        "program": snapshot.program,
    })
}

fn show(groups: &Groups<'_>, by: &[GroupKey], out: &mut Output, context: &Context) -> Result<(), Failure> {
    if groups.is_empty() {
        context.note("there are no such snapshots");
    }
    for (at, (group, snapshots)) in groups.iter().enumerate() {
        if at > 0 {
            out.line("")?;
        }
        if !by.is_empty() {
            out.line(&safe_text(&title(group)))?;
        }
        for line in table(snapshots).lines() {
            out.line(&line)?;
        }
    }
    Ok(())
}

fn title(group: &Group) -> String {
    let mut words = Vec::new();
    words.extend(group.host.as_ref().map(|host| format!("host {host}")));
    let tags = |tags: &Vec<String>| {
        if tags.is_empty() { "no tags".into() } else { format!("tags {}", tags.join(",")) }
    };
    words.extend(group.tags.as_ref().map(tags));
    let paths =
        |paths: &Vec<Vec<u8>>| paths.iter().map(|path| safe_name(path)).collect::<Vec<_>>().join(", ");
    words.extend(group.paths.as_ref().map(|all| format!("paths {}", paths(all))));
    words.join("; ")
}

fn table(snapshots: &[&Snapshot]) -> Table {
    let left = |title| (title, Align::Left);
    let right = |title| (title, Align::Right);
    let columns = [
        left("ID"),
        left("Time"),
        left("Host"),
        left("Tags"),
        right("Size"),
        right("Problems"),
        left("Paths"),
    ];
    let mut table = Table::new(&columns);
    for snapshot in snapshots {
        let paths: Vec<_> = snapshot.paths.iter().map(|path| safe_name(path.as_slice())).collect();
        let problems = match snapshot.problem_count {
            0 => String::new(),
            count => count_text(count),
        };
        table.row([
            snapshot.id.short(),
            snapshot.started_at.to_string(),
            snapshot.host.clone(),
            snapshot.tags.join(","),
            ByteCount(snapshot.totals.bytes).to_string(),
            problems,
            paths.join(", "),
        ]);
    }
    table
}
