//! Where the passphrase or key comes from: options beat the environment, and only then a person is asked.
//!
//! A passphrase is never an argument, because every user of the computer can read those.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::place::Environment;

const PASSPHRASE_BYTES_MAX: usize = 64 << 10;
const NEW_PASSPHRASE_TRY_COUNT: usize = 3;

/// The bytes of a passphrase, wiped when dropped. Never empty.
pub type Passphrase = Zeroizing<Vec<u8>>;

/// What opens a repository.
pub enum Credential {
    /// A passphrase.
    Passphrase(Passphrase),
    /// A key file; it has not been read yet, and for `init` it may not exist yet.
    KeyFile(PathBuf),
}

/// Which of the places a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The first line of a file.
    PasswordFile(PathBuf),
    /// The first line that a command prints.
    PasswordCommand(OsString),
    /// The value of this variable of the environment.
    Variable(String),
    /// A key file.
    KeyFile(PathBuf),
    /// Nothing was named: ask the person at the terminal.
    Ask,
}

/// The options that name a secret. At most one of them is given; the command line sees to that.
#[derive(Debug, Clone, Copy, Default)]
pub struct SecretOptions<'a> {
    /// `--password-file` and the like.
    pub password_file: Option<&'a Path>,
    /// `--password-command` and the like.
    pub password_command: Option<&'a OsStr>,
    /// `--key-file` and the like.
    pub key_file: Option<&'a Path>,
}

/// Which variables name a secret: `KLUIS` for the repository, `KLUIS_NEW` for a key that is added, and others for a second
/// repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variables {
    /// `KLUIS_PASSWORD_FILE` and so on.
    Repository,
    /// `KLUIS_NEW_PASSWORD_FILE` and so on.
    New,
    /// `KLUIS_TO_PASSWORD_FILE` and so on: of the repository that is copied into.
    To,
    /// `KLUIS_LIKE_PASSWORD_FILE` and so on: of the repository that a new one is made like.
    Like,
}

impl Variables {
    fn name(self, what: &str) -> String {
        match self {
            Self::Repository => format!("KLUIS_{what}"),
            Self::New => format!("KLUIS_NEW_{what}"),
            Self::To => format!("KLUIS_TO_{what}"),
            Self::Like => format!("KLUIS_LIKE_{what}"),
        }
    }

    fn all(self) -> String {
        let names = ["PASSWORD_FILE", "PASSWORD_COMMAND", "PASSWORD", "KEY_FILE"].map(|what| self.name(what));
        names.join(", ")
    }
}

impl SecretSource {
    /// Decides where the secret comes from, without looking at any of the places.
    pub fn choose(options: SecretOptions<'_>, variables: Variables, environment: Environment<'_>) -> Self {
        if let Some(path) = options.key_file {
            return Self::KeyFile(path.to_owned());
        }
        if let Some(path) = options.password_file {
            return Self::PasswordFile(path.to_owned());
        }
        if let Some(command) = options.password_command {
            return Self::PasswordCommand(command.to_owned());
        }
        if let Some(path) = environment(&variables.name("KEY_FILE")) {
            return Self::KeyFile(path.into());
        }
        if let Some(path) = environment(&variables.name("PASSWORD_FILE")) {
            return Self::PasswordFile(path.into());
        }
        if let Some(command) = environment(&variables.name("PASSWORD_COMMAND")) {
            return Self::PasswordCommand(command);
        }
        let variable = variables.name("PASSWORD");
        if environment(&variable).is_some() { Self::Variable(variable) } else { Self::Ask }
    }

    /// Fetches what opens the repository at `place`.
    pub fn fetch(&self, place: &str, environment: Environment<'_>) -> Result<Credential, Failure> {
        match self {
            Self::Ask => ask(place).map(Credential::Passphrase),
            _ => self.fetch_unasked(environment),
        }
    }

