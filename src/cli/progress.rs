//! What a person or a program sees of a running operation, on standard error: a bar on a terminal, a quiet line
//! every ten seconds elsewhere, or JSON lines.
//!
//! Operations count into atomics at no cost. One thread wakes up now and then, reads them, and draws.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::args::ProgressChoice;
use crate::cli::interrupt::Interruption;
use crate::cli::render::{json_name, safe_name, safe_text};
use crate::event::{Observer, Problem, Progress};

use terminal::{FREE_WIDTH, LineTerminal, terminal_width};
pub use words::{Rate, Reading};

mod terminal;
mod words;

const BAR_PERIOD: Duration = Duration::from_millis(100);
const JSON_PERIOD: Duration = Duration::from_secs(1);
const LINE_PERIOD: Duration = Duration::from_secs(10);
/// A terminal with fewer columns needs them all for the words.
const BAR_TERMINAL_WIDTH_MIN: usize = 60;

/// How progress is shown, after `auto` was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// A bar that is drawn again and again.
    Bar,
    /// A line now and then.
    Lines,
    /// One JSON document a line.
    Json,
    /// Problems only.
    Quiet,
}

impl Face {
    /// Decides for this process. `--quiet` beats everything but JSON that was asked for.
    pub fn choose(choice: ProgressChoice, is_quiet: bool) -> Self {
        let is_terminal =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        match choice {
            ProgressChoice::Json => Self::Json,
            ProgressChoice::None => Self::Quiet,
            _ if is_quiet => Self::Quiet,
            ProgressChoice::Bar => Self::Bar,
            ProgressChoice::Auto if is_terminal => Self::Bar,
            ProgressChoice::Auto => Self::Lines,
        }
    }

    fn period(self) -> Option<Duration> {
        match self {
            Self::Bar => Some(BAR_PERIOD),
            Self::Lines => Some(LINE_PERIOD),
            Self::Json => Some(JSON_PERIOD),
            Self::Quiet => None,
        }
    }
}

/// Watches one operation and shows it. Dropping it takes the bar away; what follows on the screen is whole.
pub struct Watch {
    shared: Arc<Shared>,
    ticker: Option<JoinHandle<()>>,
}

struct Shared {
    face: Face,
    counted: &'static str,
    shows_notes: bool,
    progress: Progress,
    interruption: Interruption,
    started_at: Instant,
    drawing: Mutex<Drawing>,
    finished: Condvar,
}

/// What changes while drawing.
struct Drawing {
    phase: &'static str,
    bar: Option<ProgressBar>,
    look: Look,
    rate: Rate,
    is_finished: bool,
}

/// What stands before the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Something that turns, because nobody knows how much there is to do.
    Spinner,
    /// How much of it is done.
    Bar,
    /// Nothing, because the terminal is narrow.
    Words,
}

impl Look {
    fn choose(total_is_known: bool, terminal_width: usize) -> Self {
        match total_is_known {
            false => Self::Spinner,
            true if terminal_width >= BAR_TERMINAL_WIDTH_MIN => Self::Bar,
            true => Self::Words,
        }
    }

    /// The columns that it takes.
    fn width(self) -> usize {
        match self {
            Self::Spinner => 2,
            Self::Bar => 19,
            Self::Words => 0,
        }
    }

    fn style(self) -> ProgressStyle {
        let template = match self {
            Self::Spinner => "{spinner} {wide_msg}",
            Self::Bar => "[{bar:16}] {wide_msg}",
            Self::Words => "{wide_msg}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates are constants that parse");
        style.progress_chars("=> ").tick_chars("|/-\\ ")
    }
}

