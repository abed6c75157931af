//! A damaged file: refused, or answered rightly as far as it answers; never a wrong place, never a panic.

use super::*;

/// Bytes of an index that was closed properly, and what it holds.
fn closed_index() -> (Vec<u8>, Model) {
    let fixture = fixture();
    let index = open(&fixture.path);
    let mut model = Model::default();
    for object in 0..6 {
        let packs: Vec<_> = (0..3).map(|it| model_pack(u64::from(object) * 3 + it)).collect();
        model.add(object_id(object), &packs);
        index.add_index_object(object_id(object), packs).unwrap();
    }
    drop(index);
    (std::fs::read(&fixture.path).unwrap(), model)
}

/// Asks a damaged file everything. Rows may be hidden by the damage, and must not be wrong. Says whether the file
/// answered every question.
fn ask_everything(bytes: &[u8], model: &Model) -> Result<(), IndexError> {
    let fixture = fixture();
    std::fs::write(&fixture.path, bytes).unwrap();
    let mut index = Index::open(&fixture.path, REPOSITORY)?;
    let view = index.view()?;
    assert!(view.index_objects()?.iter().all(|id| model.objects.contains_key(id)));
    let mut packs = BTreeMap::new();
    view.visit_packs(&mut |number, row| {
        packs.insert(number, row);
    })?;
    for (number, row) in &packs {
        let Some(known) = model.packs.get(&row.id) else { panic!("{} was never added", row.id) };
        assert_eq!(row, &known.row);
        for (at, frame) in (0..).zip(&known.frames) {
            assert!(view.frame(*number, at)?.is_none_or(|found| found == *frame));
        }
        assert!(view.frames(*number)?.iter().all(|frame| known.frames.contains(frame)));
    }
    let expected = model.places();
    let is_right = |key: &[u8; 16], place: Place| match packs.get(&place.pack) {
        Some(pack) => expected.contains(&(*key, pack.id, place.frame, place.start, place.len)),
        None => true, // The row of the pack is hidden, so nobody can follow this place.
    };
    for seed in 0..400 {
        let key = random_key(seed);
        assert!(view.lookup(&key)?.iter().all(|place| is_right(&key, place)), "of {seed}");
    }
    let mut all_right = true;
    view.visit_places(&mut |key, place| all_right &= is_right(key, place))?;
    assert!(all_right);
    drop(view);
    index.add_index_object(object_id(99), vec![model_pack(19)])?;
    index.remove_index_objects(&[object_id(0), object_id(1)])?;
    index.verify()
}

fn refused(error: &IndexError) -> bool {
    matches!(error, IndexError::Damaged { .. } | IndexError::Stale)
}

/// Damages a file in many ways; says how many were noticed.
fn count_noticed(kinds: u64, damage: impl Fn(u64, &mut Vec<u8>)) -> u64 {
    let (bytes, model) = closed_index();
    let mut noticed = 0;
    for kind in 0..kinds {
        let mut damaged = bytes.clone();
        damage(kind, &mut damaged);
        if let Err(error) = ask_everything(&damaged, &model) {
            assert!(refused(&error), "{error:?}");
            noticed += 1;
        }
    }
    noticed
}

/// A number below `end` that depends on the seed alone.
fn chosen(seed: u64, end: usize) -> usize {
    usize::try_from(u64::from_le_bytes(*random_key(seed).first_chunk().unwrap())).unwrap() % end
}

/// The pages that hold anything. Some of them are old copies that damage cannot hurt.
fn used_pages(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() / 4096)
        .filter(|page| bytes[4096 * page..][..4096].iter().any(|byte| *byte != 0))
        .collect()
}

#[test]
fn an_undamaged_file_answers_everything() {
    let (bytes, model) = closed_index();
    ask_everything(&bytes, &model).unwrap();
}

#[test]
fn flipped_bits_are_never_a_wrong_place() {
    let noticed = count_noticed(150, |seed, bytes| {
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        bytes[used[chosen(seed, used.len())]] ^= 1 << (seed % 8);
    });
    assert!(noticed > 10, "{noticed} of 150 were noticed");
}

#[test]
fn zeroed_pages_are_never_a_wrong_place() {
    let noticed = count_noticed(60, |seed, bytes| {
        let used = used_pages(bytes);
        bytes[4096 * used[chosen(seed, used.len())]..][..4096].fill(0);
    });
    assert!(noticed > 10, "{noticed} of 60 were noticed");
}

#[test]
fn swapped_pages_are_never_a_wrong_place() {
    let noticed = count_noticed(60, |seed, bytes| {
        let used = used_pages(bytes);
        let (one, other) = (used[chosen(seed, used.len())], used[chosen(seed + 1000, used.len())]);
        (0..4096).for_each(|at| bytes.swap(4096 * one + at, 4096 * other + at));
    });
    assert!(noticed > 10, "{noticed} of 60 were noticed");
}

#[test]
fn a_cut_file_is_refused_at_every_length() {
    let (bytes, model) = closed_index();
    for seed in 0..40 {
        let len = 1 + chosen(seed, bytes.len() - 1);
        let error = ask_everything(&bytes[..len], &model).unwrap_err();
        assert!(refused(&error), "cut to {len}: {error:?}");
    }
}

#[test]
fn a_zeroed_header_and_a_foreign_file_are_refused() {
    let (bytes, model) = closed_index();
    let mut zeroed = bytes;
    zeroed[..320].fill(0);
    for bytes in [zeroed, vec![0; 4096], b"not a database".repeat(1000), vec![0xff; 100_000]] {
        assert!(refused(&ask_everything(&bytes, &model).unwrap_err()));
    }
}

#[test]
fn an_empty_file_is_a_new_index() {
    let fixture = fixture();
    std::fs::write(&fixture.path, "").unwrap();
    assert!(open(&fixture.path).view().unwrap().index_objects().unwrap().is_empty());
}

#[test]
fn an_index_of_another_repository_or_schema_is_stale() {
    let fixture = fixture();
    drop(open(&fixture.path));
    assert!(matches!(Index::open(&fixture.path, RepositoryId::new([2; 16])), Err(IndexError::Stale)));
    let index = open(&fixture.path);
    let writing = write::begin(index.database.get()).unwrap();
    let other = sealed_number(META, META_SCHEMA.as_bytes(), SCHEMA_VERSION + 1);
    writing.open_table(META).unwrap().insert(META_SCHEMA, other.as_slice()).unwrap();
    writing.commit().unwrap();
    drop(index);
    assert!(matches!(Index::open(&fixture.path, REPOSITORY), Err(IndexError::Stale)));
    Index::delete(&fixture.path).unwrap();
    Index::delete(&fixture.path).unwrap();
    open(&fixture.path);
}
