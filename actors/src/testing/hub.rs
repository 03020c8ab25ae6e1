//! The in-memory LogHub as the actors' port, without HTTP: deterministic, on tokio's clock, with faults on demand.
//!
//! Each call asks the fault hook once before it acts. A fault may delay the call before or after it took effect, fail
//! it without effect, lose the answer of one that took effect, or spoil a pulled body. Under paused time nothing here
//! takes real time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::faults::PLANNED_PANIC;
use crate::loghub::{At, CheckpointView, From, GroupSettings, Hub, Limits, Pull, Refusal, ShardView, UnixMicros};
use crate::model::cursor::{Cursor, StartPosition};
use crate::model::ids::ShardId;
use crate::ports::{LogHub, PullBody, PullReply};
use crate::wire::sls::error::SlsError;
use crate::wire::sls::reply::{self, Checkpoint, Compression, ConsumerGroup, LogStoreInfo, PullHead, ShardInfo};

/// A call that is about to be made, as the fault hook sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the port's methods and their arguments")]
pub enum Operation {
    GetLogStore,
    ListShards,
    GetCursor { shard: ShardId },
    GetCursorTime { shard: ShardId },
    PullLogs { shard: ShardId, cursor: Cursor, count: u32 },
    CreateConsumerGroup,
    ListConsumerGroups,
    UpdateConsumerGroup,
    Heartbeat { held: Vec<ShardId> },
    GetCheckpoint { shard: ShardId },
    UpdateCheckpoint { shard: ShardId, cursor: Cursor, force: bool },
}

/// What goes wrong with one call; the default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// Waits before the service sees the call.
    pub delay_before: Duration,
    /// Fails the call, which the service never sees.
    pub refuse: Option<SlsError>,
    /// Waits after the service acted, before the answer arrives.
    pub delay_after: Duration,
    /// Replaces the answer of a call on which the service has acted.
    pub lose_answer: Option<SlsError>,
    /// Spoils an answer in JSON.
    pub answer: Option<AnswerFault>,
    /// Spoils a pulled body.
    pub body: Option<BodyFault>,
}

/// What is wrong with an answer in JSON, which is read by the same code as that of the real service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFault {
    /// It has no bytes at all.
    Empty,
    /// It ends before this byte, counted round its length.
    CutAt(usize),
    /// This byte, counted round its length, and all that follow are rubbish.
    GarbledFrom(usize),
}

/// What is wrong with a pulled body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// The connection ends after so many bytes.
    CutAt(usize),
    /// The bytes arrive in full number, but the decompressor refuses them.
    Corrupt,
    /// All that was declared arrives, but so many bytes less were declared than there are.
    Short(usize),
    /// Whoever lets go of the bytes panics.
    PanicWhenDropped,
    /// The headers declare so many uncompressed bytes.
    RawSize(u64),
    /// The headers declare so many log groups.
    Count(u32),
    /// The headers lack the next cursor.
    NoCursor,
    /// The headers repeat the cursor that was asked for.
    SameCursor,
    /// The service answers with at most so many log groups, as it may.
    Fewer(u32),
    /// The body arrives only after this long.
    Slow(Duration),
}

impl Fault {
    /// The connection fails before the service sees the call.
    pub fn transport(what: &str) -> Self {
        Self { refuse: Some(SlsError::Transport { what: what.to_owned() }), ..Self::default() }
    }

    /// The service refuses the call.
    pub fn refused(status: u16, code: &'static str, message: &str) -> Self {
        let refusal = Refusal::new(status, code, message.to_owned());
        Self { refuse: Some(refused(&refusal)), ..Self::default() }
    }

    /// The service acts, and the answer never arrives.
    pub fn lost_answer(what: &str) -> Self {
        Self { lose_answer: Some(SlsError::Transport { what: what.to_owned() }), ..Self::default() }
    }

    /// A spoilt answer in JSON.
    pub fn answer(fault: AnswerFault) -> Self {
        Self { answer: Some(fault), ..Self::default() }
    }

    /// A spoilt body.
    pub fn body(fault: BodyFault) -> Self {
        Self { body: Some(fault), ..Self::default() }
    }
}

/// Decides what goes wrong: called with the consumer's name and the call.
pub type FaultHook = Box<dyn FnMut(&str, &Operation) -> Fault>;

/// The service with one project, `project`, and one logstore, `logstore`; a clone is the same service.
#[derive(Clone)]
pub struct InMemoryHub {
    inner: Rc<Inner>,
}

struct Inner {
    hub: RefCell<Hub>,
    hook: RefCell<Option<FaultHook>>,
    compression: Cell<Compression>,
    started: Instant,
    unix: UnixMicros,
}

