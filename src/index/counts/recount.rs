//! Counting from scratch, in the plainest way: what the counts must equal after every change. For tests and checks;
//! memory and time grow with the repository.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};

use super::super::error::{Guarded, IndexError, guarded};
use super::super::rows::{opened, pair_key};
use super::super::{Index, IndexView, PackNumber, Place};
use super::apply::ChildId;
use super::ledger::{Ledger, decode_frame_edges};
use super::rows::LocalNumber;
use super::{ABSENT, FRAME_EDGES, LOST_KEYS};
use crate::id::PackId;

type Key = [u8; 16];

/// Counts of everything, by what does not depend on the order of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountsDump {
    /// Counts above zero, by the first half of the id.
    pub counts: BTreeMap<Key, u32>,
    /// Needed bytes, and how many chunks or nodes, of every pack that is there.
    pub packs: BTreeMap<PackId, (u64, u32)>,
}

impl Index {
    /// The counts as they are kept.
    pub fn dump_counts(&self) -> Result<CountsDump, IndexError> {
        let mut dump = CountsDump::default();
        for usage in self.pack_usage()? {
            dump.packs.insert(usage.row.id, (usage.live_bytes, usage.live_count));
        }
        let mut kept = Kept::read(self)?;
        let keys = std::mem::take(&mut kept.keys);
        guarded(|| {
            for (number, key) in keys {
                let count = kept.ledger.get_mut().entry(number)?.count();
                if count > 0 {
                    dump.counts.insert(key, count);
                }
            }
            Ok(dump)
        })
    }

    /// The counts as they should be for these roots: `children` says what a node refers to.
    ///
    /// Of something that no pack holds any more nobody but the index remembers what its last copy rested on, so that
    /// is believed.
    pub fn recount<E: From<IndexError>>(
        &self,
        roots: &[ChildId],
        children: &mut dyn FnMut(ChildId) -> Result<Vec<ChildId>, E>,
    ) -> Result<CountsDump, E> {
        let kept = Kept::read(self)?;
        let mut recount = Recount { kept, dump: CountsDump::default(), frames: HashSet::new() };
        let view = Arc::clone(&recount.kept.view);
        let absent = recount.kept.absent.clone();
        view.visit_packs(&mut |number, row| {
            if !absent.contains(&number.0) {
                recount.dump.packs.insert(row.id, (0, 0));
            }
        })?;
        let mut expanded = HashSet::new();
        let mut stack: Vec<_> = roots.to_vec();
        while let Some(child) = stack.pop() {
            recount.refer(child.id.prefix())?;
            if child.node.is_some() && expanded.insert(child.id) {
                let mut found = children(child)?;
                found.sort_unstable_by_key(|it| (it.id, it.node.is_none()));
                found.dedup_by_key(|it| it.id);
                stack.append(&mut found);
            }
        }
        Ok(recount.dump)
    }
}

struct Recount {
    kept: Kept,
    dump: CountsDump,
    frames: HashSet<(PackNumber, u16)>,
}

impl Recount {
    /// One reference more to an id, and all that follows from the bases of frames.
    fn refer(&mut self, key: Key) -> Result<(), IndexError> {
        let mut stack = vec![key];
        while let Some(key) = stack.pop() {
            let count = self.dump.counts.entry(key).or_default();
            *count += 1;
            if *count > 1 {
                continue;
            }
            match self.kept.best(&key)? {
                Some((place, id)) => {
                    let (bytes, count) = self.dump.packs.entry(id).or_default();
                    *bytes += u64::from(place.len.max(1));
                    *count += 1;
                    if self.frames.insert((place.pack, place.frame)) {
                        let frame = self.kept.view.frame(place.pack, place.frame)?;
                        let bases = frame.map(|frame| frame.bases).unwrap_or_default();
                        let bases: HashSet<_> = bases.iter().map(|base| base.prefix()).collect();
                        stack.extend(bases);
                    }
                }
                None => {
                    if let Some((pack, frame, bases)) = self.kept.last_bases(&key)?
                        && self.frames.insert((pack, frame))
                    {
                        stack.extend(bases);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is kept, as one transaction sees it that changes nothing.
struct Kept {
    ledger: Guarded<Ledger<WriteTransaction>>,
    view: Arc<IndexView>,
    /// All numbers that stand for ids.
    keys: HashMap<LocalNumber, Key>,
    absent: HashSet<u32>,
}

impl Kept {
    fn read(index: &Index) -> Result<Self, IndexError> {
        let mut ledger = index.begin_counting()?.into_ledger();
        guarded(|| {
            let inner = ledger.get_mut();
            let view = Arc::clone(&inner.view);
            let mut places = Vec::new();
            view.visit_places(&mut |key, place| places.push((*key, place)))?;
            let mut keys = HashMap::new();
            for (key, place) in places {
                let copy = inner.number_of(place)?;
                keys.insert(inner.representative(copy)?, key);
                inner.spill_if_full()?;
            }
            for row in inner.writing.open_table(LOST_KEYS)?.iter()? {
                let (number, row) = row?;
                let number = number.value();
                let key = opened(LOST_KEYS, &number.to_be_bytes(), row.value())?.try_into();
                let key = key.map_err(|_| IndexError::damaged("a lost id has another width"))?;
                keys.insert(LocalNumber(number), key);
            }
            let rows = inner.writing.open_table(ABSENT)?;
            let absent = rows.iter()?.map(|row| Ok(row?.0.value()));
            let absent = absent.collect::<Result<_, IndexError>>()?;
            drop(rows);
            Ok(Self { ledger, view, keys, absent })
        })
    }

    /// The copy that should be used.
    fn best(&self, key: &Key) -> Result<Option<(Place, PackId)>, IndexError> {
        let mut best = None;
        for place in self.view.lookup(key)?.iter().filter(|place| !self.absent.contains(&place.pack.0)) {
            let (Some(row), Some(frame)) =
                (self.view.pack(place.pack)?, self.view.frame(place.pack, place.frame)?)
            else {
                return Err(IndexError::damaged("a place leads nowhere"));
            };
            let candidate = (frame.depth, row.id, place);
            best = Some(best.map_or(candidate, |best| candidate.min(best)));
        }
        Ok(best.map(|(_, id, place)| (place, id)))
    }

    /// What the last copy of something that is lost rested on.
    fn last_bases(&mut self, key: &Key) -> Result<Option<(PackNumber, u16, Vec<Key>)>, IndexError> {
        let ledger = self.ledger.get_mut();
        let places = self.view.lookup(key)?;
        let Some(number) = ledger.resolve(key, &places)? else { return Ok(None) };
        let entry = ledger.entry(number)?;
        let keeper = ledger.keeper(number, entry)?;
        let kept = ledger.entry(keeper)?;
        let at = pair_key(keeper.pack().0, kept.frame());
        let table = ledger.writing.open_table(FRAME_EDGES)?;
        let row = match (kept.is_based(), table.get(at)?) {
            (true, Some(row)) => decode_frame_edges(at, row.value())?.1,
            _ => return Ok(None),
        };
        let bases = row.iter().filter_map(|base| self.keys.get(base).copied()).collect();
        Ok(Some((keeper.pack(), kept.frame(), bases)))
    }
}
