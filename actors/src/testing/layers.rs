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

/// A connection on top of another one; see [`Layered`]. Methods are those of [`Transport`].
#[expect(missing_docs, reason = "the names are those of the port")]
pub trait TransportLayer {
    /// What lies below.
    fn below(&mut self) -> &mut dyn Transport;

    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        self.below().poll_write(cx, frames)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below().poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below().poll_closed(cx)
    }

    fn look(&mut self) -> io::Result<Look> {
        self.below().look()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below().poll_shutdown(cx)
    }
}

/// Makes a port of a layer.
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

impl<L: TransportLayer> Transport for Layered<L> {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, frames)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_closed(cx)
    }

    fn look(&mut self) -> io::Result<Look> {
        self.0.look()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
