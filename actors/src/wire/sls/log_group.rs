//! Walks a decompressed `LogGroupList` in place: borrowed slices, nothing decoded into structs of its own.
//!
//! The schema is proto2 and small: a list of groups (1); a group has logs (1), topic (3), source (4) and tags (6), and
//! the last three come *behind* the logs, so [`Group::read`] looks through the group once before its logs are read.
//! Strings are bytes here, because producers are not forced to send UTF-8. Fields that are not known are skipped;
//! a field that is missing has its default, as in prost (a log without time is of 1970). Every length is checked against
//! what encloses it, and whatever does not parse is an error with its offset in the list.

use std::ops::Range;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Bytes that are no log group list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed log group list: {what} at offset {offset}")]
pub struct Malformed {
    /// What did not parse.
    pub what: &'static str,
    /// Where, in bytes from the start of the list.
    pub offset: usize,
}

/// Topic, source and tags of a group, and the number of its logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group<'a> {
    /// `Topic`, empty if absent.
    pub topic: &'a [u8],
    /// `Source`, empty if absent.
    pub source: &'a [u8],
    /// `LogTags` in their order, repeated keys included (but not those that follow each other directly: the last counts).
    pub tags: Vec<Pair<'a>>,
    /// How many logs it has.
    pub logs: u64,
}

/// A key with its value: a tag of a group or a content of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pair<'a> {
    /// Key.
    pub key: &'a [u8],
    /// Value.
    pub value: &'a [u8],
}

/// The fields of a log that are no contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogTime {
    /// Unix seconds.
    pub seconds: u32,
    /// Nanoseconds within the second, as sent: also 0 and values out of range.
    pub nanoseconds: Option<u32>,
}

/// Counts the groups of a list, so that it can be compared with `x-log-count` before anything is rendered.
///
/// # Errors
/// [`Malformed`]: what is wrong, and where.
pub fn count_groups(list: &[u8]) -> Result<u64, Malformed> {
    let (mut at, mut groups) = (0, 0);
    while let Some(group) = next_group(list, at)? {
        at = group.end;
        groups += 1;
    }
    Ok(groups)
}

/// Finds the first group at or behind `at`, which is 0 or the end of another group.
///
/// # Errors
/// [`Malformed`]: what is wrong, and where.
pub fn next_group(list: &[u8], at: usize) -> Result<Option<Range<usize>>, Malformed> {
    next_message(list, at, "a log group")
}

/// Finds the first log at or behind `at`, which is the start of a group or the end of another log of it; `group_end` is
/// the group's end.
///
/// # Errors
/// [`Malformed`]: what is wrong, and where.
#[inline]
pub fn next_log(list: &[u8], at: usize, group_end: usize) -> Result<Option<Range<usize>>, Malformed> {
    next_message(&list[..group_end], at, "a log")
}

impl<'a> Group<'a> {
    /// Reads what all logs of the group share, in place of what was read before.
    ///
    /// # Errors
    /// [`Malformed`]: what is wrong, and where.
    pub fn read(&mut self, list: &'a [u8], group: Range<usize>) -> Result<(), Malformed> {
        let bytes = &list[..group.end];
        let mut at = group.start;
        (self.topic, self.source, self.logs) = (b"", b"", 0);
        self.tags.clear();
        while at < bytes.len() {
            // Nearly all of a group are logs.
            if bytes[at] == 0x0a {
                self.logs += 1;
                at = delimited(bytes, at + 1, "a log")?.end;
                continue;
            }
            let field = Field::read(bytes, at)?;
            at = match (field.number, field.wire_type) {
                (1, WireType::LengthDelimited) => {
                    // The same key in a longer encoding.
                    self.logs += 1;
                    delimited(bytes, field.value_at, "a log")?.end
                }
                (3, WireType::LengthDelimited) => {
                    let range = delimited(bytes, field.value_at, "a topic")?;
                    self.topic = &bytes[range.clone()];
                    range.end
                }
                (4, WireType::LengthDelimited) => {
                    let range = delimited(bytes, field.value_at, "a source")?;
                    self.source = &bytes[range.clone()];
                    range.end
                }
                (6, WireType::LengthDelimited) => {
                    let range = delimited(bytes, field.value_at, "a tag")?;
                    let tag = Pair::read(bytes, range.clone())?;
                    // Millions of empty tags would otherwise take sixteen times their size.
                    match self.tags.last_mut() {
                        Some(last) if last.key == tag.key => last.value = tag.value,
                        _ => self.tags.push(tag),
                    }
                    range.end
                }
                (1 | 3 | 4 | 6, _) => {
                    return Err(Malformed { what: "wire type of a field of a log group", offset: at });
                }
                _ => field.skip(bytes)?,
            };
        }
        Ok(())
    }
}

