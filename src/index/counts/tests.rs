//! Random histories of packs and snapshots against counting from scratch, after every step.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use proptest::prelude::*;

use super::super::tests::random_key;
use super::*;
use crate::id::{ContentId, IndexObjectId, RepositoryId, SnapshotId};
use crate::index::{FrameRow, NewPack, NewPlace, PackKind, PackRow};

mod crash;
mod damage;
mod locality;

const CHUNK_COUNT: u64 = 40;
const NODE_COUNT: u64 = 24;
const PACK_COUNT: u8 = 16;

fn id(number: u64) -> ContentId {
    ContentId::new(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// Nodes come after chunks.
fn node(number: u64) -> ChildId {
    ChildId { id: id(CHUNK_COUNT + number), node: Some((number % 3) as u8) }
}

fn chunk(number: u64) -> ChildId {
    ChildId { id: id(number), node: None }
}

fn chosen(seed: u64, end: u64) -> u64 {
    u64::from_le_bytes(*random_key(seed).first_chunk().unwrap()) % end
}

/// What a node refers to: some chunks, and nodes before it, some of them twice.
fn children_of(number: u64) -> Vec<ChildId> {
    let seed = 1000 * number;
    let chunks = (0..chosen(seed, 8)).map(|at| chunk(chosen(seed + 1 + at, CHUNK_COUNT)));
    let nodes = (0..chosen(seed + 20, 4)).filter(|_| number > 0);
    let nodes = nodes.map(|at| node(chosen(seed + 21 + at, number.max(1))));
    chunks.chain(nodes).collect()
}

fn all_children() -> BTreeMap<ContentId, Vec<ChildId>> {
    (0..NODE_COUNT).map(|number| (node(number).id, children_of(number))).collect()
}

/// A pack with some chunks or nodes, some of them in frames with bases. What rests on bases lies deeper than they
/// do, whatever copies there are: each chunk is based at one depth only. Nodes rest on nodes, chunks on chunks.
fn pack(number: u8) -> NewPack {
    let seed = 100_000 + 1000 * u64::from(number);
    let kind = if number % 4 == 3 { PackKind::Meta } else { PackKind::Data };
    let (first, count) = if kind == PackKind::Meta { (CHUNK_COUNT, NODE_COUNT) } else { (0, CHUNK_COUNT) };
    let mut frames = Vec::new();
    let mut places = Vec::new();
    for at in 0..3 + chosen(seed, 8) {
        let seed = seed + 20 * at;
        let depth = chosen(seed + 1, 4) as u8;
        let bases = (0..if depth == 0 { 0 } else { 1 + chosen(seed + 2, 3) })
            .map(|it| chosen(seed + 3 + it, count / 4) * 4 + chosen(seed + 6 + it, u64::from(depth.max(1))))
            .map(|base| id(first + base));
        let bases: Vec<_> = bases.collect();
        frames.push(FrameRow {
            offset: 64 + 1000 * at as u32,
            stored_len: 900,
            plain_len: 1000,
            codec: 2,
            depth,
            list_hash: [0; 16],
            bases,
        });
        for place in 0..chosen(seed + 10, 4) {
            let wanted = chosen(seed + 11 + place, count);
            // A chunk or node of this level is based at this depth.
            let number = if depth == 0 { wanted } else { wanted / 4 * 4 + u64::from(depth) };
            places.push(NewPlace {
                key: id(first + number).prefix(),
                frame: at as u16,
                start: 100 * place as u32,
                len: 10 + number as u32,
            });
        }
    }
    let row = PackRow {
        id: pack_id(number),
        kind,
        payload_len: 1 << 20,
        wrap: 0,
        flags: 0,
        generation: 1,
        salt: [0; 32],
        frame_count: frames.len() as u32,
        chunk_count: places.len() as u32,
    };
    NewPack { row, frames, places }
}

fn pack_id(number: u8) -> PackId {
    PackId::new(*blake3::hash(&[number]).as_bytes())
}

fn object_id(number: u8) -> IndexObjectId {
    IndexObjectId::new([number; 32])
}

fn snapshot_id(number: u8) -> SnapshotId {
    SnapshotId::new([number; 16])
}

/// The root of a snapshot: several have the same.
fn root_of(snapshot: u8) -> ChildId {
    node(NODE_COUNT - 1 - u64::from(snapshot / 2 * 3))
}

fn open(path: &Path) -> Index {
    Index::open(path, RepositoryId::new([1; 16])).unwrap()
}

/// Counts a snapshot, reading nodes in batches of `batch`.
fn apply(index: &Index, snapshot: u8, batch: usize) -> Result<(), IndexError> {
    let children = all_children();
    let mut counting = index.begin_counting()?;
    counting.apply_root(snapshot_id(snapshot), root_of(snapshot))?;
    loop {
        let nodes = counting.nodes_to_read(batch);
        if nodes.is_empty() {
            return counting.commit(if snapshot.is_multiple_of(2) { Durable::Now } else { Durable::Later });
        }
        for node in nodes {
            let found = children[&node.id].iter();
            let found = found.map(|child| Ok((*child, counting.view().lookup(&child.id.prefix())?)));
            let found = found.collect::<Result<Vec<_>, IndexError>>()?;
            counting.add_children(&node, &found)?;
        }
    }
}

fn release(index: &Index, snapshot: u8) -> Result<(), IndexError> {
    let mut counting = index.begin_counting()?;
    counting.release_root(snapshot_id(snapshot))?;
    counting.commit(Durable::Now)
}

fn recount(index: &Index, snapshots: &BTreeSet<u8>) -> CountsDump {
    let roots: Vec<_> = snapshots.iter().map(|snapshot| root_of(*snapshot)).collect();
    let children = all_children();
    let mut read = |node: ChildId| Ok::<_, IndexError>(children[&node.id].clone());
    index.recount(&roots, &mut read).unwrap()
}

/// Compares, and names what differs by its number here.
fn assert_same(found: &CountsDump, expected: &CountsDump) {
    let names: BTreeMap<_, _> = (0..CHUNK_COUNT + NODE_COUNT).map(|it| (id(it).prefix(), it)).collect();
    let different = names.iter().filter(|(key, _)| found.counts.get(*key) != expected.counts.get(*key));
    let different = different.map(|(key, name)| (name, found.counts.get(key), expected.counts.get(key)));
    assert_eq!(different.collect::<Vec<_>>(), [], "found and expected counts");
    assert_eq!(found.packs, expected.packs);
    assert_eq!(found, expected);
}

/// Everything that must hold after every step.
fn assert_right(index: &Index, snapshots: &BTreeSet<u8>, absent: &HashSet<PackId>) {
    let expected = recount(index, snapshots);
    assert_same(&index.dump_counts().unwrap(), &expected);
    let keys: Vec<_> = (0..CHUNK_COUNT + NODE_COUNT).map(|number| id(number).prefix()).collect();
    let live: Vec<_> = keys.iter().map(|key| expected.counts.contains_key(key)).collect();
    assert_eq!(index.are_live(&keys).unwrap(), live);
    assert_eq!(index.confirm_dead().unwrap(), []);
    let audit = index.audit_counts().unwrap();
    if let Some(references) = audit.references {
        let view = index.view().unwrap();
        let mut wanted = ReferenceSum::default();
        for (key, count) in &expected.counts {
            let first = view.lookup(key).unwrap().iter().min().unwrap();
            (0..*count).for_each(|_| wanted.add(first));
        }
        assert_eq!(references, wanted);
    }
    let marked = index.mark().unwrap();
    assert_eq!(marked.count(), expected.counts.len() as u64);
    let (usage, mut nominated) = (index.pack_usage().unwrap(), index.packs_with_dead_bytes().unwrap());
    let mut dead = Vec::new();
    for usage in &usage {
        let entries = index.dead_entries(usage.number).unwrap();
        let dead_bytes: u64 = entries.entries.iter().map(|entry| u64::from(entry.len)).sum();
        assert_eq!(usage.total_bytes - usage.live_bytes, dead_bytes);
        assert_eq!(usage.total_count as usize - usage.live_count as usize, entries.entries.len());
        dead.push(entries);
    }
    assert_eq!(index.contradictions(&marked, &dead).unwrap(), []);
    nominated.sort_by_key(|usage| usage.number);
    let expected_nominated: Vec<_> =
        usage.iter().filter(|it| it.live_bytes < it.total_bytes).cloned().collect();
    assert_eq!(nominated, expected_nominated);
    let view = index.view().unwrap();
    let present = |key: &[u8; 16]| {
        let places = view.lookup(key).unwrap();
        places.iter().any(|place| !absent.contains(&view.pack(place.pack).unwrap().unwrap().id))
    };
    let lost: BTreeSet<_> = expected.counts.keys().filter(|key| !present(key)).copied().collect();
    let known_lost = index.lost_content().unwrap();
    assert!(known_lost.keys.iter().all(|key| lost.contains(key)));
    let in_absent = lost.iter().filter(|key| !view.lookup(key).unwrap().is_empty()).count();
    assert!(known_lost.keys.len() + in_absent >= lost.len());
    assert_eq!(lost.is_empty(), known_lost.keys.is_empty() && known_lost.absent_packs.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<u8>),
    Remove(Vec<u8>),
    Absent(Vec<u8>),
    Apply(u8, usize),
    Release(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let packs = || prop::collection::vec(0..PACK_COUNT, 1..4);
    prop_oneof![
        6 => packs().prop_map(Step::Add),
        3 => packs().prop_map(Step::Remove),
        1 => prop::collection::vec(0..PACK_COUNT, 0..4).prop_map(Step::Absent),
        6 => (0u8..12, 1usize..9).prop_map(|(snapshot, batch)| Step::Apply(snapshot, batch)),
        4 => (0u8..12).prop_map(Step::Release),
        1 => Just(Step::Reopen),
    ]
}

/// Takes one step in the index and in the plain record of what there is.
fn take(step: Step, index: &Index, snapshots: &mut BTreeSet<u8>, absent: &mut HashSet<PackId>) {
    match step {
        Step::Add(numbers) => {
            for number in numbers {
                let packs = vec![pack(number), pack((number + 5) % PACK_COUNT)];
                index.add_index_object(object_id(number), packs).unwrap();
            }
        }
        Step::Remove(numbers) => {
            let ids: Vec<_> = numbers.iter().map(|number| object_id(*number)).collect();
            index.remove_index_objects(&ids).unwrap();
        }
        Step::Absent(numbers) => {
            let view = index.view().unwrap();
            let ids = numbers.iter().map(|number| pack_id(*number));
            *absent = ids.filter(|id| view.pack_number(id).unwrap().is_some()).collect();
            drop(view);
            index.set_absent_packs(absent).unwrap();
        }
        Step::Apply(snapshot, batch) => {
            if snapshots.insert(snapshot) {
                apply(index, snapshot, batch).unwrap();
            }
        }
        Step::Release(snapshot) => {
            snapshots.remove(&snapshot);
            release(index, snapshot).unwrap();
        }
        // It is open once, so that the caller must drop it first.
        Step::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_the_counts_equal_a_recount(
        before in prop::collection::vec(0..PACK_COUNT, 0..4),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.redb");
        let mut index = open(&path);
        let (mut snapshots, mut absent) = Default::default();
        take(Step::Add(before), &index, &mut snapshots, &mut absent);
        index.make_counts().unwrap();
        assert_right(&index, &snapshots, &absent);
        for step in steps {
            if matches!(step, Step::Reopen) {
                drop(index);
                index = open(&path);
            }
            take(step, &index, &mut snapshots, &mut absent);
            let view = index.view().unwrap();
            absent.retain(|id| view.pack_number(id).unwrap().is_some());
            drop(view);
            assert_right(&index, &snapshots, &absent);
        }
        let left: Vec<_> = snapshots.iter().copied().collect();
        for snapshot in left {
            release(&index, snapshot).unwrap();
        }
        let dump = index.dump_counts().unwrap();
        prop_assert!(dump.counts.is_empty());
        prop_assert!(dump.packs.values().all(|live| *live == (0, 0)));
        prop_assert_eq!(index.edge_bytes().unwrap(), 0);
        prop_assert_eq!(index.lost_content().unwrap(), LostContent::default());
    }
}
