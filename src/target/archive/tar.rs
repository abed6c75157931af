//! Tar as GNU tar writes it, with PAX records for what its headers cannot say.
//!
//! Names are written as they are, byte by byte, so that what is not UTF-8 survives too; long ones use GNU's `L` and
//! `K` records. Fractions of seconds, times before 1970, extended attributes and ACLs (as text) are PAX records.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

use super::{ArchiveError, ArchiveWriter, ExactReader, acl, flush, write_error};
use crate::format::tree::{Content, Entry, EntryKind, XattrSet, tag};
use crate::limits;
use crate::target::TargetPath;
use crate::wire::{self, Bytes};

/// Writes a tar archive.
pub struct TarWriter<W: Write> {
    builder: Builder<W>,
    users: HashMap<u32, Bytes>,
    groups: HashMap<u32, Bytes>,
}

impl<W: Write> TarWriter<W> {
    /// An archive that goes to `to`, naming owners as `users` and `groups` (number and name) do.
    pub fn new(to: W, users: &[(u32, Bytes)], groups: &[(u32, Bytes)]) -> Self {
        let names = |pairs: &[(u32, Bytes)]| pairs.iter().cloned().collect();
        Self { builder: Builder::new(to), users: names(users), groups: names(groups) }
    }

    fn header(&self, entry: &Entry, kind: EntryType) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(entry.mode.into());
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_mtime(u64::try_from(entry.mtime.seconds).unwrap_or(0));
        header.set_size(0);
        if let Some(gnu) = header.as_gnu_mut() {
            // A name too long for the field is left out: a cut one could be the name of somebody else.
            for (field, name) in
                [(&mut gnu.uname, self.users.get(&entry.uid)), (&mut gnu.gname, self.groups.get(&entry.gid))]
            {
                let name = name.map_or(&[][..], Bytes::as_slice);
                if name.len() < field.len() {
                    fill(field, name);
                }
            }
        }
        header
    }

    /// Writes the header, and before it the records for what it cannot say.
    fn start(
        &mut self,
        path: &TargetPath,
        entry: &Entry,
        mut header: Header,
        link: Option<&[u8]>,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let mut name = path.as_bytes().to_vec();
        if header.entry_type().is_dir() {
            name.push(b'/');
        }
        self.pax_records(entry).map_err(write_error)?;
        self.long_record(b'L', &name).map_err(write_error)?;
        if let Some(gnu) = header.as_gnu_mut() {
            fill(&mut gnu.name, &name);
            if let Some(link) = link {
                fill(&mut gnu.linkname, link);
            }
        }
        if let Some(link) = link {
            self.long_record(b'K', link).map_err(write_error)?;
        }
        header.set_cksum();
        self.builder.append(&header, content).map_err(write_error)
    }

    fn pax_records(&mut self, entry: &Entry) -> io::Result<()> {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        if entry.mtime.nanoseconds != 0 || entry.mtime.seconds < 0 {
            records.push(("mtime".to_owned(), decimal_time(entry).into_bytes()));
        }
        let xattrs = entry.extension(tag::XATTRS).unwrap_or_default();
        // Attributes that do not parse are left out here; `restore` and `check` report them.
        if let Ok(set) = wire::decode::<XattrSet>(xattrs, limits::EXTENSIONS_BYTES_MAX) {
            for xattr in &set.xattrs {
                let acl = acl::record_name(xattr.name.as_slice());
                if let Some((record, text)) = acl.zip(acl::text(xattr.value.as_slice())) {
                    records.push((record.to_owned(), text.into_bytes()));
                    continue;
                }
                // A record ends its key at the first `=`, and keys are text.
                if let Ok(name) = std::str::from_utf8(xattr.name.as_slice())
                    && !name.contains('=')
                {
                    records.push((format!("SCHILY.xattr.{name}"), xattr.value.as_slice().to_vec()));
                }
            }
        }
        self.builder
            .append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }

    /// The record for a name that does not fit into the header.
    fn long_record(&mut self, kind: u8, name: &[u8]) -> io::Result<()> {
        const FIELD_BYTES: usize = 100;
        if name.len() <= FIELD_BYTES {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        if let Some(gnu) = header.as_gnu_mut() {
            fill(&mut gnu.name, b"././@LongLink");
        }
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(name.len() as u64 + 1);
        header.set_entry_type(EntryType::new(kind));
        header.set_cksum();
        self.builder.append(&header, name.chain(&[0u8][..]))
    }
}

impl<W: Write> ArchiveWriter for TarWriter<W> {
    fn folder(&mut self, path: &TargetPath, entry: &Entry) -> Result<(), ArchiveError> {
        let header = self.header(entry, EntryType::Directory);
        self.start(path, entry, header, None, &mut io::empty())
    }

    fn file(&mut self, path: &TargetPath, entry: &Entry, content: &mut dyn Read) -> Result<(), ArchiveError> {
        let mut header = self.header(entry, EntryType::Regular);
        header.set_size(entry.size);
        let mut content = ExactReader::new(content, entry.size);
        self.start(path, entry, header, None, &mut content)?;
        content.finish()
    }

    fn other(&mut self, path: &TargetPath, entry: &Entry) -> Result<(), ArchiveError> {
        let not_kept = ArchiveError::NotKept { format: "tar" };
        let kind = match entry.kind {
            EntryKind::Symlink => EntryType::Symlink,
            EntryKind::BlockDevice => EntryType::Block,
            EntryKind::CharDevice => EntryType::Char,
            EntryKind::Fifo => EntryType::Fifo,
            EntryKind::Socket | EntryKind::Directory | EntryKind::File => return Err(not_kept),
        };
        let mut header = self.header(entry, kind);
        let link = match &entry.content {
            Content::LinkTarget(target) => Some(target.as_slice()),
            Content::Device(major, minor) => {
                // The fields hold seven octal digits.
                if *major >= 1 << 21 || *minor >= 1 << 21 {
                    return Err(not_kept);
                }
                header.set_device_major(*major).map_err(write_error)?;
                header.set_device_minor(*minor).map_err(write_error)?;
                None
            }
            Content::None | Content::Chunks(_) | Content::List(_) | Content::Directory(_) => None,
        };
        self.start(path, entry, header, link, &mut io::empty())
    }

    fn link(&mut self, path: &TargetPath, entry: &Entry, first: &TargetPath) -> Result<(), ArchiveError> {
        let header = self.header(entry, EntryType::Link);
        self.start(path, entry, header, Some(first.as_bytes()), &mut io::empty())
    }

    fn finish(self: Box<Self>) -> Result<(), ArchiveError> {
        flush(self.builder.into_inner().map_err(write_error)?)
    }
}

fn fill(field: &mut [u8], bytes: &[u8]) {
    field.fill(0);
    field.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// Seconds with nine decimals. Stored moments round down; a decimal number before 1970 counts away from zero.
fn decimal_time(entry: &Entry) -> String {
    let (seconds, nanoseconds) = (entry.mtime.seconds, entry.mtime.nanoseconds);
    if seconds < 0 && nanoseconds > 0 {
        let magnitude = (seconds + 1).unsigned_abs();
        format!("-{magnitude}.{:09}", 1_000_000_000 - nanoseconds)
    } else {
        format!("{seconds}.{nanoseconds:09}")
    }
}
