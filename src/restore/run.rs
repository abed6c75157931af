//! From request to report: space, threads, planning, reading back.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::filter::Filter;
use super::planner::Planner;
use super::shared::Shared;
use super::walk::{Step, Walk};
use super::window::Task;
use super::work::Worker;
use super::{RestoreContext, RestoreError, RestoreOptions, RestoreReport, RestoreRequest, layout, verify};
use crate::event::Progress;
use crate::format::tree::{EntryKind, tag};
use crate::target::{FolderCache, TargetRoot};
use crate::units::ByteCount;

/// Tasks that wait for a thread. Each is small; the bytes are read by whoever takes it.
const TASKS_WAITING_MAX: usize = 256;
/// Threads that read from a network and write.
const THREAD_COUNT_REMOTE: usize = 6;

/// Restores what `request` names into the folder `target`, which is made if it is missing.
///
/// Refuses before anything is written if the file system is too small. After that, problems with single files end
/// up in the report and the rest goes on; only a target that takes nothing more, and an interruption, end it early.
pub fn run(
    context: &RestoreContext<'_>,
    request: &RestoreRequest,
    target: &Path,
    options: &RestoreOptions,
) -> Result<RestoreReport, RestoreError> {
    let started = Instant::now();
    let filter =
        Filter::new(&options.include, &options.exclude).map_err(|source| RestoreError::Filter { source })?;
    let root = TargetRoot::open(target, true)?;
    let shared = Shared::new(context, options, &root);
    shared.observer.phase("looking at the target");
    let needed = ensure_space(&shared, request, &filter)?;
    Progress::add(&shared.observer.progress().bytes_total, needed);
    shared.observer.progress().total_is_known.store(true, Ordering::Relaxed);
    shared.observer.phase("restoring");
    with_threads(&shared, |shared, tasks| {
        Planner::new(shared, tasks.clone()).run(request, &filter)?;
        shared.take_failure()?;
        if options.verify {
            shared.observer.phase("reading everything back");
            verify::run(shared, request, &filter, &tasks);
        }
        shared.take_failure()
    })?;
    if options.sync {
        shared.observer.phase("making it durable");
        root.sync()?;
    }
    let mut report = shared.finish();
    report.duration = started.elapsed();
    Ok(report)
}

/// Runs `work` beside threads that take tasks from it. They end when the sender is gone.
fn with_threads<'r>(
    shared: &'r Shared<'r>,
    work: impl FnOnce(&'r Shared<'r>, crossbeam_channel::Sender<Task>) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let (sender, receiver) = crossbeam_channel::bounded(TASKS_WAITING_MAX);
    let count = match shared.options.thread_count {
        // A network is waited for most of the time; each thread holds one stretch of a pack meanwhile.
        0 if shared.origin.is_remote() => THREAD_COUNT_REMOTE,
        // One more than processors, because some always wait for the disk.
        0 => std::thread::available_parallelism().map_or(2, |count| count.get() + 1),
        count => count,
    };
    std::thread::scope(|scope| {
        for at in 0..count {
            let receiver = receiver.clone();
            let worker = Worker::new(shared);
            std::thread::Builder::new()
                .name(format!("restore-{at}"))
                .spawn_scoped(scope, move || worker.run(&receiver))
                .map_err(|source| RestoreError::Thread { source })?;
        }
        drop(receiver);
        work(shared, sender)
    })
}

/// How many bytes will be written at most. An error if there is no room for them.
fn ensure_space(shared: &Shared<'_>, request: &RestoreRequest, filter: &Filter) -> Result<u64, RestoreError> {
    let bound = upper_bound(shared, request)?;
    let left = shared.root.space_left()?;
    // Holes cannot be counted before the content is read.
    if bound <= left || shared.options.sparse {
        return Ok(bound);
    }
    let needed = measure(shared, request, filter);
    if needed > left {
        return Err(RestoreError::NoSpace { needed: ByteCount(needed), left: ByteCount(left) });
    }
    Ok(needed)
}

/// What the entries at the top say about everything below them.
pub(super) fn upper_bound(shared: &Shared<'_>, request: &RestoreRequest) -> Result<u64, RestoreError> {
    match request {
        RestoreRequest::Single(entry) => Ok(entry.size),
        RestoreRequest::Folder(id) => shared.origin.directory(*id).try_fold(0u64, |sum, entry| {
            let entry = entry.map_err(|source| RestoreError::Root { source })?;
            Ok(sum.saturating_add(entry.size))
        }),
    }
}

/// Adds up file by file: without holes, further names, what is filtered out, and what is there already.
fn measure(shared: &Shared<'_>, request: &RestoreRequest, filter: &Filter) -> u64 {
    let mut needed = 0u64;
    let mut cache = FolderCache::new();
    let mut names_seen = std::collections::HashSet::new();
    let mut walk = Walk::new(shared.origin, request, filter);
    while let Some(step) = walk.next() {
        let Step::Entry(entry) = step else { continue };
        if entry.kind != EntryKind::File
            || (entry.extension(tag::HARD_LINK).is_some() && !names_seen.insert(entry.inode))
        {
            continue;
        }
        let folder = cache.folder(shared.root, walk.path()).ok();
        let existing = folder.and_then(|folder| folder.look(entry.name.as_slice()).ok().flatten());
        let there = existing.filter(|there| there.kind == EntryKind::File).map_or(0, |there| there.size);
        needed = needed.saturating_add(layout::data_bytes(&entry).saturating_sub(there));
    }
    needed
}
