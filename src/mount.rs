//! A read-only file system over snapshots (FUSE).
//!
//! - `names`: the folders at the top, `latest`, `snapshots`, `ids`, `hosts`, `tags` (pure)
//! - `top`: the same with the numbers they have, kept up to date
//! - `numbers`: which inode number means which entry of which folder
//! - `look`: from a number to the entry, and to what is to be told of it
//! - `links`: how many names a file has
//! - `nodes`, `content`: decoded nodes, and bytes of files
//! - `ahead`: opens what comes next
//! - `origin`: reads the repository, anew where a prune took a pack away
//! - `serve`: what the kernel asks
//!
//! A snapshot never changes, so the kernel may keep all that it is told of one. Only the folders at the top are asked
//! for again.
//!
//! No lease is taken: readers block nobody. If a pack that is read is gone, a prune has put what was in it elsewhere. The
//! index is then brought up to date and the read is tried once more.

mod ahead;
mod content;
mod links;
mod look;
mod names;
mod nodes;
mod numbers;
mod origin;
mod serve;
mod top;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};

use crate::event::Observer;
use crate::format::snapshot::Snapshot;
use crate::format::tree::Entry;
use crate::id::NodeId;
use crate::repo::{Repo, RepoError};

use serve::Served;

/// What the kernel names as the source of a mount.
pub const SOURCE: &str = "kluis";
/// Threads that answer the kernel.
const THREAD_COUNT: usize = 3;

/// What is mounted.
pub enum Mountable {
    /// Every snapshot that fits, with folders for finding one. New ones appear by themselves.
    Snapshots(Box<dyn Fn(&Snapshot) -> bool + Send + Sync>),
    /// A folder of a snapshot, as a restore would write it. Without an entry it is the folder `/`.
    Folder(Box<Snapshot>, NodeId, Option<Box<Entry>>),
    /// A single file of a snapshot, in a folder of its own.
    Single(Box<Snapshot>, Box<Entry>),
}

/// How it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountOptions {
    /// Whether other users may look inside, as far as the permissions in the snapshot let them. Without it only the
    /// mounting user may, and sees everything.
    pub allow_other: bool,
    /// Plain bytes of opened frames that are kept in memory.
    pub cache_bytes: usize,
    /// The same on disk, sealed, for readers who go to and fro.
    pub disk_cache_bytes: u64,
}

/// Why something could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The repository could not be read.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The system refused.
    #[error("{} could not be mounted", .folder.display())]
    Refused {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel ended the connection.
    #[error("the connection with the kernel broke")]
    Broken(#[source] io::Error),
    /// It is still mounted.
    #[error("{} could not be unmounted", .folder.display())]
    Stuck {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Something that is mounted. Dropped, it is unmounted.
pub struct Mounted {
    folder: PathBuf,
    unmounter: Option<SessionUnmounter>,
    ended: Receiver<io::Result<()>>,
}

/// Mounts at `folder`, an empty folder. It can be looked at as soon as this returns.
///
/// What cannot be read later is told to `observer` as a problem, once for each file; whoever reads it gets `EIO`.
pub fn start(
    repo: Arc<Repo>,
    what: Mountable,
    folder: &Path,
    options: MountOptions,
    observer: Arc<dyn Observer>,
) -> Result<Mounted, MountError> {
    let served = Served::new(repo, what, options, observer)?;
    let refused = |source| MountError::Refused { folder: folder.to_owned(), source: on_one_line(source) };
    let mut session = Session::new(served, folder, &config(options)).map_err(refused)?;
    let unmounter = session.unmount_callable();
    let (sender, ended) = bounded(1);
    let serve = move || {
        // Nobody listens any more once it was unmounted from here.
        let _ = sender.send(session.run());
    };
    std::thread::Builder::new().name("mount".to_owned()).spawn(serve).map_err(refused)?;
    Ok(Mounted { folder: folder.to_owned(), unmounter: Some(unmounter), ended })
}

/// What `fusermount3` has said, without the end of the line.
fn on_one_line(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() {
        return error;
    }
    io::Error::new(error.kind(), error.to_string().trim_end().to_owned())
}

fn config(options: MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::RO, MountOption::NoAtime, MountOption::FSName(SOURCE.to_owned())];
    if options.allow_other {
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(THREAD_COUNT);
    config.clone_fd = true;
    config
}

impl Mounted {
    /// Waits until it is unmounted by somebody else, or for so long. `None` if it is still mounted.
    pub fn wait(&self, span: Duration) -> Option<Result<(), MountError>> {
        let ended = self.ended.recv_timeout(span).ok()?;
        Some(ended.map_err(MountError::Broken))
    }

    /// Unmounts. Whoever still looks inside gets errors from now on.
    pub fn unmount(mut self) -> Result<(), MountError> {
        self.unmount_once()
    }

    fn unmount_once(&mut self) -> Result<(), MountError> {
        let Some(mut unmounter) = self.unmounter.take() else { return Ok(()) };
        let Err(source) = unmounter.unmount() else { return Ok(()) };
        // Somebody is inside. Nothing can be lost here, so the name goes away now, and the rest with this process.
        let detached = rustix::mount::unmount(&self.folder, rustix::mount::UnmountFlags::DETACH);
        detached.map_err(|_| MountError::Stuck { folder: self.folder.clone(), source })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever wants to know whether it worked calls `unmount`.
        let _ = self.unmount_once();
    }
}
