//! The restore planner beside an origin that lies: it never panics and never writes outside its target.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use kluis::clock::Timestamp;
use kluis::event::Silent;
use kluis::format::tree::{ChunkRef, Content, Entry, EntryKind, Hole, SparseMap, tag};
use kluis::id::{ChunkId, ListId, NodeId};
use kluis::limits;
use kluis::restore::{
    self, FrameVisitor, Origin, OriginError, Overwrite, Place, RestoreContext, RestoreOptions,
    RestoreRequest, Stored,
};
use kluis::target::OwnerMap;
use kluis::wire;

use super::choices::Choices;
use super::operations::scratch;

/// Longer files are only measured.
const READ_BYTES_MAX: u64 = 1 << 20;

const NAMES: [&str; 9] = ["a", "b", "link", "folder", "..", ".", "../outside", "/etc/outside", "a\0b"];
const CHUNK_COUNT: u8 = 8;

/// Folders numbered by their ids, and chunks of a few bytes, some of which do not exist or are damaged.
struct Liar {
    folders: Vec<Vec<Entry>>,
    /// Says which places are wrong and which frames are damaged.
    lies: Vec<u8>,
}

fn chunk_bytes(id: &ChunkId) -> Vec<u8> {
    let number = id.bytes()[0];
    vec![number; 1 + usize::from(number) * 100]
}

impl Liar {
    fn lie(&self, at: usize) -> u8 {
        self.lies.get(at % 16).copied().unwrap_or(0)
    }
}

impl Origin for Liar {
    fn directory(&self, id: NodeId) -> Stored<'_, Entry> {
        let number = usize::from(id.bytes()[0]);
        match self.folders.get(number) {
            Some(entries) => Box::new(entries.iter().cloned().map(Ok)),
            None => Box::new(std::iter::once(Err(OriginError("there is no such folder".into())))),
        }
    }

    fn chunks(&self, content: &Content) -> Stored<'_, ChunkRef> {
        let chunks = match content {
            Content::Chunks(chunks) => chunks.clone(),
            Content::List(id) => (0..id.bytes()[0]).map(chunk).collect(),
            Content::None | Content::Directory(_) | Content::LinkTarget(_) | Content::Device(..) => {
                Vec::new()
            }
        };
        Box::new(chunks.into_iter().map(Ok))
    }

    fn locate(&self, id: &ChunkId) -> Result<Option<Place>, OriginError> {
        let number = id.bytes()[0];
        let len = chunk_bytes(id).len() as u32;
        Ok(match self.lie(usize::from(number)) {
            200.. => None,
            150..200 => Some(Place { pack: 0, frame: u16::from(number), start: u32::MAX, len: u32::MAX }),
            lie => Some(Place { pack: u32::from(lie % 2), frame: u16::from(number), start: 0, len }),
        })
    }

    fn read_frames(&self, _: u32, frames: &[u16], visit: &mut FrameVisitor<'_>) -> Result<(), OriginError> {
        for frame in frames {
            let mut bytes = chunk_bytes(&ChunkId::new([*frame as u8; 32]));
            match self.lie(8 + usize::from(*frame)) {
                200.. => visit(*frame, Err(OriginError("the frame is damaged".into()))),
                100..200 => {
                    bytes.pop();
                    visit(*frame, Ok(&bytes));
                }
                _ => visit(*frame, Ok(&bytes)),
            }
        }
        Ok(())
    }

    fn verify_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        bytes == chunk_bytes(id)
    }
}

fn chunk(number: u8) -> ChunkRef {
    let id = ChunkId::new([number % CHUNK_COUNT; 32]);
    ChunkRef { id, len: chunk_bytes(&id).len() as u32 }
}

