//! Names of stored objects.

use std::fmt;

/// A name such as `data/5f/5f2c…`: segments of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`, joined by `/`.
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
            ["", "/", "a//b", "../a", "a/..", "a/./b", "/a", "a/", "a b", "a\0", "ä", &"a".repeat(201)]
        {
            assert!(ObjectName::new(text).is_err(), "{text:?} was accepted");
        }
        let name = ObjectName::new("lease/0a.1").unwrap();
        assert_eq!((name.as_str(), name.leaf()), ("lease/0a.1", "0a.1"));
    }
}
