//! Zip as a stream: lengths and checksums follow each file, so that nothing already written is changed.

use std::io::{self, Read, Write};

use zip::result::ZipError;
use zip::write::{FullFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime};

use super::{ArchiveError, ArchiveWriter, ExactReader, flush, write_error};
use crate::format::tree::{Content, Entry, EntryKind};
use crate::target::TargetPath;

/// Writes a zip archive. What lists its entries at the end is kept in memory: some hundred bytes for each.
pub struct ZipWriter<W: Write> {
    zip: zip::ZipWriter<StreamWriter<W>>,
}

/// Extra field with the time of the last change in seconds since 1970, UTC. The field of old is local time.
const EXTENDED_TIMESTAMP: u16 = 0x5455;
const HAS_MTIME: u8 = 1;
/// A file from this size on must announce that its lengths take 64 bits.
const LARGE_FILE_BYTES_MIN: u64 = 0xffff_0000;

impl<W: Write> ZipWriter<W> {
    /// An archive that goes to `to`.
    pub fn new(to: W) -> Self {
        Self { zip: zip::ZipWriter::new_stream(to) }
    }
}

fn options(entry: &Entry) -> Result<FullFileOptions<'static, 'static>, ArchiveError> {
    let mut options = FullFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .unix_permissions(entry.mode.into())
        .large_file(entry.kind == EntryKind::File && entry.size >= LARGE_FILE_BYTES_MIN)
        .last_modified_time(dos_time(entry.mtime.seconds));
    if let Ok(seconds) = i32::try_from(entry.mtime.seconds) {
        let mut field = vec![HAS_MTIME];
        field.extend_from_slice(&seconds.to_le_bytes());
        options.add_extra_field(EXTENDED_TIMESTAMP, field, false).map_err(zip_error)?;
    }
    Ok(options)
}

/// Zip names are text here: what is not UTF-8 is replaced, as most programs could not read it anyway.
fn name(path: &TargetPath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

fn zip_error(error: ZipError) -> ArchiveError {
    match error {
        ZipError::Io(source) => write_error(source),
        // A name that is there already or too long: refused before anything was written.
        ZipError::InvalidArchive(_) | ZipError::UnsupportedArchive(_) => {
            ArchiveError::NotKept { format: "zip" }
        }
        other => write_error(io::Error::other(other)),
    }
}

impl<W: Write> ArchiveWriter for ZipWriter<W> {
    fn folder(&mut self, path: &TargetPath, entry: &Entry) -> Result<(), ArchiveError> {
        self.zip.add_directory(name(path), options(entry)?).map_err(zip_error)
    }

    fn file(&mut self, path: &TargetPath, entry: &Entry, content: &mut dyn Read) -> Result<(), ArchiveError> {
        self.zip.start_file(name(path), options(entry)?).map_err(zip_error)?;
        let mut content = ExactReader::new(content, entry.size);
        io::copy(&mut content, &mut self.zip).map_err(write_error)?;
        content.finish()
    }

    fn other(&mut self, path: &TargetPath, entry: &Entry) -> Result<(), ArchiveError> {
        match &entry.content {
            Content::LinkTarget(target) => {
                let target = String::from_utf8_lossy(target.as_slice());
                self.zip.add_symlink(name(path), target, options(entry)?).map_err(zip_error)
            }
            Content::None
            | Content::Chunks(_)
            | Content::List(_)
            | Content::Directory(_)
            | Content::Device(..) => Err(ArchiveError::NotKept { format: "zip" }),
        }
    }

    fn link(&mut self, _path: &TargetPath, _entry: &Entry, _first: &TargetPath) -> Result<(), ArchiveError> {
        Err(ArchiveError::NotKept { format: "zip" })
    }

    fn finish(self: Box<Self>) -> Result<(), ArchiveError> {
        flush(self.zip.finish().map_err(zip_error)?.into_inner())
    }
}

/// UTC as the old field says it, between 1980 and 2107.
fn dos_time(seconds: i64) -> DateTime {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    u16::try_from(year)
        .ok()
        .and_then(|year| {
            let small = |number: i64| u8::try_from(number).unwrap_or(0);
            let date = (small(month), small(day));
            DateTime::from_date_and_time(year, date.0, date.1, small(hour), small(minute), small(second)).ok()
        })
        .unwrap_or_default()
}

/// Year, month and day so many days after 1970-01-01, by counting in eras of 400 years that begin in March.
fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(-1), (1969, 12, 31));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(20_777), (2026, 11, 20));
        assert_eq!(dos_time(0), DateTime::default());
        assert_eq!(dos_time(20_777 * 86_400 + 3661).minute(), 1);
    }
}
