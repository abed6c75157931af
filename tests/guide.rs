//! Every command line of the guide and of the README is run, as it is written, by a shell.
//!
//! Absolute paths lead into a folder that stands for the computer of the reader. What he does not get from us (editors,
//! databases, systemd) is played by stand-ins; the units of systemd are judged by systemd itself where it is installed.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kluis::clock::{Timestamp, Zone};
use kluis::id::{SeriesId, SnapshotId};
use kluis::retention::{self, Candidate, Fate, GroupBy, Policy};
use kluis::wire::Bytes;

/// Folders of the reader's computer that the examples name.
const FOLDERS: [&str; 9] = ["mnt", "home", "etc", "var", "srv", "root", "tmp", "usr/local", "opt"];
/// Programs that are not ours. They take any arguments; what a dump prints is a dump.
const STAND_INS: [(&str, &str); 16] = [
    (
        "cargo",
        "case \"$1\" in run) shift 3; exec repo \"$@\";; install) exit 0;; \
         build) mkdir -p \"target/$4/release\" && touch \"target/$4/release/repo\";; *) exit 1;; esac",
    ),
    ("rustup", "test \"$1 $2\" = 'target add'"),
    ("apt-get", "test \"$1\" = install"),
    ("dpkg", "test -f \"$2\""),
    ("pass", "echo 'secret words'"),
    // Another program, whose snapshots are moved over.
    ("restic", "mkdir -p \"$4/home\" && echo old > \"$4/home/file\""),
    ("editor", "echo 'secret words' > \"$1\""),
    ("systemctl", "exit 0"),
    ("journalctl", "exit 0"),
    ("pg_dump", "echo \"create table $1 (id int);\""),
    ("pg_dumpall", "echo 'create role shop;'"),
    ("mariadb-dump", "echo 'create table page (id int);'"),
    ("psql", "grep -q 'create table'"),
    ("runuser", "shift 3; exec \"$@\""),
    // Installs packages, and then runs the very tests of which this is one.
    ("scripts/test", "exit 0"),
    ("scripts/package", "mkdir -p target/debian && touch target/debian/kluis_0.1.0_amd64.deb"),
];
const PASSPHRASE: &str = "secret words";

/// A fenced block of a document.
struct Block {
    kind: String,
    lines: Vec<String>,
}

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The guide: its table of contents and all its chapters.
fn guide() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide");
    let mut chapters: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    chapters.sort();
    assert!(chapters.len() >= 8, "{chapters:?}");
    let chapters = chapters.iter().map(|name| document(&format!("docs/guide/{}", name.to_str().unwrap())));
    std::iter::once(document("docs/guide.md")).chain(chapters).collect()
}

fn blocks(text: &str) -> Vec<Block> {
    let fenced = text.split("```").skip(1).step_by(2);
    let block = |part: &str| {
        let mut lines = part.lines().map(str::to_owned);
        Block { kind: lines.next().unwrap_or_default(), lines: lines.collect() }
    };
    fenced.map(block).collect()
}

/// Commands of ours in the running text.
fn spans(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let spans = prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " "));
    spans.filter(|span| span.starts_with("repo ")).collect()
}

/// Those that have options or arguments are more than names.
fn is_typed(span: &str) -> bool {
    span.contains(" -")
        || (span.split(' ').count() > 2 && !span.starts_with("repo help") && !span.contains("SNAPSHOT"))
}

/// What stands in a document to be typed, story by story: the lines of one go on from each other.
fn stories(text: &str) -> Vec<Vec<String>> {
    let mut stories = Vec::new();
    for Block { kind, lines } in blocks(text) {
        let mut story = Vec::new();
        for line in lines {
            let typed = match kind.as_str() {
                "sh" => Some(line.as_str()),
                // What a terminal shows.
                _ => line.strip_prefix("$ "),
            };
            match typed {
                // A remark begins something else.
                Some(remark) if remark.starts_with('#') => stories.push(std::mem::take(&mut story)),
                Some(typed) if !typed.trim().is_empty() => story.push(typed.to_owned()),
                Some(_) | None => {}
            }
        }
        stories.push(story);
    }
    stories.extend(spans(text).into_iter().filter(|span| is_typed(span)).map(|span| vec![span]));
    stories.retain(|story| !story.is_empty());
    stories
}

/// The computer of the reader: a folder, with a repository as the guide assumes it.
struct Computer {
    folder: tempfile::TempDir,
    /// Ids of a live snapshot, a forgotten one, and a slot.
    ids: [String; 3],
}

