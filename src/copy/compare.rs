//! Proof that two repositories hold the same: every file of a snapshot and of its copy is read on both sides.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::copy::pairs::{self, Tree};
use crate::copy::{CopyError, counterpart};
use crate::event::{Observer, Progress, with_causes};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{ChunkRef, Content, Entry};
use crate::repo::{Repo, RepoError, TreeReader};
use crate::units::PathText;

/// Differences that are listed; more are only counted.
const LISTED_COUNT_MAX: usize = 1000;

/// What was compared, and what is not the same.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Comparison {
    /// Snapshots that were compared.
    pub snapshots: u64,
    /// Bytes of chunks that were read on each side; each chunk once.
    pub bytes_compared: u64,
    /// How much is not the same.
    pub difference_count: u64,
    /// The first of that.
    pub differences: Vec<Difference>,
    /// How long it took.
    pub duration_seconds: f64,
}

/// Something that is not the same in both.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The snapshot in the source.
    pub snapshot_id: String,
    /// What in it; empty for the snapshot itself.
    #[serde(serialize_with = "serialize_path")]
    pub path: PathBuf,
    /// One sentence.
    pub message: String,
}

fn serialize_path<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    PathText(path).serialize(to)
}

/// Compares each of these snapshots with its copy: names, metadata, and all bytes.
///
/// Memory: about 40 bytes for each chunk, and 64 for each folder.
pub fn run(
    source: &Arc<Repo>,
    target: &Arc<Repo>,
    chosen: &[Snapshot],
    observer: &dyn Observer,
) -> Result<Comparison, CopyError> {
    let begun = Instant::now();
    observer.phase("comparing");
    let there = target.snapshots()?;
    let one = TreeReader::new(Arc::new(source.chunk_reader().map_err(CopyError::Source)?));
    let other = TreeReader::new(Arc::new(target.chunk_reader()?));
    let mut comparing = Comparing {
        one: &one,
        other: &other,
        observer,
        compared: HashSet::new(),
        comparison: Comparison::default(),
        snapshot: String::new(),
    };
    for snapshot in chosen {
        comparing.snapshot = snapshot.id.to_string();
        match counterpart(snapshot, &there) {
            None => comparing.differs(b"", "the target does not have it"),
            Some(copy) => comparing.compare(snapshot, copy)?,
        }
        comparing.comparison.snapshots += 1;
    }
    comparing.comparison.duration_seconds = begun.elapsed().as_secs_f64();
    Ok(comparing.comparison)
}

struct Comparing<'a> {
    one: &'a TreeReader,
    other: &'a TreeReader,
    observer: &'a dyn Observer,
    /// Pairs of chunks that hold the same: in the source, and in the target.
    compared: HashSet<([u8; 16], [u8; 16])>,
    comparison: Comparison,
    snapshot: String,
}

impl Comparing<'_> {
    fn differs(&mut self, path: &[u8], message: &str) {
        self.comparison.difference_count += 1;
        if self.comparison.differences.len() < LISTED_COUNT_MAX {
            self.comparison.differences.push(Difference {
                snapshot_id: self.snapshot.clone(),
                path: OsStr::from_bytes(path).into(),
                message: message.to_owned(),
            });
        }
    }

    fn compare(&mut self, snapshot: &Snapshot, copy: &Snapshot) -> Result<(), CopyError> {
        if (&snapshot.host, &snapshot.paths, &snapshot.tags, snapshot.started_at)
            != (&copy.host, &copy.paths, &copy.tags, copy.started_at)
        {
            self.differs(b"", "host, paths, tags or time are others");
        }
        let one = Tree { reader: self.one, root: snapshot.root };
        let other = Tree { reader: self.other, root: copy.root };
        let walked = pairs::visit(one, other, &mut |met| {
            if self.observer.is_interrupted() {
                return Err(CopyError::Interrupted);
            }
            match (met.one, met.other) {
                (Some(one), Some(other)) => self.compare_entries(met.path, one, other),
                (Some(_), None) => self.differs(met.path, "it is missing in the target"),
                (None, _) => self.differs(met.path, "it is only in the target"),
            }
            Progress::add(&self.observer.progress().files_done, 1);
            Ok(())
        });
        match walked {
            Err(CopyError::Interrupted) => Err(CopyError::Interrupted),
            // A folder of either side does not open.
            Err(error) => {
                self.differs(b"", &with_causes(&error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn compare_entries(&mut self, path: &[u8], one: &Entry, other: &Entry) {
        if !are_alike(one, other) {
            return self.differs(path, "its metadata are others");
        }
        if !matches!(one.content, Content::Chunks(_) | Content::List(_)) {
            return;
        }
        let (reader, other_reader) = (self.one, self.other);
        let mut left = reader.chunks(&one.content);
        let mut right = other_reader.chunks(&other.content);
        loop {
            let same = match (left.next(), right.next()) {
                (None, None) => return,
                (Some(Ok(one)), Some(Ok(other))) => self.are_same(&one, &other),
                (Some(Err(error)), _) | (_, Some(Err(error))) => Err(error),
                (Some(_), None) | (None, Some(_)) => Ok(false),
            };
            match same {
                Ok(true) => {}
                Ok(false) => return self.differs(path, "its content is another"),
                Err(error) => return self.differs(path, &with_causes(&error)),
            }
        }
    }

    fn are_same(&mut self, one: &ChunkRef, other: &ChunkRef) -> Result<bool, RepoError> {
        let pair = (one.id.content().prefix(), other.id.content().prefix());
        if self.compared.contains(&pair) {
            return Ok(true);
        }
        let left = self.one.chunk_reader().read_chunk(&one.id)?;
        let right = self.other.chunk_reader().read_chunk(&other.id)?;
        self.comparison.bytes_compared += u64::from(one.len);
        Progress::add(&self.observer.progress().bytes_done, u64::from(one.len));
        let are_same = left.as_ref() == right.as_ref();
        if are_same {
            self.compared.insert(pair);
        }
        Ok(are_same)
    }
}

/// Whether two entries say the same of what they are, whatever their content is called.
fn are_alike(one: &Entry, other: &Entry) -> bool {
    let is_named = |content: &Content| match content {
        Content::None | Content::LinkTarget(_) | Content::Device(..) => false,
        Content::Chunks(_) | Content::List(_) | Content::Directory(_) => true,
    };
    let bare = |entry: &Entry| {
        let content = if is_named(&entry.content) { Content::None } else { entry.content.clone() };
        Entry { content, ..entry.clone() }
    };
    let is_folder = |entry: &Entry| matches!(entry.content, Content::Directory(_));
    bare(one) == bare(other) && is_folder(one) == is_folder(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_text_survives_in_json() {
        let path = OsStr::from_bytes(b"/a/\xff").into();
        let difference = Difference { snapshot_id: "1".to_owned(), path, message: "it differs".to_owned() };
        let shown = serde_json::to_value(&difference).unwrap();
        assert_eq!(shown["path"]["bytes"], "L2Ev/w==");
    }
}
