//! Tests of every rule, of their combinations, and of what holds for all policies.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;
use crate::clock::{CalendarSpan, CivilTime};

/// Parses `2026-11-20T18:00:00+01:00`.
fn moment(text: &str) -> (Timestamp, i64) {
    let zoned = jiff::fmt::temporal::DateTimeParser::new().parse_timestamp(text).unwrap();
    let offset: jiff::fmt::temporal::Pieces<'_> = jiff::fmt::temporal::Pieces::parse(text).unwrap();
    let offset = offset.to_numeric_offset().map_or(0, |offset| i64::from(offset.seconds()));
    (Timestamp::from(zoned), offset)
}

fn now() -> Timestamp {
    moment("2030-01-01T00:00:00Z").0
}

fn candidate(number: usize, time: &str) -> Candidate {
    let (time, utc_offset_seconds) = moment(time);
    Candidate {
        id: SnapshotId::new([number as u8; 16]),
        time,
        utc_offset_seconds,
        host: "host".to_owned(),
        paths: vec![Bytes::from(&b"/data"[..])],
        tags: Vec::new(),
        series: SeriesId::new([0; 16]),
        sequence: number as u64 + 1,
    }
}

/// Snapshots of one series in this order; each may carry tags: `2026-11-20T18:00:00Z a,b`.
fn series(times: &[&str]) -> Vec<Candidate> {
    let tagged = |(number, text): (usize, &&str)| {
        let (time, tags) = text.split_once(' ').unwrap_or((text, ""));
        let tags = tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        Candidate { tags, ..candidate(number, time) }
    };
    times.iter().enumerate().map(tagged).collect()
}

/// Reads `last 3, daily 7, within 1y, within-daily 7d, tag a+b`.
fn policy(text: &str) -> Policy {
    let mut policy = Policy::default();
    for (rule, value) in text.split(", ").map(|rule| rule.split_once(' ').unwrap_or((rule, ""))) {
        let period = |name: &str| Period::ALL.iter().position(|period| period.to_string() == name).unwrap();
        match rule {
            "last" => policy.last = value.parse().unwrap(),
            "within" => policy.within = value.parse().unwrap(),
            "tag" => policy.tags.push(TagSet::parse(&value.replace('+', ","))),
            rule => match rule.strip_prefix("within-") {
                Some(rule) => policy.within_periods[period(rule)] = value.parse().unwrap(),
                None => policy.periods[period(rule)] = value.parse().unwrap(),
            },
        }
    }
    policy
}

fn decided(snapshots: Vec<Candidate>, text: &str) -> Decision {
    decide(snapshots, &policy(text), GroupBy::default(), now(), &Zone::utc())
}

/// Numbers of the snapshots that stay, each with its reasons.
fn kept(decision: &Decision) -> Vec<(usize, String)> {
    let reasons = decision.snapshots().filter_map(|judged| match &judged.fate {
        Fate::Keep(reasons) => {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            Some((usize::from(judged.snapshot.id.bytes()[0]), reasons.join("; ")))
        }
        Fate::Drop(_) => None,
    });
    reasons.collect()
}

fn kept_numbers(times: &[&str], text: &str) -> Vec<usize> {
    kept(&decided(series(times), text)).into_iter().map(|(number, _)| number).collect()
}

/// Three days with two snapshots each, then one in the next month, and one in the next year.
const TIMES: &[&str] = &[
    "2026-11-18T08:10:00Z",
    "2026-11-18T08:50:00Z",
    "2026-11-19T08:10:00Z",
    "2026-11-19T18:00:00Z a",
    "2026-11-20T08:10:00Z a,b",
    "2026-11-20T18:00:00Z",
    "2026-12-31T12:00:00Z b",
    "2027-01-01T12:00:00Z",
];

