//! A home with a repository that a key file opens, and some files to back up.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::home::{Home, Ran};

/// See the module.
pub struct Vault {
    /// The home around it.
    pub home: Home,
}

impl Vault {
    /// A home whose environment names a repository and a key file; neither exists yet.
    pub fn unmade() -> Self {
        let home = Home::new();
        let (repo, key, cache) = (home.path("repo"), home.path("key"), home.path("cache"));
        let home = home.with("KLUIS_REPO", repo).with("KLUIS_KEY_FILE", key).with("KLUIS_CACHE_DIR", cache);
        Self { home }
    }

    /// The same, with the repository made.
    pub fn new() -> Self {
        let vault = Self::unmade();
        vault.run(["init", "--quiet"]).expect(0);
        vault
    }

    /// The same, with a snapshot of [`Self::write_files`].
    pub fn with_snapshot() -> Self {
        let vault = Self::new();
        vault.write_files();
        vault.backup();
        vault
    }

    /// Some files, a folder in a folder, a link, a hole, and a name that is not text.
    pub fn write_files(&self) {
        self.home.write("files/a.txt", "first\n");
        self.home.write("files/sub/b.txt", "second\n".repeat(1000));
        let name = std::ffi::OsStr::from_bytes(b"files/not-\xff-text").to_owned();
        std::fs::write(self.home.path("").join(name), "odd").unwrap();
        std::os::unix::fs::symlink("a.txt", self.home.path("files/link")).unwrap();
        let sparse = std::fs::File::create(self.home.path("files/sparse")).unwrap();
        sparse.set_len(3 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 20).unwrap();
    }

    /// The folder that [`Self::write_files`] makes.
    pub fn files(&self) -> PathBuf {
        self.home.path("files")
    }

    /// Backs up the files; returns the id of the snapshot.
    pub fn backup(&self) -> String {
        let files = self.files();
        let ran = self.run(["backup", "--quiet", files.to_str().unwrap()]).expect(0);
        ran.stdout.trim_end().to_owned()
    }

    /// Runs the program.
    pub fn run<const N: usize>(&self, args: [&str; N]) -> Ran {
        self.home.run(args)
    }

    /// Runs the program and reads its JSON: exactly one document, whatever the exit code.
    pub fn json<const N: usize>(&self, args: [&str; N], code: i32) -> Value {
        let ran = self.home.run(args.into_iter().chain(["--json"])).expect(code);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
    }

    /// Names of what is in a folder of the repository.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.home.path("repo").join(folder)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}
