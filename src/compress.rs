//! Frames smaller and back: zstd, with or without a prefix (docs/format.md, "Frames").
//!
//! A frame is stored plainly whenever zstd does not make it smaller, hence a stored frame is never longer than its
//! plaintext. What zstd writes is one standard frame without content size, checksum and dictionary id: all three are
//! known or checked elsewhere.

mod expand;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zstd::zstd_safe::{CCtx, CParameter, compress_bound};

use crate::limits;
pub use expand::{ExpandError, Expander};

const LEVEL_FAST: u8 = 1;
const LEVEL_AUTO: u8 = 3;
const LEVEL_MAX: u8 = 19;
/// Window for frames without bases, as a power of two.
const WINDOW_LOG: u32 = 23;
/// Level 3 with tables that leave room for the rest in a processor's cache of 1 MiB: a twentieth less time than with its
/// usual 2^17 and 2^16 places, for a quarter of a percent more bytes.
const AUTO_TABLE_LOGS: (u32, u32) = (17, 15);
/// The smallest window that zstd knows.
const WINDOW_LOG_MIN: u32 = 10;

/// How a frame is stored. The numbers are stored, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// As it is.
    Stored = 0,
    /// As a zstd frame.
    Zstd = 1,
    /// As a zstd frame that continues a prefix: the plaintext of the bases.
    ZstdPrefix = 2,
}

impl Codec {
    /// The number that stands for it.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What the number stands for.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Stored),
            1 => Some(Self::Zstd),
            2 => Some(Self::ZstdPrefix),
            _ => None,
        }
    }
}

/// How hard to try.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// zstd level 1.
    Fast,
    /// zstd level 3, which is a good balance. It passes over what does not compress by itself, at several gigabytes a
    /// second: looking at samples beforehand was measured to save less than it loses in mixed frames.
    #[default]
    Auto,
    /// zstd level 19.
    Max,
    /// This level of zstd, from 1 to 19.
    Level(CompressionLevel),
}

/// A level of zstd, from 1 to 19.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionLevel(u8);

impl CompressionLevel {
    /// The level with this number, if there is one.
    pub fn new(level: u8) -> Option<Self> {
        (1..=LEVEL_MAX).contains(&level).then_some(Self(level))
    }
}

/// A text that names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a compression; write off, fast, auto, max, or a number from 1 to 19")]
pub struct CompressionError(String);

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        match text {
            "off" => Ok(Self::Off),
            "fast" => Ok(Self::Fast),
            "auto" => Ok(Self::Auto),
            "max" => Ok(Self::Max),
            _ => {
                let level = text.parse().ok().and_then(CompressionLevel::new);
                level.map(Self::Level).ok_or_else(|| CompressionError(text.to_owned()))
            }
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => out.write_str("off"),
            Self::Fast => out.write_str("fast"),
            Self::Auto => out.write_str("auto"),
            Self::Max => out.write_str("max"),
            Self::Level(level) => write!(out, "{}", level.0),
        }
    }
}

impl Compression {
    /// The level of zstd, or `None` for no compression.
    const fn level(self) -> Option<u8> {
        match self {
            Self::Off => None,
            Self::Fast => Some(LEVEL_FAST),
            Self::Auto => Some(LEVEL_AUTO),
            Self::Max => Some(LEVEL_MAX),
            Self::Level(level) => Some(level.0),
        }
    }
}

/// Compresses frames. Keeps its working memory from frame to frame, so every thread has one of its own.
pub struct Compressor {
    level: Option<u8>,
    /// There is none if nothing is to be compressed.
    context: Option<CCtx<'static>>,
    compressed: Vec<u8>,
    difference: Vec<u8>,
}

impl Compressor {
    /// A compressor that tries so hard.
    pub fn new(compression: Compression) -> Self {
        let level = compression.level();
        Self { level, context: level.map(new_context), compressed: Vec::new(), difference: Vec::new() }
    }

