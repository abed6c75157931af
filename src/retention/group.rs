//! Groups: snapshots that a policy is applied to together.

use std::fmt;
use std::str::FromStr;

use crate::retention::Candidate;
use crate::wire::Bytes;

/// What the snapshots of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The host they were made on.
    pub host: bool,
    /// What was backed up.
    pub paths: bool,
    /// Their tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

/// What a group has in common; `None` where it is not grouped by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The host.
    pub host: Option<String>,
    /// What was backed up, in order.
    pub paths: Option<Vec<Bytes>>,
    /// The tags, in order.
    pub tags: Option<Vec<String>>,
}

impl GroupBy {
    /// The group of a snapshot. The order of paths and tags does not matter.
    pub fn key_of(&self, snapshot: &Candidate) -> GroupKey {
        self.key(&snapshot.host, &snapshot.paths, &snapshot.tags)
    }

    /// The group of a snapshot of this host, with these paths and tags.
    pub fn key(&self, host: &str, paths: &[Bytes], tags: &[String]) -> GroupKey {
        GroupKey {
            host: self.host.then(|| host.to_owned()),
            paths: self.paths.then(|| sorted(paths)),
            tags: self.tags.then(|| sorted(tags)),
        }
    }
}

fn sorted<T: Clone + Ord>(list: &[T]) -> Vec<T> {
    let mut sorted = list.to_vec();
    sorted.sort();
    sorted
}

impl fmt::Display for GroupBy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.host, "host"), (self.paths, "paths"), (self.tags, "tags")];
        let words: Vec<_> = words.into_iter().filter(|(is_on, _)| *is_on).map(|(_, word)| word).collect();
        out.write_str(&words.join(","))
    }
}

/// A text that does not say what to group by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "snapshots cannot be grouped by {0:?}; write host, paths or tags, with commas between them, or nothing"
)]
pub struct GroupByError(String);

impl FromStr for GroupBy {
    type Err = GroupByError;

    fn from_str(text: &str) -> Result<Self, GroupByError> {
        let mut by = Self { host: false, paths: false, tags: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "host" | "hosts" => by.host = true,
                "path" | "paths" => by.paths = true,
                "tag" | "tags" => by.tags = true,
                _ => return Err(GroupByError(word.to_owned())),
            }
        }
        Ok(by)
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.host.as_ref().map(|host| format!("host {host}")));
        words.extend(self.tags.as_ref().map(|tags| match tags.is_empty() {
            true => "no tags".to_owned(),
            false => format!("tags {}", tags.join(",")),
        }));
        let path = |path: &Bytes| String::from_utf8_lossy(path.as_slice()).into_owned();
        let paths = |paths: &Vec<Bytes>| paths.iter().map(path).collect::<Vec<_>>().join(", ");
        words.extend(self.paths.as_ref().map(|all| format!("paths {}", paths(all))));
        match words.is_empty() {
            true => out.write_str("all snapshots"),
            false => out.write_str(&words.join("; ")),
        }
    }
}
