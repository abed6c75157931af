//! Whether a file of the target holds the bytes that the snapshot has.

use super::Preview;
use crate::format::tree::{Entry, tag};
use crate::restore::layout::{self, Layout, Piece};
use crate::restore::shared::chain;
use crate::target::{Existing, TargetError, TargetFile, TargetPath};

/// How a file of the target compares with the stored one.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Bytes that need not be written.
    pub(super) bytes_right: u64,
    /// Bytes that would be written.
    pub(super) bytes_wrong: u64,
    /// Whether something is in the file where the stored one has a hole.
    pub(super) holes_are_wrong: bool,
    /// Why the stored file cannot be known.
    pub(super) damage: Option<String>,
}

impl Preview<'_, '_> {
    /// Reads the whole file. One that cannot be read would be written anew.
    pub(super) fn contents(
        &mut self,
        folder: &TargetPath,
        entry: &Entry,
        existing: &Existing,
    ) -> Result<Contents, TargetError> {
        let name = entry.name.as_slice();
        let file = self.cache.folder(self.shared.root, folder)?.read_file(name).ok();
        let metadata_error = |source| TargetError::Metadata { source };
        let mut layout = Layout::new(entry).map_err(metadata_error)?;
        let mut contents = Contents::default();
        let mut bytes = Vec::new();
        for chunk in self.shared.origin.chunks(&entry.content) {
            if self.shared.must_stop() {
                return Ok(contents);
            }
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    contents.damage = Some(format!("its list of chunks is damaged: {}", chain(&error)));
                    return Ok(contents);
                }
            };
            let mut pieces: Vec<Piece> = Vec::new();
            if layout.place(chunk.len, |piece| pieces.push(piece)).is_none() {
                contents.damage = Some("its chunks are longer than the file".to_owned());
                return Ok(contents);
            }
            let is_read = file.as_ref().is_some_and(|file| read(file, &pieces, &mut bytes));
            let is_right = is_read && self.shared.origin.verify_chunk(&chunk.id, &bytes);
            let sum = if is_right { &mut contents.bytes_right } else { &mut contents.bytes_wrong };
            *sum += u64::from(chunk.len);
            self.shared.count_bytes(chunk.len.into());
        }
        if !layout.is_complete() && entry.extension(tag::CAPTURE_PROBLEM).is_none() {
            contents.damage = Some("its chunks are shorter than the file".to_owned());
        }
        if let Some(file) = &file {
            for (offset, len) in layout::holes(entry).map_err(metadata_error)? {
                let is_inside = offset < existing.size;
                contents.holes_are_wrong |= is_inside && !file.is_zero(offset, len)?;
            }
        }
        Ok(contents)
    }
}

/// Reads the pieces of one chunk. False if the file ends before, or cannot be read.
fn read(file: &TargetFile, pieces: &[Piece], bytes: &mut Vec<u8>) -> bool {
    bytes.clear();
    pieces.iter().all(|piece| {
        let start = bytes.len();
        bytes.resize(start + piece.len as usize, 0);
        let Some(into) = bytes.get_mut(start..) else { return false };
        file.read_at(into, piece.offset).is_ok_and(|len| len == piece.len as usize)
    })
}
