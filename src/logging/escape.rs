//! Foreign text on a terminal: what peers and libraries say may hold control characters, which slog-term passes on.

use std::io::{self, Write};

use slog::{OwnedKVList, Record};
use slog_term::{Decorator, RecordDecorator};

/// Writes control characters of messages, keys and values as `\u{1b}`; the formatter's own line end stays.
pub struct Escaping<D>(pub D);

impl<D: Decorator> Decorator for Escaping<D> {
    fn with_record<F>(&self, record: &Record<'_>, values: &OwnedKVList, f: F) -> io::Result<()>
    where
        F: FnOnce(&mut dyn RecordDecorator) -> io::Result<()>,
    {
        self.0.with_record(record, values, |inner| f(&mut Escaped { inner, whitespace: false }))
    }
}

struct Escaped<'a> {
    inner: &'a mut dyn RecordDecorator,
    /// The formatter is writing blanks and line ends of its own.
    whitespace: bool,
}

impl Write for Escaped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.whitespace || !may_hold_control(bytes) {
            return self.inner.write(bytes);
        }
        for char in String::from_utf8_lossy(bytes).chars() {
            if char.is_control() {
                write!(self.inner, "{}", char.escape_default())?
            } else {
                write!(self.inner, "{char}")?
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a control character may be in it: below a space, DEL, or the first byte of one from U+0080 to U+009F.
fn may_hold_control(bytes: &[u8]) -> bool {
    bytes.iter().any(|&b| b < 0x20 || b == 0x7f || b == 0xc2)
}

impl RecordDecorator for Escaped<'_> {
    fn reset(&mut self) -> io::Result<()> {
        self.inner.reset()
    }

    fn start_whitespace(&mut self) -> io::Result<()> {
        self.whitespace = true;
        self.inner.start_whitespace()
    }

    fn start_msg(&mut self) -> io::Result<()> {
        self.whitespace = false;
        self.inner.start_msg()
    }

    fn start_timestamp(&mut self) -> io::Result<()> {
        self.whitespace = false;
        self.inner.start_timestamp()
    }

    fn start_level(&mut self) -> io::Result<()> {
        self.whitespace = false;
        self.inner.start_level()
    }

    fn start_comma(&mut self) -> io::Result<()> {
        self.whitespace = false;
        self.inner.start_comma()
    }

    fn start_key(&mut self) -> io::Result<()> {
        self.whitespace = false;
        self.inner.start_key()
    }

    fn start_value(&mut self) -> io::Result<()> {
        self.whitespace = false;
        self.inner.start_value()
    }

    fn start_location(&mut self) -> io::Result<()> {
        self.whitespace = false;
        self.inner.start_location()
    }

    fn start_separator(&mut self) -> io::Result<()> {
        self.whitespace = false;
        self.inner.start_separator()
    }
}
