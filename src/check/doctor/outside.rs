//! What can be found out without a key.

use std::collections::BTreeMap;

use super::{Probe, age_of, age_text};
use crate::clock::Timestamp;
use crate::crypto;
use crate::event::with_causes;
use crate::format::repository_config::RepositoryConfig;
use crate::repo::names::{self, Named};
use crate::repo::{RepoError, delete_if_allowed, probe_storage};
use crate::storage::{ObjectName, Storage, StorageError};
use crate::units::{ByteCount, counted_text};

/// With less room a backup will soon fail.
const SPACE_BYTES_NOTE: u64 = 1 << 30;
/// With less room not even a pack fits.
const SPACE_BYTES_BAD: u64 = 64 << 20;
/// Clocks differ so far without anybody noticing.
const CLOCK_SECONDS_NOTE: u64 = 300;
/// With such a clock a living writer may be taken for dead, and retention keeps the wrong snapshots.
const CLOCK_SECONDS_BAD: u64 = 3600;

/// What each promise of a storage is about, when it holds and when it does not, and what follows.
const PROMISES: [(&str, &str, &str, Option<&str>); 5] = [
    (
        "second_create_is_refused",
        "a name that is taken stays what it was",
        "a name that was taken could be created again",
        Some(
            "two hosts could overwrite each other here: use another storage, or one host and `repo prune --exclusive`",
        ),
    ),
    (
        "created_name_is_listed",
        "what was stored is listed at once",
        "what was just stored is not listed",
        Some("a prune could miss a writer here: use another storage, or prune only when nothing else runs"),
    ),
    (
        "ranges_are_exact",
        "parts of an object are read exactly",
        "a part of an object was read as something else",
        Some("nothing can be restored from here while this is so"),
    ),
    (
        "names_are_case_sensitive",
        "names differ by upper and lower case",
        "names do not differ by upper and lower case",
        None,
    ),
    (
        "delete_is_visible",
        "what was deleted is gone at once",
        "what was deleted can still be seen",
        Some("a prune would free nothing here, and a removed key would still open the repository"),
    ),
];

/// Whether the storage keeps the promises that everything rests on, how much room it has, and whether its clock is that
/// of this computer.
pub fn promises(storage: &dyn Storage, now: Timestamp) -> Result<Vec<Probe>, RepoError> {
    let mut probes = Vec::new();
    match probe_storage(storage) {
        Ok(kept) => probes.extend(kept_promises(&kept)),
        Err(RepoError::Storage(error)) => {
            let message = format!("it cannot be tried: {}", with_causes(&error));
            let hint = "backups need the right to write here; restores and checks do not";
            probes.push(Probe::bad("storage", message).hint(hint));
        }
        Err(error) => return Err(error),
    }
    if storage.is_remote() {
        probes.extend(rights(storage)?);
    }
    probes.push(space(storage)?);
    probes.extend(clock(storage, now)?);
    Ok(probes)
}

fn kept_promises(kept: &BTreeMap<String, bool>) -> Vec<Probe> {
    let judge = |(id, good, bad, hint): &(&'static str, &str, &str, Option<&str>)| {
        let is_kept = *kept.get(*id)?;
        Some(match (is_kept, hint) {
            (true, _) => Probe::good(id, *good),
            (false, Some(hint)) => Probe::bad(id, *bad).hint(*hint),
            // All names of a repository are lower case.
            (false, None) => Probe::note(id, *bad),
        })
    };
    PROMISES.iter().filter_map(judge).collect()
}

fn space(storage: &dyn Storage) -> Result<Probe, RepoError> {
    Ok(match storage.space_left()? {
        None if storage.is_remote() => {
            Probe::good("space", "the store says when there is no more room, and then nothing is lost")
        }
        None => Probe::note("space", "nobody can tell how much room there is"),
        Some(bytes) => {
            let message = format!("room for {}", ByteCount(bytes));
            let hint = "`repo forget` with `repo prune` frees some, also on a full disk";
            match bytes {
                0..SPACE_BYTES_BAD => Probe::bad("space", message).hint(hint),
                SPACE_BYTES_BAD..SPACE_BYTES_NOTE => Probe::note("space", message).hint(hint),
                _ => Probe::good("space", message),
            }
        }
    })
}

/// Tries to overwrite and to delete: a host that only makes backups should not be able to.
fn rights(storage: &dyn Storage) -> Result<Option<Probe>, RepoError> {
    let name = probe_name("rights")?;
    let Ok(_) = storage.create(&name, b"kluis probe: may this be changed?") else { return Ok(None) };
    let can_overwrite = match storage.replace(&name, b"kluis probe: it may be changed") {
        Ok(()) => true,
        Err(error) if error.is_denied() => false,
        Err(error) => return Err(error.into()),
    };
    let can_delete = delete_if_allowed(storage, &name)?;
    let hint =
        "a host that only makes backups is safer with a key that can neither: docs/guide.md has a policy";
    Ok(Some(match (can_overwrite, can_delete) {
        (false, false) => Probe::good(
            "rights",
            "this key can neither delete nor overwrite, so whoever steals it destroys nothing",
        ),
        (true, false) => Probe::note("rights", "this key cannot delete, but overwrite").hint(hint),
        (false, true) => Probe::note("rights", "this key cannot overwrite, but delete").hint(hint),
        (true, true) => Probe::note("rights", "this key can delete and overwrite").hint(hint),
    }))
}

