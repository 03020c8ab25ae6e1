//! What was received, judged by what the messages say of themselves: nothing missing, nothing twice, in order.
//!
//! There are two such sayings. The origin stamp of a forwarder names shard, cursor and index ([`super::origin`]). A log of
//! our generator carries the name of its stream and its number there, from 0. Of each stream only ranges of numbers are
//! kept, so memory grows with the holes, not with the messages. A message may have both, or neither.

use std::collections::BTreeMap;

use serde::Serialize;
use sls_syslog_actors::wire::syslog::parse::parse;
use sls_syslog_actors::wire::syslog::rfc3164;

use super::origin::{Account, OriginVerdict};
use super::ranges::Ranges;

/// Judges messages one by one and keeps the verdict.
#[derive(Debug)]
pub struct Checker {
    keys: Keys,
    streams: BTreeMap<Vec<u8>, Stream>,
    malformed: BTreeMap<String, u64>,
    rfc3164: u64,
    gap_records: u64,
    unnumbered: u64,
    origin: Account,
}

/// How the id of a generated log is found in its message.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Separator of the key=value pairs.
    pub sep: String,
    /// Key of the stream's name.
    pub stream: String,
    /// Key of the number within the stream.
    pub number: String,
}

/// Kinds of malformed messages that are told apart; the rest is counted together.
const MAX_REASONS: usize = 50;
/// Streams that are told apart; messages of more count as unnumbered.
const MAX_STREAMS: usize = 100_000;

/// What is known of one stream.
#[derive(Debug, Default)]
struct Stream {
    /// Numbers seen.
    seen: Ranges,
    messages: u64,
    /// First deliveries that came after a higher number.
    late: u64,
}

/// The verdict so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Messages that carry no id of a generator and are no gap record.
    pub unnumbered: u64,
    /// Gap records.
    pub gap_records: u64,
    /// Messages that are neither RFC 5424 nor RFC 3164, by reason.
    pub malformed: BTreeMap<String, u64>,
    /// Messages that are RFC 3164.
    #[serde(skip_serializing_if = "is_zero")]
    pub rfc3164: u64,
    /// Streams.
    pub streams: u64,
    /// Different logs.
    pub unique: u64,
    /// Deliveries beyond the first.
    pub duplicates: u64,
    /// Numbers below the highest of their stream that never came.
    pub missing: u64,
    /// First deliveries that came after a later log of their stream.
    pub out_of_order: u64,
    /// What the origin stamps say, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<OriginVerdict>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Verdict {
    /// Whether everything came whole, well-formed and in order; duplicates are allowed.
    pub fn holds(&self) -> bool {
        let origin = self.origin.as_ref().is_none_or(|origin| origin.is_complete() && origin.reordered == 0);
        self.malformed.is_empty() && self.missing == 0 && self.out_of_order == 0 && origin
    }
}

impl Checker {
    /// Has seen nothing.
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            streams: BTreeMap::new(),
            malformed: BTreeMap::new(),
            rfc3164: 0,
            gap_records: 0,
            unnumbered: 0,
            origin: Account::default(),
        }
    }

    /// Judges one message.
    pub fn message(&mut self, message: &[u8]) {
        self.origin.line(message);
        if let Err(reason) = self.parsed(message) {
            self.count_malformed(reason);
        }
    }

    /// Judges a line of a file, which need not be syslog any more: what is not is judged by its stamp alone.
    pub fn line(&mut self, line: &[u8]) {
        self.origin.line(line);
        let _ = self.parsed(line);
    }

    /// Judges a message that is syslog; otherwise says why it is none, without the position, which differs from message to
    /// message.
    fn parsed(&mut self, message: &[u8]) -> Result<(), &'static str> {
        let (is_gap, text) = match parse(message) {
            Ok(parsed) => (parsed.msgid == Some("gap"), parsed.msg.unwrap_or_default()),
            Err(error) => match rfc3164::parse(message) {
                Ok(parsed) => {
                    self.rfc3164 += 1;
                    (parsed.is_gap(), parsed.msg)
                }
                Err(error) if rfc3164::is_meant(message) => return Err(error.what),
                Err(_) => return Err(error.what),
            },
        };
        match is_gap {
            true => self.gap_records += 1,
            false => self.judge(text),
        }
        Ok(())
    }

    fn judge(&mut self, text: &[u8]) {
        let stream = value_of(text, &self.keys.sep, &self.keys.stream);
        let number = value_of(text, &self.keys.sep, &self.keys.number)
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok())
            .filter(|number| *number < u64::MAX);
        match (stream, number) {
            (Some(stream), Some(number)) => {
                if let Some(known) = self.streams.get_mut(stream) {
                    known.insert(number);
                } else if self.streams.len() < MAX_STREAMS {
                    self.streams.entry(stream.to_vec()).or_default().insert(number);
                } else {
                    self.unnumbered += 1;
                }
            }
            _ => self.unnumbered += 1,
        }
    }

    fn count_malformed(&mut self, reason: &str) {
        let reason = match self.malformed.len() < MAX_REASONS || self.malformed.contains_key(reason) {
            true => reason,
            false => "other reasons",
        };
        match self.malformed.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(self.malformed.insert(reason.to_owned(), 1)),
        }
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Verdict {
        let sum = |of: fn(&Stream) -> u64| self.streams.values().map(of).sum();
        Verdict {
            unnumbered: self.unnumbered,
            gap_records: self.gap_records,
            malformed: self.malformed.clone(),
            rfc3164: self.rfc3164,
            streams: self.streams.len() as u64,
            unique: sum(|stream| stream.seen.len()),
            duplicates: sum(|stream| stream.messages - stream.seen.len()),
            missing: sum(|stream| stream.seen.end() - stream.seen.len()),
            out_of_order: sum(|stream| stream.late),
            origin: self.origin.verdict(),
        }
    }
}

