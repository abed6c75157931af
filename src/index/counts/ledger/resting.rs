//! Frames of nodes rest on nodes. They need the bytes of those, and not what those refer to.
//!
//! So a node that is a base is counted like anything else, and beside it how many of its references are of this kind.
//! When no others are left, its edges are taken, as if nobody referred to it. A snapshot that refers to it again reads
//! it again.

use std::borrow::Borrow;

use redb::{ReadableTable, WriteTransaction};

use super::super::RESTING;
use super::super::rows::LocalNumber;
use super::{Ledger, Work};
use crate::index::PackNumber;
use crate::index::error::IndexError;
use crate::index::rows::{opened, sealed};

impl<W: Borrow<WriteTransaction>> Ledger<W> {
    /// What is done to the bases of a frame of this pack when it becomes needed, or is not any more.
    pub(super) fn resting_work(
        &mut self,
        pack: PackNumber,
        is_needed: bool,
    ) -> Result<fn(LocalNumber) -> Work, IndexError> {
        Ok(match (self.pack(pack)?.has_nodes, is_needed) {
            (false, true) => Work::Add,
            (false, false) => Work::Drop,
            (true, true) => Work::Rest,
            (true, false) => Work::Unrest,
        })
    }

    /// How many of the references to a node are of frames that rest on it.
    pub(super) fn resting_count(&self, number: LocalNumber) -> Result<u32, IndexError> {
        if !self.has_bases {
            return Ok(0);
        }
        let table = self.writing.borrow().open_table(RESTING)?;
        let Some(row) = table.get(number.0)? else { return Ok(0) };
        let count = opened(RESTING, &number.0.to_be_bytes(), row.value())?.try_into().map(u32::from_le_bytes);
        count.map_err(|_| IndexError::damaged("a number has another width"))
    }

    pub(super) fn change_resting(&mut self, number: LocalNumber, change: i32) -> Result<(), IndexError> {
        let count = self.resting_count(number)?.checked_add_signed(change);
        let count = count.ok_or_else(|| IndexError::damaged("more rested on a node than was known"))?;
        let mut table = self.writing.borrow().open_table(RESTING)?;
        if count == 0 {
            table.remove(number.0)?;
        } else {
            let row = sealed(RESTING, &number.0.to_be_bytes(), count.to_le_bytes().to_vec());
            table.insert(number.0, row.as_slice())?;
        }
        Ok(())
    }
}
