//! Defects towards SLS: leases, commits, start positions.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use sls_syslog_actors::model::cursor::{Cursor, StartPosition};
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::{Dial, DialError, LogHub, Look, PullReply, Transport};
use sls_syslog_actors::testing::faults::{Calls, How, Plan, SlsFault, Step, What};
use sls_syslog_actors::testing::layers::{Answer, HubLayer, Layered};
use sls_syslog_actors::testing::receiver::{Behaviour, Dialing, Ending};
use sls_syslog_actors::testing::simulation::{MutateHub, Mutation};
use sls_syslog_actors::wire::sls::error::SlsError;
use sls_syslog_actors::wire::sls::reply::{Checkpoint, ConsumerGroup, ShardInfo};
use tokio::sync::Semaphore;

use super::{is_noticed, later, of_dialer, of_hub};

/// A client with one defect.
struct Broken {
    below: Rc<dyn LogHub>,
    defect: Defect,
    known: Rc<Known>,
}

/// What the clients of one forwarder know.
#[derive(Default)]
struct Known {
    owned: RefCell<Vec<ShardId>>,
    commits: RefCell<HashMap<ShardId, (u32, Cursor)>>,
    heartbeats: Cell<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    /// Commits one log group more than it is told.
    CommitsAhead,
    /// Commits again what it committed before.
    CommitsBackwards,
    /// Takes a refused heartbeat for an answered one.
    IgnoresTheLoss,
    /// Takes a heartbeat that nobody has answered for an answered one.
    IgnoresSilence,
    /// Sends no heartbeats after the first few, and makes the answers up.
    StopsHeartbeats,
    /// Leaves a shard out of the list as soon as an answer does.
    LeavesOutAtOnce,
    /// Believes the group to have a longer timeout.
    BelievesLongTimeout,
    /// Does not commit what is committed.
    KeepsUnchangedToItself,
    /// Does not see that there is a checkpoint.
    SeesNoCheckpoint,
    /// Answers an expired cursor with the oldest logs.
    HidesExpiry,
    /// Takes a group that was deleted for a lease that was lost.
    IgnoresDeletion,
    /// Does not tell which shards there are.
    HidesShards,
}

pub(super) fn broken(defect: Defect) -> Mutation {
    let known: RefCell<HashMap<String, Rc<Known>>> = RefCell::default();
    let mutate: MutateHub = Rc::new(move |below, consumer| {
        let known = Rc::clone(known.borrow_mut().entry(consumer.to_owned()).or_default());
        Rc::new(Layered(Broken { below, defect, known }))
    });
    Mutation { log_hub: Some(mutate), ..Mutation::default() }
}

impl HubLayer for Broken {
    fn below(&self) -> &Rc<dyn LogHub> {
        &self.below
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        let request = self.below.pull_logs(shard, cursor, count);
        if self.defect != Defect::HidesExpiry {
            return request;
        }
        let below = Rc::clone(&self.below);
        Box::pin(async move {
            match request.await {
                Err(error) if error.code_is("InvalidCursor") || error.to_string().contains("ursor") => {
                    let oldest = below.get_cursor(shard, StartPosition::Begin).await?;
                    below.pull_logs(shard, &oldest, count).await
                }
                answer => answer,
            }
        })
    }

    fn list_shards(&self) -> Answer<Vec<ShardInfo>> {
        let request = self.below.list_shards();
        let hides = self.defect == Defect::HidesShards;
        Box::pin(async move { if hides { Ok(Vec::new()) } else { request.await } })
    }

    fn list_consumer_groups(&self) -> Answer<Vec<ConsumerGroup>> {
        let request = self.below.list_consumer_groups();
        let factor = if self.defect == Defect::BelievesLongTimeout { 20 } else { 1 };
        Box::pin(async move {
            let longer = |group: ConsumerGroup| ConsumerGroup { timeout_s: group.timeout_s * factor, ..group };
            Ok(request.await?.into_iter().map(longer).collect())
        })
    }

