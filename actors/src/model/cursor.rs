//! Where reading stands in a shard, and where it begins.

use std::fmt;
use std::sync::Arc;

/// A position in a shard, opaque: what SLS handed out is handed back byte for byte.
///
/// A cursor names the *next* log group to read; it means nothing in another shard.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(Arc<str>);

impl Cursor {
    /// Longest cursor that is believed, in bytes (real ones have 28).
    pub const MAX_LEN: usize = 256;

    /// Takes a cursor as SLS sent it; `None` if it is empty, too long or not printable ASCII.
    pub fn new(text: &str) -> Option<Self> {
        let plausible = !text.is_empty() && text.len() <= Self::MAX_LEN && text.bytes().all(|b| b.is_ascii_graphic());
        plausible.then(|| Self(text.into()))
    }

    /// The text to send back.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number that it stands for, if it is written as SLS writes them today: base64 of a decimal number, which grows
    /// by exactly 1 per log group. Nothing that moves or commits may depend on this; it serves to name single groups.
    pub fn number(&self) -> Option<u64> {
        let text = self.0.trim_end_matches('=');
        // 20 digits are the longest number.
        if text.len() > 27 {
            return None;
        }
        let digits = data_encoding::BASE64_NOPAD.decode(text.as_bytes()).ok()?;
        let number: u64 = std::str::from_utf8(&digits).ok()?.parse().ok()?;
        // Neither `+7` nor `007`: the number has to lead back to the text.
        (itoa::Buffer::new().format(number).as_bytes() == digits).then_some(number)
    }

    /// The cursor of the log group before, where the cursor has a [`number`](Self::number). For what is shown to people,
    /// never for what is read or committed.
    pub fn previous(&self) -> Option<Self> {
        let mut text = Vec::new();
        Self::write_number(self.number()?.checked_sub(1)?, &mut text);
        Self::new(std::str::from_utf8(&text).ok()?)
    }

    /// Appends the text of the cursor with this number.
    pub fn write_number(number: u64, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        let start = out.len();
        out.resize(start + data_encoding::BASE64.encode_len(digits.len()), 0);
        data_encoding::BASE64.encode_mut(digits, &mut out[start..]);
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({})", self.0)
    }
}

/// Where a new consumer group begins (GetCursor's `from`): by the time at which SLS received the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// The oldest log group that is kept.
    Begin,
    /// After the newest log group.
    End,
    /// The first log group received at or after this second since 1970.
    UnixSeconds(i64),
}

impl fmt::Display for StartPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("begin"),
            Self::End => f.write_str("end"),
            Self::UnixSeconds(seconds) => seconds.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<u64> {
        Cursor::new(text).expect("printable").number()
    }

    #[test]
    fn numbers_are_read_as_sls_writes_them_with_or_without_padding() {
        assert_eq!(number("MTQ0NzI5OTYwNjg5NjYzMjM1Ng=="), Some(1_447_299_606_896_632_356));
        assert_eq!(number("MTQ0NzI5OTYwNjg5NjYzMjM1Ng"), Some(1_447_299_606_896_632_356));
        for n in [0, 1, 9, 10, 99, 100, u64::MAX] {
            let mut text = Vec::new();
            Cursor::write_number(n, &mut text);
            assert_eq!(number(std::str::from_utf8(&text).expect("base64")), Some(n));
        }
    }

    /// `007`, `+7`, ` 7`, `x`, 2^64, a number in no encoding, and another alphabet.
    #[test]
    fn whatever_else_is_a_cursor_has_no_number() {
        for text in ["MDA3", "Kzc=", "IDc=", "eA==", "MTg0NDY3NDQwNzM3MDk1NTE2MTY=", "17", "MT_", "====", "c0"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn the_cursor_before_is_one_less_and_none_where_the_form_is_another() {
        let cursor = Cursor::new("MTQ0NzI5OTYwNjg5NjYzMjM1Ng==").unwrap();
        assert_eq!(cursor.previous(), Cursor::new("MTQ0NzI5OTYwNjg5NjYzMjM1NQ=="));
        for odd in ["MA==", "bm90IGEgbnVtYmVy", "not-base64"] {
            assert_eq!(Cursor::new(odd).unwrap().previous(), None);
        }
    }
}
