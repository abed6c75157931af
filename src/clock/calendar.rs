//! Calendars: which hour, day, week, month and year a moment lies in, and what was so many of them before it.
//!
//! Everything is arithmetic on whole seconds, for any moment whatsoever; only [`Zone`] asks the tables of time zones.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;

const DAY_SECONDS: i64 = 86_400;
/// Moments and spans beyond this are treated as this: 30 million years, which leaves room for any sum of two.
const SECONDS_MAX: i64 = 1_000_000_000_000_000;

/// A time zone with its rules, daylight saving among them.
#[derive(Debug, Clone)]
pub struct Zone(jiff::tz::TimeZone);

impl Zone {
    /// The zone of this computer.
    pub fn system() -> Self {
        Self(jiff::tz::TimeZone::system())
    }

    /// UTC.
    pub fn utc() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }

    /// The zone of this name, such as `Europe/Berlin`, if it is known.
    pub fn named(name: &str) -> Option<Self> {
        jiff::tz::TimeZone::get(name).ok().map(Self)
    }

    /// How many seconds clocks in this zone are ahead of UTC at this moment.
    pub fn offset_seconds(&self, at: Timestamp) -> i64 {
        let seconds = at.seconds.clamp(-SECONDS_MAX, SECONDS_MAX);
        let moment = jiff::Timestamp::from_second(seconds).unwrap_or(if seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        i64::from(self.0.to_offset(moment).seconds())
    }
}

/// What a calendar on the wall shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CivilTime {
    /// Year; there is a year 0.
    pub year: i64,
    /// Month, from 1.
    pub month: i64,
    /// Day of the month, from 1.
    pub day: i64,
    /// Hour, from 0.
    pub hour: i64,
    /// Year of the ISO week, which begins on a Monday and belongs to the year of its Thursday.
    pub week_year: i64,
    /// Number of the ISO week, from 1.
    pub week: i64,
}

impl CivilTime {
    /// What a calendar shows at `moment` where clocks are so many seconds ahead of UTC.
    pub fn new(moment: Timestamp, offset_seconds: i64) -> Self {
        let local = local_seconds(moment, offset_seconds);
        let days = local.div_euclid(DAY_SECONDS);
        let (year, month, day) = date_of(days);
        // 1970-01-01 was a Thursday; Monday is 0 here.
        let thursday = days - (days + 3).rem_euclid(7) + 3;
        let (week_year, _, _) = date_of(thursday);
        let week = (thursday - days_before(week_year, 1)).div_euclid(7) + 1;
        Self { year, month, day, hour: local.rem_euclid(DAY_SECONDS) / 3600, week_year, week }
    }
}

fn local_seconds(moment: Timestamp, offset_seconds: i64) -> i64 {
    moment.seconds.clamp(-SECONDS_MAX, SECONDS_MAX) + offset_seconds.clamp(-DAY_SECONDS * 2, DAY_SECONDS * 2)
}

/// Days from 1970-01-01 to the first day of this month.
fn days_before(year: i64, month: i64) -> i64 {
    // Years begin in March here, so that the odd month is the last; 400 of them have 146,097 days.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    cycle * 146_097 + year * 365 + year / 4 - year / 100 + (153 * month + 2) / 5 - 719_468
}

/// Year, month and day, so many days after 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + next, month, day)
}

/// A stretch of time as people count it: `1y5m7d2h`. Months and years have as many days as the calendar says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CalendarSpan {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl CalendarSpan {
    /// Whether it is no time at all.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// The moment this long before `moment`, where clocks are `offset_seconds` ahead of UTC.
    ///
    /// Years, months and days are taken off the date, and the time of day stays. A day that the month does not have
    /// runs on into the next: a month before 31 March is 3 March, or 2 March in a leap year. Hours are always hours.
    /// If clocks in `zone` show that offset at `moment`, its daylight saving counts; otherwise the offset is fixed.
    pub fn before(&self, moment: Timestamp, offset_seconds: i64, zone: &Zone) -> Timestamp {
        let local = local_seconds(moment, offset_seconds);
        let (year, month, day) = date_of(local.div_euclid(DAY_SECONDS));
        let months = year * 12 + (month - 1) - i64::from(self.years) * 12 - i64::from(self.months);
        let days = days_before(months.div_euclid(12), months.rem_euclid(12) + 1) + day - 1;
        let local = (days - i64::from(self.days)) * DAY_SECONDS + local.rem_euclid(DAY_SECONDS);
        let offset = if zone.offset_seconds(moment) == offset_seconds {
            // The offset depends on the moment that is sought. Looking it up for the local time as if that were UTC,
            // and once more for what comes of it, is right but for times of day that happen twice or never.
            let first = zone.offset_seconds(Timestamp::from_seconds(local));
            zone.offset_seconds(Timestamp::from_seconds(local - first))
        } else {
            offset_seconds
        };
        let seconds = local - offset - i64::from(self.hours) * 3600;
        Timestamp { seconds, nanoseconds: moment.nanoseconds }
    }
}

impl fmt::Display for CalendarSpan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return out.write_str("0h");
        }
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        parts.into_iter().filter(|(count, _)| *count > 0).try_for_each(|(n, unit)| write!(out, "{n}{unit}"))
    }
}

/// A text that is not a [`CalendarSpan`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a stretch of time; write for instance 14d, 6m or 1y5m7d2h, where m are months")]
pub struct CalendarSpanError(String);

impl FromStr for CalendarSpan {
    type Err = CalendarSpanError;

