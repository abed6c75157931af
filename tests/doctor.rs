//! Every probe of the doctor says what is wrong when it is wrong: with a storage that breaks one promise, or a
//! repository in which one thing is not as it should be.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::path::Path;
use std::sync::Arc;

use kluis::backup::{self, BackupOptions, Labels};
use kluis::check::doctor::{self, Outcome, Probe};
use kluis::check::{self, CheckOptions, DataPart, newest_settings};
use kluis::clock::{Clock, FixedClock, SystemClock, Timestamp};
use kluis::crypto::{KdfParams, Secret};
use kluis::event::Silent;
use kluis::forget::{self, ForgetOptions};
use kluis::prune::{self, PruneOptions};
use kluis::repo::{Identity, InitOptions, Lease, Repo, Surroundings, UnlockSecret};
use kluis::storage::{
    Afterwards, Calls, Created, Fault, FaultPlan, FaultyStorage, HeldState, Hold, Listed, MappedObject,
    MemoryStorage, ObjectName, Storage, StorageError,
};
use kluis::units::ByteRange;

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    CreateReplaces,
    ListingIsOld,
    RangesAreShifted,
    CaseIsFolded,
    DeleteDoesNothing,
    RoomIs(u64),
    ClockIsAheadBy(i64),
    ListingLags,
}

/// Tells a lie.
struct Liar {
    inner: MemoryStorage,
    lie: Lie,
}

impl Liar {
    fn new(lie: Lie) -> Self {
        Self { inner: MemoryStorage::new(), lie }
    }

    fn folded(&self, name: &ObjectName) -> ObjectName {
        match self.lie {
            Lie::CaseIsFolded => ObjectName::new(name.as_str().to_lowercase()).unwrap(),
            _ => name.clone(),
        }
    }
}

impl Storage for Liar {
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Created, StorageError> {
        if self.lie == Lie::CreateReplaces {
            self.inner.set(name, bytes);
            return Ok(Created::Created);
        }
        self.inner.create(&self.folded(name), bytes)
    }
    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StorageError> {
        self.inner.get(&self.folded(name))
    }
    fn get_range(
        &self,
        name: &ObjectName,
        mut range: ByteRange,
        into: &mut Vec<u8>,
    ) -> Result<(), StorageError> {
        range.start += u64::from(self.lie == Lie::RangesAreShifted);
        self.inner.get_range(&self.folded(name), range, into)
    }
    fn len(&self, name: &ObjectName) -> Result<u64, StorageError> {
        self.inner.len(&self.folded(name))
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Listed)) -> Result<(), StorageError> {
        self.inner.list(prefix, &mut |mut listed| {
            if let Lie::ClockIsAheadBy(seconds) = self.lie {
                listed.stored_at.seconds += seconds;
            }
            if self.lie != Lie::ListingIsOld || prefix != "tmp" {
                visit(listed);
            }
        })
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        match self.lie {
            Lie::DeleteDoesNothing => Ok(()),
            _ => self.inner.delete(&self.folded(name)),
        }
    }
    fn replace(&self, name: &ObjectName, bytes: &[u8]) -> Result<(), StorageError> {
        self.inner.replace(name, bytes)
    }
    fn hold(&self, name: &ObjectName) -> Result<Option<Hold>, StorageError> {
        self.inner.hold(name)
    }
    fn held(&self, name: &ObjectName) -> Result<HeldState, StorageError> {
        self.inner.held(name)
    }
    fn map(&self, name: &ObjectName) -> Result<Option<MappedObject>, StorageError> {
        self.inner.map(name)
    }
    fn space_left(&self) -> Result<Option<u64>, StorageError> {
        match self.lie {
            Lie::RoomIs(bytes) => Ok(Some(bytes)),
            _ => Ok(Some(1 << 40)),
        }
    }
    fn listing_lags(&self) -> bool {
        self.lie == Lie::ListingLags
    }
    fn place(&self) -> String {
        "a liar".to_owned()
    }
}

/// What is not good, with how bad it is.
fn complaints(probes: &[Probe]) -> Vec<(&str, Outcome)> {
    let bad = probes.iter().filter(|probe| probe.outcome != Outcome::Good);
    bad.map(|probe| (probe.id, probe.outcome)).collect()
}

