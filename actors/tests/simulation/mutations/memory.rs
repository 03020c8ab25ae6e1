//! Defects of memory, tickets and mailboxes.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Handler, Recipient, WrapFuture};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use sls_syslog_actors::messages::SendBatch;
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::ports::{PullBody, PullReply, Transport};
use sls_syslog_actors::testing::faults::{Plan, Settings, Step, What};
use sls_syslog_actors::testing::layers::TransportLayer;
use sls_syslog_actors::testing::receiver::Behaviour;
use sls_syslog_actors::testing::simulation::Mutation;
use sls_syslog_actors::wire::sls::error::SlsError;
use sls_syslog_actors::wire::sls::reply::{Compression, PullHead};

use super::receiver::of_transport;
use super::{is_noticed, of_pulls};

/// More than a worker's budget holds comes at once.
fn heavy(seed: u64) -> Plan {
    let mut plan = Plan::healthy(seed);
    plan.settings = Settings { workers: 1, formatter_mailbox: 64, ..plan.settings };
    plan.pull_bytes = 4 << 20;
    plan.steps.retain(|step| step.at.is_zero());
    for step in &mut plan.steps {
        step.what = What::Put { groups: 40, logs: 2, length: 600_000 };
    }
    plan
}

/// Is kept for a while by the client that has read it.
struct Hoarded(Box<dyn PullBody>);

impl PullBody for Hoarded {
    fn read(self: Box<Self>, limit: usize) -> LocalBoxFuture<'static, Result<Bytes, SlsError>> {
        Box::pin(async move {
            let bytes = self.0.read(limit).await?;
            let kept = bytes.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_secs(10)).await;
                drop(kept);
            });
            Ok(bytes)
        })
    }
}

#[test]
fn m1_bodies_outlive_their_credit() {
    let hoards = |reply: PullReply, _: &Cursor| PullReply { body: Box::new(Hoarded(reply.body)), ..reply };
    is_noticed(&["I5"], &of_pulls(hoards), heavy);
}

/// Is read to its end, however short it was taken to be.
struct Whole(Box<dyn PullBody>);

impl PullBody for Whole {
    fn read(self: Box<Self>, _limit: usize) -> LocalBoxFuture<'static, Result<Bytes, SlsError>> {
        self.0.read(usize::MAX)
    }
}

#[test]
fn m2_more_is_pulled_than_is_paid_for() {
    let understates = |PullReply { head, body }: PullReply, _: &Cursor| {
        let head = PullHead { body_size: Some(0), ..head };
        PullReply { head, body: Box::new(Whole(body)) }
    };
    is_noticed(&["I5"], &of_pulls(understates), |seed| {
        let mut plan = heavy(seed);
        plan.compression = Compression::None;
        // A receiver that reads nothing lets everything pile up.
        let stopped = Behaviour { reads: None, ..Behaviour::healthy() };
        let at = Duration::from_millis(1);
        plan.steps.push(Step { at, what: What::Receiver(stopped, plan.heals_at) });
        plan
    });
}

/// Holds pieces back until they are a long one together.
#[derive(Default)]
struct Merges {
    held: Vec<u8>,
}

impl TransportLayer for Merges {
    fn poll_write(
        &mut self,
        below: &mut dyn Transport,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(frames);
        while self.held.len() > 256 << 10 {
            let Poll::Ready(taken) = below.poll_write(cx, &self.held)? else { break };
            self.held.drain(..taken);
        }
        Poll::Ready(Ok(frames.len()))
    }
}

#[test]
fn m3_pieces_are_larger_than_they_may_be() {
    is_noticed(&["M3"], &of_transport(Merges::default), |seed| {
        let mut plan = Plan::healthy(seed);
        plan.pull_bytes = 4 << 20;
        let put = What::Put { groups: 200, logs: 3, length: 2000 };
        plan.steps.insert(0, Step { at: Duration::ZERO, what: put });
        plan
    });
}

/// An application's own output that passes pieces on, one every 50 ms, and may forget tickets.
struct Output {
    connection: Recipient<SendBatch>,
    capacity: usize,
    forgets: bool,
}

impl Actor for Output {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.capacity);
    }
}

impl Handler<SendBatch> for Output {
    type Result = ();

    fn handle(&mut self, piece: SendBatch, ctx: &mut Self::Context) {
        if self.forgets {
            return std::mem::forget(piece);
        }
        self.connection.do_send(piece);
        // actix fact 9: freezes the mailbox.
        ctx.wait(tokio::time::sleep(Duration::from_millis(50)).into_actor(self).map(|(), _, _| ()));
    }
}

fn of_output(capacity: usize, forgets: bool) -> Mutation {
    let output = move |connection| Output { connection, capacity, forgets }.start().recipient();
    Mutation { output: Some(Rc::new(output)), ..Mutation::default() }
}

#[test]
fn i6_notices_a_mailbox_that_is_too_small() {
    is_noticed(&["I6"], &of_output(1, false), |seed| {
        let mut plan = Plan::healthy(seed);
        (plan.settings.max_log_groups, plan.settings.connection_mailbox) = (1, 64);
        plan.settings.formatter_mailbox = 64;
        plan
    });
}

#[test]
fn i4_notices_tickets_that_never_settle() {
    is_noticed(&["I4"], &of_output(1000, true), |seed| {
        let mut plan = Plan::healthy(seed);
        plan.forwarders = 1;
        plan
    });
}
