//! Frames on their way from one pack into another: as they are, if all of them is still wanted.
//!
//! What is copied has been opened and compared with its ids by whoever copies it. A copy never lies deeper than what it
//! is a copy of: others may rest on that. And what it rests on must be claimed like the bases of any new frame, in a view
//! without the packs that are to go.

use super::{FrameWriter, Prefix};
use crate::compress::Codec;
use crate::format::frame::{ChunkEntry, ContentKind, FrameEntry};
use crate::hash::IdKeys;
use crate::id::ContentId;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::error::RepoError;
use crate::repo::pack_sealing::content_id;

/// A frame with fewer plain bytes than this part of what frames aim at is put together with others.
const COLLECTED_SHARE: usize = 8;

/// A frame that was read from a pack.
#[derive(Clone, Copy)]
pub struct StoredFrame<'a> {
    /// What the directory of the pack says of it.
    pub entry: &'a FrameEntry,
    /// Its bytes before sealing.
    pub stored: &'a [u8],
    /// All of its chunks, end to end.
    pub plain: &'a [u8],
}

/// A run of chunks that are to be stored: where it begins in the plain bytes.
struct Run {
    start: usize,
    end: usize,
    chunks: Vec<ChunkEntry>,
}

impl FrameWriter<'_> {
    /// Stores again those chunks of a frame that are `needed` - where each begins, and its entry - unless something
    /// else holds them that lies no deeper. Whether each has the id that its entry says; if not, nothing is stored.
    ///
    /// `reader` reads what the frame rests on. `is_worth_it` is asked with the bytes that the difference takes, and with
    /// those that the same chunks take by themselves.
    pub fn put_again(
        &mut self,
        frame: StoredFrame<'_>,
        needed: &[(usize, ChunkEntry)],
        reader: &ChunkReader,
        is_worth_it: Option<&dyn Fn(u64, u64) -> bool>,
    ) -> Result<bool, RepoError> {
        let Some(ids) = ids_of(&self.writer.repo.keys.ids, frame.plain, needed) else { return Ok(false) };
        let depth = frame.entry.depth;
        let mut runs: Vec<Run> = Vec::new();
        for ((start, entry), id) in needed.iter().zip(ids) {
            let Some(chunk) = self.claim_at_most(entry.kind, id, entry.len as usize, depth)? else {
                continue;
            };
            let end = start + entry.len as usize;
            match runs.last_mut() {
                Some(run) if run.end == *start && entry.kind == ContentKind::Chunk => {
                    run.chunks.push(chunk);
                    run.end = end;
                }
                Some(_) | None => runs.push(Run { start: *start, end, chunks: vec![chunk] }),
            }
        }
        let is_whole = runs.iter().map(|run| run.chunks.len()).sum::<usize>() == frame.entry.chunks.len();
        if depth == 0 {
            if is_whole && frame.plain.len() >= self.target() / COLLECTED_SHARE {
                return self.copy_plain_frame(frame).map(|()| true);
            }
            for run in runs {
                self.put_run(run.chunks, frame.plain.get(run.start..run.end).unwrap_or_default(), &[])?;
            }
            return Ok(true);
        }
        if runs.is_empty() {
            return Ok(true);
        }
        let prefix = self.prefix_again(frame.entry, reader)?;
        if is_whole {
            self.put_difference(frame, frame.entry.chunks.clone(), frame.plain, &prefix, is_worth_it)?;
        } else {
            // Together again, so that there is one frame that rests on all of it.
            let parts = runs.iter().filter_map(|run| frame.plain.get(run.start..run.end));
            let plain = parts.collect::<Vec<_>>().concat();
            let chunks = runs.into_iter().flat_map(|run| run.chunks).collect();
            self.put_difference(frame, chunks, &plain, &prefix, is_worth_it)?;
        }
        Ok(true)
    }

    /// Its bytes are not compressed again. Before the new pack is stored they are expanded once more, like all.
    fn copy_plain_frame(&mut self, frame: StoredFrame<'_>) -> Result<(), RepoError> {
        self.writer.append(self.kind, frame.entry.clone(), frame.stored, None)
    }

    /// What a frame rests on, claimed and read; nothing unless all of it may be rested on.
    fn prefix_again(&self, entry: &FrameEntry, reader: &ChunkReader) -> Result<Prefix, RepoError> {
        let mut depth = 0;
        for base in &entry.bases {
            match self.writer.claims.claim_base(base)? {
                Some(below) if below < entry.depth => depth = depth.max(below + 1),
                Some(_) | None => return Ok(Prefix::default()),
            }
        }
        match reader.read_bases(&entry.bases, entry.depth) {
            Ok(read) => {
                let lens = read.lens.iter().map(|len| *len as u32);
                let bases = entry.bases.iter().copied().zip(lens).collect();
                Ok(Prefix { bases, read, depth })
            }
            Err(_) => Ok(Prefix::default()),
        }
    }

    /// Stores chunks of a frame that rested on something as their difference from that again; or plainly, where that may
    /// not be rested on, or is not worth it.
    fn put_difference(
        &mut self,
        frame: StoredFrame<'_>,
        chunks: Vec<ChunkEntry>,
        plain: &[u8],
        prefix: &Prefix,
        is_worth_it: Option<&dyn Fn(u64, u64) -> bool>,
    ) -> Result<(), RepoError> {
        if prefix.bases.is_empty() {
            return self.put_run(chunks, plain, &[]).map(drop);
        }
        let turn = self.writer.turns.wait();
        let is_whole = chunks.len() == frame.entry.chunks.len();
        let mut again = Vec::new();
        let stored = if is_whole {
            frame.stored
        } else {
            let (codec, stored) = self.compressor.compress_against(plain, &prefix.read.bytes);
            if codec == Codec::ZstdPrefix {
                again.extend_from_slice(stored);
            }
            &again
        };
        let is_difference = !stored.is_empty()
            && is_worth_it.is_none_or(|is_worth_it| {
                let whole_len = self.compressor.compress(plain).1.len();
                is_worth_it(stored.len() as u64, whole_len as u64)
            });
        let mut chunks = chunks;
        if is_difference {
            let entry = prefix.frame(Codec::ZstdPrefix, stored, chunks);
            match self.writer.append_against(self.kind, entry, stored, prefix)? {
                None => return Ok(()),
                Some(refused) => chunks = refused.chunks,
            }
        }
        drop(turn);
        self.put_run(chunks, plain, &[]).map(drop)
    }
}

/// The ids of these parts of a frame; `None` unless they are those that the entries name.
fn ids_of(keys: &IdKeys, plain: &[u8], needed: &[(usize, ChunkEntry)]) -> Option<Vec<ContentId>> {
    let id = |(start, entry): &(usize, ChunkEntry)| {
        let bytes = plain.get(*start..start.checked_add(entry.len as usize)?)?;
        let id = content_id(keys, entry.kind, bytes);
        (id.prefix() == entry.key).then_some(id)
    };
    needed.iter().map(id).collect()
}