fn promises(lie: Lie) -> Vec<Probe> {
    doctor::promises(&Liar::new(lie), SystemClock.now()).unwrap()
}

#[test]
fn each_broken_promise_is_named_and_nothing_else() {
    use Outcome::{Bad, Note};
    let cases: [(Lie, &[(&str, Outcome)]); 10] = [
        (Lie::Nothing, &[]),
        (Lie::CreateReplaces, &[("second_create_is_refused", Bad)]),
        (Lie::ListingIsOld, &[("created_name_is_listed", Bad)]),
        (Lie::RangesAreShifted, &[("ranges_are_exact", Bad)]),
        (Lie::CaseIsFolded, &[("names_are_case_sensitive", Note)]),
        (Lie::DeleteDoesNothing, &[("delete_is_visible", Bad)]),
        (Lie::RoomIs(100 << 20), &[("space", Note)]),
        (Lie::RoomIs(1 << 20), &[("space", Bad)]),
        (Lie::ClockIsAheadBy(1000), &[("clock", Note)]),
        (Lie::ClockIsAheadBy(-90_000), &[("clock", Bad)]),
    ];
    for (lie, expected) in cases {
        let probes = promises(lie);
        assert_eq!(complaints(&probes), expected, "{lie:?}");
        for probe in &probes {
            assert!(!probe.message.is_empty() && !probe.message.ends_with('.'), "{probe:?}");
        }
    }
}

#[test]
fn what_is_tried_is_removed_again() {
    let storage = MemoryStorage::new();
    doctor::promises(&storage, SystemClock.now()).unwrap();
    assert!(storage.objects().is_empty());
}

#[test]
fn a_storage_that_refuses_to_store_is_bad_and_no_error() {
    let plan = FaultPlan { calls: Calls::Changes, at_call: 0, fault: Fault::Denied, then: Afterwards::Same };
    let storage = FaultyStorage::with_plan(Arc::new(MemoryStorage::new()), plan);
    let probes = doctor::promises(&storage, SystemClock.now()).unwrap();
    assert!(complaints(&probes).contains(&("storage", Outcome::Bad)), "{probes:?}");
}

struct Fixture {
    storage: MemoryStorage,
    repo: Arc<Repo>,
    cache: tempfile::TempDir,
    source: tempfile::TempDir,
}

fn surroundings(storage: &MemoryStorage, cache: &Path, host: &str, clock: Arc<dyn Clock>) -> Surroundings {
    let identity = Identity { host: host.into(), user: "user".into(), process: 1, boot: "boot".into() };
    Surroundings { storage: Arc::new(storage.clone()), cache: cache.to_owned(), clock, identity }
}

fn secret() -> UnlockSecret {
    UnlockSecret::KeyFile(Secret::new([7; 32]))
}

impl Fixture {
    fn new(parity: bool) -> Self {
        let (cache, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(source.path().join("file"), "content").unwrap();
        let storage = MemoryStorage::new();
        let around = surroundings(&storage, cache.path(), "here", Arc::new(SystemClock));
        let options = InitOptions { parity, kdf: KdfParams::MIN, ..InitOptions::default() };
        let repo = Arc::new(Repo::init(around, &options, &secret()).unwrap());
        Self { storage, repo, cache, source }
    }

    fn back_up(&self) {
        self.back_up_at(None);
    }

    fn back_up_at(&self, time: Option<Timestamp>) {
        let sources = vec![self.source.path().to_owned()];
        let labels = Labels { time, ..Labels::default() };
        let options = BackupOptions { sources, labels, ..BackupOptions::default() };
        backup::run(&self.repo, &options, &Silent::default()).unwrap();
    }

    fn inside(&self, now: Timestamp) -> Vec<Probe> {
        doctor::with_key(&self.repo, now).unwrap()
    }

    fn outside(&self, now: Timestamp) -> Vec<Probe> {
        doctor::without_key(&self.storage, now).unwrap()
    }

    /// The same repository as another computer sees it.
    fn as_host(&self, host: &str, cache: &Path, clock: Arc<dyn Clock>) -> Arc<Repo> {
        Arc::new(Repo::open(surroundings(&self.storage, cache, host, clock), &secret()).unwrap())
    }
}

fn message<'p>(probes: &'p [Probe], id: &str) -> &'p str {
    &probes.iter().find(|probe| probe.id == id).unwrap_or_else(|| panic!("{id} is not in {probes:?}")).message
}

