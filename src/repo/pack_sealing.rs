//! Packs between plain frames and stored bytes: sealing, opening, verifying (docs/format.md, "Packs").

use rayon::prelude::*;

use crate::compress::Expander;
use crate::crypto::{ObjectKeys, SealingKey};
use crate::format::container::{HEADER_LEN, Header, ObjectKind, TAG_LEN, Wrap};
use crate::format::frame::{Codec, ContentKind, FrameEntry, additional_data};
use crate::format::index_object::IndexedPack;
use crate::format::pack::{DIRECTORY_POSITION, PackDirectory, PackTail, TAIL_LEN_SEALED, TAIL_POSITION};
use crate::hash::{IdKeys, payload_id};
use crate::id::{ContentId, PackId, RepositoryId};
use crate::index::PackKind;
use crate::repo::error::{DamageReason, RepoError};
use crate::repo::keys::Keys;
use crate::repo::sealing::{self, SaltSource};
use crate::repo::{Repo, names};
use crate::shelf::{Shelf, Taken};
use crate::units::ByteRange;

/// The kind of container that a kind of pack is.
pub fn object_kind(kind: PackKind) -> ObjectKind {
    match kind {
        PackKind::Data => ObjectKind::DataPack,
        PackKind::Meta => ObjectKind::MetaPack,
    }
}

/// A pack in the making: compressed frames, each with room for its tag, behind room for the header.
pub struct PackBody {
    kind: PackKind,
    bytes: Taken<Vec<u8>>,
    frames: Vec<FrameEntry>,
    /// Of frames that were expanded already.
    expanded: Vec<Option<FrameHash>>,
    chunk_count: usize,
}

impl PackBody {
    /// An empty pack in an empty buffer.
    pub fn new(kind: PackKind, mut bytes: Taken<Vec<u8>>) -> Self {
        bytes.resize(HEADER_LEN, 0);
        Self { kind, bytes, frames: Vec::new(), expanded: Vec::new(), chunk_count: 0 }
    }

