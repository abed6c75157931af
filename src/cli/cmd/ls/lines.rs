//! How `repo ls` shows an entry: as its path, as `ls -l` does, or as JSON.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::render::{Output, json_name, kind_word, mode_text, safe_text};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Content, Entry, EntryKind};
use crate::repo::{LinkGroup, TreeReader, link_counts, link_group};

/// Shows entries, one after the other. Must be finished.
pub struct Lines<'s> {
    out: Output,
    style: Style,
    owners: HashMap<(bool, u32), &'s str>,
    is_first: bool,
    snapshot: &'s Snapshot,
    reader: &'s TreeReader,
    link_counts: OnceCell<HashMap<LinkGroup, u32>>,
    /// Lines of the long style that were not written yet, and the widths of their columns so far.
    rows: Vec<Row>,
    widths: [usize; 5],
}

/// Lines whose columns are fitted together. More would keep a person waiting.
const ROWS_MAX: usize = 1000;

/// A line of the long style.
struct Row {
    mode: String,
    /// Number of names, owner, group, size, time.
    columns: [String; 5],
    path: Vec<u8>,
    target: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Paths,
    Long,
    Json,
}

impl<'s> Lines<'s> {
    /// Shows on `out` entries of this snapshot, which knows the names of their owners. `reader` counts further names.
    pub fn new(
        mut out: Output,
        context: &Context,
        is_long: bool,
        snapshot: &'s Snapshot,
        reader: &'s TreeReader,
    ) -> Result<Self, Failure> {
        let style = match (context.wants_json(), is_long) {
            (true, _) => Style::Json,
            (false, true) => Style::Long,
            (false, false) => Style::Paths,
        };
        let owners = snapshot.owners.iter();
        let owners = owners.map(|owner| ((owner.is_group, owner.number), owner.name.as_str())).collect();
        if style == Style::Json {
            out.bytes(b"{\"snapshot_id\":\"")?;
            out.bytes(snapshot.id.to_string().as_bytes())?;
            out.bytes(b"\",\"entries\":[")?;
        }
        Ok(Self {
            out,
            style,
            owners,
            is_first: true,
            snapshot,
            reader,
            link_counts: OnceCell::new(),
            rows: Vec::new(),
            widths: [0; 5],
        })
    }

    /// Shows an entry.
    pub fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
        match self.style {
            Style::Paths => self.out.name(path)?,
            Style::Long => return self.long(path, entry),
            Style::Json => {
                let separator: &[u8] = if self.is_first { b"\n" } else { b",\n" };
                self.out.bytes(separator)?;
                self.is_first = false;
                let object = self.object(path, entry).to_string();
                return self.out.bytes(object.as_bytes());
            }
        }
        self.out.bytes(b"\n")
    }

    /// Keeps the line until enough have come together to know how wide the columns are.
    fn long(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
        let size = match entry.content {
            Content::Device(major, minor) => format!("{major}, {minor}"),
            _ => entry.size.to_string(),
        };
        let name = |is_group, number: u32| match self.owners.get(&(is_group, number)) {
            Some(name) => safe_text(name).into_owned(),
            None => number.to_string(),
        };
        let target = match &entry.content {
            Content::LinkTarget(target) => Some(target.as_slice().to_vec()),
            _ => None,
        };
        self.rows.push(Row {
            mode: format!("{}{}", kind_letter(entry.kind), mode_text(entry.mode)),
            columns: [
                self.link_count(entry).to_string(),
                name(false, entry.uid),
                name(true, entry.gid),
                size,
                entry.mtime.to_string(),
            ],
            path: path.to_vec(),
            target,
        });
        if self.rows.len() < ROWS_MAX { Ok(()) } else { self.rows_out() }
    }

    /// Names that a file has in the snapshot. The first file with several has all folders read.
    fn link_count(&self, entry: &Entry) -> u32 {
        let Some(group) = link_group(entry) else { return 1 };
        let counts = self
            .link_counts
            .get_or_init(|| link_counts(self.snapshot.root, |id| self.reader.read_directory_node(id)));
        counts.get(&group).copied().unwrap_or(1)
    }

    /// Writes the lines that were kept. Columns never get narrower again.
    fn rows_out(&mut self) -> Result<(), Failure> {
        for row in &self.rows {
            for (width, text) in self.widths.iter_mut().zip(&row.columns) {
                *width = (*width).max(text.chars().count());
            }
        }
        for row in std::mem::take(&mut self.rows) {
            let Row { mode, columns: [links, owner, group, size, time], path, target } = row;
            let [links_width, owner_width, group_width, size_width, _] = self.widths;
            let line = format!(
                "{mode} {links:>links_width$} {owner:<owner_width$} {group:<group_width$} {size:>size_width$} {time} "
            );
            self.out.bytes(line.as_bytes())?;
            self.out.name(&path)?;
            if let Some(target) = target {
                self.out.bytes(b" -> ")?;
                self.out.name(&target)?;
            }
            self.out.bytes(b"\n")?;
        }
        Ok(())
    }

    fn object(&self, path: &[u8], entry: &Entry) -> Value {
        let mut object = Map::new();
        let mut set = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
        set("path", json_name(path));
        set("kind", kind_word(entry.kind).into());
        set("mode", entry.mode.into());
        set("uid", entry.uid.into());
        set("gid", entry.gid.into());
        for (name, key) in [("user", (false, entry.uid)), ("group", (true, entry.gid))] {
            if let Some(owner) = self.owners.get(&key) {
                set(name, (*owner).into());
            }
        }
        set("mtime", entry.mtime.rfc3339().into());
        set("inode", entry.inode.into());
        set("size", entry.size.into());
        match &entry.content {
            Content::LinkTarget(target) => set("target", json_name(target.as_slice())),
            Content::Device(major, minor) => {
                set("major", (*major).into());
                set("minor", (*minor).into());
            }
            Content::None | Content::Chunks(_) | Content::List(_) | Content::Directory(_) => {}
        }
        Value::Object(object)
    }

    /// Writes what is still to be written.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.rows_out()?;
        if self.style == Style::Json {
            self.out.bytes(if self.is_first { b"]}\n" } else { b"\n]}\n" })?;
        }
        self.out.finish()
    }
}

fn kind_letter(kind: EntryKind) -> char {
    match kind {
        EntryKind::Directory => 'd',
        EntryKind::File => '-',
        EntryKind::Symlink => 'l',
        EntryKind::BlockDevice => 'b',
        EntryKind::CharDevice => 'c',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
    }
}
