//! Paths that were asked for, and the folders below them.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::SourceError;
use super::listing::Found;
use super::open::{look_at, look_at_open, open_absolute, open_below};
use crate::format::tree::EntryKind;

/// One path to be backed up. Keeps a descriptor of the folder open, or of the folder that holds it if it is none.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    /// The folder that `folder` is open at.
    anchor: PathBuf,
    folder: OwnedFd,
    device: u64,
    inode: u64,
}

impl Root {
    /// Opens `path`, and tells what is there.
    ///
    /// The path is made absolute and cleaned as text (`..` removes the part before it), so that what is stored does
    /// not depend on links. Links in leading parts are followed; if the path itself is a link, it is the link that
    /// is backed up. The name of the entry found is the last part of the path, empty for `/`.
    pub fn open(path: &Path) -> Result<(Arc<Root>, Found), SourceError> {
        if path.as_os_str().is_empty() {
            return Err(SourceError::EmptyPath);
        }
        let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
        let path = clean_path(&std::path::absolute(path).map_err(unreadable)?);
        Root::open_clean(&path).map_err(|source| SourceError::Unreadable { path, source })
    }

    fn open_clean(path: &Path) -> io::Result<(Arc<Root>, Found)> {
        let name = path.file_name().unwrap_or_default();
        let opened = open_absolute(path.as_os_str().as_bytes(), OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = look_at_open(opened.as_fd())?;
        let parent = if rustix::fs::FileType::from_raw_mode(stat.stx_mode.into()).is_dir() {
            None
        } else {
            path.parent()
        };
        let (anchor, folder) = match parent {
            None => (path, opened),
            Some(parent) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                (parent, open_absolute(parent.as_os_str().as_bytes(), flags)?)
            }
        };
        let stat = match parent {
            None => stat,
            Some(_) => look_at(folder.as_fd(), &CString::new(name.as_bytes())?)?,
        };
        let found = Found::from_statx(folder.as_fd(), name.as_bytes(), &stat)?;
        if (found.entry.kind == EntryKind::Directory) != parent.is_none() {
            // Between the two looks a file became a folder. A second attempt would succeed.
            return Err(io::Error::other("it was replaced while it was being opened"));
        }
        let anchor_stat = look_at_open(folder.as_fd())?;
        let root = Root {
            path: path.to_owned(),
            anchor: anchor.to_owned(),
            folder,
            device: device_of(&anchor_stat),
            inode: anchor_stat.stx_ino,
        };
        Ok((Arc::new(root), found))
    }

    /// The path, absolute and clean.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device that the folder is on.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    /// Inode number of the folder.
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }
}

/// The device number of whatever was looked at.
pub(super) fn device_of(stat: &rustix::fs::Statx) -> u64 {
    rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// An absolute path without `.`, `..` and doubled slashes, as text: links are not looked at.
pub fn clean_path(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// A folder of a root. Cheap to clone; holds no descriptor of its own.
#[derive(Clone)]
pub struct FolderPath {
    root: Arc<Root>,
    /// Names joined by `/`; empty is the root itself.
    relative: Arc<[u8]>,
}

impl FolderPath {
    /// The root itself; or, if the root is no folder, the folder that holds it, from which it can be read.
    pub fn root(root: Arc<Root>) -> FolderPath {
        FolderPath { root, relative: Arc::from(&[][..]) }
    }

    /// The sub-folder `name`.
    pub fn child(&self, name: &[u8]) -> FolderPath {
        let relative = match self.relative.is_empty() {
            true => Arc::from(name),
            false => [&self.relative, name].join(&b'/').into(),
        };
        FolderPath { root: Arc::clone(&self.root), relative }
    }

    /// The absolute path, for messages.
    pub fn path(&self) -> PathBuf {
        if self.relative.is_empty() {
            return self.root.anchor.clone();
        }
        self.root.anchor.join(OsStr::from_bytes(&self.relative))
    }

    /// The absolute path of the entry `name`, for messages.
    pub fn join(&self, name: &[u8]) -> PathBuf {
        let mut path = self.path().into_os_string().into_vec();
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        PathBuf::from(std::ffi::OsString::from_vec(path))
    }

    /// The root that it belongs to.
    pub fn of_root(&self) -> &Arc<Root> {
        &self.root
    }

    /// Its path from the root, names joined by `/`; empty for the root itself.
    pub fn relative(&self) -> &[u8] {
        &self.relative
    }

    /// Opens it, without following links below the root.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        open_below(self.root.folder.as_fd(), &self.relative, flags | OFlags::DIRECTORY)
    }

    /// Whether both are the same folder of the same root.
    pub(super) fn is(&self, other: &FolderPath) -> bool {
        Arc::ptr_eq(&self.root, &other.root)
            && (Arc::ptr_eq(&self.relative, &other.relative) || self.relative == other.relative)
    }
}

impl fmt::Debug for FolderPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::fixture::Tree;

    #[test]
    fn a_path_is_made_absolute_and_cleaned_as_text() {
        for (typed, cleaned) in
            [("/", "/"), ("/a//b/./c/", "/a/b/c"), ("/a/../../b", "/b"), ("/..", "/"), ("/a/b/../c", "/a/c")]
        {
            assert_eq!(clean_path(Path::new(typed)), Path::new(cleaned));
        }
        assert!(matches!(Root::open(Path::new("")), Err(SourceError::EmptyPath)));
        let (root, _) = Root::open(Path::new(".")).unwrap();
        assert_eq!(root.path(), std::env::current_dir().unwrap());
    }

    #[test]
    fn a_root_that_is_a_file_or_a_link_is_read_from_its_folder() {
        let tree = Tree::new();
        tree.file("file", "content").link("link", "file");
        let (root, found) = Root::open(&tree.path("file")).unwrap();
        assert_eq!((found.entry.kind, found.entry.name.as_slice()), (EntryKind::File, &b"file"[..]));
        assert_eq!(found.entry.size, 7);
        let folder = FolderPath::root(Arc::clone(&root));
        assert_eq!(folder.path(), tree.path(""));
        assert_eq!(folder.join(b"file"), root.path());

        let (_, found) = Root::open(&tree.path("link")).unwrap();
        assert_eq!(found.entry.kind, EntryKind::Symlink);
    }

    #[test]
    fn links_in_leading_parts_are_followed() {
        let tree = Tree::new();
        tree.file("real/inner/file", "x").link("link", "real");
        let (root, found) = Root::open(&tree.path("link/inner")).unwrap();
        assert_eq!(found.entry.kind, EntryKind::Directory);
        assert_eq!(root.path(), tree.path("link/inner"));
    }

    #[test]
    fn a_missing_root_is_an_error_that_names_it() {
        let tree = Tree::new();
        let error = Root::open(&tree.path("missing")).unwrap_err();
        assert_eq!(error.to_string(), format!("could not open {}", tree.path("missing").display()));
    }

    #[test]
    fn the_root_folder_of_the_system_can_be_opened() {
        let (root, found) = Root::open(Path::new("/")).unwrap();
        assert!(found.entry.name.as_slice().is_empty());
        assert_eq!(FolderPath::root(Arc::clone(&root)).join(b"x"), Path::new("/x"));
        assert_eq!(FolderPath::root(root).child(b"x").child(b"y").path(), Path::new("/x/y"));
    }
}
