//! Where the chunks of a file go: end to end, around the holes. Pure.

use crate::format::tree::{Entry, Hole, SparseMap, tag};
use crate::limits;
use crate::wire::{self, WireError};

/// A part of a chunk that goes to one place of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// First byte inside the chunk.
    pub(super) from: u32,
    pub(super) len: u32,
    /// Where it goes in the file.
    pub(super) offset: u64,
}

/// Lays chunks out one after the other. Holes that lie between, or inside a chunk, are jumped over.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    holes: std::vec::IntoIter<Hole>,
    /// Data bytes left before the next hole; `None` after the last one.
    until_hole: Option<(u64, u64)>,
    offset: u64,
    size: u64,
}

/// The holes of a file as (offset, length).
pub(super) fn holes(entry: &Entry) -> Result<Vec<(u64, u64)>, WireError> {
    let mut at = 0u64;
    let places = sparse_map(entry)?.holes.into_iter().map(|hole| {
        let start = at.saturating_add(hole.skip);
        at = start.saturating_add(hole.len);
        (start, hole.len)
    });
    Ok(places.collect())
}

/// Bytes of a file that are stored, without its holes.
pub(super) fn data_bytes(entry: &Entry) -> u64 {
    let holes = holes(entry).unwrap_or_default();
    entry.size.saturating_sub(holes.iter().map(|(_, len)| len).sum())
}

fn sparse_map(entry: &Entry) -> Result<SparseMap, WireError> {
    let map = match entry.extension(tag::SPARSE_MAP) {
        Some(bytes) => wire::decode::<SparseMap>(bytes, limits::EXTENSIONS_BYTES_MAX)?,
        None => SparseMap::default(),
    };
    let fits = map.hole_bytes().is_some_and(|bytes| bytes <= entry.size);
    wire::ensure(fits, "holes are longer than the file")?;
    Ok(map)
}

impl Layout {
    pub(super) fn new(entry: &Entry) -> Result<Self, WireError> {
        let mut holes = sparse_map(entry)?.holes.into_iter();
        let until_hole = holes.next().map(|hole| (hole.skip, hole.len));
        let mut layout = Self { holes, until_hole, offset: 0, size: entry.size };
        layout.jump();
        Ok(layout)
    }

    fn jump(&mut self) {
        while let Some((0, hole_len)) = self.until_hole {
            self.offset = self.offset.saturating_add(hole_len);
            self.until_hole = self.holes.next().map(|hole| (hole.skip, hole.len));
        }
    }

    /// Places the next chunk, which has `len` bytes. `None` if it reaches beyond the size of the file.
    pub(super) fn place(&mut self, len: u32, mut put: impl FnMut(Piece)) -> Option<()> {
        let mut from = 0;
        while from < len {
            let left = len - from;
            let part = match self.until_hole {
                Some((until, _)) => left.min(u32::try_from(until).unwrap_or(u32::MAX)),
                None => left,
            };
            let end = self.offset.checked_add(part.into()).filter(|end| *end <= self.size)?;
            put(Piece { from, len: part, offset: self.offset });
            self.offset = end;
            from += part;
            if let Some((until, hole_len)) = self.until_hole {
                self.until_hole = Some((until - u64::from(part), hole_len));
                self.jump();
            }
        }
        Some(())
    }

    /// Whether the chunks and holes so far are the whole file.
    pub(super) fn is_complete(&self) -> bool {
        self.offset == self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::EntryKind;
    use crate::restore::tests::entry;

    fn sparse(size: u64, holes: &[(u64, u64)]) -> Entry {
        let mut file = entry("name", EntryKind::File);
        file.size = size;
        let holes = holes.iter().map(|(skip, len)| Hole { skip: *skip, len: *len }).collect();
        file.set_extension(tag::SPARSE_MAP, wire::encode(&SparseMap { holes }, 1000).unwrap());
        file
    }

    fn placed(layout: &mut Layout, len: u32) -> Option<Vec<(u32, u32, u64)>> {
        let mut pieces = Vec::new();
        layout.place(len, |piece| pieces.push((piece.from, piece.len, piece.offset)))?;
        Some(pieces)
    }

    #[test]
    fn chunks_are_laid_out_around_holes() {
        // A hole of 100, 10 bytes, a hole of 5, 20 bytes, a hole of 1 at the end.
        let file = sparse(136, &[(0, 100), (10, 5), (20, 1)]);
        let mut layout = Layout::new(&file).unwrap();
        assert_eq!(placed(&mut layout, 4), Some(vec![(0, 4, 100)]));
        assert_eq!(placed(&mut layout, 26), Some(vec![(0, 6, 104), (6, 20, 115)]));
        assert!(layout.is_complete());
        assert_eq!(placed(&mut layout, 1), None);
        assert_eq!(holes(&file).unwrap(), [(0, 100), (110, 5), (135, 1)]);
    }

    #[test]
    fn a_file_that_is_one_hole_is_complete_at_once() {
        assert!(Layout::new(&sparse(1 << 40, &[(0, 1 << 40)])).unwrap().is_complete());
        assert!(Layout::new(&sparse(10, &[(0, 11)])).is_err());
    }

    #[test]
    fn without_holes_chunks_follow_each_other() {
        let mut file = entry("name", EntryKind::File);
        file.size = 12;
        let mut layout = Layout::new(&file).unwrap();
        assert_eq!(placed(&mut layout, 7), Some(vec![(0, 7, 0)]));
        assert!(!layout.is_complete());
        assert_eq!(placed(&mut layout, 6), None);
        assert_eq!(placed(&mut layout.clone(), 5), Some(vec![(0, 5, 7)]));
    }
}
