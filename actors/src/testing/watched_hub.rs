//! A LogHub port that tells the checker of everything a consumer asks and learns.
//!
//! Requests that change something go on when their caller has given up waiting, as they do on a real network.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::body_memory::BodyMemory;
use super::invariants::Checker;
use super::layers::{Answer, HubLayer};
use crate::model::cursor::{Cursor, StartPosition};
use crate::model::ids::ShardId;
use crate::ports::{LogHub, PullBody, PullReply};
use crate::wire::sls::error::SlsError;
use crate::wire::sls::reply::{Checkpoint, ConsumerGroup};

/// What one consumer of a forwarder sees of SLS.
pub struct WatchedHub {
    inner: Rc<dyn LogHub>,
    consumer: Rc<str>,
    memory: BodyMemory,
    checker: Checker,
    begins_epochs: bool,
}

impl WatchedHub {
    /// Looks on while `consumer` uses `inner`; the bodies that it reads are counted in `memory`.
    pub fn new(inner: Rc<dyn LogHub>, consumer: &str, memory: BodyMemory, checker: Checker) -> Self {
        Self { inner, consumer: consumer.into(), memory, checker, begins_epochs: true }
    }

    /// For a Coordinator, which looks at checkpoints without beginning to read.
    #[must_use]
    pub fn of_coordinator(mut self) -> Self {
        self.begins_epochs = false;
        self
    }
}

/// Runs a request to its end even if nobody waits for it any more.
async fn detached<T: 'static>(request: LocalBoxFuture<'static, Result<T, SlsError>>) -> Result<T, SlsError> {
    match tokio::task::spawn_local(request).await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(SlsError::transport("the client has ended")),
    }
}

impl HubLayer for WatchedHub {
    fn below(&self) -> &Rc<dyn LogHub> {
        &self.inner
    }

    fn get_cursor(&self, shard: ShardId, from: StartPosition) -> Answer<Cursor> {
        let request = self.inner.get_cursor(shard, from);
        let (checker, consumer) = (self.checker.clone(), Rc::clone(&self.consumer));
        Box::pin(async move {
            let cursor = request.await?;
            checker.position_told(&consumer, shard, &cursor);
            if from == StartPosition::Begin {
                checker.oldest_told(&consumer, shard, &cursor);
            }
            Ok(cursor)
        })
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        self.checker.position_told(&self.consumer, shard, cursor);
        let request = self.inner.pull_logs(shard, cursor, count);
        let (checker, consumer, memory) = (self.checker.clone(), Rc::clone(&self.consumer), self.memory.clone());
        Box::pin(async move {
            let PullReply { head, body } = request.await?;
            if let Some(next) = &head.next_cursor {
                checker.position_told(&consumer, shard, next);
            }
            let body = Box::new(WatchedBody { body, raw_size: head.raw_size as usize, memory });
            Ok(PullReply { head, body })
        })
    }

    fn create_consumer_group(&self, group: &ConsumerGroup) -> Answer<()> {
        Box::pin(detached(self.inner.create_consumer_group(group)))
    }

    fn update_consumer_group(&self, group: &ConsumerGroup) -> Answer<()> {
        Box::pin(detached(self.inner.update_consumer_group(group)))
    }

    fn heartbeat(&self, held: &[ShardId]) -> Answer<Vec<ShardId>> {
        let sent_at = self.checker.heartbeat_sent(&self.consumer, held);
        let request = detached(self.inner.heartbeat(held));
        let (checker, consumer) = (self.checker.clone(), Rc::clone(&self.consumer));
        Box::pin(async move {
            let answer = request.await;
            checker.heartbeat_answered(&consumer, sent_at, &answer);
            answer
        })
    }

    fn get_checkpoint(&self, shard: ShardId) -> Answer<Checkpoint> {
        let request = self.inner.get_checkpoint(shard);
        let (checker, consumer) = (self.checker.clone(), Rc::clone(&self.consumer));
        if !self.begins_epochs {
            return Box::pin(async move {
                let checkpoint = request.await?;
                checker.checkpoint_seen(&consumer, shard, checkpoint.cursor.as_ref());
                Ok(checkpoint)
            });
        }
        self.checker.epoch_begins(&self.consumer, shard);
        Box::pin(async move {
            let checkpoint = request.await?;
            checker.checkpoint_told(&consumer, shard, checkpoint.cursor.as_ref());
            Ok(checkpoint)
        })
    }

    fn update_checkpoint(&self, shard: ShardId, cursor: &Cursor, force: bool) -> Answer<()> {
        let waiting = self.checker.commit_sent(&self.consumer, shard, cursor, force);
        let request = detached(self.inner.update_checkpoint(shard, cursor, force));
        let checker = self.checker.clone();
        Box::pin(async move {
            let answer = request.await;
            checker.commit_answered(&waiting, &answer);
            answer
        })
    }
}

struct WatchedBody {
    body: Box<dyn PullBody>,
    raw_size: usize,
    memory: BodyMemory,
}

impl PullBody for WatchedBody {
    fn read(self: Box<Self>, limit: usize) -> LocalBoxFuture<'static, Result<Bytes, SlsError>> {
        Box::pin(async move {
            let bytes = self.body.read(limit).await?;
            Ok(self.memory.hold(bytes, self.raw_size))
        })
    }
}
