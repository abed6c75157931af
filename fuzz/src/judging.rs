//! Retention: the newest stays, and whoever asks for more never gets less.

use std::collections::{BTreeSet, HashSet};

use kluis::clock::{Timestamp, Zone};
use kluis::id::{SeriesId, SnapshotId};
use kluis::retention::{self, Candidate, Count, GroupBy, Policy, TagSet};

use super::choices::Choices;

const NOW: i64 = 1_800_000_000;

fn candidates(choices: &mut Choices<'_>) -> Vec<Candidate> {
    let count = choices.below(40);
    let candidate = |number: usize| {
        let series = choices.byte() % 3;
        // Hours, days or years before now, and now and then in the future.
        let step = [3600, 86_400, 31_556_952, 7, -3600][choices.below(5)];
        let seconds = NOW - i64::from(choices.byte()) * step;
        Candidate {
            id: SnapshotId::new([number as u8; 16]),
            time: Timestamp { seconds, nanoseconds: 0 },
            utc_offset_seconds: i64::from(choices.byte()) * 600 - 76_000,
            host: format!("host {}", series % 2),
            paths: vec![b"/data"[..].into()],
            tags: (0..choices.byte() % 3).map(|tag| tag.to_string()).collect(),
            series: SeriesId::new([series; SeriesId::LEN]),
            sequence: 1 + u64::from(choices.byte()),
        }
    };
    (0..count).map(candidate).collect()
}

fn count(choices: &mut Choices<'_>) -> Count {
    match choices.byte() {
        byte @ 0..200 => Count::Some(u32::from(byte % 8)),
        _ => Count::Unlimited,
    }
}

fn policy(choices: &mut Choices<'_>) -> Policy {
    let mut span = || {
        let text = ["0d", "1d", "36h", "2m", "1y", "1y2m3d4h"][choices.below(6)];
        text.parse().unwrap_or_default()
    };
    let within = span();
    let within_periods = std::array::from_fn(|_| span());
    let last = count(choices);
    let periods = std::array::from_fn(|_| count(choices));
    let tags = (0..choices.byte() % 2).map(|_| TagSet::parse(["0", "0,1", ""][choices.below(3)])).collect();
    Policy { last, periods, within, within_periods, tags }
}

fn more(count: Count) -> Count {
    match count {
        Count::Some(count) => Count::Some(count + 1),
        Count::Unlimited => Count::Unlimited,
    }
}

fn kept(decision: &retention::Decision) -> BTreeSet<SnapshotId> {
    decision.snapshots().filter(|judged| judged.is_kept()).map(|judged| judged.snapshot.id).collect()
}

/// Any snapshots and any policy.
pub fn retention(data: &[u8]) {
    let mut choices = Choices(data);
    let policy = policy(&mut choices);
    let rule = choices.below(7);
    let snapshots = candidates(&mut choices);
    let group_by = GroupBy::default();
    let now = Timestamp::from_seconds(NOW);
    let decide = |policy: &Policy| retention::decide(snapshots.clone(), policy, group_by, now, &Zone::utc());
    let decision = decide(&policy);
    let stays = kept(&decision);
    let all: BTreeSet<_> = snapshots.iter().map(|snapshot| snapshot.id).collect();
    let judged: Vec<_> = decision.snapshots().map(|judged| judged.snapshot.id).collect();
    assert_eq!(judged.len(), all.len(), "each snapshot is judged once");
    assert_eq!(judged.into_iter().collect::<BTreeSet<_>>(), all);
    if policy.keeps_newest() {
        for group in &decision.groups {
            assert!(
                group.snapshots.last().is_none_or(|newest| newest.is_kept()),
                "the newest goes: {policy}"
            );
        }
        let forgotten = decision.to_forget(false).expect("no group is emptied");
        assert_eq!(forgotten.len() + stays.len(), all.len());
    }
    let mut larger = policy.clone();
    match larger.periods.get_mut(rule) {
        Some(count) => *count = more(*count),
        None => larger.last = more(larger.last),
    }
    assert!(stays.is_subset(&kept(&decide(&larger))), "{larger} keeps less than {policy}");
    let mut tagged = policy.clone();
    tagged.tags.push(TagSet::parse("1"));
    assert!(stays.is_subset(&kept(&decide(&tagged))));
    let named: HashSet<_> = all.iter().copied().take(rule).collect();
    let by_name = kept(&retention::name(snapshots, &named, group_by));
    assert!(by_name.iter().all(|id| !named.contains(id)) && by_name.len() + named.len() == all.len());
}
