//! Reference counts: the first snapshot, one in which a hundredth has changed, forgetting it, and proving that what
//! nobody needs is not needed.
//!
//! With `COUNTS_REPORT=<chunks>` set, it instead does all of that once and prints what it took: time that passed, time
//! computed, bytes on disk for each chunk, and memory.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use kluis::id::{ContentId, IndexObjectId, PackId, RepositoryId, SnapshotId};
use kluis::index::counts::{ChildId, Durable};
use kluis::index::{FrameRow, Index, NewPack, NewPlace, PackKind, PackRow};

const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);
const CHUNKS_PER_FRAME: u64 = 200;
const CHUNKS_PER_PACK: u64 = 4000;
const CHUNKS_PER_FOLDER: u64 = 16;
const FOLDERS_PER_FOLDER: u64 = 25;
/// One folder in so many has changed in the second tree, and all chunks in it are new.
const CHANGED_SHARE: u64 = 100;

/// Thirty-two bytes that look like a keyed hash.
fn id(number: u64) -> ContentId {
    let mixed = |seed: u64| {
        let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut bytes = [0; 32];
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    for part in bytes.chunks_exact_mut(8) {
        word = mixed(word.wrapping_add(number));
        part.copy_from_slice(&word.to_be_bytes());
    }
    ContentId::new(bytes)
}

/// Two trees: chunks are numbered from 0, and nodes from far above.
struct Trees {
    chunk_count: u64,
}

/// A node: level 0 holds chunks, level 1 folders, and level 2 is the root.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    level: u8,
    at: u64,
    is_second: bool,
}

impl Node {
    /// Its number among all ids.
    fn number(self) -> u64 {
        1 << 50 | u64::from(self.level) << 41 | u64::from(self.is_second) << 40 | self.at
    }

    fn of_number(number: u64) -> Self {
        Self {
            level: (number >> 41 & 3) as u8,
            at: number & 0xff_ffff_ffff,
            is_second: number >> 40 & 1 == 1,
        }
    }
}

impl Trees {
    fn count_of(&self, level: u8) -> u64 {
        let folders = self.chunk_count.div_ceil(CHUNKS_PER_FOLDER);
        match level {
            0 => folders,
            1 => folders.div_ceil(FOLDERS_PER_FOLDER),
            _ => 1,
        }
    }

    /// Whether the second tree has a node of its own here.
    fn is_changed(&self, level: u8, at: u64) -> bool {
        match level {
            0 => at.is_multiple_of(CHANGED_SHARE),
            1 => (at * FOLDERS_PER_FOLDER..(at + 1) * FOLDERS_PER_FOLDER).any(|at| self.is_changed(0, at)),
            _ => true,
        }
    }

    fn node(&self, level: u8, at: u64, is_second: bool) -> Node {
        Node { level, at, is_second: is_second && self.is_changed(level, at) }
    }

    fn children(&self, node: Node) -> Vec<u64> {
        let below = |per: u64, end: u64| node.at * per..((node.at + 1) * per).min(end);
        let nodes = |range: std::ops::Range<u64>, level| {
            range.map(|at| self.node(level, at, node.is_second).number()).collect()
        };
        match node.level {
            0 => below(CHUNKS_PER_FOLDER, self.chunk_count)
                .map(|chunk| if node.is_second { chunk | 1 << 40 } else { chunk })
                .collect(),
            1 => nodes(below(FOLDERS_PER_FOLDER, self.count_of(0)), 0),
            _ => nodes(0..self.count_of(1), 1),
        }
    }

    /// Everything of one tree that the other does not have: chunks, and nodes, leaves first.
    fn own(&self, is_second: bool) -> (Vec<u64>, Vec<u64>) {
        let mut chunks = Vec::new();
        let mut nodes = Vec::new();
        for level in 0..3 {
            for at in 0..self.count_of(level) {
                let node = Node { level, at, is_second };
                if !is_second || self.is_changed(level, at) {
                    if level == 0 {
                        chunks.extend(self.children(node));
                    }
                    nodes.push(node.number());
                }
            }
        }
        (chunks, nodes)
    }
}

fn pack(kind: PackKind, numbers: &[u64]) -> NewPack {
    let first = numbers.first().copied().unwrap_or_default();
    let pack_id = *id(!first).bytes();
    let frame_count = (numbers.len() as u64).div_ceil(CHUNKS_PER_FRAME) as u32;
    let frame = |number: u32| FrameRow {
        offset: number * 80_000,
        stored_len: 80_000,
        plain_len: 800_000,
        codec: 1,
        depth: 0,
        list_hash: [7; 16],
        bases: Vec::new(),
    };
    let place = |(at, number): (u64, &u64)| NewPlace {
        key: id(*number).prefix(),
        frame: (at / CHUNKS_PER_FRAME) as u16,
        start: (at % CHUNKS_PER_FRAME) as u32 * 4000,
        len: 4000,
    };
    let row = PackRow {
        id: PackId::new(pack_id),
        kind,
        payload_len: 32 << 20,
        wrap: 0,
        flags: 0,
        generation: 1,
        salt: pack_id,
        frame_count,
        chunk_count: numbers.len() as u32,
    };
    NewPack {
        row,
        frames: (0..frame_count).map(frame).collect(),
        places: (0..).zip(numbers).map(place).collect(),
    }
}

fn add(index: &Index, (chunks, nodes): (Vec<u64>, Vec<u64>)) {
    let packs = |kind, numbers: &[u64]| -> Vec<NewPack> {
        numbers.chunks(CHUNKS_PER_PACK as usize).map(|numbers| pack(kind, numbers)).collect()
    };
    let mut all = packs(PackKind::Data, &chunks);
    all.extend(packs(PackKind::Meta, &nodes));
    for packs in all.chunks(64) {
        let name = *packs.first().unwrap().row.id.bytes();
        index.add_index_object(IndexObjectId::new(name), packs.to_vec()).unwrap();
    }
}