#[test]
fn each_rule_keeps_what_its_name_says() {
    let cases: &[(&str, &[usize])] = &[
        ("last 1", &[7]),
        ("last 3", &[5, 6, 7]),
        ("last 100", &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("last unlimited", &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("hourly 3", &[5, 6, 7]),
        ("hourly 7", &[1, 2, 3, 4, 5, 6, 7]),
        ("daily 2", &[6, 7]),
        ("daily 4", &[3, 5, 6, 7]),
        ("daily 5", &[1, 3, 5, 6, 7]),
        ("weekly 2", &[5, 7]),
        ("monthly 2", &[6, 7]),
        ("monthly 3", &[5, 6, 7]),
        ("yearly 1", &[7]),
        ("yearly 2", &[6, 7]),
        ("tag a", &[3, 4]),
        ("tag a+b", &[4]),
        ("tag a, tag b", &[3, 4, 6]),
        ("tag ", &[0, 1, 2, 5, 7]),
        ("within 1d", &[7]),
        ("within 25h", &[6, 7]),
        ("within 2m", &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("within-hourly 2m", &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("within-daily 43d", &[3, 5, 6, 7]),
        ("within-weekly 2m", &[0, 5, 7]),
        ("within-monthly 2m", &[0, 5, 6, 7]),
        ("within-yearly 2m", &[0, 6, 7]),
        ("within-yearly 1d", &[7]),
        ("last 1, daily 2, yearly 2, tag a", &[3, 4, 6, 7]),
        ("last 0", &[]),
        ("daily 0, within 0d", &[]),
        ("tag c", &[]),
    ];
    for (policy, expected) in cases {
        assert_eq!(kept_numbers(TIMES, policy), *expected, "{policy}");
    }
}

#[test]
fn a_rule_that_could_keep_more_keeps_the_oldest_too() {
    let times = &["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z"];
    assert_eq!(kept_numbers(times, "daily 1"), [2]);
    assert_eq!(kept_numbers(times, "daily 2"), [0, 2]);
    assert_eq!(kept_numbers(times, "daily unlimited"), [0, 2]);
    assert_eq!(kept_numbers(times, "within-daily 7d"), [0, 2]);
    // Outside of the stretch of time nothing is the oldest.
    assert_eq!(kept_numbers(times, "within-daily 1h"), [2]);
    let reasons = kept(&decided(series(times), "daily 2, monthly 1, within-yearly 1y"));
    let oldest = "oldest daily snapshot; oldest yearly within 1y".to_owned();
    assert_eq!(reasons[0], (0, oldest));
    let newest = "daily snapshot; monthly snapshot; yearly within 1y".to_owned();
    assert_eq!(reasons[1], (2, newest));
}

#[test]
fn every_reason_is_told() {
    let reasons = kept(&decided(series(TIMES), "last 1, hourly 1, weekly 2, within 1d, tag a+b"));
    assert_eq!(reasons[0], (4, "has tags [a, b]".to_owned()));
    assert_eq!(reasons[1], (5, "weekly snapshot".to_owned()));
    let newest = "within 1d; last snapshot; hourly snapshot; weekly snapshot".to_owned();
    assert_eq!(reasons[2], (7, newest));
}

#[test]
fn weeks_are_iso_weeks() {
    // 2027-01-01 is a Friday of week 53 of 2026, which began on Monday 2026-12-28.
    let times =
        &["2026-12-27T12:00:00Z", "2026-12-28T12:00:00Z", "2027-01-03T12:00:00Z", "2027-01-04T12:00:00Z"];
    assert_eq!(kept_numbers(times, "weekly 3"), [0, 2, 3]);
    assert_eq!(kept_numbers(times, "weekly 2"), [2, 3]);
}

#[test]
fn days_are_those_of_the_clocks_that_made_the_snapshots() {
    // All within two hours, but the clocks on the wall show three days.
    let times = &["2026-06-30T23:10:00+02:00", "2026-06-30T23:50:00+02:00", "2026-07-01T00:10:00+02:00"];
    assert_eq!(kept_numbers(times, "daily 2"), [1, 2]);
    assert_eq!(kept_numbers(times, "monthly 2"), [1, 2]);
    let times = &["2026-06-30T21:10:00Z", "2026-06-30T21:50:00Z", "2026-06-30T22:10:00Z"];
    assert_eq!(kept_numbers(times, "daily 1"), [2]);
    assert_eq!(kept_numbers(times, "monthly 2"), [0, 2]);
}

#[test]
fn the_hour_that_clocks_show_twice_is_one_hour() {
    // Berlin, 2026-10-25: 02:00 to 03:00 comes twice. 2026-03-29: it does not come at all.
    let times = &["2026-10-25T02:10:00+02:00", "2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00"];
    assert_eq!(kept_numbers(times, "hourly 1"), [2]);
    assert_eq!(kept_numbers(times, "hourly 2"), [0, 2]);
    let times = &["2026-03-29T01:59:00+01:00", "2026-03-29T03:00:00+02:00"];
    assert_eq!(kept_numbers(times, "hourly 2"), [0, 1]);
    assert_eq!(kept_numbers(times, "daily 1"), [1]);
}

#[test]
fn a_stretch_of_days_keeps_the_time_of_day_where_daylight_saving_is_known() {
    let zone = Zone::named("Europe/Berlin").unwrap();
    let times = &["2026-03-25T10:30:00+01:00", "2026-03-25T11:30:00+01:00", "2026-04-01T11:00:00+02:00"];
    let judged = |zone: &Zone| {
        let decision = decide(series(times), &policy("within 7d"), GroupBy::default(), now(), zone);
        kept(&decision).len()
    };
    // Seven days before are 11:00 on clocks of the winter, 10:00 where nobody knows that the clocks were changed.
    assert_eq!(judged(&zone), 2);
    assert_eq!(judged(&Zone::utc()), 3);
}

#[test]
fn the_edge_of_a_stretch_of_time_is_outside() {
    let times = &["2026-11-13T12:00:00Z", "2026-11-13T12:00:01Z", "2026-11-20T12:00:00Z"];
    assert_eq!(kept_numbers(times, "within 7d"), [1, 2]);
}

#[test]
fn snapshots_of_the_future_stay_and_do_not_count() {
    let mut snapshots = series(TIMES);
    let alone = kept(&decided(snapshots.clone(), "last 2, within 1d"));
    for (number, sequence) in [(100, 100), (101, 3)] {
        let future = candidate(number, "2031-01-01T00:00:00Z");
        snapshots.push(Candidate { sequence, ..future });
    }
    let with_future = kept(&decided(snapshots, "last 2, within 1d"));
    let (future, others): (Vec<_>, Vec<_>) = with_future.into_iter().partition(|(number, _)| *number >= 100);
    assert_eq!(others, alone);
    assert_eq!(future.len(), 2);
    assert!(future.iter().all(|(_, reason)| reason == "in the future"));
}

#[test]
fn now_is_not_the_future() {
    let at = |time: &str| vec![candidate(0, time)];
    assert_eq!(kept(&decided(at("2030-01-01T00:00:00Z"), "last 1"))[0].1, "last snapshot");
    assert_eq!(kept(&decided(at("2030-01-01T00:00:01Z"), "last 1"))[0].1, "in the future");
}

#[test]
fn the_sequence_number_decides_which_is_the_newest_of_a_series() {
    // The clock stood wrong for the last two.
    let times =
        &["2026-11-18T12:00:00Z", "2026-11-19T12:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01T01:00:00Z"];
    assert_eq!(kept_numbers(times, "last 1"), [3]);
    assert_eq!(kept_numbers(times, "last 2"), [2, 3]);
    assert_eq!(kept_numbers(times, "within 1h"), [1, 2, 3]);
    assert_eq!(kept_numbers(times, "within-daily 1h"), [1, 3]);
}

#[test]
fn a_snapshot_that_was_brought_back_is_not_the_newest() {
    let mut snapshots = series(&TIMES[..3]);
    // Brought back last, in the place of the first.
    snapshots.push(Candidate { sequence: 1, ..candidate(9, TIMES[0]) });
    snapshots.remove(0);
    let kept: Vec<_> = kept(&decided(snapshots, "last 2")).into_iter().map(|(number, _)| number).collect();
    assert_eq!(kept, [1, 2]);
}

#[test]
fn groups_are_judged_apart() {
    let mut snapshots = series(&TIMES[..4]);
    snapshots[0].host = "other".to_owned();
    snapshots[1].paths = vec![Bytes::from(&b"/b"[..]), Bytes::from(&b"/a"[..])];
    snapshots[2].paths = vec![Bytes::from(&b"/a"[..]), Bytes::from(&b"/b"[..])];
    let groups = |by: &str| {
        let by = by.parse().unwrap();
        decide(snapshots.clone(), &policy("last 1"), by, now(), &Zone::utc()).groups
    };
    assert_eq!(groups("").len(), 1);
    assert_eq!(groups("host").len(), 2);
    // The order of paths does not matter.
    assert_eq!(groups("host,paths").len(), 3);
    assert_eq!(groups("hosts, path,tags").len(), 3);
    assert_eq!(groups("tag").len(), 2);
    assert!(groups("host").iter().all(|group| !group.is_emptied()));
    assert!("host,size".parse::<GroupBy>().is_err());
    assert_eq!(groups("")[0].key.to_string(), "all snapshots");
    assert_eq!(groups("host,tags")[0].key.to_string(), "host host; no tags");
}

#[test]
fn a_group_is_not_emptied_unless_that_is_allowed() {
    let mut snapshots = series(TIMES);
    snapshots[7].host = "other".to_owned();
    let decision = decided(snapshots, "tag a");
    let error = decision.to_forget(false).unwrap_err();
    assert_eq!(error.to_string(), "no snapshot would be left of host other; paths /data");
    assert_eq!(decision.to_forget(true).unwrap().len(), 6);
    assert_eq!(decision.kept_count(), 2);
}

#[test]
fn a_group_that_two_emptied_together_is_named() {
    let mut snapshots = series(&TIMES[..4]);
    snapshots[0].host = "other".to_owned();
    let decision = decided(snapshots, "last 1");
    let id = |number: u8| SnapshotId::new([number; 16]);
    assert!(decision.emptied_by_others(&HashSet::from([id(0), id(3)])).is_empty());
    let emptied = decision.emptied_by_others(&HashSet::from([id(0), id(2)]));
    assert_eq!(emptied[0].key.to_string(), "host host; paths /data");
    assert_eq!(emptied.len(), 1);
}

#[test]
fn snapshots_that_are_named_go_and_others_stay() {
    let named = |numbers: &[u8]| {
        let named = numbers.iter().map(|number| SnapshotId::new([*number; 16])).collect();
        super::name(series(TIMES), &named, GroupBy::default())
    };
    assert_eq!(named(&[2, 3]).to_forget(false).unwrap().len(), 2);
    assert!(named(&[0, 1, 2, 3, 4, 5, 6, 7]).to_forget(false).is_err());
}

#[test]
fn a_policy_is_told_as_it_was_given() {
    let text = policy("last 3, daily unlimited, within 1y, within-weekly 2m, tag a+b").to_string();
    let expected =
        "--keep-last 3 --keep-daily unlimited --keep-within 1y --keep-within-weekly 2m --keep-tag 'a,b'";
    assert_eq!(text, expected);
    assert!(policy("last 0, within 0h").is_empty());
    assert!(!policy("tag ").is_empty());
    for text in ["", "-2", "1.5", "all"] {
        assert!(text.parse::<Count>().is_err(), "{text:?}");
    }
    assert_eq!("-1".parse::<Count>(), Ok(Count::Unlimited));
}

/// What the documentation of a rule says, in other words than the rule itself: for honest clocks only.
fn naive(snapshots: &[Candidate], policy: &Policy) -> HashSet<SnapshotId> {
    let mut order: Vec<&Candidate> = snapshots.iter().collect();
    order.sort_by_key(|snapshot| snapshot.sequence);
    let Some(latest) = order.last() else { return HashSet::new() };
    let from = |span: &CalendarSpan| span.before(latest.time, latest.utc_offset_seconds, &Zone::utc());
    let mut kept = HashSet::new();
    let mut keep = |picked: &mut dyn Iterator<Item = &&Candidate>| kept.extend(picked.map(|it| it.id));
    for tags in &policy.tags {
        keep(&mut order.iter().filter(|snapshot| tags.fits(&snapshot.tags)));
    }
    if !policy.within.is_zero() {
        keep(&mut order.iter().filter(|snapshot| snapshot.time > from(&policy.within)));
    }
    let count = |count: Count| if let Count::Some(count) = count { count as usize } else { usize::MAX };
    keep(&mut order.iter().rev().take(count(policy.last)));
    for (number, period) in Period::ALL.into_iter().enumerate() {
        let key = |it: &Candidate| period.key(&CivilTime::new(it.time, it.utc_offset_seconds));
        let newest_of_each = |among: &[&Candidate]| -> Vec<SnapshotId> {
            let seen: BTreeSet<_> = among.iter().map(|it| key(it)).collect();
            let newest = |wanted: &[i64; 4]| among.iter().rev().find(|it| key(it) == *wanted).unwrap().id;
            seen.iter().rev().map(newest).collect()
        };
        let wanted = count(policy.periods[number]);
        let newest = newest_of_each(&order);
        kept.extend(newest.iter().take(wanted));
        if newest.len() < wanted {
            kept.insert(order[0].id);
        }
        let span = &policy.within_periods[number];
        let inside: Vec<_> = order.iter().copied().filter(|it| it.time > from(span)).collect();
        if !span.is_zero() {
            kept.extend(newest_of_each(&inside));
            kept.extend((inside.len() == order.len()).then(|| order[0].id));
        }
    }
    kept
}

fn some_count() -> impl Strategy<Value = Count> {
    prop_oneof![Just(Count::Some(0)), (1_u32..6).prop_map(Count::Some), Just(Count::Unlimited)]
}

fn some_span() -> impl Strategy<Value = CalendarSpan> {
    let span = (0_u32..3, 0_u32..5, 0_u32..40, 0_u32..50);
    let span = span.prop_map(|(years, months, days, hours)| CalendarSpan { years, months, days, hours });
    prop_oneof![Just(CalendarSpan::default()), span]
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let tags = prop::collection::vec(prop_oneof![Just("a"), Just("a,b"), Just("")], 0..2);
    let counts = prop::array::uniform5(some_count());
    let spans = prop::array::uniform5(some_span());
    (some_count(), counts, some_span(), spans, tags).prop_map(
        |(last, periods, within, within_periods, tags)| {
            let tags = tags.into_iter().map(TagSet::parse).collect();
            Policy { last, periods, within, within_periods, tags }
        },
    )
}

/// Snapshots at any time from 2023 to the end of 2029, in any order, all with one offset.
fn some_snapshots() -> impl Strategy<Value = Vec<Candidate>> {
    let step = prop_oneof![0_i64..7200, 0_i64..200_000, 0_i64..10_000_000];
    let tags =
        prop_oneof![Just(vec![]), Just(vec!["a".to_owned()]), Just(vec!["a".to_owned(), "b".to_owned()])];
    let snapshots = prop::collection::vec((step, tags), 1..30);
    (snapshots, -14_i64..15).prop_map(|(snapshots, hours)| {
        let mut time = 1_672_531_200;
        let made = snapshots.into_iter().enumerate().map(|(number, (step, tags))| {
            time += step;
            let utc_offset_seconds = hours * 3600;
            let time = Timestamp::from_seconds(time.min(1_893_455_999));
            let candidate = candidate(number, "2026-01-01T00:00:00Z");
            Candidate { time, utc_offset_seconds, tags, ..candidate }
        });
        made.collect()
    })
}

fn ids_kept(snapshots: &[Candidate], policy: &Policy) -> HashSet<SnapshotId> {
    let decision = decide(snapshots.to_vec(), policy, GroupBy::default(), now(), &Zone::utc());
    decision.snapshots().filter(|judged| judged.is_kept()).map(|judged| judged.snapshot.id).collect()
}

/// Whatever either of two policies keeps, they keep together.
fn both(a: &Policy, b: &Policy) -> Policy {
    let more = |a: Count, b: Count| match (a, b) {
        (Count::Some(a), Count::Some(b)) => Count::Some(a.max(b)),
        _ => Count::Unlimited,
    };
    let longer = |a: CalendarSpan, b: CalendarSpan| CalendarSpan {
        years: a.years.max(b.years),
        months: a.months.max(b.months),
        days: a.days.max(b.days),
        hours: a.hours.max(b.hours),
    };
    Policy {
        last: more(a.last, b.last),
        periods: std::array::from_fn(|at| more(a.periods[at], b.periods[at])),
        within: longer(a.within, b.within),
        within_periods: std::array::from_fn(|at| longer(a.within_periods[at], b.within_periods[at])),
        tags: a.tags.iter().chain(&b.tags).cloned().collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_do_what_their_description_says(snapshots in some_snapshots(), policy in some_policy()) {
        prop_assert_eq!(ids_kept(&snapshots, &policy), naive(&snapshots, &policy));
    }

    #[test]
    fn keeping_more_never_keeps_fewer(
        snapshots in some_snapshots(),
        shuffle in any::<u64>(),
        less in some_policy(),
        more in some_policy(),
    ) {
        let snapshots = lying(snapshots, shuffle);
        let kept_by_less = ids_kept(&snapshots, &less);
        prop_assert!(kept_by_less.is_subset(&ids_kept(&snapshots, &both(&less, &more))));
    }

    #[test]
    fn the_newest_always_stays(
        snapshots in some_snapshots(),
        shuffle in any::<u64>(),
        policy in some_policy(),
    ) {
        let snapshots = lying(snapshots, shuffle);
        let newest = snapshots.iter().max_by_key(|snapshot| snapshot.sequence).unwrap().id;
        prop_assume!(policy.keeps_newest());
        prop_assert!(ids_kept(&snapshots, &policy).contains(&newest));
    }

    #[test]
    fn the_order_in_which_snapshots_are_listed_does_not_matter(
        snapshots in some_snapshots(),
        shuffle in any::<u64>(),
        policy in some_policy(),
    ) {
        let snapshots = lying(snapshots, shuffle);
        let mut others = snapshots.clone();
        others.sort_by_key(|snapshot| (snapshot.time, snapshot.sequence));
        prop_assert_eq!(ids_kept(&snapshots, &policy), ids_kept(&others, &policy));
    }

    #[test]
    fn the_same_policy_again_forgets_nothing(snapshots in some_snapshots(), policy in some_policy()) {
        let kept = ids_kept(&snapshots, &policy);
        let left: Vec<_> = snapshots.into_iter().filter(|snapshot| kept.contains(&snapshot.id)).collect();
        prop_assert_eq!(ids_kept(&left, &policy), kept);
    }

    #[test]
    fn the_future_changes_nothing_for_others(
        snapshots in some_snapshots(),
        policy in some_policy(),
        sequence in 1_u64..40,
    ) {
        let kept = ids_kept(&snapshots, &policy);
        let future = Candidate { sequence, ..candidate(200, "2030-01-01T00:00:01Z") };
        let mut with_future = snapshots.clone();
        with_future.push(future.clone());
        let mut expected = kept;
        expected.insert(future.id);
        prop_assert_eq!(ids_kept(&with_future, &policy), expected);
    }
}

/// Gives the times to other snapshots of the series: clocks that jump.
fn lying(mut snapshots: Vec<Candidate>, shuffle: u64) -> Vec<Candidate> {
    let times: Vec<_> = snapshots.iter().map(|snapshot| snapshot.time).collect();
    for (at, snapshot) in snapshots.iter_mut().enumerate() {
        let chance = shuffle.rotate_left(at as u32) as usize;
        if chance.is_multiple_of(3) {
            snapshot.time = times[chance % times.len()];
        }
    }
    snapshots
}