/// Reads a log: its time, and each content, in order, into `content`.
///
/// # Errors
/// [`Malformed`]: what is wrong, and where.
#[inline(always)]
pub fn read_log<'a>(
    list: &'a [u8],
    log: Range<usize>,
    mut content: impl FnMut(Pair<'a>),
) -> Result<LogTime, Malformed> {
    let bytes = &list[..log.end];
    let (mut at, mut time) = (log.start, LogTime::default());
    while at < bytes.len() {
        // Nearly all of a log are contents, and nearly all of them have this shape.
        if bytes[at] == 0x12 {
            let range = delimited(bytes, at + 1, "a content")?;
            content(Pair::read(bytes, range.clone())?);
            at = range.end;
            continue;
        }
        if bytes[at] == 0x08 {
            (time.seconds, at) = seconds(bytes, at + 1)?;
            continue;
        }
        let field = Field::read(bytes, at)?;
        at = match (field.number, field.wire_type) {
            (1, WireType::Varint) => {
                let end;
                (time.seconds, end) = seconds(bytes, field.value_at)?;
                end
            }
            (2, WireType::LengthDelimited) => {
                // The same key in a longer encoding.
                let range = delimited(bytes, field.value_at, "a content")?;
                content(Pair::read(bytes, range.clone())?);
                range.end
            }
            (4, WireType::ThirtyTwoBit) => {
                time.nanoseconds = Some(nanoseconds(bytes, field.value_at)?);
                field.value_at + 4
            }
            (1 | 2 | 4, _) => return Err(Malformed { what: "wire type of a field of a log", offset: at }),
            _ => field.skip(bytes)?,
        };
    }
    Ok(time)
}

impl<'a> Pair<'a> {
    /// Reads a `Content` or a `LogTag`, which have the same two fields.
    #[inline(always)]
    fn read(list: &'a [u8], pair: Range<usize>) -> Result<Self, Malformed> {
        let bytes = &list[..pair.end];
        // Key and value once, in this order, with nothing else: what every producer writes.
        if bytes.get(pair.start) == Some(&0x0a)
            && let Ok(key) = delimited(bytes, pair.start + 1, "a key")
            && bytes.get(key.end) == Some(&0x12)
            && let Ok(value) = delimited(bytes, key.end + 1, "a value")
            && value.end == pair.end
        {
            return Ok(Self { key: &bytes[key], value: &bytes[value] });
        }
        Self::read_any(bytes, pair.start)
    }

    #[cold]
    fn read_any(bytes: &'a [u8], mut at: usize) -> Result<Self, Malformed> {
        let mut pair = Self::default();
        while at < bytes.len() {
            let field = Field::read(bytes, at)?;
            at = match (field.number, field.wire_type) {
                (1, WireType::LengthDelimited) => {
                    let range = delimited(bytes, field.value_at, "a key")?;
                    pair.key = &bytes[range.clone()];
                    range.end
                }
                (2, WireType::LengthDelimited) => {
                    let range = delimited(bytes, field.value_at, "a value")?;
                    pair.value = &bytes[range.clone()];
                    range.end
                }
                (1 | 2, _) => return Err(Malformed { what: "wire type of a key or value", offset: at }),
                _ => field.skip(bytes)?,
            };
        }
        Ok(pair)
    }
}

/// The next embedded message with field number 1, wherever it comes among fields that do not matter here.
#[inline]
fn next_message(bytes: &[u8], mut at: usize, what: &'static str) -> Result<Option<Range<usize>>, Malformed> {
    while at < bytes.len() {
        if bytes[at] == 0x0a {
            return delimited(bytes, at + 1, what).map(Some);
        }
        let field = Field::read(bytes, at)?;
        at = match (field.number, field.wire_type) {
            (1, WireType::LengthDelimited) => return delimited(bytes, field.value_at, what).map(Some),
            (1, _) => return Err(Malformed { what: "wire type of a log group or log", offset: at }),
            _ => field.skip(bytes)?,
        };
    }
    Ok(None)
}

