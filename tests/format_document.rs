//! The hex examples of `docs/format.md`: each is decoded by the library, has the fields that the document states, and
//! is what the library encodes.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::collections::BTreeMap;

use kluis::chunker::ChunkSizes;
use kluis::clock::Timestamp;
use kluis::compress::{Compression, Compressor, Expander};
use kluis::crypto::{self, SealingKey, Secret, context};
use kluis::format::Tagged;
use kluis::format::body::Body;
use kluis::format::container::{HEADER_LEN, Header, ObjectKind, TAG_LEN, Wrap};
use kluis::format::forget::{ForgetRecord, ForgottenSnapshot};
use kluis::format::frame::{ChunkEntry, Codec, ContentKind, FrameEntry, additional_data};
use kluis::format::index_object::{DamageStatement, IndexObject, IndexedPack};
use kluis::format::keyring::{GenerationFields, KeyringFields};
use kluis::format::lease::LeaseStatement;
use kluis::format::node::{
    DirectoryBranch, DirectoryLeaf, DirectoryPart, ListBranch, ListLeaf, ListPart, Node,
};
use kluis::format::pack::{DIRECTORY_POSITION, PackDirectory, PackTail, TAIL_LEN_SEALED, TAIL_POSITION};
use kluis::format::plan::{BodyRef, Done, Plan, PruneCounts, Verdict, base_digest};
use kluis::format::repository_config::{ChunkerConfig, PackConfig, RepositoryConfig};
use kluis::format::slot::{Slot, SlotHead, SlotKind};
use kluis::format::snapshot::{
    InPlaceOf, OwnerName, Snapshot, SnapshotProblem, Tombstone, Totals, UtcOffset,
};
use kluis::format::tree::{ChunkRef, Content, Entry, EntryKind, Hole, SparseMap, tag};
use kluis::format::{key_file, parity};
use kluis::hash::{IdKeys, payload_id};
use kluis::id::{
    BodyId, ChunkId, ContentId, IndexObjectId, ListId, NodeId, PackId, RepositoryId, SeriesId, SlotId,
    SnapshotId,
};
use kluis::wire::{self, Bytes, Validate, WireError};

const REPOSITORY: RepositoryId = RepositoryId::new([7; 16]);
const LEASE: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

/// One example: the bytes that the library makes, and how it reads those of the document.
struct Example {
    name: &'static str,
    bytes: Vec<u8>,
    read: fn(&[u8]) -> Vec<(&'static str, String)>,
}

fn document() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md")).unwrap()
}

