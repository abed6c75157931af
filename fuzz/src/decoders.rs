//! Decoders of `format`: they never panic, what they accept encodes to the same bytes, and values that keep the rules
//! survive.

use std::fmt::Debug;

use kluis::format::body::Body;
use kluis::format::container::Header;
use kluis::format::forget::ForgetRecord;
use kluis::format::frame::{FrameEntry, additional_data};
use kluis::format::index_object::IndexObject;
use kluis::format::key_file as key_text;
use kluis::format::keyring::KeyringFields;
use kluis::format::lease::LeaseStatement;
use kluis::format::node::{ListBranch, Node, NodeBody};
use kluis::format::pack::{PackDirectory, PackTail, TAIL_LEN};
use kluis::format::plan::{Done, Plan, Verdict};
use kluis::format::repository_config::RepositoryConfig;
use kluis::format::slot::Slot;
use kluis::format::snapshot::{Snapshot, Tombstone};
use kluis::format::tree::{Entry, SparseMap, XattrSet};
use kluis::format::{FormatError, Tagged};
use kluis::limits;
use kluis::wire::{self, Validate};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shaped::{self, Shape};

/// What was accepted encodes to the very bytes, or to fewer where varints were longer than they need to be, which
/// readers may accept and writers must not write.
fn same_bytes(bytes: &[u8], again: &[u8]) {
    assert!(again.len() <= bytes.len(), "what was decoded has grown");
    assert!(again.len() < bytes.len() || again == bytes, "what was decoded has other bytes");
}

fn round<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    encode: impl Fn(&T) -> Result<Vec<u8>, FormatError>,
) -> Option<T> {
    let value = decode(bytes).ok()?;
    let again = encode(&value).expect("what was decoded can be encoded");
    same_bytes(bytes, &again);
    assert_eq!(decode(&again).as_ref(), Ok(&value));
    Some(value)
}

/// As [`round`], and the same for the value that the bytes are read as with all rules bent to hold.
fn round_and_shaped<T: PartialEq + Debug + DeserializeOwned + Shape>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    encode: impl Fn(&T) -> Result<Vec<u8>, FormatError>,
) -> Option<T> {
    if let Some(value) = shaped::read::<T>(bytes) {
        let encoded = encode(&value).expect("a value that keeps all rules can be encoded");
        assert_eq!(decode(&encoded).as_ref(), Ok(&value));
    }
    round(bytes, decode, encode)
}

/// Bodies of prune decisions.
pub fn body(data: &[u8]) {
    round_and_shaped(data, Body::decode, Body::encode);
}

/// Forget records.
pub fn forget(data: &[u8]) {
    tagged(round_and_shaped(data, ForgetRecord::decode, ForgetRecord::encode));
}

/// Prune plans.
pub fn plan(data: &[u8]) {
    tagged(round_and_shaped(data, Plan::decode, Plan::encode));
}

/// Prune verdicts.
pub fn verdict(data: &[u8]) {
    tagged(round_and_shaped(data, Verdict::decode, Verdict::encode));
}

/// Ends of prunes.
pub fn done(data: &[u8]) {
    tagged(round_and_shaped(data, Done::decode, Done::encode));
}

/// Tombstones.
pub fn tombstone(data: &[u8]) {
    tagged(round_and_shaped(data, Tombstone::decode, Tombstone::encode));
}

/// What is tagged does not depend on the tag.
fn tagged<T: Tagged>(value: Option<T>) {
    let Some(mut value) = value else { return };
    let before = value.tagged_bytes().expect("what was decoded can be encoded");
    value.set_tag([0x5a; 32]);
    assert_eq!(value.tagged_bytes().expect("another tag changes no rule"), before);
}

/// Statements of leases.
pub fn lease(data: &[u8]) {
    round_and_shaped(data, LeaseStatement::decode, LeaseStatement::encode);
}

/// Snapshots and their extensions.
pub fn snapshot(data: &[u8]) {
    let Some(mut snapshot) = round_and_shaped(data, Snapshot::decode, Snapshot::encode) else { return };
    let offset = snapshot.utc_offset();
    if let Some(offset) = offset {
        snapshot.set_utc_offset(offset).expect("what was read can be set");
        assert_eq!(snapshot.utc_offset(), Some(offset));
    }
    assert!(snapshot.in_place_of().is_some() || snapshot.left_of().is_some() || snapshot.place() > 0);
}

/// Nodes of all four kinds.
pub fn node(data: &[u8]) {
    round(data, Node::decode, Node::encode);
    let Some((kind, body)) = data.split_first() else { return };
    let node = match kind % 4 {
        0 => shaped::read(body).map(Node::DirectoryLeaf),
        1 => shaped::read(body).map(Node::DirectoryBranch),
        2 => shaped::read(body).map(Node::ListLeaf),
        _ => shaped::read(body).map(Node::ListBranch),
    };
    if let Some(node) = node {
        let encoded = node.encode().expect("a node that keeps all rules can be encoded");
        assert_eq!(Node::decode(&encoded), Ok(node));
    }
}

/// Branches of chunk lists, whose lengths must add up.
pub fn list_branch(data: &[u8]) {
    let Some(branch) = shaped::read::<ListBranch>(data) else { return };
    let encoded = branch.encode().expect("a branch that keeps all rules can be encoded");
    assert!(Node::is_branch(&encoded));
    assert_eq!(Node::decode(&encoded), Ok(Node::ListBranch(branch)));
}