    /// The shorter of `plain` and `plain` compressed, and which of both it is.
    pub fn compress<'a>(&'a mut self, plain: &'a [u8]) -> (Codec, &'a [u8]) {
        assert!(plain.len() <= limits::FRAME_BYTES_MAX, "no frame is longer than the limit");
        self.compressed.clear();
        let is_done = self.context.as_mut().is_some_and(|context| {
            self.compressed.reserve(compress_bound(plain.len()));
            context.compress2(&mut self.compressed, plain).is_ok()
        });
        shorter(is_done.then_some((Codec::Zstd, &self.compressed)), plain)
    }

    /// The difference of `plain` from `prefix` if that is at most half of what `plain` takes by itself, because what rests
    /// on something else costs more to read and keeps that alive. Otherwise as [`Self::compress`].
    pub fn compress_against<'a>(&'a mut self, plain: &'a [u8], prefix: &[u8]) -> (Codec, &'a [u8]) {
        let Some(level) = self.level.filter(|_| !prefix.is_empty()) else { return self.compress(plain) };
        let mut difference = std::mem::take(&mut self.difference);
        difference.clear();
        difference.reserve(compress_bound(plain.len()));
        let is_done = compress_after(prefix, plain, level, &mut difference);
        let is_sure = is_done && difference.len() <= plain.len() / DIFFERENCE_SHARE_SURE;
        let whole_len = if is_sure { usize::MAX } else { self.compress(plain).1.len() };
        self.difference = difference;
        if is_done && self.difference.len() <= whole_len / 2 {
            return (Codec::ZstdPrefix, &self.difference);
        }
        let is_shorter = whole_len < plain.len();
        shorter(is_shorter.then_some((Codec::Zstd, &self.compressed)), plain)
    }
}

/// A difference so many times shorter than what it stands for is taken without asking what it would be plainly.
const DIFFERENCE_SHARE_SURE: usize = 32;

fn shorter<'a>(compressed: Option<(Codec, &'a Vec<u8>)>, plain: &'a [u8]) -> (Codec, &'a [u8]) {
    match compressed {
        Some((codec, bytes)) if bytes.len() < plain.len() => (codec, bytes),
        Some(_) | None => (Codec::Stored, plain),
    }
}

fn new_context<'a>(level: u8) -> CCtx<'a> {
    let mut context = CCtx::create();
    set(&mut context, CParameter::CompressionLevel(level.into()));
    set(&mut context, CParameter::ContentSizeFlag(false));
    set(&mut context, CParameter::ChecksumFlag(false));
    set(&mut context, CParameter::DictIdFlag(false));
    // A window that covers a usual frame; for shorter ones zstd takes less. On a source tree in frames of 4 MiB: 197.5
    // instead of 198.6 MB at the same speed.
    set(&mut context, CParameter::WindowLog(WINDOW_LOG));
    if level == LEVEL_AUTO {
        let (long, short) = AUTO_TABLE_LOGS;
        set(&mut context, CParameter::HashLog(long));
        set(&mut context, CParameter::ChainLog(short));
    }
    context
}

fn set(context: &mut CCtx<'_>, parameter: CParameter) {
    context.set_parameter(parameter).expect("the parameters are constants within the bounds of zstd");
}

/// The context borrows the prefix, so it lives no longer than the frame. Whether compression succeeded.
fn compress_after(prefix: &[u8], plain: &[u8], level: u8, into: &mut Vec<u8>) -> bool {
    let mut context = new_context(level);
    // Without long-distance matching, a prefix of some megabytes brings almost nothing.
    set(&mut context, CParameter::EnableLongDistanceMatching(true));
    let reach = (prefix.len() + plain.len()).next_power_of_two().ilog2();
    set(&mut context, CParameter::WindowLog(reach.clamp(WINDOW_LOG_MIN, limits::ZSTD_WINDOW_LOG_MAX)));
    context.ref_prefix(prefix).is_ok() && context.compress2(into, plain).is_ok()
}

#[cfg(test)]
mod tests;
