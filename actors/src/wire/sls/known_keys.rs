//! Reads logs whose keys are known, which nearly all of a logstore are, in nearly always the same order. So the key that
//! followed the last one before is expected to follow it again, and to see that it does takes a comparison or two of
//! sixteen bytes.

use std::collections::HashMap;
use std::ops::Range;

use prost::encoding::encode_varint;

use super::log_group::{LogTime, delimited, nanoseconds, seconds};

/// What is compared at once.
const CHUNK: usize = 16;

/// Keys of contents, numbered as they came to be known.
#[derive(Debug, Clone, Default)]
pub struct KnownKeys {
    keys: Vec<KnownKey>,
    /// Of each, one behind the other, what a content with this key has in front of its value's length: `0a`, the key's
    /// length, the key, `12`.
    bytes: Vec<u8>,
    numbers: HashMap<Vec<u8>, usize>,
    /// The key that logs begin with.
    first: usize,
    /// Logs that were read.
    logs: u64,
}

/// How a key is found.
#[derive(Debug, Clone)]
struct KnownKey {
    /// Where its bytes are.
    at: usize,
    len: usize,
    /// The first of them, zeros behind, and ones where they are.
    start: u128,
    mask: u128,
    /// The last of them, where there are more than one chunk holds.
    end: u128,
    /// The key that is expected behind it.
    next: usize,
    /// The last log that has it.
    log: u64,
}

/// A content of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The number of its key.
    pub key: usize,
    /// Where its value is.
    pub value: Range<usize>,
}

impl KnownKeys {
    /// Whether this key is known.
    pub fn knows(&self, key: &[u8]) -> bool {
        self.numbers.contains_key(key)
    }

    /// Knows this key too, as the next number.
    pub fn push(&mut self, key: &[u8]) {
        let (number, at) = (self.keys.len(), self.bytes.len());
        self.numbers.insert(key.to_vec(), number);
        self.bytes.push(0x0a);
        encode_varint(key.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(key);
        self.bytes.push(0x12);
        let bytes = &self.bytes[at..];
        let (mut start, mut mask) = ([0; CHUNK], [0; CHUNK]);
        for ((byte, start), mask) in bytes.iter().zip(&mut start).zip(&mut mask) {
            (*start, *mask) = (*byte, 0xff);
        }
        let end = bytes.last_chunk().map_or(0, |chunk| u128::from_le_bytes(*chunk));
        let (start, mask) = (u128::from_le_bytes(start), u128::from_le_bytes(mask));
        self.keys.push(KnownKey { at, len: bytes.len(), start, mask, end, next: number + 1, log: 0 });
    }

    /// Reads a log that has known keys only, and each once: its time and, in place of what was in `fields`, its contents.
    /// Nothing if it is another log, or malformed, or in an encoding that hardly a producer writes.
    #[inline]
    pub fn read_log(&mut self, list: &[u8], log: Range<usize>, fields: &mut Vec<Field>) -> Option<LogTime> {
        fields.clear();
        self.logs += 1;
        let (bytes, number) = (&list[..log.end], self.logs);
        let (mut at, mut time, mut expected) = (log.start, LogTime::default(), self.first);
        while let Some(tag) = bytes.get(at) {
            at = match tag {
                0x12 => {
                    let content = delimited(bytes, at + 1, "a content").ok()?;
                    let mut key = expected;
                    let mut known = self.keys.get_mut(key);
                    let mut value_at = known.as_ref().and_then(|known| known.end(&self.bytes, list, content.start));
                    if value_at.is_none() {
                        let found = self.find(list, content.clone(), expected, fields.last())?;
                        (key, value_at, known) = (found.0, Some(found.1), self.keys.get_mut(found.0));
                    }
                    let (known, value_at) = (known?, value_at?);
                    if std::mem::replace(&mut known.log, number) == number {
                        return None;
                    }
                    expected = known.next;
                    let value = match bytes.get(value_at) {
                        Some(len @ ..0x80) if value_at + 1 + usize::from(*len) == content.end => {
                            value_at + 1..content.end
                        }
                        _ => delimited(&bytes[..content.end], value_at, "a value")
                            .ok()
                            .filter(|value| value.end == content.end)?,
                    };
                    fields.push(Field { key, value });
                    content.end
                }
                0x08 => {
                    let end;
                    (time.seconds, end) = seconds(bytes, at + 1).ok()?;
                    end
                }
                0x25 => {
                    time.nanoseconds = Some(nanoseconds(bytes, at + 1).ok()?);
                    at + 5
                }
                _ => return None,
            };
        }
        Some(time)
    }

    /// Another key than the one expected behind `last`, and where it ends.
    #[inline(never)]
    fn find(
        &mut self,
        list: &[u8],
        content: Range<usize>,
        expected: usize,
        last: Option<&Field>,
    ) -> Option<(usize, usize)> {
        // Logs in which one field is missing have the one behind it. It is not expected for that: other logs have both.
        if let Some(behind) = self.keys.get(expected).map(|key| key.next)
            && let Some(end) = self.keys.get(behind).and_then(|key| key.end(&self.bytes, list, content.start))
        {
            return Some((behind, end));
        }
        let bytes = &list[content.clone()];
        let key = delimited(bytes, 1, "a key").ok()?;
        if bytes.first() != Some(&0x0a) || bytes.get(key.end) != Some(&0x12) {
            return None;
        }
        let number = *self.numbers.get(&bytes[key.clone()])?;
        match last {
            Some(last) => self.keys[last.key].next = number,
            None => self.first = number,
        }
        Some((number, content.start + key.end + 1))
    }
}

impl KnownKey {
    /// The end of this key's bytes in `list`, if they are at `at`.
    #[inline(always)]
    fn end(&self, bytes: &[u8], list: &[u8], at: usize) -> Option<usize> {
        let end = at + self.len;
        let is_there = match list[at..].first_chunk::<CHUNK>() {
            Some(start) if u128::from_le_bytes(*start) & self.mask != self.start => false,
            Some(_) if self.len <= CHUNK => true,
            Some(_) if self.len <= 2 * CHUNK => {
                list.get(end - CHUNK..)?.first_chunk().is_some_and(|chunk| u128::from_le_bytes(*chunk) == self.end)
            }
            _ => list.get(at..end)? == &bytes[self.at..self.at + self.len],
        };
        is_there.then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::sls::log_group::read_log;

    fn known(keys: &[Vec<u8>]) -> KnownKeys {
        let mut known = KnownKeys::default();
        keys.iter().for_each(|key| known.push(key));
        known
    }

    /// A field of a log, its length in as many bytes as it needs.
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![tag];
        encode_varint(bytes.len() as u64, &mut field);
        [&field[..], bytes].concat()
    }

