//! Every kind of damage to every kind of object: it is found and named, nothing panics, and whatever can still be read
//! is right.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use kluis::backup::{self, BackupOptions, ParentChoice};
use kluis::check::{
    self, CheckError, CheckOptions, CheckReport, DataPart, Finding, FindingCode, FindingCode::LeaseLeftover,
    Severity,
};
use kluis::clock::SystemClock;
use kluis::crypto::{KdfParams, Secret};
use kluis::event::{Observer, Problem, Progress, Silent};
use kluis::forget;
use kluis::format::tree::Content;
use kluis::id::{NodeId, SnapshotId};
use kluis::prune;
use kluis::repo::{Identity, InitOptions, Lease, Repo, RepoError, Surroundings, TreeReader, UnlockSecret};
use kluis::storage::{MemoryStorage, ObjectName, Storage};

#[path = "../shared/noise.rs"]
mod noise;
#[path = "../shared/scratch.rs"]
mod scratch;

mod bad_sectors;
mod repair;
mod unread;

use noise::noise;
use scratch::scratch;

type Objects = BTreeMap<ObjectName, Arc<[u8]>>;
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything that is looked at: structure, directories, data.
const ALL: CheckOptions = CheckOptions { directories: true, data: Some(DataPart::All) };

/// Bits of each object that are flipped one by one in the short run.
const FLIP_COUNT: usize = 16;

/// A repository, and what its snapshots hold.
struct Fixture {
    objects: Objects,
    expected: BTreeMap<SnapshotId, Files>,
}

fn key(number: u8) -> UnlockSecret {
    UnlockSecret::KeyFile(Secret::new([number; 32]))
}

fn surroundings(storage: &MemoryStorage, cache: &Path) -> Surroundings {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
    Surroundings { storage, cache: cache.to_owned(), clock: Arc::new(SystemClock), identity }
}

fn back_up(repo: &Arc<Repo>, source: &Path, parent: ParentChoice) -> SnapshotId {
    let options =
        BackupOptions { sources: vec![source.to_owned()], parent, threads: 2, ..BackupOptions::default() };
    let report = backup::run(repo, &options, &Silent::default()).unwrap();
    report.snapshot_id.unwrap().parse().unwrap()
}

/// Three snapshots of a small folder, two slots, and a lease; before them perhaps a snapshot that was forgotten.
fn make_fixture(parity: bool, has_forgotten: bool) -> Fixture {
    let (source, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let storage = MemoryStorage::new();
    let init = InitOptions { parity, kdf: KdfParams::MIN, ..InitOptions::default() };
    let repo = Arc::new(Repo::init(surroundings(&storage, cache.path()), &init, &key(7)).unwrap());
    repo.add_slot(&key(8), KdfParams::MIN, "second").unwrap();
    if has_forgotten {
        let forgotten = back_up(&repo, source.path(), ParentChoice::Newest);
        let list = repo.snapshots().unwrap();
        forget::run(&repo, &list, &[forgotten], &Default::default(), &Silent::default()).unwrap();
    }
    let mut expected = BTreeMap::new();
    for round in 0..3u64 {
        let folder = source.path().join(format!("round-{round}/inside"));
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..4 {
            let bytes = noise(100 + 700 * number, round * 10 + number as u64);
            std::fs::write(folder.join(format!("file-{number}")), bytes).unwrap();
        }
        std::fs::write(source.path().join("changing"), format!("{round} ").repeat(500)).unwrap();
        let id = back_up(&repo, source.path(), ParentChoice::Newest);
        expected.insert(id, read_snapshot(&repo, id).unwrap());
    }
    assert!(expected.values().any(|files| files.len() > 15));
    // The lease is taken while it lives: its objects are those of a writer that was killed.
    let lease = Lease::register(&repo, "backup").unwrap();
    let objects = storage.objects();
    lease.end().unwrap();
    Fixture { objects, expected }
}

/// Little of everything: a snapshot of some bytes, what a forget and a prune have left, and a lease.
fn make_small_fixture(parity: bool) -> Fixture {
    let (source, cache) = (scratch(), scratch());
    let storage = MemoryStorage::new();
    let init = InitOptions { parity, kdf: KdfParams::MIN, ..InitOptions::default() };
    let repo = Arc::new(Repo::init(surroundings(&storage, cache.path()), &init, &key(7)).unwrap());
    std::fs::write(source.path().join("gone"), noise(50, 1)).unwrap();
    let forgotten = back_up(&repo, source.path(), ParentChoice::None);
    std::fs::remove_file(source.path().join("gone")).unwrap();
    std::fs::write(source.path().join("here"), noise(60, 2)).unwrap();
    let id = back_up(&repo, source.path(), ParentChoice::None);
    let list = repo.snapshots().unwrap();
    forget::run(&repo, &list, &[forgotten], &Default::default(), &Silent::default()).unwrap();
    let pruned = prune::run(&repo, &repair::thorough(), &Silent::default()).unwrap();
    assert!(pruned.packs_deleted > 0 && !pruned.plans.is_empty(), "{pruned:?}");
    let expected = [(id, read_snapshot(&repo, id).unwrap())].into();
    let lease = Lease::register(&repo, "backup").unwrap();
    let objects = storage.objects();
    lease.end().unwrap();
    Fixture { objects, expected }
}

fn fixture(parity: bool) -> &'static Fixture {
    static FIXTURES: [OnceLock<Fixture>; 2] = [OnceLock::new(), OnceLock::new()];
    FIXTURES[usize::from(parity)].get_or_init(|| make_fixture(parity, false))
}

