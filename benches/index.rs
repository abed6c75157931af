//! The index: adding index objects, and asking for chunks that are there and that are not.
//!
//! With `INDEX_REPORT=<places>` set, it instead fills one index with so many places, in index objects of the largest
//! size, and prints what the whole took: time, bytes on disk for each place, time of a lookup, and memory.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use std::hint::black_box;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use kluis::id::{IndexObjectId, PackId, RepositoryId};
use kluis::index::{FrameRow, Index, IndexView, NewPack, NewPlace, PackKind, PackRow};
use kluis::limits::INDEX_OBJECT_ENTRY_COUNT_MAX;

const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);
const CHUNKS_PER_FRAME: u64 = 10;
const CHUNKS_PER_PACK: u64 = 4000;

/// Sixteen bytes that look like a keyed hash.
fn key(number: u64) -> [u8; 16] {
    let mixed = |seed: u64| {
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let high = mixed(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
    let number = u128::from(high) << 64 | u128::from(mixed(high.wrapping_add(number)));
    number.to_be_bytes()
}

fn pack(first: u64, count: u64) -> NewPack {
    let mut id = [0; 32];
    id[..16].copy_from_slice(&key(!first));
    let frame_count = count.div_ceil(CHUNKS_PER_FRAME) as u32;
    let frame = |number: u32| FrameRow {
        offset: number * 8000,
        stored_len: 8000,
        plain_len: 40_000,
        codec: 1,
        depth: 0,
        list_hash: key(u64::from(number)),
        bases: Vec::new(),
    };
    let place = |at: u64| NewPlace {
        key: key(first + at),
        frame: (at / CHUNKS_PER_FRAME) as u16,
        start: (at % CHUNKS_PER_FRAME) as u32 * 4000,
        len: 4000,
    };
    let row = PackRow {
        id: PackId::new(id),
        kind: PackKind::Data,
        payload_len: 32 << 20,
        wrap: 0,
        flags: 0,
        generation: 1,
        salt: id,
        frame_count,
        chunk_count: count as u32,
    };
    NewPack { row, frames: (0..frame_count).map(frame).collect(), places: (0..count).map(place).collect() }
}

/// The packs of an index object that holds these chunks.
fn packs(first: u64, count: u64) -> Vec<NewPack> {
    let starts = (0..count).step_by(CHUNKS_PER_PACK as usize);
    starts.map(|at| pack(first + at, CHUNKS_PER_PACK.min(count - at))).collect()
}

fn object_id(first: u64) -> IndexObjectId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&first.to_be_bytes());
    IndexObjectId::new(id)
}

/// Asks for ids all over the key space; says how many were found.
fn lookups(view: &IndexView, numbers: std::ops::Range<u64>, count: u64) -> usize {
    let len = numbers.end - numbers.start;
    let number = |at: u64| numbers.start + u64::from_be_bytes(*key(at ^ 0x5555).first_chunk().unwrap()) % len;
    (0..count).filter(|at| !view.lookup(black_box(&key(number(*at)))).unwrap().is_empty()).count()
}

fn benchmark(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    criterion.bench_function("index: add 100,000 chunks to an empty index", |bencher| {
        bencher.iter_batched(
            || (Index::delete(&path), packs(0, 100_000)).1,
            |packs| Index::open(&path, REPOSITORY).unwrap().add_index_object(object_id(0), packs).unwrap(),
            BatchSize::PerIteration,
        );
    });
    let index = Index::open(&path, REPOSITORY).unwrap();
    let view = index.view().unwrap();
    criterion.bench_function("index: 1,000 lookups of chunks that are there", |bencher| {
        bencher.iter(|| assert_eq!(lookups(&view, 0..100_000, 1000), 1000));
    });
    criterion.bench_function("index: 1,000 lookups of chunks that are not there", |bencher| {
        bencher.iter(|| assert_eq!(lookups(&view, 200_000..300_000, 1000), 0));
    });
}

/// Time that this process has computed. Unlike the time that has passed, it hardly depends on what else runs.
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Runs `work` and prints what it took, for each of `count`.
fn timed<T>(what: &str, count: u32, work: impl FnOnce() -> T) -> T {
    let (start, computed_before) = (Instant::now(), computed());
    let result = work();
    let (passed, computed) = (start.elapsed(), computed() - computed_before);
    println!("  {what:<11}{:.2?}, of it {:.2?} computing", passed / count, computed / count);
    result
}

fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
        / 1024
}

fn print_size(path: &Path, count: u64) {
    let metadata = std::fs::metadata(path).unwrap();
    let per_place = |bytes: u64| bytes as f64 / count as f64;
    println!("  on disk    {:.1} bytes a place", per_place(metadata.blocks() * 512));
    println!("  file size  {:.1} bytes a place", per_place(metadata.len()));
}

fn report(total: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let index = Index::open(&path, REPOSITORY).unwrap();
    let per_object = INDEX_OBJECT_ENTRY_COUNT_MAX as u64;
    println!("{total} places in index objects of {per_object}");
    let (mut passed, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let mut computing = Duration::ZERO;
    for first in (0..total).step_by(per_object as usize) {
        let packs = packs(first, per_object.min(total - first));
        let (start, computed_before) = (Instant::now(), computed());
        index.add_index_object(object_id(first), packs).unwrap();
        passed += start.elapsed();
        computing += computed() - computed_before;
        slowest = slowest.max(start.elapsed());
    }
    println!("  added in   {passed:.2?}, of it {computing:.2?} computing; the slowest in {slowest:.2?}");
    println!("  memory     {} MiB at the most", peak_memory_mib());
    print_size(&path, total);
    timed("closed in", 1, || drop(index));
    print_size(&path, total);
    let index = timed("opened in", 1, || Index::open(&path, REPOSITORY).unwrap());
    let view = timed("view in", 1, || index.view().unwrap());
    for (what, numbers) in [("hit in", 0..total), ("miss in", total..2 * total)] {
        for _ in 0..2 {
            let count = 500_000;
            let found = timed(what, count, || lookups(&view, numbers.clone(), u64::from(count)));
            assert_eq!(found, if what == "hit in" { count as usize } else { 0 });
        }
    }
    let mut visited = 0;
    timed("visited in", 1, || view.visit_places(&mut |_, _| visited += 1).unwrap());
    assert_eq!(visited, total);
    println!("  memory     {} MiB at the most", peak_memory_mib());
    for first in [3 * total, 4 * total] {
        let packs = packs(first, 1000);
        timed("1,000 more", 1, || index.add_index_object(object_id(first), packs).unwrap());
    }
    drop(view);
    timed("closed in", 1, || drop(index));
    print_size(&path, total);
}

fn main() {
    match std::env::var("INDEX_REPORT").ok().and_then(|count| count.parse().ok()) {
        Some(total) => report(total),
        None => {
            let mut criterion = Criterion::default().configure_from_args();
            benchmark(&mut criterion);
            criterion.final_summary();
        }
    }
}
