//! How many bytes may pass in a second, for all connections together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is saved up while nothing moves is not spent in one burst.
const SAVED_MAX: Duration = Duration::from_millis(250);
/// Bytes that are let through in one piece, at most.
const PIECE_BYTES_MAX: u64 = 64 << 10;
/// A slow line moves several times in a second all the same.
const PIECES_PER_SECOND: u64 = 8;

/// A limit, or none.
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: Option<u64>,
    free_at: Mutex<Instant>,
}

impl Throttle {
    /// So many bytes a second, or as many as the line takes.
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        let bytes_per_second = bytes_per_second.map(|bytes| bytes.max(1));
        Self { bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// The longest piece to let through at once, in bytes.
    pub(super) fn piece_len(&self) -> usize {
        let wanted = self.bytes_per_second.map_or(PIECE_BYTES_MAX, |bytes| bytes / PIECES_PER_SECOND);
        wanted.clamp(1, PIECE_BYTES_MAX) as usize
    }

    /// Takes so many bytes out of the account, and says until when whoever moves them has to wait.
    pub(super) fn take(&self, bytes: usize) -> Option<Instant> {
        let rate = self.bytes_per_second?;
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = now.checked_sub(SAVED_MAX).unwrap_or(now);
        *free_at = (*free_at).max(oldest) + cost;
        (*free_at > now).then_some(*free_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cost_time_and_what_is_saved_is_bounded() {
        let throttle = Throttle::new(Some(1000));
        let begun = Instant::now();
        let waits: Vec<_> = (0..4).map(|_| throttle.take(500)).collect();
        let last = waits.last().unwrap().expect("two seconds' worth of bytes were taken");
        let wait = last.duration_since(begun);
        assert!((Duration::from_millis(1700)..=Duration::from_millis(2100)).contains(&wait), "{wait:?}");
        assert_eq!(throttle.piece_len(), 125);
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let throttle = Throttle::new(None);
        assert!((0..100).all(|_| throttle.take(1 << 20).is_none()));
        assert_eq!(throttle.piece_len(), 64 << 10);
    }
}
