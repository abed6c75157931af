//! The keep rules mean what restic's mean: the same snapshots in, the same kept, for the same reasons.
//!
//! It needs the program restic, 0.16 or later, in the path or named by the variable RESTIC. Where it is missing, the
//! test says so and passes.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use kluis::clock::{Timestamp, Zone};
use kluis::id::{SeriesId, SnapshotId};
use kluis::retention::{self, Candidate, Fate, GroupBy, Policy, TagSet};
use kluis::wire::Bytes;
use serde_json::Value;

/// Where snapshots are forgotten. Two others make some of them.
const HOME: &str = "Europe/Berlin";

/// Zone, local time and tags, in the order of time.
const SNAPSHOTS: &[(&str, &str, &str)] = &[
    ("Europe/Berlin", "2024-02-29 12:00:00", ""),
    ("Europe/Berlin", "2024-12-30 23:30:00", "old"),
    ("America/New_York", "2024-12-31 20:00:00", "old,far"),
    ("Europe/Berlin", "2025-03-29 10:00:00", ""),
    ("Europe/Berlin", "2025-10-26 01:30:00", "a"),
    ("Europe/Berlin", "2025-10-26 03:30:00", "a"),
    ("Europe/Berlin", "2025-12-28 12:00:00", ""),
    ("Europe/Berlin", "2025-12-29 12:00:00", "a,b"),
    ("Asia/Kolkata", "2026-01-01 04:00:00", ""),
    ("Europe/Berlin", "2026-01-01 00:30:00", ""),
    ("Europe/Berlin", "2026-02-28 09:00:00", "b"),
    ("Europe/Berlin", "2026-03-28 10:29:59", ""),
    ("Europe/Berlin", "2026-03-28 10:30:01", ""),
    ("America/New_York", "2026-03-29 00:10:00", ""),
    ("Europe/Berlin", "2026-03-30 11:00:00", "a"),
    ("Europe/Berlin", "2026-03-31 10:05:00", ""),
    ("Europe/Berlin", "2026-03-31 10:25:00", "a,b"),
    ("Europe/Berlin", "2026-03-31 10:30:00", ""),
];

const POLICIES: &[&str] = &[
    "--keep-last 3",
    "--keep-last unlimited --keep-daily 1",
    "--keep-hourly 4 --keep-daily 5 --keep-weekly 3 --keep-monthly 6 --keep-yearly 2",
    "--keep-hourly 16",
    "--keep-hourly unlimited --keep-weekly 30",
    "--keep-daily 40 --keep-monthly 9",
    "--keep-weekly 8 --keep-yearly 10",
    "--keep-yearly 3",
    "--keep-within 3d",
    "--keep-within 1m",
    "--keep-within 1y1m3d --keep-tag old",
    "--keep-within-hourly 3d --keep-within-daily 1m --keep-within-weekly 3m",
    "--keep-within-monthly 1y --keep-within-yearly 75y",
    "--keep-within-daily 72h --keep-last 1",
    "--keep-tag a,b --keep-tag old --keep-daily 2",
    "--keep-tag  --keep-last 2",
];

fn restic_program() -> Option<PathBuf> {
    let named = std::env::var_os("RESTIC").unwrap_or_else(|| OsString::from("restic"));
    let answers = Command::new(&named).arg("version").output().is_ok_and(|output| output.status.success());
    answers.then(|| named.into())
}

struct Restic<'a> {
    program: &'a Path,
    folder: &'a Path,
}

impl Restic<'_> {
    fn run(&self, zone: &str, args: &[&str]) -> String {
        let mut command = Command::new(self.program);
        command.env_clear().env("TZ", zone).env("HOME", self.folder).env("RESTIC_PASSWORD", "password");
        command.current_dir(self.folder).args(["--repo", "repository", "--no-cache", "--quiet"]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.run(HOME, args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error} in {text:?}"))
    }
}