    fn from_str(text: &str) -> Result<Self, CalendarSpanError> {
        let error = || CalendarSpanError(text.to_owned());
        let mut span = Self::default();
        let mut given = String::new();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let (number, unit_and_more) = rest.split_at_checked(end).ok_or_else(error)?;
            let number = number.parse().map_err(|_| error())?;
            let unit = unit_and_more.chars().next().ok_or_else(error)?;
            let place = match unit {
                'y' => &mut span.years,
                'm' => &mut span.months,
                'd' => &mut span.days,
                'h' => &mut span.hours,
                _ => return Err(error()),
            };
            if given.contains(unit) {
                return Err(error());
            }
            *place = number;
            given.push(unit);
            rest = unit_and_more.strip_prefix(unit).unwrap_or_default();
        }
        Ok(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> (Timestamp, i64) {
        let zoned: jiff::Timestamp = text.parse().unwrap();
        let offset = match text.rsplit_once(['+', 'Z']) {
            Some((_, "")) | None => 0,
            Some((_, offset)) => {
                let (hours, minutes) = offset.split_once(':').unwrap();
                hours.parse::<i64>().unwrap() * 3600 + minutes.parse::<i64>().unwrap() * 60
            }
        };
        (zoned.into(), offset)
    }

    #[test]
    fn calendars_agree_with_another_implementation() {
        for days in (-800_000..2_000_000_i64).step_by(61) {
            for second in [0, 1, 43_210, 86_399] {
                let moment = Timestamp::from_seconds(days * DAY_SECONDS + second);
                let expected = jiff::Timestamp::from_second(moment.seconds).unwrap();
                let expected = jiff::tz::Offset::UTC.to_datetime(expected);
                let shown = CivilTime::new(moment, 0);
                let date = (shown.year, shown.month, shown.day, shown.hour);
                let fields = [expected.month(), expected.day(), expected.hour()].map(i64::from);
                assert_eq!(date, (i64::from(expected.year()), fields[0], fields[1], fields[2]));
                let week = expected.date().iso_week_date();
                assert_eq!((shown.week_year, shown.week), (week.year().into(), week.week().into()));
            }
        }
    }

    #[test]
    fn the_offset_decides_which_day_it_is() {
        let moment = at("2026-12-31T23:30:00Z").0;
        assert_eq!(CivilTime::new(moment, 0).year, 2026);
        let east = CivilTime::new(moment, 3600);
        assert_eq!((east.year, east.month, east.day, east.hour), (2027, 1, 1, 0));
        assert_eq!((east.week_year, east.week), (2026, 53));
    }

    #[test]
    fn no_moment_is_too_far_away() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let most = CalendarSpan { years: u32::MAX, months: u32::MAX, days: u32::MAX, hours: u32::MAX };
        for seconds in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
            let moment = Timestamp::from_seconds(seconds);
            let _ = CivilTime::new(moment, i64::MAX);
            let _ = CivilTime::new(moment, i64::MIN);
            assert!(most.before(moment, zone.offset_seconds(moment), &zone) < Timestamp::from_seconds(0));
        }
    }

    #[test]
    fn spans_before_a_moment_follow_the_calendar() {
        let zone = Zone::utc();
        let cases = [
            ("2026-03-31T10:00:00Z", "1m", "2026-03-03T10:00:00Z"),
            ("2024-03-31T10:00:00Z", "1m", "2024-03-02T10:00:00Z"),
            ("2024-02-29T10:00:00Z", "1y", "2023-03-01T10:00:00Z"),
            ("2026-01-15T00:00:00Z", "2y13m20d5h", "2022-11-24T19:00:00Z"),
            ("2026-11-20T10:00:00Z", "75y", "1951-11-20T10:00:00Z"),
            ("2026-11-20T10:00:00Z", "48h", "2026-11-18T10:00:00Z"),
        ];
        for (moment, span, expected) in cases {
            let span: CalendarSpan = span.parse().unwrap();
            assert_eq!(span.before(at(moment).0, 0, &zone), at(expected).0, "{moment} {span}");
        }
    }

    #[test]
    fn days_keep_the_time_of_day_across_daylight_saving_and_hours_do_not() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let (moment, offset) = at("2026-03-30T10:00:00+02:00");
        let before = |span: &str, offset| span.parse::<CalendarSpan>().unwrap().before(moment, offset, &zone);
        assert_eq!(before("2d", offset), at("2026-03-28T10:00:00+01:00").0);
        assert_eq!(before("48h", offset), at("2026-03-28T09:00:00+01:00").0);
        // Made somewhere else: those clocks are not known to change.
        assert_eq!(before("2d", 0), at("2026-03-28T08:00:00Z").0);
        // 02:30 does not exist on the 29th.
        let (moment, offset) = at("2026-03-30T02:30:00+02:00");
        let day = CalendarSpan { days: 1, ..CalendarSpan::default() };
        assert_eq!(day.before(moment, offset, &zone), at("2026-03-29T03:30:00+02:00").0);
    }

    #[test]
    fn spans_are_read_and_shown() {
        for text in ["1y5m7d2h", "7d", "37h", "2y"] {
            assert_eq!(text.parse::<CalendarSpan>().unwrap().to_string(), text);
        }
        assert!("0d".parse::<CalendarSpan>().unwrap().is_zero());
        for text in ["", "7", "d", "7w", "-7d", "1d1d", "1D", "99999999999d", "7d ago"] {
            assert!(text.parse::<CalendarSpan>().is_err(), "{text:?}");
        }
    }
}
