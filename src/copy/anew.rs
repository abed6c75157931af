//! Into a repository with identities of its own: what is stored there gets other ids, so every node is written anew.
//!
//! Files stay cut as they are. Which chunk became which is not kept anywhere: it is read from the copy of the snapshot
//! before, by walking both side by side, so that only what is new since then is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use crate::copy::pairs::{self, Tree};
use crate::copy::{CopyError, Sides, below};
use crate::event::Progress;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{ChunkRef, Content};
use crate::id::{ChunkId, NodeId};
use crate::index::{PackKind, PackNumber, Place};
use crate::repo::{
    ChunkReader, ChunkWriter, DamageReason, DirectoryWriter, FrameWriter, ListWriter, RepoError,
    SnapshotList, TreeReader, TreeWriter,
};

/// Which chunk of the source is which chunk of the target; about 60 bytes each.
type Renamed = HashMap<[u8; 16], ChunkId>;

/// Stores everything below the folder `/` of a snapshot, and says what that folder is in the target.
pub fn transfer(
    reader: &TreeReader,
    writer: &ChunkWriter,
    snapshot: &Snapshot,
    there: &SnapshotList,
    sides: Sides<'_>,
) -> Result<NodeId, CopyError> {
    sides.observer.phase("looking for what is missing");
    let before = renamed_before(reader, snapshot, there, sides)?;
    let (mut renamed, lacking) = lacking(reader, writer, snapshot.root, &before, sides)?;
    drop(before);
    sides.observer.phase("copying files");
    copy_chunks(reader.chunk_reader(), writer, lacking, &mut renamed, sides)?;
    sides.observer.phase("copying folders");
    let mut folders = Folders { reader, tree: tree_writer(writer), renamed, written: HashMap::new(), sides };
    let root = folders.write(snapshot.root)?;
    folders.tree.finish()?;
    Ok(root)
}

fn tree_writer(writer: &ChunkWriter) -> TreeWriter<'_> {
    TreeWriter::new(writer.frame_writer(PackKind::Meta), writer.split_key())
}

/// What the chunks of the newest snapshot of this series that was copied before became.
fn renamed_before(
    reader: &TreeReader,
    snapshot: &Snapshot,
    there: &SnapshotList,
    sides: Sides<'_>,
) -> Result<Renamed, CopyError> {
    let mut renamed = Renamed::new();
    let here = sides.source.snapshots().map_err(CopyError::Source)?;
    let pairs = here.snapshots.iter().filter(|it| it.series == snapshot.series);
    let pairs = pairs.filter_map(|it| Some((it, super::counterpart(it, there)?)));
    let Some((original, copy)) = pairs.max_by_key(|(it, _)| it.place()) else { return Ok(renamed) };
    let target = TreeReader::new(Arc::new(sides.target.chunk_reader()?));
    let one = Tree { reader, root: original.root };
    let other = Tree { reader: &target, root: copy.root };
    let walked = pairs::visit(one, other, &mut |met| {
        sides.check_interrupted()?;
        let (Some(one), Some(other)) = (met.one, met.other) else { return Ok(()) };
        let chunks = reader.chunks(&one.content).zip(target.chunks(&other.content));
        for (one, other) in chunks {
            // What cannot be read is read from the source itself, if the snapshot needs it at all.
            let (Ok(one), Ok(other)) = (one, other) else { break };
            if one.len == other.len {
                renamed.insert(one.id.content().prefix(), other.id);
            }
        }
        Ok(())
    });
    match walked {
        Err(CopyError::Interrupted) => Err(CopyError::Interrupted),
        // Without it more is read, and nothing is wrong.
        Ok(()) | Err(_) => Ok(renamed),
    }
}

/// Chunks of a snapshot that the target does not hold, and what the others are called there. Those are claimed.
fn lacking(
    reader: &TreeReader,
    writer: &ChunkWriter,
    root: NodeId,
    before: &Renamed,
    sides: Sides<'_>,
) -> Result<(Renamed, HashMap<[u8; 16], ChunkRef>), CopyError> {
    let (mut renamed, mut lacking) = (Renamed::new(), HashMap::new());
    below::visit(reader, root, sides, &mut |_, chunks| {
        for chunk in chunks {
            let key = chunk.id.content().prefix();
            if renamed.contains_key(&key) || lacking.contains_key(&key) {
                continue;
            }
            match before.get(&key) {
                Some(id) if writer.is_known(&id.content())? => drop(renamed.insert(key, *id)),
                Some(_) | None => drop(lacking.insert(key, *chunk)),
            }
        }
        Ok(())
    })?;
    Ok((renamed, lacking))
}

