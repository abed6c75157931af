//! A file without a name, for what does not fit in memory. It is gone with the process, however that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// See the module. Its methods may be called from several threads.
#[derive(Debug)]
pub struct ScratchFile(File);

impl ScratchFile {
    /// An empty file in `folder`. Some file systems know no files without names.
    pub(super) fn make(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE.bits() as i32;
        let file = OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(folder)?;
        Ok(Self(file))
    }

    /// How much more its file system takes.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::fstatvfs(&self.0)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Fills `into` with what was written at `place`.
    pub fn read_at(&self, into: &mut [u8], place: u64) -> io::Result<()> {
        self.0.read_exact_at(into, place)
    }

    /// Writes all of `bytes` at `place`. It need not be durable.
    pub fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, place)
    }
}
