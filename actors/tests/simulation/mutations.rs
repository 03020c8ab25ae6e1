//! The checks can fail: deliberate defects, put into ports and settings, that they have to notice.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use sls_syslog_actors::config::Confirmation;
use sls_syslog_actors::loghub::{decode_cursor, encode_cursor};
use sls_syslog_actors::model::cursor::{Cursor, StartPosition};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::{LogHub, Look, PullReply, Transport};
use sls_syslog_actors::testing::faults::{How, Plan, Settings, Step, What};
use sls_syslog_actors::testing::hub::BodyFault;
use sls_syslog_actors::testing::receiver::{Behaviour, Ending};
use sls_syslog_actors::testing::simulation::{MutateConfig, Mutation, Simulation};
use sls_syslog_actors::wire::sls::error::SlsError;
use sls_syslog_actors::wire::sls::reply::{Checkpoint, ConsumerGroup, LogStoreInfo, ShardInfo};

/// Seeds among which a defect has to show.
const SEEDS: u64 = 150;

/// Runs plans with a defect until the check of `invariant` notices it.
fn is_noticed(invariant: &str, mutation: &Mutation, plan_of: impl Fn(u64) -> Plan) {
    let simulation = Simulation::default().mutated(mutation.clone());
    for seed in 0..SEEDS {
        let violations = simulation.run(&plan_of(seed)).violations;
        if violations.iter().any(|violation| violation.starts_with(invariant)) {
            return;
        }
    }
    panic!("nobody noticed the defect as {invariant} in {SEEDS} seeds");
}

fn of_hub<H: LogHub + 'static>(mutate: impl Fn(Rc<dyn LogHub>) -> H + 'static) -> Mutation {
    Mutation { log_hub: Some(Rc::new(move |inner| Rc::new(mutate(inner)))), ..Mutation::default() }
}

fn of_transport<T: Transport + 'static>(mutate: impl Fn(Box<dyn Transport>) -> T + 'static) -> Mutation {
    Mutation { transport: Some(Rc::new(move |inner| Box::new(mutate(inner)))), ..Mutation::default() }
}

// ---- the receiver's side -------------------------------------------------------------------------------------------

/// Reports every byte that was written as acknowledged.
struct OverReports {
    inner: Box<dyn Transport>,
    written: u64,
}

impl Transport for OverReports {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        let taken = self.inner.poll_write(cx, frames);
        if let Poll::Ready(Ok(bytes)) = taken {
            self.written += bytes as u64;
        }
        taken
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_closed(cx)
    }

    fn look(&mut self) -> io::Result<Look> {
        let look = self.inner.look()?;
        Ok(Look { confirmed: self.written, ..look })
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }
}

/// A plan whose receiver reads slowly and in which nothing is excused by a lesser level.
fn slow_receiver(seed: u64) -> Plan {
    let mut plan = Plan::from_seed(seed);
    plan.settings.confirmation = Confirmation::TcpAcked;
    plan
}

#[test]
fn i1_notices_a_transport_that_reports_more_than_was_acknowledged() {
    is_noticed("I1", &of_transport(|inner| OverReports { inner, written: 0 }), slow_receiver);
}

#[test]
fn i1_notices_a_connection_that_confirms_before_it_has_stood_open() {
    let config: MutateConfig = Rc::new(|config| config.destination.confirm_after_connect = Duration::ZERO);
    let mutation = Mutation { config: Some(config), ..Mutation::default() };
    is_noticed("I1", &mutation, |seed| {
        let mut plan = slow_receiver(seed);
        plan.settings.confirm_after_connect = Duration::from_secs(1);
        plan.settings.commit_interval = Duration::from_millis(20);
        plan
    });
}

/// Forgets some of what it is given, at a message border.
struct Forgets {
    inner: Box<dyn Transport>,
    writes: u32,
}

impl Transport for Forgets {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        // Newlines end messages here; what is left out are whole ones.
        let Some(first) = frames.iter().position(|byte| *byte == b'\n').map(|at| at + 1) else {
            return self.inner.poll_write(cx, frames);
        };
        self.writes += 1;
        if self.writes.is_multiple_of(5) && frames[0] == b'<' && frames[first..].first() == Some(&b'<') {
            return Poll::Ready(Ok(first));
        }
        self.inner.poll_write(cx, frames)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_closed(cx)
    }

    fn look(&mut self) -> io::Result<Look> {
        // Otherwise the end would never be acknowledged, and the connection would be given up.
        let look = self.inner.look()?;
        Ok(Look { confirmed: u64::MAX, ..look })
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }
}

#[test]
fn i10_notices_a_message_that_was_left_out() {
    is_noticed("I10", &of_transport(|inner| Forgets { inner, writes: 0 }), Plan::healthy);
}

#[test]
fn i8_notices_a_message_that_was_left_out_for_good() {
    is_noticed("I8", &of_transport(|inner| Forgets { inner, writes: 0 }), Plan::healthy);
}

// ---- SLS's side ----------------------------------------------------------------------------------------------------

