//! Being asked to stop: the first time by setting a flag that operations look at, the second time by ending at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::exit::Exit;

/// Whether somebody asked this process to stop.
#[derive(Debug, Clone, Default)]
pub struct Interruption {
    asked: Arc<AtomicBool>,
    ends_at_once: Arc<AtomicBool>,
}

/// While this lives, being asked to stop ends the process at once: it only waits for a person.
pub struct EndsAtOnce<'i>(&'i AtomicBool);

impl Interruption {
    /// Listens for Ctrl-C, SIGTERM and SIGHUP, but for those that whoever started the process had it ignore
    /// (`nohup`, a shell's background job).
    pub fn listen() -> Self {
        let interruption = Self::default();
        let ignored = ignored_signals();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if ignored >> (signal - 1) & 1 == 0 {
                let asked = &interruption.asked;
                // In this order: the first signal finds the flag still down. A system that refuses a handler leaves
                // the signal as it was, and that ends the process too.
                let end = signal_hook::flag::register_conditional_shutdown;
                let _ = end(signal, Exit::Interrupted as i32, Arc::clone(asked));
                let _ = end(signal, Exit::Interrupted as i32, Arc::clone(&interruption.ends_at_once));
                let _ = signal_hook::flag::register(signal, Arc::clone(asked));
            }
        }
        interruption
    }

    /// Whether the first request has come.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// From now on, and until the result is dropped, there is nothing to end in good order.
    pub fn ends_at_once(&self) -> EndsAtOnce<'_> {
        self.ends_at_once.store(true, Ordering::Relaxed);
        EndsAtOnce(&self.ends_at_once)
    }
}

impl Drop for EndsAtOnce<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Bit n - 1 says that this process was started with signal n ignored.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}
