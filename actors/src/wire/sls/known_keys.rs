//! Reads logs whose keys are known. Nearly all logs of a logstore have the same keys in the same order; to see that a log is
//! one of them takes a comparison or two of sixteen bytes a key.

use std::ops::Range;

use prost::encoding::encode_varint;

use super::log_group::{LogTime, delimited, nanoseconds, seconds};

/// What is compared at once.
const CHUNK: usize = 16;

/// Keys of contents in the order in which logs have them.
#[derive(Debug, Clone, Default)]
pub struct KnownKeys {
    keys: Vec<KnownKey>,
    /// Of each, one behind the other, what a content with this key has in front of its value's length: `0a`, the key's
    /// length, the key, `12`.
    bytes: Vec<u8>,
}

/// How a key's bytes are found.
#[derive(Debug, Clone)]
struct KnownKey {
    /// Where they are.
    at: usize,
    len: usize,
    /// The first of them, zeros behind, and ones where they are.
    start: u128,
    mask: u128,
    /// The last of them, where there are more than one chunk holds.
    end: u128,
}

impl KnownKeys {
    /// Knows no key any more.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.bytes.clear();
    }

    /// Knows this key too, behind the others.
    pub fn push(&mut self, key: &[u8]) {
        let at = self.bytes.len();
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
        self.keys.push(KnownKey { at, len: bytes.len(), start, mask, end });
    }

    /// Reads a log that has these keys, or the first of them, in the encoding that every producer writes: its time, and
    /// where in `list` the value of each key is. Nothing if it is another log, or malformed.
    #[inline]
    pub fn read_log(&self, list: &[u8], log: Range<usize>, values: &mut Vec<Range<usize>>) -> Option<LogTime> {
        values.clear();
        let bytes = &list[..log.end];
        let (mut at, mut time, mut keys) = (log.start, LogTime::default(), self.keys.iter());
        while let Some(tag) = bytes.get(at) {
            at = match tag {
                0x12 => {
                    let content = delimited(bytes, at + 1, "a content").ok()?;
                    let value_at = keys.next()?.end(&self.bytes, list, content.start)?;
                    values.push(match bytes.get(value_at) {
                        Some(len @ ..0x80) if value_at + 1 + usize::from(*len) == content.end => {
                            value_at + 1..content.end
                        }
                        _ => delimited(&bytes[..content.end], value_at, "a value")
                            .ok()
                            .filter(|value| value.end == content.end)?,
                    });
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
}

impl KnownKey {
    /// The end of this key's bytes in `list`, if they are at `at`.
    #[inline(always)]
    fn end(&self, bytes: &[u8], list: &[u8], at: usize) -> Option<usize> {
        let end = at + self.len;
        let is_there = match list.get(at..).and_then(|rest| rest.first_chunk::<CHUNK>()) {
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

    proptest! {
        /// It reads every log that has the keys, or the first of them, as any log is read, and no other.
        #[test]
        fn known_logs_are_read_as_all_are(
            keys in prop::collection::vec(key(), 0..5),
            contents in prop::collection::vec((prop::option::weighted(0.1, key()), ".{0,8}"), 0..5),
            seconds in prop_oneof![any::<u32>(), Just(1_764_000_000)],
            nanoseconds in prop::option::of(any::<u32>()),
            (time_behind, behind, cut) in (any::<bool>(), 0..40_usize, prop::option::weighted(0.2, 0..60_usize)),
        ) {
            let of_log: Vec<(Vec<u8>, &[u8])> = contents
                .iter()
                .enumerate()
                .map(|(at, (other, value))| (other.as_ref().or(keys.get(at)).cloned().unwrap_or_default(), value.as_bytes()))
                .collect();
            let mut time = vec![0x08];
            encode_varint(u64::from(seconds), &mut time);
            let contents = of_log.iter().flat_map(|(key, value)| content(key, value)).collect();
            let mut log = if time_behind { [contents, time].concat() } else { [time, contents].concat() };
            if let Some(nanoseconds) = nanoseconds {
                log.push(0x25);
                log.extend_from_slice(&nanoseconds.to_le_bytes());
            }
            let end = log.len().saturating_sub(cut.unwrap_or_default());
            // What is behind a log is not of it.
            log.extend_from_slice(&b"k".repeat(behind));

            let mut read = Vec::new();
            let time = read_log(&log, 0..end, |pair| read.push((pair.key, pair.value)));
            let has_keys = read.len() <= keys.len() && read.iter().zip(&keys).all(|((one, _), other)| one == other);
            let mut values = Vec::new();
            let known = known(&keys).read_log(&log, 0..end, &mut values);
            prop_assert_eq!(known, time.ok().filter(|_| has_keys));
            if known.is_some() {
                let values: Vec<&[u8]> = values.into_iter().map(|value| &log[value]).collect();
                prop_assert_eq!(values, read.iter().map(|(_, value)| *value).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn other_encodings_are_left_to_others() {
        let keys = known(&[b"key".to_vec()]);
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
