//! One reference more or less, and all that follows from it.

use std::borrow::Borrow;

use redb::WriteTransaction;

use super::super::rows::{Entry, LocalNumber, PackState};
use super::{Ledger, Work};
use crate::index::error::IndexError;

impl<W: Borrow<WriteTransaction>> Ledger<W> {
    /// Does what is on the stack, and all that follows from it.
    pub(in crate::index::counts) fn settle(&mut self) -> Result<(), IndexError> {
        while let Some(work) = self.work.pop() {
            match work {
                Work::Add(number) => drop(self.add_reference(number)?),
                Work::Drop(number) => self.drop_reference(number)?,
                Work::Rest(number) => {
                    self.change_resting(number, 1)?;
                    self.add_reference(number)?;
                }
                Work::Unrest(number) => {
                    self.change_resting(number, -1)?;
                    self.drop_reference(number)?;
                }
            }
            self.spill_if_full()?;
        }
        Ok(())
    }

    /// One reference more. Says what the entry was before.
    pub(in crate::index::counts) fn add_reference(
        &mut self,
        number: LocalNumber,
    ) -> Result<Entry, IndexError> {
        let entry = self.entry_mut(number)?;
        let before = *entry;
        entry.add()?;
        self.change_count += 1;
        if before.count() == 0 {
            let keeper = self.keeper(number, before)?;
            self.rise(number, keeper)?;
        }
        Ok(before)
    }

    pub(super) fn drop_reference(&mut self, number: LocalNumber) -> Result<(), IndexError> {
        let entry = self.entry_mut(number)?;
        entry.subtract()?;
        let mut after = *entry;
        self.change_count += 1;
        let count = after.count();
        if count > 0 && !(after.is_expanded() && self.resting_count(number)? == count) {
            return Ok(());
        }
        if after.is_expanded() {
            let children = self.take_edges(number)?;
            self.work.extend(children.into_iter().map(Work::Drop));
            after.set_expanded(false);
            *self.entry_mut(number)? = after;
        }
        if count > 0 {
            return Ok(());
        }
        let keeper = self.keeper(number, after)?;
        self.fall(keeper)?;
        if self.pack(keeper.pack())?.state == PackState::Vanished {
            self.note_found(number)?;
            self.released_lost.insert(number);
            self.touched.insert(keeper.pack().0);
            self.touched.insert(number.pack().0);
            if keeper != number {
                // In the middle of a change its place may be taken only now.
                self.elect(number)?;
                self.leave(number, keeper)?;
            }
        }
        Ok(())
    }

    /// An id that is used lies in this copy from now on.
    pub(in crate::index::counts) fn rise(
        &mut self,
        number: LocalNumber,
        keeper: LocalNumber,
    ) -> Result<(), IndexError> {
        let entry = self.entry(keeper)?;
        let pack = self.pack_mut(keeper.pack())?;
        pack.live_bytes += u64::from(entry.len);
        pack.live_count += 1;
        if pack.state == PackState::Vanished {
            self.newly_lost.insert(number);
        }
        if entry.is_based() {
            self.hold_frame((keeper.pack().0, entry.frame()))?;
        }
        Ok(())
    }

    /// An id that was used does not lie in this copy any more.
    pub(in crate::index::counts) fn fall(&mut self, keeper: LocalNumber) -> Result<(), IndexError> {
        let entry = self.entry(keeper)?;
        let pack = self.pack_mut(keeper.pack())?;
        let bytes = pack.live_bytes.checked_sub(u64::from(entry.len));
        let (Some(bytes), Some(count)) = (bytes, pack.live_count.checked_sub(1)) else {
            return Err(IndexError::damaged("more goes from a pack than was in it"));
        };
        (pack.live_bytes, pack.live_count) = (bytes, count);
        let fallen = self.fallen.entry(keeper.pack().0).or_default();
        *fallen = (fallen.0 + u64::from(entry.len), fallen.1 + 1);
        if entry.is_based() {
            let vertex = self.vertex((keeper.pack().0, entry.frame()))?;
            vertex.is_changed = true;
            vertex.live_count = vertex
                .live_count
                .checked_sub(1)
                .ok_or_else(|| IndexError::damaged("more goes from a frame than was in it"))?;
            if vertex.live_count == 0 {
                let bases = std::mem::take(&mut vertex.bases);
                self.remove_parent(LocalNumber::frame((keeper.pack().0, entry.frame())), &bases);
                let unrest = self.resting_work(keeper.pack(), false)?;
                self.work.extend(bases.into_iter().map(unrest));
            }
        }
        Ok(())
    }
}
