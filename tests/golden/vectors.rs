//! Fixed bytes of every object of the format, in `vectors.txt`: encoding gives them, decoding takes them back.

use std::collections::BTreeMap;

use kluis::clock::Timestamp;
use kluis::compress::Codec;
use kluis::format::Tagged;
use kluis::format::body::Body;
use kluis::format::container::{HEADER_LEN, Header, ObjectKind, Wrap};
use kluis::format::forget::{ForgetRecord, ForgottenSnapshot};
use kluis::format::frame::{ChunkEntry, ContentKind, FrameEntry, additional_data};
use kluis::format::index_object::{IndexObject, IndexedPack};
use kluis::format::keyring::{GenerationFields, KeyringFields};
use kluis::format::lease::{LeaseStatement, SeenPlan};
use kluis::format::node::{
    DirectoryBranch, DirectoryLeaf, DirectoryPart, ListBranch, ListLeaf, ListPart, Node,
};
use kluis::format::pack::{PackDirectory, PackTail};
use kluis::format::plan::{BodyRef, Done, Plan, PruneCounts, Verdict};
use kluis::format::repository_config::{ChunkerConfig, PackConfig, RepositoryConfig};
use kluis::format::slot::{Slot, SlotHead, SlotKind};
use kluis::format::snapshot::{OwnerName, Snapshot, SnapshotProblem, Tombstone, Totals};
use kluis::format::tree::{
    ChunkRef, Content, Entry, EntryKind, Extension, Hole, SparseMap, Xattr, XattrSet, tag,
};
use kluis::format::{key_file, parity};
use kluis::id::{
    BodyId, ChunkId, ContentId, IndexObjectId, ListId, NodeId, PackId, RepositoryId, SeriesId, SlotId,
    SnapshotId,
};
use kluis::wire::{self, Bytes};

const VECTORS: &str = include_str!("vectors.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines of `name = hex`; the hex may go on in lines that begin with a blank.
fn vector(name: &str) -> String {
    let mut vectors = BTreeMap::<&str, String>::new();
    let mut last = "";
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, hex)) = line.split_once(" = ") {
            last = name;
            assert!(vectors.insert(name, hex.to_owned()).is_none(), "{name} is there twice");
        } else if !line.is_empty() {
            vectors.get_mut(last).unwrap().push_str(line.trim());
        }
    }
    vectors.remove(name).unwrap_or_default()
}

/// The bytes are the golden ones; returns them.
fn golden(name: &str, encoded: &[u8]) -> Vec<u8> {
    assert_eq!(hex(encoded), vector(name), "{name} is encoded in another way (left)");
    encoded.to_vec()
}

fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp { seconds, nanoseconds }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::from(bytes)
}

fn chunk_refs(count: u8) -> Vec<ChunkRef> {
    (1..=count).map(|n| ChunkRef { id: ChunkId::new([n; 32]), len: 1000 * u32::from(n) }).collect()
}

fn frames() -> Vec<FrameEntry> {
    let chunk = |n: u8, kind, len| ChunkEntry { key: [n; 16], kind, len };
    vec![
        FrameEntry {
            codec: Codec::Stored,
            depth: 0,
            stored_len: 300,
            bases: Vec::new(),
            chunks: vec![chunk(1, ContentKind::Chunk, 100), chunk(2, ContentKind::Chunk, 200)],
        },
        FrameEntry {
            codec: Codec::Zstd,
            depth: 0,
            stored_len: 70_000,
            bases: Vec::new(),
            chunks: vec![chunk(3, ContentKind::Chunk, 100_000)],
        },
        FrameEntry {
            codec: Codec::ZstdPrefix,
            depth: 1,
            stored_len: 20,
            bases: vec![ContentId::new([3; 32])],
            chunks: vec![chunk(4, ContentKind::Chunk, 90_000)],
        },
    ]
}

#[test]
fn a_container_header_keeps_its_bytes() {
    let header = Header {
        kind: ObjectKind::Snapshot,
        wrap: Wrap::Generation,
        flags: 3,
        repository: RepositoryId::new([0x11; 16]),
        generation: 7,
        payload_len: 0x0102_0304,
        salt: [0x22; 32],
    };
    let encoded = golden("header", &header.encode(&[0x33; 32]));
    assert_eq!(Header::decode(&encoded).unwrap(), (header, [0x33; 32]));
}