fn child(number: u64) -> ChildId {
    let is_node = number >= 1 << 50;
    ChildId { id: id(number), node: is_node.then_some(0) }
}

fn snapshot(is_second: bool) -> SnapshotId {
    SnapshotId::new([u8::from(is_second); 16])
}

/// Counts a tree. What nodes refer to is known beforehand, so that reading them costs nothing.
fn apply(index: &Index, trees: &Trees, is_second: bool) {
    let root = Node { level: 2, at: 0, is_second };
    let mut counting = index.begin_counting().unwrap();
    counting.apply_root(snapshot(is_second), child(root.number())).unwrap();
    let numbers = std::cell::RefCell::new(std::collections::HashMap::from([(id(root.number()), root)]));
    loop {
        let nodes = counting.nodes_to_read(1024);
        if nodes.is_empty() {
            break;
        }
        for node in nodes {
            let which = numbers.borrow_mut().remove(&node.id).unwrap();
            let children: Vec<_> = trees
                .children(which)
                .into_iter()
                .map(|number| {
                    let child = child(number);
                    if child.node.is_some() {
                        numbers.borrow_mut().insert(child.id, Node::of_number(number));
                    }
                    (child, counting.view().lookup(&child.id.prefix()).unwrap())
                })
                .collect();
            counting.add_children(&node, &children).unwrap();
        }
    }
    counting.commit(Durable::Now).unwrap();
}

fn release(index: &Index, is_second: bool) {
    let mut counting = index.begin_counting().unwrap();
    counting.release_root(snapshot(is_second)).unwrap();
    counting.commit(Durable::Now).unwrap();
}

/// An index that knows both trees and counts the first.
fn counted(path: &Path, trees: &Trees) -> Index {
    Index::delete(path).unwrap();
    let index = Index::open(path, REPOSITORY).unwrap();
    add(&index, trees.own(false));
    index.make_counts().unwrap();
    apply(&index, trees, false);
    add(&index, trees.own(true));
    index
}

fn benchmark(criterion: &mut Criterion) {
    let trees = Trees { chunk_count: 100_000 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let mut group = criterion.benchmark_group("counts");
    group.sample_size(10);
    group.bench_function("first snapshot of 100,000 chunks", |bencher| {
        bencher.iter_batched(
            || {
                Index::delete(&path).unwrap();
                let index = Index::open(&path, REPOSITORY).unwrap();
                add(&index, trees.own(false));
                index
            },
            |index| {
                index.make_counts().unwrap();
                apply(&index, &trees, false);
            },
            BatchSize::PerIteration,
        );
    });
    let index = counted(&path, &trees);
    group.bench_function("a snapshot in which a hundredth has changed, and forgetting it", |bencher| {
        bencher.iter(|| {
            apply(&index, &trees, true);
            release(&index, true);
        });
    });
    group.bench_function("mark", |bencher| bencher.iter(|| index.mark().unwrap().count()));
    group.bench_function("confirm", |bencher| {
        bencher.iter(|| assert!(index.confirm_dead().unwrap().is_empty()))
    });
}

/// Time that this process has computed. Unlike the time that has passed, it hardly depends on what else runs.
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes that this process has asked the system to read.
fn read_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or(0)
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (start, computed_before, read_before) = (Instant::now(), computed(), read_bytes());
    let result = work();
    let (passed, computed, read) =
        (start.elapsed(), computed() - computed_before, read_bytes() - read_before);
    println!("  {what:<30}{passed:>9.2?}, of it {computed:>9.2?} computing, {:>8} KiB read", read >> 10);
    result
}

fn disk_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
        / 1024
}

fn report(chunk_count: u64) {
    let trees = Trees { chunk_count };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let open = || Index::open(&path, REPOSITORY).unwrap();
    let index = open();
    println!("{chunk_count} chunks, {} folders", trees.count_of(0) + trees.count_of(1) + 1);
    add(&index, trees.own(false));
    drop(index);
    let before = disk_bytes(&path);
    let index = open();
    timed("numbering", || index.make_counts().unwrap());
    timed("first snapshot", || apply(&index, &trees, false));
    let edge_bytes = index.edge_bytes().unwrap();
    timed("closing", || drop(index));
    let after = disk_bytes(&path);
    let index = timed("opening", open);
    timed("new packs of 1 %", || add(&index, trees.own(true)));
    timed("a view", || index.view().map(drop).unwrap());
    timed("1 % changed: apply", || apply(&index, &trees, true));
    timed("the same: release", || release(&index, true));
    timed("the same: confirm", || assert!(index.confirm_dead().unwrap().is_empty()));
    timed("packs with dead bytes", || println!("  {}", index.packs_with_dead_bytes().unwrap().len()));
    let live = timed("mark", || index.mark().unwrap().count());
    println!("  {live} are reachable");
    apply(&index, &trees, true);
    timed("unique bytes of it", || index.unique_bytes(&[snapshot(true)]).unwrap());
    timed("release of the first", || release(&index, false));
    println!("  {:.1} bytes of edges a chunk", edge_bytes as f64 / chunk_count as f64);
    let of_counts = after.saturating_sub(before) as f64 / chunk_count as f64;
    println!("  {before} bytes on disk without counts, {after} with: {of_counts:.1} a chunk");
    println!("  {} MiB peak", peak_memory_mib());
}

fn main() {
    match std::env::var("COUNTS_REPORT").ok().and_then(|count| count.parse().ok()) {
        Some(count) => report(count),
        None => {
            let mut criterion = Criterion::default().configure_from_args();
            benchmark(&mut criterion);
            criterion.final_summary();
        }
    }
}
