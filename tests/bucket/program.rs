//! The program itself, with a repository in a bucket.

use std::process::{Command, Output};

use crate::stores;

struct Home {
    folder: tempfile::TempDir,
    address: String,
    place: String,
}

impl Home {
    fn new(variable: &str) -> Option<Self> {
        let address = stores::address(variable)?;
        let place = format!("s3://{}/{}", stores::BUCKET, stores::unused_prefix());
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("source")).unwrap();
        for number in 0..40 {
            let path = folder.path().join(format!("source/file-{number}"));
            std::fs::write(path, format!("line {number}\n").repeat(number * 50)).unwrap();
        }
        Some(Self { folder, address, place })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_repo"));
        command
            .args(arguments)
            .env_clear()
            .current_dir(self.folder.path())
            .env("KLUIS_REPO", &self.place)
            .env("KLUIS_CACHE_DIR", self.folder.path().join("cache"))
            .env("KLUIS_KEY_FILE", self.folder.path().join("key"))
            .env("AWS_ENDPOINT_URL", &self.address)
            .env("AWS_ACCESS_KEY_ID", stores::KEY.0)
            .env("AWS_SECRET_ACCESS_KEY", stores::KEY.1);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn requests(&self) -> serde_json::Value {
        let text = self.run(&["stats", "--requests", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        report["requests"].as_array().unwrap().last().unwrap().clone()
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn from_init_to_prune(variable: &str) {
    let Some(home) = Home::new(variable) else { return };
    home.run(&["backup", "--init", "source"]);
    std::fs::write(home.folder.path().join("source/new"), "new").unwrap();
    home.run(&["backup", "source"]);
    home.run(&["restore", "latest:/", "--target", "target"]);
    let restored = home.folder.path().join("target").join(home.folder.path().strip_prefix("/").unwrap());
    for entry in std::fs::read_dir(home.folder.path().join("source")).unwrap() {
        let path = entry.unwrap().path();
        let there = restored.join("source").join(path.file_name().unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(there).unwrap(), "{}", path.display());
    }
    home.run(&["check", "--data"]);
    home.run(&["forget", "--keep-last", "1", "--prune"]);
    home.run(&["scrub"]);
    home.run(&["doctor"]);
    assert_eq!(home.run(&["snapshots", "--json"]).matches("\"id\"").count(), 1);
    // Another computer, or one whose cache is gone.
    std::fs::remove_dir_all(home.folder.path().join("cache")).unwrap();
    home.run(&["check", "--data"]);
}

#[test]
fn rados_holds_a_repository_from_init_to_prune() {
    from_init_to_prune(stores::RADOS);
}

#[test]
fn moto_holds_a_repository_from_init_to_prune() {
    from_init_to_prune(stores::MOTO);
}

#[test]
fn a_second_backup_of_an_unchanged_tree_reads_nothing_but_listings() {
    let Some(home) = Home::new(stores::RADOS) else { return };
    home.run(&["backup", "--init", "source"]);
    home.run(&["backup", "source"]);
    home.run(&["backup", "source"]);
    let requests = home.requests();
    assert_eq!(requests["command"], "backup");
    assert_eq!((requests["gets"].as_u64(), requests["repeated"].as_u64()), (Some(0), Some(0)), "{requests}");
    let all = |name: &str| requests[name].as_u64().unwrap();
    assert!(all("puts") + all("heads") + all("lists") + all("deletes") <= 24, "{requests}");
}

/// The policy for Ceph in the guide, for the users and the bucket of the tests.
fn policy_of_the_guide(bucket: &str) -> String {
    let guide = include_str!("../../docs/guide.md");
    let mut blocks = guide.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let policy = blocks.find(|block| block.contains("user/admin")).unwrap();
    policy.replace("user/admin", "user/test").replace(":::backups", &format!(":::{bucket}"))
}

/// A request of the owner of all buckets.
fn curl(address: &str, arguments: &[&str], body: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, body.as_bytes()).unwrap();
    let sum = Command::new("sha256sum").arg(file.path()).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let output = Command::new("curl")
        .args(["-fsS", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user"])
        .arg(format!("{}:{}", stores::KEY.0, stores::KEY.1))
        .arg("-H")
        .arg(format!("x-amz-content-sha256:{}", sum.split_whitespace().next().unwrap()))
        .args(["-X", "PUT", "--data-binary"])
        .arg(format!("@{}", file.path().display()))
        .args(arguments.iter().map(|argument| argument.replace("ADDRESS", address)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn a_key_that_may_only_create_list_and_read_is_enough_for_backups() {
    const RIGHTS: &str = "kluis-rights";
    let Some(mut home) = Home::new(stores::RADOS) else { return };
    curl(&home.address, &["ADDRESS/kluis-rights"], "");
    curl(&home.address, &["ADDRESS/kluis-rights?policy="], &policy_of_the_guide(RIGHTS));
    home.place = format!("s3://{RIGHTS}/web/{}", stores::unused_prefix());
    home.run(&["init"]);
    let as_web = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("AWS_ACCESS_KEY_ID", "webaccess").env("AWS_SECRET_ACCESS_KEY", "websecret0123456789");
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned() + &told(&output))
    };
    for _ in 0..2 {
        let (code, text) = as_web(&["backup", "source"]);
        assert_eq!(code, 0, "{text}");
    }
    assert_eq!(as_web(&["restore", "latest", "--target", "target"]).0, 0);
    let (code, text) = as_web(&["doctor"]);
    assert!(code == 0 && text.contains("this key cannot delete"), "{text}");
    // It can neither prune nor forget for good.
    let (code, text) = as_web(&["prune"]);
    assert!(code == 1 && text.contains("AccessDenied") && text.contains("hint: the access key"), "{text}");
    home.run(&["forget", "--keep-last", "1", "--prune"]);
    home.run(&["check", "--data"]);
    assert!(home.run(&["doctor"]).contains("this key can delete and overwrite"));
}

/// Variables that are set, the exit code, and what is told.
type Case<'a> = (&'a [(&'a str, &'a str)], i32, &'a str);

#[test]
fn failures_say_which_bucket_and_what_to_look_at() {
    let Some(home) = Home::new(stores::RADOS) else { return };
    home.run(&["init"]);
    let cases: [Case<'_>; 5] = [
        (&[("AWS_SECRET_ACCESS_KEY", "wrong")], 1, "AWS_SECRET_ACCESS_KEY"),
        (&[("AWS_ACCESS_KEY_ID", "nobody")], 1, "AWS_ACCESS_KEY_ID"),
        (&[("KLUIS_REPO", "s3://no-such-bucket/x")], 10, "no bucket no-such-bucket"),
        (&[("KLUIS_REPO", "s3://kluis-test/nothing-here")], 10, "repo init"),
        (&[("AWS_ENDPOINT_URL", "localhost")], 2, "address of a store"),
    ];
    for (variables, code, word) in cases {
        let output = home.command(&["snapshots"]).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        assert!(told(&output).contains(word), "{}", told(&output));
        assert!(!told(&output).contains('<'), "no XML: {}", told(&output));
    }
    // The bucket is there, and so is the repository.
    assert_eq!(home.command(&["init"]).output().unwrap().status.code(), Some(1));
}
