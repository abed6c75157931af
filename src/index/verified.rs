//! When each pack was last read whole and found good: a small file beside the index that survives a rebuild of it.
//!
//! ```text
//! kluis verified packs 1
//! <pack id> <seconds since 1970>
//! ```
//!
//! It only decides which packs are read first. Whatever cannot be read of it counts as never verified.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::clock::Timestamp;
use crate::id::PackId;

const FIRST_LINE: &str = "kluis verified packs 1";

/// When packs were last verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifiedPacks {
    /// The moment, by pack.
    pub packs: HashMap<PackId, Timestamp>,
}

impl VerifiedPacks {
    /// What the file at `path` says; nothing if there is none, or one that is not ours.
    pub fn load(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Self::default();
        }
        let packs = lines.filter_map(|line| {
            let (id, seconds) = line.split_once(' ')?;
            Some((id.parse().ok()?, Timestamp::from_seconds(seconds.parse().ok()?)))
        });
        Self { packs: packs.collect() }
    }

    /// Writes the file anew, as a whole or not at all.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let unfinished = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = io::BufWriter::new(fs::File::create(&unfinished)?);
        writeln!(file, "{FIRST_LINE}")?;
        for (id, moment) in &self.packs {
            writeln!(file, "{id} {}", moment.seconds)?;
        }
        file.flush()?;
        fs::rename(&unfinished, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_and_nonsense_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verified");
        assert_eq!(VerifiedPacks::load(&path), VerifiedPacks::default());
        let packs = [(PackId::new([1; 32]), Timestamp::from_seconds(-5))];
        let verified = VerifiedPacks { packs: packs.into_iter().collect() };
        verified.save(&path).unwrap();
        assert_eq!(VerifiedPacks::load(&path), verified);
        fs::write(&path, format!("{FIRST_LINE}\nxx 5\n{} 7\n\n", PackId::new([2; 32]))).unwrap();
        assert_eq!(VerifiedPacks::load(&path).packs.len(), 1);
        fs::write(&path, [0xff; 100]).unwrap();
        assert_eq!(VerifiedPacks::load(&path), VerifiedPacks::default());
    }
}
