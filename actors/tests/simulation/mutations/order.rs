//! Defects of order and recovery: what overtakes, what is left out, what is given up too early.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::{Actor, AsyncContext, Handler, Recipient};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use sls_syslog_actors::loghub::decode_cursor;
use sls_syslog_actors::messages::SendBatch;
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::{LogHub, Look, PullBody, PullReply, Transport};
use sls_syslog_actors::testing::faults::{Calls, How, Plan, SlsFault, Step, What};
use sls_syslog_actors::testing::hub::BodyFault;
use sls_syslog_actors::testing::layers::{Answer, HubLayer, TransportLayer};
use sls_syslog_actors::testing::simulation::{Mutation, Simulation};
use sls_syslog_actors::ticket::FailedFrom;
use sls_syslog_actors::wire::sls::error::SlsError;

use super::receiver::of_transport;
use super::{is_noticed, later, of_hub, of_pulls};

/// Passes pieces on to a connection, but now and then fails a batch after a while.
struct FailsSome {
    connection: Recipient<SendBatch>,
    batches: u64,
    /// What came behind a batch that is going to fail is passed on as if it had nothing to do with it.
    passes_on: bool,
}

impl Actor for FailsSome {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1000);
    }
}

impl Handler<SendBatch> for FailsSome {
    type Result = ();

    fn handle(&mut self, piece: SendBatch, ctx: &mut Self::Context) {
        self.batches += u64::from(piece.last.is_some());
        if piece.last.is_some() && self.batches.is_multiple_of(4) {
            if self.passes_on {
                ctx.run_later(Duration::from_millis(200), |_, _| drop(piece));
            }
            return;
        }
        let failed_from = if self.passes_on { FailedFrom::none() } else { piece.failed_from };
        self.connection.do_send(SendBatch { failed_from, ..piece });
    }
}

fn failing_output(passes_on: bool) -> Mutation {
    let output = move |connection| FailsSome { connection, batches: 0, passes_on }.start().recipient();
    Mutation { output: Some(Rc::new(output)), ..Mutation::default() }
}

fn many_small_batches(seed: u64) -> Plan {
    let mut plan = Plan::healthy(seed);
    plan.settings.max_log_groups = 1;
    (plan.settings.formatter_mailbox, plan.settings.connection_mailbox) = (8, 8);
    plan
}

#[test]
fn o1_later_batches_are_sent_although_one_has_failed() {
    is_noticed(&["I10"], &failing_output(true), many_small_batches);
}

/// An output that fails batches and keeps the rule is no defect.
#[test]
fn an_output_that_fails_batches_in_order_is_not_noticed() {
    for seed in 0..20 {
        let plan = many_small_batches(seed);
        let report = Simulation::default().mutated(failing_output(false)).run(&plan);
        assert_eq!(report.violations, Vec::<String>::new(), "{plan}");
    }
}

/// Is passed on as it came, as if it were whole.
struct Believed(Box<dyn PullBody>);

impl PullBody for Believed {
    fn read(self: Box<Self>, limit: usize) -> LocalBoxFuture<'static, Result<Bytes, SlsError>> {
        Box::pin(async move {
            match self.0.read(limit).await {
                Err(SlsError::Transport { .. }) => Ok(Bytes::from_static(b"what had come")),
                read => read,
            }
        })
    }
}

/// A plan in which pulls go wrong like this for minutes.
fn pulls_go_wrong(seed: u64, how: How) -> Plan {
    let mut plan = Plan::healthy(seed);
    plan.heals_at = Duration::from_secs(300);
    let fault = SlsFault { forwarder: None, calls: Calls::Pulls, how, percent: 100, lasting: plan.heals_at };
    plan.steps.insert(0, Step { at: Duration::ZERO, what: What::Sls(fault) });
    plan
}

#[test]
fn o2_a_body_that_was_cut_is_taken_for_a_whole_one() {
    let believes = |reply: PullReply, _: &Cursor| PullReply { body: Box::new(Believed(reply.body)), ..reply };
    is_noticed(&["I9"], &of_pulls(believes), |seed| pulls_go_wrong(seed, How::Body(BodyFault::CutAt(10))));
}

/// Takes an answer with log groups but without a new cursor for an empty one, and goes on behind it.
fn goes_on_without_cursor(mut reply: PullReply, cursor: &Cursor) -> PullReply {
    let head = &mut reply.head;
    if head.count > 0 && head.next_cursor.is_none() {
        (head.count, head.raw_size, head.next_cursor) = (0, 0, Some(later(cursor)));
    }
    reply
}

#[test]
fn o3_an_answer_without_cursor_is_taken_for_an_empty_one() {
    is_noticed(&["I1", "I10"], &of_pulls(goes_on_without_cursor), |seed| {
        pulls_go_wrong(seed, How::Body(BodyFault::NoCursor))
    });
}

/// Leaves out a log group now and then.
struct Skips {
    below: Rc<dyn LogHub>,
}

impl HubLayer for Skips {
    fn below(&self) -> &Rc<dyn LogHub> {
        &self.below
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        let request = self.below.pull_logs(shard, cursor, count);
        if decode_cursor(cursor.as_str()).expect("a cursor of the hub") % 4 != 3 {
            return request;
        }
        let (below, next) = (Rc::clone(&self.below), later(cursor));
        Box::pin(async move {
            match below.pull_logs(shard, &next, count).await {
                Ok(reply) if reply.head.count > 0 => Ok(reply),
                // There may be nothing behind it yet.
                _ => request.await,
            }
        })
    }
}

#[test]
fn i10_notices_a_log_group_that_was_left_out() {
    is_noticed(&["I10"], &of_hub(|below| Skips { below }), Plan::healthy);
}

/// Forgets some of what it is given, at a message border.
struct Forgets {
    writes: Rc<RefCell<u32>>,
}

impl TransportLayer for Forgets {
    fn poll_write(
        &mut self,
        below: &mut dyn Transport,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Newlines end messages here; what is left out are whole ones.
        let Some(first) = frames.iter().position(|byte| *byte == b'\n').map(|at| at + 1) else {
            return below.poll_write(cx, frames);
        };
        let writes = &mut *self.writes.borrow_mut();
        *writes += 1;
        if writes.is_multiple_of(5) && frames[0] == b'<' && frames[first..].first() == Some(&b'<') {
            return Poll::Ready(Ok(first));
        }
        below.poll_write(cx, frames)
    }

    fn look(&mut self, below: &mut dyn Transport) -> io::Result<Look> {
        // Otherwise the end would never be acknowledged, and the connection would be given up.
        let look = below.look()?;
        Ok(Look { confirmed: u64::MAX, ..look })
    }
}

fn forgetful() -> Mutation {
    of_transport(|| Forgets { writes: Rc::default() })
}

#[test]
fn i10_notices_a_message_that_was_left_out() {
    is_noticed(&["I10"], &forgetful(), Plan::healthy);
}

#[test]
fn i8_notices_a_message_that_was_left_out_for_good() {
    is_noticed(&["I8"], &forgetful(), Plan::healthy);
}
