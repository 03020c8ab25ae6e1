//! What people read on a terminal: 80 columns, colour only where it helps and is wanted.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};

/// Columns that every line keeps to, where its words let it.
pub const WIDTH: usize = 80;

/// Whether colour is used. Nothing is told by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// With colours of the terminal's own palette that can be read on dark and on light ground.
    Coloured,
}

/// What is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// Worth a look.
    Notable,
    /// Has to be changed.
    Bad,
    /// A heading.
    Heading,
}

impl Style {
    /// That of standard output: plain unless it is a terminal, and where `NO_COLOR` is set.
    pub fn of_stdout() -> Self {
        Self::decide(
            io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
            std::env::var_os("TERM").as_deref(),
        )
    }

    fn decide(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let unwanted = no_color.is_some_and(|value| !value.is_empty()) || term.is_none_or(|term| term == "dumb");
        if terminal && !unwanted { Self::Coloured } else { Self::Plain }
    }

    /// Marks a text.
    pub fn mark(self, mark: Mark, text: &str) -> String {
        let code = match (self, mark) {
            (Self::Plain, _) => return text.to_owned(),
            (Self::Coloured, Mark::Good) => "32",
            // Yellow cannot be read on white.
            (Self::Coloured, Mark::Notable) => "1;35",
            (Self::Coloured, Mark::Bad) => "1;31",
            (Self::Coloured, Mark::Heading) => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard output is a terminal that can be written over.
pub fn can_redraw() -> bool {
    is_terminal() && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Breaks a text at its spaces: the first line leaves room for `used` columns, the others are indented. A word that is
/// longer than a line stays whole, so that it can be copied.
pub fn wrap(text: &str, used: usize, indent: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut column = used;
    let mut first = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if !first && column + 1 + length > WIDTH {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if !first {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        first = false;
    }
    out
}

/// Prints; whoever reads may have closed the pipe, which is no reason to fail.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A moment as people and machines read it, in UTC.
pub fn utc(unix_seconds: i64) -> String {
    match chrono::DateTime::from_timestamp(unix_seconds, 0) {
        Some(time) => time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => format!("{unix_seconds} s since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let decide = |terminal, no_color: Option<&str>, term: Option<&str>| {
            Style::decide(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert_eq!(decide(true, None, Some("xterm")), Style::Coloured);
        assert_eq!(decide(true, Some(""), Some("xterm")), Style::Coloured);
        assert_eq!(decide(true, Some("1"), Some("xterm")), Style::Plain);
        assert_eq!(decide(true, None, Some("dumb")), Style::Plain);
        assert_eq!(decide(true, None, None), Style::Plain);
        assert_eq!(decide(false, None, Some("xterm")), Style::Plain);
        assert_eq!(Style::Plain.mark(Mark::Bad, "x"), "x");
        assert_eq!(Style::Coloured.mark(Mark::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }

    #[test]
    fn lines_keep_to_the_width_unless_a_word_is_longer() {
        let text = "word ".repeat(40);
        let wrapped = wrap(&text, 20, 8);
        assert!(wrapped.lines().count() > 1);
        assert!(wrapped.lines().next().unwrap().len() <= WIDTH - 20);
        assert!(wrapped.lines().skip(1).all(|line| line.len() <= WIDTH && line.starts_with("        w")));
        assert_eq!(wrapped.split_whitespace().count(), 40);
        let long = "x".repeat(100);
        assert_eq!(wrap(&format!("a {long} b"), 0, 2), format!("a\n  {long}\n  b"));
    }

    #[test]
    fn moments_are_shown_in_utc() {
        assert_eq!(utc(1_767_323_045), "2026-01-02T03:04:05Z");
        assert_eq!(utc(i64::MAX), format!("{} s since 1970", i64::MAX));
    }
}
