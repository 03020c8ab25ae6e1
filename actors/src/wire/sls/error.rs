//! What SLS refuses, and what that means for whoever asked.

use std::time::Duration;

/// A request to SLS that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SlsError {
    /// SLS answered with an error of its own.
    #[error("SLS answered {status} {code}: {message} (request {request_id})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// SLS's `errorCode`, as sent.
        code: String,
        /// SLS's `errorMessage`, escaped and cut.
        message: String,
        /// `x-log-requestid`, empty if there was none.
        request_id: String,
        /// The server's clock minus ours, in seconds, where the answer's `Date` could be read.
        clock_offset_s: Option<i64>,
    },
    /// No usable answer: connection, time-out, a body that is cut short or does not parse.
    #[error("{what}")]
    Transport {
        /// What failed, with its cause.
        what: String,
    },
}

/// What a failed request asks of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Try again with back-off.
    Retry,
    /// A quota: try again after at least this long, growing.
    SlowDown(Duration),
    /// The consumer or this shard's lease is gone: stop at once, never retry.
    LeaseLost,
    /// The cursor is no longer (or never was) valid.
    InvalidCursor,
    /// The shard does not exist (any more).
    ShardGone,
    /// Somebody has to correct something (rights, keys, names, clock); before the first heartbeat it ends the process.
    Fatal,
}
