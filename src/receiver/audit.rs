//! `--check FILE`: judges what any receiver has written, and says it to people.
//!
//! A line is whatever a receiver made of a message; what counts in it is the origin stamp. Lines and their number are not
//! kept, so a file may be of any size.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sls_syslog_actors::wire::syslog::framing::{Deframer, octet_count};
use sls_syslog_actors::wire::text::escape_foreign;

use super::check::{Checker, Verdict};
use super::origin::{GapVerdict, Hole, ShardVerdict};

/// Holes and gap records that are shown one by one, for each shard.
const MAX_SHOWN: usize = 20;
/// Bytes read at once.
const CHUNK: usize = 1 << 16;

/// Gives all lines of these files to the checker, one file after the other; `-` is standard input. Of a line longer than
/// `max_len` only so much is looked at.
///
/// # Errors
/// A sentence on the file that cannot be read.
pub fn read_files(paths: &[PathBuf], max_len: usize, checker: &mut Checker) -> Result<(), String> {
    for path in paths {
        let read = match path == Path::new("-") {
            true => read(io::stdin().lock(), max_len, checker),
            false => File::open(path).and_then(|file| read(BufReader::with_capacity(CHUNK, file), max_len, checker)),
        };
        read.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    }
    Ok(())
}

fn read(mut input: impl BufRead, max_len: usize, checker: &mut Checker) -> io::Result<()> {
    let begin = input.fill_buf()?;
    if octet_count(begin).is_some_and(|(message_at, _)| begin.get(message_at) == Some(&b'<')) {
        return read_frames(input, max_len, checker);
    }
    // What was received with NUL framing may be in the file as it came.
    let end = memchr::memchr2(b'\n', 0, begin).map_or(b'\n', |at| begin[at]);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(max_len as u64).read_until(end, &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&end) {
            line.pop();
        } else {
            input.skip_until(end)?;
        }
        if !line.trim_ascii().is_empty() {
            checker.line(&line);
        }
    }
}

/// What `--output-format raw` writes.
fn read_frames(mut input: impl BufRead, max_len: usize, checker: &mut Checker) -> io::Result<()> {
    let mut deframer = Deframer::new(max_len);
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        deframer.push(chunk);
        let len = chunk.len();
        input.consume(len);
        while let Some(message) = deframer.next().map_err(io::Error::other)? {
            checker.line(message);
        }
    }
}

/// Whether a file is complete as far as can be told. What is repeated or reordered is not missing: whoever exports events
/// may sort them.
pub fn is_complete(verdict: &Verdict) -> bool {
    let judged = verdict.origin.is_some() || verdict.streams > 0;
    judged && verdict.missing == 0 && verdict.origin.as_ref().is_none_or(|origin| origin.is_complete())
}

/// A verdict in lines of at most 80 columns, names longer than usual apart.
pub struct Report<'a>(pub &'a Verdict);

impl Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { origin, streams, .. } = self.0;
        if *streams > 0 {
            let Verdict { unique, duplicates, missing, out_of_order, .. } = self.0;
            writeln!(f, "generated logs, by their own numbers, in {streams} streams")?;
            row(f, "events", unique + duplicates, "")?;
            row(f, "repeated", *duplicates, "")?;
            row(f, "reordered", *out_of_order, "first deliveries after a later one of the stream")?;
            row(f, "missing", *missing, "")?;
        }
        let Some(origin) = origin else {
            return match streams {
                0 => write!(
                    f,
                    "nothing to judge: no line has an origin stamp\nset destination.origin in the forwarder, and let the \
                     receiver write it into the file"
                ),
                _ => write!(f, "{}", verdict_line(self.0)),
            };
        };
        origin.shards.iter().try_for_each(|shard| write_shard(f, shard))?;
        writeln!(f, "all {} shards", origin.shards.len())?;
        row(f, "events", origin.events, "")?;
        row(f, "repeated", origin.repeated, "")?;
        row(f, "reordered", origin.reordered, "")?;
        row(f, "missing", origin.missing_events, "events of log groups of which others came")?;
        row(f, "missing", origin.missing_log_groups, "log groups of which nothing came")?;
        row(f, "unstamped", origin.unstamped, "lines with neither stamp nor gap record")?;
        writeln!(f, "What stamps do not tell: log groups before the first and behind the last of a")?;
        writeln!(f, "shard; and that a log group had no logs at all, which counts as missing here.")?;
        write!(f, "{}", verdict_line(self.0))
    }
}

fn verdict_line(verdict: &Verdict) -> &'static str {
    match is_complete(verdict) {
        true => "complete: nothing is missing",
        false => "NOT COMPLETE",
    }
}

fn row(f: &mut fmt::Formatter<'_>, what: &str, number: u64, remark: &str) -> fmt::Result {
    let line = format!("  {what:<12} {number:>12}  {remark}");
    writeln!(f, "{}", line.trim_end())
}