fn probe_name(word: &str) -> Result<ObjectName, RepoError> {
    let random: [u8; 8] = crypto::random()?;
    let digits = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(ObjectName::new(format!("tmp/{word}-{digits}")).expect("made of fixed words and hexadecimal"))
}

/// Compares the clock of the storage with that of this computer: by the time under which it lists a new object.
fn clock(storage: &dyn Storage, now: Timestamp) -> Result<Option<Probe>, RepoError> {
    let name = probe_name("clock")?;
    let Ok(_) = storage.create(&name, b"kluis probe: what time is it?") else { return Ok(None) };
    let mut stored_at = None;
    let listed = storage.list("tmp", &mut |listed| {
        if listed.name == name {
            stored_at = Some(listed.stored_at);
        }
    });
    delete_if_allowed(storage, &name)?;
    listed?;
    let Some(stored_at) = stored_at else { return Ok(None) };
    let difference = stored_at.seconds.abs_diff(now.seconds);
    let hint = "set both clocks by NTP; nothing is lost by a wrong one, but writers may have to begin again";
    let message =
        || format!("the clocks of this computer and of the storage differ by {}", age_text_of(difference));
    Ok(Some(match () {
        () if difference <= CLOCK_SECONDS_NOTE => {
            Probe::good("clock", "this computer and the storage agree about the time")
        }
        () if difference <= CLOCK_SECONDS_BAD => Probe::note("clock", message()).hint(hint),
        () => Probe::bad("clock", message()).hint(hint),
    }))
}

fn age_text_of(seconds: u64) -> String {
    age_text(std::time::Duration::from_secs(seconds))
}

/// Whether the settings fit the storage. With a key they are proven, without one they are what the storage says.
pub fn settings(storage: &dyn Storage, config: &RepositoryConfig) -> Vec<Probe> {
    let mut probes = Vec::new();
    let settle = config.settle_seconds;
    probes.push(match (storage.listing_lags(), settle) {
        (false, _) => Probe::good("listings", "listings show what other computers have stored"),
        (true, 0) => Probe::bad(
            "listings",
            "listings may lag behind what other computers store, and this repository does not wait for that",
        )
        .hint("use it from one computer only, or put it where listings do not lag"),
        (true, settle) => {
            let message = format!(
                "listings may lag behind what other computers store; writers and prunes wait {settle} seconds"
            );
            Probe::note("listings", message)
        }
    });
    probes.push(match config.parity {
        false if storage.is_remote() => {
            Probe::good("parity", "objects carry no parity: the store has redundancy of its own")
        }
        true => Probe::good("parity", "every object carries parity against bad sectors"),
        false => Probe::note("parity", "objects carry no parity: a bad sector costs what lies in it")
            .hint("parity is chosen when a repository is made: `repo init` without --no-parity"),
    });
    probes
}

/// What leases, plans and the reserve say by their names alone.
pub fn without_key(storage: &dyn Storage, now: Timestamp) -> Result<Vec<Probe>, RepoError> {
    let mut leases: BTreeMap<_, Timestamp> = BTreeMap::new();
    storage.list(names::LEASE, &mut |listed| {
        if let Some(Named::Lease(id, _)) = names::parse(&listed.name) {
            let newest = leases.entry(id).or_default();
            *newest = listed.stored_at.max(*newest);
        }
    })?;
    let newest = leases.values().max();
    let lease = match newest {
        None => Probe::good("leases", "no writer is registered"),
        Some(newest) => {
            let age = age_text(age_of(*newest, now));
            let message = format!(
                "{} registered, the last sign of life is {age} old",
                counted_text(leases.len() as u64, "writers")
            );
            Probe::note("leases", message)
        }
    };
    let mut open = None;
    let mut done = std::collections::BTreeSet::new();
    storage.list(names::PRUNE, &mut |listed| match names::parse(&listed.name) {
        Some(Named::Plan(number)) => open = open.max(Some(number)),
        Some(Named::Done(number)) => drop(done.insert(number)),
        _ => {}
    })?;
    let prune = match open.filter(|number| !done.contains(number)) {
        None => Probe::good("prune", "no prune is under way"),
        Some(number) => Probe::note("prune", format!("prune {number} was begun and is not finished"))
            .hint("the next `repo prune` goes on with it"),
    };
    Ok(vec![reserve(storage)?, lease, prune])
}

/// Whether the file is there that makes a prune possible on a full disk.
pub(super) fn reserve(storage: &dyn Storage) -> Result<Probe, RepoError> {
    if storage.is_remote() {
        return Ok(Probe::good("reserve", "a store needs no room in reserve"));
    }
    Ok(match storage.len(&names::reserve()) {
        Ok(_) => Probe::good("reserve", "there is room in reserve for a prune on a full disk"),
        Err(StorageError::Missing { .. }) => {
            Probe::note("reserve", "the reserve is used up: on a full disk a prune could not begin")
                .hint("the next prune that finds room makes it again")
        }
        Err(error) => return Err(error.into()),
    })
}
