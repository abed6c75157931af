//! `repo mount`: shows snapshots as folders.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::cli::args::{Narrow, SnapshotPath};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::render::safe_text;
use crate::cli::selection::{Found, find_path, find_snapshot};
use crate::event::{Observer, Problem, Progress};
use crate::mount::{self, MountError, MountOptions, Mountable};
use crate::repo::{Repo, TreeReader};
use crate::units::ByteCount;

mod daemon;
mod folder;

/// So soon is a request to stop seen.
const STOP_PERIOD: Duration = Duration::from_millis(50);
const CACHE_SIZE: &str = "64M";
const DISK_CACHE_SIZE: &str = "2G";
/// What the system needs to let a program mount.
const DEVICE: &str = "/dev/fuse";
pub(super) const PROGRAM: &str = "fusermount3";

/// Look at snapshots as folders, read-only.
///
/// In DIR appear latest, snapshots/TIME, ids/ID, hosts/HOST/TIME and tags/TAG/TIME, and new snapshots by themselves. With a
/// snapshot, DIR shows what restore would write. It stays until Ctrl-C, or until fusermount3 -u DIR.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "repo mount [OPTIONS] [SNAPSHOT[:PATH]] <DIR>",
    after_help = "\
Examples:
  repo mount /mnt/snapshots
  repo mount latest:/home/me/Documents /mnt/documents
  repo mount --daemon --host web1 /mnt/snapshots"
)]
pub struct MountArgs {
    /// The folder to mount at: an empty one. Before it, to see one snapshot only: latest, latest~2, or the beginning of an id;
    /// and what of it.
    #[arg(value_name = "[SNAPSHOT[:PATH]] DIR", required = true, num_args = 1..=2, value_hint = ValueHint::DirPath)]
    pub what_and_where: Vec<OsString>,

    /// Return as soon as it is mounted, and go on in the background.
    ///
    /// Problems are then told only if standard error is a file.
    #[arg(long)]
    pub daemon: bool,

    /// Let other users look inside, as far as the permissions in the snapshots allow.
    ///
    /// Without this only you can, and you can read everything.
    #[arg(long)]
    pub allow_other: bool,

    /// Keep so much of what was opened in memory.
    #[arg(long, value_name = "SIZE", default_value = CACHE_SIZE)]
    pub cache_size: ByteCount,

    /// Keep so much more on disk, sealed, for programs that read here and there; 0 for nothing.
    ///
    /// It is in the cache folder, in a file without a name, and takes at most a quarter of what is free there. What is
    /// read once in order is not written.
    #[arg(long, value_name = "SIZE", default_value = DISK_CACHE_SIZE)]
    pub disk_cache_size: ByteCount,

    /// For the program itself: it is the one in the background.
    #[arg(long, hide = true)]
    pub is_daemon: bool,

    #[command(flatten)]
    pub narrow: Narrow,
}

impl MountArgs {
    /// Which snapshot, if it is one only, and the folder to mount at. Options may stand between them, which is more than two
    /// arguments of which the first may be missing can do.
    fn what_and_where(&self) -> Result<(Option<SnapshotPath>, &Path), Failure> {
        match self.what_and_where.as_slice() {
            [folder] => Ok((None, Path::new(folder))),
            [snapshot, folder] => {
                let parsed = SnapshotPath::parse(snapshot);
                Ok((Some(parsed.map_err(|error| Failure::usage(error.to_string()))?), Path::new(folder)))
            }
            _ => Err(Failure::usage("name one snapshot at most, and one folder")),
        }
    }
}

