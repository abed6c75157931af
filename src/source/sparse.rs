//! Finding the holes of a file.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::open::retried;
use crate::format::tree::{Hole, SparseMap};

/// A smaller hole is read as zeros: it costs less than to note it.
const HOLE_BYTES_MIN: u64 = 4096;
/// Holes kept of one file. Two varints each, whose sum is a file's length, encode to at most 128 KiB together, which
/// leaves room for the other extensions of the entry.
pub(super) const HOLE_COUNT_MAX: usize = 8192;

/// A hole by its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    start: u64,
    end: u64,
}

/// The holes of the first `size` bytes. Where the file system cannot tell there are none.
///
/// Reads no data, and takes time by the number of holes, not by their size.
pub(super) fn sparse_map(file: BorrowedFd<'_>, size: u64) -> io::Result<SparseMap> {
    let mut holes = Holes::new();
    let mut at = 0;
    while at < size {
        let data = match retried(|| rustix::fs::seek(file, SeekFrom::Data(at))) {
            Ok(data) => data.min(size),
            // No data behind this place.
            Err(Errno::NXIO) => size,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(SparseMap::default()),
            Err(error) => return Err(error.into()),
        };
        holes.add(Stretch { start: at, end: data });
        if data >= size {
            break;
        }
        at = match retried(|| rustix::fs::seek(file, SeekFrom::Hole(data))) {
            // A file that is written to meanwhile may answer with the same place again.
            Ok(hole) if hole > data => hole,
            Ok(_) | Err(Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(holes.into_map())
}

/// Collects holes. If there are too many, the small ones are dropped: their zeros then count as data.
struct Holes {
    stretches: Vec<Stretch>,
    bytes_min: u64,
}

impl Holes {
    fn new() -> Self {
        Self { stretches: Vec::new(), bytes_min: HOLE_BYTES_MIN }
    }

    fn add(&mut self, stretch: Stretch) {
        if stretch.end.saturating_sub(stretch.start) < self.bytes_min {
            return;
        }
        self.stretches.push(stretch);
        while self.stretches.len() > HOLE_COUNT_MAX {
            self.bytes_min = self.bytes_min.saturating_mul(2);
            let bytes_min = self.bytes_min;
            self.stretches.retain(|stretch| stretch.end - stretch.start >= bytes_min);
        }
    }

    fn into_map(self) -> SparseMap {
        let mut end = 0;
        let holes = self.stretches.into_iter().map(|stretch| {
            let skip = stretch.start - end;
            end = stretch.end;
            Hole { skip, len: stretch.end - stretch.start }
        });
        SparseMap { holes: holes.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::limits;
    use crate::wire;

    /// A file of `size` bytes with `data` written at the given places.
    fn sparse_file(size: u64, data: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in data {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    #[test]
    fn holes_at_the_start_in_the_middle_and_at_the_end_are_found() {
        let block = [7; 4096];
        let file = sparse_file(1 << 20, &[(1 << 16, &block), (1 << 18, &block)]);
        let map = sparse_map(file.as_fd(), 1 << 20).unwrap();
        let holes: Vec<_> = map.holes.iter().map(|hole| (hole.skip, hole.len)).collect();
        let middle = (1 << 18) - (1 << 16) - 4096;
        assert_eq!(holes, [(0, 1 << 16), (4096, middle), (4096, (1 << 20) - (1 << 18) - 4096)]);
        assert!(wire::encode(&map, limits::EXTENSIONS_BYTES_MAX).is_ok());
    }

    #[test]
    fn a_full_file_and_an_empty_one_have_no_holes() {
        let file = sparse_file(0, &[(0, &[1; 10_000])]);
        assert_eq!(sparse_map(file.as_fd(), 10_000).unwrap(), SparseMap::default());
        assert_eq!(sparse_map(sparse_file(0, &[]).as_fd(), 0).unwrap(), SparseMap::default());
    }

    #[test]
    fn a_terabyte_of_nothing_is_one_hole() {
        let file = sparse_file(1 << 40, &[((1 << 40) - 4096, &[1; 4096])]);
        let map = sparse_map(file.as_fd(), 1 << 40).unwrap();
        assert_eq!(map.holes, [Hole { skip: 0, len: (1 << 40) - 4096 }]);
    }

    #[test]
    fn holes_end_with_the_size_that_was_asked_for() {
        let file = sparse_file(1 << 20, &[]);
        assert_eq!(sparse_map(file.as_fd(), 5000).unwrap().holes, [Hole { skip: 0, len: 5000 }]);
        let beyond = sparse_map(file.as_fd(), 2 << 20).unwrap();
        assert_eq!(beyond.holes, [Hole { skip: 0, len: 2 << 20 }]);
    }

    #[test]
    fn of_too_many_holes_the_small_ones_count_as_data() {
        let mut holes = Holes::new();
        let mut start = 0;
        for at in 0..3 * HOLE_COUNT_MAX as u64 {
            let len = if at % 100 == 0 { 1 << 20 } else { 4096 };
            holes.add(Stretch { start, end: start + len });
            start += len + 4096;
        }
        let map = holes.into_map();
        assert!(map.holes.len() <= HOLE_COUNT_MAX);
        assert_eq!(map.holes.iter().filter(|hole| hole.len == 1 << 20).count(), 3 * HOLE_COUNT_MAX / 100 + 1);
        assert!(wire::encode(&map, 128 << 10).is_ok());
    }

    #[test]
    fn the_longest_map_leaves_room_for_other_extensions() {
        let part = (i64::MAX as u64) / HOLE_COUNT_MAX as u64 / 2;
        let map = SparseMap { holes: vec![Hole { skip: part, len: part }; HOLE_COUNT_MAX] };
        assert!(wire::encode(&map, (128 << 10) + 16).is_ok());
    }
}
