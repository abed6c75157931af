//! What a reader of the documents meets: links that lead somewhere, and commands that exist.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is how a failed step is reported")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options that take a program and its arguments, so that what follows is not ours.
const NOT_OURS: &str = " -- ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README and all documents, with their text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut pending = vec![root().join("README.md"), root().join("docs")];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
        }
    }
    assert!(found.len() > 10, "the documents were not found");
    found
}

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Targets of `[words](target)`.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The name that a heading has in links.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

fn has_anchor(text: &str, wanted: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).any(|anchor| anchor == wanted)
}

fn dead_links(document: &Path, text: &str) -> Vec<String> {
    let folder = root().join(document.parent().unwrap());
    let is_dead = |link: &String| {
        if link.contains("://") {
            return false;
        }
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() { root().join(document) } else { folder.join(path) };
        let has_heading = || fs::read_to_string(&target).is_ok_and(|text| has_anchor(&prose(&text), heading));
        !target.exists() || (!heading.is_empty() && !has_heading())
    };
    links(&prose(text)).into_iter().filter(is_dead).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    for (path, text) in documents() {
        let dead = dead_links(&path, &text);
        assert!(dead.is_empty(), "{} has dead links: {dead:?}", path.display());
    }
}

#[test]
fn a_dead_link_is_noticed() {
    let text =
        "[a](guide.md) [b](gone.md) [c](#the-guide) [d](guide.md#nothing) [e](https://example.org)\n# Guide";
    assert_eq!(dead_links(Path::new("docs/x.md"), text), ["gone.md", "#the-guide", "guide.md#nothing"]);
}

#[test]
fn no_document_speaks_of_the_workshop() {
    // Put together here, so that this file does not hold the words either.
    let words = [["/wo", "rk/"].concat(), ["/be", "nch/"].concat(), ["../sha", "red"].concat()];
    for (path, text) in documents() {
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn every_document_is_reached_from_the_readme() {
    let documents: BTreeMap<_, _> = documents().into_iter().collect();
    let mut reached = vec![PathBuf::from("README.md")];
    let mut at = 0;
    while let Some(document) = reached.get(at).cloned() {
        for link in links(&prose(&documents[&document])) {
            let path = link.split('#').next().unwrap_or_default();
            let target = root().join(document.parent().unwrap()).join(path);
            let Ok(target) = target.canonicalize() else { continue };
            let target = if target.is_dir() { target.join("README.md") } else { target };
            let Ok(target) = target.strip_prefix(root().canonicalize().unwrap()).map(Path::to_owned) else {
                continue;
            };
            if documents.contains_key(&target) && !reached.contains(&target) {
                reached.push(target);
            }
        }
        at += 1;
    }
    let lost: Vec<_> = documents.keys().filter(|document| !reached.contains(document)).collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
}

/// What is written to be typed or run: every use of the program in fenced blocks, in `code`, and in unit files.
fn command_lines(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, part) in text.split("```").enumerate() {
        let pieces: Vec<&str> =
            if at % 2 == 1 { part.lines().collect() } else { part.split('`').skip(1).step_by(2).collect() };
        for piece in pieces {
            let piece =
                piece.replace("/usr/local/bin/repo ", "repo ").replace("cargo run --release -- ", "repo ");
            let starts = piece.match_indices("repo ").map(|(at, _)| at);
            let is_start = |at: &usize| {
                let before = piece[..*at].trim_end();
                before.is_empty() || before.ends_with(['|', '=', ';', '&']) || before.ends_with("root")
            };
            found.extend(starts.filter(is_start).map(|at| piece[at + "repo ".len()..].to_owned()));
        }
    }
    found
}

fn help_of(words: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_repo")).args(words).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// What is wrong with a command line, if anything.
fn offence(line: &str, helps: &mut BTreeMap<String, Option<String>>) -> Option<String> {
    let line = line.split([';', '|', '>', '#']).next().unwrap_or_default();
    let ours = line.split(NOT_OURS).next().unwrap_or_default();
    let mut words = ours.split_whitespace();
    let command = words.next()?;
    let mut subcommand = vec![command];
    if matches!(command, "help" | "key") {
        subcommand.extend(words.next());
    }
    let asked: Vec<_> = subcommand.iter().copied().filter(|word| *word != "help").collect();
    let help = helps.entry(asked.join(" ")).or_insert_with(|| help_of(&asked));
    let Some(help) = help else { return Some(format!("there is no command `{}`", subcommand.join(" "))) };
    let options = ours.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
    let mut names = options.map(|word| word.split('=').next().unwrap_or(word));
    let is_unknown =
        |name: &&str| !help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|it| it == *name);
    names.find(is_unknown).map(|name| format!("`{}` has no option {name}", subcommand.join(" ")))
}

#[test]
fn every_command_in_the_documents_exists() {
    let mut helps = BTreeMap::new();
    let mut count = 0;
    for (path, text) in documents() {
        for line in command_lines(&text) {
            count += 1;
            let offence = offence(&line, &mut helps);
            assert!(offence.is_none(), "{}: repo {line}: {}", path.display(), offence.unwrap_or_default());
        }
    }
    assert!(count > 40, "only {count} commands were found");
}

#[test]
fn a_command_that_does_not_exist_is_noticed() {
    let mut helps = BTreeMap::new();
    let mut offence = |line: &str| offence(line, &mut helps).is_some();
    assert!(offence("shrink /srv"));
    assert!(offence("key burn"));
    assert!(offence("backup --no-such-option /srv"));
    assert!(!offence("backup --command x.sql -- pg_dump --no-such-option"));
    assert_eq!(
        command_lines("say `repo ls latest`\n```sh\nx | repo backup --stdin\ncd repo here\n```\n").len(),
        2
    );
}
