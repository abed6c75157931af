//! Counts that are wrong: nothing that is needed may be deleted because of them.

use super::super::super::write::begin;
use super::super::ledger::Ledger;
use super::*;

const SNAPSHOTS_APPLIED: [u8; 4] = [0, 2, 4, 6];

/// An index in which some things are needed and some are not, as a file.
fn counted_file() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let index = open(&path);
    index.add_index_object(object_id(1), (0..PACK_COUNT).map(pack).collect()).unwrap();
    index.make_counts().unwrap();
    SNAPSHOTS_APPLIED.iter().for_each(|snapshot| apply(&index, *snapshot, 4).unwrap());
    drop(index);
    std::fs::read(path).unwrap()
}

/// Whether a prune that believes the counts would delete the last copy of something that is needed.
fn is_unsafe(index: &Index, needed: &CountsDump) -> Result<bool, IndexError> {
    let mut dead = HashSet::new();
    for usage in index.packs_with_dead_bytes()? {
        let entries = index.dead_entries(usage.number)?;
        dead.extend(entries.entries.iter().map(|it| (usage.number, it.frame, it.start)));
    }
    let mut left = BTreeSet::new();
    let mut all = BTreeSet::new();
    index.view()?.visit_places(&mut |key, place| {
        all.insert(*key);
        if !dead.contains(&(place.pack, place.frame, place.start)) {
            left.insert(*key);
        }
    })?;
    Ok(needed.counts.keys().any(|key| all.contains(key) && !left.contains(key)))
}

/// Whether both proofs refuse what the counts nominate.
fn is_refused(index: &Index) -> (bool, bool) {
    let by_confirmation = index.confirm_dead().map_or(true, |found| !found.is_empty());
    let by_mark = index.mark().and_then(|marked| {
        let nominated = index.packs_with_dead_bytes()?;
        let dead: Result<Vec<_>, _> = nominated.iter().map(|it| index.dead_entries(it.number)).collect();
        index.contradictions(&marked, &dead?)
    });
    (by_confirmation, by_mark.map_or(true, |found| !found.is_empty()))
}

/// Takes `by` off the count of something, with all checks right, as an error in the program would.
fn lower(index: &Index, key: &[u8; 16], by: u32) {
    let writing = begin(index.database.get()).unwrap();
    let view = std::sync::Arc::new(index.view().unwrap());
    let places = view.lookup(key).unwrap();
    {
        let mut ledger = Ledger::new(&writing, view).unwrap();
        let number = ledger.resolve(key, &places).unwrap().unwrap();
        (0..by).for_each(|_| ledger.entry_mut(number).unwrap().subtract().unwrap());
        let entry = ledger.entry(number).unwrap();
        if entry.count() == 0 {
            let keeper = ledger.keeper(number, entry).unwrap();
            ledger.fall(keeper).unwrap();
        }
        ledger.finish().unwrap();
    }
    writing.commit().unwrap();
}

#[test]
fn a_flipped_counter_is_always_stopped_by_the_mark_and_by_the_confirmation() {
    let bytes = counted_file();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    std::fs::write(&path, &bytes).unwrap();
    let index = open(&path);
    let counts = index.dump_counts().unwrap().counts;
    drop(index);
    let mut unsafe_count = 0;
    for (key, count) in &counts {
        for by in BTreeSet::from([1, *count]) {
            for released in [None, Some(0), Some(4)] {
                std::fs::write(&path, &bytes).unwrap();
                let index = open(&path);
                lower(&index, key, by);
                let mut snapshots = BTreeSet::from(SNAPSHOTS_APPLIED);
                if let Some(snapshot) = released {
                    snapshots.remove(&snapshot);
                    if let Err(error) = release(&index, snapshot) {
                        assert!(matches!(error, IndexError::Damaged { .. }), "{error:?}");
                        continue;
                    }
                }
                if is_unsafe(&index, &recount(&index, &snapshots)).unwrap() {
                    unsafe_count += 1;
                    assert_eq!(is_refused(&index), (true, true), "{key:?} by {by}, {released:?}");
                }
            }
        }
    }
    assert!(unsafe_count > 50, "{unsafe_count} cases are too few to mean anything");
}

#[test]
fn a_flipped_counter_is_always_found_by_the_audit() {
    let bytes = counted_file();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    std::fs::write(&path, &bytes).unwrap();
    let index = open(&path);
    index.audit_counts().unwrap();
    let counts = index.dump_counts().unwrap().counts;
    drop(index);
    for (key, count) in &counts {
        for by in BTreeSet::from([1, *count]) {
            std::fs::write(&path, &bytes).unwrap();
            let index = open(&path);
            lower(&index, key, by);
            let found = index.audit_counts();
            assert!(matches!(found, Err(IndexError::Damaged { .. })), "{key:?} by {by}: {found:?}");
        }
    }
    assert!(counts.len() > 20);
}

#[test]
fn a_flipped_bit_of_the_file_is_noticed_or_costs_nothing() {
    let bytes = counted_file();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    std::fs::write(&path, &bytes).unwrap();
    let needed = recount(&open(&path), &BTreeSet::from(SNAPSHOTS_APPLIED));
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let mut noticed = 0;
    for seed in 0..300 {
        let at = chosen(seed, used as u64 * 8) as usize;
        let mut broken = bytes.clone();
        broken[at / 8] ^= 1 << (at % 8);
        std::fs::write(&path, &broken).unwrap();
        let asked = Index::open(&path, RepositoryId::new([1; 16])).and_then(|index| {
            release(&index, 2)?;
            apply(&index, 2, 3)?;
            let refused = is_refused(&index);
            Ok((is_unsafe(&index, &needed)?, refused))
        });
        match asked {
            Ok((is_unsafe, refused)) => {
                assert!(!is_unsafe || refused.0 || refused.1, "bit {at}");
                noticed += u32::from(refused.0 || refused.1);
            }
            Err(error) => {
                assert!(matches!(error, IndexError::Damaged { .. } | IndexError::Stale), "{error:?}");
                noticed += 1;
            }
        }
    }
    assert!(noticed > 10, "{noticed} of 300 were noticed");
}
