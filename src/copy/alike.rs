//! Into a repository that shares identities: the same content has the same ids there, so nodes stay as they are, and
//! frames travel without being compressed again, bases included.

use std::collections::{BTreeMap, BTreeSet};

use crate::copy::{CopyError, Sides, below};
use crate::event::Progress;
use crate::id::{ContentId, NodeId};
use crate::index::PackNumber;
use crate::repo::{ChunkReader, ChunkWriter, FrameCopy, PackToCopy, RepoError, TreeReader, Wanted};

/// Stores what the target lacks of everything below a folder, and claims the rest.
///
/// Memory: 16 bytes for each node, and about 64 for each chunk or node that the target lacks.
pub fn transfer(
    reader: &TreeReader,
    writer: &ChunkWriter,
    root: NodeId,
    sides: Sides<'_>,
) -> Result<(), CopyError> {
    sides.observer.phase("looking for what is missing");
    let lacking = lacking(reader, writer, root, sides)?;
    let chunks = reader.chunk_reader();
    let packs = packs(chunks, &lacking).map_err(CopyError::Source)?;
    sides.observer.phase("copying packs");
    Progress::add(&sides.observer.progress().files_total, packs.len() as u64);
    let copy = FrameCopy { reader: chunks, writer, prices: None, observer: sides.observer };
    let damaged = copy.run(&packs).map_err(|error| sides.unless_stopped(error))?;
    if let Some((_, pack)) = damaged.first() {
        return Err(CopyError::Damaged { pack: *pack });
    }
    if sides.options.dry_run {
        return Ok(());
    }
    // The index named a place for each. Should a pack hold something else there, it was passed over.
    writer.settle()?;
    for id in lacking {
        if !writer.is_known(&id)? {
            return Err(CopyError::Source(RepoError::MissingContent { id }));
        }
    }
    Ok(())
}

/// Everything below a folder that the target does not hold, each once. What it holds is claimed, so that it stays.
fn lacking(
    reader: &TreeReader,
    writer: &ChunkWriter,
    root: NodeId,
    sides: Sides<'_>,
) -> Result<Vec<ContentId>, CopyError> {
    let mut lacking = BTreeSet::new();
    below::visit(reader, root, sides, &mut |node, chunks| {
        for content in std::iter::once(node).chain(chunks.iter().map(|chunk| chunk.id.content())) {
            if !writer.is_known(&content)? {
                lacking.insert(content);
            }
        }
        Ok(())
    })?;
    Ok(lacking.into_iter().collect())
}

/// The packs of the source that hold these, with what is wanted of each.
fn packs(reader: &ChunkReader, lacking: &[ContentId]) -> Result<Vec<PackToCopy>, RepoError> {
    let mut found: BTreeMap<PackNumber, (Vec<[u8; 16]>, BTreeSet<u16>)> = BTreeMap::new();
    for id in lacking {
        let place = reader.place_of(id)?;
        let (keys, frames) = found.entry(place.pack).or_default();
        keys.push(id.prefix());
        frames.insert(place.frame);
    }
    let mut packs = Vec::with_capacity(found.len());
    for (number, (mut keys, frames)) in found {
        keys.sort_unstable();
        let depths = frames.into_iter().map(|frame| Ok(reader.frame(number, frame)?.depth));
        let depths = depths.collect::<Result<BTreeSet<_>, RepoError>>()?;
        let name = reader.pack_name(number)?;
        let (wanted, left_out) = (Wanted::Only(keys), BTreeSet::new());
        packs.push(PackToCopy { number, name, wanted, left_out, depths });
    }
    Ok(packs)
}
