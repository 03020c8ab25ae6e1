//! The dead letter's lines: one JSON object for each log that no receiver takes, with all that SLS tells of it.
//!
//! Texts are JSON strings; one that is no UTF-8 is `{"base64": "..."}` instead, so that nothing is altered. Keys keep
//! their order and their repetitions.

use bytes::Bytes;
use data_encoding::BASE64;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::wire::sls::body::decompress;
use crate::wire::sls::proto::{Content, Log, LogGroup, LogGroupList, LogTag};
use crate::wire::sls::reply::Compression;

/// One log that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was set aside, as RFC 3339 writes it.
    pub when: String,
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Shard.
    pub shard: u32,
    /// Cursor of the batch with which it was pulled.
    pub cursor: String,
    /// Its place in that batch, counted from 0.
    pub place: u64,
    /// Its log group's place in that batch, counted from 0.
    pub group: u64,
    /// Its place in that log group, counted from 0.
    pub index: u64,
    /// Logs of that log group.
    pub logs: u64,
    /// Why no receiver takes it.
    pub reason: String,
    /// The log.
    #[serde(flatten)]
    pub log: SetAsideLog,
}

/// A log that was looked for, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its place in the batch.
    pub place: u64,
    /// Its log group's place in the body.
    pub group: u64,
    /// Its place in that log group.
    pub index: u64,
    /// Logs of that log group.
    pub logs: u64,
    /// The log.
    pub log: SetAsideLog,
}

/// A log with what its group says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAsideLog {
    /// `Topic`.
    pub topic: Text,
    /// `Source`.
    pub source: Text,
    /// Tags in their order.
    pub tags: Vec<(Text, Text)>,
    /// Unix seconds.
    pub time: u32,
    /// Nanoseconds within the second, where the log has them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nanoseconds: Option<u32>,
    /// Fields in their order.
    pub contents: Vec<(Text, Text)>,
}

/// A text of a producer, who is not forced to send UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// Valid UTF-8.
    Utf8(String),
    /// Anything else, in base64.
    Other {
        /// The bytes.
        base64: String,
    },
}

/// A body in which logs are looked for by their places.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Place of the body's first log in the batch.
    pub first: u64,
    /// Logs that the whole batch holds.
    pub logs: u64,
    /// Whether the batch ends with this body.
    pub last: bool,
    /// Which logs are looked for, as places in the batch, ascending.
    pub wanted: &'a [u64],
}

/// Why logs cannot be taken out of a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// It cannot be decompressed or decoded.
    #[error("the body of a batch to be set aside cannot be used: {0}")]
    BadBody(String),
    /// It is not what it was when its logs were sent, so that their places mean nothing.
    #[error("a batch holds {found} logs, but {expected} were sent")]
    OtherLogs {
        /// Logs that the batch holds now, as far as is known.
        found: u64,
        /// Logs that were sent.
        expected: u64,
    },
}

/// Takes the wanted logs out of a body; also says how many logs it holds.
///
/// # Errors
/// The body cannot be read, or does not hold the logs that are wanted.
pub fn take(
    body: &[u8],
    compression: Compression,
    raw_size: u64,
    place: Place<'_>,
) -> Result<(Vec<Taken>, u64), TakeError> {
    let mut buffer = Vec::new();
    let raw =
        decompress(body, compression, raw_size, &mut buffer).map_err(|error| TakeError::BadBody(error.to_string()))?;
    let list = LogGroupList::decode(raw).map_err(|error| TakeError::BadBody(error.to_string()))?;
    let logs: u64 = list.log_groups.iter().map(|group| group.logs.len() as u64).sum();
    let found = place.first + logs;
    if found > place.logs || place.last && found != place.logs {
        return Err(TakeError::OtherLogs { found, expected: place.logs });
    }
    let mut taken = Vec::new();
    let mut at = place.first;
    for (number, group) in (0..).zip(&list.log_groups) {
        let logs = group.logs.len() as u64;
        for (index, log) in (0..).zip(&group.logs) {
            if place.wanted.binary_search(&(at + index)).is_ok() {
                let log = SetAsideLog::new(group, log);
                taken.push(Taken { place: at + index, group: number, index, logs, log });
            }
        }
        at += logs;
    }
    Ok((taken, logs))
}

impl Text {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.to_owned()),
            Err(_) => Self::Other { base64: BASE64.encode(bytes) },
        }
    }

    /// The bytes that the producer sent; of a base64 that is none, its letters.
    pub fn bytes(&self) -> Bytes {
        match self {
            Self::Utf8(text) => text.clone().into(),
            Self::Other { base64 } => match BASE64.decode(base64.as_bytes()) {
                Ok(bytes) => bytes.into(),
                Err(_) => base64.clone().into(),
            },
        }
    }
}

impl SetAsideLog {
    fn new(group: &LogGroup, log: &Log) -> Self {
        let pair = |key: &Bytes, value: &Bytes| (Text::new(key), Text::new(value));
        Self {
            topic: Text::new(group.topic.as_deref().unwrap_or_default()),
            source: Text::new(group.source.as_deref().unwrap_or_default()),
            tags: group.log_tags.iter().map(|tag| pair(&tag.key, &tag.value)).collect(),
            time: log.time,
            nanoseconds: log.time_ns,
            contents: log.contents.iter().map(|content| pair(&content.key, &content.value)).collect(),
        }
    }

