//! What a person sees: the main commands and the most usual errors, as reviewed texts in `transcripts`.
//!
//! Ids, times, durations and the place of the home differ from run to run. In the texts they stand as placeholders of the
//! same width, so that columns are compared too. `KLUIS_TRANSCRIPTS=write cargo test --test cli transcripts` writes the
//! texts anew; look at the difference before it is committed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::home::{Home, Ran};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/transcripts")
}

/// Types commands, and keeps what is seen.
struct Typist {
    home: Home,
    ids: HashMap<String, usize>,
    differences: Vec<String>,
}

impl Typist {
    /// Where the temporary folder is does not depend on the person, so that its path is always as long.
    fn new() -> Self {
        Self { home: Home::in_folder("/tmp"), ids: HashMap::new(), differences: Vec::new() }
    }

    /// Runs the lines as `repo LINE`, and compares what is seen with the transcript of this name.
    fn types(&mut self, name: &str, lines: &[&str]) {
        let mut text = String::new();
        for line in lines {
            let ran = self.run(line);
            text.push_str(&format!("$ repo {line}\n"));
            let mut shown: Vec<&str> = ran.stdout.lines().collect();
            // Packs are told in the order of their random names.
            let is_pack = |line: &&str| line.starts_with("delete ");
            if let Some(start) = shown.iter().position(is_pack) {
                let end = start + shown[start..].iter().take_while(|line| is_pack(line)).count();
                shown[start..end].sort_by_key(|line| line.get(..12));
            }
            shown.iter().for_each(|line| text.push_str(&format!("{line}\n")));
            for told in ran.stderr.lines() {
                text.push_str(&format!("2> {told}\n"));
            }
            if ran.code != 0 {
                text.push_str(&format!("[exit code {}]\n", ran.code));
            }
            text.push('\n');
        }
        let text = self.steady(name, &text);
        let path = folder().join(format!("{name}.txt"));
        if std::env::var_os("KLUIS_TRANSCRIPTS").is_some_and(|how| how == "write") {
            fs::create_dir_all(folder()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if expected != text {
            self.differences.push(format!("{}:\n{}", path.display(), difference(&expected, &text)));
        }
    }

    fn run(&self, line: &str) -> Ran {
        let words = line.split_whitespace().map(|word| word.trim_matches('\'').to_owned());
        self.home.run(words)
    }

    /// The text with placeholders for what differs from run to run.
    fn steady(&mut self, name: &str, text: &str) -> String {
        let home = self.home.path("").display().to_string();
        let home = home.trim_end_matches('/');
        assert_eq!(home.len(), HOME.len(), "placeholders have the width of what they stand for");
        let text = text.replace(home, HOME);
        let text = text.replace(&owner(), " user group ");
        let has_sizes = !SIZES_DIFFER.contains(&name);
        text.lines()
            .map(|line| {
                let line = masked(&self.without_ids(line));
                // What a backup stores of folders holds random ids, and times and numbers of this computer.
                let is_random = |behind: &str| behind.starts_with(" new") || behind.starts_with(" stored");
                let line = without_sizes(&line, |behind| !has_sizes || is_random(behind));
                line + "\n"
            })
            .collect()
    }

    /// The first eight digits of an id become its number in the order of appearance, the others dots.
    fn without_ids(&mut self, line: &str) -> String {
        let mut shown = String::new();
        for part in parts(line, |c| c.is_ascii_hexdigit()) {
            let is_id = matches!(part.len(), 8 | 32 | 64)
                && part.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
                && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            match part.get(..8).filter(|_| is_id) {
                Some(short) => {
                    let next = self.ids.len() + 1;
                    let number = *self.ids.entry(short.to_owned()).or_insert(next);
                    shown.push_str(&format!("{:.<width$}", format!("id-{number:05}"), width = part.len()));
                }
                None => shown.push_str(part),
            }
        }
        shown
    }
}

/// As long as a temporary folder in `/tmp`.
const HOME: &str = "/home/of/person";

/// ` OWNER GROUP ` as `ls -l` shows those of a new file.
fn owner() -> String {
    let asked = |flag: &str| {
        let output = std::process::Command::new("id").arg(flag).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    format!(" {} {} ", asked("-un"), asked("-gn"))
}

/// Transcripts full of sizes that depend on random bytes, and on inode numbers and times of this computer.
const SIZES_DIFFER: [&str; 3] = ["prune", "check", "stats"];

/// Sizes become the word SIZE. In a column it ends where they ended.
fn without_sizes(line: &str, is_meant: impl Fn(&str) -> bool) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut shown = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let (number, after) = from.split_at(from.find(|c: char| !is_number(c)).unwrap_or(from.len()));
        let unit = [" B", " KiB", " MiB"].into_iter().find(|unit| after.starts_with(unit));
        let is_ratio = unit.is_none() && after.is_empty() && number.contains('.');
        let unit = unit.or(is_ratio.then_some(""));
        let stands_alone = before.is_empty() || before.ends_with([' ', '(']);
        match unit.filter(|unit| stands_alone && is_meant(&after[unit.len()..])) {
            Some(unit) => {
                let text = before.trim_end_matches(' ');
                let width = before.len() - text.len() + number.len() + unit.len();
                let padded = if before.ends_with("  ") {
                    format!("{:>width$}", "SIZE")
                } else {
                    before[text.len()..].to_owned() + "SIZE"
                };
                shown.push_str(text);
                shown.push_str(&padded);
                rest = &after[unit.len()..];
            }
            None => {
                shown.push_str(before);
                shown.push_str(number);
                rest = after;
            }
        }
    }
    shown + rest
}

/// Cuts where characters of one sort begin and end.
fn parts(line: &str, is_inside: impl Fn(char) -> bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut before = None;
    for (at, c) in line.char_indices() {
        // A letter or digit beside it belongs to a longer word.
        let inside = is_inside(c);
        if before.is_some_and(|before| before != inside) {
            parts.push(&line[start..at]);
            start = at;
        }
        before = Some(inside);
    }
    parts.push(&line[start..]);
    parts
}

/// Times after the year 2020, durations, and sizes that depend on random bytes.
fn masked(line: &str) -> String {
    let mut line = line.to_owned();
    for folder in ["data/", "meta/"] {
        if let Some(at) = line.find(folder).map(|at| at + folder.len()) {
            line.replace_range(at..at + 2, "..");
        }
    }
    let digits = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                wanted => byte == wanted,
            })
    };
    for (shape, shown) in
        [("2000-00-00 00:00:00", "YYYY-MM-DD hh:mm:ss"), ("0.00 s", "0.00 s"), ("(0.0 MiB/s)", "(0.0 MiB/s)")]
    {
        for at in 0..line.len() {
            let Some(found) = line.get(at..at + shape.len()) else { continue };
            if digits(found, shape) && !found.starts_with("2001") {
                line.replace_range(at..at + shape.len(), shown);
            }
        }
    }
    line
}

