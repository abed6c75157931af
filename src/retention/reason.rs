//! Why a snapshot stays or goes, for people. The words are those that restic uses.

use std::fmt;

use crate::clock::{CalendarSpan, CivilTime};
use crate::retention::policy::TagSet;

/// Something that a calendar divides time into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Hours.
    Hourly,
    /// Days.
    Daily,
    /// ISO weeks, from Monday to Sunday.
    Weekly,
    /// Months.
    Monthly,
    /// Years.
    Yearly,
}

impl Period {
    /// All, from the shortest.
    pub const ALL: [Self; 5] = [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// What two moments of the same period have in common.
    pub fn key(self, time: &CivilTime) -> [i64; 4] {
        match self {
            Self::Hourly => [time.year, time.month, time.day, time.hour],
            Self::Daily => [time.year, time.month, time.day, 0],
            Self::Weekly => [time.week_year, time.week, 0, 0],
            Self::Monthly => [time.year, time.month, 0, 0],
            Self::Yearly => [time.year, 0, 0, 0],
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        })
    }
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason {
    /// It is one of the newest.
    Last,
    /// It is the newest of its hour, day and so on; or the oldest, where the rule could have kept more.
    Period {
        /// Which.
        period: Period,
        /// Whether it stays only because there is no older one.
        is_oldest: bool,
    },
    /// It was made in this stretch of time before the latest.
    Within(CalendarSpan),
    /// As [`Self::Period`], in this stretch of time before the latest.
    PeriodWithin {
        /// Which.
        period: Period,
        /// The stretch of time.
        span: CalendarSpan,
        /// Whether it stays only because there is no older one.
        is_oldest: bool,
    },
    /// It has all these tags.
    Tags(TagSet),
    /// It is dated after now: nobody knows how old it is.
    InTheFuture,
    /// Others were named, and not this one.
    NotNamed,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let oldest = |is_oldest: bool| if is_oldest { "oldest " } else { "" };
        match self {
            Self::Last => out.write_str("last snapshot"),
            Self::Period { period, is_oldest } => write!(out, "{}{period} snapshot", oldest(*is_oldest)),
            Self::Within(span) => write!(out, "within {span}"),
            Self::PeriodWithin { period, span, is_oldest } => {
                write!(out, "{}{period} within {span}", oldest(*is_oldest))
            }
            Self::Tags(tags) => write!(out, "has tags [{}]", tags.to_string().replace(',', ", ")),
            Self::InTheFuture => out.write_str("in the future"),
            Self::NotNamed => out.write_str("not named"),
        }
    }
}

/// Why a snapshot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// No rule keeps it.
    NoRule,
    /// Somebody named it.
    Named,
}

impl fmt::Display for DropReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoRule => "no rule keeps it",
            Self::Named => "named",
        })
    }
}
