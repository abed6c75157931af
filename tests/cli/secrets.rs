//! Where the passphrase comes from, and being asked to stop while it is fetched.

use crate::home::Home;

#[test]
fn without_a_passphrase_and_a_terminal_the_error_names_the_variables() {
    let ran = Home::new().run(["init"]).expect(1);
    for what in ["PASSWORD_FILE", "PASSWORD_COMMAND", "PASSWORD", "KEY_FILE"] {
        assert!(ran.stderr.contains(&format!("KLUIS_{what}")), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_source_that_gives_no_passphrase_is_named() {
    let home = Home::new();
    home.write("empty", "");
    let cases = [
        (["init", "--password-file", "missing"], "repo: the passphrase file missing could not be read\n"),
        (["init", "--password-file", "empty"], "repo: the file empty gave an empty passphrase\n"),
        (
            ["init", "--password-command", "exit 3"],
            "repo: the passphrase command exit 3 ended with exit status: 3\n",
        ),
    ];
    for (args, sentence) in cases {
        let ran = home.run(args).expect(1);
        assert!(ran.stderr.starts_with(sentence), "{}", ran.stderr);
    }
}

#[test]
fn an_option_beats_a_variable_that_would_fail() {
    let home = Home::new().with("KLUIS_PASSWORD_FILE", "/missing");
    let ran = home.run(["init", "--password-command", "exit 3"]).expect(1);
    assert!(ran.stderr.contains("exit 3"), "{}", ran.stderr);
}

#[test]
fn a_place_that_this_version_cannot_reach_is_wrong_usage() {
    let home = Home::new().with("KLUIS_REPO", "sftp://host/folder").with("KLUIS_PASSWORD", "secret");
    let ran = home.run(["init"]).expect(2);
    assert!(ran.stderr.contains("sftp:// are not supported\nhint: "), "{}", ran.stderr);
}

#[test]
fn the_first_request_to_stop_is_obeyed_in_good_order() {
    for signal in ["INT", "TERM", "HUP"] {
        let command = format!("kill -{signal} $PPID; echo secret");
        let ran = Home::new().run(["init", "--password-command", &command]).expect(130);
        assert_eq!(ran.stderr, "repo: interrupted\n");
    }
}

#[test]
fn the_second_request_to_stop_ends_the_program_at_once() {
    // The command never ends by itself while the program lives.
    let command = "exec 2>/dev/null; kill -INT $PPID; kill -TERM $PPID; while kill -0 $PPID; do :; done";
    let ran = Home::new().run(["init", "--password-command", command]).expect(130);
    assert_eq!(ran.stderr, "");
}
