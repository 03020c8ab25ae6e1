//! What SLS answers, as plain values.

use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;

/// One shard of ListShards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// The shard.
    pub shard: ShardId,
    /// `readonly`: it was split or merged and receives nothing any more.
    pub readonly: bool,
    /// Unix seconds, 0 where SLS did not say.
    pub create_time: i64,
}

/// What GetLogStore tells that a forwarder can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStoreInfo {
    /// Days for which logs are kept, where told.
    pub ttl_days: Option<u32>,
}

/// A consumer group's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// Its name.
    pub name: String,
    /// Seconds without heartbeat after which a consumer's shards come free.
    pub timeout_s: u32,
    /// Whether parents are consumed before their children.
    pub order: bool,
}

/// One shard's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The shard.
    pub shard: ShardId,
    /// The next log group to read; `None` if nothing was ever committed.
    pub cursor: Option<Cursor>,
    /// Microseconds since 1970 of the last commit, 0 if never.
    pub update_time_us: i64,
    /// Who holds or last held the shard, empty if nobody.
    pub consumer: String,
}

/// The headers of a PullLogs answer, checked for presence and range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullHead {
    /// Number of log groups in the body.
    pub count: u32,
    /// The cursor after the last of them; `None` if SLS left it out.
    pub next_cursor: Option<Cursor>,
    /// Size of the body once decompressed, in bytes.
    pub raw_size: u64,
    /// Size of the body on the wire (Content-Length), in bytes, where declared.
    pub body_size: Option<u64>,
    /// How the body is compressed.
    pub compression: Compression,
    /// `x-log-end-of-cursor`: the answer reaches the present end of the shard, where told.
    pub end_of_shard: Option<bool>,
    /// `x-log-cursor-time` in unix seconds, where told.
    pub cursor_time_s: Option<i64>,
}

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// One raw LZ4 block without frame or size prefix.
    Lz4,
}
