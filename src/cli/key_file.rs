//! Key files on disk: read, and made so that only their owner can read them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::cli::exit::{Exit, Failure, OrFail};
use crate::crypto::{self, Secret};
use crate::format::key_file;

/// Longer files are no key files.
const KEY_FILE_BYTES_MAX: usize = 4096;

/// Reads the secret of a key file.
pub fn read(path: &Path) -> Result<Secret<32>, Failure> {
    // Grown by hand it would leave unwiped copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX + 2));
    let file = File::open(path);
    let read = file.and_then(|file| file.take(KEY_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text));
    read.or_fail(|| format!("the key file {} could not be read", path.display()))?;
    let secret = key_file::decode(&text).map_err(|error| {
        Failure::new(Exit::WrongKey, format!("{} is not a key file", path.display())).because(&error)
    })?;
    Ok(Secret::from_slice(&*secret).expect("a key file holds 32 bytes"))
}

/// Makes a key file with a new secret, durable when this returns. A file that exists is never touched.
pub fn create(path: &Path) -> Result<Secret<32>, Failure> {
    let failed = || format!("the key file {} could not be made", path.display());
    let secret: Secret<32> = crypto::random_secret().or_fail(failed)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).or_fail(failed)?;
    let written = file.write_all(key_file::encode(secret.expose()).as_bytes()).and_then(|()| file.sync_all());
    let written = written.and_then(|()| sync_parent(path));
    if written.is_err() {
        // It opens nothing yet, and half of one would be in the way.
        let _ = std::fs::remove_file(path);
    }
    written.or_fail(failed)?;
    Ok(secret)
}

/// A new name survives a power cut only once its folder is synced.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_key_file_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let secret = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().expose(), secret.expose());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "something").unwrap();
        assert!(create(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"something");
        assert_eq!(read(&path).err().map(|failure| failure.exit()), Some(Exit::WrongKey));
    }
}