fn write_shard(f: &mut fmt::Formatter<'_>, shard: &ShardVerdict) -> fmt::Result {
    writeln!(f, "{}/{} shard {}", shard.project, shard.logstore, shard.shard)?;
    if let (Some(first), Some(last)) = (&shard.first, &shard.last) {
        writeln!(f, "  cursors      {first} to {last}")?;
    }
    row(f, "events", shard.events, &format!("in {} log groups", shard.log_groups))?;
    row(f, "repeated", shard.repeated, "")?;
    row(f, "reordered", shard.reordered, "first deliveries after a later one of the shard")?;
    row(f, "missing", shard.missing_events, "events of log groups of which others came")?;
    row(f, "missing", shard.missing_log_groups, "log groups of which nothing came")?;
    for hole in shard.holes.iter().take(MAX_SHOWN) {
        match hole {
            Hole::LogGroups { from, to, log_groups } => {
                writeln!(f, "    {log_groups} log groups, from {}", shown(from))?;
                writeln!(f, "      to before {}", shown(to))?;
            }
            Hole::Events { cursor, from_index, to_index, logs } => {
                let logs = logs.map_or("?".to_owned(), |logs| logs.to_string());
                let last = to_index - 1;
                let index = if last == *from_index { last.to_string() } else { format!("{from_index} to {last}") };
                writeln!(f, "    {} index {index}, of {logs} logs", shown(cursor))?;
            }
        }
    }
    more(f, shard.holes.len().saturating_sub(MAX_SHOWN) as u64 + shard.more_holes)?;
    row(f, "gap records", shard.gap_records.len() as u64 + shard.more_gap_records, "")?;
    for gap in shard.gap_records.iter().take(MAX_SHOWN) {
        let GapVerdict { from, to, reason, times } = gap;
        match from == to {
            true => write!(f, "    a log at or behind {}", shown(from))?,
            false => write!(f, "    {} to before {}", shown(from), shown(to))?,
        }
        writeln!(f, "{}", if *times > 1 { format!(", {times} times") } else { String::new() })?;
        writeln!(f, "      {}", escape_foreign(reason, 74))?;
    }
    more(f, shard.gap_records.len().saturating_sub(MAX_SHOWN) as u64 + shard.more_gap_records)?;
    if shard.unnumbered > 0 {
        row(f, "unnumbered", shard.unnumbered, "batches whose cursor is no number: nothing")?;
        writeln!(f, "{:29}is known between them, nor of their last events", "")?;
    }
    Ok(())
}

fn more(f: &mut fmt::Formatter<'_>, more: u64) -> fmt::Result {
    if more > 0 { writeln!(f, "    and {more} more") } else { Ok(()) }
}

/// A cursor, which comes out of a file.
fn shown(cursor: &str) -> String {
    if cursor.is_empty() { "(unknown)".to_owned() } else { escape_foreign(cursor, 64) }
}

#[cfg(test)]
mod tests {
    use super::super::check::Keys;
    use super::*;

    fn judged(input: &[u8]) -> Verdict {
        let keys = Keys { sep: "||".into(), stream: "stream".into(), number: "n".into() };
        let mut checker = Checker::new(keys);
        read(BufReader::with_capacity(7, input), 1000, &mut checker).unwrap();
        checker.verdict()
    }

    fn message(index: u64) -> String {
        format!("<14>1 - h a - - - ||__origin__=p/l/0/MTAw/{index}/3||k=v")
    }

    #[test]
    fn lines_and_counted_frames_are_read_alike() {
        let lines: String = (0..3).map(|n| message(n) + "\n").collect();
        let frames: String = (0..3).map(|n| format!("{} {}", message(n).len(), message(n))).collect();
        assert_eq!(judged(lines.as_bytes()), judged(frames.as_bytes()));
        assert!(is_complete(&judged(lines.as_bytes())));
        let ended: String = (0..3).map(|n| message(n) + "\0").collect();
        let keys = Keys { sep: "||".into(), stream: "stream".into(), number: "n".into() };
        let mut checker = Checker::new(keys);
        read(BufReader::new(ended.as_bytes()), 1000, &mut checker).unwrap();
        assert_eq!(checker.verdict(), judged(lines.as_bytes()));
        // Without the last line break, with empty lines, with carriage returns.
        let untidy = lines.trim_end().replace('\n', "\r\n\r\n");
        assert_eq!(judged(untidy.as_bytes()), judged(lines.as_bytes()));
    }

    #[test]
    fn only_the_start_of_a_line_without_end_is_looked_at() {
        let long = "x".repeat(100_000);
        let text = format!("{}{long}\n{}\n{long}{}\n{}\n", message(0), message(1), message(2), message(2));
        let verdict = judged(text.as_bytes());
        assert!(is_complete(&verdict), "{verdict:?}");
        assert_eq!(verdict.origin.unwrap().unstamped, 1);
    }

    #[test]
    fn a_file_without_anything_to_judge_is_not_called_complete() {
        let verdict = judged(b"a line\n");
        assert!(!is_complete(&verdict));
        assert!(Report(&verdict).to_string().contains("no line has an origin stamp"));
        assert!(!is_complete(&judged(b"")));
    }

    #[test]
    fn the_report_fits_into_eighty_columns() {
        let stamp = |cursor: &str, index: u64| format!("||__origin__=my-project/web-access/12/{cursor}/{index}/1000\n");
        let gap = |from: &str, to: &str| {
            format!(
                "||project=my-project||logstore=web-access||shard=12||from={from}||to={to}||reason={}\n",
                "why ".repeat(99)
            )
        };
        let (one, two) = ("MTQ0NzI5OTYwNjg5NjYzMjM1Ng==", "MTQ0NzI5OTYwNjg5Njc2NTQzMg==");
        let text =
            [stamp(one, 3), stamp(one, 7), stamp(two, 998), gap(one, one), gap(two, ""), stamp("x_y", 7)].concat();
        let report = Report(&judged(text.as_bytes())).to_string();
        assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
        assert!(report.contains("index 0 to 2, of 1000 logs"), "{report}");
        assert!(report.ends_with("NOT COMPLETE"));
    }
}
