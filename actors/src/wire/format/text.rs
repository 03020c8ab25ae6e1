//! Makes the text of keys, values and tags safe for a frame.
//!
//! Invalid UTF-8 becomes U+FFFD, one for each maximal invalid part, or is left out. LF, CR and NUL each end a message at some receiver
//! (NUL does in syslog-ng's LF framing), so they go by the newline policy; what follows them could otherwise pose as a
//! message of its own. All other control characters are legal in a frame and stay as they are. `kv_escape` puts a
//! backslash before `=`, `\`, and each place at which a reader would find the separator.

use std::borrow::Cow;

use crate::config::{InvalidUtf8, NewlinePolicy};

/// The characters that end a message somewhere.
pub const BREAKS: [u8; 3] = [b'\n', b'\r', 0];

/// Writes text as the settings want it.
#[derive(Debug, Clone)]
pub struct Cleaner {
    newlines: NewlinePolicy,
    /// The separator, if it is to be escaped.
    escaped_sep: Option<Vec<u8>>,
    invalid_utf8: InvalidUtf8,
}

impl Cleaner {
    /// A cleaner with this policy, which escapes `=`, `\` and the separator given.
    pub fn new(newlines: NewlinePolicy, escaped_sep: Option<Vec<u8>>) -> Self {
        Self { newlines, escaped_sep, invalid_utf8: InvalidUtf8::Replace }
    }

    /// The same for text that is no key or value.
    pub fn without_escapes(self) -> Self {
        Self { escaped_sep: None, ..self }
    }

    /// The same with this done to what is no UTF-8.
    pub fn with_invalid_utf8(self, invalid_utf8: InvalidUtf8) -> Self {
        Self { invalid_utf8, ..self }
    }

    /// Writes `text`; says whether something of it was lost or changed, escapes by `kv_escape` apart.
    #[inline]
    pub fn write(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        if self.is_safe(text) && !self.needs_escape(text) {
            out.extend_from_slice(text);
            return false;
        }
        self.write_unclean(text, out)
    }

    /// Whether `text` would be written as it is, escapes by `kv_escape` apart.
    pub fn is_safe(&self, text: &[u8]) -> bool {
        !self.has_breaks(text) && simdutf8::basic::from_utf8(text).is_ok()
    }

    /// Whether finished text is UTF-8 and, unless the policy keeps them, has no more [`BREAKS`] than these, of which it has
    /// all.
    pub fn is_clean(&self, text: &[u8], breaks: usize) -> bool {
        if self.newlines == NewlinePolicy::Keep {
            return simdutf8::basic::from_utf8(text).is_ok();
        }
        // Nearly all text is ASCII, and has no other control characters: that is one comparison a byte, of signed ones.
        !has_more(text, breaks, |byte| byte.cast_signed() <= b'\r'.cast_signed())
            || (!has_more(text, breaks, |byte| byte == BREAKS[0] || byte == BREAKS[1] || byte == BREAKS[2])
                && simdutf8::basic::from_utf8(text).is_ok())
    }

    /// Whether `text` holds what `kv_escape` escapes, or the separator's first byte.
    pub fn needs_escape(&self, text: &[u8]) -> bool {
        self.escaped_sep.as_ref().is_some_and(|sep| {
            let sep = sep.first().copied().unwrap_or(b'=');
            // A line break that becomes a space may be the beginning of a separator.
            let breaks = sep == b' ' && self.newlines == NewlinePolicy::Space && self.has_breaks(text);
            breaks || memchr::memchr3(b'=', b'\\', sep, text).is_some()
        })
    }

    fn has_breaks(&self, text: &[u8]) -> bool {
        self.newlines != NewlinePolicy::Keep && memchr::memchr3(BREAKS[0], BREAKS[1], BREAKS[2], text).is_some()
    }

