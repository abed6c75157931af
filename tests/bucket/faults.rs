//! Each fault at each kind of call: what the storage makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kluis::storage::{Created, ObjectName, S3Storage, Storage, StorageError};
use kluis::units::ByteRange;

use crate::proxy::{Fault, Proxy};
use crate::stores;

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

/// A proxy before the first store there is, and a storage behind it.
fn fixture() -> Option<(Proxy, S3Storage)> {
    let address = std::env::var(stores::RADOS).ok().or_else(|| stores::address(stores::MOTO))?;
    let proxy = Proxy::start(&address);
    let mut options = stores::options(&proxy.address);
    options.patience.stall = Duration::from_millis(300);
    Some((proxy, S3Storage::new(&options).unwrap()))
}

/// Once, the first time a request of this method comes.
fn once(method: &'static str, fault: Fault) -> impl Fn(&str, &str) -> Option<Fault> + Send + Sync + 'static {
    let left = Arc::new(AtomicU64::new(1));
    move |is, _| {
        let is_due = is == method && left.swap(0, Ordering::Relaxed) == 1;
        is_due.then_some(fault)
    }
}

const PASSING: [Fault; 10] = [
    Fault::CutBefore,
    Fault::CutWithin,
    Fault::AnswerLost,
    Fault::AnswerCut,
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(409),
    Fault::StatusAfter(500),
    Fault::Delay(50),
    Fault::Silence,
];

#[test]
fn a_fault_that_passes_is_not_noticed_by_callers() {
    let Some((proxy, storage)) = fixture() else { return };
    for (number, fault) in PASSING.into_iter().enumerate() {
        let name = name(&format!("data/00/{number}"));
        let bytes = vec![number as u8; 200_000];
        proxy.set(once("PUT", fault));
        assert_eq!(storage.create(&name, &bytes).unwrap(), Created::Created, "{fault:?}");
        proxy.set(once("GET", fault));
        assert!(storage.get(&name).unwrap() == bytes, "{fault:?}");
        proxy.set(once("GET", fault));
        let mut part = Vec::new();
        storage.get_range(&name, ByteRange { start: 100, len: 5 }, &mut part).unwrap();
        assert_eq!(part, [number as u8; 5], "{fault:?}");
        proxy.set(once("HEAD", fault));
        assert_eq!(storage.len(&name).unwrap(), 200_000, "{fault:?}");
        proxy.set(once("GET", fault));
        let mut count = 0;
        storage.list("data", &mut |_| count += 1).unwrap();
        assert_eq!(count, 1, "{fault:?}");
        proxy.set(once("DELETE", fault));
        storage.delete(&name).unwrap();
        proxy.behave();
        assert!(matches!(storage.get(&name), Err(StorageError::Missing { .. })), "{fault:?}");
    }
    assert!(proxy.fault_count() >= 6 * PASSING.len() as u64, "{}", proxy.fault_count());
    assert!(storage.requests().unwrap().repeated >= 5 * (PASSING.len() as u64 - 1));
}

#[test]
fn a_create_whose_answer_was_lost_still_knows_whose_bytes_are_there() {
    let Some((proxy, storage)) = fixture() else { return };
    for fault in [Fault::AnswerLost, Fault::StatusAfter(500), Fault::StatusAfter(503), Fault::AnswerCut] {
        let name = name(&format!("prune/{}.plan", stores::unused_prefix()));
        proxy.set(once("PUT", fault));
        assert_eq!(storage.create(&name, b"ours").unwrap(), Created::Created, "{fault:?}");
        proxy.set(once("PUT", fault));
        assert_eq!(storage.create(&name, b"another's").unwrap(), Created::Exists, "{fault:?}");
        assert_eq!(storage.get(&name).unwrap(), b"ours", "{fault:?}");
    }
}

#[test]
fn what_does_not_pass_is_an_error_that_names_bucket_and_host() {
    let Some((proxy, _)) = fixture() else { return };
    let mut options = stores::options(&proxy.address);
    options.patience.total = Duration::from_millis(400);
    options.patience.stall = Duration::from_millis(100);
    let storage = S3Storage::new(&options).unwrap();
    for fault in [Fault::CutBefore, Fault::AnswerLost, Fault::Status(503), Fault::Silence] {
        proxy.set(move |_, _| Some(fault));
        let begun = Instant::now();
        let error = storage.list("data", &mut |_| {}).unwrap_err();
        let text = kluis::event::with_causes(&error);
        assert!(text.contains("kluis-test at 127.0.0.1:") && text.contains("attempts"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(matches!(storage.create(&name("data/00/x"), b"x"), Err(StorageError::Failed { .. })));
    }
    // What will not change is not asked twice.
    proxy.set(|_, _| Some(Fault::Status(403)));
    let before = proxy.request_count();
    let error = storage.get(&name("data/00/x")).unwrap_err();
    assert!(kluis::event::with_causes(&error).contains("403"));
    assert_eq!(proxy.request_count() - before, 1);
}

#[test]
fn a_part_that_came_too_short_is_read_again() {
    let Some((proxy, storage)) = fixture() else { return };
    storage.create(&name("data/00/a"), &[7; 10_000]).unwrap();
    proxy.set(once("GET", Fault::AnswerShort));
    let mut part = Vec::new();
    storage.get_range(&name("data/00/a"), ByteRange { start: 10, len: 500 }, &mut part).unwrap();
    assert_eq!(part, [7; 500]);
}

#[test]
fn a_store_that_knows_no_condition_can_be_used_but_is_found_out() {
    let Some((proxy, storage)) = fixture() else { return };
    proxy.set(once("PUT", Fault::Status(501)));
    assert!(storage.creates_exclusively());
    assert_eq!(storage.create(&name("config/1"), b"one").unwrap(), Created::Created);
    assert!(!storage.creates_exclusively());
    assert_eq!(storage.create(&name("config/1"), b"two").unwrap(), Created::Exists);
    assert_eq!(storage.get(&name("config/1")).unwrap(), b"one");
    assert!(!kluis::repo::refuses_second_create(&storage).unwrap());
}

#[test]
fn a_limit_holds_for_all_connections_together_and_a_slow_line_is_no_dead_one() {
    let Some((proxy, _)) = fixture() else { return };
    let mut options = stores::options(&proxy.address);
    options.upload_limit = Some(400_000);
    options.download_limit = Some(400_000);
    // Far shorter than the transfer takes: what counts is that something moves.
    options.patience.stall = Duration::from_millis(600);
    let storage = S3Storage::new(&options).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                storage.create(&name(&format!("data/00/{number}")), &[number; 200_000]).unwrap();
            });
        }
    });
    let sent = begun.elapsed();
    assert!(sent >= Duration::from_millis(1500), "800 kB left at 400 kB a second in {sent:?}");
    let begun = Instant::now();
    assert_eq!(storage.get(&name("data/00/3")).unwrap(), [3; 200_000]);
    let received = begun.elapsed();
    assert!(received >= Duration::from_millis(200), "200 kB came at 400 kB a second in {received:?}");
    assert_eq!(storage.requests().unwrap().repeated, 0);
}