impl Computer {
    fn new() -> Self {
        let mut computer = Self { folder: tempfile::tempdir().unwrap(), ids: Default::default() };
        let root = computer.root();
        for folder in
            FOLDERS.iter().chain(&["bin", "usr/local/bin", "home/me/scripts", "mnt/stick", "home/me/.zfunc"])
        {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (name, script) in STAND_INS {
            let path = if name.contains('/') {
                root.join("home/me").join(name)
            } else {
                root.join("bin").join(name)
            };
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for place in ["bin/repo", "usr/local/bin/repo"] {
            symlink(env!("CARGO_BIN_EXE_repo"), root.join(place)).unwrap();
        }
        computer.write_files();
        computer.make_repository();
        computer
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn write_files(&self) {
        self.write("home/me/Documents/letter.odt", "Dear reader,\n");
        self.write("home/me/src/main.rs", "fn main() {}\n");
        self.write("etc/fstab", "none / none\n");
        self.write("etc/backup-excludes", "*.tmp\n");
        self.write("etc/backup-list", self.root().join("etc/fstab").to_str().unwrap());
        self.write("etc/kluis-passphrase", &format!("{PASSPHRASE}\n"));
        self.write("var/www/index.html", "<html>\n");
        self.write("srv/data", "data\n");
    }

    /// Snapshots of two hosts, one that is gone, and a dump; one snapshot is forgotten.
    fn make_repository(&mut self) {
        let make = |line: &str| {
            let ran = self.run(line);
            assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
            String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
        };
        make("KLUIS_KEY_FILE= KLUIS_PASSWORD='secret words' repo init --quiet");
        make("KLUIS_KEY_FILE= KLUIS_PASSWORD='secret words' repo key add --new-key-file /root/key");
        let sheet: serde_json::Value = serde_json::from_str(&make("repo key recovery-sheet --json")).unwrap();
        self.write("home/me/typed-from-paper.txt", sheet["key"].as_str().unwrap());
        let snapshot = |day: u32, more: &str| {
            make(&format!("repo backup --quiet --time '2026-11-{day:02} 02:30:00' {more}"))
        };
        snapshot(1, "--command shop.sql -- pg_dump shop");
        snapshot(2, "--host old-web /home /etc /var/www");
        snapshot(3, "--host web2 /home /etc /var/www");
        let mut forgotten = String::new();
        for day in 4..11 {
            self.write("home/me/Documents/diary.txt", &format!("{day} ").repeat(200));
            let id = snapshot(day, "--host web1 --tag nightly /home /etc /var/www");
            forgotten = if day == 6 { id } else { forgotten };
        }
        let live = snapshot(11, "--host web1 --tag release /home /etc /var/www");
        make(&format!("repo forget {forgotten} --quiet"));
        let slots = make("repo key list --json");
        let slots: serde_json::Value = serde_json::from_str(&slots).unwrap();
        let slots = slots.as_array().or_else(|| slots["slots"].as_array()).unwrap();
        let last = slots.last().unwrap()["id"].as_str().unwrap().to_owned();
        // The same repository under another name, and a second place for it.
        make("cp -a /mnt/backup/repository /srv/backup");
        make("mkdir /mnt/usb");
        make("repo init --quiet --repo /mnt/usb/backup --like /srv/backup");
        self.ids = [live, forgotten, last].map(|id| id[..8].to_owned());
    }

    /// The line with paths of this folder, and ids of this repository.
    fn translated(&self, line: &str) -> String {
        let root = self.root();
        let root = root.to_str().unwrap();
        let mut words = Vec::new();
        let is_of = |verb: &str| line.contains(verb);
        for word in line.split(' ') {
            let is_id = word.len() == 8 && word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let [live, forgotten, slot] = &self.ids;
            words.push(match word {
                "/" => format!("{root}/"),
                _ if is_id && is_of("undo-forget") => forgotten.clone(),
                _ if is_id && is_of("key remove") => slot.clone(),
                _ if is_id => live.clone(),
                _ => below(root, word),
            });
        }
        words.join(" ")
    }

    /// Runs a line as if it was typed. Nobody answers questions.
    fn run(&self, line: &str) -> Output {
        let root = self.root();
        let mut command = Command::new("sh");
        command.args(["-e", "-c", &self.translated(line)]).env_clear().stdin(Stdio::null());
        command.env("PATH", format!("{}:/usr/bin:/bin", root.join("bin").display()));
        command.env("HOME", root.join("home/me")).env("TZ", "UTC").current_dir(root.join("home/me"));
        command.env("KLUIS_REPO", root.join("mnt/backup/repository"));
        if line.starts_with("repo key") {
            command.env("KLUIS_PASSWORD", PASSPHRASE).env("KLUIS_NEW_PASSWORD", PASSPHRASE);
        } else {
            // It is quicker.
            command.env("KLUIS_KEY_FILE", root.join("root/key"));
        }
        command.output().unwrap()
    }
}

/// A word in which absolute paths, also behind `:` or `=`, lead below a folder.
fn below(root: &str, word: &str) -> String {
    let mut found = String::new();
    let mut before = ' ';
    for (at, character) in word.char_indices() {
        let rest = &word[at..];
        let starts = character == '/' && matches!(before, ' ' | ':' | '=' | '\'' | '"' | '>');
        let is_ours = |folder: &str| {
            let after = rest[1..].strip_prefix(folder);
            after.is_some_and(|after| !after.starts_with(|next: char| next.is_alphanumeric()))
        };
        if starts && FOLDERS.iter().any(|folder| is_ours(folder)) {
            found += root;
        }
        found.push(character);
        before = character;
    }
    found
}

/// Puts a folder back to what another one is.
fn put_back(from: &Path, to: &Path) {
    for entry in fs::read_dir(to).unwrap() {
        let path = entry.unwrap().path();
        fs::remove_dir_all(path).unwrap();
    }
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(done.success());
}

/// Runs the stories, each beginning with what there was; what failed.
fn failures(computer: &Computer, stories: &[Vec<String>]) -> Vec<String> {
    let template = tempfile::tempdir().unwrap();
    let root = computer.root();
    put_back(&root, template.path());
    let mut failures = Vec::new();
    for story in stories {
        put_back(template.path(), &root);
        if let Some(line) = story.iter().find(|line| line.starts_with("repo init")) {
            let place = line.split_once("--repo /").and_then(|(_, rest)| rest.split(' ').next());
            fs::remove_dir_all(root.join(place.unwrap_or("mnt/backup/repository"))).unwrap();
        }
        for line in story {
            let ran = computer.run(line);
            if !ran.status.success() {
                let [stdout, stderr] = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes));
                failures.push(format!("{line}\n  {}\n  {stdout}\n  {stderr}", ran.status));
            }
        }
    }
    failures
}

/// Nothing can be mounted where the kernel or its program are missing.
fn can_run(story: &Vec<String>) -> bool {
    let mounts = story.iter().any(|line| line.starts_with("repo mount"));
    let can_mount = Path::new("/dev/fuse").exists() && Command::new("fusermount3").arg("-V").output().is_ok();
    if mounts && !can_mount {
        eprintln!("SKIPPED, because there is no /dev/fuse or no fusermount3: {story:?}");
    }
    can_mount || !mounts
}

#[test]
fn every_command_line_of_guide_and_readme_runs() {
    let computer = Computer::new();
    let texts = [guide(), document("docs/from-restic.md"), document("README.md")];
    let stories: Vec<_> = texts.iter().flat_map(|text| stories(text)).collect();
    let count: usize = stories.iter().map(Vec::len).sum();
    let stories: Vec<_> = stories.into_iter().filter(can_run).collect();
    assert!(count > 150, "only {count} lines were found");
    let failures = failures(&computer, &stories);
    assert!(failures.is_empty(), "{} of {count} lines:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_wrong_option_or_a_wrong_path_fails() {
    let computer = Computer::new();
    let wrong = [
        "repo forget --keep-dayly 7",
        "repo check --data=5",
        "repo dump latest /etc/no-such-file",
        "repo restore latest~1:/home/you --target /tmp/back",
        "pg_dump shop | repo backup --stdin --stdin-name shop.sql",
    ];
    let wrong: Vec<_> = wrong.iter().map(|line| vec![(*line).to_owned()]).collect();
    assert_eq!(failures(&computer, &wrong).len(), wrong.len());
}

/// The lines of the units in this chapter that are no timers.
fn services_in(chapter: &str) -> Vec<String> {
    let text = document(&format!("docs/guide/{chapter}"));
    let units = blocks(&text).into_iter().filter(|block| block.kind == "ini");
    units
        .filter(|block| !block.lines.iter().any(|line| line == "[Timer]"))
        .flat_map(|block| block.lines)
        .collect()
}

/// The nightly service, with what the chapter about space adds to it; and that of a database.
fn services() -> [(&'static str, Vec<String>); 2] {
    let nightly = [services_in("start.md"), services_in("keep-small.md")].concat();
    [("backup.service", nightly), ("backup-shop.service", services_in("databases.md"))]
}

#[test]
fn the_command_lines_of_the_service_and_of_cron_run() {
    let computer = Computer::new();
    let mut settings = Vec::new();
    let mut lines = Vec::new();
    for line in services().into_iter().flat_map(|(_, lines)| lines) {
        settings.extend(line.strip_prefix("Environment=").map(str::to_owned));
        lines.extend(
            line.split_once('=').filter(|(key, _)| key.starts_with("Exec")).map(|it| it.1.to_owned()),
        );
    }
    let text = guide();
    let is_cron = |block: &Block| block.lines.iter().any(|line| line.contains(" root /usr/local/bin/repo"));
    let cron = blocks(&text).into_iter().find(is_cron).unwrap();
    for line in cron.lines {
        match line.split_once(" root ") {
            Some((schedule, command)) => {
                assert_eq!(schedule.split_whitespace().count(), 5, "{line}");
                lines.push(command.to_owned());
            }
            None => settings.push(line),
        }
    }
    assert_eq!((lines.len(), settings.len()), (4, 8), "{lines:?} {settings:?}");
    let settings = settings.join(" ");
    let run: Vec<_> = lines.iter().map(|line| vec![format!("KLUIS_KEY_FILE= {settings} {line}")]).collect();
    let failures = failures(&computer, &run);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_units_are_units() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_repo");
    let text = guide();
    let timer =
        blocks(&text).into_iter().find(|block| block.lines.iter().any(|line| line == "[Timer]")).unwrap();
    let [nightly, shop] = services();
    // The chapter about databases says that its timer is the same under another name.
    let units = [nightly, shop, ("backup.timer", timer.lines.clone()), ("backup-shop.timer", timer.lines)];
    for (name, lines) in &units {
        let text = lines.join("\n").replace("/usr/local/bin/repo", program);
        fs::write(folder.path().join(name), format!("{text}\n")).unwrap();
        for line in lines.iter().filter(|line| !line.is_empty() && !line.starts_with('[')) {
            assert!(
                line.split_once('=').is_some_and(|(key, value)| !key.is_empty() && !value.is_empty()),
                "{line}"
            );
        }
        assert!(text.contains("Description="), "{name}");
    }
    // The timer is named as the service that it starts, and the guide enables the timer.
    assert!(text.contains("systemctl enable --now backup.timer"));
    let verify = Command::new("systemd-analyze")
        .arg("verify")
        .args(units.iter().map(|(name, _)| folder.path().join(name)))
        .output();
    let Ok(verdict) = verify else {
        println!("systemd is not installed: the units were only read");
        return;
    };
    let said = String::from_utf8_lossy(&verdict.stderr);
    // Of other units on this computer it may say what it likes.
    let is_named = said.lines().any(|line| line.contains("backup.") || line.contains("backup-shop."));
    assert!(verdict.status.success() && !is_named, "{said}");
}

/// The table of what 7 daily, 4 weekly and 3 monthly snapshots are: the first column of its rows.
fn kept_in_the_guide() -> Vec<String> {
    let text = document("docs/guide/keep-small.md");
    let (_, table) = text.split_once("| Kept | because it is the newest of |").unwrap();
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| "));
    rows.map(|row| row.split_once(" | ").unwrap().0.to_owned()).collect()
}

#[test]
fn the_table_of_what_a_policy_keeps_is_true() {
    let first = Timestamp::parse("2026-08-01T02:30:00Z").unwrap();
    let night = |at: u64| Candidate {
        id: SnapshotId::new([u8::try_from(at).unwrap(); 16]),
        time: Timestamp::from_seconds(first.seconds + i64::try_from(at).unwrap() * 86_400),
        utc_offset_seconds: 0,
        host: "web1".to_owned(),
        paths: vec![Bytes::from(&b"/home"[..])],
        tags: Vec::new(),
        series: SeriesId::new([0; 16]),
        sequence: at + 1,
    };
    let nights: Vec<_> = (0..112).map(night).collect();
    let periods = ["0", "7", "4", "3", "0"].map(|count| count.parse().unwrap());
    let policy = Policy { periods, ..Policy::default() };
    let now = Timestamp::parse("2026-11-20T12:00:00Z").unwrap();
    let zone = Zone::named("UTC").unwrap();
    let decision = retention::decide(nights, &policy, GroupBy::default(), now, &zone);
    let mut kept: Vec<_> = decision
        .snapshots()
        .filter(|judged| matches!(judged.fate, Fate::Keep(_)))
        .map(|judged| judged.snapshot.time.rfc3339()[..10].to_owned())
        .collect();
    kept.sort();
    kept.reverse();
    assert_eq!(kept, kept_in_the_guide());
}