    /// The log as SLS would hand it out: alone in its group, alone in a list.
    pub fn to_list(&self) -> LogGroupList {
        let pairs = |(key, value): &(Text, Text)| (key.bytes(), value.bytes());
        let contents = self.contents.iter().map(pairs).map(|(key, value)| Content { key, value }).collect();
        let log_tags = self.tags.iter().map(pairs).map(|(key, value)| LogTag { key, value }).collect();
        let group = LogGroup {
            logs: vec![Log { time: self.time, contents, time_ns: self.nanoseconds }],
            topic: Some(self.topic.bytes()),
            source: Some(self.source.bytes()),
            log_tags,
            ..LogGroup::default()
        };
        LogGroupList { log_groups: vec![group] }
    }
}

impl Entry {
    /// The entry as a line, with its newline.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("texts, numbers and lists are always JSON");
        line.push(b'\n');
        line
    }

    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// What is not an entry, told in one sentence without any of its text.
    pub fn from_line(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| format!("not an entry: column {}", error.column()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sls::body::compress;

    fn content(key: &'static [u8], value: &'static [u8]) -> Content {
        Content { key: Bytes::from_static(key), value: Bytes::from_static(value) }
    }

    fn list() -> LogGroupList {
        let log = |n: u32| Log { time: n, contents: vec![content(b"n", b"x")], time_ns: None };
        let odd = Log {
            time: 7,
            contents: vec![content(b"k", b"1"), content(b"k", b"2"), content(b"\xff", b"a\xfe\nb"), content(b"", b"")],
            time_ns: Some(5),
        };
        let tag = |key: &'static [u8], value: &'static [u8]| LogTag { key: key.into(), value: value.into() };
        let first = LogGroup { logs: vec![log(0), log(1)], ..LogGroup::default() };
        let second = LogGroup {
            logs: vec![log(2), odd],
            topic: Some("topic".into()),
            source: Some("10.0.0.1".into()),
            log_tags: vec![tag(b"t", b"1"), tag(b"t", b"2")],
            ..LogGroup::default()
        };
        LogGroupList { log_groups: vec![first, second] }
    }

    fn take_from(list: &LogGroupList, place: Place<'_>) -> Result<(Vec<Taken>, u64), TakeError> {
        let raw = list.encode_to_vec();
        take(&compress(&raw, Compression::Lz4), Compression::Lz4, raw.len() as u64, place)
    }

    fn whole(wanted: &[u64]) -> Place<'_> {
        Place { first: 0, logs: 4, last: true, wanted }
    }

    #[test]
    fn places_count_logs_over_all_groups() {
        let (taken, logs) = take_from(&list(), whole(&[1, 3])).expect("a good body");
        let found: Vec<_> = taken.iter().map(|t| (t.place, t.group, t.index, t.logs, t.log.time)).collect();
        assert_eq!((found, logs), (vec![(1, 0, 1, 2, 1), (3, 1, 1, 2, 7)], 4));
        let second = Place { first: 10, logs: 14, last: true, wanted: &[3, 12] };
        let (taken, _) = take_from(&list(), second).expect("a good body");
        assert_eq!((taken.len(), taken[0].place, taken[0].index, taken[0].log.time), (1, 12, 0, 2));
    }

    #[test]
    fn an_entry_keeps_all_that_the_producer_sent() {
        let (mut taken, _) = take_from(&list(), whole(&[3])).expect("a good body");
        let entry = Entry {
            when: "2026-01-02T03:04:05Z".into(),
            project: "project".into(),
            logstore: "logstore".into(),
            shard: 3,
            cursor: "MTY".into(),
            place: 3,
            group: 1,
            index: 1,
            logs: 2,
            reason: "for a \"test\"\n".into(),
            log: taken.remove(0).log,
        };
        let line = entry.to_line();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line an entry");
        let read = Entry::from_line(&line).expect("our own line");
        assert_eq!(read, entry);
        let mut expected = list();
        expected.log_groups.remove(0);
        expected.log_groups[0].logs.remove(0);
        assert_eq!(read.log.to_list(), expected, "repeated keys, order and bytes that are no UTF-8 included");
    }

    #[test]
    fn a_batch_of_other_logs_is_refused() {
        let other = |found| Err(TakeError::OtherLogs { found, expected: 4 });
        assert_eq!(take_from(&list(), Place { first: 1, ..whole(&[1]) }), other(5));
        let mut fewer = list();
        fewer.log_groups.remove(0);
        assert_eq!(take_from(&fewer, whole(&[1])), other(2));
        assert!(take_from(&fewer, Place { last: false, ..whole(&[1]) }).is_ok(), "more may come");
        assert!(matches!(take(b"\xff", Compression::None, 1, whole(&[1])), Err(TakeError::BadBody(_))));
    }

    #[test]
    fn a_torn_line_is_no_entry_and_its_text_is_not_told() {
        let error = Entry::from_line(b"{\"when\":\"secret").expect_err("torn");
        assert!(!error.contains("secret"), "{error}");
    }
}
