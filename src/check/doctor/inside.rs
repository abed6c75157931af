//! What can be found out with a key.

use std::sync::Arc;

use super::outside::reserve;
use super::{Probe, age_of, age_text};
use crate::clock::Timestamp;
use crate::format::lease::LeaseStatement;
use crate::id::SnapshotId;
use crate::repo::{ListedLease, Repo, RepoError, names};
use crate::storage::StorageError;
use crate::units::{ByteCount, count_text, counted_text};

/// A snapshot that is dated so far ahead was made with a wrong clock, or this one is wrong.
const FUTURE_SECONDS: i64 = 300;
/// A writer that was silent for so long is taken for dead by a prune.
const SILENCE_SECONDS: u64 = 24 * 60 * 60;
/// What was not read for so long should be read again.
const DATA_AGE_DAYS: u64 = 90;
/// Names of writers in one sentence.
const NAME_COUNT_MAX: usize = 5;

/// A registered writer, and what is known of it.
struct Writer {
    id: SnapshotId,
    statement: Option<LeaseStatement>,
    stored_at: Timestamp,
    /// Why it will never commit again, if that is known.
    is_over: Option<&'static str>,
    seen: Vec<u64>,
}

/// Looks at snapshots, writers, prunes, and at how much was never read.
pub fn with_key(repo: &Arc<Repo>, now: Timestamp) -> Result<Vec<Probe>, RepoError> {
    let writers = writers(repo)?;
    Ok(vec![
        reserve(&**repo.storage())?,
        snapshots(repo, now)?,
        leases(&writers, now),
        prune(repo, &writers)?,
        data(repo, now)?,
    ])
}

fn snapshots(repo: &Repo, now: Timestamp) -> Result<Probe, RepoError> {
    let (list, contradiction) = repo.examine_snapshots()?;
    if let Some(error) = contradiction {
        let hint = "see `repo check`, and \"When something goes wrong\" in the guide";
        return Ok(Probe::bad("snapshots", error.to_string()).hint(hint));
    }
    if let Some((id, reason)) = list.damaged.first() {
        let count = counted_text(list.damaged.len() as u64, "snapshots");
        let message = format!("{count} cannot be read, the first is {}: {reason}", id.short());
        return Ok(Probe::bad("snapshots", message)
            .hint("`repo check` finds out what is damaged and what it touches"));
    }
    let Some(newest) = list.snapshots.last() else {
        return Ok(Probe::note("snapshots", "there is no snapshot").hint("`repo backup PATH...` makes one"));
    };
    if newest.started_at.seconds > now.seconds.saturating_add(FUTURE_SECONDS) {
        let message = format!("snapshot {} is dated in the future: {}", newest.id.short(), newest.started_at);
        let hint = "a clock is or was wrong; rules of `repo forget` pass over such snapshots";
        return Ok(Probe::note("snapshots", message).hint(hint));
    }
    let age = age_text(age_of(newest.started_at, now));
    let count = counted_text(list.snapshots.len() as u64, "snapshots");
    Ok(Probe::good("snapshots", format!("{count}, the newest is {age} old")))
}

fn writers(repo: &Repo) -> Result<Vec<Writer>, RepoError> {
    let mut writers = Vec::new();
    for (id, lease) in repo.list_leases()? {
        writers.push(writer(repo, id, &lease)?);
    }
    Ok(writers)
}

