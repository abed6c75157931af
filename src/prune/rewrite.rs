//! P5: what is needed of packs that are mostly not goes into new packs, frame by frame (see `repo/frame_copy`).
//!
//! A pack in which anything that is needed is damaged stays where it is. Until the plan is there, all that is written is
//! ordinary garbage. A frame is stored plainly where its bases are gone, or kept by frames that are moved alone and cost
//! more than the difference saves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::event::Observer;
use crate::format::frame::FrameEntry;
use crate::id::{ContentId, SnapshotId};
use crate::index::{Index, IndexView, PackNumber};
use crate::prune::{PackName, PruneError, fates};
use crate::repo::{
    BasePrices, ChunkReader, ChunkWriter, FrameCopy, PackProbe, PackSet, PackToCopy, Presence, Repo,
    RepoError, View, Wanted, WriterOptions,
};

/// What a rewriting did.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Bytes that were stored.
    pub bytes_stored: u64,
    /// Packs that must stay, because something that is needed of them is damaged.
    pub damaged: Vec<PackName>,
}

/// Copies what is needed of these packs. What some pack of `listed` holds that is not `doomed` is not copied again.
pub fn run(
    repo: &Arc<Repo>,
    numbers: &[PackNumber],
    doomed: &BTreeMap<PackName, u64>,
    listed: &BTreeSet<PackName>,
    observer: &dyn Observer,
) -> Result<Rewritten, PruneError> {
    let index = repo.counted_index()?;
    let view = index.view().map_err(RepoError::from)?;
    let mut end = 0;
    let mut kept = Vec::new();
    let mut names = BTreeMap::new();
    let visited = view.visit_packs(&mut |number, row| {
        let name = (row.kind, row.id);
        end = end.max(number.0 + 1);
        if listed.contains(&name) && !doomed.contains_key(&name) {
            kept.push(number);
        }
        names.insert(number, name);
    });
    visited.map_err(RepoError::from)?;
    let present = PackSet::below(end);
    kept.into_iter().for_each(|number| present.insert(number));
    let packs = packs(&index, &view, numbers, &names)?;
    let prices = Prices::of(&index, &view, &packs)?;
    drop(index);
    let lease = SnapshotId::new(repo.random()?);
    let options = WriterOptions::default();
    let for_writing = Arc::new(View::new(view, Presence::Listed(present), Arc::default()));
    let writer = ChunkWriter::start(repo, lease, for_writing, options);
    let reader = ChunkReader::new(Arc::clone(repo), Arc::new(all_described(repo)?));
    let copy = FrameCopy { reader: &reader, writer: &writer, prices: Some(&prices), observer };
    let outcome = copy.run(&packs);
    if let (Some(failure), Err(_)) = (writer.failure(), &outcome) {
        return Err(failure.into());
    }
    let damaged = match outcome {
        Err(RepoError::Ended) if observer.is_interrupted() => return Err(PruneError::Interrupted),
        outcome => outcome?.into_iter().collect(),
    };
    let written = writer.finish()?;
    Ok(Rewritten { bytes_stored: written.bytes_stored, damaged })
}

fn packs(
    index: &Index,
    view: &IndexView,
    numbers: &[PackNumber],
    names: &BTreeMap<PackNumber, PackName>,
) -> Result<Vec<PackToCopy>, RepoError> {
    let mut packs = Vec::new();
    for number in numbers {
        let Some(name) = names.get(number).copied() else { continue };
        let wanted = Wanted::AllBut(index.dead_entries(*number)?);
        let left_out = view.stated_damage(&name.1)?.map(|damage| damage.frames).unwrap_or_default();
        let depths = view.frames(*number)?.iter().map(|frame| frame.depth).collect();
        packs.push(PackToCopy { number: *number, name, wanted, left_out, depths });
    }
    Ok(packs)
}

/// What the bases of moved frames cost, of which nothing else needs them.
struct Prices(HashMap<[u8; 16], u64>);

impl Prices {
    fn of(index: &Index, view: &IndexView, packs: &[PackToCopy]) -> Result<Self, RepoError> {
        let mut moved: BTreeMap<[u8; 16], u64> = BTreeMap::new();
        for pack in packs.iter().filter(|pack| pack.depths.iter().any(|depth| *depth > 0)) {
            let Wanted::AllBut(dead) = &pack.wanted else { continue };
            let mut dead_bytes: HashMap<u16, u32> = HashMap::new();
            for dead in &dead.entries {
                *dead_bytes.entry(dead.frame).or_default() += dead.len;
            }
            for (number, frame) in (0u16..).zip(view.frames(pack.number)?) {
                // What is not needed as a whole is not moved, and needs no bases.
                let is_dead = dead_bytes.get(&number).is_some_and(|dead| *dead >= frame.plain_len);
                if is_dead || pack.left_out.contains(&u32::from(number)) {
                    continue;
                }
                let bases: BTreeSet<_> = frame.bases.iter().map(ContentId::prefix).collect();
                bases.into_iter().for_each(|base| *moved.entry(base).or_default() += 1);
            }
        }
        let keys: Vec<_> = moved.keys().copied().collect();
        let counts = if keys.is_empty() { Vec::new() } else { index.counts_of(&keys)? };
        let mut prices = HashMap::new();
        for ((key, moved), count) in moved.into_iter().zip(counts) {
            let Some(place) = view.lookup(&key)?.first() else { continue };
            let Some(frame) = view.frame(place.pack, place.frame)? else { continue };
            let price = fates::freed_bytes(count, moved, place.len, frame.plain_len, frame.stored_len);
            if price > 0 {
                prices.insert(key, price);
            }
        }
        Ok(Self(prices))
    }
}

impl BasePrices for Prices {
    fn of_frame(&self, frame: &FrameEntry) -> u64 {
        frame.bases.iter().filter_map(|base| self.0.get(&base.prefix())).sum()
    }

    fn is_worth_it(&self, difference: u64, whole: u64, price: u64) -> bool {
        fates::is_worth_its_bases(difference, whole, price)
    }
}

fn all_described(repo: &Repo) -> Result<View, RepoError> {
    let presence = Presence::Described(PackProbe::new(Arc::clone(repo.storage())));
    Ok(View::new(repo.counted_index()?.view()?, presence, Arc::default()))
}
