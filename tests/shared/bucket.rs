//! Stores that speak S3, for tests: which ones there are is said by the environment, and `scripts/test` starts them.
//!
//! | Variable | Store |
//! | --- | --- |
//! | `KLUIS_TEST_S3_RADOS` | a Ceph RADOS Gateway: a real one |
//! | `KLUIS_TEST_S3_MOTO` | moto: answers as Amazon does, keeps nothing |
//!
//! Each holds an address such as `http://127.0.0.1:7480`. The bucket [`BUCKET`] exists there, and [`KEY`] opens it.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use kluis::storage::{Patience, S3Credentials, S3Options};

pub const RADOS: &str = "KLUIS_TEST_S3_RADOS";
pub const MOTO: &str = "KLUIS_TEST_S3_MOTO";
pub const BUCKET: &str = "kluis-test";
pub const KEY: (&str, &str) = ("testaccess", "testsecret0123456789");

/// Address of a store. Without one the test is skipped, and says so past the capture of the test harness.
pub fn address(variable: &str) -> Option<String> {
    let address = std::env::var(variable).ok().filter(|address| !address.is_empty());
    if address.is_none() {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name}, for {variable} names no store");
    }
    address
}

/// A prefix that no other test uses, in this run or another.
pub fn unused_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    format!("{now:x}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How to reach a new, empty prefix in the bucket of the store at `address`.
pub fn options(address: &str) -> S3Options {
    S3Options {
        bucket: BUCKET.to_owned(),
        prefix: unused_prefix(),
        region: "us-east-1".to_owned(),
        endpoint: Some(address.to_owned()),
        virtual_host: false,
        credentials: S3Credentials::Key {
            id: KEY.0.to_owned(),
            secret: KEY.1.to_owned().into(),
            token: None,
        },
        ca_bundle: None,
        upload_limit: None,
        download_limit: None,
        patience: Patience {
            total: Duration::from_secs(30),
            first_contact: Duration::from_millis(300),
            pause: Duration::from_millis(5),
            pause_max: Duration::from_millis(100),
            stall: Duration::from_secs(10),
        },
    }
}