/// All files of a snapshot, or the first error.
fn read_snapshot(repo: &Arc<Repo>, id: SnapshotId) -> Result<Files, RepoError> {
    let snapshot = repo.read_snapshot(id)?.expect("no tombstone is in these repositories");
    let reader = TreeReader::new(Arc::new(repo.chunk_reader()?));
    let mut files = Files::new();
    let mut failure = None;
    read_folder(&reader, snapshot.root, &[], &mut files, &mut failure);
    failure.map_or(Ok(files), Err)
}

/// Reads what can be read, and keeps the last error.
fn read_folder(
    reader: &TreeReader,
    id: NodeId,
    path: &[u8],
    files: &mut Files,
    failure: &mut Option<RepoError>,
) {
    for entry in reader.directory(id) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                *failure = Some(error);
                return;
            }
        };
        let below = [path, b"/", entry.name.as_slice()].concat();
        let mut bytes = Vec::new();
        let append = &mut |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok::<(), RepoError>(())
        };
        match reader.visit_bytes(&entry.content, append) {
            Ok(()) => drop(files.insert(below.clone(), bytes)),
            Err(error) => *failure = Some(error),
        }
        if let Content::Directory(id) = entry.content {
            read_folder(reader, id, &below, files, failure);
        }
    }
}

/// What became of a damaged repository.
struct Aftermath {
    /// What the check said, unless the repository could not even be opened.
    report: Result<CheckReport, String>,
    /// Snapshots that were read completely.
    whole: BTreeSet<SnapshotId>,
}

/// Opens, checks and reads a repository, and compares all that it returns with what was stored.
fn look(objects: Objects, expected: &BTreeMap<SnapshotId, Files>, what: &str) -> Aftermath {
    let cache = scratch();
    look_with_cache(objects, expected, cache.path(), what)
}