#[test]
fn a_pack_directory_and_its_tail_keep_their_bytes() {
    let directory = PackDirectory::new(frames());
    let encoded = golden("pack directory", &directory.encode().unwrap());
    assert_eq!(PackDirectory::decode(&encoded).unwrap(), directory);
    let tail = PackTail {
        directory_len: encoded.len() as u32,
        frame_count: 3,
        body_len: directory.body_len(),
        padding_len: 0,
    };
    let stored = golden("pack tail", &tail.encode());
    let payload_len = HEADER_LEN as u64 + directory.body_len() + tail.suffix_len();
    assert_eq!(PackTail::decode(stored.first_chunk().unwrap(), payload_len).unwrap(), tail);
}

#[test]
fn an_index_object_keeps_its_bytes() {
    let object = IndexObject::new(vec![IndexedPack {
        id: PackId::new([9; 32]),
        kind: 1,
        wrap: 0,
        flags: 0,
        generation: 1,
        payload_len: 80_000,
        salt: [8; 32],
        frames: frames(),
    }]);
    let encoded = golden("index object", &object.encode().unwrap());
    assert_eq!(IndexObject::decode(&encoded).unwrap(), object);
}

fn entry(name: &[u8], kind: EntryKind, content: Content) -> Entry {
    Entry {
        name: bytes(name),
        kind,
        mode: 0o4755,
        uid: 1000,
        gid: 100_000,
        mtime: time(-1, 999_999_999),
        ctime: time(1_800_000_000, 5),
        inode: 123_456,
        size: 0,
        content,
        extensions: Vec::new(),
    }
}

fn entries() -> Vec<Entry> {
    let mut entries = vec![
        entry(b"a \n\xff", EntryKind::Directory, Content::Directory(NodeId::new([1; 32]))),
        entry(b"b", EntryKind::File, Content::Chunks(chunk_refs(2))),
        entry(b"c", EntryKind::File, Content::List(ListId::new([2; 32]))),
        entry(b"d", EntryKind::File, Content::None),
        entry(b"e", EntryKind::Symlink, Content::LinkTarget(bytes(b"../somewhere"))),
        entry(b"f", EntryKind::BlockDevice, Content::Device(8, 1)),
        entry(b"g", EntryKind::CharDevice, Content::Device(1, 300)),
        entry(b"h", EntryKind::Fifo, Content::None),
        entry(b"i", EntryKind::Socket, Content::None),
    ];
    let pair = |name: &[u8], value: &[u8]| Xattr { name: bytes(name), value: bytes(value) };
    let xattrs = XattrSet { xattrs: vec![pair(b"security.x", b"\x00\x01"), pair(b"user.note", b"")] };
    let map = SparseMap { holes: vec![Hole { skip: 0, len: 4096 }, Hole { skip: 3000, len: 1 << 40 }] };
    entries[1].size = 3000;
    entries[1].set_extension(tag::SPARSE_MAP, wire::encode(&map, 100).unwrap());
    entries[1].set_extension(tag::XATTRS, wire::encode(&xattrs, 100).unwrap());
    entries[1].set_extension(tag::HARD_LINK, vec![0xac, 2]);
    entries[1].set_extension(tag::INODE_FLAGS, vec![0x40]);
    entries[3].set_extension(tag::CAPTURE_PROBLEM, b"it could not be opened".to_vec());
    entries
}

#[test]
fn the_four_kinds_of_nodes_keep_their_bytes() {
    let part = |first: &[u8], n| DirectoryPart {
        first: bytes(first),
        id: NodeId::new([n; 32]),
        entry_count: 200 + u64::from(n),
        size: 1 << 33,
    };
    let list = |n| ListPart { id: ListId::new([n; 32]), len: 1 << 30 };
    let nodes = [
        ("directory leaf", Node::DirectoryLeaf(DirectoryLeaf { entries: entries() })),
        (
            "directory branch",
            Node::DirectoryBranch(DirectoryBranch { children: vec![part(b"a", 5), part(b"m", 6)] }),
        ),
        ("list leaf", Node::ListLeaf(ListLeaf { chunks: chunk_refs(3) })),
        ("list branch", Node::ListBranch(ListBranch { children: vec![list(7), list(8)] })),
    ];
    for (name, node) in nodes {
        let encoded = golden(name, &node.encode().unwrap());
        assert_eq!(Node::decode(&encoded).unwrap(), node);
    }
}