/// A field's key, read.
struct Field {
    number: u32,
    wire_type: WireType,
    value_at: usize,
}

impl Field {
    fn read(bytes: &[u8], at: usize) -> Result<Self, Malformed> {
        let mut rest = &bytes[at..];
        let (number, wire_type) =
            decode_key(&mut rest).map_err(|_| Malformed { what: "the key of a field", offset: at })?;
        Ok(Self { number, wire_type, value_at: bytes.len() - rest.len() })
    }

    /// The end of a field that is not known.
    #[cold]
    fn skip(&self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut rest = &bytes[self.value_at..];
        skip_field(self.wire_type, self.number, &mut rest, DecodeContext::default())
            .map_err(|_| Malformed { what: "a field that is not known", offset: self.value_at })?;
        Ok(bytes.len() - rest.len())
    }
}

/// A log's time, which stands at `at`, and where it ends.
#[inline(always)]
pub(super) fn seconds(bytes: &[u8], at: usize) -> Result<(u32, usize), Malformed> {
    // Five bytes from 1978 on, with nearly always more behind them.
    if let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*chunk);
        if word & 0x80_8080_8080 == 0x8080_8080 {
            let part = |index: u32| (word >> (8 * index) & 0x7f) << (7 * index);
            return Ok(((0..5).map(part).sum::<u64>() as u32, at + 5));
        }
    }
    let (seconds, end) = varint(bytes, at, "a time")?;
    // As prost does with a uint32.
    Ok((seconds as u32, end))
}

/// A log's nanoseconds, which stand at `at`.
#[inline(always)]
pub(super) fn nanoseconds(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let nanoseconds = bytes.get(at..).and_then(|rest| rest.first_chunk());
    nanoseconds.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(Malformed { what: "nanoseconds", offset: at })
}

/// Where the bytes of a length-delimited field are, whose length stands at `at`.
#[inline(always)]
pub(super) fn delimited(bytes: &[u8], at: usize, what: &'static str) -> Result<Range<usize>, Malformed> {
    let (len, start) = varint(bytes, at, what)?;
    // `start` is at most `bytes.len()`.
    if len > (bytes.len() - start) as u64 {
        return Err(Malformed { what, offset: at });
    }
    Ok(start..start + len as usize)
}

/// A varint and where it ends; those of one and two bytes, which is nearly all, without a call.
#[inline(always)]
fn varint(bytes: &[u8], at: usize, what: &'static str) -> Result<(u64, usize), Malformed> {
    match bytes.get(at..) {
        Some([one, ..]) if *one < 0x80 => Ok((u64::from(*one), at + 1)),
        Some([low, high, ..]) if *high < 0x80 => Ok((u64::from(*low & 0x7f) | u64::from(*high) << 7, at + 2)),
        rest => long_varint(rest.unwrap_or_default(), at, what),
    }
}