    fn write_unclean(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let escaped_sep = self.escaped_sep.as_ref().filter(|_| self.needs_escape(text));
        let write_valid = |text: &str, out: &mut Vec<u8>| match escaped_sep {
            Some(sep) => self.write_escaped(text.as_bytes(), sep, out),
            None => self.write_breaks(text.as_bytes(), out),
        };
        if let Ok(text) = simdutf8::basic::from_utf8(text) {
            return write_valid(text, out);
        }
        if self.invalid_utf8 == InvalidUtf8::Drop {
            // What becomes neighbours may be a separator.
            write_valid(&without_invalid(text), out);
            return true;
        }
        for chunk in text.utf8_chunks() {
            write_valid(chunk.valid(), out);
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        true
    }

    fn write_breaks(&self, mut text: &[u8], out: &mut Vec<u8>) -> bool {
        if self.newlines == NewlinePolicy::Keep {
            out.extend_from_slice(text);
            return false;
        }
        let mut altered = false;
        while let Some(at) = memchr::memchr3(BREAKS[0], BREAKS[1], BREAKS[2], text) {
            out.extend_from_slice(&text[..at]);
            self.write_break(text[at], out);
            text = &text[at + 1..];
            altered = true;
        }
        out.extend_from_slice(text);
        altered
    }

    fn write_escaped(&self, text: &[u8], sep: &[u8], out: &mut Vec<u8>) -> bool {
        if self.newlines == NewlinePolicy::Space && self.has_breaks(text) {
            // What becomes a space is looked at as one: it may be part of a separator.
            let spaces: Vec<u8> = text.iter().map(|b| if BREAKS.contains(b) { b' ' } else { *b }).collect();
            self.write_escaped(&spaces, sep, out);
            return true;
        }
        let mut altered = false;
        for (at, &byte) in text.iter().enumerate() {
            if BREAKS.contains(&byte) && self.newlines != NewlinePolicy::Keep {
                self.write_break(byte, out);
                altered = true;
            } else if byte == b'=' || byte == b'\\' || begins_separator(&text[at..], sep) {
                out.extend_from_slice(&[b'\\', byte]);
            } else {
                out.push(byte);
            }
        }
        altered
    }

    fn write_break(&self, byte: u8, out: &mut Vec<u8>) {
        match (self.newlines, byte) {
            (NewlinePolicy::Keep, byte) => out.push(byte),
            (NewlinePolicy::Space, _) => out.push(b' '),
            (NewlinePolicy::Escape, b'\n') => out.extend_from_slice(b"\\n"),
            (NewlinePolicy::Escape, b'\r') => out.extend_from_slice(b"\\r"),
            (NewlinePolicy::Escape, _) => out.extend_from_slice(b"\\0"),
        }
    }
}

/// Whether a reader that goes on into the separator behind the text finds one here: `a|` before `||` would be read as
/// `a` before `||`, and a field that begins with `|`.
fn begins_separator(text: &[u8], sep: &[u8]) -> bool {
    if text.len() >= sep.len() {
        return !sep.is_empty() && text.starts_with(sep);
    }
    let (start, end) = sep.split_at(text.len());
    text == start && sep.starts_with(end)
}

/// `text` without what is no UTF-8 in it.
pub fn without_invalid(text: &[u8]) -> Cow<'_, str> {
    match simdutf8::basic::from_utf8(text) {
        Ok(text) => text.into(),
        Err(_) => text.utf8_chunks().map(|chunk| chunk.valid()).collect::<String>().into(),
    }
}

/// Whether more bytes than `most` are such. Sums of bytes of short runs become vector instructions.
fn has_more(text: &[u8], most: usize, is: impl Fn(u8) -> bool) -> bool {
    let sum = |run: &[u8]| usize::from(run.iter().map(|byte| u8::from(is(*byte))).sum::<u8>());
    let (runs, rest) = text.as_chunks::<192>();
    let mut found = 0;
    for run in runs {
        found += sum(run);
        if found > most {
            return true;
        }
    }
    found + sum(rest) > most
}

