//! Walking: order, look-ahead, exclusions, and trees that are made to be difficult.

use super::*;
use crate::format::tree::{Content, tag};
use crate::source::fixture::{Tree, exists, find, is_root, list, names, visit};
use crate::source::{ExcludesBuilder, Root};

fn options(threads: usize, entries_ahead_max: usize) -> WalkOptions {
    WalkOptions { threads, entries_ahead_max, ..WalkOptions::default() }
}

fn with_excludes(build: impl FnOnce(&mut ExcludesBuilder)) -> WalkOptions {
    let mut builder = ExcludesBuilder::new();
    build(&mut builder);
    WalkOptions { excludes: builder.build().unwrap(), ..options(1, 100) }
}

/// Folders within folders: `width` in each, `depth` levels, with a file beside each folder.
fn bushy(tree: &Tree, at: &str, width: usize, depth: usize) {
    for number in 0..width {
        let below = format!("{at}{number}");
        tree.folder(&below).file(&format!("{below}.file"), "");
        if depth > 1 {
            bushy(tree, &format!("{below}/"), width, depth - 1);
        }
    }
}

#[test]
fn places_are_ordered_depth_first_by_name() {
    let ordered: [&[u8]; 8] = [b"", b"a", b"a/b", b"a/b/c", b"a/z", b"a b", b"a-b/c", b"b"];
    for (at, one) in ordered.iter().enumerate() {
        for (other_at, other) in ordered.iter().enumerate() {
            assert_eq!(depth_first(one, other), at.cmp(&other_at), "{one:?} {other:?}");
        }
    }
}

#[test]
fn every_number_of_walkers_and_every_bound_finds_the_same() {
    let tree = Tree::new();
    bushy(&tree, "", 4, 4);
    let expected = tree.walked(options(0, 1));
    assert_eq!(expected.len(), 2 * (4 + 16 + 64 + 256));
    for threads in [1, 2, 5] {
        for entries_ahead_max in [0, 1, 2, 30, 100_000] {
            let found = tree.walked(options(threads, entries_ahead_max));
            assert_eq!(found, expected, "{threads} walkers, {entries_ahead_max} ahead");
        }
    }
}

#[test]
fn what_is_listed_ahead_is_bounded_and_comes_in_the_order_of_asking() {
    let tree = Tree::new();
    bushy(&tree, "", 6, 3);
    let root = tree.root();
    let walk = Walk::start(options(1, 30));
    let listing = walk.list(&root).unwrap();
    assert_eq!(listing.entries.len(), 12);
    let shared = &walk.shared;
    let mut state = shared.lock();
    // The only walker is idle again when nothing more may be begun.
    while state.walkers_idle == 0 || state.entries_held < 30 {
        drop(state);
        std::thread::yield_now();
        state = shared.lock();
    }
    // Two folders of 12 entries, and four empty ones: each counts one more than its entries.
    assert_eq!(state.entries_held, 30);
    let held: Vec<_> = state.done.keys().map(|place| place.0.relative().to_vec()).collect();
    let expected: [&[u8]; 6] = [b"0", b"0/0", b"0/0/0", b"0/0/1", b"0/0/2", b"0/0/3"];
    assert_eq!(held, expected);
}

#[test]
fn folders_that_are_not_asked_for_do_not_stop_the_walk() {
    let tree = Tree::new();
    bushy(&tree, "", 5, 3);
    let root = tree.root();
    let walk = Walk::start(options(2, 8));
    walk.list(&root).unwrap();
    for number in [1, 3, 4] {
        let folder = root.child(number.to_string().as_bytes());
        assert_eq!(walk.list(&folder).unwrap().entries.len(), 10);
    }
    let state = walk.shared.lock();
    let position = Place(root.child(b"4"));
    assert!(state.done.keys().chain(&state.pending).all(|place| *place > position));
}

#[test]
fn one_walk_serves_several_roots() {
    let (one, other) = (Tree::new(), Tree::new());
    bushy(&one, "", 3, 2);
    bushy(&other, "", 2, 3);
    let walk = Walk::start(options(2, 1000));
    let mut count = 0;
    for tree in [&one, &other, &one] {
        visit(&walk, &tree.root(), &mut |_, listing| count += listing.entries.len());
    }
    assert_eq!(count, 2 * (3 + 9) * 2 + 2 * (2 + 4 + 8));
    let state = walk.shared.lock();
    assert!(state.pending.is_empty() && state.done.is_empty());
}

