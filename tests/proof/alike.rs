//! New files that resemble something else than an earlier version of their own path: what that saves, and that contents
//! are read and come back all the same.

use std::fs;
use std::path::Path;

use kluis::backup::{self, BackupError, BackupOptions, BackupReport, StreamSource};
use kluis::event::Silent;
use tempfile::TempDir;

use crate::bases::Nights;
use crate::fixture::{noise, options, snapshot_of, snapshots, write};
use crate::tree::{assert_same, capture, file_bytes, read_snapshot};

/// Bytes of a file that several workers share.
const LARGE_BYTES: usize = 6 << 20;

/// What compresses to half, and is like nothing else.
fn text(len: usize, seed: u64) -> Vec<u8> {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    noise(len / 2, seed).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The same with a byte changed in every chunk, and some in front.
fn changed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    (0..bytes.len()).step_by(3000).for_each(|at| bytes[at] = b'x');
    [b"in front".as_slice(), &bytes].concat()
}

/// Backs up, and makes sure that what was stored is what is there.
fn back_up(nights: &Nights) -> BackupReport {
    let report = nights.back_up(3);
    let snapshot = snapshot_of(&nights.repo, &report);
    assert_same(&capture(nights.root()), &read_snapshot(&nights.repo, &snapshot, nights.root()));
    nights.assert_sound();
    report
}

/// What is new was read and stored in a tenth of what it takes by itself, or less.
fn assert_resembled(report: &BackupReport, bytes: usize) {
    assert!(report.bytes_read >= bytes as u64 && report.bytes_new >= bytes as u64 / 2, "{report:?}");
    assert!(report.bytes_stored < bytes as u64 / 20, "{report:?}");
}

#[test]
fn a_dump_with_the_date_in_its_name_rests_on_that_of_the_night_before() {
    for size in [200_000, LARGE_BYTES] {
        let nights = Nights::new();
        let dump = text(size, 1);
        write(nights.root(), "db_2026-11-19.sql", &dump);
        write(nights.root(), "www_2026-11-19.sql", &text(size, 2));
        back_up(&nights);
        // Beside it.
        let dump = changed(&dump);
        write(nights.root(), "db_2026-11-20.sql", &dump);
        assert_resembled(&back_up(&nights), size);
        // Instead of it.
        fs::remove_file(nights.root().join("db_2026-11-19.sql")).unwrap();
        fs::remove_file(nights.root().join("db_2026-11-20.sql")).unwrap();
        write(nights.root(), "db_2026-11-21.sql", &changed(&dump));
        assert_resembled(&back_up(&nights), size);
    }
}

#[test]
fn an_image_that_was_copied_beside_itself_and_changed_rests_on_the_first() {
    let nights = Nights::new();
    let image = text(LARGE_BYTES, 3);
    write(nights.root(), "machines/web.qcow2", &image);
    back_up(&nights);
    write(nights.root(), "machines/web-copy.qcow2", &changed(&image));
    assert_resembled(&back_up(&nights), LARGE_BYTES);
}

#[test]
fn a_file_that_was_renamed_and_changed_rests_on_what_it_was() {
    let nights = Nights::new();
    let contents = text(100_000, 4);
    write(nights.root(), "folder/chapter.txt", &contents);
    write(nights.root(), "folder/other.txt", &text(100_000, 5));
    back_up(&nights);
    fs::rename(nights.root().join("folder/chapter.txt"), nights.root().join("folder/story.md")).unwrap();
    write(nights.root(), "folder/story.md", &changed(&contents));
    assert_resembled(&back_up(&nights), 100_000);
}

#[test]
fn a_large_file_that_was_moved_and_changed_rests_on_what_it_was() {
    let nights = Nights::new();
    let contents = text(LARGE_BYTES, 6);
    write(nights.root(), "in/some/folder/archive", &contents);
    back_up(&nights);
    fs::create_dir_all(nights.root().join("quite/another")).unwrap();
    fs::rename(nights.root().join("in/some/folder/archive"), nights.root().join("quite/another/name"))
        .unwrap();
    write(nights.root(), "quite/another/name", &changed(&contents));
    assert_resembled(&back_up(&nights), LARGE_BYTES);
}