impl InMemoryHub {
    /// Its only project.
    pub const PROJECT: &'static str = "project";
    /// Its only logstore.
    pub const LOGSTORE: &'static str = "logstore";
    /// Where the logstore lies.
    pub const AT: At<'static> = At { project: Self::PROJECT, logstore: Self::LOGSTORE };
    /// Unix seconds when it starts.
    pub const START_UNIX_S: i64 = 1_795_478_400;

    /// A logstore of so many shards, with the service's own limits.
    ///
    /// # Panics
    /// With no shards at all or more than a logstore may have.
    pub fn new(shards: u32) -> Self {
        Self::with_limits(shards, Limits::default())
    }

    /// A logstore of so many shards with these limits.
    ///
    /// # Panics
    /// With no shards at all or more than a logstore may have.
    pub fn with_limits(shards: u32, limits: Limits) -> Self {
        let unix = UnixMicros(Self::START_UNIX_S * 1_000_000);
        let mut hub = Hub::new(limits);
        hub.create_project(Self::PROJECT);
        hub.create_logstore(Self::AT, shards, unix).expect("a number of shards that a logstore may have");
        let inner = Inner {
            hub: RefCell::new(hub),
            hook: RefCell::new(None),
            compression: Cell::new(Compression::Lz4),
            started: Instant::now(),
            unix,
        };
        Self { inner: Rc::new(inner) }
    }

    /// From now on it answers pulls so, as if asked for it.
    pub fn compress_with(&self, compression: Compression) {
        self.inner.compression.set(compression);
    }

    /// Installs the fault hook in place of any other.
    pub fn on_call(&self, hook: impl FnMut(&str, &Operation) -> Fault + 'static) {
        *self.inner.hook.borrow_mut() = Some(Box::new(hook));
    }

    /// Removes the fault hook.
    pub fn heal(&self) {
        *self.inner.hook.borrow_mut() = None;
    }

    /// The time at the service: tokio's clock, so paused and advanced with it.
    pub fn now(&self) -> UnixMicros {
        UnixMicros(self.inner.unix.0 + i64::try_from(self.inner.started.elapsed().as_micros()).unwrap_or(i64::MAX / 2))
    }

    /// Works on the service itself: puts, splits, looks.
    pub fn with<R>(&self, work: impl FnOnce(&mut Hub, UnixMicros) -> R) -> R {
        work(&mut self.inner.hub.borrow_mut(), self.now())
    }

    /// The port as `consumer` of `group` sees it.
    pub fn client(&self, group: &str, consumer: &str) -> Rc<dyn LogHub> {
        Rc::new(Client { hub: self.clone(), group: group.into(), consumer: consumer.into() })
    }
}

impl fmt::Debug for InMemoryHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemoryHub").field("now", &self.now()).finish_non_exhaustive()
    }
}

struct Client {
    hub: InMemoryHub,
    group: Rc<str>,
    consumer: Rc<str>,
}

impl Client {
    /// One call: hook, delay, effect, delay, answer. The hook is asked when the call is made.
    fn call<R: 'static>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut Hub, UnixMicros) -> Result<R, Refusal> + 'static,
    ) -> LocalBoxFuture<'static, Result<R, SlsError>> {
        let fault = self.fault(&operation);
        let hub = self.hub.clone();
        Box::pin(async move { Self::carry_out(&hub, &fault, act).await })
    }

    /// The same, with an answer that goes through its bytes on the wire.
    fn call_json<R: 'static, T: 'static>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut Hub, UnixMicros) -> Result<R, Refusal> + 'static,
        write: impl FnOnce(R) -> String + 'static,
        read: impl FnOnce(&[u8]) -> Result<T, SlsError> + 'static,
    ) -> LocalBoxFuture<'static, Result<T, SlsError>> {
        let fault = self.fault(&operation);
        let hub = self.hub.clone();
        Box::pin(async move {
            let mut bytes = write(Self::carry_out(&hub, &fault, act).await?).into_bytes();
            let length = bytes.len();
            match fault.answer {
                None => {}
                Some(AnswerFault::Empty) => bytes.clear(),
                Some(AnswerFault::CutAt(at)) => bytes.truncate(at % length),
                Some(AnswerFault::GarbledFrom(at)) => bytes[at % length..].fill(0xff),
            }
            read(&bytes)
        })
    }

    fn fault(&self, operation: &Operation) -> Fault {
        // Taken out while it runs, so that a hook may look at the service or replace itself.
        let Some(hook) = self.hub.inner.hook.borrow_mut().take() else { return Fault::default() };
        let mut taken = TakenOut { hook: Some(hook), place: &self.hub.inner.hook };
        taken.hook.as_mut().map_or_else(Fault::default, |hook| hook(&self.consumer, operation))
    }

    async fn carry_out<R>(
        hub: &InMemoryHub,
        fault: &Fault,
        act: impl FnOnce(&mut Hub, UnixMicros) -> Result<R, Refusal>,
    ) -> Result<R, SlsError> {
        if !fault.delay_before.is_zero() {
            sleep(fault.delay_before).await;
        }
        if let Some(error) = &fault.refuse {
            return Err(error.clone());
        }
        let result = hub.with(act);
        if !fault.delay_after.is_zero() {
            sleep(fault.delay_after).await;
        }
        match &fault.lose_answer {
            Some(error) => Err(error.clone()),
            None => result.map_err(|refusal| refused(&refusal)),
        }
    }
}