/// Mounts, waits until it is over, and unmounts.
pub fn run(args: &MountArgs, context: &Context) -> Result<Exit, Failure> {
    let (snapshot, folder) = args.what_and_where()?;
    refuse_without_fuse()?;
    folder::prepare(folder, context)?;
    if args.daemon && !args.is_daemon {
        return daemon::start();
    }
    let repo = context.open_repository()?;
    // A mount may last for days, and backups need the shared index meanwhile.
    repo.use_own_index();
    let what = mountable(snapshot, &args.narrow, &repo)?;
    let cache_bytes = usize::try_from(args.cache_size.0).unwrap_or(usize::MAX);
    let options =
        MountOptions { allow_other: args.allow_other, cache_bytes, disk_cache_bytes: args.disk_cache_size.0 };
    let place = std::fs::canonicalize(folder).or_fail(|| folder::cannot_mount(folder))?;
    let mounted = mount::start(repo, what, &place, options, Arc::new(Log::default()))?;
    if args.is_daemon {
        daemon::detach()?;
    } else {
        let shown = folder.display();
        context.note(&format!("mounted at {shown}; Ctrl-C or `fusermount3 -u {shown}` ends it"));
    }
    loop {
        if context.is_interrupted() {
            mounted.unmount()?;
            return Ok(Exit::Done);
        }
        if let Some(ended) = mounted.wait(STOP_PERIOD) {
            ended?;
            return Ok(Exit::Done);
        }
    }
}

fn mountable(what: Option<SnapshotPath>, narrow: &Narrow, repo: &Arc<Repo>) -> Result<Mountable, Failure> {
    let narrow = narrow.clone();
    let Some(SnapshotPath { snapshot, path }) = what else {
        return Ok(Mountable::Snapshots(Box::new(move |snapshot| narrow.fits(snapshot))));
    };
    let snapshot = Box::new(find_snapshot(repo, &snapshot, &narrow)?);
    let reader = TreeReader::new(Arc::new(repo.chunk_reader()?));
    let found = find_path(&reader, snapshot.root, path.as_deref().unwrap_or(Path::new("/")))?;
    Ok(match (found.folder(), found) {
        (Some(node), Found::Entry(entry)) => Mountable::Folder(snapshot, node, Some(entry)),
        (_, Found::Root(node)) => Mountable::Folder(snapshot, node, None),
        (None, Found::Entry(entry)) => Mountable::Single(snapshot, entry),
    })
}

fn refuse_without_fuse() -> Result<(), Failure> {
    let opened = std::fs::File::options().read(true).write(true).open(DEVICE);
    if let Err(error) = opened {
        let (why, hint) = match error.kind() {
            std::io::ErrorKind::PermissionDenied => (
                format!("this user may not open {DEVICE}"),
                "everybody may where the package fuse3 is installed as usual: `chmod 666 /dev/fuse`, or mount as root",
            ),
            _ => (
                format!("there is no {DEVICE}"),
                "install the package fuse3 and load the module with `modprobe fuse`; a container must be given the device",
            ),
        };
        return Err(Failure::new(Exit::Failed, format!("cannot mount: {why}")).hint(hint).because(&error));
    }
    let is_root = rustix::process::geteuid().is_root();
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    if !is_root && !std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).exists()) {
        let sentence =
            format!("cannot mount: there is no program {PROGRAM}, which users other than root need");
        return Err(Failure::new(Exit::Failed, sentence).hint("install the package fuse3"));
    }
    Ok(())
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let MountError::Repo(error) = error else {
            let is_refused = matches!(&error, MountError::Refused { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied);
            let failure = Failure::of(Exit::Failed, &error);
            return match is_refused {
                true => failure.hint(
                    "the folder must be yours; --allow-other needs the line user_allow_other in /etc/fuse.conf",
                ),
                false => failure,
            };
        };
        error.into()
    }
}

/// Tells on standard error what could not be read.
#[derive(Default)]
struct Log {
    progress: Progress,
}

impl Observer for Log {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn phase(&self, _name: &'static str) {}

    fn problem(&self, problem: &Problem) {
        self.note(&format!("{}: {}", problem.path.display(), problem.message));
    }

    fn note(&self, text: &str) {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(anstream::stderr(), "repo: {}", safe_text(text));
    }

    fn is_interrupted(&self) -> bool {
        false
    }
}
