//! The gap record: a syslog message of its own in place of logs that cannot be had (I9).

use crate::model::ids::ShardId;

/// What is missing, from where to where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRecord {
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Shard.
    pub shard: ShardId,
    /// First cursor that is missing, as text; empty if unknown.
    pub from: String,
    /// Cursor after the last that is missing, as text; empty if unknown.
    pub to: String,
    /// One sentence.
    pub reason: String,
    /// When it was noticed, in unix seconds; the message's TIMESTAMP.
    pub noticed_s: i64,
}
