//! What packs hold, and the pure questions about it: which copies are present, what is needed, what can be read.
//!
//! A pack of the model holds one frame, and a frame one chunk. A repository that keeps several in one pack ties
//! their fates together; it makes no fate possible that single ones do not have.

/// A set of packs: bit `p` is the pack in place `p`.
pub type Packs = u8;
/// A set of chunk ids: bit 0 is A, bit 1 is B, and so on.
pub type Ids = u8;

/// How many packs a state can speak of at a time. Packs that are gone and that nobody remembers do not count.
pub const PACKS_MAX: usize = 8;

/// The content of a pack: which chunk, on which base, and the depth written in it. It never changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Frame(u8);

impl Frame {
    /// No pack is in this place.
    pub const NONE: Frame = Frame(0);
    const IS_THERE: u8 = 0x80;
    const HAS_BASE: u8 = 0x40;

    /// A frame without a base.
    pub fn plain(id: usize) -> Frame {
        Frame(Self::IS_THERE | id as u8)
    }

    /// A frame that is a difference from chunk `base`.
    pub fn on(id: usize, base: usize, depth: u8) -> Frame {
        Frame(Self::IS_THERE | Self::HAS_BASE | depth << 4 | (base as u8) << 2 | id as u8)
    }

    pub fn id(self) -> usize {
        usize::from(self.0 & 3)
    }

    pub fn base(self) -> Option<usize> {
        (self.0 & Self::HAS_BASE != 0).then_some(usize::from(self.0 >> 2 & 3))
    }

    pub fn depth(self) -> u8 {
        self.0 >> 4 & 3
    }
}

pub type Frames = [Frame; PACKS_MAX];

/// The members of a set, smallest first.
pub fn members(set: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |&bit| set & 1 << bit != 0)
}

/// Every set that contains `must` and lies within `may`.
pub fn sets_between(must: u8, may: u8) -> impl Iterator<Item = u8> {
    let optional = may & !must;
    let mut next = Some(0u8);
    std::iter::from_fn(move || {
        let chosen = next?;
        next = (chosen != optional).then(|| (chosen.wrapping_sub(optional)) & optional);
        Some(must | chosen)
    })
}

/// The packs among `packs` that hold chunk `id`.
pub fn copies(frames: &Frames, id: usize, packs: Packs) -> Packs {
    members(packs).filter(|&pack| frames[pack].id() == id).fold(0, |set, pack| set | 1 << pack)
}

/// The chunks that `packs` hold.
pub fn ids_of(frames: &Frames, packs: Packs) -> Ids {
    members(packs).fold(0, |ids, pack| ids | 1 << frames[pack].id())
}

/// The packs among `packs` whose copy is *present*: its base, if it has one, has a present copy of smaller depth.
pub fn present(frames: &Frames, packs: Packs) -> Packs {
    let mut found = 0;
    let mut less_deep: Ids = 0;
    for depth in 0..4 {
        for pack in members(packs).filter(|&pack| frames[pack].depth() == depth) {
            if frames[pack].base().is_none_or(|base| less_deep & 1 << base != 0) {
                found |= 1 << pack;
            }
        }
        less_deep = ids_of(frames, found);
    }
    found
}

/// What [`present`] would be without the word *smaller*: copies that rest on each other vouch for each other.
pub fn present_at_any_depth(frames: &Frames, packs: Packs) -> Packs {
    let mut found = packs;
    loop {
        let ids = ids_of(frames, found);
        let kept = members(found)
            .filter(|&pack| frames[pack].base().is_none_or(|base| ids & 1 << base != 0))
            .fold(0, |set, pack| set | 1 << pack);
        if kept == found {
            return found;
        }
        found = kept;
    }
}

/// The chunks that somebody with all of `packs` and all the time of the world could read, whatever depths are
/// written in them. What a live snapshot names and is not among them is lost.
pub fn readable(frames: &Frames, packs: Packs) -> Ids {
    let mut ids: Ids = 0;
    loop {
        let more = members(packs)
            .filter(|&pack| frames[pack].base().is_none_or(|base| ids & 1 << base != 0))
            .fold(0, |set, pack| set | 1 << frames[pack].id());
        if more | ids == ids {
            return ids;
        }
        ids |= more;
    }
}

/// The depth of the least deep copy of `id` among `packs`.
pub fn least_depth(frames: &Frames, id: usize, packs: Packs) -> Option<u8> {
    members(copies(frames, id, packs)).map(|pack| frames[pack].depth()).min()
}

/// The copies of `id` among `packs` that are least deep.
fn least_deep(frames: &Frames, id: usize, packs: Packs) -> Packs {
    let least = least_depth(frames, id, packs);
    members(copies(frames, id, packs))
        .filter(|&pack| Some(frames[pack].depth()) == least)
        .fold(0, |set, pack| set | 1 << pack)
}

/// What some roots need, and the copies that were chosen to satisfy it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Needed {
    pub ids: Ids,
    pub keepers: Packs,
}

/// How to find out what is needed. The rules say: both.
#[derive(Clone, Copy)]
pub struct NeededBy {
    /// From each chunk on to the base of the frame of its keeper.
    pub with_bases: bool,
    /// A keeper is a copy of least depth.
    pub least_depth: bool,
}

