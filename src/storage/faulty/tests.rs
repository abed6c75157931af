//! Proof that faults happen where the plan says, and nowhere else.

use super::*;
use crate::storage::MemoryStorage;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn names(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    storage.list(prefix, &mut |listed| names.push(listed.name.to_string())).unwrap();
    names
}

fn faulty(calls: Calls, at_call: u64, fault: Fault, then: Afterwards) -> (MemoryStorage, FaultyStorage) {
    let below = MemoryStorage::new();
    for leaf in 0..4 {
        below.set(&name(&format!("data/0{leaf}")), *b"four");
    }
    let plan = FaultPlan { calls, at_call, fault, then };
    (below.clone(), FaultyStorage::with_plan(Arc::new(below), plan))
}

#[test]
fn a_dead_process_does_nothing_any_more() {
    let (below, storage) = faulty(Calls::All, 1, Fault::Before, Afterwards::Dead);
    assert_eq!(storage.create(&name("index/a"), b"a").unwrap(), Created::Created);
    assert_eq!(storage.struck(), None);
    assert!(storage.create(&name("index/b"), b"b").is_err());
    assert!(storage.create(&name("index/c"), b"c").is_err());
    assert!(storage.get(&name("index/a")).is_err());
    assert!(storage.delete(&name("index/a")).is_err());
    assert_eq!(storage.struck().as_deref(), Some("create index/b"));
    assert_eq!(names(&below, "index"), ["index/a"]);
    assert_eq!((storage.call_count(Calls::All), storage.call_count(Calls::Changes)), (5, 4));
}

#[test]
fn a_torn_create_leaves_half_a_file_in_tmp_and_no_name() {
    let (below, storage) = faulty(Calls::Changes, 0, Fault::Torn, Afterwards::Fine);
    assert!(storage.create(&name("index/a"), b"1234").is_err());
    assert_eq!((names(&below, "index"), names(&below, "tmp")), (vec![], vec!["tmp/torn.1".to_owned()]));
    assert_eq!(below.get(&name("tmp/torn.1")).unwrap(), b"12");
    assert_eq!(storage.create(&name("index/a"), b"1234").unwrap(), Created::Created);
}

#[test]
fn a_create_whose_answer_is_lost_has_happened() {
    let (below, storage) = faulty(Calls::Changes, 0, Fault::After, Afterwards::Fine);
    assert!(storage.create(&name("index/a"), b"1234").is_err());
    assert_eq!(below.get(&name("index/a")).unwrap(), b"1234");
    let (below, storage) = faulty(Calls::Changes, 0, Fault::TornVisibly, Afterwards::Fine);
    assert!(storage.create(&name("index/a"), b"1234").is_err());
    assert_eq!(below.get(&name("index/a")).unwrap(), b"12");
}

#[test]
fn a_full_disk_stays_full_and_can_be_read() {
    let (_, storage) = faulty(Calls::Changes, 0, Fault::OutOfSpace, Afterwards::Same);
    for _ in 0..2 {
        match storage.create(&name("index/a"), b"1").unwrap_err() {
            StorageError::Failed { source, .. } => assert_eq!(source.kind(), io::ErrorKind::StorageFull),
            other => panic!("{other}"),
        }
    }
    assert_eq!(storage.get(&name("data/00")).unwrap(), b"four");
}

#[test]
fn only_calls_that_count_are_hit() {
    let (_, storage) = faulty(Calls::Lists, 1, Fault::Denied, Afterwards::Fine);
    storage.get(&name("data/00")).unwrap();
    assert_eq!(names(&storage, "data").len(), 4);
    storage.get(&name("data/00")).unwrap();
    assert!(storage.list("data", &mut |_| {}).is_err());
    assert_eq!(names(&storage, "data").len(), 4);
    assert_eq!((storage.call_count(Calls::Lists), storage.call_count(Calls::Reads)), (3, 2));
}

#[test]
fn every_way_of_reading_can_return_a_flipped_bit() {
    let (_, storage) = faulty(Calls::Reads, 0, Fault::FlippedBit(33), Afterwards::Same);
    assert_eq!(storage.get(&name("data/00")).unwrap(), b"dour");
    let mut into = b"-".to_vec();
    storage.get_range(&name("data/00"), ByteRange { start: 1, len: 2 }, &mut into).unwrap();
    assert_eq!(into, b"-mu");
    assert_eq!(&*storage.map(&name("data/00")).unwrap().unwrap(), b"dour");
}

#[test]
fn listings_can_end_early_with_and_without_saying_so() {
    let (_, storage) = faulty(Calls::Lists, 0, Fault::ListingCut, Afterwards::Fine);
    assert_eq!(names(&storage, "data").len(), 2);
    let (_, storage) = faulty(Calls::Lists, 0, Fault::Torn, Afterwards::Fine);
    let mut visited = 0;
    assert!(storage.list("data", &mut |_| visited += 1).is_err());
    assert_eq!(visited, 2);
}

#[test]
fn a_stale_listing_shows_what_was_there_before() {
    let (_, storage) = faulty(Calls::Lists, 0, Fault::ListingStale, Afterwards::Fine);
    storage.create(&name("data/04"), b"new").unwrap();
    storage.delete(&name("data/00")).unwrap();
    storage.delete(&name("data/04")).unwrap();
    storage.create(&name("data/05"), b"new").unwrap();
    let mut stale = names(&storage, "data");
    stale.sort();
    assert_eq!(stale, ["data/00", "data/01", "data/02", "data/03"]);
    assert_eq!(names(&storage, "data"), ["data/01", "data/02", "data/03", "data/05"]);
}

/// All listings that 64 power cuts lead to, after `work`.
fn outcomes(fault: Fault, work: impl Fn(&FaultyStorage)) -> BTreeSet<String> {
    let outcome = |seed| {
        let (below, storage) = faulty(Calls::Changes, 1, fault, Afterwards::Dead);
        work(&storage);
        storage.lose_power(seed).unwrap();
        names(&below, "").join(" ")
    };
    (0..64).map(outcome).collect()
}

#[test]
fn a_power_cut_brings_deleted_packs_back_or_not() {
    let found = outcomes(Fault::Before, |storage| {
        storage.delete(&name("data/00")).unwrap();
        let _ = storage.delete(&name("data/01"));
    });
    let expected = ["data/00 data/01 data/02 data/03", "data/01 data/02 data/03"];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_power_cut_takes_back_only_what_was_never_answered_or_listed() {
    let unanswered = |storage: &FaultyStorage| {
        storage.create(&name("index/a"), b"a").unwrap();
        storage.create(&name("index/b"), b"b").unwrap_err();
    };
    let rest = "data/00 data/01 data/02 data/03";
    let both = [format!("{rest} index/a"), format!("{rest} index/a index/b")];
    assert_eq!(outcomes(Fault::After, unanswered).into_iter().collect::<Vec<_>>(), both);
    let listed = outcomes(Fault::After, |storage| {
        unanswered(storage);
        storage.set_plan(None);
        names(storage, "index");
    });
    assert_eq!(listed.into_iter().collect::<Vec<_>>(), [both[1].clone()]);
}
