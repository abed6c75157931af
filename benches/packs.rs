//! Packs: chunks into frames, sealed, verified and stored in memory; and back. Run with `cargo bench --bench packs`.
//!
//! All of it is done by one thread beside the two that seal and store, as one worker of a backup does it.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

#[path = "shared/repository.rs"]
mod repository;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kluis::id::SnapshotId;
use kluis::index::{PackKind, PackNumber};
use kluis::repo::{ChunkWriter, FRAME_BYTES_TARGET_DATA, PackVerifier, Repo, WriterOptions};

const MIB: usize = 1 << 20;
/// Several packs.
const BYTES: usize = 96 * MIB;
/// Files of a source tree are about as long.
const CHUNK_BYTES: usize = 16 << 10;

/// Does not compress.
fn noise() -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Compresses to about a fifth, and no two stretches are the same.
fn text() -> Vec<u8> {
    let mut text = Vec::with_capacity(BYTES + 100);
    let mut number = 0u64;
    while text.len() < BYTES {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let line =
            format!("static int field_{} = {}; /* of {} */\n", number >> 50, number >> 40, number % 77);
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(BYTES);
    text
}

/// Stores all bytes as chunks, a frame at a time.
fn write(repo: &Arc<Repo>, bytes: &[u8], verify: bool) {
    let (view, ..) = repo.writer_view(&std::collections::HashSet::new()).unwrap();
    let options = WriterOptions { verify, ..WriterOptions::default() };
    let writer = ChunkWriter::start(repo, SnapshotId::new([1; 16]), Arc::new(view), options);
    let mut frames = writer.frame_writer(PackKind::Data);
    for batch in bytes.chunks(FRAME_BYTES_TARGET_DATA) {
        let lens: Vec<_> = batch.chunks(CHUNK_BYTES).map(<[u8]>::len).collect();
        frames.begin();
        black_box(frames.put_chunks(batch, &lens).unwrap());
        frames.finish().unwrap();
    }
    drop(frames);
    writer.finish().unwrap();
}

fn store(criterion: &mut Criterion, name: &str, bytes: &[u8]) {
    let mut group = criterion.benchmark_group("pack/store");
    group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(10);
    for (kind, verify) in [("verified", true), ("unverified", false)] {
        group.bench_function(BenchmarkId::new(kind, name), |bencher| {
            bencher.iter_batched(
                || {
                    let cache = tempfile::tempdir().unwrap();
                    (repository::new_repository(cache.path()), cache)
                },
                |(repo, _cache)| write(&repo, bytes, verify),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// The time that `work` takes, so often.
fn timed(rounds: u64, mut work: impl FnMut()) -> Duration {
    let begun = Instant::now();
    (0..rounds).for_each(|_| work());
    begun.elapsed()
}

fn read(criterion: &mut Criterion, name: &str, bytes: &[u8]) {
    let cache = tempfile::tempdir().unwrap();
    let repo = repository::new_repository(cache.path());
    write(&repo, bytes, false);
    let reader = Arc::new(repo.chunk_reader().unwrap());
    let packs = repo.list_packs().unwrap().packs;
    let mut frames: Vec<(PackNumber, Vec<u16>)> = Vec::new();
    let view = repo.sync_index().unwrap();
    view.visit_packs(&mut |number, row| frames.push((number, (0..row.frame_count as u16).collect())))
        .unwrap();
    let mut group = criterion.benchmark_group("pack/read");
    group.throughput(Throughput::Bytes(bytes.len() as u64)).sample_size(10);
    group.bench_function(BenchmarkId::new("open", name), |bencher| {
        bencher.iter_custom(|rounds| {
            timed(rounds, || {
                for (pack, frames) in &frames {
                    let visit = &mut |_, opened: Result<&[u8], _>| _ = black_box(opened.unwrap().len());
                    reader.read_frames(*pack, frames, visit).unwrap();
                }
            })
        });
    });
    let mut verifier = PackVerifier::new(Arc::clone(&reader));
    group.bench_function(BenchmarkId::new("verify", name), |bencher| {
        bencher.iter(|| {
            for ((kind, id), len) in &packs {
                let verdict = verifier.verify(*kind, *id, *len).unwrap().unwrap();
                assert!(verdict.payload.is_ok() && verdict.damaged_frames.is_some_and(|bad| bad.is_empty()));
            }
        });
    });
    group.bench_function(BenchmarkId::new("directories", name), |bencher| {
        bencher.iter(|| {
            for (kind, id) in packs.keys() {
                black_box(repo.read_pack_directory(*kind, *id).unwrap());
            }
        });
    });
    group.finish();
}

fn packs(criterion: &mut Criterion) {
    for (name, bytes) in [("text", text()), ("noise", noise())] {
        store(criterion, name, &bytes);
        read(criterion, name, &bytes);
    }
}

criterion_group!(benches, packs);
criterion_main!(benches);