    /// Adds a frame whose stored bytes are `stored`; with their hash, if it is known that they expand to its chunks.
    pub fn push(&mut self, frame: FrameEntry, stored: &[u8], expanded: Option<FrameHash>) {
        self.expanded.push(expanded);
        self.bytes.extend_from_slice(stored);
        self.bytes.extend_from_slice(&[0; TAG_LEN]);
        self.chunk_count += frame.chunks.len();
        self.frames.push(frame);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Frames so far.
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Chunks and nodes so far.
    pub fn chunk_count(&self) -> usize {
        self.chunk_count
    }

    /// What it will hold.
    pub fn kind(&self) -> PackKind {
        self.kind
    }
}

/// A pack as it will be stored.
pub struct SealedPack {
    /// Its id.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// Its header.
    pub header: Header,
    /// Its directory.
    pub directory: PackDirectory,
    /// Its payload.
    pub payload: Taken<Vec<u8>>,
    /// For each frame, if it was expanded before it was sealed: what was.
    pub expanded: Vec<Option<FrameHash>>,
}

/// Seals a pack. `reserve` bytes of parity will follow, so that the buffer need not move.
pub fn seal_pack(
    keys: &Keys,
    repository: RepositoryId,
    salt: &SaltSource<'_>,
    body: PackBody,
) -> Result<SealedPack, RepoError> {
    let PackBody { kind, bytes: mut payload, frames, expanded, .. } = body;
    let directory = PackDirectory::new(frames);
    let encoded = directory.encode().map_err(RepoError::Unstorable)?;
    let body_len = (payload.len() - HEADER_LEN) as u64;
    let tail = PackTail {
        directory_len: encoded.len() as u32,
        frame_count: directory.frames.len() as u32,
        body_len,
        padding_len: 0,
    };
    let generation = keys.newest();
    let header = Header {
        kind: object_kind(kind),
        wrap: Wrap::Generation,
        flags: 0,
        repository,
        generation: generation.number,
        payload_len: HEADER_LEN as u64 + body_len + tail.suffix_len(),
        salt: salt.salt(blake3::hash(&encoded).as_bytes())?,
    };
    let root = sealing::root_of(header.kind, generation);
    let object_keys = crate::crypto::object_keys(root, &header.derived_bytes());
    let (head, frames) = payload.split_at_mut(HEADER_LEN);
    head.copy_from_slice(&header.encode(&object_keys.commitment));
    seal_frames(&object_keys.message, &directory.frames, frames);
    object_keys.directory.seal_to(DIRECTORY_POSITION, &[], &encoded, &mut payload);
    object_keys.directory.seal_to(TAIL_POSITION, &[], &tail.encode(), &mut payload);
    let id = PackId::new(payload_id(&payload));
    Ok(SealedPack { id, kind, header, directory, payload, expanded })
}

/// The bytes of a damaged pack with header, directory and tail as they follow from what is said of it; what is left of
/// its frames, and what follows the payload, stays. `None` where they do not follow.
pub fn seal_around(
    keys: &Keys,
    repository: RepositoryId,
    kind: PackKind,
    described: &IndexedPack,
    stored: &[u8],
) -> Option<Vec<u8>> {
    let directory = PackDirectory::from(described);
    let encoded = directory.encode().ok()?;
    let body_len = directory.body_len();
    let tail = PackTail {
        directory_len: encoded.len() as u32,
        frame_count: directory.frames.len() as u32,
        body_len,
        padding_len: 0,
    };
    let header = Header {
        kind: object_kind(kind),
        wrap: Wrap::Generation,
        flags: described.flags,
        repository,
        generation: described.generation,
        payload_len: described.payload_len,
        salt: described.salt,
    };
    // Padding is random, so it does not follow.
    let is_plain = HEADER_LEN as u64 + body_len + tail.suffix_len() == described.payload_len;
    if !is_plain || described.wrap != Wrap::Generation as u8 {
        return None;
    }
    let root = sealing::root_of(header.kind, keys.generation(described.generation)?);
    let object_keys = crate::crypto::object_keys(root, &header.derived_bytes());
    let body_end = HEADER_LEN + usize::try_from(body_len).ok()?;
    let mut bytes = header.encode(&object_keys.commitment).to_vec();
    bytes.extend_from_slice(stored.get(HEADER_LEN..body_end.min(stored.len())).unwrap_or_default());
    bytes.resize(body_end, 0);
    object_keys.directory.seal_to(DIRECTORY_POSITION, &[], &encoded, &mut bytes);
    object_keys.directory.seal_to(TAIL_POSITION, &[], &tail.encode(), &mut bytes);
    bytes.extend_from_slice(stored.get(bytes.len()..).unwrap_or_default());
    Some(bytes)
}

fn seal_frames(key: &SealingKey, frames: &[FrameEntry], mut body: &mut [u8]) {
    let mut places = Vec::with_capacity(frames.len());
    for (position, frame) in frames.iter().enumerate() {
        let (place, rest) = body.split_at_mut(frame.stored_len as usize + TAG_LEN);
        places.push((position as u64, frame, place));
        body = rest;
    }
    places.into_par_iter().for_each(|(position, frame, place)| {
        let (stored, tag_place) = place.split_at_mut(frame.stored_len as usize);
        tag_place.copy_from_slice(&key.seal(position, &frame_data(frame), stored));
    });
}

fn frame_data(frame: &FrameEntry) -> Vec<u8> {
    let plain_len = frame.plain_len() as u32;
    additional_data(frame.codec, frame.depth, plain_len, &frame.list_hash(), &frame.bases)
}

/// A pack whose header, tail and directory opened.
pub struct OpenedPack {
    /// Its header.
    pub header: Header,
    /// What it holds.
    pub directory: PackDirectory,
    keys: ObjectKeys,
}

/// What is wrong with a pack, and where.
#[derive(Debug, Clone)]
pub struct PackDamage {
    /// Which frame, if it is not the pack as a whole.
    pub frame: Option<u32>,
    /// What is wrong.
    pub reason: DamageReason,
}

impl<E: Into<DamageReason>> From<E> for PackDamage {
    fn from(reason: E) -> Self {
        Self { frame: None, reason: reason.into() }
    }
}

/// Opens header, tail and directory of a pack from all of its payload.
pub fn open_pack_directory(
    keys: &Keys,
    repository: RepositoryId,
    kind: PackKind,
    stored: &[u8],
) -> Result<OpenedPack, DamageReason> {
    let (header, commitment, payload) = sealing::split_payload(stored, repository, object_kind(kind))?;
    let object_keys = sealing::keys_of(keys, &header, &commitment)?;
    let suffix_len = suffix_len_of(&object_keys, header.payload_len, payload)?;
    let suffix_start = payload.len().checked_sub(suffix_len).ok_or(DamageReason::Short)?;
    let directory = open_suffix(&object_keys, payload.get(suffix_start..).ok_or(DamageReason::Short)?)?;
    Ok(OpenedPack { header, directory, keys: object_keys })
}

/// Opens the tail at the end of `bytes` and says how long directory and tail are together.
pub fn suffix_len_of(keys: &ObjectKeys, payload_len: u64, bytes: &[u8]) -> Result<usize, DamageReason> {
    let tail = open_tail(keys, payload_len, bytes)?;
    usize::try_from(tail.suffix_len()).map_err(|_| DamageReason::Short)
}

fn open_tail(keys: &ObjectKeys, payload_len: u64, bytes: &[u8]) -> Result<PackTail, DamageReason> {
    let sealed = bytes.last_chunk::<TAIL_LEN_SEALED>().ok_or(DamageReason::Short)?;
    let mut tail = Vec::with_capacity(TAIL_LEN_SEALED);
    keys.directory.open_to(TAIL_POSITION, &[], sealed, &mut tail)?;
    let tail = tail.first_chunk().ok_or(DamageReason::Short)?;
    Ok(PackTail::decode(tail, payload_len)?)
}

/// Opens the directory in `suffix`, which is exactly directory and tail.
pub fn open_suffix(keys: &ObjectKeys, suffix: &[u8]) -> Result<PackDirectory, DamageReason> {
    let sealed_len = suffix.len().checked_sub(TAIL_LEN_SEALED).ok_or(DamageReason::Short)?;
    let sealed = suffix.get(..sealed_len).ok_or(DamageReason::Short)?;
    let mut encoded = Vec::with_capacity(sealed.len());
    keys.directory.open_to(DIRECTORY_POSITION, &[], sealed, &mut encoded)?;
    Ok(PackDirectory::decode(&encoded)?)
}

/// Stands for the stored bytes of a frame and all that is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHash(blake3::Hash);

impl FrameHash {
    /// Of this frame, stored as these bytes.
    pub fn of(frame: &FrameEntry, stored: &[u8]) -> Self {
        Self(blake3::Hasher::new().update(&frame_data(frame)).update(stored).finalize())
    }
}

/// How it is found out that a frame expands to its chunks.
pub enum Proof {
    /// By expanding it after these plain bytes of its bases.
    Prefix(Taken<Vec<u8>>),
    /// It was expanded already, and had this hash then: if it still has it, that holds of it.
    Expanded(FrameHash),
}

/// Gives the proof for a frame with this number.
pub type ProofOf<'a> = &'a (dyn Fn(usize, &FrameEntry) -> Result<Proof, DamageReason> + Sync);

/// Opens a pack completely from the bytes that are or will be stored: every frame opens, expands to the stated
/// length, and every chunk and node has its id, or the frame is the one of which that is known. Returns what is wrong,
/// frame by frame.
pub fn verify_pack(
    keys: &Keys,
    repository: RepositoryId,
    kind: PackKind,
    stored: &[u8],
    openers: &Shelf<FrameOpener>,
    proof_of: ProofOf<'_>,
) -> Result<(OpenedPack, Vec<PackDamage>), DamageReason> {
    let pack = open_pack_directory(keys, repository, kind, stored)?;
    let places: Vec<_> = pack.directory.placed().enumerate().collect();
    let damages = places
        .into_par_iter()
        .map_init(
            || openers.take(),
            |opener, (position, (offset, frame))| {
                let start = usize::try_from(offset).map_err(|_| DamageReason::Short);
                let sealed = start.and_then(|start| {
                    stored.get(start..start + frame.stored_len as usize + TAG_LEN).ok_or(DamageReason::Short)
                });
                let opened = sealed.and_then(|sealed| {
                    let proof = proof_of(position, frame)?;
                    opener.open_and_verify(
                        &keys.ids,
                        &pack.keys.message,
                        position as u64,
                        frame,
                        sealed,
                        &proof,
                    )
                });
                opened.err().map(|reason| PackDamage { frame: Some(position as u32), reason })
            },
        )
        .flatten()
        .collect();
    Ok((pack, damages))
}

/// Opens and expands frames with buffers of its own; one per thread.
#[derive(Default)]
pub struct FrameOpener {
    expander: Expander,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

/// What must be known of a frame to open it.
pub struct SealedFrame<'a> {
    /// Its number in the pack.
    pub position: u64,
    /// How it is compressed.
    pub codec: Codec,
    /// Plain bytes in it.
    pub plain_len: u32,
    /// What is authenticated with it.
    pub additional_data: &'a [u8],
    /// Its stored bytes and their tag.
    pub sealed: &'a [u8],
    /// The plain bytes of its bases.
    pub prefix: &'a [u8],
}

/// A frame that was opened.
#[derive(Clone, Copy)]
pub struct OpenedFrame<'a> {
    /// Its bytes before sealing.
    pub stored: &'a [u8],
    /// Its chunks, end to end.
    pub plain: &'a [u8],
}