#[test]
fn a_snapshot_and_a_tombstone_keep_their_bytes() {
    let snapshot = Snapshot {
        version: 1,
        id: SnapshotId::new([1; 16]),
        series: SeriesId::new([2; 16]),
        sequence: 300,
        previous: Some(SnapshotId::new([3; 16])),
        started_at: time(1_800_000_000, 1),
        finished_at: time(1_800_000_100, 2),
        host: "host".to_owned(),
        user: "user".to_owned(),
        name_encoding: 0,
        paths: vec![bytes(b"/etc"), bytes(b"/srv/\xff")],
        tags: vec!["nightly".to_owned()],
        root: NodeId::new([4; 32]),
        totals: Totals { files: 1, directories: 2, bytes: 3, bytes_new: 4, bytes_stored: 500 },
        problem_count: 1,
        problems: vec![SnapshotProblem { path: bytes(b"/etc/x"), message: "it vanished".to_owned() }],
        owners: vec![
            OwnerName { is_group: false, number: 0, name: "root".to_owned() },
            OwnerName { is_group: true, number: 0, name: "root".to_owned() },
        ],
        seen: Some(12),
        verified: true,
        program: "0.1.0".to_owned(),
        extensions: vec![Extension { tag: 77, value: bytes(b"kept") }],
    };
    let encoded = golden("snapshot", &snapshot.encode().unwrap());
    assert_eq!(Snapshot::decode(&encoded).unwrap(), snapshot);
    let tombstone = Tombstone {
        version: 1,
        lease: SnapshotId::new([1; 16]),
        plan: 12,
        reason: "silent for 25 hours".to_owned(),
        tag: [5; 32],
    };
    let encoded = golden("tombstone", &tombstone.encode().unwrap());
    assert_eq!(Tombstone::decode(&encoded).unwrap(), tombstone);
}

#[test]
fn a_forget_record_keeps_its_bytes() {
    let snapshot = |id, sequence| ForgottenSnapshot {
        id: SnapshotId::new([id; 16]),
        series: SeriesId::new([2; 16]),
        sequence,
    };
    let record = ForgetRecord {
        version: 1,
        forgotten_at: time(1_800_000_000, 1),
        host: "host".to_owned(),
        reason: "the disk is full".to_owned(),
        policy: "--keep-last 3".to_owned(),
        snapshots: vec![snapshot(1, 300), snapshot(4, 7)],
        extensions: vec![Extension { tag: 77, value: bytes(b"kept") }],
        tag: [5; 32],
    };
    let encoded = golden("forget record", &record.encode().unwrap());
    assert_eq!(ForgetRecord::decode(&encoded).unwrap(), record);
    golden("tagged bytes of a forget record", &record.tagged_bytes().unwrap());
}

#[test]
fn what_a_prune_decides_keeps_its_bytes() {
    let pack = |id| PackId::new([id; 32]);
    let body = Body {
        extensions: vec![Extension { tag: 77, value: bytes(b"kept") }],
        ..Body::new(vec![pack(2), pack(1)], vec![pack(3)], vec![IndexObjectId::new([4; 32])])
    };
    let encoded = golden("body", &body.encode().unwrap());
    assert_eq!(Body::decode(&encoded).unwrap(), body);
    let body = BodyRef { id: BodyId::new([6; 32]), digest: Body::digest(&encoded) };
    let counts = PruneCounts { packs: 3, index_objects: 1, bytes: 1 << 30 };
    let extensions = vec![Extension { tag: 77, value: bytes(b"kept") }];
    let plan = Plan {
        version: 1,
        number: 12,
        body,
        base: [7; 32],
        counts,
        extensions: extensions.clone(),
        tag: [8; 32],
    };
    let encoded = golden("plan", &plan.encode().unwrap());
    assert_eq!(Plan::decode(&encoded).unwrap(), plan);
    let verdict = Verdict {
        version: 1,
        number: 12,
        plan: [9; 32],
        body,
        base: [10; 32],
        counts,
        extensions: extensions.clone(),
        tag: [11; 32],
    };
    let encoded = golden("verdict", &verdict.encode().unwrap());
    assert_eq!(Verdict::decode(&encoded).unwrap(), verdict);
    let done = Done { version: 1, number: 12, verdict: [12; 32], extensions, tag: [13; 32] };
    let encoded = golden("done", &done.encode().unwrap());
    assert_eq!(Done::decode(&encoded).unwrap(), done);
}