fn look_with_cache(
    objects: Objects,
    expected: &BTreeMap<SnapshotId, Files>,
    cache: &Path,
    what: &str,
) -> Aftermath {
    let storage = MemoryStorage::from_objects(objects);
    let mut whole = BTreeSet::new();
    let repo = match Repo::open(surroundings(&storage, cache), &key(7)) {
        Ok(repo) => Arc::new(repo),
        Err(error) => return Aftermath { report: Err(error.to_string()), whole },
    };
    let report = check::run(&repo, &ALL, &Silent::default()).map_err(|error| error.to_string());
    for (id, files) in expected {
        let Ok(Some(snapshot)) = repo.read_snapshot(*id) else { continue };
        let Ok(chunks) = repo.chunk_reader() else { continue };
        let (mut read, mut failure) = (Files::new(), None);
        read_folder(&TreeReader::new(Arc::new(chunks)), snapshot.root, &[], &mut read, &mut failure);
        for (path, bytes) in &read {
            assert!(files.get(path) == Some(bytes), "{what}: {} differs", path.escape_ascii());
        }
        if failure.is_none() {
            assert_eq!(read.len(), files.len(), "{what}: files vanished without an error");
            whole.insert(*id);
        }
    }
    Aftermath { report, whole }
}

#[test]
fn a_repository_in_order_passes() {
    for parity in [false, true] {
        let fixture = fixture(parity);
        let Aftermath { report, whole } = look(fixture.objects.clone(), &fixture.expected, "in order");
        let report = report.unwrap();
        assert!(!report.has_damage(), "{:#?}", report.findings);
        let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [FindingCode::LeaseLeftover]);
        assert_eq!(whole.len(), 3);
        assert_eq!((report.snapshots_checked, report.packs_checked, report.packs_read), (3, 6, 6));
        assert!(report.nodes_checked > 6 && report.chunks_checked > 10 && report.chunks_read > 16);
    }
}

/// One way to spoil an object, for messages.
struct Damage {
    what: String,
    objects: Objects,
    /// Names one of which a finding must carry.
    named: Vec<String>,
    /// Whether nothing needs to be found, because the object decides nothing.
    is_harmless: bool,
}

fn spoiled(objects: &Objects, name: &ObjectName, what: String, bytes: Option<Vec<u8>>) -> Damage {
    let mut objects = objects.clone();
    match bytes {
        Some(bytes) => objects.insert(name.clone(), bytes.into()),
        None => objects.remove(name),
    };
    Damage { what: format!("{name}: {what}"), objects, named: vec![name.to_string()], is_harmless: false }
}

fn folder_of(name: &ObjectName) -> &str {
    let name = name.as_str();
    let first = name.strip_prefix("copy/").unwrap_or(name);
    first.split('/').next().unwrap_or_default()
}

fn removed(objects: &Objects, name: &ObjectName) -> Damage {
    let mut damage = spoiled(objects, name, "removed".into(), None);
    // Nobody knows the name of an index object that is gone; what it described is missed.
    let is_index = folder_of(name) == "index";
    damage.named = if is_index { Vec::new() } else { damage.named };
    // Later statements only repeat the first.
    damage.is_harmless = folder_of(name) == "lease" && !name.as_str().ends_with(".0");
    damage
}

/// Cut at the borders of header, payload and parity, and in between.
fn cuts(objects: &Objects, name: &ObjectName) -> Vec<Damage> {
    let bytes = &objects[name];
    let len = bytes.len();
    let mut places: BTreeSet<usize> =
        [0, 1, 64, 111, 112, 113, 128, len / 3, len / 2, len - 64, len - 1].into();
    // A container says at byte 40 how long its payload is: parity begins there.
    let payload_len = bytes.get(40..48).map_or(0, |field| u64::from_le_bytes(field.try_into().unwrap()));
    places.extend([payload_len as usize, (payload_len as usize).saturating_sub(1)]);
    let places = places.into_iter().filter(|place| *place < len);
    places
        .map(|place| spoiled(objects, name, format!("cut at {place}"), Some(bytes[..place].into())))
        .collect()
}

fn zeros(objects: &Objects, name: &ObjectName) -> Vec<Damage> {
    let len = objects[name].len();
    let stretches =
        [0..len, 0..len.min(112), 0..1, len / 2..(len / 2 + 40).min(len), len / 2..len, len - 1..len];
    let zero = |stretch: std::ops::Range<usize>| {
        let mut bytes = objects[name].to_vec();
        bytes[stretch.clone()].fill(0);
        let is_same = bytes == objects[name].as_ref();
        (!is_same).then(|| spoiled(objects, name, format!("zeros in {stretch:?}"), Some(bytes)))
    };
    stretches.into_iter().filter_map(zero).collect()
}

