//! The keys that logs have, each with its text as it is written: known to be clean, to differ from each other and from the
//! names that every log has, so that a log which has no other needs no look at its keys.

use std::ops::Range;

use super::MAX_KEPT;
use super::shape::Shape;
use crate::wire::sls::known_keys::{Field, KnownKeys};
use crate::wire::sls::log_group::{LogTime, Malformed, read_log};

/// What is copied at once.
const CHUNK: usize = 32;
/// Keys that are kept. A log with more contents is rendered on the slow path, which holds nothing for a key that repeats.
const MAX_KEYS: usize = 1024;

/// The keys of the logs so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    known: KnownKeys,
    keys: Vec<Key>,
    /// `sep key=` of each, one behind the other.
    text: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Key {
    /// The first of its text, zeros behind.
    start: [u8; CHUNK],
    len: usize,
    /// Where it ends in the text of all.
    end: usize,
    /// Whether a reader would find the separator in it.
    is_ambiguous: bool,
}

impl Keys {
    /// Reads a log: its time and, in place of what was in `fields`, its contents. Nothing if it has keys that need a closer
    /// look, or one twice.
    ///
    /// # Errors
    /// [`Malformed`]: what is wrong, and where.
    #[inline]
    pub(super) fn read_log(
        &mut self,
        list: &[u8],
        log: Range<usize>,
        shape: &Shape,
        fields: &mut Vec<Field>,
    ) -> Result<Option<LogTime>, Malformed> {
        if let Some(time) = self.known.read_log(list, log.clone(), fields) {
            return Ok(Some(time));
        }
        let is_known = self.learn(list, log.clone(), shape)?;
        Ok(if is_known { self.known.read_log(list, log, fields) } else { None })
    }

    /// Takes the keys of a log that are not known; whether it may.
    #[cold]
    fn learn(&mut self, list: &[u8], log: Range<usize>, shape: &Shape) -> Result<bool, Malformed> {
        let (mut contents, mut all) = (0, true);
        read_log(list, log, |content| {
            contents += 1;
            all = all && contents <= MAX_KEYS && (self.known.knows(content.key) || self.take(content.key, shape));
        })?;
        Ok(all)
    }

    /// Takes a key, if it may.
    fn take(&mut self, key: &[u8], shape: &Shape) -> bool {
        let is_posed = shape.stamp.as_ref().is_some_and(|stamp| stamp.is_posed_by(key));
        let escapes = shape.escapes && shape.cleaner.needs_escape(key);
        let len = shape.sep.len() + key.len() + 1;
        if len > MAX_KEPT || is_reserved(key) || is_posed || escapes || !shape.cleaner.is_safe(key) {
            return false;
        }
        if self.keys.len() == MAX_KEYS || self.text.len() + len > MAX_KEPT {
            // Those that are in use come back.
            *self = Self::default();
        }
        let from = self.text.len();
        self.text.extend_from_slice(&shape.sep);
        self.text.extend_from_slice(key);
        self.text.push(b'=');
        let mut start = [0; CHUNK];
        start.iter_mut().zip(&self.text[from..]).for_each(|(start, byte)| *start = *byte);
        self.keys.push(Key { start, len, end: self.text.len(), is_ambiguous: shape.is_ambiguous(key) });
        self.known.push(key);
        true
    }

    /// `sep key=` of a key.
    pub(super) fn text(&self, key: usize) -> &[u8] {
        let key = &self.keys[key];
        &self.text[key.end - key.len..key.end]
    }

    /// Whether a reader would find the separator in a key.
    pub(super) fn is_ambiguous(&self, key: usize) -> bool {
        self.keys[key].is_ambiguous
    }

    /// How long the fields of a log are.
    #[inline]
    pub(super) fn len(&self, fields: &[Field]) -> usize {
        fields.iter().map(|field| self.keys[field.key].len + field.value.len()).sum()
    }

    /// Writes the fields of a log, whose values are in `raw`.
    #[inline]
    pub(super) fn write(&self, raw: &[u8], fields: &[Field], out: &mut Vec<u8>) {
        // One of our own stays in registers.
        let mut text = std::mem::take(out);
        for field in fields {
            let key = &self.keys[field.key];
            if !is_appended(&mut text, Some(&key.start), key.len) {
                text.extend_from_slice(self.text(field.key));
            }
            let value = raw.get(field.value.start..).and_then(<[u8]>::first_chunk);
            if !is_appended(&mut text, value, field.value.len()) {
                text.extend_from_slice(&raw[field.value.clone()]);
            }
        }
        *out = text;
    }
}

/// Appends the first bytes of a chunk, unless there are more than it holds or there is no room for all of it. Most parts of
/// a log are short, and a copy of a size that is known takes no call: of what was copied too much the rest is taken back.
#[inline(always)]
fn is_appended(out: &mut Vec<u8>, chunk: Option<&[u8; CHUNK]>, len: usize) -> bool {
    match chunk {
        Some(chunk) if len <= CHUNK && out.capacity() - out.len() >= CHUNK => {
            let end = out.len() + len;
            out.extend_from_slice(chunk);
            out.truncate(end);
            true
        }
        _ => false,
    }
}

/// Whether a key is one of the names that every log may have.
fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(b"__")
        && (matches!(key, b"__time__" | b"__topic__" | b"__source__" | b"__time_ns_part__")
            || key.starts_with(b"__tag__:"))
}