    /// Fetches a new secret for `place`; a person is asked twice.
    pub fn fetch_new(
        &self,
        place: &str,
        variables: Variables,
        environment: Environment<'_>,
    ) -> Result<Credential, Failure> {
        match self {
            Self::Ask => ask_twice(place, variables).map(Credential::Passphrase),
            _ => self.fetch_unasked(environment),
        }
    }

    fn fetch_unasked(&self, environment: Environment<'_>) -> Result<Credential, Failure> {
        let (lines, origin) = match self {
            Self::KeyFile(path) => return Ok(Credential::KeyFile(path.clone())),
            Self::PasswordFile(path) => (read_file(path)?, format!("the file {}", path.display())),
            Self::PasswordCommand(command) => {
                (run_command(command)?, format!("the command {}", command.to_string_lossy()))
            }
            Self::Variable(name) => {
                let value = environment(name).unwrap_or_default();
                (Zeroizing::new(value.into_vec()), format!("the variable {name}"))
            }
            Self::Ask => return Err(no_terminal(Variables::Repository)),
        };
        // The value of a variable is the passphrase as a whole, but a newline at its end is always an accident.
        first_line(&lines, &origin).map(Credential::Passphrase)
    }
}

/// The first line without its end, which may be that of Windows.
fn first_line(lines: &[u8], origin: &str) -> Result<Passphrase, Failure> {
    let line = lines.split(|byte| *byte == b'\n').next().unwrap_or(lines);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::new(Exit::Failed, format!("{origin} gave an empty passphrase")));
    }
    if line.len() > PASSPHRASE_BYTES_MAX {
        return Err(Failure::new(Exit::Failed, format!("{origin} gave a passphrase of more than 64 KiB")));
    }
    Ok(Zeroizing::new(line.to_vec()))
}

/// Reads so much that a passphrase which is too long is seen to be.
fn read_bounded(from: impl Read) -> io::Result<Passphrase> {
    // Grown by hand it would leave unwiped copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX + 2));
    from.take(PASSPHRASE_BYTES_MAX as u64 + 2).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_file(path: &Path) -> Result<Passphrase, Failure> {
    let read = File::open(path).and_then(read_bounded);
    read.or_fail(|| format!("the passphrase file {} could not be read", path.display()))
}

/// Runs a command with the shell, as people write it. It may ask on the terminal.
fn run_command(command: &OsStr) -> Result<Passphrase, Failure> {
    let name = command.to_string_lossy();
    let failed = || format!("the passphrase command {name} could not be run");
    let mut child =
        Command::new("/bin/sh").arg("-c").arg(command).stdout(Stdio::piped()).spawn().or_fail(failed)?;
    let output = child.stdout.take().map(read_bounded).transpose().or_fail(failed)?;
    let status = child.wait().or_fail(failed)?;
    // A command that prints too much is ended by the closed pipe: its output is then refused as too long.
    let is_too_long = output.as_ref().is_some_and(|output| output.len() > PASSPHRASE_BYTES_MAX);
    if !status.success() && !is_too_long {
        return Err(Failure::new(Exit::Failed, format!("the passphrase command {name} ended with {status}")));
    }
    Ok(output.unwrap_or_default())
}

fn ask(place: &str) -> Result<Passphrase, Failure> {
    let line = prompt(&format!("passphrase for {place}: "), Variables::Repository)?;
    first_line(&line, "the terminal")
}

fn ask_twice(place: &str, variables: Variables) -> Result<Passphrase, Failure> {
    for _ in 0..NEW_PASSPHRASE_TRY_COUNT {
        let line = prompt(&format!("new passphrase for {place}: "), variables)?;
        let passphrase = first_line(&line, "the terminal")?;
        if prompt("the same again: ", variables)? == passphrase {
            return Ok(passphrase);
        }
        anstream::eprintln!("repo: the two are not the same; please try again");
    }
    Err(Failure::new(Exit::Failed, "the passphrase was not typed twice the same way"))
}

/// Asks on the terminal, which need not be where standard input comes from: that may be a pipe to back up.
fn prompt(question: &str, variables: Variables) -> Result<Passphrase, Failure> {
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(no_terminal(variables));
    }
    match rpassword::prompt_password(question) {
        Ok(line) => Ok(Zeroizing::new(line.into_bytes())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::interrupted()),
        Err(error) => Err(no_terminal(variables).because(&error)),
    }
}

