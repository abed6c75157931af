//! What a prune would do with each pack, and why: for those who look first.

use serde::Serialize;

use crate::index::counts::PackUsage;
use crate::prune::fates::Fate;
use crate::repo::names;

/// What would become of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedFate {
    /// It would be deleted.
    Delete,
    /// What is needed of it would be copied elsewhere, and then it would be deleted.
    Rewrite,
}

/// A pack that would not stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedPack {
    /// Name of the pack.
    pub pack: String,
    /// What would become of it.
    pub fate: PlannedFate,
    /// Its length.
    pub bytes: u64,
    /// About so many of them are not needed.
    pub bytes_unused: u64,
    /// Why, in words.
    pub reason: String,
}

/// What would become of a pack of which so many bytes are listed; none if it stays.
pub fn planned(usage: &PackUsage, fate: Fate, bytes: u64) -> Option<PlannedPack> {
    let (fate, bytes_unused, reason) = match fate {
        Fate::Keep => return None,
        Fate::Delete if usage.total_count == 0 => (
            PlannedFate::Delete,
            bytes,
            "it is not as long as it was, and all that is needed is elsewhere".to_owned(),
        ),
        Fate::Delete => (PlannedFate::Delete, bytes, "no snapshot needs anything in it".to_owned()),
        Fate::Rewrite => {
            let unused = usage.dead_stored_bytes();
            let share = unused.saturating_mul(100).div_ceil(bytes.max(1)).min(100);
            (PlannedFate::Rewrite, unused, format!("{share} % of it is not needed"))
        }
    };
    let pack = names::pack(usage.row.kind, &usage.row.id).to_string();
    Some(PlannedPack { pack, fate, bytes, bytes_unused, reason })
}
