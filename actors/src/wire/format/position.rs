//! Where rendering stands in a body, between one piece and the next.

use std::ops::Range;

use super::origin::Batch;

/// Where rendering stands in a body; the default is the beginning of one whose origin is not known, so that no stamps
/// are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    pub(super) batch: Option<Batch>,
    /// Groups that are rendered to their end.
    pub(super) groups: u64,
    /// Their logs.
    pub(super) logs: u64,
    /// Where the next group is looked for.
    pub(super) at: usize,
    /// The group that is not rendered to its end.
    pub(super) open: Option<OpenGroup>,
    /// The body holds one log of a group alone: its place in that group, and the group's logs.
    pub(super) alone: Option<(u64, u64)>,
}

/// Where a log that is alone in a body came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone {
    /// Its place in its batch, from 0.
    pub place: u64,
    /// Its log group's place in the batch, from 0.
    pub group: u64,
    /// Its place in that log group, from 0.
    pub index: u64,
    /// Logs of that log group.
    pub logs: u64,
}

impl Position {
    /// The beginning of a body that holds one log of a batch, which keeps its stamp.
    pub fn of_log(batch: Batch, alone: Alone) -> Self {
        let logs = alone.place.saturating_sub(alone.index);
        Self {
            batch: Some(batch),
            groups: alone.group,
            logs,
            alone: Some((alone.index, alone.logs)),
            ..Self::default()
        }
    }

    /// The beginning of a batch.
    pub fn of(batch: Batch) -> Self {
        Self { batch: Some(batch), ..Self::default() }
    }
}

/// A group, and how far it is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenGroup {
    pub(super) bytes: Range<usize>,
    pub(super) next: NextLog,
}

/// The next log of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextLog {
    /// Where it is looked for.
    pub(super) at: usize,
    /// Logs before it.
    pub(super) index: u64,
}
