//! What can still be read of a pack that ends early, stored once more.
//!
//! Writers and prunes count on no pack of the wrong length, so what is left of such a pack would be of no use to a new
//! snapshot, and would be stored again by every backup. What is copied here is needed by old snapshots or is ordinary
//! garbage, like what a rewriting prune copies; so no lease is needed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::format::frame::ContentKind;
use crate::format::index_object::IndexedPack;
use crate::id::SnapshotId;
use crate::index::{PackKind, PackNumber};
use crate::repo::{ChunkReader, ChunkWriter, FrameWriter, Repo, RepoError, WriterOptions};

/// Stores what lies in the good frames of a pack, unless it is in another one.
pub fn copy_out(
    repo: &Arc<Repo>,
    reader: &ChunkReader,
    number: PackNumber,
    described: &IndexedPack,
    damaged: &BTreeSet<u32>,
) -> Result<(), RepoError> {
    let (view, _, _) = repo.writer_view(&Default::default())?;
    let lease = SnapshotId::new(repo.random()?);
    let options = WriterOptions::default();
    let writer = ChunkWriter::start(repo, lease, Arc::new(view), options);
    let mut data = writer.frame_writer(PackKind::Data);
    let mut meta = writer.frame_writer(PackKind::Meta);
    let frames = (0..=u16::MAX).take(described.frames.len());
    let good: Vec<_> = frames.filter(|frame| !damaged.contains(&u32::from(*frame))).collect();
    let mut outcome = Ok(());
    for frame in good {
        data.begin();
        reader.read_frames(number, &[frame], &mut |frame, plain| {
            let (Ok(plain), Some(entry)) = (plain, described.frames.get(usize::from(frame))) else { return };
            let mut rest = plain;
            for chunk in &entry.chunks {
                let Some((bytes, after)) = rest.split_at_checked(chunk.len as usize) else { return };
                rest = after;
                if outcome.is_ok() {
                    outcome = put(&mut data, &mut meta, chunk.kind, bytes);
                }
            }
        })?;
        data.finish()?;
        meta.finish()?;
    }
    drop((data, meta));
    outcome?;
    writer.finish().map(drop)
}

fn put(
    data: &mut FrameWriter<'_>,
    meta: &mut FrameWriter<'_>,
    kind: ContentKind,
    bytes: &[u8],
) -> Result<(), RepoError> {
    match kind {
        ContentKind::Chunk => data.put_chunks(bytes, &[bytes.len()]).map(drop),
        ContentKind::Node => meta.put_node(bytes).map(drop),
        ContentKind::List => meta.put_list(bytes).map(drop),
    }
}