#[test]
fn a_walk_can_be_dropped_in_the_middle() {
    let tree = Tree::new();
    bushy(&tree, "", 5, 3);
    let walk = Walk::start(options(3, 50));
    walk.list(&tree.root()).unwrap();
    let shared = Arc::downgrade(&walk.shared);
    drop(walk);
    assert!(shared.upgrade().is_none(), "a walker is still there");
}

#[test]
fn strange_names_are_listed_in_the_order_of_their_bytes() {
    let tree = Tree::new();
    let long = [b'n'; 255];
    let strange: [&[u8]; 9] =
        [b"\n", b" ", b"\xff\xfe", b"\xc3\xa9", b"e\xcc\x81", b"...", b"-rf", b"a\\b", &long];
    for name in strange {
        std::fs::write(tree.path_bytes(name), name).unwrap();
    }
    let listing = list(&tree.root(), options(0, 1));
    let mut expected = strange.to_vec();
    expected.sort_unstable();
    assert_eq!(names(&listing), expected);
    assert!(listing.problems.is_empty());
}

#[test]
fn every_kind_of_entry_is_told() {
    let tree = Tree::new();
    tree.file("file", "12345").folder("folder").link("link", "no/where").fifo("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
    let listing = list(&tree.root(), options(0, 1));
    let kinds: Vec<_> = listing.entries.iter().map(|found| found.entry.kind).collect();
    use EntryKind::{Directory, Fifo, File, Socket, Symlink};
    assert_eq!(kinds, [Fifo, File, Directory, Symlink, Socket]);
    let link = &find(&listing, "link").entry;
    assert_eq!(link.content, Content::LinkTarget(b"no/where".as_slice().into()));
    assert_eq!((find(&listing, "file").entry.size, link.size), (5, 0));

    let (_, null) = Root::open("/dev/null".as_ref()).unwrap();
    assert_eq!((null.entry.kind, null.entry.content), (EntryKind::CharDevice, Content::Device(1, 3)));
}

#[test]
fn metadata_is_what_the_system_says() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let tree = Tree::new();
    tree.file("file", "12345");
    std::fs::set_permissions(tree.path("file"), PermissionsExt::from_mode(0o4751)).unwrap();
    let listing = list(&tree.root(), options(0, 1));
    let found = find(&listing, "file");
    let expected = std::fs::metadata(tree.path("file")).unwrap();
    let entry = &found.entry;
    assert_eq!((entry.mode, entry.uid, entry.gid), (0o4751, expected.uid(), expected.gid()));
    assert_eq!((entry.inode, found.device), (expected.ino(), expected.dev()));
    assert_eq!(
        (entry.mtime.seconds, i64::from(entry.mtime.nanoseconds)),
        (expected.mtime(), expected.mtime_nsec())
    );
    assert_eq!(
        (entry.ctime.seconds, i64::from(entry.ctime.nanoseconds)),
        (expected.ctime(), expected.ctime_nsec())
    );
    assert_eq!(found.allocated_bytes, expected.blocks() * 512);
}

#[test]
fn only_entries_with_several_names_are_marked_as_hard_links() {
    let tree = Tree::new();
    tree.file("one", "x").file("alone", "x").folder("folder/inner");
    std::fs::hard_link(tree.path("one"), tree.path("two")).unwrap();
    let listing = list(&tree.root(), options(0, 1));
    let mark = |name| find(&listing, name).entry.extension(tag::HARD_LINK);
    assert!(mark("one").is_some());
    assert_eq!(mark("one"), mark("two"));
    assert_eq!(find(&listing, "one").entry.inode, find(&listing, "two").entry.inode);
    assert_eq!(find(&listing, "one").link_count, 2);
    assert_eq!((mark("alone"), mark("folder")), (None, None));
}