fn refused(refusal: &Refusal) -> SlsError {
    SlsError::Refused {
        status: refusal.status,
        code: refusal.code.to_owned(),
        message: refusal.message.clone(),
        request_id: "0123456789ABCDEF01234567".to_owned(),
        clock_offset_s: Some(0),
    }
}

impl LogHub for Client {
    fn get_logstore(&self) -> LocalBoxFuture<'static, Result<LogStoreInfo, SlsError>> {
        self.call(Operation::GetLogStore, |hub, _| {
            hub.get_logstore(InMemoryHub::AT)?;
            Ok(LogStoreInfo { ttl_days: Some(hub.ttl_days()) })
        })
    }

    fn list_shards(&self) -> LocalBoxFuture<'static, Result<Vec<ShardInfo>, SlsError>> {
        // Text at once: with thousands of shards a tree of values would take most of a simulation's time.
        let info = |view: ShardView| {
            let (shard, created) = (view.shard, view.created.seconds());
            let status = if view.readonly { "readonly" } else { "readwrite" };
            format!(r#"{{"shardID":{shard},"status":"{status}","createTime":{created}}}"#)
        };
        self.call_json(
            Operation::ListShards,
            |hub, now| hub.list_shards(InMemoryHub::AT, now),
            move |views| format!("[{}]", views.into_iter().map(info).collect::<Vec<_>>().join(",")),
            reply::parse_shards,
        )
    }

    fn get_cursor(&self, shard: ShardId, from: StartPosition) -> LocalBoxFuture<'static, Result<Cursor, SlsError>> {
        let from = match from {
            StartPosition::Begin => From::Begin,
            StartPosition::End => From::End,
            StartPosition::UnixSeconds(seconds) => From::UnixSeconds(seconds),
        };
        self.call_json(
            Operation::GetCursor { shard },
            move |hub, now| hub.get_cursor(InMemoryHub::AT, shard, from, now),
            |cursor| json!({ "cursor": cursor }).to_string(),
            reply::parse_cursor,
        )
    }

    fn get_cursor_time(&self, shard: ShardId, cursor: &Cursor) -> LocalBoxFuture<'static, Result<i64, SlsError>> {
        let cursor = cursor.clone();
        self.call_json(
            Operation::GetCursorTime { shard },
            move |hub, now| hub.get_cursor_time(InMemoryHub::AT, shard, cursor.as_str(), now),
            |seconds| json!({ "cursor_time": seconds }).to_string(),
            reply::parse_cursor_time,
        )
    }

    fn pull_logs(
        &self,
        shard: ShardId,
        from: &Cursor,
        count: u32,
    ) -> LocalBoxFuture<'static, Result<PullReply, SlsError>> {
        let from = from.clone();
        let fault = self.fault(&Operation::PullLogs { shard, cursor: from.clone(), count });
        let hub = self.hub.clone();
        let compression = hub.inner.compression.get();
        let count = match fault.body {
            Some(BodyFault::Fewer(most)) => count.min(most),
            _ => count,
        };
        Box::pin(async move {
            let answer = Self::carry_out(&hub, &fault, |hub, now| {
                let pull = Pull { cursor: from.as_str(), end_cursor: None, count, compression };
                hub.pull(InMemoryHub::AT, shard, &pull, now)
            })
            .await?;
            let mut head = PullHead {
                count: answer.count,
                next_cursor: Cursor::new(&answer.next_cursor),
                raw_size: answer.raw_size,
                body_size: Some(answer.body.len() as u64),
                compression,
                end_of_shard: Some(answer.end_of_shard),
                cursor_time_s: Some(answer.cursor_time_s),
            };
            match fault.body {
                Some(BodyFault::RawSize(size)) => head.raw_size = size,
                Some(BodyFault::Count(count)) => head.count = count,
                Some(BodyFault::NoCursor) => head.next_cursor = None,
                Some(BodyFault::SameCursor) => head.next_cursor = Some(from),
                _ => {}
            }
            let mut bytes = answer.body;
            if let Some(BodyFault::Short(missing)) = fault.body {
                bytes.truncate(bytes.len().saturating_sub(missing));
                head.body_size = Some(bytes.len() as u64);
            }
            Ok(PullReply { head, body: Box::new(Body { bytes, fault: fault.body }) })
        })
    }

    fn create_consumer_group(&self, group: &ConsumerGroup) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        let group = group.clone();
        self.call(Operation::CreateConsumerGroup, move |hub, now| {
            let settings = GroupSettings { timeout_s: group.timeout_s, order: group.order };
            hub.create_group(InMemoryHub::AT, &group.name, settings, now)
        })
    }

    fn list_consumer_groups(&self) -> LocalBoxFuture<'static, Result<Vec<ConsumerGroup>, SlsError>> {
        let group = |(name, settings): (String, GroupSettings)| json!({ "name": name, "timeout": settings.timeout_s, "order": settings.order });
        self.call_json(
            Operation::ListConsumerGroups,
            |hub, _| hub.list_groups(InMemoryHub::AT),
            move |groups| groups.into_iter().map(group).collect::<serde_json::Value>().to_string(),
            reply::parse_consumer_groups,
        )
    }

    fn update_consumer_group(&self, group: &ConsumerGroup) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        let group = group.clone();
        self.call(Operation::UpdateConsumerGroup, move |hub, now| {
            hub.update_group(InMemoryHub::AT, &group.name, Some(group.timeout_s), Some(group.order), now)
        })
    }

    fn heartbeat(&self, held: &[ShardId]) -> LocalBoxFuture<'static, Result<Vec<ShardId>, SlsError>> {
        let (group, consumer, held) = (self.group.clone(), self.consumer.clone(), held.to_vec());
        self.call_json(
            Operation::Heartbeat { held: held.clone() },
            move |hub, now| hub.heartbeat(InMemoryHub::AT, &group, &consumer, &held, now),
            |owned| json!(owned).to_string(),
            reply::parse_heartbeat,
        )
    }

    fn get_checkpoint(&self, shard: ShardId) -> LocalBoxFuture<'static, Result<Checkpoint, SlsError>> {
        let group = self.group.clone();
        let element = |view: CheckpointView| {
            let CheckpointView { shard, checkpoint, updated, consumer } = view;
            json!({ "shard": shard, "checkpoint": checkpoint, "updateTime": updated.0, "consumer": consumer })
        };
        self.call_json(
            Operation::GetCheckpoint { shard },
            move |hub, now| hub.get_checkpoints(InMemoryHub::AT, &group, Some(shard), now),
            move |views| views.into_iter().map(element).collect::<serde_json::Value>().to_string(),
            move |bytes| reply::parse_checkpoint(bytes, shard),
        )
    }

    fn update_checkpoint(
        &self,
        shard: ShardId,
        cursor: &Cursor,
        force: bool,
    ) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        let (group, consumer, cursor) = (self.group.clone(), self.consumer.clone(), cursor.clone());
        self.call(Operation::UpdateCheckpoint { shard, cursor: cursor.clone(), force }, move |hub, now| {
            hub.update_checkpoint(InMemoryHub::AT, &group, &consumer, shard, cursor.as_str(), force, now)
        })
    }
}