/// Directories of packs.
pub fn pack_directory(data: &[u8]) {
    let Some(directory) = round(data, PackDirectory::decode, PackDirectory::encode) else { return };
    let ends = directory.placed().map(|(offset, frame)| offset + PackDirectory::sealed_len(frame));
    assert!(ends.is_sorted());
    assert!(directory.body_len() <= limits::PACK_BYTES_MAX);
}

/// Tails of packs, with the length of the payload before them.
pub fn pack_tail(data: &[u8]) {
    let Some((len, rest)) = data.split_first_chunk::<8>() else { return };
    let Some(bytes) = rest.first_chunk::<TAIL_LEN>() else { return };
    let payload_len = u64::from_le_bytes(*len);
    // The length that fits is found as well as any other.
    let stated = u64::from_le_bytes(std::array::from_fn(|at| bytes[8 + at]));
    let number = |from: usize| u64::from(u32::from_le_bytes(std::array::from_fn(|at| bytes[from + at])));
    let fitting = stated.wrapping_add(number(0)).wrapping_add(number(16)).wrapping_add(112 + 16 + 64);
    for len in [payload_len, fitting] {
        if let Ok(tail) = PackTail::decode(bytes, len) {
            assert_eq!(tail.encode(), *bytes);
            assert!(tail.suffix_len() <= len);
        }
    }
}

/// Single frames of a directory.
pub fn frame(data: &[u8]) {
    plain::<FrameEntry>(data, limits::PACK_DIRECTORY_BYTES_MAX);
    let Some(frame) = shaped::read::<FrameEntry>(data) else { return };
    let plain_len = u32::try_from(frame.plain_len()).expect("a frame has at most 16 MiB");
    let data = additional_data(frame.codec, frame.depth, plain_len, &frame.list_hash(), &frame.bases);
    assert_eq!(data.len(), 22 + 32 * frame.bases.len());
    let directory = PackDirectory::new(vec![frame]);
    let encoded = directory.encode().expect("a frame that keeps all rules can be encoded");
    assert_eq!(PackDirectory::decode(&encoded), Ok(directory));
}

/// Parts of nodes that have bytes of their own: entries, extended attributes, holes.
pub fn tree(data: &[u8]) {
    plain::<Entry>(data, limits::NODE_BYTES_MAX);
    plain::<XattrSet>(data, limits::EXTENSIONS_BYTES_MAX);
    if let Some(map) = plain::<SparseMap>(data, limits::EXTENSIONS_BYTES_MAX) {
        assert!(map.hole_bytes().is_some(), "a valid map ends below 2^64");
    }
}

fn plain<T: DeserializeOwned + Serialize + Validate + PartialEq + Debug>(
    data: &[u8],
    max: usize,
) -> Option<T> {
    let value: T = wire::decode(data, max).ok()?;
    let again = wire::encode(&value, max).expect("what was decoded can be encoded");
    same_bytes(data, &again);
    assert_eq!(wire::decode(&again, max).as_ref(), Ok(&value));
    Some(value)
}

/// Index objects and their statements about damage.
pub fn index_object(data: &[u8]) {
    let Some(object) = round(data, IndexObject::decode, IndexObject::encode) else { return };
    let said = object.damage().expect("it was read when the object was decoded");
    let again = object.with_damage(said.clone()).expect("what was read can be stated");
    assert_eq!(again.damage(), Ok(said));
    assert!(IndexObject::count_that_fits(&again.packs) >= again.packs.len().min(1));
}

/// Clear headers of containers.
pub fn container(data: &[u8]) {
    if let Ok((header, commitment)) = Header::decode(data) {
        let encoded = header.encode(&commitment);
        assert!(data.starts_with(&encoded));
        assert_eq!(Header::decode(&encoded), Ok((header, commitment)));
    }
}

/// Slots. The checksum is mended, because no fuzzer guesses it.
pub fn slot(data: &[u8]) {
    let mut mended = data.to_vec();
    mended.extend(blake3::hash(data).as_bytes().iter().take(8));
    for bytes in [data, &mended] {
        round(bytes, Slot::decode, Slot::encode);
    }
}

/// Opened keyrings.
pub fn keyring(data: &[u8]) {
    if let Ok(keyring) = KeyringFields::decode(data) {
        let again = keyring.encode().expect("what was decoded can be encoded");
        same_bytes(data, &again);
        assert!(KeyringFields::decode(&again).is_ok_and(|again| again == keyring));
    }
}

/// Key files.
pub fn key_file(data: &[u8]) {
    if let Ok(secret) = key_text::decode(data) {
        let text = key_text::encode(&secret);
        assert!(key_text::decode(text.as_bytes()).is_ok_and(|again| *again == *secret));
    }
    if let Some(secret) = data.first_chunk::<32>() {
        let text = key_text::encode(secret);
        assert!(key_text::decode(text.as_bytes()).is_ok_and(|again| *again == *secret));
    }
}

/// Settings of a repository.
pub fn repository_config(data: &[u8]) {
    let Ok(config) = RepositoryConfig::decode(data) else { return };
    let tag_of = |text: &[u8]| *blake3::hash(text).as_bytes();
    let text = config.encode(tag_of).expect("what was decoded can be encoded");
    let again = RepositoryConfig::decode(text.as_bytes());
    // Written with indentation, settings may become longer than a reader accepts.
    let Ok(again) = again else {
        assert!(text.len() > limits::SETTINGS_BYTES_MAX, "settings that were written are refused");
        return;
    };
    assert_eq!(RepositoryConfig { tag: config.tag.clone(), ..again.clone() }, config);
    assert_eq!(again.encode(tag_of).as_deref(), Ok(text.as_str()));
}