impl Stream {
    fn insert(&mut self, number: u64) {
        self.messages += 1;
        let end = self.seen.end();
        if self.seen.insert(number) {
            self.late += u64::from(number < end);
        }
    }
}

/// The first value of `key` in a payload of `sep key=value` pairs, unescaped.
pub fn value_of<'a>(text: &'a [u8], sep: &str, key: &str) -> Option<&'a [u8]> {
    let sep = sep.as_bytes();
    let mut rest = text;
    loop {
        rest = &rest[memchr::memmem::find(rest, sep)? + sep.len()..];
        if let Some(value) = rest.strip_prefix(key.as_bytes()).and_then(|behind| behind.strip_prefix(b"=")) {
            return Some(&value[..memchr::memmem::find(value, sep).unwrap_or(value.len())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checker() -> Checker {
        Checker::new(Keys { sep: "||".into(), stream: "stream".into(), number: "n".into() })
    }

    fn told(checker: &mut Checker, stream: &str, numbers: impl IntoIterator<Item = u64>) {
        for n in numbers {
            checker.message(format!("<14>1 - - - - - - ||stream={stream}||text=a=b||n={n}").as_bytes());
        }
    }

    #[test]
    fn everything_once_and_in_order_holds() {
        let mut checker = checker();
        told(&mut checker, "a", 0..100);
        told(&mut checker, "b", 0..50);
        let verdict = checker.verdict();
        assert!(verdict.holds());
        assert_eq!((verdict.streams, verdict.unique, verdict.duplicates, verdict.missing), (2, 150, 0, 0));
    }

    #[test]
    fn a_hole_is_missing_until_it_is_filled_late() {
        let mut checker = checker();
        told(&mut checker, "a", [0, 1, 4, 5]);
        assert_eq!(checker.verdict().missing, 2);
        told(&mut checker, "a", [3, 2]);
        let verdict = checker.verdict();
        assert_eq!((verdict.missing, verdict.out_of_order, verdict.duplicates), (0, 2, 0));
        assert!(!verdict.holds());
        assert_eq!(checker.streams[&b"a"[..]].seen.holes(0, 6), []);
    }

    #[test]
    fn the_beginning_of_a_stream_can_be_missing() {
        let mut checker = checker();
        told(&mut checker, "a", [7]);
        assert_eq!(checker.verdict().missing, 7);
    }

    #[test]
    fn a_replay_counts_as_duplicates_and_not_as_disorder() {
        let mut checker = checker();
        told(&mut checker, "a", (0..10).chain(5..15));
        let verdict = checker.verdict();
        assert_eq!((verdict.unique, verdict.duplicates, verdict.out_of_order), (15, 5, 0));
        assert!(verdict.holds());
    }

    #[test]
    fn rfc3164_is_judged_as_rfc5424_is() {
        let mut checker = checker();
        for n in [0, 1, 3] {
            checker.message(format!("<14>Jan  2 03:04:05 h sls: ||stream=a||n={n}").as_bytes());
        }
        checker.message(b"<11>Jan  2 03:04:05 h sls: gap ||project=p||logstore=l||shard=0||from=||to=||reason=r");
        checker.message(b"<14>Jan 02 03:04:05 h sls: ||stream=a||n=2");
        let verdict = checker.verdict();
        assert_eq!((verdict.rfc3164, verdict.gap_records, verdict.missing), (4, 1, 1));
        assert_eq!(verdict.malformed.keys().collect::<Vec<_>>(), ["a TIMESTAMP that is none"]);
    }

    #[test]
    fn what_is_not_syslog_is_counted_by_reason_and_gap_records_apart() {
        let mut checker = checker();
        checker.message(b"hello");
        checker.message(b"hello again");
        checker.message(b"<14>1 - - - - gap - from=a to=b");
        checker.message(b"<14>1 - - - - - - no id");
        let verdict = checker.verdict();
        assert_eq!(verdict.malformed.values().copied().collect::<Vec<_>>(), [2]);
        assert_eq!((verdict.gap_records, verdict.unnumbered), (1, 1));
        assert!(!verdict.holds());
    }
}
