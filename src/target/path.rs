//! Paths inside the target.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::TargetError;
use crate::format::tree::Entry;

/// A path below the root of a target; empty for the root itself.
///
/// It is made of names only: never absolute, and without `.`, `..` or NUL, so it cannot say a place outside.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TargetPath {
    bytes: Vec<u8>,
}

impl TargetPath {
    /// The root of the target.
    pub fn root() -> Self {
        Self::default()
    }

    /// Goes down to `name`.
    pub fn push(&mut self, name: &[u8]) -> Result<(), TargetError> {
        check_name(name)?;
        if !self.bytes.is_empty() {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(name);
        Ok(())
    }

    /// Goes up by one; the root stays the root.
    pub fn pop(&mut self) {
        let end = self.bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        self.bytes.truncate(end);
    }

    /// The path of `name` inside this folder.
    pub fn join(&self, name: &[u8]) -> Result<Self, TargetError> {
        let mut path = self.clone();
        path.push(name)?;
        Ok(path)
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The folder it is in, and its name; `None` for the root.
    pub fn split(&self) -> Option<(TargetPath, &[u8])> {
        let at = self.bytes.iter().rposition(|byte| *byte == b'/');
        let folder = self.bytes.get(..at.unwrap_or(0))?;
        let name = self.bytes.get(at.map_or(0, |at| at + 1)..)?;
        (!name.is_empty()).then(|| (TargetPath { bytes: folder.to_vec() }, name))
    }

    /// The names joined by `/`, without one at either end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As a relative path, for reports.
    pub fn to_path_buf(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.bytes))
    }

    /// What leads from `above` down to this path, if it is the same or lies below it.
    pub(super) fn below<'p>(&'p self, above: &TargetPath) -> Option<&'p [u8]> {
        if above.is_root() {
            return Some(&self.bytes);
        }
        let rest = self.bytes.strip_prefix(above.as_bytes())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
    }
}

/// Refuses whatever is not the name of one entry.
pub(super) fn check_name(name: &[u8]) -> Result<(), TargetError> {
    if Entry::name_is_good(name) {
        Ok(())
    } else {
        Err(TargetError::BadName { name: String::from_utf8_lossy(name).into_owned() })
    }
}

impl fmt::Debug for TargetPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", self.bytes.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_made_of_names_only() {
        let mut path = TargetPath::root();
        for name in [&b""[..], b".", b"..", b"/etc", b"a/b", b"a\0", b"../x"] {
            assert!(path.push(name).is_err(), "{name:?} was accepted");
        }
        assert!(path.is_root());
        path.push(b"a").unwrap();
        path.push(b"...").unwrap();
        assert_eq!(path.as_bytes(), b"a/...");
        path.pop();
        path.pop();
        path.pop();
        assert!(path.is_root());
    }

    #[test]
    fn a_path_knows_its_folder_and_what_is_below_it() {
        let path = TargetPath::root().join(b"a").unwrap().join(b"b").unwrap();
        let (folder, name) = path.split().unwrap();
        assert_eq!((folder.as_bytes(), name), (&b"a"[..], &b"b"[..]));
        assert!(TargetPath::root().split().is_none());
        assert_eq!(path.below(&folder), Some(&b"b"[..]));
        assert_eq!(path.below(&path), Some(&b""[..]));
        assert_eq!(folder.below(&path), None);
        let sibling = TargetPath::root().join(b"ab").unwrap();
        assert_eq!(sibling.below(&folder), None);
    }
}