/// A client with one defect.
struct Broken {
    inner: Rc<dyn LogHub>,
    defect: Defect,
    commits: RefCell<HashMap<ShardId, (u32, Cursor)>>,
    owned: Rc<RefCell<Vec<ShardId>>>,
    heartbeats: Cell<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Commits one log group more than it is told.
    CommitsAhead,
    /// Commits again what it committed before.
    CommitsBackwards,
    /// Takes a refused heartbeat for an answered one.
    IgnoresTheLoss,
    /// Sends no heartbeats after the first few, and makes the answers up.
    StopsHeartbeats,
    /// Leaves out a log group now and then.
    Skips,
    /// Answers an expired cursor with the oldest logs.
    HidesExpiry,
}

fn broken(defect: Defect) -> Mutation {
    // Both clients of a Coordinator share what is known of the shards.
    let owned: Rc<RefCell<Vec<ShardId>>> = Rc::default();
    of_hub(move |inner| Broken {
        inner,
        defect,
        commits: RefCell::default(),
        owned: Rc::clone(&owned),
        heartbeats: Cell::new(0),
    })
}

fn later(cursor: &Cursor) -> Cursor {
    let number = decode_cursor(cursor.as_str()).expect("a cursor of the hub");
    Cursor::new(&encode_cursor(number + 1)).expect("printable")
}

impl LogHub for Broken {
    fn get_logstore(&self) -> LocalBoxFuture<'static, Result<LogStoreInfo, SlsError>> {
        self.inner.get_logstore()
    }

    fn list_shards(&self) -> LocalBoxFuture<'static, Result<Vec<ShardInfo>, SlsError>> {
        self.inner.list_shards()
    }

    fn get_cursor(&self, shard: ShardId, from: StartPosition) -> LocalBoxFuture<'static, Result<Cursor, SlsError>> {
        self.inner.get_cursor(shard, from)
    }

    fn get_cursor_time(&self, shard: ShardId, cursor: &Cursor) -> LocalBoxFuture<'static, Result<i64, SlsError>> {
        self.inner.get_cursor_time(shard, cursor)
    }

    fn pull_logs(
        &self,
        shard: ShardId,
        cursor: &Cursor,
        count: u32,
    ) -> LocalBoxFuture<'static, Result<PullReply, SlsError>> {
        let number = decode_cursor(cursor.as_str()).expect("a cursor of the hub");
        let request = self.inner.pull_logs(shard, cursor, count);
        match self.defect {
            Defect::Skips if number % 4 == 3 => {
                let (inner, next) = (Rc::clone(&self.inner), later(cursor));
                Box::pin(async move {
                    match inner.pull_logs(shard, &next, count).await {
                        Ok(reply) if reply.head.count > 0 => Ok(reply),
                        // There may be nothing behind it yet.
                        _ => request.await,
                    }
                })
            }
            Defect::HidesExpiry => {
                let inner = Rc::clone(&self.inner);
                Box::pin(async move {
                    match request.await {
                        Err(error) if error.code_is("InvalidCursor") || error.to_string().contains("ursor") => {
                            let oldest = inner.get_cursor(shard, StartPosition::Begin).await?;
                            inner.pull_logs(shard, &oldest, count).await
                        }
                        answer => answer,
                    }
                })
            }
            _ => request,
        }
    }

    fn create_consumer_group(&self, group: &ConsumerGroup) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        self.inner.create_consumer_group(group)
    }

    fn list_consumer_groups(&self) -> LocalBoxFuture<'static, Result<Vec<ConsumerGroup>, SlsError>> {
        self.inner.list_consumer_groups()
    }

    fn update_consumer_group(&self, group: &ConsumerGroup) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        self.inner.update_consumer_group(group)
    }

    fn heartbeat(&self, held: &[ShardId]) -> LocalBoxFuture<'static, Result<Vec<ShardId>, SlsError>> {
        self.heartbeats.set(self.heartbeats.get() + 1);
        let owned = Rc::clone(&self.owned);
        if self.defect == Defect::StopsHeartbeats && self.heartbeats.get() > 3 {
            let held = held.to_vec();
            return Box::pin(async move { Ok(held) });
        }
        let request = self.inner.heartbeat(held);
        let ignores = self.defect == Defect::IgnoresTheLoss;
        Box::pin(async move {
            match request.await {
                Ok(shards) => {
                    owned.borrow_mut().clone_from(&shards);
                    Ok(shards)
                }
                Err(error) if ignores && error.code().is_some() => Ok(owned.borrow().clone()),
                Err(error) => Err(error),
            }
        })
    }

    fn get_checkpoint(&self, shard: ShardId) -> LocalBoxFuture<'static, Result<Checkpoint, SlsError>> {
        self.inner.get_checkpoint(shard)
    }

    fn update_checkpoint(
        &self,
        shard: ShardId,
        cursor: &Cursor,
        force: bool,
    ) -> LocalBoxFuture<'static, Result<(), SlsError>> {
        match self.defect {
            Defect::CommitsAhead => self.inner.update_checkpoint(shard, &later(cursor), force),
            Defect::CommitsBackwards => {
                let commits = &mut *self.commits.borrow_mut();
                let (count, first) = commits.entry(shard).or_insert_with(|| (0, cursor.clone()));
                *count += 1;
                let cursor = if *count > 2 { first.clone() } else { cursor.clone() };
                self.inner.update_checkpoint(shard, &cursor, force)
            }
            _ => self.inner.update_checkpoint(shard, cursor, force),
        }
    }
}

