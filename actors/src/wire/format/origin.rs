//! The origin stamp: project, logstore, shard, cursor and index of the log that a message stands for.
//!
//! A log keeps its stamp for ever, whatever is sent again, pulled again, or pulled in other batches: the cursor is the
//! one of the log's *own* log group, and the index is the log's place in that group, from 0. SLS writes a cursor as
//! base64 of a number that grows by exactly 1 per group, so the k-th group of a batch that began at number n has the
//! number n + k. With the number of logs in the group, which the stamp carries too, whoever reads the messages can tell
//! which of them are missing, the last of a group included.
//!
//! A batch whose cursor is not such a number is stamped with the batch's own cursor and the log's place in the batch;
//! the number of logs is then 0, for unknown. Such stamps are the same when the batch is sent again, and as long as
//! batches begin where they began, but not when they begin elsewhere.
//!
//! As structured data: `[sls@32473 project="p" logstore="l" shard="0" cursor="MTc=" index="3" logs="100"]`. As field, the
//! first of the payload: `__origin__=p/l/0/MTc=/3/100`. [`Stamp::find`] reads both.
//!
//! The name of an SD-ELEMENT that no RFC defines has to end in the private enterprise number of its owner (RFC 5424
//! 6.3.2). We own none: 32473 is the number that RFC 5612 sets aside for examples and documentation.

mod read;
#[cfg(test)]
mod tests;

pub use read::{FoundGap, Stamp};

use super::OriginSettings;
use super::text::Cleaner;
use crate::config::OriginStamp;
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::wire::syslog::rfc5424::write_param_value;

/// SD-ID of the stamp.
pub const SD_ID: &str = "sls@32473";
/// Key of the stamp as field.
pub const FIELD: &str = "__origin__";

/// More groups than a batch can have: what numbers must leave room for.
const MAX_GROUPS: u64 = 1 << 32;

/// Which batch is being rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    shard: ShardId,
    from: Cursor,
    /// Number of its first group, if the cursor has one.
    first: Option<u64>,
}

impl Batch {
    /// The batch of this shard whose first log group is at `from`.
    pub fn new(shard: ShardId, from: Cursor) -> Self {
        let first = from.number().filter(|number| *number <= u64::MAX - MAX_GROUPS);
        Self { shard, from, first }
    }
}

/// Where a log group stands in its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Groups before it.
    pub(super) groups: u64,
    /// Logs in these groups.
    pub(super) logs_before: u64,
    /// Logs in it.
    pub(super) logs: u64,
}

/// Writes stamps. What the logs of a group share is rendered once.
#[derive(Debug, Clone)]
pub(super) struct Stamper {
    form: OriginStamp,
    /// Up to the shard's number.
    start: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
    /// Added to the index of a log in its group.
    offset: u64,
    /// Whether there is anything to say; otherwise `before` is all.
    known: bool,
}

impl Stamper {
    /// Compiles the settings; `sep` and `cleaner` are those of fields. `None` where there is to be no stamp.
    pub(super) fn new(settings: &OriginSettings, sep: &[u8], cleaner: &Cleaner) -> Option<Self> {
        let OriginSettings { stamp, project, logstore } = settings;
        let mut start = Vec::new();
        match stamp {
            OriginStamp::Off => return None,
            OriginStamp::StructuredData => {
                start.extend_from_slice(format!("[{SD_ID} project=\"").as_bytes());
                write_param_value(project, &mut start);
                start.extend_from_slice(b"\" logstore=\"");
                write_param_value(logstore, &mut start);
                start.extend_from_slice(b"\" shard=\"");
            }
            OriginStamp::Field => {
                start.extend_from_slice(sep);
                start.extend_from_slice(format!("{FIELD}=").as_bytes());
                cleaner.write(format!("{project}/{logstore}/").as_bytes(), &mut start);
            }
        }
        let (before, after) = (Vec::new(), Vec::new());
        Some(Self { form: *stamp, start, before, after, offset: 0, known: false })
    }

    /// Renders what the logs of a group share; without `batch` its logs have no stamp.
    pub(super) fn begin_group(&mut self, batch: Option<&Batch>, place: Place, cleaner: &Cleaner) {
        let (before, after) = (&mut self.before, &mut self.after);
        before.clear();
        after.clear();
        self.known = batch.is_some();
        let Some(Batch { shard, from, first }) = batch else {
            if self.form == OriginStamp::StructuredData {
                before.extend_from_slice(b"- ");
            }
            return;
        };
        let mut digits = itoa::Buffer::new();
        before.extend_from_slice(&self.start);
        before.extend_from_slice(digits.format(shard.0).as_bytes());
        let logs = if first.is_some() { place.logs } else { 0 };
        self.offset = if first.is_some() { 0 } else { place.logs_before };
        let mut text = Vec::with_capacity(32);
        match first {
            Some(first) => Cursor::write_number(first + place.groups, &mut text),
            None => text.extend_from_slice(from.as_str().as_bytes()),
        }
        if self.form == OriginStamp::StructuredData {
            before.extend_from_slice(b"\" cursor=\"");
            // Cursors are ASCII.
            write_param_value(&String::from_utf8_lossy(&text), before);
            before.extend_from_slice(b"\" index=\"");
            after.extend_from_slice(b"\" logs=\"");
            after.extend_from_slice(digits.format(logs).as_bytes());
            after.extend_from_slice(b"\"] ");
        } else {
            before.push(b'/');
            cleaner.write(&text, before);
            before.push(b'/');
            after.push(b'/');
            after.extend_from_slice(digits.format(logs).as_bytes());
        }
    }

    /// Length of the stamp of the log at `index` in its group.
    #[inline]
    pub(super) fn len(&self, index: u64) -> usize {
        if !self.known {
            return self.before.len();
        }
        let digits = (index + self.offset).checked_ilog10().unwrap_or(0) as usize + 1;
        self.before.len() + digits + self.after.len()
    }

    /// Writes it.
    #[inline]
    pub(super) fn write(&self, index: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.before);
        if self.known {
            out.extend_from_slice(itoa::Buffer::new().format(index + self.offset).as_bytes());
            out.extend_from_slice(&self.after);
        }
    }

    /// Whether the stamp stands between header and STRUCTURED-DATA.
    pub(super) fn is_structured_data(&self) -> bool {
        self.form == OriginStamp::StructuredData
    }

    /// Whether a content of this name would pose as the stamp.
    #[inline]
    pub(super) fn is_posed_by(&self, key: &[u8]) -> bool {
        self.form == OriginStamp::Field && key == FIELD.as_bytes()
    }
}