impl FrameOpener {
    /// Opens and expands a frame. Which ids its chunks have is not looked at.
    pub fn open(
        &mut self,
        key: &SealingKey,
        frame: &SealedFrame<'_>,
    ) -> Result<OpenedFrame<'_>, DamageReason> {
        let plain_len = frame.plain_len as usize;
        if frame.codec == Codec::Stored {
            open_over(key, frame.position, frame.additional_data, frame.sealed, &mut self.plain)?;
            let is_whole = self.plain.len() == plain_len;
            let opened = OpenedFrame { stored: &self.plain, plain: &self.plain };
            return if is_whole { Ok(opened) } else { Err(DamageReason::Expand) };
        }
        open_over(key, frame.position, frame.additional_data, frame.sealed, &mut self.stored)?;
        self.plain.clear();
        let expanded =
            self.expander.expand(frame.codec, &self.stored, frame.prefix, plain_len, &mut self.plain);
        expanded.map_err(|_| DamageReason::Expand)?;
        Ok(OpenedFrame { stored: &self.stored, plain: &self.plain })
    }

    /// Whether a frame that is not sealed yet expands to chunks with the ids that it names.
    pub fn verify_stored(
        &mut self,
        ids: &IdKeys,
        frame: &FrameEntry,
        stored: &[u8],
        prefix: &[u8],
    ) -> Result<(), DamageReason> {
        self.plain.clear();
        let plain_len = frame.plain_len() as usize;
        let expanded = self.expander.expand(frame.codec, stored, prefix, plain_len, &mut self.plain);
        expanded.map_err(|_| DamageReason::Expand)?;
        verify_ids(ids, frame, &self.plain)
    }

    /// Exchanges the plain bytes of the frame that was opened last for a buffer that the next one is put into.
    pub fn swap_plain(&mut self, buffer: &mut Vec<u8>) {
        std::mem::swap(&mut self.plain, buffer);
    }

    fn open_and_verify(
        &mut self,
        ids: &IdKeys,
        key: &SealingKey,
        position: u64,
        frame: &FrameEntry,
        sealed: &[u8],
        proof: &Proof,
    ) -> Result<(), DamageReason> {
        let additional_data = &frame_data(frame);
        let prefix = match proof {
            Proof::Prefix(prefix) => prefix,
            Proof::Expanded(hash) => {
                open_over(key, position, additional_data, sealed, &mut self.stored)?;
                let is_same = FrameHash::of(frame, &self.stored) == *hash;
                return if is_same { Ok(()) } else { Err(DamageReason::Altered) };
            }
        };
        let plain_len = frame.plain_len() as u32;
        let sealed_frame =
            SealedFrame { position, codec: frame.codec, plain_len, additional_data, sealed, prefix };
        verify_ids(ids, frame, self.open(key, &sealed_frame)?.plain)
    }
}

