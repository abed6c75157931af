//! What becomes of each pack: a pure function of how much of it is needed.

use std::str::FromStr;

use crate::index::counts::PackUsage;
use crate::units::ByteCount;

/// A share in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u16);

/// How much that is not needed may stay in packs that hold something else, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnusedLimit {
    /// A share of all that is stored.
    Share(Share),
    /// So many bytes.
    Bytes(u64),
    /// All of it: nothing is rewritten.
    Unlimited,
}

impl Default for UnusedLimit {
    /// 5 %.
    fn default() -> Self {
        Self::Share(Share(500))
    }
}

impl FromStr for UnusedLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const ERROR: &str = "write a share below 100 such as 5%, a size such as 2GiB, or unlimited";
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        if let Some(share) = text.strip_suffix('%') {
            let share = share.parse::<f64>().map_err(|_| ERROR)?;
            let is_share = (0.0..100.0).contains(&share);
            return if is_share { Ok(Self::Share(Share((share * 100.0) as u16))) } else { Err(ERROR) };
        }
        let bytes = text.parse::<ByteCount>().map_err(|_| ERROR)?;
        Ok(Self::Bytes(bytes.0))
    }
}

impl UnusedLimit {
    /// Bytes that may stay beside so many that are needed.
    fn bytes_beside(self, needed: u64) -> u64 {
        match self {
            Self::Unlimited => u64::MAX,
            Self::Bytes(bytes) => bytes,
            Self::Share(Share(share)) => {
                let share = u128::from(share.min(9_999));
                (u128::from(needed) * share / (10_000 - share)) as u64
            }
        }
    }
}

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing in it is needed.
    Delete,
    /// What is needed is copied elsewhere, and then it goes.
    Rewrite,
    /// It stays as it is.
    Keep,
}

/// Decides for all packs that are not needed as a whole. `stored_bytes` is the length of all packs there are.
///
/// Those are rewritten first of which the most is not needed, because they bring most for what is copied, until what
/// is left is within the limit.
pub fn decide(
    packs: Vec<PackUsage>,
    stored_bytes: u64,
    max_unused: UnusedLimit,
    max_rewrite: Option<u64>,
) -> Vec<(PackUsage, Fate)> {
    let (deleted, mut partly): (Vec<_>, Vec<_>) = packs.into_iter().partition(|pack| pack.live_count == 0);
    let dead: u64 = partly.iter().map(PackUsage::dead_stored_bytes).sum();
    let deleted_bytes: u64 = deleted.iter().map(|pack| pack.row.payload_len).sum();
    let needed = stored_bytes.saturating_sub(dead).saturating_sub(deleted_bytes);
    let limit = max_unused.bytes_beside(needed);
    partly.sort_by_key(|pack| {
        let dead = u128::from(pack.dead_stored_bytes());
        (std::cmp::Reverse((dead << 32) / u128::from(pack.row.payload_len.max(1))), pack.row.id)
    });
    let mut unused = dead;
    let mut rewritten = 0;
    let partly = partly.into_iter().map(|pack| {
        let copied = pack.row.payload_len.saturating_sub(pack.dead_stored_bytes());
        let is_allowed = max_rewrite.is_none_or(|max| rewritten + copied <= max);
        if unused <= limit || !is_allowed {
            return (pack, Fate::Keep);
        }
        unused -= pack.dead_stored_bytes();
        rewritten += copied;
        (pack, Fate::Rewrite)
    });
    let partly: Vec<_> = partly.collect();
    deleted.into_iter().map(|pack| (pack, Fate::Delete)).chain(partly).collect()
}

/// Whether a frame that is moved goes on resting on its bases: where it takes `difference` bytes as it is, `whole` by
/// itself, and `freed` bytes of its bases are kept by nothing else.
pub fn is_worth_its_bases(difference: u64, whole: u64, freed: u64) -> bool {
    difference.saturating_add(freed) < whole
}

