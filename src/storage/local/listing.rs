//! Listing a folder of a repository on disk, with everything below it.

use std::io;

use rustix::fs::{AtFlags, Dir, DirEntry, FileType};
use rustix::io::Errno;

use super::folders::{Folders, sync_folder};
use super::temporary;
use crate::clock::Timestamp;
use crate::storage::name::is_control;
use crate::storage::{Listed, ObjectName};

/// Visits every object below `prefix`. A folder that is not there is empty.
///
/// Folders that hold decisions are synced after they were read: another process may have linked a name that is
/// visible and not yet durable, and nobody may act on a name that a power cut could take back.
pub(super) fn list(folders: &Folders, prefix: &str, visit: &mut dyn FnMut(Listed)) -> io::Result<()> {
    // Names have a length limit, which bounds how deep this goes whatever the disk holds.
    let mut pending = vec![prefix.to_owned()];
    while let Some(folder) = pending.pop() {
        let opened = match folders.open(&folder) {
            Err(Errno::NOENT) => continue,
            opened => opened?,
        };
        let mut dir = Dir::new(opened)?;
        while let Some(entry) = dir.read() {
            match look_at(&dir, &folder, &entry?)? {
                Found::Object(listed) => visit(listed),
                Found::Folder(name) if name == temporary::FOLDER && prefix.is_empty() => {}
                Found::Folder(name) => pending.push(name),
                Found::Nothing => {}
            }
        }
        if is_control(&folder) {
            sync_folder(dir.fd()?)?;
            folders.settle(&folder)?;
        }
    }
    Ok(())
}

enum Found {
    Object(Listed),
    Folder(String),
    /// Not one of ours, or gone since.
    Nothing,
}

fn look_at(dir: &Dir, folder: &str, entry: &DirEntry) -> io::Result<Found> {
    let Ok(leaf) = entry.file_name().to_str() else { return Ok(Found::Nothing) };
    let name = if folder.is_empty() { leaf.to_owned() } else { format!("{folder}/{leaf}") };
    let Ok(name) = ObjectName::new(name) else { return Ok(Found::Nothing) };
    match entry.file_type() {
        FileType::Directory => return Ok(Found::Folder(name.as_str().to_owned())),
        FileType::RegularFile | FileType::Unknown => {}
        _ => return Ok(Found::Nothing),
    }
    let stat = match rustix::fs::statat(dir.fd()?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        stat => stat?,
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Found::Object(Listed {
            name,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            stored_at: Timestamp {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
        }),
        FileType::Directory => Found::Folder(name.as_str().to_owned()),
        _ => Found::Nothing,
    })
}