#[test]
fn four_thousand_folders_inside_each_other_can_be_walked() {
    const DEPTH: usize = 4096;
    let tree = Tree::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
    let mut at = rustix::fs::open(tree.path(""), flags, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&at, "dd", mode).unwrap();
        at = rustix::fs::openat(&at, "dd", flags, rustix::fs::Mode::empty()).unwrap();
    }
    let walk = Walk::start(options(2, 1000));
    let mut folder = tree.root();
    for _ in 0..DEPTH {
        assert_eq!(names(&walk.list(&folder).unwrap()), [b"dd"]);
        folder = folder.child(b"dd");
    }
    assert!(walk.list(&folder).unwrap().entries.is_empty());
    assert!(folder.relative().len() > 4096);

    // A path of this length can be backed up by itself too.
    let (root, found) = Root::open(&folder.path()).unwrap();
    assert_eq!(found.entry.kind, EntryKind::Directory);
    assert!(walk.list(&FolderPath::root(root)).unwrap().entries.is_empty());
    // The standard library would keep as many folders open as there are levels.
    let removed = std::process::Command::new("rm").arg("-rf").arg(tree.path("dd")).status();
    assert!(removed.is_ok_and(|status| status.success()));
}

#[test]
fn excluded_entries_are_counted_and_nothing_below_them_is_seen() {
    let tree = Tree::new();
    tree.file("keep/a.txt", "").file("keep/b.o", "").file("target/x/y", "").file("src/target/z", "");
    let found = tree.walked(with_excludes(|excludes| {
        excludes.exclude("*.o").unwrap().exclude("/target/").unwrap();
    }));
    assert_eq!(found, ["keep", "src", "keep/a.txt", "src/target", "src/target/z"]);

    let options = with_excludes(|excludes| {
        excludes.exclude("target").unwrap();
    });
    assert_eq!(list(&tree.root(), options).excluded, 1);
}

#[test]
fn nothing_can_be_taken_back_inside_an_excluded_folder() {
    let tree = Tree::new();
    tree.file("a/keep", "").file("b/keep", "").file("b/drop", "");
    let found = tree.walked(with_excludes(|excludes| {
        for pattern in ["/a", "!/a/keep", "/b/*", "!/b/keep"] {
            excludes.exclude(pattern).unwrap();
        }
    }));
    assert_eq!(found, ["b", "b/keep"]);
}

#[test]
fn of_a_cache_only_the_tag_is_kept() {
    let tree = Tree::new();
    let signature = "Signature: 8a477f597d28d172789f06886806bc55\n# made by a test\n";
    tree.file("cache/CACHEDIR.TAG", signature).file("cache/deep/x", "").file("cache/y", "");
    tree.file("claims/CACHEDIR.TAG", "Signature: none").file("claims/x", "");
    tree.file("linked/x", "").link("linked/CACHEDIR.TAG", "../cache/CACHEDIR.TAG");
    tree.folder("blocks").fifo("blocks/CACHEDIR.TAG").file("blocks/x", "");
    let caches = || {
        with_excludes(|excludes| {
            excludes.exclude_caches();
        })
    };
    let mut found = tree.walked(caches());
    found.retain(|path| path.contains('/'));
    let kept = ["cache/CACHEDIR.TAG", "claims/CACHEDIR.TAG", "claims/x", "linked/CACHEDIR.TAG", "linked/x"];
    assert_eq!(found, [&["blocks/CACHEDIR.TAG", "blocks/x"], &kept[..]].concat());
    assert_eq!(list(&tree.root().child(b"cache"), caches()).excluded, 2);
    assert_eq!(tree.walked(options(1, 100)).len(), 4 + 4 + 2 + 2 + 2 + 1 - 1);
}

#[test]
fn of_a_folder_with_a_chosen_tag_only_the_tag_is_kept() {
    let tree = Tree::new();
    tree.file("a/.nobackup", "").file("a/x", "").file("b/x", "").file("c/other", "").file("c/x", "");
    let found = tree.walked(with_excludes(|excludes| {
        excludes.exclude_if_present(".nobackup".as_ref()).unwrap();
        excludes.exclude_if_present("other".as_ref()).unwrap();
    }));
    assert_eq!(found, ["a", "b", "c", "a/.nobackup", "b/x", "c/other"]);
}

