//! Bytes of files: any stretch of them, holes as zeros.

use crate::format::FormatError;
use crate::format::node::Node;
use crate::format::tree::{ChunkRef, Content, Entry, Hole, SparseMap, tag};
use crate::id::{ChunkId, ListId};
use crate::limits;
use crate::mount::origin::Origin;
use crate::repo::RepoError;
use crate::wire;

/// A chunk that holds a byte of a file.
struct Found {
    chunk: ChunkRef,
    /// Where in the chunk.
    within: u64,
}

/// What a read gave.
pub(super) struct Read {
    /// The bytes.
    pub(super) bytes: Vec<u8>,
    /// Where in the data of the file the last of them was, if it was data.
    pub(super) data_end: Option<u64>,
}

/// Up to `len` bytes of a file from `offset`; fewer only at its end.
pub(super) fn read(origin: &Origin, entry: &Entry, offset: u64, len: u32) -> Result<Read, RepoError> {
    let end = offset.saturating_add(len.into()).min(entry.size);
    let mut read = Read { bytes: Vec::new(), data_end: None };
    let Some(len) = end.checked_sub(offset).filter(|len| *len > 0) else { return Ok(read) };
    // At most what the kernel asks for in one request, which is a few MiB.
    read.bytes.reserve_exact(usize::try_from(len).unwrap_or(0));
    for piece in pieces(&holes(entry)?, entry.size) {
        let (from, to) = (piece.start.max(offset), piece.end.min(end));
        if from >= to {
            continue;
        }
        match piece.data {
            None => read.bytes.resize(read.bytes.len() + (to - from) as usize, 0),
            Some(data) => read_data(origin, entry, data + (from - piece.start), to - from, &mut read)?,
        }
    }
    Ok(read)
}

/// The chunk that a reader who is at `data_end` of the data comes to after so many bytes, or the last one if there are fewer.
/// `None` at the end.
pub(super) fn chunk_after(origin: &Origin, entry: &Entry, data_end: u64, bytes: u64) -> Option<ChunkId> {
    let last = entry.size.checked_sub(hole_bytes(entry))?.checked_sub(1)?;
    let at = data_end.saturating_add(bytes).min(last);
    let found = (at >= data_end).then(|| find(origin, &entry.content, at))?;
    Some(found.ok()?.chunk.id)
}

/// The first byte at or after `offset` that is data, or that is in a hole; the end of the file is a hole too.
/// `None` beyond it.
pub(super) fn seek(entry: &Entry, offset: u64, wants_data: bool) -> Result<Option<u64>, RepoError> {
    if offset >= entry.size {
        return Ok(None);
    }
    let pieces = pieces(&holes(entry)?, entry.size);
    let mut fitting = pieces.into_iter().filter(|piece| piece.end > offset);
    let found = fitting.find(|piece| piece.data.is_some() == wants_data);
    let end = (!wants_data).then_some(entry.size);
    Ok(found.map(|piece| piece.start.max(offset)).or(end))
}

/// Bytes that the holes of a file take together.
pub(super) fn hole_bytes(entry: &Entry) -> u64 {
    holes(entry).ok().and_then(|holes| SparseMap { holes }.hole_bytes()).unwrap_or(0)
}

fn holes(entry: &Entry) -> Result<Vec<Hole>, RepoError> {
    let Some(bytes) = entry.extension(tag::SPARSE_MAP) else { return Ok(Vec::new()) };
    let map: SparseMap = wire::decode(bytes, limits::EXTENSIONS_BYTES_MAX)
        .map_err(|_| wrong("its map of holes does not decode"))?;
    Ok(map.holes)
}

/// A stretch of a file.
struct Piece {
    start: u64,
    end: u64,
    /// Where its first byte is in the data; none in a hole.
    data: Option<u64>,
}

fn pieces(holes: &[Hole], size: u64) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2 * holes.len() + 1);
    let (mut at, mut data) = (0u64, 0u64);
    for hole in holes {
        let start = at.saturating_add(hole.skip).min(size);
        pieces.push(Piece { start: at, end: start, data: Some(data) });
        let end = start.saturating_add(hole.len).min(size);
        pieces.push(Piece { start, end, data: None });
        data = data.saturating_add(hole.skip);
        at = end;
    }
    pieces.push(Piece { start: at, end: size, data: Some(data) });
    pieces.retain(|piece| piece.start < piece.end);
    pieces
}

