//! Progress in words: what is said of the counters, and how long it will still take.

use std::collections::VecDeque;
use std::time::Duration;

use crate::units::{ByteCount, count_text, counted_text, duration_text};

/// The rate is that of the last so many seconds: long enough to be calm, short enough to follow a change.
const RATE_WINDOW: Duration = Duration::from_secs(20);
/// Nothing is promised before so much time was watched.
const RATE_WATCHED_MIN: Duration = Duration::from_secs(2);

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// What is counted beside bytes: `files`.
    pub counted: &'static str,
    /// Files done.
    pub files_done: u64,
    /// Files found so far, or in all.
    pub files_total: u64,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes found so far, or in all.
    pub bytes_total: u64,
    /// Bytes written to the storage.
    pub bytes_stored: u64,
    /// Whether the totals are final.
    pub total_is_known: bool,
}

/// How many bytes are done in a second, from readings of the last while.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Adds a reading taken `at` so long after the start. Later calls have later times.
    pub fn note(&mut self, at: Duration, bytes_done: u64) {
        self.samples.push_back((at, bytes_done));
        // The oldest that stays is at least as old as the window, so that the window is always covered.
        while self.samples.get(1).is_some_and(|(second, _)| at.saturating_sub(*second) >= RATE_WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes in a second, or `None` as long as that is a guess.
    pub fn bytes_per_second(&self) -> Option<f64> {
        let (from, bytes_before) = self.samples.front()?;
        let (to, bytes_now) = self.samples.back()?;
        let watched = to.saturating_sub(*from);
        (watched >= RATE_WATCHED_MIN)
            .then(|| bytes_now.saturating_sub(*bytes_before) as f64 / watched.as_secs_f64())
    }
}

impl Reading {
    /// One line, for instance `reading files: 3 of 7 files, 1.0 GiB of 2.0 GiB, 100.0 MiB/s, about 0:10 left`.
    ///
    /// As long as the totals grow nothing is said of them, nor of the remaining time. Where the line is longer than
    /// `width`, first the files and then the rate are left out; at last a share stands for the bytes.
    pub fn words(&self, phase: &str, rate: &Rate, width: usize) -> String {
        let files = match self.files_total {
            total if self.total_is_known && total > 0 => {
                format!("{} of {}", count_text(self.files_done), counted_text(total, self.counted))
            }
            _ if self.files_done > 0 => counted_text(self.files_done, self.counted),
            _ => String::new(),
        };
        let bytes = match self.bytes_total {
            total if self.total_is_known && total > 0 => {
                format!("{} of {}", ByteCount(self.bytes_done), ByteCount(total))
            }
            _ if self.bytes_done > 0 => ByteCount(self.bytes_done).to_string(),
            _ => String::new(),
        };
        let rate = rate.bytes_per_second().filter(|rate| *rate >= 1.0);
        let left = rate.and_then(|rate| self.left(rate));
        let left = left.map_or_else(String::new, |left| format!("about {} left", whole_seconds(left)));
        let rate = rate.map_or_else(String::new, |rate| format!("{}/s", ByteCount(rate as u64)));
        let line = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
            if parts.is_empty() { phase.to_owned() } else { format!("{phase}: {}", parts.join(", ")) }
        };
        let share = self.share().unwrap_or_else(|| bytes.clone());
        let lines = [
            line(&[&files, &bytes, &rate, &left]),
            line(&[&bytes, &rate, &left]),
            line(&[&bytes, &left]),
            line(&[&share, &left]),
        ];
        let fitting = lines.into_iter().find(|line| line.len() <= width);
        fitting.unwrap_or_else(|| line(&[&share]))
    }

    /// How much of the bytes is done, where that is known: `7 %`.
    fn share(&self) -> Option<String> {
        let hundredth = self.bytes_total.div_ceil(100).max(1);
        let is_known = self.total_is_known && self.bytes_total > 0;
        is_known.then(|| format!("{} %", (self.bytes_done / hundredth).min(100)))
    }

    /// How long it takes at this rate, in whole seconds rounded up, where that can be known.
    fn left(&self, bytes_per_second: f64) -> Option<Duration> {
        let bytes_left = self.bytes_total.checked_sub(self.bytes_done).filter(|_| self.total_is_known)?;
        let seconds = (bytes_left as f64 / bytes_per_second).ceil();
        // More than a hundred days is no information.
        (seconds > 0.0 && seconds < 8_640_000.0).then(|| Duration::from_secs(seconds as u64))
    }
}

