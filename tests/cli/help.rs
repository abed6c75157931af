//! Help, completions, manual pages, wrong usage.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use crate::home::Home;

/// All commands that the program lists, as they are typed.
fn commands(home: &Home) -> Vec<Vec<String>> {
    let mut found = vec![vec![]];
    let mut at = 0;
    while let Some(command) = found.get(at).cloned() {
        let help = home.run(command.iter().map(String::as_str).chain(["--help"])).expect(0).stdout;
        // Options come behind the commands, and everything else that is indented so begins with another sign.
        let listed = help.lines().take_while(|line| !line.starts_with("Options"));
        let names = listed.filter_map(|line| line.strip_prefix("  "));
        for name in names.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())) {
            let name = name.split_whitespace().next().unwrap().to_owned();
            if name != "help" {
                found.push(command.iter().cloned().chain([name]).collect());
            }
        }
        at += 1;
    }
    found
}

#[test]
fn the_help_of_every_command_fits_eighty_columns_and_gives_an_example() {
    let home = Home::new().with("COLUMNS", "200");
    let commands = commands(&home);
    assert!(commands.len() >= 25, "{commands:?}");
    for command in commands {
        for flag in ["-h", "--help"] {
            let ran = home.run(command.iter().map(String::as_str).chain([flag])).expect(0);
            assert_eq!(ran.stderr, "");
            for line in ran.stdout.lines() {
                assert!(line.chars().count() <= 80, "{command:?} {flag}: {line:?}");
            }
            let example = ["repo"].into_iter().chain(command.iter().map(String::as_str)).collect::<Vec<_>>();
            let example = format!("\n  {}", example.join(" "));
            assert!(ran.stdout.contains(&example), "{command:?} {flag} has no example:\n{}", ran.stdout);
        }
    }
}

#[test]
fn commands_are_grouped_by_what_people_want() {
    let home = Home::new();
    for help in [home.run(["help"]), home.run(["--help"]), home.run(["-h"])] {
        let help = help.expect(0).stdout;
        assert!(help.contains("\n\nGet it back:\n  restore "), "{help}");
        assert!(!help.contains('\u{1b}'), "{help}");
        assert!(help.contains("repo backup --init ~/Documents"), "{help}");
    }
    let colours = home.run(["--help", "--color", "always"]).expect(0).stdout;
    assert!(colours.contains("Get it back:"), "{colours}");
}

#[test]
fn help_documents_every_exit_code() {
    let help = Home::new().run(["--help"]).expect(0).stdout;
    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    let codes: BTreeSet<_> = codes.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(codes, BTreeSet::from(["0", "1", "2", "3", "4", "10", "11", "12", "130"]));
}

#[test]
fn wrong_usage_is_exit_2_and_says_why_on_standard_error() {
    let home = Home::new();
    let cases: &[&[&str]] = &[
        &[],
        &["--no-such-option"],
        &["no-such-command"],
        &["completions"],
        &["completions", "tcsh2"],
        &["completions", "bash", "--password-file", "a", "--key-file", "b"],
        &["completions", "bash", "--quiet", "--verbose"],
        &["completions", "bash", "--progress", "loud"],
        &["completions", "bash", "--color"],
    ];
    for case in cases {
        let ran = home.run(*case).expect(2);
        assert_eq!(ran.stdout, "", "{case:?}");
        assert_ne!(ran.stderr, "", "{case:?}");
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let ran = Home::new().run(["--version"]).expect(0);
    assert_eq!(ran.stdout, format!("repo {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_of_every_shell_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(["completions", shell]).expect(0).stdout;
        for command in commands(&home).iter().filter_map(|command| command.last()) {
            assert!(script.contains(command.as_str()), "{shell} does not know {command}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let home = Home::new();
    home.run(["manpages", "new/folder"]).expect(0);
    for command in commands(&home) {
        let name: Vec<_> = ["repo"].into_iter().chain(command.iter().map(String::as_str)).collect();
        let page = std::fs::read_to_string(home.path(&format!("new/folder/{}.1", name.join("-"))));
        assert!(page.unwrap().contains(".SH SYNOPSIS"), "{name:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_a_sentence_with_its_cause() {
    let home = Home::new();
    home.write("file", "");
    let ran = home.run(["manpages", "file/below"]).expect(1);
    assert_eq!(
        ran.stderr,
        "repo: the manual could not be written into file/below\n  Not a directory (os error 20)\n"
    );
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let home = Home::new();
    let mut command = home.command(["completions", "bash"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    // As `cat` or `ls` would: SIGPIPE.
    assert_eq!(output.status.signal(), Some(13), "{:?}", output.status);
}

#[test]
fn results_that_cannot_be_written_are_a_failure() {
    let home = Home::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = home.command(["completions", "bash"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("repo: the results could not be written"), "{stderr}");
}
