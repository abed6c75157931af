//! What becomes of each pack: a pure function of how much of it is needed.

use std::str::FromStr;

use crate::index::FrameRow;
use crate::index::counts::PackUsage;
use crate::units::ByteCount;

/// What is compressed by itself is usually so many times shorter, at least.
const USUAL_RATIO: u64 = 4;

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

/// By how many bytes a pack grows when it is rewritten because differences in it are stored by themselves again.
pub fn growth_bytes(frames: &[FrameRow]) -> u64 {
    let based = frames.iter().filter(|frame| frame.depth > 0);
    let plainly = |frame: &FrameRow| u64::from(frame.plain_len) / USUAL_RATIO;
    based.map(|frame| plainly(frame).saturating_sub(u64::from(frame.stored_len))).sum()
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
    fn differences_grow_when_they_are_stored_by_themselves() {
        let frame = |depth, stored_len| FrameRow {
            offset: 112,
            stored_len,
            plain_len: 4000,
            codec: if depth > 0 { 2 } else { 1 },
            depth,
            list_hash: [0; 16],
            bases: Vec::new(),
        };
        assert_eq!(growth_bytes(&[frame(0, 10), frame(0, 900)]), 0);
        assert_eq!(growth_bytes(&[frame(1, 10), frame(0, 10), frame(3, 100)]), 990 + 900);
        assert_eq!(growth_bytes(&[frame(1, 2000)]), 0);
    }
}
