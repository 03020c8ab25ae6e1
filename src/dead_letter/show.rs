//! `dead-letter show`: for people, as the file has it, or byte by byte.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use data_encoding::HEXLOWER;
use sls_syslog_actors::io::dead_letter::file::{LetterFile, Lines};
use sls_syslog_actors::wire::dead_letter::{Entry, Text};

use super::{failed, file_of};
use crate::exit;
use crate::settings::{self, Layers};

/// How to print it.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The file instead of dead_letter.path
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The file's own lines, one JSON object a log
    #[arg(long, conflicts_with = "hex")]
    json: bool,
    /// Keys and values whole, as hexadecimal digits
    #[arg(long)]
    hex: bool,
}

/// Characters of a text that are shown to people.
const SHOWN: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    People,
    Json,
    Hex,
}

pub(super) fn run(args: &ShowArgs, layers: &Layers) -> ExitCode {
    let settings = match settings::load_dead_letter(layers) {
        Ok(settings) => settings,
        Err(problems) => return settings::report(&problems),
    };
    let file = match file_of(args.file.as_deref(), settings) {
        Ok(file) => file,
        Err(code) => return code,
    };
    let form = match (args.json, args.hex) {
        (true, _) => Form::Json,
        (_, true) => Form::Hex,
        _ => Form::People,
    };
    let lines = match file.lines() {
        Ok(lines) => lines,
        Err(error) => return failed(error),
    };
    match print(lines, form, &mut BufWriter::new(io::stdout().lock())) {
        Ok((logs, unreadable)) => finish(&file, logs, unreadable),
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::code(exit::OK),
        Err(error) => failed(error),
    }
}

fn finish(file: &LetterFile, logs: u64, unreadable: u64) -> ExitCode {
    eprintln!("{logs} log(s) in {}", file.path().display());
    if unreadable > 0 {
        return failed(format!("{unreadable} line(s) cannot be read"));
    }
    exit::code(exit::OK)
}

/// Prints all lines; answers how many were entries, and how many were not.
fn print(mut lines: Lines, form: Form, out: &mut dyn Write) -> io::Result<(u64, u64)> {
    let (mut logs, mut unreadable, mut number) = (0, 0, 0_u64);
    while let Some(line) = lines.next_line()? {
        number += 1;
        match Entry::from_line(&line) {
            Ok(entry) => {
                logs += 1;
                match form {
                    Form::Json => out.write_all(&entry.to_line())?,
                    Form::People | Form::Hex => entry_lines(&entry, form, out)?,
                }
            }
            Err(error) => {
                unreadable += 1;
                eprintln!("line {number} cannot be read: {error}");
            }
        }
    }
    out.flush()?;
    Ok((logs, unreadable))
}

fn entry_lines(entry: &Entry, form: Form, out: &mut dyn Write) -> io::Result<()> {
    let Entry { when, project, logstore, shard, cursor, place, reason, log, .. } = entry;
    let [when, project, logstore, cursor, reason] =
        [when, project, logstore, cursor, reason].map(|text| people(text.as_bytes()));
    writeln!(out, "{when}  {project}/{logstore} shard {shard} cursor {cursor} place {place}")?;
    writeln!(out, "  reason  {reason}")?;
    let nanoseconds = log.nanoseconds.filter(|nanoseconds| *nanoseconds < 1_000_000_000).unwrap_or(0);
    let time = DateTime::<Utc>::from_timestamp(i64::from(log.time), nanoseconds).unwrap_or_default();
    writeln!(out, "  time    {}", time.to_rfc3339_opts(SecondsFormat::AutoSi, true))?;
    let shown = |text: &Text| match form {
        Form::Hex => HEXLOWER.encode(&text.bytes()),
        _ => people(&text.bytes()),
    };
    for (name, text) in [("topic", &log.topic), ("source", &log.source)] {
        if !text.bytes().is_empty() {
            writeln!(out, "  {name:<7} {}", shown(text))?;
        }
    }
    for (name, pairs) in [("tag", &log.tags), ("field", &log.contents)] {
        for (key, value) in pairs {
            writeln!(out, "  {name:<7} {} = {}", shown(key), shown(value))?;
        }
    }
    writeln!(out)
}

/// Foreign text, escaped and cut for a terminal.
fn people(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str(&format!("… ({} bytes)", bytes.len()));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal_and_does_not_flood_it() {
        assert_eq!(people(b"a\x1b[2J\n\xff"), "a\\u{1b}[2J\\n\u{fffd}");
        let long = people(&[b'x'; 100_000]);
        assert!(long.len() < 300 && long.ends_with("(100000 bytes)"), "{long}");
    }
}