fn days(count: i64) -> i64 {
    count * 24 * 60 * 60
}

fn in_days(count: i64) -> Timestamp {
    Timestamp::from_seconds(SystemClock.now().seconds + days(count))
}

#[test]
fn settings_that_do_not_fit_the_storage_are_told() {
    let fixture = Fixture::new(false);
    let config = newest_settings(&fixture.storage).unwrap().unwrap();
    assert_eq!(complaints(&doctor::settings(&fixture.storage, &config)), [("parity", Outcome::Note)]);
    let config = newest_settings(&Fixture::new(true).storage).unwrap().unwrap();
    assert_eq!(complaints(&doctor::settings(&fixture.storage, &config)), []);
    let lagging = Liar::new(Lie::ListingLags);
    assert_eq!(complaints(&doctor::settings(&lagging, &config)), [("listings", Outcome::Bad)]);
    let mut waits = config;
    waits.settle_seconds = 120;
    assert_eq!(complaints(&doctor::settings(&lagging, &waits)), [("listings", Outcome::Note)]);
}

#[test]
fn a_used_up_reserve_is_a_note_with_and_without_a_key() {
    let fixture = Fixture::new(true);
    fixture.back_up();
    let now = SystemClock.now();
    assert_eq!(complaints(&fixture.outside(now)), []);
    fixture.storage.delete(&ObjectName::new("reserve").unwrap()).unwrap();
    assert_eq!(complaints(&fixture.outside(now)), [("reserve", Outcome::Note)]);
    assert!(complaints(&fixture.inside(now)).contains(&("reserve", Outcome::Note)));
}

#[test]
fn snapshots_that_are_missing_damaged_or_of_the_future_are_told() {
    let fixture = Fixture::new(true);
    let of = |probes: &[Probe]| probes.iter().find(|probe| probe.id == "snapshots").unwrap().outcome;
    assert_eq!(of(&fixture.inside(SystemClock.now())), Outcome::Note, "there is none");
    fixture.back_up();
    assert_eq!(of(&fixture.inside(SystemClock.now())), Outcome::Good);
    fixture.back_up_at(Some(in_days(10)));
    let probes = fixture.inside(SystemClock.now());
    assert_eq!(of(&probes), Outcome::Note);
    assert!(message(&probes, "snapshots").contains("in the future"));
    let is_snapshot = |name: &&ObjectName| name.as_str().contains("snapshot/");
    let names: Vec<_> = fixture.storage.objects().keys().filter(is_snapshot).cloned().collect();
    let saved = fixture.storage.objects();
    for name in &names {
        fixture.storage.set(name, b"nonsense".as_slice());
    }
    assert_eq!(of(&fixture.inside(SystemClock.now())), Outcome::Bad);
    // Gone without having been forgotten.
    for name in &names {
        fixture.storage.remove(name);
    }
    assert_eq!(of(&fixture.inside(SystemClock.now())), Outcome::Bad);
    for name in &names {
        fixture.storage.set(name, saved[name].clone());
    }
    assert_eq!(of(&fixture.inside(in_days(11))), Outcome::Good);
}

