//! What the kernel asks, and the answers.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyXattr, Request,
};

use crate::event::{Observer, Problem, with_causes};
use crate::format::FormatError;
use crate::format::tree::{Content, Entry, XattrSet, tag};
use crate::limits;
use crate::mount::ahead::{AHEAD_BYTES, Ahead};
use crate::mount::look::{FoundEntry, Seen, Tree};
use crate::mount::names::Child;
use crate::mount::numbers::{Leaf, Meaning, Numbers, Opened, offset_after, place_of};
use crate::mount::origin::Origin;
use crate::mount::top::Top;
use crate::mount::{MountOptions, Mountable, content, look};
use crate::repo::{Repo, RepoError};
use crate::wire;

/// For how long the kernel may keep what it is told of a snapshot: a day, which is as good as for ever.
const KEPT: Duration = Duration::from_secs(86_400);
/// The same for the folders at the top, in which new snapshots appear.
const KEPT_AT_TOP: Duration = Duration::from_secs(1);
/// Requests of the kernel on behalf of nobody in particular, such as reading ahead.
const BACKGROUND_COUNT_MAX: u16 = 64;
/// Files of which it is remembered that trouble with them was told.
const TOLD_COUNT_MAX: usize = 10_000;
const GENERATION: Generation = Generation(0);

/// The file system.
pub(super) struct Served {
    origin: Arc<Origin>,
    numbers: RwLock<Numbers>,
    top: Option<Top>,
    single: Option<Arc<Tree>>,
    options: MountOptions,
    opens_nothing: AtomicBool,
    ahead: Ahead,
    observer: Arc<dyn Observer>,
    told: Mutex<HashSet<u64>>,
}

/// Why there is no answer.
enum Refusal {
    Errno(Errno),
    Repo(RepoError),
}

impl From<RepoError> for Refusal {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// An entry for a listing: its name, what is told of it, and where to go on.
struct Listed<'e> {
    name: &'e [u8],
    attributes: FileAttr,
    kept: Duration,
    next: u64,
}

