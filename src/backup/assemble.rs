//! The assembler: puts what the workers finish into the order of the tree, and makes folders of it, leaves first.

use std::collections::BTreeSet;

use crossbeam_channel::Receiver;

use crate::backup::step::{Counts, FileOutcome, Step};
use crate::backup::{BackupError, Run};
use crate::event::Problem;
use crate::format::tree::{ChunkRef, Content, Entry};
use crate::id::NodeId;
use crate::index::PackKind;
use crate::repo::{DirectoryWriter, ListWriter, RepoError, TreeReader, TreeWriter, WrittenDirectory};

/// A whole tree.
pub struct Assembled {
    /// The node of its topmost folder.
    pub root: NodeId,
    /// What was counted on the way.
    pub counts: Counts,
    /// Problems that workers met.
    pub problems: Vec<Problem>,
    /// Owners and groups of the files that were opened: whether it is a group, and its number. The walk may have seen
    /// others a moment before.
    pub owners: BTreeSet<(bool, u32)>,
}

/// Takes steps until there are no more.
pub fn run(
    run: &Run<'_>,
    steps: &Receiver<Vec<Step>>,
    batches: &Receiver<Receiver<Vec<FileOutcome>>>,
) -> Result<Assembled, BackupError> {
    let mut assembler = Assembler {
        tree_reader: &run.tree_reader,
        tree: run.writer.tree_writer(),
        open: vec![(None, DirectoryWriter::default())],
        batches,
        batch: Vec::new().into_iter(),
        list: ListWriter::default(),
        counts: Counts::default(),
        problems: Vec::new(),
        owners: BTreeSet::new(),
    };
    while let Ok(group) = steps.recv() {
        for step in group {
            assembler.take(step)?;
        }
    }
    assembler.finish()
}

struct Assembler<'a> {
    tree_reader: &'a TreeReader,
    tree: TreeWriter<'a>,
    open: Vec<(Option<Entry>, DirectoryWriter)>,
    batches: &'a Receiver<Receiver<Vec<FileOutcome>>>,
    batch: std::vec::IntoIter<FileOutcome>,
    list: ListWriter,
    counts: Counts,
    problems: Vec<Problem>,
    owners: BTreeSet<(bool, u32)>,
}

impl Assembler<'_> {
    fn take(&mut self, step: Step) -> Result<(), RepoError> {
        match step {
            Step::Open(entry, earlier) => {
                // What cannot be read of the parent counts as not there.
                let earlier = earlier.map(|id| self.tree_reader.leaves(id).unwrap_or_default());
                self.open.push((Some(*entry), DirectoryWriter::resembling(earlier.unwrap_or_default())));
                Ok(())
            }
            Step::Close => self.close(),
            Step::Ready(entry) => self.push(entry),
            Step::Batched => {
                let outcome = self.next_outcome()?;
                self.finish_file(outcome)
            }
            Step::LargeOpen => {
                self.list = ListWriter::default();
                Ok(())
            }
            Step::LargePart(chunks) => {
                let chunks = chunks.recv().map_err(|_| RepoError::Ended)?;
                chunks.into_iter().try_for_each(|chunk| self.list.push(chunk, &mut self.tree))
            }
            Step::LargeClose(outcome) => self.finish_file(*outcome),
        }
    }

    fn next_outcome(&mut self) -> Result<FileOutcome, RepoError> {
        loop {
            if let Some(outcome) = self.batch.next() {
                return Ok(outcome);
            }
            let batch = self.batches.recv().map_err(|_| RepoError::Ended)?;
            self.batch = batch.recv().map_err(|_| RepoError::Ended)?.into_iter();
        }
    }

    fn finish_file(&mut self, outcome: FileOutcome) -> Result<(), RepoError> {
        let FileOutcome { entry, chunks, problem, was_there, bytes_read } = outcome;
        self.problems.extend(problem);
        self.counts.bytes_read += bytes_read;
        let list = std::mem::take(&mut self.list);
        let Some(mut entry) = entry else { return Ok(()) };
        let count = if was_there { &mut self.counts.files_changed } else { &mut self.counts.files_new };
        *count += 1;
        self.counts.bytes += entry.size;
        self.owners.extend([(false, entry.uid), (true, entry.gid)]);
        if let Some(content) = self.content(list, chunks)? {
            entry.content = content;
        }
        self.push(entry)
    }

    /// Where the bytes of a file are, unless it has none.
    fn content(&mut self, mut list: ListWriter, chunks: Vec<ChunkRef>) -> Result<Option<Content>, RepoError> {
        chunks.into_iter().try_for_each(|chunk| list.push(chunk, &mut self.tree))?;
        let content = list.finish(&mut self.tree)?;
        Ok((content != Content::None).then_some(content))
    }

    fn push(&mut self, entry: Entry) -> Result<(), RepoError> {
        let (_, folder) = self.open.last_mut().ok_or(RepoError::Ended)?;
        folder.push(entry, &mut self.tree)
    }

    fn close(&mut self) -> Result<(), RepoError> {
        let (entry, folder) = self.open.pop().ok_or(RepoError::Ended)?;
        let WrittenDirectory { id, size } = folder.finish(&mut self.tree)?;
        let mut entry = entry.ok_or(RepoError::Ended)?;
        entry.size = size;
        entry.content = Content::Directory(id);
        self.push(entry)
    }

    /// The top folder ends when the scanner does. If the scanner failed, folders are open still.
    fn finish(mut self) -> Result<Assembled, BackupError> {
        let (Some((None, top)), true) = (self.open.pop(), self.open.is_empty()) else {
            return Err(RepoError::Ended.into());
        };
        let root = top.finish(&mut self.tree)?.id;
        self.tree.finish()?;
        Ok(Assembled { root, counts: self.counts, problems: self.problems, owners: self.owners })
    }
}

impl crate::repo::ChunkWriter {
    /// A writer of folders and chunk lists for the assembler.
    fn tree_writer(&self) -> TreeWriter<'_> {
        TreeWriter::new(self.frame_writer(PackKind::Meta), self.split_key())
    }
}