    fn heartbeat(&self, held: &[ShardId]) -> Answer<Vec<ShardId>> {
        let (known, defect) = (Rc::clone(&self.known), self.defect);
        known.heartbeats.set(known.heartbeats.get() + 1);
        if defect == Defect::StopsHeartbeats && known.heartbeats.get() > 3 {
            let held = held.to_vec();
            return Box::pin(async move { Ok(held) });
        }
        let mut listed = held.to_vec();
        if defect == Defect::LeavesOutAtOnce {
            listed.retain(|shard| known.owned.borrow().contains(shard));
        }
        let request = self.below.heartbeat(&listed);
        Box::pin(async move {
            // The least that a heartbeat may take is a quarter of a second.
            let patience = Duration::from_millis(if defect == Defect::IgnoresSilence { 200 } else { 100_000 });
            let believed = known.owned.borrow().clone();
            match tokio::time::timeout(patience, request).await {
                Ok(Ok(shards)) => {
                    known.owned.borrow_mut().clone_from(&shards);
                    Ok(shards)
                }
                Ok(Err(error)) if defect == Defect::IgnoresTheLoss && error.code().is_some() => Ok(believed),
                Ok(Err(error)) if defect == Defect::IgnoresSilence && error.code().is_none() => Ok(believed),
                Ok(Err(error)) if defect == Defect::IgnoresDeletion && error.code_is("ConsumerGroupNotExist") => {
                    Err(refused(400, "NotExistConsumerWithBody"))
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Ok(believed),
            }
        })
    }

    fn get_checkpoint(&self, shard: ShardId) -> Answer<Checkpoint> {
        let request = self.below.get_checkpoint(shard);
        let blind = self.defect == Defect::SeesNoCheckpoint;
        Box::pin(async move {
            let checkpoint = request.await?;
            Ok(if blind { Checkpoint { cursor: None, ..checkpoint } } else { checkpoint })
        })
    }

    fn update_checkpoint(&self, shard: ShardId, cursor: &Cursor, force: bool) -> Answer<()> {
        let commits = &mut *self.known.commits.borrow_mut();
        match self.defect {
            Defect::CommitsAhead => self.below.update_checkpoint(shard, &later(cursor), force),
            Defect::CommitsBackwards => {
                let (count, first) = commits.entry(shard).or_insert_with(|| (0, cursor.clone()));
                *count += 1;
                let cursor = if *count > 2 { first.clone() } else { cursor.clone() };
                self.below.update_checkpoint(shard, &cursor, force)
            }
            Defect::KeepsUnchangedToItself if commits.get(&shard).is_some_and(|(_, last)| last == cursor) => {
                Box::pin(async { Ok(()) })
            }
            Defect::KeepsUnchangedToItself => {
                commits.insert(shard, (0, cursor.clone()));
                self.below.update_checkpoint(shard, cursor, force)
            }
            _ => self.below.update_checkpoint(shard, cursor, force),
        }
    }
}

fn refused(status: u16, code: &str) -> SlsError {
    SlsError::Refused {
        status,
        code: code.to_owned(),
        message: "for a test".to_owned(),
        request_id: String::new(),
        clock_offset_s: None,
    }
}

/// A plan in which commits follow quickly.
fn quick_commits(seed: u64) -> Plan {
    let mut plan = Plan::from_seed(seed);
    plan.settings.commit_interval = Duration::from_millis(50);
    plan
}

/// A plan without other faults, with a log group every 100 ms.
fn steady(seed: u64) -> Plan {
    let mut plan = Plan::healthy(seed);
    plan.heals_at = Duration::from_secs(60);
    plan.settings.commit_interval = Duration::from_millis(50);
    let puts = (0..600)
        .map(|n| Step { at: Duration::from_millis(100 * n), what: What::Put { groups: 1, logs: 1, length: 20 } });
    plan.steps = puts.collect();
    plan
}

/// The same, where these calls go wrong from the tenth second on.
fn steady_until(seed: u64, calls: Calls, how: How) -> Plan {
    let mut plan = steady(seed);
    let fault = SlsFault { forwarder: None, calls, how, percent: 100, lasting: Duration::from_secs(40) };
    plan.steps.push(Step { at: Duration::from_secs(10), what: What::Sls(fault) });
    plan.steps.sort_by_key(|step| step.at);
    plan
}

#[test]
fn i1_notices_a_commit_that_is_ahead() {
    is_noticed(&["I1"], &broken(Defect::CommitsAhead), Plan::from_seed);
}

#[test]
fn i2_notices_a_commit_that_goes_back() {
    is_noticed(&["I2"], &broken(Defect::CommitsBackwards), Plan::healthy);
}

#[test]
fn i3_notices_commits_under_a_lease_that_is_known_to_be_lost() {
    is_noticed(&["I3"], &broken(Defect::IgnoresTheLoss), quick_commits);
}

#[test]
fn i7_notices_commits_after_the_last_heartbeat() {
    is_noticed(&["I7"], &broken(Defect::StopsHeartbeats), Plan::healthy);
}

#[test]
fn l1_a_shard_in_transfer_is_left_out_before_its_last_commit() {
    is_noticed(&["I3"], &broken(Defect::LeavesOutAtOnce), |seed| {
        let mut plan = steady(seed);
        plan.shards = 4;
        plan.forwarders = 2;
        // The second one comes late, and gets some of the first one's shards.
        plan.steps.insert(0, Step { at: Duration::ZERO, what: What::Crash(1) });
        plan.steps.push(Step { at: Duration::from_secs(20), what: What::Start(1) });
        // What the first one has pulled is confirmed late, shard by shard.
        let slow = Behaviour { acknowledges_after: Duration::from_secs(2), ..Behaviour::healthy() };
        plan.steps.push(Step { at: Duration::from_secs(15), what: What::Receiver(slow, Duration::from_secs(40)) });
        plan.steps.sort_by_key(|step| step.at);
        plan
    });
}

#[test]
fn l2_a_heartbeat_that_is_not_answered_keeps_leases_alive() {
    is_noticed(&["I3"], &broken(Defect::IgnoresSilence), |seed| steady_until(seed, Calls::Heartbeats, How::Cut));
}

/// All requests of a machine go through one connection, one after another.
struct OneConnection {
    below: Rc<dyn LogHub>,
    connection: Rc<Semaphore>,
}

impl HubLayer for OneConnection {
    fn below(&self) -> &Rc<dyn LogHub> {
        &self.below
    }