fn flipped(objects: &Objects, name: &ObjectName, bit: usize) -> Damage {
    let mut bytes = objects[name].to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    spoiled(objects, name, format!("bit {bit} flipped"), Some(bytes))
}

fn appended(objects: &Objects, name: &ObjectName) -> Vec<Damage> {
    let tails: [&[u8]; 3] = [b"\n", b"x", &[0; 1000]];
    let append = |tail: &&[u8]| {
        let bytes = [&objects[name], *tail].concat();
        spoiled(objects, name, format!("{} bytes appended", tail.len()), Some(bytes))
    };
    tails.iter().map(append).collect()
}

/// Replaced by each other object of its kind, and exchanged with the first of them.
fn swaps(objects: &Objects, name: &ObjectName) -> Vec<Damage> {
    let depth = name.as_str().matches('/').count();
    let is_like = |other: &&ObjectName| {
        folder_of(other) == folder_of(name) && other.as_str().matches('/').count() == depth && *other != name
    };
    let others: Vec<_> = objects.keys().filter(is_like).collect();
    let mut damages: Vec<_> = others
        .iter()
        .filter(|other| objects[**other] != objects[name])
        .map(|other| spoiled(objects, name, format!("replaced by {other}"), Some(objects[*other].to_vec())))
        .collect();
    if let (Some(other), false) = (others.first(), damages.is_empty()) {
        let mut damage =
            spoiled(objects, name, format!("exchanged with {other}"), Some(objects[*other].to_vec()));
        damage.objects.insert((*other).clone(), objects[name].clone());
        damages.push(damage);
    }
    damages
}

/// Under another name that an object of its kind could have.
fn renamed(objects: &Objects, name: &ObjectName) -> Damage {
    let text = name.as_str();
    let new = match folder_of(name) {
        "README" => "readme".to_owned(),
        "config" | "keyring" => text.replace("/1", "/2"),
        "lease" if text.ends_with(".0") => text.replace(".0", ".5"),
        "lease" => text.replace(".1", ".5"),
        _ => {
            let (kept, last) = text.split_at(text.len() - 1);
            format!("{kept}{}", if last == "0" { "1" } else { "0" })
        }
    };
    let mut damage = spoiled(objects, name, format!("renamed to {new}"), None);
    damage.objects.insert(ObjectName::new(new.clone()).unwrap(), objects[name].clone());
    damage.named.push(new);
    damage
}

/// Compares the outcome of each case with what must be true of it.
fn run(fixture: &Fixture, damages: &[Damage]) {
    let failures = failures_of(damages, |damage| run_one(fixture, damage));
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), damages.len(), failures.join("\n"));
}

