//! A file of the target, open for writing.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::metadata::{self, Applied, Current, Wanted};
use super::{Action, Existing, TargetError};

/// Zeros are left out as holes in units of this many bytes, at offsets that are multiples of it.
const HOLE_UNIT: usize = 4096;

/// An open file. Calls may come from several threads at once.
#[derive(Debug)]
pub struct TargetFile {
    file: File,
}

impl TargetFile {
    pub(super) fn new(file: File) -> Self {
        Self { file }
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), TargetError> {
        self.file.write_all_at(bytes, offset).map_err(TargetError::failed_io(Action::Write))
    }

    /// Writes `bytes` at `offset`, but leaves out whole units of zeros. With `may_hold_data` the place may hold
    /// other bytes, so that what is left out is emptied; otherwise it was never written and reads as zeros.
    ///
    /// The length of the file is not changed by what is left out: [`TargetFile::set_len`] must see to it.
    pub fn write_sparse_at(&self, bytes: &[u8], offset: u64, may_hold_data: bool) -> Result<(), TargetError> {
        for (part, at, is_zero) in sparse_parts(bytes, offset) {
            if !is_zero {
                self.write_at(part, at)?;
            } else if may_hold_data {
                self.punch(at, part.len() as u64)?;
            }
        }
        Ok(())
    }

    /// Makes `len` bytes at `offset` zeros, without taking space where the file system can.
    pub fn punch(&self, offset: u64, len: u64) -> Result<(), TargetError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.write_zeros(offset, len),
            Err(errno) => Err(TargetError::failed(Action::Write)(errno)),
        }
    }

    fn write_zeros(&self, offset: u64, len: u64) -> Result<(), TargetError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let (mut at, mut left) = (offset, len);
        while left > 0 {
            let part = left.min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..part as usize).unwrap_or(&ZEROS);
            self.write_at(zeros, at)?;
            at += part;
            left -= part;
        }
        Ok(())
    }

    /// Cuts or lengthens the file; what is added reads as zeros and takes no space.
    pub fn set_len(&self, len: u64) -> Result<(), TargetError> {
        self.file.set_len(len).map_err(TargetError::failed_io(Action::Write))
    }

    /// Reads up to `into.len()` bytes at `offset`; fewer only at the end of the file.
    pub fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, TargetError> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..)
            && !rest.is_empty()
        {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TargetError::failed_io(Action::Read)(error)),
            }
        }
        Ok(done)
    }

    /// Whether the `len` bytes at `offset` read as zeros. What lies behind the end of the file does.
    pub fn is_zero(&self, offset: u64, len: u64) -> Result<bool, TargetError> {
        let end = offset.saturating_add(len);
        let mut at = offset;
        let mut bytes = vec![0u8; 64 << 10];
        while at < end {
            // Holes are jumped over where the file system knows them.
            at = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(data) => data.max(at),
                Err(Errno::NXIO) => return Ok(true),
                Err(_) => at,
            };
            let part = end.saturating_sub(at).min(bytes.len() as u64) as usize;
            let into = bytes.get_mut(..part).unwrap_or_default();
            let read = self.read_at(into, at)?;
            if bytes.iter().take(read).any(|byte| *byte != 0) {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
            at += read as u64;
        }
        Ok(true)
    }

    /// What the file is now.
    pub fn look(&self) -> Result<Existing, TargetError> {
        super::folder::existing_of(&self.file)
    }

    /// Sets flags that only work on a file without content. Failing is no problem yet: flags are set again and
    /// compared at the end.
    pub(super) fn prepare(&self, wanted: &Wanted<'_>) {
        metadata::prepare_flags(&self.file, wanted);
    }

    /// Sets the metadata of the file. Nothing may be written to it afterwards.
    pub fn apply(&self, wanted: &Wanted<'_>, current: Current) -> Applied {
        let mut applied = Applied::default();
        metadata::apply_to_open(&self.file, wanted, current, &mut applied);
        applied
    }
}

/// Cuts `bytes` where zeros in whole units begin or end: the part, its offset, and whether it is zeros.
fn sparse_parts(bytes: &[u8], offset: u64) -> impl Iterator<Item = (&[u8], u64, bool)> {
    let mut rest = bytes;
    let mut at = offset;
    std::iter::from_fn(move || {
        let (mut len, mut is_zero) = next_unit(rest, at)?;
        while let Some((unit_len, unit_is_zero)) = rest.get(len..).and_then(|r| next_unit(r, at + len as u64))
            && unit_is_zero == is_zero
        {
            len += unit_len;
            is_zero = unit_is_zero;
        }
        let (part, after) = rest.split_at_checked(len)?;
        let found = (part, at, is_zero);
        rest = after;
        at += len as u64;
        Some(found)
    })
}

/// Length of the next unit, shorter at a start that is not aligned and at the end, and whether it is a whole unit
/// of zeros.
fn next_unit(bytes: &[u8], offset: u64) -> Option<(usize, bool)> {
    let to_boundary = HOLE_UNIT - (offset % HOLE_UNIT as u64) as usize;
    let len = to_boundary.min(bytes.len());
    let unit = bytes.get(..len).filter(|unit| !unit.is_empty())?;
    Some((len, len == HOLE_UNIT && unit.iter().all(|byte| *byte == 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_aligned_units_of_zeros_are_left_out() {
        let mut bytes = vec![0u8; 5 * HOLE_UNIT];
        bytes[2 * HOLE_UNIT + 7] = 1;
        let parts: Vec<_> = sparse_parts(&bytes, 0).map(|(part, at, zero)| (part.len(), at, zero)).collect();
        let unit = HOLE_UNIT as u64;
        assert_eq!(
            parts,
            [(2 * HOLE_UNIT, 0, true), (HOLE_UNIT, 2 * unit, false), (2 * HOLE_UNIT, 3 * unit, true)]
        );
        let parts: Vec<_> =
            sparse_parts(&bytes, 100).map(|(part, at, zero)| (part.len(), at, zero)).collect();
        assert_eq!(parts.iter().map(|part| part.0).sum::<usize>(), bytes.len());
        assert!(parts.iter().all(|(len, at, zero)| !zero || (at % unit == 0 && len % HOLE_UNIT == 0)));
        assert_eq!(parts.first(), Some(&(HOLE_UNIT - 100, 100, false)));
        assert_eq!(sparse_parts(&[], 5).count(), 0);
    }
}
