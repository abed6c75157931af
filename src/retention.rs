//! Which snapshots a policy keeps, and why. Pure: snapshots, policy and the time in, verdicts out.
//!
//! The rules mean what restic's mean (version 0.16 and later), so that somebody who moves over keeps the same
//! snapshots. Each rule looks at the snapshots of a group from the newest to the oldest and keeps some; a snapshot
//! stays if any rule keeps it.
//!
//! - `last` keeps so many. `hourly` to `yearly` keep the newest one of each of so many hours, days, ISO weeks, months,
//!   years; those without snapshots do not count. If a rule runs out of snapshots before it runs out of its number, the
//!   oldest snapshot stays too: history is as long as it can be.
//! - `within` keeps what was made in a stretch of time before the latest snapshot; `within hourly` to `within yearly`
//!   keep the newest one of each hour and so on in that stretch.
//! - `tag` keeps what has all of some tags; the empty tag is that of snapshots without any.
//!
//! Hours, days and weeks are those of the clocks where the snapshot was made. A stretch of days is counted back from
//! the latest snapshot on the same clocks, with daylight saving if they are those of this computer.
//!
//! # Where it differs
//!
//! Clocks lie. Two things here do not rest on them:
//!
//! - Inside a series snapshots are ordered by sequence number. One that claims to be older than its predecessor counts
//!   as made together with it where stretches of time are concerned.
//! - Snapshots dated in the future stay, and take part in nothing: they neither count nor push others out.
//!
//! And a group is not emptied unless that is asked for: see [`Decision::to_forget`].

mod group;
mod order;
mod policy;
mod reason;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

pub use group::{GroupBy, GroupByError, GroupKey};
pub use policy::{Count, CountError, Policy, TagSet};
pub use reason::{DropReason, KeepReason, Period};

use crate::clock::{Timestamp, Zone};
use crate::format::snapshot::Snapshot;
use crate::id::{SeriesId, SnapshotId};
use crate::wire::Bytes;

/// What there is to know of a snapshot to judge it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub id: SnapshotId,
    /// When the backup began.
    pub time: Timestamp,
    /// How far the clocks there were ahead of UTC.
    pub utc_offset_seconds: i64,
    /// Name of the computer.
    pub host: String,
    /// What was backed up.
    pub paths: Vec<Bytes>,
    /// Labels.
    pub tags: Vec<String>,
    /// The series it belongs to.
    pub series: SeriesId,
    /// Its place in the series, by which it is ordered.
    pub sequence: u64,
}

impl Candidate {
    /// What the snapshot says of itself. One that does not say what its clocks showed had those of `zone`; one that
    /// was brought back takes the place of the forgotten one.
    pub fn new(snapshot: &Snapshot, zone: &Zone) -> Self {
        let offset = snapshot.utc_offset().map(|offset| offset.seconds);
        Self {
            id: snapshot.id,
            time: snapshot.started_at,
            utc_offset_seconds: offset.unwrap_or_else(|| zone.offset_seconds(snapshot.started_at)),
            host: snapshot.host.clone(),
            paths: snapshot.paths.clone(),
            tags: snapshot.tags.clone(),
            series: snapshot.series,
            sequence: snapshot.place(),
        }
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays, for at least one reason.
    Keep(Vec<KeepReason>),
    /// It goes.
    Drop(DropReason),
}

/// A snapshot and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The snapshot.
    pub snapshot: Candidate,
    /// What becomes of it.
    pub fate: Fate,
}

impl Judged {
    /// Whether it stays.
    pub fn is_kept(&self) -> bool {
        matches!(self.fate, Fate::Keep(_))
    }
}

/// Snapshots that are judged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// All of them, oldest first.
    pub snapshots: Vec<Judged>,
}

/// What becomes of all snapshots, by groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// The groups, by key.
    pub groups: Vec<Group>,
}

/// A group would have no snapshot left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no snapshot would be left of {group}")]
pub struct WouldEmpty {
    /// Which.
    pub group: GroupKey,
}

/// Judges the snapshots by a policy. `zone` is that of this computer.
pub fn decide(
    snapshots: Vec<Candidate>,
    policy: &Policy,
    group_by: GroupBy,
    now: Timestamp,
    zone: &Zone,
) -> Decision {
    let judge = |snapshots: Vec<Candidate>| rules::judge(order::newest_first(snapshots), policy, now, zone);
    grouped(snapshots, group_by, judge)
}

/// Lets the snapshots go that somebody named, and no others.
pub fn name(snapshots: Vec<Candidate>, named: &HashSet<SnapshotId>, group_by: GroupBy) -> Decision {
    grouped(snapshots, group_by, |snapshots| {
        let judged = order::newest_first(snapshots).into_iter().map(|placed| {
            let fate = match named.contains(&placed.snapshot.id) {
                true => Fate::Drop(DropReason::Named),
                false => Fate::Keep(vec![KeepReason::NotNamed]),
            };
            Judged { snapshot: placed.snapshot, fate }
        });
        judged.collect()
    })
}

/// Judges each group, of which `judge` returns the newest snapshot first.
fn grouped(
    snapshots: Vec<Candidate>,
    group_by: GroupBy,
    judge: impl Fn(Vec<Candidate>) -> Vec<Judged>,
) -> Decision {
    let mut groups = BTreeMap::<GroupKey, Vec<Candidate>>::new();
    for snapshot in snapshots {
        groups.entry(group_by.key_of(&snapshot)).or_default().push(snapshot);
    }
    let groups = groups.into_iter().map(|(key, snapshots)| {
        let mut snapshots = judge(snapshots);
        snapshots.reverse();
        Group { key, snapshots }
    });
    Decision { groups: groups.collect() }
}

impl Group {
    /// Whether nothing of it stays.
    pub fn is_emptied(&self) -> bool {
        !self.snapshots.iter().any(Judged::is_kept)
    }
}

impl Decision {
    /// How many snapshots stay.
    pub fn kept_count(&self) -> usize {
        self.snapshots().filter(|judged| judged.is_kept()).count()
    }

    /// All snapshots, group by group, oldest first.
    pub fn snapshots(&self) -> impl Iterator<Item = &Judged> {
        self.groups.iter().flat_map(|group| &group.snapshots)
    }

    /// Groups of which something was to stay, and nothing of it is live any more: somebody else forgot it meanwhile.
    pub fn emptied_by_others(&self, live: &HashSet<SnapshotId>) -> Vec<&Group> {
        let is_live = |judged: &Judged| judged.is_kept() && live.contains(&judged.snapshot.id);
        let groups = self.groups.iter().filter(|group| !group.is_emptied());
        groups.filter(|group| !group.snapshots.iter().any(is_live)).collect()
    }

    /// The snapshots to forget. It is an error if nothing would be left of a group, unless that is allowed.
    pub fn to_forget(&self, allow_empty: bool) -> Result<Vec<SnapshotId>, WouldEmpty> {
        if let Some(group) = self.groups.iter().find(|group| group.is_emptied())
            && !allow_empty
        {
            return Err(WouldEmpty { group: group.key.clone() });
        }
        let dropped = self.snapshots().filter(|judged| !judged.is_kept());
        Ok(dropped.map(|judged| judged.snapshot.id).collect())
    }
}
