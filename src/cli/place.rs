//! Where things are: the repository and the local cache, from options, environment and defaults.

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::cli::exit::{Exit, Failure};

/// Looks up a variable of the environment; one that is empty counts as not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The environment of this process.
pub fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A place that can hold a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this computer.
    Folder(PathBuf),
    /// Objects in a bucket of S3.
    Bucket {
        /// Name of the bucket.
        bucket: String,
        /// What all names in it begin with, without slashes at the ends; may be empty.
        prefix: String,
    },
}

/// Lengths that names of buckets have.
const BUCKET_LEN: RangeInclusive<usize> = 3..=63;
const PREFIX_LEN_MAX: usize = 500;
/// What may stand in a prefix besides letters and digits: it passes through addresses, signatures and lists unchanged.
const PREFIX_SIGNS: &[u8] = b"!-_.'()";

impl Place {
    /// The place named by `--repo`, else by `KLUIS_REPO`, else the default of the user.
    pub fn choose(option: Option<&OsStr>, environment: Environment<'_>) -> Result<Self, Failure> {
        if let Some(text) = option {
            return Self::parse(text);
        }
        match environment("KLUIS_REPO") {
            Some(text) => Self::parse(&text),
            None => {
                let folder = user_folder("XDG_DATA_HOME", ".local/share", environment)
                    .map_err(|failure| failure.hint("name the repository with --repo or KLUIS_REPO"))?;
                Ok(Self::Folder(folder.join("repository")))
            }
        }
    }

    /// Understands `/srv/backup`, `file:///srv/backup`, `s3://bucket/prefix`, and refuses what this version cannot reach.
    pub fn parse(text: &OsStr) -> Result<Self, Failure> {
        if text.is_empty() {
            return Err(Failure::usage("the name of the repository is empty"));
        }
        let shown = text.to_string_lossy();
        let Some((scheme, rest)) = split_scheme(text.as_bytes()) else {
            return Ok(Self::Folder(PathBuf::from(text)));
        };
        match scheme {
            "file" => {
                let path = rest.strip_prefix(b"localhost").unwrap_or(rest);
                if !path.starts_with(b"/") {
                    let sentence = format!("{shown} names another computer or no absolute path");
                    return Err(Failure::usage(sentence).hint("write file:///srv/backup"));
                }
                let path = percent_decoded(path)
                    .ok_or_else(|| Failure::usage(format!("{shown} has a broken % escape")))?;
                Ok(Self::Folder(PathBuf::from(OsString::from_vec(path))))
            }
            "s3" => Self::parse_bucket(&shown),
            _ => {
                Err(Failure::usage(format!("{shown}: places that begin with {scheme}:// are not supported"))
                    .hint("use a folder or a bucket: --repo /srv/backup, --repo s3://bucket/prefix"))
            }
        }
    }

    fn parse_bucket(text: &str) -> Result<Self, Failure> {
        let wrong = |what: &str| {
            Failure::usage(format!("{text}: {what}")).hint("write s3://bucket or s3://bucket/prefix")
        };
        let rest = text.strip_prefix("s3://").unwrap_or(text);
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_bucket = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if !BUCKET_LEN.contains(&bucket.len()) || !bucket.bytes().all(is_bucket) || bucket.contains("..") {
            return Err(wrong("a bucket has a name of 3 to 63 letters, digits, dots and dashes"));
        }
        let prefix = prefix.trim_end_matches('/');
        let is_segment = |segment: &str| {
            let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || PREFIX_SIGNS.contains(&byte);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_allowed)
        };
        if !(prefix.is_empty() || prefix.split('/').all(is_segment)) || prefix.len() > PREFIX_LEN_MAX {
            return Err(wrong(
                "a prefix is made of letters, digits and !-_.'(), in folders that are not empty",
            ));
        }
        Ok(Self::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// The folder of a repository on this computer.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Bucket { .. } => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(out, "{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(out, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(out, "s3://{bucket}/{prefix}"),
        }
    }
}

/// The folder for caches: `--cache-dir`, else `KLUIS_CACHE_DIR`, else the default of the user.
pub fn cache_folder(option: Option<&Path>, environment: Environment<'_>) -> Result<PathBuf, Failure> {
    if let Some(path) = option {
        return Ok(path.to_owned());
    }
    match environment("KLUIS_CACHE_DIR") {
        Some(path) => Ok(PathBuf::from(path)),
        None => user_folder("XDG_CACHE_HOME", ".cache", environment)
            .map_err(|failure| failure.hint("name a folder with --cache-dir or KLUIS_CACHE_DIR")),
    }
}