/// A guess needs no fractions: `7 s`, `1:05`.
fn whole_seconds(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        _ => duration_text(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(samples: &[(u64, u64)]) -> Rate {
        let mut rate = Rate::default();
        samples.iter().for_each(|(second, mib)| rate.note(Duration::from_secs(*second), mib << 20));
        rate
    }

    fn halfway() -> Reading {
        Reading {
            counted: "files",
            files_done: 1234,
            files_total: 5678,
            bytes_done: 1 << 30,
            bytes_total: 2 << 30,
            bytes_stored: 0,
            total_is_known: true,
        }
    }

    #[test]
    fn remaining_time_is_said_only_when_the_total_is_known() {
        let rate = rate(&[(0, 0), (10, 1024)]);
        let known = "reading files: 1,234 of 5,678 files, 1.0 GiB of 2.0 GiB, 102.4 MiB/s, about 10 s left";
        assert_eq!(halfway().words("reading files", &rate, usize::MAX), known);
        let growing = Reading { total_is_known: false, ..halfway() };
        let words = growing.words("reading files", &rate, usize::MAX);
        assert_eq!(words, "reading files: 1,234 files, 1.0 GiB, 102.4 MiB/s");
    }

    #[test]
    fn a_narrow_terminal_sees_what_matters_most() {
        let rate = rate(&[(0, 0), (10, 1024)]);
        let shown = |width| halfway().words("restoring", &rate, width);
        assert_eq!(shown(70), "restoring: 1.0 GiB of 2.0 GiB, 102.4 MiB/s, about 10 s left");
        assert_eq!(shown(50), "restoring: 1.0 GiB of 2.0 GiB, about 10 s left");
        assert_eq!(shown(40), "restoring: 49 %, about 10 s left");
        assert_eq!(shown(20), "restoring: 49 %");
        let growing = Reading { total_is_known: false, ..halfway() };
        assert_eq!(growing.words("restoring", &rate, 20), "restoring: 1.0 GiB");
    }

    #[test]
    fn a_rate_is_not_guessed_from_a_short_look() {
        assert_eq!(rate(&[]).bytes_per_second(), None);
        assert_eq!(rate(&[(0, 0), (1, 100)]).bytes_per_second(), None);
        assert_eq!(halfway().words("x", &Rate::default(), 99), "x: 1,234 of 5,678 files, 1.0 GiB of 2.0 GiB");
    }

    #[test]
    fn the_rate_follows_the_last_while_and_keeps_few_samples() {
        let samples: Vec<_> =
            (0..1000).map(|second| (second, if second < 500 { second * 100 } else { 50_000 })).collect();
        let rate = rate(&samples);
        assert_eq!(rate.bytes_per_second(), Some(0.0));
        assert!(rate.samples.len() <= 22, "{}", rate.samples.len());
    }

    #[test]
    fn nothing_counted_yet_is_said_without_numbers() {
        assert_eq!(Reading::default().words("reading files", &Rate::default(), 99), "reading files");
    }

    #[test]
    fn a_standstill_and_a_total_overrun_promise_nothing() {
        let stuck = rate(&[(0, 5), (10, 5)]);
        assert!(!halfway().words("x", &stuck, 99).contains("left"));
        let overrun = Reading { bytes_done: 3 << 30, ..halfway() };
        assert!(!overrun.words("x", &rate(&[(0, 0), (10, 1024)]), 99).contains("left"));
    }
}
