//! Trees: nodes into bytes and back, and a folder of 100,000 entries on its way in and out. Run with
//! `cargo bench --bench trees`.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

#[path = "shared/repository.rs"]
mod repository;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kluis::clock::Timestamp;
use kluis::format::node::{DirectoryLeaf, ListLeaf, Node};
use kluis::format::tree::{ChunkRef, Content, Entry, EntryKind, tag};
use kluis::id::{ChunkId, NodeId, SnapshotId};
use kluis::index::PackKind;
use kluis::repo::{ChunkWriter, DirectoryWriter, Repo, TreeReader, TreeWriter, WriterOptions};
use kluis::wire::Bytes;

/// Entries of a large folder.
const ENTRY_COUNT: u32 = 100_000;
/// A node ends after so many on average.
const NODE_ENTRY_COUNT: u32 = 1000;

fn chunk(number: u32) -> ChunkRef {
    ChunkRef { id: ChunkId::new(*blake3::hash(&number.to_le_bytes()).as_bytes()), len: 9000 + number % 5000 }
}

/// A file with one chunk, as most are; every hundredth carries an extension.
fn entry(number: u32) -> Entry {
    let time = |shift: i64| Timestamp {
        seconds: 1_790_000_000 + i64::from(number) * 37 + shift,
        nanoseconds: number.wrapping_mul(48_271) % 1_000_000_000,
    };
    let mut entry = Entry {
        name: Bytes::from(format!("file-{number:06}.txt").as_bytes()),
        kind: EntryKind::File,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: time(0),
        ctime: time(5),
        inode: 5_000_000 + u64::from(number),
        size: u64::from(chunk(number).len),
        content: Content::Chunks(vec![chunk(number)]),
        extensions: Vec::new(),
    };
    if number.is_multiple_of(100) {
        entry.set_extension(tag::INODE_FLAGS, vec![0x10]);
    }
    entry
}

fn nodes(criterion: &mut Criterion) {
    let leaf = DirectoryLeaf { entries: (0..NODE_ENTRY_COUNT).map(entry).collect() };
    let list = ListLeaf { chunks: (0..NODE_ENTRY_COUNT).map(chunk).collect() };
    let mut group = criterion.benchmark_group("node");
    group.throughput(Throughput::Elements(u64::from(NODE_ENTRY_COUNT)));
    for (name, node) in [("folder", Node::DirectoryLeaf(leaf)), ("list", Node::ListLeaf(list))] {
        let bytes = node.encode().unwrap();
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| black_box(&node).encode().unwrap());
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| Node::decode(black_box(&bytes)).unwrap());
        });
    }
    group.finish();
}

fn write(repo: &Arc<Repo>, entries: Vec<Entry>) -> NodeId {
    let (view, ..) = repo.writer_view(&std::collections::HashSet::new()).unwrap();
    let options = WriterOptions::default();
    let writer = ChunkWriter::start(repo, SnapshotId::new([1; 16]), Arc::new(view), options);
    let mut tree = TreeWriter::new(writer.frame_writer(PackKind::Meta), writer.split_key());
    let mut folder = DirectoryWriter::default();
    entries.into_iter().for_each(|entry| folder.push(entry, &mut tree).unwrap());
    let written = folder.finish(&mut tree).unwrap();
    tree.finish().unwrap();
    writer.finish().unwrap();
    written.id
}

fn folder(criterion: &mut Criterion) {
    let entries: Vec<_> = (0..ENTRY_COUNT).map(entry).collect();
    let mut group = criterion.benchmark_group("folder of 100,000");
    group.throughput(Throughput::Elements(u64::from(ENTRY_COUNT))).sample_size(10);
    group.bench_function("write", |bencher| {
        bencher.iter_batched(
            || {
                let cache = tempfile::tempdir().unwrap();
                (repository::new_repository(cache.path()), entries.clone(), cache)
            },
            |(repo, entries, _cache)| write(&repo, entries),
            BatchSize::PerIteration,
        );
    });
    let cache = tempfile::tempdir().unwrap();
    let repo = repository::new_repository(cache.path());
    let id = write(&repo, entries);
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
            assert_eq!(reader.directory(id).map(Result::unwrap).count(), ENTRY_COUNT as usize);
        });
    });
    group.bench_function("find", |bencher| {
        let reader = TreeReader::new(Arc::new(repo.chunk_reader().unwrap()));
        bencher.iter(|| reader.find(id, b"file-077777.txt").unwrap().unwrap());
    });
    group.finish();
}

criterion_group!(benches, nodes, folder);
criterion_main!(benches);
