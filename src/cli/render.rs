//! Results on standard output: tables, names, sizes, JSON. Everything a person or a script reads comes from here.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::format::tree::EntryKind;
use crate::repo::IndexDoubt;
use crate::units::base64;

/// Standard output, buffered. A reader that has gone ends the command quietly, any other trouble is a failure.
///
/// Must be finished, so that trouble with the last bytes is noticed.
#[must_use = "results that are not finished may be lost"]
pub struct Output {
    out: BufWriter<Resumed>,
    is_terminal: bool,
}

/// How far results have come that begin again from the start, always with the same bytes.
#[derive(Debug, Clone, Default)]
pub struct Sent(Arc<AtomicU64>);

/// Standard output, without what is out already, and without what follows a doubt.
struct Resumed {
    stdout: StdoutLock<'static>,
    sent: Sent,
    skipped_bytes: u64,
    doubt: Option<IndexDoubt>,
}

impl Write for Resumed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.doubt.as_ref().is_some_and(IndexDoubt::is_raised) {
            return Err(io::Error::other("what comes now is in doubt"));
        }
        if self.skipped_bytes > 0 {
            let len = usize::try_from(self.skipped_bytes).map_or(bytes.len(), |skip| skip.min(bytes.len()));
            self.skipped_bytes -= len as u64;
            return Ok(len);
        }
        let len = self.stdout.write(bytes)?;
        self.sent.0.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

impl Output {
    /// Takes standard output.
    pub fn new() -> Self {
        Self::resumed(&Sent::default(), None)
    }

    /// Takes standard output for results that may have begun to come out before: so many bytes as were `sent` are not
    /// written again. As soon as there is a `doubt`, nothing more comes out, and writing fails.
    pub fn resumed(sent: &Sent, doubt: Option<IndexDoubt>) -> Self {
        let stdout = io::stdout().lock();
        let is_terminal = stdout.is_terminal();
        let skipped_bytes = sent.0.load(Ordering::Relaxed);
        let out = Resumed { stdout, sent: sent.clone(), skipped_bytes, doubt };
        Self { out: BufWriter::with_capacity(64 << 10, out), is_terminal }
    }

    /// Whether a person reads along.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| output_failed(&error))
    }

    /// Writes a line of our own words.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a name: escaped for a terminal, raw into a pipe, as `ls` does.
    pub fn name(&mut self, name: &[u8]) -> Result<(), Failure> {
        if self.is_terminal { self.bytes(safe_name(name).as_bytes()) } else { self.bytes(name) }
    }

    /// Writes a document of JSON and a newline; for a person on several lines.
    pub fn json(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let written = if self.is_terminal {
            serde_json::to_writer_pretty(&mut self.out, document)
        } else {
            serde_json::to_writer(&mut self.out, document)
        };
        written.map_err(|error| output_failed(&io::Error::from(error)))?;
        self.bytes(b"\n")
    }

    /// Writes what is still buffered.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| output_failed(&error))
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What an error of writing to standard output means for the command.
pub fn output_failed(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::reader_gone();
    }
    Failure::new(Exit::Failed, "the results could not be written to standard output").because(error)
}

/// Ends this process as SIGPIPE ends ordinary tools. Returns only where the system refuses that.
pub fn end_by_broken_pipe() {
    // Whatever it answers: the exit code that follows is right too.
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
}

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table for people: a line of headings, columns two blanks apart, no frame.
pub struct Table {
    table: comfy_table::Table,
    column_count: usize,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns.iter().map(|(title, _)| *title));
        for (column, (_, align)) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        Self { table, column_count: columns.len() }
    }

    /// Adds a row with one cell per column. Newlines and control characters are escaped.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<String> =
            cells.into_iter().map(|cell| safe_text(cell.as_ref()).into_owned()).collect();
        assert_eq!(cells.len(), self.column_count, "a row has one cell per column");
        self.table.add_row(cells);
    }

    /// The lines, without blanks at their ends.
    pub fn lines(&self) -> Vec<String> {
        self.table.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// Whether a character could change what a person sees around it.
fn is_treacherous(c: char) -> bool {
    let turns_text = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns_text || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// A text in which control characters, and those that turn the direction of text, are written as escapes.
pub fn safe_text(text: &str) -> Cow<'_, str> {
    if !text.contains(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_treacherous(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// A name of any bytes for a person: bytes that are not UTF-8 are written as `\xff`, control characters as escapes,
/// and a backslash twice, so that no two names look alike.
pub fn safe_name(name: &[u8]) -> String {
    let mut safe = String::with_capacity(name.len());
    for part in name.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => safe.push_str("\\\\"),
                c if is_treacherous(c) => safe.extend(c.escape_default()),
                c => safe.push(c),
            }
        }
        for byte in part.invalid() {
            safe.push_str(&format!("\\x{byte:02x}"));
        }
    }
    safe
}

/// The beginning of an id that is at hand as text, as people are shown it.
pub fn short_id(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// A path or name in JSON: a string, or `{"bytes": "<base64>", "text": "<lossy>"}` where it is not UTF-8.
pub fn json_name(name: &[u8]) -> Value {
    match str::from_utf8(name) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "bytes": base64(name), "text": String::from_utf8_lossy(name) }),
    }
}

/// Rights of a file as `ls -l` shows them, without the letter of its kind: `rwxr-sr-x`.
pub fn mode_text(mode: u16) -> String {
    let mut text = String::with_capacity(9);
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    for (at, (special_bit, with_x, without_x)) in special.into_iter().enumerate() {
        let bits = mode >> (6 - 3 * at);
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special_bit != 0, bits & 1 != 0) {
            (true, true) => with_x,
            (true, false) => without_x,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// What an entry is, as JSON says it.
pub fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Directory => "directory",
        EntryKind::File => "file",
        EntryKind::Symlink => "symlink",
        EntryKind::BlockDevice => "block_device",
        EntryKind::CharDevice => "character_device",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn names_that_differ_look_different() {
        assert_eq!(safe_name(b"plain \xc3\xa4"), "plain \u{e4}");
        assert_eq!(safe_name(b"a\nb"), "a\\nb");
        assert_eq!(safe_name(b"a\\nb"), "a\\\\nb");
        assert_eq!(safe_name(b"\xff\x1b[0m"), "\\xff\\u{1b}[0m");
        assert_eq!(safe_name("\u{202e}gpj.exe".as_bytes()), "\\u{202e}gpj.exe");
    }

    #[test]
    fn a_name_that_is_not_utf8_survives_in_json() {
        assert_eq!(json_name(b"a\n"), json!("a\n"));
        assert_eq!(json_name(b"\xff"), json!({"bytes": "/w==", "text": "\u{fffd}"}));
    }

    #[test]
    fn a_table_lines_up_and_ends_without_blanks() {
        let mut table = Table::new(&[("id", Align::Left), ("size", Align::Right), ("paths", Align::Left)]);
        table.row(["ab", "5 B", "/a\n"]);
        table.row(["abcd", "1024 B", "/b"]);
        let lines = ["id      size  paths", "ab       5 B  /a\\n", "abcd  1024 B  /b"];
        assert_eq!(table.lines(), lines);
    }

    #[test]
    fn rights_look_as_in_ls() {
        assert_eq!(mode_text(0o755), "rwxr-xr-x");
        assert_eq!(mode_text(0o4640), "rwSr-----");
        assert_eq!(mode_text(0o3777), "rwxrwsrwt");
        assert_eq!(mode_text(0), "---------");
    }
}
