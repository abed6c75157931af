//! Random operations against a plain map.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

pub(super) mod crash;
mod damage;

/// A key that looks like half of a keyed hash.
pub(super) fn random_key(seed: u64) -> [u8; 16] {
    *blake3::hash(&seed.to_le_bytes()).as_bytes().first_chunk().unwrap()
}

const REPOSITORY: RepositoryId = RepositoryId::new([1; 16]);

/// A folder and the path of an index in it.
struct Fixture {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    Fixture { path: folder.path().join("index.redb"), _folder: folder }
}

fn open(path: &Path) -> Index {
    Index::open(path, REPOSITORY).unwrap()
}

fn object_id(seed: u8) -> IndexObjectId {
    IndexObjectId::new([seed; 32])
}

/// A pack that holds the keys of these seeds, ten to a frame.
fn pack(id: u64, kind: PackKind, seeds: &[u64]) -> NewPack {
    let frames = seeds.chunks(10).zip(0u32..).map(|(seeds, number)| FrameRow {
        offset: 64 + 1000 * number,
        stored_len: 900,
        plain_len: 100 * seeds.len() as u32,
        codec: if number % 3 == 2 { 2 } else { 1 },
        depth: (number % 3 / 2) as u8,
        list_hash: random_key(u64::from(number)),
        bases: if number % 3 == 2 { vec![ContentId::new([number as u8; 32])] } else { Vec::new() },
    });
    let places = seeds.iter().enumerate().map(|(at, seed)| NewPlace {
        key: random_key(*seed),
        frame: (at / 10) as u16,
        start: 100 * (at as u32 % 10),
        len: 100,
    });
    let frames: Vec<_> = frames.collect();
    let places: Vec<_> = places.collect();
    let row = PackRow {
        id: PackId::new(*blake3::hash(&id.to_be_bytes()).as_bytes()),
        kind,
        payload_len: 1 << 30,
        wrap: 1,
        flags: 2,
        generation: 3,
        salt: [4; 32],
        frame_count: frames.len() as u32,
        chunk_count: places.len() as u32,
    };
    NewPack { row, frames, places }
}

/// What an index should hold, kept in the plainest way.
#[derive(Clone, Default)]
struct Model {
    objects: BTreeMap<IndexObjectId, Vec<PackId>>,
    packs: BTreeMap<PackId, NewPack>,
}

impl Model {
    fn add(&mut self, id: IndexObjectId, packs: &[NewPack]) {
        if self.objects.contains_key(&id) {
            return;
        }
        self.objects.insert(id, packs.iter().map(|pack| pack.row.id).collect());
        for pack in packs {
            self.packs.entry(pack.row.id).or_insert_with(|| pack.clone());
        }
    }

    fn remove(&mut self, ids: &[IndexObjectId]) {
        ids.iter().for_each(|id| drop(self.objects.remove(id)));
        let described: BTreeSet<PackId> = self.objects.values().flatten().copied().collect();
        self.packs.retain(|id, _| described.contains(id));
    }

    fn places(&self) -> BTreeSet<([u8; 16], PackId, u16, u32, u32)> {
        let of_pack = |pack: &NewPack| {
            let id = pack.row.id;
            pack.places.clone().into_iter().map(move |it| (it.key, id, it.frame, it.start, it.len))
        };
        self.packs.values().flat_map(of_pack).collect()
    }
}

/// Compares everything an index can be asked with the model.
fn assert_same(view: &IndexView, model: &Model) {
    let objects: Vec<_> = model.objects.keys().copied().collect();
    assert_eq!(view.index_objects().unwrap(), objects);
    let mut packs = BTreeMap::new();
    view.visit_packs(&mut |number, row| assert!(packs.insert(number, row).is_none())).unwrap();
    assert_eq!(packs.len(), model.packs.len());
    for (number, row) in &packs {
        let expected = model.packs.get(&row.id).unwrap();
        assert_eq!(row, &expected.row);
        assert_eq!(view.pack(*number).unwrap().as_ref(), Some(row));
        assert_eq!(view.pack_number(&row.id).unwrap(), Some(*number));
        assert_eq!(view.frames(*number).unwrap(), expected.frames);
        for (frame, at) in expected.frames.iter().zip(0..) {
            assert_eq!(view.frame(*number, at).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(view.frame(*number, expected.frames.len() as u16).unwrap(), None);
    }
    let named =
        |key: &[u8; 16], place: Place| (*key, packs[&place.pack].id, place.frame, place.start, place.len);
    let expected = model.places();
    let mut visited = Vec::new();
    view.visit_places(&mut |key, place| visited.push((*key, place))).unwrap();
    assert!(visited.is_sorted());
    assert_eq!(visited.iter().map(|(key, place)| named(key, *place)).collect::<BTreeSet<_>>(), expected);
    assert_eq!(visited.len(), expected.len());
    for seed in 0..400 {
        let key = random_key(seed);
        let places = view.lookup(&key).unwrap();
        let found: BTreeSet<_> = places.iter().map(|place| named(&key, place)).collect();
        assert_eq!(found, expected.iter().filter(|entry| entry.0 == key).copied().collect(), "of {seed}");
        assert_eq!(places.len(), found.len());
    }
    let totals = view.totals().unwrap();
    let frames: usize = model.packs.values().map(|pack| pack.frames.len()).sum();
    assert_eq!((totals.packs, totals.frames), (packs.len() as u64, frames as u64));
    assert_eq!(totals.places, expected.len() as u64);
}

#[derive(Debug, Clone)]
enum Step {
    Add { object: u8, packs: Vec<u64> },
    Remove { objects: Vec<u8> },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..12, prop::collection::vec(0u64..20, 0..4))
            .prop_map(|(object, packs)| Step::Add { object, packs }),
        3 => prop::collection::vec(0u8..12, 0..3).prop_map(|objects| Step::Remove { objects }),
        1 => Just(Step::Reopen),
    ]
}

