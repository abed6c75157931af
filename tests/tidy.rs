//! The house rules that a program can check. Reads the sources as text and needs only the standard library.
//!
//! Every rule is a function from one file to its offences. Below the table of rules, each is shown to fire on a
//! text that breaks it: a rule that cannot fail would be worth nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Every module at the top of the library, and the floor it stands on. A file uses its own module and the floors
/// below it, never sideways and never up.
const FLOORS: &[(&str, u8)] = &[
    ("clock", 0),
    ("event", 0),
    ("id", 0),
    ("limits", 0),
    ("shelf", 0),
    ("units", 0),
    ("wire", 0),
    ("chunker", 1),
    ("compress", 1),
    ("crypto", 1),
    ("format", 1),
    ("hash", 1),
    ("index", 2),
    ("source", 2),
    ("storage", 2),
    ("target", 2),
    ("repo", 3),
    ("backup", 4),
    ("check", 4),
    ("copy", 4),
    ("diff", 4),
    ("find", 4),
    ("forget", 4),
    ("mount", 4),
    ("prune", 4),
    ("restore", 4),
    ("retention", 4),
    ("stats", 4),
    ("cli", 6),
];

/// Steps sideways that were decided on, each with its reason. A new one is a design change.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    ("chunker", "crypto", "its table is derived from the master key"),
    ("event", "units", "problems carry paths in the form that units gives them for JSON"),
    ("format", "chunker", "the settings hold sizes that the chunker checks"),
    ("format", "compress", "a frame names its codec"),
    ("hash", "crypto", "the keys of ids are derived from the master key, and wiped with it"),
];

/// Steps down that are forbidden all the same.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("storage", "format", "storage sees names and opaque bytes"),
    ("storage", "crypto", "storage sees names and opaque bytes"),
    ("index", "format", "the index sees ids and places"),
    ("index", "crypto", "the index sees ids and places"),
    ("source", "crypto", "a source sees plaintext only"),
    ("target", "crypto", "a target sees plaintext only"),
];

/// What these modules may use of `format`.
const TREE_ONLY: &[&str] = &["source", "target"];

/// Pure modules: no files, no network, no clock, no randomness.
const PURE: &[&str] = &["chunker", "compress", "crypto", "format", "hash", "retention"];

/// What a pure module does not touch.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "rustix",
    "crate::clock::SystemClock",
];

/// Where a heavy crate is at home: modules, or single files of them. Tests may use any as an oracle.
const HOMES: &[(&str, &[&str])] = &[
    ("aes_gcm", &["src/crypto"]),
    ("async_trait", &["src/storage/s3"]),
    ("anstream", &["src/cli"]),
    ("anstyle", &["src/cli"]),
    ("argon2", &["src/crypto"]),
    ("bytes", &["src/storage/s3"]),
    ("clap", &["src/cli"]),
    ("clap_complete", &["src/cli"]),
    ("clap_mangen", &["src/cli"]),
    ("comfy_table", &["src/cli"]),
    ("fastcdc", &["src/chunker"]),
    ("fuser", &["src/mount"]),
    // Salts and ids, names of temporary files, and pauses between attempts.
    ("getrandom", &["src/crypto/random", "src/storage/local", "src/storage/s3"]),
    ("http_body", &["src/storage/s3"]),
    ("indicatif", &["src/cli"]),
    ("jiff", &["src/clock"]),
    ("memmap2", &["src/storage/mapped"]),
    ("object_store", &["src/storage/s3"]),
    ("postcard", &["src/wire"]),
    ("redb", &["src/index"]),
    ("reed_solomon_simd", &["src/format/parity"]),
    ("reqwest", &["src/storage/s3"]),
    ("rpassword", &["src/cli"]),
    ("rustls", &["src/storage/s3"]),
    ("signal_hook", &["src/cli"]),
    ("tar", &["src/target"]),
    ("tokio", &["src/storage/s3"]),
    ("zip", &["src/target"]),
    ("zstd", &["src/compress"]),
];

