//! Reading what is stored, once more where the local index cannot be relied on.
//!
//! A damaged index may refuse to answer, but it may also hide what the repository holds. So nothing counts as missing
//! that only the index does not know: the command begins again with a new index, without telling anybody anything
//! twice. What is missing then is missing in the repository.

use std::sync::Arc;

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::progress::Watch;
use crate::cli::render::{Output, Sent};
use crate::event::{Observer, Problem, Progress};
use crate::repo::{IndexDoubt, Repo, TreeReader};

/// One attempt at reading: the first, or the last.
pub struct Attempt {
    /// Reads trees and chunks.
    pub reader: TreeReader,
    sent: Sent,
    doubt: Doubt,
}

/// What makes an attempt void; the last one is never void.
#[derive(Clone)]
struct Doubt(Option<IndexDoubt>);

/// Watches an attempt: a void one tells nothing any more, and ends soon.
pub struct AttemptWatch<'w> {
    watch: &'w Watch,
    doubt: Doubt,
}

impl Context {
    /// Does `work`, and again with a new index if the attempt was void. Its results must be the same each time, and
    /// go to [`Attempt::output`].
    pub fn read<T>(
        &self,
        repo: &Arc<Repo>,
        work: impl Fn(&Attempt) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (reader, doubt) = reader_in_doubt(repo)?;
        let first = Attempt { reader, sent: Sent::default(), doubt: Doubt(Some(doubt)) };
        let outcome = work(&first);
        if !first.is_void() || self.is_interrupted() {
            return outcome;
        }
        let Attempt { reader, sent, .. } = first;
        // The index can be deleted only when nobody looks into it any more.
        drop(reader);
        self.note("the local index cannot be relied on; it is made again");
        repo.rebuild_index()?;
        work(&Attempt { reader: reader_in_doubt(repo)?.0, sent, doubt: Doubt(None) })
    }

    /// Does `work` once, because what it leaves would be in the way of another attempt. A new index is made for the
    /// next command.
    pub fn read_once<T>(
        &self,
        repo: &Arc<Repo>,
        work: impl Fn(&Attempt) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (reader, doubt) = reader_in_doubt(repo)?;
        let only = Attempt { reader, sent: Sent::default(), doubt: Doubt(None) };
        let outcome = work(&only);
        drop(only);
        if doubt.is_raised() {
            repo.rebuild_index()?;
            self.warn("the local index could not be relied on; it is deleted now, and what was missing may be there");
        }
        outcome
    }
}

/// A reader of trees, and what tells whether the index it relies on is in doubt.
fn reader_in_doubt(repo: &Arc<Repo>) -> Result<(TreeReader, IndexDoubt), Failure> {
    let reader = TreeReader::new(Arc::new(repo.chunk_reader()?));
    let doubt = reader.chunk_reader().index_doubt().clone();
    Ok((reader, doubt))
}

impl Doubt {
    fn is_raised(&self) -> bool {
        self.0.as_ref().is_some_and(IndexDoubt::is_raised)
    }
}

impl Attempt {
    /// Whether this attempt is in vain: whatever it says, another one follows.
    pub fn is_void(&self) -> bool {
        self.doubt.is_raised()
    }

    /// Standard output. What an attempt before has written is not written again.
    pub fn output(&self) -> Output {
        Output::resumed(&self.sent, self.doubt.0.clone())
    }

    /// Watches this attempt.
    pub fn watch<'w>(&self, watch: &'w Watch) -> AttemptWatch<'w> {
        AttemptWatch { watch, doubt: self.doubt.clone() }
    }
}

impl Observer for AttemptWatch<'_> {
    fn progress(&self) -> &Progress {
        self.watch.progress()
    }

    fn phase(&self, name: &'static str) {
        self.watch.phase(name);
    }

    fn problem(&self, problem: &Problem) {
        if !self.doubt.is_raised() {
            self.watch.problem(problem);
        }
    }

    fn note(&self, text: &str) {
        if !self.doubt.is_raised() {
            self.watch.note(text);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.watch.is_interrupted() || self.doubt.is_raised()
    }
}
