//! What a restore would change, told line by line as it is found.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use crate::cli::exit::Failure;
use crate::cli::render::{Output, json_name, kind_word, safe_name};
use crate::format::tree::EntryKind;
use crate::restore::{Change, What};
use crate::target::MetadataChanges;
use crate::units::ByteCount;

/// Shows changes, one after the other, and then the sums. Must be finished.
pub struct Changes {
    out: Output,
    wants_json: bool,
    is_first: bool,
    failure: Option<Failure>,
}

impl Changes {
    /// Nothing so far.
    pub fn new(mut out: Output, wants_json: bool) -> Result<Self, Failure> {
        if wants_json {
            out.bytes(b"{\"changes\":[")?;
        }
        Ok(Self { out, wants_json, is_first: true, failure: None })
    }

    /// Shows a change. Breaks off when nothing can be written any more; the reason is kept.
    pub fn add(&mut self, change: &Change) -> ControlFlow<()> {
        match self.show(change) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                self.failure.get_or_insert(failure);
                ControlFlow::Break(())
            }
        }
    }

    /// Why nothing more could be written, if that is so.
    pub fn take_failure(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn show(&mut self, change: &Change) -> Result<(), Failure> {
        if !self.wants_json {
            return self.out.line(&line(change));
        }
        self.out.bytes(if self.is_first { b"\n" } else { b",\n" })?;
        self.is_first = false;
        self.out.bytes(object(change).to_string().as_bytes())
    }

    /// Shows the report behind the changes: the fields of `document`, or what `human` writes.
    pub fn finish(
        mut self,
        document: &Value,
        human: impl FnOnce(&mut Output) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.wants_json {
            let fields = document.to_string();
            self.out.bytes(b"],\n")?;
            self.out.bytes(fields.strip_prefix('{').unwrap_or(&fields).as_bytes())?;
            self.out.bytes(b"\n")?;
        } else {
            human(&mut self.out)?;
        }
        self.out.finish()
    }
}

fn line(change: &Change) -> String {
    let name = match change.kind {
        EntryKind::Directory => format!("{}/", safe_name(change.path.as_bytes())),
        _ => safe_name(change.path.as_bytes()),
    };
    let names = |metadata: &MetadataChanges| metadata.names().collect::<Vec<_>>().join(", ");
    let (letter, remark) = match &change.what {
        What::Added => ('+', String::new()),
        What::Removed => ('-', String::new()),
        What::Contents { kind_before, size_before, .. } => ('M', before(change, *kind_before, *size_before)),
        What::Metadata(metadata) => ('U', format!(" ({})", names(metadata))),
    };
    let size = match change.kind {
        EntryKind::File => ByteCount(change.size).to_string(),
        _ => String::new(),
    };
    format!("{letter} {size:>10}  {name}{remark}")
}

fn before(change: &Change, kind_before: EntryKind, size_before: u64) -> String {
    match kind_before {
        kind if kind != change.kind => format!(" (now a {})", kind_word(kind).replace('_', " ")),
        EntryKind::File => format!(" ({} now)", ByteCount(size_before)),
        _ => String::new(),
    }
}

fn object(change: &Change) -> Value {
    let mut object = json!({
        "path": json_name(change.path.as_bytes()),
        "kind": kind_word(change.kind),
        "size": change.size,
    });
    let changed = |object: &mut Value, contents_changed: bool, metadata: &MetadataChanges| {
        object["change"] = "changed".into();
        object["contents_changed"] = contents_changed.into();
        object["metadata_changes"] = metadata.names().collect();
    };
    match &change.what {
        What::Added => object["change"] = "added".into(),
        What::Removed => object["change"] = "removed".into(),
        What::Contents { kind_before, size_before, metadata } => {
            changed(&mut object, true, metadata);
            object["kind_before"] = kind_word(*kind_before).into();
            object["size_before"] = (*size_before).into();
        }
        What::Metadata(metadata) => changed(&mut object, false, metadata),
    }
    object
}
