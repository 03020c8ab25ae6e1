//! What the service holds, as values that serialize: for proofs, tests and the live picture.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CommitCounts;
use crate::model::ids::ShardId;

/// Everything, by project and logstore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubState {
    /// Logstores by project and name.
    pub projects: BTreeMap<String, BTreeMap<String, LogstoreState>>,
}

/// One logstore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogstoreState {
    /// Its shards, ascending.
    pub shards: Vec<ShardState>,
    /// Its consumer groups by name.
    pub groups: BTreeMap<String, GroupState>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardState {
    /// Its number.
    pub shard: ShardId,
    /// Whether it was split or merged.
    pub readonly: bool,
    /// The shards it came from.
    pub parents: Vec<ShardId>,
    /// Cursor of the oldest log group kept.
    pub begin_cursor: String,
    /// Cursor after the newest log group.
    pub end_cursor: String,
    /// Log groups ever received.
    pub groups: u64,
    /// Logs ever received.
    pub logs: u64,
    /// Bytes ever received, uncompressed.
    pub raw_bytes: u64,
}

/// One consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// Seconds without heartbeat after which a consumer is removed.
    pub timeout_s: u32,
    /// Whether parents are consumed before their children.
    pub order: bool,
    /// Consumers that have not been removed yet.
    pub consumers: Vec<String>,
    /// Its view of the shards, ascending.
    pub shards: Vec<GroupShardState>,
    /// Commits by consumer, also of those who are gone.
    pub commits: BTreeMap<String, CommitCounts>,
    /// Heartbeats that were answered with shards.
    pub heartbeats: u64,
    /// Longest time between two heartbeats of each consumer, in milliseconds, also of those who are gone.
    pub longest_gaps_ms: BTreeMap<String, u64>,
    /// Consumers that were removed for their silence while they held shards.
    pub expired_holders: u64,
}

/// A shard as a consumer group sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupShardState {
    /// Its number.
    pub shard: ShardId,
    /// `W` waiting for its ancestors, `N` free, `A` allocated, `T` in transfer, `O` over.
    pub state: char,
    /// Who holds it.
    pub owner: Option<String>,
    /// Whom it is promised to, in transfer.
    pub receiver: Option<String>,
    /// The checkpoint as committed, empty if never.
    pub checkpoint: String,
    /// Whether the checkpoint is at the present end of the shard.
    pub at_end: bool,
    /// Microseconds since 1970 of the last commit, 0 if never.
    pub updated_us: i64,
}
