//! Every maximum of the format on one page (docs/format.md, "Limits"). Encoders and decoders keep to them, so that
//! nothing hostile or damaged makes a reader allocate without bound.

/// Plain bytes of one chunk, and of one frame.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// Plain bytes of the bases of one frame together.
pub const PREFIX_BYTES_MAX: usize = 16 << 20;
/// Bases of one frame.
pub const BASE_COUNT_MAX: usize = 4096;
/// Frames that rest on frames: 0 for a frame without bases.
pub const BASE_DEPTH_MAX: u8 = 8;
/// Window of the compressor, as a power of two.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// Payload of a pack.
pub const PACK_BYTES_MAX: u64 = 128 << 20;
/// Frames in a pack.
pub const PACK_FRAME_COUNT_MAX: usize = 65_536;
/// Chunks and nodes in a pack.
pub const PACK_CHUNK_COUNT_MAX: usize = 262_144;
/// Encoded directory of a pack.
pub const PACK_DIRECTORY_BYTES_MAX: usize = 16 << 20;

/// Encoded node.
pub const NODE_BYTES_MAX: usize = 4 << 20;
/// Entries of one node.
pub const NODE_ENTRY_COUNT_MAX: usize = 8192;
/// Levels of nodes above one directory or chunk list.
pub const NODE_LEVEL_COUNT_MAX: usize = 16;
/// Name of a directory entry.
pub const NAME_BYTES_MAX: usize = 4096;
/// Target of a symbolic link.
pub const LINK_TARGET_BYTES_MAX: usize = 64 << 10;
/// Extensions of one entry, together.
pub const EXTENSIONS_BYTES_MAX: usize = 256 << 10;
/// Extended attributes of one entry.
pub const XATTR_COUNT_MAX: usize = 4096;
/// A longer extended attribute value is stored as chunks.
pub const XATTR_INLINE_BYTES_MAX: usize = 64 << 10;
/// Chunk references held in the entry itself; longer lists are nodes of their own.
pub const INLINE_CHUNK_COUNT_MAX: usize = 8;
/// Folders inside folders.
pub const DIRECTORY_DEPTH_MAX: usize = 65_535;

/// Payload of an index object.
pub const INDEX_OBJECT_BYTES_MAX: usize = 16 << 20;
/// Chunks and nodes described by one index object.
pub const INDEX_OBJECT_ENTRY_COUNT_MAX: usize = 262_144;
/// Encoded snapshot, lease, plan or verdict.
pub const SMALL_OBJECT_BYTES_MAX: usize = 1 << 20;
/// Encoded forget record.
pub const FORGET_BYTES_MAX: usize = 4 << 20;
/// Snapshots that one forget record names.
pub const FORGET_COUNT_MAX: usize = 65_536;
/// Encoded body of a plan or verdict.
pub const BODY_BYTES_MAX: usize = 64 << 20;
/// Packs and index objects that one body names.
pub const BODY_NAME_COUNT_MAX: usize = 1_000_000;
/// Settings, slot or keyring.
pub const SETTINGS_BYTES_MAX: usize = 256 << 10;
/// Users and groups whose names a snapshot keeps.
pub const OWNER_COUNT_MAX: usize = 16_384;
/// Problems that a snapshot lists one by one.
pub const PROBLEM_COUNT_MAX: usize = 100;

/// Shard of parity for payloads from 1 MiB upwards.
pub const PARITY_SHARD_BYTES: usize = 16 << 10;

const _: () = assert!(INDEX_OBJECT_ENTRY_COUNT_MAX >= PACK_CHUNK_COUNT_MAX);
const _: () = assert!(FORGET_COUNT_MAX * 42 < FORGET_BYTES_MAX);
const _: () = assert!(BODY_NAME_COUNT_MAX * 32 < BODY_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX as u64 <= PACK_BYTES_MAX);
const _: () = assert!((FRAME_BYTES_MAX + PREFIX_BYTES_MAX) as u64 <= 1 << ZSTD_WINDOW_LOG_MAX);
