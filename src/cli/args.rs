//! The options that hold everywhere, and the kinds of values that several commands take.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum, ValueHint};

use crate::cli::exit::Failure;
use crate::cli::place::Environment;
use crate::cli::secrets::SecretOptions;
use crate::clock::Timestamp;
use crate::units::ByteCount;

const EVERYWHERE: &str = "Options of every command";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressChoice {
    /// A bar on a terminal, one line every ten seconds elsewhere.
    Auto,
    /// A bar.
    Bar,
    /// One JSON document a line.
    Json,
    /// Nothing but problems.
    None,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorOption {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Also into files and pipes.
    Always,
    /// Nowhere.
    Never,
}

/// The options of every command.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// The repository: a folder, or s3://BUCKET/PREFIX. [env: KLUIS_REPO]
    ///
    /// Without this option and the variable it is $XDG_DATA_HOME/kluis/repository, which is usually
    /// ~/.local/share/kluis/repository. A bucket is reached as AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE and AWS_CA_BUNDLE say.
    #[arg(short, long, global = true, value_name = "PLACE", value_hint = ValueHint::DirPath)]
    #[arg(help_heading = EVERYWHERE)]
    pub repo: Option<OsString>,

    /// The first line of FILE is the passphrase. [env: KLUIS_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(help_heading = EVERYWHERE, conflicts_with_all = ["password_command", "key_file"])]
    pub password_file: Option<PathBuf>,

    /// The first line that CMD prints is the passphrase. [env: KLUIS_PASSWORD_COMMAND]
    ///
    /// The command is run by /bin/sh. The passphrase itself can stand in KLUIS_PASSWORD, but never on the command
    /// line, which everybody on the computer can read.
    #[arg(long, global = true, value_name = "CMD", value_hint = ValueHint::CommandString)]
    #[arg(help_heading = EVERYWHERE, conflicts_with = "key_file")]
    pub password_command: Option<OsString>,

    /// Unlock with this key file instead of a passphrase. [env: KLUIS_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(help_heading = EVERYWHERE)]
    pub key_file: Option<PathBuf>,

    /// Keep the local index in DIR. [env: KLUIS_CACHE_DIR]
    ///
    /// The default is $XDG_CACHE_HOME/kluis, which is usually ~/.cache/kluis. Whatever is in there can be deleted; it
    /// is made again from the repository.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    #[arg(help_heading = EVERYWHERE)]
    pub cache_dir: Option<PathBuf>,

    /// Send at most RATE bytes a second to a bucket, such as 5M.
    #[arg(long, global = true, value_name = "RATE", help_heading = EVERYWHERE)]
    pub limit_upload: Option<ByteCount>,

    /// Receive at most RATE bytes a second from a bucket, such as 5M.
    #[arg(long, global = true, value_name = "RATE", help_heading = EVERYWHERE)]
    pub limit_download: Option<ByteCount>,

    /// Reach the bucket under a host name of its own: https://BUCKET.ENDPOINT instead of https://ENDPOINT/BUCKET.
    #[arg(long, global = true, help_heading = EVERYWHERE, hide_short_help = true)]
    pub s3_virtual_host: bool,

    /// Print the report as one JSON document.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,

    /// How progress is shown on standard error. [env: KLUIS_PROGRESS]
    #[arg(long, global = true, value_name = "HOW", help_heading = EVERYWHERE)]
    pub progress: Option<ProgressChoice>,

    /// Say nothing but results and problems.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more of what is being done.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERYWHERE)]
    pub verbose: u8,

    /// When to use colours; auto respects NO_COLOR.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = EVERYWHERE)]
    #[arg(hide_default_value = true)]
    pub color: ColorOption,
}