#[test]
fn writers_at_work_are_named_and_those_left_behind_are_a_note() {
    let fixture = Fixture::new(true);
    fixture.back_up();
    let now = SystemClock.now();
    assert_eq!(message(&fixture.inside(now), "leases"), "no writer is registered");
    let other_cache = tempfile::tempdir().unwrap();
    let other = fixture.as_host("web1", other_cache.path(), Arc::new(SystemClock));
    let lease = Lease::register(&other, "backup").unwrap();
    let probes = fixture.inside(now);
    assert!(message(&probes, "leases").starts_with("at work: backup of web1 ("), "{probes:?}");
    assert!(!complaints(&probes).contains(&("leases", Outcome::Note)));
    assert_eq!(complaints(&fixture.outside(now)), [("leases", Outcome::Note)]);
    // Two days later nobody has heard of it.
    let clock: Arc<dyn Clock> = Arc::new(FixedClock(in_days(2)));
    let later_cache = tempfile::tempdir().unwrap();
    let later = fixture.as_host("here", later_cache.path(), clock);
    let probes = doctor::with_key(&later, in_days(2)).unwrap();
    assert!(complaints(&probes).contains(&("leases", Outcome::Note)), "{probes:?}");
    assert!(message(&probes, "leases").contains("no sign of life"), "{probes:?}");
    assert!(message(&probes, "leases").contains("2 days ago"), "{probes:?}");
    drop(lease);
    // A process of this computer that is gone: nobody holds its lease.
    let lease = Lease::register(&fixture.repo, "backup").unwrap();
    let leases: Vec<_> = fixture
        .storage
        .objects()
        .into_iter()
        .filter(|(name, _)| name.as_str().starts_with("lease/"))
        .collect();
    drop(lease);
    leases.iter().for_each(|(name, bytes)| fixture.storage.set(name, bytes.clone()));
    let probes = fixture.inside(now);
    assert!(message(&probes, "leases").contains("its process is gone"), "{probes:?}");
}

#[test]
fn an_open_prune_is_told_with_whom_it_waits_for() {
    let fixture = Fixture::new(true);
    fixture.back_up();
    std::fs::write(fixture.source.path().join("file"), "other content").unwrap();
    fixture.back_up();
    let list = fixture.repo.snapshots().unwrap();
    let ids = [list.snapshots[0].id];
    forget::run(&fixture.repo, &list, &ids, &ForgetOptions::default(), &Silent::default()).unwrap();
    let now = SystemClock.now();
    assert_eq!(message(&fixture.inside(now), "prune"), "no prune is under way");
    let other_cache = tempfile::tempdir().unwrap();
    let other = fixture.as_host("web1", other_cache.path(), Arc::new(SystemClock));
    let lease = Lease::register(&other, "backup").unwrap();
    let options = PruneOptions { confirmed: true, ..PruneOptions::default() };
    let report = prune::run(&fixture.repo, &options, &Silent::default()).unwrap();
    assert_eq!(report.waiting.len(), 1);
    let probes = fixture.inside(now);
    assert!(complaints(&probes).contains(&("prune", Outcome::Note)), "{probes:?}");
    assert!(message(&probes, "prune").starts_with("prune 1 waits for backup of web1 ("), "{probes:?}");
    assert!(complaints(&fixture.outside(now)).contains(&("prune", Outcome::Note)));
    drop(lease);
    assert!(message(&fixture.inside(now), "prune").ends_with("it waits for nobody"));
    let plan = ObjectName::new("prune/00000001.plan").unwrap();
    let copy = ObjectName::new("copy/prune/00000001.plan").unwrap();
    let bytes = fixture.storage.get(&plan).unwrap();
    fixture.storage.set(&plan, b"of a newer version".as_slice());
    fixture.storage.remove(&copy);
    assert!(complaints(&fixture.inside(now)).contains(&("prune", Outcome::Bad)));
    fixture.storage.set(&plan, bytes);
}

#[test]
fn data_that_was_never_read_or_not_for_long_is_told() {
    let fixture = Fixture::new(true);
    assert_eq!(message(&fixture.inside(SystemClock.now()), "data"), "there is no data yet");
    fixture.back_up();
    let probes = fixture.inside(SystemClock.now());
    assert!(complaints(&probes).contains(&("data", Outcome::Note)));
    assert!(message(&probes, "data").contains("were never read"), "{probes:?}");
    let options = CheckOptions { data: Some(DataPart::All), ..CheckOptions::default() };
    check::run(&fixture.repo, &options, &Silent::default()).unwrap();
    assert_eq!(complaints(&fixture.inside(SystemClock.now())), []);
    let probes = fixture.inside(in_days(100));
    assert!(message(&probes, "data").contains("100 days ago"), "{probes:?}");
    assert!(fixture.cache.path().exists());
}