impl Watch {
    /// Begins to watch an operation that counts bytes and what `counted` says, such as files. Notes are shown where `shows_notes`; problems always are.
    pub fn start(face: Face, counted: &'static str, shows_notes: bool, interruption: Interruption) -> Self {
        let bar = (face == Face::Bar).then(|| {
            let target = match std::io::stderr().is_terminal() {
                true => ProgressDrawTarget::term_like_with_hz(Box::new(LineTerminal::default()), 10),
                false => ProgressDrawTarget::hidden(),
            };
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(Look::Spinner.style());
            bar
        });
        let (phase, look, rate) = ("starting", Look::Spinner, Rate::default());
        let drawing = Drawing { phase, bar, look, rate, is_finished: false };
        let shared = Arc::new(Shared {
            face,
            counted,
            shows_notes,
            progress: Progress::default(),
            interruption,
            started_at: Instant::now(),
            drawing: Mutex::new(drawing),
            finished: Condvar::new(),
        });
        let ticker = face.period().map(|period| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.tick_until_finished(period))
        });
        Self { shared, ticker }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().is_finished = true;
        self.shared.finished.notify_all();
        if let Some(ticker) = self.ticker.take() {
            // A bug in the ticker has ended the process already.
            let _ = ticker.join();
        }
        if let Some(bar) = self.shared.lock().bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Drawing> {
        self.drawing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick_until_finished(&self, period: Duration) {
        let mut drawing = self.lock();
        while !drawing.is_finished {
            let waited = self.finished.wait_timeout(drawing, period);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            drawing = guard;
            if timeout.timed_out() && !drawing.is_finished {
                self.draw(&mut drawing);
            }
        }
    }

    fn read(&self) -> Reading {
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Reading {
            counted: self.counted,
            files_done: load(&self.progress.files_done),
            files_total: load(&self.progress.files_total),
            bytes_done: load(&self.progress.bytes_done),
            bytes_total: load(&self.progress.bytes_total),
            bytes_stored: load(&self.progress.bytes_stored),
            total_is_known: self.progress.total_is_known.load(Ordering::Relaxed),
        }
    }

    fn draw(&self, drawing: &mut Drawing) {
        let reading = self.read();
        drawing.rate.note(self.started_at.elapsed(), reading.bytes_done);
        let words = |width| reading.words(drawing.phase, &drawing.rate, width);
        match self.face {
            Face::Bar => {
                let Some(bar) = &drawing.bar else { return };
                let total = reading.total_is_known.then_some(reading.bytes_total).filter(|total| *total > 0);
                let width = terminal_width();
                let look = Look::choose(total.is_some(), width);
                if look != drawing.look {
                    bar.set_style(look.style());
                }
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(reading.bytes_done);
                let asked = if self.interruption.is_asked() { "stopping: " } else { "" };
                let room = width.saturating_sub(look.width() + asked.len() + FREE_WIDTH);
                bar.set_message(format!("{asked}{}", words(room)));
                bar.tick();
                drawing.look = look;
            }
            Face::Lines => write_line(&format!("repo: {}", words(usize::MAX))),
            Face::Json => write_line(&self.json_progress(drawing.phase, &reading).to_string()),
            Face::Quiet => {}
        }
    }

    fn json_progress(&self, phase: &str, reading: &Reading) -> Value {
        json!({
            "event": "progress",
            "phase": phase,
            "files_done": reading.files_done,
            "files_total": reading.files_total,
            "bytes_done": reading.bytes_done,
            "bytes_total": reading.bytes_total,
            "bytes_stored": reading.bytes_stored,
            "total_is_known": reading.total_is_known,
            "duration_seconds": self.started_at.elapsed().as_secs_f64(),
        })
    }

    /// Writes a line above the bar, if there is one.
    fn say(&self, line: &str) {
        let drawing = self.lock();
        match &drawing.bar {
            Some(bar) => bar.suspend(|| write_line(line)),
            None => write_line(line),
        }
    }
}

impl Observer for Watch {
    fn progress(&self) -> &Progress {
        &self.shared.progress
    }

    fn phase(&self, name: &'static str) {
        let mut drawing = self.shared.lock();
        drawing.phase = name;
        if self.shared.face == Face::Json {
            write_line(&json!({"event": "phase", "phase": name}).to_string());
        }
    }

    fn problem(&self, problem: &Problem) {
        let path = problem.path.as_os_str().as_encoded_bytes();
        if self.shared.face == Face::Json {
            let event = json!({"event": "problem", "path": json_name(path), "message": problem.message});
            self.shared.say(&event.to_string());
        } else {
            self.shared.say(&format!("repo: {}: {}", safe_name(path), safe_text(&problem.message)));
        }
    }

    fn note(&self, text: &str) {
        if self.shared.face == Face::Json {
            self.shared.say(&json!({"event": "note", "text": text}).to_string());
        } else if self.shared.shows_notes {
            self.shared.say(&format!("repo: {}", safe_text(text)));
        }
    }

    fn is_interrupted(&self) -> bool {
        self.shared.interruption.is_asked()
    }
}

/// One write for the whole line, so that lines of other processes do not cut into it.
fn write_line(line: &str) {
    // Progress that nobody can see is not worth failing for.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_counts_and_ends_on_every_face() {
        for face in [Face::Bar, Face::Lines, Face::Json, Face::Quiet] {
            let watch = Watch::start(face, "files", false, Interruption::default());
            Progress::add(&watch.progress().files_done, 3);
            assert_eq!(watch.shared.read().files_done, 3);
            let shared = Arc::clone(&watch.shared);
            drop(watch);
            assert!(shared.lock().is_finished && shared.lock().bar.is_none());
        }
    }

    #[test]
    fn a_bar_needs_a_total_and_room() {
        assert_eq!(Look::choose(false, 200), Look::Spinner);
        assert_eq!(Look::choose(true, 80), Look::Bar);
        assert_eq!(Look::choose(true, 40), Look::Words);
        let _ = [Look::Spinner, Look::Bar, Look::Words].map(Look::style);
    }

    #[test]
    fn quiet_beats_a_bar_but_not_json() {
        assert_eq!(Face::choose(ProgressChoice::Bar, true), Face::Quiet);
        assert_eq!(Face::choose(ProgressChoice::Json, true), Face::Json);
        assert_eq!(Face::choose(ProgressChoice::None, false), Face::Quiet);
        assert_eq!(Face::choose(ProgressChoice::Bar, false), Face::Bar);
    }
}
