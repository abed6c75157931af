//! What a backup reads and what it leaves out, from the command line.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cli::cmd::backup::BackupArgs;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure, OrFail};
use crate::source::{Excludes, ExcludesBuilder};

/// Device and inode of folders that no backup holds: the repository itself, and the cache.
pub fn skipped_folders(context: &Context) -> Result<Vec<(u64, u64)>, Failure> {
    let place = context.place()?;
    let cache = context.cache_folder()?;
    let folders = place.folder().into_iter().chain([cache.as_path()]);
    let known = folders.filter_map(|folder| folder.metadata().ok());
    Ok(known.map(|metadata| (metadata.dev(), metadata.ino())).collect())
}

impl BackupArgs {
    /// The paths to back up.
    pub fn sources(&self) -> Result<Vec<PathBuf>, Failure> {
        if self.stdin || self.command.is_some() {
            return Ok(Vec::new());
        }
        let mut sources: Vec<_> = self.paths.iter().map(PathBuf::from).collect();
        for (files, end) in [(&self.files_from, b'\n'), (&self.files_from0, 0)] {
            for file in files {
                let text = read_list(file)?;
                let lines = text.split(|byte| *byte == end).filter(|line| !line.is_empty());
                sources.extend(lines.map(|line| PathBuf::from(OsString::from_vec(line.to_vec()))));
            }
        }
        Ok(sources)
    }

    /// What is left out. Patterns of files come last, so that they can take back what the command line excludes.
    pub fn excludes(&self) -> Result<Excludes, Failure> {
        let mut builder = ExcludesBuilder::new();
        for pattern in &self.exclude {
            builder.exclude(pattern)?;
        }
        for pattern in &self.iexclude {
            builder.iexclude(pattern)?;
        }
        for path in &self.exclude_file {
            builder.exclude_file(path)?;
        }
        for name in &self.exclude_if_present {
            builder.exclude_if_present(name)?;
        }
        if self.exclude_caches {
            builder.exclude_caches();
        }
        if let Some(size) = self.exclude_larger_than {
            builder.exclude_larger_than(size.0);
        }
        Ok(builder.build()?)
    }

    /// Refuses paths that lie in the repository: a backup of what it writes itself would never end.
    pub fn refuse_inside(&self, sources: &[PathBuf], context: &Context) -> Result<(), Failure> {
        let place = context.place()?;
        let Some(Ok(repository)) = place.folder().map(Path::canonicalize) else { return Ok(()) };
        let is_inside = |source: &Path| source.canonicalize().is_ok_and(|path| path.starts_with(&repository));
        match sources.iter().find(|source| is_inside(source)) {
            None => Ok(()),
            Some(source) => {
                let sentence =
                    format!("{} lies in the repository, which cannot hold itself", source.display());
                Err(Failure::new(Exit::Usage, sentence)
                    .hint("`repo copy` and ordinary copies keep repositories"))
            }
        }
    }
}

/// All of a file, or of standard input for `-`.
fn read_list(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().read_to_end(&mut text).map(|_| text)
    } else {
        std::fs::read(path)
    };
    read.or_fail(|| format!("the list of paths {} could not be read", path.display()))
}
