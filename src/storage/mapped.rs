//! Stored objects mapped into memory. The one file of the package that may use `unsafe`.
//!
//! A map is sound only while nobody changes or shortens the file below it, so only our own objects are mapped: they
//! are written once, under a name that appears when they are complete. A bad sector, or somebody else who cuts the
//! file, ends the process with a bus error. Whoever must survive that reads instead.
#![expect(
    unsafe_code,
    reason = "the safety of a map rests on files that only this program writes, and writes once"
)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

/// The bytes of a stored object, mapped where the storage is a disk. Dereferences to them.
pub struct MappedObject(Bytes);

enum Bytes {
    Mapped(Mmap),
    Kept(Arc<[u8]>),
}

impl MappedObject {
    /// Bytes that are in memory anyhow, for storages that are no disk.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(Bytes::Kept(bytes.into()))
    }

    /// Maps all of a finished object. The file must be one that nobody changes any more.
    pub(super) fn from_file(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len == 0 {
            return Ok(Self::from_bytes([])); // An empty file cannot be mapped.
        }
        // SAFETY: the caller gives a finished object. Objects are never written to under their final name; repair
        // puts a new file in the place of an old one, whose bytes stay as long as a map holds them.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        Ok(Self(Bytes::Mapped(map)))
    }
}

impl Deref for MappedObject {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Kept(bytes) => bytes,
        }
    }
}