/// `$variable/kluis`, else `~/below_home/kluis`. A relative path in the variable is ignored, as XDG demands.
fn user_folder(variable: &str, below_home: &str, environment: Environment<'_>) -> Result<PathBuf, Failure> {
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let folder = environment(variable)
        .and_then(absolute)
        .or_else(|| environment("HOME").and_then(absolute).map(|home| home.join(below_home)));
    match folder {
        Some(folder) => Ok(folder.join("kluis")),
        None => Err(Failure::new(Exit::Failed, format!("neither {variable} nor HOME names a folder"))),
    }
}

fn split_scheme(text: &[u8]) -> Option<(&str, &[u8])> {
    let at = text.windows(3).position(|window| window == b"://")?;
    let (scheme, rest) = text.split_at_checked(at)?;
    let scheme = str::from_utf8(scheme).ok()?;
    let is_scheme =
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
    Some((scheme, rest.strip_prefix(b"://")?)).filter(|_| is_scheme)
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| OsString::from(pair.1))
    }

    fn folder(text: &str) -> Option<PathBuf> {
        Place::parse(OsStr::new(text)).ok()?.folder().map(Path::to_owned)
    }

    #[test]
    fn paths_and_file_addresses_are_folders() {
        let cases = [
            ("/srv/backup", "/srv/backup"),
            ("relative", "relative"),
            ("a:b", "a:b"),
            ("./a://b", "./a://b"),
            ("file:///srv/back%20up", "/srv/back up"),
            ("file://localhost/srv", "/srv"),
        ];
        for (text, path) in cases {
            assert_eq!(folder(text), Some(PathBuf::from(path)), "{text}");
        }
    }

    #[test]
    fn buckets_have_a_name_and_perhaps_a_prefix() {
        let cases = [
            ("s3://bucket", "bucket", "", "s3://bucket"),
            ("s3://my.bucket-1/", "my.bucket-1", "", "s3://my.bucket-1"),
            ("s3://bucket/hosts/one/", "bucket", "hosts/one", "s3://bucket/hosts/one"),
        ];
        for (text, bucket, prefix, shown) in cases {
            let place = Place::parse(OsStr::new(text)).unwrap();
            assert_eq!(place, Place::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
            assert_eq!(place.to_string(), shown);
        }
    }

    #[test]
    fn places_that_cannot_be_reached_are_wrong_usage() {
        let buckets =
            ["s3://", "s3://ab", "s3://b_/\u{e4}", "s3://bucket//x", "s3://bucket/a b", "s3://bucket/../x"];
        let others = ["", "sftp://host/x", "file://host/x", "file:///a%2", "file:///%zz", "S3://bucket"];
        for text in buckets.iter().chain(&others) {
            let failure = Place::parse(OsStr::new(text)).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage, "{text}");
        }
    }

    #[test]
    fn the_option_beats_the_environment_and_that_the_default() {
        let all = [("KLUIS_REPO", "/from-environment"), ("XDG_DATA_HOME", "/data"), ("HOME", "/home/me")];
        let chosen = |option: Option<&str>, skip: usize| {
            let environment = environment(all.get(skip..).unwrap_or(&[]));
            Place::choose(option.map(OsStr::new), &environment).map(|place| place.to_string())
        };
        assert_eq!(chosen(Some("/x"), 0).unwrap(), "/x");
        assert_eq!(chosen(None, 0).unwrap(), "/from-environment");
        assert_eq!(chosen(None, 1).unwrap(), "/data/kluis/repository");
        assert_eq!(chosen(None, 2).unwrap(), "/home/me/.local/share/kluis/repository");
        assert!(chosen(None, 3).is_err());
    }

    #[test]
    fn the_cache_is_with_the_caches_of_the_user() {
        let relative = [("XDG_CACHE_HOME", "not/absolute"), ("HOME", "/home/me")];
        let chosen = cache_folder(None, &environment(&relative)).unwrap();
        assert_eq!(chosen, Path::new("/home/me/.cache/kluis"));
        assert_eq!(cache_folder(Some(Path::new("x")), &environment(&relative)).unwrap(), Path::new("x"));
        let named = [("KLUIS_CACHE_DIR", "/c"), ("HOME", "/home/me")];
        assert_eq!(cache_folder(None, &environment(&named)).unwrap(), Path::new("/c"));
    }
}