/// Who may open files on this computer.
const FILE_USERS: &[&str] = &["cli", "clock", "index", "source", "storage", "target"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 80;

/// The rules for the library and the program.
const SOURCE_RULES: &[Rule] = &[
    floors,
    heavy_crates_at_home,
    codecs_are_pure,
    files_through_their_modules,
    time_through_the_clock,
    only_cli_prints,
    file_length,
    no_unwrap,
    unsafe_in_one_file,
    no_glob_of_the_crate,
    no_mod_rs,
];

/// The rules for every Rust file, tests and benchmarks included.
const COMMON_RULES: &[Rule] = &[function_length, ascii_only, nothing_left_undone, module_doc, no_allow];

type Rule = fn(&SourceFile) -> Vec<Offence>;

/// A line, counted from 1, and what is wrong with it.
#[derive(Debug, PartialEq)]
struct Offence {
    line: usize,
    message: String,
}

/// A Rust file, as it is and as its code alone.
struct SourceFile {
    /// From the root of the package: `src/cli/args.rs`.
    path: String,
    text: String,
    /// The text with comments and literals blanked out; lines and columns stay where they are.
    code: String,
    /// `code` with the tests blanked out too.
    program: String,
}

impl SourceFile {
    fn new(path: &str, text: &str) -> Self {
        let code = code_of(text);
        // By convention these hang on a `#[cfg(test)] mod` of the file above.
        let is_test_file =
            path.contains("/tests/") || ["/tests.rs", "/fixture.rs"].iter().any(|end| path.ends_with(end));
        let program = if is_test_file { blank(&code) } else { without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, program }
    }

    /// The modules that lead to this file: `["cli", "args"]`.
    fn modules(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").unwrap_or(&self.path);
        path.strip_suffix(".rs").unwrap_or(path).split('/').collect()
    }

    fn top(&self) -> &str {
        self.modules().first().copied().unwrap_or("")
    }

    /// `lib.rs` and `main.rs` stand above all floors.
    fn is_root(&self) -> bool {
        matches!(self.path.as_str(), "src/lib.rs" | "src/main.rs")
    }

    fn offence(&self, at: usize, message: impl Into<String>) -> Offence {
        Offence { line: self.code[..at].matches('\n').count() + 1, message: message.into() }
    }

    /// Where the words of `needle` stand in `code` as whole words.
    fn find_words(code: &str, needle: &str) -> Vec<usize> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        code.match_indices(needle)
            .map(|(at, _)| at)
            .filter(|&at| {
                let starts = !needle.starts_with(is_word) || !code[..at].ends_with(is_word);
                let ends = !needle.ends_with(is_word) || !code[at + needle.len()..].starts_with(is_word);
                starts && ends
            })
            .collect()
    }

    fn forbid(&self, code: &str, needle: &str, message: &str) -> Vec<Offence> {
        Self::find_words(code, needle).into_iter().map(|at| self.offence(at, message)).collect()
    }
}

/// As many blanks and newlines, so that places stay where they are.
fn blank(code: &str) -> String {
    code.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Blanks out every `#[cfg(test)] mod name { ... }`.
fn without_tests(code: &str) -> String {
    let mut program = code.to_owned();
    for (at, mark) in code.match_indices("#[cfg(test)]") {
        let item = code[at + mark.len()..].trim_start();
        let item = item.strip_prefix("pub(crate)").unwrap_or(item).trim_start();
        let has_block = item.find(['{', ';']).is_some_and(|at| item[at..].starts_with('{'));
        if item.starts_with("mod ") && has_block {
            // `item` is the rest of `code`, so its start is what the rest leaves.
            let start = code.len() - item.len();
            let end = block_end(item).map_or(code.len(), |end| start + end);
            program.replace_range(at..end, &blank(&code[at..end]));
        }
    }
    program
}

/// Where the first block of `code` ends, after its closing brace.
fn block_end(code: &str) -> Option<usize> {
    let open = code.find('{')?;
    let mut depth = 0;
    let close = code[open..].find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    })?;
    Some(open + close + 1)
}

/// Blanks out comments, strings and characters, so that rules see code only. Newlines stay.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let len = literal_len(bytes, at);
        if len == 0 {
            // Whatever is not ASCII can stand in a word of code at most; one blank per byte keeps the columns.
            code.push(if bytes[at].is_ascii() { bytes[at] as char } else { ' ' });
            at += 1;
        } else {
            code.extend(bytes[at..at + len].iter().map(|&byte| if byte == b'\n' { '\n' } else { ' ' }));
            at += len;
        }
    }
    code
}

