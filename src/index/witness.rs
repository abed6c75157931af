//! stub
use crate::id::*;
use std::collections::BTreeMap;
/// s
#[derive(Debug, Clone)]
pub struct SeriesMark {
    /// s
    pub sequence: u64,
    /// s
    pub id: SnapshotId,
}
/// s
#[derive(Debug, Clone)]
pub struct Observed {
    /// s
    pub repository: RepositoryId,
    /// s
    pub fingerprint: [u8; 32],
    /// s
    pub config_number: u64,
    /// s
    pub keyring_number: u64,
    /// s
    pub series: BTreeMap<SeriesId, SeriesMark>,
}
impl Observed {
    /// s
    pub fn new(repository: RepositoryId, fingerprint: [u8; 32]) -> Self {
        Self { repository, fingerprint, config_number: 0, keyring_number: 0, series: BTreeMap::new() }
    }
}
/// s
#[derive(Debug, thiserror::Error)]
#[error("witness")]
pub struct WitnessError;
