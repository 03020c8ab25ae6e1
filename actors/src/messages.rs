//! Every message between actors, in the order of the flow.
//!
//! A command is an imperative, a fact a past participle. `Debug` shows ids and counts, never contents.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use actix::{Message, Recipient};
use bytes::Bytes;
use tokio::time::Instant;

use crate::credit::{ByteCredit, Credit};
use crate::model::cursor::Cursor;
use crate::model::ids::{Epoch, Generation, Sequence, ShardId};
use crate::ticket::{FailReason, FailedFrom, PieceGuard, Ticket};
use crate::watch::ActorName;
use crate::wire::sls::reply::{Compression, PullHead};
use crate::wire::syslog::gap::GapRecord;

pub use crate::model::shard::Resume;

// ---- Coordinator and ShardFetcher ----------------------------------------------------------------------------

/// Assembly → Coordinator: these are the workers; join the group. Once, before anything else.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct BeginJoining {
    /// At least one.
    pub workers: Vec<WorkerHandle>,
}

/// How the Coordinator reaches a worker.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    /// Starts fetchers.
    pub start: Recipient<StartShard>,
    /// Opens a connection to the receiver before there is anything to send.
    pub open: Recipient<OpenConnection>,
    /// Bumped by the worker once a second (rule L9).
    pub beats: Arc<AtomicU64>,
}

/// Coordinator → pipeline: read this shard, which we hold since now. One per acquisition; may not be lost (a lost one
/// shows as a shard without fetcher, and its end is reported by the guard).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StartShard {
    /// The shard.
    pub shard: ShardId,
    /// The lease.
    pub epoch: Epoch,
    /// The last position that this process committed, for the case that SLS has forgotten it (rule L6).
    pub resume: Option<Resume>,
}

/// Pipeline → Coordinator: the fetcher runs, and this is how to reach it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FetcherStarted {
    /// The shard.
    pub shard: ShardId,
    /// The lease.
    pub epoch: Epoch,
    /// Where its commands go.
    pub control: Recipient<ControlShard>,
}

/// Coordinator → ShardFetcher. A late one is recognised by its epoch.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ControlShard {
    /// The lease that is meant.
    pub epoch: Epoch,
    /// What to do.
    pub command: ShardCommand,
}

/// What a Coordinator says to a fetcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardCommand {
    /// ListShards, sent at this moment, said that the shard is read-only (rule L5).
    NoteReadonly {
        /// When the request was sent.
        listed_at: Instant,
    },
    /// So many shards share their project's quota that each rests at least this long after an answer that brings little.
    RestAtLeast(Duration),
    /// Requested stop: pull no more, settle until the deadline, fail the rest, end.
    Drain {
        /// When what is unsettled is failed.
        deadline: Instant,
    },
    /// SLS does not list the shard any more. What was not read is lost; it ends when a gap record that names it is
    /// confirmed (I9).
    NoteExpired,
    /// Lost: no wait, nothing more to commit, end.
    Abandon,
}

/// ShardFetcher → Coordinator: everything before `cursor` is settled. Newest wins; bounded by one per settled batch.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct CheckpointReady {
    /// The shard.
    pub shard: ShardId,
    /// The lease under which it was read.
    pub epoch: Epoch,
    /// The next log group to read.
    pub cursor: Cursor,
    /// Unix seconds at which SLS received the last settled group, where told.
    pub received_s: Option<i64>,
    /// Commit it even if it equals the last commit (rule L5).
    pub even_if_unchanged: bool,
}

/// ShardFetcher → Coordinator: everything that the shard holds is settled. Once per such moment; may be lost.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ShardCaughtUp {
    /// The shard.
    pub shard: ShardId,
}

/// ShardFetcher → Coordinator: it has ended; after this it sends nothing. The last `CheckpointReady` came before.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ShardEnded {
    /// The shard.
    pub shard: ShardId,
    /// The lease.
    pub epoch: Epoch,
    /// Why.
    pub how: ShardEnd,
    /// What it had pulled and leaves behind.
    pub unconfirmed: Unconfirmed,
}

/// What was pulled and is not confirmed; SLS still holds it, and whoever reads the shard next sends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unconfirmed {
    /// Log groups.
    pub log_groups: u64,
    /// Their bytes, uncompressed.
    pub raw_bytes: u64,
}

impl std::ops::AddAssign for Unconfirmed {
    fn add_assign(&mut self, other: Self) {
        self.log_groups += other.log_groups;
        self.raw_bytes += other.raw_bytes;
    }
}

/// How a fetcher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardEnd {
    /// As told, with everything settled or failed.
    Stopped,
    /// SLS does not know the shard any more; its gap record is confirmed (rule L7).
    ShardGone,
}

// ---- ShardFetcher and Formatter ------------------------------------------------------------------------------

