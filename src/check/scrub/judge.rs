//! What the bytes of one object, and of its second copy, prove about each other and about themselves.

use super::super::clear::newest_settings;
use super::super::findings::{Finding, FindingCode};
use super::Stored;
use crate::format::container::{Header, ObjectKind};
use crate::format::repository_config::RepositoryConfig;
use crate::format::{parity, slot};
use crate::hash::payload_id;
use crate::id::RepositoryId;
use crate::index::PackKind;
use crate::repo::names::{self, Named};
use crate::repo::{DamageReason, README_TEXT, RepoError};
use crate::storage::{ObjectName, Storage};

/// What the settings say about all objects, as far as any of them can be read. Nothing proves them here, so they only
/// decide what counts as missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    repository: Option<RepositoryId>,
    has_parity: Option<bool>,
    has_copies: bool,
}

/// What the newest settings that parse say.
pub fn settings(storage: &dyn Storage) -> Result<Settings, RepoError> {
    let Some(config) = newest_settings(storage)? else { return Ok(Settings::default()) };
    Ok(Settings {
        repository: config.repository.parse().ok(),
        has_parity: Some(config.parity),
        has_copies: config.copies,
    })
}

/// What came of an object and its copy.
#[derive(Debug, Default)]
pub struct Judged {
    /// What is wrong, and what is worth knowing.
    pub findings: Vec<Finding>,
    /// How many of both are there.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// So many of them nothing proves.
    pub unproven: u64,
}

/// What is known of the bytes of one object.
struct Verdict {
    /// What is wrong with what was to be stored.
    payload: Result<(), DamageReason>,
    /// What is wrong with what follows it.
    end: Result<(), DamageReason>,
    /// Parity alone can bring the payload back.
    is_mendable: bool,
    /// Something in the object proves its payload.
    is_proven: bool,
}

impl Verdict {
    fn bad(reason: DamageReason) -> Self {
        Self { payload: Err(reason), end: Ok(()), is_mendable: false, is_proven: false }
    }

    fn is_good(&self) -> bool {
        self.payload.is_ok() && self.end.is_ok()
    }
}

/// Judges an object and its copy.
pub fn unit(
    object: Named,
    name: &ObjectName,
    settings: &Settings,
    first: Stored<'_>,
    copy: Stored<'_>,
) -> Judged {
    let mut judged = Judged::default();
    for stored in [&first, &copy] {
        judged.objects += u64::from(!matches!(stored, Stored::Missing));
        if let Stored::Bytes(bytes) = stored {
            judged.bytes += bytes.len() as u64;
        }
    }
    if object == Named::Readme {
        if !matches!(first, Stored::Bytes(bytes) if bytes == README_TEXT.as_bytes()) {
            let message = "the text that explains the repository to people is missing or altered";
            judged.findings.push(Finding::note(FindingCode::ReadmeDiffers, name, message));
        }
        return judged;
    }
    let are_equal = match (&first, &copy) {
        (Stored::Bytes(first), Stored::Bytes(copy)) => Some(first == copy),
        _ => None,
    };
    let first = verdict(object, settings, &first);
    let copy = verdict(object, settings, &copy);
    let is_proven = are_equal == Some(true) || first.as_ref().is_none_or(|first| first.is_proven);
    if !is_proven && are_equal.is_none() {
        judged.unproven = judged.bytes;
    }
    tell(object, name, settings, (&first, &copy, are_equal), &mut judged.findings);
    judged
}

type Both<'v> = (&'v Option<Verdict>, &'v Option<Verdict>, Option<bool>);

fn tell(
    object: Named,
    name: &ObjectName,
    settings: &Settings,
    (first, copy, are_equal): Both<'_>,
    findings: &mut Vec<Finding>,
) {
    let copy_name = names::copy(name);
    let copy_is_good = copy.as_ref().is_some_and(Verdict::is_good);
    let first_is_good = first.as_ref().is_some_and(Verdict::is_good);
    let mendable_if = |finding: Finding, can_be: bool| if can_be { finding.mendable() } else { finding };
    match (first, copy) {
        (None, Some(_)) => {
            let message = "it is gone, and its second copy is there";
            let finding = Finding::damage(FindingCode::OriginalMissing, name, message);
            findings.push(mendable_if(finding, copy_is_good));
        }
        (Some(first), _) => {
            let is_mendable = first.is_mendable || copy_is_good;
            if let Err(reason) = &first.payload {
                let how = match (object.has_copy(), copy_is_good, first.is_mendable) {
                    (_, _, true) => "; its parity can mend it",
                    (true, true, false) => "; its second copy is good",
                    (true, false, false) => "; it has no good copy",
                    (false, _, false) => "",
                };
                let finding = Finding::damage(FindingCode::of(object), name, format!("{reason}{how}"));
                findings.push(mendable_if(finding, is_mendable));
            }
            if let Err(reason) = &first.end {
                let code = match reason {
                    DamageReason::Parity | DamageReason::NoParity => FindingCode::ParityDamaged,
                    _ => FindingCode::of(object),
                };
                let finding = Finding::damage(code, name, reason.to_string());
                findings.push(mendable_if(finding, first.payload.is_ok() || is_mendable));
            }
        }
        (None, None) => {}
    }
    match copy {
        Some(copy) => {
            for reason in [&copy.payload, &copy.end].into_iter().filter_map(|part| part.as_ref().err()) {
                let finding = Finding::damage(FindingCode::CopyDamaged, &copy_name, reason.to_string());
                findings.push(mendable_if(finding, first_is_good));
            }
        }
        None if object.has_copy() && settings.has_copies && first.is_some() => {
            let finding = Finding::note(FindingCode::CopyDamaged, &copy_name, "the second copy is missing");
            findings.push(mendable_if(finding, first_is_good));
        }
        None => {}
    }
    if are_equal == Some(false) && first_is_good && copy_is_good {
        let message = "it and its second copy are not the same, and only a key can tell which one is right";
        findings.push(Finding::damage(FindingCode::of(object), name, message));
    }
}

