//! What people type: names of snapshots, sizes, spans of time, patterns.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use kluis::cli::args::{SnapshotName, SnapshotPath};
use kluis::cli::selection::in_snapshot;
use kluis::clock::{CalendarSpan, Timestamp, Zone};
use kluis::repo::{SnapshotFilter, SnapshotList};
use kluis::retention::{Count, GroupBy};
use kluis::source::{Excludes, ExcludesBuilder};
use kluis::units::{ByteCount, base64, count_text, counted_text, duration_text};

use super::choices::Choices;

/// `latest~2`, prefixes of ids, `SNAPSHOT:PATH`; and the paths in snapshots.
pub fn selector(data: &[u8]) {
    if let Ok(parsed) = SnapshotPath::parse(OsStr::from_bytes(data)) {
        let shown = parsed.snapshot.to_string();
        assert_eq!(shown.parse::<SnapshotName>().as_ref(), Ok(&parsed.snapshot));
        let mut text = shown.into_bytes();
        if let Some(path) = &parsed.path {
            text.push(b':');
            text.extend(path.as_os_str().as_bytes());
        }
        assert_eq!(SnapshotPath::parse(OsStr::from_bytes(&text)), Ok(parsed));
    }
    let text = String::from_utf8_lossy(data);
    let none = SnapshotList::default();
    assert!(none.select(&text, &SnapshotFilter::default()).is_err(), "nothing was found in an empty list");
    assert!(none.select_dead(&text).is_err());
    let clean = in_snapshot(Path::new(OsStr::from_bytes(data)));
    assert_eq!(in_snapshot(Path::new(OsStr::from_bytes(&clean))), clean, "cleaning is done once");
    assert!(clean.starts_with(b"/"));
    let mut parts = clean.split(|byte| *byte == b'/').skip(1);
    assert!(clean == b"/" || parts.all(|part| !matches!(part, b"" | b"." | b"..")), "{clean:?}");
}

/// Sizes, spans, moments, counts and groups: what is shown reads as what it was.
pub fn units(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(ByteCount(bytes)) = text.parse::<ByteCount>() {
        assert_eq!(bytes.to_string().parse(), Ok(ByteCount(bytes)));
        assert!(!ByteCount(bytes).to_string().is_empty());
    }
    if let Ok(span) = text.parse::<CalendarSpan>() {
        assert_eq!(span.to_string().parse(), Ok(span), "{text:?}");
        let now = Timestamp::from_seconds(1_800_000_000);
        assert!(span.before(now, 3600, &Zone::utc()) <= now);
    }
    if let Ok(count) = text.parse::<Count>() {
        assert_eq!(count.to_string().parse(), Ok(count));
    }
    let _ = text.parse::<GroupBy>();
    if let Some(time) = Timestamp::parse(&text) {
        assert_eq!(
            Timestamp::parse(&time.rfc3339()).map(|time| time.seconds),
            Some(time.seconds),
            "{text:?}"
        );
    }
    let number = Choices(data).number();
    assert_eq!(count_text(number).replace(',', ""), number.to_string());
    assert!(counted_text(number, "files").starts_with(&count_text(number)));
    assert!(!duration_text(Duration::from_millis(number)).is_empty());
    assert!(base64(data).len() == data.len().div_ceil(3) * 4);
    // What is shown is rounded to a tenth of its unit, unless it is beyond what may be typed.
    if let Ok(ByteCount(read)) = ByteCount(number).to_string().parse() {
        assert!(read.abs_diff(number) <= number / 18 + 1, "{number} was shown as {read}");
    }
}

fn built(patterns: &[(bool, &str)]) -> Option<Excludes> {
    let mut builder = ExcludesBuilder::new();
    for (ignore_case, pattern) in patterns {
        match ignore_case {
            true => builder.iexclude(pattern).ok()?,
            false => builder.exclude(pattern).ok()?,
        };
    }
    builder.build().ok()
}

/// Exclude patterns: the last one that matches decides.
pub fn excludes(data: &[u8]) {
    let mut choices = Choices(data);
    let (first, second) = (choices.text(40), choices.text(40));
    let path = in_snapshot(Path::new(OsStr::from_bytes(choices.bytes(60))));
    let Some(path) = path.strip_prefix(b"/").filter(|path| !path.is_empty()) else { return };
    let is_folder = choices.byte() % 2 == 0;
    let Some(one) = built(&[(false, &first)]) else { return };
    let is_out = one.leaves_out(path, is_folder);
    assert!(!is_out || !first.starts_with('!'), "{first:?} alone leaves something out");
    if let Some(either) = built(&[(true, &first)]) {
        assert!(!is_out || either.leaves_out(path, is_folder), "{first:?} matches only with case");
    }
    if !first.starts_with(['!', '\\', '#'])
        && let Some(taken_back) = built(&[(false, &first), (false, &format!("!{first}"))])
    {
        assert!(!taken_back.leaves_out(path, is_folder), "{first:?} is not taken back");
    }
    if let Some(both) = built(&[(false, &first), (false, &second)])
        && let Some(other) = built(&[(false, &second)])
    {
        let out = both.leaves_out(path, is_folder);
        if second.starts_with('!') {
            assert!(is_out || !out, "{second:?} leaves something out");
        } else {
            assert_eq!(out, is_out || other.leaves_out(path, is_folder), "{first:?} and {second:?}");
        }
    }
}
