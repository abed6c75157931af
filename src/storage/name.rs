//! Names of stored objects.

use std::fmt;

/// A name such as `data/5f/5f2c`: segments of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`, joined by `/`.
///
/// No segment is empty, `.` or `..`, so a name never leads out of the repository.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(Box<str>);

/// A text that cannot be the name of an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be the name of an object")]
pub struct NameError(String);

const NAME_LEN_MAX: usize = 200;

impl ObjectName {
    /// The name with this text.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let segment_is_good = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        if text.len() <= NAME_LEN_MAX && text.split('/').all(segment_is_good) {
            Ok(Self(text.into_boxed_str()))
        } else {
            Err(NameError(text))
        }
    }

    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    pub fn leaf(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// All but the last segment: `data/5f`, or nothing for a name that stands at the top.
    pub fn folder(&self) -> &str {
        parent_of(&self.0)
    }
}

/// The folder around a folder or an object; nothing for what stands at the top.
pub(super) fn parent_of(text: &str) -> &str {
    text.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Whether a folder holds objects that decide something. Data and meta only hold packs, which mean nothing before
/// such an object names them, and tmp holds what is unfinished.
pub(super) fn is_control(folder: &str) -> bool {
    !matches!(folder.split('/').next(), Some("data" | "meta" | "tmp"))
}

impl fmt::Display for ObjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_the_repository() {
        for text in
            ["", "/", "a//b", "../a", "a/..", "a/./b", "/a", "a/", "a b", "a\0", "\u{e4}", &"a".repeat(201)]
        {
            assert!(ObjectName::new(text).is_err(), "{text:?} was accepted");
        }
        let name = ObjectName::new("lease/0a.1").unwrap();
        assert_eq!((name.as_str(), name.leaf()), ("lease/0a.1", "0a.1"));
    }

    #[test]
    fn the_folder_of_a_name_is_all_but_its_last_segment() {
        let folder = |text: &str| ObjectName::new(text).unwrap().folder().to_owned();
        assert_eq!((folder("data/5f/5f2c"), folder("README")), ("data/5f".to_owned(), String::new()));
    }

    #[test]
    fn only_packs_and_unfinished_files_decide_nothing() {
        for folder in ["data", "data/5f", "meta", "tmp"] {
            assert!(!is_control(folder), "{folder}");
        }
        for folder in ["", "lease", "snapshot", "database", "copy/data"] {
            assert!(is_control(folder), "{folder:?}");
        }
    }
}
