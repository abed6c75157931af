//! How a bucket is reached: the variables and shared files that all programs for S3 know.
//!
//! | What | First that is there |
//! | --- | --- |
//! | address | `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `endpoint_url` of the profile, Amazon's |
//! | region | `AWS_REGION`, `AWS_DEFAULT_REGION`, `region` of the profile, `us-east-1` |
//! | key | `AWS_ACCESS_KEY_ID` with `AWS_SECRET_ACCESS_KEY`, the profile, the role of the container or machine |
//! | certificates | `AWS_CA_BUNDLE`, those of the system |
//!
//! The profile is `AWS_PROFILE` or `default`, in `AWS_SHARED_CREDENTIALS_FILE` or `~/.aws/credentials`, and in
//! `AWS_CONFIG_FILE` or `~/.aws/config`.

mod profile;

use zeroize::Zeroizing;

use crate::cli::args::Globals;
use crate::cli::bucket::profile::Profile;
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::place::Environment;
use crate::storage::{Patience, S3Credentials, S3Options};

const REGION_DEFAULT: &str = "us-east-1";
/// Lead to the role of a container or of a pod.
const ROLE_VARIABLES: [&str; 6] = [
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
];
const KEY_HINT: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile in ~/.aws/credentials";

/// How to reach a bucket.
///
/// # Errors
/// A variable or file that makes no sense, and no credentials at all.
pub fn options(
    bucket: &str,
    prefix: &str,
    globals: &Globals,
    environment: Environment<'_>,
) -> Result<S3Options, Failure> {
    let variable = |name: &str| environment(name).map(|value| value.to_string_lossy().into_owned());
    let profile = Profile::read(environment)?;
    let endpoint = variable("AWS_ENDPOINT_URL_S3")
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .or_else(|| profile.get("endpoint_url").map(str::to_owned))
        .map(checked_endpoint)
        .transpose()?;
    let region = variable("AWS_REGION")
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(|| profile.get("region").map(str::to_owned));
    let ca_bundle = variable("AWS_CA_BUNDLE")
        .map(|path| {
            std::fs::read(&path)
                .or_fail(|| format!("the certificates of AWS_CA_BUNDLE, {path}, cannot be read"))
        })
        .transpose()?;
    Ok(S3Options {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        region: region.unwrap_or_else(|| REGION_DEFAULT.to_owned()),
        // Every store that is not Amazon's has paths; Amazon's has hosts, but for names that no certificate covers.
        virtual_host: globals.s3_virtual_host || (endpoint.is_none() && !bucket.contains('.')),
        credentials: credentials(&variable, &profile, endpoint.is_none())?,
        endpoint,
        ca_bundle,
        upload_limit: globals.limit_upload.map(|rate| rate.0),
        download_limit: globals.limit_download.map(|rate| rate.0),
        patience: Patience::default(),
    })
}

fn checked_endpoint(text: String) -> Result<String, Failure> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.trim_end_matches('/').is_empty() && !rest.contains(['?', '#', '@', ' ']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        Some(_) | None => Err(Failure::usage(format!("{text:?} is not the address of a store"))
            .hint("AWS_ENDPOINT_URL looks like https://s3.example.org, or http://... without encryption")),
    }
}

fn credentials(
    variable: &dyn Fn(&str) -> Option<String>,
    profile: &Profile,
    is_amazon: bool,
) -> Result<S3Credentials, Failure> {
    let fail = |sentence: &str| Err(Failure::new(Exit::Failed, sentence).hint(KEY_HINT));
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let token = variable("AWS_SESSION_TOKEN").map(Zeroizing::new);
            return Ok(S3Credentials::Key { id, secret: Zeroizing::new(secret), token });
        }
        (Some(_), None) => return fail("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not"),
        (None, Some(_)) => return fail("AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not"),
        (None, None) => {}
    }
    if let Some(credentials) = profile.credentials()? {
        return Ok(credentials);
    }
    let named = |name: &&str| variable(name).map(|value| ((*name).to_owned(), value));
    let role: Vec<(String, String)> = ROLE_VARIABLES.iter().filter_map(named).collect();
    // A machine of Amazon's knows its role without any variable.
    if !role.is_empty() || is_amazon {
        return Ok(S3Credentials::Role(role));
    }
    fail("nothing says with which key the bucket is opened")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        globals: Globals,
    }

    fn read(pairs: &[(&str, &str)], line: &[&str]) -> Result<S3Options, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = folder.path().join("nothing").into_os_string();
        let environment = |name: &str| {
            let found = pairs.iter().find(|pair| pair.0 == name).map(|pair| OsString::from(pair.1));
            let is_file = matches!(name, "AWS_CONFIG_FILE" | "AWS_SHARED_CREDENTIALS_FILE");
            found.or_else(|| is_file.then(|| nowhere.clone()))
        };
        let globals = Line::parse_from(std::iter::once(&"x").chain(line)).globals;
        options("bucket", "prefix", &globals, &environment)
    }

    const KEY: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];

    #[test]
    fn the_usual_variables_count() {
        let amazon = read(&KEY, &[]).unwrap();
        assert_eq!((amazon.region.as_str(), amazon.endpoint.as_deref()), ("us-east-1", None));
        assert!(amazon.virtual_host);
        let more = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:7480/"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_SESSION_TOKEN", "token"),
        ];
        let pairs: Vec<_> = KEY.iter().chain(&more).copied().collect();
        let other = read(&pairs, &["--limit-upload", "2K"]).unwrap();
        assert_eq!(other.endpoint.as_deref(), Some("http://127.0.0.1:7480"));
        assert_eq!((other.region.as_str(), other.upload_limit), ("eu-west-1", Some(2048)));
        assert!(!other.virtual_host && read(&pairs, &["--s3-virtual-host"]).unwrap().virtual_host);
        let S3Credentials::Key { id, secret, token } = other.credentials else { panic!("no key") };
        assert_eq!((id.as_str(), secret.as_str(), token.unwrap().as_str()), ("id", "secret", "token"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for missing in 0..2 {
            let failure = read(&KEY[missing..=missing], &[]).err().unwrap();
            assert!(failure.in_one_line().contains(KEY[1 - missing].0), "{failure:?}");
        }
        let failure = read(&[("AWS_ENDPOINT_URL", "https://s3.example.org")], &[]).err().unwrap();
        assert!(failure.in_one_line().contains("which key"), "{failure:?}");
        assert!(matches!(read(&[], &[]).unwrap().credentials, S3Credentials::Role(_)));
        for address in ["s3.example.org", "ftp://x", "https://", "https://user@x"] {
            let pairs: Vec<_> = KEY.iter().copied().chain([("AWS_ENDPOINT_URL", address)]).collect();
            assert_eq!(read(&pairs, &[]).err().unwrap().exit(), Exit::Usage, "{address}");
        }
    }
}
