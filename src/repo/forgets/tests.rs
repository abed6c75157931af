//! Tests of which records count.

use std::sync::Arc;

use super::*;
use crate::clock::{FixedClock, Timestamp};
use crate::crypto::{KdfParams, Secret};
use crate::format::forget::ForgottenSnapshot;
use crate::repo::{Identity, InitOptions, Surroundings, UnlockSecret};
use crate::storage::{MemoryStorage, Storage};

fn repo(memory: &MemoryStorage, cache: &std::path::Path) -> Repo {
    let identity = Identity { host: "host".into(), user: "user".into(), process: 1, boot: "boot".into() };
    let around = Surroundings {
        storage: Arc::new(memory.clone()),
        cache: cache.to_owned(),
        clock: Arc::new(FixedClock(Timestamp::from_seconds(1_800_000_000))),
        identity,
    };
    let options = InitOptions { kdf: KdfParams::MIN, ..InitOptions::default() };
    Repo::init(around, &options, &UnlockSecret::KeyFile(Secret::new([7; 32]))).unwrap()
}

fn record(snapshot: u8) -> ForgetRecord {
    ForgetRecord {
        version: 1,
        forgotten_at: Timestamp::from_seconds(1_800_000_000),
        host: "host".to_owned(),
        reason: "room".to_owned(),
        policy: String::new(),
        snapshots: vec![ForgottenSnapshot {
            id: SnapshotId::new([snapshot; 16]),
            series: SeriesId::new([9; 16]),
            sequence: 1,
        }],
        extensions: Vec::new(),
        tag: [0; 32],
    }
}

/// Seals and stores a record as somebody can who has the catalogue root, but not the admin key.
fn store_untagged(repo: &Repo, record: &ForgetRecord) -> ForgetId {
    let plain = record.encode().unwrap();
    let lease = SnapshotId::new([0; 16]);
    let mut payload =
        sealing::seal_object(&repo.keys, repo.id, ObjectKind::Forget, None, lease, &plain).unwrap();
    let id = ForgetId::new(payload_id(&payload));
    parity::append(&mut payload);
    repo.storage().create(&names::forget(&id), &payload).unwrap();
    id
}

#[test]
fn a_record_without_the_right_tag_drops_nothing_and_is_told() {
    let (memory, cache) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
    let repo = repo(&memory, cache.path());
    let good = repo.commit_forget(record(1)).unwrap();
    let zeros = store_untagged(&repo, &record(2));
    // The tag of another record.
    let tag = *repo.list_forgotten().unwrap().records[&good].tag();
    let borrowed = store_untagged(&repo, &ForgetRecord { tag, ..record(3) });
    let forgotten = repo.list_forgotten().unwrap();
    assert_eq!(forgotten.records.keys().collect::<Vec<_>>(), [&good]);
    assert_eq!(forgotten.snapshots().count(), 1);
    assert!(forgotten.get(SnapshotId::new([1; 16])).is_some());
    let mut ignored = vec![zeros, borrowed];
    ignored.sort();
    assert_eq!(forgotten.ignored, ignored);
    assert_eq!((forgotten.record_count(), forgotten.warnings().len()), (1, 2));
    let verdict = repo.examine_control(Named::Forget(zeros)).unwrap();
    assert!(matches!(verdict.first, Some(Err(DamageReason::Tag))));
}

#[test]
fn a_record_under_another_name_is_none() {
    let (memory, cache) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
    let repo = repo(&memory, cache.path());
    let id = repo.commit_forget(record(1)).unwrap();
    let bytes = memory.get(&names::forget(&id)).unwrap();
    let other = ForgetId::new([5; 32]);
    memory.create(&names::forget(&other), &bytes).unwrap();
    let forgotten = repo.list_forgotten().unwrap();
    assert_eq!((forgotten.records.len(), forgotten.damaged.len()), (1, 1));
    assert_eq!(forgotten.damaged[0].0, other);
}

#[test]
fn a_damaged_record_without_a_copy_is_mended_by_its_parity() {
    let (memory, cache) = (MemoryStorage::new(), tempfile::tempdir().unwrap());
    let repo = repo(&memory, cache.path());
    let id = repo.commit_forget(record(1)).unwrap();
    let name = names::forget(&id);
    let mut bytes = memory.get(&name).unwrap();
    bytes[130] ^= 1;
    memory.replace(&name, &bytes).unwrap();
    assert!(repo.list_forgotten().unwrap().get(SnapshotId::new([1; 16])).is_some());
    // A check says so all the same.
    assert!(matches!(repo.examine_control(Named::Forget(id)).unwrap().first, Some(Err(_))));
}