fn entry(choices: &mut Choices<'_>, folder_count: usize) -> Entry {
    let name = NAMES[choices.below(NAMES.len())];
    let mut entry = Entry {
        name: name.as_bytes().into(),
        kind: EntryKind::File,
        mode: 0o600 + u16::from(choices.byte() % 8),
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: i64::from(choices.byte()), nanoseconds: 0 },
        ctime: Timestamp::default(),
        inode: u64::from(choices.byte() % 4),
        size: u64::from(choices.byte()) * 10,
        content: Content::None,
        extensions: Vec::new(),
    };
    match choices.byte() % 8 {
        0 => {
            entry.kind = EntryKind::Directory;
            entry.mode |= 0o100;
            let number = choices.below(folder_count + 1) as u8;
            entry.content = Content::Directory(NodeId::new([number; 32]));
        }
        1 => {
            entry.kind = EntryKind::Symlink;
            let target = ["..", "../outside", "/", "a"][choices.below(4)];
            entry.content = Content::LinkTarget(target.as_bytes().into());
        }
        2 => entry.content = Content::List(ListId::new([choices.byte() % 40; 32])),
        3 => entry.kind = EntryKind::Fifo,
        _ => {
            let chunks: Vec<_> = (0..choices.byte() % 9).map(|_| chunk(choices.byte())).collect();
            if !choices.byte().is_multiple_of(4) {
                entry.size = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
            }
            entry.content = if chunks.is_empty() { Content::None } else { Content::Chunks(chunks) };
        }
    }
    match choices.byte() % 8 {
        0 => entry.set_extension(tag::HARD_LINK, vec![1]),
        1 => {
            let skip = u64::from(choices.byte());
            let holes = vec![Hole { skip, len: 1 + u64::from(choices.byte()) * 100 }];
            let map = wire::encode(&SparseMap { holes }, limits::EXTENSIONS_BYTES_MAX);
            entry.set_extension(tag::SPARSE_MAP, map.expect("one hole is a valid map"));
        }
        2 => entry.set_extension(tag::SPARSE_MAP, choices.bytes(20).to_vec()),
        3 => entry.set_extension(tag::XATTRS, choices.bytes(20).to_vec()),
        _ => {}
    }
    entry
}

/// Everything in a folder but in `but`, with what it holds.
fn contents(folder: &Path, but: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the scratch folder can be read").flatten();
    let entries = entries.filter(|entry| entry.file_name() != but);
    // A fifo would wait for a writer, a link lead anywhere, and a hole have no end.
    let is_read = |found: &fs::Metadata| found.is_file() && found.len() <= READ_BYTES_MAX;
    let bytes = |path: &Path| match path.symlink_metadata() {
        Ok(found) if is_read(&found) => fs::read(path).unwrap_or_default(),
        Ok(found) => format!("{:?} {}", found.file_type(), found.len()).into_bytes(),
        Err(_) => Vec::new(),
    };
    entries.map(|entry| (format!("{:?}", entry.path()), bytes(&entry.path()))).collect()
}

/// A tree as a fuzzer likes it, restored over what earlier restores left.
pub fn restore_plan(data: &[u8]) {
    let mut choices = Choices(data);
    let lies = choices.bytes(16).to_vec();
    let options = RestoreOptions {
        overwrite: [Overwrite::IfChanged, Overwrite::Always, Overwrite::IfNewer, Overwrite::Never]
            [choices.below(4)],
        delete: choices.byte() % 2 == 1,
        sparse: choices.byte() % 2 == 1,
        verify: choices.byte() % 2 == 1,
        thread_count: 1,
        ..RestoreOptions::default()
    };
    let folder_count = 1 + choices.below(4);
    // A folder may hold only folders with higher numbers: ids are hashes, so that no folder can hold itself.
    let folders: Vec<Vec<Entry>> = (0..folder_count)
        .map(|number| {
            let entries = (0..choices.below(8)).map(|_| entry(&mut choices, folder_count));
            let mut entries: Vec<Entry> = entries.collect();
            entries.retain(|entry| match entry.content {
                Content::Directory(id) => usize::from(id.bytes()[0]) > number,
                _ => true,
            });
            entries.sort_by(|one, next| one.name.cmp(&next.name));
            entries
        })
        .collect();
    let origin = Liar { folders, lies };
    let scratch = scratch();
    fs::write(scratch.path().join("outside"), "not to be touched")
        .expect("the scratch folder can be written");
    let before = contents(scratch.path(), "target");
    let target = scratch.path().join("target");
    fs::create_dir(&target).expect("the scratch folder can be written");
    let context =
        RestoreContext { origin: &origin, owners: &OwnerMap::default(), observer: &Silent::default() };
    let request = RestoreRequest::Folder(NodeId::new([0; 32]));
    for _ in 0..2 {
        let there = contents(&target, "");
        let _ = restore::preview(&context, &request, &target, &options, &mut |_| ControlFlow::Continue(()));
        assert_eq!(contents(&target, ""), there, "a preview wrote something");
        let _ = restore::run(&context, &request, &target, &options);
        assert_eq!(contents(scratch.path(), "target"), before, "something was written outside the target");
    }
}
