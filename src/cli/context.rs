//! What every command gets: the options that hold everywhere, the time, and the ways to talk.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::cli::args::Globals;
use crate::cli::bucket;
use crate::cli::exit::{Exit, Failure};
use crate::cli::interrupt::Interruption;
use crate::cli::place::{Place, cache_folder, process_environment};
use crate::cli::progress::{Face, Watch};
use crate::cli::render::{Output, safe_text};
use crate::cli::requests;
use crate::cli::secrets::{Credential, SecretOptions, SecretSource, Variables};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::storage::{S3Options, Storage};

/// The surroundings of a running command.
pub struct Context {
    globals: Globals,
    interruption: Interruption,
    clock: SystemClock,
    /// Storages in use that count what calls cost, each with the name of its repository.
    counted: Mutex<Vec<(String, Arc<dyn Storage>)>>,
}

impl Context {
    /// The context of this process. From here on Ctrl-C asks operations to stop.
    pub fn new(globals: Globals) -> Self {
        let interruption = Interruption::listen();
        Self { globals, interruption, clock: SystemClock, counted: Mutex::default() }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Where operations get the time from.
    pub fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    /// Where the repository is.
    pub fn place(&self) -> Result<Place, Failure> {
        Place::choose(self.globals.repo.as_deref(), &process_environment)
    }

    /// How a bucket is reached.
    pub fn bucket_options(&self, bucket: &str, prefix: &str) -> Result<S3Options, Failure> {
        bucket::options(bucket, prefix, &self.globals, &process_environment)
    }

    /// Remembers a storage that this command uses for the repository at `place`.
    pub fn count_requests_of(&self, place: &Place, storage: &Arc<dyn Storage>) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.push((place.to_string(), Arc::clone(storage)));
    }