/// Runs all cases on some threads; what each has to complain of.
fn failures_of(damages: &[Damage], run_one: impl Fn(&Damage) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(damage) = damages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    failures.lock().unwrap().extend(run_one(damage).err());
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

fn run_one(fixture: &Fixture, damage: &Damage) -> Result<(), String> {
    let Damage { what, objects, named, is_harmless } = damage;
    let Aftermath { report, whole } = look(objects.clone(), &fixture.expected, what);
    let report = match report {
        Ok(report) => report,
        // Without settings, slot or keyring nothing can be checked, and the error names what is wrong.
        Err(error) => {
            let names_it = named.iter().any(|name| error.contains(name.as_str()));
            let is_gone = error.starts_with("there is no repository at") || error.starts_with("no slot");
            return if names_it || is_gone { Ok(()) } else { Err(format!("{what}: {error}")) };
        }
    };
    let fail = |why: &str| Err(format!("{what}: {why}: {:#?}", report.findings));
    let is_named = |finding: &&Finding| named.is_empty() || named.contains(&finding.object);
    let found = report.findings.iter().find(|finding| is_named(finding) && finding.code != LeaseLeftover);
    if *is_harmless {
        return if found.is_none() && whole.len() == fixture.expected.len() {
            Ok(())
        } else {
            fail("this is harmless")
        };
    }
    let Some(found) = found else { return fail("not found") };
    let lost: BTreeSet<_> = fixture.expected.keys().filter(|id| !whole.contains(id)).copied().collect();
    let damages = report.findings.iter().filter(|finding| finding.severity == Severity::Damage);
    let said: BTreeSet<_> = damages.flat_map(|finding| finding.snapshots.iter().copied()).collect();
    if !lost.is_subset(&said) {
        return fail("not all snapshots that cannot be read are named");
    }
    // What nobody needs, and what another copy stands for, is a note; everything else is damage.
    let may_be_a_note = match found.code {
        FindingCode::ReadmeDiffers | FindingCode::CopyDamaged => true,
        // Of prunes that are done.
        FindingCode::DecisionDamaged => !whole.is_empty(),
        // Of a forgotten snapshot.
        FindingCode::OriginalMissing => found.snapshots.is_empty() && lost.is_empty(),
        _ => false,
    };
    if report.has_damage() || may_be_a_note { Ok(()) } else { fail("this is damage") }
}

/// All but the reserve, whose bytes mean nothing and which a prune may remove.
fn names(objects: &Objects) -> Vec<ObjectName> {
    objects.keys().filter(|name| name.as_str() != "reserve").cloned().collect()
}

/// Every kind of damage to every object; of the bits, those at some places.
fn matrix(parity: bool) {
    let fixture = fixture(parity);
    run(fixture, &all_damages(&fixture.objects, names(&fixture.objects)));
}

fn all_damages(objects: &Objects, names: Vec<ObjectName>) -> Vec<Damage> {
    let mut damages = Vec::new();
    for name in names {
        damages.push(removed(objects, &name));
        damages.push(renamed(objects, &name));
        damages.extend(cuts(objects, &name));
        damages.extend(zeros(objects, &name));
        damages.extend(appended(objects, &name));
        damages.extend(swaps(objects, &name));
        let bit_count = objects[&name].len() * 8;
        // An odd stride meets every bit of a byte.
        let stride = (bit_count / FLIP_COUNT) | 1;
        damages.extend((0..bit_count).step_by(stride).map(|bit| flipped(objects, &name, bit)));
    }
    damages
}

/// Also every bit of the record, in one of its two copies at a time.
#[test]
fn every_damage_to_a_forget_record_and_to_a_forgotten_snapshot_is_found() {
    for parity in [false, true] {
        let fixture = make_fixture(parity, true);
        let objects = &fixture.objects;
        let mut all = names(objects);
        all.retain(|name| !fixture.expected.keys().any(|id| name.as_str().ends_with(&id.to_string())));
        all.retain(|name| matches!(folder_of(name), "forget" | "snapshot"));
        assert_eq!(all.len(), 4, "{all:?}");
        let record = all.iter().find(|name| name.as_str().starts_with("forget/")).unwrap().clone();
        let mut damages = all_damages(objects, all);
        let bits = if parity { 0..0 } else { 0..objects[&record].len() * 8 };
        damages.extend(bits.map(|bit| flipped(objects, &record, bit)));
        run(&fixture, &damages);
    }
}

#[test]
fn every_damage_to_every_object_is_found_and_never_read() {
    matrix(false);
}

#[test]
fn every_damage_to_every_object_with_parity_is_found_and_never_read() {
    matrix(true);
}

/// One bit of each byte of all objects, another one each time.
fn one_bit_of_every_byte(objects: &Objects) -> Vec<Damage> {
    let mut flips = Vec::new();
    for name in names(objects) {
        flips.extend((0..objects[&name].len()).map(|at| flipped(objects, &name, 8 * at + (5 * at + 3) % 8)));
    }
    flips
}

#[test]
fn a_flipped_bit_in_every_byte_of_a_small_repository_is_found_and_never_read() {
    for parity in [false, true] {
        let fixture = make_small_fixture(parity);
        let flips = one_bit_of_every_byte(&fixture.objects);
        println!("{} bytes", flips.len());
        assert!(flips.len() > 5000);
        run(&fixture, &flips);
    }
}

#[test]
#[ignore = "takes an hour; run it when a format or its readers change"]
fn every_single_bit_is_found_and_never_read() {
    for parity in [false, true] {
        let fixture = fixture(parity);
        let lens = names(&fixture.objects).into_iter().map(|name| fixture.objects[&name].len());
        println!("parity {parity}: {} bits in all", lens.sum::<usize>() * 8);
        for name in names(&fixture.objects) {
            let flip = |bit| flipped(&fixture.objects, &name, bit);
            let bits: Vec<_> = (0..fixture.objects[&name].len() * 8).collect();
            // For whoever waits.
            println!("parity {parity}, {name}: {} bits", bits.len());
            for some in bits.chunks(1000) {
                run(fixture, &some.iter().copied().map(flip).collect::<Vec<_>>());
            }
        }
    }
}

/// What a check says of a repository with several frames in a pack, one pack of which `change` spoils; and how many
/// findings name that pack.
fn spoil_pack(change: impl Fn(&mut Vec<u8>)) -> (CheckReport, usize) {
    static FIXTURE: OnceLock<Objects> = OnceLock::new();
    let cache = tempfile::tempdir().unwrap();
    let objects = FIXTURE.get_or_init(|| {
        let source = tempfile::tempdir().unwrap();
        let storage = MemoryStorage::new();
        let init = InitOptions { kdf: KdfParams::MIN, ..InitOptions::default() };
        let repo = Arc::new(Repo::init(surroundings(&storage, cache.path()), &init, &key(7)).unwrap());
        for number in 0..6 {
            std::fs::write(source.path().join(format!("file-{number}")), noise(5 << 20, number)).unwrap();
        }
        back_up(&repo, source.path(), ParentChoice::Newest);
        storage.objects()
    });
    let storage = MemoryStorage::from_objects(objects.clone());
    let name =
        objects.keys().filter(|name| folder_of(name) == "data").max_by_key(|name| objects[*name].len());
    let mut bytes = objects[name.unwrap()].to_vec();
    change(&mut bytes);
    storage.set(name.unwrap(), bytes);
    let repo = Arc::new(Repo::open(surroundings(&storage, cache.path()), &key(7)).unwrap());
    let report = check::run(&repo, &ALL, &Silent::default()).unwrap();
    let found = report.findings.iter().filter(|finding| finding.object == name.unwrap().as_str()).count();
    (report, found)
}

#[test]
fn one_bad_place_in_a_pack_touches_one_file_and_can_be_mended() {
    let (report, found) = spoil_pack(|bytes| bytes[2 << 20] ^= 1);
    assert_eq!((report.findings.len(), found), (1, 1));
    let finding = &report.findings[0];
    assert_eq!((finding.code, finding.is_mendable), (FindingCode::PackDamaged, true));
    assert_eq!((finding.snapshots.len(), finding.paths.len()), (1, 1), "{finding:?}");
    assert!(finding.message.contains("1 of its frames"), "{}", finding.message);
}

#[test]
fn a_damaged_header_takes_nothing_from_readers_who_have_the_index() {
    let (report, _) = spoil_pack(|bytes| bytes[50] ^= 1);
    assert_eq!(report.findings[0].code, FindingCode::PackDamaged);
    assert!(report.findings[0].paths.is_empty() && report.findings[0].snapshots.is_empty());
    assert!(report.findings[0].message.contains("can still be read"), "{}", report.findings[0].message);
}

#[test]
fn damaged_parity_is_told_from_damaged_content() {
    let (report, _) = spoil_pack(|bytes| *bytes.last_mut().unwrap() ^= 1);
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [FindingCode::ParityDamaged]);
}

