//! Which metadata in the target differs from the snapshot. Reads, and never writes.

use rustix::fs::{IFlags, Mode, OFlags};
use rustix::io::Errno;

use super::metadata::{FLAGS_SETTABLE, XATTRS_REMOVED, XattrPlace, stored_flags};
use super::path::check_name;
use super::{Action, Existing, Folder, TargetError, Wanted};
use crate::format::tree::{Entry, EntryKind, XattrSet, tag};
use crate::limits;
use crate::wire;

/// Which metadata would be set to something else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetadataChanges {
    /// Permissions.
    pub mode: bool,
    /// Number of the owner or of the group.
    pub owner: bool,
    /// Last change of the content.
    pub mtime: bool,
    /// Extended attributes, ACLs among them.
    pub xattrs: bool,
    /// Inode flags.
    pub flags: bool,
}

impl MetadataChanges {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Their names, which stay stable.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let named = [
            (self.mode, "mode"),
            (self.owner, "owner"),
            (self.mtime, "mtime"),
            (self.xattrs, "xattrs"),
            (self.flags, "flags"),
        ];
        named.into_iter().filter_map(|(changes, name)| changes.then_some(name))
    }
}

impl Folder {
    /// Which metadata of what stands under `name` is not as wanted. What this user may not change does not count as
    /// a change of owner.
    pub fn metadata_changes(
        &self,
        name: &[u8],
        wanted: &Wanted<'_>,
        existing: &Existing,
    ) -> Result<MetadataChanges, TargetError> {
        check_name(name)?;
        let entry = wanted.entry;
        let xattrs = xattrs_differ(&XattrPlace::named(self.fd(), name), entry)?;
        Ok(MetadataChanges {
            mode: entry.kind != EntryKind::Symlink && entry.mode != existing.mode,
            owner: wanted.owner.is_some_and(|owner| owner_would_change(owner, existing)),
            mtime: wanted.with_time && entry.mtime != existing.mtime,
            xattrs,
            flags: self.flags_differ(name, entry)?,
        })
    }

    /// What the symbolic link under `name` says.
    pub fn link_target(&self, name: &[u8]) -> Result<Vec<u8>, TargetError> {
        check_name(name)?;
        let target = rustix::fs::readlinkat(self.fd(), name, Vec::new());
        Ok(target.map_err(TargetError::failed(Action::Look))?.into_bytes())
    }

    /// Flags can be asked of files and folders only. Where they cannot be asked, they are not known to differ.
    fn flags_differ(&self, name: &[u8], entry: &Entry) -> Result<bool, TargetError> {
        let Some(flags) = stored_flags(entry)? else { return Ok(false) };
        if !matches!(entry.kind, EntryKind::File | EntryKind::Directory) {
            return Ok(false);
        }
        let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let Ok(fd) = rustix::fs::openat(self.fd(), name, how, Mode::empty()) else { return Ok(false) };
        let now = rustix::fs::ioctl_getflags(&fd);
        Ok(now.is_ok_and(|now: IFlags| (now & FLAGS_SETTABLE) != flags))
    }
}

fn owner_would_change(owner: (u32, u32), existing: &Existing) -> bool {
    owner != (existing.uid, existing.gid) && (owner.0 == existing.uid || may_give_away())
}

/// Whether this process may change the owners of files.
fn may_give_away() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::CHOWN))
}

fn xattrs_differ(place: &XattrPlace<'_>, entry: &Entry) -> Result<bool, TargetError> {
    let set = match entry.extension(tag::XATTRS) {
        Some(bytes) => wire::decode::<XattrSet>(bytes, limits::EXTENSIONS_BYTES_MAX)
            .map_err(|source| TargetError::Metadata { source })?,
        None => XattrSet::default(),
    };
    let names = match place.list() {
        Ok(names) => names,
        // A link or special file has none that could be listed for everybody.
        Err(Errno::ACCESS | Errno::PERM) => Vec::new(),
        Err(errno) => return Err(TargetError::failed(Action::Look)(errno)),
    };
    let is_wanted = |name: &Vec<u8>| set.xattrs.iter().any(|xattr| xattr.name.as_slice() == name.as_slice());
    let is_ours = |name: &Vec<u8>| XATTRS_REMOVED.iter().any(|prefix| name.starts_with(prefix));
    let must_go = names.iter().any(|name| is_ours(name) && !is_wanted(name));
    Ok(must_go || set.xattrs.iter().any(|xattr| !place.has(xattr)))
}
