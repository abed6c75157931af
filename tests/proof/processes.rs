//! The real program on a real disk: killed at any time, interrupted at any time, it loses nothing, and the next run
//! continues.
//!
//! The moment is chosen by what has come to be in the repository, not by the clock.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use kluis::format::key_file;
use kluis::id::SnapshotId;
use kluis::repo::Repo;
use kluis::storage::{Leftovers, LocalStorage, LocalStorageOptions};
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{
    Chance, cache_folder, init, open, options_of_several_packs, snapshots, write, write_pack,
};
use crate::tree::{Tree, assert_same, capture, read_snapshot};

const KILL_COUNT: u64 = 40;
const INTERRUPT_COUNT: u64 = 10;
/// Files that a backup makes in the repository, those that are gone at its end included.
const FILE_COUNT: u64 = 16;

struct Machine {
    scratch: tempfile::TempDir,
    trees: BTreeMap<SnapshotId, Tree>,
}

impl Machine {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let machine = Self { scratch, trees: BTreeMap::new() };
        LocalStorage::create_place(&machine.path("repository")).unwrap();
        let options = options_of_several_packs();
        drop(init(machine.storage(), &machine.path("cache"), &options).unwrap());
        // The key of the fixture.
        fs::write(machine.path("key"), key_file::encode(&[7; 32]).as_bytes()).unwrap();
        fs::create_dir(machine.path("source")).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn storage(&self) -> Arc<LocalStorage> {
        let options = LocalStorageOptions { leftovers: Leftovers::Keep };
        Arc::new(LocalStorage::open(&self.path("repository"), options).unwrap())
    }

    fn start_backup(&self) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_repo"));
        command.arg("-r").arg(self.path("repository")).arg("--key-file").arg(self.path("key"));
        command.arg("--cache-dir").arg(self.path("cache")).arg("backup").arg(self.path("source"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Starts a backup and signals it when so many files have come to be. Returns its exit code, if it has one.
    fn signal_backup(&self, signal: Signal, file_count: u64) -> Option<i32> {
        let before = names_below(&self.path("repository"));
        let mut seen = before.clone();
        let mut child = self.start_backup();
        while ((seen.len() - before.len()) as u64) < file_count && child.try_wait().unwrap().is_none() {
            seen.extend(names_below(&self.path("repository")));
            std::thread::yield_now();
        }
        if child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!text.contains("panicked"), "{text}");
        let is_expected = output.status.signal() == Some(Signal::KILL.as_raw())
            || matches!(output.status.code(), Some(0 | 130));
        assert!(is_expected, "{:?}: {text}", output.status);
        output.status.code()
    }

    fn back_up_well(&self) {
        let output = self.start_backup().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(names_below(&self.path("repository/tmp")).len(), 0, "unfinished files are left");
    }

    fn change(&self, round: u64) {
        let source = self.path("source");
        for number in 0..6 {
            if (number + round).is_multiple_of(3) {
                write_pack(&source, &format!("{number}"), round * 10 + number);
            }
        }
        write(&source, "folder/small", format!("round {round}").as_bytes());
    }

    /// As seen with an empty cache, every snapshot is what it was; new ones are of what is on the disk. Returns how
    /// many are new.
    fn look(&mut self) -> usize {
        let cache = cache_folder();
        let repo: Arc<Repo> = open(self.storage(), cache.path()).unwrap();
        let found = snapshots(&repo);
        let known = self.trees.len();
        let source = self.path("source");
        for snapshot in &found {
            let tree = self.trees.entry(snapshot.id).or_insert_with(|| capture(&source));
            assert_same(tree, &read_snapshot(&repo, snapshot, &source));
        }
        assert_eq!(found.len(), self.trees.len(), "a snapshot is gone");
        found.len() - known
    }
}

/// Files below a folder that others may be working in.
fn names_below(folder: &Path) -> std::collections::BTreeSet<PathBuf> {
    let mut names = std::collections::BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => open.push(entry.path()),
                false => drop(names.insert(entry.path())),
            }
        }
    }
    names
}

#[test]
fn a_backup_killed_at_any_time_loses_nothing_and_is_continued() {
    let mut machine = Machine::new();
    let mut chance = Chance(1);
    let mut killed = 0;
    for round in 0..KILL_COUNT {
        machine.change(round);
        let code = machine.signal_backup(Signal::KILL, chance.below(FILE_COUNT));
        killed += usize::from(code.is_none());
        let new = machine.look();
        assert!(new == 1 || (new == 0 && code.is_none()), "round {round}: {new} snapshots after {code:?}");
        if chance.below(3) == 0 {
            machine.back_up_well();
            assert_eq!(machine.look(), 1);
        }
    }
    machine.back_up_well();
    assert_eq!(machine.look(), 1);
    assert!(killed > KILL_COUNT as usize / 4, "only {killed} were killed in time");
}

#[test]
fn an_interrupted_backup_says_so_and_is_continued() {
    let mut machine = Machine::new();
    let mut interrupted = 0;
    for round in 0..INTERRUPT_COUNT {
        machine.change(round);
        let code = machine.signal_backup(Signal::INT, 1 + round % 3);
        let new = machine.look();
        match code {
            Some(130) => {
                interrupted += 1;
                assert_eq!(new, 0, "round {round}");
            }
            _ => assert_eq!(new, 1, "round {round}"),
        }
    }
    machine.back_up_well();
    assert_eq!(machine.look(), 1);
    let leases = names_below(&machine.path("repository/lease"));
    assert_eq!(leases.len(), 0, "an interrupted backup ends its lease: {leases:?}");
    assert!(interrupted > 0, "none was interrupted in time");
}
