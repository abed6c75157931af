//! How fast the codecs are: chunker, hash, compression, sealing, parity. Run with `cargo bench --bench codecs`.
//!
//! `KLUIS_BENCH_TEXT` may name a folder whose files are compressed; otherwise made-up text stands in for them.

use std::hint::black_box;
use std::path::Path;

use criterion::{Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kluis::chunker::{ChunkSizes, Chunker};
use kluis::compress::{Codec, Compression, Compressor, Expander};
use kluis::crypto::{SealingKey, Secret, hedged_salt, object_keys};
use kluis::format::parity;
use kluis::hash::{IdKeys, payload_id};

const MIB: usize = 1 << 20;

/// Measures `work` on `bytes` bytes a call.
fn measure(
    criterion: &mut Criterion,
    group: &str,
    name: &str,
    bytes: usize,
    mut work: impl FnMut(&mut Bencher),
) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Bytes(bytes as u64)).sample_size(20);
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| work(bencher));
    group.finish();
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Text of at least `len` bytes, from the files below `KLUIS_BENCH_TEXT` in order of their names.
fn text(len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(folder) = std::env::var_os("KLUIS_BENCH_TEXT") {
        append_files(Path::new(&folder), len, &mut text)
            .expect("the folder named by the variable can be read");
    }
    let mut number = 0u64;
    while text.len() < len {
        number += 1;
        let line = format!("line {number}: {} of {}\n", number * number % 1009, number % 77);
        text.extend_from_slice(line.as_bytes());
    }
    text
}

fn append_files(folder: &Path, len: usize, text: &mut Vec<u8>) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let kind = entry.file_type()?;
        if text.len() >= len {
            return Ok(());
        } else if kind.is_dir() {
            append_files(&entry.path(), len, text)?;
        } else if kind.is_file() {
            text.extend(std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn chunker(criterion: &mut Criterion) {
    let bytes = noise(64 * MIB);
    let chunker = Chunker::new(&Secret::new([1; 32]), ChunkSizes::default());
    measure(criterion, "chunker", "cut", bytes.len(), |bencher| {
        bencher.iter(|| {
            let mut rest = bytes.as_slice();
            while let Some(len) = chunker.cut(rest, true) {
                rest = &rest[len..];
            }
        });
    });
}

fn hash(criterion: &mut Criterion) {
    let bytes = noise(MIB);
    let keys = IdKeys::new(&Secret::new([1; 32]));
    for (name, len) in [("120 B", 120), ("5 KB", 5000), ("1 MiB", MIB)] {
        let content = &bytes[..len];
        measure(criterion, "hash/chunk", name, len, |bencher| {
            bencher.iter(|| keys.chunk(black_box(content)));
        });
    }
    measure(criterion, "hash/payload", "1 MiB", MIB, |bencher| {
        bencher.iter(|| payload_id(black_box(&bytes)))
    });
}

fn seal(criterion: &mut Criterion) {
    let key = SealingKey::new(&Secret::new([1; 32]));
    for (name, len) in [("120 B", 120), ("5 KB", 5000), ("1 MiB", MIB)] {
        let mut buffer = noise(len);
        measure(criterion, "seal", name, len, |bencher| bencher.iter(|| key.seal(7, b"aad", &mut buffer)));
        let mut sealed = Vec::new();
        key.seal_to(7, b"aad", &buffer, &mut sealed);
        let mut opened = Vec::with_capacity(len);
        measure(criterion, "open", name, len, |bencher| {
            bencher.iter(|| {
                opened.clear();
                key.open_to(7, b"aad", &sealed, &mut opened).expect("it was sealed just now");
            });
        });
    }
    let root = Secret::new([1; 32]);
    measure(criterion, "object keys", "derive", 80, |bencher| {
        bencher.iter(|| {
            let salt = hedged_salt(&root, &[1; 32], &[2; 16], 3, &[4; 32]);
            object_keys(&root, black_box(&[salt, salt].concat()))
        });
    });
}

fn compress(criterion: &mut Criterion) {
    let text = text(64 * MIB);
    let noise = noise(64 * MIB);
    let cases = [("fast", Compression::Fast, &text), ("auto", Compression::Auto, &text)];
    for (name, compression, plain) in cases.into_iter().chain([("noise", Compression::Auto, &noise)]) {
        let mut compressor = Compressor::new(compression);
        measure(criterion, "compress", name, plain.len(), |bencher| {
            bencher.iter(|| {
                plain.chunks(MIB).for_each(|frame| _ = black_box(compressor.compress(frame)));
            });
        });
    }
    let mut compressor = Compressor::new(Compression::Auto);
    let frames: Vec<(Codec, Vec<u8>, usize)> = text
        .chunks(MIB)
        .map(|frame| {
            let (codec, stored) = compressor.compress(frame);
            (codec, stored.to_vec(), frame.len())
        })
        .collect();
    let (mut expander, mut into) = (Expander::new(), Vec::with_capacity(MIB));
    measure(criterion, "expand", "auto", text.len(), |bencher| {
        bencher.iter(|| {
            for (codec, stored, plain_len) in &frames {
                into.clear();
                expander.expand(*codec, stored, &[], *plain_len, &mut into).expect("made just now");
            }
        });
    });
}

fn parity(criterion: &mut Criterion) {
    for (name, len) in [("2 KB", 2000), ("1 MiB", MIB), ("32 MiB", 32 * MIB)] {
        let payload = noise(len);
        let mut into = Vec::new();
        measure(criterion, "parity/encode", name, len, |bencher| {
            bencher.iter(|| {
                into.clear();
                parity::encode(&payload, &mut into);
            });
        });
    }
    let payload = noise(32 * MIB);
    let mut stored = payload.clone();
    parity::encode(&payload, &mut stored);
    stored[10 * MIB..11 * MIB].fill(0);
    let hash = payload_id(&payload);
    measure(criterion, "parity/repair", "32 MiB", 32 * MIB, |bencher| {
        bencher.iter(|| parity::repair(&stored, None, &hash).expect("within the budget"));
    });
}

criterion_group!(codecs, chunker, hash, seal, compress, parity);
criterion_main!(codecs);
