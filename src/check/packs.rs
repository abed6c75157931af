//! Index objects and packs: what is listed, what is described, and whether both agree.

use std::collections::{BTreeSet, HashMap, HashSet};

use rayon::prelude::*;

use super::findings::{Finding, FindingCode, Findings};
use super::standing::{Lost, Standing};
use super::{CheckError, Look};
use crate::format::parity;
use crate::id::{IndexObjectId, PackId, SnapshotId};
use crate::index::{IndexView, PackKind, PackRow};
use crate::repo::names::{self, Named};
use crate::repo::{DamageReason, Repo, RepoError, index_agrees, stand_in};
use crate::storage::StorageError;

/// Index objects that are read side by side; bounds memory.
const BATCH_COUNT: usize = 4;
/// Directories that are read side by side.
const DIRECTORY_BATCH_COUNT: usize = 64;

/// What one listing of everything showed.
#[derive(Default)]
pub struct Listing {
    /// Length by kind and id.
    pub packs: HashMap<(PackKind, PackId), u64>,
    /// Index objects.
    pub index_objects: Vec<IndexObjectId>,
    /// Statements of leases.
    pub leases: BTreeSet<(SnapshotId, Option<u32>)>,
    /// Small control objects, also those of which only the copy is there, and bodies.
    pub controls: Vec<Named>,
}

/// Lists everything. Names that no object has become findings.
pub fn list(repo: &Repo, findings: &mut Findings) -> Result<Listing, CheckError> {
    let mut listing = Listing::default();
    let mut unparsable = Vec::new();
    repo.storage()
        .list("", &mut |listed| {
            let copy_of = listed.name.as_str().strip_prefix("copy/");
            let copied = copy_of.and_then(|name| crate::storage::ObjectName::new(name).ok());
            match names::parse(copied.as_ref().unwrap_or(&listed.name)) {
                Some(object) if object.has_copy() => listing.controls.push(object),
                Some(Named::Temporary) => {}
                None => unparsable.push(listed.name),
                Some(_) if copied.is_some() => unparsable.push(listed.name),
                Some(body @ Named::Body(_)) => listing.controls.push(body),
                Some(Named::Pack(kind, id)) => drop(listing.packs.insert((kind, id), listed.len)),
                Some(Named::Index(id)) => listing.index_objects.push(id),
                Some(Named::Lease(id, number)) => drop(listing.leases.insert((id, number))),
                Some(_) => {}
            }
        })
        .map_err(RepoError::from)?;
    listing.controls.sort_by_key(|object| object.object_name());
    listing.controls.dedup();
    listing.index_objects.sort_unstable();
    for name in unparsable {
        let message = "no object of a repository has such a name";
        findings.add(Finding::damage(FindingCode::NameUnparsable, name, message));
    }
    Ok(listing)
}

/// Checks that index objects are what was stored, and that the local index knows what they say.
pub fn check_index_objects(look: &mut Look<'_>) -> Result<(), CheckError> {
    let repo = look.repo;
    let index = look.standing.view().index();
    let known: BTreeSet<_> = index.index_objects().map_err(RepoError::from)?.into_iter().collect();
    let mut described = HashSet::new();
    let mut unreadable = Vec::new();
    for batch in look.listed.index_objects.chunks(BATCH_COUNT) {
        look.stop_if_interrupted()?;
        let read: Vec<_> = batch.par_iter().map(|id| (*id, repo.examine_index_object(*id))).collect();
        for (id, examined) in read {
            let Some((object, state)) = examined? else { continue };
            let is_readable = object.is_some();
            for pack in object.iter().flat_map(|object| &object.packs) {
                described.insert(pack.id);
                let is_known = index.pack_number(&pack.id).map_err(RepoError::from)?.is_some();
                if !is_known && known.contains(&id) {
                    return Err(Standing::index_is_wrong("a described pack is not in it").into());
                }
            }
            let Err(reason) = state else { continue };
            if is_readable {
                let name = names::index_object(&id);
                let finding = Finding::damage(FindingCode::IndexObjectDamaged, name, reason.to_string());
                look.findings.add(finding.mendable());
            } else {
                unreadable.push((id, reason));
            }
        }
    }
    let only_there = only_described_by(look, &unreadable, &described)?;
    for (id, reason) in unreadable {
        let name = names::index_object(&id);
        // One that the storage cannot read stops prunes, whatever others describe.
        let is_unread = matches!(reason, DamageReason::Unreadable(_));
        look.findings.add(match only_there || is_unread {
            true => Finding::damage(FindingCode::IndexObjectDamaged, name, reason.to_string()),
            false => {
                let message = format!("{reason}; other index objects describe all packs; a prune removes it");
                Finding::note(FindingCode::IndexObjectDamaged, name, message)
            }
        });
    }
    Ok(())
}

