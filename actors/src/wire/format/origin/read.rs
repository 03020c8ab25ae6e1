//! Finds stamps and gap records in lines, whatever a receiver has made of the messages on their way into its file.
//!
//! A line is searched, not parsed: JSON doubles backslashes and escapes quotes, and may escape slashes, CSV doubles quotes, syslog-ng takes
//! structured data apart into `"sls@32473":{"cursor":"MTc=",…}` with names in alphabetical order. Names and values of a
//! stamp hold no quotes, backslashes or spaces themselves, so all of these read the same. The first stamp of a line counts:
//! it stands in front of all that the log itself says.

use std::borrow::Cow;

use memchr::memmem;

use super::{FIELD, SD_ID};
use crate::wire::syslog::parse::parse;
use crate::wire::syslog::rfc3164;

/// A stamp, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// Project.
    pub project: &'a str,
    /// Logstore.
    pub logstore: &'a str,
    /// Shard.
    pub shard: u32,
    /// Cursor of the log group; of the batch if `logs` is not known.
    pub cursor: Cow<'a, str>,
    /// Place in the log group, from 0; in the batch if `logs` is not known.
    pub index: u64,
    /// Logs in the log group.
    pub logs: Option<u64>,
}

/// A gap record, read; see [`GapRecord`](crate::wire::syslog::gap::GapRecord).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundGap<'a> {
    /// Project.
    pub project: &'a str,
    /// Logstore.
    pub logstore: &'a str,
    /// Shard.
    pub shard: u32,
    /// First cursor that is missing; empty if unknown.
    pub from: Cow<'a, str>,
    /// Cursor behind the last that is missing; empty if unknown. The same as `from` where a single log is missing.
    pub to: Cow<'a, str>,
    /// Why, as far as the line tells.
    pub reason: String,
}

/// Longest stretch of a line in which all parts of a stamp have to be.
const MAX_STAMP: usize = 1024;
/// Longest separator of fields with what escapes may make of it.
const MAX_SEP: usize = 128;
/// Longest reason that is kept.
const MAX_REASON: usize = 300;

impl<'a> Stamp<'a> {
    /// The stamp of a message, or of the line that a receiver has written for it.
    pub fn find(line: &'a [u8]) -> Option<Self> {
        let structured = memmem::find(line, SD_ID.as_bytes());
        // Where structured data come first there is nothing to look for behind them.
        let before = &line[..structured.unwrap_or(line.len())];
        match memmem::find(before, FIELD.as_bytes()) {
            Some(at) => Self::of_field(text(&line[at + FIELD.len()..])),
            None => Self::of_structured_data(text(&line[structured?..])),
        }
    }

    /// `=project/logstore/shard/cursor/index/logs`.
    fn of_field(text: &'a str) -> Option<Self> {
        let value = text.trim_start_matches([' ', ':', '=', '"', '\\']);
        let (project, rest) = split_at_slash(value)?;
        let (logstore, rest) = split_at_slash(rest)?;
        let (shard, rest) = split_at_slash(rest)?;
        let shard = number(shard)?;
        // A cursor that is no number may hold a slash; its end is where two numbers follow and then no more of it.
        for (end, _) in rest.match_indices('/').take(MAX_STAMP) {
            let behind = &rest[end + 1..];
            let Some((index, behind)) = split_at_slash(behind) else { break };
            let logs_end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
            let (Some(index), Some(logs)) = (number(index), number(&behind[..logs_end])) else { continue };
            if !behind[logs_end..].starts_with(|c: char| c.is_ascii_alphanumeric() || "/+=".contains(c)) {
                return Self { project, logstore, shard, cursor: unescaped(&rest[..end]), index, logs: Some(logs) }
                    .sound();
            }
        }
        None
    }

