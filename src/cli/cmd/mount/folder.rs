//! The folder to mount at: an empty one, made free of what a program that was killed has left there.
//!
//! A program that is killed cannot unmount. Its mount stays, and whoever looks at it is told that nobody is connected. A
//! second program that watches over the first could tidy up, but it would be there for as long as every mount lasts, for
//! something that loses nothing. So the next mount at the same place does it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PROGRAM;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::mount::SOURCE;

/// Makes sure that something can be mounted there.
pub(super) fn prepare(folder: &Path, context: &Context) -> Result<(), Failure> {
    if clear_dead(folder) {
        context.note(&format!("{}: unmounted what a program that was killed had left", folder.display()));
    }
    refuse_bad(folder)
}

/// How a refusal begins.
pub(super) fn cannot_mount(folder: &Path) -> String {
    format!("cannot mount at {}", folder.display())
}

/// Refuses a folder at which nothing should be mounted.
fn refuse_bad(folder: &Path) -> Result<(), Failure> {
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
        Err(error) if is_dead(&error) => {
            let why = "a mount is left there whose program is gone";
            return refuse(why, format!("{PROGRAM} -uz {shown}"));
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

/// Whether this is what a mount says whose program is gone.
fn is_dead(error: &io::Error) -> bool {
    // The first one to look after its end is told of an abort.
    matches!(error.kind(), io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted)
}

/// Takes a dead mount of this program away. Whether there was one, and it went.
fn clear_dead(folder: &Path) -> bool {
    let is_dead_there = || std::fs::metadata(folder).is_err_and(|error| is_dead(&error));
    if !is_dead_there() {
        return false;
    }
    // What is at the folder itself cannot be asked for its path any more.
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some((above, name)) = above.canonicalize().ok().zip(folder.file_name()) else { return false };
    let folder = above.join(name);
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    if source_of(&mounts, &folder).as_deref() != Some(SOURCE.as_bytes()) {
        return false;
    }
    unmount(&folder) && !is_dead_there()
}

fn unmount(folder: &PathBuf) -> bool {
    if rustix::mount::unmount(folder, rustix::mount::UnmountFlags::DETACH).is_ok() {
        return true;
    }
    let quietly = || Stdio::null();
    let mut command = Command::new(PROGRAM);
    command.args(["-u", "-z", "--"]).arg(folder).stdin(quietly()).stdout(quietly()).stderr(quietly());
    command.status().is_ok_and(|status| status.success())
}

/// The source of what was mounted last at a folder, as the kernel lists it.
fn source_of(mountinfo: &[u8], folder: &Path) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let place = fields.nth(4)?;
        // Behind a dash: the kind, and the source.
        let source = fields.skip_while(|field| *field != b"-").nth(2)?;
        (unescaped(place) == folder.as_os_str().as_bytes()).then(|| unescaped(source))
    });
    found.next_back()
}

/// The kernel writes spaces, tabs, line ends and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_mount_is_the_last_one_listed_at_its_place() {
        let mountinfo = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
            90 22 0:43 / /mnt/a\\040b ro,nosuid - fuse other ro,user_id=0\n\
            91 22 0:44 / /mnt/a\\040b ro,nosuid shared:7 master:1 - fuse kluis ro,user_id=0\n\
            no line\n";
        assert_eq!(source_of(mountinfo, Path::new("/mnt/a b")).unwrap(), b"kluis");
        assert_eq!(source_of(mountinfo, Path::new("/")).unwrap(), b"/dev/vda");
        assert_eq!(source_of(mountinfo, Path::new("/mnt")), None);
        assert_eq!(unescaped(b"\\134x\\9\\04"), b"\\x\\9\\04");
    }
}
