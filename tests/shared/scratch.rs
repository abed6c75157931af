//! Folders for caches of tests that make thousands of them.

use std::path::Path;

use tempfile::TempDir;

/// A folder in memory where there is such a place: syncing would be most of the time.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let in_memory = memory.is_dir().then(|| tempfile::tempdir_in(memory).ok()).flatten();
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}
