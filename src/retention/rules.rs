//! The rules, applied to one group.

use crate::clock::{CalendarSpan, CivilTime, Timestamp, Zone};
use crate::retention::order::Placed;
use crate::retention::policy::{Count, Policy};
use crate::retention::reason::{DropReason, KeepReason, Period};
use crate::retention::{Fate, Judged};

/// A rule that keeps one snapshot of each hour, day and so on.
struct PeriodRule {
    period: Period,
    /// The period of the snapshot that it kept last.
    kept: Option<[i64; 4]>,
}

impl PeriodRule {
    fn new(period: Period) -> Self {
        Self { period, kept: None }
    }

    /// Whether it keeps a snapshot made at this time; if so, whether only because there is no older one.
    fn keep(&mut self, time: &CivilTime, has_older: bool) -> Option<bool> {
        let key = Some(self.period.key(time));
        let is_new = key != self.kept;
        if !is_new && has_older {
            return None;
        }
        self.kept = key;
        Some(!is_new)
    }
}

/// Takes one off what is left. Says whether there was any.
fn take(left: &mut Count) {
    if let Count::Some(count) = left {
        *count = count.saturating_sub(1);
    }
}

/// What all rules know of where they are.
struct Rules<'p> {
    policy: &'p Policy,
    last_left: Count,
    counted: Vec<(PeriodRule, Count)>,
    within_from: Option<Timestamp>,
    within: Vec<(PeriodRule, CalendarSpan, Timestamp)>,
}

impl<'p> Rules<'p> {
    /// Rules that have seen nothing yet. `latest` is the latest snapshot that is not in the future.
    fn new(policy: &'p Policy, latest: Option<&Placed>, zone: &Zone) -> Self {
        let from = |span: &CalendarSpan| {
            let latest = latest.filter(|_| !span.is_zero())?;
            Some(span.before(latest.snapshot.time, latest.snapshot.utc_offset_seconds, zone))
        };
        let counted = Period::ALL.iter().zip(policy.periods);
        let within = Period::ALL.iter().zip(policy.within_periods);
        Self {
            policy,
            last_left: policy.last,
            counted: counted.map(|(period, count)| (PeriodRule::new(*period), count)).collect(),
            within_from: from(&policy.within),
            within: within
                .filter_map(|(period, span)| Some((PeriodRule::new(*period), span, from(&span)?)))
                .collect(),
        }
    }

    /// All reasons to keep the next snapshot.
    fn reasons(&mut self, placed: &Placed, has_older: bool) -> Vec<KeepReason> {
        let snapshot = &placed.snapshot;
        let time = CivilTime::new(snapshot.time, snapshot.utc_offset_seconds);
        let tags = self.policy.tags.iter().filter(|tags| tags.fits(&snapshot.tags));
        let mut reasons: Vec<_> = tags.cloned().map(KeepReason::Tags).collect();
        if self.within_from.is_some_and(|from| placed.time > from) {
            reasons.push(KeepReason::Within(self.policy.within));
        }
        if self.last_left.is_positive() {
            take(&mut self.last_left);
            reasons.push(KeepReason::Last);
        }
        for (rule, left) in self.counted.iter_mut().filter(|(_, left)| left.is_positive()) {
            if let Some(is_oldest) = rule.keep(&time, has_older) {
                take(left);
                reasons.push(KeepReason::Period { period: rule.period, is_oldest });
            }
        }
        for (rule, span, _) in self.within.iter_mut().filter(|(_, _, from)| placed.time > *from) {
            if let Some(is_oldest) = rule.keep(&time, has_older) {
                reasons.push(KeepReason::PeriodWithin { period: rule.period, span: *span, is_oldest });
            }
        }
        reasons
    }
}

/// Judges the snapshots of a group, which come newest first and leave so.
pub fn judge(snapshots: Vec<Placed>, policy: &Policy, now: Timestamp, zone: &Zone) -> Vec<Judged> {
    let is_future = |placed: &Placed| placed.snapshot.time > now;
    // A snapshot of the future lends its time to those after it in its series, so order without it.
    let (future, present): (Vec<_>, Vec<_>) = snapshots.into_iter().partition(is_future);
    let present =
        crate::retention::order::newest_first(present.into_iter().map(|placed| placed.snapshot).collect());
    let latest = present.iter().rev().max_by_key(|placed| placed.snapshot.time);
    let mut rules = Rules::new(policy, latest, zone);
    let count = present.len();
    let judged = present.into_iter().enumerate().map(|(at, placed)| {
        let reasons = rules.reasons(&placed, at + 1 < count);
        let fate = match reasons.is_empty() {
            true => Fate::Drop(DropReason::NoRule),
            false => Fate::Keep(reasons),
        };
        Judged { snapshot: placed.snapshot, fate }
    });
    let kept = |placed: Placed| Judged {
        snapshot: placed.snapshot,
        fate: Fate::Keep(vec![KeepReason::InTheFuture]),
    };
    let judged: Vec<_> = judged.collect();
    future.into_iter().map(kept).chain(judged).collect()
}
