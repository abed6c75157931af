//! Long objects read by a few threads, so that the disk is busy while bytes are looked at.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{CheckError, stop_if_interrupted};
use crate::event::Observer;
use crate::repo::RepoError;

/// Threads that read; each has one object in memory.
const THREAD_COUNT: u64 = 3;
/// Fewer threads read where objects are so long that they would need more memory together.
const BYTES_IN_MEMORY: u64 = 128 << 20;

/// Hands each of these objects, the longest of `len_max` bytes, to one of some threads, in order. Each thread has a state
/// of its own. The first error ends all of them.
pub fn each<T: Sync, S>(
    objects: &[T],
    len_max: u64,
    observer: &dyn Observer,
    state: impl Fn() -> S + Sync,
    read: impl Fn(&mut S, &T) -> Result<(), CheckError> + Sync,
) -> Result<(), CheckError> {
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let work = || -> Result<(), CheckError> {
        let mut state = state();
        while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            stop_if_interrupted(observer)?;
            if is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            read(&mut state, object)?;
        }
        Ok(())
    };
    let thread_count = (BYTES_IN_MEMORY / len_max.max(1)).clamp(1, THREAD_COUNT);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..thread_count.min(objects.len() as u64))
            .map(|_| scope.spawn(|| work().inspect_err(|_| is_over.store(true, Ordering::Relaxed))))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(RepoError::Ended.into())));
        // All of them end before the first error is told.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}
