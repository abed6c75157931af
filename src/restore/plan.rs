//! In which order chunks are read: by pack and frame, in runs that one thread reads at once. Pure.

use std::ops::Range;

use super::layout::Piece;
use super::origin::Place;
use crate::id::ChunkId;

/// A piece of a file that may have to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Number of the file in its window.
    pub(super) job: u32,
    pub(super) id: ChunkId,
    pub(super) chunk_len: u32,
    pub(super) piece: Piece,
}

impl Candidate {
    /// Whether `next` is the next piece of the same chunk, behind a hole.
    pub(super) fn is_followed_by(&self, next: &Candidate) -> bool {
        self.id == next.id && next.piece.from == self.piece.from + self.piece.len
    }
}

/// A piece that has to be written, and where its chunk lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) place: Place,
    pub(super) job: u32,
    pub(super) id: ChunkId,
    pub(super) piece: Piece,
}

/// Plain bytes that one thread takes on at once. Frames are one MiB or one large chunk.
const RUN_BYTES_MAX: u64 = 4 << 20;
const RUN_FRAMES_MAX: usize = 16;

/// Sorts `wants` by pack and frame, and inside a frame by file; then cuts them into runs of whole frames, each in
/// one pack. No frame is in two runs.
pub(super) fn cut(wants: &mut [Want]) -> Vec<Range<usize>> {
    wants.sort_unstable_by_key(|want| (want.place.pack, want.place.frame, want.job, want.piece.offset));
    let mut runs = Vec::new();
    let mut start = 0;
    let (mut bytes, mut frames) = (0, 0);
    let mut before: Option<Place> = None;
    for (at, want) in wants.iter().enumerate() {
        let is_new_pack = before.is_some_and(|before| before.pack != want.place.pack);
        let is_new_frame = is_new_pack || before.is_none_or(|before| before.frame != want.place.frame);
        if is_new_pack || (is_new_frame && (bytes >= RUN_BYTES_MAX || frames >= RUN_FRAMES_MAX)) {
            runs.push(start..at);
            (start, bytes, frames) = (at, 0, 0);
        }
        if is_new_frame {
            frames += 1;
        }
        bytes += u64::from(want.piece.len);
        before = Some(want.place);
    }
    if start < wants.len() {
        runs.push(start..wants.len());
    }
    runs
}

/// The frames of a run, ascending, each once.
pub(super) fn frames(run: &[Want]) -> Vec<u16> {
    let mut frames: Vec<u16> = run.iter().map(|want| want.place.frame).collect();
    frames.dedup();
    frames
}

/// The wants of one frame, file by file.
pub(super) fn by_job(run: &[Want], frame: u16) -> impl Iterator<Item = &[Want]> {
    let start = run.partition_point(|want| want.place.frame < frame);
    let end = run.partition_point(|want| want.place.frame <= frame);
    run.get(start..end).unwrap_or_default().chunk_by(|one, next| one.job == next.job)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn want(pack: u32, frame: u16, job: u32, len: u32) -> Want {
        Want {
            place: Place { pack, frame, start: 0, len },
            job,
            id: ChunkId::new([0; 32]),
            piece: Piece { from: 0, len, offset: 0 },
        }
    }

    proptest! {
        #[test]
        fn every_want_is_in_one_run_and_every_frame_too(
            places in prop::collection::vec((0..4u32, 0..50u16, 0..20u32, 1..2_000_000u32), 0..300)
        ) {
            let mut wants: Vec<Want> =
                places.iter().map(|(pack, frame, job, len)| want(*pack, *frame, *job, *len)).collect();
            let runs = cut(&mut wants);
            let mut end = 0;
            let mut seen = std::collections::HashSet::new();
            for run in &runs {
                prop_assert_eq!(run.start, end);
                prop_assert!(run.end > run.start);
                end = run.end;
                let run = &wants[run.clone()];
                let frames = frames(run);
                prop_assert!(frames.is_sorted() && frames.len() <= RUN_FRAMES_MAX);
                prop_assert!(run.iter().all(|want| want.place.pack == run[0].place.pack));
                for frame in &frames {
                    prop_assert!(seen.insert((run[0].place.pack, *frame)));
                    for group in by_job(run, *frame) {
                        prop_assert!(group.iter().all(|want| want.job == group[0].job));
                    }
                }
                let grouped: usize = frames.iter().flat_map(|frame| by_job(run, *frame)).map(<[_]>::len).sum();
                prop_assert_eq!(grouped, run.len());
            }
            prop_assert_eq!(end, wants.len());
        }
    }

    #[test]
    fn a_frame_that_many_files_share_is_one_run() {
        let mut wants: Vec<Want> = (0..1000).map(|job| want(1, 7, job, 1 << 20)).collect();
        let runs = cut(&mut wants);
        assert_eq!((runs.len(), runs.first()), (1, Some(&(0..1000))));
        assert_eq!(by_job(&wants, 7).count(), 1000);
        assert_eq!(by_job(&wants, 8).count(), 0);
    }
}