#[test]
fn a_pack_that_is_lost_is_one_finding_and_heals_by_a_backup() {
    let fixture = fixture(true);
    let cache = tempfile::tempdir().unwrap();
    let pack = fixture.objects.keys().find(|name| folder_of(name) == "data").unwrap();
    let storage = MemoryStorage::from_objects(fixture.objects.clone());
    let repo = Arc::new(Repo::open(surroundings(&storage, cache.path()), &key(7)).unwrap());
    let newest = repo.snapshots().unwrap().select("latest", &Default::default()).unwrap().id;
    let restored = tempfile::tempdir().unwrap();
    let files = &fixture.expected[&newest];
    // The source is made again where it was: the paths of the snapshot begin at the root.
    let source =
        PathBuf::from(OsString::from_vec(repo.read_snapshot(newest).unwrap().unwrap().paths[0].0.to_vec()));
    storage.remove(pack);
    let report = check::run(&repo, &ALL, &Silent::default()).unwrap();
    let damage: Vec<_> = report.findings.iter().filter(|found| found.severity == Severity::Damage).collect();
    assert_eq!(damage.len(), 1, "{damage:#?}");
    assert_eq!((damage[0].code, damage[0].object.as_str()), (FindingCode::PackMissing, pack.as_str()));
    assert!(!damage[0].snapshots.is_empty() && !damage[0].paths.is_empty());

    for (path, bytes) in files {
        let path = Path::new(OsStr::from_bytes(path));
        let Ok(below) = path.strip_prefix(&source) else { continue };
        let path = restored.path().join(below);
        if !bytes.is_empty() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    back_up(&repo, restored.path(), ParentChoice::None);
    let report = check::run(&repo, &ALL, &Silent::default()).unwrap();
    let touched: BTreeSet<_> = report.findings.iter().flat_map(|found| &found.snapshots).collect();
    assert!(!touched.contains(&newest), "{:#?}", report.findings);
    let elsewhere = tempfile::tempdir().unwrap();
    let repo = Arc::new(Repo::open(surroundings(&storage, elsewhere.path()), &key(7)).unwrap());
    assert_eq!(&read_snapshot(&repo, newest).unwrap(), files);
}

#[test]
fn a_hidden_newest_snapshot_is_known_to_those_who_saw_it() {
    let fixture = fixture(false);
    let cache = tempfile::tempdir().unwrap();
    let before = look_with_cache(fixture.objects.clone(), &fixture.expected, cache.path(), "before");
    assert!(!before.report.unwrap().has_damage());
    let newest = newest_snapshot(fixture);
    let mut objects = fixture.objects.clone();
    objects.retain(|name, _| !name.as_str().ends_with(&newest.to_string()));
    let report = look_with_cache(objects, &fixture.expected, cache.path(), "after").report.unwrap();
    let found = report.findings.iter().find(|finding| finding.severity == Severity::Damage).unwrap();
    assert_eq!((found.code, found.snapshots.as_slice()), (FindingCode::SnapshotChainGap, &[newest][..]));
}

fn newest_snapshot(fixture: &Fixture) -> SnapshotId {
    let cache = tempfile::tempdir().unwrap();
    let storage = MemoryStorage::from_objects(fixture.objects.clone());
    let repo = Repo::open(surroundings(&storage, cache.path()), &key(7)).unwrap();
    repo.snapshots().unwrap().select("latest", &Default::default()).unwrap().id
}

#[test]
fn a_local_index_that_is_gone_or_spoiled_is_made_again() {
    let fixture = fixture(false);
    let cache = tempfile::tempdir().unwrap();
    let whole = |what: &str| {
        let after = look_with_cache(fixture.objects.clone(), &fixture.expected, cache.path(), what);
        assert!(!after.report.unwrap().has_damage(), "{what}");
        assert_eq!(after.whole.len(), 3, "{what}");
    };
    whole("at first");
    let folders =
        std::fs::read_dir(cache.path()).unwrap().flatten().map(|entry| entry.path().join("index.redb"));
    let index = folders.into_iter().find(|path| path.exists()).unwrap();
    let good = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    whole("removed");
    for len in [0, 1, 100, 4096, good.len() / 2, good.len() - 1] {
        std::fs::write(&index, &good[..len]).unwrap();
        whole(&format!("cut at {len}"));
    }
    for part in 0..64 {
        let mut bytes = good.clone();
        let bit = (bytes.len() * 8 / 64 * part) | 5;
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&index, &bytes).unwrap();
        whole(&format!("bit {bit} flipped"));
    }
    for start in (0..good.len()).step_by(good.len() / 16) {
        let mut bytes = good.clone();
        let end = bytes.len().min(start + 5000);
        bytes[start..end].fill(0);
        std::fs::write(&index, &bytes).unwrap();
        whole(&format!("zeros from {start}"));
    }
}

