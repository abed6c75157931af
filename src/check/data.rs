//! Packs read whole.
//!
//! A few threads read packs and compare them with their names; the frames of each pack are opened by the pool of all
//! processors. So the disk is busy while frames are opened, and at most as many packs as threads are in memory.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::findings::{Finding, FindingCode};
use super::packs::{directory_finding, last_cause};
use super::standing::{Loss, Lost};
use super::{CheckError, DataPart, Look, side_by_side};
use crate::clock::Timestamp;
use crate::event::Progress;
use crate::id::{ContentId, PackId};
use crate::index::{PackKind, PackNumber};
use crate::repo::names;
use crate::repo::{ChunkReader, DamageReason, PackVerdict, PackVerifier, RepoError, View, index_agrees};
use crate::units::counted_text;

/// The share of the stored bytes that [`DataPart::Oldest`] reads.
const OLDEST_PERCENT: f64 = 10.0;

/// A pack to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    kind: PackKind,
    id: PackId,
    len: u64,
    verified_at: Option<Timestamp>,
}

/// Reads the packs of `part` whole.
pub fn check(look: &mut Look<'_>, part: DataPart) -> Result<(), CheckError> {
    look.observer.phase("reading packs");
    let mut verified = look.repo.verified_packs()?;
    let packs = &look.listed.packs;
    let candidates = packs.iter().map(|(&(kind, id), &len)| {
        let verified_at = verified.packs.get(&id).copied();
        Candidate { kind, id, len, verified_at }
    });
    let chosen = choose(candidates.collect(), part, look.repo.clock().now());
    let progress = look.observer.progress();
    progress.bytes_total.store(chosen.iter().map(|pack| pack.len).sum(), Ordering::Relaxed);
    progress.total_is_known.store(true, Ordering::Relaxed);
    let read = read_all(look, &chosen)?;
    let packs = &look.listed.packs;
    let kinds = [PackKind::Data, PackKind::Meta];
    verified.packs.retain(|id, _| kinds.iter().any(|kind| packs.contains_key(&(*kind, *id))));
    let now = look.repo.clock().now();
    let mut resting = Vec::new();
    for (pack, mut read) in read {
        look.report.packs_read += 1;
        look.report.bytes_read += pack.len;
        look.report.chunks_read += read.verdict.chunk_count;
        let is_good = take_resting(&pack, &mut read.verdict, &mut resting);
        if judge(look, &pack, read)? && is_good {
            verified.packs.insert(pack.id, now);
        } else {
            verified.packs.remove(&pack.id);
        }
    }
    judge_resting(look, resting)?;
    if let Err(error) = look.repo.remember_verified(&verified) {
        look.observer.note(&format!("it could not be noted which packs were read: {error}"));
    }
    Ok(())
}

/// The packs to read, those first that were not read for longest.
fn choose(mut packs: Vec<Candidate>, part: DataPart, now: Timestamp) -> Vec<Candidate> {
    packs.sort_by_key(|pack| (pack.verified_at, pack.id));
    let percent = match part {
        DataPart::All => return packs,
        DataPart::Age(age) => {
            packs.retain(|pack| pack.verified_at.is_none_or(|moment| age_of(moment, now) >= age));
            return packs;
        }
        DataPart::Percent(percent) => percent,
        DataPart::Oldest => OLDEST_PERCENT,
    };
    let total: u64 = packs.iter().map(|pack| pack.len).sum();
    let wanted = total as f64 * percent / 100.0;
    let mut so_far = 0;
    packs.retain(|pack| {
        let is_wanted = (so_far as f64) < wanted;
        so_far += pack.len;
        is_wanted
    });
    packs
}

/// A moment in the future has no age, so such a pack would never be read again: it counts as never read.
fn age_of(moment: Timestamp, now: Timestamp) -> Duration {
    u64::try_from(now.seconds.saturating_sub(moment.seconds)).map_or(Duration::MAX, Duration::from_secs)
}

/// A pack that was read, without what it says it holds.
struct ReadPack {
    verdict: PackVerdict,
    /// Whether the index says the same of it; `None` if that cannot be told.
    agrees: Option<bool>,
}

type Read = Vec<(Candidate, ReadPack)>;