fn verdict(object: Named, settings: &Settings, stored: &Stored<'_>) -> Option<Verdict> {
    let bytes = match stored {
        Stored::Missing => return None,
        Stored::Bad(reason) => return Some(Verdict::bad(reason.clone())),
        Stored::Bytes(bytes) => *bytes,
    };
    Some(match object {
        Named::Config(number) => config(number, bytes),
        Named::Slot(id) => match slot::Slot::decode(bytes) {
            Ok(slot) if slot.head.id == id => {
                Verdict { payload: Ok(()), end: Ok(()), is_mendable: false, is_proven: true }
            }
            Ok(_) => Verdict::bad(DamageReason::Id),
            Err(error) => Verdict::bad(error.into()),
        },
        _ => container(object, settings, bytes),
    })
}

fn config(number: u64, bytes: &[u8]) -> Verdict {
    match RepositoryConfig::decode(bytes) {
        Ok(config) if config.number == number => {
            Verdict { payload: Ok(()), end: Ok(()), is_mendable: false, is_proven: false }
        }
        Ok(_) => Verdict::bad(DamageReason::Id),
        Err(error) => Verdict::bad(error.into()),
    }
}

/// What the name of an object says about it: the kinds it may be, and the hash of its payload.
fn promised(object: Named) -> (&'static [ObjectKind], Option<[u8; 32]>) {
    match object {
        Named::Pack(PackKind::Data, id) => (&[ObjectKind::DataPack], Some(*id.bytes())),
        Named::Pack(PackKind::Meta, id) => (&[ObjectKind::MetaPack], Some(*id.bytes())),
        Named::Index(id) => (&[ObjectKind::Index], Some(*id.bytes())),
        Named::Forget(id) => (&[ObjectKind::Forget], Some(*id.bytes())),
        Named::Body(id) => (&[ObjectKind::Body], Some(*id.bytes())),
        Named::Snapshot(_) => (&[ObjectKind::Snapshot, ObjectKind::Tombstone], None),
        Named::Lease(..) => (&[ObjectKind::Lease], None),
        Named::Plan(_) => (&[ObjectKind::Plan], None),
        Named::Verdict(_) => (&[ObjectKind::Verdict], None),
        Named::Done(_) => (&[ObjectKind::Done], None),
        Named::Keyring(_) => (&[ObjectKind::Keyring], None),
        Named::Config(_) | Named::Slot(_) | Named::Readme | Named::Reserve | Named::Temporary => (&[], None),
    }
}

fn container(object: Named, settings: &Settings, stored: &[u8]) -> Verdict {
    let (kinds, hash) = promised(object);
    let mendable = |hint| hash.is_some_and(|hash| parity::repair(stored, hint, &hash).is_ok());
    let header = match Header::decode(stored) {
        Ok((header, _)) => header,
        Err(error) => return Verdict { is_mendable: mendable(None), ..Verdict::bad(error.into()) },
    };
    let end = usize::try_from(header.payload_len).ok();
    let Some((payload, parity)) = end.and_then(|end| stored.split_at_checked(end)) else {
        return Verdict { is_mendable: mendable(None), ..Verdict::bad(DamageReason::Short) };
    };
    let is_vouched_for = !parity.is_empty() && parity::vouches_for(payload, parity);
    let judge_payload = || match (hash, parity.is_empty()) {
        (Some(hash), _) if payload_id(payload) != hash => Err(DamageReason::Id),
        (None, false) if !is_vouched_for => Err(DamageReason::ParityDiffers),
        _ if !kinds.contains(&header.kind) => Err(DamageReason::Kind),
        _ => match settings.repository {
            Some(repository) if repository != header.repository => {
                Err(DamageReason::OtherRepository(header.repository))
            }
            _ => Ok(()),
        },
    };
    let judged = judge_payload();
    let is_proven = judged.is_ok() && (hash.is_some() || is_vouched_for);
    let is_mendable = judged.is_err() && mendable(Some(header.payload_len));
    let end = match judge_end(header.payload_len, parity, settings) {
        // The payload has its hash, so it is the table of shard hashes that could not help to mend it.
        Ok(()) if judged.is_ok() && !parity.is_empty() && !is_vouched_for => Err(DamageReason::Parity),
        end => end,
    };
    Verdict { payload: judged, end, is_mendable, is_proven }
}

/// What is wrong with what follows a payload.
fn judge_end(payload_len: u64, parity: &[u8], settings: &Settings) -> Result<(), DamageReason> {
    match parity.is_empty() {
        true if settings.has_parity == Some(true) => Err(DamageReason::NoParity),
        true => Ok(()),
        false if parity::is_whole(payload_len, parity) => Ok(()),
        false if parity.len() as u64 > parity::parity_len(payload_len) => Err(DamageReason::Surplus),
        false if settings.has_parity == Some(false) => Err(DamageReason::Surplus),
        false => Err(DamageReason::Parity),
    }
}
