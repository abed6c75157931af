//! Random histories: backups over a line that goes wrong at random. Each ends well or fails cleanly, and in the end
//! everything that was reported is there.
//!
//! `KLUIS_TEST_HISTORIES` says how many, `KLUIS_TEST_SEED` with which number they begin; a failure names its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kluis::backup::{self, BackupOptions};
use kluis::check::{self, CheckOptions, DataPart};
use kluis::chunker::ChunkSizes;
use kluis::clock::SystemClock;
use kluis::crypto::{KdfParams, Secret};
use kluis::event::{Silent, with_causes};
use kluis::prune::{self, PruneOptions};
use kluis::repo::{Identity, InitOptions, Repo, RepoError, Surroundings, UnlockSecret};
use kluis::storage::{CachedStorage, S3Storage, Storage};

use crate::proxy::{Fault, Proxy};
use crate::stores;

#[path = "../shared/noise.rs"]
mod noise;

const HISTORY_COUNT: u64 = 200;
/// They wait most of the time.
const THREAD_COUNT: u64 = 8;

/// A small generator: equal seeds give equal histories, as far as threads allow.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }
}

fn a_fault(chance: &mut Chance) -> Fault {
    match chance.below(11) {
        0 => Fault::CutBefore,
        1 => Fault::CutWithin,
        2 => Fault::AnswerLost,
        3 => Fault::AnswerCut,
        4 => Fault::Status(500),
        5 => Fault::Status(503),
        6 => Fault::Status(409),
        7 => Fault::StatusAfter(500),
        8 => Fault::StatusAfter(503),
        9 => Fault::Silence,
        _ => Fault::Delay(3),
    }
}

fn number_of(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn whatever_the_line_does_backups_succeed_or_fail_cleanly_and_the_next_one_continues() {
    let Some(address) = std::env::var(stores::RADOS).ok().or_else(|| stores::address(stores::MOTO)) else {
        return;
    };
    let first = number_of("KLUIS_TEST_SEED", 1);
    let next = AtomicU64::new(first);
    let end = first + number_of("KLUIS_TEST_HISTORIES", HISTORY_COUNT);
    let (failed, faults) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREAD_COUNT {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = history(&address, seed);
                    failed.fetch_add(outcome.failed, Ordering::Relaxed);
                    faults.fetch_add(outcome.faults, Ordering::Relaxed);
                }
            });
        }
    });
    let (failed, faults) = (failed.into_inner(), faults.into_inner());
    println!("{} histories, {faults} faults, {failed} operations failed", end - first);
    // Otherwise nothing was tried.
    assert!(faults > end - first);
    assert!(end - first < 50 || failed > 0);
}

struct Outcome {
    failed: u64,
    faults: u64,
}

struct World {
    seed: u64,
    proxy: Proxy,
    source: tempfile::TempDir,
    cache: tempfile::TempDir,
    prefix: String,
}

impl World {
    /// What a new process sees: a storage without any memory.
    fn storage(&self) -> Arc<dyn Storage> {
        let mut options = stores::options(&self.proxy.address);
        options.prefix.clone_from(&self.prefix);
        if self.proxy.is_faulty() {
            options.patience.total = Duration::from_millis(60);
            options.patience.pause = Duration::from_millis(1);
            options.patience.pause_max = Duration::from_millis(5);
            options.patience.stall = Duration::from_millis(150);
        }
        let storage = Arc::new(S3Storage::new(&options).unwrap());
        match self.seed % 2 {
            0 => storage,
            _ => Arc::new(CachedStorage::new(storage, self.cache.path().join("copies"), 1 << 30)),
        }
    }

    fn surroundings(&self) -> Surroundings {
        let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
        let (storage, cache) = (self.storage(), self.cache.path().to_owned());
        Surroundings { storage, cache, clock: Arc::new(SystemClock), identity }
    }

    fn open(&self) -> Result<Arc<Repo>, RepoError> {
        Repo::open(self.surroundings(), &key()).map(Arc::new)
    }

