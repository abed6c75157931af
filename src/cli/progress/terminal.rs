//! The terminal as a bar sees it.
//!
//! The bar's own way is to fill its line with blanks, so that whatever is written next lands on the next line. Then
//! the `^C` that the terminal itself shows lands there too, the bar is wiped away one line too low, and half of it
//! stays for ever. Here the cursor stands right behind the words, where `^C` is wiped away with them.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;

/// Columns that are left free behind the words, for `^C`.
pub const FREE_WIDTH: usize = 3;

/// Standard error, line by line. What is written goes out with the next flush, in one piece.
#[derive(Debug, Default)]
pub struct LineTerminal {
    pending: Mutex<String>,
}

impl LineTerminal {
    fn push(&self, text: &str) -> io::Result<()> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    fn take(&self) -> String {
        std::mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn move_cursor(&self, count: usize, direction: char) -> io::Result<()> {
        // Zero would be taken for one.
        if count == 0 { Ok(()) } else { self.push(&format!("\x1b[{count}{direction}")) }
    }
}

impl TermLike for LineTerminal {
    fn width(&self) -> u16 {
        u16::try_from(terminal_width()).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        self.move_cursor(count, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.push(line)?;
        self.push("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.push(text.trim_end_matches(' '))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.push("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let pending = self.take();
        let mut stderr = io::stderr().lock();
        stderr.write_all(pending.as_bytes())?;
        stderr.flush()
    }
}

/// Columns of the terminal on standard error; 80 where it does not tell.
pub fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_behind_the_words() {
        let terminal = LineTerminal::default();
        terminal.clear_line().unwrap();
        terminal.write_str("[=>  ] reading files   ").unwrap();
        terminal.write_str("        ").unwrap();
        terminal.move_cursor_up(0).unwrap();
        assert_eq!(terminal.take(), "\r\x1b[2K[=>  ] reading files");
        terminal.move_cursor_up(2).unwrap();
        terminal.write_line("a line").unwrap();
        assert_eq!(terminal.take(), "\x1b[2Aa line\n");
        assert_eq!(terminal.take(), "");
    }
}