struct Body {
    bytes: Bytes,
    fault: Option<BodyFault>,
}

impl PullBody for Body {
    fn read(self: Box<Self>, limit: usize) -> LocalBoxFuture<'static, Result<Bytes, SlsError>> {
        Box::pin(async move {
            let declared = self.bytes.len();
            match self.fault {
                Some(BodyFault::CutAt(at)) if at < declared => {
                    let what = format!("the body ended after {at} of {declared} bytes");
                    return Err(SlsError::Transport { what });
                }
                Some(BodyFault::Slow(delay)) => sleep(delay).await,
                _ => {}
            }
            if declared > limit {
                let what = format!("the body has {declared} bytes, more than {limit}");
                return Err(SlsError::Transport { what });
            }
            Ok(match self.fault {
                Some(BodyFault::Corrupt) => corrupted(&self.bytes),
                Some(BodyFault::PanicWhenDropped) => Bytes::from_owner(Trap(self.bytes)),
                _ => self.bytes,
            })
        })
    }
}

/// A fault hook that runs; it returns to its place also when it panics, unless somebody else has it by then.
struct TakenOut<'a> {
    hook: Option<FaultHook>,
    place: &'a RefCell<Option<FaultHook>>,
}

impl Drop for TakenOut<'_> {
    fn drop(&mut self) {
        let mut place = self.place.borrow_mut();
        if place.is_none() {
            *place = self.hook.take();
        }
    }
}

/// Bytes whose holder panics when it lets go of them.
struct Trap(Bytes);

impl AsRef<[u8]> for Trap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        // A second panic would end the process.
        assert!(std::thread::panicking(), "{PLANNED_PANIC} while letting go of a body");
    }
}

/// The same number of bytes, of which no decoder makes what they were: for LZ4 they are all literals without end, and
/// frames of others begin otherwise.
pub fn corrupted(body: &[u8]) -> Bytes {
    vec![0xff; body.len()].into()
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
