//! What only an open file tells: extended attributes and inode flags.
//!
//! POSIX ACLs and capabilities are extended attributes (`system.posix_acl_access`, `security.capability`) and are
//! kept as the raw bytes that the kernel gives.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::IFlags;
use rustix::io::Errno;
use serde::Serialize;

use crate::format::tree::{Entry, Xattr, XattrSet, tag};
use crate::limits;
use crate::wire::{self, Bytes, Validate, WireError};

/// Encoded attributes of one entry; the rest of [`limits::EXTENSIONS_BYTES_MAX`] is for the other extensions.
const XATTRS_BYTES_MAX: usize = 112 << 10;
/// Neither a list of names nor a value is longer on Linux.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most lists and values are shorter.
const ANSWER_BYTES_COMMON: usize = 512;

const _: () = assert!(XATTRS_BYTES_MAX + (128 << 10) + (8 << 10) <= limits::EXTENSIONS_BYTES_MAX);

/// Inode flags that `chattr` can set. The others describe how the file system keeps the file.
const INODE_FLAGS_KEPT: u32 = IFlags::SECURE_REMOVAL.bits()
    | IFlags::UNRM.bits()
    | IFlags::COMPRESSED.bits()
    | IFlags::SYNC.bits()
    | IFlags::IMMUTABLE.bits()
    | IFlags::APPEND.bits()
    | IFlags::NODUMP.bits()
    | IFlags::NOATIME.bits()
    | IFlags::JOURNALING.bits()
    | IFlags::NOTAIL.bits()
    | IFlags::DIRSYNC.bits()
    | IFlags::TOPDIR.bits()
    | IFlags::NOCOW.bits()
    | IFlags::PROJECT_INHERIT.bits()
    | 0x0000_0400 // not to be compressed
    | 0x0200_0000 // direct access to persistent memory
    | 0x4000_0000; // names without case

/// A part of the metadata that is missing. What could be read is in the entry, and so is a text that says what could
/// not ([`tag::CAPTURE_PROBLEM`]).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtrasError {
    /// More than an entry can hold.
    #[error("{count} extended attributes are too large to be kept, {name} among them")]
    TooLarge {
        /// How many were left out.
        count: usize,
        /// The first of them.
        name: String,
    },
    /// The system refused one of them, or the list of them.
    #[error("extended attributes could not be read")]
    Unreadable {
        /// What the system said.
        source: io::Error,
    },
    /// What held them could not be opened.
    #[error("metadata could not be read")]
    Unopened {
        /// What the system said.
        source: io::Error,
    },
}

/// Numbers are stored as varints.
#[derive(Serialize)]
struct Number(u64);

impl Validate for Number {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

fn encode_number(number: u64) -> Vec<u8> {
    wire::encode(&Number(number), 10).expect("a varint of 64 bits has at most ten bytes")
}

/// The value of [`tag::HARD_LINK`].
pub(super) fn device_extension(device: u64) -> Vec<u8> {
    encode_number(device)
}

/// What is asked for its extended attributes.
pub(super) enum Holder<'a> {
    /// An open file or folder.
    Open(BorrowedFd<'a>),
    /// A path whose last part is not followed.
    Path(&'a CStr),
}

impl Holder<'_> {
    fn names(&self, into: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Holder::Open(file) => rustix::fs::flistxattr(file, into),
            Holder::Path(path) => rustix::fs::llistxattr(*path, into),
        }
    }

    fn value(&self, name: &CStr, into: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Holder::Open(file) => rustix::fs::fgetxattr(file, name, into),
            Holder::Path(path) => rustix::fs::lgetxattr(*path, name, into),
        }
    }
}

/// Adds the extended attributes of `holder`, if there are any.
pub(super) fn add_xattrs(entry: &mut Entry, holder: &Holder<'_>) -> Result<(), ExtrasError> {
    let names = match answer(|into| holder.names(into)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
        Err(error) => return Err(note(entry, ExtrasError::Unreadable { source: error.into() })),
    };
    if names.is_empty() {
        return Ok(());
    }
    let mut refused = None;
    let mut xattrs = Vec::new();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        match answer(|into| holder.value(name, into)) {
            Ok(value) => xattrs.push(Xattr { name: Bytes::from(name.to_bytes()), value: Bytes::from(value) }),
            // Removed since the names were listed.
            Err(Errno::NODATA) => {}
            Err(error) => refused = Some(error),
        }
    }
    let outcome = set_xattrs(entry, xattrs);
    match (outcome, refused) {
        (Err(error), _) => Err(note(entry, error)),
        (Ok(()), Some(error)) => Err(note(entry, ExtrasError::Unreadable { source: error.into() })),
        (Ok(()), None) => Ok(()),
    }
}

