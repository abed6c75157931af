//! Scrub: is every stored byte what was stored? Needs no key, and looks into nothing.
//!
//! Whoever keeps a repository for others, and holds no key to it, can still find out whether it rots:
//!
//! | Objects | What proves their bytes |
//! | --- | --- |
//! | packs, index objects, forget records, bodies | their name, which is the hash of their payload; their parity, which is made of it |
//! | keyrings, snapshots, plans, verdicts, ends | shard hashes of their parity; the second copy, which must be the same |
//! | leases | shard hashes of their parity |
//! | slots | the checksum in them; the second copy |
//! | settings | the second copy: two texts that parse and are equal |
//! | README | the text that this program writes |
//! | `reserve`, `tmp/` | nothing: they hold nothing |
//!
//! Where a repository is kept without parity, objects without a hash in their name are compared with their copies only,
//! and leases not at all; how many bytes nothing proves is in the report. Nothing here proves who wrote something, or
//! that anything is complete: that needs keys, and is the task of a check.
//!
//! # Beside writers and prune
//!
//! A scrub takes no lease. What it finds wrong it reads again at once, and what is gone by then is no finding.
//!
//! # Memory
//!
//! Each thread has one object in memory, and there are fewer threads where objects are long. What grows is the list of
//! names.

mod judge;
mod list;

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;

use super::findings::{Finding, Findings};
use super::{CheckError, side_by_side};
use crate::event::{Observer, Progress};
use crate::format::parity;
use crate::limits::PACK_BYTES_MAX;
use crate::repo::names::{self, Named};
use crate::repo::{DamageReason, RepoError};
use crate::storage::{ObjectName, Storage, StorageError};
use crate::units::ByteRange;
use judge::{Judged, Settings};
use list::Unit;

/// What to read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ScrubOptions {
    /// So many percent of the bytes of packs, chosen by chance. Everything else is read in any case.
    pub percent: Option<f64>,
}

/// What a scrub read and found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ScrubReport {
    /// What is wrong, and what is worth knowing.
    pub findings: Vec<Finding>,
    /// Findings beyond the limit of what is listed.
    pub findings_omitted: u64,
    /// Objects that were read, second copies among them.
    pub objects_read: u64,
    /// Packs among them.
    pub packs_read: u64,
    /// Packs that were left out because only a part was to be read.
    pub packs_skipped: u64,
    /// Bytes of all objects that were read.
    pub bytes_read: u64,
    /// Bytes of objects that were read and that nothing proves: no hash, no parity, no copy.
    pub bytes_unproven: u64,
    /// Time it took.
    pub duration_seconds: f64,
}

impl ScrubReport {
    /// Whether anything is damaged. Notes are not damage.
    pub fn has_damage(&self) -> bool {
        self.findings_omitted > 0 || self.findings.iter().any(Finding::is_damage)
    }
}

/// Reads the objects of a repository and proves their bytes. What is damaged is in the report; nothing is changed.
///
/// [`RepoError::NoRepository`] where there are no settings at all.
pub fn run(
    storage: &dyn Storage,
    options: ScrubOptions,
    observer: &dyn Observer,
) -> Result<ScrubReport, CheckError> {
    let begun = Instant::now();
    observer.phase("listing objects");
    let mut findings = Findings::default();
    let mut units = list::all(storage, &mut findings)?;
    let settings = judge::settings(storage)?;
    let packs_skipped = match options.percent {
        Some(percent) => list::leave_out(&mut units, percent)?,
        None => 0,
    };
    observer.phase("reading objects");
    let progress = observer.progress();
    progress.bytes_total.store(units.iter().map(Unit::bytes).sum(), Ordering::Relaxed);
    progress.total_is_known.store(true, Ordering::Relaxed);
    let report = ScrubReport { packs_skipped, ..ScrubReport::default() };
    let scrub = Scrub { storage, observer, settings, collected: Mutex::new((findings, report)) };
    let len_max = units.iter().map(Unit::bytes).max().unwrap_or(0);
    let buffers = <(Vec<u8>, Vec<u8>)>::default;
    side_by_side::each(&units, len_max, observer, buffers, |buffers, unit| scrub.scrub(unit, buffers))?;
    let (findings, mut report) = scrub.collected.into_inner().expect("no holder of this lock panics");
    (report.findings, report.findings_omitted) = findings.finish();
    report.duration_seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

struct Scrub<'a> {
    storage: &'a dyn Storage,
    observer: &'a dyn Observer,
    settings: Settings,
    collected: Mutex<(Findings, ScrubReport)>,
}

