//! The disk stops in the middle of every transaction.

use super::super::super::tests::crash::{Disk, open_disk};
use super::*;

/// A history with every kind of transaction; shows what is counted after each. Those that are not forced to the disk
/// are followed by one that is.
fn run(disk: &Disk, mut after_step: impl FnMut(&Index)) -> Result<(), IndexError> {
    let index = open_disk(disk)?;
    let mut step = |outcome: Result<(), IndexError>| {
        outcome?;
        after_step(&index);
        Ok::<_, IndexError>(())
    };
    for number in 0..6 {
        step(index.add_index_object(object_id(number), vec![pack(number), pack(number + 8)]))?;
    }
    step(index.make_counts())?;
    step(apply(&index, 0, 4))?;
    step(apply(&index, 3, 4))?;
    step(index.add_index_object(object_id(6), vec![pack(6), pack(7)]))?;
    step(release(&index, 0))?;
    step(index.remove_index_objects(&[object_id(1), object_id(3)]))?;
    step(index.set_absent_packs(&HashSet::from([pack_id(2), pack_id(7)])))?;
    step(apply(&index, 5, 4))?;
    step(release(&index, 3))
}

/// What is counted, if anything is.
fn dump(index: &Index) -> Option<CountsDump> {
    index.has_counts().unwrap().then(|| index.dump_counts().unwrap())
}

#[test]
fn a_power_cut_at_any_call_leaves_the_counts_before_or_after_a_step() {
    let whole = Disk::default();
    let mut dumps = vec![None];
    run(&whole, |index| dumps.push(dump(index))).unwrap();
    let calls = whole.calls();
    assert!(calls > 100, "{calls} calls are too few to mean anything");
    for calls_max in (0..calls).step_by(11) {
        let disk = Disk::with(Vec::new(), Some(calls_max));
        let mut steps_done = 0usize;
        let ended = run(&disk, |_| steps_done += 1);
        assert!(ended.is_err() || steps_done == dumps.len() - 1);
        for image in disk.images() {
            let index = match open_disk(&Disk::with(image, None)) {
                Ok(index) => index,
                // Before the first commit there is nothing to keep.
                Err(error) => {
                    assert!(steps_done == 0, "after {calls_max} calls: {error:?}");
                    continue;
                }
            };
            let found = dump(&index);
            let mut candidates = dumps.iter().skip(steps_done.saturating_sub(1)).take(3);
            assert!(candidates.any(|dump| *dump == found), "after {calls_max} calls, {steps_done} steps");
            if found.is_some() {
                let snapshots = index.counted_snapshots().unwrap().into_iter();
                let counted = snapshots.filter(|it| it.state != SnapshotState::Released);
                let counted = counted.map(|it| it.id.bytes()[0]).collect();
                assert_eq!(found, Some(recount(&index, &counted)));
                assert_eq!(index.confirm_dead().unwrap(), []);
            }
        }
    }
}

#[test]
fn a_transaction_that_is_dropped_has_done_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder.path().join("index.redb"));
    index.add_index_object(object_id(1), (0..PACK_COUNT).map(pack).collect()).unwrap();
    assert!(matches!(index.begin_counting(), Err(IndexError::Invalid { .. })), "no counts are kept yet");
    index.make_counts().unwrap();
    apply(&index, 0, 4).unwrap();
    let before = index.dump_counts().unwrap();
    let mut counting = index.begin_counting().unwrap();
    counting.release_root(snapshot_id(0)).unwrap();
    drop(counting);
    let mut counting = index.begin_counting().unwrap();
    counting.apply_root(snapshot_id(4), root_of(4)).unwrap();
    let refused = counting.commit(Durable::Now);
    assert!(matches!(refused, Err(IndexError::Invalid { .. })), "a node was not read");
    assert_eq!(index.dump_counts().unwrap(), before);
    let mut counting = index.begin_counting().unwrap();
    assert!(counting.apply_root(snapshot_id(0), root_of(0)).is_err());
}

#[test]
fn what_only_some_snapshots_need_is_what_goes_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(&folder.path().join("index.redb"));
    index.add_index_object(object_id(1), (0..PACK_COUNT).map(pack).collect()).unwrap();
    index.make_counts().unwrap();
    let live = || {
        let usage = index.pack_usage().unwrap();
        usage.iter().fold((0, 0), |sum, it| (sum.0 + it.live_bytes, sum.1 + u64::from(it.live_count)))
    };
    (0..6).for_each(|snapshot| apply(&index, snapshot, 4).unwrap());
    // Snapshots 0 and 1 have the same root.
    assert_eq!(index.unique_bytes(&[snapshot_id(0)]).unwrap(), UniqueBytes::default());
    let before = live();
    let unique = index.unique_bytes(&[snapshot_id(0), snapshot_id(1)]).unwrap();
    assert_eq!(live(), before);
    assert!(unique.count > 0);
    release(&index, 0).unwrap();
    release(&index, 1).unwrap();
    let after = live();
    assert_eq!((unique.plain_bytes, unique.count), (before.0 - after.0, before.1 - after.1));
}
