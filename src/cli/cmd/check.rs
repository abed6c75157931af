//! `repo check`: finds damage.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::check::{self, CheckOptions, CheckReport, Finding, Severity};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::{Output, safe_name, safe_text};
use crate::units::{ByteCount, count_text, counted_text, duration_text};

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

impl DataPart {
    fn choice(self) -> check::DataPart {
        match self {
            Self::Share(10_000) => check::DataPart::All,
            Self::Share(share) => check::DataPart::Percent(f64::from(share) / 100.0),
            Self::Oldest => check::DataPart::Oldest,
            Self::NotReadFor(age) => check::DataPart::Age(age),
        }
    }
}

/// Looks for damage and tells what was found. Nothing is changed.
pub fn run(args: &CheckArgs, context: &Context) -> Result<Exit, Failure> {
    let options = CheckOptions { directories: args.directories, data: args.data.map(DataPart::choice) };
    let repo = context.open_repository_itself()?;
    let watch = context.watch("nodes")?;
    let checked = check::run(&repo, &options, &watch);
    // The bar is gone before anything else is said.
    drop(watch);
    let report = checked?;
    context.show(&report, |out| show(&report, context, out))?;
    Ok(if report.has_damage() { Exit::Damage } else { Exit::Done })
}

fn show(report: &CheckReport, context: &Context, out: &mut Output) -> Result<(), Failure> {
    show_findings(&report.findings, report.findings_omitted, out)?;
    if context.is_quiet() {
        return Ok(());
    }
    let count = |count: u64| count_text(count);
    out.line(&format!(
        "checked: {}, {}, {}, {}, in {}",
        counted_text(report.snapshots_checked, "snapshots"),
        counted_text(report.nodes_checked, "nodes"),
        counted_text(report.chunks_checked, "chunks"),
        counted_text(report.packs_checked, "packs"),
        duration_text(Duration::from_secs_f64(report.duration_seconds.max(0.0)))
    ))?;
    if report.packs_read > 0 {
        out.line(&format!(
            "read: {}, {}, {} chunks and nodes",
            counted_text(report.packs_read, "packs"),
            ByteCount(report.bytes_read),
            count(report.chunks_read)
        ))?;
    }
    let is_damage = |finding: &&Finding| finding.severity == Severity::Damage;
    match report.findings.iter().filter(is_damage).count() as u64 + report.findings_omitted {
        0 => out.line("no damage was found"),
        damages => out.line(&format!("damage was found: {}", count(damages))),
    }
}

/// All findings, and how many more there are.
pub fn show_findings(findings: &[Finding], omitted: u64, out: &mut Output) -> Result<(), Failure> {
    findings.iter().try_for_each(|finding| show_finding(finding, out))?;
    match omitted {
        0 => Ok(()),
        omitted => out.line(&format!("and {} more", count_text(omitted))),
    }
}

/// A line for the finding, and below it what it touches.
pub fn show_finding(finding: &Finding, out: &mut Output) -> Result<(), Failure> {
    let severity = match finding.severity {
        Severity::Damage => "damage",
        Severity::Note => "note",
    };
    out.line(&safe_text(&format!("{severity}: {}: {}", finding.object, finding.message)))?;
    if finding.is_mendable {
        out.line("  what is in the repository suffices to mend it")?;
    }
    if !finding.snapshots.is_empty() {
        let ids: Vec<_> = finding.snapshots.iter().map(|id| id.short()).collect();
        out.line(&format!("  snapshots that are not complete: {}", ids.join(", ")))?;
    }
    for path in &finding.paths {
        out.line(&format!("  {}", safe_name(path.as_os_str().as_encoded_bytes())))?;
    }
    Ok(())
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
