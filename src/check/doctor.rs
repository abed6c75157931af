//! Doctor: does everything around a repository do what the program relies on?
//!
//! Each probe looks at one thing and says so in one sentence. Some need nothing but the storage, others the repository.
//! What belongs to the files of this computer - rights, the cache, limits - is for the caller to look at, in the same
//! form.
//!
//! | Outcome | Means |
//! | --- | --- |
//! | good | as it should be |
//! | note | worth knowing; nothing is in danger now |
//! | bad | backups, or what was backed up, are in danger |
//!
//! Probes store small objects in `tmp/` and remove them again. Nothing else is changed.

mod inside;
mod outside;

use std::time::Duration;

use serde::Serialize;

pub use inside::with_key;
pub use outside::{promises, settings, without_key};

use crate::clock::Timestamp;
use crate::units::counted_text;

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Worth knowing; nothing is in danger now.
    Note,
    /// Backups, or what was backed up, are in danger.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// A stable name.
    pub id: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Probe {
    /// As it should be.
    pub fn good(id: &'static str, message: impl Into<String>) -> Self {
        Self { id, outcome: Outcome::Good, message: message.into(), hint: None }
    }

    /// Worth knowing.
    pub fn note(id: &'static str, message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Note, ..Self::good(id, message) }
    }

    /// In danger.
    pub fn bad(id: &'static str, message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Bad, ..Self::good(id, message) }
    }

    /// What to do about it.
    pub fn hint(self, text: impl Into<String>) -> Self {
        Self { hint: Some(text.into()), ..self }
    }
}

/// How long ago that was; nothing for a moment in the future.
fn age_of(moment: Timestamp, now: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(now.seconds.saturating_sub(moment.seconds)).unwrap_or(0))
}

/// A span of time in the largest unit that fits: `3 days`.
fn age_text(age: Duration) -> String {
    const HOUR: u64 = 3600;
    match age.as_secs() {
        seconds if seconds < 120 => counted_text(seconds, "seconds"),
        seconds if seconds < 2 * HOUR => counted_text(seconds / 60, "minutes"),
        seconds if seconds < 48 * HOUR => counted_text(seconds / HOUR, "hours"),
        seconds => counted_text(seconds / (24 * HOUR), "days"),
    }
}
