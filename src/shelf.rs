//! Things with large buffers that are used again.
//!
//! Memory that goes back to the system comes from it again page by page, each one zeroed. Measured on files that do not
//! compress, that took a sixth of all the time a backup computed.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

/// What nobody uses at the moment. All clones are one shelf.
pub struct Shelf<T>(Arc<Shared<T>>);

struct Shared<T> {
    spare: Mutex<Vec<T>>,
    spare_count_max: usize,
}

impl<T: Default> Shelf<T> {
    /// An empty shelf, on which there are never more than so many.
    pub fn new(spare_count_max: usize) -> Self {
        Self(Arc::new(Shared { spare: Mutex::default(), spare_count_max }))
    }

    /// One that is there, as it was left, or a new one. Dropped, it comes back.
    pub fn take(&self) -> Taken<T> {
        let spare = self.spare().pop();
        Taken { thing: Some(spare.unwrap_or_default()), shelf: Some(self.clone()) }
    }
}

impl<T> Shelf<T> {
    fn spare(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.spare.lock().expect("no holder of this lock panics")
    }
}

impl<T> Clone for Shelf<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Shelf<Vec<u8>> {
    /// An empty buffer with room for at least `capacity` bytes.
    pub fn buffer(&self, capacity: usize) -> Taken<Vec<u8>> {
        let mut buffer = self.take();
        buffer.clear();
        buffer.reserve(capacity);
        buffer
    }
}

/// Something from a [`Shelf`], or from nowhere.
pub struct Taken<T> {
    /// There until it is dropped.
    thing: Option<T>,
    /// Where it comes back to.
    shelf: Option<Shelf<T>>,
}

impl<T: Default> Default for Taken<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T> From<T> for Taken<T> {
    fn from(thing: T) -> Self {
        Self { thing: Some(thing), shelf: None }
    }
}

impl<T> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> DerefMut for Taken<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("it is there until it is dropped")
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        let Some(shelf) = &self.shelf else { return };
        let mut spare = shelf.spare();
        if spare.len() < shelf.0.spare_count_max {
            spare.extend(self.thing.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_and_is_used_again() {
        let shelf = Shelf::new(1);
        let mut first = shelf.buffer(1000);
        first.extend_from_slice(b"bytes");
        let place = first.as_ptr();
        drop(first);
        let second = shelf.buffer(10);
        assert!(second.is_empty() && second.capacity() >= 1000);
        assert_eq!(second.as_ptr(), place);
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let shelf = Shelf::<String>::new(2);
        let taken: Vec<_> = (0..5).map(|_| shelf.take()).collect();
        drop(taken);
        assert_eq!(shelf.spare().len(), 2);
    }
}