/// The pack of this number: always the same, with chunks that other packs hold too.
fn model_pack(number: u64) -> NewPack {
    let seeds: Vec<u64> = (0..number * 7 % 60).map(|at| (at * at + number * 13) % 400).collect();
    pack(number, if number.is_multiple_of(4) { PackKind::Meta } else { PackKind::Data }, &seeds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_leave_the_index_equal_to_a_plain_map(steps in prop::collection::vec(step(), 1..25)) {
        let fixture = fixture();
        let mut index = open(&fixture.path);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Add { object, packs } => {
                    let packs: Vec<_> = packs.into_iter().map(model_pack).collect();
                    model.add(object_id(object), &packs);
                    index.add_index_object(object_id(object), packs).unwrap();
                }
                Step::Remove { objects } => {
                    let ids: Vec<_> = objects.into_iter().map(object_id).collect();
                    model.remove(&ids);
                    index.remove_index_objects(&ids).unwrap();
                }
                Step::Reopen => {
                    drop(index);
                    index = open(&fixture.path);
                }
            }
            assert_same(&index.view().unwrap(), &model);
        }
    }
}

#[test]
fn a_view_does_not_see_what_happens_after_it() {
    let fixture = fixture();
    let index = open(&fixture.path);
    let mut model = Model::default();
    model.add(object_id(1), &[model_pack(5)]);
    index.add_index_object(object_id(1), vec![model_pack(5)]).unwrap();
    let view = index.view().unwrap();
    index.add_index_object(object_id(2), vec![model_pack(6), model_pack(8)]).unwrap();
    index.remove_index_objects(&[object_id(1)]).unwrap();
    assert_same(&view, &model);
}

#[test]
fn an_index_is_open_once() {
    let fixture = fixture();
    let index = open(&fixture.path);
    assert!(matches!(Index::open(&fixture.path, REPOSITORY), Err(IndexError::Locked)));
    drop(index);
    open(&fixture.path);
}

#[test]
fn without_memory_for_filters_the_answers_are_the_same() {
    let fixture = fixture();
    let options = IndexOptions { filter_bytes_max: 0, ..IndexOptions::default() };
    let index = Index::open_with(&fixture.path, REPOSITORY, options).unwrap();
    let mut model = Model::default();
    for object in 0..5 {
        let packs = vec![model_pack(u64::from(object)), model_pack(7)];
        model.add(object_id(object), &packs);
        index.add_index_object(object_id(object), packs).unwrap();
    }
    assert_same(&index.view().unwrap(), &model);
}

