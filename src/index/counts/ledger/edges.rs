//! Edges of nodes and of frames, in both directions.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::super::rows::{LocalNumber, PackState, decode_numbers, encode_numbers, parent_key};
use super::super::{EDGES, FRAME_EDGES, META_EDGE_BYTES, PARENTS};
use super::{Ledger, Vertex};
use crate::index::error::IndexError;
use crate::index::rows::{decode_frame, opened, pair_key, sealed};
use crate::index::{FRAMES, FrameRow, META, PackNumber};

impl<W: Borrow<WriteTransaction>> Ledger<W> {
    pub(super) fn vertex(&mut self, at: (u32, u16)) -> Result<&mut Vertex, IndexError> {
        match self.frames.entry(at) {
            std::collections::hash_map::Entry::Occupied(found) => Ok(found.into_mut()),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                let table = self.writing.borrow().open_table(FRAME_EDGES)?;
                let vertex = match table.get(pair_key(at.0, at.1))? {
                    Some(row) => {
                        let (live_count, bases) = decode_frame_edges(pair_key(at.0, at.1), row.value())?;
                        Vertex { live_count, bases, is_changed: false }
                    }
                    None => Vertex::default(),
                };
                Ok(vacant.insert(vertex))
            }
        }
    }

    /// One chunk more counts on a frame with bases; the first one makes the bases needed.
    pub(super) fn hold_frame(&mut self, at: (u32, u16)) -> Result<(), IndexError> {
        let vertex = self.vertex(at)?;
        vertex.live_count += 1;
        vertex.is_changed = true;
        if vertex.live_count > 1 {
            return Ok(());
        }
        if self.pack(PackNumber(at.0))?.state == PackState::Vanished {
            // It is lost, and was before anybody needed it: nobody knows what it rested on.
            return Ok(());
        }
        let frame = self.frame(PackNumber(at.0), at.1)?;
        let mut bases = Vec::with_capacity(frame.bases.len());
        for base in &frame.bases {
            let places = self.view.lookup(&base.prefix())?;
            bases.push(self.resolve_or_lose(&base.prefix(), &places)?);
        }
        bases.sort_unstable();
        bases.dedup();
        let rest = self.resting_work(PackNumber(at.0), true)?;
        self.work.extend(bases.iter().copied().map(rest));
        self.put_parent(LocalNumber::frame(at), &bases);
        self.vertex(at)?.bases = bases;
        Ok(())
    }

    pub(in crate::index::counts) fn frame(
        &self,
        pack: PackNumber,
        frame: u16,
    ) -> Result<FrameRow, IndexError> {
        let key = pair_key(pack.0, frame);
        let frames = self.writing.borrow().open_table(FRAMES)?;
        let row = frames.get(key)?.ok_or_else(|| IndexError::damaged("a frame is not there"))?;
        decode_frame(key, row.value())
    }

    pub(in crate::index::counts) fn has_bases(&self) -> bool {
        self.has_bases
    }

    /// Remembers what a node refers to; `children` are ascending and different.
    pub(in crate::index::counts) fn put_edges(&mut self, number: LocalNumber, children: &[LocalNumber]) {
        let mut bytes = Vec::with_capacity(children.len() + 16);
        encode_numbers(children, &mut bytes);
        let row = sealed(EDGES, &number.0.to_be_bytes(), bytes);
        self.waiting_bytes += row.len();
        self.edge_bytes_change += row.len() as i64;
        self.edges.push((number, row));
        self.put_parent(number, children);
    }

    pub(super) fn take_edges(&mut self, number: LocalNumber) -> Result<Vec<LocalNumber>, IndexError> {
        if !self.edges.is_empty() {
            self.write_all()?;
        }
        let (len, children) = {
            let mut table = self.writing.borrow().open_table(EDGES)?;
            let row = table.remove(number.0)?.ok_or_else(|| IndexError::damaged("a node has no edges"))?;
            let row = row.value();
            (row.len(), decode_numbers(opened(EDGES, &number.0.to_be_bytes(), row)?)?)
        };
        self.edge_bytes_change -= len as i64;
        self.remove_parent(number, &children);
        Ok(children)
    }

    /// The other direction of edges: for each block what a parent refers to in it.
    pub(super) fn put_parent(&mut self, parent: LocalNumber, children: &[LocalNumber]) {
        for in_block in children.chunk_by(|a, b| a.block() == b.block()) {
            let Some(block) = in_block.first().map(|child| child.block()) else { continue };
            let key = parent_key(block, parent);
            let places: Vec<_> = in_block.iter().map(|it| LocalNumber(it.place_in_block() as u64)).collect();
            let mut bytes = Vec::with_capacity(places.len() + 8);
            encode_numbers(&places, &mut bytes);
            let row = sealed(PARENTS, &key, bytes);
            self.waiting_bytes += row.len();
            self.edge_bytes_change += row.len() as i64;
            self.parents.push((key, Some(row)));
        }
    }

    pub(super) fn remove_parent(&mut self, parent: LocalNumber, children: &[LocalNumber]) {
        for in_block in children.chunk_by(|a, b| a.block() == b.block()) {
            let Some(block) = in_block.first().map(|child| child.block()) else { continue };
            self.parents.push((parent_key(block, parent), None));
            self.waiting_bytes += 14;
        }
    }

    /// Writes the waiting rows, in order. Of several for one key, which only frames have, the last counts.
    pub(super) fn write_edges(&mut self) -> Result<(), IndexError> {
        let writing = self.writing.borrow();
        self.edges.sort_by_key(|(number, _)| *number);
        let mut table = writing.open_table(EDGES)?;
        if table.is_empty()? {
            // The first snapshot: appending fills pages, and inserting in order leaves them half empty.
            let mut cursor = table.upper_bound_mut(Bound::<u64>::Unbounded)?;
            for (number, row) in self.edges.drain(..) {
                cursor.insert_before(number.0, row.as_slice())?;
            }
            cursor.close()?;
        }
        for (number, row) in self.edges.drain(..) {
            table.insert(number.0, row.as_slice())?;
        }
        drop(table);
        self.parents.sort_by_key(|(key, _)| *key);
        let mut table = writing.open_table(PARENTS)?;
        let are_new = self.parents.is_sorted_by(|(a, _), (b, _)| a < b)
            && self.parents.iter().all(|(_, row)| row.is_some());
        if table.is_empty()? && are_new {
            let mut cursor = table.upper_bound_mut(Bound::<[u8; 14]>::Unbounded)?;
            let rows = self.parents.drain(..);
            for (key, row) in rows.filter_map(|(key, row)| Some((key, row?))) {
                cursor.insert_before(key, row.as_slice())?;
            }
            cursor.close()?;
        }
        for (key, row) in self.parents.drain(..) {
            let before = match row {
                Some(row) => table.insert(key, row.as_slice())?,
                None => Some(table.remove(key)?.ok_or_else(|| IndexError::damaged("a parent is missing"))?),
            };
            self.edge_bytes_change -= before.map_or(0, |row| row.value().len() as i64);
        }
        drop(table);
        self.waiting_bytes = 0;
        let change = std::mem::take(&mut self.edge_bytes_change);
        if change != 0 {
            let mut meta = writing.open_table(META)?;
            let bytes = edge_bytes(&meta)?.saturating_add_signed(change);
            let row = sealed(META, META_EDGE_BYTES.as_bytes(), bytes.to_le_bytes().to_vec());
            meta.insert(META_EDGE_BYTES, row.as_slice())?;
        }
        Ok(())
    }
}

