//! The real program on a real disk: killed at any time, interrupted at any time, it loses nothing, and the next run
//! continues.
//!
//! The moment is chosen by what has come to be in the repository, or is gone, not by the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kluis::check::{self, CheckOptions, DataPart};
use kluis::event::Silent;
use kluis::format::key_file;
use kluis::id::SnapshotId;
use kluis::prune::{self, PruneOptions, UnusedLimit};
use kluis::repo::{InitOptions, Repo};
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

/// Kills of any command, where nobody asks for more by this variable.
const ANY_KILL_COUNT: u64 = 100;
const ANY_KILL_VARIABLE: &str = "KLUIS_KILLS";
/// Commands that change a repository, how often each is chosen, and how many files come and go while it works, about.
const COMMANDS: &[(&[&str], u64, u64)] = &[
    (&["backup", "SOURCE"], 4, FILE_COUNT),
    (&["forget", "--keep-last", "3"], 2, 3),
    (&["prune", "--yes", "--max-unused", "0"], 4, 30),
    (&["repair", "--yes"], 2, 3),
];

struct Machine {
    scratch: tempfile::TempDir,
    trees: BTreeMap<SnapshotId, Tree>,
}

impl Machine {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let machine = Self { scratch, trees: BTreeMap::new() };
        LocalStorage::create_place(&machine.path("repository")).unwrap();
        let options = InitOptions { parity: true, ..options_of_several_packs() };
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
        self.start(&["backup", "SOURCE"])
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_repo"));
        command.arg("-r").arg(self.path("repository")).arg("--key-file").arg(self.path("key"));
        command.arg("--cache-dir").arg(self.path("cache"));
        for argument in arguments {
            match *argument {
                "SOURCE" => command.arg(self.path("source")),
                argument => command.arg(argument),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Starts a backup and signals it when so many files have come to be. Returns its exit code, if it has one.
    fn signal_backup(&self, signal: Signal, file_count: u64) -> Option<i32> {
        self.signal(self.start_backup(), signal, file_count)
    }

    /// Signals a command when so many files have come to be or are gone. Returns its exit code, if it has one.
    fn signal(&self, mut child: Child, signal: Signal, file_count: u64) -> Option<i32> {
        let before = names_below(&self.path("repository"));
        let mut changed = BTreeSet::new();
        while (changed.len() as u64) < file_count && child.try_wait().unwrap().is_none() {
            changed.extend(names_below(&self.path("repository")).symmetric_difference(&before).cloned());
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

    /// Spoils a byte in the middle of some packs, which their parity can mend.
    fn spoil(&self, chance: &mut Chance) {
        let packs: Vec<_> = names_below(&self.path("repository/data")).into_iter().collect();
        for _ in 0..packs.len().min(3) {
            let pack = chance.one_of(&packs);
            let mut bytes = fs::read(pack).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(pack, bytes).unwrap();
        }
    }

    fn repair_well(&self) {
        let output = self.start(&["repair", "--yes"]).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// As seen with an empty cache, every snapshot is what it was; new ones are of what is on the disk. Returns how
    /// many are new.
    fn look(&mut self) -> usize {
        let (new, gone) = self.look_for_all();
        assert_eq!(gone, [], "a snapshot is gone");
        new
    }

    /// As seen with an empty cache: how many snapshots are new, and which are gone because somebody forgot them.
    fn look_for_all(&mut self) -> (usize, Vec<SnapshotId>) {
        let cache = cache_folder();
        let repo: Arc<Repo> = open(self.storage(), cache.path()).unwrap();
        let found = snapshots(&repo);
        let known = self.trees.len();
        let source = self.path("source");
        for snapshot in &found {
            let tree = self.trees.entry(snapshot.id).or_insert_with(|| capture(&source));
            assert_same(tree, &read_snapshot(&repo, snapshot, &source));
        }
        let new = self.trees.len() - known;
        let list = repo.snapshots().unwrap();
        let live: BTreeSet<_> = found.iter().map(|snapshot| snapshot.id).collect();
        let gone: Vec<_> = self.trees.keys().copied().filter(|id| !live.contains(id)).collect();
        for id in &gone {
            assert!(list.forgotten.get(*id).is_some(), "snapshot {id} is gone");
            self.trees.remove(id);
        }
        (new, gone)
    }

    /// Nothing is wrong, and after two prunes nothing is left that nobody needs.
    fn assert_clean(&self) {
        // What a prune has left that died before its plan may belong to one that sleeps: only time tells.
        let cache = cache_folder();
        let repo = open(self.storage(), cache.path()).unwrap();
        let thorough = PruneOptions { max_unused: UnusedLimit::Bytes(0), ..PruneOptions::default() };
        let impatient = PruneOptions { silence: Duration::ZERO, confirmed: true, ..thorough.clone() };
        prune::run(&repo, &impatient, &Silent::default()).unwrap();
        for _ in 0..2 {
            let output = self.start(COMMANDS[2].0).wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let report = prune::run(&repo, &thorough, &Silent::default()).unwrap();
        assert_eq!((report.packs_deleted, report.bytes_unused, report.plans), (0, 0, vec![]));
        for folder in ["tmp", "lease", "body"] {
            let left = names_below(&self.path("repository").join(folder));
            assert!(left.is_empty(), "{left:?}");
        }
        let options = CheckOptions { directories: true, data: Some(DataPart::All) };
        let report = check::run(&repo, &options, &Silent::default()).unwrap();
        assert!(!report.has_damage(), "{:?}", report.findings);
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

/// More with `KLUIS_KILLS=1000 cargo test --test proof killed`.
#[test]
fn any_command_killed_at_any_time_loses_nothing_and_leaves_nothing_for_ever() {
    let count = std::env::var(ANY_KILL_VARIABLE).map_or(ANY_KILL_COUNT, |text| text.parse().unwrap());
    let mut machine = Machine::new();
    let mut chance = Chance(2);
    let mut killed = BTreeMap::<&str, u64>::new();
    let weights: u64 = COMMANDS.iter().map(|(_, weight, _)| weight).sum();
    for round in 0..count {
        machine.change(round);
        let mut drawn = chance.below(weights);
        let is_it = |(_, weight, _): &&(&[&str], u64, u64)| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it
        };
        let (command, _, changes) = COMMANDS.iter().find(is_it).unwrap();
        let is_repair = command[0] == "repair";
        if is_repair {
            machine.spoil(&mut chance);
        }
        let code = machine.signal(machine.start(command), Signal::KILL, chance.below(*changes));
        if is_repair {
            machine.repair_well();
        }
        let (new, gone) = machine.look_for_all();
        if code.is_none() {
            *killed.entry(command[0]).or_default() += 1;
        }
        let makes_one = command[0] == "backup";
        assert!(
            new <= usize::from(makes_one) && (code.is_none() || (new == 1) == makes_one),
            "round {round}"
        );
        assert!(gone.is_empty() || command[0] == "forget", "round {round}: {gone:?}");
        if round % 25 == 24 {
            machine.back_up_well();
            assert_eq!(machine.look(), 1);
            machine.assert_clean();
        }
    }
    machine.back_up_well();
    assert_eq!(machine.look(), 1);
    machine.assert_clean();
    let all: u64 = killed.values().sum();
    println!("killed in time: {killed:?}");
    assert!(all > count / 4 && killed.len() == COMMANDS.len(), "only {killed:?} were killed in time");
}
