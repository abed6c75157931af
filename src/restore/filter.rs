//! What is restored, by globs as in gitignore. Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::target::TargetPath;

/// A glob that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("{glob:?} is not a pattern")]
pub struct FilterError {
    /// The glob.
    pub glob: String,
    /// Why.
    pub source: ignore::Error,
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Restore it, and what is in it.
    Take,
    /// A folder that is only restored if something in it is.
    LookInside,
    /// Leave it out.
    Skip,
}

#[derive(Debug)]
pub(super) struct Filter {
    include: Option<Gitignore>,
    exclude: Option<Gitignore>,
}

impl Filter {
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, FilterError> {
        Ok(Self { include: matcher(include)?, exclude: matcher(exclude)? })
    }

    /// Decides about an entry of a folder that was itself taken or looked into.
    pub(super) fn choose(&self, path: &TargetPath, is_folder: bool, folder_taken: bool) -> Choice {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        if self.exclude.as_ref().is_some_and(|globs| globs.matched(path, is_folder).is_ignore()) {
            return Choice::Skip;
        }
        let Some(include) = &self.include else { return Choice::Take };
        let matched = include.matched(path, is_folder);
        if matched.is_ignore() || (folder_taken && !matched.is_whitelist()) {
            Choice::Take
        } else if is_folder {
            Choice::LookInside
        } else {
            Choice::Skip
        }
    }

    /// Whether the top of what is restored counts as taken.
    pub(super) fn takes_all(&self) -> bool {
        self.include.is_none()
    }
}

fn matcher(globs: &[String]) -> Result<Option<Gitignore>, FilterError> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut builder = GitignoreBuilder::new("");
    for glob in globs {
        let error = |source| FilterError { glob: glob.clone(), source };
        builder.add_line(None, glob).map_err(error)?;
    }
    let glob = || globs.join(" ");
    builder.build().map(Some).map_err(|source| FilterError { glob: glob(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TargetPath {
        let mut path = TargetPath::root();
        text.split('/').for_each(|name| path.push(name.as_bytes()).unwrap());
        path
    }

    fn globs(globs: &[&str]) -> Vec<String> {
        globs.iter().map(|glob| (*glob).to_owned()).collect()
    }

    #[test]
    fn without_globs_everything_is_taken() {
        let filter = Filter::new(&[], &[]).unwrap();
        assert!(filter.takes_all());
        assert_eq!(filter.choose(&path("a/b"), false, true), Choice::Take);
    }

    #[test]
    fn included_things_bring_what_is_in_them() {
        let filter = Filter::new(&globs(&["/etc/ssh", "*.conf"]), &globs(&["*.key"])).unwrap();
        assert_eq!(filter.choose(&path("etc"), true, false), Choice::LookInside);
        assert_eq!(filter.choose(&path("etc/ssh"), true, false), Choice::Take);
        assert_eq!(filter.choose(&path("etc/ssh/config"), false, true), Choice::Take);
        assert_eq!(filter.choose(&path("etc/ssh/host.key"), false, true), Choice::Skip);
        assert_eq!(filter.choose(&path("etc/a.conf"), false, false), Choice::Take);
        assert_eq!(filter.choose(&path("etc/passwd"), false, false), Choice::Skip);
        assert!(Filter::new(&globs(&["a[z-a]"]), &[]).is_err());
    }
}