/// The longest start of valid UTF-8 that has at most `max` bytes and ends at a character border.
pub fn cut_at_character(text: &[u8], max: usize) -> &[u8] {
    let mut end = max.min(text.len());
    // A byte of the form 10xxxxxx continues a character.
    while end > 0 && end < text.len() && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::syslog::parse::split_escaped_key_values;

    fn clean(cleaner: &Cleaner, text: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let altered = cleaner.write(text, &mut out);
        (out, altered)
    }

    #[test]
    fn line_breaks_go_by_the_policy() {
        let with = |policy| clean(&Cleaner::new(policy, None), b"a\n200 OK\r\n\0\t\x1b");
        assert_eq!(with(NewlinePolicy::Escape), (b"a\\n200 OK\\r\\n\\0\t\x1b".to_vec(), true));
        assert_eq!(with(NewlinePolicy::Space), (b"a 200 OK   \t\x1b".to_vec(), true));
        assert_eq!(with(NewlinePolicy::Keep), (b"a\n200 OK\r\n\0\t\x1b".to_vec(), false));
    }

    #[test]
    fn invalid_utf8_becomes_replacement_characters_and_nothing_else_is_touched() {
        let cleaner = Cleaner::new(NewlinePolicy::Escape, None);
        for text in [&b"ab\xff\xfecd"[..], b"\xe6\x97", b"\xe6\x97\xa5\xed\xa0\x80", b"\xef\xbf\xbd", b"plain", b""] {
            let (out, altered) = clean(&cleaner, text);
            assert_eq!(out, String::from_utf8_lossy(text).as_bytes());
            assert_eq!(altered, std::str::from_utf8(text).is_err());
        }
    }

    #[test]
    fn invalid_utf8_can_be_left_out_and_what_meets_then_is_escaped() {
        let cleaner = Cleaner::new(NewlinePolicy::Escape, None).with_invalid_utf8(InvalidUtf8::Drop);
        assert_eq!(clean(&cleaner, b"ab\xff\xfecd\xe6\x97\n"), (b"abcd\\n".to_vec(), true));
        assert_eq!(clean(&cleaner, "plain \u{fffd}".as_bytes()), ("plain \u{fffd}".into(), false));
        let escaping = Cleaner::new(NewlinePolicy::Escape, Some(b"ab".to_vec())).with_invalid_utf8(InvalidUtf8::Drop);
        assert_eq!(clean(&escaping, b"xa\xffbx"), (b"x\\abx".to_vec(), true));
    }

    #[test]
    fn escaped_text_reads_back_with_any_separator() {
        for sep in ["||", "|", " | ", "aba", ";;;", "日"] {
            let cleaner = Cleaner::new(NewlinePolicy::Escape, Some(sep.as_bytes().to_vec()));
            for value in
                ["", "|", "||", "|||", "x|", " |", " | ", "ab", "abab", "ababa", "a=b\\c\\n\n\r\0", ";;", "日日", "k=v"]
            {
                let mut msg = Vec::new();
                for (key, value) in [(value, "1"), ("k", value), (value, value)] {
                    msg.extend_from_slice(sep.as_bytes());
                    cleaner.write(key.as_bytes(), &mut msg);
                    msg.push(b'=');
                    cleaner.write(value.as_bytes(), &mut msg);
                }
                let read = split_escaped_key_values(&msg, sep.as_bytes());
                let text = |text: &str| text.as_bytes().to_vec();
                let expected = vec![(text(value), text("1")), (text("k"), text(value)), (text(value), text(value))];
                assert_eq!(read, Some(expected), "{sep:?} {value:?}: {}", String::from_utf8_lossy(&msg));
            }
        }
    }

    #[test]
    fn a_line_break_that_becomes_a_space_is_no_separator() {
        for sep in [" ", " | ", "| "] {
            let cleaner = Cleaner::new(NewlinePolicy::Space, Some(sep.as_bytes().to_vec()));
            for value in ["\n", "x\nadmin=1", "x\n|\r", "|\n", "a \0"] {
                let mut msg = Vec::new();
                for _ in 0..2 {
                    msg.extend_from_slice(sep.as_bytes());
                    msg.extend_from_slice(b"k=");
                    assert!(cleaner.write(value.as_bytes(), &mut msg));
                }
                let read = split_escaped_key_values(&msg, sep.as_bytes());
                let field = (b"k".to_vec(), value.replace(['\n', '\r', '\0'], " ").into_bytes());
                assert_eq!(read, Some(vec![field.clone(), field]), "{sep:?} {value:?}");
            }
        }
    }

    #[test]
    fn cuts_are_at_character_borders() {
        let text = "a日é".as_bytes();
        let cuts: Vec<usize> = (0..8).map(|max| cut_at_character(text, max).len()).collect();
        assert_eq!(cuts, [0, 1, 1, 1, 4, 4, 6, 6]);
    }

    #[test]
    fn text_is_clean_with_as_many_breaks_as_it_should_have() {
        let cleaner = Cleaner::new(NewlinePolicy::Escape, None);
        let is_clean = |text: &[u8], breaks| cleaner.is_clean(text, breaks);
        for fill in ["x", "\t", "\u{7f}", "日", "\u{80}"] {
            let mut text = fill.repeat(1000).into_bytes();
            text.extend_from_slice(&[b'\n'; 1000]);
            assert!(is_clean(&text, 1000), "{fill:?}");
            for more in BREAKS {
                text.push(more);
                assert!(!is_clean(&text, 1000), "{fill:?} {more}");
                assert!(is_clean(&text, 1001), "{fill:?} {more}");
                text.pop();
            }
            for invalid in [0x80, 0xc0, 0xff] {
                text.push(invalid);
                assert!(!is_clean(&text, 1000), "{fill:?} {invalid}");
                text.pop();
            }
        }
    }
}