/// Opens a sealed message into a buffer, which becomes as long as that.
fn open_over(
    key: &SealingKey,
    position: u64,
    additional_data: &[u8],
    sealed: &[u8],
    into: &mut Vec<u8>,
) -> Result<(), DamageReason> {
    into.resize(sealed.len().checked_sub(TAG_LEN).ok_or(DamageReason::Short)?, 0);
    Ok(key.open_into(position, additional_data, sealed, into)?)
}

/// Whether these bytes are the chunks that a frame names.
fn verify_ids(ids: &IdKeys, frame: &FrameEntry, plain: &[u8]) -> Result<(), DamageReason> {
    let mut rest = plain;
    for chunk in &frame.chunks {
        let (bytes, after) = rest.split_at_checked(chunk.len as usize).ok_or(DamageReason::Expand)?;
        if content_id(ids, chunk.kind, bytes).prefix() != chunk.key {
            return Err(DamageReason::Id);
        }
        rest = after;
    }
    Ok(())
}

/// The id of bytes of a kind.
pub fn content_id(ids: &IdKeys, kind: ContentKind, bytes: &[u8]) -> ContentId {
    match kind {
        ContentKind::Chunk => ids.chunk(bytes).content(),
        ContentKind::Node => ids.node(bytes).content(),
        ContentKind::List => ids.list(bytes).content(),
    }
}