#[test]
fn a_lease_statement_keeps_its_bytes() {
    let statement = LeaseStatement {
        version: 1,
        lease: SnapshotId::new([1; 16]),
        number: 2,
        purpose: "backup".to_owned(),
        host: "host".to_owned(),
        process: 4321,
        boot: "5f0c".to_owned(),
        started_at: time(1_800_000_000, 0),
        seen: Some(SeenPlan { number: 12, hash: [6; 32] }),
        holds: vec![PackId::new([7; 32])],
        pins: vec![SnapshotId::new([8; 16])],
        extensions: Vec::new(),
    };
    let encoded = golden("lease", &statement.encode().unwrap());
    assert_eq!(LeaseStatement::decode(&encoded).unwrap(), statement);
}

#[test]
fn both_kinds_of_slots_keep_their_bytes() {
    let passphrase = SlotKind::Passphrase { memory_kib: 262_144, passes: 3, lanes: 4 };
    for (name, kind) in [("passphrase slot", passphrase), ("key file slot", SlotKind::KeyFile)] {
        let head = SlotHead {
            version: 1,
            id: SlotId::new([1; 16]),
            kind,
            created_at: time(1_800_000_000, 0),
            label: "first".to_owned(),
            salt: [2; 32],
            commitment: [3; 32],
        };
        let slot = Slot { head, sealed: [4; 48] };
        let encoded = golden(name, &slot.encode().unwrap());
        assert_eq!(Slot::decode(&encoded).unwrap(), slot);
    }
}

#[test]
fn a_keyring_keeps_its_bytes() {
    let generation =
        |number| GenerationFields { number, content_root: [number as u8; 32], catalogue_root: [9; 32] };
    let generations = vec![generation(1), generation(2)];
    let keyring = KeyringFields { version: 1, number: 5, master: [7; 32], generations };
    let encoded = golden("keyring", &keyring.encode().unwrap());
    assert!(KeyringFields::decode(&encoded).unwrap() == keyring);
}

#[test]
fn settings_keep_their_bytes() {
    let mut settings = RepositoryConfig {
        format: 1,
        repository: RepositoryId::new([0xab; 16]).to_string(),
        number: 1,
        created: "2026-11-20T18:02:35+01:00".to_owned(),
        required: Vec::new(),
        chunker: ChunkerConfig { method: 1, bytes_min: 65_536, bytes_average: 524_288, bytes_max: 2_097_152 },
        packs: PackConfig { data_bytes: 32 << 20, meta_bytes: 8 << 20, padding: false },
        parity: true,
        copies: true,
        settle_seconds: 0,
        probes: [("create is exclusive".to_owned(), true)].into(),
        unknown: BTreeMap::new(),
        tag: String::new(),
    };
    settings.unknown.insert("later".to_owned(), "kept".into());
    let encoded = golden("settings", settings.encode(|_| [0xcd; 32]).unwrap().as_bytes());
    settings.tag = "cd".repeat(32);
    assert_eq!(RepositoryConfig::decode(&encoded).unwrap(), settings);
}

#[test]
fn a_key_file_keeps_its_bytes() {
    let secret: [u8; 32] = std::array::from_fn(|at| at as u8);
    let encoded = golden("key file", key_file::encode(&secret).as_bytes());
    assert_eq!(*key_file::decode(&encoded).unwrap(), secret);
}

#[test]
fn parity_keeps_its_bytes() {
    let mut stored: Vec<u8> = (0..300u16).map(|n| n as u8).collect();
    parity::append(&mut stored);
    golden("parity of a small payload", &stored[300..]);
    let mut large: Vec<u8> = (0..(2u32 << 20)).map(|n| (n / 7) as u8).collect();
    parity::append(&mut large);
    golden("hash of a large payload and its parity", blake3::hash(&large).as_bytes());
}

#[test]
fn what_a_frame_is_sealed_with_keeps_its_bytes() {
    let all: Vec<u8> = frames().iter().flat_map(|frame| frame.list_hash()).collect();
    golden("hashes of frames", &all);
    let last = frames().pop().unwrap();
    let data = additional_data(last.codec, last.depth, 90_000, &last.list_hash(), &last.bases);
    golden("additional data of a frame", &data);
}