impl Globals {
    /// The options that name what opens the repository.
    pub fn secrets(&self) -> SecretOptions<'_> {
        SecretOptions {
            password_file: self.password_file.as_deref(),
            password_command: self.password_command.as_deref(),
            key_file: self.key_file.as_deref(),
        }
    }

    /// How progress is shown: the option, else the variable, else `auto`.
    pub fn progress(&self, environment: Environment<'_>) -> Result<ProgressChoice, Failure> {
        if let Some(choice) = self.progress {
            return Ok(choice);
        }
        let Some(value) = environment("KLUIS_PROGRESS") else { return Ok(ProgressChoice::Auto) };
        let value = value.to_string_lossy();
        ProgressChoice::from_str(&value, false)
            .map_err(|_| Failure::usage(format!("KLUIS_PROGRESS is {value:?}, not auto, bar, json or none")))
    }

    /// Makes everything printed from now on keep to `--color`.
    pub fn set_color(&self) {
        let choice = match self.color {
            ColorOption::Auto => return,
            ColorOption::Always => anstream::ColorChoice::Always,
            ColorOption::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Narrows which snapshots are meant.
#[derive(Debug, Clone, Default, Args)]
pub struct Narrow {
    /// Only snapshots of this host; may be given several times.
    #[arg(long, value_name = "HOST", help_heading = "Which snapshots")]
    pub host: Vec<String>,

    /// Only snapshots with this tag; of several options one must fit, with all tags between its commas.
    #[arg(long, value_name = "TAG[,TAG...]", help_heading = "Which snapshots")]
    pub tag: Vec<String>,

    /// Only snapshots of this path; with several options, of all of these paths.
    #[arg(long, value_name = "PATH", help_heading = "Which snapshots", value_hint = ValueHint::AnyPath)]
    pub path: Vec<PathBuf>,
}

/// A snapshot as people name it: `latest`, `latest~2`, or the beginning of its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotName {
    /// The newest one, or so many before it.
    Latest(u32),
    /// The one whose id begins so: 1 to 32 lower-case hexadecimal digits.
    Prefix(String),
}

/// What is not the name of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not name a snapshot; write latest, latest~2, or the beginning of an id")]
pub struct SnapshotNameError(String);

impl FromStr for SnapshotName {
    type Err = SnapshotNameError;

    fn from_str(text: &str) -> Result<Self, SnapshotNameError> {
        let error = || SnapshotNameError(text.to_owned());
        if let Some(rest) = text.strip_prefix("latest") {
            let Some(count) = rest.strip_prefix('~') else {
                return if rest.is_empty() { Ok(Self::Latest(0)) } else { Err(error()) };
            };
            return count.parse().map(Self::Latest).map_err(|_| error());
        }
        let prefix = text.to_ascii_lowercase();
        let is_prefix =
            (1..=32).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_prefix { Ok(Self::Prefix(prefix)) } else { Err(error()) }
    }
}

impl std::fmt::Display for SnapshotName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest(0) => out.write_str("latest"),
            Self::Latest(count) => write!(out, "latest~{count}"),
            Self::Prefix(prefix) => out.write_str(prefix),
        }
    }
}

/// A snapshot, or something in it: `SNAPSHOT` or `SNAPSHOT:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPath {
    /// Which snapshot.
    pub snapshot: SnapshotName,
    /// What in it, where that is given.
    pub path: Option<PathBuf>,
}

impl SnapshotPath {
    /// Understands `SNAPSHOT` and `SNAPSHOT:PATH`; a path may be any bytes.
    pub fn parse(text: &OsStr) -> Result<Self, SnapshotNameError> {
        let bytes = text.as_bytes();
        let (name, path) =
            match bytes.iter().position(|byte| *byte == b':').and_then(|at| bytes.split_at_checked(at)) {
                Some((name, path)) => (name, path.strip_prefix(b":").filter(|path| !path.is_empty())),
                None => (bytes, None),
            };
        let snapshot = String::from_utf8_lossy(name).parse()?;
        Ok(Self { snapshot, path: path.map(|path| OsString::from_vec(path.to_vec()).into()) })
    }
}

/// Lets clap parse values that need not be UTF-8.
pub fn snapshot_path_parser() -> impl clap::builder::TypedValueParser<Value = SnapshotPath> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|text| SnapshotPath::parse(&text))
}

/// Parses a moment for clap.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| {
        "write for instance 2026-11-20, \"2026-11-20 18:00:00\" or 2026-11-20T18:00:00+01:00".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_named_by_age_or_by_the_beginning_of_an_id() {
        let parsed = |text: &str| text.parse::<SnapshotName>().ok();
        assert_eq!(parsed("latest"), Some(SnapshotName::Latest(0)));
        assert_eq!(parsed("latest~12"), Some(SnapshotName::Latest(12)));
        assert_eq!(parsed("5F2c"), Some(SnapshotName::Prefix("5f2c".to_owned())));
        for text in ["", "latest~", "latest~-1", "latestt", "latest~99999999999", "5g", &"a".repeat(33)] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_path_in_a_snapshot_may_be_any_bytes() {
        let parsed = |bytes: &[u8]| SnapshotPath::parse(OsStr::from_bytes(bytes)).unwrap();
        assert_eq!(parsed(b"latest").path, None);
        assert_eq!(parsed(b"latest:").path, None);
        let path = parsed(b"latest~1:/a:b/\xff");
        assert_eq!(path.snapshot, SnapshotName::Latest(1));
        assert_eq!(path.path.unwrap().as_os_str().as_bytes(), b"/a:b/\xff");
        assert!(SnapshotPath::parse(OsStr::from_bytes(b"\xff:/a")).is_err());
    }

    #[test]
    fn moments_are_dates_with_or_without_a_time() {
        for text in ["2026-11-20", "2026-11-20 18:00:00", "2026-11-20T18:00:00+01:00", "2026-11-20T18:00:00Z"]
        {
            assert!(parse_time(text).is_ok(), "{text}");
        }
        assert!(parse_time("soon").is_err());
    }
}
