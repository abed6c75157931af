//! Series: the snapshots of one host and one set of paths, counted by sequence numbers.

use crate::id::SeriesId;
use crate::wire::Bytes;

const CONTEXT: &str = "kluis 2026 v1 series";

/// The series of this host and these paths; the order of the paths does not matter.
pub fn series_of(host: &str, paths: &[Bytes]) -> SeriesId {
    let mut sorted: Vec<_> = paths.iter().collect();
    sorted.sort();
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    for part in std::iter::once(host.as_bytes()).chain(sorted.into_iter().map(Bytes::as_slice)) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    SeriesId::new(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
}