fn read_all(look: &Look<'_>, packs: &[Candidate]) -> Result<Read, CheckError> {
    let read = Mutex::new(Vec::new());
    let len_max = packs.iter().map(|pack| pack.len).max().unwrap_or(0);
    let verifier = || PackVerifier::new(Arc::clone(&look.reader));
    side_by_side::each(packs, len_max, look.observer, verifier, |verifier, pack| {
        let mut verdict = verifier.verify(pack.kind, pack.id, pack.len)?;
        // Somebody may have mended or removed it meanwhile, and a bad cable shows something else every time.
        if verdict.as_ref().is_some_and(|verdict| !is_good(verdict)) {
            verdict = verifier.verify(pack.kind, pack.id, pack.len)?;
        }
        Progress::add(&look.observer.progress().bytes_done, pack.len);
        if let Some(mut verdict) = verdict {
            let index = look.standing.view().index();
            let described = verdict.described.take();
            let agrees = described.map(|described| index_agrees(index, &described)).transpose()?;
            let pack = (*pack, ReadPack { verdict, agrees: agrees.flatten() });
            read.lock().expect("no holder of this lock panics").push(pack);
        }
        Ok(())
    })?;
    let mut read = read.into_inner().expect("no holder of this lock panics");
    read.sort_by_key(|(pack, _)| (pack.kind, pack.id));
    Ok(read)
}

/// Whether nothing at all is wrong with the bytes of a pack.
fn is_good(verdict: &PackVerdict) -> bool {
    let frames_are_good = verdict.damaged_frames.as_ref().is_some_and(Vec::is_empty);
    verdict.payload.is_ok() && verdict.end.is_ok() && frames_are_good
}

/// Adds what was found of a pack. Returns whether it is good.
fn judge(look: &mut Look<'_>, pack: &Candidate, read: ReadPack) -> Result<bool, CheckError> {
    let Candidate { kind, id, .. } = *pack;
    let ReadPack { verdict, agrees } = read;
    let name = names::pack(kind, &id).to_string();
    let number = look.standing.number_of(&id)?;
    let is_good = is_good(&verdict) && agrees != Some(false);
    if number.is_none() && verdict.damaged_frames.is_none() && !verdict.is_mendable {
        // Nothing says what it holds, not even itself. It was noted that it is there, and what is missed is found where
        // it is missed.
        return Ok(false);
    }
    let frames = match verdict.damaged_frames {
        // Readers go by the index: of a pack that says something else than it, they know better what is lost.
        Some(frames) if agrees != Some(false) => frames,
        Some(_) | None => unreadable_frames(&look.reader, look.standing.view(), number)?,
    };
    let stated = look.standing.view().index().stated_damage(&id).map_err(RepoError::from)?;
    let stated = stated.map(|damage| damage.frames).unwrap_or_default();
    // Parity is made of the payload: without that there is nothing to make it of.
    let can_be_made_again = verdict.payload.is_ok() || verdict.is_mendable;
    let numbers: BTreeSet<u32> = frames.iter().map(|(frame, _)| *frame).collect();
    if !stated.is_empty() && numbers.is_subset(&stated) {
        look.findings.add(stated_finding(&name, &numbers, &stated));
        if !numbers.is_empty() && !verdict.is_mendable {
            return Ok(false);
        }
    }
    if let Err(reason) = verdict.payload {
        let what = match numbers.len() {
            0 => "all that it holds can still be read".to_owned(),
            count => format!("{count} of its frames cannot be read"),
        };
        let parity = if verdict.is_mendable { "; its parity can mend it" } else { "" };
        let finding = Finding::damage(FindingCode::PackDamaged, &name, format!("{reason}; {what}{parity}"));
        let finding = look.findings.put(if verdict.is_mendable { finding.mendable() } else { finding });
        look.findings.replace_about(FindingCode::FrameDamaged, &name, finding);
        if let (Some(number), false) = (number, numbers.is_empty()) {
            look.standing.lose(number, finding, Lost::Frames(numbers));
        }
    } else {
        for (frame, reason) in frames {
            let finding =
                Finding::damage(FindingCode::FrameDamaged, &name, format!("frame {frame}: {reason}"));
            let finding = look.findings.add_part(finding, frame);
            if let Some(number) = number {
                look.standing.lose(number, finding, Lost::Frames([frame].into()));
            }
        }
    }
    if let Err(reason) = verdict.end {
        let code = match reason {
            DamageReason::Parity | DamageReason::NoParity => FindingCode::ParityDamaged,
            _ => FindingCode::PackDamaged,
        };
        let finding = Finding::damage(code, &name, reason.to_string());
        look.findings.add(if can_be_made_again { finding.mendable() } else { finding });
    }
    if let Some(finding) = directory_finding(kind, agrees, id) {
        look.findings.add(finding);
    }
    Ok(is_good)
}