/// ShardFetcher → Formatter: render and pass on. Bounded by the batch credits (I6); dropping it fails the ticket.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct FormatBatch {
    /// The batch's first log group.
    pub from: Cursor,
    /// What to render.
    pub content: BatchContent,
    /// The batch's ticket.
    pub ticket: Ticket,
}

/// Pipeline → ShardFetcher: hand batches to this formatter from now on; the former one has ended.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct UseFormatter(pub Recipient<FormatBatch>);

/// What a batch is made of.
#[derive(Debug)]
pub enum BatchContent {
    /// A reply of PullLogs.
    Body(PulledBody),
    /// A gap record in place of logs that cannot be had.
    Gap(Box<GapRecord>),
}

/// The body of one PullLogs reply, as it came.
pub struct PulledBody {
    /// Bytes on the wire, complete.
    pub bytes: Bytes,
    /// How they are compressed.
    pub compression: Compression,
    /// Declared size once decompressed.
    pub raw_size: u64,
    /// Declared number of log groups.
    pub log_groups: u32,
    /// Pays for `bytes` and for the raw log groups, until they are rendered (rule M1).
    pub credit: ByteCredit,
}

impl std::fmt::Debug for PulledBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PulledBody({} bytes, {} raw, {} groups)", self.bytes.len(), self.raw_size, self.log_groups)
    }
}

impl PulledBody {
    /// A body of one's own: so many log groups, as the bytes of a [`LogGroupList`](crate::wire::sls::proto::LogGroupList).
    pub fn of_list(bytes: Bytes, log_groups: u32, credit: ByteCredit) -> Self {
        Self { raw_size: bytes.len() as u64, bytes, compression: Compression::None, log_groups, credit }
    }

    /// Joins what the headers declared with the bytes that came.
    pub fn new(head: &PullHead, bytes: Bytes, credit: ByteCredit) -> Self {
        Self { bytes, compression: head.compression, raw_size: head.raw_size, log_groups: head.count, credit }
    }
}

// ---- Formatter and SyslogConnection --------------------------------------------------------------------------

/// Formatter → SyslogConnection: frames to send after all that came before. Bounded by the piece credits (I6).
/// A batch is one or more pieces in order; the last carries the ticket and may be empty. The batch is delivered when all of
/// its pieces are [`confirmed`](SendBatch::confirmed), in whatever order and however late; one that is dropped instead fails
/// it, and it is pulled again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SendBatch {
    /// The shard, which decides nothing here but is named in errors.
    pub shard: ShardId,
    /// Whole frames, in the destination's framing.
    pub frames: Frames,
    /// Messages in `frames`.
    pub messages: u32,
    /// Drop the piece unsent when this covers `sequence` (rule O1).
    pub failed_from: FailedFrom,
    /// The batch to which the piece belongs.
    pub sequence: Sequence,
    /// The batch's first log group.
    pub from: Cursor,
    /// Place in the batch, counted from 0, of the log that the first message stands for; each message stands for one.
    pub first_log: u64,
    /// With the batch's last piece: the ticket, and the number of logs it stands for.
    pub last: Option<(Ticket, u64)>,
    /// Without the ticket: fails the batch if the piece is dropped.
    pub guard: PieceGuard,
    /// Returned when the piece is confirmed or dropped.
    pub credit: Credit,
}

impl SendBatch {
    /// Every message of the piece is confirmed; once that is so for all its pieces, the batch is delivered.
    pub fn confirmed(self) {
        self.confirmed_except(Vec::new());
    }

    /// The same, but these logs of the batch are only named by gap records, which are confirmed. Those of all its pieces
    /// go with the last one.
    pub fn confirmed_except(self, refused: Vec<RefusedLog>) {
        self.guard.confirmed();
        if let Some((ticket, logs)) = self.last {
            ticket.delivered_except(logs, refused);
        }
    }

    /// Whether this piece must not be sent any more.
    pub fn is_superseded(&self) -> bool {
        self.failed_from.covers(self.sequence)
    }
}

/// A buffer of whole frames. Returns to its pool, and its bytes to the budget, by drop.
pub struct Frames {
    bytes: Vec<u8>,
    longest: usize,
    pool: Option<FramePool>,
    _credit: Option<ByteCredit>,
}

impl Frames {
    /// Takes a buffer that `credit` pays for, to be returned to `pool`.
    pub fn new(bytes: Vec<u8>, credit: Option<ByteCredit>, pool: Option<FramePool>) -> Self {
        Self { longest: bytes.len(), bytes, pool, _credit: credit }
    }

    /// Says how long the longest frame is, or may be.
    #[must_use]
    pub fn with_longest(mut self, longest: usize) -> Self {
        self.longest = longest;
        self
    }

    /// Length of the longest frame, at most; that of them all if nobody has said it.
    pub fn longest(&self) -> usize {
        self.longest
    }
}

