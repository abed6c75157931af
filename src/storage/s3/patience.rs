//! How often and how long a request is repeated: by the type of what went wrong, with growing and random pauses.

use std::time::{Duration, Instant};

use crate::storage::s3::trouble::{Found, Verdict};

/// How much of a bad line is borne.
#[derive(Debug, Clone)]
pub struct Patience {
    /// A call is given up if it has not succeeded so long after its first failure.
    pub total: Duration,
    /// As `total`, where no connection was ever made: an address that is wrong should not take minutes to say so.
    pub first_contact: Duration,
    /// The first pause, on average; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// A request in which no byte moves for so long has failed.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(600),
            first_contact: Duration::from_secs(10),
            pause: Duration::from_millis(200),
            pause_max: Duration::from_secs(30),
            stall: Duration::from_secs(120),
        }
    }
}

/// The attempts of one call.
#[derive(Debug)]
pub(super) struct Attempts<'p> {
    patience: &'p Patience,
    failed_at: Option<Instant>,
    /// How many there were.
    pub count: u32,
    /// Whether one of them may have been carried out although it failed.
    pub is_open: bool,
}

impl<'p> Attempts<'p> {
    pub(super) fn new(patience: &'p Patience) -> Self {
        Self { patience, failed_at: None, count: 0, is_open: false }
    }

    /// How long to wait before the next attempt, or `None` if there should be none. `has_contact` says whether this store
    /// was ever reached.
    pub(super) fn after(&mut self, failure: &Found, has_contact: bool) -> Option<Duration> {
        self.count += 1;
        let Verdict::Again { is_open } = failure.verdict() else { return None };
        self.is_open |= is_open;
        let failed_at = *self.failed_at.get_or_insert_with(Instant::now);
        let is_stranger = failure.is_unreachable() && !has_contact;
        let total = if is_stranger { self.patience.first_contact } else { self.patience.total };
        let longest = self.pause_longest();
        // Anything up to twice the mean, so that many hosts whose store was away do not come back at once.
        let pause = longest.mul_f64(random_fraction());
        (failed_at.elapsed() + pause < total).then_some(pause)
    }

    fn pause_longest(&self) -> Duration {
        let doublings = self.count.min(16);
        self.patience.pause.saturating_mul(1 << doublings).min(self.patience.pause_max)
    }
}

/// Between 0 and 1. Nothing depends on it but when to ask again.
fn random_fraction() -> f64 {
    let mut bytes = [0; 2];
    // Without randomness all wait for the same time.
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::s3::trouble::{Refusal, Trouble};

    fn refused(status: u16) -> Found {
        Found::Nonsense(Trouble::Refused(Refusal::new(status, None, b"")))
    }

    #[test]
    fn pauses_grow_up_to_a_limit_and_differ() {
        let patience = Patience { pause: Duration::from_millis(100), ..Patience::default() };
        let mut attempts = Attempts::new(&patience);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pauses.push(attempts.after(&refused(503), true).unwrap());
        }
        assert!(pauses.iter().all(|pause| *pause <= patience.pause_max), "{pauses:?}");
        assert!(pauses.iter().max().unwrap() > &Duration::from_secs(1), "{pauses:?}");
        assert!(pauses.first().unwrap() <= &Duration::from_millis(200), "{pauses:?}");
        assert!(attempts.is_open);
    }

    #[test]
    fn what_will_not_change_is_not_asked_again() {
        let patience = Patience::default();
        for status in [400, 403, 404, 412, 416, 501] {
            assert_eq!(Attempts::new(&patience).after(&refused(status), true), None, "{status}");
        }
        let impatient = Patience { total: Duration::ZERO, ..patience };
        assert_eq!(Attempts::new(&impatient).after(&refused(503), true), None);
    }
}