/// Length of the comment, string or character that begins here, or 0.
fn literal_len(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let until = |end: &[u8], from: usize| {
        let found = rest[from..].windows(end.len()).position(|window| window == end);
        found.map_or(rest.len(), |found| from + found + end.len())
    };
    match rest {
        [b'/', b'/', ..] => until(b"\n", 2).saturating_sub(1).max(2),
        [b'/', b'*', ..] => until(b"*/", 2),
        [b'"', ..] => quoted_len(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !after_word => raw_len(rest).unwrap_or(0),
        [b'\'', b'\\', ..] => quoted_len(rest, b'\''),
        [b'\'', _, b'\'', ..] => 3,
        [b'\'', first, ..] if !first.is_ascii() => quoted_len(rest, b'\''),
        _ => 0,
    }
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_len(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let from = 2 + hashes;
    let found = rest[from..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |found| from + found + end.len()))
}

/// Every path from the root of the crate that the code names, with its place: `crate::a::{b, c::D}` is `a::b` and
/// `a::c::D`. `super` is resolved against the file, one level deeper inside its tests.
fn crate_paths(file: &SourceFile) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for at in SourceFile::find_words(&file.code, "crate::") {
        spread(&file.code[at + "crate::".len()..], Vec::new(), at, &mut found);
    }
    for at in SourceFile::find_words(&file.code, "super::") {
        let inside_tests =
            usize::from(file.program[at..].starts_with(' ') && !file.program.trim().is_empty());
        let before = file.code[..at].trim_end_matches("super::");
        let above = 1 + (at - before.len()) / "super::".len();
        let is_last = !file.code[at + "super::".len()..].starts_with("super::");
        let modules = file.modules();
        let depth = modules.len() + inside_tests;
        if is_last && above == depth {
            let mut here = Vec::new();
            spread(&file.code[at + "super::".len()..], Vec::new(), at, &mut here);
            found.extend(
                here.into_iter().filter(|(_, path)| path.first().is_some_and(|top| floor(top).is_some())),
            );
        }
    }
    found
}