/// Adds the inode flags of an open file or folder, if any are set. Where there are none it is no error.
pub(super) fn add_inode_flags(entry: &mut Entry, file: BorrowedFd<'_>) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(file) {
        let flags = flags.bits() & INODE_FLAGS_KEPT;
        if flags != 0 {
            entry.set_extension(tag::INODE_FLAGS, encode_number(flags.into()));
        }
    }
}

/// Writes into the entry what is missing of it.
pub(super) fn note(entry: &mut Entry, error: ExtrasError) -> ExtrasError {
    let text = match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    entry.set_extension(tag::CAPTURE_PROBLEM, text.into_bytes());
    error
}

/// Keeps as many attributes as an entry can hold, in the order of names.
fn set_xattrs(entry: &mut Entry, mut xattrs: Vec<Xattr>) -> Result<(), ExtrasError> {
    xattrs.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    xattrs.dedup_by(|later, first| later.name == first.name);
    let mut left_out = Vec::new();
    let (mut bytes, mut count) = (8, 0);
    xattrs.retain(|xattr| {
        // Both lengths take up to four bytes.
        let len = xattr.name.as_slice().len() + xattr.value.as_slice().len() + 8;
        let fits = count < limits::XATTR_COUNT_MAX && bytes + len <= XATTRS_BYTES_MAX;
        if fits {
            (bytes, count) = (bytes + len, count + 1);
        } else {
            left_out.push(String::from_utf8_lossy(xattr.name.as_slice()).into_owned());
        }
        fits
    });
    if !xattrs.is_empty() {
        let encoded = wire::encode(&XattrSet { xattrs }, XATTRS_BYTES_MAX);
        entry.set_extension(tag::XATTRS, encoded.expect("names are in order and the length was counted"));
    }
    let count = left_out.len();
    left_out.into_iter().next().map_or(Ok(()), |name| Err(ExtrasError::TooLarge { count, name }))
}

/// An answer of unknown length: first with a small buffer, which is nearly always enough.
fn answer(ask: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; ANSWER_BYTES_COMMON];
    match ask(&mut small) {
        Ok(len) => Ok(small.get(..len).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; ANSWER_BYTES_MAX];
            let len = ask(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::fixture::some_entry;

    fn xattr(name: &str, len: usize) -> Xattr {
        Xattr { name: Bytes::from(name.as_bytes()), value: Bytes::from(vec![7; len]) }
    }

    fn names_kept(entry: &Entry) -> Vec<String> {
        let bytes = entry.extension(tag::XATTRS).unwrap();
        let set: XattrSet = wire::decode(bytes, limits::EXTENSIONS_BYTES_MAX).unwrap();
        set.xattrs.iter().map(|xattr| String::from_utf8_lossy(xattr.name.as_slice()).into_owned()).collect()
    }

    #[test]
    fn attributes_are_kept_in_the_order_of_names() {
        let mut entry = some_entry();
        set_xattrs(&mut entry, vec![xattr("user.b", 3), xattr("user.a", 0), xattr("security.c", 9)]).unwrap();
        assert_eq!(names_kept(&entry), ["security.c", "user.a", "user.b"]);
    }

    #[test]
    fn an_entry_without_attributes_has_no_extension() {
        let mut entry = some_entry();
        set_xattrs(&mut entry, Vec::new()).unwrap();
        assert_eq!(entry.extensions, []);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_named() {
        let mut entry = some_entry();
        let large = ANSWER_BYTES_MAX;
        let all = vec![xattr("user.a", large), xattr("user.b", large), xattr("user.c", 5)];
        let error = set_xattrs(&mut entry, all).unwrap_err();
        assert!(matches!(&error, ExtrasError::TooLarge { count: 1, name } if name == "user.b"), "{error}");
        assert_eq!(names_kept(&entry), ["user.a", "user.c"]);
        note(&mut entry, error);
        assert!(entry.extension(tag::CAPTURE_PROBLEM).is_some());
        crate::wire::encode(&entry_set(&entry), limits::EXTENSIONS_BYTES_MAX).unwrap();
    }

    /// The attributes of an entry, decoded: only a valid set can be decoded.
    fn entry_set(entry: &Entry) -> XattrSet {
        wire::decode(entry.extension(tag::XATTRS).unwrap(), limits::EXTENSIONS_BYTES_MAX).unwrap()
    }

    #[test]
    fn numbers_are_varints() {
        assert_eq!(device_extension(0), [0]);
        assert_eq!(device_extension(300), [0xac, 2]);
        assert_eq!(device_extension(u64::MAX).len(), 10);
    }
}
