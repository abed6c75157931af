//! Policies: what to keep.

use std::fmt;
use std::str::FromStr;

use crate::clock::CalendarSpan;
use crate::retention::reason::Period;

/// How many a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// At most so many.
    Some(u32),
    /// All that there are.
    Unlimited,
}

impl Default for Count {
    fn default() -> Self {
        Self::Some(0)
    }
}

impl Count {
    /// Whether it keeps any.
    pub fn is_positive(self) -> bool {
        self != Self::Some(0)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Some(count) => count.fmt(out),
            Self::Unlimited => out.write_str("unlimited"),
        }
    }
}

/// A text that is not a [`Count`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number of snapshots; write a number, or unlimited")]
pub struct CountError(String);

impl FromStr for Count {
    type Err = CountError;

    fn from_str(text: &str) -> Result<Self, CountError> {
        match text {
            "unlimited" | "-1" => Ok(Self::Unlimited),
            _ => text.parse().map(Self::Some).map_err(|_| CountError(text.to_owned())),
        }
    }
}

/// Tags of which a snapshot must have all. The empty tag is that of snapshots without any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSet(Vec<String>);

impl TagSet {
    /// The tags between the commas of `text`.
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').map(|tag| tag.trim().to_owned()).collect())
    }

    /// Whether these tags are what is asked for.
    pub fn fits(&self, tags: &[String]) -> bool {
        for wanted in &self.0 {
            if wanted.is_empty() && tags.is_empty() {
                return true;
            }
            if !tags.contains(wanted) {
                return false;
            }
        }
        true
    }
}

impl fmt::Display for TagSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join(","))
    }
}

/// What to keep. A rule that is zero keeps nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// So many of the newest.
    pub last: Count,
    /// So many hours, days, weeks, months and years, in the order of [`Period::ALL`].
    pub periods: [Count; 5],
    /// Everything in a stretch of time before the latest.
    pub within: CalendarSpan,
    /// One for each hour, day, week, month and year in a stretch of time before the latest.
    pub within_periods: [CalendarSpan; 5],
    /// What has all tags of any of these.
    pub tags: Vec<TagSet>,
}

impl Policy {
    /// Whether it keeps nothing whatever there is.
    pub fn is_empty(&self) -> bool {
        !self.keeps_newest() && self.tags.is_empty()
    }

    /// Whether a rule keeps the newest snapshot of every group.
    pub fn keeps_newest(&self) -> bool {
        self.last.is_positive()
            || self.periods.iter().any(|count| count.is_positive())
            || !self.within.is_zero()
            || self.within_periods.iter().any(|span| !span.is_zero())
    }
}

impl fmt::Display for Policy {
    /// As it stands on a command line.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.last.is_positive() {
            words.push(format!("--keep-last {}", self.last));
        }
        for (period, count) in Period::ALL.iter().zip(&self.periods).filter(|(_, count)| count.is_positive())
        {
            words.push(format!("--keep-{period} {count}"));
        }
        if !self.within.is_zero() {
            words.push(format!("--keep-within {}", self.within));
        }
        let within = Period::ALL.iter().zip(&self.within_periods);
        for (period, span) in within.filter(|(_, span)| !span.is_zero()) {
            words.push(format!("--keep-within-{period} {span}"));
        }
        words.extend(self.tags.iter().map(|tags| format!("--keep-tag '{tags}'")));
        if words.is_empty() {
            words.push("keep nothing".to_owned());
        }
        out.write_str(&words.join(" "))
    }
}
