//! What storage promises: creates of one name happen once, listings take time, and names of packs are new.

use crate::frames::{Frame, PACKS_MAX, Packs, members};
use crate::rules::{Rule, Rules};
use crate::state::{PrunerStage, Slot, State, WriterStage};

impl State {
    /// Stores a pack under a name that nobody has used before, and says in which place. Without that rule the name
    /// follows from the content, and an old name can return.
    pub fn create_pack(&mut self, frame: Frame, rules: Rules) -> usize {
        let same = (0..PACKS_MAX).find(|&place| self.frames[place] == frame);
        let place = match same.filter(|_| !rules.have(Rule::PackNamesUnique)) {
            Some(place) => place,
            None => (0..PACKS_MAX)
                .find(|&place| self.frames[place] == Frame::NONE)
                .expect("a scenario has no more packs at a time than there are places"),
        };
        self.frames[place] = frame;
        self.stored |= 1 << place;
        place
    }

    /// To be called after every step: listings under way notice what changed, and what can no longer make a
    /// difference is forgotten, so that states that differ only in it become one.
    pub fn settle(&mut self, rules: Rules) {
        self.let_listings_observe(rules);
        self.forget_finished_plans();
        for writer in &mut self.writers {
            // A pack that is gone is never doomed again, so whether it was used says nothing any more.
            writer.used &= self.stored;
        }
        if rules.have(Rule::PackNamesUnique) {
            // To delete a pack that is gone changes nothing.
            for pruner in self.pruners.iter_mut().filter(|pruner| pruner.stage == PrunerStage::DeletingPacks)
            {
                pruner.packs &= self.stored;
            }
        }
        let mut remembered: Packs = 0;
        self.for_each_set_of_packs(|set| remembered |= *set);
        for place in members(!remembered) {
            self.frames[place] = Frame::NONE;
        }
    }

    fn let_listings_observe(&mut self, rules: Rules) {
        let live = self.slots_where(Slot::is_live);
        let registered = self.slots_where(|slot| slot.is_registered);
        let trustworthy = self.trustworthy(rules);
        for writer in self.writers.iter_mut().filter(|writer| writer.stage == WriterStage::Listing) {
            writer.listing.observe(trustworthy);
        }
        for pruner in &mut self.pruners {
            match pruner.stage {
                PrunerStage::Scanning | PrunerStage::Rechecking => {
                    pruner.packs_listing.observe(self.stored);
                    pruner.slots_listing.observe(live);
                }
                PrunerStage::ListingLeases => pruner.slots_listing.observe(registered),
                _ => {}
            }
        }
    }

    /// The packs that W3 and W4 would find in this moment. The index is listed first. Whatever the later listing of
    /// packs shows existed already then, because no name returns; so one listing of both at once finds no less.
    pub fn trustworthy(&self, rules: Rules) -> Packs {
        if rules.have(Rule::ExistenceFromListing) { self.stored & self.indexed } else { self.indexed }
    }

    /// A plan that is done, and on which no pruner works, is read by nobody; nor are its acknowledgements.
    fn forget_finished_plans(&mut self) {
        for number in 1..=self.highest_plan() {
            if !self.plan(number).is_done || self.pruners.iter().any(|pruner| pruner.plan == number) {
                continue;
            }
            let plan = self.plan_mut(number);
            (plan.doomed, plan.verdict) = (0, 0);
            for slot in self.slots.iter_mut().filter(|slot| slot.seen == number) {
                (slot.seen, slot.holds) = (0, 0);
            }
        }
    }
}