#[test]
fn files_larger_than_the_limit_are_left_out() {
    let tree = Tree::new();
    tree.file("four", "4444").file("five", "55555").folder("folder").link("link", "a target that is longer");
    let options = with_excludes(|excludes| {
        excludes.exclude_larger_than(4);
    });
    let listing = list(&tree.root(), options);
    assert_eq!(names(&listing), [&b"folder"[..], b"four", b"link"]);
    assert_eq!(listing.excluded, 1);
}

#[test]
fn the_repository_is_left_out_with_a_note() {
    let tree = Tree::new();
    tree.file("repository/data", "").file("x", "");
    let listing = list(&tree.root(), options(0, 1));
    let repository = find(&listing, "repository");
    let skipped_folders = vec![(repository.device, repository.entry.inode)];
    let options = WalkOptions { skipped_folders, ..options(0, 1) };
    let listing = list(&tree.root(), options.clone());
    assert_eq!(names(&listing), [b"x"]);
    assert!(listing.notes[0].contains(tree.path("repository").to_str().unwrap()));

    let (root, _) = Root::open(&tree.path("repository")).unwrap();
    let listing = list(&FolderPath::root(root), options);
    assert_eq!((listing.entries.len(), listing.notes.len()), (0, 1));
}

#[test]
fn a_link_that_takes_the_place_of_a_folder_is_not_followed() {
    let tree = Tree::new();
    tree.file("secret/file", "").folder("a/b");
    let walk = Walk::start(options(0, 1));
    let folder = tree.root().child(b"a").child(b"b");
    assert!(walk.list(&folder).is_ok());
    std::fs::remove_dir(tree.path("a/b")).unwrap();
    tree.link("a/b", "../secret");
    assert!(walk.list(&folder).is_err());

    std::fs::rename(tree.path("a"), tree.path("moved")).unwrap();
    tree.folder("secret/b").link("a", "secret");
    assert!(walk.list(&folder).is_err());
}

#[test]
fn a_folder_that_vanished_is_an_error_of_its_own() {
    let tree = Tree::new();
    tree.folder("a").folder("b");
    for threads in [0, 2] {
        let walk = Walk::start(options(threads, 10));
        let folder = tree.root().child(b"gone");
        assert_eq!(walk.list(&folder).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(walk.list(&tree.root()).is_ok());
    }
}

#[test]
fn a_folder_that_may_not_be_read_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may read every folder");
        return;
    }
    let tree = Tree::new();
    tree.folder("closed");
    std::fs::set_permissions(tree.path("closed"), PermissionsExt::from_mode(0o000)).unwrap();
    let error = Walk::start(options(1, 10)).list(&tree.root().child(b"closed")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

/// A file system of its own, unmounted when dropped. `None` where the system does not allow it.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(at: std::path::PathBuf) -> Option<Mounted> {
        let mut command = std::process::Command::new("mount");
        let status = command.args(["-t", "tmpfs", "tmpfs"]).arg(&at).status();
        status.is_ok_and(|status| status.success()).then_some(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} is still mounted", self.0.display());
    }
}

#[test]
fn other_file_systems_are_kept_as_empty_folders_if_asked_for() {
    if !is_root("mounting a file system") {
        return;
    }
    let tree = Tree::new();
    tree.folder("a").folder("mounted").file("z/x", "");
    let Some(_mounted) = Mounted::tmpfs(tree.path("mounted")) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    tree.file("mounted/inner/x", "");
    assert!(exists(&tree.path("mounted/inner/x")));
    for threads in [0, 2] {
        let one = WalkOptions { one_file_system: true, ..options(threads, 100) };
        assert_eq!(tree.walked(one), ["a", "mounted", "z", "z/x"]);
        let all = tree.walked(options(threads, 100));
        assert_eq!(all, ["a", "mounted", "z", "mounted/inner", "mounted/inner/x", "z/x"]);
    }
}

#[test]
fn a_file_system_that_is_itself_asked_for_is_walked() {
    if !is_root("mounting a file system") {
        return;
    }
    let tree = Tree::new();
    let Some(_mounted) = Mounted::tmpfs(tree.path("")) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    tree.file("a/b", "");
    let one = WalkOptions { one_file_system: true, ..options(1, 100) };
    assert_eq!(tree.walked(one), ["a", "a/b"]);
}