    fn heartbeat(&self, held: &[ShardId]) -> Answer<Vec<ShardId>> {
        let (below, connection, held) = (Rc::clone(&self.below), Rc::clone(&self.connection), held.to_vec());
        Box::pin(async move {
            let _turn = connection.acquire().await;
            below.heartbeat(&held).await
        })
    }

    fn update_checkpoint(&self, shard: ShardId, cursor: &Cursor, force: bool) -> Answer<()> {
        let (below, connection, cursor) = (Rc::clone(&self.below), Rc::clone(&self.connection), cursor.clone());
        Box::pin(async move {
            let _turn = connection.acquire().await;
            below.update_checkpoint(shard, &cursor, force).await
        })
    }
}

#[test]
fn l3_heartbeats_wait_for_commits() {
    let connection = Rc::new(Semaphore::new(1));
    let mutation = of_hub(move |below| OneConnection { below, connection: Rc::clone(&connection) });
    let hangs = How::LateAnswer(Duration::from_secs(60));
    is_noticed(&["L3"], &mutation, |seed| steady_until(seed, Calls::Commits, hangs));
}

#[test]
fn l4_an_existing_group_is_believed_to_have_a_longer_timeout() {
    is_noticed(&["L3", "I3"], &broken(Defect::BelievesLongTimeout), |seed| {
        let mut plan = steady(seed);
        plan.existing_group = Some((2, false));
        plan.settings.heartbeat_interval = Duration::from_secs(4);
        plan
    });
}

#[test]
fn l5_an_unchanged_end_is_not_committed_again() {
    is_noticed(&["I8"], &broken(Defect::KeepsUnchangedToItself), |seed| {
        let mut plan = Plan::healthy(seed);
        plan.settings.in_order = true;
        let put = What::Put { groups: 20, logs: 1, length: 20 };
        let seconds = Duration::from_secs;
        plan.steps = vec![Step { at: seconds(0), what: put.clone() }];
        plan.steps.extend((0..4).map(|pick| Step { at: seconds(20), what: What::Split(pick) }));
        plan.steps.push(Step { at: seconds(30), what: put });
        plan.heals_at = seconds(40);
        plan
    });
}

#[test]
fn l6_a_start_position_is_committed_over_a_checkpoint() {
    is_noticed(&["L6"], &broken(Defect::SeesNoCheckpoint), |seed| {
        let mut plan = steady(seed);
        plan.settings.start = StartPosition::End;
        plan.steps.push(Step { at: Duration::from_secs(30), what: What::Crash(0) });
        plan.steps.push(Step { at: Duration::from_secs(40), what: What::Start(0) });
        plan.steps.sort_by_key(|step| step.at);
        plan
    });
}

/// The receiver is down when somebody deletes the group. A process that starts after that begins at the end.
#[test]
fn l6_a_deleted_group_is_taken_for_a_lost_lease() {
    is_noticed(&["I8", "I9"], &broken(Defect::IgnoresDeletion), |seed| {
        let mut plan = Plan::healthy(seed);
        plan.forwarders = 2;
        plan.settings.start = StartPosition::End;
        let put = || What::Put { groups: 10, logs: 1, length: 20 };
        plan.steps = at_seconds([
            (0, What::Crash(1)),
            (10, put()),
            (20, receiver_is_down(Duration::from_secs(25))),
            (20, What::EndConnections(Ending::Fin)),
            (21, put()),
            (30, What::DeleteGroup),
            (37, What::Start(1)),
        ]);
        plan.heals_at = Duration::from_secs(45);
        plan
    });
}

fn at_seconds<const N: usize>(steps: [(u64, What); N]) -> Vec<Step> {
    steps.map(|(at, what)| Step { at: Duration::from_secs(at), what }).into()
}

fn receiver_is_down(lasting: Duration) -> What {
    What::Receiver(Behaviour { dialing: Dialing::Refuse, ..Behaviour::healthy() }, lasting)
}

/// A shard expires while the receiver is down for longer than a transfer may take.
#[test]
fn l7_an_expired_shard_is_taken_for_one_in_transfer() {
    is_noticed(&["I8", "I9"], &broken(Defect::HidesShards), |seed| {
        let mut plan = Plan::healthy(seed);
        (plan.shards, plan.forwarders, plan.retention) = (1, 1, Some(Duration::from_secs(10)));
        (plan.settings.formatter_mailbox, plan.settings.max_log_groups) = (2, 1);
        let put = || What::Put { groups: 10, logs: 1, length: 20 };
        plan.steps = at_seconds([
            (0, put()),
            (10, receiver_is_down(Duration::from_secs(50))),
            (10, What::EndConnections(Ending::Fin)),
            (11, put()),
            (12, What::Split(0)),
        ]);
        plan.heals_at = Duration::from_secs(60);
        plan
    });
}

#[test]
fn l7_expired_logs_are_passed_over_in_silence() {
    is_noticed(&["I9"], &broken(Defect::HidesExpiry), |seed| {
        let mut plan = Plan::from_seed(seed);
        plan.retention = Some(Duration::from_secs(8));
        plan
    });
}

/// Says at once that it is connected, and connects then.
struct Hasty {
    below: Rc<dyn Dial>,
}

struct HastyConnection {
    attempt: Option<LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>>>,
    connected: Option<Box<dyn Transport>>,
}

impl Dial for Hasty {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        let connection = HastyConnection { attempt: Some(self.below.dial()), connected: None };
        Box::pin(async move { Ok(Box::new(connection) as Box<dyn Transport>) })
    }
}