/// The fenced blocks of a kind, by name.
fn blocks(text: &str, kind: &str) -> BTreeMap<String, String> {
    let mark = format!("```{kind} name=");
    let mut found = BTreeMap::new();
    for (at, _) in text.match_indices(&mark) {
        let (name, rest) = text[at + mark.len()..].split_once('\n').unwrap();
        let (body, _) = rest.split_once("```").unwrap();
        assert!(found.insert(name.to_owned(), body.to_owned()).is_none(), "two blocks are called {name}");
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_block(bytes: &[u8]) -> String {
    let line =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ") + "\n";
    bytes.chunks(24).map(line).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// 32 bytes that count upwards from `first`.
fn counting(first: u8) -> Secret<32> {
    Secret::new(std::array::from_fn(|at| first + at as u8))
}

fn ids() -> IdKeys {
    IdKeys::new(&counting(0))
}

#[test]
fn every_example_is_what_the_library_writes_and_reads() {
    let text = document();
    let (mut hex_blocks, mut fields) = (blocks(&text, "hex"), blocks(&text, "fields"));
    let mut wrong = String::new();
    for example in examples() {
        let name = example.name;
        let Some(block) = hex_blocks.remove(name) else { panic!("the document has no example {name}") };
        let mut expected = String::new();
        if unhex(&block) == example.bytes {
            let read = (example.read)(&unhex(&block));
            expected.extend(read.iter().map(|(field, value)| format!("{field}: {value}\n")));
            let stated = fields.remove(name).unwrap_or_default();
            if stated != expected {
                wrong += &format!("```fields name={name}\n{expected}```\n");
            }
        } else {
            fields.remove(name);
            wrong += &format!("```hex name={name}\n{}```\n", hex_block(&example.bytes));
        }
    }
    assert!(wrong.is_empty(), "the document should say:\n{wrong}");
    assert!(hex_blocks.is_empty() && fields.is_empty(), "not looked at: {hex_blocks:?} {fields:?}");
}

#[test]
fn the_settings_in_the_document_are_what_the_library_writes() {
    let config_key = crypto::derive(context::CONFIG, &counting(0));
    let tag_of = |text: &[u8]| crypto::keyed_tag(&config_key, text);
    let sizes = ChunkSizes::default();
    let chunker = ChunkerConfig {
        method: 1,
        bytes_min: sizes.min() as u32,
        bytes_average: sizes.average() as u32,
        bytes_max: sizes.max() as u32,
    };
    let config = RepositoryConfig {
        format: 1,
        repository: REPOSITORY.to_string(),
        number: 1,
        created: "2026-01-01T00:00:00+00:00".to_owned(),
        required: vec![],
        chunker,
        packs: PackConfig { data_bytes: 32 << 20, meta_bytes: 8 << 20, padding: false },
        parity: true,
        copies: true,
        settle_seconds: 0,
        probes: BTreeMap::from([("created_name_is_listed".to_owned(), true)]),
        unknown: BTreeMap::new(),
        tag: String::new(),
    };
    let expected = config.encode(tag_of).unwrap();
    let stated = blocks(&document(), "json")["config"].clone();
    assert_eq!(stated, expected);
    let decoded = RepositoryConfig::decode(stated.as_bytes()).unwrap();
    assert_eq!(decoded.tag, hex(&tag_of(&decoded.tagged_text(&stated))));
}

#[test]
fn the_key_file_in_the_document_is_one() {
    let secret = std::array::from_fn(|at| at as u8 * 7);
    let text = key_file::encode(&secret);
    assert!(document().contains(text.as_str()), "the document should show:\n{}", text.as_str());
    assert_eq!(*key_file::decode(text.as_bytes()).unwrap(), secret);
}

fn examples() -> Vec<Example> {
    let gear =
        blake3::Hasher::new_keyed(crypto::derive(context::CHUNKER, &counting(0)).expose()).finalize_xof();
    let mut gear_start = vec![0; 16];
    { gear }.fill(&mut gear_start);
    let content_id = ids().chunk(b"content").bytes().to_vec();
    let chunk_key = crypto::derive(context::CHUNK_ID, &counting(0)).expose().to_vec();
    let none = |_: &[u8]| Vec::new();
    vec![
        Example { name: "moment", bytes: wire::encode(&Moment(moment()), 20).unwrap(), read: read_moment },
        Example { name: "header", bytes: header().encode(&[5; 32]).to_vec(), read: read_header },
        Example { name: "chunk-id-key", bytes: chunk_key, read: none },
        Example { name: "gear-table-start", bytes: gear_start, read: none },
        Example { name: "chunk-id", bytes: content_id, read: none },
        Example { name: "sealed-lease", bytes: sealed_lease(), read: read_sealed_lease },
        Example { name: "slot", bytes: slot(), read: read_slot },
        Example { name: "keyring", bytes: keyring().encode().unwrap().to_vec(), read: read_keyring },
        Example { name: "pack", bytes: pack(), read: read_pack },
        Example { name: "zstd-frame", bytes: zstd_frame().1, read: read_zstd_frame },
        Example { name: "zstd-prefix-frame", bytes: zstd_prefix_frame().1, read: read_zstd_prefix_frame },
        Example { name: "index-object", bytes: index_object().encode().unwrap(), read: read_index_object },
        Example {
            name: "directory-leaf",
            bytes: directory_leaf().encode().unwrap(),
            read: read_directory_leaf,
        },
        Example {
            name: "directory-branch",
            bytes: directory_branch().encode().unwrap(),
            read: read_other_node,
        },
        Example { name: "list-leaf", bytes: list_leaf().encode().unwrap(), read: read_other_node },
        Example { name: "list-branch", bytes: list_branch().encode().unwrap(), read: read_other_node },
        Example {
            name: "sparse-map",
            bytes: wire::encode(&sparse_map(), 100).unwrap(),
            read: read_sparse_map,
        },
        Example { name: "snapshot", bytes: snapshot().encode().unwrap(), read: read_snapshot },
        Example { name: "tombstone", bytes: tombstone().encode().unwrap(), read: read_tombstone },
        Example { name: "forget-record", bytes: forget_record().encode().unwrap(), read: read_forget_record },
        Example { name: "body", bytes: body().encode().unwrap(), read: read_body },
        Example { name: "plan", bytes: plan().encode().unwrap(), read: read_plan },
        Example { name: "verdict", bytes: verdict().encode().unwrap(), read: read_verdict },
        Example { name: "done", bytes: done().encode().unwrap(), read: read_done },
        Example { name: "lease", bytes: lease(1).encode().unwrap(), read: read_lease },
        Example { name: "parity", bytes: parity_of_abc(), read: read_parity },
    ]
}

#[derive(PartialEq, serde::Serialize, serde::Deserialize)]
struct Moment(Timestamp);

impl Validate for Moment {
    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}

fn moment() -> Timestamp {
    Timestamp { seconds: -1, nanoseconds: 500_000_000 }
}

fn read_moment(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let Moment(moment) = wire::decode(bytes, 20).unwrap();
    vec![("seconds", moment.seconds.to_string()), ("nanoseconds", moment.nanoseconds.to_string())]
}

fn header() -> Header {
    Header {
        kind: ObjectKind::Snapshot,
        wrap: Wrap::Generation,
        flags: 0,
        repository: REPOSITORY,
        generation: 3,
        payload_len: 4711,
        salt: [9; 32],
    }
}

fn read_header(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let (header, commitment) = Header::decode(bytes).unwrap();
    vec![
        ("kind", (header.kind as u8).to_string()),
        ("wrap", (header.wrap as u8).to_string()),
        ("flags", header.flags.to_string()),
        ("repository", header.repository.to_string()),
        ("generation", header.generation.to_string()),
        ("payload_len", header.payload_len.to_string()),
        ("salt", hex(&header.salt)),
        ("commitment", hex(&commitment)),
    ]
}

fn lease(number: u32) -> LeaseStatement {
    LeaseStatement {
        version: 1,
        lease: SnapshotId::new(LEASE),
        number,
        purpose: "backup".to_owned(),
        host: "web1".to_owned(),
        process: 4242,
        boot: "b7".to_owned(),
        started_at: Timestamp::from_seconds(1_800_000_000),
        seen: None,
        holds: vec![],
        pins: vec![],
        extensions: vec![],
    }
}

fn read_lease(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let lease = LeaseStatement::decode(bytes).unwrap();
    assert_eq!(lease.encode().unwrap(), bytes);
    vec![
        ("lease", lease.lease.to_string()),
        ("number", lease.number.to_string()),
        ("purpose", lease.purpose),
        ("host", lease.host),
        ("process", lease.process.to_string()),
        ("boot", lease.boot),
        ("started_at", lease.started_at.seconds.to_string()),
        ("seen", lease.seen.map_or("none".to_owned(), |seen| seen.number.to_string())),
        ("holds", lease.holds.len().to_string()),
    ]
}

fn lease_name() -> String {
    format!("lease/{}.0", SnapshotId::new(LEASE))
}

fn sealed_lease() -> Vec<u8> {
    let plain = lease(0).encode().unwrap();
    let header = Header {
        kind: ObjectKind::Lease,
        generation: 1,
        payload_len: (HEADER_LEN + plain.len() + TAG_LEN) as u64,
        ..header()
    };
    let keys = crypto::object_keys(&counting(0x20), &header.derived_bytes());
    let mut payload = header.encode(&keys.commitment).to_vec();
    keys.message.seal_to(0, lease_name().as_bytes(), &plain, &mut payload);
    payload
}

fn read_sealed_lease(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let (header, commitment) = Header::decode(bytes).unwrap();
    let keys = crypto::object_keys(&counting(0x20), &bytes[..80]);
    assert!(crypto::commitment_matches(&keys.commitment, &commitment));
    let mut plain = Vec::new();
    keys.message.open_to(0, lease_name().as_bytes(), &bytes[HEADER_LEN..], &mut plain).unwrap();
    assert_eq!(LeaseStatement::decode(&plain).unwrap(), lease(0));
    vec![
        ("kind", (header.kind as u8).to_string()),
        ("generation", header.generation.to_string()),
        ("payload_len", header.payload_len.to_string()),
        ("plain_len", plain.len().to_string()),
    ]
}

fn slot_key() -> SealingKey {
    SealingKey::new(&Secret::new([0x50; 32]))
}

fn slot() -> Vec<u8> {
    let head = SlotHead {
        version: 1,
        id: SlotId::new([1; 16]),
        kind: SlotKind::Passphrase { memory_kib: 256 << 10, passes: 3, lanes: 4 },
        created_at: Timestamp::from_seconds(5),
        label: "office".to_owned(),
        salt: [2; 32],
        commitment: [3; 32],
    };
    let aad = [head.encode().unwrap(), REPOSITORY.bytes().to_vec()].concat();
    let mut sealed = Vec::new();
    slot_key().seal_to(0, &aad, &[0x60; 32], &mut sealed);
    Slot { head, sealed: sealed.try_into().unwrap() }.encode().unwrap()
}

fn read_slot(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let Slot { head, sealed } = Slot::decode(bytes).unwrap();
    let aad = [head.encode().unwrap(), REPOSITORY.bytes().to_vec()].concat();
    let mut unlock_key = Vec::new();
    slot_key().open_to(0, &aad, &sealed, &mut unlock_key).unwrap();
    let kind = match head.kind {
        SlotKind::Passphrase { memory_kib, passes, lanes } => {
            format!("passphrase, {memory_kib} KiB, {passes} passes, {lanes} lanes")
        }
        SlotKind::KeyFile => "key file".to_owned(),
    };
    vec![
        ("version", head.version.to_string()),
        ("id", head.id.to_string()),
        ("kind", kind),
        ("created_at", head.created_at.seconds.to_string()),
        ("label", head.label),
        ("unlock_key", hex(&unlock_key)),
    ]
}

fn keyring() -> KeyringFields {
    let roots = |first| *counting(first).expose();
    let generation = GenerationFields { number: 1, content_root: roots(0x40), catalogue_root: roots(0x20) };
    KeyringFields { version: 1, number: 1, master: roots(0), generations: vec![generation] }
}

fn read_keyring(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let keyring = KeyringFields::decode(bytes).unwrap();
    vec![
        ("version", keyring.version.to_string()),
        ("number", keyring.number.to_string()),
        ("master", hex(&keyring.master)),
        ("generations", keyring.generations.len().to_string()),
    ]
}

fn frame_of_two() -> FrameEntry {
    let chunk = |bytes: &[u8]| ChunkEntry {
        key: ids().chunk(bytes).content().prefix(),
        kind: ContentKind::Chunk,
        len: bytes.len() as u32,
    };
    let chunks = vec![chunk(b"hello"), chunk(b"world")];
    FrameEntry { codec: Codec::Stored, depth: 0, stored_len: 10, bases: vec![], chunks }
}

fn frame_data(frame: &FrameEntry) -> Vec<u8> {
    additional_data(frame.codec, frame.depth, frame.plain_len() as u32, &frame.list_hash(), &frame.bases)
}

fn pack() -> Vec<u8> {
    let directory = PackDirectory::new(vec![frame_of_two()]);
    let encoded = directory.encode().unwrap();
    let tail = PackTail {
        directory_len: encoded.len() as u32,
        frame_count: 1,
        body_len: directory.body_len(),
        padding_len: 0,
    };
    let header = Header {
        kind: ObjectKind::DataPack,
        generation: 1,
        payload_len: HEADER_LEN as u64 + tail.body_len + tail.suffix_len(),
        ..header()
    };
    let keys = crypto::object_keys(&counting(0x40), &header.derived_bytes());
    let mut payload = header.encode(&keys.commitment).to_vec();
    keys.message.seal_to(0, &frame_data(&frame_of_two()), b"helloworld", &mut payload);
    keys.directory.seal_to(DIRECTORY_POSITION, &[], &encoded, &mut payload);
    keys.directory.seal_to(TAIL_POSITION, &[], &tail.encode(), &mut payload);
    assert_eq!(payload.len() as u64, header.payload_len);
    payload
}

fn read_pack(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let (header, commitment) = Header::decode(bytes).unwrap();
    let keys = crypto::object_keys(&counting(0x40), &bytes[..80]);
    assert!(crypto::commitment_matches(&keys.commitment, &commitment));
    let (rest, sealed_tail) = bytes.split_at(bytes.len() - TAIL_LEN_SEALED);
    let mut tail = Vec::new();
    keys.directory.open_to(TAIL_POSITION, &[], sealed_tail, &mut tail).unwrap();
    let tail = PackTail::decode(tail.as_slice().try_into().unwrap(), header.payload_len).unwrap();
    let sealed_directory = &rest[rest.len() - tail.directory_len as usize - TAG_LEN..];
    let mut directory = Vec::new();
    keys.directory.open_to(DIRECTORY_POSITION, &[], sealed_directory, &mut directory).unwrap();
    let directory = PackDirectory::decode(&directory).unwrap();
    let (offset, frame) = directory.placed().next().unwrap();
    let sealed = &bytes[offset as usize..][..frame.stored_len as usize + TAG_LEN];
    let mut plain = Vec::new();
    keys.message.open_to(0, &frame_data(frame), sealed, &mut plain).unwrap();
    assert_eq!(*frame, frame_of_two());
    vec![
        ("kind", (header.kind as u8).to_string()),
        ("frames", tail.frame_count.to_string()),
        ("codec", frame.codec.number().to_string()),
        ("depth", frame.depth.to_string()),
        ("stored_len", frame.stored_len.to_string()),
        ("chunks", frame.chunks.len().to_string()),
        ("list_hash", hex(&frame.list_hash())),
        ("body_len", tail.body_len.to_string()),
        ("directory_len", tail.directory_len.to_string()),
        ("plain", String::from_utf8(plain).unwrap()),
        ("id", hex(&payload_id(bytes))),
    ]
}

fn fox(end: &str) -> String {
    "the quick brown fox ".repeat(10) + end
}

fn zstd_frame() -> (Codec, Vec<u8>) {
    let mut compressor = Compressor::new(Compression::Auto);
    let plain = fox("");
    let (codec, stored) = compressor.compress(plain.as_bytes());
    (codec, stored.to_vec())
}

fn zstd_prefix_frame() -> (Codec, Vec<u8>) {
    let (prefix, plain) = (fox(""), fox("dog"));
    let mut compressor = Compressor::new(Compression::Auto);
    let (codec, stored) = compressor.compress_against(plain.as_bytes(), prefix.as_bytes());
    (codec, stored.to_vec())
}

fn read_zstd_frame(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let mut plain = Vec::new();
    Expander::new().expand(Codec::Zstd, bytes, &[], fox("").len(), &mut plain).unwrap();
    assert_eq!((plain, zstd_frame().0), (fox("").into_bytes(), Codec::Zstd));
    Vec::new()
}

fn read_zstd_prefix_frame(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let (prefix, expected) = (fox(""), fox("dog"));
    let mut plain = Vec::new();
    let mut expander = Expander::new();
    expander.expand(Codec::ZstdPrefix, bytes, prefix.as_bytes(), expected.len(), &mut plain).unwrap();
    assert_eq!((plain, zstd_prefix_frame().0), (expected.into_bytes(), Codec::ZstdPrefix));
    Vec::new()
}

fn index_object() -> IndexObject {
    let chunk = ChunkEntry { key: [0x31; 16], kind: ContentKind::Node, len: 300 };
    let frame = FrameEntry {
        codec: Codec::ZstdPrefix,
        depth: 1,
        stored_len: 130,
        bases: vec![ContentId::new([0x32; 32])],
        chunks: vec![chunk],
    };
    let damage = DamageStatement { pack: PackId::new([0x30; 32]), number: 1, frames: vec![0, 3] };
    let object = IndexObject::new(vec![IndexedPack {
        id: PackId::new([0x30; 32]),
        kind: 2,
        wrap: 0,
        flags: 0,
        generation: 1,
        payload_len: 400,
        salt: [9; 32],
        frames: vec![frame],
    }]);
    object.with_damage(vec![damage]).unwrap()
}

fn read_index_object(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let object = IndexObject::decode(bytes).unwrap();
    let pack = &object.packs[0];
    let damage = object.damage().unwrap();
    vec![
        ("packs", object.packs.len().to_string()),
        ("id", pack.id.to_string()),
        ("kind", pack.kind.to_string()),
        ("wrap", pack.wrap.to_string()),
        ("flags", pack.flags.to_string()),
        ("generation", pack.generation.to_string()),
        ("payload_len", pack.payload_len.to_string()),
        ("frames", pack.frames.len().to_string()),
        ("bases", pack.frames[0].bases.len().to_string()),
        ("damage", format!("statement {}, frames {:?}", damage[0].number, damage[0].frames)),
    ]
}

fn entry(name: &str, kind: EntryKind, content: Content) -> Entry {
    Entry {
        name: Bytes::from(name.as_bytes()),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::from_seconds(1_800_000_000),
        ctime: Timestamp::from_seconds(1_800_000_001),
        inode: 77,
        size: 0,
        content,
        extensions: vec![],
    }
}

fn directory_leaf() -> Node {
    let chunk = ChunkRef { id: ChunkId::new([3; 32]), len: 5 };
    let mut hosts = Entry { size: 5, ..entry("hosts", EntryKind::File, Content::Chunks(vec![chunk])) };
    hosts.set_extension(tag::INODE_FLAGS, vec![0x10]);
    let target = Content::LinkTarget(Bytes::from(&b"hosts"[..]));
    let link = Entry { mode: 0o777, inode: 78, ..entry("link", EntryKind::Symlink, target) };
    Node::DirectoryLeaf(DirectoryLeaf { entries: vec![hosts, link] })
}

fn read_directory_leaf(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let Ok(Node::DirectoryLeaf(leaf)) = Node::decode(bytes) else { panic!("it is no directory leaf") };
    let text = |bytes: &Bytes| String::from_utf8(bytes.as_slice().to_vec()).unwrap();
    let [hosts, link] = leaf.entries.as_slice() else { panic!("there are not two entries") };
    let Content::Chunks(chunks) = &hosts.content else { panic!("it has no chunks") };
    let Content::LinkTarget(target) = &link.content else { panic!("it has no target") };
    let Entry { name, mode, uid, gid, size, extensions, .. } = hosts;
    let (name, chunks, extensions) = (text(name), chunks.len(), extensions.len());
    let hosts = format!(
        "file {name:?} mode {mode:o} uid {uid} gid {gid} size {size} chunks {chunks} extensions {extensions}"
    );
    let link = format!("link {:?} target {:?}", text(&link.name), text(target));
    vec![("entries", leaf.entries.len().to_string()), ("0", hosts), ("1", link)]
}

fn directory_branch() -> Node {
    let part = |first: &str, id, entry_count| DirectoryPart {
        first: Bytes::from(first.as_bytes()),
        id: NodeId::new([id; 32]),
        entry_count,
        size: 1 << 20,
    };
    Node::DirectoryBranch(DirectoryBranch { children: vec![part("a", 1, 1000), part("m", 2, 500)] })
}

fn list_leaf() -> Node {
    Node::ListLeaf(ListLeaf { chunks: vec![ChunkRef { id: ChunkId::new([3; 32]), len: 1 << 20 }] })
}

fn list_branch() -> Node {
    Node::ListBranch(ListBranch { children: vec![ListPart { id: ListId::new([4; 32]), len: 1 << 32 }] })
}

fn read_other_node(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let node = Node::decode(bytes).unwrap();
    assert_eq!(node.encode().unwrap(), bytes);
    let fields = match node {
        Node::DirectoryLeaf(_) => panic!("it is a leaf"),
        Node::DirectoryBranch(branch) => {
            let part = |part: &DirectoryPart| {
                let first = String::from_utf8_lossy(part.first.as_slice());
                format!("{first:?} {} entries, {} bytes", part.entry_count, part.size)
            };
            branch.children.iter().map(part).collect::<Vec<_>>().join("; ")
        }
        Node::ListLeaf(leaf) => leaf.chunks.iter().map(|chunk| chunk.len.to_string()).collect(),
        Node::ListBranch(branch) => branch.children.iter().map(|part| part.len.to_string()).collect(),
    };
    vec![("parts", fields)]
}

fn sparse_map() -> SparseMap {
    SparseMap { holes: vec![Hole { skip: 0, len: 1 << 20 }, Hole { skip: 4096, len: 64 << 10 }] }
}

fn read_sparse_map(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let map: SparseMap = wire::decode(bytes, 100).unwrap();
    let holes = map.holes.iter().map(|hole| format!("{}+{}", hole.skip, hole.len));
    vec![("holes", holes.collect::<Vec<_>>().join(", "))]
}

fn snapshot() -> Snapshot {
    let paths = vec![Bytes::from(&b"/etc"[..])];
    let owner = |is_group| OwnerName { is_group, number: 0, name: "root".to_owned() };
    let problem = SnapshotProblem { path: Bytes::from(&b"/etc/shadow"[..]), message: "refused".to_owned() };
    let mut snapshot = Snapshot {
        version: 1,
        id: SnapshotId::new(LEASE),
        series: series_of("web1", &paths),
        sequence: 2,
        previous: Some(SnapshotId::new([0x11; 16])),
        started_at: Timestamp::from_seconds(1_800_000_000),
        finished_at: Timestamp::from_seconds(1_800_000_009),
        host: "web1".to_owned(),
        user: "root".to_owned(),
        name_encoding: 0,
        paths,
        tags: vec!["daily".to_owned()],
        root: NodeId::new([0x21; 32]),
        totals: Totals { files: 12, directories: 3, bytes: 4567, bytes_new: 100, bytes_stored: 80 },
        problem_count: 1,
        problems: vec![problem],
        owners: vec![owner(false), owner(true)],
        seen: None,
        verified: true,
        program: "0.1.0".to_owned(),
        extensions: vec![],
    };
    snapshot.set_utc_offset(UtcOffset { seconds: 3600 }).unwrap();
    snapshot.set_in_place_of(InPlaceOf { snapshot: SnapshotId::new([0x11; 16]), sequence: 1 }).unwrap();
    snapshot
}

fn series_of(host: &str, paths: &[Bytes]) -> SeriesId {
    kluis::repo::series_of(host, paths)
}

fn read_snapshot(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let snapshot = Snapshot::decode(bytes).unwrap();
    assert_eq!(snapshot.encode().unwrap(), bytes);
    let text = |bytes: &Bytes| String::from_utf8(bytes.as_slice().to_vec()).unwrap();
    let kind = |owner: &OwnerName| if owner.is_group { "group" } else { "user" };
    let owner = |owner: &OwnerName| format!("{} {} {}", kind(owner), owner.number, owner.name);
    let Totals { files, directories, bytes, bytes_new, bytes_stored } = snapshot.totals;
    let offset = snapshot.utc_offset().unwrap().seconds.to_string();
    let in_place_of = snapshot.in_place_of().unwrap();
    let in_place_of = format!("{} number {}", in_place_of.snapshot, in_place_of.sequence);
    vec![
        ("id", snapshot.id.to_string()),
        ("series", snapshot.series.to_string()),
        ("sequence", snapshot.sequence.to_string()),
        ("previous", snapshot.previous.map_or("none".to_owned(), |id| id.to_string())),
        ("host", snapshot.host),
        ("user", snapshot.user),
        ("paths", snapshot.paths.iter().map(text).collect::<Vec<_>>().join(", ")),
        ("tags", snapshot.tags.join(", ")),
        ("totals", format!("{files} {directories} {bytes} {bytes_new} {bytes_stored}")),
        ("problems", format!("{} of {}", snapshot.problems.len(), snapshot.problem_count)),
        ("owners", snapshot.owners.iter().map(owner).collect::<Vec<_>>().join(", ")),
        ("verified", snapshot.verified.to_string()),
        ("utc_offset", offset),
        ("in_place_of", in_place_of),
    ]
}

/// Puts the tag on an object that the document describes: the admin key, over its kind and its fields.
fn tagged<T: Tagged>(mut object: T) -> T {
    let encoded = object.encode().unwrap();
    let admin = crypto::derive(context::ADMIN, &counting(0));
    let message = [&[T::KIND as u8], &encoded[..encoded.len() - 32]].concat();
    object.set_tag(crypto::keyed_tag(&admin, &message));
    object
}

fn tombstone() -> Tombstone {
    let lease = SnapshotId::new(LEASE);
    tagged(Tombstone { version: 1, lease, plan: 7, reason: "silent".to_owned(), tag: [0; 32] })
}

fn read_tombstone(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let tombstone = Tombstone::decode(bytes).unwrap();
    vec![
        ("lease", tombstone.lease.to_string()),
        ("plan", tombstone.plan.to_string()),
        ("reason", tombstone.reason),
    ]
}

fn forget_record() -> ForgetRecord {
    let snapshot = snapshot();
    tagged(ForgetRecord {
        version: 1,
        forgotten_at: Timestamp::from_seconds(1_800_000_000),
        host: "web1".to_owned(),
        reason: "moved away".to_owned(),
        policy: "--keep-last 3".to_owned(),
        snapshots: vec![ForgottenSnapshot {
            id: snapshot.id,
            series: snapshot.series,
            sequence: snapshot.sequence,
        }],
        extensions: Vec::new(),
        tag: [0; 32],
    })
}

fn read_forget_record(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let record = ForgetRecord::decode(bytes).unwrap();
    assert_eq!(record.encode().unwrap(), bytes);
    let snapshots = record.snapshots.iter();
    let snapshots = snapshots.map(|one| format!("{} number {} of {}", one.id, one.sequence, one.series));
    vec![
        ("forgotten_at", record.forgotten_at.seconds.to_string()),
        ("host", record.host.clone()),
        ("reason", record.reason.clone()),
        ("policy", record.policy.clone()),
        ("snapshots", snapshots.collect::<Vec<_>>().join(", ")),
    ]
}

fn body() -> Body {
    let pack = |byte| PackId::new([byte; 32]);
    Body::new(vec![pack(1), pack(2)], vec![pack(3)], vec![IndexObjectId::new([4; 32])])
}

fn read_body(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let body = Body::decode(bytes).unwrap();
    assert_eq!(body.encode().unwrap(), bytes);
    vec![
        ("data_packs", body.data_packs.len().to_string()),
        ("meta_packs", body.meta_packs.len().to_string()),
        ("index_objects", body.index_objects.len().to_string()),
    ]
}

fn body_ref() -> BodyRef {
    BodyRef { id: BodyId::new([0x55; 32]), digest: Body::digest(&body().encode().unwrap()) }
}

const COUNTS: PruneCounts = PruneCounts { packs: 3, index_objects: 1, bytes: 80 << 20 };

fn plan() -> Plan {
    tagged(Plan {
        version: 1,
        number: 7,
        body: body_ref(),
        base: base_digest(&[SnapshotId::new(LEASE)].into()),
        counts: COUNTS,
        extensions: Vec::new(),
        tag: [0; 32],
    })
}

fn counts_text(counts: PruneCounts) -> String {
    let PruneCounts { packs, index_objects, bytes } = counts;
    format!("{packs} packs, {index_objects} index objects, {bytes} bytes")
}

fn read_plan(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let plan = Plan::decode(bytes).unwrap();
    vec![
        ("number", plan.number.to_string()),
        ("body", plan.body.id.to_string()),
        ("digest", hex(&plan.body.digest)),
        ("base", hex(&plan.base)),
        ("counts", counts_text(plan.counts)),
    ]
}

fn verdict() -> Verdict {
    let Plan { version, number, body, base, counts, extensions, tag } = plan();
    tagged(Verdict { version, number, plan: [0x66; 32], body, base, counts, extensions, tag })
}

fn read_verdict(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let verdict = Verdict::decode(bytes).unwrap();
    vec![
        ("number", verdict.number.to_string()),
        ("plan", hex(&verdict.plan)),
        ("body", verdict.body.id.to_string()),
        ("counts", counts_text(verdict.counts)),
    ]
}

fn done() -> Done {
    tagged(Done { version: 1, number: 7, verdict: [0x77; 32], extensions: Vec::new(), tag: [0; 32] })
}

fn read_done(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let done = Done::decode(bytes).unwrap();
    vec![("number", done.number.to_string()), ("verdict", hex(&done.verdict))]
}

fn parity_of_abc() -> Vec<u8> {
    let mut bytes = Vec::new();
    parity::encode(b"abc", &mut bytes);
    bytes
}

fn read_parity(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let mut stored = b"xyz".to_vec();
    stored.extend_from_slice(bytes);
    assert_eq!(parity::repair(&stored, Some(3), &payload_id(b"abc")).unwrap(), b"abc");
    let shape = parity::geometry(3);
    vec![
        ("shard_len", shape.shard_len.to_string()),
        ("data_shards", shape.data_shards.to_string()),
        ("parity_shards", shape.parity_shards.to_string()),
        ("parity_len", shape.parity_len().to_string()),
    ]
}
