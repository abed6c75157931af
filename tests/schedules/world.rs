//! Sources that share content, and repositories in which something has happened already.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kluis::backup::{self, BackupError, BackupOptions, BackupReport};
use kluis::clock::{Clock, Timestamp};
use kluis::compress::Compression;
use kluis::crypto::Randomness;
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::id::SnapshotId;
use kluis::prune::{self, PruneError, PruneOptions, PruneReport, UnusedLimit};
use kluis::repo::{Repo, Surroundings};
use kluis::storage::{MemoryStorage, ObjectName, Storage};
use tempfile::TempDir;

use crate::fixture::{Objects, cache_folder, key, noise, surroundings, write};
use crate::roles::Files;
use crate::stage::{Cast, Stage};
use crate::tree::{Tree, capture};

/// Files of the sources: name, length, and what is in it. Equal content is one chunk.
const SOURCES: &[&[(&str, usize, u64)]] = &[
    &[("a", 600, 1), ("b", 700, 2), ("d/c", 500, 3)],
    &[("a", 600, 1), ("d/e", 400, 4)],
    &[("b", 700, 2), ("f", 650, 5)],
    &[("c", 500, 3), ("g", 450, 6)],
    &[("a", 600, 1), ("b", 300, 7), ("d/c", 500, 3)],
    &[("f", 650, 5), ("h", 550, 8), ("b", 700, 2)],
];

/// What repositories are like when a schedule begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// Nothing was ever stored.
    Empty,
    /// Some snapshots, none forgotten.
    Fresh,
    /// Some of them are forgotten: some packs hold nothing that is needed, some a part.
    Forgotten,
    /// As above, and a prune has died when its plan was there.
    Planned,
    /// As above, and a prune has died in the middle of its deletions.
    HalfDeleted,
    /// Everything is there twice, and one of two snapshots is forgotten.
    Doubled,
    /// A writer has died before it described its packs.
    Abandoned,
    /// A writer has died after its commit, and its snapshot is forgotten.
    Committed,
}

impl Scene {
    pub const ALL: [Scene; 8] = [
        Self::Empty,
        Self::Fresh,
        Self::Forgotten,
        Self::Planned,
        Self::HalfDeleted,
        Self::Doubled,
        Self::Abandoned,
        Self::Committed,
    ];
}

/// What is stored when a schedule begins, and what is known of it.
pub struct Start {
    pub objects: Objects,
    pub live: BTreeSet<SnapshotId>,
    pub forgotten: BTreeSet<SnapshotId>,
}

impl Start {
    fn of(objects: Objects) -> Self {
        let repo = open_beside(&MemoryStorage::from_objects(objects.clone()), cache_folder().path(), 0);
        let list = repo.snapshots().unwrap();
        let live = list.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let forgotten = list.forgotten.snapshots().map(|(id, _)| id).collect();
        Self { objects, live, forgotten }
    }
}

/// All sources and scenes.
pub struct World {
    pub roots: Vec<PathBuf>,
    pub trees: BTreeMap<PathBuf, Tree>,
    scenes: BTreeMap<Scene, Start>,
    _sources: TempDir,
}

pub fn thorough() -> PruneOptions {
    PruneOptions { max_unused: UnusedLimit::Bytes(0), confirmed: true, ..PruneOptions::default() }
}

/// Waits for nobody who is silent.
pub fn impatient() -> PruneOptions {
    PruneOptions { silence: Duration::ZERO, ..thorough() }
}

pub fn back_up(repo: &Arc<Repo>, source: &Path) -> Result<BackupReport, BackupError> {
    let compression = Compression::Off;
    let options = BackupOptions {
        sources: vec![source.to_owned()],
        threads: 1,
        compression,
        ..BackupOptions::default()
    };
    backup::run(repo, &options, &Silent::default())
}

pub fn back_up_well(repo: &Arc<Repo>, source: &Path) -> SnapshotId {
    back_up(repo, source).unwrap().snapshot_id.expect("a snapshot was made").parse().unwrap()
}

pub fn prune(repo: &Arc<Repo>, options: &PruneOptions) -> Result<PruneReport, PruneError> {
    prune::run(repo, options, &Silent::default())
}

pub fn forget_ids(repo: &Repo, ids: &[SnapshotId]) {
    let list = repo.snapshots().unwrap();
    forget::run(repo, &list, ids, &ForgetOptions::default(), &Silent::default()).unwrap();
}

/// Opens a repository beside any stage, with ids and salts from a seed. Its clock is ahead of every stage.
pub fn open_beside(memory: &MemoryStorage, cache: &Path, seed: u64) -> Arc<Repo> {
    let clock = Arc::new(Later);
    let around = Surroundings { clock, ..surroundings(Arc::new(memory.clone()), cache) };
    let repo = Repo::open(around, &key()).unwrap();
    Arc::new(repo.with_randomness(Randomness::repeatable(seed ^ 0x00be_51de_0000)))
}

/// A clock that stands still, ahead of every stage, and at which nobody waits.
struct Later;

impl Clock for Later {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_990_000_000)
    }

    fn sleep(&self, _span: Duration) {}
}

/// A stage on which these objects are stored.
pub fn stage(objects: &Objects) -> Stage {
    Stage::new(|clock| {
        let memory = MemoryStorage::with_clock(Arc::new(clock));
        objects.iter().for_each(|(name, bytes)| memory.set(name, Arc::clone(bytes)));
        memory
    })
}

/// Made once: what a tree says of its files (inodes, times) goes into ids, and ids decide what comes first.
static WORLD: OnceLock<Arc<World>> = OnceLock::new();

impl World {
    pub fn shared(cast: &Cast) -> Arc<Self> {
        Arc::clone(WORLD.get_or_init(|| Arc::new(Self::new(cast))))
    }