/// About so many bytes of a base are freed for each of the frames that are moved if none of these rests on it any more.
/// Nothing where others need it, too. `part` of `plain` bytes of its frame are the base, of which `stored` are stored.
pub fn freed_bytes(count: u64, moved: u64, part: u32, plain: u32, stored: u32) -> u64 {
    if moved == 0 || count > moved {
        return 0;
    }
    u64::from(stored) * u64::from(part) / u64::from(plain.max(1)) / moved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;
    use crate::index::{PackKind, PackNumber, PackRow};

    fn pack(number: u8, live: u64, total: u64) -> PackUsage {
        let row = PackRow {
            id: PackId::new([number; 32]),
            kind: PackKind::Data,
            payload_len: total,
            wrap: 0,
            flags: 0,
            generation: 1,
            salt: [0; 32],
            frame_count: 1,
            chunk_count: 1,
        };
        PackUsage {
            number: PackNumber(number.into()),
            row,
            live_bytes: live,
            total_bytes: total,
            live_count: u32::from(live > 0),
            total_count: 2,
        }
    }

    fn fates(packs: &[PackUsage], max_unused: &str, max_rewrite: Option<u64>) -> Vec<(u32, Fate)> {
        let decided = decide(packs.to_vec(), 10_000, max_unused.parse().unwrap(), max_rewrite);
        decided.into_iter().map(|(pack, fate)| (pack.number.0, fate)).collect()
    }

    #[test]
    fn what_holds_nothing_needed_goes_and_the_emptiest_is_rewritten_first() {
        let packs = [pack(1, 900, 1000), pack(2, 100, 1000), pack(3, 0, 1000), pack(4, 500, 1000)];
        use Fate::{Delete, Keep, Rewrite};
        assert_eq!(fates(&packs, "0%", None), [(3, Delete), (2, Rewrite), (4, Rewrite), (1, Rewrite)]);
        // 7,500 bytes are needed: 100 may stay beside them at 1.4 %.
        assert_eq!(fates(&packs, "1.4%", None), [(3, Delete), (2, Rewrite), (4, Rewrite), (1, Keep)]);
        assert_eq!(fates(&packs, "600B", None), [(3, Delete), (2, Rewrite), (4, Keep), (1, Keep)]);
        assert_eq!(fates(&packs, "unlimited", None), [(3, Delete), (2, Keep), (4, Keep), (1, Keep)]);
        assert_eq!(fates(&packs, "0%", Some(100)), [(3, Delete), (2, Rewrite), (4, Keep), (1, Keep)]);
    }

    #[test]
    fn a_limit_is_a_share_or_a_size() {
        let parsed = |text: &str| text.parse::<UnusedLimit>().ok();
        assert_eq!(parsed("5%"), Some(UnusedLimit::default()));
        assert_eq!(parsed("0"), Some(UnusedLimit::Bytes(0)));
        assert_eq!(parsed("unlimited"), Some(UnusedLimit::Unlimited));
        for text in ["100%", "-1%", "", "%", "many", "NaN%"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_difference_is_kept_unless_its_bases_are_kept_for_it_alone_and_cost_more_than_it_saves() {
        // Others need the base: it costs nothing.
        assert_eq!(freed_bytes(3, 2, 1000, 1000, 500), 0);
        assert!(is_worth_its_bases(10, 11, 0));
        assert!(!is_worth_its_bases(10, 10, 0));
        // Two frames share the price of what only they rest on, in proportion to its part of its frame.
        assert_eq!(freed_bytes(2, 2, 1000, 1000, 500), 250);
        assert_eq!(freed_bytes(1, 1, 100, 1000, 500), 50);
        assert!(is_worth_its_bases(10, 300, 250));
        assert!(!is_worth_its_bases(10, 260, 250));
        // Nothing follows from nothing.
        assert_eq!(freed_bytes(0, 0, 0, 0, 0), 0);
        assert!(!is_worth_its_bases(u64::MAX, u64::MAX, 1));
    }
}