/// The lines that only one of the texts has, around what both have.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let alike = |(one, other): &(&&str, &&str)| one == other;
    let start = expected.iter().zip(&found).take_while(alike).count();
    let most = expected.len().min(found.len()) - start;
    let end = expected.iter().rev().zip(found.iter().rev()).take(most).take_while(alike).count();
    let mut text = String::new();
    for line in &expected[start.saturating_sub(2)..start] {
        text.push_str(&format!("  {line}\n"));
    }
    for line in &expected[start..expected.len() - end] {
        text.push_str(&format!("- {line}\n"));
    }
    for line in &found[start..found.len() - end] {
        text.push_str(&format!("+ {line}\n"));
    }
    for line in expected.iter().skip(expected.len() - end).take(2) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

fn write(home: &Home, name: &str, text: &str) {
    let path = home.write(name, text);
    let time = UNIX_EPOCH + Duration::from_secs(981_173_106);
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(path, mode).unwrap();
}

/// Folders get their time last, when nothing in them changes any more.
fn settle(home: &Home) {
    let time = UNIX_EPOCH + Duration::from_secs(981_173_106);
    for folder in ["files/letters", "files"] {
        let path = home.path(folder);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn what_a_person_sees_is_what_was_reviewed() {
    let mut typist = Typist::new();
    let [repo, key, cache] = ["repo", "key", "cache"].map(|name| typist.home.path(name));
    typist.home =
        typist.home.with("KLUIS_REPO", repo).with("KLUIS_KEY_FILE", key).with("KLUIS_CACHE_DIR", cache);
    let home = &typist.home;
    write(home, "files/letters/anna.txt", "Dear Anna,\nall is well.\n");
    write(home, "files/letters/bert.txt", "Dear Bert,\nwhere are you?\n");
    // Numbers that hardly compress: what the snapshots share is most of what is stored.
    let numbers = (1..2001u64).map(|number| format!("{:09}\n", number.pow(5) % 999_999_937));
    write(home, "files/numbers.csv", &numbers.collect::<String>());
    fs::hard_link(home.path("files/numbers.csv"), home.path("files/same numbers")).unwrap();
    settle(home);
    typist.types("init", &["init"]);
    // Which folders are stored as differences depends on keys, which are random.
    typist.types("backup", &["backup files --no-bases --host web1 --tag nightly"]);
    // Something always changes between backups, so that each one stores packs of its own.
    write(&typist.home, "files/letters/bert.txt", "Dear Bert,\nwhere have you been?\n");
    settle(&typist.home);
    typist.run("backup files --no-bases --host web1").expect(0);

    let home = &typist.home;
    write(home, "files/letters/anna.txt", "Dear Anna,\nall is well here.\n");
    fs::remove_file(home.path("files/letters/bert.txt")).unwrap();
    write(home, "files/letters/carl.txt", "Dear Carl,\n");
    settle(home);
    typist.types("backup-changed", &["backup files --no-bases --host web1 --tag nightly"]);
    typist.types("snapshots", &["snapshots", "snapshots --tag nightly --last 1"]);
    let inside = format!("latest:{}", typist.home.path("files").display());
    typist.types("ls", &["ls latest", &format!("ls -R {inside}")]);
    typist.types("ls-long", &["ls -l latest", &format!("ls -l {inside}/letters")]);
    typist.types("find", &["find anna.txt", "find '*.txt' --snapshot latest", "find nothing"]);
    typist.types("diff", &["diff latest~1 latest", "diff latest latest"]);
    typist.types("restore", &[&format!("restore {inside} --target back --no-owner")]);
    let home = &typist.home;
    write(home, "back/letters/anna.txt", "Dear Anna,\nnothing is well.\n");
    write(home, "back/letters/extra.txt", "?");
    fs::remove_file(home.path("back/letters/carl.txt")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(home.path("back/numbers.csv"), mode).unwrap();
    fs::remove_file(home.path("back/same numbers")).unwrap();
    typist.types(
        "restore-dry-run",
        &[
            &format!("restore {inside} --target back --no-owner --delete --dry-run"),
            &format!("restore {inside}/letters --target new --no-owner --dry-run"),
        ],
    );
    typist.types("forget", &["forget --keep-last 1 -n", "forget --keep-last 1 --reason old"]);
    typist.types("prune", &["prune -n", "prune", "prune"]);
    typist.types("check", &["check", "check --data"]);
    typist.types("stats", &["stats"]);
    typist.types(
        "errors",
        &[
            "ls newest",
            "ls ffff",
            "restore latest:/nowhere --target back",
            "backup missing",
            "snapshots --repo nowhere",
        ],
    );
    let mut other = Typist::new();
    let [repo, cache] = ["repo", "cache"].map(|name| other.home.path(name));
    other.home = other.home.with("KLUIS_REPO", repo).with("KLUIS_CACHE_DIR", cache);
    other.types("errors-usage", &["init", "backup --no-such-option"]);
    other.home = other.home.with("KLUIS_PASSWORD", "one");
    other.run("init").expect(0);
    other.home = other.home.with("KLUIS_PASSWORD", "two");
    other.types("errors-passphrase", &["snapshots"]);
    typist.differences.append(&mut other.differences);
    assert!(typist.differences.is_empty(), "{}", typist.differences.join("\n"));
}

#[test]
fn a_difference_shows_what_is_gone_and_what_is_new() {
    assert_eq!(difference("a\nb\nc\nd", "a\nx\nc\nd"), "  a\n- b\n+ x\n  c\n  d\n");
    assert_eq!(difference("a", "a\nb"), "  a\n+ b\n");
}

#[test]
fn placeholders_keep_their_width() {
    assert_eq!(masked("at 2026-11-28 08:09:10 in 1.25 s"), "at YYYY-MM-DD hh:mm:ss in 0.00 s");
    assert_eq!(masked("2001-02-03 04:05:06"), "2001-02-03 04:05:06");
    let all = |line: &str| without_sizes(line, |_| true);
    assert_eq!(all("2 packs, 2.2 KiB (10 B)"), "2 packs, SIZE (SIZE)");
    assert_eq!(all("stored      2.2 KiB"), "stored         SIZE");
    assert_eq!(all("stored        833 B"), "stored         SIZE");
    assert_eq!(without_sizes("1 B read, 2 B new", |behind| behind == " new"), "1 B read, SIZE new");
}