    fn new(cast: &Cast) -> Self {
        // The folders above are stored too, so nobody else may make anything in them meanwhile.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut roots = Vec::new();
        for (number, files) in SOURCES.iter().enumerate() {
            let root = folder.path().join(format!("source-{number}"));
            files.iter().for_each(|(name, len, seed)| write(&root, name, &noise(*len, *seed)));
            roots.push(root);
        }
        let trees = roots.iter().map(|root| (root.clone(), capture(root))).collect();
        let mut world = Self { roots, trees, scenes: BTreeMap::new(), _sources: folder };
        let empty = empty_repository();
        for scene in Scene::ALL {
            let objects = world.make(scene, &empty, cast);
            world.scenes.insert(scene, Start::of(objects));
        }
        world
    }

    /// When anything has changed last in the folders above the sources.
    pub fn times_above(&self) -> Vec<(i64, i64)> {
        let above = self.roots[0].ancestors().skip(1);
        let times = above.map(|folder| {
            let stat = std::fs::metadata(folder).unwrap();
            (stat.ctime(), stat.ctime_nsec())
        });
        times.collect()
    }

    /// The files of a source: the hash of each.
    pub fn files(&self, root: &Path) -> Files {
        let files = self.trees[root].iter().filter_map(|(path, seen)| Some((path, seen.bytes?.1)));
        files.map(|(path, hash)| ([b"/", &path[..]].concat(), hash)).collect()
    }

    pub fn start(&self, scene: Scene) -> &Start {
        &self.scenes[&scene]
    }

    fn make(&self, scene: Scene, empty: &Objects, cast: &Cast) -> Objects {
        let memory = MemoryStorage::from_objects(empty.clone());
        let cache = cache_folder();
        let repo = open_beside(&memory, cache.path(), scene as u64);
        let back_up = |source: usize| back_up_well(&repo, &self.roots[source]);
        match scene {
            Scene::Empty => {}
            Scene::Fresh => drop([back_up(0), back_up(1)]),
            Scene::Forgotten | Scene::Planned | Scene::HalfDeleted => {
                let ids = [back_up(0), back_up(1), back_up(2), back_up(3)];
                forget_ids(&repo, &[ids[0], ids[2]]);
                let call = match scene {
                    Scene::Planned => "create prune/00000001.verdict",
                    Scene::HalfDeleted => "delete data/",
                    _ => return memory.objects(),
                };
                return die_at(&memory.objects(), cast, call, |repo| drop(prune(&repo, &thorough())));
            }
            Scene::Doubled => return self.doubled(empty),
            Scene::Abandoned | Scene::Committed => {
                let first = back_up(0);
                let root = self.roots[5].clone();
                let call = if scene == Scene::Abandoned { "create index/" } else { "delete lease/" };
                let begun = die_at(&memory.objects(), cast, call, move |repo| {
                    drop(crate::world::back_up(&repo, &root))
                });
                if scene == Scene::Committed {
                    let memory = MemoryStorage::from_objects(begun);
                    let repo = open_beside(&memory, cache_folder().path(), 99);
                    let list = repo.snapshots().unwrap();
                    let second: Vec<_> =
                        list.snapshots.iter().map(|it| it.id).filter(|id| *id != first).collect();
                    forget_ids(&repo, &second);
                    return memory.objects();
                }
                return begun;
            }
        }
        memory.objects()
    }

    /// Two backups of the same content that know nothing of each other, and one of a part of it on top.
    fn doubled(&self, empty: &Objects) -> Objects {
        let mut all = empty.clone();
        let mut ids = Vec::new();
        for (seed, source) in [(1001, 0), (1002, 4)] {
            let memory = MemoryStorage::from_objects(empty.clone());
            let repo = open_beside(&memory, cache_folder().path(), seed);
            ids.push(back_up_well(&repo, &self.roots[source]));
            all.extend(memory.objects());
        }
        let memory = MemoryStorage::from_objects(all);
        let repo = open_beside(&memory, cache_folder().path(), 1003);
        back_up_well(&repo, &self.roots[2]);
        forget_ids(&repo, &ids[..1]);
        memory.objects()
    }
}

/// What is stored when an operation dies just before a call.
fn die_at(
    objects: &Objects,
    cast: &Cast,
    call: &str,
    operation: impl FnOnce(Arc<Repo>) + Send + 'static,
) -> Objects {
    let stage = stage(objects);
    let cache = cache_folder();
    let path = cache.path().to_owned();
    let part = stage.start(cast, move |mut host| {
        host.seed = 77;
        operation(host.open(&path).unwrap());
    });
    stage.run_until(part.id, call);
    stage.kill(part.id);
    stage.memory().objects()
}

/// A repository in which nothing was stored yet. It is kept as files, so that ids are made with the same keys in every
/// process; `Repo::init` made it, with the options and the key of the fixture.
fn empty_repository() -> Objects {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schedules/repository");
    let names = ["README", "config/1", "keyring/1", "slot/b2d503610c957f42ec866632490f1d02"];
    let copies = names.iter().skip(1).map(|name| format!("copy/{name}"));
    let names = names.iter().map(|name| (*name).to_owned()).chain(copies);
    let files = names.map(|name| {
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        (ObjectName::new(name).unwrap(), Arc::from(bytes))
    });
    // Making the real one again and again would be most of the time.
    let reserve = (ObjectName::new("reserve").unwrap(), Arc::from(*b"kept for a full disk"));
    files.chain([reserve]).collect()
}

/// All objects below a folder.
pub fn names_below(memory: &MemoryStorage, folder: &str) -> Vec<ObjectName> {
    let mut names = Vec::new();
    memory.list(folder, &mut |listed| names.push(listed.name)).unwrap();
    names
}
