//! How `repo ls` shows an entry: as its path, as `ls -l` does, or as JSON.

use std::collections::HashMap;
use std::io::Write;

use serde_json::{Map, Value};

use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::render::{Output, json_name, kind_word, mode_text, output_failed};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Content, Entry, EntryKind};

/// Shows entries, one after the other. Must be finished.
pub struct Lines<'s> {
    out: Output,
    style: Style,
    owners: HashMap<(bool, u32), &'s str>,
    is_first: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Paths,
    Long,
    Json,
}

impl<'s> Lines<'s> {
    /// Shows on `out` entries of this snapshot, which knows the names of their owners.
    pub fn new(
        mut out: Output,
        context: &Context,
        is_long: bool,
        snapshot: &'s Snapshot,
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
        Ok(Self { out, style, owners, is_first: true })
    }

    /// Shows an entry.
    pub fn entry(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
        match self.style {
            Style::Paths => self.out.name(path)?,
            Style::Long => self.long(path, entry)?,
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

    fn long(&mut self, path: &[u8], entry: &Entry) -> Result<(), Failure> {
        let size = match entry.content {
            Content::Device(major, minor) => format!("{major}, {minor}"),
            _ => entry.size.to_string(),
        };
        let name = |is_group, number: u32| match self.owners.get(&(is_group, number)) {
            Some(name) => (*name).to_owned(),
            None => number.to_string(),
        };
        let line = format!(
            "{}{} {:<8} {:<8} {size:>12} {} ",
            kind_letter(entry.kind),
            mode_text(entry.mode),
            name(false, entry.uid),
            name(true, entry.gid),
            entry.mtime,
        );
        self.out.write_all(line.as_bytes()).map_err(|error| output_failed(&error))?;
        self.out.name(path)?;
        if let Content::LinkTarget(target) = &entry.content {
            self.out.bytes(b" -> ")?;
            self.out.name(target.as_slice())?;
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
