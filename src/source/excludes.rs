//! What is left out of a backup.
//!
//! Patterns have the meaning they have in `.gitignore`: a leading `/` is the start of the backed-up path, `**`
//! crosses folders, a trailing `/` means folders only, `!` takes back, and the last pattern that matches decides. As
//! in git, nothing can be taken back inside a folder that is itself excluded.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// First bytes of a valid `CACHEDIR.TAG`.
pub(super) const CACHE_TAG_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// The file that marks a cache.
pub(super) const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";

/// Why a pattern or a file of patterns is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExcludeError {
    /// The pattern is empty or does not parse.
    #[error("exclude pattern {pattern:?} does not parse: {reason}")]
    Pattern {
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A line of a file does not parse.
    #[error("line {line} of {} is no exclude pattern: {pattern:?}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of patterns cannot be read.
    #[error("could not read the exclude file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The patterns together are too much for the matcher.
    #[error("the exclude patterns cannot be used together: {reason}")]
    TooMany {
        /// What the matcher said.
        reason: String,
    },
    /// The name of a tag file is empty or a path.
    #[error("{name:?} is not the name of a file")]
    TagName {
        /// The name as it was given.
        name: String,
    },
}

/// Decides what is left out.
#[derive(Debug, Clone)]
pub struct Excludes {
    patterns: Gitignore,
    /// Whether folders with a valid `CACHEDIR.TAG` are emptied.
    pub(super) caches: bool,
    /// A folder that holds one of these is emptied.
    pub(super) tag_names: Vec<Vec<u8>>,
    /// Larger files are left out.
    pub(super) file_bytes_max: Option<u64>,
}

impl Default for Excludes {
    fn default() -> Self {
        Self { patterns: Gitignore::empty(), caches: false, tag_names: Vec::new(), file_bytes_max: None }
    }
}

impl Excludes {
    /// Whether there are any patterns to match names with.
    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether a pattern leaves out the entry at `relative`, a path from the root whose parents are not excluded.
    pub fn leaves_out(&self, relative: &[u8], is_folder: bool) -> bool {
        self.patterns.matched(Path::new(OsStr::from_bytes(relative)), is_folder).is_ignore()
    }

    /// Whether a file of this size is left out.
    pub(super) fn leaves_out_size(&self, size: u64) -> bool {
        self.file_bytes_max.is_some_and(|max| size > max)
    }
}

/// Collects what is to be left out; the order of patterns counts.
#[derive(Debug)]
pub struct ExcludesBuilder {
    patterns: GitignoreBuilder,
    caches: bool,
    tag_names: Vec<Vec<u8>>,
    file_bytes_max: Option<u64>,
}

impl Default for ExcludesBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ExcludesBuilder {
    /// Leaves out nothing yet.
    pub fn new() -> Self {
        // With this root the matcher takes paths as they are.
        let mut patterns = GitignoreBuilder::new(".");
        // Git lets a pattern with an open bracket match nothing; a mistake must not go unnoticed.
        patterns.allow_unclosed_class(false);
        Self { patterns, caches: false, tag_names: Vec::new(), file_bytes_max: None }
    }

    /// Adds a pattern.
    pub fn exclude(&mut self, pattern: &str) -> Result<&mut Self, ExcludeError> {
        self.add(pattern, false)
    }

    /// Adds a pattern that does not tell upper from lower case.
    pub fn iexclude(&mut self, pattern: &str) -> Result<&mut Self, ExcludeError> {
        self.add(pattern, true)
    }