fn read_data(
    origin: &Origin,
    entry: &Entry,
    mut at: u64,
    mut len: u64,
    read: &mut Read,
) -> Result<(), RepoError> {
    while len > 0 {
        let found = find(origin, &entry.content, at)?;
        let chunk = origin.chunk(&found.chunk)?;
        let bytes = chunk.as_ref().as_ref();
        if bytes.len() != found.chunk.len as usize {
            return Err(wrong("a chunk of it has another length than its folder says"));
        }
        let rest = bytes.get(found.within as usize..).unwrap_or_default();
        let part = rest.get(..usize::try_from(len).unwrap_or(usize::MAX)).unwrap_or(rest);
        if part.is_empty() {
            return Err(wrong("it has an empty chunk"));
        }
        read.bytes.extend_from_slice(part);
        at += part.len() as u64;
        len -= part.len() as u64;
        read.data_end = Some(at);
    }
    Ok(())
}

/// The chunk that holds the byte at `at` of the data of a file.
fn find(origin: &Origin, content: &Content, mut at: u64) -> Result<Found, RepoError> {
    let short = || wrong("it has fewer bytes in the repository than its folder says");
    let mut list: ListId = match content {
        Content::Chunks(chunks) => return find_in(chunks, at).ok_or_else(short),
        Content::List(id) => *id,
        Content::None | Content::Directory(_) | Content::LinkTarget(_) | Content::Device(..) => {
            return Err(wrong("its content was not stored"));
        }
    };
    for _ in 0..limits::NODE_LEVEL_COUNT_MAX {
        match &*origin.list_node(list)? {
            Node::ListLeaf(leaf) => return find_in(&leaf.chunks, at).ok_or_else(short),
            Node::ListBranch(branch) => {
                let below = branch.children.iter().find(|part| match at.checked_sub(part.len) {
                    Some(rest) => {
                        at = rest;
                        false
                    }
                    None => true,
                });
                list = below.ok_or_else(short)?.id;
            }
            Node::DirectoryLeaf(_) | Node::DirectoryBranch(_) => break,
        }
    }
    Err(wrong("its list of chunks is none"))
}

fn find_in(chunks: &[ChunkRef], mut at: u64) -> Option<Found> {
    let place = chunks.iter().position(|chunk| match at.checked_sub(chunk.len.into()) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    })?;
    Some(Found { chunk: *chunks.get(place)?, within: at })
}

fn wrong(rule: &'static str) -> RepoError {
    RepoError::Damaged { name: "the file".to_owned(), source: FormatError::invalid("file", rule).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(holes: &[(u64, u64)], size: u64) -> Vec<(u64, u64, Option<u64>)> {
        let holes: Vec<_> = holes.iter().map(|(skip, len)| Hole { skip: *skip, len: *len }).collect();
        pieces(&holes, size).iter().map(|piece| (piece.start, piece.end, piece.data)).collect()
    }

    #[test]
    fn a_file_is_data_and_holes_by_turns() {
        let laid = shown(&[(0, 100), (10, 5), (20, 1)], 136);
        let expected =
            [(0, 100, None), (100, 110, Some(0)), (110, 115, None), (115, 135, Some(10)), (135, 136, None)];
        assert_eq!(laid, expected);
        assert_eq!(shown(&[], 7), [(0, 7, Some(0))]);
        assert_eq!(shown(&[], 0), []);
        assert_eq!(shown(&[(5, u64::MAX)], 10), [(0, 5, Some(0)), (5, 10, None)]);
    }

    #[test]
    fn the_chunk_of_a_byte_is_found() {
        let chunk = |number: u8, len| ChunkRef { id: ChunkId::new([number; 32]), len };
        let chunks = [chunk(1, 10), chunk(2, 1), chunk(3, 5)];
        let found = |at| {
            let found = find_in(&chunks, at)?;
            Some((found.chunk.len, found.within))
        };
        assert_eq!(found(9), Some((10, 9)));
        assert_eq!(found(10), Some((1, 0)));
        assert_eq!(found(15), Some((5, 4)));
        assert_eq!(found(16), None);
    }
}