    /// A backup of what the source is now: the snapshot, or why there is none.
    fn back_up(&self) -> Result<String, String> {
        let repo = self.open().map_err(|error| with_causes(&error))?;
        let options = BackupOptions {
            sources: vec![self.source.path().to_owned()],
            threads: 1,
            ..BackupOptions::default()
        };
        let report = backup::run(&repo, &options, &Silent::default()).map_err(|error| with_causes(&error))?;
        assert!(report.problems.is_empty(), "seed {}: {:?}", self.seed, report.problems);
        Ok(report.snapshot_id.expect("a backup without errors makes a snapshot"))
    }

    fn prune(&self) -> Result<(), String> {
        let repo = self.open().map_err(|error| with_causes(&error))?;
        let options = PruneOptions { exclusive: true, confirmed: true, ..PruneOptions::default() };
        prune::run(&repo, &options, &Silent::default()).map(drop).map_err(|error| with_causes(&error))
    }

    fn change(&self, chance: &mut Chance) {
        for _ in 0..1 + chance.below(3) {
            let path = self.source.path().join(format!("file-{}", chance.below(4)));
            let len = 1 + chance.below(60_000) as usize;
            std::fs::write(path, noise::noise(len, chance.next())).unwrap();
        }
    }
}

fn key() -> UnlockSecret {
    UnlockSecret::KeyFile(Secret::new([7; 32]))
}

fn history(address: &str, seed: u64) -> Outcome {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let world = World {
        seed,
        proxy: Proxy::start(address),
        source: tempfile::tempdir().unwrap(),
        cache: tempfile::tempdir().unwrap(),
        prefix: stores::unused_prefix(),
    };
    let init = InitOptions {
        chunk_sizes: ChunkSizes::new(4096, 16 << 10, 64 << 10).unwrap(),
        pack_bytes: 64 << 10,
        kdf: KdfParams::MIN,
        ..InitOptions::default()
    };
    Repo::init(world.surroundings(), &init, &key()).unwrap();
    let mut reported = BTreeMap::new();
    let mut failed = 0;
    for round in 0..3 {
        world.change(&mut chance);
        let (percent, own) = (3 + chance.below(40), Mutex::new(Chance(chance.next() | 1)));
        world.proxy.set(move |_, _| {
            let mut own = own.lock().unwrap();
            (own.below(100) < percent).then(|| a_fault(&mut own))
        });
        let outcome = match chance.below(4) {
            0 => world.prune().map(|()| None),
            _ => world.back_up().map(Some),
        };
        match outcome {
            Ok(Some(id)) => drop(reported.insert(id, round)),
            Ok(None) => {}
            Err(_) => failed += 1,
        }
    }
    world.proxy.behave();
    let last = world.back_up().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    reported.insert(last, 3);
    world.prune().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert_whole(&world, &reported);
    Outcome { failed, faults: world.proxy.fault_count() }
}

/// Every snapshot that was reported is there, and every byte of it.
fn assert_whole(world: &World, reported: &BTreeMap<String, i32>) {
    let seed = world.seed;
    let repo = Repo::open(world_without_cache(world), &key()).map(Arc::new).unwrap();
    let list = repo.snapshots().unwrap();
    assert!(list.damaged.is_empty(), "seed {seed}: {:?}", list.damaged);
    for (id, round) in reported {
        let is_there = list.snapshots.iter().any(|snapshot| snapshot.id.to_string() == *id);
        assert!(is_there, "seed {seed}: snapshot {id} of round {round} is gone");
    }
    let options = CheckOptions { directories: true, data: Some(DataPart::All) };
    let report = check::run(&repo, &options, &Silent::default()).unwrap();
    assert!(!report.has_damage(), "seed {seed}: {:?}", report.findings);
}

fn world_without_cache(world: &World) -> Surroundings {
    let mut options = stores::options(&world.proxy.address);
    options.prefix.clone_from(&world.prefix);
    let fresh: &Path = &world.cache.path().join("fresh");
    let storage: Arc<dyn Storage> = Arc::new(S3Storage::new(&options).unwrap());
    Surroundings { storage, cache: fresh.to_owned(), ..world.surroundings() }
}