    /// `sls@32473 project="…" …`, from the SD-ID on.
    fn of_structured_data(text: &'a str) -> Option<Self> {
        const NAMES: [&str; 6] = ["project", "logstore", "shard", "cursor", "index", "logs"];
        let mut values: [Option<&str>; NAMES.len()] = [None; NAMES.len()];
        let mut rest = text;
        while values.contains(&None) {
            rest = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
            // syslog-ng may repeat `.SDATA.sls@32473.` in front of each name.
            if let Some(behind) = rest.strip_prefix(SD_ID).or_else(|| rest.strip_prefix("SDATA")) {
                rest = behind;
                continue;
            }
            let at = NAMES.iter().position(|name| {
                rest.strip_prefix(name).is_some_and(|behind| !behind.starts_with(|c: char| c.is_ascii_alphanumeric()))
            })?;
            let value = rest[NAMES[at].len()..].trim_start_matches(['=', ':', '"', '\\', ' ']);
            let end = value.find(['"', '\\', ' ', ']', ',', '}']).unwrap_or(value.len());
            values[at].get_or_insert(&value[..end]);
            rest = &value[end..];
        }
        let [project, logstore, shard, cursor, index, logs] = values.map(Option::unwrap_or_default);
        let (shard, index, logs) = (number(shard)?, number(index)?, number(logs)?);
        Self { project, logstore, shard, cursor: cursor.into(), index, logs: Some(logs) }.sound()
    }

    /// Refuses what no stamp says, and takes 0 logs for what it means.
    fn sound(self) -> Option<Self> {
        let logs = self.logs.filter(|logs| *logs > 0);
        let sound = [self.project, self.logstore].into_iter().all(is_name)
            && !self.cursor.is_empty()
            && logs.is_none_or(|logs| self.index < logs);
        sound.then_some(Self { logs, ..self })
    }
}

impl<'a> FoundGap<'a> {
    /// The gap record that a line is or holds. To be asked about lines without stamp alone: all logs that could pose as a
    /// gap record have one. Of a message that is RFC 5424 the MSGID decides, of one that is RFC 3164 how CONTENT begins.
    pub fn find(line: &'a [u8]) -> Option<Self> {
        // The rarest part first.
        memmem::find(line, b"logstore=")?;
        let is_log = match parse(line) {
            Ok(message) => message.msgid != Some("gap"),
            Err(_) => rfc3164::parse(line).is_ok_and(|message| !message.is_gap()),
        };
        if is_log {
            return None;
        }
        let line = text(line);
        let start = line.find("project=")?;
        let rest = &line[start + "project=".len()..];
        let (project, rest) = rest.split_at(rest.find(|c: char| !is_name_character(c))?);
        let sep = &rest[..rest.find("logstore=").filter(|len| (1..=MAX_SEP).contains(len))?];
        let mut fields = rest.split(sep).skip(1);
        let mut value = |key: &str| fields.next()?.strip_prefix(key)?.strip_prefix('=');
        let (logstore, shard) = (value("logstore")?, number(value("shard")?)?);
        let (from, to) = (unescaped(value("from")?), unescaped(value("to")?));
        let reason = value("reason")?.split('"').next().unwrap_or_default();
        let found = Self { project, logstore, shard, from, to, reason: reason.chars().take(MAX_REASON).collect() };
        (is_name(project) && is_name(logstore)).then_some(found)
    }
}

/// The valid start of what is left of a line, as far as it can matter.
fn text(bytes: &[u8]) -> &str {
    bytes[..bytes.len().min(4 * MAX_STAMP)].utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

/// Splits at the first `/`, which some writers of JSON, rsyslog's `jsonf` among them, escape as `\/`.
fn split_at_slash(text: &str) -> Option<(&str, &str)> {
    text.split_once('/').map(|(before, behind)| (before.trim_end_matches('\\'), behind))
}

fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.chars().all(is_name_character)
}

/// `kv_escape` puts a backslash before each `=`, and JSON doubles it.
fn unescaped(text: &str) -> Cow<'_, str> {
    if text.contains('\\') { text.replace('\\', "").into() } else { text.into() }
}
