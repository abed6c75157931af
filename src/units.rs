//! Byte counts and durations as people write and read them, and byte ranges.

use std::fmt;
use std::time::Duration;

/// A count of bytes, shown with binary units: `1.5 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(pub u64);

const BINARY_UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for ByteCount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = 0;
        // 1023.95 would print as 1024.0, so the next unit takes over a little early.
        while value >= 1023.95 && unit + 1 < BINARY_UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let name = BINARY_UNITS.get(unit).copied().unwrap_or("EiB");
        if unit == 0 { write!(out, "{} B", self.0) } else { write!(out, "{value:.1} {name}") }
    }
}

/// A text that is not a byte count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a size; write for instance 500K, 16MiB or 2G")]
pub struct ByteCountError(String);

impl std::str::FromStr for ByteCount {
    type Err = ByteCountError;

    /// Parses `4096`, `500K`, `16MiB`, `1.5G`, `2 GB`. All units are powers of 1024, as in restic.
    fn from_str(text: &str) -> Result<Self, ByteCountError> {
        let error = || ByteCountError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let power = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            "p" | "pb" | "pib" => 5,
            _ => return Err(error()),
        };
        let factor = 1u64 << (10 * power);
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(ByteCount).ok_or_else(error);
        }
        let value = number.parse::<f64>().map_err(|_| error())? * factor as f64;
        if value.is_finite() && (0.0..9.0e18).contains(&value) {
            Ok(ByteCount(value as u64))
        } else {
            Err(error())
        }
    }
}

/// A duration for people: `0.42 s`, `1:05`, `2:03:04`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.2} s", duration.as_secs_f64()),
        10..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// A whole number with thousands separated: `1,234,567`.
pub fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with what is counted, given in the plural: `1 file`, `0 files`, `1,234 files`.
pub fn counted_text(count: u64, plural: &str) -> String {
    let noun = if count == 1 { plural.strip_suffix('s').unwrap_or(plural) } else { plural };
    format!("{} {noun}", count_text(count))
}

/// A stretch of bytes of a stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// How many.
    pub len: u64,
}

impl ByteRange {
    /// The byte after the last one, or `None` where that is beyond 64 bits.
    pub fn end(&self) -> Option<u64> {
        self.start.checked_add(self.len)
    }
}

/// A path for JSON: a string, or `{"bytes": "<base64>", "text": "<lossy>"}` where it is not UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct PathText<'a>(pub &'a std::path::Path);

impl serde::Serialize for PathText<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if let Some(text) = self.0.to_str() {
            return to.serialize_str(text);
        }
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(self.0.as_os_str());
        let mut map = to.serialize_map(Some(2))?;
        map.serialize_entry("bytes", &base64(bytes))?;
        map.serialize_entry("text", &self.0.to_string_lossy())?;
        map.end()
    }
}

/// Base64 as in RFC 4648, section 4.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let value =
            group.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let at = (value >> (18 - 6 * digit)) & 63;
            let shown = DIGITS.get(at as usize).copied().filter(|_| digit <= group.len());
            text.push(char::from(shown.unwrap_or(b'=')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        let shown = |bytes| ByteCount(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1 << 20), "1.0 MiB");
        assert_eq!(shown((1 << 20) - 1), "1.0 MiB");
        assert_eq!(shown(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn sizes_are_parsed_as_people_write_them() {
        let parsed = |text: &str| text.parse::<ByteCount>().map(|size| size.0).ok();
        assert_eq!(parsed("4096"), Some(4096));
        assert_eq!(parsed("1.5k"), Some(1536));
        assert_eq!(parsed("2 GiB"), Some(2 << 30));
        for text in ["", "x", "1X", "-1", "1..5", "99999999999G", "1e400"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn counts_and_durations_read_well() {
        assert_eq!(count_text(0), "0");
        assert_eq!(count_text(1_234_567), "1,234,567");
        let counted = [0, 1, 2].map(|count| counted_text(count, "files"));
        assert_eq!(counted, ["0 files", "1 file", "2 files"]);
        assert_eq!(duration_text(Duration::from_millis(420)), "0.42 s");
        assert_eq!(duration_text(Duration::from_secs(7384)), "2:03:04");
    }
}