    fn content(key: &[u8], value: &[u8]) -> Vec<u8> {
        field(0x12, &[field(0x0a, key), field(0x12, value)].concat())
    }

    /// Keys of all lengths that are compared in another way, alike in most of their bytes.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let len = prop_oneof![0..40_usize, Just(130)];
        (len, 0..40_usize, prop::bool::weighted(0.2)).prop_map(|(len, at, differs)| {
            let mut key = vec![b'k'; len];
            if let Some(byte) = key.get_mut(at).filter(|_| differs) {
                *byte = b'x';
            }
            key
        })
    }

    #[derive(Debug, Clone)]
    struct Sample {
        /// Known keys by number, or others.
        contents: Vec<(Result<prop::sample::Index, Vec<u8>>, String)>,
        seconds: u32,
        nanoseconds: Option<u32>,
        time_behind: bool,
        /// Bytes that are missing at its end.
        cut: usize,
    }

    fn sample() -> impl Strategy<Value = Sample> {
        let key = prop_oneof![20 => any::<prop::sample::Index>().prop_map(Ok), 1 => key().prop_map(Err)];
        let contents = prop::collection::vec((key, ".{0,8}|.{130}"), 0..5);
        let seconds = prop_oneof![any::<u32>(), Just(1_764_000_000)];
        let cut = prop_oneof![4 => Just(0), 1 => 0..60_usize];
        (contents, seconds, prop::option::of(any::<u32>()), any::<bool>(), cut).prop_map(
            |(contents, seconds, nanoseconds, time_behind, cut)| Sample {
                contents,
                seconds,
                nanoseconds,
                time_behind,
                cut,
            },
        )
    }

    proptest! {
        /// It reads every log that has known keys once each as any log is read, whatever logs came before, and no other.
        #[test]
        fn known_logs_are_read_as_all_are(
            keys in prop::collection::hash_set(key(), 0..6),
            samples in prop::collection::vec(sample(), 1..6),
            behind in 0..40_usize,
        ) {
            let keys: Vec<Vec<u8>> = keys.into_iter().collect();
            let mut known = known(&keys);
            for sample in samples {
                let contents = sample.contents.iter().flat_map(|(key, value)| match key {
                    Ok(index) if keys.is_empty() => content(index.index(9).to_string().as_bytes(), value.as_bytes()),
                    Ok(index) => content(&keys[index.index(keys.len())], value.as_bytes()),
                    Err(other) => content(other, value.as_bytes()),
                });
                let contents: Vec<u8> = contents.collect();
                let mut time = vec![0x08];
                encode_varint(u64::from(sample.seconds), &mut time);
                let mut log = if sample.time_behind { [contents, time].concat() } else { [time, contents].concat() };
                if let Some(nanoseconds) = sample.nanoseconds {
                    log.push(0x25);
                    log.extend_from_slice(&nanoseconds.to_le_bytes());
                }
                let end = log.len().saturating_sub(sample.cut);
                // What is behind a log is not of it.
                log.extend_from_slice(&b"k".repeat(behind));

                let mut pairs = Vec::new();
                let time = read_log(&log, 0..end, |pair| pairs.push((pair.key, pair.value)));
                let distinct: HashSet<&[u8]> = pairs.iter().map(|(key, _)| *key).collect();
                let is_known = distinct.len() == pairs.len() && distinct.iter().all(|key| known.knows(key));
                let mut fields = Vec::new();
                let read = known.read_log(&log, 0..end, &mut fields);
                prop_assert_eq!(read, time.ok().filter(|_| is_known));
                if read.is_some() {
                    let fields = fields.into_iter().map(|field| (&keys[field.key][..], &log[field.value]));
                    prop_assert_eq!(fields.collect::<Vec<_>>(), pairs);
                }
            }
        }
    }

    #[test]
    fn other_encodings_are_left_to_others() {
        let mut keys = known(&[b"key".to_vec()]);
        for log in [
            field(0x12, &[field(0x12, b"value"), field(0x0a, b"key")].concat()),
            field(0x12, &[content(b"key", b"value"), vec![0x18, 1]].concat()),
            [&[0x92, 0x00, 8][..], &field(0x0a, b"key"), &field(0x12, b"v")].concat(),
            [content(b"key", b"value"), vec![0x18, 1]].concat(),
            [content(b"key", b"value"), vec![0x25, 1]].concat(),
        ] {
            assert_eq!(keys.read_log(&log, 0..log.len(), &mut Vec::new()), None, "{log:x?}");
        }
    }
}
