//! How the program ends: the exit codes, and the one way in which a failure is told to a person.

use std::error::Error;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::cli::render::{self, safe_text};
use crate::index::{self, IndexError};

/// What the exit code says. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// It failed; nothing half-done is visible.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A snapshot exists, but some of the source could not be read; each problem was listed.
    Incomplete = 3,
    /// Damage was found.
    Damage = 4,
    /// There is no repository at the place.
    NoRepository = 10,
    /// It cannot go on now: another host must act first, or this one was fenced three times.
    Postponed = 11,
    /// The passphrase or the key is wrong.
    WrongKey = 12,
    /// Somebody asked it to stop.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command ended without doing its work, told for a person: one sentence that names the thing, its causes,
/// and at most one hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    sentence: String,
    causes: Vec<String>,
    hint: Option<String>,
    is_quiet: bool,
    is_index_damage: bool,
}

impl Failure {
    /// A failure that begins with `sentence`: lower case, without a full stop.
    pub fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self {
            exit,
            sentence: sentence.into(),
            causes: Vec::new(),
            hint: None,
            is_quiet: false,
            is_index_damage: false,
        }
    }

    /// A failure whose sentence and causes are `error` and the chain behind it.
    pub fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(exit, error.to_string());
        failure.is_index_damage = is_index_damage(error);
        match error.source() {
            Some(source) => failure.because(source),
            None => failure,
        }
    }

    /// A wrong command line that only the command itself could find.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    /// Somebody asked to stop.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// Whoever reads the results has gone, as `head` does. The program ends as ordinary tools do: silently.
    pub fn reader_gone() -> Self {
        Self { is_quiet: true, ..Self::new(Exit::Failed, "nobody reads the results any more") }
    }

    /// Adds `error` and the chain behind it to the causes.
    pub fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.is_index_damage |= is_index_damage(error);
            let text = error.to_string();
            let before = self.causes.last().unwrap_or(&self.sentence);
            // Some libraries print the source as a part of the error: once is enough.
            if !before.ends_with(&text) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says what to try next. A later hint replaces an earlier one.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether it is the reader of the results who ended this.
    pub fn is_reader_gone(&self) -> bool {
        self.is_quiet
    }

    /// Whether the local index is damaged, which a new one heals.
    pub fn is_index_damage(&self) -> bool {
        self.is_index_damage
    }

    /// The sentence and its causes in one line, for where it is not what ended the command.
    pub fn in_one_line(&self) -> String {
        std::iter::once(&self.sentence).chain(&self.causes).cloned().collect::<Vec<_>>().join(": ")
    }

    /// Tells it on standard error, in colour where that is wanted.
    pub fn show(&self) {
        if !self.is_quiet {
            let mut stderr = anstream::stderr().lock();
            // A person who closed standard error does not want to know.
            let _ = stderr.write_all(self.render().as_bytes());
        }
    }

    /// The text with styles, ending in a newline. Control characters of names are escaped.
    fn render(&self) -> String {
        let bad = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let good = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
        let mut text = format!("{bad}repo:{bad:#} {}\n", safe_text(&self.sentence));
        for cause in &self.causes {
            text.push_str(&format!("  {}\n", safe_text(cause)));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{good}hint:{good:#} {}\n", safe_text(hint)));
        }
        text
    }
}

fn is_index_damage(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref::<IndexError>(), Some(IndexError::Damaged { .. }))
}

/// Turns an error of a floor below into a [`Failure`] that begins with a sentence of the command.
pub trait OrFail<T> {
    /// On an error: `sentence`, because of the error.
    fn or_fail(self, sentence: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Error + 'static> OrFail<T> for Result<T, E> {
    fn or_fail(self, sentence: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(Exit::Failed, sentence()).because(&error))
    }
}

/// From here on a bug ends the program with one sentence instead of a panic's text.
///
/// It ends at once, whichever thread has the bug: waiting for the others could wait for ever, and a process that
/// just stops is what the order of writes is made for.
pub fn catch_bugs() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        // The index expects its engine to panic over a damaged file, and makes an error of it.
        if index::expects_panic() {
            return;
        }
        bug(info).show();
        std::process::exit(Exit::Failed as i32);
    }));
}

fn bug(info: &PanicHookInfo<'_>) -> Failure {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let what = info.payload_as_str().unwrap_or("no reason given");
    Failure::new(Exit::Failed, format!("this is a bug of repo {} at {place}", env!("CARGO_PKG_VERSION")))
        .because(&Bug(what.to_owned()))
        .hint("please report these lines; the snapshots in the repository are not affected")
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Bug(String);

/// Ends the program after `result`, telling a failure first.
pub fn end(result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.show();
            if failure.is_reader_gone() {
                render::end_by_broken_pipe();
            }
            failure.exit().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not open data/00")]
    struct Outer(#[source] io::Error);

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.render()).to_string()
    }

    #[test]
    fn a_failure_is_a_sentence_with_its_causes_and_one_hint() {
        let error = Outer(io::Error::other("the disk is gone"));
        let failure = Failure::new(Exit::Failed, "the backup failed").because(&error).hint("a").hint("look");
        let text = "repo: the backup failed\n  could not open data/00\n  the disk is gone\nhint: look\n";
        assert_eq!(plain(&failure), text);
        assert_eq!(Failure::of(Exit::Failed, &error).causes, ["the disk is gone"]);
    }

    #[test]
    fn a_cause_that_was_just_said_is_not_said_again() {
        let failure = Failure::new(Exit::Failed, "no: gone").because(&io::Error::other("gone"));
        assert_eq!(plain(&failure), "repo: no: gone\n");
    }

    #[test]
    fn names_cannot_forge_lines_or_colours() {
        let failure = Failure::new(Exit::Failed, "cannot read a\nrepo: all is well\u{1b}[2J");
        assert_eq!(plain(&failure), "repo: cannot read a\\nrepo: all is well\\u{1b}[2J\n");
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Incomplete, Exit::Damage];
        assert_eq!(codes.map(|exit| exit as u8), [0, 1, 2, 3, 4]);
        let codes = [Exit::NoRepository, Exit::Postponed, Exit::WrongKey, Exit::Interrupted];
        assert_eq!(codes.map(|exit| exit as u8), [10, 11, 12, 130]);
    }
}