fn no_terminal(variables: Variables) -> Failure {
    let names = variables.all();
    let sentence =
        format!("there is no passphrase: none of {names} is set, and there is no terminal to ask on");
    let file = variables.name("PASSWORD_FILE");
    Failure::new(Exit::Failed, sentence)
        .hint(format!("write it to a file that only you can read and set {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(options: SecretOptions<'_>, set: &[&str]) -> SecretSource {
        let environment = |name: &str| set.contains(&name).then(|| OsString::from("value"));
        SecretSource::choose(options, Variables::Repository, &environment)
    }

    #[test]
    fn options_beat_the_environment() {
        let all = ["KLUIS_KEY_FILE", "KLUIS_PASSWORD_FILE", "KLUIS_PASSWORD_COMMAND", "KLUIS_PASSWORD"];
        let command =
            SecretOptions { password_command: Some(OsStr::new("pass")), ..SecretOptions::default() };
        assert_eq!(chosen(command, &all), SecretSource::PasswordCommand("pass".into()));
        let none = SecretOptions::default();
        assert_eq!(chosen(none, &all), SecretSource::KeyFile("value".into()));
        assert_eq!(chosen(none, &all[1..]), SecretSource::PasswordFile("value".into()));
        assert_eq!(chosen(none, &all[2..]), SecretSource::PasswordCommand("value".into()));
        assert_eq!(chosen(none, &all[3..]), SecretSource::Variable("KLUIS_PASSWORD".into()));
        assert_eq!(chosen(none, &["KLUIS_NEW_PASSWORD"]), SecretSource::Ask);
    }

    #[test]
    fn without_a_terminal_the_failure_names_the_variables_and_what_to_do() {
        let failure = format!("{:?}", no_terminal(Variables::New));
        for what in ["PASSWORD_FILE", "PASSWORD_COMMAND", "PASSWORD", "KEY_FILE"] {
            assert!(failure.contains(&format!("KLUIS_NEW_{what}")), "{failure}");
        }
    }

    fn fetched(source: &SecretSource) -> Result<Vec<u8>, Failure> {
        let environment = |_: &str| Some(OsString::from("from a variable\n"));
        source.fetch("/r", &environment).map(|credential| match credential {
            Credential::Passphrase(passphrase) => passphrase.to_vec(),
            Credential::KeyFile(_) => panic!("it is no key file"),
        })
    }

    #[test]
    fn only_the_first_line_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        for text in ["secret", "secret\n", "secret\r\nmore\n", "secret\n\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(fetched(&SecretSource::PasswordFile(path.clone())).unwrap(), b"secret", "{text:?}");
        }
        assert_eq!(fetched(&SecretSource::Variable("X".into())).unwrap(), b"from a variable");
        let command = SecretSource::PasswordCommand("printf 'of\\na command'".into());
        assert_eq!(fetched(&command).unwrap(), b"of");
    }

    #[test]
    fn an_empty_or_endless_passphrase_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        std::fs::write(&path, "\nsecond line").unwrap();
        assert!(fetched(&SecretSource::PasswordFile(path)).is_err());
        assert!(fetched(&SecretSource::PasswordFile(folder.path().join("missing"))).is_err());
        assert!(fetched(&SecretSource::PasswordFile("/dev/zero".into())).is_err());
        for command in ["true", "echo secret; exit 1", "cat /dev/zero"] {
            assert!(fetched(&SecretSource::PasswordCommand(command.into())).is_err(), "{command}");
        }
    }
}