/// Reads chunks in the order in which they lie in packs, each frame once, and stores them.
fn copy_chunks(
    reader: &ChunkReader,
    writer: &ChunkWriter,
    lacking: HashMap<[u8; 16], ChunkRef>,
    renamed: &mut Renamed,
    sides: Sides<'_>,
) -> Result<(), CopyError> {
    let mut packs: BTreeMap<PackNumber, WantedFrames> = BTreeMap::new();
    for chunk in lacking.into_values() {
        let place = reader.place_of(&chunk.id.content()).map_err(CopyError::Source)?;
        packs.entry(place.pack).or_default().entry(place.frame).or_default().push((place, chunk));
    }
    Progress::add(&sides.observer.progress().files_total, packs.len() as u64);
    let stored = Mutex::new(renamed);
    let thread_count = std::thread::available_parallelism().map_or(2, |count| count.get()).min(packs.len());
    let packs = Mutex::new(packs.into_iter());
    let next = || packs.lock().expect("no holder of this lock panics").next();
    std::thread::scope(|scope| {
        let work = || {
            while let Some((pack, frames)) = next() {
                sides.check_interrupted()?;
                copy_pack(reader, writer, pack, frames, &stored)?;
                Progress::add(&sides.observer.progress().files_done, 1);
            }
            Ok(())
        };
        let threads: Vec<_> = (0..thread_count).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(RepoError::Ended.into())));
        // All of them end before the first error is told.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

/// What is wanted of the frames of a pack.
type WantedFrames = BTreeMap<u16, Vec<(Place, ChunkRef)>>;

fn copy_pack(
    reader: &ChunkReader,
    writer: &ChunkWriter,
    pack: PackNumber,
    mut frames: WantedFrames,
    stored: &Mutex<&mut Renamed>,
) -> Result<(), CopyError> {
    frames.values_mut().for_each(|chunks| chunks.sort_unstable_by_key(|(place, _)| place.start));
    let numbers: Vec<_> = frames.keys().copied().collect();
    let mut into = writer.frame_writer(PackKind::Data);
    into.begin();
    let mut outcome = Ok(());
    let read = reader.read_frames(pack, &numbers, &mut |number, plain| {
        if outcome.is_err() {
            return;
        }
        let chunks = frames.get(&number).map(Vec::as_slice).unwrap_or_default();
        outcome = plain.map_err(CopyError::Source).and_then(|plain| {
            for (place, chunk) in chunks {
                let id = put(reader, &mut into, plain, place, chunk)?;
                let mut stored = stored.lock().expect("no holder of this lock panics");
                stored.insert(chunk.id.content().prefix(), id);
            }
            Ok(())
        });
    });
    read.map_err(CopyError::Source)?;
    outcome?;
    Ok(into.finish()?)
}

/// Stores one chunk of an opened frame under its other name.
fn put(
    reader: &ChunkReader,
    into: &mut FrameWriter<'_>,
    plain: &[u8],
    place: &Place,
    chunk: &ChunkRef,
) -> Result<ChunkId, CopyError> {
    let start = place.start as usize;
    let bytes =
        plain.get(start..start + chunk.len as usize).filter(|bytes| reader.verify_chunk(&chunk.id, bytes));
    let name = || format!("chunk {}", chunk.id.content());
    let damaged = || RepoError::Damaged { name: name(), source: DamageReason::Id };
    let bytes = bytes.ok_or_else(|| CopyError::Source(damaged()))?;
    let ids = into.put_chunks(bytes, &[bytes.len()])?;
    ids.first().copied().ok_or_else(|| RepoError::Ended.into())
}

/// Folders that are written anew, each once, what is below it first.
struct Folders<'a> {
    reader: &'a TreeReader,
    tree: TreeWriter<'a>,
    renamed: Renamed,
    written: HashMap<NodeId, NodeId>,
    sides: Sides<'a>,
}

impl Folders<'_> {
    fn write(&mut self, root: NodeId) -> Result<NodeId, CopyError> {
        let mut pending = vec![root];
        while let Some(folder) = pending.last().copied() {
            if self.written.contains_key(&folder) {
                pending.pop();
                continue;
            }
            self.sides.check_interrupted()?;
            let below = self.below(folder)?;
            if below.is_empty() {
                self.write_folder(folder)?;
                pending.pop();
            } else {
                pending.extend(below);
            }
        }
        self.written.get(&root).copied().ok_or_else(|| RepoError::Ended.into())
    }

    /// Folders in this one that are not written yet.
    fn below(&self, folder: NodeId) -> Result<Vec<NodeId>, CopyError> {
        let mut below = Vec::new();
        for entry in self.reader.directory(folder) {
            if let Content::Directory(id) = entry.map_err(CopyError::Source)?.content
                && !self.written.contains_key(&id)
            {
                below.push(id);
            }
        }
        Ok(below)
    }

    fn write_folder(&mut self, folder: NodeId) -> Result<(), CopyError> {
        let mut directory = DirectoryWriter::default();
        for entry in self.reader.directory(folder) {
            let mut entry = entry.map_err(CopyError::Source)?;
            entry.content = match entry.content {
                Content::Directory(id) => {
                    let written = self.written.get(&id).copied();
                    Content::Directory(written.ok_or(RepoError::Ended)?)
                }
                content @ (Content::Chunks(_) | Content::List(_)) => self.write_list(&content)?,
                content @ (Content::None | Content::LinkTarget(_) | Content::Device(..)) => content,
            };
            directory.push(entry, &mut self.tree)?;
        }
        let written = directory.finish(&mut self.tree)?;
        self.written.insert(folder, written.id);
        Ok(())
    }

    fn write_list(&mut self, content: &Content) -> Result<Content, CopyError> {
        let mut list = ListWriter::default();
        for chunk in self.reader.chunks(content) {
            let chunk = chunk.map_err(CopyError::Source)?;
            let id = self.renamed.get(&chunk.id.content().prefix()).copied();
            let id = id.ok_or(RepoError::MissingContent { id: chunk.id.content() });
            let id = id.map_err(CopyError::Source)?;
            list.push(ChunkRef { id, ..chunk }, &mut self.tree)?;
        }
        Ok(list.finish(&mut self.tree)?)
    }
}