    /// Adds the patterns of a file: one on a line; empty lines and those that begin with `#` are skipped.
    pub fn exclude_file(&mut self, path: &Path) -> Result<&mut Self, ExcludeError> {
        let text = std::fs::read(path)
            .map_err(|source| ExcludeError::Unreadable { path: path.to_owned(), source })?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let wrong = |reason: String| ExcludeError::Line {
                path: path.to_owned(),
                line: at + 1,
                pattern: String::from_utf8_lossy(line).into_owned(),
                reason,
            };
            let line = std::str::from_utf8(line).map_err(|error| wrong(error.to_string()))?;
            self.add_line(line, false).map_err(wrong)?;
        }
        Ok(self)
    }

    /// Leaves out what lies in a folder that a valid `CACHEDIR.TAG` marks as a cache, but for the tag.
    pub fn exclude_caches(&mut self) -> &mut Self {
        self.caches = true;
        self
    }

    /// Leaves out what lies in a folder that holds something of this name, but for that.
    pub fn exclude_if_present(&mut self, name: &OsStr) -> Result<&mut Self, ExcludeError> {
        let bytes = name.as_bytes();
        if !crate::format::tree::Entry::name_is_good(bytes) {
            return Err(ExcludeError::TagName { name: name.to_string_lossy().into_owned() });
        }
        self.tag_names.push(bytes.to_vec());
        Ok(self)
    }

    /// Leaves out files of more than `bytes` bytes.
    pub fn exclude_larger_than(&mut self, bytes: u64) -> &mut Self {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// Makes the patterns ready for matching.
    pub fn build(self) -> Result<Excludes, ExcludeError> {
        let built = self.patterns.build();
        let patterns = built.map_err(|error| ExcludeError::TooMany { reason: error.to_string() })?;
        Ok(Excludes {
            patterns,
            caches: self.caches,
            tag_names: self.tag_names,
            file_bytes_max: self.file_bytes_max,
        })
    }

    fn add(&mut self, pattern: &str, ignore_case: bool) -> Result<&mut Self, ExcludeError> {
        let wrong = |reason: String| ExcludeError::Pattern { pattern: pattern.to_owned(), reason };
        if pattern.trim().is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        // Only a file has comments: somebody who types `#recycle` means a folder of that name.
        let escaped = if pattern.starts_with('#') { format!("\\{pattern}") } else { pattern.to_owned() };
        self.add_line(&escaped, ignore_case).map_err(wrong)?;
        Ok(self)
    }

    fn add_line(&mut self, line: &str, ignore_case: bool) -> Result<(), String> {
        let line = line.trim_end_matches('\r');
        let meaning = line.trim_end().trim_start_matches('!').trim_start_matches('/');
        if meaning.is_empty() && !line.trim().is_empty() {
            return Err("it names nothing".to_owned());
        }
        self.patterns
            .case_insensitive(ignore_case)
            .and_then(|patterns| patterns.add_line(None, line))
            .map(|_| ())
            .map_err(|error| match error {
                ignore::Error::Glob { err, .. } => err,
                other => other.to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(patterns: &[&str], path: &str, is_folder: bool) -> bool {
        let mut builder = ExcludesBuilder::new();
        for pattern in patterns {
            builder.exclude(pattern).unwrap();
        }
        builder.build().unwrap().leaves_out(path.as_bytes(), is_folder)
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        let file = false;
        let folder = true;
        for (patterns, path, kind, expected) in [
            (&["*.o"][..], "a.o", file, true),
            (&["*.o"], "deep/down/a.o", file, true),
            (&["*.o"], "a.ob", file, false),
            (&["/a"], "a", file, true),
            (&["/a"], "b/a", file, false),
            (&["a/b"], "a/b", file, true),
            (&["a/b"], "x/a/b", file, false),
            (&["**/a/b"], "x/a/b", file, true),
            (&["a/**/b"], "a/x/y/b", file, true),
            (&["a/*/b"], "a/x/y/b", file, false),
            (&["a/**"], "a/x", file, true),
            (&["a/**"], "a", folder, false),
            (&["target/"], "x/target", folder, true),
            (&["target/"], "x/target", file, false),
            (&["*.log", "!keep.log"], "keep.log", file, false),
            (&["!keep.log", "*.log"], "keep.log", file, true),
            (&["#recycle"], "#recycle", folder, true),
            (&["\\!loud"], "!loud", file, true),
            (&["[a-c]x"], "bx", file, true),
            (&["[!a-c]x"], "bx", file, false),
            (&["?.txt"], "a.txt", file, true),
            (&["*"], ".hidden", file, true),
            (&["A"], "a", file, false),
        ] {
            assert_eq!(left_out(patterns, path, kind), expected, "{patterns:?} on {path}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_can_be_matched() {
        let mut builder = ExcludesBuilder::new();
        builder.exclude("*.tmp").unwrap();
        let excludes = builder.build().unwrap();
        assert!(excludes.leaves_out(b"\xff\xfe\n.tmp", false));
        assert!(!excludes.leaves_out(b"\xff\xfe\n", false));
    }

    #[test]
    fn only_iexclude_ignores_case() {
        let mut builder = ExcludesBuilder::new();
        builder.iexclude("*.JPG").unwrap().exclude("*.PNG").unwrap();
        let excludes = builder.build().unwrap();
        assert!(excludes.leaves_out(b"a.jpg", false));
        assert!(!excludes.leaves_out(b"a.png", false));
    }

    #[test]
    fn a_pattern_that_does_not_parse_is_named() {
        for pattern in ["", "  ", "!", "/", "!/", "[a", "{a", "a\\"] {
            let error = ExcludesBuilder::new().exclude(pattern).unwrap_err();
            assert!(error.to_string().contains(&format!("{pattern:?}")), "{error}");
        }
    }

    #[test]
    fn a_file_of_patterns_has_comments_and_its_errors_name_the_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\n\n*.o\r\n\\#x\n!keep.o\n").unwrap();
        let mut builder = ExcludesBuilder::new();
        builder.exclude_file(file.path()).unwrap();
        let excludes = builder.build().unwrap();
        for (path, expected) in [("a.o", true), ("keep.o", false), ("#x", true), ("# comment", false)] {
            assert_eq!(excludes.leaves_out(path.as_bytes(), false), expected, "{path}");
        }

        std::fs::write(file.path(), "good\n[bad\n").unwrap();
        let error = ExcludesBuilder::new().exclude_file(file.path()).unwrap_err();
        assert!(matches!(error, ExcludeError::Line { line: 2, .. }), "{error}");
        let missing = Path::new("/nonexistent/excludes");
        assert!(matches!(ExcludesBuilder::new().exclude_file(missing), Err(ExcludeError::Unreadable { .. })));
    }

    #[test]
    fn a_tag_must_be_a_plain_name() {
        for name in ["", ".", "..", "a/b"] {
            assert!(ExcludesBuilder::new().exclude_if_present(OsStr::new(name)).is_err(), "{name:?}");
        }
    }
}