/// Reads one path or group of paths at the start of `code`, which follow `prefix`. Returns how long it is.
fn spread(code: &str, prefix: Vec<String>, at: usize, found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '*';
    if !code.starts_with('{') {
        let len = code.find(|c| !word(c)).unwrap_or(code.len());
        let mut path = prefix;
        path.push(code[..len].to_owned());
        if let Some(rest) = code[len..].strip_prefix("::") {
            return len + 2 + spread(rest, path, at, found);
        }
        found.push((at, path));
        return len;
    }
    let mut here = 1;
    while let Some(next) = code[here..].find(|c: char| word(c) || c == '}' || c == '{') {
        here += next;
        if code[here..].starts_with('}') {
            return here + 1;
        }
        here += spread(&code[here..], prefix.clone(), at, found).max(1);
        // `a as b`: the new name is no path.
        if let Some(rest) = code[here..].strip_prefix(" as ") {
            here += 4 + rest.find(|c| !word(c)).unwrap_or(rest.len());
        }
    }
    code.len()
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The reason of a pair of modules in a table of steps.
fn listed(steps: &[(&str, &str, &'static str)], from: &str, to: &str) -> Option<&'static str> {
    steps.iter().find(|step| (step.0, step.1) == (from, to)).map(|step| step.2)
}

fn floors(file: &SourceFile) -> Vec<Offence> {
    if file.is_root() {
        return Vec::new();
    }
    let top = file.top();
    let Some(own_floor) = floor(top) else {
        return vec![file.offence(0, format!("module {top} stands on no floor in tests/tidy.rs"))];
    };
    let broken = |path: &[String]| {
        let used = path.first().map_or("", String::as_str);
        let Some(used_floor) = floor(used) else {
            return Some(format!("crate::{used} is no module with a floor"));
        };
        if used == top {
            return None;
        }
        if let Some(reason) = listed(FORBIDDEN, top, used) {
            return Some(format!("{top} may not use {used}: {reason}"));
        }
        if TREE_ONLY.contains(&top) && used == "format" && path.get(1).map(String::as_str) != Some("tree") {
            return Some(format!("{top} may use only format::tree"));
        }
        if used_floor >= own_floor && listed(SIDEWAYS, top, used).is_none() {
            return Some(format!("{top} stands on floor {own_floor} and uses {used} of floor {used_floor}"));
        }
        None
    };
    crate_paths(file)
        .into_iter()
        .filter_map(|(at, path)| broken(&path).map(|message| file.offence(at, message)))
        .collect()
}

fn heavy_crates_at_home(file: &SourceFile) -> Vec<Offence> {
    let mut offences = Vec::new();
    let is_home =
        |home: &str| file.path == format!("{home}.rs") || file.path.starts_with(&format!("{home}/"));
    for (name, homes) in HOMES {
        if homes.iter().any(|home| is_home(home)) {
            continue;
        }
        for at in SourceFile::find_words(&file.program, name) {
            let before = file.program[..at].trim_end();
            let after = &file.program[at + name.len()..];
            let is_path = after.starts_with("::") && !before.ends_with("::");
            let is_import = before.ends_with("use") && !before.ends_with("reuse");
            if is_path || is_import {
                offences.push(file.offence(at, format!("{name} is at home in {}", homes.join(" and "))));
            }
        }
    }
    offences
}

fn codecs_are_pure(file: &SourceFile) -> Vec<Offence> {
    if !PURE.contains(&file.top()) {
        return Vec::new();
    }
    let message = |name: &&str| format!("a codec is pure and cannot use {name}");
    IMPURE.iter().flat_map(|name| file.forbid(&file.program, name, &message(name))).collect()
}

fn files_through_their_modules(file: &SourceFile) -> Vec<Offence> {
    if FILE_USERS.contains(&file.top()) {
        return Vec::new();
    }
    file.forbid(&file.program, "std::fs", "only cli, clock, index, source, storage and target open files")
}

fn time_through_the_clock(file: &SourceFile) -> Vec<Offence> {
    if file.top() == "clock" {
        return Vec::new();
    }
    file.forbid(&file.program, "SystemTime::now", "only clock asks for the time")
}

fn only_cli_prints(file: &SourceFile) -> Vec<Offence> {
    if file.top() == "cli" {
        return Vec::new();
    }
    let prints = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];
    prints.iter().flat_map(|name| file.forbid(&file.program, name, "only cli prints")).collect()
}

fn file_length(file: &SourceFile) -> Vec<Offence> {
    let lines = file.program.trim_end().lines().count();
    if lines < FILE_LINES_MAX {
        return Vec::new();
    }
    vec![Offence {
        line: lines,
        message: format!("{lines} lines without tests; the limit is {FILE_LINES_MAX}"),
    }]
}

fn function_length(file: &SourceFile) -> Vec<Offence> {
    let mut offences = Vec::new();
    for at in SourceFile::find_words(&file.code, "fn ") {
        let body = &file.code[at..];
        if body.find(['{', ';']).is_none_or(|at| body[at..].starts_with(';')) {
            continue;
        }
        let lines = body[..block_end(body).unwrap_or(body.len())].matches('\n').count() + 1;
        if lines >= FUNCTION_LINES_MAX {
            offences.push(
                file.offence(at, format!("a function of {lines} lines; the limit is {FUNCTION_LINES_MAX}")),
            );
        }
    }
    offences
}

fn ascii_only(file: &SourceFile) -> Vec<Offence> {
    let lines = file.text.lines().zip(1..);
    lines
        .filter(|(text, _)| !text.is_ascii())
        .map(|(_, line)| Offence {
            line,
            message: "sources are ASCII; write \\u{...} in literals".to_owned(),
        })
        .collect()
}

fn nothing_left_undone(file: &SourceFile) -> Vec<Offence> {
    // Put together here, so that this file keeps its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let in_text = file.text.lines().zip(1..).flat_map(|(text, line)| {
        let left = marks.iter().filter(move |mark| !SourceFile::find_words(text, mark).is_empty());
        left.map(move |mark| Offence { line, message: format!("{mark} is left over") })
    });
    let macros = ["todo!", "unimplemented!"];
    let in_code =
        macros.iter().flat_map(|name| file.forbid(&file.code, name, "something is not written yet"));
    in_text.chain(in_code).collect()
}

fn module_doc(file: &SourceFile) -> Vec<Offence> {
    let first = file.text.lines().next().unwrap_or("");
    if first.starts_with("//! ") {
        return Vec::new();
    }
    vec![Offence { line: 1, message: "the file does not begin with a module doc".to_owned() }]
}

fn no_allow(file: &SourceFile) -> Vec<Offence> {
    let message = "an exception is #[expect(lint, reason = ...)], never allow";
    ["#[allow", "#![allow"].iter().flat_map(|text| file.forbid(&file.code, text, message)).collect()
}

fn no_unwrap(file: &SourceFile) -> Vec<Offence> {
    file.forbid(&file.program, ".unwrap()", "no unwrap outside tests")
}

fn unsafe_in_one_file(file: &SourceFile) -> Vec<Offence> {
    if file.path == "src/storage/mapped.rs" {
        return Vec::new();
    }
    file.forbid(&file.code, "unsafe", "unsafe stands in src/storage/mapped.rs only")
}

fn no_glob_of_the_crate(file: &SourceFile) -> Vec<Offence> {
    let paths = crate_paths(file).into_iter().filter(|(_, path)| path.last().is_some_and(|last| last == "*"));
    paths.map(|(at, _)| file.offence(at, "a glob of the crate hides what is used")).collect()
}

fn no_mod_rs(file: &SourceFile) -> Vec<Offence> {
    if file.path.ends_with("/mod.rs") {
        return vec![file.offence(0, "foo.rs stands beside foo/; there is no mod.rs")];
    }
    Vec::new()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a folder of the package, sorted; a folder that does not exist has none.
fn files_below(folder: &str) -> Vec<SourceFile> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("the sources can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a source is UTF-8 text");
        let name = path.strip_prefix(root()).expect("the path is inside the package");
        SourceFile::new(name.to_str().expect("a source has a plain name"), &text)
    };
    paths.iter().map(read).collect()
}