#[test]
fn settings_whose_text_still_parses_give_way_to_their_copy() {
    let fixture = fixture(true);
    let name = ObjectName::new("config/1").unwrap();
    let text = String::from_utf8(fixture.objects[&name].to_vec()).unwrap();
    let mut objects = fixture.objects.clone();
    let id = text.split("\"repository\": \"").nth(1).unwrap().get(..32).unwrap();
    for changed in [text.replace("\"parity\": true", "\"parity\": false"), text.replace(id, &"0".repeat(32))]
    {
        assert_ne!(changed, text);
        objects.insert(name.clone(), changed.into_bytes().into());
        let after = look(objects.clone(), &fixture.expected, "settings altered");
        let report = after.report.unwrap();
        let found = report.findings.iter().find(|finding| finding.severity == Severity::Damage).unwrap();
        assert_eq!((found.code, found.is_mendable), (FindingCode::ConfigDamaged, true));
        assert_eq!(after.whole.len(), 3);
    }
}

#[test]
fn packs_that_no_readable_index_object_describes_are_read_by_their_directories() {
    let fixture = fixture(false);
    let mut objects = fixture.objects.clone();
    for (name, bytes) in &mut objects {
        if folder_of(name) == "index" {
            *bytes = vec![0; bytes.len()].into();
        }
    }
    let after = look(objects, &fixture.expected, "all index objects zeroed");
    assert_eq!(after.whole.len(), 3);
    let damage =
        after.report.unwrap().findings.into_iter().filter(|found| found.severity == Severity::Damage);
    assert!(damage.map(|found| found.code).eq([FindingCode::IndexObjectDamaged; 3]));
}