/// Every way to choose keepers for `roots` among the present copies in `present`. Equal ones may be chosen between
/// freely, so there may be several. A needed chunk without any copy has no keeper.
pub fn needed(frames: &Frames, roots: Ids, present: Packs, by: NeededBy) -> Vec<Needed> {
    let mut found = Vec::new();
    choose_keepers(frames, roots, Needed::default(), present, by, &mut found);
    found
}

fn choose_keepers(
    frames: &Frames,
    todo: Ids,
    chosen: Needed,
    present: Packs,
    by: NeededBy,
    found: &mut Vec<Needed>,
) {
    let Some(id) = members(todo).next() else {
        if !found.contains(&chosen) {
            found.push(chosen);
        }
        return;
    };
    let todo = todo & !(1 << id);
    let ids = chosen.ids | 1 << id;
    let candidates =
        if by.least_depth { least_deep(frames, id, present) } else { copies(frames, id, present) };
    if candidates == 0 {
        return choose_keepers(frames, todo, Needed { ids, ..chosen }, present, by, found);
    }
    for keeper in members(candidates) {
        let base = frames[keeper].base().filter(|_| by.with_bases).map_or(0, |base| 1 << base);
        let chosen = Needed { ids, keepers: chosen.keepers | 1 << keeper };
        choose_keepers(frames, todo | base & !ids, chosen, present, by, found);
    }
}

/// A copy that a writer found Known, and the packs of all bases below it.
#[derive(Clone, Copy)]
pub struct Claim {
    pub copy: usize,
    pub below: Packs,
}

/// Every way to claim chunk `id` among the copies in `known`: any copy, and below it any less deep copy of its base,
/// and so on.
pub fn claims(frames: &Frames, id: usize, known: Packs) -> Vec<Claim> {
    members(copies(frames, id, known))
        .flat_map(|copy| ways_down(frames, copy, known).into_iter().map(move |below| Claim { copy, below }))
        .collect()
}

/// Every choice of bases below `copy`. Each is less deep than the one above, so the way down ends. A base without a
/// less deep copy happens only where rules are removed; then any copy of it ends the way.
fn ways_down(frames: &Frames, copy: usize, known: Packs) -> Vec<Packs> {
    let Some(base) = frames[copy].base() else {
        return vec![0];
    };
    let all = copies(frames, base, known);
    let is_less_deep = |&pack: &usize| frames[pack].depth() < frames[copy].depth();
    let less_deep: Vec<usize> = members(all).filter(is_less_deep).collect();
    if less_deep.is_empty() {
        return if all == 0 { vec![0] } else { members(all).map(|pack| 1 << pack).collect() };
    }
    let with_rest = |pack| ways_down(frames, pack, known).into_iter().map(move |rest| rest | 1 << pack);
    less_deep.into_iter().flat_map(with_rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: usize = 0;
    const B: usize = 1;
    const C: usize = 2;

    fn frames(some: &[Frame]) -> Frames {
        std::array::from_fn(|place| some.get(place).copied().unwrap_or_default())
    }

    #[test]
    fn a_copy_is_present_only_on_a_less_deep_one() {
        let chain = frames(&[Frame::plain(A), Frame::on(B, A, 1), Frame::on(C, B, 2)]);
        assert_eq!(present(&chain, 0b111), 0b111);
        assert_eq!(present(&chain, 0b110), 0);
        let crossed = frames(&[Frame::on(A, B, 1), Frame::on(B, A, 1)]);
        assert_eq!(present(&crossed, 0b11), 0);
        assert_eq!(present_at_any_depth(&crossed, 0b11), 0b11);
        assert_eq!(readable(&crossed, 0b11), 0);
        let as_deep = frames(&[Frame::plain(A), Frame::on(B, A, 1), Frame::on(C, B, 1)]);
        assert_eq!((present(&as_deep, 0b111), readable(&as_deep, 0b111)), (0b011, 0b111));
    }

    #[test]
    fn needed_follows_each_choice_among_equal_copies() {
        let some = frames(&[Frame::plain(A), Frame::plain(B), Frame::on(C, A, 1), Frame::on(C, B, 1)]);
        let by = NeededBy { with_bases: true, least_depth: true };
        let ways = needed(&some, 1 << C, 0b1111, by);
        assert_eq!(ways.iter().map(|way| way.ids).collect::<Vec<_>>(), [0b101, 0b110]);
        assert_eq!(ways.iter().map(|way| way.keepers).collect::<Vec<_>>(), [0b0101, 0b1010]);
        let alone = needed(&some, 1 << C, 0b1111, NeededBy { with_bases: false, ..by });
        assert!(alone.iter().all(|way| way.ids == 1 << C));
    }

    #[test]
    fn a_claim_goes_down_to_a_plain_copy() {
        let some = frames(&[Frame::plain(A), Frame::on(B, A, 1), Frame::on(C, B, 2), Frame::plain(B)]);
        let ways = claims(&some, C, 0b1111);
        assert_eq!(ways.iter().map(|way| way.below).collect::<Vec<_>>(), [0b0011, 0b1000]);
    }

    #[test]
    fn a_listing_may_have_any_result_between_what_was_always_and_ever_there() {
        assert_eq!(sets_between(0b001, 0b101).collect::<Vec<_>>(), [0b001, 0b101]);
        assert_eq!(sets_between(0, 0b110).count(), 4);
        assert_eq!(sets_between(0b11, 0b01).collect::<Vec<_>>(), [0b11]);
    }
}