fn assert_tidy(files: &[SourceFile], rules: &[Rule]) {
    assert!(!files.is_empty(), "no sources were found below {}", root().display());
    let mut complaints = Vec::new();
    for file in files {
        for offence in rules.iter().flat_map(|rule| rule(file)) {
            complaints.push(format!("{}:{}: {}", file.path, offence.line, offence.message));
        }
    }
    assert!(complaints.is_empty(), "the house is not tidy:\n{}", complaints.join("\n"));
}

#[test]
fn the_sources_keep_the_house_rules() {
    assert_tidy(&files_below("src"), SOURCE_RULES);
}

#[test]
fn every_rust_file_keeps_the_common_rules() {
    for folder in ["src", "tests", "benches", "fuzz/src", "fuzz/fuzz_targets"] {
        let files = files_below(folder);
        if !files.is_empty() {
            assert_tidy(&files, COMMON_RULES);
        }
    }
}

/// Lines on which `rule` fires.
fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    rule(&SourceFile::new(path, text)).into_iter().map(|offence| offence.line).collect()
}

#[test]
fn code_is_seen_without_comments_and_literals() {
    let text = "a /* crate::x\n*/ \"crate::y\\\"\" r#\"crate::z\"\"# '\"' 'a' &'a str b // crate::w\nc";
    let code = code_of(text);
    assert_eq!(code.len(), text.len());
    assert!(!code.contains("crate"), "{code:?}");
    let words: Vec<_> = code.split_whitespace().collect();
    assert_eq!(words, ["a", "&'a", "str", "b", "c"]);
}

#[test]
fn the_floor_rule_fires_sideways_and_up() {
    let fires = |path, text| !lines(floors, path, text).is_empty();
    assert_eq!(lines(floors, "src/compress.rs", "\nuse crate::id::X;\nuse crate::repo::Repo;\n"), [3]);
    assert!(fires("src/compress.rs", "use crate::{id::X, crypto::{Y, Z}};"));
    assert!(fires("src/compress.rs", "fn f() { crate::backup::run() }"));
    assert!(fires("src/compress/inner.rs", "use super::super::crypto::Key;"));
    assert!(fires("src/compress.rs", "use super::crypto::Key;"));
    assert!(fires(
        "src/compress.rs",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n use super::super::repo::Repo;\n}"
    ));
    assert!(fires("src/storage/local.rs", "use crate::format::tree::Entry;"));
    assert!(fires("src/index.rs", "use crate::crypto::Key;"));
    assert!(fires("src/source.rs", "use crate::{format::{tree::Entry, pack::Pack}};"));
    assert!(fires("src/newcomer.rs", ""));
    assert!(fires("src/repo.rs", "use crate::newcomer::X;"));
    assert!(!fires("src/source.rs", "use crate::format::tree::{Entry, tag};"));
    assert!(!fires("src/repo/lease.rs", "use super::X;\nuse crate::{format, storage as place, hash};"));
    assert!(!fires(
        "src/compress.rs",
        "// crate::repo::Repo\nfn f() {}\n#[cfg(test)]\nmod tests {\n use super::*;\n}"
    ));
}

#[test]
fn the_rule_of_heavy_crates_fires_away_from_home() {
    for (name, homes) in HOMES {
        let text = format!("use {name}::X;\nfn f() {{ {name}::g() }}");
        assert_eq!(lines(heavy_crates_at_home, "src/hash/inner.rs", &text), [1, 2], "{name}");
        for home in *homes {
            assert_eq!(lines(heavy_crates_at_home, &format!("{home}.rs"), &text), [], "{name}");
        }
    }
    assert_eq!(lines(heavy_crates_at_home, "src/cli.rs", "use zip;"), [1]);
    assert_eq!(lines(heavy_crates_at_home, "src/cli.rs", "use crate::target::tar::X; let tar = 1;"), []);
}