#[test]
fn parts_of_the_data_take_turns_until_all_was_read() {
    let fixture = fixture(false);
    let cache = tempfile::tempdir().unwrap();
    let storage = MemoryStorage::from_objects(fixture.objects.clone());
    let repo = Arc::new(Repo::open(surroundings(&storage, cache.path()), &key(7)).unwrap());
    let check = |part| {
        let options = CheckOptions { directories: false, data: Some(part) };
        check::run(&repo, &options, &Silent::default()).unwrap().packs_read
    };
    let halves = [check(DataPart::Percent(50.0)), check(DataPart::Percent(50.0))];
    assert!(halves.iter().all(|count| *count < 6) && halves.iter().sum::<u64>() >= 6, "{halves:?}");
    assert_eq!(check(DataPart::Age(Duration::from_secs(3600))), 0);
    assert_eq!(check(DataPart::Age(Duration::ZERO)), 6);
}

#[derive(Default)]
struct Impatient(Silent);

impl Observer for Impatient {
    fn progress(&self) -> &Progress {
        self.0.progress()
    }
    fn phase(&self, _name: &'static str) {}
    fn problem(&self, _problem: &Problem) {}
    fn note(&self, _text: &str) {}
    fn is_interrupted(&self) -> bool {
        true
    }
}

#[test]
fn an_interrupted_check_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let storage = MemoryStorage::from_objects(fixture(false).objects.clone());
    let repo = Arc::new(Repo::open(surroundings(&storage, cache.path()), &key(7)).unwrap());
    let outcome = check::run(&repo, &ALL, &Impatient::default());
    assert!(matches!(outcome, Err(CheckError::Interrupted)));
}