    /// Writes down what the command has cost in requests, for `repo stats --requests`.
    pub fn note_requests(&self, command: &str) {
        let counted = std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner));
        let Ok(cache) = self.cache_folder() else { return };
        for (place, storage) in counted {
            if let Some(counts) = storage.requests().filter(|counts| counts.all() > 0) {
                let (time, command) = (self.now().rfc3339(), command.to_owned());
                requests::note(&cache, &requests::Noted { time, place, command, counts });
            }
        }
    }

    /// The folder for caches.
    pub fn cache_folder(&self) -> Result<PathBuf, Failure> {
        cache_folder(self.globals.cache_dir.as_deref(), &process_environment)
    }

    /// What opens the repository at `place`; a person may be asked.
    pub fn credential(&self, place: &Place) -> Result<Credential, Failure> {
        let source = self.secret_source();
        self.unless_interrupted(source.fetch(&place.to_string(), &process_environment))
    }

    /// What shall open a repository that is made at `place`; a person is asked twice.
    pub fn first_credential(&self, place: &Place) -> Result<Credential, Failure> {
        let source = self.secret_source();
        self.unless_interrupted(source.fetch_new(
            &place.to_string(),
            Variables::Repository,
            &process_environment,
        ))
    }

    /// A further secret for the repository at `place`, from the options of the command.
    pub fn new_credential(&self, options: SecretOptions<'_>, place: &Place) -> Result<Credential, Failure> {
        let source = SecretSource::choose(options, Variables::New, &process_environment);
        self.unless_interrupted(source.fetch_new(&place.to_string(), Variables::New, &process_environment))
    }

    /// What opens a second repository at `place`: what its own options and variables name, or else what opens the first.
    pub fn other_credential(
        &self,
        options: SecretOptions<'_>,
        variables: Variables,
        place: &Place,
    ) -> Result<Credential, Failure> {
        let source = match SecretSource::choose(options, variables, &process_environment) {
            SecretSource::Ask => self.secret_source(),
            source => source,
        };
        self.unless_interrupted(source.fetch(&place.to_string(), &process_environment))
    }

    /// Ctrl-C reaches a passphrase command too: that it failed is then not what there is to tell.
    fn unless_interrupted<T>(&self, result: Result<T, Failure>) -> Result<T, Failure> {
        if self.is_interrupted() { Err(Failure::interrupted()) } else { result }
    }

    fn secret_source(&self) -> SecretSource {
        SecretSource::choose(self.globals.secrets(), Variables::Repository, &process_environment)
    }

    /// Whether nothing names a secret, so that a person would be asked for one.
    pub fn would_ask(&self) -> bool {
        self.secret_source() == SecretSource::Ask
    }

    /// The file that holds the secret, if options or variables name one.
    pub fn secret_file(&self) -> Option<PathBuf> {
        match self.secret_source() {
            SecretSource::PasswordFile(path) | SecretSource::KeyFile(path) => Some(path),
            SecretSource::PasswordCommand(_) | SecretSource::Variable(_) | SecretSource::Ask => None,
        }
    }

    /// Begins to show a running operation that counts files, or something else; see [`Watch`].
    pub fn watch(&self, counted: &'static str) -> Result<Watch, Failure> {
        let face = Face::choose(self.globals.progress(&process_environment)?, self.globals.quiet);
        Ok(Watch::start(face, counted, !self.globals.quiet, self.interruption.clone()))
    }

    /// The same beside results that come out meanwhile: no bar is drawn between their lines.
    pub fn watch_beside_results(&self, counted: &'static str) -> Result<Watch, Failure> {
        let face = match Face::choose(self.globals.progress(&process_environment)?, self.globals.quiet) {
            Face::Bar if std::io::stdout().is_terminal() => Face::Quiet,
            face => face,
        };
        Ok(Watch::start(face, counted, !self.globals.quiet, self.interruption.clone()))
    }

    /// Tells whether somebody asked to stop.
    pub fn interruption(&self) -> &Interruption {
        &self.interruption
    }

    /// Whether somebody asked to stop.
    pub fn is_interrupted(&self) -> bool {
        self.interruption.is_asked()
    }

    /// Whether standard output is to carry one JSON document.
    pub fn wants_json(&self) -> bool {
        self.globals.json
    }

    /// Whether only results and problems shall be told.
    pub fn is_quiet(&self) -> bool {
        self.globals.quiet
    }

    /// Whether more shall be told than usual.
    pub fn is_verbose(&self) -> bool {
        self.globals.verbose > 0
    }

    /// Prints a report: as JSON where that is asked for, otherwise as `human` writes it.
    pub fn show<T: Serialize>(
        &self,
        report: &T,
        human: impl FnOnce(&mut Output) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut output = Output::new();
        if self.wants_json() {
            output.json(report)?;
        } else {
            human(&mut output)?;
        }
        output.finish()
    }

    /// Tells something on standard error, but not to somebody who asked for quiet.
    pub fn note(&self, text: &str) {
        if !self.globals.quiet {
            // A person who closed standard error does not want to know.
            let _ = writeln!(anstream::stderr(), "repo: {}", safe_text(text));
        }
    }

    /// Tells on standard error what nobody should miss.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(anstream::stderr(), "repo: {}", safe_text(text));
    }

    /// Asks on the terminal whether to go on. `assume_yes` is the option that answers in advance.
    pub fn confirm(&self, question: &str, assume_yes: bool) -> Result<bool, Failure> {
        if assume_yes {
            return Ok(true);
        }
        let mut stdin = std::io::stdin().lock();
        if !stdin.is_terminal() {
            return Err(Failure::usage("there is no terminal to ask for your consent on")
                .hint("look at what --dry-run says, then give --yes"));
        }
        let _ = write!(anstream::stderr(), "{} [y/N] ", safe_text(question));
        let _ends_at_once = self.interruption.ends_at_once();
        let mut answer = String::new();
        stdin.read_line(&mut answer).map_err(|error| Failure::of(Exit::Failed, &error))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
