//! What there is to be read, from one listing of everything.

use std::collections::BTreeMap;

use super::super::findings::{Finding, FindingCode, Findings};
use crate::crypto;
use crate::hash::payload_id;
use crate::repo::RepoError;
use crate::repo::names::{self, Named};
use crate::storage::{ObjectName, Storage};

/// An object, with its second copy where such objects have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// What it is.
    pub object: Named,
    /// Its bytes, if it was listed.
    pub len: Option<u64>,
    /// Bytes of its copy, if that was listed.
    pub copy_len: Option<u64>,
}

impl Unit {
    /// Bytes of both.
    pub fn bytes(&self) -> u64 {
        self.len.unwrap_or(0).saturating_add(self.copy_len.unwrap_or(0))
    }
}

/// Everything that is to be read, long objects first, so that no thread begins with the longest when the others are
/// done. Names that no object has become findings.
pub fn all(storage: &dyn Storage, findings: &mut Findings) -> Result<Vec<Unit>, RepoError> {
    let mut units: BTreeMap<ObjectName, Unit> = BTreeMap::new();
    let mut unparsable = Vec::new();
    storage.list("", &mut |listed| {
        let copy_of = listed.name.as_str().strip_prefix("copy/");
        let copied = copy_of.and_then(|name| ObjectName::new(name).ok());
        let name = copied.as_ref().unwrap_or(&listed.name);
        match names::parse(name) {
            None => unparsable.push(listed.name),
            Some(Named::Temporary | Named::Reserve) if copied.is_none() => {}
            Some(object) if copied.is_some() && !object.has_copy() => unparsable.push(listed.name),
            Some(object) => {
                let unit = units.entry(name.clone()).or_insert(Unit { object, len: None, copy_len: None });
                match copied {
                    None => unit.len = Some(listed.len),
                    Some(_) => unit.copy_len = Some(listed.len),
                }
            }
        }
    })?;
    for name in unparsable {
        let message = "no object of a repository has such a name";
        findings.add(Finding::damage(FindingCode::NameUnparsable, name, message));
    }
    // Its absence is worth knowing, too.
    let readme = Unit { object: Named::Readme, len: None, copy_len: None };
    units.entry(names::readme()).or_insert(readme);
    let mut units: Vec<_> = units.into_values().collect();
    units.sort_by_key(|unit| std::cmp::Reverse(unit.bytes()));
    Ok(units)
}

/// Leaves out packs until about so many percent of their bytes are left, by chance: each run chooses others. Returns
/// how many were left out.
pub fn leave_out(units: &mut Vec<Unit>, percent: f64) -> Result<u64, RepoError> {
    let seed: [u8; 32] = crypto::random()?;
    let is_pack = |unit: &Unit| matches!(unit.object, Named::Pack(..));
    let mut packs: Vec<_> = units.iter().copied().filter(is_pack).collect();
    packs.sort_by_cached_key(|unit| match unit.object {
        Named::Pack(_, id) => payload_id(&[seed, *id.bytes()].concat()),
        _ => seed,
    });
    let total: u64 = packs.iter().map(Unit::bytes).sum();
    let wanted = total as f64 * percent / 100.0;
    let count = packs.len();
    let mut so_far = 0;
    packs.retain(|pack| {
        let is_wanted = (so_far as f64) < wanted;
        so_far += pack.bytes();
        is_wanted
    });
    let skipped_count = count - packs.len();
    units.retain(|unit| !is_pack(unit));
    packs.append(units);
    *units = packs;
    Ok(skipped_count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;
    use crate::index::PackKind;

    #[test]
    fn a_part_is_about_as_many_bytes_and_everything_that_is_no_pack() {
        let pack = |number: u8| Unit {
            object: Named::Pack(PackKind::Data, PackId::new([number; 32])),
            len: Some(100),
            copy_len: None,
        };
        let mut units: Vec<_> = (0..50).map(pack).collect();
        units.push(Unit { object: Named::Config(1), len: Some(5), copy_len: Some(5) });
        let mut part = units.clone();
        assert_eq!(leave_out(&mut part, 10.0).unwrap(), 45);
        assert_eq!((part.len(), part.last()), (6, units.last()));
        let mut nearly_none = units.clone();
        assert_eq!(leave_out(&mut nearly_none, 0.001).unwrap(), 49, "no share becomes nothing");
        let mut all = units.clone();
        assert_eq!((leave_out(&mut all, 100.0).unwrap(), all.len()), (0, 51));
    }
}
