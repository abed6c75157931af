//! The folders above what is backed up, so that a snapshot holds absolute paths.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::{Problem, with_causes};
use crate::format::tree::{Entry, EntryKind};
use crate::source::{Found, Root, SourceError, clean_path};
use crate::wire::Bytes;

/// Something at or above what is backed up.
pub enum Top {
    /// A folder of which only some entries are backed up.
    Above(Above),
    /// A path that was asked for.
    Source(Arc<Root>, Found),
}

/// A folder above what is backed up.
#[derive(Default)]
pub struct Above {
    /// What is known of it; `None` for `/`.
    pub entry: Option<Entry>,
    /// What is backed up below it, by name.
    pub below: BTreeMap<Bytes, Top>,
}

/// All sources as one tree, with the paths that the snapshot will list.
pub struct Sources {
    /// The folder `/`, or the source itself if that is `/`.
    pub top: Top,
    /// Absolute paths, in the order of their bytes.
    pub paths: Vec<Bytes>,
    /// Sources that could not be opened.
    pub problems: Vec<Problem>,
}

/// An absolute path without `.`, `..` and doubled slashes, as bytes.
pub fn clean_bytes(path: &Path) -> Vec<u8> {
    clean_path(path).into_os_string().into_vec()
}

/// Opens all sources. One that lies below another is part of it and is not counted again.
pub fn open(sources: &[PathBuf]) -> Result<Sources, SourceError> {
    let mut roots = BTreeMap::new();
    let mut problems = Vec::new();
    let mut failure = None;
    for source in sources {
        match Root::open(source) {
            Ok((root, found)) => {
                roots.insert(root.path().as_os_str().as_bytes().to_vec(), (root, found));
            }
            Err(error) => {
                let message = match &error {
                    SourceError::EmptyPath => with_causes(&error),
                    // The problem names the path already.
                    SourceError::Unreadable { source, .. } => format!("it could not be opened: {source}"),
                };
                problems.push(Problem { path: source.clone(), message });
                failure = Some(error);
            }
        }
    }
    let mut kept: Vec<(Vec<u8>, _)> = Vec::new();
    for (path, root) in roots {
        let is_below = |above: &[u8]| {
            above == b"/" || path.strip_prefix(above).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        if !kept.iter().any(|(above, _)| is_below(above)) {
            kept.push((path, root));
        }
    }
    if kept.is_empty() {
        return Err(failure.unwrap_or(SourceError::EmptyPath));
    }
    let paths = kept.iter().map(|(path, _)| Bytes::from(path.as_slice())).collect();
    let mut top = Top::Above(Above::default());
    for (path, (root, found)) in kept {
        insert(&mut top, &path, root, found);
    }
    Ok(Sources { top, paths, problems })
}

fn insert(top: &mut Top, path: &[u8], root: Arc<Root>, found: Found) {
    let mut place = top;
    let mut prefix = PathBuf::from("/");
    let parts: Vec<_> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
    for (depth, part) in parts.iter().enumerate() {
        prefix.push(std::ffi::OsStr::from_bytes(part));
        let Top::Above(above) = place else { return };
        let is_last = depth + 1 == parts.len();
        place = above.below.entry(Bytes::from(*part)).or_insert_with(|| {
            Top::Above(Above {
                entry: if is_last { None } else { folder_entry(&prefix) },
                below: BTreeMap::new(),
            })
        });
    }
    *place = Top::Source(root, found);
}

/// What is known of a folder above; a link to a folder is kept as the folder that it leads to.
fn folder_entry(path: &Path) -> Option<Entry> {
    let (_, found) = Root::open(path).ok()?;
    let name = found.entry.name.clone();
    if found.entry.kind == EntryKind::Directory {
        return Some(found.entry);
    }
    let (_, found) = Root::open(&path.join(".").canonicalize().ok()?).ok()?;
    Some(Entry { name, ..found.entry })
}
