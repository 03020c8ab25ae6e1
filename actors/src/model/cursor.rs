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