#[test]
fn all_copies_of_a_chunk_are_found_by_pack_number() {
    let fixture = fixture();
    let index = open(&fixture.path);
    for object in 0..9u8 {
        let packs = vec![pack(u64::from(object), PackKind::Data, &[1, u64::from(object) + 10])];
        index.add_index_object(object_id(object), packs).unwrap();
    }
    let view = index.view().unwrap();
    let places = view.lookup(&random_key(1)).unwrap();
    assert_eq!(places.iter().map(|place| place.pack.0).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    assert_eq!((places.len(), places.first().unwrap().pack), (9, PackNumber(0)));
    assert!(view.lookup(&random_key(2)).unwrap().is_empty());
}

/// A pack with one frame and these keys, each a hundred bytes after the one before.
fn pack_of_keys(id: u64, keys: impl Iterator<Item = [u8; 16]>) -> NewPack {
    let mut pack = pack(id, PackKind::Data, &[0]);
    let place = |(at, key): (u32, [u8; 16])| NewPlace { key, frame: 0, start: 100 * at, len: 100 };
    pack.places = (0..).zip(keys).map(place).collect();
    pack
}

#[test]
fn ids_that_are_not_spread_evenly_are_found_too() {
    let fixture = fixture();
    let index = open(&fixture.path);
    let alike = |last: u32| u128::from(last).to_be_bytes();
    // One id fills several blocks, and all ids of the run begin with the same eight bytes.
    let packs = (0..400).map(|id| pack_of_keys(id, std::iter::once(alike(7)))).collect();
    index.add_index_object(object_id(1), packs).unwrap();
    index.add_index_object(object_id(2), vec![pack_of_keys(500, (0..1000).map(alike))]).unwrap();
    let view = index.view().unwrap();
    for last in 0..1000 {
        let expected = if last == 7 { 401 } else { 1 };
        assert_eq!(view.lookup(&alike(last)).unwrap().len(), expected, "of {last}");
    }
    assert!(view.lookup(&alike(1000)).unwrap().is_empty());
    assert!(view.lookup(&[0xff; 16]).unwrap().is_empty());
}

#[test]
fn the_places_of_forgotten_packs_do_not_stay() {
    let fixture = fixture();
    let index = open(&fixture.path);
    for object in 0..10u8 {
        index.add_index_object(object_id(object), vec![model_pack(u64::from(object) + 1)]).unwrap();
    }
    let stored_count = || {
        let reading = index.database.get().begin_read().unwrap();
        let runs = runs::all_runs(&reading.open_table(RUNS).unwrap()).unwrap();
        runs.iter().map(|(_, row)| u64::from(row.count)).sum::<u64>()
    };
    for object in 0..10 {
        index.remove_index_objects(&[object_id(object)]).unwrap();
        let count = index.view().unwrap().totals().unwrap().places;
        assert!(stored_count() * 3 <= count * 4, "{} are stored of {count}", stored_count());
    }
    assert_eq!(stored_count(), 0);
}

#[test]
fn a_full_index_is_compact_after_closing() {
    let fixture = fixture();
    let index = open(&fixture.path);
    for object in 0..20u8 {
        let seeds: Vec<u64> = (0..2000).map(|at| 10_000 * u64::from(object) + at).collect();
        index
            .add_index_object(object_id(object), vec![pack(u64::from(object), PackKind::Data, &seeds)])
            .unwrap();
    }
    let before = std::fs::metadata(&fixture.path).unwrap().len();
    drop(index);
    let after = std::fs::metadata(&fixture.path).unwrap().len();
    assert!(after < before && after < 40_000 * 64, "{after} bytes, {before} before");
    assert_eq!(open(&fixture.path).view().unwrap().totals().unwrap().places, 40_000);
}

#[test]
fn many_threads_ask_one_view_at_once() {
    let fixture = fixture();
    let index = open(&fixture.path);
    index
        .add_index_object(object_id(1), vec![pack(1, PackKind::Data, &(0..2000).collect::<Vec<_>>())])
        .unwrap();
    let view = &index.view().unwrap();
    let found = std::thread::scope(|scope| {
        let threads = (0..4u64).map(|thread| {
            scope.spawn(move || {
                (0..3000).filter(|at| !view.lookup(&random_key(at + thread)).unwrap().is_empty()).count()
            })
        });
        threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(found, [2000, 1999, 1998, 1997]);
}

#[test]
fn an_index_with_a_view_is_not_checked_and_without_it_is() {
    let fixture = fixture();
    let mut index = open(&fixture.path);
    index.add_index_object(object_id(1), vec![model_pack(5)]).unwrap();
    let view = index.view().unwrap();
    assert!(matches!(index.verify(), Err(IndexError::InUse)));
    drop(view);
    index.verify().unwrap();
}

#[test]
fn what_breaks_a_limit_is_refused_and_changes_nothing() {
    let fixture = fixture();
    let index = open(&fixture.path);
    let good = model_pack(5);
    let mut bad = vec![good.clone(), good.clone(), good.clone(), good];
    bad[0].places[0].frame = bad[0].frames.len() as u16;
    bad[1].places[0].len = crate::limits::FRAME_BYTES_MAX as u32 + 1;
    bad[2].places[0].start = u32::MAX;
    bad[3].frames[0].bases = vec![ContentId::new([0; 32]); crate::limits::BASE_COUNT_MAX + 1];
    for pack in bad {
        let added = index.add_index_object(object_id(1), vec![model_pack(8), pack]);
        assert!(matches!(added, Err(IndexError::Invalid { .. })));
    }
    assert_same(&index.view().unwrap(), &Model::default());
}