fn id_of(snapshot: &Value) -> SnapshotId {
    snapshot["id"].as_str().unwrap()[..32].parse().unwrap()
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What restic recorded of its snapshots.
fn candidates(listed: &Value) -> Vec<Candidate> {
    let mut snapshots: Vec<_> = listed.as_array().unwrap().iter().collect();
    snapshots.sort_by_key(|snapshot| Timestamp::parse(snapshot["time"].as_str().unwrap()).unwrap());
    let candidate = |(at, snapshot): (usize, &&Value)| {
        let time = snapshot["time"].as_str().unwrap();
        let (sign, offset) = match time.rsplit_once(['+', 'Z']) {
            Some((_, offset)) => (1, offset),
            None => (-1, time.rsplit_once('-').unwrap().1),
        };
        let number = |text: &str| text.parse::<i64>().unwrap();
        let seconds = offset.split_once(':').map_or(0, |(h, m)| number(h) * 3600 + number(m) * 60);
        Candidate {
            id: id_of(snapshot),
            time: Timestamp::parse(time).unwrap(),
            utc_offset_seconds: sign * seconds,
            host: snapshot["hostname"].as_str().unwrap().to_owned(),
            paths: strings(&snapshot["paths"]).iter().map(|path| Bytes::from(path.as_bytes())).collect(),
            tags: strings(&snapshot["tags"]),
            series: SeriesId::new([0; 16]),
            sequence: at as u64 + 1,
        }
    };
    snapshots.iter().enumerate().map(candidate).collect()
}

fn policy(args: &[&str]) -> Policy {
    let mut policy = Policy::default();
    let names = ["hourly", "daily", "weekly", "monthly", "yearly"];
    for pair in args.chunks(2) {
        let [rule, value] = pair else { panic!("a rule has a value") };
        let place = |prefix: &str| names.iter().position(|name| Some(*name) == rule.strip_prefix(prefix));
        match *rule {
            "--keep-last" => policy.last = value.parse().unwrap(),
            "--keep-within" => policy.within = value.parse().unwrap(),
            "--keep-tag" => policy.tags.push(TagSet::parse(value)),
            _ => match place("--keep-") {
                Some(at) => policy.periods[at] = value.parse().unwrap(),
                None => policy.within_periods[place("--keep-within-").unwrap()] = value.parse().unwrap(),
            },
        }
    }
    policy
}

/// Every snapshot that stays, with its reasons in order.
type Kept = BTreeMap<SnapshotId, Vec<String>>;

fn kept_by_restic(groups: &Value) -> Kept {
    let reasons = groups.as_array().unwrap().iter().flat_map(|group| group["reasons"].as_array().unwrap());
    let mut kept = Kept::new();
    for reason in reasons {
        let mut matches = strings(&reason["matches"]);
        matches.sort();
        // The reasons name a snapshot without its id; time and host tell it apart.
        kept.insert(id_of_reason(groups, &reason["snapshot"]), matches);
    }
    kept
}

fn id_of_reason(groups: &Value, snapshot: &Value) -> SnapshotId {
    let keep = groups.as_array().unwrap().iter().flat_map(|group| group["keep"].as_array().unwrap());
    let mut same = keep.filter(|kept| kept["time"] == snapshot["time"]);
    id_of(same.next().unwrap())
}

fn kept_here(candidates: &[Candidate], policy: &Policy) -> Kept {
    let now = Timestamp::parse("2026-11-01T00:00:00Z").unwrap();
    let zone = Zone::named(HOME).unwrap();
    let decision = retention::decide(candidates.to_vec(), policy, GroupBy::default(), now, &zone);
    let kept = decision.snapshots().filter_map(|judged| match &judged.fate {
        Fate::Keep(reasons) => {
            let mut reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            reasons.sort();
            Some((judged.snapshot.id, reasons))
        }
        Fate::Drop(_) => None,
    });
    kept.collect()
}

#[test]
fn the_same_snapshots_stay_as_with_restic() {
    let Some(program) = restic_program() else {
        eprintln!("SKIPPED: there is no restic in the path or in RESTIC to compare with");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let restic = Restic { program: &program, folder: folder.path() };
    std::fs::write(folder.path().join("file"), "content").unwrap();
    restic.run(HOME, &["init"]);
    for (zone, time, tags) in SNAPSHOTS {
        let tags: &[&str] = if tags.is_empty() { &[] } else { &["--tag", tags] };
        let args = ["backup", "--force", "--host", "web1", "--time", time, "file"];
        restic.run(zone, &[&args[..], tags].concat());
    }
    let candidates = candidates(&restic.json(&["snapshots", "--json"]));
    assert_eq!(candidates.len(), SNAPSHOTS.len());
    for text in POLICIES {
        let args: Vec<_> = text.split(' ').collect();
        let command = [&["forget", "--dry-run", "--json"], args.as_slice()].concat();
        let expected = kept_by_restic(&restic.json(&command));
        assert_eq!(kept_here(&candidates, &policy(&args)), expected, "{text}");
    }
}
