//! `repo scrub`: finds rot without a key.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::check::scrub::{self, ScrubOptions, ScrubReport};
use crate::cli::cmd::check::show_findings;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::render::Output;
use crate::units::{ByteCount, count_text, counted_text, duration_text};

/// Find bytes that are not what was stored; needs no key.
///
/// Reads every object and compares it with the hash that is its name, with its parity, and with its second copy. So
/// whoever keeps a repository for others can watch over its disks. What only a key can tell is not looked at: whether
/// all snapshots are there, and whether what they need is; `repo check` does that. On damage the exit code is 4.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  repo scrub
  repo scrub --data=10%
  repo scrub --repo /srv/backup --json")]
pub struct ScrubArgs {
    /// Of the packs, read only such a share of their bytes, other packs each time.
    #[arg(long, value_name = "SHARE", num_args = 0..=1, require_equals = true, default_missing_value = "100%")]
    pub data: Option<Share>,
}

/// More than 0 and at most 100 percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        let share = number.filter(|share| *share > 0.0 && *share <= 100.0);
        share.map(Self).ok_or("write a share such as 5%")
    }
}

/// Reads everything and tells what is not what it was. Nothing is changed, and nobody is asked for a passphrase.
pub fn run(args: &ScrubArgs, context: &Context) -> Result<Exit, Failure> {
    let storage = context.open_storage()?;
    let options = ScrubOptions { percent: args.data.map(|share| share.0).filter(|share| *share < 100.0) };
    let watch = context.watch("objects")?;
    let scrubbed = scrub::run(&*storage, options, &watch);
    // The bar is gone before anything else is said.
    drop(watch);
    let report = scrubbed?;
    context.show(&report, |out| show(&report, context, out))?;
    Ok(if report.has_damage() { Exit::Damage } else { Exit::Done })
}

fn show(report: &ScrubReport, context: &Context, out: &mut Output) -> Result<(), Failure> {
    show_findings(&report.findings, report.findings_omitted, out)?;
    if context.is_quiet() {
        return Ok(());
    }
    out.line(&format!(
        "read: {}, {} of them packs, {}, in {}",
        counted_text(report.objects_read, "objects"),
        count_text(report.packs_read),
        ByteCount(report.bytes_read),
        duration_text(Duration::from_secs_f64(report.duration_seconds.max(0.0)))
    ))?;
    if report.packs_skipped > 0 {
        out.line(&format!("left out: {}", counted_text(report.packs_skipped, "packs")))?;
    }
    if report.bytes_unproven > 0 {
        let bytes = ByteCount(report.bytes_unproven);
        out.line(&format!("{bytes} of it have neither hash nor parity nor copy: only a key proves them"))?;
    }
    let damages = report.findings.iter().filter(|found| found.is_damage()).count() as u64;
    match damages + report.findings_omitted {
        0 => out.line("no damage was found"),
        damages => out.line(&format!("damage was found: {}", count_text(damages))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_above_nothing_and_at_most_all() {
        let parsed = |text: &str| text.parse::<Share>().ok().map(|share| share.0);
        assert_eq!(parsed("5%"), Some(5.0));
        assert_eq!(parsed("0.5%"), Some(0.5));
        assert_eq!(parsed("100%"), Some(100.0));
        for text in ["", "5", "0%", "-1%", "100.1%", "NaN%", "oldest", "30d"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }
}
