//! What the actors need of the outside, as traits. `io/` implements them for real, `testing/` for simulations.
//!
//! All of it is local to one arbiter: nothing here is `Send`. A [`WorkerPorts`] factory crosses the thread and builds
//! the rest where it is used.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use slog::Logger;

use crate::config::Confirmation;
use crate::counters::Counters;
use crate::messages::{PulledBody, RefusedLog};
use crate::model::cursor::{Cursor, StartPosition};
use crate::model::ids::ShardId;
use crate::wire::dead_letter::{self, Place, TakeError, Taken};
use crate::wire::sls::error::SlsError;
use crate::wire::sls::reply::{Checkpoint, ConsumerGroup, LogStoreInfo, PullHead, ShardInfo};

/// LogHub as one consumer of one group of one logstore sees it.
///
/// Cancel safety: a dropped future may or may not have reached SLS; every call may be repeated.
pub trait LogHub {
    /// GetLogStore.
    fn get_logstore(&self) -> LocalBoxFuture<'static, Result<LogStoreInfo, SlsError>>;
    /// ListShards, ascending.
    fn list_shards(&self) -> LocalBoxFuture<'static, Result<Vec<ShardInfo>, SlsError>>;
    /// GetCursor.
    fn get_cursor(&self, shard: ShardId, from: StartPosition) -> LocalBoxFuture<'static, Result<Cursor, SlsError>>;
    /// GetCursorTime, in unix seconds of receipt.
    fn get_cursor_time(&self, shard: ShardId, cursor: &Cursor) -> LocalBoxFuture<'static, Result<i64, SlsError>>;
    /// PullLogs: resolves with the headers; the body is read, or dropped, by the caller.
    fn pull_logs(
        &self,
        shard: ShardId,
        cursor: &Cursor,
        count: u32,
    ) -> LocalBoxFuture<'static, Result<PullReply, SlsError>>;
    /// CreateConsumerGroup; "already exists" is an error here.
    fn create_consumer_group(&self, group: &ConsumerGroup) -> LocalBoxFuture<'static, Result<(), SlsError>>;
    /// ListConsumerGroup.
    fn list_consumer_groups(&self) -> LocalBoxFuture<'static, Result<Vec<ConsumerGroup>, SlsError>>;
    /// UpdateConsumerGroup.
    fn update_consumer_group(&self, group: &ConsumerGroup) -> LocalBoxFuture<'static, Result<(), SlsError>>;
    /// HeartBeat with the shards held; answers the shards owned from now on.
    fn heartbeat(&self, held: &[ShardId]) -> LocalBoxFuture<'static, Result<Vec<ShardId>, SlsError>>;
    /// GetCheckPoint of one shard. An answer without its element is an error, never "no checkpoint" (rule L6).
    fn get_checkpoint(&self, shard: ShardId) -> LocalBoxFuture<'static, Result<Checkpoint, SlsError>>;
    /// UpdateCheckPoint.
    fn update_checkpoint(
        &self,
        shard: ShardId,
        cursor: &Cursor,
        force: bool,
    ) -> LocalBoxFuture<'static, Result<(), SlsError>>;
}

/// An answer of PullLogs whose body has not been read.
pub struct PullReply {
    /// Its headers.
    pub head: PullHead,
    /// Reads the body, checked against `head.body_size`; dropping it unread closes the connection.
    pub body: Box<dyn PullBody>,
}

/// The unread body of a [`PullReply`].
pub trait PullBody {
    /// Reads it whole; a body shorter or longer than declared, or longer than `limit` bytes, is an error.
    fn read(self: Box<Self>, limit: usize) -> LocalBoxFuture<'static, Result<Bytes, SlsError>>;
}

/// Opens connections to the receiver.
pub trait Dial {
    /// One attempt, complete: name look-up, connect, TLS handshake. Bounded by the configured time-out.
    /// Cancel safety: dropping the future closes whatever was opened.
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>>;
}

/// Why a receiver could not be reached: one sentence with cause and remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DialError(pub String);

/// The error of a connection with which nothing is wrong, but that cannot go on: another one takes its place at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Renewal(pub &'static str);

/// The error of a session whose receiver answered that it does not take the first message that is not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the receiver refused a message, answering {said}{}; it will be sent again with all that is not answered",
    if *.took_later { ", and took a later one" } else { "" }
)]
pub struct MessageRefused {
    /// Its answer, safe to be shown.
    pub said: String,
    /// Whether it has answered that it took a message behind this one.
    pub took_later: bool,
}

