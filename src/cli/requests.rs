//! What commands have cost in requests to a bucket: written down in the cache folder, the newest last.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::storage::RequestCounts;

const FILE: &str = "requests.jsonl";
/// Older lines are dropped, not one by one.
const LINE_COUNT_MAX: usize = 1000;
const LINE_COUNT_KEPT: usize = 500;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// When it ended.
    pub time: String,
    /// Which repository it used.
    pub place: String,
    /// Its name.
    pub command: String,
    /// What it did there.
    #[serde(flatten)]
    pub counts: RequestCounts,
}

/// Writes down one command. What fails here is not worth failing for.
pub fn note(cache: &Path, noted: &Noted) {
    let Ok(line) = serde_json::to_string(noted) else { return };
    let path = cache.join(FILE);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<&str> = before.lines().collect();
    let first = if lines.len() < LINE_COUNT_MAX { 0 } else { lines.len() - LINE_COUNT_KEPT };
    let kept = lines.get(first..).unwrap_or(&[]).iter().copied().chain([line.as_str()]);
    let text: String = kept.flat_map(|line| [line, "\n"]).collect();
    let temporary = cache.join(format!("{FILE}.{}", std::process::id()));
    if fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path)).is_err() {
        let _ = fs::remove_file(&temporary);
    }
}

/// The last commands that used a repository, oldest first. Lines that do not parse are left out.
pub fn read(cache: &Path, place: &str, count: usize) -> Vec<Noted> {
    let text = fs::read_to_string(cache.join(FILE)).unwrap_or_default();
    let noted = text.lines().filter_map(|line| serde_json::from_str::<Noted>(line).ok());
    let mut noted: Vec<_> = noted.filter(|noted| noted.place == place).collect();
    noted.split_off(noted.len().saturating_sub(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_remembered_by_place_and_not_without_end() {
        let cache = tempfile::tempdir().unwrap();
        for number in 0..1500 {
            let counts = RequestCounts { puts: number, ..RequestCounts::default() };
            let place = if number % 2 == 0 { "s3://even" } else { "s3://odd" };
            let (time, command) = (number.to_string(), "backup".to_owned());
            note(cache.path(), &Noted { time, place: place.to_owned(), command, counts });
        }
        let odd = read(cache.path(), "s3://odd", 3);
        assert_eq!(odd.iter().map(|noted| noted.counts.puts).collect::<Vec<_>>(), [1495, 1497, 1499]);
        assert!(fs::read_to_string(cache.path().join(FILE)).unwrap().lines().count() <= LINE_COUNT_MAX);
        assert!(read(cache.path(), "s3://other", 3).is_empty());
    }
}
