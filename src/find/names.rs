//! Patterns for paths, with the meaning they have in gitignore. Pure.

use crate::source::{ExcludeError, Excludes, ExcludesBuilder};

/// A pattern that is not one.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is no pattern: {reason}")]
pub struct PatternError {
    /// The pattern as it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Patterns, of which the last one that matches decides; one that begins with `!` takes back.
#[derive(Debug, Clone, Default)]
pub struct Names {
    whole: Excludes,
    /// What the last name of a path must fit, or no pattern can match.
    last: Excludes,
}

impl Names {
    /// Understands the patterns: a slash in front is the start of the snapshot, and one without slashes fits at any depth.
    pub fn new(patterns: &[String], ignore_case: bool) -> Result<Self, PatternError> {
        let last =
            patterns.iter().filter(|pattern| !pattern.starts_with('!')).map(|pattern| last_name(pattern));
        Ok(Self {
            whole: matcher(patterns.iter().map(String::as_str), ignore_case)?,
            last: matcher(last, ignore_case)?,
        })
    }

    /// Whether something of this name could match, wherever it is.
    pub(super) fn may_match(&self, name: &[u8], is_folder: bool) -> bool {
        self.last.leaves_out(name, is_folder)
    }

    /// Whether what has this absolute path matches.
    pub(super) fn matches(&self, path: &[u8], is_folder: bool) -> bool {
        self.whole.leaves_out(path.strip_prefix(b"/").unwrap_or(path), is_folder)
    }
}

/// The part of a pattern that is about the last name. Where that is not plain to see, what fits any name.
fn last_name(pattern: &str) -> &str {
    let body = pattern.strip_suffix('/').unwrap_or(pattern);
    match body.rsplit_once('/') {
        None => pattern,
        // A slash could be inside braces or brackets, and one with a backslash before it is a slash all the same.
        Some((above, _)) if above.contains(['{', '[', '\\']) => "*",
        // What is the end of a pattern would mean something else as a whole one.
        Some((_, last)) if last.is_empty() || last.contains("**") || last.starts_with('!') => "*",
        Some((_, last)) => last,
    }
}

fn matcher<'p>(patterns: impl Iterator<Item = &'p str>, ignore_case: bool) -> Result<Excludes, PatternError> {
    let mut builder = ExcludesBuilder::new();
    for pattern in patterns {
        let added = if ignore_case { builder.iexclude(pattern) } else { builder.exclude(pattern) };
        added.map_err(|error| pattern_error(pattern, error))?;
    }
    builder.build().map_err(|error| pattern_error("", error))
}

fn pattern_error(pattern: &str, error: ExcludeError) -> PatternError {
    let reason = match error {
        ExcludeError::Pattern { reason, .. } | ExcludeError::TooMany { reason } => reason,
        other => other.to_string(),
    };
    PatternError { pattern: pattern.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_of_a_pattern_never_rules_out_what_matches() {
        for (pattern, path) in [
            ("*.odt", "/a/b.odt"),
            ("/home/*/x", "/home/me/x"),
            ("home/me/", "/home/me"),
            ("a/**", "/a/b/c"),
            ("**/b", "/x/b"),
            ("{a/b,c}", "/a/b"),
            ("a/{b,c}", "/a/c"),
            ("a[b/c]", "/ab"),
            ("a/[bc]", "/a/b"),
            ("a\\/b", "/a/b"),
            ("#x", "/y/#x"),
            ("a/#x", "/a/#x"),
            ("a/!x", "/a/!x"),
            ("a/ x", "/a/ x"),
        ] {
            let names = Names::new(&[pattern.to_owned()], false).unwrap();
            let name = path.rsplit('/').next().unwrap().as_bytes();
            for is_folder in [false, true] {
                let matches = names.matches(path.as_bytes(), is_folder);
                assert!(!matches || names.may_match(name, is_folder), "{pattern} on {path}");
            }
        }
        assert!(Names::new(&["[".to_owned()], false).is_err());
        assert!(Names::new(&["/".to_owned()], false).is_err());
    }

    #[test]
    fn case_counts_unless_it_is_told_not_to() {
        let matches =
            |ignore_case| Names::new(&["A.JPG".to_owned()], ignore_case).unwrap().matches(b"/x/a.jpg", false);
        assert_eq!((matches(false), matches(true)), (false, true));
    }
}