/// Bytes of all edges, in both directions.
pub(in crate::index::counts) fn edge_bytes(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<u64, IndexError> {
    let Some(row) = meta.get(META_EDGE_BYTES)? else { return Ok(0) };
    let bytes = opened(META, META_EDGE_BYTES.as_bytes(), row.value())?.try_into().map(u64::from_le_bytes);
    bytes.map_err(|_| IndexError::damaged("a number has another width"))
}

pub(super) fn write_frames(
    writing: &WriteTransaction,
    frames: &mut HashMap<(u32, u16), Vertex>,
) -> Result<(), IndexError> {
    let mut changed: Vec<_> = frames.drain().filter(|(_, vertex)| vertex.is_changed).collect();
    changed.sort_unstable_by_key(|(at, _)| *at);
    let mut table = writing.open_table(FRAME_EDGES)?;
    for ((pack, frame), vertex) in changed {
        let key = pair_key(pack, frame);
        if vertex.live_count == 0 {
            table.remove(key)?;
        } else {
            let mut bytes = vertex.live_count.to_le_bytes().to_vec();
            encode_numbers(&vertex.bases, &mut bytes);
            table.insert(key, sealed(FRAME_EDGES, &key, bytes).as_slice())?;
        }
    }
    Ok(())
}

/// How many chunks count on a frame, and its bases.
pub(in crate::index::counts) fn decode_frame_edges(
    key: [u8; 6],
    stored: &[u8],
) -> Result<(u32, Vec<LocalNumber>), IndexError> {
    match opened(FRAME_EDGES, &key, stored)?.split_first_chunk() {
        Some((count, bases)) => Ok((u32::from_le_bytes(*count), decode_numbers(bases)?)),
        None => Err(IndexError::damaged("the edges of a frame do not parse")),
    }
}
