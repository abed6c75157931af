//! stub
use super::*;
use std::path::PathBuf;
/// s
pub struct CacheFolder {
    path: PathBuf,
    id: RepositoryId,
}
impl CacheFolder {
    /// s
    pub fn open(path: &Path, id: RepositoryId) -> Result<Self, IndexError> {
        std::fs::create_dir_all(path).ok();
        Ok(Self { path: path.to_owned(), id })
    }
    /// s
    pub fn open_index(&self) -> Result<Index, IndexError> {
        Index::open(&self.path.join(format!("{}.redb", self.id)), self.id)
    }
    /// s
    pub fn delete_index(&self) -> Result<(), IndexError> {
        Ok(())
    }
    /// s
    pub fn check_and_raise(&self, _: &Observed) -> Result<Result<(), WitnessError>, IndexError> {
        Ok(Ok(()))
    }
}
