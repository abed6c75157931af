//! Probes of a storage: does it keep the promises that the protocol rests on?

use std::collections::BTreeMap;

use crate::crypto;
use crate::repo::error::RepoError;
use crate::storage::{Created, ObjectName, Storage};
use crate::units::ByteRange;

const FIRST: &[u8] = b"kluis probe: the first bytes of this name";
const SECOND: &[u8] = b"kluis probe: other bytes for the same name";
const THIRD: &[u8] = b"kluis probe: a name in another case";

/// Runs all probes with objects of their own and removes these again. Each promise is named with whether it holds.
pub fn run(storage: &dyn Storage) -> Result<BTreeMap<String, bool>, RepoError> {
    let random: [u8; 8] = crypto::random()?;
    let word = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let name_of = |text: String| ObjectName::new(text).expect("made of fixed words and hexadecimal");
    let name = name_of(format!("tmp/probe-a{word}"));
    let other_case = name_of(format!("tmp/probe-A{word}"));
    let mut outcome = BTreeMap::new();
    let result = probe(storage, &name, &other_case, &mut outcome);
    let is_deleted = delete_if_allowed(storage, &name)? & delete_if_allowed(storage, &other_case)?;
    result?;
    if !is_deleted {
        return Ok(outcome);
    }
    let is_gone = storage.get(&name).is_err() && !is_listed(storage, &name)?;
    outcome.insert("delete_is_visible".to_owned(), is_gone);
    Ok(outcome)
}

/// Deletes what a probe has stored. False if this key may not delete anything in the bucket: then a prune does, later.
pub fn delete_if_allowed(storage: &dyn Storage, name: &ObjectName) -> Result<bool, RepoError> {
    match storage.delete(name) {
        Ok(()) => Ok(true),
        Err(error) if storage.is_remote() && error.is_denied() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether of two creates of one name only the first counts: the promise that a prune beside writers rests on. Costs a few
/// requests.
pub fn refuses_second_create(storage: &dyn Storage) -> Result<bool, RepoError> {
    let name = unused_name("once")?;
    let outcome = second_create_is_refused(storage, &name);
    storage.delete(&name)?;
    outcome
}

fn second_create_is_refused(storage: &dyn Storage, name: &ObjectName) -> Result<bool, RepoError> {
    storage.create(name, FIRST)?;
    let is_refused = storage.create(name, SECOND)? == Created::Exists;
    // A storage that asks first and stores then refuses a second create, but not two at once.
    Ok(is_refused && storage.creates_exclusively() && storage.get(name)? == FIRST)
}

fn unused_name(word: &str) -> Result<ObjectName, RepoError> {
    let random: [u8; 8] = crypto::random()?;
    let digits = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(ObjectName::new(format!("tmp/probe-{word}{digits}")).expect("made of fixed words and hexadecimal"))
}

fn probe(
    storage: &dyn Storage,
    name: &ObjectName,
    other_case: &ObjectName,
    outcome: &mut BTreeMap<String, bool>,
) -> Result<(), RepoError> {
    let is_refused = second_create_is_refused(storage, name)?;
    outcome.insert("second_create_is_refused".to_owned(), is_refused);
    outcome.insert("created_name_is_listed".to_owned(), is_listed(storage, name)?);
    let mut middle = Vec::new();
    storage.get_range(name, ByteRange { start: 6, len: 5 }, &mut middle)?;
    outcome.insert("ranges_are_exact".to_owned(), middle == b"probe");
    let before = storage.get(name)?;
    let is_distinct = storage.create(other_case, THIRD)? == Created::Created && storage.get(name)? == before;
    outcome.insert("names_are_case_sensitive".to_owned(), is_distinct);
    Ok(())
}

fn is_listed(storage: &dyn Storage, name: &ObjectName) -> Result<bool, RepoError> {
    let mut found = false;
    storage.list("tmp", &mut |listed| found |= listed.name == *name)?;
    Ok(found)
}
