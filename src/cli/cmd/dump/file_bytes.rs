//! The bytes of a stored file from its first to its last, holes as zeros.

use std::io::{self, BufRead, Read};

use crate::format::tree::{Entry, Hole, SparseMap, tag};
use crate::limits;
use crate::repo::{ChunkList, Located, TreeReader};
use crate::wire;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Reads a file. Ends in an error if the repository does not hold exactly as many bytes as the entry says.
pub struct FileBytes<'r> {
    reader: &'r TreeReader,
    chunks: ChunkList<'r>,
    /// The chunk that is being read, and how much of it was.
    chunk: Option<(Located, usize)>,
    holes: std::vec::IntoIter<Hole>,
    /// Data bytes left before the next hole, and its length.
    hole: Option<(u64, u64)>,
    /// Bytes that the file still has.
    left: u64,
}

impl<'r> FileBytes<'r> {
    /// The bytes of this file.
    pub fn new(reader: &'r TreeReader, entry: &Entry) -> io::Result<Self> {
        let map = match entry.extension(tag::SPARSE_MAP) {
            Some(bytes) => wire::decode::<SparseMap>(bytes, limits::EXTENSIONS_BYTES_MAX),
            None => Ok(SparseMap::default()),
        };
        let mut holes = map.map_err(io::Error::other)?.holes.into_iter();
        let hole = holes.next().map(|hole| (hole.skip, hole.len));
        Ok(Self { reader, chunks: reader.chunks(&entry.content), chunk: None, holes, hole, left: entry.size })
    }

    /// Sees to it that there is a chunk with bytes left, unless a hole comes or the file ends.
    fn advance(&mut self) -> io::Result<()> {
        if self.chunk.as_ref().is_some_and(|(chunk, read)| *read >= chunk.as_ref().len()) {
            self.chunk = None;
        }
        if self.chunk.is_none()
            && !matches!(self.hole, Some((0, _)))
            && let Some(chunk) = self.chunks.next()
        {
            let located = chunk.and_then(|chunk| self.reader.chunk_reader().read_chunk(&chunk.id));
            self.chunk = Some((located.map_err(io::Error::other)?, 0));
        }
        Ok(())
    }
}

impl BufRead for FileBytes<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        let (bytes, len): (&[u8], u64) = match (&self.hole, &self.chunk) {
            (Some((0, len)), _) => (&ZEROS, *len),
            (hole, Some((chunk, read))) => {
                let until_hole = hole.map_or(u64::MAX, |(until, _)| until);
                (chunk.as_ref().get(*read..).unwrap_or_default(), until_hole)
            }
            (_, None) if self.left == 0 => return Ok(&[]),
            (_, None) => {
                return Err(wrong_length("it has fewer bytes in the repository than its entry says"));
            }
        };
        let len = usize::try_from(len).map_or(bytes.len(), |len| len.min(bytes.len()));
        if len as u64 > self.left {
            return Err(wrong_length("it has more bytes in the repository than its entry says"));
        }
        Ok(bytes.get(..len).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count as u64);
        if let Some((0, len)) = &mut self.hole {
            *len = len.saturating_sub(count as u64);
        } else {
            if let Some((_, read)) = &mut self.chunk {
                *read += count;
            }
            if let Some((until, _)) = &mut self.hole {
                *until = until.saturating_sub(count as u64);
            }
        }
        while let Some((0, 0)) = self.hole {
            self.hole = self.holes.next().map(|hole| (hole.skip, hole.len));
        }
    }
}

impl Read for FileBytes<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(into.len());
        for (to, from) in into.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.consume(count);
        Ok(count)
    }
}

fn wrong_length(rule: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule)
}
