//! A profile in the two files that programs for S3 share.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::place::Environment;
use crate::storage::S3Credentials;

/// Ways to a key that need a conversation with Amazon or another program.
const UNKNOWN_WAYS: [&str; 4] = ["role_arn", "sso_session", "sso_start_url", "credential_process"];

/// The settings of one profile; none where there is no file.
#[derive(Default)]
pub struct Profile {
    name: String,
    settings: BTreeMap<String, Zeroizing<String>>,
}

impl Profile {
    /// The profile of `AWS_PROFILE`, or `default`.
    ///
    /// # Errors
    /// A file that cannot be read, and a profile that was asked for and is in neither file.
    pub fn read(environment: Environment<'_>) -> Result<Self, Failure> {
        let chosen = environment("AWS_PROFILE").map(|name| name.to_string_lossy().into_owned());
        let name = chosen.clone().unwrap_or_else(|| "default".to_owned());
        let mut profile = Self { name, settings: BTreeMap::new() };
        let home = environment("HOME").map(PathBuf::from);
        let path_of = |variable: &str, leaf: &str| {
            let below_home = || Some(home.as_ref()?.join(".aws").join(leaf).into_os_string());
            environment(variable).or_else(below_home)
        };
        let config = read_file(path_of("AWS_CONFIG_FILE", "config"))?;
        let credentials = read_file(path_of("AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
        // Keys of the second file win: it is the one that is kept secret.
        let is_found = profile.take(&config, true) | profile.take(&credentials, false) | (chosen.is_none());
        if is_found {
            return Ok(profile);
        }
        let sentence =
            format!("there is no profile {:?} in ~/.aws/config or ~/.aws/credentials", profile.name);
        Err(Failure::new(Exit::Failed, sentence).hint("AWS_PROFILE names it"))
    }

    /// A setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|value| value.as_str())
    }

    /// The key in it, if it has one.
    ///
    /// # Errors
    /// It leads to a key in a way that this program does not know.
    pub fn credentials(&self) -> Result<Option<S3Credentials>, Failure> {
        if let (Some(id), Some(secret)) = (self.get("aws_access_key_id"), self.get("aws_secret_access_key")) {
            let token = self.get("aws_session_token").map(|token| Zeroizing::new(token.to_owned()));
            let secret = Zeroizing::new(secret.to_owned());
            return Ok(Some(S3Credentials::Key { id: id.to_owned(), secret, token }));
        }
        match UNKNOWN_WAYS.iter().find(|way| self.settings.contains_key(**way)) {
            None => Ok(None),
            Some(way) => {
                let sentence =
                    format!("profile {:?} leads to its key by {way}, which is not supported", self.name);
                Err(Failure::new(Exit::Failed, sentence)
                    .hint("`aws configure export-credentials --format env` prints variables that are"))
            }
        }
    }

    /// Takes the settings of the profile from a file. Whether it is in there.
    fn take(&mut self, text: &str, is_config: bool) -> bool {
        let mut is_inside = false;
        let mut is_found = false;
        for line in text.lines() {
            // Indented lines belong to a nested setting.
            let is_nested = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) || is_nested {
                continue;
            }
            if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                let title = title.trim();
                let name = match title.strip_prefix("profile ") {
                    Some(name) if is_config => name.trim(),
                    // In that file only this one stands without the word.
                    None if !is_config || title == "default" => title,
                    Some(_) | None => "",
                };
                is_inside = name == self.name;
                is_found |= is_inside;
            } else if let (true, Some((key, value))) = (is_inside, line.split_once('=')) {
                let value = Zeroizing::new(value.trim().to_owned());
                self.settings.insert(key.trim().to_ascii_lowercase(), value);
            }
        }
        is_found
    }
}

/// The text of a file, or nothing where there is none.
fn read_file(path: Option<OsString>) -> Result<Zeroizing<String>, Failure> {
    let Some(path) = path.map(PathBuf::from) else { return Ok(Zeroizing::default()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Zeroizing::default()),
        read => read.map(Zeroizing::new).or_fail(|| format!("{} cannot be read", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
# a comment
[default]
region = eu-west-1
s3 =
  addressing_style = path
[profile backup]
region=eu-central-1
endpoint_url = https://s3.example.org
[profile roles]
role_arn = arn:aws:iam::1:role/x
";
    const CREDENTIALS: &str = "\
[default]
aws_access_key_id = one
aws_secret_access_key = first
[backup]
aws_access_key_id = two
aws_secret_access_key = second
aws_session_token = token
";

    fn profile(name: Option<&str>) -> Result<Profile, Failure> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        std::fs::write(folder.path().join(".aws/config"), CONFIG).unwrap();
        std::fs::write(folder.path().join(".aws/credentials"), CREDENTIALS).unwrap();
        Profile::read(&|variable| match variable {
            "HOME" => Some(folder.path().as_os_str().to_owned()),
            "AWS_PROFILE" => name.map(OsString::from),
            _ => None,
        })
    }

    fn id(profile: &Profile) -> Option<String> {
        match profile.credentials().unwrap()? {
            S3Credentials::Key { id, .. } => Some(id),
            S3Credentials::Role(_) => None,
        }
    }

    #[test]
    fn a_profile_is_found_in_both_files() {
        let default = profile(None).unwrap();
        assert_eq!((default.get("region"), id(&default).as_deref()), (Some("eu-west-1"), Some("one")));
        assert_eq!(default.get("addressing_style"), None);
        let backup = profile(Some("backup")).unwrap();
        assert_eq!(backup.get("endpoint_url"), Some("https://s3.example.org"));
        assert_eq!((backup.get("region"), id(&backup).as_deref()), (Some("eu-central-1"), Some("two")));
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let unknown = profile(Some("nobody")).err().unwrap();
        assert!(unknown.in_one_line().contains("nobody"));
        let roles = profile(Some("roles")).unwrap();
        assert!(roles.credentials().err().unwrap().in_one_line().contains("role_arn"));
    }
}