impl HastyConnection {
    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Box<dyn Transport>>> {
        if let Some(attempt) = &mut self.attempt
            && let Poll::Ready(outcome) = attempt.as_mut().poll(cx)
        {
            self.attempt = None;
            match outcome {
                Ok(connected) => self.connected = Some(connected),
                Err(_) => return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            }
        }
        match &mut self.connected {
            Some(connected) => Poll::Ready(Ok(connected)),
            None => Poll::Pending,
        }
    }
}

impl Transport for HastyConnection {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_connected(cx))?.poll_write(cx, frames)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_connected(cx))?.poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_connected(cx))?.poll_closed(cx)
    }

    fn look(&mut self) -> io::Result<Look> {
        match self.poll_connected(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(connected) => connected?.look(),
            Poll::Pending => Ok(Look { confirmed: 0, open: true, refused: false }),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_connected(cx))?.poll_shutdown(cx)
    }
}

#[test]
fn l8_shards_are_asked_for_before_a_receiver_is_there() {
    is_noticed(&["L8"], &of_dialer(|below| Hasty { below }), |seed| {
        let mut plan = Plan::healthy(seed);
        let silent = Behaviour { dialing: Dialing::Silence, ..Behaviour::healthy() };
        plan.steps.insert(0, Step { at: Duration::ZERO, what: What::Receiver(silent, plan.heals_at) });
        plan
    });
}
