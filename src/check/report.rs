//! The outcome of each check, for people and for programs.

use serde::Serialize;

use crate::terminal::{Mark, Style, wrap};

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but somebody should know.
    Warn,
    /// It does not work.
    Failed,
    /// Nothing was tried.
    Untried,
}

impl Status {
    fn word(self) -> (&'static str, Option<Mark>) {
        match self {
            Self::Ok => ("ok", Some(Mark::Good)),
            Self::Warn => ("warn", Some(Mark::Notable)),
            Self::Failed => ("FAILED", Some(Mark::Bad)),
            Self::Untried => ("untried", None),
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Lines to add to the settings file, should that be the remedy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
}

/// Where the second and later lines of a check begin.
const INDENT: usize = 8;

impl Check {
    fn new(status: Status, what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), status, detail: detail.into(), remedy: None, settings: Vec::new() }
    }

    /// It is as it should be.
    pub fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Status::Ok, what, detail)
    }

    /// It works, but somebody should know.
    pub fn warn(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Status::Warn, what, detail)
    }

    /// It does not work.
    pub fn failed(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Status::Failed, what, detail)
    }

    /// Nothing was tried, for this reason.
    pub fn untried(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Status::Untried, what, why)
    }

    /// Adds what to do about it.
    pub fn remedy(mut self, remedy: Option<impl Into<String>>) -> Self {
        self.remedy = remedy.map(Into::into);
        self
    }

    /// Adds lines for the settings file.
    pub fn settings(mut self, lines: Vec<String>) -> Self {
        self.settings = lines;
        self
    }

    /// One line, broken at the terminal's width, and one more for the remedy.
    pub fn render(&self, style: Style) -> String {
        let (word, mark) = self.status.word();
        let shown = mark.map_or_else(|| word.to_owned(), |mark| style.mark(mark, word));
        let padding = " ".repeat(INDENT - word.len());
        let mut out = format!("{shown}{padding}{}\n", wrap(&format!("{}: {}", self.what, self.detail), INDENT, INDENT));
        if let Some(remedy) = &self.remedy {
            out += &format!("{}-> {}\n", " ".repeat(INDENT), wrap(remedy, INDENT + 3, INDENT + 3));
        }
        if !self.settings.is_empty() {
            // Not indented: a fingerprint fills the line, and it is meant to be copied.
            out += &format!("\n{}\n", self.settings.join("\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_a_line_with_its_remedy_below() {
        let check = Check::failed("SLS sign-in", "refused ".repeat(12)).remedy(Some("set the clock"));
        assert_eq!(
            check.render(Style::Plain),
            "FAILED  SLS sign-in: refused refused refused refused refused refused refused\n        \
             refused refused refused refused refused\n        -> set the clock\n"
        );
        assert_eq!(Check::ok("a", "b").render(Style::Coloured), "\x1b[32mok\x1b[0m      a: b\n");
        assert_eq!(Check::untried("a", "b").render(Style::Coloured), "untried a: b\n");
    }

    #[test]
    fn a_fingerprint_to_add_fits_the_width() {
        let line = format!("pin_sha256 = \"{}\"", "0".repeat(64));
        let check = Check::warn("a", "b").settings(vec!["[destination.tls]".to_owned(), line]);
        assert!(check.render(Style::Plain).lines().all(|line| line.len() <= crate::terminal::WIDTH));
    }
}
