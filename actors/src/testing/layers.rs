//! Ports on top of ports: a layer overrides what it is about, everything else goes to what lies below.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;

use crate::model::cursor::{Cursor, StartPosition};
use crate::model::ids::ShardId;
use crate::ports::{LogHub, Look, PullReply, Transport};
use crate::wire::sls::error::SlsError;
use crate::wire::sls::reply::{Checkpoint, ConsumerGroup, LogStoreInfo, ShardInfo};

/// The answer to a request, once it is there.
pub type Answer<T> = LocalBoxFuture<'static, Result<T, SlsError>>;

/// A client of SLS on top of another one; see [`Layered`]. Methods are those of [`LogHub`].
#[expect(missing_docs, reason = "the names are those of the port")]
pub trait HubLayer {
    /// What lies below.
    fn below(&self) -> &Rc<dyn LogHub>;

    fn get_logstore(&self) -> Answer<LogStoreInfo> {
        self.below().get_logstore()
    }

    fn list_shards(&self) -> Answer<Vec<ShardInfo>> {
        self.below().list_shards()
    }

    fn get_cursor(&self, shard: ShardId, from: StartPosition) -> Answer<Cursor> {
        self.below().get_cursor(shard, from)
    }

    fn get_cursor_time(&self, shard: ShardId, cursor: &Cursor) -> Answer<i64> {
        self.below().get_cursor_time(shard, cursor)
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        self.below().pull_logs(shard, cursor, count)
    }

    fn create_consumer_group(&self, group: &ConsumerGroup) -> Answer<()> {
        self.below().create_consumer_group(group)
    }

    fn list_consumer_groups(&self) -> Answer<Vec<ConsumerGroup>> {
        self.below().list_consumer_groups()
    }

    fn update_consumer_group(&self, group: &ConsumerGroup) -> Answer<()> {
        self.below().update_consumer_group(group)
    }

    fn heartbeat(&self, held: &[ShardId]) -> Answer<Vec<ShardId>> {
        self.below().heartbeat(held)
    }

    fn get_checkpoint(&self, shard: ShardId) -> Answer<Checkpoint> {
        self.below().get_checkpoint(shard)
    }

    fn update_checkpoint(&self, shard: ShardId, cursor: &Cursor, force: bool) -> Answer<()> {
        self.below().update_checkpoint(shard, cursor, force)
    }
}

/// What lies over a connection, which it gets with each call; see [`Over`]. Methods are those of [`Transport`].
#[expect(missing_docs, reason = "the names are those of the port")]
pub trait TransportLayer {
    fn poll_write(
        &mut self,
        below: &mut dyn Transport,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        below.poll_write(cx, frames)
    }

    fn look(&mut self, below: &mut dyn Transport) -> io::Result<Look> {
        below.look()
    }
}

/// A connection with a layer over it.
pub struct Over<L> {
    below: Box<dyn Transport>,
    layer: L,
}

impl<L: TransportLayer> Over<L> {
    /// Puts a layer over a connection.
    pub fn new(below: Box<dyn Transport>, layer: L) -> Self {
        Self { below, layer }
    }
}

impl<L: TransportLayer> Transport for Over<L> {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        self.layer.poll_write(self.below.as_mut(), cx, frames)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below.poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below.poll_closed(cx)
    }

    fn look(&mut self) -> io::Result<Look> {
        self.layer.look(self.below.as_mut())
    }

    fn answers(&self) -> u64 {
        self.below.answers()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below.poll_shutdown(cx)
    }
}

/// A client of SLS with a layer over it.
#[derive(Debug)]
pub struct Layered<L>(pub L);

impl<L: HubLayer> LogHub for Layered<L> {
    fn get_logstore(&self) -> Answer<LogStoreInfo> {
        self.0.get_logstore()
    }

    fn list_shards(&self) -> Answer<Vec<ShardInfo>> {
        self.0.list_shards()
    }

    fn get_cursor(&self, shard: ShardId, from: StartPosition) -> Answer<Cursor> {
        self.0.get_cursor(shard, from)
    }

    fn get_cursor_time(&self, shard: ShardId, cursor: &Cursor) -> Answer<i64> {
        self.0.get_cursor_time(shard, cursor)
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        self.0.pull_logs(shard, cursor, count)
    }

    fn create_consumer_group(&self, group: &ConsumerGroup) -> Answer<()> {
        self.0.create_consumer_group(group)
    }

    fn list_consumer_groups(&self) -> Answer<Vec<ConsumerGroup>> {
        self.0.list_consumer_groups()
    }

    fn update_consumer_group(&self, group: &ConsumerGroup) -> Answer<()> {
        self.0.update_consumer_group(group)
    }

    fn heartbeat(&self, held: &[ShardId]) -> Answer<Vec<ShardId>> {
        self.0.heartbeat(held)
    }

    fn get_checkpoint(&self, shard: ShardId) -> Answer<Checkpoint> {
        self.0.get_checkpoint(shard)
    }

    fn update_checkpoint(&self, shard: ShardId, cursor: &Cursor, force: bool) -> Answer<()> {
        self.0.update_checkpoint(shard, cursor, force)
    }
}