/// One open connection to the receiver. Offsets count bytes given to `poll_write` since the connection opened.
pub trait Transport {
    /// Hands over some bytes, which begin and continue at frame borders as the caller wrote them before; resolves with
    /// how many were taken. UDP and RELP take octet-counted frames, whose messages they send as datagrams and as RELP
    /// frames.
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>>;
    /// Pushes what was taken into the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads what the peer says, of which only RELP's answers matter; resolves only when the connection ended: `Ok(())` for FIN or
    /// `close_notify`, an error for RST, alert or anything else. Always polled (rule C5).
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// How far the connection confirms now; asks the kernel for `tcp_acked` (rule C1).
    fn look(&mut self) -> io::Result<Look>;
    /// Grows with each sign that the receiver is there, also one that confirms nothing yet (rule C3): messages answered, in
    /// whatever order and however; bytes of TLS acknowledged, as of the last look.
    fn answers(&self) -> u64 {
        0
    }
    /// `close_notify` and `shutdown(SHUT_WR)`; the caller goes on with `look` and `poll_closed` until its deadline.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What one look at a connection found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Bytes, from the first one given to `poll_write`, that the peer has confirmed at the connection's level.
    pub confirmed: u64,
    /// Whether the connection is still established in both directions.
    pub open: bool,
    /// Whether the receiver has answered that it does not take the first message that is not confirmed. The connection
    /// ends with [`MessageRefused`] when it is known what it makes of those behind it.
    pub refused: bool,
}

/// Where logs are kept that the receiver does not take.
pub trait DeadLetter {
    /// Keeps the refused logs of a body; answers how many logs the body holds. Resolves with `Ok` only when they outlast
    /// a crash of this machine. Takes all of them or none, as far as it can tell; keeping them twice is no error.
    /// Cancel safety: a dropped future may or may not have kept them.
    fn keep(&self, letter: Letter) -> LocalBoxFuture<'static, Result<u64, KeepError>>;
}

/// Log groups of one batch, with those of the batch's logs that the receiver does not take.
#[derive(Debug)]
pub struct Letter {
    /// The shard.
    pub shard: ShardId,
    /// The batch's first log group.
    pub from: Cursor,
    /// The batch, or a part of it.
    pub body: PulledBody,
    /// Place in the batch of the body's first log group.
    pub first_group: u64,
    /// Place in the batch of the body's first log.
    pub first_log: u64,
    /// Logs that the whole batch held when it was sent.
    pub logs: u64,
    /// Whether the batch ends with this body.
    pub last: bool,
    /// The refused logs of the whole batch.
    pub refused: Arc<[RefusedLog]>,
}

/// Logs of a body, each with why the receiver does not take it.
pub type TakenLogs<'a> = Vec<(&'a RefusedLog, Taken)>;

impl Letter {
    /// Takes the refused logs out of the body, each with why it is one; also says how many logs the body holds. Slow.
    ///
    /// # Errors
    /// [`KeepError::BadBody`] and [`KeepError::OtherLogs`].
    pub fn take(&self) -> Result<(TakenLogs<'_>, u64), KeepError> {
        let mut refused: Vec<&RefusedLog> = self.refused.iter().collect();
        refused.sort_by_key(|refused| refused.log);
        refused.dedup_by_key(|refused| refused.log);
        let wanted: Vec<u64> = refused.iter().map(|refused| refused.log).collect();
        let place = Place { first: self.first_log, logs: self.logs, last: self.last, wanted: &wanted };
        let PulledBody { bytes, compression, raw_size, .. } = &self.body;
        let (taken, logs) = dead_letter::take(bytes, *compression, *raw_size, place).map_err(|error| match error {
            TakeError::BadBody(_) => KeepError::BadBody(error.to_string()),
            TakeError::OtherLogs { .. } => KeepError::OtherLogs(error.to_string()),
        })?;
        let why = |place: u64| wanted.binary_search(&place).ok().map(|at| refused[at]);
        Ok((taken.into_iter().filter_map(|taken| Some((why(taken.place)?, taken))).collect(), logs))
    }
}

/// Why logs were not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// There is no room; the sentence says for what, and what to do.
    #[error("{0}")]
    Full(String),
    /// The file cannot be written; the sentence says why, and what to do.
    #[error("{0}")]
    Unwritable(String),
    /// The body cannot be used.
    #[error("{0}")]
    BadBody(String),
    /// The body does not hold the logs that were sent.
    #[error("{0}")]
    OtherLogs(String),
}

/// Builds, inside a worker's arbiter, what that worker needs of the outside.
pub trait WorkerPorts: Send + Sync + 'static {
    /// A LogHub client with an HTTP client of its own.
    fn log_hub(&self) -> Rc<dyn LogHub>;
    /// A dialer of the destination.
    fn dialer(&self, counters: Arc<Counters>, log: Logger) -> Rc<dyn Dial>;
    /// Where refused logs are kept, if anywhere.
    fn dead_letter(&self, log: Logger) -> Option<Rc<dyn DeadLetter>>;
    /// The level at which its connections really confirm.
    fn level(&self) -> Confirmation;
    /// Wall clock, in unix seconds.
    fn unix_seconds(&self) -> i64;
    /// A seed for jitter.
    fn seed(&self) -> u64;
}
