//! What can go wrong with an index, and the fence around the database engine.
//!
//! The engine checks much of what it reads, but not all: over a broken page it may panic. The index is disposable,
//! so every call goes through [`guarded`], which turns a panic into [`IndexError::Damaged`]. Nothing that a panic
//! could leave half-done is used afterwards: a transaction is dropped, and the caller deletes the file.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why an index could not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Another process, or another part of this one, has it open.
    #[error("the index is open in another process")]
    Locked,
    /// It is not what was written: delete it and build it again.
    #[error("the index is damaged")]
    Damaged {
        /// What gave it away.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It belongs to another repository or another version of the program: delete it and build it again.
    #[error("the index was made for another repository or by another version")]
    Stale,
    /// It cannot be checked while a view of it lives. Nothing is wrong.
    #[error("a view of the index is still in use")]
    InUse,
    /// What was to be added cannot be: it breaks a limit. Nothing was changed.
    #[error("an index object does not fit the index: {rule}")]
    Invalid {
        /// The rule that is broken.
        rule: &'static str,
    },
    /// The file could not be read or written: no space, no permission. Building it again will hardly help.
    #[error("the index could not be read or written")]
    Failed {
        /// Why.
        source: io::Error,
    },
}

impl IndexError {
    /// Damage that `what` gave away.
    pub fn damaged(what: &str) -> Self {
        Self::Damaged { source: what.into() }
    }
}

impl From<redb::Error> for IndexError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::Locked,
            redb::Error::UpgradeRequired(_) => Self::Stale,
            redb::Error::TransactionInProgress => Self::InUse,
            redb::Error::Io(source) => Self::from(source),
            redb::Error::PreviousIo => Self::Failed { source: io::Error::other("an earlier call failed") },
            other => Self::Damaged { source: Box::new(other) },
        }
    }
}

impl From<io::Error> for IndexError {
    /// A file that ends early or holds nonsense is damaged; anything else is trouble with the disk.
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Damaged { source: Box::new(source) }
            }
            _ => Self::Failed { source },
        }
    }
}

macro_rules! from_redb {
    ($($name:ident),*) => {
        $(impl From<redb::$name> for IndexError {
            fn from(error: redb::$name) -> Self {
                Self::from(redb::Error::from(error))
            }
        })*
    };
}
from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError, CompactionError);

impl From<redb::CursorError> for IndexError {
    fn from(error: redb::CursorError) -> Self {
        match error {
            redb::CursorError::Storage(error) => Self::from(error),
            other => Self::Damaged { source: Box::new(other) },
        }
    }
}

thread_local! {
    static GUARD_COUNT: Cell<u32> = const { Cell::new(0) };
}

/// Whether a panic of this thread would be turned into [`IndexError::Damaged`] now. A panic hook asks this: such a
/// panic is no bug, and must neither be told nor end the process.
pub fn expects_panic() -> bool {
    GUARD_COUNT.get() > 0
}

fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    GUARD_COUNT.set(GUARD_COUNT.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARD_COUNT.set(GUARD_COUNT.get() - 1);
    outcome
}

/// Runs `work`, and turns its panic into [`IndexError::Damaged`]. No caller's code may run inside.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch(work).unwrap_or_else(|panic| Err(IndexError::damaged(&panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the database engine panicked").to_owned()
}

/// Keeps something of the engine whose `drop` may panic when the file is damaged.
pub(super) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(super) fn new(inner: T) -> Self {
        Self(Some(inner))
    }

    pub(super) fn get(&self) -> &T {
        self.0.as_ref().expect("only drop takes it out")
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only drop takes it out")
    }

    /// What is in it, no longer kept: to be used and dropped inside of [`guarded`].
    pub(super) fn into_inner(mut self) -> T {
        self.0.take().expect("only drop takes it out")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let Some(inner) = self.0.take() else { return };
        // The file is disposable and its last commit is complete: there is nothing to report.
        let _ = catch(|| drop(inner));
    }
}