/// Whether the local index knows a pack in the name of index objects that cannot be read, which no other describes.
fn only_described_by(
    look: &Look<'_>,
    unreadable: &[(IndexObjectId, DamageReason)],
    described: &HashSet<PackId>,
) -> Result<bool, RepoError> {
    if unreadable.is_empty() {
        return Ok(false);
    }
    let index = look.standing.view().index();
    for (id, packs) in index.described_packs()? {
        if !unreadable.iter().any(|(damaged, _)| *damaged == id || stand_in(damaged) == id) {
            continue;
        }
        for pack in packs {
            if index.pack(pack)?.is_none_or(|row| !described.contains(&row.id)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Compares the packs that the index describes with those that are there.
pub fn check_lengths(look: &mut Look<'_>) -> Result<(), CheckError> {
    let mut odd = Vec::new();
    let mut described = BTreeSet::new();
    let listed = &look.listed;
    let mut count = 0;
    look.standing
        .view()
        .index()
        .visit_packs(&mut |number, row| {
            count += 1;
            described.insert((row.kind, row.id));
            let len = listed.packs.get(&(row.kind, row.id)).copied();
            let whole = row.payload_len + parity::parity_len(row.payload_len);
            if len.is_none_or(|len| len != row.payload_len && len != whole) {
                odd.push((number, row, len));
            }
        })
        .map_err(RepoError::from)?;
    look.report.packs_checked = count;
    for (number, row, len) in odd {
        let PackRow { kind, id, payload_len, .. } = row;
        let name = names::pack(kind, &id);
        let (finding, lost) = match len {
            None => (Finding::damage(FindingCode::PackMissing, name, "the pack is gone"), Some(Lost::All)),
            Some(len) if len < payload_len => {
                let message = format!("the pack ends after {len} of {payload_len} bytes");
                (Finding::damage(FindingCode::PackShort, name, message), Some(Lost::Beyond(len)))
            }
            Some(len) if len < payload_len + parity::parity_len(payload_len) => {
                let message = "the pack ends early, within its parity; its content is there";
                (Finding::damage(FindingCode::PackShort, name, message).mendable(), None)
            }
            Some(_) => {
                let message = "the pack is longer than it should be";
                (Finding::damage(FindingCode::PackDamaged, name, message).mendable(), None)
            }
        };
        let finding = look.findings.add(finding);
        if let Some(lost) = lost {
            look.standing.lose(number, finding, lost);
        }
    }
    let mut unknown: Vec<_> = listed.packs.keys().filter(|pack| !described.contains(pack)).collect();
    unknown.sort_unstable();
    for (kind, id) in unknown {
        let name = names::pack(*kind, id);
        let finding = match look.repo.read_pack_directory(*kind, *id) {
            Err(RepoError::Storage(StorageError::Missing { .. })) => continue,
            Ok(_) => {
                let message = "no index object describes the pack; the next backup does";
                Finding::note(FindingCode::PackNotIndexed, name, message).mendable()
            }
            Err(error) => {
                let message = format!("no index object describes the pack, and it does not open: {error}");
                Finding::note(FindingCode::PackNotIndexed, name, message)
            }
        };
        look.findings.add(finding);
    }
    Ok(())
}

/// Reads the directory of every pack and compares it with the index.
pub fn check_directories(look: &mut Look<'_>) -> Result<(), CheckError> {
    let mut packs: Vec<_> = look.listed.packs.keys().copied().collect();
    packs.sort_unstable();
    for batch in packs.chunks(DIRECTORY_BATCH_COUNT) {
        look.stop_if_interrupted()?;
        let index = look.standing.view().index();
        let read = batch.par_iter().map(|(kind, id)| {
            let finding = match look.repo.read_pack_directory(*kind, *id) {
                Ok(described) => directory_finding(*kind, index_agrees(index, &described)?, *id),
                Err(RepoError::Storage(StorageError::Missing { .. })) => None,
                Err(error) if error.is_damage() || is_unreadable(&error) => {
                    let message = format!("its directory cannot be read: {}", last_cause(&error));
                    let name = names::pack(*kind, id);
                    match is_known_to_be_damaged(index, &look.listed, (*kind, *id))? {
                        Some(true) => Some(Finding::note(FindingCode::DamageStated, name, message)),
                        Some(false) => Some(Finding::damage(FindingCode::PackDamaged, name, message)),
                        None => None,
                    }
                }
                Err(error) => return Err(error),
            };
            Ok(finding)
        });
        let found = read.collect::<Result<Vec<_>, RepoError>>()?;
        for finding in found.into_iter().flatten() {
            look.findings.add(finding);
        }
    }
    Ok(())
}

/// Whether the storage could not read what is there.
fn is_unreadable(error: &RepoError) -> bool {
    matches!(error, RepoError::Storage(StorageError::Failed { .. }))
}

/// Whether frames of a pack are stated to be damaged, or it was found to end early. `None` for one that no index object
/// describes: it was noted that it does not open.
fn is_known_to_be_damaged(
    index: &IndexView,
    listed: &Listing,
    (kind, id): (PackKind, PackId),
) -> Result<Option<bool>, RepoError> {
    let Some(number) = index.pack_number(&id)? else { return Ok(None) };
    if index.stated_damage(&id)?.is_some_and(|damage| !damage.frames.is_empty()) {
        return Ok(Some(true));
    }
    let len = listed.packs.get(&(kind, id));
    Ok(Some(index.pack(number)?.is_some_and(|row| len.is_some_and(|len| *len < row.payload_len))))
}

/// What it means that index and directory agree or not.
pub fn directory_finding(kind: PackKind, agrees: Option<bool>, id: PackId) -> Option<Finding> {
    let message = "the directory in the pack says something else than the index";
    let name = names::pack(kind, &id);
    (agrees == Some(false)).then(|| Finding::damage(FindingCode::DirectoryDiffers, name, message))
}

/// The innermost reason of an error.
pub fn last_cause(error: &RepoError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = next.to_string();
        cause = next.source();
    }
    text
}