fn writer(repo: &Repo, id: SnapshotId, lease: &ListedLease) -> Result<Writer, RepoError> {
    let statements = repo.lease_statements(id, lease)?;
    let seen = statements.iter().filter_map(|statement| Some(statement.seen?.number)).collect();
    let statement = statements.into_iter().next();
    let has_decided = match repo.storage().len(&names::snapshot(&id)) {
        Ok(_) => true,
        Err(StorageError::Missing { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let is_dead = || statement.as_ref().map_or(Ok(false), |statement| repo.is_dead(id, statement));
    let is_over = match () {
        () if lease.has_ended || has_decided => Some("it has ended"),
        () if is_dead()? => Some("its process is gone"),
        () if repo.is_silent(lease, std::time::Duration::from_secs(SILENCE_SECONDS)) => {
            Some("it gave no sign of life for a day")
        }
        () => None,
    };
    Ok(Writer { id, statement, stored_at: lease.stored_at, is_over, seen })
}

/// `backup of web1 (4f2a81cc)`
fn name_of(writer: &Writer) -> String {
    match &writer.statement {
        Some(statement) => {
            let purpose = if statement.purpose.is_empty() { "writer" } else { &statement.purpose };
            format!("{purpose} of {} ({})", statement.host, writer.id.short())
        }
        None => format!("a writer that cannot be read ({})", writer.id.short()),
    }
}

fn names_of(writers: &[&Writer], each: impl Fn(&Writer) -> String) -> String {
    let mut names: Vec<_> = writers.iter().take(NAME_COUNT_MAX).map(|writer| each(writer)).collect();
    if writers.len() > NAME_COUNT_MAX {
        names.push(format!("{} more", count_text((writers.len() - NAME_COUNT_MAX) as u64)));
    }
    names.join(", ")
}

fn leases(writers: &[Writer], now: Timestamp) -> Probe {
    let age = |writer: &Writer| age_text(age_of(writer.stored_at, now));
    let over: Vec<_> = writers.iter().filter(|writer| writer.is_over.is_some()).collect();
    if !over.is_empty() {
        let each = |writer: &Writer| {
            format!("{}: {}, {} ago", name_of(writer), writer.is_over.unwrap_or_default(), age(writer))
        };
        return Probe::note("leases", format!("left behind: {}", names_of(&over, each)))
            .hint("the next prune removes what they left");
    }
    let living: Vec<_> = writers.iter().collect();
    if living.is_empty() {
        return Probe::good("leases", "no writer is registered");
    }
    let each = |writer: &Writer| format!("{}, heard of {} ago", name_of(writer), age(writer));
    Probe::good("leases", format!("at work: {}", names_of(&living, each)))
}

fn prune(repo: &Repo, writers: &[Writer]) -> Result<Probe, RepoError> {
    let decisions = repo.list_decisions()?;
    let open = decisions.last_key_value().filter(|(_, state)| !state.is_done);
    let Some((number, state)) = open else {
        return Ok(Probe::good("prune", "no prune is under way"));
    };
    match repo.plan_hash(*number) {
        Ok(_) => {}
        Err(RepoError::Damaged { source, .. }) => {
            let message = format!("the plan of prune {number} cannot be read: {source}");
            let hint = "a newer version of this program may have begun it: use that one; or see `repo check`";
            return Ok(Probe::bad("prune", message).hint(hint));
        }
        Err(error) => return Err(error),
    }
    let waits_for = |writer: &&Writer| writer.is_over.is_none() && !writer.seen.contains(number);
    let waiting: Vec<_> = writers.iter().filter(waits_for).collect();
    let message = match (state.has_verdict, waiting.is_empty()) {
        (true, _) => format!("prune {number} has decided what goes, and has not deleted all of it yet"),
        (false, true) => format!("prune {number} was begun and is not finished; it waits for nobody"),
        (false, false) => format!("prune {number} waits for {}", names_of(&waiting, name_of)),
    };
    Ok(Probe::note("prune", message).hint("the next `repo prune` goes on with it"))
}

fn data(repo: &Repo, now: Timestamp) -> Result<Probe, RepoError> {
    let verified = repo.verified_packs()?;
    let (mut total, mut never) = (0u64, 0u64);
    let mut oldest: Option<Timestamp> = None;
    for ((_, id), len) in &repo.list_packs()?.packs {
        total += len;
        match verified.packs.get(id) {
            Some(moment) => oldest = Some(oldest.map_or(*moment, |oldest| oldest.min(*moment))),
            None => never += len,
        }
    }
    let hint = "`repo check --data=5%` every night reads everything in twenty";
    let is_old = |moment: &Timestamp| age_of(*moment, now).as_secs() > DATA_AGE_DAYS * 24 * 60 * 60;
    Ok(match (total, oldest) {
        (0, _) => Probe::good("data", "there is no data yet"),
        (_, Some(oldest)) if never == 0 && !is_old(&oldest) => {
            let message =
                format!("all data was read on this computer within {}", age_text(age_of(oldest, now)));
            Probe::good("data", message)
        }
        (_, oldest) => {
            let oldest =
                oldest.map(|oldest| format!("; some was read {} ago", age_text(age_of(oldest, now))));
            let message = format!(
                "{} of {} were never read and verified on this computer{}",
                ByteCount(never),
                ByteCount(total),
                oldest.unwrap_or_default()
            );
            Probe::note("data", message).hint(hint)
        }
    })
}
