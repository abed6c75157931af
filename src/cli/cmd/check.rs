//! `repo check`: finds damage.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};

/// Check whether the repository is whole.
///
/// Always checks that every snapshot, index object and pack is there and fits together. The options read more. Damage
/// is named with the snapshots and paths it touches, and the exit code is 4.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo check
  repo check --directories
  repo check --data
  repo check --data=5%")]
pub struct CheckArgs {
    /// Also read the directory of every pack and compare it with the index.
    #[arg(long)]
    pub directories: bool,

    /// Also read, open and verify chunks: all of them, or a part.
    ///
    /// A part is a share (5%), the tenth that was not read for longest (oldest), or what was not read for some time
    /// (30d, 12h).
    #[arg(long, value_name = "PART", num_args = 0..=1, require_equals = true, default_missing_value = "100%")]
    pub data: Option<DataPart>,
}

/// How much of the data to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataPart {
    /// So many hundredths of a percent of the packs, those first that were not read for longest; 10,000 is all.
    Share(u16),
    /// The tenth that was not read for longest.
    Oldest,
    /// What was not read for so long.
    NotReadFor(Duration),
}

impl FromStr for DataPart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const ERROR: &str = "write a share such as 5%, a time such as 30d, or oldest";
        if text == "oldest" {
            return Ok(Self::Oldest);
        }
        if let Some(share) = text.strip_suffix('%') {
            let share = share.parse::<f64>().map_err(|_| ERROR)?;
            let is_share = share > 0.0 && share <= 100.0;
            // Rounded up, so that no share becomes nothing.
            return if is_share { Ok(Self::Share((share * 100.0).ceil() as u16)) } else { Err(ERROR) };
        }
        let (unit_at, _) = text.char_indices().last().ok_or(ERROR)?;
        let (count, unit) = text.split_at(unit_at);
        let hours = match unit {
            "h" => 1,
            "d" => 24,
            "w" => 24 * 7,
            _ => return Err(ERROR),
        };
        let count = count.parse::<u32>().map_err(|_| ERROR)?;
        Ok(Self::NotReadFor(Duration::from_secs(u64::from(count) * hours * 3600)))
    }
}

/// Not connected yet.
pub fn run(_args: &CheckArgs, _context: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("check is not a part of this version yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_data_is_a_share_an_age_or_oldest() {
        let parsed = |text: &str| text.parse::<DataPart>().ok();
        assert_eq!(parsed("5%"), Some(DataPart::Share(500)));
        assert_eq!(parsed("0.001%"), Some(DataPart::Share(1)));
        assert_eq!(parsed("100%"), Some(DataPart::Share(10_000)));
        assert_eq!(parsed("oldest"), Some(DataPart::Oldest));
        assert_eq!(parsed("2w"), Some(DataPart::NotReadFor(Duration::from_secs(1_209_600))));
        for text in ["", "%", "0%", "101%", "NaN%", "5", "d", "-1d", "5\u{e4}", "99999999999d"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }
}
