//! Work in proportion to what changes: the rest is not even read.

use redb::ReadableTable;

use super::super::super::write::begin;
use super::*;

/// A pack of these, in one frame.
fn pack_of(number: u8, kind: PackKind, numbers: std::ops::Range<u64>) -> NewPack {
    let mut pack = pack(0);
    pack.row.id = pack_id(number);
    pack.row.kind = kind;
    pack.frames.truncate(1);
    pack.frames.iter_mut().for_each(|frame| (frame.depth, frame.bases) = (0, Vec::new()));
    let place =
        |(at, number): (u32, u64)| NewPlace { key: id(number).prefix(), frame: 0, start: 10 * at, len: 10 };
    pack.places = (0..).zip(numbers).map(place).collect();
    pack
}

/// Counts a snapshot that is a single folder.
fn apply_folder(index: &Index, snapshot: u8, root: u64, chunks: std::ops::Range<u64>) {
    let mut counting = index.begin_counting().unwrap();
    counting.apply_root(snapshot_id(snapshot), ChildId { id: id(root), node: Some(0) }).unwrap();
    for node in counting.nodes_to_read(1) {
        let children = chunks.clone().map(chunk);
        let places = children.map(|it| (it, counting.view().lookup(&it.id.prefix()).unwrap()));
        counting.add_children(&node, &places.collect::<Vec<_>>()).unwrap();
    }
    counting.commit(Durable::Now).unwrap();
}

#[test]
fn packs_and_edges_that_nobody_talks_about_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.redb");
    let index = open(&path);
    let unrelated = vec![
        pack_of(1, PackKind::Data, 100..200),
        pack_of(2, PackKind::Data, 200..300),
        pack_of(3, PackKind::Meta, 900..901),
    ];
    index.add_index_object(object_id(1), unrelated).unwrap();
    index.make_counts().unwrap();
    apply_folder(&index, 1, 900, 100..300);
    let own = vec![pack_of(4, PackKind::Data, 300..310), pack_of(5, PackKind::Meta, 901..902)];
    index.add_index_object(object_id(2), own).unwrap();
    let writing = begin(index.database.get()).unwrap();
    {
        // Whoever reads one of these rows is told that the index is damaged.
        let mut blocks = writing.open_table(BLOCKS).unwrap();
        for block in 0..300 {
            for pack in 0..3 {
                let key = rows::block_key((pack, block));
                if blocks.get(key).unwrap().is_some() {
                    blocks.insert(key, [0; 40].as_slice()).unwrap();
                }
            }
        }
        let mut edges = writing.open_table(EDGES).unwrap();
        let parents: Vec<_> = edges.iter().unwrap().map(|row| row.unwrap().0.value()).collect();
        assert_eq!(parents.len(), 1);
        parents.iter().for_each(|parent| drop(edges.insert(parent, [0; 40].as_slice()).unwrap()));
        let mut table = writing.open_table(PARENTS).unwrap();
        let keys: Vec<_> = table.iter().unwrap().map(|row| row.unwrap().0.value()).collect();
        keys.iter().for_each(|key| drop(table.insert(key, [0; 40].as_slice()).unwrap()));
    }
    writing.commit().unwrap();
    drop(index);
    let index = open(&path);
    assert!(index.mark().is_err());
    apply_folder(&index, 2, 901, 300..310);
    assert_eq!(index.packs_with_dead_bytes().unwrap(), []);
    let unique = index.unique_bytes(&[snapshot_id(2)]).unwrap();
    assert_eq!((unique.count, unique.plain_bytes), (11, 110));
    release(&index, 2).unwrap();
    let dead = index.packs_with_dead_bytes().unwrap();
    assert_eq!(dead.iter().map(|usage| usage.row.id).collect::<Vec<_>>(), [pack_id(4), pack_id(5)]);
    let entries: usize = dead.iter().map(|it| index.dead_entries(it.number).unwrap().entries.len()).sum();
    assert_eq!(entries, 11);
    assert_eq!(index.confirm_dead().unwrap(), []);
    index.remove_index_objects(&[object_id(2)]).unwrap();
    assert_eq!(index.packs_with_dead_bytes().unwrap(), []);
}