impl std::ops::Deref for Frames {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frames({} bytes)", self.bytes.len())
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

/// Idle frame buffers of one formatter, bounded in bytes.
#[derive(Debug, Clone)]
pub struct FramePool(Arc<std::sync::Mutex<Idle>>);

#[derive(Debug)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    max_bytes: usize,
}

impl FramePool {
    /// A pool that keeps at most `max_bytes` of idle buffers.
    pub fn new(max_bytes: usize) -> Self {
        Self(Arc::new(std::sync::Mutex::new(Idle { buffers: Vec::new(), bytes: 0, max_bytes })))
    }

    /// An empty buffer with room for at least `capacity` bytes: the smallest idle one that does, or a new one.
    pub fn take(&self, capacity: usize) -> Vec<u8> {
        let mut idle = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fitting =
            idle.buffers.iter().enumerate().filter(|(_, b)| b.capacity() >= capacity && b.capacity() / 4 <= capacity);
        match fitting.min_by_key(|(_, b)| b.capacity()).map(|(at, _)| at) {
            Some(at) => {
                let buffer = idle.buffers.swap_remove(at);
                idle.bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(capacity),
        }
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut idle = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if buffer.capacity() > 0 && idle.bytes + buffer.capacity() <= idle.max_bytes {
            idle.bytes += buffer.capacity();
            idle.buffers.push(buffer);
        }
    }
}

/// Pipeline → Formatter: end now; what it holds fails and is pulled again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct EndFormatter;

/// Pipeline → SyslogConnection: connect now, although there is nothing to send yet (rule L8).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct OpenConnection;

/// Pipeline → SyslogConnection: nothing more will come; flush, close as rule C5 says, end by the deadline.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CloseConnection {
    /// When to drop what is left.
    pub deadline: Instant,
}

/// SyslogConnection → Coordinator: what is known of the receiver. Sent on change only.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ReceiverChanged {
    /// The worker.
    pub worker: usize,
    /// The connection's place in the pool.
    pub index: usize,
    /// Its state now.
    pub state: ReceiverState,
}

/// What a connection knows of its receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverState {
    /// Not asked for yet, or closed by us.
    Idle,
    /// Connected, and has stood open for `confirm_after_connect`.
    Ready,
    /// Cannot be reached or was cut; retried with growing pauses.
    Down {
        /// One sentence with the cause and, where there is one, the remedy.
        why: String,
    },
}

/// Ticket → ShardFetcher: a batch has ended. Exactly one per ticket (I4), bounded by the batch credits.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct BatchSettled {
    /// The shard.
    pub shard: ShardId,
    /// The lease under which it was pulled.
    pub epoch: Epoch,
    /// The attempt to which it belonged.
    pub generation: Generation,
    /// Which batch.
    pub sequence: Sequence,
    /// How it ended.
    pub outcome: Outcome,
}

/// A log whose message the receiver does not take (rule C4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLog {
    /// Its place in its batch, counted from 0.
    pub log: u64,
    /// One sentence.
    pub reason: String,
}

/// How a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every log is confirmed or named by a confirmed gap record.
    Delivered {
        /// How many logs.
        logs: u64,
        /// Those among them that the receiver does not take; a confirmed gap record names each.
        refused: Vec<RefusedLog>,
    },
    /// It has to be pulled again.
    Failed(FailReason),
}

// ---- Everybody and those who watch ---------------------------------------------------------------------------

/// Exit guard → watcher: the actor's value is gone. One per actor started.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ActorEnded {
    /// Which one.
    pub actor: ActorName,
    /// Whether it was dropped while unwinding.
    pub panicked: bool,
}

/// Handle → Coordinator: drain everything and end (readiness off, settle, last commits, heartbeats last).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopForwarder {
    /// Time that it may take, beyond which it ends anyway.
    pub within: Duration,
}

/// Handle → Coordinator: how is it going?
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ForwarderStatus")]
pub struct GetStatus;

/// What a forwarder is doing.
#[derive(Debug, Clone, actix::MessageResponse)]
pub struct ForwarderStatus {
    /// Where it stands.
    pub phase: Phase,
    /// Shards held, ascending.
    pub shards: Vec<ShardId>,
    /// When a batch counts as delivered.
    pub confirmation: crate::config::Confirmation,
    /// What is known of the receiver.
    pub receiver: ReceiverState,
    /// Seconds between now and the receipt by SLS of the last delivered group, the worst over all shards held.
    pub lag_s: Option<i64>,
    /// Totals since the start.
    pub counters: crate::counters::CountersSnapshot,
}

/// Where a forwarder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Signing in to SLS, finding or creating the group.
    Joining,
    /// Waiting for the receiver before any shard is asked for (rule L8).
    AwaitingReceiver,
    /// A member of the group, with or without shards.
    Member,
    /// Draining.
    Stopping,
    /// Everything has ended.
    Ended,
}