/// Bytes from the end of a payload that usually hold directory and tail.
const SUFFIX_LEN_USUAL: u64 = 64 << 10;

/// Reads header, tail and directory of a stored pack with ranged reads.
pub fn read_directory(repo: &Repo, kind: PackKind, id: PackId) -> Result<IndexedPack, RepoError> {
    let name = names::pack(kind, &id);
    let damaged = |source| RepoError::Damaged { name: name.to_string(), source };
    let mut head = Vec::with_capacity(HEADER_LEN);
    repo.storage().get_range(&name, ByteRange { start: 0, len: HEADER_LEN as u64 }, &mut head)?;
    let (header, commitment) = Header::decode(&head).map_err(|error| damaged(error.into()))?;
    if header.repository != repo.id || header.kind != object_kind(kind) {
        return Err(damaged(DamageReason::Kind));
    }
    let object_keys = sealing::keys_of(&repo.keys, &header, &commitment).map_err(damaged)?;
    let read_suffix = |len: u64| {
        let len = len.min(header.payload_len);
        let mut bytes = Vec::with_capacity(len as usize);
        let range = ByteRange { start: header.payload_len - len, len };
        repo.storage().get_range(&name, range, &mut bytes).map(|()| bytes)
    };
    let mut suffix = read_suffix(SUFFIX_LEN_USUAL)?;
    let suffix_len = suffix_len_of(&object_keys, header.payload_len, &suffix).map_err(damaged)?;
    if suffix_len > suffix.len() {
        suffix = read_suffix(suffix_len as u64)?;
    }
    let start = suffix.len().saturating_sub(suffix_len);
    let directory = open_suffix(&object_keys, suffix.get(start..).unwrap_or_default()).map_err(damaged)?;
    Ok(indexed_pack(id, kind, &header, directory))
}

/// What an index object says of this pack.
pub fn indexed_pack(id: PackId, kind: PackKind, header: &Header, directory: PackDirectory) -> IndexedPack {
    IndexedPack {
        id,
        kind: kind as u8,
        wrap: header.wrap as u8,
        flags: header.flags,
        generation: header.generation,
        payload_len: header.payload_len,
        salt: header.salt,
        frames: directory.frames,
    }
}

#[cfg(test)]
mod tests;
