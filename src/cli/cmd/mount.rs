//! `repo mount`: shows snapshots as folders.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueHint};

use crate::cli::args::{Narrow, SnapshotPath, snapshot_path_parser};
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::cli::render::safe_text;
use crate::cli::selection::{Found, find_path, find_snapshot};
use crate::event::{Observer, Problem, Progress};
use crate::mount::{self, MountError, MountOptions, Mountable};
use crate::repo::{Repo, TreeReader};
use crate::units::ByteCount;

mod daemon;

/// So soon is a request to stop seen.
const STOP_PERIOD: Duration = Duration::from_millis(50);
const CACHE_SIZE: &str = "64M";
/// What the system needs to let a program mount.
const DEVICE: &str = "/dev/fuse";
const PROGRAM: &str = "fusermount3";

/// Look at snapshots as folders, read-only.
///
/// In DIR appear latest, snapshots/TIME, ids/ID, hosts/HOST/TIME and tags/TAG/TIME, and new snapshots by themselves. With a
/// snapshot, DIR shows what restore would write. It stays until Ctrl-C, or until fusermount3 -u DIR.
#[derive(Debug, Clone, Args)]
#[command(
    allow_missing_positional = true,
    after_help = "\
Examples:
  repo mount /mnt/snapshots
  repo mount latest:/home/me/Documents /mnt/documents
  repo mount --daemon --host web1 /mnt/snapshots"
)]
pub struct MountArgs {
    /// Only this: latest, latest~2, or the beginning of an id; and what of it.
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = snapshot_path_parser())]
    pub snapshot: Option<SnapshotPath>,

    /// The folder to mount at: an empty one.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: PathBuf,

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

    /// Keep so much of what was read in memory.
    #[arg(long, value_name = "SIZE", default_value = CACHE_SIZE)]
    pub cache_size: ByteCount,

    /// For the program itself: it is the one in the background.
    #[arg(long, hide = true)]
    pub is_daemon: bool,

    #[command(flatten)]
    pub narrow: Narrow,
}

/// Mounts, waits until it is over, and unmounts.
pub fn run(args: &MountArgs, context: &Context) -> Result<Exit, Failure> {
    refuse_bad_folder(&args.folder)?;
    refuse_without_fuse()?;
    if args.daemon && !args.is_daemon {
        return daemon::start();
    }
    let repo = context.open_repository()?;
    // A mount may last for days, and backups need the shared index meanwhile.
    repo.use_own_index();
    let what = mountable(args, &repo)?;
    let cache_bytes = usize::try_from(args.cache_size.0).unwrap_or(usize::MAX);
    let options = MountOptions { allow_other: args.allow_other, cache_bytes };
    let folder = std::fs::canonicalize(&args.folder).or_fail(|| cannot_mount(&args.folder))?;
    let mounted = mount::start(repo, what, &folder, options, Arc::new(Log::default()))?;
    if args.is_daemon {
        daemon::detach()?;
    } else {
        let shown = args.folder.display();
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

fn mountable(args: &MountArgs, repo: &Arc<Repo>) -> Result<Mountable, Failure> {
    let narrow = args.narrow.clone();
    let Some(SnapshotPath { snapshot, path }) = &args.snapshot else {
        return Ok(Mountable::Snapshots(Box::new(move |snapshot| narrow.fits(snapshot))));
    };
    let snapshot = Box::new(find_snapshot(repo, snapshot, &narrow)?);
    let reader = TreeReader::new(Arc::new(repo.chunk_reader()?));
    let found = find_path(&reader, snapshot.root, path.as_deref().unwrap_or(Path::new("/")))?;
    Ok(match (found.folder(), found) {
        (Some(node), Found::Entry(entry)) => Mountable::Folder(snapshot, node, Some(entry)),
        (_, Found::Root(node)) => Mountable::Folder(snapshot, node, None),
        (None, Found::Entry(entry)) => Mountable::Single(snapshot, entry),
    })
}

fn cannot_mount(folder: &Path) -> String {
    format!("cannot mount at {}", folder.display())
}

fn refuse_bad_folder(folder: &Path) -> Result<(), Failure> {
    let refuse = |why: &str, hint: String| {
        let sentence = format!("{}: {why}", cannot_mount(folder));
        Err(Failure::new(Exit::Failed, sentence).hint(hint))
    };
    let shown = folder.display();
    let metadata = match std::fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse("there is no such folder", format!("mkdir {shown}"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
            let why = "a mount is left there whose program is gone";
            return refuse(why, format!("fusermount3 -uz {shown}"));
        }
        Err(error) => return Err(Failure::new(Exit::Failed, cannot_mount(folder)).because(&error)),
    };
    if !metadata.is_dir() {
        return refuse("it is no folder", "name an empty folder".to_owned());
    }
    let above = std::fs::metadata(folder.join("..")).or_fail(|| cannot_mount(folder))?;
    let is_mount_point = metadata.dev() != above.dev() || metadata.ino() == above.ino();
    if is_mount_point {
        return refuse(
            "something is mounted there",
            format!("fusermount3 -u {shown}, or name another folder"),
        );
    }
    let mut inside = std::fs::read_dir(folder).or_fail(|| cannot_mount(folder))?;
    if inside.next().is_some() {
        let why = "it is not empty, and what is in it would be hidden";
        return refuse(why, "name an empty folder".to_owned());
    }
    Ok(())
}

fn refuse_without_fuse() -> Result<(), Failure> {
    if !Path::new(DEVICE).exists() {
        let sentence = format!("cannot mount: there is no {DEVICE}");
        return Err(Failure::new(Exit::Failed, sentence)
            .hint("install the package fuse3 and load the module with `modprobe fuse`; a container must be given the device"));
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
