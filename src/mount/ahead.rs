//! Opens what a reader who goes from front to back comes to next.

use std::sync::{Arc, Mutex};

use crossbeam_channel::{Sender, bounded};

use crate::id::ChunkId;
use crate::mount::origin::Origin;

/// So far ahead of a reader it is looked: as much as is usually opened at once, so that it is always the next frame.
pub(super) const AHEAD_BYTES: u64 = 8 << 20;
/// Readers that are told apart.
const READER_COUNT_MAX: usize = 16;
/// Requests of one reader come in about this order, because the kernel asks for several at once.
const DISORDER_BYTES_MAX: u64 = 1 << 20;

/// See the module.
pub(super) struct Ahead {
    /// Where the next chunk is asked for.
    wanted: Sender<ChunkId>,
    readers: Mutex<Vec<Reader>>,
}

/// A file that is read.
struct Reader {
    number: u64,
    /// Where the last request ended.
    at: u64,
    /// What was asked for ahead of it.
    asked: Option<ChunkId>,
}

impl Ahead {
    /// Opens frames in a thread of its own.
    pub(super) fn new(origin: &Arc<Origin>) -> Self {
        // One place: a chunk that cannot be fetched at once is read when it is asked for.
        let (wanted, fetched) = bounded::<ChunkId>(1);
        let origin = Arc::clone(origin);
        // Without the thread nothing is fetched ahead, and all works the same.
        let _ = std::thread::Builder::new().name("ahead".to_owned()).spawn(move || {
            fetched.iter().for_each(|id| origin.fetch(&id));
        });
        Self { wanted, readers: Mutex::default() }
    }

    /// A request of so many bytes was answered. If it went on where one before ended, `next` says what comes.
    pub(super) fn has_read(
        &self,
        number: u64,
        offset: u64,
        len: u64,
        next: impl FnOnce() -> Option<ChunkId>,
    ) {
        let mut readers = self.readers.lock().expect("no holder of this lock panics");
        let known = readers.iter().position(|reader| reader.number == number);
        let mut reader = match known {
            Some(place) => readers.remove(place),
            None => Reader { number, at: 0, asked: None },
        };
        // Whoever begins in the middle may want that place only.
        let goes_on = known.is_some() && reader.at.abs_diff(offset) <= DISORDER_BYTES_MAX;
        reader.at = offset + len;
        let asked = reader.asked;
        readers.truncate(READER_COUNT_MAX - 1);
        readers.insert(0, reader);
        drop(readers);
        let Some(next) = goes_on.then(next).flatten().filter(|next| asked != Some(*next)) else { return };
        if self.wanted.try_send(next).is_ok() {
            let mut readers = self.readers.lock().expect("no holder of this lock panics");
            let reader = readers.iter_mut().find(|reader| reader.number == number);
            reader.into_iter().for_each(|reader| reader.asked = Some(next));
        }
    }
}