/// What it means that damage of a pack is stated, and no other was found.
fn stated_finding(name: &str, damaged: &BTreeSet<u32>, stated: &BTreeSet<u32>) -> Finding {
    if damaged != stated {
        let message = "frames are stated to be damaged that are good";
        return Finding::note(FindingCode::StatementOutdated, name, message).mendable();
    }
    let count = counted_text(damaged.len() as u64, "frames");
    let message = format!("{count} of it cannot be read; that is known, and nobody counts on what was there");
    Finding::note(FindingCode::DamageStated, name, message)
}

/// A frame that is as it was stored, and cannot be expanded because of what it rests on.
struct Resting {
    pack: Candidate,
    frame: u32,
    base: ContentId,
}

/// Sets frames aside whose bases cannot be read; whether there are none.
fn take_resting(pack: &Candidate, verdict: &mut PackVerdict, resting: &mut Vec<Resting>) -> bool {
    let before = resting.len();
    if let Some(frames) = &mut verdict.damaged_frames {
        frames.retain(|(frame, reason)| {
            let DamageReason::MissingBase(base) = reason else { return true };
            resting.push(Resting { pack: *pack, frame: *frame, base: *base });
            false
        });
    }
    resting.len() == before
}

/// What a frame rests on is the finding. Only where nothing is known to be wrong with that, the frame is.
fn judge_resting(look: &mut Look<'_>, resting: Vec<Resting>) -> Result<(), CheckError> {
    for Resting { pack, frame, base } in resting {
        let loss = look.standing.find(&base)?.err();
        if matches!(loss, Some(Loss::Found(_))) {
            continue;
        }
        let name = names::pack(pack.kind, &pack.id);
        let reason = DamageReason::MissingBase(base);
        if matches!(loss, Some(Loss::Nowhere(_))) {
            // Whoever needs it was told that the base is missing. Otherwise it is there again when the base is.
            let message = format!("frame {frame}: {reason}");
            look.findings.add_part(Finding::note(FindingCode::FrameDamaged, name, message), frame);
            continue;
        }
        let finding = Finding::damage(FindingCode::FrameDamaged, name, format!("frame {frame}: {reason}"));
        let finding = look.findings.add_part(finding, frame);
        if let Some(number) = look.standing.number_of(&pack.id)? {
            look.standing.lose(number, finding, Lost::Frames([frame].into()));
        }
    }
    Ok(())
}

/// Frames of a pack that readers cannot open, who know from the index where they lie.
pub(super) fn unreadable_frames(
    reader: &ChunkReader,
    view: &View,
    number: Option<PackNumber>,
) -> Result<Vec<(u32, DamageReason)>, RepoError> {
    let Some(number) = number else { return Ok(Vec::new()) };
    let count = view.index().frames(number)?.len();
    let frames: Vec<u16> = (0..=u16::MAX).take(count).collect();
    let mut damaged = Vec::new();
    reader.read_frames(number, &frames, &mut |frame, opened| {
        if let Err(error) = opened {
            damaged.push((u32::from(frame), DamageReason::Unreadable(last_cause(&error))));
        }
    })?;
    Ok(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs() -> Vec<Candidate> {
        let verified = [Some(50), None, Some(10), Some(90)];
        let pack = |(number, seconds): (u8, Option<i64>)| Candidate {
            kind: PackKind::Data,
            id: PackId::new([number; 32]),
            len: 100,
            verified_at: seconds.map(Timestamp::from_seconds),
        };
        (0..).zip(verified).map(pack).collect()
    }

    fn chosen(part: DataPart) -> Vec<u8> {
        let now = Timestamp::from_seconds(60);
        choose(packs(), part, now).iter().map(|pack| pack.id.bytes()[0]).collect()
    }

    #[test]
    fn what_was_not_read_for_longest_comes_first() {
        assert_eq!(chosen(DataPart::All), [1, 2, 0, 3]);
        assert_eq!(chosen(DataPart::Percent(50.0)), [1, 2]);
        assert_eq!(chosen(DataPart::Percent(51.0)), [1, 2, 0]);
        assert_eq!(chosen(DataPart::Percent(0.01)), [1]);
        assert_eq!(chosen(DataPart::Oldest), [1]);
    }

    #[test]
    fn an_age_chooses_what_was_not_read_since_and_what_was_read_in_the_future() {
        assert_eq!(chosen(DataPart::Age(Duration::from_secs(30))), [1, 2, 3]);
        assert_eq!(chosen(DataPart::Age(Duration::from_secs(10))), [1, 2, 0, 3]);
    }
}
