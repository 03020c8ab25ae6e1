//! The slow path: one message, built from owned parts in the plainest way.
//!
//! Used for the log that needs it (repeated keys, invalid UTF-8, line breaks, escapes, over-long), and in tests to say
//! what the fast path has to write. What does not depend on the payload serves formats of one's own too.

use std::borrow::Cow;
use std::collections::HashMap;

use super::shape::Shape;
use super::text::{cut_at_character, without_invalid};
use crate::wire::sls::log_group::{Group, LogTime, Malformed, read_log};

/// What was done to a log so that it could become this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Care {
    pub(super) altered: bool,
    pub(super) truncated: bool,
    pub(super) ambiguous: bool,
    pub(super) bad_nanoseconds: bool,
}

type Text<'a> = Cow<'a, [u8]>;

/// The fields of a log by name, each key once: at its first position, with its last value.
#[derive(Default)]
struct Fields<'a> {
    list: Vec<(Text<'a>, Text<'a>)>,
    by_key: HashMap<Text<'a>, usize>,
}

impl<'a> Fields<'a> {
    fn set(&mut self, key: Text<'a>, value: Text<'a>) {
        match self.by_key.get(&key) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.by_key.insert(key.clone(), self.list.len());
                self.list.push((key, value));
            }
        }
    }
}

/// Renders the message of one log, given with its place in the group, into `message`, which is empty, without frame.
pub(super) fn message(
    shape: &mut Shape,
    list: &[u8],
    group: &Group<'_>,
    (log, index): (std::ops::Range<usize>, u64),
    message: &mut Vec<u8>,
) -> Result<Care, Malformed> {
    let mut altered = false;
    let time = read_log(list, log.clone(), |_| {})?;
    let mut fields = Fields::default();
    fields.set(b"__topic__"[..].into(), group.topic.into());
    fields.set(b"__source__"[..].into(), group.source.into());
    if let Some(nanoseconds) = time.nanoseconds.filter(|nanoseconds| *nanoseconds != 0) {
        let (before, behind) = shape.nanoseconds;
        let before = &before[b"__time_ns_part__=".len()..];
        let value = [before, nanoseconds.to_string().as_bytes(), behind].concat();
        fields.set(b"__time_ns_part__"[..].into(), value.into());
    }
    // Where bytes are left out, what counts as the same key is what is left.
    let key_of = |key| match shape.drops {
        false => Cow::Borrowed(key),
        true => match without_invalid(key) {
            Cow::Borrowed(_) => Cow::Borrowed(key),
            Cow::Owned(left) => Cow::Owned(left.into_bytes()),
        },
    };
    for tag in &group.tags {
        altered |= shape.drops && without_invalid(tag.key).len() != tag.key.len();
        fields.set([b"__tag__:", &key_of(tag.key)[..]].concat().into(), tag.value.into());
    }
    read_log(list, log, |content| {
        let key = key_of(content.key);
        altered |= key.len() != content.key.len();
        if *key == *b"__time__" || shape.stamp.as_ref().is_some_and(|stamp| stamp.is_posed_by(&key)) {
            // It would take the place of the log's time, which is in the header only, or of its stamp; both stay as they
            // are.
            altered = true;
        } else {
            fields.set(key, content.value.into());
        }
    })?;

    let (mut care, max) = begin(shape, &time, index, message);
    care.altered = altered;
    for (key, value) in &fields.list {
        care.ambiguous |= shape.is_ambiguous(key) || shape.is_ambiguous(value);
        if message.len() <= max {
            message.extend_from_slice(&shape.sep);
            care.altered |= shape.cleaner.write(key, message);
            message.push(b'=');
            care.altered |= shape.cleaner.write(value, message);
        }
    }
    cut(max, &mut care, message);
    Ok(care)
}

/// Writes what is before the payload into `message`, which is empty; answers how long it may become. That much is never
/// cut.
pub(super) fn begin(shape: &mut Shape, time: &LogTime, index: u64, message: &mut Vec<u8>) -> (Care, usize) {
    let fraction = shape.fraction(time);
    let bad_nanoseconds = fraction.is_none() && time.nanoseconds.is_some_and(|nanoseconds| nanoseconds != 0);
    shape.header.set_second(i64::from(time.seconds));
    shape.header.write(fraction, message);
    if let Some(stamp) = &shape.stamp {
        stamp.write(index, message);
    }
    let max = shape.max_message_bytes.map_or(usize::MAX, |max| max.max(message.len()));
    (Care { bad_nanoseconds, ..Care::default() }, max)
}

/// Cuts what is too long.
pub(super) fn cut(max: usize, care: &mut Care, message: &mut Vec<u8>) {
    if message.len() > max {
        let kept = cut_at_character(message, max).len();
        message.truncate(kept);
        care.truncated = true;
        care.altered = true;
    }
}