#[test]
fn i1_notices_a_commit_that_is_ahead() {
    is_noticed("I1", &broken(Defect::CommitsAhead), Plan::from_seed);
}

#[test]
fn i2_notices_a_commit_that_goes_back() {
    is_noticed("I2", &broken(Defect::CommitsBackwards), Plan::healthy);
}

#[test]
fn i3_notices_commits_under_a_lease_that_is_known_to_be_lost() {
    is_noticed("I3", &broken(Defect::IgnoresTheLoss), |seed| {
        let mut plan = Plan::from_seed(seed);
        plan.settings.commit_interval = Duration::from_millis(50);
        plan
    });
}

#[test]
fn i7_notices_commits_after_the_last_heartbeat() {
    is_noticed("I7", &broken(Defect::StopsHeartbeats), Plan::healthy);
}

#[test]
fn i10_notices_a_log_group_that_was_left_out() {
    is_noticed("I10", &broken(Defect::Skips), Plan::healthy);
}

#[test]
fn i9_notices_logs_that_expired_without_a_gap_record() {
    is_noticed("I9", &broken(Defect::HidesExpiry), |seed| {
        let mut plan = Plan::from_seed(seed);
        plan.retention = Some(Duration::from_secs(8));
        plan
    });
}

/// The budget of bytes is ten times what the checker was told.
#[test]
fn i5_notices_bodies_beyond_the_budget() {
    let config: MutateConfig = Rc::new(|config| config.limits.bytes_in_flight *= 10);
    let mutation = Mutation { config: Some(config), ..Mutation::default() };
    is_noticed("I5", &mutation, |seed| {
        let mut plan = Plan::healthy(seed);
        // A receiver that reads nothing lets everything pile up.
        let stopped = Behaviour { reads: None, ..Behaviour::healthy() };
        plan.settings = Settings { workers: 1, formatter_mailbox: 64, ..plan.settings };
        plan.pull_bytes = 4 << 20;
        plan.steps.retain(|step| step.at.is_zero());
        for step in &mut plan.steps {
            step.what = What::Put { groups: 40, logs: 2, length: 600_000 };
        }
        let at = Duration::from_millis(1);
        plan.steps.push(Step { at, what: What::Receiver(stopped, plan.heals_at) });
        plan
    });
}

/// Without a defect nothing is noticed, also not in plans made for the defects above.
#[test]
fn nothing_is_noticed_where_nothing_is_wrong() {
    for seed in 0..20 {
        let plan = Plan::healthy(seed);
        let report = Simulation::default().run(&plan);
        assert_eq!((report.violations, report.gaps), (Vec::new(), 0), "{plan}");
        assert_eq!(report.duplicates, if plan.forwarders == 1 { 0 } else { report.duplicates }, "{plan}");
    }
}

/// The plans really contain what they are to contain: a generator that stopped to do so would prove nothing.
#[test]
fn the_plans_of_many_seeds_contain_every_fault() {
    let steps: Vec<What> = (0..2000).flat_map(|seed| Plan::from_seed(seed).steps).map(|step| step.what).collect();
    let has = |what: &str, is: &dyn Fn(&What) -> bool| assert!(steps.iter().any(is), "no plan has {what}");
    has("a cut body", &|what| matches!(what, What::Sls(fault) if matches!(fault.how, How::Body(BodyFault::CutAt(_)))));
    has("a lost answer", &|what| matches!(what, What::Sls(fault) if fault.how == How::LoseAnswer));
    has("a panic in a client", &|what| matches!(what, What::Sls(fault) if fault.how == How::Panic));
    has("a panic while dialing", &|what| matches!(what, What::PanicWhileDialing));
    has("a theft", &|what| matches!(what, What::Theft(_)));
    has("a reset", &|what| matches!(what, What::EndConnections(Ending::Reset)));
    has("a late refusal", &|what| matches!(what, What::Receiver(behaviour, _) if behaviour.refuses_after.is_some()));
    has(
        "a receiver that stops reading",
        &|what| matches!(what, What::Receiver(behaviour, _) if behaviour.reads.is_none()),
    );
    has("a split", &|what| matches!(what, What::Split(_)));
    has("a merge", &|what| matches!(what, What::Merge(_)));
    has("a deleted group", &|what| matches!(what, What::DeleteGroup));
    has("a crash", &|what| matches!(what, What::Crash(_)));
    has("a stop", &|what| matches!(what, What::Stop(_)));
}

/// A seed tells the same story each time, or it would be of no use.
#[test]
fn a_seed_is_a_reproduction() {
    for seed in 0..30 {
        let plan = Plan::from_seed(seed);
        let (one, other) = (Simulation::default().run(&plan), Simulation::default().run(&plan));
        assert_eq!(one, other, "{plan}");
    }
}