/// What is under a name.
enum Stored<'b> {
    Bytes(&'b [u8]),
    /// It is there and cannot be read.
    Bad(DamageReason),
    Missing,
}

impl Scrub<'_> {
    /// Reads an object and its copy, once more if anything is wrong, and adds what was found.
    fn scrub(&self, unit: &Unit, buffers: &mut (Vec<u8>, Vec<u8>)) -> Result<(), CheckError> {
        let mut judged = self.look(unit, buffers)?;
        if judged.findings.iter().any(Finding::is_damage) {
            // Somebody may have mended or removed it meanwhile, and a bad cable shows something else every time.
            judged = self.look(unit, buffers)?;
        }
        Progress::add(&self.observer.progress().files_done, 1);
        Progress::add(&self.observer.progress().bytes_done, unit.bytes());
        let mut collected = self.collected.lock().expect("no holder of this lock panics");
        let (findings, report) = &mut *collected;
        report.objects_read += judged.objects;
        report.bytes_read += judged.bytes;
        report.bytes_unproven += judged.unproven;
        report.packs_read += u64::from(matches!(unit.object, Named::Pack(..)) && judged.objects > 0);
        for found in judged.findings {
            findings.add(found);
        }
        Ok(())
    }

    fn look(&self, unit: &Unit, (first, copy): &mut (Vec<u8>, Vec<u8>)) -> Result<Judged, CheckError> {
        let Some(name) = unit.object.object_name() else { return Ok(Judged::default()) };
        let first = self.read(&name, unit.len, first)?;
        let copy = match unit.object.has_copy() {
            true => self.read(&names::copy(&name), unit.copy_len, copy)?,
            false => Stored::Missing,
        };
        Ok(judge::unit(unit.object, &name, &self.settings, first, copy))
    }

    /// Reads an object of which a listing said that it is so long.
    fn read<'b>(
        &self,
        name: &ObjectName,
        listed_len: Option<u64>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Stored<'b>, CheckError> {
        let read_whole = |len: u64, buffer: &mut Vec<u8>| {
            buffer.clear();
            match len > PACK_BYTES_MAX + parity::parity_len(PACK_BYTES_MAX) {
                true => Ok(Some(DamageReason::Surplus)),
                false => self.storage.get_range(name, ByteRange { start: 0, len }, buffer).map(|()| None),
            }
        };
        let read = match listed_len {
            Some(len) => read_whole(len, buffer),
            None => self.storage.len(name).and_then(|len| read_whole(len, buffer)),
        };
        let read = match read {
            // It has become shorter since the listing.
            Err(StorageError::Short { .. }) => self.storage.len(name).and_then(|len| read_whole(len, buffer)),
            read => read,
        };
        match read {
            Ok(None) => Ok(Stored::Bytes(buffer)),
            Ok(Some(reason)) => Ok(Stored::Bad(reason)),
            Err(StorageError::Missing { .. }) => Ok(Stored::Missing),
            Err(StorageError::Short { .. }) => Ok(Stored::Bad(DamageReason::Short)),
            Err(error @ StorageError::Failed { .. }) => Ok(Stored::Bad(DamageReason::unreadable(&error))),
            Err(error) => Err(RepoError::from(error).into()),
        }
    }
}
