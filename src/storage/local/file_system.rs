//! What kind of file system a folder is on.

use std::fmt;
use std::io;
use std::path::Path;

/// A file system, as `statfs` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Its magic number.
    pub magic: u32,
    /// Whether it may show one host what another did with a delay.
    pub is_shared: bool,
}

impl FileSystem {
    /// The file system that a folder is on.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statfs(path)?;
        Ok(Self::from_magic(found.f_type as u64))
    }

    pub(super) fn from_magic(magic: u64) -> Self {
        // Some computers have it as a signed number of 32 bits.
        let magic = (magic & u64::from(u32::MAX)) as u32;
        Self { magic, is_shared: SHARED.iter().any(|(shared, _)| *shared == magic) }
    }

    fn name(self) -> Option<&'static str> {
        let known = SHARED.iter().chain(OWN).find(|(magic, _)| *magic == self.magic);
        known.map(|(_, name)| *name)
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => out.write_str(name),
            None => write!(out, "a file system of type {:#x}", self.magic),
        }
    }
}

/// File systems that other hosts may change.
const SHARED: &[(u32, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x786f_4256, "a shared folder of VirtualBox"),
];

/// File systems of one host.
const OWN: &[(u32, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "XFS"),
    (0x9123_683e, "Btrfs"),
    (0x2fc1_2fc1, "ZFS"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlayfs"),
    (0xf2f5_2010, "F2FS"),
    (0xca45_1a4e, "bcachefs"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0x7366_746e, "NTFS"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_shared_and_disks_are_not() {
        for (magic, name) in
            [(0x6969, "NFS"), (0xfe53_4d42, "SMB"), (0x6573_5546, "FUSE"), (0x0102_1997, "9p")]
        {
            let found = FileSystem::from_magic(magic);
            assert!(found.is_shared, "{name}");
            assert_eq!(found.to_string(), name);
        }
        assert!(FileSystem::from_magic(0xffff_ffff_fe53_4d42).is_shared, "a number with a sign");
        assert_eq!(FileSystem::from_magic(0xef53).to_string(), "ext4");
        let unknown = FileSystem::from_magic(0x1234);
        assert_eq!(
            (unknown.is_shared, unknown.to_string().as_str()),
            (false, "a file system of type 0x1234")
        );
    }
}