#[test]
fn the_rules_about_the_world_outside_fire() {
    let text = "use std::fs::File;\nlet now = SystemTime::now();\nprintln!();\neprintln!();\n";
    assert_eq!(lines(codecs_are_pure, "src/format/pack.rs", "let now = Instant::now();"), [1]);
    assert_eq!(lines(codecs_are_pure, "src/format/pack.rs", text), [1]);
    assert_eq!(lines(files_through_their_modules, "src/repo.rs", text), [1]);
    assert_eq!(lines(files_through_their_modules, "src/index/file.rs", text), []);
    assert_eq!(lines(time_through_the_clock, "src/cli.rs", text), [2]);
    assert_eq!(lines(time_through_the_clock, "src/clock.rs", text), []);
    assert_eq!(lines(only_cli_prints, "src/backup.rs", text), [3, 4]);
    assert_eq!(lines(only_cli_prints, "src/cli/render.rs", text), []);
}

#[test]
fn the_rules_of_length_fire_at_their_limits() {
    let body = "\n".repeat(FUNCTION_LINES_MAX - 2);
    assert_eq!(lines(function_length, "src/a.rs", &format!("\nfn f() {{{body}}}")), []);
    assert_eq!(lines(function_length, "src/a.rs", &format!("\nfn f() {{{body}\n}}")), [2]);
    assert_eq!(lines(function_length, "src/a.rs", &format!("trait T {{ fn f();{body}\n\n}}")), []);
    let file = "a\n".repeat(FILE_LINES_MAX - 1);
    assert_eq!(lines(file_length, "src/a.rs", &file), []);
    assert_eq!(lines(file_length, "src/a.rs", &format!("{file}b\n")), [FILE_LINES_MAX]);
    assert_eq!(lines(file_length, "src/a.rs", &format!("a\n#[cfg(test)]\nmod tests {{\n{file}}}")), []);
    assert_eq!(lines(file_length, "src/a/tests.rs", &format!("{file}b\n")), []);
}

#[test]
fn the_rules_of_the_text_fire() {
    assert_eq!(lines(ascii_only, "src/a.rs", "a\n// \u{e4}\n"), [2]);
    let marks = format!("// {}: x\nfn f() {{ todo!() }}\n// {}\n", concat!("TO", "DO"), concat!("FIX", "ME"));
    assert_eq!(lines(nothing_left_undone, "src/a.rs", &marks), [1, 3, 2]);
    assert_eq!(lines(nothing_left_undone, "src/a.rs", "fn f() { unimplemented!() }"), [1]);
    assert_eq!(lines(module_doc, "src/a.rs", "use b;\n"), [1]);
    assert_eq!(lines(module_doc, "src/a.rs", "//! A thing.\n"), []);
    assert_eq!(lines(no_allow, "src/a.rs", "\n#[allow(dead_code)]\n"), [2]);
    assert_eq!(lines(no_allow, "src/a.rs", "#![allow(dead_code)]\n"), [1]);
    let unwraps =
        "f().unwrap();\n#[cfg(test)]\nmod tests {\n h().unwrap(); }\ng().unwrap_or(1);\ni().unwrap();";
    assert_eq!(lines(no_unwrap, "src/a.rs", unwraps), [1, 6]);
    assert_eq!(lines(no_unwrap, "src/a.rs", "#[cfg(test)]\nmod tests;\nfn f() { g().unwrap() }"), [3]);
    assert_eq!(lines(no_unwrap, "src/a/tests.rs", unwraps), []);
    assert_eq!(lines(unsafe_in_one_file, "src/a.rs", "unsafe { f() }"), [1]);
    assert_eq!(lines(unsafe_in_one_file, "src/storage/mapped.rs", "unsafe { f() }"), []);
    assert_eq!(lines(no_glob_of_the_crate, "src/repo.rs", "use crate::*;\nuse crate::id::*;\n"), [1, 2]);
    assert_eq!(lines(no_glob_of_the_crate, "src/repo.rs", "use crate::{id::{self, *}};\n"), [1]);
    assert_eq!(lines(no_mod_rs, "src/cli/mod.rs", ""), [1]);
}
