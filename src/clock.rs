//! Moments, and the only source of "now". Times are for showing and for policy; nothing that could lose data
//! depends on them.

mod calendar;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

pub use calendar::{CalendarSpan, CalendarSpanError, CivilTime, Zone};
use serde::{Deserialize, Serialize};

/// A moment: seconds and nanoseconds since 1970-01-01 UTC, negative before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds since the epoch, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// The moment so many seconds after the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    fn zoned(self) -> Option<jiff::Zoned> {
        let nanoseconds = i32::try_from(self.nanoseconds).ok()?;
        let moment = jiff::Timestamp::new(self.seconds, nanoseconds).ok()?;
        Some(moment.to_zoned(jiff::tz::TimeZone::system()))
    }

    /// RFC 3339 with the local offset: `2026-11-20T18:02:35+01:00`.
    pub fn rfc3339(self) -> String {
        match self.zoned() {
            Some(zoned) => zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            None => format!("@{}", self.seconds),
        }
    }

    /// Parses RFC 3339 (`2026-11-20T18:02:35Z`), a local date and time (`2026-11-20 18:02:35`) or a date.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = match text.parse::<jiff::Timestamp>() {
            Ok(moment) => moment,
            Err(_) => {
                let civil = text.parse::<jiff::civil::DateTime>().ok()?;
                civil.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp()
            }
        };
        Some(Self::from(moment))
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(moment: jiff::Timestamp) -> Self {
        let nanoseconds = moment.as_nanosecond();
        let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).unwrap_or(0);
        Self { seconds, nanoseconds: u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or(0) }
    }
}

impl fmt::Display for Timestamp {
    /// Local time for tables: `2026-11-20 18:02:35`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zoned() {
            Some(zoned) => write!(out, "{}", zoned.strftime("%Y-%m-%d %H:%M:%S")),
            None => write!(out, "@{}", self.seconds),
        }
    }
}

/// Where an operation gets the time from, so that a test can run a year in a second.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// Returns after so long.
    fn sleep(&self, span: Duration) {
        std::thread::sleep(span);
    }

    /// An alarm for one thread that does something again and again. To be made before that thread is started.
    fn alarm(&self) -> Arc<dyn Alarm> {
        Arc::new(SystemAlarm::default())
    }
}

/// Wakes one thread again and again, until somebody else cancels it.
pub trait Alarm: Send + Sync {
    /// Waits so long. False as soon as the alarm is cancelled; the thread must end then.
    fn wait(&self, span: Duration) -> bool;

    /// Ends the wait that is under way, and all later ones before they begin.
    fn cancel(&self);
}

#[derive(Default)]
struct SystemAlarm {
    is_cancelled: Mutex<bool>,
    changed: Condvar,
}

impl Alarm for SystemAlarm {
    fn wait(&self, span: Duration) -> bool {
        let is_cancelled = self.is_cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_cancelled, span, |is_cancelled| !*is_cancelled);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn cancel(&self) {
        *self.is_cancelled.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// The clock of this computer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from(jiff::Timestamp::now())
    }
}

/// A clock that stands still, for tests and for `--time`.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_the_epoch_round_down() {
        let moment = jiff::Timestamp::new(-1, -500_000_000).unwrap();
        assert_eq!(Timestamp::from(moment), Timestamp { seconds: -2, nanoseconds: 500_000_000 });
    }

    #[test]
    fn an_alarm_rings_until_it_is_cancelled() {
        let alarm = SystemClock.alarm();
        assert!(alarm.wait(Duration::ZERO) && alarm.wait(Duration::from_millis(1)));
        let waiting = Arc::clone(&alarm);
        let thread = std::thread::spawn(move || waiting.wait(Duration::from_secs(3600)));
        alarm.cancel();
        assert!(!thread.join().unwrap() && !alarm.wait(Duration::ZERO));
    }

    #[test]
    fn a_printed_moment_parses_to_itself() {
        let moment = Timestamp::from_seconds(1_800_000_000);
        assert_eq!(Timestamp::parse(&moment.rfc3339()), Some(moment));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