impl Served {
    pub(super) fn new(
        repo: Arc<Repo>,
        what: Mountable,
        options: MountOptions,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, RepoError> {
        let pieces = repo.piece_cache(options.cache_bytes, options.disk_cache_bytes);
        let origin = Arc::new(Origin::new(repo, pieces)?);
        let (mut top, mut single) = (None, None);
        let root = match what {
            Mountable::Snapshots(filter) => {
                top = Some(Top::new(&origin, filter)?);
                Meaning::Top(Arc::from([]))
            }
            Mountable::Folder(snapshot, node, shown) => {
                Meaning::Root(Arc::new(Tree { shown, ..Tree::new(&snapshot, node) }))
            }
            Mountable::Single(snapshot, entry) => {
                single = Some(Arc::new(Tree { shown: Some(entry), ..Tree::new(&snapshot, snapshot.root) }));
                Meaning::Top(Arc::from([]))
            }
        };
        let ahead = Ahead::new(&origin);
        Ok(Self {
            origin,
            numbers: RwLock::new(Numbers::new(root)),
            top,
            single,
            options,
            opens_nothing: AtomicBool::new(false),
            ahead,
            observer,
            told: Mutex::default(),
        })
    }

    fn known(&self, number: u64) -> Option<Meaning> {
        self.numbers.read().expect("no holder of this lock panics").meaning(number)
    }

    fn meaning(&self, number: u64) -> Result<Meaning, Refusal> {
        self.known(number).ok_or(Refusal::Errno(Errno::ESTALE))
    }

    fn add_top(&self, key: Vec<u8>, meaning: impl FnOnce() -> Meaning) -> u64 {
        self.numbers.write().expect("no holder of this lock panics").add_top(key, meaning)
    }

    /// The error number for whoever asked. Trouble with stored bytes is told, once for each file.
    fn errno(&self, number: u64, refusal: Refusal) -> Errno {
        let error = match refusal {
            Refusal::Errno(errno) => return errno,
            Refusal::Repo(error) => error,
        };
        let is_new = {
            let mut told = self.told.lock().expect("no holder of this lock panics");
            told.len() < TOLD_COUNT_MAX && told.insert(number)
        };
        if is_new {
            let path = look::path_of(&self.origin, |number| self.known(number), number);
            let path = PathBuf::from(OsStr::from_bytes(&path));
            self.observer.problem(&Problem { path, message: with_causes(&error) });
        }
        Errno::EIO
    }

    fn listing(&self, number: u64, top: &Top) -> Arc<crate::mount::top::Listing> {
        let (listing, outcome) = top.listing(&self.origin);
        if let Err(error) = outcome {
            // What was there before is still shown.
            let _ = self.errno(number, error.into());
        }
        listing
    }

    fn tree_attributes(&self, number: u64, tree: &Tree) -> FileAttr {
        match &tree.shown {
            Some(entry) => look::attributes(&self.origin, tree, number, entry),
            None => look::plain_folder(number, tree.started_at),
        }
    }

    /// What is told of a number, and for how long that is true.
    fn look(&self, number: u64) -> Result<(FileAttr, Duration), Refusal> {
        Ok(match self.meaning(number)? {
            Meaning::Top(_) => {
                let newest = match (&self.top, &self.single) {
                    (Some(top), _) => self.listing(number, top).trees.last().map(|tree| tree.started_at),
                    (None, single) => single.as_ref().map(|tree| tree.started_at),
                };
                (look::plain_folder(number, newest.unwrap_or_default()), KEPT_AT_TOP)
            }
            Meaning::Root(tree) => (self.tree_attributes(number, &tree), KEPT),
            Meaning::Entry(leaf, place) => {
                let seen = look::see(&self.origin, &leaf, place)?;
                let entry = seen.entry().ok_or(Refusal::Errno(Errno::ESTALE))?;
                (look::attributes(&self.origin, &leaf.tree, number, entry), KEPT)
            }
        })
    }

    /// The entry that a number means, if a snapshot has one for it.
    fn seen(&self, number: u64) -> Result<Option<Seen>, Refusal> {
        Ok(match self.meaning(number)? {
            Meaning::Top(_) => None,
            Meaning::Root(tree) => tree.shown.is_some().then_some(Seen::Shown(tree)),
            Meaning::Entry(leaf, place) => Some(look::see(&self.origin, &leaf, place)?),
        })
    }

    /// Does something with the entry of a number that must have one.
    fn with_entry<T>(
        &self,
        number: u64,
        work: impl FnOnce(&Entry) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let seen = self.seen(number)?;
        work(seen.as_ref().and_then(Seen::entry).ok_or(Refusal::Errno(Errno::EINVAL))?)
    }

    /// Opens a folder of a snapshot.
    fn opened(&self, number: u64, meaning: &Meaning) -> Result<Opened, Refusal> {
        let node = match meaning {
            Meaning::Root(tree) if tree.shown.as_ref().is_none_or(|entry| entry.folder().is_some()) => {
                Some(tree.root)
            }
            Meaning::Entry(leaf, place) => {
                look::see(&self.origin, leaf, *place)?.entry().and_then(Entry::folder)
            }
            Meaning::Top(_) | Meaning::Root(_) => None,
        };
        let node = node.ok_or(Refusal::Errno(Errno::ENOTDIR))?;
        let opened = look::open(&self.origin, &self.numbers, number, node)?;
        opened.ok_or(Refusal::Errno(Errno::ESTALE))
    }

    fn leaf_of(&self, opened: Opened, at: usize) -> Option<Leaf> {
        self.numbers.read().expect("no holder of this lock panics").leaf_of(opened, at)
    }

    fn find(&self, parent: u64, name: &[u8]) -> Result<(FileAttr, Duration), Refusal> {
        let none = || Refusal::Errno(Errno::ENOENT);
        let meaning = self.meaning(parent)?;
        if let Meaning::Top(path) = &meaning {
            return self.find_at_top(parent, path, name)?.ok_or_else(none);
        }
        let opened = self.opened(parent, &meaning)?;
        let found = look::find(&self.origin, |at| self.leaf_of(opened, at), opened, name)?;
        let FoundEntry { at, place, node, leaf } = found.ok_or_else(none)?;
        let entry = look::leaf_entries(&node).get(place).ok_or_else(none)?;
        let number = opened.number(at, place);
        Ok((look::attributes(&self.origin, &leaf.tree, number, entry), KEPT))
    }

    fn find_at_top(
        &self,
        parent: u64,
        path: &[u8],
        name: &[u8],
    ) -> Result<Option<(FileAttr, Duration)>, Refusal> {
        if let Some(tree) = &self.single {
            let is_it = tree.shown.as_ref().is_some_and(|entry| entry.name.as_slice() == name);
            return Ok(is_it.then(|| (self.single_attributes(tree), KEPT)));
        }
        let Some(top) = &self.top else { return Ok(None) };
        let listing = self.listing(parent, top);
        let child = listing.folders.get(path).and_then(|folder| folder.get(name));
        let Some(child) = child else { return Ok(None) };
        let attributes = self.child_attributes(path, name, *child, &listing.trees);
        Ok(attributes.map(|attributes| (attributes, KEPT_AT_TOP)))
    }

    fn single_attributes(&self, tree: &Arc<Tree>) -> FileAttr {
        let number = self.add_top(b"file".to_vec(), || Meaning::Root(Arc::clone(tree)));
        self.tree_attributes(number, tree)
    }

    fn child_attributes(
        &self,
        path: &[u8],
        name: &[u8],
        child: Child,
        trees: &[Arc<Tree>],
    ) -> Option<FileAttr> {
        match child {
            Child::Folder => {
                let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
                let number = self.add_top(path.clone(), || Meaning::Top(Arc::from(path)));
                let newest = trees.last().map(|tree| tree.started_at);
                Some(look::plain_folder(number, newest.unwrap_or_default()))
            }
            Child::Snapshot(at) => {
                let tree = trees.get(at)?;
                // Each place has a folder of its own: to the kernel a folder is in one place only.
                let key = [path, b"\0", tree.id.bytes()].concat();
                let number = self.add_top(key, || Meaning::Root(Arc::clone(tree)));
                Some(self.tree_attributes(number, tree))
            }
        }
    }

    /// Hands what is in a folder to `add`, from `offset` on, until that returns true.
    fn list(
        &self,
        number: u64,
        offset: u64,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<(), Refusal> {
        let meaning = self.meaning(number)?;
        let (own, kept) = self.look(number)?;
        let above = match &meaning {
            Meaning::Entry(leaf, _) => FileAttr { ino: INodeNo(leaf.folder), ..own },
            Meaning::Top(_) | Meaning::Root(_) => FileAttr { ino: INodeNo::ROOT, ..own },
        };
        for (at, name, attributes) in [(0, b".".as_slice(), own), (1, b"..".as_slice(), above)] {
            if offset <= at && add(&Listed { name, attributes, kept, next: at + 1 }) {
                return Ok(());
            }
        }
        match &meaning {
            Meaning::Top(path) => self.list_top(number, path, offset, add),
            Meaning::Root(_) | Meaning::Entry(..) => {
                let opened = self.opened(number, &meaning)?;
                self.list_leaves(opened, offset, add)
            }
        }
    }

    fn list_top(
        &self,
        number: u64,
        path: &[u8],
        offset: u64,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<(), Refusal> {
        if let Some(tree) = &self.single {
            if let Some(entry) = tree.shown.as_ref().filter(|_| offset <= 2) {
                let attributes = self.single_attributes(tree);
                add(&Listed { name: entry.name.as_slice(), attributes, kept: KEPT, next: 3 });
            }
            return Ok(());
        }
        let Some(top) = &self.top else { return Ok(()) };
        let listing = self.listing(number, top);
        let folder = listing.folders.get(path).ok_or(Refusal::Errno(Errno::ENOENT))?;
        let skip = usize::try_from(offset.saturating_sub(2)).unwrap_or(usize::MAX);
        for (at, (name, child)) in folder.iter().enumerate().skip(skip) {
            let Some(attributes) = self.child_attributes(path, name, *child, &listing.trees) else {
                continue;
            };
            if add(&Listed { name, attributes, kept: KEPT_AT_TOP, next: at as u64 + 3 }) {
                break;
            }
        }
        Ok(())
    }

    fn list_leaves(
        &self,
        opened: Opened,
        offset: u64,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<(), Refusal> {
        let (first, mut skip) = place_of(offset);
        for at in first..opened.leaf_count() {
            let leaf = self.leaf_of(opened, at).ok_or(Refusal::Errno(Errno::ESTALE))?;
            let node = self.origin.directory_node(leaf.node)?;
            for (place, entry) in look::leaf_entries(&node).iter().enumerate().skip(skip) {
                let number = opened.number(at, place);
                let attributes = look::attributes(&self.origin, &leaf.tree, number, entry);
                let (name, next) = (entry.name.as_slice(), offset_after(at, place));
                if add(&Listed { name, attributes, kept: KEPT, next }) {
                    return Ok(());
                }
            }
            skip = 0;
        }
        Ok(())
    }

    fn read(&self, number: u64, offset: u64, len: u32) -> Result<Vec<u8>, Refusal> {
        self.with_entry(number, |entry| {
            let read = content::read(&self.origin, entry, offset, len)?;
            if let Some(data_end) = read.data_end {
                let next = || content::chunk_after(&self.origin, entry, data_end, AHEAD_BYTES);
                self.ahead.has_read(number, offset, read.bytes.len() as u64, next);
            }
            Ok(read.bytes)
        })
    }

    fn xattrs(&self, number: u64) -> Result<XattrSet, Refusal> {
        let Some(seen) = self.seen(number)? else { return Ok(XattrSet::default()) };
        let bytes = seen.entry().and_then(|entry| entry.extension(tag::XATTRS));
        let Some(bytes) = bytes else { return Ok(XattrSet::default()) };
        let set = wire::decode::<XattrSet>(bytes, limits::EXTENSIONS_BYTES_MAX);
        set.map_err(|error| {
            let source = FormatError::of("extended attributes")(error).into();
            Refusal::Repo(RepoError::Damaged { name: "the entry".to_owned(), source })
        })
    }
}

/// Answers with a value of an attribute, or with its length where no room was offered.
fn answer_xattr(value: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match value {
        Err(errno) => reply.error(errno),
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
    }
}

impl Filesystem for Served {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // What an older kernel does not know it goes without.
        for wanted in
            [InitFlags::FUSE_DO_READDIRPLUS, InitFlags::FUSE_PARALLEL_DIROPS, InitFlags::FUSE_CACHE_SYMLINKS]
        {
            let _ = config.add_capabilities(wanted);
        }
        if self.options.allow_other {
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        }
        let _ = config.set_max_background(BACKGROUND_COUNT_MAX);
        // Nothing needs to be known of open files. A kernel that hears so once asks no more.
        let opens_nothing = config.capabilities().contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.opens_nothing.store(opens_nothing, Ordering::Relaxed);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent.0, name.as_bytes()) {
            Ok((attributes, kept)) => reply.entry(&kept, &attributes, GENERATION),
            Err(refusal) => reply.error(self.errno(parent.0, refusal)),
        }
    }

    fn getattr(&self, _request: &Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.look(number.0) {
            Ok((attributes, kept)) => reply.attr(&kept, &attributes),
            Err(refusal) => reply.error(self.errno(number.0, refusal)),
        }
    }

    fn readlink(&self, _request: &Request, number: INodeNo, reply: ReplyData) {
        let target = self.with_entry(number.0, |entry| match &entry.content {
            Content::LinkTarget(target) => Ok(target.as_slice().to_vec()),
            _ => Err(Refusal::Errno(Errno::EINVAL)),
        });
        match target {
            Ok(target) => reply.data(&target),
            Err(refusal) => reply.error(self.errno(number.0, refusal)),
        }
    }

    fn open(&self, _request: &Request, _number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if self.opens_nothing.load(Ordering::Relaxed) {
            reply.error(Errno::ENOSYS);
        } else {
            reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
        }
    }

    fn read(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read(number.0, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(refusal) => reply.error(self.errno(number.0, refusal)),
        }
    }

    fn lseek(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        // As in `lseek(2)`: 3 seeks data, 4 seeks a hole.
        let found = self.with_entry(number.0, |entry| match (u64::try_from(offset), whence) {
            (Ok(offset), 3 | 4) => Ok(content::seek(entry, offset, whence == 3)?),
            (Ok(_) | Err(_), _) => Err(Refusal::Errno(Errno::EINVAL)),
        });
        match found {
            Ok(Some(found)) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(refusal) => reply.error(self.errno(number.0, refusal)),
        }
    }

    fn opendir(&self, _request: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = match self.known(number.0) {
            Some(Meaning::Root(_) | Meaning::Entry(..)) => {
                FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
            }
            Some(Meaning::Top(_)) | None => FopenFlags::empty(),
        };
        reply.opened(FileHandle(0), flags);
    }

    fn readdir(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let outcome = self.list(number.0, offset, &mut |listed| {
            let FileAttr { ino, kind, .. } = listed.attributes;
            reply.add(ino, listed.next, kind, OsStr::from_bytes(listed.name))
        });
        match outcome {
            Ok(()) => reply.ok(),
            Err(refusal) => reply.error(self.errno(number.0, refusal)),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let outcome = self.list(number.0, offset, &mut |listed| {
            let Listed { name, attributes, kept, next } = listed;
            reply.add(attributes.ino, *next, OsStr::from_bytes(name), kept, attributes, GENERATION)
        });
        match outcome {
            Ok(()) => reply.ok(),
            Err(refusal) => reply.error(self.errno(number.0, refusal)),
        }
    }

    fn getxattr(&self, _request: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.xattrs(number.0).and_then(|set| {
            let found = set.xattrs.into_iter().find(|xattr| xattr.name.as_slice() == name.as_bytes());
            found.map(|xattr| xattr.value.as_slice().to_vec()).ok_or(Refusal::Errno(Errno::ENODATA))
        });
        answer_xattr(value.map_err(|refusal| self.errno(number.0, refusal)), size, reply);
    }

    fn listxattr(&self, _request: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let names = self.xattrs(number.0).map(|set| {
            let names = set.xattrs.iter().map(|xattr| [xattr.name.as_slice(), b"\0"].concat());
            names.collect::<Vec<_>>().concat()
        });
        answer_xattr(names.map_err(|refusal| self.errno(number.0, refusal)), size, reply);
    }
}