#[test]
fn a_folder_with_the_version_in_its_name_rests_on_the_version_before() {
    let nights = Nights::new();
    let contents = |number: u64| text(10_000, 100 + number);
    for number in 0..30 {
        write(nights.root(), &format!("opt/app-1.2.3/lib/part{number}/code.c"), &contents(number));
    }
    back_up(&nights);
    for number in 0..30 {
        write(nights.root(), &format!("opt/app-1.2.4/lib/part{number}/code.c"), &changed(&contents(number)));
    }
    let report = back_up(&nights);
    assert_eq!((report.files_new, report.files_unchanged), (30, 30));
    assert!(report.bytes_new > 300_000 && report.bytes_stored < 60_000, "{report:?}");
}

#[test]
fn paths_and_streams_with_a_date_rest_on_those_of_the_night_before() {
    let nights = Nights::new();
    let dump = text(LARGE_BYTES, 7);
    let back_up = |name: &str, bytes: &[u8]| {
        let folder = TempDir::new_in(nights.root()).unwrap();
        fs::write(folder.path().join("file"), bytes).unwrap();
        let path = nights.root().join(name);
        fs::rename(folder.path().join("file"), &path).unwrap();
        backup::run(&nights.repo, &options(&path), &Silent::default()).unwrap()
    };
    back_up("db_2026-11-19.sql", &dump);
    let report = back_up("db_2026-11-20.sql", &changed(&dump));
    assert_eq!(report.parent_id, None);
    assert_resembled(&report, LARGE_BYTES);

    let stream = |name: &'static str, bytes: Vec<u8>| {
        let mut source = Stream { name, bytes: std::io::Cursor::new(bytes) };
        let options = BackupOptions { sources: vec![], ..options(Path::new("/")) };
        backup::run_stream(&nights.repo, &options, &mut source, &Silent::default()).unwrap()
    };
    let dump = text(LARGE_BYTES, 8);
    stream("all_2026-11-19.sql", dump.clone());
    let report = stream("all_2026-11-20.sql", changed(&dump));
    assert_resembled(&report, LARGE_BYTES);
    let reader = kluis::repo::TreeReader::new(std::sync::Arc::new(nights.repo.chunk_reader().unwrap()));
    let root = snapshot_of(&nights.repo, &report).root;
    let entry = reader.find(root, b"all_2026-11-20.sql").unwrap().unwrap();
    assert_eq!(file_bytes(&reader, &entry), changed(&dump));
}

struct Stream {
    name: &'static str,
    bytes: std::io::Cursor<Vec<u8>>,
}

impl StreamSource for Stream {
    fn name(&self) -> &str {
        self.name
    }

    fn reader(&mut self) -> &mut dyn std::io::Read {
        &mut self.bytes
    }

    fn finish(&mut self) -> Result<(), BackupError> {
        Ok(())
    }
}

#[test]
fn what_is_new_and_like_nothing_stands_by_itself() {
    let nights = Nights::new();
    // Names are alike, and nothing else.
    write(nights.root(), "img_0001.jpg", &noise(LARGE_BYTES, 9));
    write(nights.root(), "notes_1.txt", &text(100_000, 10));
    back_up(&nights);
    write(nights.root(), "img_0002.jpg", &noise(LARGE_BYTES, 11));
    write(nights.root(), "notes_2.txt", &text(100_000, 12));
    let report = back_up(&nights);
    assert!(report.bytes_stored > LARGE_BYTES as u64);
    assert_eq!(nights.data_depths().len(), 1);
}

#[test]
fn small_files_that_are_not_like_their_earlier_versions_do_not_spoil_the_others() {
    let nights = Nights::new();
    for number in 0..100 {
        write(nights.root(), &format!("alike/{number}"), &text(4000, 200 + number));
        write(nights.root(), &format!("other/{number}"), &noise(4000, 400 + number));
    }
    back_up(&nights);
    for number in 0..100 {
        write(nights.root(), &format!("alike/{number}"), &changed(&text(4000, 200 + number)));
        write(nights.root(), &format!("other/{number}"), &noise(4000, 600 + number));
    }
    let report = back_up(&nights);
    // The others take what they take; those that are alike take nearly nothing.
    assert!(report.bytes_stored < 100 * 4000 + 60_000, "{report:?}");
    assert_eq!(snapshots(&nights.repo).len(), 2);
}