fn long_varint(mut rest: &[u8], at: usize, what: &'static str) -> Result<(u64, usize), Malformed> {
    let before = rest.len();
    let value = decode_varint(&mut rest).map_err(|_| Malformed { what, offset: at })?;
    Ok((value, at + before - rest.len()))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::sls::proto::LogGroupList;

    /// A length-delimited field, its length in two bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8 & 0x7f | 0x80, (bytes.len() >> 7) as u8], bytes].concat()
    }

    /// What the walker reads, in the shape of the structs.
    fn walk(list: &[u8]) -> Result<Vec<WalkedGroup>, Malformed> {
        let (mut groups, mut at, mut group) = (Vec::new(), 0, Group::default());
        while let Some(bytes) = next_group(list, at)? {
            group.read(list, bytes.clone())?;
            let (mut logs, mut log_at) = (Vec::new(), bytes.start);
            while let Some(log) = next_log(list, log_at, bytes.end)? {
                log_at = log.end;
                let mut contents = Vec::new();
                let time = read_log(list, log, |pair| contents.push((pair.key.to_vec(), pair.value.to_vec())))?;
                logs.push((time.seconds, time.nanoseconds, contents));
            }
            groups.push((group.topic.to_vec(), group.source.to_vec(), group.tags.len(), logs));
            at = bytes.end;
        }
        assert_eq!(count_groups(list), Ok(groups.len() as u64));
        Ok(groups)
    }

    /// Topic, source, number of tags, logs.
    type WalkedGroup = (Vec<u8>, Vec<u8>, usize, Vec<WalkedLog>);
    type WalkedLog = (u32, Option<u32>, Vec<(Vec<u8>, Vec<u8>)>);

    fn with_prost(list: &[u8]) -> Vec<WalkedGroup> {
        let list = LogGroupList::decode(list).unwrap();
        let groups = list.log_groups.into_iter().map(|group| {
            let logs = group.logs.into_iter().map(|log| {
                let contents = log.contents.into_iter().map(|pair| (pair.key.to_vec(), pair.value.to_vec()));
                (log.time, log.time_ns, contents.collect())
            });
            let text = |text: Option<bytes::Bytes>| text.unwrap_or_default().to_vec();
            (text(group.topic), text(group.source), group.log_tags.len(), logs.collect())
        });
        groups.collect()
    }

    /// No producer has to write fields in the usual order, once, or in their shortest form.
    #[test]
    fn unusual_encodings_are_read_as_prost_reads_them() {
        let unknown = [&field(9, b"skipped")[..], &[7 << 3, 0xff, 0x01], &[0x7b, 0x08, 0x01, 0x7c]].concat();
        let content = [field(2, b"value"), unknown.clone(), field(1, b"overwritten"), field(1, b"key")].concat();
        let time = [8, 0x80, 0xe2, 0xcf, 0xaa, 0x86, 0x80, 0x80, 0x80, 0x80, 0x00];
        let log = [
            &field(2, &content)[..],
            &[0x25, 1, 2, 3, 4],
            &unknown,
            // The key of contents in two bytes, then an empty content.
            &[0x92, 0x00, 2, 0x0a, 0],
            &time,
            &[0x12, 0],
        ]
        .concat();
        let tag = [field(1, b"a"), field(2, b"b")].concat();
        let group = [
            field(3, b"topic"),
            field(6, &tag),
            field(1, &log),
            unknown.clone(),
            field(3, b"the last topic"),
            field(1, b""),
            field(4, b"source"),
            field(2, b"category"),
        ]
        .concat();
        let list = [unknown.clone(), field(1, &group), field(1, b""), unknown].concat();
        let walked = walk(&list).unwrap();
        assert_eq!(walked, with_prost(&list));
        assert_eq!(walked[0].3[0].0, 1_700_000_000);
        assert_eq!(walked[0].3[0].2.len(), 3);
    }

    #[test]
    fn what_does_not_fit_into_what_encloses_it_is_an_error_with_its_place() {
        for (list, offset) in [
            (&[0x0a][..], 1),
            (&[0x0a, 0x80], 1),
            (&[0x0a, 2, 0x0a], 1),
            // A log longer than its group, though not than the list.
            (&[0x0a, 2, 0x0a, 3, 8, 1, 8], 3),
            (&[0x0a, 4, 0x0a, 2, 0x12, 5], 5),
            // A key longer than its content.
            (&[0x0a, 7, 0x0a, 5, 0x12, 3, 0x0a, 9, b'k'], 7),
            (&[0x0a, 5, 0x0a, 3, 0x25, 0, 0], 5),
            // Wire types: a log as number, time as bytes, topic as number.
            (&[0x08, 1], 0),
            (&[0x0a, 4, 0x0a, 2, 0x0a, 0], 4),
            (&[0x0a, 2, 0x18, 1], 2),
            // Field number 0, a varint of eleven bytes, a group that ends without a beginning.
            (&[0x02, 0], 0),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 1),
            (&[0x4c], 1),
        ] {
            let malformed = walk(list).expect_err(&format!("{list:x?}"));
            assert_eq!(malformed.offset, offset, "{list:x?}: {malformed}");
            assert!(LogGroupList::decode(list).is_err(), "{list:x?}");
        }
    }

    #[test]
    fn tags_that_follow_each_other_with_one_key_take_no_memory() {
        let mut group = Vec::new();
        for _ in 0..10_000 {
            group.extend_from_slice(&[0x32, 0]);
        }
        let mut read = Group::default();
        read.read(&group, 0..group.len()).unwrap();
        assert_eq!(read.tags.len(), 1);
    }
}
